#include "core/agent_open.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "core/prefetch.h"
#include "core/ready.h"
#include "core/reconcile.h"
#include "slug/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define UID_LOGS  0  /* of the uid range: who the helpers become */
#define UID_FETCH 1  /* and who owns slugs, and who every dyno is inside */
#define UID_DYNOS 16 /* the first dyno's */

sd_event *agent_loop(struct agent *a)
{
    return a->loop;
}

const struct config *agent_config(const struct agent *a)
{
    return &a->config;
}

/* --- Finding
 * ---------------------------------------------------------------------------------------------- */

struct dyno *agent_find_dyno(struct agent *a, const struct dyno_name *name)
{
    struct dyno *d;

    TAILQ_FOREACH(d, &a->dynos, link)
    if (d->name.num == name->num && !strcmp(d->name.type, name->type) &&
        !strcmp(d->name.app, name->app))
        return d;
    return NULL;
}

static struct run *find_run(struct agent *a, const char *id)
{
    struct dyno *d;
    struct ending *ending;

    TAILQ_FOREACH(d, &a->dynos, link)
    if (d->run && !strcmp(run_id(d->run), id))
        return d->run;
    LIST_FOREACH(ending, &a->endings, link)
    if (!strcmp(run_id(ending->run), id))
        return ending->run;
    return NULL;
}

void agent_event(struct agent *a, const char *kind, const struct dyno_name *dyno, json_t *fields)
{
    json_t *event = fields ? fields : json_object();
    char name[DYNO_TEXT_MAX];

    (void)json_object_set_new(event, "kind", json_string(kind));
    if (dyno) {
        (void)json_object_set_new(event, "app", json_string(dyno->app));
        (void)json_object_set_new(event, "dyno", json_string(dyno_name_short(dyno, name)));
    }
    events_emit(a->events, event);
}

/* --- Runs that end without their dyno
 * ----------------------------------------------------------------------- */

static void ending_nothing(void *owner, struct run *r)
{
    (void)owner;
    (void)r;
}

static void ending_started(void *owner, struct run *r, struct run_attach_fds *fds)
{
    (void)owner;
    (void)r;
    for (int i = 0; fds && i < 3; i++)
        fd_closep(&fds->fds[i]);
}

static void ending_failed(void *owner, struct run *r, const struct err *why)
{
    (void)owner;
    (void)r;
    (void)why;
}

static void ending_gone(void *owner, struct run *r)
{
    struct ending *ending = owner;
    struct agent *a = ending->agent;
    char id[RUN_ID_MAX];
    struct dyno *d;

    (void)snprintf(id, sizeof(id), "%s", run_id(r));
    LIST_REMOVE(ending, link);
    run_freep(&ending->run);
    free(ending);
    TAILQ_FOREACH(d, &a->dynos, link)
    if (!strcmp(d->tomb, id))
        return;
    run_trace_remove(&a->env, id);
    agent_check_drained(a);
}

static void ending_exec_started(void *owner, struct run *r, uint32_t token,
                                struct run_attach_fds *fds, const struct err *why)
{
    (void)token;
    (void)why;
    ending_started(owner, r, fds);
}

static void ending_exec_ended(void *owner, struct run *r, uint32_t token, int wait_status)
{
    (void)owner;
    (void)r;
    (void)token;
    (void)wait_status;
}

static const struct run_ops ending_ops = {
    .started = ending_started,
    .failed = ending_failed,
    .ended = ending_nothing,
    .oom = ending_nothing,
    .gone = ending_gone,
    .exec_started = ending_exec_started,
    .exec_ended = ending_exec_ended,
};

static struct ending *ending_new(struct agent *a)
{
    struct ending *ending = calloc(1, sizeof(*ending));

    if (ending) {
        ending->agent = a;
        LIST_INSERT_HEAD(&a->endings, ending, link);
    }
    return ending;
}

void agent_adopt_ending(struct agent *a, struct run *run)
{
    struct ending *ending = ending_new(a);

    if (!ending) { /* the next agent cleans up */
        log_err("%s: no memory to clean up after it", run_id(run));
        run_freep(&run);
        return;
    }
    ending->run = run;
    run_hand_over(run, &ending_ops, ending);
}

void agent_drop_tomb(struct agent *a, const char *id)
{
    if (id[0] && !find_run(a, id)) /* one that is still ending removes it itself */
        run_trace_remove(&a->env, id);
}

