#include "core/slugs/fetcher.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/slugs/stores.h"
#include "slug/fetch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define ROUNDS_MAX (2 * FETCH_MIRRORS_MAX) /* slug/fetch.h */
#define LEAST      (1 * USEC_PER_SEC)      /* that a round gets, however long the others took */
#define AGAIN      (20 * USEC_PER_MSEC)    /* until a crew's uid is free again */
#define SETTLE     (5 * USEC_PER_MSEC)     /* until what is going may be gone */
#define SETTLE_MAX (10 * USEC_PER_SEC)     /* is waited for that: then the disk is just full */
#define BLANKS     " \t\r\n"

struct fetch_waiter {
    LIST_ENTRY(fetch_waiter) link;
    fetch_fn fn;
    fetch_progress_fn progress;
    void *userdata;
    bool ahead;
};

/* One slug on its way. */
struct job {
    TAILQ_ENTRY(job) link;
    struct fetcher *fetcher;
    char *url; /* as asked for: what tells jobs without a digest apart */
    struct digest digest;
    bool has_digest;
    bool running;
    uint64_t since;   /* boot; 0: not begun */
    uint64_t settles; /* since then it has waited for room; 0: it does not */
    struct pipeline *pipeline;
    /* Of the round that runs, or is next. */
    json_t *mirrors, *failed;
    bool anew;
    unsigned rounds;
    LIST_HEAD(, fetch_waiter) waiters;
};

struct fetcher {
    struct fetcher_options o;
    unsigned running;
    sd_event_source *start; /* timer "fetch-start": soon, or when a uid may be free */
    TAILQ_HEAD(, job) jobs; /* running ones and those in line, in order of arrival */
};

static void start_soon(struct fetcher *f, uint64_t at);

static void job_free(struct job *j)
{
    TAILQ_REMOVE(&j->fetcher->jobs, j, link);
    pipeline_freep(&j->pipeline);
    json_decref(j->mirrors);
    json_decref(j->failed);
    free(j->url);
    free(j);
}

/* Tells all who wait, and makes room for the next. */
static void job_end(struct job *j, const struct fetch_result *result)
{
    struct fetcher *f = j->fetcher;
    struct fetch_waiter *w;

    if (j->running)
        f->running--;
    j->running = false;
    while ((w = LIST_FIRST(&j->waiters))) {
        LIST_REMOVE(w, link);
        w->fn(w->userdata, result);
        free(w);
    }
    bool fresh = result->digest && j->pipeline;
    job_free(j); /* nobody waits for it any more */
    if (fresh && f->o.published)
        f->o.published(f->o.userdata, result->digest);
    start_soon(f, 0);
}

static void job_fail(struct job *j, const struct err *why, const json_t *detail)
{
    const struct fetch_result result = {.why = why, .detail = detail};

    job_end(j, &result);
}

/* --- rounds ---------------------------------------------------------------------------------- */

/* Another round with the mirrors that are left. False: there is none. */
static bool go_on(struct job *j, const struct pipeline_result *result)
{
    if (!result->next || ++j->rounds >= ROUNDS_MAX)
        return false;
    json_t *failed = json_object_get(result->next, "failed");
    json_decref(j->mirrors);
    json_decref(j->failed);
    j->mirrors = json_incref((json_t *)(uintptr_t)result->next_mirrors);
    j->failed = json_incref(failed);
    j->anew = json_bool(result->next, "anew", false);
    log_warn("fetch: %s; the next mirror", result->why->text);
    pipeline_freep(&j->pipeline);
    /* In line again, with what it has learnt: its last round has not left the disk yet. */
    j->running = false;
    j->fetcher->running--;
    start_soon(j->fetcher, 0);
    return true;
}

static void on_done(void *userdata, const struct pipeline_result *result)
{
    struct job *j = userdata;
    const struct fetch_result told = {result->digest, result->meta, result->why, result->detail};

    if (result->digest || !go_on(j, result))
        job_end(j, &told);
}

static void on_progress(void *userdata)
{
    struct job *j = userdata;
    struct fetch_waiter *w;

    LIST_FOREACH (w, &j->waiters, link)
        if (w->progress)
            w->progress(w->userdata, pipeline_progress(j->pipeline));
}

static int job_round(struct job *j, struct err *e)
{
    static const struct pipeline_ops ops = {.done = on_done, .progress = on_progress};
    const struct fetcher_options *o = &j->fetcher->o;
    const struct pipeline_env env = {.loop = o->loop,
                                     .config = o->config,
                                     .cache = o->cache,
                                     .crews = o->crews,
                                     .owner = o->owner,
                                     .images = o->images};
    uint64_t until = j->since + o->config->fetch_total, now = clock_boot();
    scoped(json_freep) json_t *stores = NULL;
    int r = stores_settings(o->config, j->mirrors, &stores, e);

    if (r < 0)
        return r;
    const struct pipeline_request request = {
        .mirrors = j->mirrors,
        .stores = stores,
        .digest = j->has_digest ? &j->digest : NULL,
        .anew = j->anew,
        .failed = j->failed,
        .total_usec = until > now + LEAST ? until - now : LEAST,
    };

    return pipeline_start(&env, &request, &ops, j, &j->pipeline, e);
}

