#include "core/warm.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "core/mirrors.h"

#include <errno.h>
#include <stdlib.h>

struct warming {
    LIST_ENTRY(warming) link;
    struct agent *agent;
    struct fetch_waiter *waiter;
    sd_event_source *there; /* deferred: the cache has it */
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
    sd_event_source_disable_unref(w->there);
    free(w);
}

void warm_done(struct agent *a)
{
    while (!LIST_EMPTY(&a->warmings))
        warm_drop(LIST_FIRST(&a->warmings));
}

/* FIELDS (taken; may be NULL) beside those that every event of W has. */
static void tell(const struct warming *w, const char *state, json_t *fields)
{
    json_t *event = json_pack("{s:I,s:s}", "fetch", (json_int_t)w->number, "state", state);

    if (event && w->has_digest)
        (void)json_object_set_new(event, "digest", json_sprintf("sha256:%s", w->digest.hex));
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

/* The cache had it when it was asked for. */
static int on_there(sd_event_source *s, void *userdata)
{
    struct warming *w = userdata;
    scoped(json_freep) json_t *meta = NULL;
    struct err ignored = ERR_INIT; /* it is not told, then */

    (void)s;
    cache_touch(w->agent->cache, &w->digest);
    (void)cache_meta(w->agent->cache, &w->digest, &meta, &ignored);
    done(w, meta);
    return 0;
}

static int begin(struct warming *w, const json_t *slug, struct err *e)
{
    scoped(json_freep) json_t *text = NULL;
    struct agent *a = w->agent;
    int r = mirrors_of_json(slug, &text, e);

    if (r < 0)
        return r;
    if (a->cache && w->has_digest && cache_find(a->cache, &w->digest))
        return sd_event_add_defer(a->loop, &w->there, on_there, w) < 0
                   ? err_set(e, ENOMEM, "prefetch a slug")
                   : 0;
    return fetcher_get(a->fetcher, json_string_value(text), w->has_digest ? &w->digest : NULL,
                       on_fetched, w, &w->waiter, e);
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

bool warm_wants(const struct agent *a, const struct digest *digest)
{
    const struct warming *w;

    LIST_FOREACH (w, &a->warmings, link)
        if (w->has_digest && digest_equal(&w->digest, digest))
            return true;
    return false;
}
