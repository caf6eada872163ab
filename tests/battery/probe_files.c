/* probe_files.c - mounts, paths, devices, /proc. */
#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_LEAKED 10 /* below are dyno-init's own, and this probe's pipe */

/* --- descriptors ----------------------------------------------------------------------------- */

static int leaked_fd(void)
{
    struct stat st;
    /* Of a command no more than 0, 1, 2 may be open; 3 and 4 are this probe's pipe. */
    int first = getpid() != 1 && getppid() != 1 ? 5 : FIRST_LEAKED;

    for (int fd = first; fd < 1024; fd++)
        if (fstat(fd, &st) == 0)
            return fd;
    return -1;
}

static int fds(void)
{
    return leaked_fd() < 0 ? EBADF : 0;
}

/* A directory's descriptor leads out of any root. */
static int fd_escape(void)
{
    int dir = leaked_fd();

    return dir < 0 ? EBADF : result(openat(dir, "canary", O_RDONLY));
}

static int working_directory(void)
{
    char at[4096];

    if (!getcwd(at, sizeof(at)))
        return errno;
    return strcmp(at, "/app") ? 0 : STOPPED;
}

/* --- the root -------------------------------------------------------------------------------- */

static int canary_file(void)
{
    return result(open(told("canary"), O_RDONLY));
}

static int canary_dotdot(void)
{
    char path[8192] = "";

    for (int i = 0; i < 60; i++)
        strcat(path, "../");
    strcat(path, told("canary"));
    return result(open(path, O_RDONLY));
}

static int canary_socket(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(to.sun_path, sizeof(to.sun_path), "%s", told("socket"));
    return result(connect(fd, (struct sockaddr *)&to, sizeof(to)));
}

static int change_root(void)
{
    return result(chroot("/tmp"));
}

/* The oldest of escapes: a root below the working directory holds nobody. */
static int chroot_escape(void)
{
    mkdir("/tmp/jail", 0755);
    if (chroot("/tmp/jail") < 0)
        return errno;
    for (int i = 0; i < 60; i++)
        if (chdir("..") < 0)
            return errno;
    if (chroot(".") < 0)
        return errno;
    return canary_file();
}

static int by_handle(void)
{
    struct {
        struct file_handle head;
        unsigned char data[128];
    } h = {.head = {.handle_type = (int)told_number("handle-type")}};
    const char *hex = told("handle");
    char text[16] = "";

    for (; hex[0] && hex[1]; hex += 2)
        h.data[h.head.handle_bytes++] =
            (unsigned char)strtol((char[]){hex[0], hex[1], 0}, NULL, 16);
    int at = open("/tmp", O_RDONLY | O_DIRECTORY); /* the same filesystem as the canary's */
    int fd = open_by_handle_at(at, &h.head, O_RDONLY);
    if (fd < 0)
        return errno;
    if (read(fd, text, 6) < 0)
        return errno;
    return strcmp(text, "canary") ? STOPPED : 0;
}

static int name_to_handle(void)
{
    struct {
        struct file_handle head;
        unsigned char data[128];
    } h = {.head = {.handle_bytes = 128}};
    int id;

    return result(name_to_handle_at(AT_FDCWD, "/tmp", &h.head, &id, 0));
}

/* --- mounts ---------------------------------------------------------------------------------- */

