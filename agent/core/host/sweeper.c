#include "core/host/sweeper.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define JOIN_PATIENCE_MS 1000
#define SWEEP_PAUSE      (200 * USEC_PER_MSEC)

struct sweeper {
    sd_event *loop;
    int dirfd;
    sd_event_source *child; /* not NULL: a child is at work */
    sd_event_source *soon;  /* timer "sweep": one child for all that ends at about the same time */
};

static void start_soon(struct sweeper *s);

/* In the child: everything in the trash, one by one. Failures leave it for the next time. */
static void sweep(int dirfd)
{
    scoped(dir_closep) DIR *d = fdopendir(dup(dirfd));
    struct dirent *entry;
    struct err e = ERR_INIT;

    (void)setpriority(PRIO_PROCESS, 0, 10); /* the dynos come first; a refusal changes nothing */
    if (d)
        rewinddir(d); /* the offset is shared with the child before us */
    while (d && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            (void)tree_remove(dirfd, entry->d_name, &e); /* tried again at the next start */
}

static int on_child(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct sweeper *s = userdata;
    siginfo_t info;

    (void)source;
    (void)revents;
    (void)waitid(P_PIDFD, (id_t)fd, &info,
                 WEXITED | WNOHANG); /* it has ended: nothing to wait for */
    s->child = sd_event_source_disable_unref(s->child);
    return 0;
}

static void start(struct sweeper *s)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};

    if (s->child) { /* what came since it looked is for the next one */
        start_soon(s);
        return;
    }
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        sweep(s->dirfd);
        _exit(0);
    }
    if (pid < 0) {
        log_warn("sweep: cannot start a process: %s; the next one will", strerror(errno));
        return;
    }
    /* Not sd_event_add_child_pidfd(): where epoll takes no more (ENOMEM, ENOSPC) it aborts. */
    if (sd_event_add_io(s->loop, &s->child, pidfd, EPOLLIN, on_child, s) < 0 ||
        sd_event_source_set_io_fd_own(s->child, true) < 0)
        fd_closep(&pidfd); /* nobody waits for it: a zombie, until we go */
}

static int on_soon(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source;
    (void)usec;
    start(userdata);
    return 0;
}

static void start_soon(struct sweeper *s)
{
    int on = 0;

    if (sd_event_get_state(s->loop) == SD_EVENT_FINISHED)
        return; /* what is left, the next agent sweeps at its start */
    if (s->soon)
        (void)sd_event_source_get_enabled(s->soon, &on);
    if (!on && timer_set(s->loop, &s->soon, "sweep", clock_boot() + SWEEP_PAUSE, on_soon, s) < 0)
        log_warn("sweep: no memory; the next one will");
}

int sweeper_open(sd_event *loop, const char *trash_path, struct sweeper **ret, struct err *e)
{
    int r = dir_make_all(trash_path, 0700, e);

    if (r < 0)
        return r;
    scoped_fd dirfd = open(trash_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dirfd < 0)
        return err_set(e, errno, "open %s", trash_path);
    struct sweeper *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ENOMEM, "make the sweeper");
    s->loop = loop;
    s->dirfd = TAKE_FD(dirfd);
    start(s);
    *ret = s;
    return 0;
}

void sweeper_freep(struct sweeper **sp)
{
    struct sweeper *s = *sp;

    if (!s)
        return;
    int pending = 0;
    if (s->soon)
        (void)sd_event_source_get_enabled(s->soon, &pending);
    if (pending && !s->child)
        start(s);
    if (s->child) { /* it goes on alone if it must; whoever inherits it reaps it */
        struct pollfd p = {.fd = sd_event_source_get_io_fd(s->child), .events = POLLIN};
        siginfo_t info;

        if (poll(&p, 1, JOIN_PATIENCE_MS) == 1)
            (void)waitid(P_PIDFD, (id_t)p.fd, &info, WEXITED);
    }
    sd_event_source_disable_unref(s->child);
    sd_event_source_disable_unref(s->soon);
    fd_closep(&s->dirfd);
    free(s);
    *sp = NULL;
}

bool sweeper_idle(const struct sweeper *s)
{
    int pending = 0;

    if (s->soon)
        (void)sd_event_source_get_enabled(s->soon, &pending);
    return !s->child && !pending;
}

int sweeper_take(struct sweeper *s, int dirfd, const char *name, struct err *e)
{
    char fresh[32];

    (void)snprintf(fresh, sizeof(fresh), "%016" PRIx64, random_u64());
    if (renameat(dirfd, name, s->dirfd, fresh) < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "put %s into the trash", name);
    start_soon(s);
    return 0;
}
