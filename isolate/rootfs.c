/* rootfs.c - the root template: what every dyno's root has in common, built once, in a mount
 * namespace that has nothing else in it.
 *
 * A dyno's own namespace is a copy of that one. So a start copies some ten mounts however many the
 * host has, there is no old root to pivot away from and detach (which waits for an RCU grace
 * period), and no mount of the host is in a dyno's namespace at any moment. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define ROOT_OPTIONS "mode=755,size=80m,nr_inodes=20k"
#define DEV_OPTIONS  "mode=755,size=64k,nr_inodes=64"
#define ENTRIES_MAX  256 /* of a stack's root, of its /var */

static const struct k_mount_attr stack_attr = {
    .attr_set = K_ATTR_RDONLY | K_ATTR_NOSUID | K_ATTR_NODEV, .propagation = MS_PRIVATE};

/* --- the stack --- */

/* NAME of FROM as NAME of TO: a link stays a link (it will be followed in the dyno's root only), a
 * directory is bound with all that is mounted in it. */
static int bind_entry(int from, int to, const char *name, struct err *e)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "stat the stack's %s", name);
    if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

        if (n < 0)
            return err_set(e, errno, "read the stack's link %s", name);
        target[n] = '\0';
        return symlinkat(target, to, name) < 0 ? err_set(e, errno, "link %s", name) : 0;
    }
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (mkdirat(to, name, 0755) < 0)
        return err_set(e, errno, "make %s", name);
    scoped_fd tree =
        k_open_tree(from, name, K_TREE_CLONE | K_TREE_CLOEXEC | K_RECURSIVE | AT_SYMLINK_NOFOLLOW);
    if (tree < 0)
        return err_set(e, errno, "clone the stack's %s", name);
    if (k_mount_setattr(tree, "", AT_EMPTY_PATH | K_RECURSIVE, &stack_attr) < 0)
        return err_set(e, errno, "make the stack's %s read-only", name);
    return k_move_mount(tree, to, name) < 0 ? err_set(e, errno, "mount the stack's %s", name) : 0;
}

/* What a stack's root may have and a dyno gets from us. */
static bool is_ours(const char *name)
{
    static const char *const ours[] = {"app", "tmp",  "proc", "dev",  "sys",        "run", "etc",
                                       "var", "root", "home", "boot", "lost+found", "old", NULL};

    for (const char *const *o = ours; *o; o++)
        if (!strcmp(*o, name))
            return true;
    return name[0] == '.';
}

static bool is_ours_in_var(const char *name)
{
    return !strcmp(name, "tmp") || !strcmp(name, "run") || !strcmp(name, "lock") || name[0] == '.';
}

static int bind_all(int from, int to, bool (*skip)(const char *), struct err *e)
{
    int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0, n = 0;

    if (fd < 0)
        return err_set(e, errno, "open the stack");
    scoped(dir_closep) DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return err_set(e, ENOMEM, "read the stack");
    }
    for (struct dirent *entry; r == 0 && (entry = readdir(d));) {
        if (skip(entry->d_name))
            continue;
        if (++n > ENTRIES_MAX)
            return err_say(e, E2BIG, "the stack has more than %d entries", ENTRIES_MAX);
        r = bind_entry(from, to, entry->d_name, e);
    }
    return r;
}

static int build_host(int from, int to, struct err *e)
{
    static const char *const names[] = {"usr",   "bin",   "sbin",   "lib",
                                        "lib32", "lib64", "libx32", NULL};
    int r = 0;

    for (const char *const *name = names; r == 0 && *name; name++)
        r = bind_entry(from, to, *name, e);
    return r;
}

static int build_stack(int from, int to, bool host, struct err *e)
{
    int r = host ? build_host(from, to, e) : bind_all(from, to, is_ours, e);

    if (r < 0)
        return r;
    if (mkdirat(to, "var", 0755) < 0)
        return err_set(e, errno, "make /var");
    scoped_fd var = openat(to, "var", O_PATH | O_DIRECTORY | O_CLOEXEC);
    scoped_fd stack_var = host ? -1 : k_open_beneath(from, "var", O_PATH | O_DIRECTORY);
    if (var < 0)
        return err_set(e, errno, "open /var");
    if (stack_var >= 0)
        r = bind_all(stack_var, var, is_ours_in_var, e);
    if (r == 0 && symlinkat("/tmp", var, "tmp") < 0)
        r = err_set(e, errno, "link /var/tmp");
    return r;
}

