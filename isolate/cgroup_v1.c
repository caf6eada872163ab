/* cgroup_v1.c - one hierarchy a controller. Kernel: Documentation/admin-guide/cgroup-v1/. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define FREEZE_ROUNDS  50 /* of FREEZE_NAP: how long cgroup_kill() waits for all to stand still */
#define FREEZE_NAP_NS  1000000L
#define CHARGE_BATCH   (UINT64_C(256) << 10) /* what the kernel charges at once */
#define UNFROZEN_KILLS 8 /* rounds without a freezer: each kills what the one before let fork */

/* Writes VALUE, or what means "no limit" when it is 0. */
static int set_or(const struct cgroup *c, enum controller ctrl, const char *file, uint64_t value,
                  const char *unlimited, struct err *e)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return cg_set(c, ctrl, file, value ? text : unlimited, e);
}

/* memory <= memory + swap must hold at every moment, so the order depends on the direction: what
 * the kernel refuses first is written second. */
static int set_memory(const struct cgroup *c, uint64_t max, struct err *e)
{
    static const char limit[] = "memory.limit_in_bytes", memsw[] = "memory.memsw.limit_in_bytes";

    if (!c->tree->memsw)
        return set_or(c, CTRL_MEMORY, limit, max, "-1", e);
    struct err ignored = ERR_INIT;
    int first = set_or(c, CTRL_MEMORY, limit, max, "-1", &ignored);
    int r = set_or(c, CTRL_MEMORY, memsw, max, "-1", e);
    if (r == 0 && first < 0)
        r = set_or(c, CTRL_MEMORY, limit, max, "-1", e);
    return r;
}

#define TCP_PART 4 /* of the memory that a size has */
#define TCP_FILE "memory.kmem.tcp.limit_in_bytes"

/* Buffers of TCP sockets have a counter of their own on v1, and are counted at all only where it
 * was written to. Over it, a socket gets little more memory (some 70 kB, unread); nobody is killed.
 * A part of the memory only: the machine has one limit for the buffers of all its sockets. Who
 * opens so many that they come to more than all its memory is ended by the agent (is_over()).
 * Kernels without CONFIG_INET have no such file. */
static int set_tcp(const struct cgroup *c, uint64_t max, struct err *e)
{
    int r =
        max ? cg_put_u64(c, CTRL_MEMORY, TCP_FILE, max) : cg_put(c, CTRL_MEMORY, TCP_FILE, "-1");

    return r < 0 && r != -ENOENT ? err_set(e, -r, "cgroup %s: set " TCP_FILE, c->id) : 0;
}

static int v1_set_limits(struct cgroup *c, const struct limits *limits, struct err *e)
{
    uint64_t quota = (uint64_t)limits->cpu_percent * CGROUP_CPU_PERIOD_USEC / 100;
    int r = set_memory(c, limits->memory_max, e);

    c->quota = limits->memory_quota;
    if (r == 0)
        r = set_tcp(c, limits->memory_max / TCP_PART, e);
    if (r == 0)
        r = set_or(c, CTRL_PIDS, "pids.max", limits->pids, "max", e);
    if (r < 0 || c->tree->alias[CTRL_CPU] < 0)
        return r;
    r = set_or(c, CTRL_CPU, "cpu.shares", limits->cpu_shares, "1024", e);
    if (r == 0 && quota > 0) {
        r = set_or(c, CTRL_CPU, "cpu.cfs_period_us", CGROUP_CPU_PERIOD_USEC, "", e);
        if (r == 0)
            r = set_or(c, CTRL_CPU, "cpu.cfs_quota_us", quota, "-1", e);
    } else if (r == 0) {
        int put = cg_put(c, CTRL_CPU, "cpu.cfs_quota_us", "-1");

        /* A kernel without bandwidth control has nothing to switch off. */
        if (put < 0 && put != -ENOENT)
            r = err_set(e, -put, "cgroup %s: lift the cpu cap", c->id);
    }
    return r;
}

/* cgroup-v1/memory.rst, "Thresholds" and "OOM Control": an eventfd is told of FILE's event. The
 * registration ends when the eventfd is closed. */
