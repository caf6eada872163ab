/* The agent's slugs with real dynod-fetch processes: fetched in rounds, sealed, verified, thrown
 * out. Without an agent around them: no dyno runs here. */
#include "core/slugs/slugs.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "core/agent_priv.h"
#include "core/dyno.h"
#include "fetchrun.h"
#include "tarball.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

#define PATIENCE (60 * USEC_PER_SEC)

/* --- A kernel that refuses --- */

static struct {
    long number; /* a system call that is made by its number; 0: none */
    int errnum;
} refused;
static int watches = -1; /* so many more epoll takes; -1: as ever */

/* As in the C library: six are read, whoever passed fewer. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list ap;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (refused.number != number)
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    errno = refused.errnum;
    return -1;
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    int (*real)(int, int, int, struct epoll_event *) =
        (int (*)(int, int, int, struct epoll_event *))dlsym(RTLD_NEXT, "epoll_ctl");

    if (op != EPOLL_CTL_ADD || watches < 0)
        return real(epfd, op, fd, event);
    if (watches-- > 0)
        return real(epfd, op, fd, event);
    watches = 0;
    errno = ENOMEM;
    return -1;
}

struct world {
    struct agent a;
    char dir[200];
    struct digest digest; /* of the slug at: */
    char good[260], bad[260];
    /* what came back */
    bool done;
    struct err why;
    char step[32];
    struct digest got;
    /* what room() and settling() say */
    unsigned short_of_room, asked;
    bool settles;
};

static int discard(void *userdata, int dirfd, const char *name, struct err *e)
{
    const struct world *w = userdata;

    return sweeper_take(w->a.sweeper, dirfd, name, e);
}

static void write_slug(struct world *w)
{
    struct str tar = {0};
    struct err e = ERR_INIT;
    char path[300], command[64];

    /* Another slug each time. */
    (void)snprintf(command, sizeof(command), "worker: echo %llx\n",
                   (unsigned long long)random_u64());
    tar_dir(&tar, "app/", 0755);
    tar_file(&tar, "app/Procfile", 0644, command);
    tar_file(&tar, "app/data", 0600, "some data");
    tar_end(&tar);
    struct str gz = {0};
    unsigned char sum[SHA256_DIGEST_LENGTH];
    gzip_add(&gz, tar.data, tar.len);
    (void)snprintf(path, sizeof(path), "%s/good.tgz", w->dir);
    assert_int_equal(file_write_atomic(AT_FDCWD, path, gz.data, gz.len, 0644, &e), 0);
    (void)snprintf(w->good, sizeof(w->good), "file://%.200s/good.tgz", w->dir);
    (void)SHA256((const unsigned char *)gz.data, gz.len, sum);
    digest_from_bytes(sum, &w->digest);
    gz.data[gz.len / 2] ^= 1;
    (void)snprintf(path, sizeof(path), "%s/bad.tgz", w->dir);
    assert_int_equal(file_write_atomic(AT_FDCWD, path, gz.data, gz.len, 0644, &e), 0);
    (void)snprintf(w->bad, sizeof(w->bad), "file://%.200s/bad.tgz", w->dir);
    str_done(&tar);
    str_done(&gz);
}

static void must(int r, const struct err *e)
{
    if (r < 0)
        fail_msg("%s", e->text);
}

static void open_slugs(struct world *w)
{
    struct agent *a = &w->a;
    struct err e = ERR_INIT;
    char path[300];
    const struct cache_options o = {
        .root = path, .owner = a->slug_owner, .discard = discard, .userdata = w};

    (void)snprintf(path, sizeof(path), "%s/trash", a->config.state_dir);
    must(sweeper_open(a->loop, path, &a->sweeper, &e), &e);
    (void)snprintf(path, sizeof(path), "%s/cache", a->config.state_dir);
    must(cache_open(&o, &a->cache, &e), &e);
    must(slugs_open(a, &a->slugs, &e), &e);
    const struct fetcher_options f = {.loop = a->loop,
                                      .config = &a->config,
                                      .cache = a->cache,
                                      .crews = slugs_crews(a->slugs),
                                      .owner = a->slug_owner,
                                      .images = slugs_images(a->slugs),
                                      .room = slugs_room,
                                      .settling = slugs_settling,
                                      .published = slugs_published,
                                      .userdata = a->slugs};
    must(fetcher_new(&f, &a->fetcher, &e), &e);
}

