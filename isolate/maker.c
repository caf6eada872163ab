#include "isolate/maker.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { FD_SOCKET = 3, FD_FIRST_CLOSED = MAKER_KEPT + 1 };

/* --- The process --- */

static void answer(const struct maker_job *job, const struct err *begun, const void *request)
{
    struct err e = *begun;
    scoped_fd fd = -1;

    if (!e.errnum && job->make(job->context, request, &fd, &e) == 0)
        e = (struct err)ERR_INIT; /* what a try on the way left is no error */
    else
        fd_closep(&fd);
    if (fd_send(FD_SOCKET, &e, sizeof(e), &fd, fd >= 0 ? 1 : 0) < 0)
        _exit(0); /* the agent is gone */
}

static void keep_only(int sock, int keep)
{
    int in = fcntl(sock, F_DUPFD_CLOEXEC, 10);
    int kept = keep >= 0 ? fcntl(keep, F_DUPFD_CLOEXEC, 10) : -1;

    if (in < 0 || (keep >= 0 && kept < 0) || dup3(in, FD_SOCKET, O_CLOEXEC) < 0 ||
        (kept >= 0 && dup3(kept, MAKER_KEPT, O_CLOEXEC) < 0))
        _exit(1);
    (void)k_close_range(kept >= 0 ? FD_FIRST_CLOSED : MAKER_KEPT, ~0u);
}

_Noreturn static void run(const struct maker_job *job, int sock, pid_t agent)
{
    _Alignas(max_align_t) unsigned char request[MAKER_REQUEST_MAX];
    struct err begun = ERR_INIT;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != agent) /* it died before that */
        _exit(0);
    (void)prctl(PR_SET_NAME, job->name);
    (void)signal(SIGTERM, SIG_IGN); /* systemd's to all of the unit: the agent still needs us */
    (void)signal(SIGINT, SIG_IGN);
    keep_only(sock, job->keep);
    if (job->begin && job->begin(job->context, &begun) == 0)
        begun = (struct err)ERR_INIT;
    for (;;) {
        ssize_t n = recv(FD_SOCKET, request, sizeof(request), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)job->size)
            _exit(0);
        answer(job, &begun, request);
    }
}

/* --- The agent's side --- */

static int start(struct maker *m, const struct maker_job *job, struct err *e)
{
    pid_t agent = getpid();
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        return err_set(e, errno, "make a socket pair for %s", job->name);
    scoped_fd ours = sv[0], theirs = sv[1];
    int r = fd_set_nonblock(ours, true);
    if (r < 0)
        return err_set(e, -r, "make a socket pair for %s", job->name);
    pid_t pid = fork();
    if (pid < 0)
        return err_set(e, errno, "start %s", job->name);
    if (pid == 0)
        run(job, theirs, agent);
    m->sock = TAKE_FD(ours);
    m->pid = pid;
    return 0;
}

void maker_stop(struct maker *m)
{
    siginfo_t info;

    fd_closep(&m->sock);
    if (m->pid > 0) {
        (void)kill(m->pid, SIGKILL); /* not waited for yet: nobody else's */
        (void)waitid(P_PID, (id_t)m->pid, &info, WEXITED);
    }
    m->pid = 0;
}

int maker_ask(struct maker *m, const struct maker_job *job, const void *request, struct err *e)
{
    assert(job->size <= MAKER_REQUEST_MAX);
    int r = m->sock < 0 ? start(m, job, e) : 0;

    if (r < 0)
        return r;
    if (send(m->sock, request, job->size, MSG_NOSIGNAL) == (ssize_t)job->size)
        return 0;
    (void)err_set(e, errno, "ask %s", job->name);
    maker_stop(m); /* dead: the next one that is asked for is another's */
    return -e->errnum;
}

int maker_hear(struct maker *m, const struct maker_job *job, int *ret_fd, struct err *e)
{
    struct err told = ERR_INIT;
    int fds[FD_PASS_MAX];
    size_t n_fds = 1;
    ssize_t n = m->sock < 0 ? -ENOTCONN : fd_recv(m->sock, &told, sizeof(told), fds, &n_fds);

    if (n == -EAGAIN || n == -EINTR)
        return 0;
    scoped_fd fd = n == (ssize_t)sizeof(told) && n_fds == 1 ? fds[0] : -1;
    if (n != (ssize_t)sizeof(told) || (fd < 0 && !told.errnum)) {
        maker_stop(m);
        return err_say(e, EPIPE, "%s is gone", job->name);
    }
    if (told.errnum) {
        *e = told;
        return -e->errnum;
    }
    *ret_fd = TAKE_FD(fd);
    return 1;
}
