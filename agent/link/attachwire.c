#include "link/attachwire.h"

#include "base/frame.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST_MAX 253

static const char peer_kinds[] = {'R', 'I', 'W', 'S'};

int wire_next(const char *buf, size_t len, struct wire_frame *ret, size_t *ret_used, struct err *e)
{
    const unsigned char *b = (const unsigned char *)buf;
    char shown[8];

    if (len == 0)
        return 0;
    if (!memchr(peer_kinds, buf[0], sizeof(peer_kinds)))
        return err_say(e, EBADMSG, "a frame of the unknown kind '%s'",
                       text_escape(shown, sizeof(shown), buf, 1));
    if (len < WIRE_HEAD)
        return 0;
    size_t payload = (size_t)b[1] << 24 | (size_t)b[2] << 16 | (size_t)b[3] << 8 | b[4];
    size_t max = buf[0] == 'I' ? WIRE_PAYLOAD_MAX : WIRE_JSON_MAX;
    if (payload > max)
        return err_say(e, EBADMSG, "a frame %c of %zu bytes: at most %zu", buf[0], payload, max);
    if (len - WIRE_HEAD < payload)
        return 0;
    *ret = (struct wire_frame){.kind = buf[0], .data = buf + WIRE_HEAD, .len = payload};
    *ret_used = WIRE_HEAD + payload;
    return 1;
}

void wire_head(char out[WIRE_HEAD], char kind, size_t len)
{
    out[0] = kind;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (char)(unsigned char)(len >> (24 - 8 * i));
}

static int parse_object(const struct wire_frame *f, json_t **ret, struct err *e)
{
    int r = json_parse(f->data, f->len, WIRE_JSON_MAX, ret, e);

    if (r < 0) {
        (void)err_wrap(e, "frame %c", f->kind);
        e->errnum = EBADMSG;
        return -EBADMSG;
    }
    if (!json_is_object(*ret)) {
        json_decref(*ret);
        return err_say(e, EBADMSG, "frame %c: not an object", f->kind);
    }
    return 0;
}

/* A whole number within [min, max]. */
static bool number(const json_t *j, json_int_t min, json_int_t max, unsigned *ret)
{
    if (!json_is_integer(j) || json_integer_value(j) < min || json_integer_value(j) > max)
        return false;
    *ret = (unsigned)json_integer_value(j);
    return true;
}

int wire_size(const struct wire_frame *f, unsigned *ret_rows, unsigned *ret_cols, struct err *e)
{
    unsigned rows = 0, cols = 0;
    json_t *j = NULL;
    int r = parse_object(f, &j, e);

    if (r < 0)
        return r;
    const json_t *y = json_object_get(j, "rows"), *x = json_object_get(j, "cols");
    bool none = !y && !x;
    bool fine = none || (number(y, 0, WIRE_SIZE_MAX, &rows) && number(x, 0, WIRE_SIZE_MAX, &cols));
    json_decref(j);
    if (!fine)
        return err_say(e, EBADMSG, "frame %c: rows and cols are whole numbers up to %d", f->kind,
                       WIRE_SIZE_MAX);
    *ret_rows = rows;
    *ret_cols = cols;
    return 0;
}

int wire_signal(const struct wire_frame *f, int *ret, struct err *e)
{
    json_t *j = NULL;
    unsigned signo = 0;
    int r = parse_object(f, &j, e);

    if (r < 0)
        return r;
    bool fine = number(json_object_get(j, "signal"), 1, WIRE_SIGNAL_MAX, &signo);
    json_decref(j);
    if (!fine)
        return err_say(e, EBADMSG, "frame S: signal is a number from 1 to %d", WIRE_SIGNAL_MAX);
    *ret = (int)signo;
    return 0;
}

/* Bytes of TEXT's host, with its brackets; 0: it has none. */
static size_t host_len(const char *text)
{
    if (*text == '[') {
        size_t n = strspn(text + 1, "0123456789abcdefABCDEF:.");

        return n > 0 && text[1 + n] == ']' ? n + 2 : 0;
    }
    size_t n = 0;

    while (isalnum((unsigned char)text[n]) || text[n] == '.' || text[n] == '-' || text[n] == '_')
        n++;
    return n > HOST_MAX ? 0 : n;
}

int wire_url(const char *url, char ret[WIRE_URL_MAX], struct err *e)
{
    uint64_t port;

    if (!str_starts(url, "tls://"))
        return err_say(e, EINVAL, "an attach's URL begins with tls://");
    const char *host = url + strlen("tls://");
    size_t n = host_len(host);
    if (n == 0 || n > HOST_MAX || host[n] != ':')
        return err_say(e, EINVAL, "an attach's URL is tls://HOST:PORT");
    if (strlen(host + n + 1) > 5 || parse_u64(host + n + 1, 1, 65535, &port) < 0)
        return err_say(e, EINVAL, "an attach's URL ends with a port");
    (void)snprintf(ret, WIRE_URL_MAX, "https://%.*s:%u/", (int)n, host, (unsigned)port);
    return 0;
}
