/* api.h - the local API: HTTP/1.1 and JSON on a Unix socket, as docs/openapi.yaml describes it.
 *
 * libmicrohttpd parses HTTP, in this loop and without threads; the connections are accepted here,
 * so that each is judged by its peer's credentials (SO_PEERCRED, SO_PEERGROUPS) before a byte is
 * read. Served are uid 0, the agent's own uid, and members of one group; others get 403.
 *
 * Nobody keeps others out. A request is parsed as its bytes come; nothing waits for a slow peer. Of
 * API_CONNECTIONS_MAX connections one uid may hold API_CONNECTIONS_PER_UID, and the last
 * API_CONNECTIONS_RESERVED are for uid 0 and the agent's own uid. A newcomer over a limit pushes
 * out the connection that idled longest (of its own uid, when that is over its share); only when
 * all of them are being served is it told 429 or 503. A connection on which a request is being
 * carried out, a stream or an attached command, is never pushed out.
 *
 * An idle API wakes nobody: a timer is only armed for the time-out of a connection that waits for a
 * request or for its answer to be read. */
#ifndef CORE_API_H
#define CORE_API_H

#include "base/err.h"
#include "core/agent.h"

#include <sys/types.h>

#define API_CONNECTIONS_MAX      256
#define API_CONNECTIONS_RESERVED 32
#define API_CONNECTIONS_PER_UID  64
#define API_REFUSALS_MAX         32 /* more, that only wait to be told no */
#define API_IDLE_SEC             60 /* between bytes of a request, or of its answer */
/* Per connection: request line and headers. libmicrohttpd maps what is larger than this anew for
 * each connection: eight page faults and more before a request is read. */
#define API_MEMORY_MAX      (32u << 10)
#define API_BODY_MAX        (4u << 20)  /* bytes of a request's body: config vars are large */
#define API_BODY_VALUES_MAX 100000      /* JSON values in it: each costs far more than a byte */
#define API_DISCARD_MAX     (64u << 20) /* read past a refusal, so that it can be told */
#define API_EVENTS_QUEUE    1024        /* events waiting for one follower */
#define API_EVENTS_N_MAX    10000
#define API_LOGS_N_MAX      100000

#define API_GROUP_NONE ((gid_t)-1)

struct api;

/* Serves A in its loop. Takes LISTEN_FD (also on failure), a listening non-blocking Unix stream
 * socket. GROUP: whose members are served too; API_GROUP_NONE: nobody. */
int api_open(struct agent *a, int listen_fd, gid_t group, struct api **ret, struct err *e);

/* Closes every connection; not from within one of the API's own calls. Attached commands are left
 * running (their clients hold the descriptors); the end that the agent tells of them while it is
 * being freed goes nowhere. NULL is fine. */
void api_freep(struct api **p);

#endif
