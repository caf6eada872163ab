#include "slug/fetch/s3_error.h"

#include <string.h>

#define NAME_MAX_LEN 64
#define DEPTH_MAX    8

struct scan {
    const char *at, *end;
};

enum tag {
    TAG_OPEN,
    TAG_CLOSE,
    TAG_EMPTY,
    TAG_NONE, /* the end, or what is no tag */
};

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("._-:", c));
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && *s->at && strchr(" \t\r\n", *s->at))
        s->at++;
}

static bool skip_text(struct scan *s, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(s->end - s->at) < len || memcmp(s->at, text, len) != 0)
        return false;
    s->at += len;
    return true;
}

/* The rest of a tag behind its name, attributes and all. */
static enum tag finish_tag(struct scan *s, enum tag kind)
{
    char quote = '\0';

    for (; s->at < s->end; s->at++) {
        char c = *s->at;

        if (quote) {
            quote = c == quote ? '\0' : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '<') {
            return TAG_NONE;
        } else if (c == '>') {
            bool empty = kind == TAG_OPEN && s->at[-1] == '/';

            s->at++;
            return empty ? TAG_EMPTY : kind;
        }
    }
    return TAG_NONE;
}

/* A tag that begins here; comments, doctypes and such are none. */
static enum tag take_tag(struct scan *s, char name[NAME_MAX_LEN])
{
    size_t n = 0;

    if (!skip_text(s, "<"))
        return TAG_NONE;
    enum tag kind = skip_text(s, "/") ? TAG_CLOSE : TAG_OPEN;
    for (; s->at < s->end && is_name(*s->at) && n < NAME_MAX_LEN - 1; s->at++)
        name[n++] = *s->at;
    name[n] = '\0';
    return n > 0 ? finish_tag(s, kind) : TAG_NONE;
}

/* The character that the reference at *AT stands for; one that we do not know stays as it is. */
static char take_char(struct scan *s)
{
    static const struct {
        const char *text;
        char c;
    } known[] = {{"&amp;", '&'},   {"&lt;", '<'},  {"&gt;", '>'},   {"&quot;", '"'},
                 {"&apos;", '\''}, {"&#34;", '"'}, {"&#39;", '\''}, {"&#x27;", '\''}};

    for (size_t i = 0; *s->at == '&' && i < sizeof(known) / sizeof(known[0]); i++)
        if (skip_text(s, known[i].text))
            return known[i].c;
    return *s->at++;
}

/* Text up to the next tag, cut to CAP-1 bytes. */
static void take_text(struct scan *s, char *out, size_t cap)
{
    size_t n = 0;

    while (s->at < s->end && *s->at != '<') {
        char c = take_char(s);

        if (c && n < cap - 1)
            out[n++] = c;
    }
    out[n] = '\0';
}

/* The rest of an element whose opening tag was taken. */
static bool skip_element(struct scan *s)
{
    char name[NAME_MAX_LEN];
    unsigned depth = 1;

    while (depth > 0 && depth <= DEPTH_MAX) {
        const char *next = memchr(s->at, '<', (size_t)(s->end - s->at));

        if (!next)
            return false;
        s->at = next;
        switch (take_tag(s, name)) {
        case TAG_OPEN:
            depth++;
            break;
        case TAG_CLOSE:
            depth--;
            break;
        case TAG_EMPTY:
            break;
        case TAG_NONE:
        default:
            return false;
        }
    }
    return depth == 0;
}

static bool is_word(const char *text)
{
    for (; *text; text++)
        if (!is_name(*text) || *text == ':')
            return false;
    return true;
}

/* The value of the child NAME, behind its opening tag. False: nothing that follows is to be had. */
static bool take_child(struct scan *s, const char *name, struct s3_error *o)
{
    struct {
        const char *name;
        char *value;
        size_t cap;
        bool word;
    } const wanted[] = {
        {"Code", o->code, sizeof(o->code), true},
        {"Region", o->region, sizeof(o->region), true},
        {"Message", o->message, sizeof(o->message), false},
        {"Endpoint", o->endpoint, sizeof(o->endpoint), false},
    };
    const struct scan before = *s;
    char text[sizeof(o->message)], closing[NAME_MAX_LEN];

    take_text(s, text, sizeof(text));
    if (s->at == s->end)
        return false;
    if (take_tag(s, closing) != TAG_CLOSE) {
        *s = before;
        return skip_element(s);
    }
    if (strcmp(closing, name) != 0)
        return false;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        size_t len = strlen(text);

        if (strcmp(name, wanted[i].name) != 0 || wanted[i].value[0])
            continue; /* the first one counts */
        if (len < wanted[i].cap && (!wanted[i].word || is_word(text)))
            memcpy(wanted[i].value, text, len + 1);
    }
    return true;
}

bool s3_error_parse(const char *body, size_t len, struct s3_error *ret)
{
    struct scan s = {body, body + len};
    struct s3_error o = {0};
    char name[NAME_MAX_LEN];

    (void)skip_text(&s, "\xef\xbb\xbf");
    skip_blanks(&s);
    if (skip_text(&s, "<?xml") && finish_tag(&s, TAG_CLOSE) == TAG_NONE)
        return false;
    skip_blanks(&s);
    if (take_tag(&s, name) != TAG_OPEN || strcmp(name, "Error") != 0)
        return false;
    for (bool more = true; more;) {
        skip_blanks(&s);
        enum tag tag = take_tag(&s, name);

        more = tag == TAG_EMPTY || (tag == TAG_OPEN && take_child(&s, name, &o));
    }
    if (!o.code[0])
        return false;
    *ret = o;
    return true;
}