static int watch_file(const struct cgroup *c, const char *file, uint64_t threshold, int *ret_fd,
                      struct err *e)
{
    scoped_fd event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    scoped_fd control = cg_open(c, CTRL_MEMORY, file, O_RDONLY);
    char text[64];

    if (event < 0)
        return err_set(e, errno, "eventfd");
    if (control < 0)
        return err_set(e, -control, "cgroup %s: open %s", c->id, file);
    if (threshold > 0)
        (void)snprintf(text, sizeof(text), "%d %d %" PRIu64, event, control, threshold);
    else
        (void)snprintf(text, sizeof(text), "%d %d", event, control);
    int r = cg_set(c, CTRL_MEMORY, "cgroup.event_control", text, e);
    if (r < 0)
        return r;
    fd_closep(ret_fd);
    *ret_fd = TAKE_FD(event);
    return 0;
}

static int v1_watch(struct cgroup *c, struct err *e)
{
    /* The threshold belongs to the old limit; v1_quota_fd() makes the next. */
    fd_closep(&c->quota_fd);
    return c->oom_fd >= 0 ? 0 : watch_file(c, "memory.oom_control", 0, &c->oom_fd, e);
}

/* Only when asked for: registering a threshold waits for an RCU grace period (10 ms). */
static int v1_quota_fd(struct cgroup *c)
{
    const char *usage = c->tree->memsw ? "memory.memsw.usage_in_bytes" : "memory.usage_in_bytes";
    struct err ignored = ERR_INIT; /* the caller's timer sees it too */

    if (c->quota_fd < 0 && c->quota > 0)
        (void)watch_file(c, usage, c->quota, &c->quota_fd, &ignored);
    return c->quota_fd;
}

/* It was at its limit once. failcnt would say so too, but stays 0 on recent kernels. */
static bool was_full(const struct cgroup *c)
{
    uint64_t max = cg_get_u64(c, CTRL_MEMORY, "memory.limit_in_bytes", UINT64_MAX);

    return cg_get_u64(c, CTRL_MEMORY, "memory.max_usage_in_bytes", 0) + CHARGE_BATCH >= max;
}

/* The eventfd tells of each OOM in the cgroup, and of none of the machine's. What came before it
 * was opened can only be guessed: reclaim may have made room for what was full. */
static bool oom_is_own(struct cgroup *c)
{
    struct pollfd p = {.fd = c->oom_fd, .events = POLLIN};

    c->oom_told = c->oom_told || (c->oom_fd >= 0 && poll(&p, 1, 0) == 1);
    return c->oom_told || (c->found && was_full(c));
}

/* TCP's buffers can pass their limit by more sockets, to tens of times the dyno's memory: they are
 * everybody's share of the machine's (tcp_mem). Asked of the kernel, as the limits of a size may
 * have changed since they were set. What the kernel can drop is left out: cached files, slab, and
 * memory that was given back but not taken yet (MADV_FREE), which is none of anon's. */
static bool is_over(struct cgroup *c, const char *stat, uint64_t tcp)
{
    uint64_t held = cg_field(stat, "total_active_anon") + cg_field(stat, "total_inactive_anon") +
                    cg_field(stat, "total_unevictable") + cg_field(stat, "total_swap") + tcp;

    return tcp > cg_get_u64(c, CTRL_MEMORY, TCP_FILE, UINT64_MAX) &&
           held > cg_get_u64(c, CTRL_MEMORY, "memory.limit_in_bytes", UINT64_MAX);
}

