#include "slug/inflate.h"

#if __has_include(<isa-l.h>) && !defined(DYNOD_NO_ISAL)

#include <isa-l.h>
#include <limits.h>
#include <stdlib.h>

static void *isal_new(void)
{
    struct inflate_state *s = calloc(1, sizeof(*s));

    if (s)
        isal_inflate_init(s);
    return s;
}

static int isal_reset(void *state)
{
    isal_inflate_reset(state);
    return 0;
}

/* It reads ahead into a bit buffer: the whole bytes left there at the end belong to the caller. */
static void put_back(const struct inflate_state *s, struct inflate_io *io)
{
    unsigned n = (unsigned)s->read_in_length / 8;
    uint64_t bits = s->read_in >> ((unsigned)s->read_in_length % 8);
    uint8_t *in = (uint8_t *)io->in;

    for (unsigned i = 0; i < n; i++)
        in[(int)i - (int)n] = (uint8_t)(bits >> (8 * i));
    io->in -= n;
    io->in_len += n;
}

static enum inflate_result isal_step(void *state, struct inflate_io *io)
{
    struct inflate_state *s = state;
    uint32_t in = io->in_len < INT_MAX ? (uint32_t)io->in_len : INT_MAX;
    uint32_t out = io->out_len < INT_MAX ? (uint32_t)io->out_len : INT_MAX;

    s->next_in = (uint8_t *)io->in;
    s->avail_in = in;
    s->next_out = io->out;
    s->avail_out = out;
    int r = isal_inflate(s);
    io->in += in - s->avail_in;
    io->in_len -= in - s->avail_in;
    io->out += out - s->avail_out;
    io->out_len -= out - s->avail_out;
    if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT && r != ISAL_OUT_OVERFLOW)
        return INFLATE_BAD;
    if (s->block_state != ISAL_BLOCK_FINISH)
        return INFLATE_MORE;
    put_back(s, io);
    return INFLATE_END;
}

static uint32_t isal_crc(uint32_t crc, const void *buf, size_t len)
{
    return crc32_gzip_refl(crc, buf, len);
}

static const struct inflate_ops inflate_isal_ops = {
    .name = "isa-l",
    .new = isal_new,
    .free = free,
    .reset = isal_reset,
    .step = isal_step,
    .crc = isal_crc,
};

const struct inflate_ops *inflate_isal(void)
{
    return &inflate_isal_ops;
}

#else

const struct inflate_ops *inflate_isal(void)
{
    return 0;
}

#endif
