/* slugs_seal.c - images are read, one after the other and out of the way of all else: to have them
 * on the disk and know their digest (seal), or to see that they are still what they were (verify).
 */
#include "core/slugs/slugs_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEAL_SOON  (1 * USEC_PER_SEC)  /* the start that the slug was fetched for comes first */
#define SEAL_AGAIN (30 * USEC_PER_SEC) /* after a seal that died */

static void start_at(struct slugs *s, uint64_t at);

static void tell(struct seal *job, const struct err *why)
{
    if (job->fn)
        job->fn(job->userdata, &job->digest, why);
    job->fn = NULL;
}

/* The first is over; the next may come. */
static void next(struct slugs *s, const struct err *why)
{
    struct seal *job = TAILQ_FIRST(&s->seals);

    crew_freep(&s->sealer);
    json_decref(s->sealed);
    s->sealed = NULL;
    TAILQ_REMOVE(&s->seals, job, link);
    tell(job, why);
    free(job);
    start_at(s, 0);
}

/* --- what is corrupt
 * ------------------------------------------------------------------------------ */

static void on_fetched(void *userdata, const struct fetch_result *result)
{
    (void)userdata;
    if (result->why)
        log_warn("cache: a dropped slug cannot be had again yet: %s", result->why->text);
    else
        log_info("cache: sha256:%.12s is here again", result->digest->hex);
}

/* For whoever is to run it: the next start need not wait. */
static void fetch_again(struct slugs *s, const struct digest *digest)
{
    const struct agent *a = s->agent;
    struct fetch_waiter *waiter;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < model_n_apps(a->model); i++) {
        const struct release *rel = &model_app_at(a->model, i)->release;

        if (!rel->url || !rel->has_digest || !digest_equal(&rel->digest, digest))
            continue;
        if (fetcher_get(a->fetcher, rel->url, digest, on_fetched, NULL, &waiter, &e) < 0)
            log_warn("cache: %s", e.text);
        return;
    }
}

static void drop_corrupt(struct slugs *s, const struct digest *digest, const struct err *why)
{
    const struct digest gone = *digest;
    struct err e = ERR_INIT;

    log_err("cache: sha256:%.12s is dropped: %s", gone.hex, why->text);
    agent_event(s->agent, "slug", NULL,
                json_pack("{s:s+,s:s,s:s}", "digest", "sha256:", gone.hex, "outcome", "corrupt",
                          "text", why->text));
    if (slugs_drop(s, &gone, &e) < 0)
        log_err("cache: %s", e.text);
    else
        fetch_again(s, &gone);
}

/* --- the process
 * ---------------------------------------------------------------------------------- */

static void judge(struct slugs *s, const struct digest *image, struct err *e)
{
    struct seal *job = TAILQ_FIRST(&s->seals);
    const struct cache_entry *entry = cache_find(s->agent->cache, &job->digest);

    if (!entry) {
        (void)err_say(e, ENOENT, "the slug was removed meanwhile");
    } else if (!entry->has_image) {
        if (cache_seal(s->agent->cache, &job->digest, image, e) < 0)
            log_warn("cache: %s", e->text);
    } else if (!digest_equal(&entry->image, image)) {
        (void)err_say(e, EBADMSG, "its image has changed on the disk: sha256:%.12s, not %.12s",
                      image->hex, entry->image.hex);
        drop_corrupt(s, &job->digest, e);
    }
}

/* A disk that cannot be read, or written, has no slug for us. */
static void judge_error(struct slugs *s, const json_t *error, struct err *e)
{
    int errnum = (int)json_int(error, "errno", EIO);

    (void)err_say(e, errnum > 0 ? errnum : EIO, "%s", json_str(error, "text", "it cannot be read"));
    if (!strcmp(json_str(error, "step", ""), "disk"))
        drop_corrupt(s, &TAILQ_FIRST(&s->seals)->digest, e);
    else
        log_warn("cache: %s", e->text);
}

static void on_frame(void *userdata, unsigned member, const json_t *json)
{
    struct slugs *s = userdata;

    (void)member;
    if (!s->sealed)
        s->sealed = json_incref((json_t *)(uintptr_t)json);
}

