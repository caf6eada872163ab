#include "core/fetcher.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/stat.h>

#define GRACE (5 * USEC_PER_SEC) /* beyond the fetch's own total time: then it is stuck */

struct fetch_waiter {
    LIST_ENTRY(fetch_waiter) link;
    fetch_fn fn;
    void *userdata;
};

/* One slug on its way. */
struct job {
    TAILQ_ENTRY(job) link;
    struct fetcher *fetcher;
    char *url;
    struct digest digest;
    bool has_digest;
    bool running;
    char incoming[CACHE_INCOMING_MAX]; /* "": none */
    struct peer *peer;
    int pidfd;
    sd_event_source *on_exit;
    json_t
        *ok; /* what it reported; published when it has exited, and can change nothing any more */
    sd_event_source *deadline; /* timer "fetch-deadline" */
    LIST_HEAD(, fetch_waiter) waiters;
};

struct fetcher {
    sd_event *loop;
    const struct config *config;
    struct cache *cache;
    uid_t uid;
    unsigned running;
    bool closing;
    TAILQ_HEAD(, job) jobs; /* running ones and those in line, in order of arrival */
};

static void start_next(struct fetcher *f);

static void job_free(struct job *j)
{
    struct err e = ERR_INIT;

    TAILQ_REMOVE(&j->fetcher->jobs, j, link);
    peer_freep(&j->peer);
    sd_event_source_disable_unref(j->on_exit);
    json_decref(j->ok);
    if (j->pidfd >= 0 && j->fetcher->closing)
        helper_join(TAKE_FD(j->pidfd));
    else if (j->pidfd >= 0)
        helper_dispose(j->fetcher->loop, TAKE_FD(j->pidfd));
    if (j->incoming[0] && cache_drop(j->fetcher->cache, j->incoming, &e) < 0)
        log_warn("cache: %s", e.text);
    sd_event_source_disable_unref(j->deadline);
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
    job_free(j);
    start_next(f);
}

static void job_fail(struct job *j, const struct err *why, const json_t *detail)
{
    struct fetch_result result = {.why = why, .detail = detail};

    job_end(j, &result);
}

static void publish(struct job *j, const json_t *body)
{
    struct fetch_result result = {0};
    struct err e = ERR_INIT;
    struct digest digest;

    if (digest_parse(json_str(body, "digest", ""), &digest) < 0 ||
        (j->has_digest && !digest_equal(&digest, &j->digest))) {
        (void)err_say(&e, EBADMSG, "dynod-fetch reported a digest that nobody asked for");
        job_fail(j, &e, NULL);
        return;
    }
    int r = cache_publish(j->fetcher->cache, j->incoming, &digest, body, true, &e);
    if (r < 0) {
        job_fail(j, &e, NULL);
        return;
    }
    j->incoming[0] = '\0';
    result.digest = &digest;
    result.meta = body;
    job_end(j, &result);
}

static void on_error(struct job *j, const json_t *body)
{
    struct err e = ERR_INIT;
    int errnum = (int)json_int(body, "errno", EIO);

    (void)err_say(&e, errnum > 0 ? errnum : EIO, "%s", json_str(body, "text", "the fetch failed"));
    e.fault = fault_from_name(json_str(body, "fault", ""));
    job_fail(j, &e, body);
}

static void on_frame(void *userdata, struct frame *f)
{
    struct job *j = userdata;
    const json_t *body;

    if ((body = json_object_get(f->json, "ok")) && !j->ok)
        j->ok = json_incref((json_t *)(uintptr_t)body);
    else if ((body = json_object_get(f->json, "error")))
        on_error(j, body);
}

/* Its exit tells, not its silence. */
static void on_close(void *userdata, const struct err *why)
{
    struct job *j = userdata;

    (void)why;
    peer_freep(&j->peer);
}

static int on_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct job *j = userdata;
    struct err e = ERR_INIT;
    char how[64];

    (void)s;
    (void)revents;
    if (j->peer) /* its last words may still be unread; its end of the socket is closed: not for
                    long */
        return 0;
    helper_reap(fd, how, sizeof(how));
    if (j->ok) {
        publish(j, j->ok);
        return 0;
    }
    (void)err_say(&e, EIO, "dynod-fetch died without an answer (%s)", how);
    job_fail(j, &e, NULL);
    return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct job *j = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    (void)err_say(&e, ETIMEDOUT, "the fetch of %s did not end in time", j->url);
    job_fail(j, &e, NULL);
    return 0;
}

/* The path in "file://PATH", or NULL. */
static const char *file_path(const char *url)
{
    return str_starts(url, "file:///") ? url + strlen("file://") : NULL;
}

/* The agent opens what its operator names, because the fetch may not; it never reads a byte of it.
 */
static int open_slug_file(const char *path, int *ret_fd, struct err *e)
{
    struct stat st;
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        (void)err_set(e, errno, "open the slug %s", path);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)err_say(e, EINVAL, "the slug %s is not a regular file", path);
        return err_blame(e, FAULT_OPERATOR);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static json_t *request_json(const struct job *j)
{
    const struct config *c = j->fetcher->config;
    json_t *request = json_pack(
        "{s:s,s:b,s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "url", j->url, "allow_http", c->allow_http,
        "limits", "compressed", (json_int_t)c->compressed_max, "unpacked",
        (json_int_t)c->unpacked_max, "entries", (json_int_t)c->entries_max, "ratio",
        (json_int_t)c->ratio_max, "connect_ms", (json_int_t)(c->fetch_connect / USEC_PER_MSEC),
        "stall_ms", (json_int_t)(c->fetch_stall / USEC_PER_MSEC), "total_ms",
        (json_int_t)(c->fetch_total / USEC_PER_MSEC));

    if (request && j->has_digest)
        (void)json_object_set_new(request, "digest", json_string(j->digest.hex));
    if (request && c->ca_file[0])
        (void)json_object_set_new(request, "ca_file", json_string(c->ca_file));
    return request;
}

