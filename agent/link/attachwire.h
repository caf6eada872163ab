/* attachwire.h - the frames of a remote attach (docs/protocol.md, "Attaching to a one-off"): one
 * byte for the kind, four for the length of the payload (big-endian), the payload. Pure. What comes
 * in is a stranger's. */
#ifndef LINK_ATTACHWIRE_H
#define LINK_ATTACHWIRE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define WIRE_HEAD        5
#define WIRE_PAYLOAD_MAX 65536
#define WIRE_JSON_MAX    4096 /* bytes of a payload that is JSON */
#define WIRE_SIGNAL_MAX  64
#define WIRE_SIZE_MAX    65535 /* rows or columns */
#define WIRE_URL_MAX     300

/* DATA points into the buffer that it was read from. */
struct wire_frame {
    char kind;
    const char *data;
    size_t len;
};

/* The first frame of BUF. 1: *ret, and *ret_used bytes are its; 0: more is needed. -EBADMSG: not
 * one of a peer's frames (R, I, W, S), or it is too long; told as soon as it can be seen. */
int wire_next(const char *buf, size_t len, struct wire_frame *ret, size_t *ret_used, struct err *e);

void wire_head(char out[WIRE_HEAD], char kind, size_t len);

/* R and W: 0 and 0 when there are none. Both or neither. -EBADMSG. */
int wire_size(const struct wire_frame *f, unsigned *ret_rows, unsigned *ret_cols, struct err *e);
/* S: 1 to WIRE_SIGNAL_MAX. -EBADMSG. */
int wire_signal(const struct wire_frame *f, int *ret, struct err *e);

/* "tls://HOST:PORT" as "https://HOST:PORT/", for libcurl; HOST is a name, an IPv4 address or an
 * IPv6 one in brackets. Nothing may follow, no user may precede. -EINVAL. */
int wire_url(const char *url, char ret[WIRE_URL_MAX], struct err *e);

#endif
