#include "core/slugs/slugs_priv.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "slug/evict.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID_CREWS_FIRST 3 /* of the uid range, up to the dynos' */
#define FREE_PART       20 /* at most this part of a disk is kept free: a small one is no less useful */
#define TEXT_BYTES      16

/* --- mounts
 * --------------------------------------------------------------------------------------- */

/* The source, and the descriptor that it owns, go with this. */
static int on_unmounted(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    siginfo_t info;

    (void)revents;
    (void)userdata;
    (void)waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG); /* it has ended */
    sd_event_source_disable_unref(source);
    return 0;
}

/* In the child: whoever is the last to hold the mount waits while the kernel takes it apart. */
_Noreturn static void unmount_child(struct slugs *s, int fd, int hold)
{
    char c;

    (void)read(hold, &c, 1); /* until the agent has let go of it */
    slugimages_unmount(s->images, fd);
    _exit(0);
}

/* Takes FD. A large tree takes the kernel tens of milliseconds: not in the loop. */
static void unmount_later(struct slugs *s, int fd)
{
    sd_event_source *source = NULL;
    int hold[2], pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};

    if (pipe2(hold, O_CLOEXEC) < 0) {
        slugimages_unmount(s->images, fd);
        return;
    }
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        (void)close(hold[1]);
        unmount_child(s, fd, hold[0]);
    }
    (void)close(hold[0]);
    if (pid < 0)
        slugimages_unmount(s->images, fd);
    else
        (void)close(fd);
    (void)close(hold[1]);
    if (pid > 0 &&
        (sd_event_add_io(s->agent->loop, &source, pidfd, EPOLLIN, on_unmounted, NULL) < 0 ||
         sd_event_source_set_io_fd_own(source, true) < 0))
        fd_closep(&pidfd); /* a zombie, until we go */
}

static void let_go(struct slugs *s, bool image, int fd)
{
    if (image)
        unmount_later(s, fd);
    else
        (void)close(fd);
}

static void mount_drop(struct slugs *s, struct slug_mount *m)
{
    TAILQ_REMOVE(&s->mounts, m, link);
    s->n_mounts--;
    let_go(s, m->image, m->fd);
    free(m);
}

static struct slug_mount *mount_find(struct slugs *s, const struct digest *digest)
{
    struct slug_mount *m;

    TAILQ_FOREACH (m, &s->mounts, link)
        if (digest_equal(&m->digest, digest))
            return m;
    return NULL;
}

/* Takes the directory or mount FD, which is of DIGEST, for the starts to come. */
static int mount_keep(struct slugs *s, const struct digest *digest, bool image, int fd,
                      struct err *e)
{
    struct slug_mount *m = calloc(1, sizeof(*m));

    if (!m) {
        let_go(s, image, fd);
        return err_set(e, ENOMEM, "mount a slug");
    }
    *m = (struct slug_mount){.digest = *digest, .image = image, .fd = fd};
    TAILQ_INSERT_HEAD(&s->mounts, m, link);
    if (++s->n_mounts > MOUNTS_MAX)
        mount_drop(s, TAILQ_LAST(&s->mounts, mounts_head));
    return 0;
}

/* Such a failure to mount an image is not the image's: it can be mounted another time. */
static bool passes(int errnum)
{
    return err_is_shortage(errnum) || errnum == EBUSY || errnum == ENOSPC;
}

/* The image cannot be mounted: it is not what was published. */
static int give_up(struct slugs *s, const struct digest *digest, const struct err *why,
                   struct err *e)
{
    struct err ignored = ERR_INIT; /* tried again at the next start */

    log_err("cache: the image of sha256:%.12s is dropped: %s", digest->hex, why->text);
    agent_event(s->agent, "slug", NULL,
                json_pack("{s:s+,s:s,s:s}", "digest", "sha256:", digest->hex, "outcome", "dropped",
                          "text", why->text));
    (void)slugs_drop(s, digest, &ignored);
    return err_say(e, ENOENT, "the slug's image cannot be mounted: %s", why->text);
}

