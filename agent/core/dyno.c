/* dyno.c - one dyno: made, told of, and what its state machine asks for. */
#include "core/dyno.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/dyno_priv.h"
#include "core/slugs/slugs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OVER_PAUSE  USEC_PER_SEC /* the disk is full: to the next try */
#define DRAIN_PAUSE USEC_PER_SEC
#define ROOM_PAUSE  (5 * USEC_PER_MSEC) /* to the next look whether there is room now */

/* --- Making and freeing --- */

int dyno_make(struct agent *a, const struct want *want, struct dyno **ret, struct err *e)
{
    struct dyno *d = calloc(1, sizeof(*d));

    if (!d)
        return err_set(e, ENOMEM, "make a dyno");
    *d = (struct dyno){.agent = a,
                       .name = want->name,
                       .generation = want->generation,
                       .oneoff = want->oneoff != NULL,
                       .release = want->app->release.version,
                       .userns_fd = -1,
                       .diag_fd = -1,
                       .since_real = clock_real(),
                       .since_boot = clock_boot()};
    TAILQ_INSERT_TAIL(&a->dynos, d, link);
    a->n_dynos++;
    *ret = d;
    return 0;
}

int dyno_new(struct agent *a, const struct want *want, struct dyno **ret, struct err *e)
{
    if (a->n_dynos >= a->config.dynos_max)
        return err_say(e, ENOSPC, "the instance runs its limit of %u dynos (dynos_max)",
                       a->config.dynos_max);
    return dyno_make(a, want, ret, e);
}

void dyno_free(struct dyno *d)
{
    struct agent *a = d->agent;

    TAILQ_REMOVE(&a->dynos, d, link);
    a->n_dynos--;
    fetcher_drop(d->fetch);
    starts_drop(&a->starts, d);
    sd_event_source_disable_unref(d->deadline);
    sd_event_source_disable_unref(d->poll);
    sd_event_source_disable_unref(d->start);
    run_freep(&d->run); /* only when the agent itself goes: it runs on */
    agent_drop_tomb(a, d->tomb);
    fd_closep(&d->userns_fd);
    fd_closep(&d->diag_fd);
    if (d->uid)
        ids_put(&a->ids, d->uid);
    if (d->port && !d->port_given)
        slots_put(&a->ports, d->port);
    attach_ended(d->attach, 1, NULL);
    json_decref(d->last_exit);
    free(d->command);
    free(d);
    agent_check_drained(a);
}

/* It is there no more, and not because the agent goes. */
static void dyno_gone(struct dyno *d)
{
    struct agent *a = d->agent;
    struct dyno_name name = d->name;

    dyno_free(d);
    agent_dyno_gone(a, &name);
}

bool dyno_running(const struct dyno *d)
{
    return d->run != NULL;
}

/* --- Telling --- */

static void tell_state(struct dyno *d, enum dyno_state from, enum dyno_state to)
{
    const char *a = dyno_state_name(from), *b = dyno_state_name(to);

    if (!strcmp(a, b))
        return;
    d->since_real = clock_real();
    d->since_boot = clock_boot();
    agent_event(d->agent, "state", &d->name,
                json_pack("{s:s,s:s,s:i,s:i}", "from", a, "to", b, "release", (int)d->release,
                          "port", (int)d->port));
    agent_dyno_changed(d->agent, d);
    /* The platform's log tells these changes only. */
    if (to == DYNO_UP || to == DYNO_PAUSED || to == DYNO_CRASHED || to == DYNO_COMPLETE ||
        (to == DYNO_DOWN && from != DYNO_CRASHED && from != DYNO_PROVISIONING))
        dyno_line(d, "State changed from %s to %s",
                  dyno_state_ending(from) || from == DYNO_CRASHING ? "up" : a, b);
}

/* --- Deadlines --- */

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    dyno_event(userdata, DEV_DEADLINE);
    return 0;
}

