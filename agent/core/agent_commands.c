/* agent_commands.c - what clients may have the agent do. Each command is checked here for its shape
 * and, as a change of the desired state, by the model for its sense; the reconciler does the rest.
 */
#include "core/dyno.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/run/environ.h"
#include "core/slugs/mirrors.h"
#include "core/run/spec.h"
#include "isolate/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ONEOFF_FIRST  1000
#define ONEOFF_LAST   9999
#define TERM_SIZE_MAX 10000

static int blame_operator(struct err *e)
{
    return err_blame(e, FAULT_OPERATOR);
}

/* Every member of SPEC is one of ALLOWED (NULL-terminated). */
static int check_fields(const json_t *spec, const char *const *allowed, struct err *e)
{
    const char *key;
    json_t *value;
    char safe[100];

    if (!json_is_object(spec)) {
        (void)err_say(e, EINVAL, "the body must be a JSON object");
        return blame_operator(e);
    }
    json_object_foreach ((json_t *)(uintptr_t)spec, key, value) {
        size_t i = 0;

        (void)value;
        while (allowed[i] && strcmp(allowed[i], key))
            i++;
        if (!allowed[i]) {
            (void)err_say(e, EINVAL, "unknown field \"%s\"",
                          text_escape(safe, sizeof(safe), key, strlen(key)));
            return blame_operator(e);
        }
    }
    return 0;
}

static const struct app *find_app(struct agent *a, const char *app, struct err *e)
{
    const struct app *found = model_app(a->model, app);

    if (!found) {
        (void)err_say(e, ENOENT, "no app '%s' here: see `dyno ps`", app);
        (void)blame_operator(e);
    }
    return found;
}

/* While the instance is emptied nothing is started on it. */
static int refuse_draining(struct agent *a, struct err *e)
{
    if (!model_drain_state(a->model)->on)
        return 0;
    (void)err_say(e, EBUSY, "the instance is draining (%s): `dyno undrain` ends that",
                  model_drain_state(a->model)->reason);
    return blame_operator(e);
}

/* --- Releases and formations --- */

/* The members of SPEC that the entry has under the same name. */
static void copy_members(json_t *entry, const json_t *spec, const char *const *names)
{
    for (; *names; names++)
        if (json_object_get(spec, *names))
            (void)json_object_set(entry, *names, json_object_get(spec, *names));
}

static int release_entry(const char *app, const json_t *spec, json_t **ret, struct err *e)
{
    static const char *const same[] = {"env",     "size", "formation", "ports",
                                       "restart", "dir",  "types",     NULL};
    struct digest digest;
    const json_t *text = json_object_get(spec, "digest");
    scoped(json_freep) json_t *entry = json_pack("{s:s,s:s,s:I}", "op", "release", "app", app,
                                                 "created", (json_int_t)clock_real());

    if (!entry)
        return err_set(e, ENOMEM, "make a release");
    if (!!json_object_get(spec, "slug") == !!json_object_get(spec, "dir")) {
        (void)err_say(e, EINVAL, "one of \"slug\" and \"dir\" is needed");
        return blame_operator(e);
    }
    if (json_object_get(spec, "slug")) {
        json_t *url = NULL;
        int r = mirrors_of_json(json_object_get(spec, "slug"), &url, e);

        if (r < 0)
            return r;
        (void)json_object_set_new(entry, "url", url);
    }
    if (text && (!json_is_string(text) || digest_parse(json_string_value(text), &digest) < 0)) {
        (void)err_say(e, EINVAL, "\"digest\" must be sha256: and 64 hexadecimal digits");
        return blame_operator(e);
    }
    if (text)
        (void)json_object_set_new(entry, "digest", json_string(digest.hex));
    copy_members(entry, spec, same);
    *ret = TAKE_PTR(entry);
    return 0;
}

int agent_release(struct agent *a, const char *app, const json_t *spec, json_t **ret, struct err *e)
{
    static const char *const fields[] = {"slug", "digest", "env",   "size",    "formation",
                                         "dir",  "types",  "ports", "restart", NULL};
    scoped(json_freep) json_t *entry = NULL;
    int r = check_fields(spec, fields, e);

    if (r == 0)
        r = refuse_draining(a, e);
    if (r == 0)
        r = spec_check_size(&a->config, spec, e);
    if (r == 0)
        r = spec_check_slug(&a->config, spec, e);
    if (r == 0)
        r = release_entry(app, spec, &entry, e);
    if (r == 0)
        r = agent_change(a, entry, NULL, e);
    if (r < 0)
        return r;
    const struct app *now = model_app(a->model, app);
    agent_event(a, "release", NULL,
                json_pack("{s:s,s:i,s:o*}", "app", app, "release", (int)now->release.version,
                          "slug",
                          now->release.url ? mirrors_json(now->release.url)
                                           : json_string(now->release.dir)));
    return agent_app(a, app, ret, e);
}

