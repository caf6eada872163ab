/* run_trace.c - what the state files say of an earlier agent's runs; and where they say nothing, or
 * nothing that can be believed, what their dyno-inits, their cgroups and their names say. */
/* gcc's analyzer loses track of who holds it (seen from scoped.h, so before it): the array grows
 * and is handed out by *ret. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define ASK_PATIENCE (10 * USEC_PER_SEC) /* for all dyno-inits that have to be asked, together */
#define PATH_MAX_RUN (NAME_MAX + 32)     /* ID/run.json */
#define ONEOFF_TYPE  "run"

_Static_assert(RUN_RECORD_OLDEST == (RUN_RECORD_VERSION > 1 ? RUN_RECORD_VERSION - 1 : 1),
               "run.json is read one version back, and no further");

/* A trace that is no good. */
struct bad {
    char name[NAME_MAX + 1];
    struct err why;
    int sock; /* to its dyno-init, which has been asked; -1: nobody listens */
};

struct traces {
    struct run_env *env;
    struct run_trace *at;
    size_t n, cap;
    struct bad *bads;
    size_t n_bads, cap_bads;
    void (*odd)(void *userdata, const struct run_odd *odd);
    void *userdata;
};

static bool id_valid(const char *id)
{
    size_t len = strlen(id);

    return len > 0 && len < RUN_ID_MAX && id[0] != '.' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static bool exists(const struct run_env *env, const char *id, const char *file)
{
    char path[PATH_MAX_RUN];

    (void)snprintf(path, sizeof(path), "%s/%s", id, file);
    return faccessat(env->run_dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- One that is sound --- */

static int trace_read(const struct run_env *env, const char *id, struct run_trace *ret,
                      struct err *e)
{
    scoped_free char *text = NULL;
    scoped(json_freep) json_t *record = NULL;
    char path[PATH_MAX_RUN];
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/" RUN_RECORD, id);
    int rc = file_read(env->run_dirfd, path, RUN_RECORD_MAX, &text, &len, e);
    if (rc == 0)
        rc = json_parse(text, len, RUN_RECORD_MAX, &record, e);
    if (rc < 0)
        return err_wrap(e, RUN_RECORD);
    int64_t v = json_int(record, "v", 0);
    if (v > RUN_RECORD_VERSION)
        return err_say(e, EBADMSG, RUN_RECORD " is from a later version of dynod (%lld)",
                       (long long)v);
    if (v < RUN_RECORD_OLDEST || !json_is_object(json_object_get(record, "record")))
        return err_say(e, EBADMSG, RUN_RECORD " is of no version that this agent knows");
    *ret = (struct run_trace){.record = TAKE_PTR(record)};
    ret->recorded = json_object_get(ret->record, "end") || exists(env, id, RUN_TOLD);
    ret->clean = ret->recorded && !exists(env, id, RUN_SOCKET);
    (void)snprintf(ret->id, sizeof(ret->id), "%.*s", (int)sizeof(ret->id) - 1, id);
    return 0;
}

static int write_trace(const struct run_env *env, const struct run_trace *trace, struct err *e)
{
    scoped_free char *text = json_dumps(trace->record, JSON_COMPACT);
    char path[PATH_MAX_RUN];

    if (!text)
        return err_set(e, ENOMEM, "write " RUN_RECORD " of %s", trace->id);
    (void)snprintf(path, sizeof(path), "%s/" RUN_RECORD, trace->id);
    return file_write_atomic(env->run_dirfd, path, text, strlen(text), 0600, e);
}

int run_trace_record(struct run_env *env, struct run_trace *trace, const json_t *fields,
                     struct err *e)
{
    if (json_object_set(trace->record, "end", (json_t *)(uintptr_t)fields) < 0)
        return err_set(e, ENOMEM, "record the end of %s", trace->id);
    trace->recorded = true; /* whatever becomes of the file: this agent knows */
    int rc = write_trace(env, trace, e);
    if (rc < 0 && !exists(env, trace->id, RUN_TOLD))
        run_mark_told(env->run_dirfd, trace->id);
    return rc;
}

void run_mark_told(int dirfd, const char *dir)
{
    char from[PATH_MAX_RUN], to[PATH_MAX_RUN];

    (void)snprintf(from, sizeof(from), "%s/" RUN_EXIT, dir);
    (void)snprintf(to, sizeof(to), "%s/" RUN_TOLD, dir);
    if (renameat(dirfd, from, dirfd, to) < 0)
        log_warn("%s: its end may be reported again: %s", dir, strerror(errno));
}

bool run_told_to_stop(const struct run *r)
{
    return faccessat(r->dirfd, RUN_STOP, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Without it (no memory on tmpfs) the next agent believes the journal. */
void run_hold(struct run *r)
{
    scoped_fd mark = openat(r->dirfd, RUN_HELD, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (mark < 0)
        log_warn("%s: it cannot be marked as held: %s", r->id, strerror(errno));
}

void run_unhold(struct run *r)
{
    (void)unlinkat(r->dirfd, RUN_HELD, 0); /* most have none */
}

bool run_held(const struct run *r)
{
    return faccessat(r->dirfd, RUN_HELD, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void run_trace_remove(struct run_env *env, const char *id)
{
    struct err e = ERR_INIT;

    if (tree_remove(env->run_dirfd, id, &e) < 0)
        log_warn("%s: %s", id, e.text);
}

/* --- Many --- */

/* Appends TRACE (its record is taken, also on failure). */
static int add_trace(struct traces *t, const struct run_trace *trace, struct err *e)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct run_trace *more = reallocarray(t->at, cap, sizeof(*more));

        if (!more) {
            json_decref(trace->record);
            return err_set(e, ENOMEM, "read the runs' directory");
        }
        t->at = more;
        t->cap = cap;
    }
    t->at[t->n++] = *trace;
    return 0;
}

static int add_bad(struct traces *t, const char *name, const struct err *why, struct err *e)
{
    if (t->n_bads == t->cap_bads) {
        size_t cap = t->cap_bads ? t->cap_bads * 2 : 16;
        struct bad *more = reallocarray(t->bads, cap, sizeof(*more));

        if (!more)
            return err_set(e, ENOMEM, "read the runs' directory");
        t->bads = more;
        t->cap_bads = cap;
    }
    struct bad *b = &t->bads[t->n_bads++];
    *b = (struct bad){.why = *why, .sock = -1};
    (void)snprintf(b->name, sizeof(b->name), "%s", name);
    return 0;
}

static int trace_order(const void *a, const void *b)
{
    return strcmp(((const struct run_trace *)a)->id, ((const struct run_trace *)b)->id);
}

static void traces_sort(struct traces *t)
{
    if (t->n > 1)
        qsort(t->at, t->n, sizeof(*t->at), trace_order);
}

struct run_trace *run_trace_find(struct run_trace *traces, size_t n, const char *id)
{
    struct run_trace key = {0};

    (void)snprintf(key.id, sizeof(key.id), "%s", id);
    return n > 0 ? bsearch(&key, traces, n, sizeof(*traces), trace_order) : NULL;
}

void run_traces_free(struct run_trace *traces, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_decref(traces[i].record);
    free(traces);
}

static void traces_done(struct traces *t)
{
    run_traces_free(t->at, t->n);
    for (size_t i = 0; i < t->n_bads; i++)
        fd_closep(&t->bads[i].sock);
    free(t->bads);
}

/* It is the trace that is no good, not our means to read it. */
static bool is_odd(int errnum)
{
    return errnum != ENOMEM && errnum != ENFILE && errnum != EMFILE && errnum != EIO;
}

static int read_one(struct traces *t, const char *name, struct err *e)
{
    struct err why = ERR_INIT;
    struct run_trace trace;
    int rc = 0;

    if (!id_valid(name))
        rc = err_say(&why, EINVAL, "not a run's name");
    else
        rc = trace_read(t->env, name, &trace, &why);
    if (rc == 0)
        return add_trace(t, &trace, e);
    if (is_odd(why.errnum))
        return add_bad(t, name, &why, e);
    *e = why;
    return err_wrap(e, "%s", name);
}

static int read_all(struct traces *t, struct err *e)
{
    int fd = openat(t->env->run_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    int rc = 0;

    if (!d) {
        rc = err_set(e, errno, "read the runs' directory");
        fd_closep(&fd);
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = read_one(t, entry->d_name, e);
    /* What was not seen would be swept as if nothing named it. */
    return rc == 0 && errno ? err_set(e, errno, "read the runs' directory") : rc;
}

/* --- Guesses: what the name tells --- */

/* ID is APP.TYPE.NUM.RANDOM (run_start()), and no name has a dot in it. */
static bool id_parse(const char *id, struct dyno_name *ret)
{
    char text[RUN_ID_MAX], dyno[2 * RUN_ID_MAX];
    char *rest = text;

    if (!id_valid(id))
        return false;
    (void)snprintf(text, sizeof(text), "%s", id);
    char *app = strsep(&rest, "."), *type = strsep(&rest, "."), *num = strsep(&rest, ".");
    (void)snprintf(dyno, sizeof(dyno), "%s/%s.%s", app, type ? type : "", num ? num : "");
    return rest && dyno_name_parse(dyno, ret) == 0;
}

/* That of the run ID, by its id, by what its directory says, or what is written on its cgroup. */
static bool find_name(const struct run_env *env, const char *id, struct dyno_name *ret)
{
    char path[PATH_MAX_RUN], text[DYNO_TEXT_MAX + 1];

    if (id_parse(id, ret))
        return true;
    if (!str_starts(id, RUN_SPARE_PREFIX) || !id_valid(id))
        return false;
    (void)snprintf(path, sizeof(path), "%s/" RUN_NAME, id);
    ssize_t n = readlinkat(env->run_dirfd, path, text, sizeof(text) - 1);
    if (n < 0)
        n = cgroup_noted(env->cgroups, id, text, sizeof(text));
    if (n < 0)
        return false;
    text[n] = '\0';
    return dyno_name_parse(text, ret) == 0;
}

/* UID: 0: unknown. NULL: no memory. */
static json_t *guess_record(const struct dyno_name *name, uid_t uid)
{
    return json_pack("{s:s,s:s,s:i,s:b,s:I,s:b}", "app", name->app, "type", name->type, "num",
                     (int)name->num, "oneoff", !strcmp(name->type, ONEOFF_TYPE), "uid",
                     (json_int_t)uid, "guessed", true);
}

/* A trace of RECORD (taken) for ID, on disk too: an agent that dies now leaves it to the next. */
static int add_rebuilt(struct traces *t, const char *id, json_t *record, bool guessed,
                       struct err *e)
{
    struct run_trace trace = {.guessed = guessed};
    struct err why = ERR_INIT;

    trace.record = json_pack("{s:i,s:s,s:o}", "v", RUN_RECORD_VERSION, "id", id, "record", record);
    if (!trace.record)
        return err_set(e, ENOMEM, "rebuild the trace of %s", id);
    (void)snprintf(trace.id, sizeof(trace.id), "%s", id);
    if (write_trace(t->env, &trace, &why) < 0)
        log_warn("%s: %s", id, why.text); /* the next agent asks again */
    return add_trace(t, &trace, e);
}

/* --- One that is no good --- */

/* Not a file, nor a directory with another name than ours have. */
static bool is_run(const struct traces *t, const struct bad *b)
{
    struct dyno_name name;

    return find_name(t->env, b->name, &name) && b->why.errnum != ENOTDIR;
}

/* All are asked before the first is heard. */
static int ask_all(struct traces *t, struct err *e)
{
    for (size_t i = 0; i < t->n_bads; i++) {
        struct bad *b = &t->bads[i];
        struct err why = ERR_INIT;

        if (is_run(t, b) && run_identity_ask(t->env, b->name, &b->sock, &why) < 0 &&
            !run_nobody_listens(why.errnum)) {
            *e = why;
            return err_wrap(e, "%s", b->name);
        }
    }
    return 0;
}

static void tell(const struct traces *t, const struct bad *b, const char *kept,
                 enum run_odd_outcome outcome)
{
    struct run_odd odd = {.name = b->name, .why = b->why.text, .kept = kept, .outcome = outcome};

    t->odd(t->userdata, &odd);
}

static void put_away(const struct traces *t, const struct bad *b)
{
    char kept[RUN_KEPT_MAX];

    run_set_aside(t->env, b->name, kept);
    run_trace_remove(t->env, b->name); /* it is away, unless there was no place for it */
    tell(t, b, kept, RUN_ODD_REMOVED);
}

static void put_record_away(const struct traces *t, const char *id, char kept[RUN_KEPT_MAX])
{
    char path[PATH_MAX_RUN];

    kept[0] = '\0';
    (void)snprintf(path, sizeof(path), "%s/" RUN_RECORD, id);
    if (exists(t->env, id, RUN_RECORD))
        run_set_aside(t->env, path, kept);
}

/* It lives, and nothing is known about it: not even whether it should. All in its PID namespace end
 * with it, and its exit record keeps that it had started. */
static void end_unknown(const struct ucred *cred)
{
    scoped_fd pidfd = cred->pid > 1 ? pidfd_open(cred->pid, 0) : -1;

    if (pidfd >= 0)
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0); /* ESRCH: it has ended meanwhile */
}

/* Nobody says who B is. CRED: of its dyno-init, if that lives. */
static int guess(struct traces *t, const struct bad *b, const struct ucred *cred, bool alive,
                 struct err *e)
{
    /* The end of a run is on record before these two go. */
    bool open_end = (exists(t->env, b->name, RUN_SOCKET) || exists(t->env, b->name, RUN_EXIT)) &&
                    !exists(t->env, b->name, RUN_TOLD);
    char kept[RUN_KEPT_MAX];
    struct dyno_name name = {0};

    (void)find_name(t->env, b->name, &name); /* is_run() */
    put_record_away(t, b->name, kept);
    if (alive)
        end_unknown(cred);
    if (open_end) {
        int rc = add_rebuilt(t, b->name, guess_record(&name, cred->uid), true, e);

        if (rc == 0)
            tell(t, b, kept, alive ? RUN_ODD_ENDED : RUN_ODD_DEAD);
        return rc;
    }
    run_trace_remove(t->env, b->name);
    tell(t, b, kept, b->why.errnum == ENOENT ? RUN_ODD_UNBORN : RUN_ODD_REMOVED);
    return 0;
}

static int rebuild(struct traces *t, struct bad *b, uint64_t deadline, struct err *e)
{
    json_t *record = NULL;
    struct ucred cred = {0};
    struct err why = ERR_INIT, was = b->why;
    char kept[RUN_KEPT_MAX];
    int rc = -ECONNREFUSED;

    if (!is_run(t, b)) {
        put_away(t, b);
        return 0;
    }
    if (b->sock >= 0)
        rc = run_identity_hear(b->sock, b->name, deadline, &record, &cred, &why);
    fd_closep(&b->sock);
    if (rc < 0 && !is_odd(-rc)) {
        *e = why;
        return err_wrap(e, "%s", b->name);
    }
    if (rc < 0) {
        bool alive = !run_nobody_listens(-rc);

        if (alive)
            (void)err_say(&b->why, was.errnum, "%.200s; %.200s", was.text, why.text);
        return guess(t, b, &cred, alive, e);
    }
    put_record_away(t, b->name, kept);
    rc = add_rebuilt(t, b->name, record, false, e);
    if (rc == 0)
        tell(t, b, kept, RUN_ODD_REBUILT);
    return rc;
}

/* --- A cgroup of ours with processes, and no directory --- */

static bool is_populated(const struct traces *t, const char *id)
{
    struct cgroup *c = NULL;
    struct err ignored = ERR_INIT;
    bool populated = cgroup_open(t->env->cgroups, id, &c, &ignored) == 0 && cgroup_populated(c);

    cgroup_freep(&c);
    return populated;
}

/* Who they were is in its name, or on it; nobody can reach their dyno-init any more. */
static int add_lost(struct traces *t, const char *id, struct err *e)
{
    struct bad b = {.sock = -1};
    struct dyno_name name;

    if (!find_name(t->env, id, &name) || !is_populated(t, id) ||
        mkdirat(t->env->run_dirfd, id, 0700) < 0)
        return 0; /* run_sweep() ends what is in it */
    (void)snprintf(b.name, sizeof(b.name), "%s", id);
    (void)err_say(&b.why, ENOENT, "its directory is gone, its processes are not");
    int rc = add_rebuilt(t, id, guess_record(&name, 0), true, e);
    if (rc == 0)
        tell(t, &b, "", RUN_ODD_DEAD);
    return rc;
}

static int find_lost(struct traces *t, struct err *e)
{
    char **ids = NULL;
    struct err ignored = ERR_INIT; /* run_sweep() meets it again, and says so */
    size_t n = t->n;
    int rc = 0;

    traces_sort(t);
    (void)cgroup_tree_list(t->env->cgroups, &ids, &ignored);
    for (size_t i = 0; rc == 0 && ids && ids[i]; i++)
        if (!run_trace_find(t->at, n, ids[i]))
            rc = add_lost(t, ids[i], e);
    cgroup_ids_free(ids);
    return rc;
}

int run_traces(struct run_env *env, struct run_trace **ret, size_t *ret_n,
               void (*odd)(void *userdata, const struct run_odd *odd), void *userdata,
               struct err *e)
{
    scoped(traces_done) struct traces t = {.env = env, .odd = odd, .userdata = userdata};
    int rc = read_all(&t, e);

    if (rc == 0)
        rc = ask_all(&t, e);
    uint64_t deadline = clock_boot() + ASK_PATIENCE;
    for (size_t i = 0; rc == 0 && i < t.n_bads; i++)
        rc = rebuild(&t, &t.bads[i], deadline, e);
    if (rc == 0)
        rc = find_lost(&t, e);
    if (rc < 0)
        return rc;
    traces_sort(&t);
    *ret = TAKE_PTR(t.at);
    *ret_n = t.n;
    t.n = 0;
    return 0;
}