/* Another fetcher, which asks these two for room. */
static int room(void *userdata, struct err *e)
{
    struct world *w = userdata;

    assert_false(crews_dying(slugs_crews(w->a.slugs)));
    w->asked++;
    if (w->asked <= w->short_of_room)
        return err_say(e, ENOSPC, "no space left for this test");
    return 0;
}

static bool settling(void *userdata)
{
    return ((struct world *)userdata)->settles;
}

static void with_room(struct world *w)
{
    struct agent *a = &w->a;
    struct err e = ERR_INIT;
    const struct fetcher_options f = {.loop = a->loop,
                                      .config = &a->config,
                                      .cache = a->cache,
                                      .crews = slugs_crews(a->slugs),
                                      .owner = a->slug_owner,
                                      .images = slugs_images(a->slugs),
                                      .room = room,
                                      .settling = settling,
                                      .userdata = w};

    fetcher_freep(&a->fetcher);
    must(fetcher_new(&f, &a->fetcher, &e), &e);
}

static void close_slugs(struct world *w)
{
    struct agent *a = &w->a;

    fetcher_freep(&a->fetcher);
    slugs_freep(&a->slugs);
    cache_freep(&a->cache);
    sweeper_freep(&a->sweeper);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct agent *a = &w->a;
    struct err e = ERR_INIT;
    char parent[64], *bin;

    (void)snprintf(w->dir, sizeof(w->dir), "%s/slugs-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp");
    if (!mkdtemp(w->dir))
        return -1;
    (void)chmod(w->dir, 0711);
    a->rootless = geteuid() != 0;
    a->state_dirfd = -1;
    TAILQ_INIT(&a->dynos);
    must(config_defaults(a->rootless, &a->config, &e), &e);
    a->slug_owner = a->rootless ? getuid() : a->config.uid_first + 1;
    (void)snprintf(a->config.state_dir, sizeof(a->config.state_dir), "%s", w->dir);
    (void)snprintf(a->config.runtime_dir, sizeof(a->config.runtime_dir), "%s", w->dir);
    scoped_fd program = fetch_binary();
    char link[64];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", program);
    ssize_t n = readlink(link, a->config.program_dir, sizeof(a->config.program_dir) - 1);
    assert_true(n > 0);
    bin = strrchr(a->config.program_dir, '/');
    *bin = '\0';
    assert_true(sd_event_new(&a->loop) >= 0);
    must(model_new(&a->model, &e), &e);
    a->state_dirfd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(events_open(a->state_dirfd, &a->events, &e), &e);
    (void)snprintf(parent, sizeof(parent), "/dynod-test-slugs-%d", (int)getpid());
    must(cgroup_tree_open(parent, false, &a->cgroups, &e), &e);
    write_slug(w);
    open_slugs(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    refused.number = 0;
    watches = -1;
    struct agent *a = &w->a;
    struct err e = ERR_INIT;

    close_slugs(w);
    must(cgroup_tree_remove(a->cgroups, &e), &e); /* no fetch is left in it */
    cgroup_tree_freep(&a->cgroups);
    events_freep(&a->events);
    model_freep(&a->model);
    fd_closep(&a->state_dirfd);
    (void)sd_event_unref(a->loop);
    int r = tree_remove(AT_FDCWD, w->dir, &e);
    free(w);
    return r;
}

static bool turn(struct world *w, uint64_t until)
{
    assert_true(sd_event_run(w->a.loop, 20 * USEC_PER_MSEC) >= 0);
    return clock_boot() < until;
}

static void on_fetched(void *userdata, const struct fetch_result *r)
{
    struct world *w = userdata;

    w->done = true;
    w->why = r->why ? *r->why : (struct err)ERR_INIT;
    w->got = r->digest ? *r->digest : (struct digest){""};
    (void)snprintf(w->step, sizeof(w->step), "%s", json_str(r->detail, "step", ""));
    if (r->digest)
        assert_int_equal(json_int(r->meta, "entries", 0), 3);
}

static void fetch(struct world *w, const char *url, const struct digest *digest)
{
    uint64_t until = clock_boot() + PATIENCE;
    struct fetch_waiter *waiter;
    struct err e = ERR_INIT;

    w->done = false;
    must(fetcher_get(w->a.fetcher, url, digest, on_fetched, w, &waiter, &e), &e);
    while (!w->done)
        if (!turn(w, until))
            fail_msg("the fetch did not end");
}

static void fetch_good(struct world *w)
{
    fetch(w, w->good, &w->digest);
    must(-w->why.errnum, &w->why);
    assert_string_equal(w->got.hex, w->digest.hex);
}

static void wait_sealed(struct world *w)
{
    uint64_t until = clock_boot() + PATIENCE;

    while (!cache_find(w->a.cache, &w->digest)->has_image)
        if (!turn(w, until))
            fail_msg("not sealed");
}

static void on_verified(void *userdata, const struct digest *digest, const struct err *why)
{
    struct world *w = userdata;

    assert_string_equal(digest->hex, w->digest.hex);
    w->done = true;
    w->why = why ? *why : (struct err)ERR_INIT;
}

static int verify(struct world *w)
{
    uint64_t until = clock_boot() + PATIENCE;
    struct err e = ERR_INIT;

    w->done = false;
    int r = slugs_verify(w->a.slugs, &w->digest, on_verified, w, &e);
    if (r < 0)
        return r;
    while (!w->done)
        if (!turn(w, until))
            fail_msg("not verified");
    return -w->why.errnum;
}

static void needs_images(const struct world *w)
{
    if (!slugs_images(w->a.slugs))
        skip(); /* only root mounts images */
}

/* An app that is to run the slug. */
static void want_slug(struct world *w)
{
    struct err e = ERR_INIT;
    scoped(json_freep) json_t *entry =
        json_pack("{s:s,s:s,s:s,s:s,s:{s:i}}", "op", "release", "app", "shop", "url", w->good,
                  "digest", w->digest.hex, "formation", "worker", 1);

    must(model_apply(w->a.model, entry, NULL, &e), &e);
}

static void a_slug_is_fetched_once(void **state)
{
    struct world *w = *state;
    struct err e = ERR_INIT;
    enum cache_kind kind;
    struct stat st;
    int fd = -1;

    fetch(w, w->good, NULL); /* whatever it is */
    must(-w->why.errnum, &w->why);
    assert_string_equal(w->got.hex, w->digest.hex);
    scoped_fd content = -1;
    must(cache_lookup(w->a.cache, &w->digest, &kind, &content, &e), &e);
    assert_int_equal(kind, slugs_images(w->a.slugs) ? CACHE_IMAGE : CACHE_DIRECTORY);
    must(slugs_app(w->a.slugs, &w->digest, &fd, &e), &e);
    assert_int_equal(fstatat(fd, "data", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_uid, w->a.slug_owner);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(unlink(w->good + strlen("file://")), 0);
    fetch_good(w); /* from the cache */
}

static void the_next_mirror_is_tried(void **state)
{
    struct world *w = *state;
    char urls[1024];

    /* None; not what was asked for; the slug. */
    (void)snprintf(urls, sizeof(urls), "file:///no/such %s\t%s", w->bad, w->good);
    fetch(w, urls, &w->digest);
    must(-w->why.errnum, &w->why);
    (void)snprintf(urls, sizeof(urls), "file:///no/such %s", w->bad);
    assert_int_equal(cache_remove(w->a.cache, &w->digest, &(struct err)ERR_INIT), 0);
    fetch(w, urls, &w->digest);
    assert_string_equal(w->step, "digest");
    assert_non_null(strstr(w->why.text, "/no/such")); /* all that was tried is told */
}

static void the_digest_is_to_blame_before_the_archive(void **state)
{
    struct world *w = *state;

    fetch(w, w->bad, &w->digest);
    assert_string_equal(w->step, "digest");
    assert_int_equal(w->why.fault, FAULT_PLATFORM);
    assert_int_equal(cache_count(w->a.cache), 0);
    fetch(w, w->bad, NULL); /* nobody says what it should have been */
    assert_int_equal(w->why.fault, FAULT_APP);
    fetch(w, "file:///no/such", NULL);
    assert_int_equal(w->why.fault, FAULT_OPERATOR);
    assert_non_null(strstr(w->why.text, "/no/such"));
}

static void addresses_are_counted(void **state)
{
    struct world *w = *state;
    struct fetch_waiter *waiter = NULL;
    struct err e = ERR_INIT;
    const char *const no[] = {"", "  ", "a b c d e f g h i"};

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fetcher_get(w->a.fetcher, no[i], NULL, on_fetched, w, &waiter, &e),
                         -EINVAL);
        assert_int_equal(e.fault, FAULT_OPERATOR);
    }
    assert_null(waiter);
}

