/* backend.h - where desired state comes from and status goes to, as session.c sees it. A backend
 * carries single requests to one endpoint; who is asked when, what is tried again and where, and
 * what is in a report is the session's, the same for all backends.
 *
 * It fits a server that is asked and a store that is watched:
 *
 *   call       a server ("http")          a store with keys, revisions and leases ("etcd", next)
 *   enlist     asks for a session         grants a lease with the TTL as configured, puts the
 *                                         agent's key and every dyno's under it (what else is
 *                                         below them goes, in the same transaction); the session
 *                                         is the lease's id, the store the cluster's
 *   commands   asks and waits             a range of the commands' keys, ordered by generation,
 *                                         above AFTER: if there are any they are the reply. Else a
 *                                         watch from the range's revision + 1, the reply is the
 *                                         first events; the watch may stay open between two calls
 *                                         and what it brings meanwhile is the next reply (a bound,
 *                                         past which the watch is closed and the range read again).
 *                                         A compacted revision: the range again
 *   report     posts it                   transactions: a put for each dyno, a delete for each that
 *                                         is gone (with "snapshot": for each key that is not in
 *                                         it), exits, results and notices as keys of their own,
 *                                         idempotent by their ids. OK after the last one
 *   heartbeat  posts it                   a keep-alive of the lease; a put of the status key when
 *                                         load or hash are others. A keep-alive without a TTL in
 *                                         its answer: FORGOTTEN
 *
 * Each call answers once, from the loop, never from within the call itself. At most one call of
 * each kind is open at a time. */
#ifndef LINK_BACKEND_H
#define LINK_BACKEND_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct http;
struct files;

enum backend_code {
    BACKEND_OK,
    BACKEND_FAILED, /* this endpoint could not: the next, or later */
    BACKEND_LATER,  /* it asks to be left alone for retry_after_usec: no other endpoint */
    BACKEND_DENIED, /* one of us was not accepted: the files may be out of date. Else as FAILED */
    BACKEND_FORGOTTEN, /* the session is known no more: enlist again */
};

struct backend_timing {
    uint64_t heartbeat_usec, ttl_usec, poll_usec;
};

/* Valid during the callback. */
struct backend_reply {
    enum backend_code code;
    /* Unless OK. KIND: a word to count by, of a fixed set. */
    const struct err *why;
    const char *kind;
    uint64_t retry_after_usec;
    /* OK: */
    const char *session, *store;         /* enlist */
    const struct backend_timing *timing; /* enlist, heartbeat: as it is now */
    bool snapshot;                       /* report, heartbeat: wants to be told everything */
    json_t *commands;                    /* commands: an array of objects, may be empty */
};
typedef void (*backend_done_fn)(void *userdata, const struct backend_reply *reply);

/* Both are the first member of a backend's own. */
struct backend {
    const struct backend_ops *ops;
};
struct backend_call {
    struct backend *backend;
};

struct backend_request {
    const char *url;     /* the endpoint, one of the configured ones */
    const char *session; /* but for enlist */
    json_t *body;        /* enlist, report, heartbeat: as docs/protocol.md has it. Borrowed */
    uint64_t seq;        /* report: its number */
    uint64_t after;      /* commands: the last generation that is settled */
    uint64_t wait_usec;  /* commands: answer empty after this */
    const struct backend_timing *timing; /* what holds now, for what an answer leaves out */
};

typedef int (*backend_call_fn)(struct backend *b, const struct backend_request *rq,
                               backend_done_fn fn, void *userdata, struct backend_call **ret,
                               struct err *e);

struct backend_setup {
    sd_event *loop;
    struct http *http; /* outlives the backend */
    const char *agent; /* copied */
    /* Our address on the way to the endpoint, before the first enlist is answered. NULL: not
     * wanted; enlist puts it into its body's "address" too. */
    void (*on_address)(void *userdata, const char *address);
    void *userdata;
};

struct backend_ops {
    int (*open)(const struct backend_setup *setup, struct backend **ret, struct err *e);
    void (*close)(struct backend *b); /* cancels what is open. NULL is fine */
    /* Certificates and token, for the calls from now on; FILES outlives them or the next of this.
     */
    void (*use_files)(struct backend *b, const struct files *files);
    backend_call_fn enlist, commands, report, heartbeat;
    void (*cancel)(struct backend_call *call); /* no callback after this. NULL is fine */
};

/* The backend for an endpoint's scheme; NULL: there is none. */
const struct backend_ops *backend_for(const char *url);

#endif
