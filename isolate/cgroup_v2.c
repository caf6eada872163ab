/* cgroup_v2.c - the unified hierarchy. Kernel: Documentation/admin-guide/cgroup-v2.rst.
 *
 * memory.max bounds memory and memory.swap.max bounds swap, separately: their sum stays within
 * memory_max because the swap of a dyno is 0. One OOM kill takes the whole dyno (memory.oom.group):
 * half of an app is worse than none. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define WEIGHT_DEFAULT 100u /* cpu.weight of one share, 1024 shares */
#define WEIGHT_MAX     10000u
#define SHARES_ONE     1024u
#define PATH_TEXT_MAX  4096
#define PATH_SHOWN_MAX 200

static int set_or_max(const struct cgroup *c, const char *file, uint64_t value, struct err *e)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return cg_set(c, CTRL_MEMORY, file, value ? text : "max", e);
}

/* Files that a kernel may be built without, where that costs nothing that we promised. */
static int set_if_there(const struct cgroup *c, const char *file, const char *text, struct err *e)
{
    int r = cg_put(c, CTRL_MEMORY, file, text);

    return r < 0 && r != -ENOENT ? err_set(e, -r, "cgroup %s: set %s to %s", c->id, file, text) : 0;
}

static int set_cpu(const struct cgroup *c, const struct limits *limits, struct err *e)
{
    uint64_t weight = limits->cpu_shares
                          ? (uint64_t)limits->cpu_shares * WEIGHT_DEFAULT / SHARES_ONE
                          : WEIGHT_DEFAULT;
    char text[64];

    if (c->tree->alias[CTRL_CPU] < 0)
        return 0;
    weight = weight < 1 ? 1 : weight > WEIGHT_MAX ? WEIGHT_MAX : weight;
    (void)snprintf(text, sizeof(text), "%" PRIu64, weight);
    int r = cg_set(c, CTRL_CPU, "cpu.weight", text, e);
    if (r < 0)
        return r;
    if (limits->cpu_percent == 0)
        return set_if_there(c, "cpu.max", "max", e);
    (void)snprintf(text, sizeof(text), "%" PRIu64 " %u",
                   (uint64_t)limits->cpu_percent * CGROUP_CPU_PERIOD_USEC / 100,
                   CGROUP_CPU_PERIOD_USEC);
    return cg_set(c, CTRL_CPU, "cpu.max", text, e);
}

static int v2_set_limits(struct cgroup *c, const struct limits *limits, struct err *e)
{
    int r = set_or_max(c, "memory.max", limits->memory_max, e);

    c->quota = limits->memory_quota;
    if (r == 0)
        r = set_if_there(c, "memory.swap.max", limits->memory_max ? "0" : "max", e);
    if (r == 0)
        r = set_if_there(c, "memory.oom.group", "1", e);
    if (r == 0)
        r = set_or_max(c, "pids.max", limits->pids, e);
    return r < 0 ? r : set_cpu(c, limits, e);
}

/* A change of memory.events is a file modified event. */
static int v2_watch(struct cgroup *c, struct err *e)
{
    char path[PATH_TEXT_MAX];

    if (c->oom_fd >= 0)
        return 0;
    scoped_fd fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0)
        return err_set(e, errno, "inotify");
    if (snprintf(path, sizeof(path), "%s/%s/memory.events", c->tree->path[CTRL_MEMORY], c->id) >=
        (int)sizeof(path))
        return err_set(e, ENAMETOOLONG, "cgroup %s", c->id);
    if (inotify_add_watch(fd, path, IN_MODIFY) < 0)
        return err_set(e, errno, "watch %s", path);
    c->oom_fd = TAKE_FD(fd);
    return 0;
}

/* Before Linux 5.18 there is no sum of it. */
static uint64_t v2_kernel(const char *stat)
{
    uint64_t sum = cg_field(stat, "kernel");

    if (!sum)
        sum = cg_field(stat, "kernel_stack") + cg_field(stat, "pagetables") +
              cg_field(stat, "percpu") + cg_field(stat, "slab");
    return sum + cg_field(stat, "sock");
}

