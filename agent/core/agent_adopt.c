/* agent_adopt.c - a new agent takes over what an earlier one left. */
#include "base/frame.h"
#include "base/log.h"
#include "base/str.h"
#include "core/dyno.h"

#include <errno.h>
#include <string.h>

static void odd_trace(void *userdata, const char *id, const char *why)
{
    char safe[300];

    (void)userdata;
    log_warn("a trace is set aside: %s: %s", text_escape(safe, sizeof(safe), id, strlen(id)), why);
}

/* Fails when we lack the means: to go on would be to start a second one of what may run. */
static int adopt_one(struct agent *a, const struct run_trace *t, struct err *e)
{
    struct dyno *d;

    if (!t->clean && t->recorded)
        (void)agent_adopt_remains(a, t);
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
    /* A restart's delay is not known any more: at once. A one-off is taken off the books. */
    if (r == 0 && t->recorded)
        dyno_event(d, DEV_DEADLINE);
    else if (r == 0 && run_told_to_stop(d->run))
        dyno_event(d, DEV_STOP);
    return r;
}

/* An agent may die after it has reported an end and before it has written so into the trace. */
static void complete_trace(struct agent *a, struct run_trace *t)
{
    const json_t *event = events_find(a->events, "exit", "run", t->id);
    const json_t *record = json_object_get(t->record, "record");
    struct err e = ERR_INIT;

    if (t->recorded || !event)
        return;
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

/* The journal may have lost the entry that gave a dyno its generation: that number must not be
 * given again. */
static int catch_up(struct agent *a, struct err *e)
{
    uint64_t highest = 0;
    struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->generation > highest)
            highest = d->generation;
    if (highest <= model_generation(a->model))
        return 0;
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
    for (size_t i = 0; i < n; i++)
        complete_trace(a, &traces[i]);
    run_sweep(&a->env, traces, n);
    for (size_t i = 0; i < n && r == 0; i++)
        if (!traces[i].recorded) {
            r = adopt_one(a, &traces[i], e);
            living++;
        }
    for (size_t i = 0; i < n && r == 0; i++)
        if (traces[i].recorded)
            r = adopt_one(a, &traces[i], e);
    if (living && r == 0)
        log_notice("adopted %zu dynos%s", living,
                   a->forgetful ? "; those that nothing is known of run on until a command comes"
                                : "");
    run_traces_free(traces, n);
    return r < 0 ? r : catch_up(a, e);
}
