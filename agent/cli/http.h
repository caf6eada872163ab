/* http.h - reads one HTTP/1.1 response (RFC 9112) as its bytes come. Pure: bytes in, body out. The
 * agent is trusted more than a stranger, not more than its bugs: every size is bounded. */
#ifndef CLI_HTTP_H
#define CLI_HTTP_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 32768u /* bytes of the status line and all fields */
#define HTTP_LINE_MAX 1024u  /* bytes of a chunk's size line or one trailer field */

enum http_state {
    HTTP_HEAD,
    HTTP_LENGTH,     /* `left` bytes of body to come */
    HTTP_CHUNK_SIZE, /* the line before a chunk */
    HTTP_CHUNK_DATA, /* `left` bytes of the chunk to come */
    HTTP_CHUNK_END,  /* the line end after a chunk */
    HTTP_TRAILER,
    HTTP_UNTIL_CLOSE,
    HTTP_UPGRADED, /* 101: what follows is not HTTP */
    HTTP_DONE,
};

/* {0} is a response that has not begun. */
struct http {
    enum http_state state;
    int status;      /* valid once state is past HTTP_HEAD */
    struct str line; /* the head, or a chunk's line, while it is not whole */
    uint64_t left;
};

void http_done(struct http *h);

/* Takes LEN bytes and appends to BODY what of them is body; BODY's own limit holds. *ret_used: how
 * many were taken; less than LEN only after a response that is over (HTTP_DONE, HTTP_UPGRADED).
 * -EBADMSG: not HTTP; -EMSGSIZE: over a limit. */
int http_feed(struct http *h, const char *data, size_t len, struct str *body, size_t *ret_used,
              struct err *e);

/* The connection has ended. -EPIPE: in the middle of the response. */
int http_eof(struct http *h, struct err *e);

#endif
