/* agent_queries.c - what clients may ask the agent; the JSON of docs/openapi.yaml. */
#include "core/host/claims.h"
#include "core/dyno.h"
#include "core/slugs/mirrors.h"
#include "core/host/network.h"
#include "core/slugs/prefetch.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of what each run has for itself: how many are somebody's. */
static json_t *in_use_json(const struct agent *a)
{
    return json_pack("{s:I,s:I,s:I}", "uids", (json_int_t)slots_taken(&a->uids), "networks",
                     (json_int_t)slots_taken(&a->nets), "ports",
                     (json_int_t)slots_taken(&a->ports));
}

json_t *agent_status(struct agent *a)
{
    const struct ending *ending;
    const struct dyno *d;
    int endings = 0, up = 0;

    LIST_FOREACH (ending, &a->endings, link)
        endings++;
    TAILQ_FOREACH (d, &a->dynos, link)
        up += d->state == DYNO_UP;
    return json_pack(
        "{s:s,s:i,s:I,s:b,s:i,s:i,s:i,s:i,s:{s:b,s:i},s:i,s:s,s:s,s:o,s:o,s:o,s:o}", "version",
        DYNOD_VERSION, "pid", (int)getpid(), "uptime_ms",
        (json_int_t)((clock_boot() - a->started_boot) / USEC_PER_MSEC), "rootless", a->rootless,
        "dynos", (int)a->n_dynos, "up", up, "endings", endings, "apps", (int)model_n_apps(a->model),
        "logs", "alive", logger_alive(a->logger), "restarts", (int)logger_restarts(a->logger),
        "fetches", (int)fetcher_running(a->fetcher), "cgroups", cgroup_tree_text(a->cgroups),
        "disk_quota", scratches_text(a->scratches), "spares", spares_json(&a->spares), "in_use",
        in_use_json(a), "instance", agent_instance(a), "link", agent_link(a));
}

static json_t *release_json(const struct release *rel)
{
    char created[CLOCK_TEXT_MAX];
    json_t *j =
        json_pack("{s:i,s:o,s:s?,s:b,s:s,s:s}", "version", (int)rel->version, "slug",
                  rel->url ? mirrors_json(rel->url) : json_null(), "dir", rel->dir, "resolved",
                  rel->resolved, "size", rel->size, "created", clock_text(rel->created, created));

    if (j && rel->has_digest)
        (void)json_object_set_new(j, "digest", json_sprintf("sha256:%s", rel->digest.hex));
    if (j && json_object_size(rel->stop_after) > 0)
        (void)json_object_set(j, "stop_after", rel->stop_after);
    return j;
}

/* Types that have none are shown, too. */
static json_t *formation_json(const struct app *app)
{
    struct err ignored = ERR_INIT; /* out of memory: the caller sees the NULL */
    json_t *formation = NULL;

    if (app_formation_json(app, &formation, &ignored) < 0)
        return NULL;
    for (size_t i = 0; i < app->n_types; i++)
        if (!json_object_get(formation, app->types[i].name))
            (void)json_object_set_new(formation, app->types[i].name, json_integer(0));
    return formation;
}

/* Config vars are never shown: whoever may see an app here need not see its secrets. */
static json_t *app_json(const struct agent *a, const struct app *app)
{
    const struct err *problem = prefetch_problem(a, app);
    json_t *types = json_array();

    for (size_t i = 0; i < app->n_types; i++) {
        const struct want_type *t = &app->types[i];

        (void)json_array_append_new(
            types, json_pack("{s:s,s:s?}", "name", t->name, "command", t->command));
    }
    json_t *release = app->release.version ? release_json(&app->release) : json_null();
    if (problem) /* the dynos that run are of the release before it */
        (void)json_object_set_new(
            release, "problem",
            json_pack("{s:s,s:s}", "text", problem->text, "fault", fault_name(problem->fault)));
    return json_pack("{s:s,s:o,s:o,s:o,s:b,s:b}", "name", app->name, "release", release,
                     "formation", formation_json(app), "types", types, "stopped", app->stopped,
                     "controlled", app->controlled);
}

