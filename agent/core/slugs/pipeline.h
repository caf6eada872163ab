/* pipeline.h - one round of a fetch: the roles of a crew with pipes between them, from the first
 * request to a slug in the cache, or to the one reason why there is none. The loop is never held
 * up: nothing here waits, syncs or removes. See slug/fetch.h for who is handed what. */
#ifndef CORE_PIPELINE_H
#define CORE_PIPELINE_H

#include "base/err.h"
#include "base/name.h"
#include "core/config/config.h"
#include "core/slugs/crew.h"
#include "slug/cache.h"

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

struct pipeline_env {
    sd_event *loop;
    const struct config *config;
    struct cache *cache;
    struct crews *crews;
    uid_t owner; /* of a slug's files */
    bool images;
};

struct pipeline_request {
    const json_t *mirrors;       /* array of URLs; borrowed, as the rest */
    const struct digest *digest; /* NULL: not known */
    bool anew;                   /* of an earlier round's "next" */
    const json_t *failed;        /* NULL: none */
    const json_t *stores;        /* settings of the backends; NULL: none */
    uint64_t total_usec;         /* for this round */
};

struct pipeline_result {
    const struct digest *digest; /* published; NULL: failed */
    const json_t *meta;          /* what the cache has for it */
    const struct err *why;       /* a failure's reason */
    const json_t *detail;        /* the role's own error object ("step", "http", ...), or NULL */
    const json_t *next;          /* "next" of download's, for another round; NULL: none */
    const json_t *next_mirrors;  /* its mirrors, as URLs */
};

/* How far it is. Sums over all roles. */
struct pipeline_progress {
    uint64_t bytes;    /* downloaded */
    int64_t total;     /* -1: not known */
    uint64_t entries;  /* unpacked so far */
    uint64_t unpacked; /* bytes */
    unsigned mirror;   /* of this round's */
    unsigned connections;
};

struct pipeline;
struct pipeline_ops {
    /* Called once, from the loop, never from inside pipeline_start(). RESULT is good until it
     * returns; the pipeline may be freed in it. */
    void (*done)(void *userdata, const struct pipeline_result *result);
    /* Something in pipeline_progress() changed; a few times a second. May be NULL. */
    void (*progress)(void *userdata);
};

/* -EAGAIN: as crews_take(). */
int pipeline_start(const struct pipeline_env *env, const struct pipeline_request *rq,
                   const struct pipeline_ops *ops, void *userdata, struct pipeline **ret,
                   struct err *e);
const struct pipeline_progress *pipeline_progress(const struct pipeline *p);
/* Ends what still runs, and throws away what it made. */
void pipeline_freep(struct pipeline **pp);

#endif