static int v2_usage(struct cgroup *c, struct cgroup_usage *ret, struct err *e)
{
    char stat[CGROUP_TEXT_MAX], cpu[1024] = "", events[512] = "";
    ssize_t n = cg_get(c, CTRL_MEMORY, "memory.stat", stat, sizeof(stat));

    if (n < 0)
        return err_set(e, (int)-n, "cgroup %s: read memory.stat", c->id);
    (void)cg_get(c, CTRL_CPU, "cpu.stat", cpu, sizeof(cpu)); /* absent: 0 */
    (void)cg_get(c, CTRL_MEMORY, "memory.events", events, sizeof(events));
    struct cgroup_usage u = {
        .memory_rss = cg_field(stat, "anon"),
        .memory_cache = cg_field(stat, "file"),
        .memory_swap = cg_get_u64(c, CTRL_MEMORY, "memory.swap.current", 0),
        .memory_kernel = v2_kernel(stat),
        .pgpgin = cg_field(stat, "pgpgin"), /* only of kernels that count it here */
        .pgpgout = cg_field(stat, "pgpgout"),
        .cpu_usec = cg_field(cpu, "usage_usec"),
        .pids = cg_get_u64(c, CTRL_PIDS, "pids.current", 0),
        .oom_kills = cg_field(events, "oom_kill"),
        /* Its own limit counts there; the machine's OOM, and one of a level above, does not. */
        .oom_own = cg_field(events, "oom_kill") > 0 && cg_field(events, "oom") > 0,
    };
    u.memory = u.memory_rss + u.memory_cache + u.memory_swap;
    *ret = u;
    return 0;
}

static bool v2_populated(struct cgroup *c)
{
    char text[256] = "";
    ssize_t n = cg_get(c, CTRL_MEMORY, "cgroup.events", text, sizeof(text));

    return cg_unseen(n) || (n > 0 && cg_field(text, "populated") > 0);
}

static int v2_kill(struct cgroup *c, struct err *e)
{
    return cg_set(c, CTRL_MEMORY, "cgroup.kill", "1", e);
}

static int v2_freeze(struct cgroup *c, bool on, struct err *e)
{
    return cg_set(c, CTRL_FREEZER, "cgroup.freeze", on ? "1" : "0", e);
}

static bool v2_frozen(struct cgroup *c)
{
    return cg_get_u64(c, CTRL_FREEZER, "cgroup.freeze", 0) != 0;
}

/* --- opening --- */

/* DIR/FILE; a path too long for the kernel becomes one that does not exist. */
static const char *path_join(char out[PATH_TEXT_MAX], const char *dir, const char *file)
{
    if (snprintf(out, PATH_TEXT_MAX, "%s%s", dir, file) >= PATH_TEXT_MAX)
        out[0] = '\0';
    return out;
}

static const struct cgroup_ops v2_ops = {
    .set_limits = v2_set_limits,
    .watch = v2_watch,
    .usage = v2_usage,
    .populated = v2_populated,
    .kill = v2_kill,
    .freeze = v2_freeze,
    .frozen = v2_frozen,
};

/* The path after "0::" in /proc/self/cgroup. */
static int own_path(const char *self_cgroup, char *out, size_t cap, struct err *e)
{
    scoped_free char *text = NULL;
    size_t len;
    int r = file_read(AT_FDCWD, self_cgroup, CGROUP_TEXT_MAX, &text, &len, e);

    if (r < 0)
        return r;
    for (char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!str_starts(line, "0::/"))
            continue;
        size_t n = strcspn(line + 3, "\n");
        if (n >= cap)
            break;
        memcpy(out, line + 3, n);
        out[n] = '\0';
        return 0;
    }
    return err_say(e, ENOENT, "%s has no line of the unified hierarchy", self_cgroup);
}

/* systemd marks what it delegates (systemd.resource-control(5), "Delegate="); without a mark, a
 * user who may write there was given it. */
static bool is_delegated(const char *dir)
{
    char value[8], file[PATH_TEXT_MAX];

    if (getxattr(dir, "trusted.delegate", value, sizeof(value)) == 1 ||
        getxattr(dir, "user.delegate", value, sizeof(value)) == 1)
        return value[0] == '1';
    (void)path_join(file, dir, "/cgroup.subtree_control");
    return geteuid() != 0 && access(file, W_OK) == 0;
}

/* "+memory +pids +cpu +io" at DIR; what is missing afterwards shows in the children. */
static void enable_controllers(const char *dir)
{
    static const char *const each[] = {"+memory", "+pids", "+cpu", "+io"};
    char file[PATH_TEXT_MAX];

    (void)path_join(file, dir, "/cgroup.subtree_control");
    scoped_fd fd = open(file, O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; fd >= 0 && i < sizeof(each) / sizeof(each[0]); i++)
        (void)write(fd, each[i], strlen(each[i]));
}