/* --- one after the other ---------------------------------------------------------------------- */

/* What is cached need not be fetched. */
static bool job_cached(struct job *j)
{
    const struct fetcher_options *o = &j->fetcher->o;
    scoped(json_freep) json_t *meta = NULL;
    struct err ignored = ERR_INIT; /* then it is fetched */
    enum cache_kind kind;
    scoped_fd fd = -1;

    if (!j->has_digest || cache_lookup(o->cache, &j->digest, &kind, &fd, &ignored) < 0 ||
        cache_meta(o->cache, &j->digest, &meta, &ignored) < 0)
        return false;
    const struct digest digest = j->digest;
    const struct fetch_result result = {.digest = &digest, .meta = meta};
    cache_touch(o->cache, &digest);
    job_end(j, &result);
    return true;
}

/* Room for J. What the last round or another fetch left behind is on the disk until its processes
 * are gone, and until the sweeper is through: -EAGAIN, for that is not a disk that is full. */
static int job_room(struct job *j, struct err *e)
{
    const struct fetcher_options *o = &j->fetcher->o;
    uint64_t now = clock_boot();
    int r;

    if (!j->settles)
        j->settles = now;
    bool patient = now < j->settles + SETTLE_MAX;
    if (patient && crews_dying(o->crews))
        return -EAGAIN;
    r = o->room ? o->room(o->userdata, e) : 0;
    if (r == -ENOSPC && patient && o->settling && o->settling(o->userdata))
        return -EAGAIN;
    j->settles = 0;
    return r;
}

static void job_start(struct job *j)
{
    struct fetcher *f = j->fetcher;
    struct err e = ERR_INIT;
    int r;

    if (job_cached(j))
        return;
    if (!j->since)
        j->since = clock_boot();
    r = job_room(j, &e);
    if (r == -EAGAIN) {
        start_soon(f, clock_boot() + SETTLE);
        return;
    }
    j->running = true;
    f->running++;
    if (r == 0)
        r = job_round(j, &e);
    if (r == -EAGAIN && clock_boot() < j->since + f->o.config->fetch_total) {
        j->running = false;
        f->running--;
        start_soon(f, clock_boot() + AGAIN);
    } else if (r < 0) {
        job_fail(j, &e, NULL);
    } else {
        start_soon(f, 0);
    }
}

/* Only those who fetch ahead wait for J. */
static bool job_ahead(const struct job *j)
{
    const struct fetch_waiter *w;

    LIST_FOREACH (w, &j->waiters, link)
        if (!w->ahead)
            return false;
    return !LIST_EMPTY(&j->waiters);
}

/* The job whose turn it is: a start must not stand behind a hundred slugs that are for later. */
static struct job *job_next(struct fetcher *f)
{
    unsigned most = f->o.config->fetch_jobs, ahead = 0;
    struct job *j, *first = NULL;

    if (f->running >= most)
        return NULL;
    TAILQ_FOREACH (j, &f->jobs, link) {
        if (!job_ahead(j)) {
            if (!j->running)
                return j;
        } else if (j->running) {
            ahead++;
        } else if (!first) {
            first = j;
        }
    }
    return ahead < (most > 1 ? most - 1 : 1) ? first : NULL;
}

/* From the loop, never from inside the caller's call: a failure must not come before the waiter
 * exists. */
static int on_start(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct job *j = job_next(userdata);

    (void)s;
    (void)usec;
    if (j)
        job_start(j);
    return 0;
}

static void start_soon(struct fetcher *f, uint64_t at)
{
    if (timer_set(f->o.loop, &f->start, "fetch-start", at, on_start, f) < 0)
        log_err("no memory to start a fetch");
}

int fetcher_new(const struct fetcher_options *o, struct fetcher **ret, struct err *e)
{
    struct fetcher *f = calloc(1, sizeof(*f));

    if (!f)
        return err_set(e, ENOMEM, "make the fetcher");
    f->o = *o;
    TAILQ_INIT(&f->jobs);
    *ret = f;
    return 0;
}

void fetcher_freep(struct fetcher **fp)
{
    struct fetcher *f = *fp;
    struct job *j;

    if (!f)
        return;
    while ((j = TAILQ_FIRST(&f->jobs))) {
        struct fetch_waiter *w;

        while ((w = LIST_FIRST(&j->waiters))) {
            LIST_REMOVE(w, link);
            free(w);
        }
        job_free(j);
    }
    sd_event_source_disable_unref(f->start);
    free(f);
    *fp = NULL;
}

