#include "core/slugs/prefetch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_PAUSE (30 * USEC_PER_SEC)

/* One for each app that has a release on its way. */
struct prefetch {
    LIST_ENTRY(prefetch) link;
    struct agent *agent;
    char app[APP_NAME_MAX + 1];
    unsigned version;
    struct fetch_waiter *waiter; /* NULL: not under way */
    sd_event_source *retry;      /* timer "prefetch-retry" */
    struct err why;              /* errnum: it failed */
};

static struct prefetch *find(const struct agent *a, const char *app)
{
    struct prefetch *p;

    LIST_FOREACH (p, &a->prefetches, link)
        if (!strcmp(p->app, app))
            return p;
    return NULL;
}

static void drop(struct prefetch *p)
{
    LIST_REMOVE(p, link);
    fetcher_drop(p->waiter);
    sd_event_source_disable_unref(p->retry);
    free(p);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct prefetch *p = userdata;
    struct agent *a = p->agent;

    (void)s;
    (void)usec;
    drop(p);
    agent_reconcile_soon(a);
    return 0;
}

static void failed(struct prefetch *p, const struct err *why)
{
    p->why = *why;
    log_warn("%s: release v%u cannot be used: %s", p->app, p->version, why->text);
    agent_event(p->agent, "release", NULL,
                json_pack("{s:s,s:i,s:s,s:s,s:s}", "app", p->app, "release", (int)p->version,
                          "cause", "start-failed", "fault", fault_name(why->fault), "text",
                          why->text));
    if (why->fault == FAULT_PLATFORM)
        (void)timer_set(p->agent->loop, &p->retry, "prefetch-retry", clock_boot() + RETRY_PAUSE,
                        on_retry, p);
}

static void on_fetched(void *userdata, const struct fetch_result *result)
{
    struct prefetch *p = userdata;
    const struct app *app = model_app(p->agent->model, p->app);
    struct err e = ERR_INIT;
    bool current = app && app->release.version == p->version && !app->release.resolved;

    p->waiter = NULL;
    if (result->why)
        e = *result->why;
    else if (current)
        (void)agent_resolve(p->agent, app, result->digest, result->meta, &e);
    if (e.errnum)
        failed(p, &e);
    else
        drop(p);
}

void prefetch_release(struct agent *a, const struct app *app)
{
    const struct release *rel = &app->release;
    struct prefetch *p = find(a, app->name);
    struct err e = ERR_INIT;

    if (p && p->version == rel->version)
        return;
    if (p)
        drop(p);
    p = calloc(1, sizeof(*p));
    if (!p)
        return; /* the next reconciliation tries again */
    *p = (struct prefetch){.agent = a, .version = rel->version, .why = ERR_INIT};
    memcpy(p->app, app->name, sizeof(p->app));
    LIST_INSERT_HEAD(&a->prefetches, p, link);
    /* Through the fetcher even when the cache has it: then it answers at once. */
    if (fetcher_get(a->fetcher, rel->url, rel->has_digest ? &rel->digest : NULL, on_fetched, p,
                    &p->waiter, &e) < 0)
        failed(p, &e);
}

const struct err *prefetch_problem(const struct agent *a, const struct app *app)
{
    const struct prefetch *p = find(a, app->name);

    return p && p->version == app->release.version && p->why.errnum ? &p->why : NULL;
}

void prefetch_done(struct agent *a)
{
    while (!LIST_EMPTY(&a->prefetches))
        drop(LIST_FIRST(&a->prefetches));
}
