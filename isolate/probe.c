/* probe.c - what `dyno doctor` prints about the kernel and the machine. Each look happens in a
 * process of its own, which may change namespaces and mounts and leaves nothing. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/image.h"
#include "isolate/kernel.h"
#include "isolate/net.h"
#include "isolate/landlock.h"
#include "isolate/sandbox_impl.h"
#include "isolate/scratch.h"
#include "isolate/slugimage.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PROBES_MAX 24

static int see_userns(void);

struct probes {
    bool rootless;
    struct probe *all;
    size_t n;
};

static struct probe *add(struct probes *p, const char *name, bool required, bool found)
{
    struct probe *probe = &p->all[p->n++];

    *probe = (struct probe){.name = name, .found = found, .required = required};
    return probe;
}

/* FN's result (0 or -errno) from a child; -EFAULT when it died. A plain user's child first goes
 * where a rootless agent would be. */
static int in_child(bool rootless, int (*fn)(void))
{
    int fds[2], r = -EFAULT;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    scoped_fd in = fds[0], out = fds[1];
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        struct err ignored = ERR_INIT; /* the number says enough */
        int told = rootless && fn != see_userns ? sandbox_enter_rootless(&ignored) : 0;

        if (told == 0)
            told = fn();

        (void)fd_write_full(fds[1], &told, sizeof(told));
        _exit(0);
    }
    fd_closep(&out);
    if (fd_read_full(in, &r, sizeof(r)) != sizeof(r))
        r = -EFAULT;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return r;
}

/* Adds a line for FN; COST: what is lost without it. */
static void look(struct probes *p, const char *name, bool required, int (*fn)(void),
                 const char *have, const char *cost)
{
    int r = in_child(p->rootless, fn);
    struct probe *probe = add(p, name, required, r >= 0);

    if (r >= 0)
        (void)snprintf(probe->detail, sizeof(probe->detail), "%s", have);
    else
        (void)snprintf(probe->detail, sizeof(probe->detail), "%s: %s", strerrordesc_np(-r), cost);
}

/* --- the looks --- */

static int own_mounts(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    return 0;
}

static int see_userns(void)
{
    return unshare(CLONE_NEWUSER) < 0 ? -errno : 0;
}

static int see_mount_api(void)
{
    scoped_fd fs = k_fsopen("tmpfs");

    if (fs < 0 || k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return -errno;
    scoped_fd tree = k_fsmount(fs, K_ATTR_NOSUID);
    struct k_mount_attr attr = {.attr_set = K_ATTR_RDONLY};

    if (tree < 0 || k_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) < 0)
        return -errno;
    return 0;
}

