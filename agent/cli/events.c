/* events.c - dyno events [-f] [-n N] */
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/logline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EVENTS_DEFAULT 100
#define EVENTS_JSON    1000 /* for programs: all that the agent keeps in memory */
#define EVENTS_MAX     10000

static int print_event(const struct cli *cli, const char *line, size_t len, struct err *e)
{
    scoped(json_freep) json_t *event = NULL;
    scoped(str_done) struct str out = {0};

    if (cli->json) {
        str_add_n(&out, line, len);
    } else {
        int r = json_parse(line, len, CLIENT_LINE_MAX, &event, e);
        if (r < 0)
            return err_wrap(e, "an event");
        if (!strcmp(json_str(event, "state", ""), "progress"))
            return 0; /* `dyno slug fetch` shows it better */
        event_line(&out, event, cli->color);
    }
    (void)fwrite(str_text(&out), 1, out.len, stdout);
    return putc('\n', stdout) == EOF || fflush(stdout) != 0 ? -EPIPE : 0;
}

int cmd_events(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {
        {"follow", no_argument, NULL, 'f'}, {"lines", required_argument, NULL, 'n'}, CLI_OPTIONS};
    scoped(feed_freep) struct feed *s = NULL;
    char path[128];
    struct err e = ERR_INIT;
    uint64_t n = UINT64_MAX;
    bool follow = false;
    const char *line;
    size_t len;
    int c, r, status;

    while ((c = cli_option(cli, argc, argv, "fn:", longs, &status)) >= 0) {
        follow = follow || c == 'f';
        if (c == 'n' && parse_u64(optarg, 0, EVENTS_MAX, &n) < 0)
            return cli_usage(cli, "-n %s: a number up to %d is needed", optarg, EVENTS_MAX);
    }
    if (c == CLI_STOP)
        return status;
    if (optind < argc)
        return cli_usage(cli, "'%s' is one word too many", argv[optind]);
    if (n == UINT64_MAX)
        n = cli->json ? EVENTS_JSON : EVENTS_DEFAULT;
    (void)snprintf(path, sizeof(path), "/v1/events?n=%llu%s", (unsigned long long)n,
                   follow ? "&follow=1" : "");
    if (client_feed(cli->socket, path, &s, &e) < 0)
        return cli_fail(&e);
    while ((r = feed_line_wait(s, &line, &len, &e)) > 0) {
        r = len ? print_event(cli, line, len, &e) : 0;
        if (r == -EPIPE)
            return cli_flush(EXIT_FAIL);
        if (r < 0)
            return cli_fail(&e);
    }
    return r == -ENODATA ? cli_flush(EXIT_OK) : cli_fail(&e);
}
