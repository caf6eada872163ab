/* slug_fetch.c - dyno slug fetch: has the agent fetch a slug, and shows how far it is. */
#include "cli/slug_cached.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/progress.h"
#include "cli/slugcache.h"
#include "cli/tty.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EVENTS     "/v1/events?follow=1&n=0"
#define PLAIN_STEP 10                 /* per cent between two plain lines, */
#define PLAIN_USEC (5 * USEC_PER_SEC) /* or so long */

/* What is on the screen. On stderr: stdout has the result. */
struct screen {
    bool quiet, terminal, bar; /* a bar is there now, to be written over */
    struct progress progress;
    int percent; /* of the last plain line */
    uint64_t said;
};

static void screen_clear(struct screen *s)
{
    if (s->bar)
        (void)fputs("\r\x1b[K", stderr);
    s->bar = false;
}

static void show_bar(struct screen *s, const json_t *event)
{
    scoped(str_done) struct str line = {0};
    const struct progress *p = &s->progress;
    unsigned width = tty_size(STDERR_FILENO).ws_col;

    if (p->has_total && p->bytes == p->total)
        str_addf(&line, "%.1f MB are here; %lld entries are unpacked", (double)p->total / 1e6,
                 (long long)json_int(event, "entries", 0));
    else
        progress_line(p, width > 1 ? width - 1 : 1, &line);
    (void)fprintf(stderr, "\r\x1b[K%.*s", (int)width - 1, str_text(&line));
    (void)fflush(stderr);
    s->bar = true;
}

static void show_plain(struct screen *s, uint64_t now)
{
    scoped(str_done) struct str line = {0};
    int percent = progress_percent(&s->progress);

    if (!s->said)
        s->said = now;
    if (percent < s->percent + PLAIN_STEP && now < s->said + PLAIN_USEC)
        return;
    s->percent = percent - (percent > 0 ? percent % PLAIN_STEP : 0);
    s->said = now;
    progress_line(&s->progress, 0, &line);
    (void)fprintf(stderr, "%s\n", str_text(&line));
}

static void show(struct screen *s, const json_t *event)
{
    uint64_t now = clock_boot();

    progress_update(&s->progress, now, (uint64_t)json_int(event, "bytes", 0),
                    json_int(event, "total", -1));
    if (s->quiet)
        return;
    if (s->terminal)
        show_bar(s, event);
    else
        show_plain(s, now);
}

/* --- The wait --- */

/* The event that ends fetch NUMBER. */
static int wait_fetched(struct feed *feed, int64_t number, struct screen *s, json_t **ret,
                        struct err *e)
{
    for (;;) {
        scoped(json_freep) json_t *event = NULL;
        int r = feed_event_wait(feed, &event, e);

        if (r < 0)
            return r == -ENODATA ? err_say(e, EPIPE,
                                           "the agent went away; it begins no fetch again "
                                           "by itself that no app needs")
                                 : r;
        const char *state = json_str(event, "state", "");
        if (strcmp(json_str(event, "kind", ""), "fetch") != 0 ||
            json_int(event, "fetch", 0) != number)
            continue;
        if (!strcmp(state, "progress")) {
            show(s, event);
        } else if (strcmp(state, "started") != 0) {
            *ret = TAKE_PTR(event);
            return 0;
        }
    }
}

static int print_end(const struct cli *cli, const json_t *event, bool cached, uint64_t took)
{
    scoped(str_done) struct str out = {0};
    bool done = !strcmp(json_str(event, "state", ""), "done");
    struct err e = ERR_INIT;

    if (cli->json) {
        int printed = cli_print_json(event);
        return printed == EXIT_OK && !done ? EXIT_FAIL : printed;
    }
    if (!done) {
        (void)err_say(&e, EIO, "%s (%s's fault)", json_str(event, "text", "the fetch failed"),
                      json_str(event, "fault", "platform"));
        return cli_fail(&e);
    }
    if (cached)
        str_addf(&out, "%s  cached already\n", json_str(event, "digest", "-"));
    else
        slug_done_text(event, took, &out);
    (void)fputs(str_text(&out), stdout);
    return cli_flush(EXIT_OK);
}

static int fetch(const struct cli *cli, const json_t *spec, bool no_wait)
{
    struct screen s = {.quiet = cli->json, .terminal = isatty(STDERR_FILENO) != 0};
    scoped(json_freep) json_t *answer = NULL, *event = NULL;
    scoped(feed_freep) struct feed *feed = NULL;
    uint64_t begun = clock_boot();
    struct err e = ERR_INIT;
    int r = 0;

    /* Before the fetch, so that none of its events is missed. */
    if (!no_wait)
        r = client_feed(cli->socket, EVENTS, &feed, &e);
    if (r == 0)
        r = client_call(cli->socket, "POST", "/v1/slugs", spec, &answer, &e);
    if (r == 0 && !no_wait)
        r = wait_fetched(feed, json_int(answer, "fetch", 0), &s, &event, &e);
    screen_clear(&s);
    if (r < 0)
        return cli_fail(&e);
    bool cached = json_bool(answer, "cached", false);
    if (!no_wait)
        return print_end(cli, event, cached, clock_boot() - begun);
    if (cli->json)
        return cli_print_json(answer);
    (void)printf("%s\n", cached ? "cached already" : "the agent fetches it: see `dyno slug ls`");
    return cli_flush(EXIT_OK);
}

int slug_fetch_command(struct cli *cli, int argc, char **argv)
{
    enum { OPT_DIGEST = 1, OPT_NO_WAIT };
    static const struct option longs[] = {{"digest", required_argument, NULL, OPT_DIGEST},
                                          {"no-wait", no_argument, NULL, OPT_NO_WAIT},
                                          CLI_OPTIONS};
    scoped(json_freep) json_t *spec = json_object();
    const char *digest = NULL;
    bool no_wait = false;
    struct err e = ERR_INIT;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "", longs, &status)) >= 0) {
        if (c == OPT_DIGEST)
            digest = optarg;
        else
            no_wait = true;
    }
    if (c == CLI_STOP)
        return status;
    if (optind == argc)
        return cli_usage(cli, "URL is missing");
    if (argc - optind > CALL_MIRRORS_MAX)
        return cli_usage(cli, "a slug has %d mirrors at most", CALL_MIRRORS_MAX);
    if (call_slug(spec, (const char *const *)argv + optind, (size_t)(argc - optind), &e) < 0 ||
        call_digest(spec, digest, &e) < 0)
        return cli_fail(&e);
    return fetch(cli, spec, no_wait);
}
