/* agent_open.c - the agent's birth, part by part, and its death. */
#include "core/agent_open.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/host/claims.h"
#include "core/control/control.h"
#include "core/dyno.h"
#include "core/control/link.h"
#include "core/host/network.h"
#include "core/slugs/prefetch.h"
#include "core/policy/ready.h"
#include "core/slugs/slugs.h"
#include "core/host/uidrange.h"
#include "core/host/stack.h"
#include "core/slugs/warm.h"

#include "isolate/net.h"
#include "isolate/scratch.h"
#include "isolate/slugimage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define UID_LOGS  0 /* of the uid range: who the helpers become */
#define UID_FETCH 1 /* who owns slugs, and who every dyno is inside; 3 to 15: slugs.c */
#define UID_LINK  2
#define UID_MKFS  15 /* at the start; fetches may have it later */
#define UID_DYNOS 16 /* the first dyno's */

struct claims agent_claims(const struct agent *a)
{
    const struct config *c = &a->config;

    return (struct claims){.dir = c->claims_dir,
                           .state_dir = c->state_dir,
                           .runtime_dir = c->runtime_dir,
                           .uid_first = c->uid_first,
                           .uid_last = c->uid_last,
                           .port_first = c->port_first,
                           .port_last = c->port_last};
}

static void on_log_eof(void *userdata, const char *inc)
{
    struct run *r = agent_find_run(userdata, inc);

    if (r)
        run_log_eof(r);
}

/* What dynod-logs is to keep: what is said while it is dead, or while we are, it does not hear. */
static void tell_known(struct agent *a)
{
    json_t *incs = json_object(), *apps = a->forgetful ? NULL : json_object();
    const struct ending *ending;
    const struct dyno *d;
    bool whole = incs && (apps || a->forgetful);

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->run)
            whole = json_object_set_new(incs, run_id(d->run), json_true()) == 0 && whole;
    LIST_FOREACH (ending, &a->endings, link)
        whole = json_object_set_new(incs, run_id(ending->run), json_true()) == 0 && whole;
    for (size_t i = 0; apps && i < model_n_apps(a->model); i++)
        whole =
            json_object_set_new(apps, model_app_at(a->model, i)->name, json_true()) == 0 && whole;
    if (whole) {
        logger_keep(a->logger, incs, apps);
        return;
    }
    json_decref(incs);
    json_decref(apps);
}

static void on_logs_restarted(void *userdata)
{
    struct agent *a = userdata;
    struct dyno *d;
    struct ending *ending, *next;

    tell_known(a);
    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->run)
            run_reopen_log(d->run);
    for (ending = LIST_FIRST(&a->endings); ending; ending = next) { /* it may be gone with this */
        next = LIST_NEXT(ending, link);
        run_reopen_log(ending->run);
    }
}

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

/* Better now than at each start of that size. */
static int check_size(const struct cgroup_tree *t, const struct size *size, struct err *e)
{
    struct limits limits;
    char what[64];

    size_limits(size, &limits);
    (void)snprintf(what, sizeof(what), "[size %s]", size->name);
    return cgroup_tree_check(t, what, &limits, e);
}

static int open_cgroups(struct agent *a, struct err *e)
{
    const struct config *c = &a->config;
    char parent[sizeof(c->cgroup_parent) + 32];
    (void)snprintf(parent, sizeof(parent), "%s", c->cgroup_parent);
    if (!strcmp(parent, "auto") && strcmp(c->state_dir, "/var/lib/dynod") != 0)
        (void)snprintf(parent, sizeof(parent), "auto/dynod-%08x", text_hash(c->state_dir));
    int r = cgroup_tree_open(parent, !a->rootless, &a->cgroups, e);
    for (size_t i = 0; r == 0 && i < c->n_sizes; i++)
        r = check_size(a->cgroups, &c->sizes[i], e);
    return r;
}

/* The image of a stack that is new takes a while to be read. */
static int open_sandbox(struct agent *a, struct err *e)
{
    const struct config *c = &a->config;
    const char *image_type;
    char init[512];
    scoped_fd image = -1;
    int r = stack_prepare(c, a->rootless, &image_type, &image, e);

    if (r < 0)
        return r;
    (void)snprintf(init, sizeof(init), "%s/dyno-init", c->program_dir);
    struct sandbox_config sc = {.stack = c->stack,
                                .image_type = image_type,
                                .image_fd = image,
                                .runtime_dir = c->runtime_dir,
                                .state_dir = c->state_dir,
                                .init_path = init,
                                .resolv_conf = a->net ? net_resolv_conf(a->net) : NULL,
                                .rootless = a->rootless,
                                .slug_owner = a->slug_owner};
    r = sandbox_open(&sc, &a->sandbox, e);
    if (r < 0)
        return r;
    if (strcmp(c->stack, "host") != 0)
        log_notice("stack: %s", sandbox_stack_text(a->sandbox));
    a->env.sandbox = a->sandbox;
    a->ids.sandbox = a->sandbox;
    return 0;
}

