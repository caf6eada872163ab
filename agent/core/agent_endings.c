/* agent_endings.c - runs whose dyno has gone on without them: they clean up, and leave. */
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "core/dyno.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run *agent_find_run(struct agent *a, const char *id)
{
    struct dyno *d;
    struct ending *ending;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->run && !strcmp(run_id(d->run), id))
            return d->run;
    LIST_FOREACH (ending, &a->endings, link)
        if (!strcmp(run_id(ending->run), id))
            return ending->run;
    return NULL;
}

static void ending_nothing(void *owner, struct run *r)
{
    (void)owner;
    (void)r;
}

static void ending_started(void *owner, struct run *r, struct run_attach_fds *fds)
{
    (void)owner;
    (void)r;
    for (int i = 0; fds && i < 3; i++)
        fd_closep(&fds->fds[i]);
}

static void ending_failed(void *owner, struct run *r, const struct err *why)
{
    (void)owner;
    (void)r;
    (void)why;
}

static void ending_gone(void *owner, struct run *r)
{
    struct ending *ending = owner;
    struct agent *a = ending->agent;
    char id[RUN_ID_MAX];
    struct dyno *d;

    (void)snprintf(id, sizeof(id), "%s", run_id(r));
    LIST_REMOVE(ending, link);
    run_freep(&ending->run);
    free(ending);
    TAILQ_FOREACH (d, &a->dynos, link)
        if (!strcmp(d->tomb, id))
            return;
    run_trace_remove(&a->env, id);
    agent_check_drained(a);
}

static void ending_exec_started(void *owner, struct run *r, uint32_t token,
                                struct run_attach_fds *fds, const struct err *why)
{
    (void)token;
    (void)why;
    ending_started(owner, r, fds);
}

static void ending_exec_ended(void *owner, struct run *r, uint32_t token, int wait_status)
{
    (void)owner;
    (void)r;
    (void)token;
    (void)wait_status;
}

static const struct run_ops ending_ops = {
    .started = ending_started,
    .failed = ending_failed,
    .ended = ending_nothing,
    .oom = ending_nothing,
    .gone = ending_gone,
    .exec_started = ending_exec_started,
    .exec_ended = ending_exec_ended,
};

static struct ending *ending_new(struct agent *a)
{
    struct ending *ending = calloc(1, sizeof(*ending));

    if (ending) {
        ending->agent = a;
        LIST_INSERT_HEAD(&a->endings, ending, link);
    }
    return ending;
}

void agent_adopt_ending(struct agent *a, struct run *run)
{
    struct ending *ending = ending_new(a);

    if (!ending) { /* the next agent cleans up */
        log_err("%s: no memory to clean up after it", run_id(run));
        run_freep(&run);
        return;
    }
    ending->run = run;
    run_hand_over(run, &ending_ops, ending);
}

void agent_drop_tomb(struct agent *a, const char *id)
{
    if (id[0] && !agent_find_run(a, id)) /* one that is still ending removes it itself */
        run_trace_remove(&a->env, id);
}

struct run *agent_adopt_remains(struct agent *a, const struct run_trace *t)
{
    struct ending *ending = ending_new(a);
    struct dyno_name name = {.app = "unknown", .type = "unknown", .num = 1};
    struct err e = ERR_INIT;

    if (!ending)
        return NULL;
    /* What its pipe still holds belongs into its own app's log. */
    (void)dyno_name_of_record(json_object_get(t->record, "record"), &name, &e);
    if (run_adopt(&a->env, t, &name, &ending_ops, ending, &ending->run, &e) < 0) {
        log_warn("%s: %s", t->id, e.text);
        LIST_REMOVE(ending, link);
        free(ending);
        return NULL;
    }
    return ending->run;
}

void agent_endings_done(struct agent *a)
{
    struct ending *ending;

    while ((ending = LIST_FIRST(&a->endings))) {
        LIST_REMOVE(ending, link);
        run_freep(&ending->run);
        free(ending);
    }
}
