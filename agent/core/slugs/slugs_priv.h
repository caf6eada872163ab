/* slugs_priv.h - the inside of struct slugs, for slugs*.c. */
#ifndef CORE_SLUGS_PRIV_H
#define CORE_SLUGS_PRIV_H

#include "core/agent_priv.h"
#include "core/slugs/slugs.h"
#include "isolate/slugimage.h"

#include <sys/queue.h>

/* An image that is mounted, or a directory. Dynos have clones of their own: this one may go at any
 * time. */
struct slug_mount {
    TAILQ_ENTRY(slug_mount) link;
    struct digest digest;
    bool image;
    int fd;
};
#define MOUNTS_MAX 64 /* that are kept for the next start; the last used ones */

/* One image that is to be read: to seal it, or to compare it. */
struct seal {
    TAILQ_ENTRY(seal) link;
    struct digest digest;
    slugs_verify_fn fn; /* NULL: nobody waits */
    void *userdata;
};

struct slugs {
    struct agent *agent;
    struct slugimages *images;
    struct crews *crews;
    char program[512];                          /* dynod-fetch */
    TAILQ_HEAD(mounts_head, slug_mount) mounts; /* last used first */
    unsigned n_mounts;
    uint64_t going; /* bytes that left the cache and are still being removed */
    /* slugs_seal.c */
    TAILQ_HEAD(, seal) seals; /* the first is at work while there is a crew */
    struct crew *sealer;
    json_t *sealed;             /* what it said */
    sd_event_source *seal_soon; /* timer "seal" */
};

/* Forgets DIGEST: mount, entry and all. */
int slugs_drop(struct slugs *s, const struct digest *digest, struct err *e);

/* Which of the cache's slugs are in use. */
struct pins {
    struct digest *all; /* sorted */
    size_t n, room;
    bool unknown; /* somebody runs from a slug that cannot be told: no directory may go */
};
int pins_collect(struct slugs *s, struct pins *ret, struct err *e);
bool pins_have(const struct pins *p, const struct cache_entry *entry);
void pins_done(struct pins *p);

void seals_open(struct slugs *s);
void seals_done(struct slugs *s);
/* Has DIGEST sealed when there is time. */
void seals_add(struct slugs *s, const struct digest *digest);

#endif
