/* logs.c - dyno logs [-f] [-n N] [APP[/web.1]] */
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/logline.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define LINES_DEFAULT 100
#define LINES_MAX     100000

/* What was asked for, as a query. */
static int logs_query(const struct cli *cli, const struct target *t, uint64_t n, bool follow,
                      struct str *out, struct err *e)
{
    str_addf(out, "/v1/logs?n=%llu&format=%s", (unsigned long long)n, cli->json ? "json" : "text");
    if (*t->app)
        str_addf(out, "&app=%s", t->app);
    if (*t->dyno)
        str_addf(out, "&dyno=%s", t->dyno);
    if (follow)
        str_add(out, "&follow=1");
    return out->failed ? err_set(e, ENOMEM, "ask for the logs") : 0;
}

/* Until the end, or until our reader has gone. */
static int copy_lines(const struct cli *cli, struct feed *s, struct err *e)
{
    bool terminal = isatty(STDOUT_FILENO);
    const char *line;
    size_t len;
    int r;

    while ((r = feed_line_wait(s, &line, &len, e)) > 0) {
        scoped(str_done) struct str out = {0};

        if (cli->json)
            str_add_n(&out, line, len);
        else
            log_line(&out, line, len, terminal, cli->color);
        (void)fwrite(str_text(&out), 1, out.len, stdout);
        if (putc('\n', stdout) == EOF || (terminal && fflush(stdout) != 0))
            return 0;
        /* A pipe gets its lines at once too, but many at a time when many are there. */
        if (!terminal && !feed_buffered(s) && fflush(stdout) != 0)
            return 0;
    }
    return r == -ENODATA ? 0 : r;
}

int cmd_logs(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {
        {"follow", no_argument, NULL, 'f'}, {"lines", required_argument, NULL, 'n'}, CLI_OPTIONS};
    scoped(feed_freep) struct feed *s = NULL;
    scoped(str_done) struct str path = {0};
    struct err e = ERR_INIT;
    struct target t = {0};
    uint64_t n = LINES_DEFAULT;
    bool follow = false;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "fn:", longs, &status)) >= 0) {
        follow = follow || c == 'f';
        if (c == 'n' && parse_u64(optarg, 0, LINES_MAX, &n) < 0)
            return cli_usage(cli, "-n %s: a number up to %d is needed", optarg, LINES_MAX);
    }
    if (c == CLI_STOP)
        return status;
    if (argc - optind > 1)
        return cli_usage(cli, "'%s' is one word too many", argv[optind + 1]);
    if (optind < argc && target_parse(argv[optind], &t, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    if (logs_query(cli, &t, n, follow, &path, &e) < 0 ||
        client_feed(cli->socket, path.data, &s, &e) < 0 || copy_lines(cli, s, &e) < 0)
        return cli_fail(&e);
    return cli_flush(EXIT_OK);
}
