/* fetcher.h - getting slugs into the cache: one dynod-fetch a slug, shared by all who wait for it.
 */
#ifndef CORE_FETCHER_H
#define CORE_FETCHER_H

#include "base/err.h"
#include "base/name.h"
#include "core/config.h"
#include "slug/cache.h"

#include <jansson.h>
#include <systemd/sd-event.h>

struct fetcher;

/* How a fetch ended. META (borrowed): what the cache has for DIGEST. Or WHY, with DETAIL: the
 * fetch's own error object ("step", "http", …) or NULL. */
struct fetch_result {
    const struct digest *digest;
    const json_t *meta;
    const struct err *why;
    const json_t *detail;
};
typedef void (*fetch_fn)(void *userdata, const struct fetch_result *result);

/* UID: who dynod-fetch becomes ((uid_t)-1: stays). */
int fetcher_new(sd_event *loop, const struct config *config, struct cache *cache, uid_t uid,
                struct fetcher **ret, struct err *e);
void fetcher_freep(struct fetcher **f);
unsigned fetcher_running(const struct fetcher *f);

/* Fetches URL; DIGEST may be NULL (unknown: the result says). FN is called once, from the loop,
 * unless the waiter is dropped before. Two waiters for one digest (or, without digests, one URL)
 * share a fetch. */
struct fetch_waiter;
int fetcher_get(struct fetcher *f, const char *url, const struct digest *digest, fetch_fn fn,
                void *userdata, struct fetch_waiter **ret, struct err *e);
/* Wants it no more. The fetch itself goes on: the next dyno will want it. NULL is fine. */
void fetcher_drop(struct fetch_waiter *w);

#endif
