#include "logs/record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

struct head {
    uint32_t len; /* of the whole record */
    uint32_t crc; /* of LEN and everything after CRC */
    uint64_t t;
    uint64_t seq;
    uint64_t end;
    uint32_t text_len;
    uint16_t inc_len;
    uint8_t dyno_len;
    uint8_t kind;
};
static_assert(sizeof(struct head) + sizeof(uint32_t) == RECORD_FIXED, "no padding");
static_assert(RECORD_DYNO_MAX <= UINT8_MAX && LOG_INC_MAX <= UINT16_MAX, "lengths fit");

#define CRC_FROM offsetof(struct head, t)

size_t record_size(const struct record *r)
{
    return RECORD_FIXED + r->dyno_len + r->inc_len + r->text_len;
}

static uint32_t record_crc(const unsigned char *data, uint32_t len)
{
    uLong crc = crc32(0, (const Bytef *)&len, sizeof(len));

    return (uint32_t)crc32(crc, data + CRC_FROM, (uInt)(len - CRC_FROM));
}

static unsigned char *put(unsigned char *p, const void *data, size_t len)
{
    if (len > 0)
        memcpy(p, data, len);
    return p + len;
}

size_t record_encode(const struct record *r, void *out)
{
    assert(r->dyno_len <= RECORD_DYNO_MAX && r->inc_len <= LOG_INC_MAX &&
           r->text_len <= LOG_LINE_MAX);
    struct head head = {
        .len = (uint32_t)record_size(r),
        .t = r->t,
        .seq = r->seq,
        .end = r->end,
        .text_len = (uint32_t)r->text_len,
        .inc_len = (uint16_t)r->inc_len,
        .dyno_len = (uint8_t)r->dyno_len,
        .kind = (uint8_t)r->kind,
    };
    unsigned char *p = put(out, &head, sizeof(head));

    p = put(p, r->dyno, r->dyno_len);
    p = put(p, r->inc, r->inc_len);
    p = put(p, r->text, r->text_len);
    (void)put(p, &head.len, sizeof(head.len));
    head.crc = record_crc(out, head.len);
    memcpy((unsigned char *)out + offsetof(struct head, crc), &head.crc, sizeof(head.crc));
    return head.len;
}

static bool head_is_sane(const struct head *h, size_t len)
{
    return h->len <= len && h->kind >= RECORD_APP && h->kind <= RECORD_SEQ &&
           h->dyno_len <= RECORD_DYNO_MAX && h->inc_len <= LOG_INC_MAX &&
           h->text_len <= LOG_LINE_MAX &&
           h->len == RECORD_FIXED + h->dyno_len + h->inc_len + h->text_len;
}

ssize_t record_decode(const void *data, size_t len, bool check, struct record *ret)
{
    const unsigned char *bytes = data;
    struct head h;

    if (len < RECORD_FIXED)
        return -EBADMSG;
    memcpy(&h, bytes, sizeof(h));
    if (!head_is_sane(&h, len))
        return -EBADMSG;
    if (check && record_crc(bytes, h.len) != h.crc)
        return -EBADMSG;
    const char *dyno = (const char *)bytes + sizeof(h);
    *ret = (struct record){
        .kind = (enum record_kind)h.kind,
        .t = h.t,
        .seq = h.seq,
        .end = h.end,
        .dyno = dyno,
        .dyno_len = h.dyno_len,
        .inc = dyno + h.dyno_len,
        .inc_len = h.inc_len,
        .text = dyno + h.dyno_len + h.inc_len,
        .text_len = h.text_len,
    };
    return (ssize_t)h.len;
}

ssize_t record_decode_last(const void *data, size_t len, struct record *ret)
{
    const unsigned char *bytes = data;
    uint32_t size;

    if (len < RECORD_FIXED)
        return -EBADMSG;
    memcpy(&size, bytes + len - sizeof(size), sizeof(size));
    if (size < RECORD_FIXED || size > len)
        return -EBADMSG;
    ssize_t n = record_decode(bytes + len - size, size, false, ret);
    return n == (ssize_t)size ? n : -EBADMSG;
}