static void sealed_slugs_are_synced(void **state)
{
    struct world *w = *state;

    needs_images(w);
    fetch_good(w);
    assert_false(cache_find(w->a.cache, &w->digest)->synced);
    assert_int_equal(verify(w), -EBUSY); /* nothing to compare with */
    /* An agent that dies before the seal: the next one does it. */
    close_slugs(w);
    open_slugs(w);
    wait_sealed(w);
    assert_true(cache_find(w->a.cache, &w->digest)->synced);
    assert_int_equal(verify(w), 0);
}

static void corruption_is_found_and_the_slug_fetched_again(void **state)
{
    struct world *w = *state;
    char path[400];
    struct stat st;
    uint64_t until;

    needs_images(w);
    fetch_good(w);
    wait_sealed(w);
    want_slug(w);
    (void)snprintf(path, sizeof(path), "%s/cache/sha256/%s/image", w->dir, w->digest.hex);
    scoped_fd image = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fstat(image, &st), 0);
    assert_int_equal(pwrite(image, "x", 1, st.st_size - 1), 1);
    assert_int_equal(verify(w), -EBADMSG);
    assert_null(cache_find(w->a.cache, &w->digest));
    until = clock_boot() + PATIENCE;
    while (!cache_find(w->a.cache, &w->digest))
        if (!turn(w, until))
            fail_msg("not fetched again");
    wait_sealed(w);
    assert_int_equal(verify(w), 0);
}