/* --- Reconciling
 * ------------------------------------------------------------------------------------------ */

/* A one-off whose client went before it could start: nobody would see it run. */
static bool orphaned(const struct want *w)
{
    return w->oneoff && w->oneoff->attached;
}

static void start_wanted(struct agent *a, const struct want *w)
{
    struct dyno *d;
    struct err e = ERR_INIT;

    if (a->shutting_down)
        return;
    if (orphaned(w)) {
        json_t *entry =
            json_pack("{s:s,s:s,s:i}", "op", "ran", "app", w->name.app, "num", (int)w->name.num);

        (void)agent_change(a, entry, NULL, &e); /* it would be tried again at the next pass */
        json_decref(entry);
        return;
    }
    if (dyno_new(a, w, &d, &e) < 0) {
        log_err("%s/%s.%u: %s", w->name.app, w->name.type, w->name.num, e.text);
        return;
    }
    dyno_event(d, DEV_START);
}

/* The dynos as reconcile() wants them; HAVES[i] is DYNOS[i]. */
static size_t list_dynos(struct agent *a, struct have *haves, struct dyno **dynos)
{
    struct dyno *d;
    size_t n = 0;

    TAILQ_FOREACH(d, &a->dynos, link)
    {
        haves[n] = (struct have){.name = d->name,
                                 .generation = d->generation,
                                 .stopping = d->state == DYNO_STOPPING || d->state == DYNO_KILLING};
        dynos[n++] = d;
    }
    return n;
}

static int reconcile_now(struct agent *a, struct err *e)
{
    scoped_free struct want *wants = NULL;
    scoped_free struct have *haves = calloc(a->n_dynos + 1, sizeof(*haves));
    scoped_free struct dyno **dynos = calloc(a->n_dynos + 1, sizeof(struct dyno *));
    scoped_free struct action *actions = NULL;
    size_t n_wants = 0, n_actions = 0;

    if (!haves || !dynos)
        return err_set(e, ENOMEM, "reconcile");
    size_t n_haves = list_dynos(a, haves, dynos);
    int r = a->shutting_down ? 0 : model_wants(a->model, &wants, &n_wants, e);
    if (r == 0)
        r = reconcile(wants, n_wants, haves, n_haves, &actions, &n_actions, e);
    for (size_t i = 0; r == 0 && i < n_actions; i++) {
        const struct want *w = actions[i].want != SIZE_MAX ? &wants[actions[i].want] : NULL;
        struct dyno *d = actions[i].have != SIZE_MAX ? dynos[actions[i].have] : NULL;

        if (!d)
            start_wanted(a, w);
        else if (d->held && dyno_running(d))
            continue;
        else if (w && w->type && !w->type->command && dyno_running(d))
            prefetch_release(a, w->app); /* the old one runs until the new one can */
        else if (!haves[actions[i].have].stopping)
            dyno_event(d, DEV_STOP); /* a replaced one's end frees its place and asks for a pass */
    }
    return r;
}

static int on_reconcile(sd_event_source *s, void *userdata)
{
    struct agent *a = userdata;
    struct err e = ERR_INIT;

    (void)s;
    if (reconcile_now(a, &e) < 0)
        log_err("reconcile: %s", e.text);
    return 0;
}

void agent_reconcile_soon(struct agent *a)
{
    int r =
        a->reconcile_soon ? 0 : sd_event_add_defer(a->loop, &a->reconcile_soon, on_reconcile, a);

    if (r >= 0)
        r = sd_event_source_set_enabled(a->reconcile_soon, SD_EVENT_ONESHOT);
    if (r < 0)
        log_err("reconcile: no memory");
}

/* Somebody who knows has spoken about APP: its dynos are not held any more. */
static void release_held(struct agent *a, const char *app)
{
    struct dyno *d;

    TAILQ_FOREACH(d, &a->dynos, link)
    if (!strcmp(d->name.app, app))
        d->held = false;
}

int agent_change(struct agent *a, const json_t *entry, json_t **ret_entry, struct err *e)
{
    int r = journal_apply(a->journal, entry, ret_entry, e);

    if (r < 0)
        return r;
    if (a->forgetful && strcmp(json_str(entry, "op", ""), "ran") != 0)
        release_held(a, json_str(entry, "app", ""));
    agent_reconcile_soon(a);
    return 0;
}

