#include "slug/gunzip.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IN_CHUNK  131072
#define QUOTE_MAX 80
#define SHOWN_MAX 16 /* bytes of something else that the error shows */

enum state {
    STATE_MEMBER, /* before a header, or the end */
    STATE_BODY,
    STATE_BROKEN,  /* in a body that does not go on */
    STATE_TRAILER, /* behind a body */
    STATE_ENDED,
};

/* RFC 1952, section 2.3.1. */
enum { FLAG_HCRC = 2, FLAG_EXTRA = 4, FLAG_NAME = 8, FLAG_COMMENT = 16, FLAGS_RESERVED = 0xe0 };

static int bad(struct err *e, const char *why)
{
    err_say(e, EBADMSG, "%s", why);
    return err_blame(e, FAULT_APP);
}

static int cut_short(struct err *e)
{
    return bad(e, "the gzip file is cut short");
}

/* Fills the empty buffer. 1, 0 at the end, -errno. */
static int refill(struct gunzip *g, struct err *e)
{
    ssize_t n;

    if (g->up_ended)
        return 0;
    n = stream_read(g->up, g->buf + INFLATE_PUT_BACK_MAX, IN_CHUNK, e);
    if (n < 0)
        return (int)n;
    g->in = g->buf + INFLATE_PUT_BACK_MAX;
    g->in_len = (size_t)n;
    g->in_total += (size_t)n;
    g->up_ended = n == 0;
    return n > 0;
}

/* The next byte, unless the input has ended. 1, 0, -errno. */
static int get(struct gunzip *g, uint8_t *ret, struct err *e)
{
    int r = g->in_len > 0 ? 1 : refill(g, e);

    if (r <= 0)
        return r;
    *ret = *g->in++;
    g->in_len--;
    return 1;
}

/* N bytes that must be there, into BUF unless NULL, and into the CRC of the header. */
static int need(struct gunzip *g, uint8_t *buf, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t byte;
        int r = get(g, &byte, e);

        if (r <= 0)
            return r < 0 ? r : cut_short(e);
        g->crc = g->ops->crc(g->crc, &byte, 1);
        if (buf)
            buf[i] = byte;
    }
    return 0;
}

static int skip_text(struct gunzip *g, struct err *e)
{
    uint8_t byte;
    int r;

    do
        r = need(g, &byte, 1, e);
    while (r == 0 && byte != 0);
    return r;
}

/* What follows the fixed ten bytes. */
static int read_header_fields(struct gunzip *g, unsigned flags, struct err *e)
{
    uint8_t b[2] = {0};
    int r = 0;

    if (flags & FLAG_EXTRA) {
        r = need(g, b, 2, e);
        if (r == 0)
            r = need(g, NULL, (size_t)(b[0] | b[1] << 8), e);
    }
    if (r == 0 && (flags & FLAG_NAME))
        r = skip_text(g, e);
    if (r == 0 && (flags & FLAG_COMMENT))
        r = skip_text(g, e);
    if (r == 0 && (flags & FLAG_HCRC)) {
        unsigned crc = g->crc & 0xffff;

        r = need(g, b, 2, e);
        if (r == 0 && crc != (unsigned)(b[0] | b[1] << 8))
            return bad(e, "the gzip header's checksum is wrong");
    }
    return r;
}

/* Says what was found instead: the first word tells an error page from an archive. */
static int not_gzip(struct gunzip *g, const uint8_t *head, size_t n, struct err *e)
{
    char quoted[QUOTE_MAX], shown[SHOWN_MAX];
    size_t len = n;
    uint8_t byte;

    memcpy(shown, head, n);
    while (len < sizeof(shown) && get(g, &byte, e) > 0)
        shown[len++] = (char)byte;
    for (size_t i = 1; i < len; i++)
        if (strchr("> \t\r\n", shown[i])) {
            len = i;
            break;
        }
    err_say(e, EBADMSG, "not a gzip file (starts with \"%s\")",
            text_escape(quoted, sizeof(quoted), shown, len));
    return err_blame(e, FAULT_APP);
}

/* The rest of a header whose first byte is FIRST. */
static int read_header(struct gunzip *g, uint8_t first, struct err *e)
{
    uint8_t head[10] = {first};
    int r;

    g->crc = g->ops->crc(0, head, 1);
    if (first != 0x1f)
        return not_gzip(g, head, 1, e);
    r = need(g, head + 1, 1, e);
    if (r < 0)
        return r;
    if (head[1] != 0x8b)
        return not_gzip(g, head, 2, e);
    r = need(g, head + 2, 8, e);
    if (r < 0)
        return r;
    if (head[2] != 8 || (head[3] & FLAGS_RESERVED))
        return bad(e, "an unknown kind of gzip file");
    r = read_header_fields(g, head[3], e);
    if (r < 0)
        return r;
    if (g->n_members++ > 0 && g->ops->reset(g->inflater) < 0)
        return err_say(e, EINVAL, "prepare to inflate");
    g->crc = 0;
    g->size = 0;
    g->state = STATE_BODY;
    return 0;
}