void dyno_set_deadline(struct dyno *d, uint64_t at_boot)
{
    if (timer_set(d->agent->loop, &d->deadline, "dyno-deadline", at_boot, on_deadline, d) < 0)
        log_err("%s/%s.%u: no memory for a timer", d->name.app, d->name.type, d->name.num);
}

void dyno_retry_soon(struct dyno *d)
{
    dyno_set_deadline(d, 0);
}

static int on_start(sd_event_source *s, void *userdata)
{
    (void)s;
    dyno_event(userdata, DEV_START);
    return 0;
}

void dyno_start_soon(struct dyno *d)
{
    /* Born switched on, for once. */
    if (!d->start && sd_event_add_defer(d->agent->loop, &d->start, on_start, d) < 0)
        log_err("%s/%s.%u: no memory to start it", d->name.app, d->name.type, d->name.num);
}

bool dyno_is_web(const struct dyno *d)
{
    return !strcmp(d->name.type, "web") && d->port != 0;
}

/* --- Actions --- */

/* While the instance is emptied nothing comes back: the reconciler takes it off. */
static bool is_draining(const struct dyno *d)
{
    return model_drain_state(d->agent->model)->on;
}

static void clear_facts(struct dyno *d)
{
    d->told_to_stop = d->boot_timeout = d->exit_timeout = d->oom = false;
    d->attach_failed = d->detached = d->machine_oom = d->over = false;
    d->adopted = d->no_retry = false;
    d->cpu = (struct cpu_meter){0};
    d->failed = (struct err)ERR_INIT;
}

static void oneoff_over(struct dyno *d)
{
    json_t *entry =
        json_pack("{s:s,s:s,s:i}", "op", "ran", "app", d->name.app, "num", (int)d->name.num);
    struct err e = ERR_INIT;

    int r = entry ? agent_change(d->agent, entry, NULL, &e) : err_set(&e, ENOMEM, "end a one-off");
    json_decref(entry);
    if (r < 0 && r != -ENOENT) { /* ENOENT: stopped, off the books */
        log_warn("run.%u of %s: %s", d->name.num, d->name.app, e.text);
        if (!d->agent
                 ->shutting_down) { /* as long as it is wanted it must be there, or it runs again */
            d->state = DYNO_COMPLETE;
            dyno_set_deadline(d, clock_boot() + OVER_PAUSE);
            agent_dyno_changed(d->agent, d);
            return;
        }
    }
    dyno_gone(d);
}

static void act_crash(struct dyno *d, enum dyno_state from)
{
    if (!d->oneoff)
        dyno_plan_restart(d, from == DYNO_UP || from == DYNO_CRASHING);
    if (is_draining(d))
        agent_reconcile_soon(d->agent);
    dyno_record_end(d);
    dyno_let_run_go(d);
    if (d->oneoff)
        d->state = DYNO_COMPLETE;
    tell_state(d, from, d->state);
    if (d->oneoff)
        oneoff_over(d);
}

static void act_end(struct dyno *d, enum dyno_state from)
{
    dyno_record_end(d);
    dyno_let_run_go(d);
    tell_state(d, from, DYNO_DOWN);
    agent_reconcile_soon(d->agent); /* it may be wanted again already */
    if (d->oneoff)
        oneoff_over(d);
    else
        dyno_gone(d);
}

static void act_forget(struct dyno *d, enum dyno_state from)
{
    tell_state(d, from, DYNO_DOWN);
    agent_reconcile_soon(d->agent);
    if (d->oneoff)
        oneoff_over(d);
    else
        dyno_gone(d);
}

static void on_fetched(void *userdata, const struct fetch_result *result)
{
    struct dyno *d = userdata;
    const struct app *app = model_app(d->agent->model, d->name.app);

    d->fetch = NULL;
    if (result->why)
        d->failed = *result->why;
    else if (app && app->release.version == d->release && !app->release.resolved)
        (void)agent_resolve(d->agent, app, result->digest, result->meta, &d->failed);
    if (result->why && !strcmp(json_str(result->detail, "step", ""), "digest")) {
        (void)err_say(&d->failed, result->why->errnum, "Error R17 (Checksum error) -> %s",
                      result->why->text);
        d->failed.fault = result->why->fault;
        d->no_retry = true;
    }
    if (d->failed.errnum)
        dyno_event(d, DEV_SLUG_FAILED);
    else
        starts_add(&d->agent->starts, d);
}

