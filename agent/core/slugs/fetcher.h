/* fetcher.h - getting slugs into the cache: one fetch a slug, shared by all who wait for it, in as
 * many rounds (pipeline.h) as its mirrors make necessary. */
#ifndef CORE_FETCHER_H
#define CORE_FETCHER_H

#include "base/err.h"
#include "base/name.h"
#include "core/config/config.h"
#include "core/slugs/crew.h"
#include "core/slugs/pipeline.h"
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

struct fetcher_options {
    sd_event *loop;
    const struct config *config;
    struct cache *cache;
    struct crews *crews;
    uid_t owner; /* of a slug's files */
    bool images; /* else slugs become directories */
    /* Before a fetch: makes room for it, or says why there is none. May be NULL. */
    int (*room)(void *userdata, struct err *e);
    /* There was none (-ENOSPC), but something large is just being removed: the fetch waits, for a
     * while. May be NULL. */
    bool (*settling)(void *userdata);
    /* DIGEST has been published; those who waited have been told. May be NULL. */
    void (*published)(void *userdata, const struct digest *digest);
    void *userdata;
};
int fetcher_new(const struct fetcher_options *o, struct fetcher **ret, struct err *e);
void fetcher_freep(struct fetcher **f);
unsigned fetcher_running(const struct fetcher *f);
/* Whether DIGEST is being fetched, or waits for that. */
bool fetcher_wants(const struct fetcher *f, const struct digest *digest);

/* Fetches the slug at URL: up to FETCH_MIRRORS_MAX addresses with a blank between, tried in order.
 * DIGEST may be NULL (unknown: the result says); one that is cached is there at once. FN is called
 * once, from the loop, unless the waiter is dropped before. Two waiters for one digest (or, without
 * digests, one URL) share a fetch. */
struct fetch_waiter;
int fetcher_get(struct fetcher *f, const char *url, const struct digest *digest, fetch_fn fn,
                void *userdata, struct fetch_waiter **ret, struct err *e);
/* Wants it no more. The fetch itself goes on: the next dyno will want it. NULL is fine. */
void fetcher_drop(struct fetch_waiter *w);

/* W is for no dyno yet. As long as only such wait for a fetch, others begin before it, and they
 * have one of fetch_jobs for themselves, when there are several. */
void fetcher_ahead(struct fetch_waiter *w);

/* FN is called a few times a second while W's fetch gets on. The waiter may not be dropped in it.
 */
typedef void (*fetch_progress_fn)(void *userdata, const struct pipeline_progress *progress);
void fetcher_watch(struct fetch_waiter *w, fetch_progress_fn fn);

/* All fetches, an array: [{"digest": "sha256:HEX" or null, "state": "waiting"|"fetching", "bytes",
 * "total" (null: not known), "entries", "unpacked", "mirror", "connections"}]. No addresses: there
 * may be secrets in them. NULL: no memory. */
json_t *fetcher_json(const struct fetcher *f);

#endif
