/* agent_adopt.c - a new agent takes over what an earlier one left. */
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void odd_trace(void *userdata, const struct run_odd *odd)
{
    static const char *const outcomes[] = {
        [RUN_ODD_UNBORN] = "removed: its start had not begun",
        [RUN_ODD_REMOVED] = "removed",
        [RUN_ODD_REBUILT] = "adopted: its dyno-init says who it is",
        [RUN_ODD_DEAD] = "it has ended: what is known of its end is reported",
        [RUN_ODD_ENDED] = "killed: nothing says who it is",
    };
    struct agent *a = userdata;
    char name[300], why[600], text[1000];

    (void)text_escape(name, sizeof(name), odd->name, strlen(odd->name));
    (void)text_escape(why, sizeof(why), odd->why, strlen(odd->why));
    if (odd->outcome == RUN_ODD_UNBORN) { /* what a death at the wrong moment leaves: nothing odd */
        log_info("%s: %s", name, outcomes[odd->outcome]);
        return;
    }
    (void)snprintf(text, sizeof(text), "the trace of %s is no good (%s): %s", name, why,
                   outcomes[odd->outcome]);
    log_warn("%s%s%s", text, odd->kept[0] ? "; kept as " : "", odd->kept);
    agent_event(
        a, "agent", NULL,
        json_pack("{s:s,s:s,s:s,s:s}", "text", text, "run", name, "why", why, "kept", odd->kept));
}

/* Of what ended while nobody could say who it was: it is the wanted one of its name, so that its
 * end is not taken for a replacement's. */
static void take_wanted(struct agent *a, struct dyno *d)
{
    scoped_free struct want *wants = NULL;
    struct err ignored = ERR_INIT; /* the reconciler meets it again */
    size_t n = 0;

    (void)model_wants(a->model, &wants, &n, &ignored);
    for (size_t i = 0; i < n; i++)
        if (wants[i].name.num == d->name.num && !strcmp(wants[i].name.type, d->name.type) &&
            !strcmp(wants[i].name.app, d->name.app)) {
            d->generation = wants[i].generation;
            d->release = wants[i].app->release.version;
        }
}

/* Fails when we lack the means: to go on would be to start a second one of what may run. */
static int adopt_one(struct agent *a, const struct run_trace *t, struct err *e)
{
    struct dyno *d;

    if (!t->clean && t->recorded)
        (void)agent_adopt_remains(a, t);
    if (t->guessed && t->recorded) /* not enough to restart it with */
        return 0;
    int r = dyno_adopt(a, t, &d, e);
    if (r == -EEXIST || r == -EBADMSG) {
        struct run *stray = t->recorded ? NULL : agent_adopt_remains(a, t);

        if (!t->recorded)
            log_warn("%s: killed: %s", t->id, e->text);
        if (stray)
            run_kill(stray);
        if (t->clean)
            run_trace_remove(&a->env, t->id);
        return 0;
    }
    if (r == 0 && t->guessed)
        take_wanted(a, d);
    /* A restart's delay is not known any more: at once, but not now, there is no sandbox yet. A
     * one-off is taken off the books. */
    if (r == 0 && t->recorded)
        dyno_retry_soon(d);
    else if (r == 0 && run_told_to_stop(d->run))
        dyno_event(d, DEV_STOP);
    return r;
}

static void complete_trace(struct agent *a, struct run_trace *t, const json_t *event)
{
    const json_t *record = json_object_get(t->record, "record");
    struct err e = ERR_INIT;
    json_t *end = json_pack(
        "{s:{s:s,s:s,s:s,s:I,s:O?},s:I,s:I}", "exit", "cause", json_str(event, "cause", ""),
        "fault", json_str(event, "fault", ""), "text", json_str(event, "text", ""), "status",
        (json_int_t)json_int(event, "status", -1), "evidence", json_object_get(event, "evidence"),
        "crashes", (json_int_t)json_int(record, "crashes", 0) + 1, "restarts",
        (json_int_t)json_int(record, "restarts", 0));
    if (!end || run_trace_record(&a->env, t, end, &e) < 0)
        log_warn("%s: %s", t->id, end ? e.text : "no memory to complete its trace");
    json_decref(end);
}

/* An agent may die after it has reported an end and before it has written so into the trace, or may
 * have had no room for that. */
static void complete_traces(struct agent *a, struct run_trace *traces, size_t n)
{
    scoped(json_freep) json_t *events = events_list(a->events, 0, EVENTS_KEPT);
    json_t *event;
    size_t i;

    json_array_foreach (events, i, event) {
        struct run_trace *t = !strcmp(json_str(event, "kind", ""), "exit")
                                  ? run_trace_find(traces, n, json_str(event, "run", ""))
                                  : NULL;

        if (t && !json_object_get(t->record, "end"))
            complete_trace(a, t, event);
    }
}

/* D may be one of those that only seem not to be wanted (dyno.h), which the next agent must know
 * too: to it the journal is whole again. */
static void hold(struct dyno *d)
{
    d->held = true;
    if (d->run)
        run_hold(d->run);
}

static void hold_all(struct agent *a)
{
    struct dyno *d;
    bool any = false;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->held || (d->run && run_held(d->run))) {
            hold(d);
            any = true;
        }
    a->forgetful = a->forgetful || any;
}

/* A dyno whose generation the journal never gave: that entry is lost, and who knows what else. The
 * number must not be given again. */
static int catch_up(struct agent *a, struct err *e)
{
    uint64_t highest = 0;
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->generation > highest)
            highest = d->generation;
    if (highest <= model_generation(a->model))
        return 0;
    if (!a->forgetful)
        log_warn("the journal has lost changes, whole as it looks: what is not known to be wanted "
                 "runs on until a command comes");
    a->forgetful = true;
    TAILQ_FOREACH (d, &a->dynos, link)
        hold(d);
    json_t *entry = json_pack("{s:s,s:I}", "op", "generation", "generation", (json_int_t)highest);
    int r = journal_apply(a->journal, entry, NULL, e);
    json_decref(entry);
    return r;
}

/* Living runs first: of a dyno with an old trace too, the living one is the dyno. */
int agent_adopt_all(struct agent *a, struct err *e)
{
    struct run_trace *traces = NULL;
    size_t n = 0, living = 0;
    int r = run_traces(&a->env, &traces, &n, odd_trace, a, e);

    if (r < 0)
        return r;
    complete_traces(a, traces, n);
    run_sweep(&a->env, traces, n);
    for (size_t i = 0; i < n && r == 0; i++)
        if (!traces[i].recorded) {
            r = adopt_one(a, &traces[i], e);
            living++;
        }
    for (size_t i = 0; i < n && r == 0; i++)
        if (traces[i].recorded)
            r = adopt_one(a, &traces[i], e);
    hold_all(a);
    if (living && r == 0)
        log_notice("adopted %zu dynos%s", living,
                   a->forgetful ? "; those that nothing is known of run on until a command comes"
                                : "");
    run_traces_free(traces, n);
    return r < 0 ? r : catch_up(a, e);
}