unsigned fetcher_running(const struct fetcher *f)
{
    return f->running;
}

bool fetcher_wants(const struct fetcher *f, const struct digest *digest)
{
    const struct job *j;

    TAILQ_FOREACH (j, &f->jobs, link)
        if (j->has_digest && digest_equal(&j->digest, digest))
            return true;
    return false;
}

/* --- who wants it -------------------------------------------------------------------------- */

static struct job *job_find(struct fetcher *f, const char *url, const struct digest *digest)
{
    struct job *j;

    TAILQ_FOREACH (j, &f->jobs, link)
        if (digest ? j->has_digest && digest_equal(&j->digest, digest)
                   : !j->has_digest && !strcmp(j->url, url))
            return j;
    return NULL;
}

/* The addresses in URL. */
static json_t *split(const char *url, struct err *e)
{
    scoped_free char *copy = strdup(url);
    scoped(json_freep) json_t *list = json_array();
    char *rest = NULL;

    if (!copy || !list) {
        (void)err_set(e, ENOMEM, "wait for a fetch");
        return NULL;
    }
    for (char *one = strtok_r(copy, BLANKS, &rest); one; one = strtok_r(NULL, BLANKS, &rest))
        if (json_array_append_new(list, json_string(one)) < 0) {
            (void)err_say(e, EINVAL, "a slug's address is not UTF-8");
            return NULL;
        }
    if (json_array_size(list) == 0 || json_array_size(list) > FETCH_MIRRORS_MAX) {
        (void)err_say(e, EINVAL, "a slug has 1 to %d addresses, not %zu", FETCH_MIRRORS_MAX,
                      json_array_size(list));
        (void)err_blame(e, FAULT_OPERATOR);
        return NULL;
    }
    return TAKE_PTR(list);
}

static struct job *job_new(struct fetcher *f, const char *url, const struct digest *digest,
                           struct err *e)
{
    scoped(json_freep) json_t *mirrors = split(url, e);
    scoped_free struct job *j = mirrors ? calloc(1, sizeof(*j)) : NULL;

    if (!mirrors)
        return NULL;
    if (!j || !(j->url = strdup(url))) {
        (void)err_set(e, ENOMEM, "wait for a fetch");
        return NULL;
    }
    j->fetcher = f;
    j->mirrors = TAKE_PTR(mirrors);
    if (digest) {
        j->digest = *digest;
        j->has_digest = true;
    }
    TAILQ_INSERT_TAIL(&f->jobs, j, link);
    return TAKE_PTR(j);
}

int fetcher_get(struct fetcher *f, const char *url, const struct digest *digest, fetch_fn fn,
                void *userdata, struct fetch_waiter **ret, struct err *e)
{
    struct fetch_waiter *w = calloc(1, sizeof(*w));
    struct job *j = job_find(f, url, digest);

    if (!w)
        return err_set(e, ENOMEM, "wait for a fetch");
    if (!j && !(j = job_new(f, url, digest, e))) {
        free(w);
        return -e->errnum;
    }
    start_soon(f, 0); /* one that waits already may have become urgent */
    w->fn = fn;
    w->userdata = userdata;
    LIST_INSERT_HEAD(&j->waiters, w, link);
    *ret = w;
    return 0;
}

void fetcher_drop(struct fetch_waiter *w)
{
    if (!w)
        return;
    LIST_REMOVE(w, link);
    free(w);
}

void fetcher_ahead(struct fetch_waiter *w)
{
    w->ahead = true;
}

void fetcher_watch(struct fetch_waiter *w, fetch_progress_fn fn)
{
    w->progress = fn;
}

static json_t *job_json(const struct job *j)
{
    static const struct pipeline_progress nothing = {.total = -1};
    const struct pipeline_progress *p = j->pipeline ? pipeline_progress(j->pipeline) : &nothing;
    json_t *total = p->total >= 0 ? json_integer(p->total) : json_null();
    json_t *digest = j->has_digest ? json_sprintf("sha256:%s", j->digest.hex) : json_null();

    return json_pack("{s:o,s:s,s:I,s:o,s:I,s:I,s:i,s:i}", "digest", digest, "state",
                     j->running ? "fetching" : "waiting", "bytes", (json_int_t)p->bytes, "total",
                     total, "entries", (json_int_t)p->entries, "unpacked", (json_int_t)p->unpacked,
                     "mirror", (int)p->mirror, "connections", (int)p->connections);
}

json_t *fetcher_json(const struct fetcher *f)
{
    scoped(json_freep) json_t *list = json_array();
    const struct job *j;

    TAILQ_FOREACH (j, &f->jobs, link)
        if (json_array_append_new(list, job_json(j)) < 0)
            return NULL;
    return TAKE_PTR(list);
}
