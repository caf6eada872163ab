#include "core/slugs/pipeline_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE  (5 * USEC_PER_SEC)    /* beyond download's own total time: then it is stuck */
#define MOMENT (100 * USEC_PER_MSEC) /* for the cause to come, when a consequence came first */

static void judge(struct pipeline *p, bool patient);

/* --- the end ---------------------------------------------------------------------------------- */

void pipeline_freep(struct pipeline **pp)
{
    struct pipeline *p = *pp;
    struct err e = ERR_INIT;

    if (!p)
        return;
    *pp = NULL;
    crew_freep(&p->crew);
    if (p->incoming[0] && cache_drop(p->env.cache, p->incoming, &e) < 0)
        log_warn("cache: %s", e.text);
    for (int i = 0; i < FETCH_ROLES; i++)
        json_decref(p->said[i]);
    json_decref(p->mirrors);
    sd_event_source_disable_unref(p->deadline);
    sd_event_source_disable_unref(p->moment);
    free(p);
}

static void finish(struct pipeline *p, const struct pipeline_result *result)
{
    p->over = true;
    crew_freep(&p->crew); /* before anybody is told: whoever failed, the others end */
    p->ops->done(p->userdata, result);
}

/* The mirrors that download says are left, in its numbers; NULL: none. */
static json_t *mirrors_left(const struct pipeline *p, const json_t *next)
{
    json_t *left = json_array(), *number;
    size_t i;

    json_array_foreach (json_object_get(next, "mirrors"), i, number) {
        json_t *url = json_array_get(p->mirrors, (size_t)json_integer_value(number));

        if (url && json_is_integer(number))
            (void)json_array_append(left, url); /* without memory there are fewer */
    }
    if (json_array_size(left) == 0) {
        json_decref(left);
        left = NULL;
    }
    return left;
}

static void fail(struct pipeline *p, const struct err *why, const json_t *detail)
{
    const json_t *next = json_object_get(detail, "next");
    scoped(json_freep) json_t *left = mirrors_left(p, next);
    const struct pipeline_result result = {
        .why = why, .detail = detail, .next = left ? next : NULL, .next_mirrors = left};

    finish(p, &result);
}

/* ROLE's own reason. */
static void fail_by(struct pipeline *p, enum fetch_role role)
{
    const json_t *error = p->said[role];
    struct err e = ERR_INIT;

    if (p->ends[role].state == ROLE_DIED) {
        (void)err_say(&e, EIO, "dynod-fetch %s died without an answer (%s)", fetch_role_name(role),
                      p->how[role]);
        fail(p, &e, NULL);
        return;
    }
    int errnum = (int)json_int(error, "errno", EIO);
    (void)err_say(&e, errnum > 0 ? errnum : EIO, "%s", json_str(error, "text", "the fetch failed"));
    e.fault = fault_from_name(json_str(error, "fault", ""));
    fail(p, &e, error);
}

/* --- publishing ---------------------------------------------------------------------------- */

/* What download and unpack found out, as one; strangers' words, which slug_meta_types() checks. */
static json_t *make_meta(const struct pipeline *p, const struct digest *digest)
{
    static const char *const from_unpack[] = {"unpacked", "entries", "types", "warnings"};
    const json_t *download = p->said[FETCH_DOWNLOAD], *unpack = p->said[FETCH_UNPACK];
    json_t *meta = json_pack("{s:s,s:I,s:{}}", "digest", digest->hex, "compressed",
                             (json_int_t)json_int(download, "compressed", 0), "ms");
    json_t *ms = json_object_get(meta, "ms");
    int r = meta ? 0 : -1;

    for (size_t i = 0; r == 0 && i < sizeof(from_unpack) / sizeof(from_unpack[0]); i++) {
        json_t *value = json_object_get(unpack, from_unpack[i]);

        r = value ? json_object_set(meta, from_unpack[i], value) : 0;
    }
    for (int i = 0; r == 0 && i < FETCH_ROLES; i++) {
        json_t *theirs = json_object_get(p->said[i], "ms");

        r = json_is_object(theirs) ? json_object_update_missing(ms, theirs) : 0;
    }
    if (r != 0) {
        json_decref(meta);
        meta = NULL;
    }
    return meta;
}

static void publish(struct pipeline *p)
{
    struct pipeline_result result = {0};
    struct err e = ERR_INIT;
    struct digest digest;

    if (digest_parse(json_str(p->said[FETCH_DOWNLOAD], "digest", ""), &digest) < 0 ||
        (p->has_digest && !digest_equal(&digest, &p->digest))) {
        (void)err_say(&e, EBADMSG, "dynod-fetch reported a digest that nobody asked for");
        fail(p, &e, NULL);
        return;
    }
    scoped(json_freep) json_t *meta = make_meta(p, &digest);
    int r = meta ? cache_publish(p->env.cache, p->incoming, &digest, meta, !p->env.images, &e)
                 : err_set(&e, ENOMEM, "publish a slug");
    if (r < 0) {
        fail(p, &e, NULL);
        return;
    }
    p->incoming[0] = '\0';
    result.digest = &digest;
    result.meta = meta;
    finish(p, &result);
}

/* --- while it runs ------------------------------------------------------------------------- */

