/* dyno_spawn.c - from what is wanted of a dyno to one start: command, environment, port, uid,
 * limits; and the way back from a trace to a dyno. */
#include "core/dyno.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/run/environ.h"
#include "core/host/network.h"
#include "core/policy/ready.h"
#include "core/slugs/slugs.h"
#include "core/run/spares.h"
#include "isolate/launch.h"
#include "isolate/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGV_MAX 4096

/* What one start puts together. */
struct start {
    const struct app *app;
    const struct want_type *type;
    const struct oneoff *oneoff;
    const char **argv;
    char *words; /* where argv's strings lie when they were cut out of a text */
    char **env;
    char run[RUN_ID_MAX];
    int slug_fd; /* borrowed, or */
    int own_fd;  /* the same, to be closed */
    struct limits limits;
    struct agent *agent;
    uint32_t slot; /* of a network of its own: given back, unless a run has taken it; 0: none */
    int netns_fd;
    json_t *record;
};

static void start_done(struct start *s)
{
    free(s->argv);
    free(s->words);
    environ_free(s->env);
    fd_closep(&s->own_fd);
    fd_closep(&s->netns_fd);
    network_put(s->agent, s->slot);
    json_decref(s->record);
}

/* --- What is wanted --- */

static int find_wanted(const struct dyno *d, struct start *s, struct err *e)
{
    s->app = model_app(d->agent->model, d->name.app);
    for (size_t i = 0; s->app && !d->oneoff && i < s->app->n_types; i++)
        if (!strcmp(s->app->types[i].name, d->name.type))
            s->type = &s->app->types[i];
    for (size_t i = 0; s->app && d->oneoff && i < s->app->n_oneoffs; i++)
        if (s->app->oneoffs[i].num == d->name.num)
            s->oneoff = &s->app->oneoffs[i];
    if (!s->oneoff && !(s->type && s->type->command)) {
        (void)err_say(e, ENOENT, "release v%u of %s has no process type '%s'", d->release,
                      d->name.app, d->name.type);
        return err_blame(e, FAULT_OPERATOR);
    }
    return 0;
}

/* A one-off's own arguments. */
static int take_argv(const json_t *list, struct start *s, struct str *shown, struct err *e)
{
    size_t n = json_array_size(list);

    if (n == 0 || n >= ARGV_MAX)
        return err_say(e, E2BIG, "a command of %zu arguments", n);
    for (size_t i = 0; i < n; i++) {
        s->argv[i] = json_string_value(json_array_get(list, i));
        str_addf(shown, "%s%s", i ? " " : "", s->argv[i]);
    }
    return 0;
}

/* The words of TEXT, without a shell. They lie in s->words. */
static int cut_words(const char *text, struct start *s, struct err *e)
{
    size_t n = 0;
    char *rest = NULL;

    s->words = strdup(text);
    for (char *word = s->words ? strtok_r(s->words, " \t", &rest) : NULL; word;
         word = strtok_r(NULL, " \t", &rest)) {
        if (n == ARGV_MAX - 1)
            return err_say(e, E2BIG, "a command of more than %d words", ARGV_MAX - 1);
        s->argv[n++] = word;
    }
    return n > 0 ? 0 : err_set(e, s->words ? EINVAL : ENOMEM, "the command '%.100s'", text);
}

/* The command as a shell text, or its very arguments; d->command is what people are shown. */
static int choose_command(struct dyno *d, struct start *s, struct err *e)
{
    const char *text = s->type ? s->type->command : s->oneoff->command;
    struct str shown = {0};
    int r = 0;

    s->argv = calloc(ARGV_MAX, sizeof(*s->argv));
    if (!s->argv)
        return err_set(e, ENOMEM, "make the command");
    if (!text)
        r = take_argv(s->oneoff->argv, s, &shown, e);
    else if (s->type && s->type->direct)
        r = cut_words(text, s, e);
    else
        launch_shell(sandbox_has_bash(d->agent->sandbox), text, s->argv);
    if (text)
        str_add(&shown, text);
    free(d->command);
    d->command = shown.failed ? NULL : shown.data;
    return r == 0 && !d->command ? err_set(e, ENOMEM, "make the command") : r;
}

/* --- What only this instance can give --- */