/* Through slug_meta_types(): what dynod-fetch said is a stranger's word until it is checked. */
static int types_json(const json_t *meta, json_t **ret, struct err *e)
{
    scoped(procfile_done) struct procfile p = {0};
    int r = slug_meta_types(meta, &p, e);

    if (r < 0)
        return r;
    json_t *list = json_array();
    for (size_t i = 0; i < p.n_types; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s,s:s,s:b}", "name", p.types[i].name, "command", p.types[i].command,
                            "from_release_file", p.types[i].from_release_file));
    if (json_array_size(list) != p.n_types) {
        json_decref(list);
        return err_say(e, EBADMSG, "the slug's process types are not UTF-8");
    }
    *ret = list;
    return 0;
}

int agent_resolve(struct agent *a, const struct app *app, const struct digest *digest,
                  const json_t *meta, struct err *e)
{
    scoped(json_freep) json_t *types = NULL;
    scoped(json_freep) json_t *entry = NULL;
    scoped(json_freep) json_t *done = NULL;
    char name[APP_NAME_MAX + 1];
    json_t *type;
    size_t i;
    int r = types_json(meta, &types, e);

    if (r < 0)
        return r;
    (void)snprintf(name, sizeof(name), "%s", app->name); /* the change may replace APP */
    entry = json_pack("{s:s,s:s,s:i,s:s,s:O}", "op", "resolve", "app", name, "version",
                      (int)app->release.version, "digest", digest->hex, "types", types);
    r = entry ? agent_change(a, entry, &done, e) : err_set(e, ENOMEM, "resolve a release");
    if (r < 0)
        return r;
    json_array_foreach(json_object_get(done, "unknown_types"), i, type)
        log_warn("%s: its slug has no process type '%s'", name, json_string_value(type));
    return 0;
}

/* --- Sampling
 * --------------------------------------------------------------------------------------------- */

static int on_sample(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct agent *a = userdata;
    struct dyno *d;
    bool any = false;

    (void)s;
    (void)usec;
    TAILQ_FOREACH(d, &a->dynos, link)
    {
        dyno_sample(d);
        any = any || dyno_running(d);
    }
    if (any)
        (void)timer_set(a->loop, &a->sample, "sample", clock_boot() + a->config.sample_interval,
                        on_sample, a);
    return 0;
}

void agent_sample_soon(struct agent *a)
{
    int enabled = 0;

    if (a->sample)
        (void)sd_event_source_get_enabled(a->sample, &enabled);
    if (!enabled)
        (void)timer_set(a->loop, &a->sample, "sample", clock_boot() + a->config.sample_interval,
                        on_sample, a);
}

/* --- Shutting down
 * ---------------------------------------------------------------------------------------- */

static int on_drained(sd_event_source *s, void *userdata)
{
    struct agent *a = userdata;

    (void)s;
    return sd_event_exit(a->loop, 0);
}

void agent_check_drained(struct agent *a)
{
    if (a->shutting_down && TAILQ_EMPTY(&a->dynos) && LIST_EMPTY(&a->endings) && !a->drained)
        (void)sd_event_add_defer(a->loop, &a->drained, on_drained, a);
}

void agent_shutdown(struct agent *a)
{
    a->shutting_down = true;
    agent_reconcile_soon(a);
    agent_check_drained(a);
}

/* --- dynod-logs
 * ------------------------------------------------------------------------------------------- */

static void on_log_eof(void *userdata, const char *inc)
{
    struct run *r = find_run(userdata, inc);

    if (r)
        run_log_eof(r);
}

static void on_logs_restarted(void *userdata)
{
    struct agent *a = userdata;
    struct dyno *d;
    struct ending *ending, *next;

    TAILQ_FOREACH(d, &a->dynos, link)
    if (d->run)
        run_reopen_log(d->run);
    for (ending = LIST_FIRST(&a->endings); ending; ending = next) { /* it may be gone with this */
        next = LIST_NEXT(ending, link);
        run_reopen_log(ending->run);
    }
}

int agent_logs(struct agent *a, const json_t *query, int fd, struct err *e)
{
    return logger_query(a->logger, query, fd, e);
}

/* --- Adoption
 * --------------------------------------------------------------------------------------------- */

static void odd_trace(void *userdata, const char *id, const char *why)
{
    char safe[300];

    (void)userdata;
    log_warn("a trace is set aside: %s: %s", text_escape(safe, sizeof(safe), id, strlen(id)), why);
}

