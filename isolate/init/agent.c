/* agent.c - the conversation with the agent. Nothing is queued: what the agent has yet to hear is
 * a set of flags on the state itself, so an agent that stands still, or dies, costs no memory and
 * loses nothing. */
#include "isolate/init/init.h"
#include "isolate/init/sys.h"

#include <linux/signal.h>

#define SIGNAL_MAX 64

union control {
    struct sys_cmsghdr head;
    char space[sizeof(struct sys_cmsghdr) + REQUEST_FDS * sizeof(int)];
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)sys1(__NR_close, *fd);
    *fd = -1;
}

void agent_event(const struct init *in, uint32_t kind, struct init_event *ev)
{
    *ev = (struct init_event){.version = INIT_PROTO_VERSION,
                              .kind = kind,
                              .phase = in->phase,
                              .pid = in->pid,
                              .status = in->status,
                              .start_errno = (uint32_t)in->start_errno,
                              .started_boot_usec = in->started_usec,
                              .ended_boot_usec = in->ended_usec};
}

/* As sendmsg(2). */
static long send_on(int conn, struct init_event *ev, int fd)
{
    struct sys_iovec iov = {ev, sizeof(*ev)};
    union control control = {0};
    struct sys_msghdr msg = {.iov = &iov, .iov_len = 1};

    if (fd >= 0) {
        control.head = (struct sys_cmsghdr){.len = sizeof(control.head) + sizeof(int),
                                            .level = SYS_SOL_SOCKET,
                                            .type = SYS_SCM_RIGHTS};
        memcpy(control.space + sizeof(control.head), &fd, sizeof(int));
        msg.control = control.space;
        msg.control_len = sizeof(control.head) + sizeof(int);
        /* The kernel aligns a control message to its word. */
        msg.control_len = (msg.control_len + sizeof(long) - 1) & ~(sizeof(long) - 1);
    }
    return sys3(__NR_sendmsg, conn, &msg, SYS_MSG_NOSIGNAL | SYS_MSG_DONTWAIT);
}

static bool send_event(struct init *in, struct init_event *ev, int fd)
{
    if (in->conn < 0)
        return false;
    long n = send_on(in->conn, ev, fd);
    if (n < 0 && n != -EAGAIN && n != -EINTR)
        close_fd(&in->conn);
    return n >= 0;
}

static bool tell_state(struct init *in)
{
    struct init_event ev;

    if (!in->owe_state)
        return true;
    agent_event(in, INIT_STATE, &ev);
    if (!send_event(in, &ev, INIT_FD_LOG))
        return false;
    in->owe_state = false;
    /* It has said all of these, but a terminal still waits for its INIT_STARTED. */
    in->owe_start = in->master >= 0;
    in->owe_main_ended = false;
    in->owe_exited = false;
    return true;
}

static bool tell_start(struct init *in)
{
    struct init_event ev;

    if (!in->owe_start)
        return true;
    agent_event(in, in->start_errno ? INIT_START_FAILED : INIT_STARTED, &ev);
    ev.pid = in->started_pid;
    ev.status = in->start_errno;
    if (!send_event(in, &ev, in->master))
        return false;
    in->owe_start = false;
    close_fd(&in->master);
    return true;
}

static bool tell_exec(struct init *in, struct exec *x)
{
    struct init_event ev;

    if (x->report >= 0)
        return true; /* nobody knows yet */
    if (x->failed) {
        agent_event(in, INIT_EXEC_FAILED, &ev);
        ev.token = x->token;
        ev.status = x->failed;
        if (!send_event(in, &ev, -1))
            return false;
        x->used = false;
        return true;
    }
    if (!x->told_started) {
        agent_event(in, INIT_EXEC_STARTED, &ev);
        ev.token = x->token;
        ev.pid = x->pid;
        ev.status = 0;
        if (!send_event(in, &ev, x->master))
            return false;
        x->told_started = true;
        close_fd(&x->master);
    }
    if (x->ended) {
        agent_event(in, INIT_EXEC_EXITED, &ev);
        ev.token = x->token;
        ev.pid = x->pid;
        ev.status = x->status;
        if (!send_event(in, &ev, -1))
            return false;
        x->used = false;
    }
    return true;
}

