#include "core/dyno.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/network.h"
#include "core/slugs.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OVER_PAUSE       USEC_PER_SEC /* the disk is full: to the next try */
#define DRAIN_PAUSE      USEC_PER_SEC
#define READY_POLL_FIRST (2 * USEC_PER_MSEC)
#define READY_POLL_MAX   (100 * USEC_PER_MSEC)
#define R15_LINE         "Error R15 (Memory quota vastly exceeded)"
#define THOROUGH_EVERY   8 /* of the polls: look at listeners on any address */

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
    sd_event_source_disable_unref(d->deadline);
    sd_event_source_disable_unref(d->poll);
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

#define dyno_line(d, ...)                                                                          \
    do {                                                                                           \
        char line_name_[DYNO_TEXT_MAX];                                                            \
        logger_line((d)->agent->logger, dyno_name_text(&(d)->name, line_name_), __VA_ARGS__);      \
    } while (0)

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

/* --- Deadlines and readiness --- */

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    dyno_event(userdata, DEV_DEADLINE);
    return 0;
}

static void set_deadline(struct dyno *d, uint64_t at_boot)
{
    if (timer_set(d->agent->loop, &d->deadline, "dyno-deadline", at_boot, on_deadline, d) < 0)
        log_err("%s/%s.%u: no memory for a timer", d->name.app, d->name.type, d->name.num);
}

void dyno_retry_soon(struct dyno *d)
{
    set_deadline(d, 0);
}

static int on_start(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    dyno_event(userdata, DEV_START);
    return 0;
}

void dyno_start_soon(struct dyno *d)
{
    if (timer_set(d->agent->loop, &d->poll, "dyno-start", 0, on_start, d) < 0)
        log_err("%s/%s.%u: no memory for a timer", d->name.app, d->name.type, d->name.num);
}

static bool is_web(const struct dyno *d)
{
    return !strcmp(d->name.type, "web") && d->port != 0;
}

static int on_poll(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct dyno *d = userdata;
    uint64_t pause = READY_POLL_FIRST << (d->polls < 6 ? d->polls : 6);

    (void)s;
    (void)usec;
    if (d->state != DYNO_STARTING)
        return 0;
    if (network_listened(d, d->polls % THOROUGH_EVERY == 7)) {
        dyno_event(d, DEV_READY);
        return 0;
    }
    d->polls++;
    (void)timer_set(d->agent->loop, &d->poll, "dyno-ready",
                    clock_boot() + (pause < READY_POLL_MAX ? pause : READY_POLL_MAX), on_poll, d);
    return 0;
}

/* --- The end --- */

static void gather_facts(struct dyno *d, struct end_facts *ret)
{
    *ret = (struct end_facts){.told_to_stop = d->told_to_stop,
                              .boot_timeout = d->boot_timeout,
                              .exit_timeout = d->exit_timeout,
                              .attach_failed = d->attach_failed,
                              .detached = d->detached,
                              .oneoff = d->oneoff,
                              .failed = d->failed.errnum ? &d->failed : NULL};
    if (d->run) {
        struct cgroup_usage usage = {0};
        struct err ignored = ERR_INIT;

        ret->started = run_started(d->run);
        ret->status_known = run_status(d->run, &ret->status, &ret->start_errno);
        if (run_usage(d->run, &usage, &ignored) == 0) {
            ret->oom_kills = usage.oom_kills;
            ret->oom_own = usage.oom_own;
        }
    }
}

