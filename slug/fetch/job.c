#include "slug/fetch/job.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MS_MAX     (24ll * 3600 * 1000)
#define FAILED_MAX (3 * FETCH_MIRRORS_MAX) /* rounds there can have been, and one more */
#define FIRST_FILE 2                       /* the descriptor of the first file:// mirror */

#define JOB_INIT                                                                                   \
    {                                                                                              \
        .compressed = FETCH_COMPRESSED_MAX, .connect_ms = FETCH_CONNECT_MS,                        \
        .stall_ms = FETCH_STALL_MS, .total_ms = FETCH_TOTAL_MS, .slow_bytes = FETCH_SLOW_BYTES,    \
        .slow_ms = FETCH_SLOW_MS, .connections = FETCH_CONNECTIONS, .tries = FETCH_TRIES,          \
        .part = FETCH_PART, .spool = -1, .pipe = -1                                                \
    }

void job_done(struct job *j)
{
    for (size_t i = 0; i < j->n_mirrors; i++) {
        free(j->mirrors[i].url);
        fd_closep(&j->mirrors[i].file);
    }
    j->n_mirrors = 0;
    free(j->ca_file);
    json_decref(j->stores);
    json_decref(j->failed);
    fd_closep(&j->spool);
    fd_closep(&j->pipe);
}

static int refuse(struct err *e, const char *key)
{
    return err_say(e, EINVAL, "the request's \"%s\" is missing or wrong", key);
}

static int take_mirrors(const json_t *obj, struct job *j, struct err *e)
{
    const json_t *list = json_object_get(obj, "mirrors");
    size_t n = json_array_size(list);

    if (n < 1 || n > FETCH_MIRRORS_MAX)
        return refuse(e, "mirrors");
    for (size_t i = 0; i < n; i++) {
        const json_t *url = json_array_get(list, i);

        if (!json_is_string(url) || json_string_length(url) == 0)
            return refuse(e, "mirrors");
        j->mirrors[i] = (struct job_mirror){strdup(json_string_value(url)), -1};
        j->n_mirrors = i + 1;
        if (!j->mirrors[i].url)
            return err_set(e, ENOMEM, "read the request");
    }
    return 0;
}

/* The files came in the order of "files". */
static int take_files(struct frame *f, struct job *j, struct err *e)
{
    const json_t *list = json_object_get(f->json, "files");

    if (list && !json_is_array(list))
        return refuse(e, "files");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t at = json_integer_value(json_array_get(list, i));

        if (!json_is_integer(json_array_get(list, i)) || at < 0 || (size_t)at >= j->n_mirrors ||
            j->mirrors[at].file >= 0)
            return refuse(e, "files");
        j->mirrors[at].file = frame_take_fd(f, FIRST_FILE + i);
        if (j->mirrors[at].file < 0)
            return refuse(e, "files");
    }
    return 0;
}

static int take_places(struct frame *f, struct job *j, struct err *e)
{
    struct stat st;

    j->spool = frame_take_fd(f, 0);
    j->pipe = frame_take_fd(f, 1);
    if (j->spool < 0 || fstat(j->spool, &st) < 0 || !S_ISREG(st.st_mode))
        return err_say(e, EINVAL, "the request came without a spool");
    if (j->pipe < 0 || fstat(j->pipe, &st) < 0 || !S_ISFIFO(st.st_mode))
        return err_say(e, EINVAL, "the request came without a pipe");
    return 0;
}

static int take_limits(const json_t *obj, struct job *j, struct err *e)
{
    struct {
        const char *key;
        int64_t min, max;
        uint64_t *value;
    } const fields[] = {
        {"compressed", 1, INT64_MAX, &j->compressed},
        {"connect_ms", 1, MS_MAX, &j->connect_ms},
        {"stall_ms", 1, MS_MAX, &j->stall_ms},
        {"total_ms", 1, MS_MAX, &j->total_ms},
        {"slow_bytes", 0, INT32_MAX, &j->slow_bytes},
        {"slow_ms", 1, MS_MAX, &j->slow_ms},
        {"connections", 1, FETCH_CONNECTIONS_MAX, &j->connections},
        {"tries", 1, FETCH_TRIES_MAX, &j->tries},
        {"part", FETCH_PART_MIN, INT64_MAX, &j->part},
    };
    const json_t *limits = json_object_get(obj, "limits");

    if (limits && !json_is_object(limits))
        return refuse(e, "limits");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const json_t *v = json_object_get(limits, fields[i].key);

        if (!v)
            continue;
        if (!json_is_integer(v) || json_integer_value(v) < fields[i].min ||
            json_integer_value(v) > fields[i].max)
            return refuse(e, fields[i].key);
        *fields[i].value = (uint64_t)json_integer_value(v);
    }
    return 0;
}

static int take_bool(const json_t *obj, const char *key, bool *ret, struct err *e)
{
    const json_t *v = json_object_get(obj, key);

    if (v && !json_is_boolean(v))
        return refuse(e, key);
    *ret = json_is_true(v);
    return 0;
}

static int take_rest(const json_t *obj, struct job *j, struct err *e)
{
    const json_t *digest = json_object_get(obj, "digest"), *ca = json_object_get(obj, "ca_file");
    json_t *stores = json_object_get(obj, "stores"), *failed = json_object_get(obj, "failed");

    if (digest &&
        (!json_is_string(digest) || digest_parse(json_string_value(digest), &j->digest) < 0))
        return refuse(e, "digest");
    j->has_digest = digest;
    if (ca && (!json_is_string(ca) || json_string_length(ca) == 0))
        return refuse(e, "ca_file");
    if (ca && !(j->ca_file = strdup(json_string_value(ca))))
        return err_set(e, ENOMEM, "read the request");
    if (stores && !json_is_object(stores))
        return refuse(e, "stores");
    j->stores = json_incref(stores);
    if (failed && (!json_is_array(failed) || json_array_size(failed) > FAILED_MAX))
        return refuse(e, "failed");
    j->failed = failed ? json_incref(failed) : json_array();
    return j->failed ? 0 : err_set(e, ENOMEM, "read the request");
}

int job_parse(struct frame *f, struct job *ret, struct err *e)
{
    scoped(job_done) struct job j = JOB_INIT;
    int r = take_places(f, &j, e);

    if (r == 0)
        r = take_mirrors(f->json, &j, e);
    if (r == 0)
        r = take_files(f, &j, e);
    if (r == 0)
        r = take_limits(f->json, &j, e);
    if (r == 0)
        r = take_bool(f->json, "allow_http", &j.allow_http, e);
    if (r == 0)
        r = take_bool(f->json, "anew", &j.anew, e);
    if (r == 0)
        r = take_rest(f->json, &j, e);
    if (r < 0)
        return r;
    *ret = j;
    j = (struct job)JOB_INIT;
    return 0;
}