static int on_moment(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    judge(userdata, false);
    return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct pipeline *p = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    (void)err_say(&e, ETIMEDOUT, "the fetch did not end in time");
    fail(p, &e, NULL);
    return 0;
}

/* Unpack is gone, so nobody unvetted holds the image any more. The digest, which names the image,
 * must be known. */
static int send_finish(struct pipeline *p, struct err *e)
{
    const char *hex =
        p->has_digest ? p->digest.hex : json_str(p->said[FETCH_DOWNLOAD], "digest", NULL);

    if (p->finish_sent || p->ends[FETCH_UNPACK].state != ROLE_DONE ||
        p->ends[FETCH_IMAGE].state != ROLE_RUNNING || !hex ||
        (!p->has_digest && p->ends[FETCH_DOWNLOAD].state != ROLE_OK &&
         p->ends[FETCH_DOWNLOAD].state != ROLE_DONE))
        return 0;
    p->finish_sent = true;
    scoped(json_freep) json_t *word = json_pack("{s:{s:s}}", "finish", "digest", hex);
    return crew_send(p->crew, FETCH_IMAGE, word, NULL, 0, e);
}

/* Looks at what is known after each word and each end. */
static void judge(struct pipeline *p, bool patient)
{
    enum fetch_role role = FETCH_DOWNLOAD;
    struct err e = ERR_INIT;

    if (p->over)
        return;
    switch (fetch_judge(p->ends, p->has_digest, patient, &role)) {
    case FETCH_PUBLISH:
        publish(p);
        return;
    case FETCH_FAILED:
        fail_by(p, role);
        return;
    case FETCH_SOON:
        if (timer_set(p->env.loop, &p->moment, "fetch-cause", clock_boot() + MOMENT, on_moment, p) <
            0)
            judge(p, false);
        return;
    case FETCH_WAIT:
        /* Its pidfd tells when image is gone; the failure to send is not the reason. */
        (void)send_finish(p, &e);
        return;
    }
}

static void take_progress(struct pipeline *p, unsigned member, const json_t *body)
{
    struct pipeline_progress *to = &p->progress;

    if (member == FETCH_DOWNLOAD) {
        to->bytes = (uint64_t)json_int(body, "bytes", 0);
        to->total = json_int(body, "total", -1);
        to->mirror = (unsigned)json_int(body, "mirror", 0);
        to->connections = (unsigned)json_int(body, "connections", 0);
    } else {
        to->entries = (uint64_t)json_int(body, "entries", 0);
        to->unpacked = (uint64_t)json_int(body, "unpacked", 0);
    }
    if (p->ops->progress)
        p->ops->progress(p->userdata);
}

static void on_frame(void *userdata, unsigned member, const json_t *json)
{
    struct pipeline *p = userdata;
    json_t *ok = json_object_get(json, "ok"), *error = json_object_get(json, "error");
    struct role_end *end = &p->ends[member];

    if (p->over || end->state != ROLE_RUNNING)
        return;
    if (!json_is_object(ok) && !json_is_object(error)) {
        take_progress(p, member, json_object_get(json, "progress"));
        return;
    }
    p->said[member] = json_incref(json_is_object(ok) ? ok : error);
    if (json_is_object(ok)) {
        end->state = ROLE_OK;
    } else {
        *end = (struct role_end){.state = ROLE_ERROR,
                                 .fault = fault_from_name(json_str(error, "fault", "")),
                                 .consequence = member == FETCH_DOWNLOAD &&
                                                !strcmp(json_str(error, "step", ""), "unpack")};
    }
    judge(p, true);
}

static void on_gone(void *userdata, unsigned member, bool well, const char *how)
{
    struct pipeline *p = userdata;
    struct role_end *end = &p->ends[member];

    if (p->over)
        return;
    (void)snprintf(p->how[member], PIPELINE_HOW_MAX, "%s", how);
    if (end->state == ROLE_OK && well)
        end->state = ROLE_DONE;
    else if (end->state != ROLE_ERROR)
        end->state = ROLE_DIED;
    judge(p, true);
}

/* --- the beginning ------------------------------------------------------------------------- */

static int start(struct pipeline *p, const struct pipeline_request *rq, struct err *e)
{
    static const struct crew_ops ops = {.frame = on_frame, .gone = on_gone};
    int r = pipeline_ask(p, rq, &ops, e);

    if (r == 0 && timer_set(p->env.loop, &p->deadline, "fetch-deadline",
                            clock_boot() + rq->total_usec + GRACE, on_deadline, p) < 0)
        r = err_set(e, ENOMEM, "watch a fetch");
    return r;
}

int pipeline_start(const struct pipeline_env *env, const struct pipeline_request *rq,
                   const struct pipeline_ops *ops, void *userdata, struct pipeline **ret,
                   struct err *e)
{
    scoped(pipeline_freep) struct pipeline *p = calloc(1, sizeof(*p));

    if (!p)
        return err_set(e, ENOMEM, "start a fetch");
    p->env = *env;
    p->ops = ops;
    p->userdata = userdata;
    p->progress.total = -1;
    if (rq->digest) {
        p->digest = *rq->digest;
        p->has_digest = true;
    }
    int r = start(p, rq, e);
    if (r == 0)
        *ret = TAKE_PTR(p);
    return r;
}

const struct pipeline_progress *pipeline_progress(const struct pipeline *p)
{
    return &p->progress;
}
