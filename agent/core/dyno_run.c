/* dyno_run.c - what a dyno's run says of itself, whether it is ready, and what memory it takes. */
#include "core/dyno.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "core/dyno_priv.h"
#include "core/host/network.h"

#include <assert.h>
#include <errno.h>
#include <sys/wait.h>

#define READY_POLL_FIRST (2 * USEC_PER_MSEC)
#define READY_POLL_MAX   (100 * USEC_PER_MSEC)
#define THOROUGH_EVERY   8 /* of the polls: look at listeners on any address */

/* --- readiness --- */

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

/* --- what it says --- */

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
    if (!dyno_is_web(d)) {
        dyno_event(d, DEV_READY);
        return;
    }
    dyno_set_deadline(d, run_started_boot(r) + d->agent->config.boot_timeout);
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

/* --- memory --- */

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
    if (usage.memory_over && /* as the kernel ends what passes its limit */
        dyno_fsm(d->state, DEV_OOM).act == ACT_KILL_R15) { /* else it is on its way out */
        d->over = true;
        dyno_event(d, DEV_OOM);
    }
}