/* The run's own record of its end, the event, the platform's log lines. */
static void record_end(struct dyno *d)
{
    struct end_facts facts;
    struct end_cause cause;
    struct err e = ERR_INIT;

    gather_facts(d, &facts);
    end_classify(&facts, &cause);
    json_t *evidence = json_pack("{s:b}", "started", facts.started);
    if (facts.status_known)
        (void)json_object_set_new(evidence, "wait_status", json_integer(facts.status));
    if (cause.exit_status >= 0)
        (void)json_object_set_new(evidence, "exit_status", json_integer(cause.exit_status));
    if (facts.oom_kills)
        (void)json_object_update_new(evidence, json_pack("{s:I,s:b}", "oom_kills",
                                                         (json_int_t)facts.oom_kills, "oom_own",
                                                         facts.oom_own));
    if (facts.failed)
        (void)json_object_set_new(evidence, "error", json_string(facts.failed->text));
    json_decref(d->last_exit);
    d->last_exit =
        json_pack("{s:s,s:s,s:s,s:i,s:I,s:o}", "cause", cause.name, "fault",
                  fault_name(cause.fault), "text", cause.text, "status", cause.exit_status, "at",
                  (json_int_t)clock_real(), "evidence", evidence);
    if (facts.oom_kills && facts.oom_own &&
        !d->oom) /* the kernel was faster than our hearing of it */
        dyno_line(d, R15_LINE);
    if (d->run && (facts.started || facts.status_known))
        dyno_line(d, "Process exited with status %d", cause.exit_status);
    if (facts.failed)
        dyno_line(d, "%s", facts.failed->text);
    json_t *fields = json_pack("{s:s,s:s,s:s,s:i,s:O,s:i,s:s}", "cause", cause.name, "fault",
                               fault_name(cause.fault), "text", cause.text, "status",
                               cause.exit_status, "evidence", evidence, "release", (int)d->release,
                               "run", d->run ? run_id(d->run) : "");
    /* In this order, and before anything else happens in the loop: who dies after the first tells
     * it again, under the same id; who dies after the second tells it no more. */
    agent_dyno_exited(d->agent, d, d->run ? run_id(d->run) : "", fields);
    agent_event(d->agent, "exit", &d->name, fields);
    if (d->run) {
        json_t *end = json_pack("{s:O,s:i,s:i}", "exit", d->last_exit, "crashes",
                                (int)d->crashes.crashes, "restarts", (int)d->restarts);

        if (run_record_end(d->run, end, &e) < 0)
            log_warn("%s", e.text);
        json_decref(end);
    }
    attach_ended(TAKE_PTR(d->attach),
                 facts.failed ? (facts.failed->errnum == ENOENT ? 127 : 126)
                              : (cause.exit_status >= 0 ? cause.exit_status : 1),
                 facts.failed);
}

/* The run is over for this dyno: it cleans up by itself. */
static void let_run_go(struct dyno *d)
{
    if (!d->run)
        return;
    network_unpublish(d);
    attach_run_over(d->run);
    char old[RUN_ID_MAX];
    memcpy(old, d->tomb, sizeof(old));
    (void)snprintf(d->tomb, sizeof(d->tomb), "%s", run_id(d->run));
    agent_drop_tomb(d->agent, old);
    agent_adopt_ending(d->agent, TAKE_PTR(d->run));
}

static uint64_t time_up(const struct dyno *d)
{
    uint64_t from = d->run ? run_started_boot(d->run) : 0;

    return from ? clock_boot() - from : 0;
}

/* It ended by itself. Restarts are for what may go better the next time. */
static void plan_restart(struct dyno *d, uint64_t up_usec)
{
    struct agent *a = d->agent;
    const struct app *app = model_app(a->model, d->name.app);
    struct restart_policy policy = {a->config.restart_delay, a->config.restart_delay_max,
                                    a->config.restart_reset};
    bool hopeless = d->no_retry || (d->failed.errnum && d->failed.fault != FAULT_PLATFORM);

    d->restart_at = 0;
    if (hopeless || (app && !app->release.restart))
        return;
    uint64_t delay = restart_delay(&policy, &d->crashes, up_usec, random_u64());
    d->restart_at = clock_boot() + delay;
    set_deadline(d, d->restart_at);
}

/* While the instance is emptied nothing comes back: the reconciler takes it off. */
static bool is_draining(const struct dyno *d)
{
    return model_drain_state(d->agent->model)->on;
}

static void clear_facts(struct dyno *d)
{
    d->told_to_stop = d->boot_timeout = d->exit_timeout = d->oom = false;
    d->attach_failed = d->detached = d->machine_oom = false;
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
            set_deadline(d, clock_boot() + OVER_PAUSE);
            agent_dyno_changed(d->agent, d);
            return;
        }
    }
    dyno_gone(d);
}

/* --- Actions --- */