static struct scratch_quota quota_of(const struct size *size)
{
    return (struct scratch_quota){size->disk, size->disk ? size->inodes : 0};
}

/* The default size's comes first: that one must fit. */
static int open_scratches(struct agent *a, struct err *e)
{
    const struct config *c = &a->config;
    struct scratch_quota quotas[CONFIG_SIZES_MAX + 1];
    char path[512];
    size_t n = 0;

    quotas[n++] = quota_of(config_size(c, c->default_size));
    for (size_t i = 0; i < c->n_sizes; i++)
        quotas[n++] = quota_of(&c->sizes[i]);
    (void)snprintf(path, sizeof(path), "%s/scratch", c->state_dir);
    const struct scratch_config sc = {.dirfd = a->env.scratch_dirfd,
                                      .path = path,
                                      .way = c->disk_quota,
                                      .rootless = a->rootless,
                                      .helper = c->uid_first + UID_MKFS,
                                      .quotas = quotas,
                                      .n_quotas = n,
                                      .keep_free = c->disk_keep_free,
                                      .overcommit = c->disk_overcommit};
    int r = scratches_open(&sc, &a->scratches, e);
    if (r == 0)
        log_info("disk quotas: %s", scratches_text(a->scratches));
    return r;
}

static int open_spares(struct agent *a, struct err *e)
{
    struct limits limits;
    const struct dyno *d;
    struct err ignored = ERR_INIT; /* a size that the configuration has no more */
    int r = dyno_limits_of(a, a->config.default_size, &limits, e);

    if (r == 0)
        r = spares_open(&a->spares, a, &limits, e);
    TAILQ_FOREACH (d, &a->dynos, link)
        if (r == 0 && d->run && d->has_slug && dyno_limits(d, &limits, &ignored) == 0)
            spares_note(&a->spares, &d->slug, &limits);
    return r;
}

static int discard_slug(void *userdata, int dirfd, const char *name, struct err *e)
{
    struct agent *a = userdata;

    return sweeper_take(a->sweeper, dirfd, name, e);
}

static void on_slug_dropped(void *userdata, const char *name, const char *why)
{
    char shown[80];

    (void)userdata;
    log_warn("cache: dropped %s: %s", text_escape(shown, sizeof(shown), name, strlen(name)), why);
}

/* After the sweeper: it removes what the cache drops. */
static int open_cache(struct agent *a, struct err *e)
{
    char path[512];
    const struct cache_options o = {.root = path,
                                    .owner = a->slug_owner,
                                    .discard = discard_slug,
                                    .dropped = on_slug_dropped,
                                    .userdata = a};

    (void)snprintf(path, sizeof(path), "%s/cache", a->config.state_dir);
    return cache_open(&o, &a->cache, e);
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
    (void)snprintf(path, sizeof(path), "%s/trash", a->config.state_dir);
    if (r == 0)
        r = sweeper_open(a->loop, path, &a->sweeper, e);
    if (r == 0)
        r = open_cache(a, e);
    return r;
}

static int open_slugs(struct agent *a, struct err *e)
{
    int r = slugs_open(a, &a->slugs, e);

    if (r < 0)
        return r;
    const struct fetcher_options o = {.loop = a->loop,
                                      .config = &a->config,
                                      .cache = a->cache,
                                      .crews = slugs_crews(a->slugs),
                                      .owner = a->slug_owner,
                                      .images = slugs_images(a->slugs),
                                      .room = slugs_room,
                                      .settling = slugs_settling,
                                      .published = slugs_published,
                                      .userdata = a->slugs};
    return fetcher_new(&o, &a->fetcher, e);
}

static int open_helpers(struct agent *a, struct err *e)
{
    static const struct logger_ops logger_ops = {.eof = on_log_eof, .restarted = on_logs_restarted};
    uid_t first = a->config.uid_first, none = (uid_t)-1;
    struct limits limits;
    int r = logger_open(a->loop, &a->config, a->logs_dirfd, a->rootless ? none : first + UID_LOGS,
                        &logger_ops, a, &a->logger, e);

    if (r == 0)
        r = open_slugs(a, e);
    if (r == 0)
        r = ready_open(&a->diag_fd, e);
    if (r == 0)
        r = slots_init(&a->uids, first + UID_DYNOS, a->config.uid_last, e);
    if (r == 0)
        r = dyno_limits_of(a, a->config.default_size, &limits, e);
    if (r == 0)
        ids_init(&a->ids, a->loop, a->sandbox, &a->uids, a->scratches, a->cgroups, &limits);
    if (r == 0)
        starts_open(&a->starts);
    if (r == 0)
        r = slots_init(&a->ports, a->config.port_first, a->config.port_last, e);
    if (r == 0 && link_wanted(&a->config))
        r = link_open(a, a->rootless ? none : first + UID_LINK, &a->link, e);
    return r;
}