/* What is left of a run that is no dyno's any more; NULL: the next agent tries again. */
static struct run *adopt_ending(struct agent *a, const struct run_trace *t)
{
    struct ending *ending = ending_new(a);
    struct dyno_name nobody = {.app = "x", .type = "x", .num = 1};
    struct err e = ERR_INIT;

    if (!ending)
        return NULL;
    if (run_adopt(&a->env, t, &nobody, &ending_ops, ending, &ending->run, &e) < 0) {
        log_warn("%s: %s", t->id, e.text);
        LIST_REMOVE(ending, link);
        free(ending);
        return NULL;
    }
    return ending->run;
}

/* Fails when we lack the means: to go on would be to start a second one of what may run. */
static int adopt_one(struct agent *a, const struct run_trace *t, struct err *e)
{
    struct dyno *d;

    if (!t->clean && t->recorded)
        (void)adopt_ending(a, t);
    int r = dyno_adopt(a, t, &d, e);
    if (r == -EEXIST || r == -EBADMSG) {
        struct run *stray = t->recorded ? NULL : adopt_ending(a, t);

        if (!t->recorded)
            log_warn("%s: killed: %s", t->id, e->text);
        if (stray)
            run_kill(stray);
        if (t->clean)
            run_trace_remove(&a->env, t->id);
        return 0;
    }
    /* A restart's delay is not known any more: at once. A one-off is taken off the books. */
    if (r == 0 && t->recorded)
        dyno_event(d, DEV_DEADLINE);
    else if (r == 0 && run_told_to_stop(d->run))
        dyno_event(d, DEV_STOP);
    return r;
}

/* An agent may die after it has reported an end and before it has written so into the trace. */
static void complete_trace(struct agent *a, struct run_trace *t)
{
    const json_t *event = events_find(a->events, "exit", "run", t->id);
    const json_t *record = json_object_get(t->record, "record");
    struct err e = ERR_INIT;

    if (t->recorded || !event)
        return;
    json_t *end = json_pack(
        "{s:{s:s,s:s,s:s,s:I,s:O?},s:I,s:I}", "exit", "cause", json_str(event, "cause", ""),
        "fault", json_str(event, "fault", ""), "text", json_str(event, "text", ""), "status",
        (json_int_t)json_int(event, "status", -1), "evidence", json_object_get(event, "evidence"),
        "crashes", (json_int_t)json_int(record, "crashes", 0) + 1, "restarts",
        (json_int_t)json_int(record, "restarts", 0));
    if (!end || run_trace_record(&a->env, t, end, &e) < 0)
        log_warn("%s: %s", t->id, end ? e.text : "no memory to complete its trace");
    json_decref(end);
}

/* The journal may have lost the entry that gave a dyno its generation: that number must not be
 * given again. */
static int catch_up(struct agent *a, struct err *e)
{
    uint64_t highest = 0;
    struct dyno *d;

    TAILQ_FOREACH(d, &a->dynos, link)
    if (d->generation > highest)
        highest = d->generation;
    if (highest <= model_generation(a->model))
        return 0;
    json_t *entry = json_pack("{s:s,s:I}", "op", "generation", "generation", (json_int_t)highest);
    int r = journal_apply(a->journal, entry, NULL, e);
    json_decref(entry);
    return r;
}