static int open_app(struct slugs *s, const struct digest *digest, bool *ret_image, int *ret_fd,
                    struct err *e)
{
    struct err why = ERR_INIT;
    enum cache_kind kind;
    scoped_fd fd = -1;
    int mounted = -1, r = cache_lookup(s->agent->cache, digest, &kind, &fd, e);

    if (r < 0)
        return r;
    *ret_image = kind == CACHE_IMAGE;
    if (kind == CACHE_DIRECTORY) {
        *ret_fd = TAKE_FD(fd);
        return 0;
    }
    r = slugimages_mount(s->images, fd, &mounted, &why);
    if (r < 0 && !passes(-r))
        return give_up(s, digest, &why, e);
    if (r < 0) {
        *e = why;
        return err_wrap(e, "mount the slug sha256:%.12s", digest->hex);
    }
    *ret_fd = mounted;
    return 0;
}

int slugs_app(struct slugs *s, const struct digest *digest, int *ret_fd, struct err *e)
{
    struct slug_mount *m = mount_find(s, digest);
    bool image = false;
    int fd = -1, r = 0;

    if (m && !cache_find(s->agent->cache, digest)) { /* removed by hand */
        spares_drop_slug(&s->agent->spares, digest);
        mount_drop(s, m);
        m = NULL;
    }
    if (!m) {
        r = open_app(s, digest, &image, &fd, e);
        if (r == 0)
            r = mount_keep(s, digest, image, fd, e);
    } else {
        TAILQ_REMOVE(&s->mounts, m, link);
        TAILQ_INSERT_HEAD(&s->mounts, m, link);
    }
    if (r < 0)
        return r;
    cache_touch(s->agent->cache, digest);
    *ret_fd = TAILQ_FIRST(&s->mounts)->fd;
    return 0;
}

/* --- what goes
 * ------------------------------------------------------------------------------------ */

int slugs_drop(struct slugs *s, const struct digest *digest, struct err *e)
{
    struct slug_mount *m = mount_find(s, digest);

    spares_drop_slug(&s->agent->spares, digest);
    if (m)
        mount_drop(s, m);
    return cache_remove(s->agent->cache, digest, e);
}

/* The limits, as far as this disk is large enough for them. */
static int limits_here(struct slugs *s, struct evict_limits *ret, struct evict_state *ret_state,
                       struct err *e)
{
    const struct config *c = &s->agent->config;
    uint64_t size = 0;
    int r = cache_space(s->agent->cache, &ret_state->free, &size, e);

    if (r < 0)
        return r;
    if (sweeper_idle(s->agent->sweeper))
        s->going = 0;
    ret_state->going = s->going;
    ret->max = c->cache_max;
    ret->keep_free = c->cache_keep_free < size / FREE_PART ? c->cache_keep_free : size / FREE_PART;
    return 0;
}

static void evict_one(struct slugs *s, const struct cache_entry *entry)
{
    const struct cache_entry gone = *entry; /* its place is somebody else's in a moment */
    char text[TEXT_BYTES];
    struct err e = ERR_INIT;

    if (slugs_drop(s, &gone.digest, &e) < 0) {
        log_warn("cache: %s", e.text);
        return;
    }
    s->going += gone.bytes;
    log_info("cache: sha256:%.12s has left, %s: not used for longest", gone.digest.hex,
             format_bytes(text, sizeof(text), gone.bytes));
}

