/* start.c - dyno start APP --slug URL: a release, and the wait until it runs. */
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/localplan.h"
#include "cli/logline.h"
#include "cli/started.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct start_options {
    const char *slugs[CALL_MIRRORS_MAX];
    size_t n_slugs;
    const char *digest, *formation, *env, *size;
    bool no_wait;
};

static int set_text(json_t *spec, const char *key, const char *text, struct err *e)
{
    if (!text || json_object_set_new(spec, key, json_string(text)) == 0)
        return 0;
    (void)err_say(e, EINVAL, "the %s is not UTF-8", key);
    return err_blame(e, FAULT_OPERATOR);
}

static int make_spec(const struct start_options *o, json_t *spec, struct err *e)
{
    scoped(json_freep) json_t *env = NULL, *formation = NULL;
    int r = call_slug(spec, o->slugs, o->n_slugs, e);

    if (r == 0)
        r = call_digest(spec, o->digest, e);
    if (r == 0)
        r = set_text(spec, "size", o->size, e);
    if (r == 0 && o->env && (r = env_load(o->env, NULL, &env, e)) == 0)
        r = json_object_set(spec, "env", env) < 0 ? err_set(e, ENOMEM, "make a release") : 0;
    if (r == 0 && o->formation && (formation = json_object()) &&
        (r = cli_formation(o->formation, formation, e)) == 0)
        r = json_object_set(spec, "formation", formation) < 0 ? err_set(e, ENOMEM, "make a release")
                                                              : 0;
    return r;
}

/* What is waited for. */
struct waiting {
    const struct cli *cli;
    const char *app;
    const json_t *wanted; /* the formation asked for, or NULL */
    int64_t version;
};

/* -EBUSY: somebody empties the instance meanwhile, so nothing more comes up. */
static int check_draining(const struct waiting *w, struct err *e)
{
    scoped(json_freep) json_t *instance = NULL;
    int r = client_call(w->cli->socket, "GET", "/v1/instance", NULL, &instance, e);

    if (r == -ENOENT)
        return 0; /* an agent of before there were drains, that is about to be upgraded */
    if (r < 0 || !json_bool(instance, "draining", false))
        return r;
    (void)err_say(e, EBUSY, "this instance drains: %s starts after `dyno undrain`", w->app);
    return err_blame(e, FAULT_OPERATOR);
}

/* Asks how far the release is. */
static int look(const struct waiting *w, json_t **ret_dynos, enum started *ret, struct err *e)
{
    scoped(json_freep) json_t *state = NULL, *dynos = NULL;
    struct target t = {0};
    char path[CALL_PATH_MAX];

    (void)snprintf(t.app, sizeof(t.app), "%s", w->app);
    int r = client_call(w->cli->socket, "GET", call_path(&t, NULL, path), NULL, &state, e);
    (void)snprintf(path, sizeof(path), "/v1/dynos?app=%s", w->app);
    if (r == 0)
        r = client_call(w->cli->socket, "GET", path, NULL, &dynos, e);
    if (r < 0)
        return r;
    *ret = started_look(state, dynos, w->wanted, w->version);
    if (*ret == STARTED_PROBLEM) {
        const json_t *problem = json_object_get(json_object_get(state, "release"), "problem");

        (void)err_say(e, EIO, "%s (%s's fault); what ran before runs on",
                      json_str(problem, "text", ""), json_str(problem, "fault", "platform"));
        return err_blame(e, fault_from_name(json_str(problem, "fault", "")));
    }
    if (*ret == STARTED_NO_TYPE) {
        (void)err_say(e, EINVAL, "the slug has no process type '%s'",
                      started_missing(state, w->wanted));
        return err_blame(e, FAULT_OPERATOR);
    }
    r = *ret == STARTED_NOT_YET ? check_draining(w, e) : 0;
    if (r == 0)
        *ret_dynos = TAKE_PTR(dynos);
    return r;
}

/* Prints an event of APP as progress. */
static void progress(const struct cli *cli, const char *app, const char *line, size_t len)
{
    scoped(json_freep) json_t *event = NULL;
    scoped(str_done) struct str out = {0};
    struct err ignored = ERR_INIT;

    if (json_parse(line, len, CLIENT_LINE_MAX, &event, &ignored) < 0 ||
        strcmp(json_str(event, "app", ""), app) != 0)
        return;
    event_line(&out, event, cli->color);
    (void)fprintf(cli->json ? stderr : stdout, "%s\n", str_text(&out));
    (void)fflush(stdout);
}

