/* frame.h - length-prefixed JSON frames over a Unix stream socket: how the agent and its helpers
 * speak. A frame is a header (two big-endian u32: length of the JSON text, number of descriptors
 * that came with it), then the text. Peers are not trusted: every size is bounded.
 *
 * A connection never blocks: frame_send() queues, frame_flush() writes what the socket takes. */
#ifndef BASE_FRAME_H
#define BASE_FRAME_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAX       (4u << 20)  /* bytes of one frame's text */
#define FRAME_QUEUE_MAX (16u << 20) /* bytes queued to a peer that does not read */
#define FRAME_FDS_MAX   8

/* One received frame. The receiver owns JSON and the descriptors. */
struct frame {
    json_t *json; /* always an object */
    int fds[FRAME_FDS_MAX];
    size_t n_fds;
};

void frame_done(struct frame *f);
/* Takes descriptor I out of the frame; -1 when there is none. */
int frame_take_fd(struct frame *f, size_t i);

struct frame_conn;

/* Takes FD, a connected SOCK_STREAM Unix socket, and makes it non-blocking. */
int frame_conn_new(int fd, struct frame_conn **ret, struct err *e);
void frame_conn_freep(struct frame_conn **c);
int frame_conn_fd(const struct frame_conn *c);

/* Queues JSON (borrowed) with duplicates of FDS (borrowed; the caller may close its own at once),
 * and writes what the socket takes now. -ENOBUFS: the peer does not read; -EPIPE: it is gone. */
int frame_send(struct frame_conn *c, const json_t *json, const int *fds, size_t n_fds,
               struct err *e);
/* Writes more of the queue. 0: empty now, 1: the socket is full, wait for EPOLLOUT. */
int frame_flush(struct frame_conn *c, struct err *e);
bool frame_pending(const struct frame_conn *c);

/* Reads what the socket has and gives the next whole frame. 1: *ret is filled; 0: no whole frame
 * yet; -EPIPE: the peer closed; -EBADMSG: not a frame, not JSON, not an object, or over FRAME_MAX.
 */
int frame_next(struct frame_conn *c, struct frame *ret, struct err *e);

/* JSON with limits, as all text from outside is read: at most MAX bytes, nesting 64 deep, no
 * duplicate keys, no NUL in strings. The error names line and column. */
int json_parse(const char *text, size_t len, size_t max, json_t **ret, struct err *e);

static inline void json_freep(json_t **j)
{
    json_decref(*j);
}

/* Member KEY of OBJ, with a default for absent ones; a wrong type counts as absent. */
const char *json_str(const json_t *obj, const char *key, const char *def);
int64_t json_int(const json_t *obj, const char *key, int64_t def);
bool json_bool(const json_t *obj, const char *key, bool def);

#endif