static bool tell_end(struct init *in)
{
    struct init_event ev;

    if (in->owe_main_ended) {
        agent_event(in, INIT_MAIN_ENDED, &ev);
        if (!send_event(in, &ev, -1))
            return false;
        in->owe_main_ended = false;
    }
    if (in->owe_exited) {
        agent_event(in, INIT_EXITED, &ev);
        if (!send_event(in, &ev, -1))
            return false;
        in->owe_exited = false;
    }
    return true;
}

void agent_tell(struct init *in)
{
    if (!tell_state(in) || !tell_start(in))
        return;
    if (in->refusal.kind != 0) {
        if (!send_event(in, &in->refusal, -1))
            return;
        in->refusal.kind = 0;
    }
    for (struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++)
        if (x->used && !tell_exec(in, x))
            return;
    (void)tell_end(in);
}

bool agent_owes(const struct init *in)
{
    if (in->owe_state || in->owe_start || in->owe_main_ended || in->owe_exited ||
        in->refusal.kind != 0)
        return true;
    for (const struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++)
        if (x->used && x->report < 0 && (!x->told_started || x->ended))
            return true;
    return false;
}

void agent_accept(struct init *in)
{
    /* SOCK_NONBLOCK is O_NONBLOCK, SOCK_CLOEXEC O_CLOEXEC; the same on both machines. */
    long fd = sys4(__NR_accept4, INIT_FD_LISTEN, NULL, NULL, 02000000 | 04000);

    if (fd < 0)
        return;
    close_fd(&in->candidate); /* the latest wins */
    in->candidate = (int)fd;
}

static void refuse(struct init *in, const struct init_request *req, int errnum)
{
    in->refusal = (struct init_event){.version = INIT_PROTO_VERSION,
                                      .kind = INIT_EXEC_FAILED,
                                      .token = req->token,
                                      .phase = in->phase,
                                      .status = errnum};
}

static struct exec *exec_find(struct init *in, uint32_t token)
{
    for (struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++)
        if (x->used && x->token == token)
            return x;
    return NULL;
}

static void exec_failed(struct exec *x, int errnum)
{
    close_fd(&x->report);
    close_fd(&x->master);
    x->failed = errnum;
}

void agent_look_at_execs(struct init *in)
{
    for (struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++) {
        if (!x->used || x->report < 0)
            continue;
        int r = command_report(x->report);
        if (r == 0) {
            close_fd(&x->report);
        } else if (r != -EAGAIN) {
            exec_failed(x, -r);
        } else if (init_now() >= x->deadline) {
            if (!x->ended)
                (void)sys2(__NR_kill, x->pid, SIGKILL);
            exec_failed(x, ETIMEDOUT);
        }
    }
}

/* A free place; else that of one whose end no agent came to hear. */
static struct exec *exec_place(struct init *in)
{
    struct exec *ended = NULL;

    for (struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++) {
        if (!x->used)
            return x;
        if ((x->ended || x->failed) && x->report < 0 && !ended)
            ended = x;
    }
    if (ended)
        close_fd(&ended->master);
    return ended;
}

static void do_exec(struct init *in, const struct init_request *req, const int *fds)
{
    struct command c = {.launch_fd = fds[0], .stdio = {fds[1], fds[2], fds[3]}};
    struct exec *x = exec_place(in);

    if (req->token == 0 || fds[0] < 0) {
        refuse(in, req, EINVAL);
    } else if (exec_find(in, req->token)) {
        refuse(in, req, EEXIST);
    } else if (in->ended) {
        refuse(in, req, ESRCH);
    } else if (!x) {
        refuse(in, req, EAGAIN);
    } else {
        int r = command_fork(&c);

        if (r < 0)
            refuse(in, req, -r);
        else
            *x = (struct exec){.used = true,
                               .token = req->token,
                               .pid = c.pid,
                               .report = c.report,
                               .deadline = init_now() + EXEC_PATIENCE,
                               .master = c.master};
    }
}

static void do_exec_signal(struct init *in, const struct init_request *req)
{
    struct exec *x = exec_find(in, req->token);

    if (!x || x->ended || x->failed)
        return;
    if (sys2(__NR_kill, -(long)x->pid, req->signo) == -ESRCH) /* it leads no group yet */
        (void)sys2(__NR_kill, x->pid, req->signo);
}