/* Any of the types would have more dynos, or others. What is no number is the model's to refuse. */
static bool scales_up(const struct app *app, const json_t *formation)
{
    const char *type;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)formation, type, value) {
        size_t now = 0;

        for (size_t i = 0; i < app->n_types; i++)
            if (!strcmp(app->types[i].name, type))
                now = app->stopped ? 0 : app->types[i].count;
        if (json_is_array(value) ? json_array_size(value) > 0
                                 : json_integer_value(value) > (json_int_t)now)
            return true;
    }
    return false;
}

int agent_scale(struct agent *a, const char *app, const json_t *spec, json_t **ret, struct err *e)
{
    const struct app *found = find_app(a, app, e);

    if (!found)
        return -e->errnum;
    if (!json_is_object(spec) || json_object_size(spec) == 0) {
        (void)err_say(e, EINVAL, "the body must be an object of process types and counts");
        return blame_operator(e);
    }
    if (scales_up(found, spec) && refuse_draining(a, e) < 0)
        return -e->errnum;
    json_t *entry = json_pack("{s:s,s:s,s:O}", "op", "scale", "app", app, "formation", spec);
    int r = entry ? agent_change(a, entry, NULL, e) : err_set(e, ENOMEM, "scale");
    json_decref(entry);
    if (r < 0)
        return r;
    agent_event(a, "scale", NULL, json_pack("{s:s,s:O}", "app", app, "formation", spec));
    json_t *answer = NULL;
    r = agent_app(a, app, &answer, e);
    if (r == 0)
        *ret = json_incref(json_object_get(answer, "formation"));
    json_decref(answer);
    return r;
}

/* The names of the dynos that a command on APP [/DYNO] is about. */
static json_t *names_of(struct agent *a, const char *app, const char *dyno)
{
    json_t *names = json_array();
    char text[DYNO_TEXT_MAX];
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (!strcmp(d->name.app, app) && (!dyno || !strcmp(dyno_name_short(&d->name, text), dyno)))
            (void)json_array_append_new(names, json_string(dyno_name_short(&d->name, text)));
    return names;
}

static int parse_dyno(const char *app, const char *dyno, struct dyno_name *ret, struct err *e)
{
    char text[2 * DYNO_TEXT_MAX];

    (void)snprintf(text, sizeof(text), "%s/%s", app, dyno);
    if (dyno_name_parse(text, ret) < 0) {
        (void)err_say(e, EINVAL, "'%.60s' is not a dyno's name (such as web.1)", dyno);
        return blame_operator(e);
    }
    return 0;
}

/* An app that the journal has lost, though dynos of it run on: ended, they are gone for good. */
static bool end_forgotten(struct agent *a, const char *app)
{
    if (model_app(a->model, app) || !agent_release_held(a, app))
        return false;
    agent_reconcile_soon(a);
    return true;
}

/* OP "stop" or "restart". */
static int command(struct agent *a, const char *op, const char *app, const char *dyno,
                   const char *answer_key, json_t **ret, struct err *e)
{
    struct dyno_name name;

    if (!find_app(a, app, e) || (dyno && parse_dyno(app, dyno, &name, e) < 0))
        return -e->errnum;
    struct dyno *d = dyno ? agent_find_dyno(a, &name) : NULL;
    if (d && d->oneoff) { /* of no formation: it is ended, and over */
        json_t *names = names_of(a, app, dyno);

        if (strcmp(op, "stop") != 0) {
            json_decref(names);
            (void)err_say(e, EINVAL, "a one-off is never restarted: start another");
            return blame_operator(e);
        }
        dyno_event(d, DEV_STOP);
        *ret = json_pack("{s:o}", answer_key, names);
        return 0;
    }
    json_t *entry = json_pack("{s:s,s:s,s:s*}", "op", op, "app", app, "dyno", dyno);
    json_t *names = names_of(a, app, dyno);
    int r = entry ? agent_change(a, entry, NULL, e) : err_set(e, ENOMEM, "%s", op);
    json_decref(entry);
    if (r < 0) {
        json_decref(names);
        return r;
    }
    agent_event(a, op, NULL, json_pack("{s:s,s:O}", "app", app, "dynos", names));
    *ret = json_pack("{s:o}", answer_key, names);
    return 0;
}

int agent_restart(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    if (refuse_draining(a, e) < 0)
        return -e->errnum;
    return command(a, "restart", app, dyno, "restarted", ret, e);
}

