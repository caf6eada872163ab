#include "logs/lines.h"

#include "base/logproto.h"

#include <string.h>

#define UTF8_CONTINUED_MAX 3 /* bytes of a character after its first */

static bool utf8_continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Where to cut DATA, which has no end within LOG_LINE_MAX. */
static size_t cut_at(const char *data, size_t len)
{
    size_t at = LOG_LINE_MAX;

    if (at == len)
        return at;
    while (at > LOG_LINE_MAX - UTF8_CONTINUED_MAX && utf8_continues(data[at]))
        at--;
    return utf8_continues(data[at]) ? LOG_LINE_MAX : at; /* that was no UTF-8: any place will do */
}

bool line_cut(const char *data, size_t len, bool last, struct line *ret)
{
    const char *lf = len ? memchr(data, '\n', len < LINE_WINDOW ? len : LINE_WINDOW) : NULL;

    if (lf) {
        size_t n = (size_t)(lf - data);
        size_t text = n > 0 && data[n - 1] == '\r' ? n - 1 : n;

        if (text <= LOG_LINE_MAX) {
            *ret = (struct line){data, text, n + 1};
            return true;
        }
    } else if (len < LINE_WINDOW) {
        if (!last || len == 0)
            return false;
        if (len <= LOG_LINE_MAX) {
            *ret = (struct line){data, len, len};
            return true;
        }
    }
    size_t at = cut_at(data, len);
    *ret = (struct line){data, at, at};
    return true;
}