/* No process may stay in a cgroup that hands controllers down ("no internal processes"): those that
 * are in DIR itself move into the leaf NAME. */
static int move_aside(const char *dir, const char *name, struct err *e)
{
    char leaf[PATH_TEXT_MAX], from[PATH_TEXT_MAX], to[PATH_TEXT_MAX];

    (void)path_join(leaf, dir, name);
    (void)path_join(from, dir, "/cgroup.procs");
    (void)path_join(to, leaf, "/cgroup.procs");
    if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
        return err_set(e, errno, "make the cgroup %s", leaf);
    scoped(file_closep) FILE *f = fopen(from, "re");
    if (!f)
        return err_set(e, errno, "open %s", from);
    for (int pid; fscanf(f, "%d", &pid) == 1;) {
        char text[16];
        scoped_fd fd = open(to, O_WRONLY | O_CLOEXEC);

        (void)snprintf(text, sizeof(text), "%d", pid);
        if (fd < 0 || (write(fd, text, strlen(text)) < 0 && errno != ESRCH))
            return err_set(e, errno, "move process %d to %s", pid, leaf);
    }
    return 0;
}

/* Where the tree goes. */
struct place {
    char path[PATH_TEXT_MAX]; /* below the mount */
    size_t given;             /* so much of PATH is the service manager's: it alone writes there */
};

static int place_set(struct place *p, const char *given, const char *own, struct err *e)
{
    int n = snprintf(p->path, sizeof(p->path), "%s%s", given, own);

    if (n >= (int)sizeof(p->path))
        return err_set(e, ENAMETOOLONG, "cgroup %s", given);
    p->given = strlen(given);
    return 0;
}

/* The unit that dynos live in is the agent's own with "-dynos" to its name, in the same slice:
 * /dynod.slice/dynod.service has /dynod.slice/dynod-dynos.service. Not the agent's own unit: the
 * service manager puts an agent that it starts into its unit's cgroup, where none may be while
 * dynos below have controllers ("no internal processes"). */
static bool dynos_unit(const char *own, char out[PATH_TEXT_MAX])
{
    const char *name = strrchr(own, '/');
    size_t len = strlen(own);

    if (!name || len <= strlen(".service") ||
        strcmp(own + len - strlen(".service"), ".service") != 0)
        return false;
    size_t stem = (size_t)(name - own) + strcspn(name, "@");
    if (own[stem] == '\0')
        stem = len - strlen(".service");
    return snprintf(out, PATH_TEXT_MAX, "%.*s-dynos%s", (int)stem, own, own + stem) < PATH_TEXT_MAX;
}

static bool cut_end(char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);

    if (len < n || strcmp(text + len - n, end) != 0)
        return false;
    text[len - n] = '\0';
    return true;
}

static int choose_place(struct cgroup_tree *t, const char *mount, const char *self_cgroup,
                        const char *parent, struct place *ret, struct err *e)
{
    char own[PATH_TEXT_MAX / 2], unit[PATH_TEXT_MAX], dir[PATH_TEXT_MAX];

    if (!str_starts(parent, "auto"))
        return place_set(ret, "", parent, e);
    int r = own_path(self_cgroup, own, sizeof(own), e);
    if (r < 0)
        return r;
    bool aside = cut_end(own, "/agent"); /* before, by us or the service manager */
    if (dynos_unit(own, unit) && is_delegated(path_join(dir, mount, unit))) {
        t->given = true;
        r = place_set(ret, unit, "", e);
        /* What keeps the unit; a name that no dyno can have. */
        return r < 0 ? r : move_aside(dir, "/.keeper", e);
    }
    if (own[0] != '\0' && own[1] != '\0' && is_delegated(path_join(dir, mount, own))) {
        t->own_unit = !aside;
        r = place_set(ret, own, "/dynos", e);
        return r < 0 ? r : move_aside(dir, "/agent", e);
    }
    return place_set(ret, "", cgroup_own_name(parent), e);
}