static void on_gone(void *userdata, unsigned member, bool well, const char *how)
{
    struct slugs *s = userdata;
    struct err e = ERR_INIT;
    struct digest image;
    const json_t *error = json_object_get(s->sealed, "error");
    const char *hex = json_str(json_object_get(s->sealed, "ok"), "digest", "");

    (void)member;
    if (well && digest_parse(hex, &image) == 0) {
        judge(s, &image, &e);
    } else if (json_is_object(error)) {
        judge_error(s, error, &e);
    } else if (TAILQ_FIRST(&s->seals)->fn) {
        (void)err_say(&e, EIO, "dynod-fetch seal died without an answer (%s)", how);
    } else { /* nobody waits but the next boot: later */
        struct seal *job = TAILQ_FIRST(&s->seals);

        crew_freep(&s->sealer);
        TAILQ_REMOVE(&s->seals, job, link);
        TAILQ_INSERT_TAIL(&s->seals, job, link);
        start_at(s, clock_boot() + SEAL_AGAIN);
        return;
    }
    next(s, e.errnum ? &e : NULL);
}

static int ask(struct slugs *s, struct err *e)
{
    static const struct crew_ops ops = {.frame = on_frame, .gone = on_gone};
    const struct seal *job = TAILQ_FIRST(&s->seals);
    scoped(json_freep) json_t *request = json_pack("{s:{}}", "seal");
    enum cache_kind kind;
    scoped_fd fd = -1;
    int r = cache_lookup(s->agent->cache, &job->digest, &kind, &fd, e);

    if (r == 0 && kind != CACHE_IMAGE)
        r = err_say(e, EOPNOTSUPP, "the slug is no image");
    if (r == 0)
        r = crews_take(s->crews, CREW_SEAL, &ops, s, &s->sealer, e);
    return r < 0 ? r : crew_send(s->sealer, 0, request, &fd, 1, e);
}

static int on_start(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct slugs *s = userdata;
    struct err e = ERR_INIT;

    (void)source;
    (void)usec;
    if (s->sealer || TAILQ_EMPTY(&s->seals))
        return 0;
    int r = ask(s, &e);
    if (r == -EAGAIN)
        start_at(s, clock_boot() + SEAL_SOON);
    else if (r < 0)
        next(s, &e);
    return 0;
}

static void start_at(struct slugs *s, uint64_t at)
{
    if (!TAILQ_EMPTY(&s->seals) && !s->sealer &&
        timer_set(s->agent->loop, &s->seal_soon, "seal", at, on_start, s) < 0)
        log_warn("cache: no memory to seal a slug");
}

/* --- who asks
 * ------------------------------------------------------------------------------------- */

void seals_open(struct slugs *s)
{
    TAILQ_INIT(&s->seals);
}

void seals_done(struct slugs *s)
{
    struct seal *job;

    sd_event_source_disable_unref(s->seal_soon);
    crew_freep(&s->sealer);
    json_decref(s->sealed);
    while ((job = TAILQ_FIRST(&s->seals))) {
        TAILQ_REMOVE(&s->seals, job, link);
        free(job);
    }
}

static int add(struct slugs *s, const struct digest *digest, slugs_verify_fn fn, void *userdata)
{
    struct seal *job = calloc(1, sizeof(*job));

    if (!job)
        return -ENOMEM;
    *job = (struct seal){.digest = *digest, .fn = fn, .userdata = userdata};
    TAILQ_INSERT_TAIL(&s->seals, job, link);
    start_at(s, fn ? 0 : clock_boot() + SEAL_SOON);
    return 0;
}

void seals_add(struct slugs *s, const struct digest *digest)
{
    if (add(s, digest, NULL, NULL) < 0)
        log_warn("cache: no memory to seal a slug; it is fetched again after a reboot");
}

int slugs_verify(struct slugs *s, const struct digest *digest, slugs_verify_fn fn, void *userdata,
                 struct err *e)
{
    const struct cache_entry *entry = cache_find(s->agent->cache, digest);
    int r = 0;

    if (!entry)
        r = err_say(e, ENOENT, "the slug sha256:%s is not cached", digest->hex);
    else if (entry->kind != CACHE_IMAGE)
        r = err_say(e, EOPNOTSUPP, "the slug is a directory: only images can be verified");
    else if (!entry->has_image)
        r = err_say(e, EBUSY, "the slug has just been published, and is not sealed yet");
    if (r < 0)
        return err_blame(e, FAULT_OPERATOR);
    return add(s, digest, fn, userdata) < 0 ? err_set(e, ENOMEM, "verify a slug") : 0;
}

void slugs_verify_cancel(struct slugs *s, const void *userdata)
{
    struct seal *job;

    TAILQ_FOREACH (job, &s->seals, link)
        if (job->fn && job->userdata == userdata)
            job->fn = NULL;
}
