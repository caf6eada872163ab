/* client.h - the agent's API over its Unix socket. Blocking, with a limit on the wait, but for
 * streams. SOCKET is a path; PATH starts with "/v1/".
 *
 * Errors: -ENOTCONN: no agent listens there; -ECONNREFUSED: this user may not use it; -ETIMEDOUT;
 * what the agent answered comes as its own words and fault: -ENOENT, -EINVAL, -EBUSY, -EIO. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define CLIENT_ANSWER_MAX (16u << 20) /* bytes of one answer's body */
#define CLIENT_LINE_MAX   (4u << 20)  /* bytes of a stream's one line */
#define CLIENT_TIMEOUT_MS 30000       /* without a byte of an answer */

/* --socket, $DYNOD_SOCKET, /run/dynod/api.sock when it exists or for root, or the one below
 * $XDG_RUNTIME_DIR. GIVEN may be NULL. Returns a static or given string, or fills BUF. */
#define CLIENT_SOCKET_MAX 4096
const char *client_socket(const char *given, char buf[CLIENT_SOCKET_MAX]);

/* One request, one answer. BODY may be NULL, and so may RET; *ret is the caller's. */
int client_call(const char *socket, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *e);

/* A GET whose answer comes as lines, for as long as the agent wants. */
struct feed;
int client_feed(const char *socket, const char *path, struct feed **ret, struct err *e);
void feed_freep(struct feed **s);
/* To poll for reading, after feed_line() said that it has nothing. */
int feed_fd(const struct feed *s);
/* The next line, without its end, NUL-terminated, valid until the next call. 1: a line; 0: none
 * now; -ENODATA: the stream is over; other errors: it broke. Does not block. */
int feed_line(struct feed *s, const char **ret, size_t *ret_len, struct err *e);
/* Whether the next feed_line() has a line already: a good time not to flush yet. */
bool feed_buffered(const struct feed *s);
/* feed_line(), but waits. Never 0. */
int feed_line_wait(struct feed *s, const char **ret, size_t *ret_len, struct err *e);
/* The same for a feed of events, whose empty lines only say that the agent is there. *ret is the
 * caller's. */
int feed_event(struct feed *s, json_t **ret, struct err *e);
int feed_event_wait(struct feed *s, json_t **ret, struct err *e);

/* POST PATH with `Upgrade: dynod-attach`. *ret_fd: the connection, where frames follow; the
 * caller's. */
int client_upgrade(const char *socket, const char *path, const json_t *body, int *ret_fd,
                   struct err *e);

#endif
