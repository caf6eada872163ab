/* userns.c - user namespaces with one id in them. user_namespaces(7) */
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/clonevm.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <assert.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int put(const char *dir, const char *file, const char *text, struct err *e)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, file);
    scoped_fd fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno, "open %s", path);
    if (write(fd, text, strlen(text)) < 0)
        return err_set(e, errno, "write %s to %s", text, path);
    return 0;
}

int userns_write_map(const char *dir, uid_t inner, uid_t uid, gid_t gid, struct err *e)
{
    char line[64];
    /* First: without it an unprivileged group map is refused (user_namespaces(7), CVE-2014-8989).
     */
    int r = put(dir, "setgroups", "deny", e);

    (void)snprintf(line, sizeof(line), "%u %u 1", inner, uid);
    if (r == 0)
        r = put(dir, "uid_map", line, e);
    (void)snprintf(line, sizeof(line), "%u %u 1", inner, gid);
    if (r == 0)
        r = put(dir, "gid_map", line, e);
    return r;
}

/* The child: is there until the parent has opened its namespace, or died. It runs beside the parent
 * and shares its memory, so it does nothing but these calls. */
static void hold_namespace(void *arg)
{
    const int *hold = arg;
    char c;

    (void)syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)syscall(SYS_close, hold[1]);
    (void)syscall(SYS_read, hold[0], &c, 1);
    (void)syscall(SYS_exit_group, 0);
    __builtin_unreachable();
}

/* Makes this process, which is root, look like UID to the clone that follows, with its
 * capabilities; or root again. Raw: libc would look for threads. Nothing runs meanwhile that could
 * be misled: a dyno with this uid may not signal or trace us, our real and saved uids are root's.
 */
static int set_effective(uid_t uid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_setresuid, -1, uid, -1) < 0 || syscall(SYS_capget, &head, caps) < 0)
        return -errno;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        caps[i].effective = caps[i].permitted;
    return syscall(SYS_capset, &head, caps) < 0 ? -errno : 0;
}

static pid_t clone_holder(const struct sandbox *s, struct clone_args *args, int hold[2])
{
#ifndef __SANITIZE_ADDRESS__
    args->flags |= CLONE_VM;
    args->stack = (uint64_t)(uintptr_t)s->stack;
    args->stack_size = CHILD_STACK;
    return clone_vm(args, hold_namespace, hold);
#else
    pid_t pid = k_clone3(args);
    (void)s;
    if (pid == 0)
        hold_namespace(hold);
    return pid;
#endif
}

int sandbox_userns(const struct sandbox *s, uid_t uid, gid_t gid, int *ret_fd, struct err *e)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    int hold[2];
    char path[64];

    if (s->rootless || uid == 0 || gid == 0)
        return err_say(e, EINVAL, "a dyno's user namespace is made by root, for an ordinary user");
    if (pipe2(hold, O_CLOEXEC) < 0)
        return err_set(e, errno, "pipe");
    scoped_fd hold_read = hold[0], hold_write = hold[1];
    /* The namespace's owner is who pays, beside its users, for what they use up of the kernel:
     * inotify, locked memory, message queues, pending signals. Were it root, all dynos together
     * would have what one user may have, and root the same: user_namespaces(7), ucounts. */
    int r = set_effective(uid);
    pid_t pid = r < 0 ? r : clone_holder(s, &args, hold);
    int errnum = r < 0 ? -r : errno;
    r = set_effective(0);
    assert(r == 0); /* who could become another can come back; to go on as that is no way out */
    fd_closep(&hold_read); /* the child has its own */
    if (pid < 0)
        return err_set(e, errnum, "make a user namespace");
    (void)snprintf(path, sizeof(path), "/proc/%d", pid);
    r = userns_write_map(path, s->inner, uid, gid, e);
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    scoped_fd ns = r < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (r == 0 && ns < 0)
        r = err_set(e, errno, "open %s", path);
    fd_closep(&hold_write);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (r == 0)
        *ret_fd = TAKE_FD(ns);
    return r;
}

/* --- the rootless agent's own --- */

static uint64_t sysctl_number(const char *path, uint64_t def)
{
    struct err ignored = ERR_INIT; /* not there: this kernel has no such switch */
    scoped_free char *text = NULL;
    uint64_t value;
    size_t len;

    if (file_read(AT_FDCWD, path, 64, &text, &len, &ignored) < 0)
        return def;
    text[strcspn(text, "\n")] = '\0';
    return parse_u64(text, 0, UINT64_MAX, &value) < 0 ? def : value;
}

/* Says which switch it was, and what to do. */
static int explain_refusal(int errnum, struct err *e)
{
    const char *fix = "see `dyno doctor`";

    if (sysctl_number("/proc/sys/user/max_user_namespaces", 1) == 0)
        fix = "the sysctl user.max_user_namespaces is 0: set it to 10000 or so";
    else if (sysctl_number("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0)
        fix = "the sysctl kernel.unprivileged_userns_clone is 0: set it to 1";
    else if (sysctl_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 1)
        fix = "the sysctl kernel.apparmor_restrict_unprivileged_userns is 1: set it to 0, or give "
              "dynod an AppArmor profile with `userns,`";
    else if (errnum == EPERM)
        fix = "a container's or SELinux's policy forbids it: allow user namespaces there, or run "
              "dynod as root";
    (void)err_set(e, errnum, "a user may not make user namespaces here (%s)", fix);
    return err_blame(e, FAULT_OPERATOR);
}

int sandbox_enter_rootless(struct err *e)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (uid == 0)
        return err_say(e, EINVAL, "rootless is for ordinary users; this is root");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        int errnum = errno;

        return errnum == EINVAL ? err_set(e, errnum,
                                          "enter a user namespace with more threads "
                                          "than one")
                                : explain_refusal(errnum, e);
    }
    char line[64];
    int r = put("/proc/self", "setgroups", "deny", e);
    (void)snprintf(line, sizeof(line), "%u %u 1", uid, uid);
    if (r == 0)
        r = put("/proc/self", "uid_map", line, e);
    (void)snprintf(line, sizeof(line), "%u %u 1", gid, gid);
    if (r == 0)
        r = put("/proc/self", "gid_map", line, e);
    if (r < 0)
        return explain_refusal(-r, e);
    /* Nothing that is mounted here may reach the user's other sessions. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return explain_refusal(errno, e);
    return 0;
}