json_t *agent_apps(struct agent *a)
{
    json_t *list = json_array();

    for (size_t i = 0; i < model_n_apps(a->model); i++)
        (void)json_array_append_new(list, app_json(a, model_app_at(a->model, i)));
    return list;
}

int agent_app(struct agent *a, const char *app, json_t **ret, struct err *e)
{
    const struct app *found = model_app(a->model, app);

    if (!found) {
        (void)err_say(e, ENOENT, "no app '%s' here: see `dyno ps`", app);
        return err_blame(e, FAULT_OPERATOR);
    }
    *ret = app_json(a, found);
    return *ret ? 0 : err_set(e, ENOMEM, "describe %s", app);
}

/* Zeros: no quota. */
static void add_disk(json_t *j, const struct dyno *d)
{
    struct scratch_usage u = {0};

    (void)dyno_disk(d, &u);
    json_t *more = json_pack("{s:I,s:I,s:I,s:I}", "disk", (json_int_t)u.bytes, "disk_quota",
                             (json_int_t)u.bytes_max, "inodes", (json_int_t)u.inodes,
                             "inodes_quota", (json_int_t)u.inodes_max);
    (void)json_object_update(j, more);
    json_decref(more);
}

/* What the kernel knows about a running one. */
static void add_usage(json_t *j, const struct dyno *d)
{
    struct cgroup_usage usage = {0};
    struct limits limits = {0};
    struct err ignored = ERR_INIT;

    if (dyno_limits(d, &limits, &ignored) < 0)
        limits = (struct limits){0};
    if (d->run)
        (void)run_usage(d->run, &usage, &ignored); /* zeros where there are no cgroups */
    double percent = cpu_meter_percent(&d->cpu, usage.cpu_usec,
                                       d->run ? run_started_boot(d->run) : 0, clock_boot());
    (void)json_object_update_new(
        j, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "memory", (json_int_t)usage.memory,
                     "memory_rss", (json_int_t)usage.memory_rss, "memory_cache",
                     (json_int_t)usage.memory_cache, "memory_swap", (json_int_t)usage.memory_swap,
                     "memory_kernel", (json_int_t)usage.memory_kernel, "memory_quota",
                     (json_int_t)limits.memory_quota, "memory_max", (json_int_t)limits.memory_max));
    (void)json_object_update_new(
        j, json_pack("{s:I,s:f,s:i,s:i,s:i,s:i,s:I,s:I}", "cpu_usec", (json_int_t)usage.cpu_usec,
                     "cpu_percent", (double)(int64_t)(percent * 10 + 0.5) / 10, "cpu_shares",
                     (int)limits.cpu_shares, "cpu_cap", (int)limits.cpu_percent, "io_weight",
                     (int)limits.io_weight, "open_files", (int)limits.open_files, "pids",
                     (json_int_t)usage.pids, "pids_max", (json_int_t)limits.pids));
    add_disk(j, d);
}

static json_t *dyno_json(const struct dyno *d)
{
    char name[DYNO_TEXT_MAX], since[CLOCK_TEXT_MAX];
    uint64_t now = clock_boot();
    json_t *j =
        json_pack("{s:s,s:s,s:s,s:i,s:s,s:i,s:i,s:i,s:s,s:I,s:s,s:s?,s:O?}", "app", d->name.app,
                  "dyno", dyno_name_short(&d->name, name), "type", d->name.type, "num",
                  (int)d->name.num, "state", dyno_state_name(d->state), "release", (int)d->release,
                  "pid", d->run ? (int)run_pid(d->run) : 0, "restarts", (int)d->restarts, "since",
                  clock_text(d->since_real, since), "uptime_ms",
                  (json_int_t)(d->run && run_started_boot(d->run)
                                   ? (now - run_started_boot(d->run)) / USEC_PER_MSEC
                                   : 0),
                  "size", d->size, "command", d->command, "last_exit", d->last_exit);

    if (!j)
        return NULL;
    (void)json_object_set_new(j, "up", json_boolean(d->state == DYNO_UP));
    (void)json_object_set_new(j, "run", d->run ? json_string(run_id(d->run)) : json_null());
    (void)json_object_set_new(
        j, "address", d->run && run_slot(d->run) ? json_string(run_address(d->run)) : json_null());
    (void)json_object_set_new(j, "port", d->port ? json_integer((json_int_t)d->port) : json_null());
    if (d->state == DYNO_CRASHED && d->restart_at)
        (void)json_object_set_new(
            j, "next_start_ms",
            json_integer(
                (json_int_t)(d->restart_at > now ? (d->restart_at - now) / USEC_PER_MSEC : 0)));
    add_usage(j, d);
    return j;
}

