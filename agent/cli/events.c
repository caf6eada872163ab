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

static int print_event(const struct cli *cli, const json_t *event)
{
    scoped(str_done) struct str out = {0};

    if (cli->json) {
        (void)json_dumpf(event, stdout, JSON_COMPACT);
    } else {
        if (!strcmp(json_str(event, "state", ""), "progress"))
            return 0; /* `dyno slug fetch` shows it better */
        event_line(&out, event, cli->color);
        (void)fwrite(str_text(&out), 1, out.len, stdout);
    }
    return putc('\n', stdout) == EOF || fflush(stdout) != 0 ? -EPIPE : 0;
}

/* Until the stream is over, which is no error. */
static int print_events(const struct cli *cli, struct feed *s, struct err *e)
{
    for (;;) {
        scoped(json_freep) json_t *event = NULL;
        int r = feed_event_wait(s, &event, e);

        if (r == -ENODATA)
            return 0;
        if (r > 0)
            r = print_event(cli, event);
        if (r < 0)
            return r;
    }
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
    r = print_events(cli, s, &e);
    if (r == -EPIPE)
        return cli_flush(EXIT_FAIL);
    return r < 0 ? cli_fail(&e) : cli_flush(EXIT_OK);
}