static void what_cannot_be_mounted_is_dropped(void **state)
{
    struct world *w = *state;
    struct err e = ERR_INIT;
    char path[400];
    int fd = -7;

    needs_images(w);
    fetch_good(w);
    (void)snprintf(path, sizeof(path), "%s/cache/sha256/%s/image", w->dir, w->digest.hex);
    scoped_fd image = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(image, "xxxx", 4, 1024), 4);
    assert_int_equal(slugs_app(w->a.slugs, &w->digest, &fd, &e), -ENOENT);
    assert_int_equal(fd, -7);
    assert_int_equal(cache_count(w->a.cache), 0);
}

static void what_is_in_use_is_not_removed(void **state)
{
    struct world *w = *state;
    struct err e = ERR_INIT;

    assert_int_equal(slugs_remove(w->a.slugs, &w->digest, &e), -ENOENT);
    assert_int_equal(verify(w), -ENOENT);
    fetch_good(w);
    scoped(json_freep) json_t *before = slugs_json(w->a.slugs);
    assert_false(json_bool(json_array_get(before, 0), "in_use", true));
    want_slug(w);
    scoped(json_freep) json_t *after = slugs_json(w->a.slugs);
    assert_int_equal(json_array_size(after), 1);
    assert_true(json_bool(json_array_get(after, 0), "in_use", false));
    assert_int_equal(slugs_remove(w->a.slugs, &w->digest, &e), -EBUSY);
    scoped(json_freep) json_t *stop = json_pack("{s:s,s:s}", "op", "stop", "app", "shop");
    must(model_apply(w->a.model, stop, NULL, &e), &e);
    must(slugs_remove(w->a.slugs, &w->digest, &e), &e);
    assert_int_equal(cache_count(w->a.cache), 0);
}

/* The dyno of an older agent, whose run.json does not say what it runs from. */
static void who_runs_from_what_nobody_knows_keeps_directories(void **state)
{
    struct world *w = *state;
    struct run *some = (struct run *)w; /* that there is one is all that counts */
    struct dyno d = {.agent = &w->a, .run = some, .slug_unknown = true};
    struct err e = ERR_INIT;

    fetch_good(w);
    TAILQ_INSERT_TAIL(&w->a.dynos, &d, link);
    assert_int_equal(slugs_remove(w->a.slugs, &w->digest, &e),
                     slugs_images(w->a.slugs) ? 0 : -EBUSY);
    fetch_good(w);
    d.slug_unknown = false;
    d.has_slug = true;
    d.slug = w->digest;
    assert_int_equal(slugs_remove(w->a.slugs, &w->digest, &e), -EBUSY);
    d.run = NULL;
    must(slugs_remove(w->a.slugs, &w->digest, &e), &e);
    TAILQ_REMOVE(&w->a.dynos, &d, link);
}

