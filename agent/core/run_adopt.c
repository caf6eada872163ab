/* run_adopt.c - taking over what an earlier agent left: the kernel and each dyno-init say what
 * runs, the traces say what it is. */
/* gcc's analyzer loses track of who holds it (seen from scoped.h, so before it): the array grows
 * and is handed out by *ret. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#include "core/run_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/sweeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADOPT_TRIES 3
#define ADOPT_PATIENCE                                                                             \
    (10 * USEC_PER_SEC) /* for a child in the middle of its steps to become dyno-init */

static bool id_valid(const char *id)
{
    size_t len = strlen(id);

    return len > 0 && len < RUN_ID_MAX && id[0] != '.' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

/* --- Traces
 * -----------------------------------------------------------------------------------------------
 */

static int trace_read(struct run_env *env, const char *id, struct run_trace *ret, struct err *e)
{
    scoped_free char *text = NULL;
    scoped(json_freep) json_t *record = NULL;
    char name[RUN_ID_MAX + 16];
    size_t len;

    (void)snprintf(name, sizeof(name), "%s/" RUN_RECORD, id);
    int rc = file_read(env->run_dirfd, name, RUN_RECORD_MAX, &text, &len, e);
    if (rc == 0)
        rc = json_parse(text, len, RUN_RECORD_MAX, &record, e);
    if (rc < 0)
        return rc;
    if (json_int(record, "v", 0) != 1 || !json_is_object(json_object_get(record, "record")))
        return err_say(e, EBADMSG, RUN_RECORD " is of a version that this agent does not know");
    *ret = (struct run_trace){.record = TAKE_PTR(record)};
    ret->recorded = json_object_get(ret->record, "end") != NULL;
    (void)snprintf(name, sizeof(name), "%s/" RUN_SOCKET, id);
    ret->clean = ret->recorded && faccessat(env->run_dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
    (void)snprintf(ret->id, sizeof(ret->id), "%s", id);
    return 0;
}

int run_trace_record(struct run_env *env, struct run_trace *trace, const json_t *fields,
                     struct err *e)
{
    char name[RUN_ID_MAX + 16];

    if (json_object_set(trace->record, "end", (json_t *)(uintptr_t)fields) < 0)
        return err_set(e, ENOMEM, "record the end of %s", trace->id);
    trace->recorded = true; /* whatever becomes of the file: this agent knows */
    scoped_free char *text = json_dumps(trace->record, JSON_COMPACT);
    if (!text)
        return err_set(e, ENOMEM, "record the end of %s", trace->id);
    (void)snprintf(name, sizeof(name), "%s/" RUN_RECORD, trace->id);
    return file_write_atomic(env->run_dirfd, name, text, strlen(text), 0600, e);
}

bool run_told_to_stop(const struct run *r)
{
    return faccessat(r->dirfd, RUN_STOP, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void run_trace_remove(struct run_env *env, const char *id)
{
    struct err e = ERR_INIT;

    if (tree_remove(env->run_dirfd, id, &e) < 0)
        log_warn("%s: %s", id, e.text);
}

/* It is the trace that is no good, not our means to read it: what is removed is killed. */
static bool is_odd(int errnum)
{
    return errnum != ENOMEM && errnum != ENFILE && errnum != EMFILE && errnum != EIO;
}

static int trace_order(const void *a, const void *b)
{
    return strcmp(((const struct run_trace *)a)->id, ((const struct run_trace *)b)->id);
}

int run_traces(struct run_env *env, struct run_trace **ret, size_t *ret_n,
               void (*odd)(void *userdata, const char *id, const char *why), void *userdata,
               struct err *e)
{
    int fd = openat(env->run_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct run_trace *traces = NULL;
    size_t n = 0, cap = 0;
    struct dirent *entry;

    if (!d) {
        int rc = err_set(e, errno, "read the runs' directory");

        fd_closep(&fd);
        return rc;
    }
    while (errno = 0, (entry = readdir(d))) {
        struct err why = ERR_INIT;

        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            struct run_trace *more = reallocarray(traces, cap, sizeof(*traces));

            if (!more) {
                run_traces_free(traces, n);
                return err_set(e, ENOMEM, "read the runs' directory");
            }
            traces = more;
        }
        if (id_valid(entry->d_name) && trace_read(env, entry->d_name, &traces[n], &why) == 0) {
            n++;
            continue;
        }
        if (!is_odd(why.errnum)) {
            run_traces_free(traces, n);
            *e = why;
            return err_wrap(e, "%s", entry->d_name);
        }
        odd(userdata, entry->d_name, why.errnum ? why.text : "not a run's name");
        run_trace_remove(env, entry->d_name); /* run_sweep() ends what it may have had */
    }
    if (errno) { /* what was not seen would be swept as if nothing named it */
        int rc = err_set(e, errno, "read the runs' directory");

        run_traces_free(traces, n);
        return rc;
    }
    if (n > 1)
        qsort(traces, n, sizeof(*traces), trace_order);
    *ret = traces;
    *ret_n = n;
    return 0;
}

void run_traces_free(struct run_trace *traces, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_decref(traces[i].record);
    free(traces);
}

/* --- Sweep
 * ------------------------------------------------------------------------------------------------
 */

static bool is_traced(const struct run_trace *traces, size_t n, const char *id)
{
    struct run_trace key = {0};

    (void)snprintf(key.id, sizeof(key.id), "%s", id);
    return n > 0 && bsearch(&key, traces, n, sizeof(*traces), trace_order) != NULL;
}

static void sweep_cgroup(struct run_env *env, const char *id)
{
    struct cgroup *c = NULL;
    struct err e = ERR_INIT;
    int rc = cgroup_open(env->cgroups, id, &c, &e);

    if (rc == 0)
        rc = cgroup_kill(c, &e);
    for (int i = 0; rc == 0 && i < 1000; i++) { /* start-up: nothing else waits on the loop yet */
        rc = cgroup_remove(c, &e);
        if (rc != -EBUSY)
            break;
        rc = 0;
        (void)usleep(1000);
    }
    if (rc < 0)
        log_warn("%s: a leftover cgroup stays: %s", id, e.text);
    else
        log_notice("%s: removed a leftover cgroup", id);
    cgroup_freep(&c);
}

static void sweep_scratch(struct run_env *env, const struct run_trace *traces, size_t n)
{
    int fd = openat(env->scratch_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    struct err e = ERR_INIT;

    while (d && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
            !is_traced(traces, n, entry->d_name) &&
            sweeper_take(env->sweeper, env->scratch_dirfd, entry->d_name, &e) < 0)
            log_warn("scratch: %s", e.text);
}

void run_sweep(struct run_env *env, const struct run_trace *traces, size_t n)
{
    char **ids = NULL;
    struct err e = ERR_INIT;

    if (cgroup_tree_list(env->cgroups, &ids, &e) < 0)
        log_warn("cgroups: %s", e.text);
    for (size_t i = 0; ids && ids[i]; i++)
        if (!is_traced(traces, n, ids[i]))
            sweep_cgroup(env, ids[i]);
    cgroup_ids_free(ids);
    sweep_scratch(env, traces, n);
}

/* --- Adoption --- */

/* Nobody listens: it ended, or it never got so far. */
static int on_dead(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;

    (void)s;
    (void)usec;
    if (!run_read_exit(r))
        (void)err_say(&r->failed, EINTR, "the agent died while it started this dyno");
    r->log_eof = true; /* dyno-init held the pipe */
    run_note_end(r);
    return 0;
}

int run_connect_init(struct run *r, struct err *e)
{
    struct init_request hello = {.kind = INIT_HELLO};
    char path[512];
    int sock = -1;

    (void)snprintf(path, sizeof(path), "%s/run/%s/" RUN_SOCKET, r->env->runtime_dir, r->id);
    int rc = unix_connect(path, SOCK_SEQPACKET | SOCK_NONBLOCK, &sock, e);
    if (rc == 0)
        rc = run_watch_link(r, sock, e);
    if (rc == 0) {
        rc = initlink_send(r->link, &hello, NULL, 0);
        if (rc < 0)
            initlink_freep(&r->link);
    }
    return rc;
}

/* Any other failure is ours: it says nothing about what runs. */
static bool nobody_listens(int errnum)
{
    return errnum == ECONNREFUSED || errnum == ENOENT || errnum == ENOTSOCK || errnum == EPIPE ||
           errnum == ECONNRESET;
}

/* It took the connection and never answered: it will not come up. */
static int on_silent(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct run *r = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    /* A connection that broke may have done so on our side. */
    while (!r->link && r->adopt_tries++ < ADOPT_TRIES) {
        if (run_connect_init(r, &e) == 0 &&
            timer_set(r->env->loop, &r->timer, "run-adopt", clock_boot() + ADOPT_PATIENCE,
                      on_silent, r) >= 0)
            return 0;
        if (nobody_listens(e.errnum))
            return on_dead(NULL, 0, r);
    }
    log_warn("%s: no answer from dyno-init: killed", r->id);
    if (r->cgroup && cgroup_kill(r->cgroup, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
    initlink_freep(&r->link);
    return on_dead(NULL, 0, r);
}

int run_adopt(struct run_env *env, const struct run_trace *trace, const struct dyno_name *name,
              const struct run_ops *ops, void *owner, struct run **ret, struct err *e)
{
    struct run *r;
    struct err why = ERR_INIT;
    int rc = run_new(env, trace->id, name, ops, owner, &r, e);

    if (rc < 0)
        return rc;
    r->record = json_incref(trace->record);
    r->dirfd = openat(env->run_dirfd, r->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dirfd < 0) {
        rc = err_set(e, errno, "open the directory of %s", r->id);
        run_freep(&r);
        return rc;
    }
    if (cgroup_open(env->cgroups, r->id, &r->cgroup, &why) < 0)
        r->cgroup = NULL; /* it died before it was made, or after it was removed */
    run_watch_oom(r);
    why = (struct err)ERR_INIT;
    bool alive = run_connect_init(r, &why) == 0;
    if (!alive && !nobody_listens(why.errnum))
        rc = err_wrap(&why, "adopt %s", trace->id);
    else if ((rc = timer_set(env->loop, &r->timer, "run-adopt",
                             alive ? clock_boot() + ADOPT_PATIENCE : 0, alive ? on_silent : on_dead,
                             r)) < 0)
        rc = err_set(&why, -rc, "adopt %s", trace->id);
    if (rc < 0) {
        run_freep(&r);
        *e = why;
        return rc;
    }
    *ret = r;
    return 0;
}
