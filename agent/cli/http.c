#include "cli/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void http_done(struct http *h)
{
    str_done(&h->line);
    *h = (struct http){0};
}

static int bad(struct err *e, const char *what)
{
    return err_say(e, EBADMSG, "the agent's answer is not HTTP: %s", what);
}

/* "HTTP/1.1 200 OK" */
static int parse_status(const char *line, int *ret, struct err *e)
{
    if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ')
        return bad(e, "no status line");
    const char *p = line + 9;
    for (int i = 0; i < 3; i++)
        if (p[i] < '0' || p[i] > '9')
            return bad(e, "no status");
    if (p[3] != ' ' && p[3] != '\0')
        return bad(e, "no status");
    int status = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
    if (status < 100 || status > 599)
        return bad(e, "no status");
    *ret = status;
    return 0;
}

struct framing {
    bool chunked;
    bool has_length;
    uint64_t length;
};

/* One field line, "Name: value", without its line end. Only what frames the body matters here. */
static int parse_field(char *line, struct framing *f, struct err *e)
{
    char *colon = strchr(line, ':');
    uint64_t length;

    if (!colon || colon == line || strcspn(line, " \t") < (size_t)(colon - line))
        return bad(e, "a header without a name");
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t n = strlen(value); n > 0 && strchr(" \t", value[n - 1]); n--)
        value[n - 1] = '\0';
    if (!strcasecmp(line, "transfer-encoding")) {
        if (strcasecmp(value, "chunked") != 0)
            return bad(e, "an unknown transfer encoding");
        f->chunked = true;
    } else if (!strcasecmp(line, "content-length")) {
        if (parse_u64(value, 0, UINT64_MAX, &length) < 0)
            return bad(e, "Content-Length is not a number");
        if (f->has_length && f->length != length)
            return bad(e, "two different lengths");
        f->has_length = true;
        f->length = length;
    }
    return 0;
}

/* The head is whole: in h->line, lines ended by LF. */
static int parse_head(struct http *h, struct err *e)
{
    struct framing f = {0};
    char *save = NULL;
    int status = 0, r;

    if (memchr(h->line.data, '\0', h->line.len))
        return bad(e, "a NUL in its head");
    char *line = strtok_r(h->line.data, "\r\n", &save);
    r = line ? parse_status(line, &status, e) : bad(e, "no status line");
    while (r == 0 && (line = strtok_r(NULL, "\r\n", &save)))
        r = parse_field(line, &f, e);
    if (r < 0)
        return r;
    str_done(&h->line);
    if (status >= 100 && status < 200 && status != 101)
        return 0; /* 100 Continue: the real head follows */
    if (f.chunked && f.has_length)
        return bad(e, "both a length and chunks");
    h->status = status;
    h->left = f.length;
    if (status == 101)
        h->state = HTTP_UPGRADED;
    else if (status == 204 || status == 304 || (f.has_length && f.length == 0))
        h->state = HTTP_DONE;
    else if (f.chunked)
        h->state = HTTP_CHUNK_SIZE;
    else
        h->state = f.has_length ? HTTP_LENGTH : HTTP_UNTIL_CLOSE;
    return 0;
}

static bool head_whole(const struct str *s)
{
    return (s->len >= 2 && !memcmp(s->data + s->len - 2, "\n\n", 2)) ||
           (s->len >= 4 && !memcmp(s->data + s->len - 4, "\r\n\r\n", 4));
}

static int feed_head(struct http *h, char c, struct err *e)
{
    str_add_n(&h->line, &c, 1);
    if (h->line.failed || h->line.len > HTTP_HEAD_MAX)
        return err_say(e, EMSGSIZE, "the head of the agent's answer is over %u bytes",
                       HTTP_HEAD_MAX);
    return head_whole(&h->line) ? parse_head(h, e) : 0;
}

/* "1a2b;extension" */
static int parse_chunk_size(struct http *h, struct err *e)
{
    const char *p = str_text(&h->line);
    uint64_t size = 0;
    int digits = 0;

    for (;; p++, digits++) {
        unsigned digit = *p >= '0' && *p <= '9'   ? (unsigned)(*p - '0')
                         : *p >= 'a' && *p <= 'f' ? (unsigned)(*p - 'a') + 10
                         : *p >= 'A' && *p <= 'F' ? (unsigned)(*p - 'A') + 10
                                                  : 16;
        if (digit == 16)
            break;
        if (digits == 15)
            return bad(e, "a chunk's size");
        size = size * 16 + digit;
    }
    if (!digits || !strchr(" \t;\r\n", *p))
        return bad(e, "a chunk's size");
    h->left = size;
    h->state = size ? HTTP_CHUNK_DATA : HTTP_TRAILER;
    return 0;
}

/* One byte of the lines around chunks. */
static int feed_line(struct http *h, char c, struct err *e)
{
    str_add_n(&h->line, &c, 1);
    if (h->line.failed || h->line.len > HTTP_LINE_MAX)
        return err_say(e, EMSGSIZE, "a line in the agent's answer is over %u bytes", HTTP_LINE_MAX);
    if (c != '\n')
        return 0;
    const char *text = str_text(&h->line);
    bool empty = !strcmp(text, "\n") || !strcmp(text, "\r\n");
    int r = 0;
    if (h->state == HTTP_CHUNK_SIZE)
        r = parse_chunk_size(h, e);
    else if (h->state == HTTP_TRAILER)
        h->state = empty ? HTTP_DONE : HTTP_TRAILER;
    else if (empty)
        h->state = HTTP_CHUNK_SIZE;
    else
        r = bad(e, "a chunk longer than its size");
    str_done(&h->line);
    return r;
}

/* Body bytes of a known or open length; returns how many of LEN belong to it. */
static size_t feed_body(struct http *h, const char *data, size_t len, struct str *body)
{
    size_t n = h->state == HTTP_UNTIL_CLOSE || h->left > len ? len : (size_t)h->left;

    str_add_n(body, data, n);
    if (h->state != HTTP_UNTIL_CLOSE) {
        h->left -= n;
        if (h->left == 0)
            h->state = h->state == HTTP_LENGTH ? HTTP_DONE : HTTP_CHUNK_END;
    }
    return n;
}

int http_feed(struct http *h, const char *data, size_t len, struct str *body, size_t *ret_used,
              struct err *e)
{
    size_t used = 0;

    while (used < len && h->state != HTTP_DONE && h->state != HTTP_UPGRADED) {
        int r = 0;

        if (h->state == HTTP_LENGTH || h->state == HTTP_CHUNK_DATA || h->state == HTTP_UNTIL_CLOSE)
            used += feed_body(h, data + used, len - used, body);
        else if (h->state == HTTP_HEAD)
            r = feed_head(h, data[used++], e);
        else
            r = feed_line(h, data[used++], e);
        if (r < 0)
            return r;
        if (body->failed)
            return err_say(e, EMSGSIZE, "the agent's answer is over the limit of %zu bytes",
                           body->max);
    }
    *ret_used = used;
    return 0;
}

int http_eof(struct http *h, struct err *e)
{
    if (h->state == HTTP_UNTIL_CLOSE)
        h->state = HTTP_DONE;
    if (h->state == HTTP_DONE)
        return 0;
    return err_say(e, EPIPE, "the agent closed the connection in the middle of its answer");
}