static int v1_usage(struct cgroup *c, struct cgroup_usage *ret, struct err *e)
{
    char stat[CGROUP_TEXT_MAX], oom[256] = "";
    ssize_t n = cg_get(c, CTRL_MEMORY, "memory.stat", stat, sizeof(stat));

    if (n < 0)
        return err_set(e, (int)-n, "cgroup %s: read memory.stat", c->id);
    (void)cg_get(c, CTRL_MEMORY, "memory.oom_control", oom, sizeof(oom)); /* absent: no kills */
    uint64_t tcp = cg_get_u64(c, CTRL_MEMORY, "memory.kmem.tcp.usage_in_bytes", 0);
    struct cgroup_usage u = {
        .memory_rss = cg_field(stat, "total_rss"),
        .memory_cache = cg_field(stat, "total_cache"),
        .memory_swap = cg_field(stat, "total_swap"),
        .memory_kernel = cg_get_u64(c, CTRL_MEMORY, "memory.kmem.usage_in_bytes", 0) + tcp,
        .memory_over = tcp > 0 && is_over(c, stat, tcp),
        .pgpgin = cg_field(stat, "total_pgpgin"),
        .pgpgout = cg_field(stat, "total_pgpgout"),
        .cpu_usec = cg_get_u64(c, CTRL_CPUACCT, "cpuacct.usage", 0) / 1000,
        .pids = cg_get_u64(c, CTRL_PIDS, "pids.current", 0),
        .oom_kills = cg_field(oom, "oom_kill"),
    };
    u.memory = u.memory_rss + u.memory_cache + u.memory_swap;
    u.oom_own = u.oom_kills > 0 && oom_is_own(c);
    *ret = u;
    return 0;
}

static enum controller kill_hierarchy(const struct cgroup *c)
{
    return c->tree->alias[CTRL_FREEZER] >= 0 ? CTRL_FREEZER : CTRL_PIDS;
}

static bool v1_populated(struct cgroup *c)
{
    char text[32];
    ssize_t n = cg_get(c, kill_hierarchy(c), "cgroup.procs", text, sizeof(text));

    return n > 0 || cg_unseen(n);
}

/* Frozen processes do not fork, so what is listed once all stand still is all there is. A process
 * that cannot be frozen now (uninterruptible) must not hold us up: it is killed all the same. */
static int kill_frozen(struct cgroup *c, struct err *e)
{
    const struct timespec nap = {.tv_nsec = FREEZE_NAP_NS};
    int r = cg_set(c, CTRL_FREEZER, "freezer.state", "FROZEN", e);
    bool frozen = false;

    if (r < 0)
        return r;
    for (int round = 0; r >= 0 && !frozen && round < FREEZE_ROUNDS; round++) {
        char state[32] = "";

        if (round > 0)
            (void)nanosleep(&nap, NULL);
        (void)cg_get(c, CTRL_FREEZER, "freezer.state", state, sizeof(state));
        frozen = !strcmp(state, "FROZEN\n");
        r = cg_kill_listed(c, CTRL_FREEZER); /* after the look at the state: the last list counts */
    }
    int thaw = cg_set(c, CTRL_FREEZER, "freezer.state", "THAWED", e);
    if (r < 0)
        return err_set(e, -r, "cgroup %s: list its processes", c->id);
    return thaw;
}

/* Its maker died between the levels, or who removed it: what is there holds nobody that stands in
 * all of them. */
static int kill_half(struct cgroup *c, struct err *e)
{
    int r = 0;

    for (int i = 0; i < CTRL_COUNT; i++) {
        int n = c->tree->dirs[i] < 0 ? 0 : cg_kill_listed(c, (enum controller)i);

        if (n < 0 && n != -ENOENT)
            r = n;
    }
    return r < 0 ? err_set(e, -r, "cgroup %s: list its processes", c->id) : 0;
}

static bool has_freezer(const struct cgroup *c)
{
    scoped_fd fd = cg_open(c, CTRL_FREEZER, "freezer.state", O_PATH);

    return fd != -ENOENT;
}

static int v1_kill(struct cgroup *c, struct err *e)
{
    int r = 1;

    if (c->tree->alias[CTRL_FREEZER] >= 0)
        return has_freezer(c) ? kill_frozen(c, e) : kill_half(c, e);
    for (int round = 0; r > 0 && round < UNFROZEN_KILLS; round++)
        r = cg_kill_listed(c, kill_hierarchy(c));
    return r < 0 ? err_set(e, -r, "cgroup %s: list its processes", c->id) : 0;
}

static int v1_freeze(struct cgroup *c, bool on, struct err *e)
{
    return cg_set(c, CTRL_FREEZER, "freezer.state", on ? "FROZEN" : "THAWED", e);
}

static bool v1_frozen(struct cgroup *c)
{
    return cg_get_u64(c, CTRL_FREEZER, "freezer.self_freezing", 0) != 0;
}

/* --- opening --- */