/* Living runs first: of a dyno with an old trace too, the living one is the dyno. */
static int adopt_all(struct agent *a, struct err *e)
{
    struct run_trace *traces = NULL;
    size_t n = 0, living = 0;
    int r = run_traces(&a->env, &traces, &n, odd_trace, a, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        complete_trace(a, &traces[i]);
    run_sweep(&a->env, traces, n);
    for (size_t i = 0; i < n && r == 0; i++)
        if (!traces[i].recorded) {
            r = adopt_one(a, &traces[i], e);
            living++;
        }
    for (size_t i = 0; i < n && r == 0; i++)
        if (traces[i].recorded)
            r = adopt_one(a, &traces[i], e);
    if (living && r == 0)
        log_notice("adopted %zu dynos%s", living,
                   a->forgetful ? "; those that nothing is known of run on until a command comes"
                                : "");
    run_traces_free(traces, n);
    return r < 0 ? r : catch_up(a, e);
}

/* --- Opening
 * ---------------------------------------------------------------------------------------------- */

/* PATH/NAME, made with MODE for OWNER, who may be somebody else than us; *ret_fd: O_RDONLY
 * directory. */
static int open_dir(const char *path, const char *name, mode_t mode, uid_t owner, int *ret_fd,
                    struct err *e)
{
    char full[512];
    struct stat st;

    (void)snprintf(full, sizeof(full), "%s%s%s", path, name[0] ? "/" : "", name);
    int r = dir_make_all(full, mode, e);
    if (r < 0)
        return r;
    *ret_fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*ret_fd < 0 || fstat(*ret_fd, &st) < 0)
        return err_set(e, errno, "open the directory %s", full);
    if (st.st_uid != owner && st.st_uid != geteuid())
        return err_say(e, EPERM, "the directory %s belongs to somebody else (uid %u)", full,
                       (unsigned)st.st_uid);
    if (fchmod(*ret_fd, mode) < 0 || (st.st_uid != owner && fchown(*ret_fd, owner, owner) < 0))
        return err_set(e, errno, "set the owner and mode of %s", full);
    return 0;
}

/* ext4 searches long for a free inode where many have just been deleted, as in one directory of
 * short-lived trees. Marked as a top directory, it spreads its subdirectories over the disk. Other
 * filesystems refuse, and need it as little. chattr(1), T */
