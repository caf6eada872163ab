/* answer.h - what a controller answers (docs/protocol.md), read with limits: JSON of at most
 * LINK_ANSWER_MAX bytes, an object; members that are not known are left out, one that is wrong
 * makes the answer wrong as a whole. Pure. -EBADMSG: not JSON; -EINVAL: a wrong or missing member.
 */
#ifndef LINK_ANSWER_H
#define LINK_ANSWER_H

#include "base/clock.h"
#include "link/backend.h"

#include <stddef.h>

#define ANSWER_SESSION_MAX 128 /* printable ASCII without blanks */

#define HEARTBEAT_MS_MIN     100
#define HEARTBEAT_MS_MAX     3600000
#define HEARTBEAT_MS_DEFAULT 10000
#define TTL_MS_MAX           604800000
#define TTL_MS_DEFAULT       30000
#define POLL_MS_MIN          1000
#define POLL_MS_MAX          300000
#define POLL_MS_DEFAULT      25000

#define TIMING_DEFAULT                                                                             \
    {                                                                                              \
        HEARTBEAT_MS_DEFAULT *USEC_PER_MSEC, TTL_MS_DEFAULT *USEC_PER_MSEC,                        \
            POLL_MS_DEFAULT *USEC_PER_MSEC                                                         \
    }

struct answer_session {
    char session[ANSWER_SESSION_MAX + 1];
    char store[65];
    struct backend_timing timing;
};

int answer_session(const char *text, size_t len, struct answer_session *ret, struct err *e);

/* TIMING is what holds now; *ret_timing that, with what the answer has changed. */
int answer_heartbeat(const char *text, size_t len, const struct backend_timing *timing,
                     struct backend_timing *ret_timing, bool *ret_snapshot, struct err *e);

/* It has to acknowledge SEQ. */
int answer_report(const char *text, size_t len, uint64_t seq, bool *ret_snapshot, struct err *e);

/* A new array of at most LINK_COMMANDS_MAX objects. What is in them is for dynod to judge. */
int answer_commands(const char *text, size_t len, json_t **ret, struct err *e);

#endif
