/* talk.h - the fetch's side of the conversation with dynod. Blocking: one fetch has one thing to
 * do. */
#ifndef SLUG_FETCH_TALK_H
#define SLUG_FETCH_TALK_H

#include "base/frame.h"
#include "base/name.h"

#define TALK_RESULT_MS 30000 /* how long it may take to read the result */
#define PROGRESS_MS    200

/* Waits for the next frame, PATIENCE_MS at most. -ETIMEDOUT, -EPIPE, -EBADMSG. */
#define TALK_FOR_EVER UINT64_MAX
int talk_receive(struct frame_conn *c, uint64_t patience_ms, struct frame *ret, struct err *e);

/* Sends and waits until the peer has it. */
int talk_send(struct frame_conn *c, const json_t *json, struct err *e);

/* Whether the peer still listens; a fetch that nobody waits for ends. -EPIPE. */
int talk_check(struct frame_conn *c, struct err *e);

/* Why a role has no result. */
struct failure {
    const char *step;               /* of fetch.h; NULL: "sandbox" */
    long http;                      /* the status, 0: none */
    struct digest expected, actual; /* of step "digest" */
};

/* A new "error" frame. NULL: no memory, or a text that is not UTF-8. */
json_t *talk_error(const struct failure *f, const struct err *e);

#endif