/* --- /dev --- */

static const struct {
    const char *name;
    unsigned major, minor;
} nodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
             {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

static int bind_node(int dev, const char *name, struct err *e)
{
    static const struct k_mount_attr attr = {.attr_set = K_ATTR_NOSUID | K_ATTR_NOEXEC,
                                             .propagation = MS_PRIVATE};
    char path[32];
    struct stat st;
    scoped_fd file = openat(dev, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);

    if (file < 0)
        return err_set(e, errno, "create /dev/%s", name);
    (void)snprintf(path, sizeof(path), "/dev/%s", name);
    if (stat(path, &st) < 0)
        return err_set(e, errno, "%s", path);
    if (!S_ISCHR(st.st_mode))
        return err_say(e, EINVAL, "%s of the host is no device", path);
    scoped_fd tree = k_open_tree(AT_FDCWD, path, K_TREE_CLONE | K_TREE_CLOEXEC);
    if (tree < 0 || k_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) < 0 ||
        k_move_mount(tree, dev, name) < 0)
        return err_set(e, errno, "bind %s", path);
    return 0;
}

/* A node of our own where that is allowed, else the host's, bound. */
static int make_node(int dev, size_t i, struct err *e)
{
    dev_t number = makedev(nodes[i].major, nodes[i].minor);

    if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, number) < 0)
        return bind_node(dev, nodes[i].name, e);
    if (fchmodat(dev, nodes[i].name, 0666, 0) < 0)
        return err_set(e, errno, "set the mode of /dev/%s", nodes[i].name);
    /* A user namespace's mknod may succeed and give a node that cannot be opened. */
    scoped_fd probe = openat(dev, nodes[i].name, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (probe >= 0 || errno == ENXIO) /* ENXIO: /dev/tty without a terminal */
        return 0;
    if (unlinkat(dev, nodes[i].name, 0) < 0)
        return err_set(e, errno, "remove /dev/%s", nodes[i].name);
    return bind_node(dev, nodes[i].name, e);
}