int agent_stop(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    json_t *names = names_of(a, app, NULL);

    if (!dyno && end_forgotten(a, app)) {
        *ret = json_pack("{s:o}", "stopped", names);
        return 0;
    }
    json_decref(names);
    return command(a, "stop", app, dyno, "stopped", ret, e);
}

int agent_forget(struct agent *a, const char *app, json_t **ret, struct err *e)
{
    int r = command(a, "forget", app, NULL, "stopped", ret, e);

    if (r == 0)
        logger_forget_app(a->logger, app);
    return r;
}

/* --- Attached commands --- */

static int check_argv(const json_t *spec, struct err *e)
{
    const json_t *argv = json_object_get(spec, "argv"), *command = json_object_get(spec, "command");
    size_t i;
    json_t *arg;

    if (!!argv == !!command) {
        (void)err_say(e, EINVAL, "one of \"argv\" and \"command\" is needed");
        return blame_operator(e);
    }
    bool bad = argv ? json_array_size(argv) == 0 || json_array_size(argv) > 4000
                    : !json_is_string(command) || !*json_string_value(command);
    json_array_foreach (argv, i, arg)
        bad = bad || !json_is_string(arg);
    if (bad) {
        (void)err_say(e, EINVAL,
                      argv ? "\"argv\" must be a list of 1 to 4000 strings"
                           : "\"command\" must be a string that is not empty");
        return blame_operator(e);
    }
    return 0;
}

static int take_terminal(const json_t *spec, struct terminal *ret, struct err *e)
{
    static const char *const fields[] = {"rows", "cols", "term", NULL};
    const json_t *tty = json_object_get(spec, "tty");

    *ret = (struct terminal){0};
    if (!tty || json_is_null(tty) || json_is_false(tty))
        return 0;
    int r = check_fields(tty, fields, e);
    if (r < 0)
        return r;
    int64_t rows = json_int(tty, "rows", 24), cols = json_int(tty, "cols", 80);
    const char *term = json_str(tty, "term", "xterm");
    if (rows < 0 || rows > TERM_SIZE_MAX || cols < 0 || cols > TERM_SIZE_MAX ||
        strlen(term) >= sizeof(ret->term)) {
        (void)err_say(e, EINVAL, "\"tty\": rows and cols are 0 to %d, term at most %zu characters",
                      TERM_SIZE_MAX, sizeof(ret->term) - 1);
        return blame_operator(e);
    }
    ret->tty = true;
    ret->rows = (uint16_t)rows;
    ret->cols = (uint16_t)cols;
    (void)snprintf(ret->term, sizeof(ret->term), "%s", term);
    return 0;
}

/* A number that no one-off of APP has. */
static int oneoff_number(const struct app *app, unsigned *ret, struct err *e)
{
    unsigned span = ONEOFF_LAST - ONEOFF_FIRST + 1;
    unsigned start = (unsigned)(random_u64() % span);

    for (unsigned i = 0; i < span; i++) {
        unsigned num = ONEOFF_FIRST + (start + i) % span;
        bool taken = false;

        for (size_t j = 0; j < app->n_oneoffs; j++)
            taken = taken || app->oneoffs[j].num == num;
        if (!taken) {
            *ret = num;
            return 0;
        }
    }
    return err_say(e, EBUSY, "%s runs %u one-offs already", app->name, span);
}

static int start_oneoff(struct agent *a, const char *app_name, unsigned num,
                        const struct terminal *terminal, const struct attach_ops *ops,
                        void *userdata, struct attach **ret_attach, struct err *e)
{
    scoped_free struct want *wants = NULL;
    size_t n = 0;
    int r = model_wants(a->model, &wants, &n, e);

    for (size_t i = 0; r == 0 && i < n; i++) {
        struct dyno *d;

        if (!wants[i].oneoff || wants[i].name.num != num ||
            strcmp(wants[i].name.app, app_name) != 0)
            continue;
        r = dyno_new(a, &wants[i], &d, e);
        if (r < 0)
            return r;
        d->terminal = *terminal;
        if (ops && (r = attach_new_oneoff(d, ops, userdata, ret_attach, e)) < 0) {
            dyno_free(d);
            return r;
        }
        dyno_start_soon(d);
        return 0;
    }
    return r < 0 ? r : err_say(e, EIO, "a one-off got lost");
}

static int run_entry(struct agent *a, const char *app, const json_t *spec, unsigned num,
                     bool attached, json_t *by, struct err *e)
{
    static const char *const same[] = {"argv", "command", "env", "size", NULL};
    json_t *entry = json_pack("{s:s,s:s,s:i,s:b,s:O*}", "op", "run", "app", app, "num", (int)num,
                              "attached", attached, "by", by);

    if (!entry)
        return err_set(e, ENOMEM, "run");
    copy_members(entry, spec, same);
    int r = agent_change(a, entry, NULL, e);
    json_decref(entry);
    return r;
}