static int job_start(struct job *j, struct err *e)
{
    static const struct peer_ops ops = {.on_frame = on_frame, .on_close = on_close};
    struct fetcher *f = j->fetcher;
    char path[512];
    scoped_fd file = -1;
    scoped_fd dir = -1;
    int sock = -1, r;

    const char *local = file_path(j->url);
    if (local && (r = open_slug_file(local, &file, e)) < 0)
        return r;
    r = cache_incoming(f->cache, CACHE_DIRECTORY, j->incoming, &dir, e);
    if (r < 0) {
        j->incoming[0] = '\0';
        return r;
    }
    (void)snprintf(path, sizeof(path), "%s/dynod-fetch", f->config->program_dir);
    char *const argv[] = {"dynod-fetch", NULL};
    struct helper h = {.path = path, .argv = argv, .uid = f->uid, .fd3 = -1, .fd4 = -1};
    r = helper_spawn(&h, &sock, &j->pidfd, e);
    if (r == 0)
        r = peer_new(f->loop, sock, &ops, j, &j->peer, e);
    if (r == 0 && sd_event_add_io(f->loop, &j->on_exit, j->pidfd, EPOLLIN, on_gone, j) < 0)
        r = err_set(e, ENOMEM, "watch a fetch");
    if (r < 0)
        return r;
    json_t *request = request_json(j);
    int fds[2] = {dir, file};
    r = request ? peer_send(j->peer, request, fds, file >= 0 ? 2 : 1, e)
                : err_set(e, ENOMEM, "ask for a fetch");
    json_decref(request);
    if (r == 0 && timer_set(f->loop, &j->deadline, "fetch-deadline",
                            clock_boot() + f->config->fetch_total + GRACE, on_deadline, j) < 0)
        r = err_set(e, ENOMEM, "watch a fetch");
    return r;
}

/* From the loop, never from inside the caller's call: a failure must not come before the waiter
 * exists. */
static int on_start(sd_event_source *s, void *userdata)
{
    struct fetcher *f = userdata;
    struct err e = ERR_INIT;
    struct job *j;

    sd_event_source_unref(s);
    TAILQ_FOREACH (j, &f->jobs, link)
        if (!j->running && f->running < f->config->fetch_jobs)
            break;
    if (!j)
        return 0;
    j->running = true;
    f->running++;
    if (job_start(j, &e) < 0)
        job_fail(j, &e, NULL);
    else
        start_next(f);
    return 0;
}

static void start_next(struct fetcher *f)
{
    sd_event_source *once = NULL;

    if (sd_event_add_defer(f->loop, &once, on_start, f) < 0)
        log_err("no memory to start a fetch");
}

int fetcher_new(sd_event *loop, const struct config *config, struct cache *cache, uid_t uid,
                struct fetcher **ret, struct err *e)
{
    struct fetcher *f = calloc(1, sizeof(*f));

    if (!f)
        return err_set(e, ENOMEM, "make the fetcher");
    *f = (struct fetcher){.loop = loop, .config = config, .cache = cache, .uid = uid};
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
    f->closing = true;
    while ((j = TAILQ_FIRST(&f->jobs))) {
        struct fetch_waiter *w;

        while ((w = LIST_FIRST(&j->waiters))) {
            LIST_REMOVE(w, link);
            free(w);
        }
        job_free(j);
    }
    free(f);
    *fp = NULL;
}

unsigned fetcher_running(const struct fetcher *f)
{
    return f->running;
}

static struct job *job_find(struct fetcher *f, const char *url, const struct digest *digest)
{
    struct job *j;

    TAILQ_FOREACH (j, &f->jobs, link)
        if (digest ? j->has_digest && digest_equal(&j->digest, digest)
                   : !j->has_digest && !strcmp(j->url, url))
            return j;
    return NULL;
}

static struct job *job_new(struct fetcher *f, const char *url, const struct digest *digest)
{
    struct job *j = calloc(1, sizeof(*j));

    if (!j || !(j->url = strdup(url))) {
        free(j);
        return NULL;
    }
    j->fetcher = f;
    j->pidfd = -1;
    if (digest) {
        j->digest = *digest;
        j->has_digest = true;
    }
    TAILQ_INSERT_TAIL(&f->jobs, j, link);
    return j;
}

int fetcher_get(struct fetcher *f, const char *url, const struct digest *digest, fetch_fn fn,
                void *userdata, struct fetch_waiter **ret, struct err *e)
{
    struct job *j = job_find(f, url, digest);
    bool fresh = !j;

    if (fresh)
        j = job_new(f, url, digest);
    struct fetch_waiter *w = j ? calloc(1, sizeof(*w)) : NULL;
    if (fresh && j)
        start_next(f);
    if (!w)
        return err_set(e, ENOMEM, "wait for a fetch");
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