json_t *agent_dynos(struct agent *a, const char *app)
{
    json_t *list = json_array();
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (!app || !strcmp(d->name.app, app))
            (void)json_array_append_new(list, dyno_json(d));
    return list;
}

json_t *agent_top(struct agent *a, const char *app)
{
    return json_pack("{s:o,s:o}", "status", agent_status(a), "dynos", agent_dynos(a, app));
}

int agent_dyno(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    char name[DYNO_TEXT_MAX];
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (!strcmp(d->name.app, app) && !strcmp(dyno_name_short(&d->name, name), dyno)) {
            *ret = dyno_json(d);
            return *ret ? 0 : err_set(e, ENOMEM, "describe a dyno");
        }
    (void)err_say(e, ENOENT, "no dyno '%s' of '%s' here: see `dyno ps`", dyno, app);
    return err_blame(e, FAULT_OPERATOR);
}

static void doctor_add(json_t *list, const char *name, bool found, bool required,
                       const char *detail)
{
    (void)json_array_append_new(list, json_pack("{s:s,s:b,s:b,s:s}", "name", name, "found", found,
                                                "required", required, "detail", detail));
}

/* What only the agent that runs knows: what it has made, and what became of it. */
static void doctor_own(struct agent *a, json_t *list)
{
    char text[ERR_TEXT_MAX];

    if (a->claims_fd >= 0) {
        const struct claims claims = agent_claims(a);
        struct err why = ERR_INIT;
        bool found = claims_check(&claims, &why) == 0;

        (void)snprintf(text, sizeof(text),
                       "uids %u-%u, ports %u-%u: no other agent of this machine has a part of them",
                       claims.uid_first, claims.uid_last, claims.port_first, claims.port_last);
        doctor_add(list, "ranges", found, true, found ? text : why.text);
    }
    if (strcmp(a->config.stack, "host") != 0)
        doctor_add(list, "stack", true, false, sandbox_stack_text(a->sandbox));
    else
        doctor_add(list, "stack", true, false,
                   "host: dynos see the /usr of this machine, and its page cache");
    if (a->net) {
        bool found = network_rules_text(a, text);

        doctor_add(list, "network rules", found, true, text);
    }
}

json_t *agent_doctor(struct agent *a)
{
    scoped_free struct probe *probes = NULL;
    struct err e = ERR_INIT;
    json_t *list = json_array();
    size_t n = 0;

    if (sandbox_probe(a->rootless, &probes, &n, &e) < 0)
        (void)json_array_append_new(list, json_pack("{s:s,s:b,s:b,s:s}", "name", "probe", "found",
                                                    0, "required", 1, "detail", e.text));
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(probes[i].name, "disk quotas")) { /* what this agent does, not what one could */
            probes[i].found = scratches_way(a->scratches) != SCRATCH_PLAIN;
            (void)snprintf(probes[i].detail, sizeof(probes[i].detail), "%.190s",
                           scratches_text(a->scratches));
        }
        (void)json_array_append_new(
            list, json_pack("{s:s,s:b,s:b,s:s}", "name", probes[i].name, "found", probes[i].found,
                            "required", probes[i].required, "detail", probes[i].detail));
    }
    doctor_own(a, list);
    return list;
}

json_t *agent_events(struct agent *a, uint64_t after_id, size_t max)
{
    return events_list(a->events, after_id, max);
}

int agent_watch_events(struct agent *a, event_fn fn, void *userdata, struct event_watch **ret,
                       struct err *e)
{
    return events_watch(a->events, fn, userdata, ret, e);
}

void agent_unwatch_events(struct event_watch *w)
{
    events_unwatch(w);
}
