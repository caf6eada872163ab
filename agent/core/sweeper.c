#include "core/sweeper.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
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
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define JOIN_PATIENCE_MS 1000

struct sweeper {
    sd_event *loop;
    int dirfd;
    sd_event_source *child; /* not NULL: a child is at work */
    bool again;             /* something came while it was */
};

static void start(struct sweeper *s);

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

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
    struct sweeper *s = userdata;

    (void)source;
    (void)info;
    s->child = sd_event_source_unref(s->child);
    if (s->again)
        start(s);
    return 0;
}

static void start(struct sweeper *s)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};

    if (s->child) {
        s->again = true;
        return;
    }
    s->again = false;
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        sweep(s->dirfd);
        _exit(0);
    }
    if (pid < 0) {
        log_warn("sweep: cannot start a process: %s; the next one will", strerror(errno));
        return;
    }
    if (sd_event_add_child_pidfd(s->loop, &s->child, pidfd, WEXITED, on_child, s) < 0 ||
        sd_event_source_set_child_pidfd_own(s->child, true) < 0)
        fd_closep(&pidfd);
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
    if (s->child) { /* it goes on alone if it must; whoever inherits it reaps it */
        struct pollfd p = {.fd = sd_event_source_get_child_pidfd(s->child), .events = POLLIN};
        siginfo_t info;

        if (poll(&p, 1, JOIN_PATIENCE_MS) == 1)
            (void)waitid(P_PIDFD, (id_t)p.fd, &info, WEXITED);
    }
    sd_event_source_disable_unref(s->child);
    fd_closep(&s->dirfd);
    free(s);
    *sp = NULL;
}

int sweeper_take(struct sweeper *s, int dirfd, const char *name, struct err *e)
{
    char fresh[32];

    (void)snprintf(fresh, sizeof(fresh), "%016" PRIx64, random_u64());
    if (renameat(dirfd, name, s->dirfd, fresh) < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "put %s into the trash", name);
    start(s);
    return 0;
}