static void what_nobody_uses_goes_when_there_is_no_room(void **state)
{
    struct world *w = *state;

    fetch_good(w);
    want_slug(w);
    const struct digest wanted = w->digest;
    w->a.config.cache_max = 1;
    write_slug(w);
    fetch_good(w); /* is had, told, and thrown out again */
    assert_null(cache_find(w->a.cache, &w->digest));
    assert_non_null(cache_find(w->a.cache, &wanted));
}

/* A full disk may only be one that something is just leaving. */
static void room_is_waited_for_while_something_goes(void **state)
{
    struct world *w = *state;

    with_room(w);
    w->short_of_room = 3;
    fetch(w, w->good, &w->digest); /* nothing goes: at once */
    assert_int_equal(w->why.errnum, ENOSPC);
    assert_int_equal(w->asked, 1);
    w->asked = 0;
    w->settles = true;
    fetch_good(w);
    assert_int_equal(w->asked, 4);
}

/* A disk of 32 MB, of which a twentieth is kept free and nothing can be thrown out. */
static int on_a_small_disk(struct world *w)
{
    struct err e = ERR_INIT;
    uint64_t free_bytes = 0, size = 0;
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/cache", w->dir);
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 77;
    close_slugs(w);
    if (mount("small", w->dir, "tmpfs", 0, "size=32m,mode=0711") < 0)
        return 77;
    open_slugs(w);
    write_slug(w);
    fetch_good(w);
    want_slug(w);
    must(cache_space(w->a.cache, &free_bytes, &size, &e), &e);
    (void)snprintf(path, sizeof(path), "%s/filler", w->dir);
    scoped_fd filler = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(filler, 0, (off_t)(free_bytes - size / 20 + 65536)), 0);
    write_slug(w);
    fetch(w, w->good, &w->digest);
    if (w->why.errnum != ENOSPC || w->why.fault != FAULT_PLATFORM ||
        !strstr(w->why.text, "1.6 MB are kept free (cache_keep_free), and all cached slugs are"))
        fail_msg("%s fault: %s", fault_name(w->why.fault), w->why.text);
    w->a.config.cache_keep_free = 0; /* the control: there is room */
    fetch_good(w);
    return 0;
}

static void what_is_kept_free_is_kept(void **state)
{
    int r = on_a_small_disk(*state);

    (void)umount2(((struct world *)*state)->dir, MNT_DETACH);
    if (r == 77)
        skip(); /* no mounts for us here */
}

static void on_failed(void *userdata, const struct fetch_result *r)
{
    struct world *w = userdata;
    struct fetch_waiter *waiter;
    struct err e = ERR_INIT;

    assert_non_null(r->why);
    /* Whoever failed has been heard, and has not been seen to end. */
    assert_true(crews_dying(slugs_crews(w->a.slugs)));
    must(fetcher_get(w->a.fetcher, w->good, &w->digest, on_fetched, w, &waiter, &e), &e);
}

/* Its names are gone at once, what its processes hold is not: room() would see a full disk. */
static void room_is_asked_for_when_the_last_fetch_is_gone(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_boot() + PATIENCE;
    struct fetch_waiter *waiter;
    char urls[600];
    struct err e = ERR_INIT;

    with_room(w);
    must(fetcher_get(w->a.fetcher, w->bad, NULL, on_failed, w, &waiter, &e), &e);
    while (!w->done)
        if (!turn(w, until))
            fail_msg("the fetch did not end");
    must(-w->why.errnum, &w->why);
    assert_int_equal(w->asked, 2);
    /* Nor does another round of one fetch begin on top of what the last one left. */
    assert_int_equal(cache_remove(w->a.cache, &w->digest, &(struct err)ERR_INIT), 0);
    (void)snprintf(urls, sizeof(urls), "%s %s", w->bad, w->good);
    fetch(w, urls, &w->digest);
    must(-w->why.errnum, &w->why);
    assert_int_equal(w->asked, 4);
}