static void spread_subdirectories(int fd)
{
    int flags = 0;

    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || (flags & FS_TOPDIR_FL))
        return;
    flags |= FS_TOPDIR_FL;
    (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static int open_dirs(struct agent *a, struct err *e)
{
    const struct config *c = &a->config;
    uid_t self = geteuid(), logs = a->rootless ? self : c->uid_first + UID_LOGS;
    scoped_fd runtime = -1;
    int r = open_dir(c->runtime_dir, "", 0755, self, &runtime, e);

    if (r == 0)
        r = open_dir(c->runtime_dir, "run", 0700, self, &a->env.run_dirfd, e);
    if (r == 0)
        r = open_dir(c->runtime_dir, "logs", 0700, logs, &a->logs_dirfd, e);
    if (r == 0)
        r = open_dir(c->state_dir, "", 0711, self, &a->state_dirfd, e);
    if (r == 0)
        r = open_dir(c->state_dir, "scratch", 0711, self, &a->env.scratch_dirfd, e);
    if (r == 0)
        spread_subdirectories(a->env.scratch_dirfd);
    return r;
}

/* FNV-1a: the same state directory has the same cgroups after a restart. */
static uint32_t text_hash(const char *text)
{
    uint32_t hash = 2166136261u;

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

static int open_sandbox(struct agent *a, struct err *e)
{
    const struct config *c = &a->config;
    char init[512];

    (void)snprintf(init, sizeof(init), "%s/dyno-init", c->program_dir);
    struct sandbox_config sc = {.stack = c->stack,
                                .runtime_dir = c->runtime_dir,
                                .init_path = init,
                                .rootless = a->rootless,
                                .slug_owner = a->slug_owner};
    char parent[sizeof(c->cgroup_parent) + 32];
    (void)snprintf(parent, sizeof(parent), "%s", c->cgroup_parent);
    if (!strcmp(parent, "auto") && strcmp(c->state_dir, "/var/lib/dynod") != 0)
        (void)snprintf(parent, sizeof(parent), "auto/dynod-%08x", text_hash(c->state_dir));
    int r = cgroup_tree_open(parent, !a->rootless, &a->cgroups, e);
    if (r == 0)
        r = sandbox_open(&sc, &a->sandbox, e);
    return r;
}

static int open_state(struct agent *a, struct err *e)
{
    char path[512];
    scoped_free char *notice = NULL;
    int r = model_new(&a->model, e);

    if (r == 0)
        r = journal_open(a->state_dirfd, "journal", a->model, &a->journal, &notice, e);
    if (notice)
        log_warn("%s", notice);
    a->forgetful = notice != NULL;
    if (r == 0)
        r = events_open(a->state_dirfd, &a->events, e);
    (void)snprintf(path, sizeof(path), "%s/cache", a->config.state_dir);
    if (r == 0)
        r = cache_open(path, a->slug_owner, &a->cache, e);
    (void)snprintf(path, sizeof(path), "%s/trash", a->config.state_dir);
    if (r == 0)
        r = sweeper_open(a->loop, path, &a->sweeper, e);
    return r;
}

static int open_helpers(struct agent *a, struct err *e)
{
    static const struct logger_ops logger_ops = {.eof = on_log_eof, .restarted = on_logs_restarted};
    uid_t first = a->config.uid_first, none = (uid_t)-1;
    int r = logger_open(a->loop, &a->config, a->logs_dirfd, a->rootless ? none : first + UID_LOGS,
                        &logger_ops, a, &a->logger, e);

    if (r == 0)
        r = fetcher_new(a->loop, &a->config, a->cache, a->rootless ? none : first + UID_FETCH,
                        &a->fetcher, e);
    if (r == 0)
        r = ready_open(&a->diag_fd, e);
    if (r == 0)
        r = slots_init(&a->uids, first + UID_DYNOS, a->config.uid_last, e);
    if (r == 0)
        ids_init(&a->ids, a->loop, a->sandbox, &a->uids, a->env.scratch_dirfd);
    if (r == 0)
        r = slots_init(&a->ports, a->config.port_first, a->config.port_last, e);
    return r;
}

int agent_open(sd_event *loop, const struct config *config, bool rootless, struct agent **ret,
               struct err *e)
{
    scoped(agent_freep) struct agent *a = calloc(1, sizeof(*a));

    if (!a)
        return err_set(e, ENOMEM, "make the agent");
    a->loop = loop;
    a->config = *config;
    a->rootless = rootless;
    a->started_boot = clock_boot();
    a->started_real = clock_real();
    a->slug_owner = rootless ? getuid() : config->uid_first + UID_FETCH;
    a->state_dirfd = a->logs_dirfd = a->diag_fd = -1;
    a->env.run_dirfd = a->env.scratch_dirfd = -1;
    TAILQ_INIT(&a->dynos);
    int r = open_dirs(a, e);
    if (r == 0)
        r = open_sandbox(a, e);
    if (r == 0)
        r = open_state(a, e);
    if (r == 0)
        r = open_helpers(a, e);
    if (r < 0)
        return r;
    a->env.loop = loop;
    a->env.sandbox = a->sandbox;
    a->env.cgroups = a->cgroups;
    a->env.logger = a->logger;
    a->env.sweeper = a->sweeper;
    a->env.rootless = rootless;
    (void)snprintf(a->env.runtime_dir, sizeof(a->env.runtime_dir), "%s", config->runtime_dir);
    r = adopt_all(a, e);
    if (r < 0)
        return r;
    agent_event(a, "agent", NULL,
                json_pack("{s:s,s:s}", "text", "started", "version", DYNOD_VERSION));
    agent_sample_soon(a);
    agent_reconcile_soon(a);
    *ret = TAKE_PTR(a);
    return 0;
}

void agent_freep(struct agent **ap)
{
    struct agent *a = *ap;
    struct dyno *d;
    struct ending *ending;
    struct err ignored = ERR_INIT;

    if (!a)
        return;
    bool empty = TAILQ_EMPTY(&a->dynos) && LIST_EMPTY(&a->endings);
    while ((d = TAILQ_FIRST(&a->dynos))) {
        d->tomb[0] = '\0'; /* the next agent's */
        dyno_free(d);
    }
    while ((ending = LIST_FIRST(&a->endings))) {
        LIST_REMOVE(ending, link);
        run_freep(&ending->run);
        free(ending);
    }
    prefetch_done(a);
    ids_done(&a->ids);
    fetcher_freep(&a->fetcher);
    logger_freep(&a->logger);
    sweeper_freep(&a->sweeper);
    events_freep(&a->events);
    journal_freep(&a->journal);
    model_freep(&a->model);
    cache_freep(&a->cache);
    sandbox_freep(&a->sandbox);
    if (a->cgroups && empty)
        (void)cgroup_tree_remove(a->cgroups, &ignored); /* harmless when it stays */
    cgroup_tree_freep(&a->cgroups);
    slots_done(&a->uids);
    slots_done(&a->ports);
    sd_event_source_disable_unref(a->reconcile_soon);
    sd_event_source_disable_unref(a->sample);
    sd_event_source_disable_unref(a->drained);
    fd_closep(&a->diag_fd);
    fd_closep(&a->env.run_dirfd);
    fd_closep(&a->env.scratch_dirfd);
    fd_closep(&a->logs_dirfd);
    fd_closep(&a->state_dirfd);
    free(a);
    *ap = NULL;
}
