#include "core/api/api_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SEGMENTS_MAX 6
#define TEXT_MAX     160 /* of a decoded segment, or of a query's name or value: no name is longer */

struct path {
    char segments[SEGMENTS_MAX][TEXT_MAX + 1];
    size_t n;
};

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* LEN bytes of TEXT with every %XX decoded; nothing else is. What a control character is good for
 * in a name, nobody can say, so it is refused, and NUL with it. */
static int decode(const char *text, size_t len, char out[TEXT_MAX + 1], struct err *e)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '%') {
            int high = len - i > 2 ? hex(text[i + 1]) : -1;
            int low = len - i > 2 ? hex(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return err_say(e, EINVAL, "'%%' without two hexadecimal digits in the URL");
            c = (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (c < ' ' || c == 0x7f)
            return err_say(e, EINVAL, "a control character in the URL");
        if (n == TEXT_MAX)
            return err_say(e, EINVAL, "a part of the URL is longer than %d bytes", TEXT_MAX);
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return 0;
}

/* -ENOENT: more segments than any route has, or not a path. */
static int split(const char *url, struct path *ret, struct err *e)
{
    ret->n = 0;
    if (*url != '/')
        return -ENOENT;
    while (*url == '/') {
        size_t len = strcspn(++url, "/");

        if (ret->n == SEGMENTS_MAX)
            return -ENOENT;
        int r = decode(url, len, ret->segments[ret->n++], e);
        if (r < 0)
            return r;
        url += len;
    }
    return 0;
}

static bool matches(const char *pattern, const struct path *path)
{
    size_t i = 0;

    while (*pattern == '/') {
        size_t len = strcspn(++pattern, "/");

        if (i == path->n)
            return false;
        const char *segment = path->segments[i++];
        if (*pattern != '{' && (strlen(segment) != len || memcmp(segment, pattern, len) != 0))
            return false;
        pattern += len;
    }
    return i == path->n;
}

static int take_app(struct params *p, const char *name, struct err *e)
{
    if (!app_name_valid(name)) {
        err_say(e, EINVAL,
                "'%s' is not the name of an app: a small letter, then small letters, digits and "
                "'-', %d in all at most",
                name, APP_NAME_MAX);
        return err_blame(e, FAULT_OPERATOR);
    }
    memcpy(p->app, name, strlen(name) + 1);
    return 0;
}

static int take_dyno(struct params *p, const char *name, struct err *e)
{
    char text[APP_NAME_MAX + 1 + TEXT_MAX + 1];
    struct dyno_name parsed;

    (void)snprintf(text, sizeof(text), "%s/%s", p->app, name); /* both are bounded */
    if (strchr(name, '/') || dyno_name_parse(text, &parsed) < 0) {
        err_say(e, EINVAL, "'%s' is not the name of a dyno: a type and a number, as web.1", name);
        return err_blame(e, FAULT_OPERATOR);
    }
    (void)dyno_name_short(&parsed, p->dyno);
    return 0;
}

static int take_digest(struct params *p, const char *text, struct err *e)
{
    if (digest_parse(text, &p->digest) == 0)
        return 0;
    err_say(e, EINVAL, "'%s' is not the digest of a slug: sha256: and 64 hexadecimal digits", text);
    return err_blame(e, FAULT_OPERATOR);
}

static int take_names(struct request *rq, const struct path *path, struct err *e)
{
    const char *pattern = rq->route->path;
    int r = 0;

    for (size_t i = 0; r == 0 && i < path->n; i++) {
        size_t len = strcspn(++pattern, "/");

        if (!strncmp(pattern, "{app}", len))
            r = take_app(&rq->params, path->segments[i], e);
        else if (!strncmp(pattern, "{dyno}", len))
            r = take_dyno(&rq->params, path->segments[i], e);
        else if (!strncmp(pattern, "{digest}", len))
            r = take_digest(&rq->params, path->segments[i], e);
        pattern += len;
    }
    return r;
}

static void allow(struct request *rq, const char *method)
{
    size_t len = strlen(rq->allow);

    (void)snprintf(rq->allow + len, sizeof(rq->allow) - len, "%s%s%s", len ? ", " : "", method,
                   strcmp(method, "GET") ? "" : ", HEAD");
}

int path_route(struct request *rq, const char *method, const char *url, struct err *e)
{
    struct path path;
    size_t n;
    const struct route *all = routes(&n);
    int r = split(url, &path, e);

    if (r == -EINVAL)
        return err_blame(e, FAULT_OPERATOR);
    if (!strcmp(method, "HEAD"))
        method = "GET";
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (!matches(all[i].path, &path))
            continue;
        if (!strcmp(all[i].method, method)) {
            rq->route = &all[i];
            rq->allow[0] = '\0';
            return take_names(rq, &path, e);
        }
        allow(rq, all[i].method);
    }
    if (rq->allow[0])
        err_say(e, EINVAL, "%s is not for %s: it takes %s", method, url, rq->allow);
    else
        err_say(e, ENOENT, "nothing is at %s: docs/openapi.yaml lists the paths", url);
    return err_blame(e, FAULT_OPERATOR);
}

static const char *const param_names[] = {"app",    "dyno",   "n",    "follow",
                                          "format", "source", "after"};

static int take_number(const char *name, const char *text, uint64_t max, uint64_t *ret,
                       struct err *e)
{
    if (parse_u64(text, 0, max, ret) < 0)
        return err_say(e, EINVAL, "%s=%s: a number from 0 to %llu is wanted", name, text,
                       (unsigned long long)max);
    return 0;
}

/* One of two words. */
static int take_word(const char *name, const char *text, const char *no, const char *yes, bool *ret,
                     struct err *e)
{
    if (strcmp(text, no) && strcmp(text, yes))
        return err_say(e, EINVAL, "%s=%s: %s or %s is wanted", name, text, yes, no);
    *ret = !strcmp(text, yes);
    return 0;
}

static int take_source(struct params *p, const char *text, struct err *e)
{
    size_t len = strlen(text);

    if (len == 0 || len >= sizeof(p->source))
        return err_say(e, EINVAL, "source: 1 to %zu bytes are wanted", sizeof(p->source) - 1);
    memcpy(p->source, text, len + 1);
    return 0;
}

static int take_param(struct request *rq, enum param param, const char *value, struct err *e)
{
    struct params *p = &rq->params;

    switch (param) {
    case PARAM_APP:
        return take_app(p, value, e);
    case PARAM_DYNO: /* checked when the app is known, too */
        if (strlen(value) >= sizeof(p->dyno))
            return err_say(e, EINVAL, "dyno: '%s' is longer than any name of a dyno", value);
        memcpy(p->dyno, value, strlen(value) + 1);
        return 0;
    case PARAM_N:
        p->has_n = true;
        return take_number("n", value, rq->route->n_max, &p->n, e);
    case PARAM_FOLLOW:
        return take_word("follow", value, "0", "1", &p->follow, e);
    case PARAM_FORMAT:
        return take_word("format", value, "text", "json", &p->json, e);
    case PARAM_SOURCE:
        return take_source(p, value, e);
    case PARAM_AFTER:
        p->has_after = true;
        return take_number("after", value, INT64_MAX, &p->after, e);
    }
    return 0;
}

static int unknown_param(const struct request *rq, const char *name, struct err *e)
{
    char known[API_ALLOW_MAX] = "";

    for (size_t i = 0; i < sizeof(param_names) / sizeof(param_names[0]); i++) {
        size_t len = strlen(known);

        if (rq->route->params & (1u << i))
            (void)snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "",
                           param_names[i]);
    }
    return err_say(e, EINVAL, "'%s' is not a parameter of %s: it takes %s", name, rq->route->path,
                   known[0] ? known : "none");
}