static int choose_port(struct dyno *d, const struct start *s, struct err *e)
{
    struct agent *a = d->agent;
    uint32_t port;

    if (s->type && s->type->port) {
        d->port = s->type->port + d->name.num - 1;
        d->port_given = true;
        if (d->port > 65535 || !port_free(d->port)) {
            (void)err_say(e, EADDRINUSE, "port %u of %s.%u is taken by another process", d->port,
                          d->name.type, d->name.num);
            return err_blame(e, FAULT_OPERATOR);
        }
        return 0;
    }
    if (strcmp(d->name.type, "web"))
        return 0;
    if (d->port && port_free(d->port)) /* a restart keeps its address */
        return 0;
    for (uint32_t tries = a->ports.last - a->ports.first + 1; tries > 0; tries--) {
        if (slots_get(&a->ports, &port) < 0)
            break;
        if (port_free(port)) {
            if (d->port)
                slots_put(&a->ports, d->port);
            d->port = port;
            return 0;
        }
        slots_put(&a->ports, port); /* somebody else's */
    }
    return err_say(e, EADDRNOTAVAIL, "no port of %u-%u is free (port_range)", a->ports.first,
                   a->ports.last);
}

static int choose_user(struct dyno *d, struct err *e)
{
    struct agent *a = d->agent;

    if (a->rootless) {
        d->uid = 0;
        return 0;
    }
    if (!d->uid)
        return ids_take(&a->ids, &d->uid, &d->userns_fd, e);
    if (d->userns_fd < 0) /* an adopted one that restarts */
        return sandbox_userns(a->sandbox, d->uid, d->uid, &d->userns_fd, e);
    return 0;
}

static int open_slug(struct dyno *d, struct start *s, struct err *e)
{
    const struct release *rel = &s->app->release;

    d->has_slug = d->slug_unknown = false;
    if (!rel->dir) {
        d->slug = rel->digest;
        d->has_slug = true;
        return slugs_app(d->agent->slugs, &rel->digest, &s->slug_fd, e);
    }
    s->slug_fd = s->own_fd = open(rel->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->slug_fd < 0) {
        (void)err_set(e, errno, "open the app's directory %s", rel->dir);
        return err_blame_operator(e);
    }
    return 0;
}

static int add_network(json_t *record, const struct start *s)
{
    char four[NET_ADDRESS_MAX], six[NET_ADDRESS_MAX];

    if (!s->slot)
        return 0;
    json_t *network = json_pack("{s:I,s:s,s:s}", "slot", (json_int_t)s->slot, "address",
                                net_address(s->agent->net, s->slot, four), "address6",
                                net_address6(s->agent->net, s->slot, six));
    return json_object_set_new(record, "network", network);
}

/* What adoption will want to know. */
static json_t *make_record(const struct dyno *d, const struct start *s)
{
    json_t *record =
        json_pack("{s:s,s:s,s:i,s:I,s:i,s:I,s:i,s:b,s:s,s:b,s:b,s:i,s:i,s:s}", "app", d->name.app,
                  "type", d->name.type, "num", (int)d->name.num, "generation",
                  (json_int_t)d->generation, "release", (int)d->release, "uid", (json_int_t)d->uid,
                  "port", (int)d->port, "port_given", d->port_given, "size", d->size, "oneoff",
                  d->oneoff, "attached", s->oneoff && s->oneoff->attached, "crashes",
                  (int)d->crashes.crashes, "restarts", (int)d->restarts, "command", d->command);

    if (record &&
        (json_object_set_new(record, "slug", json_string(d->has_slug ? d->slug.hex : "")) < 0 ||
         add_network(record, s) < 0)) {
        json_decref(record);
        record = NULL;
    }
    return record;
}

static int make_env(const struct dyno *d, struct start *s, struct err *e)
{
    char name[DYNO_TEXT_MAX];
    struct environ_facts facts = {.app = s->app,
                                  .dyno = dyno_name_short(&d->name, name),
                                  .run = s->run,
                                  .port = d->port,
                                  .term = d->terminal.tty ? d->terminal.term : NULL,
                                  .rows = d->terminal.rows,
                                  .cols = d->terminal.cols};

    return environ_make(&facts, s->oneoff ? s->oneoff->env : NULL, &s->env, e);
}

