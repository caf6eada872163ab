#include "slug/inflate.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

static void *zlib_new(void)
{
    z_stream *z = calloc(1, sizeof(*z));

    if (z && inflateInit2(z, -MAX_WBITS) != Z_OK) {
        free(z);
        return NULL;
    }
    return z;
}

static void zlib_free(void *state)
{
    if (state)
        (void)inflateEnd(state);
    free(state);
}

static int zlib_reset(void *state)
{
    return inflateReset(state) == Z_OK ? 0 : -EINVAL;
}

static enum inflate_result zlib_step(void *state, struct inflate_io *io)
{
    z_stream *z = state;
    uInt in = io->in_len < INT_MAX ? (uInt)io->in_len : INT_MAX;
    uInt out = io->out_len < INT_MAX ? (uInt)io->out_len : INT_MAX;

    z->next_in = (Bytef *)io->in;
    z->avail_in = in;
    z->next_out = io->out;
    z->avail_out = out;
    int r = inflate(z, Z_NO_FLUSH);
    io->in += in - z->avail_in;
    io->in_len -= in - z->avail_in;
    io->out += out - z->avail_out;
    io->out_len -= out - z->avail_out;
    if (r == Z_STREAM_END)
        return INFLATE_END;
    return r == Z_OK || r == Z_BUF_ERROR ? INFLATE_MORE : INFLATE_BAD;
}

static uint32_t zlib_crc(uint32_t crc, const void *buf, size_t len)
{
    return (uint32_t)crc32_z(crc, buf, len);
}

const struct inflate_ops inflate_zlib = {
    .name = "zlib",
    .new = zlib_new,
    .free = zlib_free,
    .reset = zlib_reset,
    .step = zlib_step,
    .crc = zlib_crc,
};

const struct inflate_ops *inflate_best(void)
{
    return inflate_isal() ? inflate_isal() : &inflate_zlib;
}
