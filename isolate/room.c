/* room.c - a sandbox's files made before it is known for which dyno: a copy of the root template
 * with its devices, and the IPC namespace whose message queues are among them. No process is in
 * there; it is two descriptors, and goes with them. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <sched.h>

enum { TOLD_MNT, TOLD_IPC };

void room_done(struct room *room)
{
    fd_closep(&room->mnt);
    fd_closep(&room->ipc);
}

void room_take(struct sandbox *s, const struct limits *limits, struct room *ret)
{
    if (s->room.mnt < 0 || s->room.shm != shm_bytes(limits))
        return;
    *ret = s->room;
    s->room = (struct room)ROOM_INIT;
}

/* In the new IPC namespace. The path of its namespaces is that of the agent's /proc, which is left
 * on the way. */
static int furnish(void *arg, struct told *told)
{
    struct start *st = arg;
    struct err *e = &told->err;
    scoped_fd mine = open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (mine < 0)
        return err_set(e, errno, "open /proc/self/ns");
    told->fd[TOLD_IPC] = openat(mine, "ipc", O_RDONLY | O_CLOEXEC);
    if (told->fd[TOLD_IPC] < 0)
        return err_set(e, errno, "open the IPC namespace");
    if (setns(st->s->template_ns, CLONE_NEWNS) < 0)
        return err_set(e, errno, "enter the root template");
    if (unshare(CLONE_NEWNS) < 0)
        return err_set(e, errno, "copy the root template");
    int r = step_devices(st, e);
    if (r < 0)
        return r;
    told->fd[TOLD_MNT] = openat(mine, "mnt", O_RDONLY | O_CLOEXEC);
    return told->fd[TOLD_MNT] < 0 ? err_set(e, errno, "open the mount namespace") : 0;
}

int sandbox_ready(struct sandbox *s, const struct limits *limits, struct err *e)
{
    const struct plan plan = {.limits = *limits};
    struct start st = START_INIT(s, &plan);

    if (s->rootless)
        return 0;
    if (s->room.mnt >= 0 && s->room.shm != shm_bytes(limits))
        room_done(&s->room);
    if (s->room.mnt >= 0)
        return 0;
    int r = errand_run(s, CLONE_NEWIPC, furnish, &st, "what makes a room ahead", e);
    struct room made = {
        .mnt = s->told->fd[TOLD_MNT], .ipc = s->told->fd[TOLD_IPC], .shm = shm_bytes(limits)};
    if (r < 0)
        room_done(&made);
    else
        s->room = made;
    return r;
}
