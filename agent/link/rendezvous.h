/* rendezvous.h - one remote attach: dials the address that the platform gave (docs/protocol.md,
 * "Attaching to a one-off"), proves itself with the secret, and once somebody is there moves bytes
 * between TLS and the command's terminal or pipes. Never blocks; a side that does not read stops
 * the reading of the other. What the peer says is a stranger's: sizes, kinds and times are bounded,
 * and a violation ends the attach with a reason. Link-local addresses and the instance metadata's
 * are never dialled, whatever HOST resolves to. */
#ifndef LINK_RENDEZVOUS_H
#define LINK_RENDEZVOUS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define RENDEZVOUS_MAX              100 /* attaches at once: the caller counts and refuses */
#define RENDEZVOUS_FRAME_SEC        30 /* a frame that has begun to come has to be whole in this time */
#define RENDEZVOUS_LAST_SEC         60 /* after the command's end, a peer that does not read is left */
#define RENDEZVOUS_SIGNALS_A_SECOND 20

struct http_trust;
struct rendezvous;

struct rendezvous_spec {
    unsigned attach;    /* given back in every call */
    const char *url;    /* tls://HOST:PORT */
    const char *secret; /* at most LINK_SECRET_MAX */
    const char *agent;  /* the agent's id */
    const char *dyno;   /* "APP/run.N" */
    bool tty;   /* fds[0] is the PTY's master; else stdin (written), stdout, stderr (read) */
    int fds[3]; /* -1: none. They become non-blocking. */
    uint64_t wait_usec;             /* for all until somebody is there; 0: LINK_ATTACH_WAIT_SEC */
    const struct http_trust *trust; /* NULL: the system's CAs. Not needed after the open. */
};

/* One of failed, gone, done is the last call for a rendezvous; the owner frees it then, and may do
 * so within the call, as in any other. WHY is a line for people. */
struct rendezvous_ops {
    /* Somebody is there. 0: the size is unknown. The window's later sizes are set on the PTY here.
     */
    void (*up)(void *userdata, unsigned attach, unsigned rows, unsigned cols);
    /* Nobody came in time, or not as they should: R13. */
    void (*failed)(void *userdata, unsigned attach, const char *why);
    /* It was there and is gone before the command ended: R16's ladder. */
    void (*gone)(void *userdata, unsigned attach, const char *why);
    void (*signal)(void *userdata, unsigned attach, int signo);
    /* After rendezvous_ended(): everything was told, or nobody is there who would read it. */
    void (*done)(void *userdata, unsigned attach);
};

/* Takes SPEC's descriptors, also when it fails; copies the rest. No call comes before the loop
 * runs. -EINVAL: not such a URL, or a secret that is too long. */
int rendezvous_open(sd_event *loop, const struct rendezvous_spec *spec,
                    const struct rendezvous_ops *ops, void *userdata, struct rendezvous **ret,
                    struct err *e);

/* The command is over: what its descriptors still hold goes out, then STATUS and ERROR (NULL:
 * none), then done(). One that nobody has come for yet goes on waiting until its time is over. */
void rendezvous_ended(struct rendezvous *r, int status, const char *error);

/* Closes everything, silently. NULL is fine. */
void rendezvous_freep(struct rendezvous **r);

#endif
