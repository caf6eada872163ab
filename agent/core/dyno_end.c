/* dyno_end.c - how a dyno's run ended, what is recorded of it, and when it is tried again. */
#include "core/dyno.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/scoped.h"
#include "core/dyno_priv.h"
#include "core/host/network.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void gather_facts(struct dyno *d, struct end_facts *ret)
{
    *ret = (struct end_facts){.told_to_stop = d->told_to_stop,
                              .boot_timeout = d->boot_timeout,
                              .exit_timeout = d->exit_timeout,
                              .attach_failed = d->attach_failed,
                              .detached = d->detached,
                              .over = d->over,
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

void dyno_record_end(struct dyno *d)
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

void dyno_let_run_go(struct dyno *d)
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

void dyno_plan_restart(struct dyno *d, bool was_up)
{
    struct agent *a = d->agent;
    const struct app *app = model_app(a->model, d->name.app);
    struct restart_policy policy = {a->config.restart_delay, a->config.restart_delay_max,
                                    a->config.restart_reset};
    bool hopeless = d->no_retry || (d->failed.errnum && d->failed.fault != FAULT_PLATFORM);

    d->restart_at = 0;
    if (hopeless || (app && !app->release.restart))
        return;
    uint64_t delay = restart_delay(&policy, &d->crashes, was_up ? time_up(d) : 0, random_u64());
    d->restart_at = clock_boot() + delay;
    dyno_set_deadline(d, d->restart_at);
}