static int query_param(struct request *rq, const char *raw_name, size_t name_len, const char *raw,
                       size_t len, struct err *e)
{
    char name[TEXT_MAX + 1], value[TEXT_MAX + 1];
    int r = decode(raw_name, name_len, name, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof(param_names) / sizeof(param_names[0]); i++) {
        unsigned bit = 1u << i;

        if (strcmp(name, param_names[i]) || !(rq->route->params & bit))
            continue;
        if (rq->params.given & bit)
            return err_say(e, EINVAL, "the parameter %s is there twice", name);
        if (!raw)
            return err_say(e, EINVAL, "the parameter %s has no value", name);
        rq->params.given |= bit;
        r = decode(raw, len, value, e);
        return r < 0 ? r : take_param(rq, (enum param)bit, value, e);
    }
    return unknown_param(rq, name, e);
}

struct query_walk {
    struct request *rq;
    struct err *e;
    int r;
};

static enum MHD_Result on_param(void *cls, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t len)
{
    struct query_walk *walk = cls;

    (void)kind;
    walk->r = query_param(walk->rq, name, name_len, value, len, walk->e);
    return walk->r < 0 ? MHD_NO : MHD_YES;
}

int path_query(struct request *rq, struct err *e)
{
    struct query_walk walk = {.rq = rq, .e = e};
    struct params *p = &rq->params;

    (void)MHD_get_connection_values_n(rq->conn, MHD_GET_ARGUMENT_KIND, on_param, &walk);
    if (walk.r == 0 && (p->given & PARAM_DYNO)) {
        char name[sizeof(p->dyno)];

        memcpy(name, p->dyno, sizeof(name));
        if (p->app[0])
            walk.r = take_dyno(p, name, e);
        else
            walk.r = err_say(e, EINVAL, "the parameter dyno needs the parameter app beside it");
    }
    return walk.r < 0 ? err_blame(e, FAULT_OPERATOR) : 0;
}