/* Nothing but zeros up to the end. */
static int read_padding(struct gunzip *g, struct err *e)
{
    uint8_t byte = 0;
    int r;

    while ((r = get(g, &byte, e)) > 0)
        if (byte != 0)
            return bad(e, "trailing garbage after the gzip file");
    g->state = STATE_ENDED;
    return r;
}

/* Before a member: its header, the padding, or the end. */
static int read_member(struct gunzip *g, struct err *e)
{
    uint8_t first;
    int r = get(g, &first, e);

    if (r < 0)
        return r;
    if (r == 0 && g->n_members == 0)
        return bad(e, "the file is empty");
    if (r == 0) {
        g->state = STATE_ENDED;
        return 0;
    }
    if (g->n_members > 0 && first == 0)
        return read_padding(g, e);
    if (g->n_members > 0 && first != 0x1f)
        return bad(e, "trailing garbage after the gzip file");
    return read_header(g, first, e);
}

static uint32_t le32(const uint8_t b[4])
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int read_trailer(struct gunzip *g, struct err *e)
{
    uint32_t crc = g->crc;
    uint8_t b[8] = {0};
    int r = need(g, b, sizeof(b), e);

    if (r < 0)
        return r;
    if (le32(b) != crc)
        return bad(e, "the gzip file is damaged: its checksum is wrong");
    if (le32(b + 4) != g->size)
        return bad(e, "the gzip file is damaged: its length is wrong");
    g->state = STATE_MEMBER;
    return 0;
}

static int check_limits(const struct gunzip *g, struct err *e)
{
    if (g->out_max && g->out_total > g->out_max) {
        err_say(e, EFBIG, "the archive is over the limit of %llu unpacked bytes (unpacked_max)",
                (unsigned long long)g->out_max);
        return err_blame(e, FAULT_APP);
    }
    if (g->ratio_max && g->out_total > GUNZIP_RATIO_FROM &&
        g->out_total / g->ratio_max > g->in_total) {
        err_say(e, EFBIG,
                "the archive unpacks to over the limit of %llu times its size (ratio_max)",
                (unsigned long long)g->ratio_max);
        return err_blame(e, FAULT_APP);
    }
    return 0;
}

/* One step of the body. The bytes that it gave, or -errno; the state may have changed. What comes
 * before a flaw is given before the flaw is told, so that it is the first flaw of an archive that
 * is told, however the bytes were cut up on their way. */
static ssize_t read_body(struct gunzip *g, void *buf, size_t cap, struct err *e)
{
    int r = check_limits(g, e);

    if (r == 0)
        r = g->in_len > 0 ? 1 : refill(g, e);
    if (r < 0)
        return r;
    if (g->in_len == 0) /* the inflater may still hold output */
        g->in = g->buf + INFLATE_PUT_BACK_MAX;
    struct inflate_io io = {.in = g->in, .in_len = g->in_len, .out = buf, .out_len = cap};
    enum inflate_result result = g->ops->step(g->inflater, &io);
    size_t n = cap - io.out_len;
    if (result == INFLATE_MORE && n == 0 && g->up_ended && io.in_len == g->in_len)
        return cut_short(e);
    g->in = io.in;
    g->in_len = io.in_len;
    g->crc = g->ops->crc(g->crc, buf, n);
    g->size += (uint32_t)n;
    g->out_total += n;
    if (result != INFLATE_MORE)
        g->state = result == INFLATE_END ? STATE_TRAILER : STATE_BROKEN;
    return (ssize_t)n;
}

static ssize_t read_state(struct gunzip *g, void *buf, size_t cap, struct err *e)
{
    int r = 0;

    switch (g->state) {
    case STATE_MEMBER:
        return read_member(g, e);
    case STATE_BODY:
        return read_body(g, buf, cap, e);
    case STATE_TRAILER:
        r = check_limits(g, e);
        return r < 0 ? r : read_trailer(g, e);
    default:
        return bad(e, "the gzip file is damaged");
    }
}

static ssize_t gunzip_read(struct stream *base, void *buf, size_t cap, struct err *e)
{
    struct gunzip *g = (struct gunzip *)base;

    while (g->state != STATE_ENDED) {
        ssize_t n = read_state(g, buf, cap, e);

        if (n != 0)
            return n;
    }
    return 0;
}

int gunzip_init(struct gunzip *g, struct stream *up, const struct inflate_ops *ops, struct err *e)
{
    *g = (struct gunzip){
        .s = {.read = gunzip_read, .step = "gzip"},
        .up = up,
        .ops = ops ? ops : inflate_best(),
    };
    g->inflater = g->ops->new ();
    g->buf = malloc(INFLATE_PUT_BACK_MAX + IN_CHUNK);
    if (!g->inflater || !g->buf) {
        gunzip_done(g);
        return err_set(e, ENOMEM, "prepare to inflate");
    }
    g->in = g->buf + INFLATE_PUT_BACK_MAX;
    return 0;
}

void gunzip_done(struct gunzip *g)
{
    if (g->inflater)
        g->ops->free(g->inflater);
    free(g->buf);
    g->inflater = NULL;
    g->buf = NULL;
}