/* In SPARE, when there is one. */
static int start_run(struct dyno *d, struct start *s, struct spare *spare, struct err *e)
{
    char hostname[64];
    struct run_spec spec = {.name = d->name,
                            .id = s->run,
                            .record = s->record,
                            .argv = (char *const *)(uintptr_t)s->argv,
                            .env = s->env,
                            .attached = d->attach != NULL,
                            .tty = d->terminal.tty,
                            .rows = d->terminal.rows,
                            .cols = d->terminal.cols,
                            .hostname = hostname,
                            .uid = d->agent->rootless ? getuid() : d->uid,
                            .userns_fd = d->userns_fd,
                            .slug_fd = s->slug_fd,
                            .netns_fd = s->netns_fd,
                            .limits = s->limits};

    /* A host name's labels have at most 63 characters and no '_'. */
    (void)snprintf(hostname, sizeof(hostname), "%.50s-%u", d->name.type, d->name.num);
    for (char *p = hostname; *p; p++)
        if (*p == '_')
            *p = '-';
    int r = spare ? run_start_spare(&d->agent->env, &spec, spare, &dyno_run_ops, d, &d->run, e)
                  : run_start(&d->agent->env, &spec, &dyno_run_ops, d, &d->run, e);
    if (r == 0)
        s->slot = 0; /* the run's */
    return r;
}

/* What depends on the run's id and user, then the run. */
static int start_with(struct dyno *d, struct start *s, struct spare *spare, struct err *e)
{
    int r = make_env(d, s, e);

    if (r < 0)
        return r;
    s->record = make_record(d, s);
    return s->record ? start_run(d, s, spare, e) : err_set(e, ENOMEM, "start a dyno");
}

static void forget_attempt(struct start *s)
{
    environ_free(s->env);
    s->env = NULL;
    json_decref(s->record);
    s->record = NULL;
    network_put(s->agent, s->slot);
    s->slot = 0;
    fd_closep(&s->netns_fd);
}

/* The dyno gets the spare's user in place of its own. False: there is no spare, or it was none. */
static bool try_spare(struct dyno *d, struct start *s, struct err *e)
{
    struct agent *a = d->agent;
    uid_t uid = d->uid;
    struct spare *spare = spares_take(&a->spares, &s->limits, s->slug_fd);
    int r;

    if (!spare)
        return false;
    s->slot = spare->slot;
    (void)snprintf(s->run, sizeof(s->run), "%s", spare->id);
    d->uid = spare->uid;
    r = start_with(d, s, spare, e);
    if (r < 0) { /* what is not the spare's doing happens again */
        log_warn("%s: %s; starting without", spare->id, e->text);
        *e = (struct err)ERR_INIT;
        d->uid = uid;
        s->slot = 0;
        forget_attempt(s);
        a->spares.lost++;
        spare_end(spare);
        return false;
    }
    if (uid)
        ids_put(&a->ids, uid);
    fd_closep(&d->userns_fd);
    d->userns_fd = TAKE_FD(spare->userns_fd);
    spare_used(spare);
    return true;
}

static int start_fresh(struct dyno *d, struct start *s, struct err *e)
{
    int r = choose_user(d, e);

    (void)run_make_id(&d->name, s->run);
    if (r == 0)
        r = network_make(d->agent, &s->limits, &s->slot, &s->netns_fd, e);
    return r < 0 ? r : start_with(d, s, NULL, e);
}

static int spawn(struct dyno *d, struct start *s, struct err *e)
{
    struct spares *spares = &d->agent->spares;
    int r = 0;

    if (!try_spare(d, s, e))
        r = start_fresh(d, s, e);
    if (r == 0 && d->has_slug)
        spares_note(spares, &d->slug, &s->limits);
    /* Users and disk that wait for a dyno must not be what keeps one from starting. */
    return r == -ENOSPC && spares_shed(spares) > 0 ? DYNO_SPAWN_LATER : r;
}

int dyno_spawn(struct dyno *d, struct err *e)
{
    scoped(start_done) struct start s = {
        .slug_fd = -1, .own_fd = -1, .netns_fd = -1, .agent = d->agent};
    int r = find_wanted(d, &s, e);

    if (r == 0) {
        (void)snprintf(d->size, sizeof(d->size), "%s",
                       app_size(s.app, &d->name, d->agent->config.default_size));
        r = choose_command(d, &s, e);
    }
    if (r == 0)
        r = choose_port(d, &s, e);
    if (r == 0)
        r = open_slug(d, &s, e);
    if (r == 0)
        r = dyno_limits(d, &s.limits, e);
    return r < 0 ? r : spawn(d, &s, e);
}