static void act_crash(struct dyno *d, enum dyno_state from)
{
    uint64_t up = from == DYNO_UP || from == DYNO_CRASHING ? time_up(d) : 0;

    if (!d->oneoff)
        plan_restart(d, up);
    if (is_draining(d))
        agent_reconcile_soon(d->agent);
    record_end(d);
    let_run_go(d);
    if (d->oneoff)
        d->state = DYNO_COMPLETE;
    tell_state(d, from, d->state);
    if (d->oneoff)
        oneoff_over(d);
}

static void act_end(struct dyno *d, enum dyno_state from)
{
    record_end(d);
    let_run_go(d);
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
    if (d->failed.errnum) {
        dyno_event(d, DEV_SLUG_FAILED);
    } else {
        dyno_event(d, DEV_SLUG_READY);
    }
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
        dyno_event(d, DEV_SLUG_READY);
        return;
    }
    bool cached = rel->has_digest && slugs_app(a->slugs, &rel->digest, &app_fd, &e) == 0;
    if (cached && rel->resolved) {
        dyno_event(d, DEV_SLUG_READY);
        return;
    }
    if (cached && cache_meta(a->cache, &rel->digest, &meta, &e) == 0) {
        if (!rel->resolved)
            r = agent_resolve(a, app, &rel->digest, meta, &d->failed);
        dyno_event(d, r < 0 ? DEV_SLUG_FAILED : DEV_SLUG_READY);
        return;
    }
    r = fetcher_get(a->fetcher, rel->url, rel->has_digest ? &rel->digest : NULL, on_fetched, d,
                    &d->fetch, &d->failed);
    if (r < 0)
        dyno_event(d, DEV_SLUG_FAILED);
    else
        agent_dyno_changed(a, d);
}

static void act_spawn(struct dyno *d)
{
    struct err e = ERR_INIT;

    /* What one way could not do, another may have: only a failure leaves an error behind. */
    if (dyno_spawn(d, &e) < 0) {
        d->failed = e;
        dyno_event(d, DEV_SPAWN_FAILED);
        return;
    }
    tell_state(d, DYNO_PROVISIONING, DYNO_STARTING);
    dyno_line(d, "Starting process with command `%s`", d->command);
    set_deadline(d, clock_boot() + d->agent->config.launch_timeout);
    agent_sample_soon(d->agent);
}

static void act_up(struct dyno *d)
{
    set_deadline(d, USEC_NEVER);
    fd_closep(&d->diag_fd);
    if (d->adopted)
        agent_dyno_changed(d->agent, d);
    else
        tell_state(d, DYNO_STARTING, DYNO_UP);
}

static void act_pause(struct dyno *d, enum dyno_state from)
{
    set_deadline(d, USEC_NEVER);
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

    return up && is_web(d) && d->agent->config.route_drain > 0 && agent_routed(d->agent);
}

static void act_leave(struct dyno *d, enum dyno_state from)
{
    d->told_to_stop = true;
    tell_state(d, from, DYNO_LEAVING);
    set_deadline(d, clock_boot() + d->agent->config.route_drain);
}

static void act_term(struct dyno *d, enum dyno_state from)
{
    d->told_to_stop = true;
    tell_state(d, from, DYNO_STOPPING);
    dyno_line(d, "Stopping all processes with SIGTERM");
    run_stop(d->run, SIGTERM);
    set_deadline(d, clock_boot() + d->agent->config.stop_grace);
}

