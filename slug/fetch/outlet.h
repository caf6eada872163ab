/* outlet.h - where downloaded bytes go: in order, through SHA-256, into the pipe to unpack. What
 * comes out of order, or while the pipe is full, waits in the spool, so nothing ever holds the
 * transfers up; what comes in order to an empty pipe never touches the spool. Never blocks. */
#ifndef SLUG_FETCH_OUTLET_H
#define SLUG_FETCH_OUTLET_H

#include "base/err.h"
#include "base/name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTLET_PIPE (1u << 20)   /* what the pipe is asked to hold */
#define OUTLET_TURN (2u << 20)   /* bytes one outlet_pump() moves at most */
#define OUTLET_READ (128u << 10) /* from the spool at once */
#define OUTLET_HOLD (256u << 10) /* to the spool at once: libcurl gives 16 KiB */

struct outlet {
    int spool; /* borrowed; read and written */
    int pipe;  /* borrowed; -1: nobody reads, bytes are only hashed */
    void *ctx; /* EVP_MD_CTX */
    char *buf;
    char *held; /* what is about to be written to the spool: HELD_LEN bytes from HELD_AT on */
    uint64_t held_at;
    size_t held_len;
    uint64_t at;      /* bytes that are hashed, and given on while somebody read */
    bool blocked;     /* the pipe is full: wait until it can be written to */
    bool gone;        /* the reader is gone */
    bool spooled;     /* the spool holds something */
    bool keeps;       /* the spool is a file of somebody else's, to be left as it is */
    uint64_t punched; /* the spool's bytes up to here have been given back to the disk */
    uint64_t hash_usec, wait_usec;
    uint64_t blocked_since;
};

/* Makes PIPE non-blocking. */
int outlet_init(struct outlet *o, int spool, int pipe, struct err *e);
void outlet_done(struct outlet *o);
/* Begins anew: for when nothing has been given on yet. */
int outlet_reset(struct outlet *o, struct err *e);

/* LEN bytes that belong at AT. */
int outlet_put(struct outlet *o, uint64_t at, const void *data, size_t len, struct err *e);
/* Gives on what the spool has up to END, OUTLET_TURN bytes at most; nothing while it is blocked. */
int outlet_pump(struct outlet *o, uint64_t end, struct err *e);
/* Looks whether it is blocked still. */
void outlet_look(struct outlet *o);
/* Asks the disk for TOTAL bytes, so that there being none is known before they have come. */
int outlet_reserve(struct outlet *o, uint64_t total, struct err *e);

/* The digest of all bytes; once, after the end. */
int outlet_digest(struct outlet *o, struct digest *ret, struct err *e);

#endif
