#include "core/state/journal_line.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "core/state/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "CRC32 LENGTH " and the end of the line: 8 + 1 + 7 + 1, 1. */
#define LINE_AROUND 18
#define READ_FIRST  (64u << 10)

uint32_t crc32_of(const void *data, size_t len)
{
    /* The usual table of 256, folded to half bytes: two look-ups a byte, 64 bytes of table. */
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const unsigned char *p = data;
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

int line_encode(const json_t *json, struct str *out, struct err *e)
{
    scoped_free char *text = json_dumps(json, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0;

    if (!text)
        return err_set(e, ENOMEM, "write a journal entry");
    if (len > JOURNAL_LINE_MAX) {
        (void)err_say(e, EMSGSIZE, "an entry of %zu bytes is over the journal's limit of %u", len,
                      JOURNAL_LINE_MAX);
        return err_blame(e, FAULT_OPERATOR);
    }
    str_addf(out, "%08x %zu ", crc32_of(text, len), len);
    str_add_n(out, text, len);
    str_add_n(out, "\n", 1);
    return out->failed ? err_set(e, ENOMEM, "write a journal entry") : 0;
}

void line_reader_done(struct line_reader *r)
{
    free(r->buf);
    *r = (struct line_reader){.fd = -1};
}

/* Room behind the unread bytes: moves them to the front, or grows, up to one longest line. */
static int make_room(struct line_reader *r, struct err *e)
{
    if (r->start > 0) {
        memmove(r->buf, r->buf + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    if (r->end < r->cap)
        return 0;
    size_t cap = r->cap ? r->cap * 2 : READ_FIRST;
    char *buf = realloc(r->buf, cap);
    if (!buf)
        return err_set(e, ENOMEM, "read the journal");
    r->buf = buf;
    r->cap = cap;
    return 0;
}

/* The end of the next line, its '\n'; NULL: the file ended, or the line is over the limit. */
static int find_end(struct line_reader *r, char **ret, struct err *e)
{
    size_t searched = 0;

    for (;;) {
        size_t have = r->end - r->start;

        *ret = have ? memchr(r->buf + r->start + searched, '\n', have - searched) : NULL;
        if (*ret || r->eof || have > JOURNAL_LINE_MAX + LINE_AROUND)
            return 0;
        searched = have;
        int x = make_room(r, e);
        if (x < 0)
            return x;
        ssize_t n = fd_read_full(r->fd, r->buf + r->end, r->cap - r->end);
        if (n < 0)
            return err_set(e, (int)-n, "read the journal");
        r->eof = (size_t)n < r->cap - r->end;
        r->end += (size_t)n;
    }
}

/* TEXT, NUL-terminated where its '\n' was, perhaps with other NULs before: they end what stands
 * before the JSON, and are no JSON. NULL: fine; else what is wrong. */
static const char *decode(char *text, size_t len, json_t **ret)
{
    struct err ignored = ERR_INIT;
    uint64_t length;
    char *space, *crc_end;

    unsigned long crc = strtoul(text, &crc_end, 16);
    if (crc_end != text + 8 || *crc_end != ' ')
        return "no checksum";
    space = strchr(crc_end + 1, ' ');
    if (!space)
        return "no length";
    *space = '\0';
    const char *json = space + 1;
    size_t json_len = (size_t)(text + len - json);
    if (parse_u64(crc_end + 1, 0, JOURNAL_LINE_MAX, &length) < 0 || length != json_len)
        return "a wrong length";
    if (crc != crc32_of(json, json_len))
        return "a wrong checksum";
    if (json_parse(json, json_len, JOURNAL_LINE_MAX, ret, &ignored) < 0)
        return "no JSON";
    return NULL;
}

int line_next(struct line_reader *r, enum line_kind *ret, json_t **ret_json, const char **ret_why,
              struct err *e)
{
    char *nl;
    int x = find_end(r, &nl, e);

    if (x < 0)
        return x;
    if (!nl && r->start == r->end) {
        *ret = LINE_END;
        return 0;
    }
    *ret = LINE_BAD;
    char *text = r->buf + r->start;
    size_t len = nl ? (size_t)(nl - text) : r->end - r->start;
    if (!nl || len > JOURNAL_LINE_MAX + LINE_AROUND) {
        *ret_why = nl || !r->eof ? "a line over the limit" : "an unfinished line";
        return 0;
    }
    *nl = '\0';
    *ret_why = decode(text, len, ret_json);
    if (*ret_why)
        return 0;
    *ret = LINE_GOOD;
    r->start += len + 1;
    r->offset += (off_t)len + 1;
    return 0;
}