/* Layers on a tmpfs, with the options of a start. */
static int overlay(bool userxattr)
{
    int r = own_mounts();

    if (r < 0)
        return r;
    if (mount("probe", "/tmp", "tmpfs", 0, "size=1m") < 0 || mkdir("/tmp/l", 0755) < 0 ||
        mkdir("/tmp/u", 0755) < 0 || mkdir("/tmp/w", 0755) < 0)
        return -errno;
    scoped_fd fs = k_fsopen("overlay");
    if (fs < 0 || k_fsconfig(fs, K_FSCONFIG_SET_STRING, "lowerdir", "/tmp/l") < 0 ||
        k_fsconfig(fs, K_FSCONFIG_SET_STRING, "upperdir", "/tmp/u") < 0 ||
        k_fsconfig(fs, K_FSCONFIG_SET_STRING, "workdir", "/tmp/w") < 0 ||
        k_fsconfig(fs, K_FSCONFIG_SET_STRING, "uuid", "off") < 0 ||
        k_fsconfig(fs, K_FSCONFIG_SET_FLAG, "volatile", NULL) < 0)
        return -errno;
    if (userxattr ? k_fsconfig(fs, K_FSCONFIG_SET_FLAG, "userxattr", NULL) < 0
                  : k_fsconfig(fs, K_FSCONFIG_SET_STRING, "redirect_dir", "on") < 0)
        return -errno;
    if (k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return -errno;
    scoped_fd tree = k_fsmount(fs, K_ATTR_NOSUID | K_ATTR_NODEV);
    return tree < 0 ? -errno : 0;
}

static int see_overlay(void)
{
    return overlay(false);
}

static int see_user_overlay(void)
{
    return overlay(true);
}

/* Where the agent keeps slugs, by default. */
static int see_idmap(void)
{
    const char *dir = access("/var/lib/dynod", F_OK) == 0 ? "/var/lib/dynod" : "/var/lib";
    struct sandbox s = {.inner = 1000};
    struct err e = ERR_INIT;
    scoped_fd userns = -1;
    int r = own_mounts();

    if (r == 0)
        r = child_stack_new(&s.stack, &e);
    if (r == 0)
        r = sandbox_userns(&s, 200000, 200000, &userns, &e);
    child_stack_free(s.stack);
    if (r < 0)
        return r;
    scoped_fd tree = k_open_tree(AT_FDCWD, dir, K_TREE_CLONE | K_TREE_CLOEXEC);
    struct k_mount_attr attr = {.attr_set = K_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
    if (tree < 0 || k_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) < 0)
        return -errno;
    return 0;
}

/* A kernel that knows the flag looks at the descriptor. */
static int see_into_cgroup(void)
{
    struct clone_args args = {
        .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = INT32_MAX};

    return k_clone3(&args) < 0 && errno != EBADF ? -errno : 0;
}

static int see_namespaces(void)
{
    return unshare(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

static int see_network(void)
{
    struct err ignored = ERR_INIT; /* dynod's start says which part it is */

    return net_probe(&ignored);
}

static int see_seccomp(void)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;

    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

static int see_pidfd(void)
{
    scoped_fd fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    return fd < 0 ? -errno : 0;
}

static int see_openat2(void)
{
    struct {
        uint64_t flags, mode, resolve;
    } how = {.flags = O_PATH | O_CLOEXEC, .resolve = 0x08 /* RESOLVE_BENEATH */};
    scoped_fd fd = (int)syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof(how));

    return fd < 0 ? -errno : 0;
}

static int see_close_range(void)
{
    return k_close_range(~0u, ~0u) < 0 ? -errno : 0;
}

/* --- the list --- */

static int look_at_cgroups(struct probes *p, struct err *e)
{
    scoped(cgroup_tree_freep) struct cgroup_tree *t = NULL;
    struct err ignored = ERR_INIT; /* dynos run in it: it stays */
    int r = cgroup_tree_open("auto", false, &t, e);

    if (r < 0)
        return r;
    bool found = cgroup_tree_version(t) != CGROUP_NONE;
    struct probe *probe = add(p, "cgroups", !p->rootless, found);
    (void)snprintf(probe->detail, sizeof(probe->detail), "%.100s%s", cgroup_tree_text(t),
                   found ? "" : ": no memory, pids or cpu limits");
    if (found)
        (void)cgroup_tree_remove(t, &ignored);
    return 0;
}

/* Where the agent keeps slugs, by default. */
static int look_at_images(struct probes *p, struct err *e)
{
    const char *dir = access("/var/lib/dynod", F_OK) == 0 ? "/var/lib/dynod" : "/var/lib";
    scoped(slugimages_freep) struct slugimages *s = NULL;
    int r = slugimages_open(dir, "", p->rootless, &s, e);

    if (r < 0)
        return r;
    bool found = slugimages_way(s) != SLUGIMAGE_NONE;
    struct probe *probe = add(p, "slugs as images", false, found);
    (void)snprintf(probe->detail, sizeof(probe->detail), "%.120s%s", slugimages_text(s),
                   found ? "" : ": slugs are unpacked into directories, which takes longer");
    return 0;
}

static void look_at_landlock(struct probes *p)
{
    int abi = landlock_abi();
    struct probe *probe = add(p, "landlock", false, abi > 0);

    (void)snprintf(probe->detail, sizeof(probe->detail), "ABI %d: %s", abi, landlock_text(abi));
}

/* Where the agent keeps scratches, by default. */
static void look_at_disk(struct probes *p)
{
    const char *dir =
        access("/var/lib/dynod/scratch", F_OK) == 0 ? "/var/lib/dynod/scratch" : "/var/lib";
    enum scratch_way way;
    char text[300];

    scratch_probe(dir, p->rootless, &way, text, sizeof(text));
    struct probe *probe = add(p, "disk quotas", false, way != SCRATCH_PLAIN);
    (void)snprintf(probe->detail, sizeof(probe->detail), "%.*s", (int)sizeof(probe->detail) - 1,
                   text);
}

/* For [sandbox] stack = an image. */
static void look_at_stacks(struct probes *p)
{
    bool squashfs = image_type_known("squashfs") == 0, erofs = image_type_known("erofs") == 0;
    bool loop = access("/dev/loop-control", F_OK) == 0;
    struct probe *probe =
        add(p, "stacks as images", false, !p->rootless && loop && (squashfs || erofs));

    if (p->rootless)
        (void)snprintf(probe->detail, sizeof(probe->detail),
                       "only root may: a stack is a directory here");
    else if (!loop)
        (void)snprintf(probe->detail, sizeof(probe->detail),
                       "no loop devices (modprobe loop): a stack is a directory here%s",
                       erofs ? ", or an EROFS image if it can be mounted from its file" : "");
    else
        (void)snprintf(probe->detail, sizeof(probe->detail), "%s%s%s",
                       squashfs ? "squashfs" : "no squashfs (modprobe squashfs)",
                       erofs ? ", EROFS" : ", no EROFS (modprobe erofs)",
                       squashfs || erofs ? "" : ": a stack is a directory here");
}

static int look_at_all(struct probes *p, struct err *e)
{
    bool root = !p->rootless;

    look(p, "namespaces", true, see_namespaces, "pid, ipc, uts, cgroup", "no dyno can start");
    look(p, "user namespaces", true, see_userns, "yes",
         "no dyno can start: see sysctl user.max_user_namespaces");
    look(p, "new mount API", true, see_mount_api, "fsopen, fsmount, mount_setattr",
         "no dyno can start: Linux 5.12 or later is needed");
    if (root)
        look(p, "overlay", true, see_overlay, "with redirect_dir, volatile",
             "no dyno can start: the overlay module is missing");
    else
        look(p, "overlay in a user namespace", true, see_user_overlay, "userxattr, volatile",
             "no dyno can start: Linux 5.11 or later is needed");
    if (root)
        look(p, "idmapped mounts", true, see_idmap, "on the filesystem of /var/lib",
             "no slug can be mounted: keep the cache on ext4, xfs or btrfs");
    look(p, "clone3 into a cgroup", false, see_into_cgroup, "yes",
         "with cgroup v2 no dyno can start: Linux 5.7 or later is needed");
    if (root)
        look(p, "private network", false, see_network, "veth, nftables, forwarding",
             "needs veth and nf_tables (inet, nat, masq, ct, connlimit, fib, reject), else "
             "network = host: dynos share the host's");
    look(p, "seccomp", true, see_seccomp, "filters, kill process", "no dyno can start");
    look_at_landlock(p);
    look(p, "pidfd", true, see_pidfd, "yes", "no dyno can start: Linux 5.3 or later is needed");
    look(p, "openat2", true, see_openat2, "yes", "slugs cannot be opened safely: Linux 5.6");
    look(p, "close_range", true, see_close_range, "yes", "no dyno can start: Linux 5.9");
    look_at_stacks(p);
    int r = look_at_images(p, e);
    if (r == 0)
        look_at_disk(p);
    return r < 0 ? r : look_at_cgroups(p, e);
}

int sandbox_probe(bool rootless, struct probe **ret, size_t *ret_n, struct err *e)
{
    scoped_free struct probe *all = calloc(PROBES_MAX, sizeof(*all));
    struct probes p = {.rootless = rootless, .all = all};

    if (!all)
        return err_set(e, ENOMEM, "probe the kernel");
    int r = look_at_all(&p, e);
    if (r < 0)
        return r;
    *ret_n = p.n;
    *ret = TAKE_PTR(all);
    return 0;
}