static int build_dev(int root, struct err *e)
{
    static const char *const links[][2] = {{"/proc/self/fd", "fd"},
                                           {"/proc/self/fd/0", "stdin"},
                                           {"/proc/self/fd/1", "stdout"},
                                           {"/proc/self/fd/2", "stderr"},
                                           {"pts/ptmx", "ptmx"}};
    static const struct k_mount_attr attr = {.attr_set = K_ATTR_RDONLY};
    int r = 0;

    if (mkdirat(root, "dev", 0755) < 0)
        return err_set(e, errno, "make /dev");
    if (mount("dyno-dev", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, DEV_OPTIONS) < 0)
        return err_set(e, errno, "mount /dev");
    scoped_fd dev = openat(root, "dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dev < 0)
        return err_set(e, errno, "open /dev");
    for (size_t i = 0; r == 0 && i < sizeof(nodes) / sizeof(nodes[0]); i++)
        r = make_node(dev, i, e);
    for (size_t i = 0; r == 0 && i < sizeof(links) / sizeof(links[0]); i++)
        if (symlinkat(links[i][0], dev, links[i][1]) < 0)
            r = err_set(e, errno, "link /dev/%s", links[i][1]);
    if (r == 0 && (mkdirat(dev, "pts", 0755) < 0 || mkdirat(dev, "shm", 0755) < 0 ||
                   mkdirat(dev, "mqueue", 0755) < 0))
        r = err_set(e, errno, "make /dev/pts, /dev/shm and /dev/mqueue");
    if (r == 0 && k_mount_setattr(dev, "", AT_EMPTY_PATH, &attr) < 0)
        r = err_set(e, errno, "make /dev read-only");
    return r;
}

/* --- the whole --- */

static int build_etc(const struct sandbox_config *config, int from, int root, bool host,
                     struct err *e)
{
    if (mkdirat(root, "etc", 0755) < 0)
        return err_set(e, errno, "make /etc");
    scoped_fd etc = openat(root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* The host's may be a mount of its own. */
    scoped_fd stack_etc = host
                              ? openat(from, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                              : k_open_beneath(from, "etc", O_RDONLY | O_DIRECTORY);
    if (etc < 0)
        return err_set(e, errno, "open /etc");
    return rootfs_etc(etc, stack_etc, host, config->slug_owner, config->resolv_conf, e);
}

static int build(const struct sandbox_config *config, int from, struct err *e)
{
    static const char *const dirs[] = {"app", "tmp", "proc", "sys", "run", "root", "home", NULL};
    static const struct k_mount_attr attr = {.attr_set = K_ATTR_RDONLY};
    bool host = !strcmp(config->stack, "host");
    scoped_fd root = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        return err_set(e, errno, "open the root template");
    for (const char *const *dir = dirs; *dir; dir++)
        if (mkdirat(root, *dir, 0755) < 0)
            return err_set(e, errno, "make /%s", *dir);
    int r = build_stack(from, root, host, e);
    if (r == 0)
        r = build_etc(config, from, root, host, e);
    if (r == 0)
        r = build_dev(root, e);
    if (r == 0 && k_mount_setattr(root, "", AT_EMPTY_PATH, &attr) < 0)
        r = err_set(e, errno, "make the root template read-only");
    return r;
}

/* In a process of its own. */
static int build_namespace(const struct sandbox_config *config, bool *ret_loop, struct err *e)
{
    char path[PATH_MAX];
    scoped_fd from = -1;

    if (snprintf(path, sizeof(path), "%s/root", config->runtime_dir) >= (int)sizeof(path))
        return err_set(e, ENAMETOOLONG, "%s", config->runtime_dir);
    if (unshare(CLONE_NEWNS) < 0)
        return err_set(e, errno, "make a mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_set(e, errno, "make the mounts private");
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_set(e, errno, "make %s", path);
    int r = rootfs_stack(config, path, &from, ret_loop, e);
    if (r < 0)
        return r;
    if (mount("dyno-root", path, "tmpfs", MS_NOSUID | MS_NODEV, ROOT_OPTIONS) < 0)
        return err_set(e, errno, "mount the root template on %s", path);
    if (chdir(path) < 0)
        return err_set(e, errno, "enter %s", path);
    umask(0);
    r = build(config, from, e);
    if (r < 0)
        return r;
    /* pivot_root(2), "pivot_root(".", ".")": the old root lands on the new one, and goes. */
    if (k_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_set(e, errno, "pivot into the root template");
    return rootfs_has_shell(config, config->slug_owner, e);
}

struct built {
    int r;
    struct err err; /* of R */
    struct rootfs what;
};

_Noreturn static void builder(const struct sandbox_config *config, int out, int hold)
{
    struct built b = {.err = ERR_INIT};
    char c;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    b.r = build_namespace(config, &b.what.loop, &b.err);
    b.what.bash = access("/bin/bash", X_OK) == 0 || access("/usr/bin/bash", X_OK) == 0;
    (void)fd_write_full(out, &b, sizeof(b));
    (void)read(hold, &c, 1); /* until the namespace has been opened */
    _exit(0);
}

static int open_namespace(pid_t pid, int in, int *ret_ns, struct rootfs *ret, struct err *e)
{
    struct built b;
    char path[64];

    if (fd_read_full(in, &b, sizeof(b)) != sizeof(b))
        return err_say(e, ECHILD, "the builder of the root template died");
    if (b.r < 0) {
        *e = b.err;
        return err_wrap(e, "build the root template");
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
    scoped_fd ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0)
        return err_set(e, errno, "open %s", path);
    *ret_ns = TAKE_FD(ns);
    *ret = b.what;
    return 0;
}

int rootfs_build(const struct sandbox_config *config, int *ret_ns, struct rootfs *ret,
                 struct err *e)
{
    int out[2], hold[2];

    if (pipe2(out, O_CLOEXEC) < 0)
        return err_set(e, errno, "pipe");
    scoped_fd out_read = out[0], out_write = out[1];
    if (pipe2(hold, O_CLOEXEC) < 0)
        return err_set(e, errno, "pipe");
    scoped_fd hold_read = hold[0], hold_write = hold[1];
    pid_t pid = fork();
    if (pid < 0)
        return err_set(e, errno, "fork the builder of the root template");
    if (pid == 0) {
        close(hold[1]); /* else it would hold itself */
        builder(config, out[1], hold[0]);
    }
    fd_closep(&out_write);
    fd_closep(&hold_read);
    int r = open_namespace(pid, out_read, ret_ns, ret, e);
    fd_closep(&hold_write);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return r;
}