static const struct cgroup_ops v1_ops = {
    .set_limits = v1_set_limits,
    .watch = v1_watch,
    .quota_fd = v1_quota_fd,
    .usage = v1_usage,
    .populated = v1_populated,
    .kill = v1_kill,
    .freeze = v1_freeze,
    .frozen = v1_frozen,
};

/* Controllers mounted together ("cpu,cpuacct") share one directory. */
static int find_alias(char *const mounts[CTRL_COUNT], int i)
{
    for (int j = 0; j < i; j++)
        if (mounts[j] && !strcmp(mounts[j], mounts[i]))
            return j;
    return i;
}

static int open_level(struct cgroup_tree *t, int i, const char *mount, const char *parent,
                      struct err *e)
{
    if (asprintf(&t->path[i], "%s%s", mount, parent) < 0) {
        t->path[i] = NULL;
        return err_set(e, ENOMEM, "open the cgroup tree");
    }
    int r = dir_make_all(t->path[i], 0755, e);
    if (r < 0)
        return r;
    t->dirs[i] = open(t->path[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (t->dirs[i] < 0)
        return err_set(e, errno, "open the cgroup %s", t->path[i]);
    return 0;
}

/* The hierarchy may be there without a way to weigh: only BFQ (and CFQ, before Linux 5.0) does. */
static void open_io(struct cgroup_tree *t)
{
    static const char *const files[] = {"blkio.bfq.weight", "blkio.weight"};
    char path[4096];

    for (size_t i = 0; t->alias[CTRL_IO] == CTRL_IO && i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", t->path[CTRL_IO], files[i]);
        if (!t->io_file && access(path, F_OK) == 0)
            t->io_file = files[i];
    }
    if (t->io_file || t->alias[CTRL_IO] != CTRL_IO)
        return;
    fd_closep(&t->dirs[CTRL_IO]);
    (void)rmdir(t->path[CTRL_IO]); /* an earlier agent's dynos, or nobody's */
    free(t->path[CTRL_IO]);
    t->path[CTRL_IO] = NULL;
    t->alias[CTRL_IO] = -1;
}

int cgroup_v1_open(struct cgroup_tree *t, char *const mounts[CTRL_COUNT], const char *parent,
                   struct err *e)
{
    char found[128] = "", missing[128] = "";
    char file[4096];

    if (!mounts[CTRL_MEMORY] || !mounts[CTRL_PIDS])
        return err_say(e, ENOENT,
                       "no cgroup hierarchy has the %s controller: mount it, or boot "
                       "with cgroup v2",
                       mounts[CTRL_MEMORY] ? "pids" : "memory");
    parent = cgroup_own_name(parent);
    for (int i = 0; i < CTRL_COUNT; i++) {
        t->alias[i] = mounts[i] ? find_alias(mounts, i) : -1;
        int r = t->alias[i] == i ? open_level(t, i, mounts[i], parent, e) : 0;
        if (r < 0)
            return r;
    }
    open_io(t);
    for (int i = 0; i < CTRL_COUNT; i++) {
        char *list = t->alias[i] >= 0 ? found : missing;
        size_t len = strlen(list);

        (void)snprintf(list + len, sizeof(found) - len, " %s", controller_name((enum controller)i));
    }
    /* Written to once here, so that the kernel's code for it stays switched on: a start does not
     * pay. */
    (void)snprintf(file, sizeof(file), "%s/memory.kmem.tcp.limit_in_bytes", t->path[CTRL_MEMORY]);
    scoped_fd tcp = open(file, O_WRONLY | O_CLOEXEC);
    if (tcp >= 0 && write(tcp, "-1", 2) < 0)
        return err_set(e, errno, "write %s", file);
    (void)snprintf(file, sizeof(file), "%s/memory.memsw.limit_in_bytes", t->path[CTRL_MEMORY]);
    t->memsw = access(file, F_OK) == 0;
    t->version = CGROUP_V1;
    t->ops = &v1_ops;
    (void)snprintf(t->text, sizeof(t->text), "v1:%s%s%s%s", found, *missing ? "; missing:" : "",
                   missing, t->memsw ? "" : "; swap is not counted");
    return 0;
}