int agent_run_by(struct agent *a, const char *app, const json_t *spec, unsigned num,
                 const struct caller *caller, json_t *by, const struct attach_ops *ops,
                 void *userdata, struct attach **ret_attach, json_t **ret, struct err *e)
{
    static const char *const fields[] = {"argv", "command", "tty", "env", "size", "attach", NULL};
    const struct app *found = find_app(a, app, e);
    struct terminal terminal;
    struct dyno_name name;
    char dyno[32];

    if (!found || check_fields(spec, fields, e) < 0 || check_argv(spec, e) < 0 ||
        spec_check_size(&a->config, spec, e) < 0 || take_terminal(spec, &terminal, e) < 0 ||
        refuse_draining(a, e) < 0 || (num == 0 && oneoff_number(found, &num, e) < 0))
        return -e->errnum;
    if (found->release.version == 0) {
        (void)err_say(e, ENOENT, "%s has no release to run a command in", app);
        return blame_operator(e);
    }
    if (!ops)
        terminal = (struct terminal){0};
    int r = run_entry(a, app, spec, num, ops != NULL, by, e);
    if (r == 0)
        r = start_oneoff(a, app, num, &terminal, ops, userdata, ret_attach, e);
    if (r < 0)
        return r;
    (void)snprintf(dyno, sizeof(dyno), "run.%u", num);
    if (parse_dyno(app, dyno, &name, e) == 0) /* always: it was made here */
        audit_run(a, &name, spec, caller, by);
    *ret = json_pack("{s:s}", "dyno", dyno);
    return 0;
}

int agent_run(struct agent *a, const char *app, const json_t *spec, const struct caller *caller,
              const struct attach_ops *ops, void *userdata, struct attach **ret_attach,
              json_t **ret, struct err *e)
{
    return agent_run_by(a, app, spec, 0, caller, NULL, ops, userdata, ret_attach, ret, e);
}

/* "argv" as it is, "command" through the shell. Freed with free(); strings are SPEC's. */
static const char **argv_of(struct agent *a, const json_t *spec)
{
    const json_t *list = json_object_get(spec, "argv");
    size_t n = list ? json_array_size(list) : 4;
    const char **argv = calloc(n + 1, sizeof(*argv));

    if (argv && !list)
        launch_shell(sandbox_has_bash(a->sandbox), json_str(spec, "command", ""), argv);
    for (size_t i = 0; argv && list && i < n; i++)
        argv[i] = json_string_value(json_array_get(list, i));
    return argv;
}

int agent_exec(struct agent *a, const char *app, const char *dyno, const json_t *spec,
               const struct caller *caller, const struct attach_ops *ops, void *userdata,
               struct attach **ret_attach, struct err *e)
{
    static const char *const fields[] = {"argv", "command", "tty", "env", NULL};
    struct dyno_name name;
    struct terminal terminal;
    uint32_t token;
    char **env = NULL;

    if (parse_dyno(app, dyno, &name, e) < 0 || check_fields(spec, fields, e) < 0 ||
        check_argv(spec, e) < 0 || take_terminal(spec, &terminal, e) < 0)
        return -e->errnum;
    struct dyno *d = agent_find_dyno(a, &name);
    const struct app *found = model_app(a->model, app);
    if (!d || !d->run || !found) {
        (void)err_say(e, ENOENT, "%s/%s does not run: see `dyno ps`", app, dyno);
        return blame_operator(e);
    }
    if (d->state == DYNO_PAUSED) { /* its dyno-init would answer when it runs again */
        (void)err_say(e, EALREADY, "%s/%s is paused: `dyno resume %s/%s` first", app, dyno, app,
                      dyno);
        return blame_operator(e);
    }
    struct environ_facts facts = {.app = found,
                                  .dyno = dyno,
                                  .run = run_id(d->run),
                                  .port = d->port,
                                  .term = terminal.tty ? terminal.term : NULL,
                                  .rows = terminal.rows,
                                  .cols = terminal.cols};
    int r = environ_make(&facts, json_object_get(spec, "env"), &env, e);
    if (r < 0)
        return r;
    scoped_free const char **argv = argv_of(a, spec);
    r = !argv ? err_set(e, ENOMEM, "exec")
              : run_exec(d->run, (char *const *)(uintptr_t)argv, env, terminal.tty, terminal.rows,
                         terminal.cols, &token, e);
    environ_free(env);
    if (r == 0)
        r = attach_new_exec(d, token, ops, userdata, ret_attach, e);
    if (r == 0)
        audit_exec(a, &name, token, spec, caller);
    return r;
}
