/* agent.c - acting on the difference between what is wanted and what is. */
#include "core/agent_open.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "core/control/link.h"
#include "core/slugs/prefetch.h"
#include "core/policy/reconcile.h"
#include "slug/procfile.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sd_event *agent_loop(struct agent *a)
{
    return a->loop;
}

const struct config *agent_config(const struct agent *a)
{
    return &a->config;
}

/* --- Finding --- */

struct dyno *agent_find_dyno(struct agent *a, const struct dyno_name *name)
{
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->name.num == name->num && !strcmp(d->name.type, name->type) &&
            !strcmp(d->name.app, name->app))
            return d;
    return NULL;
}

void agent_event(struct agent *a, const char *kind, const struct dyno_name *dyno, json_t *fields)
{
    json_t *event = fields ? fields : json_object();
    char name[DYNO_TEXT_MAX];

    (void)json_object_set_new(event, "kind", json_string(kind));
    if (dyno) {
        (void)json_object_set_new(event, "app", json_string(dyno->app));
        (void)json_object_set_new(event, "dyno", json_string(dyno_name_short(dyno, name)));
    }
    events_emit(a->events, event);
}

/* --- Reconciling --- */

/* A one-off whose client went before it could start: nobody would see it run. */
static bool orphaned(const struct want *w)
{
    return w->oneoff && w->oneoff->attached;
}

static void start_wanted(struct agent *a, const struct want *w)
{
    assert(w); /* an action without a dyno is a start */
    struct dyno *d;
    struct err e = ERR_INIT;

    if (a->shutting_down)
        return;
    if (orphaned(w)) {
        json_t *entry =
            json_pack("{s:s,s:s,s:i}", "op", "ran", "app", w->name.app, "num", (int)w->name.num);

        (void)agent_change(a, entry, NULL, &e); /* it would be tried again at the next pass */
        json_decref(entry);
        return;
    }
    int r = dyno_new(a, w, &d, &e);
    if (r == 0) {
        dyno_event(d, DEV_START);
        return;
    }
    if (r != -ENOSPC || !a->full) /* once: each end of another one brings a new pass */
        log_err("%s/%s.%u: %s", w->name.app, w->name.type, w->name.num, e.text);
    a->full = a->full || r == -ENOSPC;
}

/* The dynos as reconcile() wants them; HAVES[i] is DYNOS[i]. */
static size_t list_dynos(struct agent *a, struct have *haves, struct dyno **dynos)
{
    struct dyno *d;
    size_t n = 0;

    TAILQ_FOREACH (d, &a->dynos, link) {
        haves[n] = (struct have){.name = d->name,
                                 .generation = d->generation,
                                 .stopping = dyno_state_ending(d->state),
                                 .idle = !dyno_running(d)};
        dynos[n++] = d;
    }
    return n;
}

static int on_contact_lost(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    agent_reconcile_soon(userdata);
    return 0;
}

/* Some may not run twice anywhere, so not here either while no controller is heard of. */
static size_t heed_contact(struct agent *a, struct want *wants, size_t n)
{
    uint64_t next = USEC_NEVER;
    size_t left =
        wants_in_contact(wants, n, link_now(a, clock_boot()), agent_last_contact(a), &next);

    if (n - left > a->withheld)
        log_warn("no word from a controller: %zu dynos are stopped for that (stop_after)",
                 n - left);
    a->withheld = n - left;
    (void)timer_set(a->loop, &a->contact_lost, "contact-lost", next, on_contact_lost, a);
    return left;
}

static int wanted_now(struct agent *a, struct want **ret, size_t *ret_n, struct err *e)
{
    if (a->shutting_down || drain_terminating(a)) {
        *ret_n = 0;
        return 0;
    }
    int r = model_wants(a->model, ret, ret_n, e);
    if (r == 0)
        *ret_n = heed_contact(a, *ret, *ret_n);
    return r;
}

/* W: the dyno that is wanted, D: the one there is; one of them may be NULL. */
static void act(struct agent *a, const struct want *w, struct dyno *d, bool stopping)
{
    if (!d)
        start_wanted(a, w);
    else if (d->held && dyno_running(d))
        return;
    else if (w && w->type && !w->type->command && dyno_running(d))
        prefetch_release(a, w->app); /* the old one runs until the new one can */
    else if (!stopping)
        dyno_event(d, DEV_STOP); /* a replaced one's end frees its place and asks for a pass */
}

static int reconcile_now(struct agent *a, struct err *e)
{
    scoped_free struct want *wants = NULL;
    scoped_free struct have *haves = calloc(a->n_dynos + 1, sizeof(*haves));
    scoped_free struct dyno **dynos = calloc(a->n_dynos + 1, sizeof(struct dyno *));
    scoped_free struct action *actions = NULL;
    size_t n_wants = 0, n_actions = 0;

    if (!haves || !dynos)
        return err_set(e, ENOMEM, "reconcile");
    size_t n_haves = list_dynos(a, haves, dynos);
    int r = wanted_now(a, &wants, &n_wants, e);
    if (r == 0)
        r = reconcile(wants, n_wants, haves, n_haves, model_drain_state(a->model)->on, &actions,
                      &n_actions, e);
    if (a->n_dynos < a->config.dynos_max)
        a->full = false;
    for (size_t i = 0; r == 0 && i < n_actions; i++) {
        size_t have = actions[i].have;

        act(a, actions[i].want != SIZE_MAX ? &wants[actions[i].want] : NULL,
            have != SIZE_MAX ? dynos[have] : NULL, have != SIZE_MAX && haves[have].stopping);
    }
    drain_check_empty(a);
    spares_review(&a->spares);
    /* An instance that is being emptied starts nothing. */
    spares_want(&a->spares,
                a->shutting_down || model_drain_state(a->model)->on ? 0 : a->config.spares);
    return r;
}