static int print_result(const struct cli *cli, const json_t *dynos, enum started what)
{
    scoped(str_done) struct str out = {0};
    int status = what == STARTED_UP ? EXIT_OK : EXIT_FAIL;

    if (cli->json) {
        int printed = cli_print_json(dynos);
        return printed == EXIT_OK ? status : printed;
    }
    started_text(dynos, what, &out);
    (void)fputs(str_text(&out), stdout);
    return cli_flush(status);
}

/* Waits by events; each batch of them is a reason to look. */
static int wait_started(const struct waiting *w, struct feed *s, struct err *e)
{
    for (;;) {
        scoped(json_freep) json_t *dynos = NULL;
        enum started what = STARTED_NOT_YET;
        const char *line;
        size_t len;
        int r = look(w, &dynos, &what, e);

        if (r < 0)
            return cli_fail(e);
        if (what != STARTED_NOT_YET) {
            while (feed_line(s, &line, &len, e) > 0)
                progress(w->cli, w->app, line, len);
            return print_result(w->cli, dynos, what);
        }
        r = feed_line_wait(s, &line, &len, e);
        for (; r > 0; r = feed_line(s, &line, &len, e))
            progress(w->cli, w->app, line, len);
        if (r < 0)
            return cli_fail(e);
    }
}

static int start(struct cli *cli, const char *app, const struct start_options *o)
{
    scoped(json_freep) json_t *spec = json_object(), *answer = NULL;
    scoped(feed_freep) struct feed *s = NULL;
    struct target t = {0};
    char path[CALL_PATH_MAX];
    struct err e = ERR_INIT;
    int r = make_spec(o, spec, &e);

    (void)snprintf(t.app, sizeof(t.app), "%s", app);
    /* Before the release, so that none of its events is missed. */
    if (r == 0 && !o->no_wait)
        r = client_feed(cli->socket, "/v1/events?follow=1&n=0", &s, &e);
    if (r == 0)
        r = client_call(cli->socket, "POST", call_path(&t, "releases", path), spec, &answer, &e);
    if (r < 0)
        return cli_fail(&e);
    int64_t version = call_release_number(answer);
    const struct waiting w = {cli, app, json_object_get(spec, "formation"), version};
    if (!o->no_wait)
        return wait_started(&w, s, &e);
    if (cli->json)
        return cli_print_json(answer);
    (void)printf("%s v%lld\n", app, (long long)version);
    return cli_flush(EXIT_OK);
}

int cmd_start(struct cli *cli, int argc, char **argv)
{
    enum { OPT_SLUG = 1, OPT_DIGEST, OPT_SIZE, OPT_NO_WAIT };
    static const struct option longs[] = {{"slug", required_argument, NULL, OPT_SLUG},
                                          {"digest", required_argument, NULL, OPT_DIGEST},
                                          {"formation", required_argument, NULL, 'm'},
                                          {"env", required_argument, NULL, 'e'},
                                          {"size", required_argument, NULL, OPT_SIZE},
                                          {"no-wait", no_argument, NULL, OPT_NO_WAIT},
                                          CLI_OPTIONS};
    struct start_options o = {0};
    struct err e = ERR_INIT;
    struct target t;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "m:e:", longs, &status)) >= 0) {
        const char **text = c == OPT_DIGEST ? &o.digest
                            : c == OPT_SIZE ? &o.size
                            : c == 'm'      ? &o.formation
                                            : &o.env;
        if (c == OPT_SLUG && o.n_slugs == CALL_MIRRORS_MAX)
            return cli_usage(cli, "--slug can be given %d times", CALL_MIRRORS_MAX);
        if (c == OPT_SLUG)
            o.slugs[o.n_slugs++] = optarg;
        else if (c == OPT_NO_WAIT)
            o.no_wait = true;
        else
            *text = optarg;
    }
    if (c == CLI_STOP)
        return status;
    const char *app = call_operand(cli, argc, argv, "APP", &status);
    if (!app)
        return status;
    if (target_parse(app, &t, &e) < 0 || *t.dyno)
        return cli_usage(cli, "%s", e.errnum ? e.text : "name an app, not a dyno");
    if (o.n_slugs == 0)
        return cli_usage(cli, "--slug is missing");
    return start(cli, t.app, &o);
}