static int mount_tmpfs(void)
{
    return result(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int mount_proc(void)
{
    return result(mount("none", "/tmp", "proc", 0, NULL));
}

static int bind_mount(void)
{
    return result(mount("/usr", "/tmp", NULL, MS_BIND, NULL));
}

static int unmount(void)
{
    return result(umount2("/dev/shm", MNT_DETACH));
}

static int remount(void)
{
    return result(mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
}

static int make_shared(void)
{
    return result(mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL));
}

static int move(void)
{
    return result(mount("/dev/shm", "/tmp", NULL, MS_MOVE, NULL));
}

static int fs_open(void)
{
    return result(syscall(SYS_fsopen, "tmpfs", 0));
}

static int tree_open(void)
{
    return result(syscall(SYS_open_tree, AT_FDCWD, "/tmp", 1));
}

static int set_attributes(void)
{
    uint64_t attr[4] = {0, 1 /* clear read-only */, 0, 0};

    return result(syscall(SYS_mount_setattr, AT_FDCWD, "/usr", 0, attr, sizeof(attr)));
}

static int pivot(void)
{
    int r = result(syscall(SYS_pivot_root, "/tmp", "/tmp"));

    return r == EBUSY || r == EINVAL ? 0 : r; /* as far as that one has to be allowed to come */
}

/* --- what is written where it may not be ----------------------------------------------------- */

static int can_write(const char *path)
{
    return result(open(path, O_WRONLY));
}

static int write_stack(void)
{
    return can_write("/usr/lib/os-release");
}

static int write_etc(void)
{
    return result(open("/etc/probe", O_WRONLY | O_CREAT, 0600));
}

static int write_run(void)
{
    return result(mkdir("/run/probe", 0700));
}

static int core_pattern(void)
{
    return can_write("/proc/sys/kernel/core_pattern");
}

static int sysrq(void)
{
    return can_write("/proc/sysrq-trigger");
}

static int modprobe(void)
{
    return can_write("/proc/sys/kernel/modprobe");
}

static int last_pid(void)
{
    return can_write("/proc/sys/kernel/ns_last_pid");
}

static int uevent_helper(void)
{
    return can_write("/sys/kernel/uevent_helper");
}

/* Any file of DIR, and below, but what is about one process. */
static int walk(int dir, int depth)
{
    DIR *d = fdopendir(dir);
    int found = EACCES;

    if (!d)
        return EACCES;
    for (struct dirent *e; found && (e = readdir(d));) {
        if (e->d_name[0] == '.' ||
            (depth == 0 && (e->d_name[0] <= '9' || strstr(e->d_name, "self"))))
            continue;
        if (e->d_type == DT_DIR) {
            int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

            if (sub >= 0)
                found = walk(sub, depth + 1);
        } else if (e->d_type == DT_REG && strcmp(e->d_name, "kmsg")) {
            int fd = openat(dirfd(d), e->d_name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);

            struct stat st; /* what is masked is /dev/null */

            if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
                close(fd);
            } else if (fd >= 0) {
                close(fd);
                fprintf(stderr, "writable: %s\n", e->d_name);
                found = 0;
            }
        }
    }
    closedir(d);
    return found;
}

static int writable_proc(void)
{
    return walk(open("/proc", O_RDONLY | O_DIRECTORY), 0);
}

static int reads(const char *path)
{
    char c;
    int fd = open(path, O_RDONLY | O_NONBLOCK);

    if (fd < 0)
        return errno;
    ssize_t n = read(fd, &c, 1);
    return n < 0 && errno != EAGAIN ? errno : n == 0 ? STOPPED : 0;
}

static int read_kcore(void)
{
    return reads("/proc/kcore");
}

static int read_kmsg(void)
{
    return reads("/proc/kmsg");
}

static int read_keys(void)
{
    return reads("/proc/keys");
}

static int read_timer_list(void)
{
    return reads("/proc/timer_list");
}

static int read_sys(void)
{
    return result(open("/sys/kernel", O_RDONLY | O_DIRECTORY));
}

static int cgroup_file(void)
{
    static const char *const files[] = {
        "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/memory/notify_on_release", "/sys/fs/cgroup/cgroup.subtree_control"};
    int r = ENOENT;

    for (size_t i = 0; r && i < sizeof(files) / sizeof(files[0]); i++)
        r = can_write(files[i]);
    return r;
}

/* Where the dyno is in the machine's tree of cgroups. */
static int cgroup_path(void)
{
    char line[4096];
    FILE *f = fopen("/proc/self/cgroup", "r");
    int r = STOPPED;

    while (f && fgets(line, sizeof(line), f)) {
        const char *path = strrchr(line, ':');

        if (strstr(line, "dynod-test") || (path && strcmp(path, ":/\n") && strstr(path, "web.1")))
            r = 0;
    }
    return r;
}

/* --- devices --------------------------------------------------------------------------------- */

static int make_device(void)
{
    return result(mknod("/tmp/device", S_IFCHR | 0666, makedev(1, 5)));
}

static int use_device(void)
{
    if (mknod("/tmp/device2", S_IFCHR | 0666, makedev(1, 5)) < 0)
        return errno;
    return result(open("/tmp/device2", O_RDONLY));
}

/* Asks for a password: stays until we have seen who it is. */
static int setuid_program(void)
{
    int in[2], r = STOPPED;
    char path[64], line[256];

    if (pipe(in) < 0)
        return errno;
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {(char *)"su", (char *)"-c", (char *)"true", NULL}, *envp[] = {NULL};

        dup2(in[0], 0);
        dup2(open("/dev/null", O_WRONLY), 2);
        close(in[1]);
        execve("/bin/su", argv, envp);
        _exit(1);
    }
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    for (int i = 0; i < 100 && r; i++) {
        FILE *f = fopen(path, "r");
        unsigned real, effective;

        while (f && fgets(line, sizeof(line), f))
            if (sscanf(line, "Uid: %u %u", &real, &effective) == 2 && effective == 0 && real != 0)
                r = 0;
        if (f)
            fclose(f);
        usleep(2000);
    }
    kill(pid, SIGKILL);
    close(in[1]);
    waitpid(pid, NULL, 0);
    return r;
}

const struct attack file_probes[] = {
    {"fds", fds},
    {"fd-escape", fd_escape},
    {"working-directory", working_directory},
    {"canary-file", canary_file},
    {"canary-dotdot", canary_dotdot},
    {"canary-socket", canary_socket},
    {"chroot", change_root},
    {"chroot-escape", chroot_escape},
    {"by-handle", by_handle},
    {"name-to-handle", name_to_handle},
    {"mount", mount_tmpfs},
    {"mount-proc", mount_proc},
    {"bind", bind_mount},
    {"umount", unmount},
    {"remount", remount},
    {"make-shared", make_shared},
    {"move-mount", move},
    {"fsopen", fs_open},
    {"open-tree", tree_open},
    {"mount-setattr", set_attributes},
    {"pivot-root", pivot},
    {"write-stack", write_stack},
    {"write-etc", write_etc},
    {"write-run", write_run},
    {"core-pattern", core_pattern},
    {"sysrq", sysrq},
    {"modprobe", modprobe},
    {"last-pid", last_pid},
    {"uevent-helper", uevent_helper},
    {"writable-proc", writable_proc},
    {"kcore", read_kcore},
    {"kmsg", read_kmsg},
    {"keys", read_keys},
    {"timer-list", read_timer_list},
    {"sys", read_sys},
    {"cgroup-file", cgroup_file},
    {"cgroup-path", cgroup_path},
    {"make-device", make_device},
    {"use-device", use_device},
    {"setuid-program", setuid_program},
    {0},
};
