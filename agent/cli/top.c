/* top.c - dyno top: a live screen, or text for scripts. */
#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/topscreen.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define LOOKS_MAX 1000000

static int look(void *userdata, const char *app, json_t **ret, struct err *e)
{
    const struct cli *cli = userdata;
    char path[CALL_PATH_MAX];

    (void)snprintf(path, sizeof(path), "/v1/top%s%s", app[0] ? "?app=" : "", app);
    return client_call(cli->socket, "GET", path, NULL, ret, e);
}

static int print_text(struct top *t, enum top_sort by)
{
    scoped(str_done) struct str out = {0};

    top_order(t, by);
    top_header(t, clock_real(), &out);
    top_line(NULL, &out);
    str_add(&out, "\n");
    for (size_t i = 0; i < t->n; i++) {
        top_line(&t->rows[i], &out);
        str_add(&out, "\n");
    }
    (void)fputs(str_text(&out), stdout);
    return cli_flush(out.failed ? EXIT_FAIL : EXIT_OK);
}

/* Takes ANSWER. */
static int show_text(const struct cli *cli, struct top *t, json_t *answer, enum top_sort by)
{
    struct err e = ERR_INIT;

    if (cli->json) {
        int status = cli_print_json(answer);

        json_decref(answer);
        return status;
    }
    int r = top_take(t, answer, clock_boot());
    if (r < 0) {
        (void)err_set(&e, -r, "the agent's answer");
        return cli_fail(&e);
    }
    return print_text(t, by);
}

/* LOOKS 0: for ever. */
static int repeat_text(struct cli *cli, const char *app, enum top_sort by, uint64_t looks)
{
    scoped(top_done) struct top t = {0};
    int status = EXIT_OK;

    for (uint64_t i = 0; status == EXIT_OK && (looks == 0 || i < looks); i++) {
        json_t *answer = NULL;
        struct err e = ERR_INIT;

        if (i > 0) {
            (void)poll(NULL, 0, TOP_INTERVAL_MS);
            if (!cli->json)
                (void)printf("\n");
        }
        if (look(cli, app, &answer, &e) < 0)
            return cli_fail(&e);
        status = show_text(cli, &t, answer, by);
    }
    return status;
}

static bool on_terminal(void)
{
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

static int run_top(struct cli *cli, const char *app, enum top_sort by, uint64_t looks)
{
    const struct top_source source = {look, cli};
    json_t *first = NULL;
    struct err e = ERR_INIT;

    if (looks == 0 && !cli->json && on_terminal()) {
        if (look(cli, app, &first, &e) < 0) /* a screen is no place for this error */
            return cli_fail(&e);
        json_decref(first);
        (void)setlocale(LC_CTYPE, ""); /* curses counts columns by it */
        if (topscreen_run(&source, app, by, &e) == 0)
            return EXIT_OK;
    }
    return repeat_text(cli, app, by, looks);
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    enum top_sort by = TOP_CPU;
    struct err e = ERR_INIT;
    struct target t = {0};
    uint64_t looks = 0;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "n:s:", longs, &status)) >= 0) {
        if (c == 'n' && parse_u64(optarg, 1, LOOKS_MAX, &looks) < 0)
            return cli_usage(cli, "-n %s: a number from 1 to %d is needed", optarg, LOOKS_MAX);
        if (c == 's' && top_sort_parse(optarg, &by) < 0)
            return cli_usage(cli, "-s %s: memory, cpu, pids, disk or name is needed", optarg);
    }
    if (c == CLI_STOP)
        return status;
    if (argc - optind > 1)
        return cli_usage(cli, "'%s' is one word too many", argv[optind + 1]);
    if (optind < argc && (target_parse(argv[optind], &t, &e) < 0 || *t.dyno))
        return cli_usage(cli, "%s", *t.dyno ? "name an app, not a dyno" : e.text);
    return run_top(cli, t.app, by, looks);
}
