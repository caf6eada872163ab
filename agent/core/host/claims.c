#include "core/host/claims.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLAIM_MAX   4096
#define NAME_LEN    17 /* 16 hex digits and a NUL */
#define GUARD       ".lock"
#define GUARD_TRIES 200 /* with a pause between two */
#define GUARD_USEC  10000
#define STATE_SHOWN 200
#define NETNS       "/proc/self/ns/net"
#define RUNS_OF     "run" /* of a runtime directory */

/* Somebody else's. */
struct other {
    char state_dir[STATE_SHOWN];
    uint64_t uid_first, uid_last, port_first, port_last, netns;
    int64_t pid; /* 0: it does not run, its dynos may */
};

/* FNV-1a: the same state directory has the same name. */
static void name_of(const char *state_dir, char out[NAME_LEN])
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (const char *p = state_dir; *p; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    (void)snprintf(out, NAME_LEN, "%016" PRIx64, hash);
}

static uint64_t netns_of_ours(void)
{
    struct stat st;

    return stat(NETNS, &st) == 0 ? st.st_ino : 0;
}

/* fcntl(2)'s kind: it says who has it, and a child that was cloned does not hold it on. */
static bool try_lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fcntl(fd, F_SETLK, &whole) == 0;
}

/* The process that holds it, 0: nobody. */
static int64_t holder(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &whole) < 0 || whole.l_type == F_UNLCK)
        return 0;
    return whole.l_pid > 0 ? whole.l_pid : -1; /* of another PID namespace */
}

static int open_dir(const struct claims *c, int *ret_fd, struct err *e)
{
    int r = dir_make_all(c->dir, 0700, e);

    if (r < 0)
        return r;
    *ret_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return *ret_fd < 0 ? err_set(e, errno, "open %s", c->dir) : 0;
}

