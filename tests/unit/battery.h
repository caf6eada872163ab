/* battery.h - sandboxes with guards left out, in this test only.
 *
 * The steps and the clone are the shipped ones, compiled once more into the test: the table of
 * steps.c, walked by a loop of our own that leaves steps out, or undoes them. The shipped programs
 * have nothing of this. */
#ifndef TESTS_BATTERY_H
#define TESTS_BATTERY_H

#include "sandbox_fixture.h"

#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/landlock.h"
#include "isolate/sandbox_impl.h"

#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/prctl.h>

/* What can be left out. */
enum guard {
    ROOT = 1 << 0, /* the root of its own: the dyno is in the host's mounts */
    USER = 1 << 1, /* the switch to the dyno's user: it stays root, or what the agent is */
    MAP = 1 << 2,  /* the user namespace only: its uid, in the machine's */
    CAPS = 1 << 3, /* giving up the capabilities */
    NNP = 1 << 4,  /* no_new_privs; without it neither of the next two can be loaded */
    LANDLOCK = 1 << 5,
    SECCOMP = 1 << 6,
    MASK = 1 << 7,   /* of /proc */
    NOSUID = 1 << 8, /* of all mounts */
    NODEV = 1 << 9,
    RO = 1 << 10,
    PID = 1 << 11, /* namespaces */
    IPC = 1 << 12,
    CGROUP = 1 << 13,
    INIT = 1 << 14, /* dyno-init: the probe is PID 1 itself */
    FDS = 1 << 15,  /* closing what the agent has open */
    JOIN = 1 << 16, /* of the cgroups */
};

static unsigned left_out;
static int leak_fd = -1; /* what FDS lets through */

/* --- the clone --- */

static unsigned long flag_pid(void)
{
    return left_out & PID ? 0 : CLONE_NEWPID;
}

static unsigned long flag_ipc(void)
{
    return left_out & IPC ? 0 : CLONE_NEWIPC;
}

static unsigned into_asked; /* how often a clone was to go into a cgroup */

static unsigned long long flag_into(void)
{
    into_asked++;
    return left_out & JOIN ? 0 : CLONE_INTO_CGROUP;
}

#pragma push_macro("CLONE_INTO_CGROUP")
#pragma push_macro("CLONE_NEWPID")
#pragma push_macro("CLONE_NEWIPC")
#undef CLONE_NEWPID
#undef CLONE_NEWIPC
#undef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP flag_into()
#define CLONE_NEWPID      flag_pid()
#define CLONE_NEWIPC      flag_ipc()
#include "isolate/spawn.c"
#pragma pop_macro("CLONE_INTO_CGROUP")
#pragma pop_macro("CLONE_NEWPID")
#pragma pop_macro("CLONE_NEWIPC")

/* --- the steps --- */

/* Everything but what is leaked. */
static int close_some(unsigned first, unsigned last)
{
    const int at = 40;

    if (!(left_out & FDS) || leak_fd < 0)
        return k_close_range(first, last);
    if (dup2(leak_fd, at) < 0 || k_close_range(first, at - 1) < 0)
        return -1;
    return k_close_range(at + 1, last);
}

#define k_close_range close_some
#define steps_run     shipped_steps_run
_Noreturn void shipped_steps_run(struct start *st);
#include "isolate/steps.c"
#undef steps_run
#undef k_close_range

static const char *const root_steps[] = {"enter the root",    "mount the files", "mount the slug",
                                         "mount the devices", "mask /proc",      NULL};

static const struct {
    unsigned guard;
    const char *step;
} skips[] = {
    {USER, "switch user"},
    {CAPS, "drop the capabilities"},
    {NNP, "set no-new-privileges"},
    {LANDLOCK, "enter landlock"},
    {SECCOMP, "load the seccomp filter"},
    {MASK, "mask /proc"},
    {JOIN, "join the cgroups"},
};

static bool is_left_out(const char *name)
{
    for (const char *const *r = root_steps; (left_out & ROOT) && *r; r++)
        if (!strcmp(*r, name))
            return true;
    for (size_t i = 0; i < sizeof(skips) / sizeof(skips[0]); i++)
        if ((left_out & skips[i].guard) && !strcmp(skips[i].step, name))
            return true;
    return false;
}

/* The dyno's uid without a namespace that says what else it is not. */
static int user_without_map(struct start *st, struct err *e)
{
    uid_t uid = st->plan->uid;

    if (st->s->rootless)
        return 0; /* is the agent's user already */
    /* The capabilities go by their own step. */
    if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
        return err_set(e, errno, "set the secure bits");
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0 ||
        syscall(SYS_setresuid, uid, uid, uid) < 0)
        return err_set(e, errno, "become %u", uid);
    return 0;
}

static int root_without_cgroup(struct start *st, struct err *e)
{
    if (setns(st->s->template_ns, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0)
        return err_set(e, errno, "copy the root template");
    return 0;
}

/* All that there are, also past execve(2). */
static int keep_capabilities(struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &head, caps) < 0)
        return err_set(e, errno, "capget");
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        caps[i].effective = caps[i].inheritable = caps[i].permitted;
    if (syscall(SYS_capset, &head, caps) < 0)
        return err_set(e, errno, "capset");
    for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return 0;
}

static int undo_mounts(struct err *e)
{
    struct k_mount_attr attr = {.attr_clr = (left_out & NOSUID ? K_ATTR_NOSUID : 0) |
                                            (left_out & NODEV ? K_ATTR_NODEV : 0) |
                                            (left_out & RO ? K_ATTR_RDONLY : 0)};

    if (attr.attr_clr && k_mount_setattr(AT_FDCWD, "/", K_RECURSIVE, &attr) < 0)
        return err_set(e, errno, "undo the attributes of the mounts");
    return 0;
}

/* The step that masks /proc ends with that. */
static int unmasked_proc(struct err *e)
{
    static const struct k_mount_attr writable = {.attr_clr = K_ATTR_RDONLY};

    return k_mount_setattr(AT_FDCWD, "/proc", 0, &writable) < 0
               ? err_set(e, errno, "make /proc writable")
               : 0;
}

/* What else is undone once the step NAME is over. */
static int after(const char *name, struct err *e)
{
    if (!strcmp(name, "mount the files") && (left_out & MASK) && !(left_out & ROOT))
        return unmasked_proc(e);
    if (!strcmp(name, "set the host name"))
        return undo_mounts(e);
    if (!strcmp(name, "drop the capabilities") && (left_out & CAPS))
        return keep_capabilities(e);
    return 0;
}

_Noreturn void steps_run(struct start *st)
{
    struct err e = ERR_INIT;
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(steps) / sizeof(steps[0]); i++) {
        const char *name = steps[i].name;

        if (!strcmp(name, "switch user") && (left_out & MAP) && !(left_out & USER))
            r = user_without_map(st, &e);
        else if (!strcmp(name, "enter the root") && (left_out & CGROUP))
            r = root_without_cgroup(st, &e);
        else if (!is_left_out(name))
            r = steps[i].run(st, &e);
        if (r == 0)
            r = after(name, &e);
        if (r < 0)
            (void)err_wrap(&e, "%s", name);
    }
    (void)write(st->report, &e, sizeof(e));
    _exit(1);
}

#endif