static void progress_is_told(void **state)
{
    struct world *w = *state;
    struct fetch_waiter *waiter;
    struct err e = ERR_INIT;

    must(fetcher_get(w->a.fetcher, w->good, &w->digest, on_fetched, w, &waiter, &e), &e);
    scoped(json_freep) json_t *list = fetcher_json(w->a.fetcher);
    assert_int_equal(json_array_size(list), 1);
    const json_t *one = json_array_get(list, 0);
    assert_string_equal(json_str(one, "state", ""), "waiting");
    assert_true(str_starts(json_str(one, "digest", ""), "sha256:"));
    assert_true(json_is_null(json_object_get(one, "total")));
    assert_true(fetcher_wants(w->a.fetcher, &w->digest));
    fetcher_drop(waiter); /* goes on without it */
    fetch_good(w);
    assert_int_equal(fetcher_running(w->a.fetcher), 0);
    assert_false(fetcher_wants(w->a.fetcher, &w->digest));
}

static void on_counted(void *userdata, const struct fetch_result *r)
{
    unsigned *n = userdata;

    (void)r;
    ++*n;
}

static const char *state_of(const struct world *w, size_t i)
{
    static char state[16];
    scoped(json_freep) json_t *list = fetcher_json(w->a.fetcher);

    (void)snprintf(state, sizeof(state), "%s", json_str(json_array_get(list, i), "state", ""));
    return state;
}

/* Two slugs for later, and one that a dyno waits for if URGENT: the most fetches at once. */
static unsigned most_at_once(struct world *w, bool ahead, bool urgent, bool *ret_first)
{
    const char *urls[] = {w->good, w->bad};
    unsigned ended = 0, most = 0, wanted = urgent ? 3 : 2;
    uint64_t until = clock_boot() + PATIENCE;
    struct fetch_waiter *waiter;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < 2; i++) {
        must(fetcher_get(w->a.fetcher, urls[i], NULL, on_counted, &ended, &waiter, &e), &e);
        if (ahead)
            fetcher_ahead(waiter);
    }
    if (urgent)
        must(fetcher_get(w->a.fetcher, w->good, &w->digest, on_counted, &ended, &waiter, &e), &e);
    *ret_first = false;
    while (ended < wanted) {
        unsigned n = fetcher_running(w->a.fetcher);

        if (ended == 0 && n == 1 && !strcmp(state_of(w, 2), "fetching"))
            *ret_first = true;
        most = n > most ? n : most;
        if (!turn(w, until))
            fail_msg("the fetches did not end");
    }
    assert_int_equal(fetcher_running(w->a.fetcher), 0);
    return most;
}

static void who_waits_comes_before_what_is_for_later(void **state)
{
    struct world *w = *state;
    bool first;

    w->a.config.fetch_jobs = 2;
    assert_int_equal(most_at_once(w, false, false, &first), 2); /* the control */
    assert_int_equal(most_at_once(w, true, false, &first), 1);
    assert_int_equal(cache_remove(w->a.cache, &w->digest, &(struct err)ERR_INIT), 0);
    assert_int_equal(most_at_once(w, true, true, &first), 2);
    assert_true(first);
    w->a.config.fetch_jobs = 1;
    assert_int_equal(most_at_once(w, true, false, &first), 1);
}

/* What waits for its turn is urgent as soon as a dyno wants it, too. */
static void a_start_takes_over_what_is_for_later(void **state)
{
    struct world *w = *state;
    unsigned ended = 0;
    uint64_t until = clock_boot() + PATIENCE;
    struct fetch_waiter *waiter;
    struct err e = ERR_INIT;

    w->a.config.fetch_jobs = 2;
    must(fetcher_get(w->a.fetcher, w->bad, NULL, on_counted, &ended, &waiter, &e), &e);
    fetcher_ahead(waiter);
    must(fetcher_get(w->a.fetcher, w->good, &w->digest, on_counted, &ended, &waiter, &e), &e);
    fetcher_ahead(waiter);
    while (fetcher_running(w->a.fetcher) == 0)
        assert_true(turn(w, until));
    assert_string_equal(state_of(w, 1), "waiting");
    must(fetcher_get(w->a.fetcher, w->good, &w->digest, on_counted, &ended, &waiter, &e), &e);
    while (ended == 0 && fetcher_running(w->a.fetcher) == 1)
        assert_true(turn(w, until));
    assert_int_equal(fetcher_running(w->a.fetcher), 2);
    while (ended < 3)
        assert_true(turn(w, until));
}

