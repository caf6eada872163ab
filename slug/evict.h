/* evict.h - which slugs leave the cache when it has grown too large, or the disk too full. Pure:
 * sizes, pins and limits in, a decision out. */
#ifndef SLUG_EVICT_H
#define SLUG_EVICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evict_entry {
    uint64_t bytes;     /* on the disk; what its removal gives back */
    uint64_t used_usec; /* when it was last used, any clock */
    bool pinned;        /* a dyno, a start or a fetch uses it */
};

struct evict_limits {
    uint64_t max;       /* bytes of the whole cache; 0: none */
    uint64_t keep_free; /* bytes of the disk that stay free; 0: none */
};

struct evict_state {
    uint64_t free;  /* bytes that are free on the disk now */
    uint64_t going; /* of what left the cache before, and is still being removed */
    uint64_t want;  /* bytes that are about to be added */
};

/* The entries that go, least recently used first: their numbers in OUT, which has room for N. Stops
 * as soon as both limits hold. Never a pinned one, and never one of no size: it would give nothing
 * back. *ret_short (may be NULL): bytes by which a limit is still passed after all that can go. */
size_t evict_choose(const struct evict_entry *all, size_t n, const struct evict_limits *limits,
                    const struct evict_state *state, size_t *out, uint64_t *ret_short);

#endif
