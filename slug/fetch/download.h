/* download.h - one object from one mirror into an outlet, over as many connections as help.
 *
 * It begins with a plain GET, so that a small slug costs one request. When the answer says that the
 * object is large (over DOWNLOAD_LARGE) and that the server takes ranges, that connection keeps the
 * first part, and others (tune.h) get the next ones, conditional on the object being the same
 * (If-Match, or If-Unmodified-Since). When no part is left, an idle connection takes half of what
 * the slowest still has before it.
 *
 * A connection that breaks gives what is missing back, and the next goes on at the byte where it
 * broke; what may pass (no connection, timeouts, 408, 425, 429, 5xx) is tried again, TRIES times
 * by one connection without progress, after a growing, jittered wait, or what Retry-After
 * asks up to DOWNLOAD_RETRY_AFTER_MAX s. A connection far slower than the others is given up for a
 * new one; a mirror that drips is given up on. */
#ifndef SLUG_FETCH_DOWNLOAD_H
#define SLUG_FETCH_DOWNLOAD_H

#include "slug/fetch/outlet.h"
#include "slug/fetch/store.h"

#include <stdbool.h>
#include <stdint.h>

#define DOWNLOAD_LARGE           (16ull << 20)
#define DOWNLOAD_RETRY_AFTER_MAX 10
#define DOWNLOAD_PROGRESS        4096u /* bytes that make a try count as none */

struct download_options {
    struct store *store;
    struct outlet *outlet;
    uint64_t compressed_max;
    uint64_t stall_ms;
    uint64_t slow_bytes, slow_ms;
    unsigned tries;    /* 0: FETCH_TRIES */
    uint64_t part_max; /* bytes of a part, at most; 0: FETCH_PART */
    uint64_t total_ms; /* for words */
    uint64_t until;    /* clock_boot() by which it has to be over */
    unsigned connections;
    bool has_digest;
    /* Called several times a second; TOTAL is -1 while it is not known. An error ends it. */
    int (*on_turn)(void *userdata, uint64_t bytes, int64_t total, unsigned connections,
                   struct err *e);
    void *userdata;
};

struct download_outcome {
    uint64_t bytes;
    uint64_t connections; /* the most there were at once */
    uint64_t last_byte;   /* clock_boot() of it */
    /* After a failure. */
    const char *step; /* of fetch.h; "changed": another object took its place meanwhile */
    long http;        /* the last status, 0: none */
};

/* Blocking. *ret is filled in either case. The outlet has all bytes after success, and if its `at`
 * is 0 after a failure it can be used for another mirror after outlet_reset(). */
int download_run(const struct download_options *o, struct download_outcome *ret, struct err *e);

#endif