/* --- Adoption --- */

int dyno_name_of_record(const json_t *record, struct dyno_name *ret, struct err *e)
{
    char text[DYNO_TEXT_MAX + 64];

    (void)snprintf(text, sizeof(text), "%.80s/%.80s.%lld", json_str(record, "app", ""),
                   json_str(record, "type", ""), (long long)json_int(record, "num", 0));
    if (dyno_name_parse(text, ret) < 0)
        return err_say(e, EBADMSG, "a trace names no dyno");
    return 0;
}

/* Agents before there were images did not write it down. */
static void take_slug(struct dyno *d, const json_t *record)
{
    const char *hex = json_str(record, "slug", NULL);
    const struct app *app = model_app(d->agent->model, d->name.app);
    const struct release *rel = app ? &app->release : NULL;

    d->has_slug = hex && digest_parse(hex, &d->slug) == 0;
    d->slug_unknown = !hex;
    if (!hex && rel && rel->version == d->release && (rel->has_digest || rel->dir)) {
        d->slug_unknown = false;
        d->has_slug = rel->has_digest;
        d->slug = rel->digest;
    }
}

static void take_record(struct dyno *d, const struct run_trace *trace)
{
    const json_t *record = json_object_get(trace->record, "record");
    const json_t *end = json_object_get(trace->record, "end");
    struct agent *a = d->agent;

    d->generation = (uint64_t)json_int(record, "generation", 0);
    d->release = (unsigned)json_int(record, "release", 0);
    take_slug(d, record);
    d->oneoff = json_bool(record, "oneoff", false);
    d->port = (unsigned)json_int(record, "port", 0);
    d->port_given = json_bool(record, "port_given", false);
    (void)snprintf(d->size, sizeof(d->size), "%s", json_str(record, "size", ""));
    free(d->command);
    d->command = strdup(json_str(record, "command", ""));
    d->crashes.crashes = (unsigned)json_int(end ? end : record, "crashes", 0);
    d->restarts = (unsigned)json_int(end ? end : record, "restarts", 0);
    d->uid = (uid_t)json_int(record, "uid", 0);
    /* Of an older configuration's range, or what has ended since gave it back and another has it
     * now: not ours to give back. */
    if (d->uid && !slots_take(&a->uids, d->uid))
        d->uid = 0;
    if (d->port && !d->port_given && !slots_take(&a->ports, d->port) && trace->recorded)
        d->port = 0;
    if (end && !d->last_exit)
        d->last_exit = json_incref(json_object_get(end, "exit"));
}

static void adopt_scratch(const struct dyno *d, const char *id)
{
    struct limits limits = {0};
    struct err e = ERR_INIT;

    if (dyno_limits(d, &limits, &e) < 0)
        return; /* a size that the configuration has no more */
    const struct scratch_quota quota = {limits.disk_bytes, limits.disk_inodes};
    if (scratch_adopt(d->agent->scratches, id, &quota, &e) < 0)
        log_warn("%s: %s", id, e.text);
}

int dyno_adopt(struct agent *a, const struct run_trace *trace, struct dyno **ret, struct err *e)
{
    const json_t *record = json_object_get(trace->record, "record");
    struct want want = {0};
    struct app nobody = {0};
    struct dyno *d = NULL;
    int r = dyno_name_of_record(record, &want.name, e);

    if (r < 0)
        return r;
    if (agent_find_dyno(a, &want.name))
        return err_say(e, EEXIST, "two traces of one dyno");
    want.app = &nobody;
    r = dyno_make(a, &want, &d, e);
    if (r < 0)
        return r;
    take_record(d, trace);
    if (trace->recorded) { /* it crashed, and waits for its restart; or it is over */
        d->state = d->oneoff ? DYNO_COMPLETE : DYNO_CRASHED;
        (void)snprintf(d->tomb, sizeof(d->tomb), "%s", trace->id);
    } else {
        d->state = DYNO_STARTING;
        d->adopted = true;
        d->held = a->forgetful;
        r = run_adopt(&a->env, trace, &want.name, &dyno_run_ops, d, &d->run, e);
        if (r < 0) {
            dyno_free(d);
            return r;
        }
        adopt_scratch(d, trace->id);
    }
    agent_dyno_changed(a, d);
    *ret = d;
    return 0;
}
