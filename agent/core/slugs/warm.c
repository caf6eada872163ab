#include "core/slugs/warm.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "core/slugs/mirrors.h"

#include <errno.h>
#include <stdlib.h>

struct warming {
    LIST_ENTRY(warming) link;
    struct agent *agent;
    struct fetch_waiter *waiter;
    warm_fn fn;
    uint64_t number;
    struct digest digest;
    bool has_digest;
};

void warm_drop(struct warming *w)
{
    LIST_REMOVE(w, link);
    w->agent->n_warmings--;
    fetcher_drop(w->waiter);
    free(w);
}

void warm_done(struct agent *a)
{
    while (!LIST_EMPTY(&a->warmings))
        warm_drop(LIST_FIRST(&a->warmings));
}

/* What every event of W has. NULL: no memory. */
static json_t *event_of(const struct warming *w, const char *state)
{
    json_t *event = json_pack("{s:I,s:s}", "fetch", (json_int_t)w->number, "state", state);

    if (event && w->has_digest)
        (void)json_object_set_new(event, "digest", json_sprintf("sha256:%s", w->digest.hex));
    return event;
}

/* FIELDS (taken; may be NULL) beside those. */
static void tell(const struct warming *w, const char *state, json_t *fields)
{
    json_t *event = event_of(w, state);

    if (event && fields)
        (void)json_object_update(event, fields);
    json_decref(fields);
    agent_event(w->agent, "fetch", NULL, event);
}

static void done(struct warming *w, const json_t *meta)
{
    tell(w, "done",
         json_pack("{s:O*,s:O*,s:O*,s:O*}", "bytes", json_object_get(meta, "compressed"),
                   "unpacked", json_object_get(meta, "unpacked"), "entries",
                   json_object_get(meta, "entries"), "ms", json_object_get(meta, "ms")));
    if (w->fn)
        w->fn(w->agent, &w->digest, NULL);
    warm_drop(w);
}

static void failed(struct warming *w, const struct err *why)
{
    log_warn("prefetch %ju: %s", (uintmax_t)w->number, why->text);
    tell(w, "failed", json_pack("{s:s,s:s}", "fault", fault_name(why->fault), "text", why->text));
    if (w->fn)
        w->fn(w->agent, w->has_digest ? &w->digest : NULL, why);
    warm_drop(w);
}

static void on_fetched(void *userdata, const struct fetch_result *result)
{
    struct warming *w = userdata;

    w->waiter = NULL;
    if (result->why) {
        failed(w, result->why);
        return;
    }
    w->digest = *result->digest;
    w->has_digest = true;
    done(w, result->meta);
}

static void on_progress(void *userdata, const struct pipeline_progress *p)
{
    const struct warming *w = userdata;
    json_t *event = event_of(w, "progress");

    if (!event)
        return;
    (void)json_object_set_new(event, "kind", json_string("fetch"));
    (void)json_object_update_new(
        event, json_pack("{s:I,s:o,s:I,s:I,s:i,s:i}", "bytes", (json_int_t)p->bytes, "total",
                         p->total < 0 ? json_null() : json_integer(p->total), "entries",
                         (json_int_t)p->entries, "unpacked", (json_int_t)p->unpacked, "mirror",
                         (int)p->mirror, "connections", (int)p->connections));
    events_tell(w->agent->events, event);
}

static int begin(struct warming *w, const json_t *slug, struct err *e)
{
    scoped(json_freep) json_t *text = NULL;
    struct agent *a = w->agent;
    int r = mirrors_of_json(slug, &text, e);

    if (r < 0)
        return r;
    r = fetcher_get(a->fetcher, json_string_value(text), w->has_digest ? &w->digest : NULL,
                    on_fetched, w, &w->waiter, e);
    if (r < 0)
        return r;
    fetcher_ahead(w->waiter);
    fetcher_watch(w->waiter, on_progress);
    return 0;
}

int warm_start(struct agent *a, const json_t *slug, const struct digest *digest, warm_fn fn,
               struct warming **ret, struct err *e)
{
    if (a->n_warmings >= WARM_MAX) {
        (void)err_say(e, EBUSY, "%d slugs are being prefetched already", WARM_MAX);
        return err_blame(e, FAULT_OPERATOR);
    }
    struct warming *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, ENOMEM, "prefetch a slug");
    *w = (struct warming){.agent = a, .fn = fn, .number = ++a->last_warming};
    if (digest) {
        w->digest = *digest;
        w->has_digest = true;
    }
    LIST_INSERT_HEAD(&a->warmings, w, link);
    a->n_warmings++;
    int r = begin(w, slug, e);
    if (r < 0) {
        warm_drop(w);
        return r;
    }
    tell(w, "started", NULL);
    if (ret)
        *ret = w;
    return 0;
}

uint64_t warm_number(const struct warming *w)
{
    return w->number;
}