/* The slug is here already, or will be. */
static void act_provision(struct dyno *d)
{
    struct agent *a = d->agent;
    const struct app *app = model_app(a->model, d->name.app);
    scoped(json_freep) json_t *meta = NULL;
    struct err e = ERR_INIT;
    int app_fd, r = 0;

    clear_facts(d);
    d->since_real = clock_real();
    d->since_boot = clock_boot();
    if (!app) { /* forgotten meanwhile: the reconciler will stop this dyno */
        agent_reconcile_soon(a);
        return;
    }
    const struct release *rel = &app->release;
    d->release = rel->version;
    if (rel->dir) {
        starts_add(&a->starts, d);
        return;
    }
    bool cached = rel->has_digest && slugs_app(a->slugs, &rel->digest, &app_fd, &e) == 0;
    if (cached && rel->resolved) {
        starts_add(&a->starts, d);
        return;
    }
    if (cached && cache_meta(a->cache, &rel->digest, &meta, &e) == 0) {
        if (!rel->resolved)
            r = agent_resolve(a, app, &rel->digest, meta, &d->failed);
        if (r < 0)
            dyno_event(d, DEV_SLUG_FAILED);
        else
            starts_add(&a->starts, d);
        return;
    }
    r = fetcher_get(a->fetcher, rel->url, rel->has_digest ? &rel->digest : NULL, on_fetched, d,
                    &d->fetch, &d->failed);
    if (r < 0)
        dyno_event(d, DEV_SLUG_FAILED);
    else
        agent_dyno_changed(a, d);
}

void dyno_provisioned(struct dyno *d)
{
    const struct app *app = model_app(d->agent->model, d->name.app);

    if (app && app->release.version == d->release)
        dyno_event(d, DEV_SLUG_READY);
    else /* there is another release since */
        act_provision(d);
}

static int on_room(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct dyno *d = userdata;

    (void)s;
    (void)usec;
    if (d->state == DYNO_PROVISIONING)
        starts_add(&d->agent->starts, d);
    return 0;
}

static void act_spawn(struct dyno *d)
{
    struct err e = ERR_INIT;

    /* What one way could not do, another may have: only a failure leaves an error behind. */
    int r = dyno_spawn(d, &e);
    if (r == DYNO_SPAWN_LATER && timer_set(d->agent->loop, &d->poll, "dyno-room",
                                           clock_boot() + ROOM_PAUSE, on_room, d) >= 0) {
        d->state = DYNO_PROVISIONING;
        return;
    }
    if (r != 0) {
        d->failed = e;
        dyno_event(d, DEV_SPAWN_FAILED);
        return;
    }
    tell_state(d, DYNO_PROVISIONING, DYNO_STARTING);
    dyno_line(d, "Starting process with command `%s`", d->command);
    dyno_set_deadline(d, clock_boot() + d->agent->config.launch_timeout);
    agent_sample_soon(d->agent);
}

static void act_up(struct dyno *d)
{
    dyno_set_deadline(d, USEC_NEVER);
    fd_closep(&d->diag_fd);
    if (d->adopted)
        agent_dyno_changed(d->agent, d);
    else
        tell_state(d, DYNO_STARTING, DYNO_UP);
}

static void act_pause(struct dyno *d, enum dyno_state from)
{
    dyno_set_deadline(d, USEC_NEVER);
    if (d->adopted)
        agent_dyno_changed(d->agent, d);
    else
        tell_state(d, from, DYNO_PAUSED);
}

static void act_resume(struct dyno *d, enum dyno_state from)
{
    d->adopted = false;
    tell_state(d, from, DYNO_UP);
}

