#include "logs/render.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* The characters of RFC 3629, section 4, by their first two bytes. */
static const struct utf8_row {
    uint8_t first[2];
    uint8_t second[2];
    uint8_t len;
} utf8_rows[] = {
    {{0xc2, 0xdf}, {0x80, 0xbf}, 2}, {{0xe0, 0xe0}, {0xa0, 0xbf}, 3},
    {{0xe1, 0xec}, {0x80, 0xbf}, 3}, {{0xed, 0xed}, {0x80, 0x9f}, 3},
    {{0xee, 0xef}, {0x80, 0xbf}, 3}, {{0xf0, 0xf0}, {0x90, 0xbf}, 4},
    {{0xf1, 0xf3}, {0x80, 0xbf}, 4}, {{0xf4, 0xf4}, {0x80, 0x8f}, 4},
};

/* The length of the character at P; 0: there is none. */
static size_t utf8_char(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof(utf8_rows) / sizeof(*utf8_rows); i++) {
        const struct utf8_row *row = &utf8_rows[i];

        if (p[0] < row->first[0] || p[0] > row->first[1])
            continue;
        if (left < row->len || p[1] < row->second[0] || p[1] > row->second[1])
            return 0;
        for (size_t k = 2; k < row->len; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return row->len;
    }
    return 0;
}

static void add_utf8(struct str *out, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;

    for (size_t i = 0, n; i < len; i += n ? n : 1) {
        n = utf8_char(p + i, len - i);
        if (n == 0)
            str_add(out, REPLACEMENT);
        else if (p[i] != '\0')
            str_add_n(out, text + i, n);
    }
}

/* Everything but NUL. */
static void add_text(struct str *out, const char *text, size_t len)
{
    while (len > 0) {
        const char *nul = memchr(text, '\0', len);
        size_t n = nul ? (size_t)(nul - text) : len;

        str_add_n(out, text, n);
        n += nul ? 1 : 0;
        text += n;
        len -= n;
    }
}

static void render_text(struct str *out, const struct msg *m, const char *time, const char *source)
{
    str_addf(out, "%s %s[%.*s]: ", time, source, (int)m->line.dyno_len, m->line.dyno);
    add_text(out, m->line.text, m->line.text_len);
    str_add(out, "\n");
}

static void render_json(struct str *out, const struct msg *m, const char *time, const char *source)
{
    struct str text = {0};

    add_utf8(&text, m->line.text, m->line.text_len);
    scoped(json_freep) json_t *j =
        json_pack("{s:s,s:s,s:s%,s:s,s:s%}", "t", time, "app", m->app, "dyno", m->line.dyno,
                  m->line.dyno_len, "source", source, "text", str_text(&text), text.len);
    scoped_free char *line = j && !text.failed ? json_dumps(j, JSON_COMPACT) : NULL;
    if (line) {
        str_add(out, line);
        str_add(out, "\n");
    } else {
        out->failed = true;
    }
    str_done(&text);
}

void render(struct str *out, const struct msg *m, enum render_format format, const char *platform)
{
    const char *source = m->line.kind == RECORD_PLATFORM ? platform : LOG_SOURCE_APP;
    char time[CLOCK_TEXT_MAX];

    (void)clock_text(m->line.t, time);
    if (format == RENDER_JSON)
        render_json(out, m, time, source);
    else
        render_text(out, m, time, source);
}
