#include "slug/fetch/head.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#define GZIP_MAGIC 0x1f
#define BARE       "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-"

/* Digits at *AT, which moves past them; at most what an offset of a file can be. */
static bool number(const char **at, uint64_t *ret)
{
    const char *p = *at;
    uint64_t n = 0;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > (uint64_t)INT64_MAX / 10 - 1)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (p == *at)
        return false;
    *at = p;
    *ret = n;
    return true;
}

static bool skip(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

bool head_content_range(const char *text, uint64_t *ret_from, uint64_t *ret_to, int64_t *ret_total)
{
    uint64_t from, to, total = 0;
    const char *p = text;
    bool known;

    if (strncasecmp(p, "bytes", 5) != 0)
        return false;
    p += 5;
    while (*p == ' ')
        p++;
    if (!number(&p, &from) || !skip(&p, '-') || !number(&p, &to) || !skip(&p, '/'))
        return false;
    known = *p != '*';
    if (known ? !number(&p, &total) : !skip(&p, '*'))
        return false;
    while (*p == ' ')
        p++;
    if (*p || to < from || (known && to >= total))
        return false;
    *ret_from = from;
    *ret_to = to;
    *ret_total = known ? (int64_t)total : -1;
    return true;
}

/* Printable ASCII only: it is sent back in a header field, and shown. */
static bool copy_plain(const char *text, char out[HEAD_TAG_MAX])
{
    size_t len = strlen(text);

    out[0] = '\0';
    if (len == 0 || len >= HEAD_TAG_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    memcpy(out, text, len + 1);
    return true;
}

/* A tag without its quotes, as Swift and others send it: what a digest or a number of parts is
 * written with. */
static bool bare_etag(const char *text, size_t len, char out[HEAD_TAG_MAX])
{
    if (len == 0 || len > HEAD_TAG_MAX - sizeof("\"\"") || strspn(text, BARE) != len)
        return false;
    out[0] = '"';
    memcpy(out + 1, text, len);
    memcpy(out + 1 + len, "\"", sizeof("\""));
    return true;
}

bool head_etag(const char *text, char out[HEAD_TAG_MAX])
{
    size_t len = strlen(text);

    out[0] = '\0';
    if (bare_etag(text, len, out))
        return true;
    return len >= 2 && text[0] == '"' && text[len - 1] == '"' && !memchr(text + 1, '"', len - 2) &&
           copy_plain(text, out);
}

bool head_date(const char *text, char out[HEAD_TAG_MAX])
{
    out[0] = '\0';
    return curl_getdate(text, NULL) >= 0 && copy_plain(text, out);
}

bool head_no_ranges(const char *accept_ranges)
{
    return accept_ranges && !strcasecmp(accept_ranges, "none");
}

bool head_is_page(const char *content_type, const char *body, size_t len)
{
    if (len == 0 || (unsigned char)body[0] == GZIP_MAGIC)
        return false;
    if (content_type && !strncasecmp(content_type, "text/html", 9))
        return true;
    while (len > 0 && strchr(" \t\r\n", body[0]) && body[0]) {
        body++;
        len--;
    }
    return len > 0 && body[0] == '<';
}