/* Throws out what must go and may. *ret_short: bytes that are still missing. */
static int evict(struct slugs *s, uint64_t *ret_short, struct err *e)
{
    struct cache *cache = s->agent->cache;
    size_t n = cache_count(cache), gone;
    scoped_free struct evict_entry *all = calloc(n + 1, sizeof(*all));
    scoped_free size_t *out = calloc(n + 1, sizeof(*out));
    scoped_free struct digest *names = calloc(n + 1, sizeof(*names));
    scoped(pins_done) struct pins pins = {0};
    struct evict_limits limits;
    struct evict_state state = {0};
    int r =
        all && out && names ? pins_collect(s, &pins, e) : err_set(e, ENOMEM, "look at the cache");

    if (r == 0)
        r = limits_here(s, &limits, &state, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        const struct cache_entry *entry = cache_at(cache, i);

        all[i] = (struct evict_entry){entry->bytes, entry->used_usec, pins_have(&pins, entry)};
    }
    gone = evict_choose(all, n, &limits, &state, out, ret_short);
    for (size_t i = 0; i < gone; i++) /* by name: places change when one goes */
        names[i] = cache_at(cache, out[i])->digest;
    for (size_t i = 0; i < gone; i++)
        evict_one(s, cache_find(cache, &names[i]));
    return 0;
}

/* The disk is what counts: a cache that is over its limit by what is in use can do no harm. */
int slugs_room(void *userdata, struct err *e)
{
    struct slugs *s = userdata;
    struct evict_limits limits;
    struct evict_state state = {0};
    char has[TEXT_BYTES], keeps[TEXT_BYTES];
    uint64_t missing = 0;
    int r = evict(s, &missing, e);

    if (r < 0 || missing == 0)
        return r;
    r = limits_here(s, &limits, &state, e);
    if (r < 0 || state.free + state.going >= limits.keep_free)
        return r;
    return err_say(e, ENOSPC,
                   "no space left for slugs: the disk of the cache has %s free, %s are kept free "
                   "(cache_keep_free), and all cached slugs are in use",
                   format_bytes(has, sizeof(has), state.free),
                   format_bytes(keeps, sizeof(keeps), limits.keep_free));
}

bool slugs_settling(void *userdata)
{
    const struct slugs *s = userdata;

    return !sweeper_idle(s->agent->sweeper);
}

void slugs_published(void *userdata, const struct digest *digest)
{
    struct slugs *s = userdata;
    const struct cache_entry *entry = cache_find(s->agent->cache, digest);
    uint64_t missing = 0;
    struct err e = ERR_INIT;

    if (entry && !entry->synced)
        seals_add(s, digest);
    crews_prepare(s->crews);
    if (evict(s, &missing, &e) < 0)
        log_warn("cache: %s", e.text);
}

/* --- for people ---------------------------------------------------------------------------- */

static json_t *entry_json(const struct cache_entry *entry, bool in_use)
{
    return json_pack("{s:s+,s:s,s:I,s:I,s:b,s:b}", "digest", "sha256:", entry->digest.hex, "kind",
                     entry->kind == CACHE_IMAGE ? "image" : "directory", "bytes",
                     (json_int_t)entry->bytes, "used", (json_int_t)entry->used_usec, "synced",
                     entry->synced, "in_use", in_use);
}

static int later_first(const void *a, const void *b)
{
    const struct cache_entry *x = *(const struct cache_entry *const *)a;
    const struct cache_entry *y = *(const struct cache_entry *const *)b;

    return x->used_usec < y->used_usec ? 1 : x->used_usec > y->used_usec ? -1 : 0;
}

json_t *slugs_json(struct slugs *s)
{
    struct cache *cache = s->agent->cache;
    size_t n = cache_count(cache);
    scoped_free const struct cache_entry **order = calloc(n + 1, sizeof(struct cache_entry *));
    scoped(json_freep) json_t *list = json_array();
    scoped(pins_done) struct pins pins = {0};
    struct err ignored = ERR_INIT; /* no memory: NULL says so */

    if (!order || pins_collect(s, &pins, &ignored) < 0)
        return NULL;
    for (size_t i = 0; i < n; i++)
        order[i] = cache_at(cache, i);
    qsort(order, n, sizeof(struct cache_entry *), later_first);
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(list, entry_json(order[i], pins_have(&pins, order[i]))) < 0)
            return NULL;
    return TAKE_PTR(list);
}