/* One at a time looks and writes. */
static int open_guard(int dirfd, int *ret_fd, struct err *e)
{
    scoped_fd fd = openat(dirfd, GUARD, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_set(e, errno, "open " GUARD);
    for (int i = 0; !try_lock(fd); i++) {
        if (i == GUARD_TRIES)
            return err_say(e, EBUSY, "another dynod (pid %jd) holds " GUARD " and does not let go",
                           (intmax_t)holder(fd));
        (void)usleep(GUARD_USEC);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* --- Others --- */

/* Whether an agent that is gone left runs there. */
static bool has_runs(const char *runtime_dir)
{
    scoped_fd fd = open(runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int runs = fd < 0 ? -1 : openat(fd, RUNS_OF, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    scoped(dir_closep) DIR *d = runs < 0 ? NULL : fdopendir(runs);
    const struct dirent *entry;

    if (!d)
        return false;
    while ((entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return true;
    return false;
}

/* 1: somebody's; 0: nobody's. An error: no telling. */
static int read_other(int dirfd, const char *name, struct other *ret, struct err *e)
{
    scoped_fd fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    scoped(json_freep) json_t *claim = NULL;
    struct err ignored = ERR_INIT; /* what is no claim is nobody's, or somebody's who runs */
    char text[CLAIM_MAX];

    if (fd < 0)
        return err_is_shortage(errno) ? err_set(e, errno, "open %s", name) : 0;
    ssize_t n = fd_read_full(fd, text, sizeof(text));
    int64_t pid = holder(fd);
    if (n < 0 && err_is_shortage((int)-n))
        return err_set(e, (int)-n, "read %s", name);
    if (n <= 0 || json_parse(text, (size_t)n, sizeof(text), &claim, &ignored) < 0)
        return 0;
    if (!pid && !has_runs(json_str(claim, "runtime_dir", "")))
        return 0;
    const char *state = json_str(claim, "state_dir", "?");
    *ret = (struct other){.uid_first = (uint64_t)json_int(claim, "uid_first", 0),
                          .uid_last = (uint64_t)json_int(claim, "uid_last", 0),
                          .port_first = (uint64_t)json_int(claim, "port_first", 0),
                          .port_last = (uint64_t)json_int(claim, "port_last", 0),
                          .netns = (uint64_t)json_int(claim, "netns", 0),
                          .pid = pid};
    (void)text_escape(ret->state_dir, sizeof(ret->state_dir), state, strlen(state));
    return 1;
}

static int refuse(const char *what, const char *key, uint64_t first, uint64_t last,
                  uint64_t their_first, uint64_t their_last, const struct other *o, struct err *e)
{
    char who[64] = ", which does not run, but its dynos may";

    if (o->pid > 0)
        (void)snprintf(who, sizeof(who), ", pid %jd", (intmax_t)o->pid);
    else if (o->pid < 0)
        who[0] = '\0';
    (void)err_say(
        e, EADDRINUSE,
        "%s %ju-%ju overlaps %ju-%ju, that of the dynod with state_dir %s%s: two agents on "
        "one machine must not have the same %s (%s)",
        key, (uintmax_t)first, (uintmax_t)last, (uintmax_t)their_first, (uintmax_t)their_last,
        o->state_dir, who, what, key);
    return err_blame(e, FAULT_OPERATOR);
}

static int compare(const struct claims *c, const struct other *o, struct err *e)
{
    if (c->uid_first <= o->uid_last && o->uid_first <= c->uid_last)
        return refuse("users", "uid_range", c->uid_first, c->uid_last, o->uid_first, o->uid_last, o,
                      e);
    if (o->netns == netns_of_ours() && c->port_first <= o->port_last &&
        o->port_first <= c->port_last)
        return refuse("ports", "port_range", c->port_first, c->port_last, o->port_first,
                      o->port_last, o, e);
    return 0;
}

/* SWEEP: what is nobody's is removed. */
static int look(const struct claims *c, int dirfd, bool sweep, struct err *e)
{
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *entry;
    char own[NAME_LEN];
    int r = 0;

    if (!d) {
        r = err_set(e, errno, "read %s", c->dir);
        fd_closep(&copy);
        return r;
    }
    name_of(c->state_dir, own);
    while (r == 0 && (entry = readdir(d))) {
        struct other o;

        if (entry->d_name[0] == '.' || !strcmp(entry->d_name, own))
            continue; /* to open our own and close it would unlock it */
        r = read_other(dirfd, entry->d_name, &o, e);
        if (r > 0)
            r = compare(c, &o, e);
        else if (r == 0 && sweep)
            (void)unlinkat(dirfd, entry->d_name, 0);
    }
    return r;
}

/* --- Ours --- */

static int write_own(const struct claims *c, int dirfd, int *ret_fd, struct err *e)
{
    char name[NAME_LEN];
    scoped(json_freep) json_t *claim =
        json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "state_dir", c->state_dir, "runtime_dir",
                  c->runtime_dir, "uid_first", (json_int_t)c->uid_first, "uid_last",
                  (json_int_t)c->uid_last, "port_first", (json_int_t)c->port_first, "port_last",
                  (json_int_t)c->port_last, "netns", (json_int_t)netns_of_ours());
    scoped_free char *text = claim ? json_dumps(claim, JSON_COMPACT) : NULL;

    if (!text)
        return err_set(e, ENOMEM, "claim uids and ports");
    name_of(c->state_dir, name);
    scoped_fd fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, errno, "open %s/%s", c->dir, name);
    if (!try_lock(fd)) {
        (void)err_say(e, EBUSY, "another dynod (pid %jd) uses %s", (intmax_t)holder(fd),
                      c->state_dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    int r = ftruncate(fd, 0) < 0 ? -errno : fd_write_full(fd, text, strlen(text));
    if (r < 0)
        return err_set(e, -r, "write %s/%s", c->dir, name);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int claims_take(const struct claims *c, int *ret_fd, struct err *e)
{
    scoped_fd dirfd = -1, guard = -1;

    if (!c->dir[0]) {
        *ret_fd = -1;
        return 0;
    }
    int r = open_dir(c, &dirfd, e);
    if (r == 0)
        r = open_guard(dirfd, &guard, e);
    if (r == 0)
        r = look(c, dirfd, true, e);
    if (r == 0)
        r = write_own(c, dirfd, ret_fd, e);
    return r < 0 ? err_wrap(e, "claims_dir %s", c->dir) : 0;
}

int claims_check(const struct claims *c, struct err *e)
{
    scoped_fd dirfd = -1;
    int r = c->dir[0] ? open_dir(c, &dirfd, e) : 0;

    return r == 0 && dirfd >= 0 ? look(c, dirfd, false, e) : r;
}

void claims_drop(const struct claims *c)
{
    char path[600], name[NAME_LEN];

    if (!c->dir[0] || has_runs(c->runtime_dir))
        return;
    name_of(c->state_dir, name);
    (void)snprintf(path, sizeof(path), "%s/%s", c->dir, name);
    (void)unlink(path);
}
