/* scratch_maker.c - a process that makes images ahead: binding a loop device and mounting wait for
 * other parts of the kernel, which on a busy machine takes longer than the agent's loop may stand
 * still. It is a copy of the agent with nothing open but a socket, knows the templates, and goes
 * with the agent. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/scratch_impl.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MAKER_NICE 5 /* the dynos' starts come first */

enum { FD_SOCKET = 3, FD_DIR, FD_FIRST_CLOSED };

static const struct scratch_template *find(const struct scratches *s, const struct scratch_quota *q)
{
    for (size_t i = 0; i < s->n_templates; i++)
        if (s->templates[i].quota.bytes == q->bytes && s->templates[i].quota.inodes == q->inodes)
            return &s->templates[i];
    return NULL;
}

static void answer(const struct scratches *s, int dir, const struct scratch_quota *q)
{
    const struct scratch_template *t = find(s, q);
    struct err e = ERR_INIT;
    scoped_fd fd = -1;

    if (!t)
        (void)err_say(&e, EINVAL, "no template for such a scratch");
    else if (scratch_image_mount(dir, t, &fd, &e) == 0)
        (void)scratch_make_parts(fd, &e);
    if (e.errnum)
        fd_closep(&fd);
    if (fd_send(FD_SOCKET, &e, sizeof(e), &fd, fd >= 0 ? 1 : 0) < 0)
        _exit(0); /* the agent is gone */
}

_Noreturn static void run(const struct scratches *s, int sock)
{
    struct scratch_quota q;
    int in = fcntl(sock, F_DUPFD_CLOEXEC, 10), dir = fcntl(s->dirfd, F_DUPFD_CLOEXEC, 10);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NAME, "dynod-scratch");
    (void)signal(SIGTERM, SIG_IGN); /* systemd's to all of the unit: the agent still needs us */
    (void)signal(SIGINT, SIG_IGN);
    (void)setpriority(PRIO_PROCESS, 0, MAKER_NICE);
    if (in < 0 || dir < 0 || dup3(in, FD_SOCKET, O_CLOEXEC) < 0 || dup3(dir, FD_DIR, O_CLOEXEC) < 0)
        _exit(1);
    (void)k_close_range(FD_FIRST_CLOSED, ~0u);
    for (;;) {
        ssize_t n = recv(FD_SOCKET, &q, sizeof(q), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof(q))
            _exit(0);
        answer(s, FD_DIR, &q);
    }
}

int scratch_maker_start(struct scratches *s, struct err *e)
{
    int sv[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        return err_set(e, errno, "make a socket pair for scratches");
    scoped_fd ours = sv[0], theirs = sv[1];
    int r = fd_set_nonblock(ours, true);
    if (r < 0)
        return err_set(e, -r, "make a socket pair for scratches");
    pid_t pid = fork();
    if (pid < 0)
        return err_set(e, errno, "start the maker of scratches");
    if (pid == 0)
        run(s, theirs);
    s->maker = TAKE_FD(ours);
    s->maker_pid = pid;
    return 0;
}

void scratch_maker_stop(struct scratches *s)
{
    siginfo_t info;

    fd_closep(&s->maker);
    if (s->maker_pid > 0) {
        (void)kill(s->maker_pid, SIGKILL); /* not waited for yet: nobody else's */
        (void)waitid(P_PID, (id_t)s->maker_pid, &info, WEXITED);
    }
    s->maker_pid = 0;
}

int scratch_maker_ask(struct scratches *s, const struct scratch_quota *quota, struct err *e)
{
    int r = s->maker < 0 ? scratch_maker_start(s, e) : 0;

    if (r < 0)
        return r;
    if (send(s->maker, quota, sizeof(*quota), MSG_NOSIGNAL) == (ssize_t)sizeof(*quota))
        return 0;
    (void)err_set(e, errno, "ask for a scratch");
    scratch_maker_stop(s); /* dead: the next one that is asked for is another's */
    return -e->errnum;
}

int scratch_maker_hear(struct scratches *s, int *ret_fd, struct err *e)
{
    struct err told = ERR_INIT;
    int fds[FD_PASS_MAX];
    size_t n_fds = 1;
    ssize_t n = s->maker < 0 ? -ENOTCONN : fd_recv(s->maker, &told, sizeof(told), fds, &n_fds);

    if (n == -EAGAIN || n == -EINTR)
        return 0;
    scoped_fd fd = n == (ssize_t)sizeof(told) && n_fds == 1 ? fds[0] : -1;
    if (n != (ssize_t)sizeof(told) || (fd < 0 && !told.errnum)) {
        scratch_maker_stop(s);
        return err_say(e, EPIPE, "the maker of scratches is gone");
    }
    if (told.errnum) {
        *e = told;
        return -e->errnum;
    }
    *ret_fd = TAKE_FD(fd);
    return 1;
}