int slugs_remove(struct slugs *s, const struct digest *digest, struct err *e)
{
    const struct cache_entry *entry = cache_find(s->agent->cache, digest);
    scoped(pins_done) struct pins pins = {0};

    if (!entry) {
        (void)err_say(e, ENOENT, "the slug sha256:%s is not cached", digest->hex);
        return err_blame(e, FAULT_OPERATOR);
    }
    int r = pins_collect(s, &pins, e);
    if (r < 0)
        return r;
    if (pins_have(&pins, entry)) {
        (void)err_say(e, EBUSY, "the slug sha256:%s is in use", digest->hex);
        return err_blame(e, FAULT_OPERATOR);
    }
    return slugs_drop(s, digest, e);
}

/* --- all of it ----------------------------------------------------------------------------- */

bool slugs_images(const struct slugs *s)
{
    return slugimages_way(s->images) != SLUGIMAGE_NONE;
}

struct crews *slugs_crews(struct slugs *s)
{
    return s->crews;
}

/* Images that cannot be mounted any more (another kernel, another disk) are no use. */
static void drop_images(struct slugs *s)
{
    struct cache *cache = s->agent->cache;

    for (size_t i = cache_count(cache); i-- > 0;) {
        const struct digest digest = cache_at(cache, i)->digest;
        struct err e = ERR_INIT;

        if (cache_at(cache, i)->kind != CACHE_IMAGE)
            continue;
        log_warn("cache: sha256:%.12s is dropped: no images can be mounted here", digest.hex);
        if (cache_remove(cache, &digest, &e) < 0)
            log_warn("cache: %s", e.text);
    }
}

static int open_crews(struct slugs *s, struct err *e)
{
    const struct agent *a = s->agent;
    const struct crews_options o = {
        .loop = a->loop,
        .program = s->program,
        .cgroups = a->cgroups,
        .rootless = a->rootless,
        .first = a->config.uid_first + UID_CREWS_FIRST,
        .last = a->config.uid_first + CONFIG_UIDS_RESERVED - 1,
        .images = slugs_images(s),
        .owner = a->slug_owner,
    };

    (void)snprintf(s->program, sizeof(s->program), "%s/dynod-fetch", a->config.program_dir);
    return crews_open(&o, &s->crews, e);
}

int slugs_open(struct agent *a, struct slugs **ret, struct err *e)
{
    scoped(slugs_freep) struct slugs *s = calloc(1, sizeof(*s));
    char dir[sizeof(a->config.state_dir) + 8], place[sizeof(a->config.runtime_dir) + 8];

    if (!s)
        return err_set(e, ENOMEM, "open the slugs");
    s->agent = a;
    TAILQ_INIT(&s->mounts);
    seals_open(s);
    (void)snprintf(dir, sizeof(dir), "%s/cache", a->config.state_dir);
    (void)snprintf(place, sizeof(place), "%s/slugs", a->config.runtime_dir);
    int r = slugimages_open(dir, place, a->rootless, &s->images, e);
    if (r == 0)
        r = open_crews(s, e);
    if (r < 0)
        return r;
    if (slugs_images(s))
        log_debug("slugs are images: %s", slugimages_text(s->images));
    else
        log_info("slugs are unpacked into directories: %s", slugimages_text(s->images));
    if (!slugs_images(s))
        drop_images(s);
    for (size_t i = 0; i < cache_count(a->cache); i++)
        if (!cache_at(a->cache, i)->synced)
            seals_add(s, &cache_at(a->cache, i)->digest);
    *ret = TAKE_PTR(s);
    return 0;
}

void slugs_freep(struct slugs **sp)
{
    struct slugs *s = *sp;
    struct slug_mount *m;

    if (!s)
        return;
    seals_done(s);
    crews_freep(&s->crews);
    while ((m = TAILQ_FIRST(&s->mounts))) { /* nobody waits for the loop any more */
        TAILQ_REMOVE(&s->mounts, m, link);
        if (m->image)
            slugimages_unmount(s->images, m->fd);
        else
            (void)close(m->fd);
        free(m);
    }
    slugimages_freep(&s->images);
    free(s);
    *sp = NULL;
}
