/* session.h - the agent's standing with its controllers, whatever backend they are behind: one
 * registration after the other, commands in order, reports in batches, heartbeats, failover. It
 * outlives nothing: what must is dynod's.
 *
 * Four lanes, each with at most one open call, its own failures and its own wait: register,
 * commands, report, heartbeat. A call that fails moves all lanes on to the next URL; after a whole
 * round of failures a lane waits (backoff.h). Reports and heartbeats are never open together, so
 * that no heartbeat tells a state that a report has just left behind. */
#ifndef LINK_SESSION_H
#define LINK_SESSION_H

#include "base/clock.h"
#include "link/backend.h"
#include "link/files.h"

#define REPORT_BATCH_USEC (200 * USEC_PER_MSEC) /* from a change to its report; between reports */
#define CONTACT_USEC      USEC_PER_SEC          /* between two calls of contact() */
#define STATUS_USEC       (200 * USEC_PER_MSEC) /* between two calls of status() */
#define PACE_USEC         USEC_PER_SEC /* between polls that bring nothing and do not wait */
#define FILES_WAIT_USEC   USEC_PER_SEC /* for new certificates, before going on with the old */
#define COMMAND_WAIT_USEC (60 * USEC_PER_SEC) /* for dynod's answer to a command */
#define SESSION_KINDS_MAX 64                  /* kinds of errors that are counted apart */

struct session;

struct session_ops {
    /* One command of the store STORE; the next comes after session_result() of this one. */
    void (*command)(void *userdata, const char *store, json_t *command);
    void (*acked)(void *userdata, json_t *exit_ids);
    void (*contact)(void *userdata, uint64_t ttl_usec, uint64_t ago_usec); /* an answer, so old */
    void (*status)(void *userdata, json_t *status);       /* as base/linkproto.h has it */
    void (*renew_files)(void *userdata);                  /* session_files() follows */
    void (*address)(void *userdata, const char *address); /* ours, found on the way */
};

struct session_setup {
    sd_event *loop;
    struct http *http; /* outlives the session */
    json_t *start;     /* the body of dynod's first frame; borrowed */
    const struct session_ops *ops;
    void *userdata;
    const struct backend_ops *backend; /* NULL: by the URLs' scheme. Tests bring their own */
};

/* Nothing is sent before session_files(), session_snapshot() and session_identify(). -EINVAL: not
 * such a frame, or URLs of different backends. */
int session_new(const struct session_setup *setup, struct session **ret, struct err *e);
void session_freep(struct session **s);

/* Who we are: AGENT is a valid id. LABELS (borrowed, NULL: none) come below the configured ones;
 * ADDRESS "": to be found on the way; DOCUMENT (borrowed, NULL: none) goes with the registration.
 * Once. */
int session_identify(struct session *s, const char *agent, json_t *labels, const char *address,
                     json_t *document, struct err *e);
const char *session_agent(const struct session *s); /* "" before that */

/* Takes FILES' content. */
void session_files(struct session *s, struct files *files);
/* They could not be read; those that there were, if any, stay. */
void session_files_failed(struct session *s, const struct err *why);
const struct files *session_trust(const struct session *s);

/* What dynod tells. The JSON is borrowed. -EINVAL: not what it should be; nothing changed. */
int session_snapshot(struct session *s, json_t *dynos, struct err *e);
int session_dyno(struct session *s, json_t *dyno, struct err *e);
int session_gone(struct session *s, const char *name, struct err *e);
int session_exit(struct session *s, json_t *exit, struct err *e);
int session_result(struct session *s, json_t *result, struct err *e);
int session_notice(struct session *s, json_t *notice, struct err *e);
int session_instance(struct session *s, json_t *instance, struct err *e);

/* An error elsewhere in this program, to be counted with the others. */
void session_count(struct session *s, const char *kind);

#endif