static void act_kill(struct dyno *d, enum dyno_state from, enum dyno_act act)
{
    const struct config *c = &d->agent->config;

    set_deadline(d, USEC_NEVER);
    if (act == ACT_KILL_R12) {
        d->exit_timeout = true;
        dyno_line(d,
                  "Error R12 (Exit timeout) -> Process failed to exit within %u seconds of SIGTERM",
                  (unsigned)(c->stop_grace / USEC_PER_SEC));
    } else if (act == ACT_KILL_R15) {
        d->oom = !d->machine_oom;
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
        set_deadline(d, clock_boot() + DRAIN_PAUSE);
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

/* --- What its run says --- */

/* An agent died between the word and the deed, or was told while this one was not there. */
static void settle_size(struct dyno *d)
{
    struct err e = ERR_INIT;
    unsigned later;

    if (dyno_settle_size(d, &later, &e) < 0)
        log_warn("%s/%s.%u: %s", d->name.app, d->name.type, d->name.num, e.text);
}

static void run_has_started(void *owner, struct run *r, struct run_attach_fds *fds)
{
    struct dyno *d = owner;
    struct run_attach_fds none = {.fds = {-1, -1, -1}};

    attach_started(d->attach, fds ? fds : &none);
    if (d->adopted)
        settle_size(d);
    if (!d->agent->rootless)
        ids_refill(&d->agent->ids);
    spares_refill(&d->agent->spares);
    if (network_publish(d, &d->failed) < 0) { /* nobody would reach it: its end says why */
        run_kill(r);
        return;
    }
    if (d->state != DYNO_STARTING)
        return;
    if (run_paused(r)) {
        dyno_event(d, DEV_PAUSE);
        return;
    }
    if (!is_web(d)) {
        dyno_event(d, DEV_READY);
        return;
    }
    set_deadline(d, run_started_boot(r) + d->agent->config.boot_timeout);
    d->polls = 0;
    d->poll = sd_event_source_disable_unref(d->poll);
    (void)on_poll(NULL, 0, d);
}

static void run_has_failed(void *owner, struct run *r, const struct err *why)
{
    struct dyno *d = owner;

    (void)r;
    if (!d->failed.errnum)
        d->failed = *why;
    dyno_event(d, DEV_SPAWN_FAILED);
}

static void run_has_ended(void *owner, struct run *r)
{
    (void)r;
    dyno_event(owner, DEV_EXIT);
}

static void run_is_oom(void *owner, struct run *r)
{
    struct cgroup_usage usage = {.oom_own = true};
    struct err ignored = ERR_INIT;
    struct dyno *d = owner;

    (void)run_usage(r, &usage, &ignored);
    d->machine_oom = !usage.oom_own;
    dyno_event(d, DEV_OOM); /* half of an app is worse than none, whoever took the other half */
}

static void run_is_gone(void *owner, struct run *r)
{
    (void)owner;
    (void)r;
    assert(!"a run is let go before it is gone");
}

static void exec_has_started(void *owner, struct run *r, uint32_t token, struct run_attach_fds *fds,
                             const struct err *why)
{
    struct attach *at = attach_find_exec(r, token);
    const struct dyno *d = owner;

    if (!why) {
        attach_started(at, fds);
        return;
    }
    int status = why->errnum == ENOENT ? 127 : 126;
    audit_leave(d->agent, &d->name, token, status, why);
    attach_ended(at, status, why);
}

static void exec_has_ended(void *owner, struct run *r, uint32_t token, int wait_status)
{
    int status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
    const struct dyno *d = owner;

    audit_leave(d->agent, &d->name, token, status, NULL);
    attach_ended(attach_find_exec(r, token), status, NULL);
}

const struct run_ops dyno_run_ops = {
    .started = run_has_started,
    .failed = run_has_failed,
    .ended = run_has_ended,
    .oom = run_is_oom,
    .gone = run_is_gone,
    .exec_started = exec_has_started,
    .exec_ended = exec_has_ended,
};

void dyno_sample(struct dyno *d)
{
    struct cgroup_usage usage;
    struct limits limits;
    struct err ignored = ERR_INIT;

    dyno_sample_disk(d);
    if (!d->run || run_usage(d->run, &usage, &ignored) < 0)
        return;
    cpu_meter_mark(&d->cpu, usage.cpu_usec, clock_boot());
    if (dyno_limits(d, &limits, &ignored) < 0 || !limits.memory_quota)
        return;
    bool over = usage.memory > limits.memory_quota;
    if (over && !run_is_over(d->run)) {
        dyno_line(d, "Error R14 (Memory quota exceeded)");
        agent_event(d->agent, "memory", &d->name,
                    json_pack("{s:s,s:I,s:I}", "code", "R14", "memory", (json_int_t)usage.memory,
                              "memory_quota", (json_int_t)limits.memory_quota));
    }
    run_note_over(d->run, over);
}