static int on_reconcile(sd_event_source *s, void *userdata)
{
    struct agent *a = userdata;
    struct err e = ERR_INIT;

    (void)s;
    if (reconcile_now(a, &e) < 0)
        log_err("reconcile: %s", e.text);
    return 0;
}

void agent_reconcile_soon(struct agent *a)
{
    int r =
        a->reconcile_soon ? 0 : sd_event_add_defer(a->loop, &a->reconcile_soon, on_reconcile, a);

    if (r >= 0)
        r = sd_event_source_set_enabled(a->reconcile_soon, SD_EVENT_ONESHOT);
    if (r < 0)
        log_err("reconcile: no memory");
}

bool agent_release_held(struct agent *a, const char *app)
{
    struct dyno *d;
    bool any = false;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->held && !strcmp(d->name.app, app)) {
            d->held = false;
            if (d->run)
                run_unhold(d->run);
            any = true;
        }
    return any;
}

int agent_change(struct agent *a, const json_t *entry, json_t **ret_entry, struct err *e)
{
    int r = journal_apply(a->journal, entry, ret_entry, e);

    if (r < 0)
        return r;
    if (a->forgetful && strcmp(json_str(entry, "op", ""), "ran") != 0)
        (void)agent_release_held(a, json_str(entry, "app", ""));
    agent_reconcile_soon(a);
    return 0;
}

/* Through slug_meta_types(): what dynod-fetch said is a stranger's word until it is checked. */
static int types_json(const json_t *meta, json_t **ret, struct err *e)
{
    scoped(procfile_done) struct procfile p = {0};
    int r = slug_meta_types(meta, &p, e);

    if (r < 0)
        return r;
    json_t *list = json_array();
    for (size_t i = 0; i < p.n_types; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s,s:s,s:b}", "name", p.types[i].name, "command", p.types[i].command,
                            "from_release_file", p.types[i].from_release_file));
    if (json_array_size(list) != p.n_types) {
        json_decref(list);
        return err_say(e, EBADMSG, "the slug's process types are not UTF-8");
    }
    *ret = list;
    return 0;
}

int agent_resolve(struct agent *a, const struct app *app, const struct digest *digest,
                  const json_t *meta, struct err *e)
{
    scoped(json_freep) json_t *types = NULL;
    scoped(json_freep) json_t *entry = NULL;
    scoped(json_freep) json_t *done = NULL;
    char name[APP_NAME_MAX + 1];
    json_t *type;
    size_t i;
    int r = types_json(meta, &types, e);

    if (r < 0)
        return r;
    (void)snprintf(name, sizeof(name), "%s", app->name); /* the change may replace APP */
    entry = json_pack("{s:s,s:s,s:i,s:s,s:O}", "op", "resolve", "app", name, "version",
                      (int)app->release.version, "digest", digest->hex, "types", types);
    r = entry ? agent_change(a, entry, &done, e) : err_set(e, ENOMEM, "resolve a release");
    if (r < 0)
        return r;
    json_array_foreach (json_object_get(done, "unknown_types"), i, type)
        log_warn("%s: its slug has no process type '%s'", name, json_string_value(type));
    return 0;
}

/* --- Sampling --- */

static int on_sample(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct agent *a = userdata;
    struct dyno *d;
    bool any = false;

    (void)s;
    (void)usec;
    TAILQ_FOREACH (d, &a->dynos, link) {
        dyno_sample(d);
        any = any || dyno_running(d);
    }
    if (any)
        (void)timer_set(a->loop, &a->sample, "sample", clock_boot() + a->config.sample_interval,
                        on_sample, a);
    return 0;
}

void agent_sample_soon(struct agent *a)
{
    int enabled = 0;

    if (a->sample)
        (void)sd_event_source_get_enabled(a->sample, &enabled);
    if (!enabled)
        (void)timer_set(a->loop, &a->sample, "sample", clock_boot() + a->config.sample_interval,
                        on_sample, a);
}

/* --- Shutting down --- */

static int on_drained(sd_event_source *s, void *userdata)
{
    struct agent *a = userdata;

    (void)s;
    return sd_event_exit(a->loop, 0);
}

void agent_check_drained(struct agent *a)
{
    if (a->shutting_down && TAILQ_EMPTY(&a->dynos) && LIST_EMPTY(&a->endings) && !a->drained)
        (void)sd_event_add_defer(a->loop, &a->drained, on_drained, a);
}

void agent_shutdown(struct agent *a)
{
    a->shutting_down = true;
    agent_reconcile_soon(a);
    agent_check_drained(a);
}

int agent_logs(struct agent *a, const json_t *query, int fd, struct err *e)
{
    return logger_query(a->logger, query, fd, e);
}