/* Makes what is ours of the place below MOUNT level by level, each handing the controllers on. */
static int make_levels(const char *mount, const struct place *p, struct err *e)
{
    char dir[PATH_TEXT_MAX];
    const char *at = p->path + p->given;

    for (bool last = false; !last;) {
        last = *at == '\0';
        if (snprintf(dir, sizeof(dir), "%s%.*s", mount, (int)(at - p->path), p->path) >=
            (int)sizeof(dir))
            return err_set(e, ENAMETOOLONG, "cgroup %s", p->path);
        if (at > p->path + p->given && mkdir(dir, 0755) < 0 && errno != EEXIST)
            return err_set(e, errno, "make the cgroup %s", dir);
        enable_controllers(dir);
        at += last ? 0 : 1 + strcspn(at + 1, "/");
    }
    return 0;
}

static bool has_controller(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = list; *at; at += strspn(at, " \n")) {
        size_t n = strcspn(at, " \n");

        if (n == len && !strncmp(at, name, len))
            return true;
        at += n;
    }
    return false;
}

/* io.weight is there with blk-iocost (which a device has to be given to) and with BFQ. */
static void find_io_file(struct cgroup_tree *t, const char *dir)
{
    static const char *const files[] = {"io.weight", "io.bfq.weight"};
    char path[PATH_TEXT_MAX];

    for (size_t i = 0; t->alias[CTRL_IO] >= 0 && !t->io_file && i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%.*s/%s", PATH_TEXT_MAX - 32, dir, files[i]);
        if (access(path, F_OK) == 0)
            t->io_file = files[i];
    }
}

/* What a dyno's cgroup will have is what DIR, which is PATH below the mount, hands on. */
static int check_controllers(struct cgroup_tree *t, const char *dir, const char *path,
                             struct err *e)
{
    scoped_free char *text = NULL;
    char file[PATH_TEXT_MAX];
    size_t len;

    (void)path_join(file, dir, "/cgroup.subtree_control");
    int r = file_read(AT_FDCWD, file, CGROUP_TEXT_MAX, &text, &len, e);
    if (r < 0)
        return r;
    bool memory = has_controller(text, "memory"), pids = has_controller(text, "pids");
    bool cpu = has_controller(text, "cpu"), io = has_controller(text, "io");
    if (!memory || !pids || !cpu) {
        (void)err_say(e, ENOENT,
                      "%s does not get the%s%s%s controller (it has: %.*s): in the unit that "
                      "delegates it set Delegate=cpu io memory pids, or Delegate=yes",
                      dir, memory ? "" : " memory", pids ? "" : " pids", cpu ? "" : " cpu",
                      (int)strcspn(text, "\n"), text);
        return err_blame(e, FAULT_OPERATOR);
    }
    t->alias[CTRL_MEMORY] = t->alias[CTRL_PIDS] = t->alias[CTRL_FREEZER] = CTRL_MEMORY;
    t->alias[CTRL_CPU] = t->alias[CTRL_CPUACCT] = CTRL_MEMORY;
    t->alias[CTRL_IO] = io ? CTRL_MEMORY : -1;
    find_io_file(t, dir);
    (void)snprintf(t->text, sizeof(t->text), "v2: memory pids cpu%s, in %.*s%s",
                   t->io_file ? " io" : "; missing: io weights", PATH_SHOWN_MAX, path,
                   t->own_unit ? ", the agent's own unit, which cannot be started again while "
                                 "dynos run: there is no UNIT-dynos.service beside it"
                               : "");
    return 0;
}

int cgroup_v2_open(struct cgroup_tree *t, const char *mount, const char *self_cgroup,
                   const char *parent, struct err *e)
{
    struct place place;
    int r = choose_place(t, mount, self_cgroup, parent, &place, e);

    if (r == 0)
        r = make_levels(mount, &place, e);
    if (r < 0)
        return r;
    if (asprintf(&t->path[CTRL_MEMORY], "%s%s", mount, place.path) < 0) {
        t->path[CTRL_MEMORY] = NULL;
        return err_set(e, ENOMEM, "open the cgroup tree");
    }
    r = check_controllers(t, t->path[CTRL_MEMORY], place.path, e);
    if (r < 0)
        return r;
    t->dirs[CTRL_MEMORY] = open(t->path[CTRL_MEMORY], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (t->dirs[CTRL_MEMORY] < 0)
        return err_set(e, errno, "open the cgroup %s", t->path[CTRL_MEMORY]);
    t->version = CGROUP_V2;
    t->ops = &v2_ops;
    return 0;
}