/* What every run is given, once it is there. */
static void fill_env(struct agent *a)
{
    a->env.loop = a->loop;
    a->env.cgroups = a->cgroups;
    a->env.scratches = a->scratches;
    a->env.logger = a->logger;
    a->env.sweeper = a->sweeper;
    a->env.rootless = a->rootless;
    (void)snprintf(a->env.runtime_dir, sizeof(a->env.runtime_dir), "%s", a->config.runtime_dir);
    a->env.nets = a->net ? &a->nets : NULL;
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
    a->state_dirfd = a->logs_dirfd = a->diag_fd = a->claims_fd = -1;
    a->env.run_dirfd = a->env.scratch_dirfd = -1;
    TAILQ_INIT(&a->dynos);
    starts_init(&a->starts, a);
    int r = rootless ? 0 : uidrange_check("/etc", config->uid_first, config->uid_last, e);
    if (r == 0 && !rootless) {
        const struct claims claims = agent_claims(a);

        r = claims_take(&claims, &a->claims_fd, e);
    }
    if (r == 0 && !rootless)
        r = slugimages_namespace(e); /* before anything is opened in another */
    if (r == 0)
        r = drain_epoch(a->drain.epoch, e);
    if (r == 0)
        r = open_dirs(a, e);
    if (r == 0)
        r = open_cgroups(a, e);
    if (r == 0)
        r = open_scratches(a, e);
    if (r == 0)
        r = network_open(a, e);
    if (r == 0)
        r = open_state(a, e);
    if (r == 0)
        r = open_helpers(a, e);
    if (r < 0)
        return r;
    fill_env(a);
    r = agent_adopt_all(a, e);
    if (r == 0)
        r = network_ready(a, e);
    if (r == 0)
        r = open_sandbox(a, e); /* what runs has waited for nothing of it */
    if (r == 0)
        r = open_spares(a, e);
    if (r < 0)
        return r;
    agent_event(a, "agent", NULL,
                json_pack("{s:s,s:s}", "text", "started", "version", DYNOD_VERSION));
    drain_open(a);
    link_start(a->link);
    agent_sample_soon(a);
    agent_reconcile_soon(a);
    *ret = TAKE_PTR(a);
    return 0;
}

void agent_freep(struct agent **ap)
{
    struct agent *a = *ap;
    struct dyno *d;
    struct err ignored = ERR_INIT;

    if (!a)
        return;
    bool empty = TAILQ_EMPTY(&a->dynos) && LIST_EMPTY(&a->endings);
    link_abandon(a->link);
    while ((d = TAILQ_FIRST(&a->dynos))) {
        d->tomb[0] = '\0'; /* the next agent's */
        dyno_free(d);
    }
    agent_endings_done(a);
    prefetch_done(a);
    warm_done(a);
    starts_done(&a->starts);
    spares_done(&a->spares);
    ids_done(&a->ids);
    fetcher_freep(&a->fetcher);
    slugs_freep(&a->slugs);
    link_freep(&a->link);
    drain_close(a);
    logger_freep(&a->logger);
    cache_freep(&a->cache); /* before the sweeper, which removes what it drops */
    sweeper_freep(&a->sweeper);
    events_freep(&a->events);
    journal_freep(&a->journal);
    model_freep(&a->model);
    scratches_freep(&a->scratches);
    sandbox_freep(&a->sandbox);
    if (a->cgroups && empty)
        (void)cgroup_tree_remove(a->cgroups, &ignored); /* harmless when it stays */
    cgroup_tree_freep(&a->cgroups);
    network_close(a, empty);
    slots_done(&a->uids);
    slots_done(&a->ports);
    sd_event_source_disable_unref(a->reconcile_soon);
    sd_event_source_disable_unref(a->sample);
    sd_event_source_disable_unref(a->contact_lost);
    sd_event_source_disable_unref(a->drained);
    if (a->claims_fd >= 0) {
        const struct claims claims = agent_claims(a);

        claims_drop(&claims);
    }
    fd_closep(&a->claims_fd);
    fd_closep(&a->diag_fd);
    fd_closep(&a->env.run_dirfd);
    fd_closep(&a->env.scratch_dirfd);
    fd_closep(&a->logs_dirfd);
    fd_closep(&a->state_dirfd);
    free(a);
    *ap = NULL;
}