/* --- When the kernel refuses --- */

static size_t count_crews(struct world *w)
{
    char **ids = NULL;
    struct err e = ERR_INIT;
    size_t n = 0;

    must(cgroup_tree_list(w->a.cgroups, &ids, &e), &e);
    while (ids && ids[n])
        n++;
    cgroup_ids_free(ids);
    return n;
}

/* More often than there are users for crews: nothing of one that could not be watched is left. */
static void a_crew_that_is_not_whole_leaves_nothing(void **state)
{
    static const struct crew_ops nobody = {0};
    struct world *w = *state;
    struct crews *crews = slugs_crews(w->a.slugs);
    uint64_t until = clock_boot() + 4 * PATIENCE;
    unsigned n = w->a.rootless ? 4 : 2 * crews_max(crews);
    struct crew *crew = NULL;
    struct err e = ERR_INIT;

    for (int i = 0; i < 10; i++)
        (void)turn(w, 0); /* a crew waits now */
    size_t before = count_crews(w);
    for (unsigned i = 0; i < n; i++) {
        watches = (int)(i % 2); /* its socket, its end */
        assert_int_equal(crews_take(crews, CREW_SEAL, &nobody, NULL, &crew, &e), -ENOMEM);
        watches = -1;
        while (count_crews(w) > before)
            if (!turn(w, until))
                fail_msg("its cgroup stays");
    }
    must(crews_take(crews, CREW_SEAL, &nobody, NULL, &crew, &e), &e);
    crew_freep(&crew);
}

static void a_process_is_not_waited_for_without_end(void **state)
{
    struct world *w = *state;

    w->a.config.fetch_total = USEC_PER_SEC;
    refused.number = SYS_clone3;
    refused.errnum = EAGAIN; /* pids.max, RLIMIT_NPROC, threads-max */
    fetch(w, w->good, &w->digest);
    assert_int_equal(w->why.errnum, EAGAIN);
    assert_int_equal(w->why.fault, FAULT_PLATFORM);
    refused.number = 0;
    w->a.config.fetch_total = 60 * USEC_PER_SEC;
    fetch_good(w);
}

static void what_cannot_be_mounted_just_now_is_kept(void **state)
{
    static const int passing[] = {EMFILE, ENFILE, ENOMEM, EBUSY};
    struct world *w = *state;
    struct err e = ERR_INIT;
    int fd;

    needs_images(w);
    fetch_good(w);
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        e = (struct err)ERR_INIT;
        refused.number = SYS_fsopen;
        refused.errnum = passing[i];
        assert_int_equal(slugs_app(w->a.slugs, &w->digest, &fd, &e), -passing[i]);
        refused.number = 0;
        assert_int_equal(e.fault, FAULT_PLATFORM);
        assert_non_null(cache_find(w->a.cache, &w->digest));
    }
    must(slugs_app(w->a.slugs, &w->digest, &fd, &e), &e);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slug_is_fetched_once),
        TEST(the_next_mirror_is_tried),
        TEST(the_digest_is_to_blame_before_the_archive),
        TEST(addresses_are_counted),
        TEST(sealed_slugs_are_synced),
        TEST(corruption_is_found_and_the_slug_fetched_again),
        TEST(what_cannot_be_mounted_is_dropped),
        TEST(what_is_in_use_is_not_removed),
        TEST(who_runs_from_what_nobody_knows_keeps_directories),
        TEST(what_nobody_uses_goes_when_there_is_no_room),
        TEST(room_is_waited_for_while_something_goes),
        TEST(room_is_asked_for_when_the_last_fetch_is_gone),
        TEST(what_is_kept_free_is_kept),
        TEST(progress_is_told),
        TEST(who_waits_comes_before_what_is_for_later),
        TEST(a_start_takes_over_what_is_for_later),
        TEST(a_crew_that_is_not_whole_leaves_nothing),
        TEST(a_process_is_not_waited_for_without_end),
        TEST(what_cannot_be_mounted_just_now_is_kept),
    };

    struct err e = ERR_INIT;

    if (geteuid() != 0 && sandbox_enter_rootless(&e) < 0) {
        (void)fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    return cmocka_run_group_tests_name("slugs", tests, NULL, NULL);
}
