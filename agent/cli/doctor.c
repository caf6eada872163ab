/* doctor.c - dyno doctor: what the machine offers. */
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/table.h"
#include "cli/text.h"
#include "isolate/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* The same list as the agent's, from a look of our own. */
static int probe_here(json_t **ret, struct err *e)
{
    scoped_free struct probe *probes = NULL;
    scoped(json_freep) json_t *list = json_array();
    size_t n;
    int r = sandbox_probe(geteuid() != 0, &probes, &n, e);

    for (size_t i = 0; r == 0 && i < n; i++) {
        json_t *one =
            json_pack("{s:s,s:b,s:b,s:s}", "name", probes[i].name, "found", probes[i].found,
                      "required", probes[i].required, "detail", probes[i].detail);
        if (json_array_append_new(list, one) < 0)
            r = err_set(e, ENOMEM, "list what was found");
    }
    if (r < 0)
        return r;
    *ret = TAKE_PTR(list);
    return 0;
}

static bool all_required_found(const json_t *list)
{
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        if (json_bool(one, "required", false) && !json_bool(one, "found", false))
            return false;
    }
    return true;
}

static void print_list(const struct cli *cli, const json_t *list)
{
    scoped(table_done) struct table t = {0};
    scoped(str_done) struct str out = {0};
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        bool found = json_bool(one, "found", false), required = json_bool(one, "required", false);

        table_cell(&t,
                   found      ? COLOR_GREEN
                   : required ? COLOR_RED
                              : COLOR_YELLOW,
                   "%s",
                   found      ? "found"
                   : required ? "MISSING"
                              : "missing");
        table_cell(&t, COLOR_BOLD, "%s", json_str(one, "name", "-"));
        table_cell(&t, NULL, "%s", json_str(one, "detail", ""));
        table_end_row(&t);
    }
    table_render(&t, &out, cli->color);
    (void)fputs(str_text(&out), stdout);
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *list = NULL;
    struct err e = ERR_INIT;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (optind < argc)
        return cli_usage(cli, "'%s' is one word too many", argv[optind]);
    int r = client_call(cli->socket, "GET", "/v1/doctor", NULL, &list, &e);
    bool asked = r == 0;
    if (r == -ENOTCONN || r == -ECONNREFUSED)
        r = probe_here(&list, &e);
    if (r < 0)
        return cli_fail(&e);
    status = all_required_found(list) ? EXIT_OK : EXIT_FAIL;
    if (cli->json) {
        int printed = cli_print_json(list);
        return printed == EXIT_OK ? status : printed;
    }
    print_list(cli, list);
    if (!asked)
        (void)printf("\n(No agent was asked: this is what %s sees.)\n",
                     geteuid() == 0 ? "root" : "an ordinary user");
    return cli_flush(status);
}
