/* inflate.h - raw DEFLATE (RFC 1951) and the CRC of gzip, by whichever library is there: ISA-L is
 * two to three times as fast as zlib. Both give the same bytes and refuse the same streams. */
#ifndef SLUG_INFLATE_H
#define SLUG_INFLATE_H

#include <stddef.h>
#include <stdint.h>

/* What one step takes and gives. The pointers and lengths are moved on. */
struct inflate_io {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
};

enum inflate_result {
    INFLATE_MORE, /* wants more input or more room */
    INFLATE_END,  /* the stream has ended; IN is at the byte after it */
    INFLATE_BAD,  /* no DEFLATE stream */
};

/* At the end of a stream as many as this many bytes may be put back before IN. */
#define INFLATE_PUT_BACK_MAX 8

struct inflate_ops {
    const char *name;
    void *(*new)(void); /* NULL: no memory */
    void (*free)(void *state);
    int (*reset)(void *state); /* for the next stream; 0 or -errno */
    /* IO->in has INFLATE_PUT_BACK_MAX writable bytes before it. */
    enum inflate_result (*step)(void *state, struct inflate_io *io);
    uint32_t (*crc)(uint32_t crc, const void *buf, size_t len);
};

extern const struct inflate_ops inflate_zlib;
/* NULL where the build had no ISA-L. */
const struct inflate_ops *inflate_isal(void);

/* The fastest there is. */
const struct inflate_ops *inflate_best(void);

#endif