/* Routers go by what we report, and hear of it later than we know it. One that was adopted may be
 * in a route before we know that it is up; one that has got its SIGTERM is in none. */
static bool is_routed(const struct dyno *d)
{
    bool up = d->state == DYNO_UP ||
              (d->state == DYNO_STARTING && d->adopted && !run_told_to_stop(d->run));

    return up && dyno_is_web(d) && d->agent->config.route_drain > 0 && agent_routed(d->agent);
}

static void act_leave(struct dyno *d, enum dyno_state from)
{
    d->told_to_stop = true;
    tell_state(d, from, DYNO_LEAVING);
    dyno_set_deadline(d, clock_boot() + d->agent->config.route_drain);
}

static void act_term(struct dyno *d, enum dyno_state from)
{
    d->told_to_stop = true;
    tell_state(d, from, DYNO_STOPPING);
    dyno_line(d, "Stopping all processes with SIGTERM");
    run_stop(d->run, SIGTERM);
    dyno_set_deadline(d, clock_boot() + d->agent->config.stop_grace);
}

static void act_kill(struct dyno *d, enum dyno_state from, enum dyno_act act)
{
    const struct config *c = &d->agent->config;

    dyno_set_deadline(d, USEC_NEVER);
    if (act == ACT_KILL_R12) {
        d->exit_timeout = true;
        dyno_line(d,
                  "Error R12 (Exit timeout) -> Process failed to exit within %u seconds of SIGTERM",
                  (unsigned)(c->stop_grace / USEC_PER_SEC));
    } else if (act == ACT_KILL_R15) {
        d->oom = d->over || !d->machine_oom;
        if (d->oom)
            dyno_line(d, R15_LINE);
    } else if (!run_started(d->run)) {
        (void)err_say(&d->failed, ETIMEDOUT,
                      "Error R99 (Platform error) -> Failed to launch the dyno within %u seconds",
                      (unsigned)(c->launch_timeout / USEC_PER_SEC));
    } else {
        d->boot_timeout = true;
        dyno_line(
            d,
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within %u seconds of launch",
            (unsigned)(c->boot_timeout / USEC_PER_SEC));
    }
    dyno_line(d, "Stopping process with SIGKILL");
    tell_state(d, from, d->state);
    run_kill(d->run);
}

static void act_retry(struct dyno *d)
{
    if (is_draining(d)) { /* or that is over before the reconciler has looked */
        d->state = DYNO_CRASHED;
        dyno_set_deadline(d, clock_boot() + DRAIN_PAUSE);
        agent_reconcile_soon(d->agent);
        return;
    }
    d->restart_at = 0;
    d->restarts++;
    act_provision(d);
}

void dyno_event(struct dyno *d, enum dyno_event event)
{
    enum dyno_state from = d->state;

    if (event == DEV_STOP && is_routed(d))
        event = DEV_LEAVE;
    struct dyno_step step = dyno_fsm(from, event);

    d->state = step.next;
    switch (step.act) {
    case ACT_NONE:
        if (event == DEV_STOP)
            d->told_to_stop = true;
        break;
    case ACT_PROVISION:
        act_provision(d);
        break;
    case ACT_SPAWN:
        act_spawn(d);
        break;
    case ACT_ANNOUNCE_UP:
        act_up(d);
        break;
    case ACT_PAUSE:
        act_pause(d, from);
        break;
    case ACT_RESUME:
        act_resume(d, from);
        break;
    case ACT_LEAVE:
        act_leave(d, from);
        break;
    case ACT_TERM:
        act_term(d, from);
        break;
    case ACT_KILL_R10:
    case ACT_KILL_R12:
    case ACT_KILL_R15:
        act_kill(d, from, step.act);
        break;
    case ACT_CRASH:
        act_crash(d, from);
        break;
    case ACT_END:
        act_end(d, from);
        break;
    case ACT_RETRY:
        act_retry(d);
        break;
    case ACT_FORGET:
        act_forget(d, from);
        break;
    case ACT_OVER:
        oneoff_over(d);
        break;
    }
}