static void do_hello(struct init *in, bool candidate)
{
    if (candidate) {
        close_fd(&in->conn);
        in->conn = in->candidate;
        in->candidate = -1;
        in->refusal.kind = 0; /* was for the one before */
    }
    in->owe_state = true;
}

/* Owed to nobody: a connection that just said one word has room for the answer. */
static void do_who(const struct init *in, int conn)
{
    struct init_event ev;

    agent_event(in, INIT_IAM, &ev);
    (void)send_on(conn, &ev, in->identity);
}

static void do_identity(struct init *in, int *fd)
{
    if (in->identity >= 0)
        return;
    in->identity = *fd;
    *fd = -1;
}

static void handle(struct init *in, const struct init_request *req, int *fds, bool candidate)
{
    bool signo_ok = req->signo > 0 && req->signo <= SIGNAL_MAX;

    if (req->kind == INIT_WHO) {
        do_who(in, candidate ? in->candidate : in->conn);
        return;
    }
    if (req->kind == INIT_HELLO) {
        do_hello(in, candidate);
        return;
    }
    if (candidate)
        return; /* says who it is first */
    switch (req->kind) {
    case INIT_STOP:
        in->stopping = true;
        if (!signo_ok)
            break;
        (void)sys2(__NR_kill, -1, req->signo);
        (void)sys2(__NR_kill, -1, SIGCONT); /* who is stopped hears of nothing but SIGKILL */
        break;
    case INIT_SIGNAL:
        if (signo_ok)
            (void)sys2(__NR_kill, -1, req->signo);
        break;
    case INIT_EXEC:
        do_exec(in, req, fds);
        break;
    case INIT_EXEC_SIGNAL:
        if (signo_ok)
            do_exec_signal(in, req);
        break;
    case INIT_RELEASE:
        /* An exit that nobody could have recorded yet is not let go. */
        in->release = in->phase == INIT_PHASE_ENDED;
        break;
    case INIT_IDENTITY:
        do_identity(in, &fds[0]);
        break;
    default: /* a newer agent's; it learns from the silence */
        break;
    }
}

static long received_fds(const struct sys_msghdr *msg, const union control *control, int *fds)
{
    if (msg->control_len < sizeof(control->head) || control->head.level != SYS_SOL_SOCKET ||
        control->head.type != SYS_SCM_RIGHTS || control->head.len < sizeof(control->head))
        return 0;
    size_t n = (control->head.len - sizeof(control->head)) / sizeof(int);
    if (n > REQUEST_FDS)
        n = REQUEST_FDS;
    memcpy(fds, control->space + sizeof(control->head), n * sizeof(int));
    return (long)n;
}

long agent_receive(int conn, unsigned flags, struct init_request *req, int *fds, long *ret_fds)
{
    struct sys_iovec iov = {req, sizeof(*req)};
    union control control = {0};
    struct sys_msghdr msg = {
        .iov = &iov, .iov_len = 1, .control = control.space, .control_len = sizeof(control)};
    long n = sys3(__NR_recvmsg, conn, &msg, flags | SYS_MSG_CMSG_CLOEXEC | SYS_MSG_TRUNC);

    if (n > 0)
        *ret_fds = received_fds(&msg, &control, fds);
    return n;
}

void agent_take_identity(struct init *in)
{
    struct init_request req = {0};
    long n = sys6(__NR_recvfrom, in->conn, (long)&req, sizeof(req), SYS_MSG_PEEK | SYS_MSG_DONTWAIT,
                  0, 0);

    /* Anything else waits until there is a command that it can be about. */
    if (n == sizeof(req) && req.kind == INIT_IDENTITY)
        agent_read(in, false);
}

void agent_read(struct init *in, bool candidate)
{
    int *conn = candidate ? &in->candidate : &in->conn;
    struct init_request req = {0};
    int fds[REQUEST_FDS];
    long got = 0;

    for (int i = 0; i < REQUEST_FDS; i++)
        fds[i] = -1;
    long n = agent_receive(*conn, SYS_MSG_DONTWAIT, &req, fds, &got);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n <= 0) {
        close_fd(conn);
        return;
    }
    if (n == sizeof(req) && req.version == INIT_PROTO_VERSION)
        handle(in, &req, fds, candidate);
    for (int i = 0; i < REQUEST_FDS; i++)
        close_fd(&fds[i]);
}
