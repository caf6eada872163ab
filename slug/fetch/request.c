#include "slug/fetch/request.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MS_MAX (24ll * 3600 * 1000)

void request_done(struct request *r)
{
    free(r->url);
    free(r->ca_file);
    fd_closep(&r->dir);
    fd_closep(&r->file);
}

static int refuse(struct err *e, const char *key)
{
    return err_say(e, EINVAL, "the request's \"%s\" is missing or wrong", key);
}

/* A positive number, or what *VALUE has already. */
static int take_number(const json_t *obj, const char *key, int64_t max, uint64_t *value,
                       struct err *e)
{
    const json_t *j = json_object_get(obj, key);

    if (!j)
        return 0;
    if (!json_is_integer(j) || json_integer_value(j) < 1 || json_integer_value(j) > max)
        return refuse(e, key);
    *value = (uint64_t)json_integer_value(j);
    return 0;
}

static int take_limits(const json_t *obj, struct request *r, struct err *e)
{
    struct {
        const char *key;
        int64_t max;
        uint64_t *value;
    } const fields[] = {
        {"compressed", INT64_MAX, &r->limits.compressed},
        {"unpacked", INT64_MAX, &r->limits.unpacked},
        {"entries", INT64_MAX, &r->limits.entries},
        {"depth", FETCH_NAME_MAX, &r->limits.depth},
        {"ratio", INT64_MAX, &r->limits.ratio},
        {"connect_ms", MS_MAX, &r->connect_ms},
        {"stall_ms", MS_MAX, &r->stall_ms},
        {"total_ms", MS_MAX, &r->total_ms},
    };
    const json_t *limits = json_object_get(obj, "limits");
    int result = 0;

    if (limits && !json_is_object(limits))
        return refuse(e, "limits");
    for (size_t i = 0; result == 0 && i < sizeof(fields) / sizeof(fields[0]); i++)
        result = take_number(limits, fields[i].key, fields[i].max, fields[i].value, e);
    return result;
}

/* A text, or NULL when absent. */
static int take_text(const json_t *obj, const char *key, char **ret, struct err *e)
{
    const json_t *j = json_object_get(obj, key);

    if (!j)
        return 0;
    if (!json_is_string(j) || json_string_length(j) == 0)
        return refuse(e, key);
    *ret = strdup(json_string_value(j));
    return *ret ? 0 : err_set(e, ENOMEM, "read the request");
}

static int take_digest(const json_t *obj, struct request *r, struct err *e)
{
    const json_t *j = json_object_get(obj, "digest");

    if (!j)
        return 0;
    if (!json_is_string(j) || digest_parse(json_string_value(j), &r->digest) < 0)
        return refuse(e, "digest");
    r->has_digest = true;
    return 0;
}

static int take_fds(struct frame *f, struct request *r, struct err *e)
{
    struct stat st;

    r->dir = frame_take_fd(f, 0);
    r->file = frame_take_fd(f, 1);
    if (r->dir < 0 || fstat(r->dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_say(e, EINVAL, "the request came without a directory");
    return 0;
}

int request_parse(struct frame *f, struct request *ret, struct err *e)
{
    scoped(request_done) struct request r = {
        .connect_ms = FETCH_CONNECT_MS,
        .stall_ms = FETCH_STALL_MS,
        .total_ms = FETCH_TOTAL_MS,
        .dir = -1,
        .file = -1,
    };
    const json_t *allow = json_object_get(f->json, "allow_http");

    slug_limits_default(&r.limits);
    int result = take_fds(f, &r, e);
    if (result == 0)
        result = take_text(f->json, "url", &r.url, e);
    if (result == 0 && !r.url)
        result = refuse(e, "url");
    if (result == 0)
        result = take_text(f->json, "ca_file", &r.ca_file, e);
    if (result == 0)
        result = take_digest(f->json, &r, e);
    if (result == 0)
        result = take_limits(f->json, &r, e);
    if (result == 0 && allow && !json_is_boolean(allow))
        result = refuse(e, "allow_http");
    if (result < 0)
        return result;
    r.allow_http = json_is_true(allow);
    *ret = r;
    r = (struct request){.dir = -1, .file = -1};
    return 0;
}
