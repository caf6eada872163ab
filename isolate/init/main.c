/* main.c - dyno-init: PID 1 of a dyno. What it does and promises: isolate/initproto.h.
 *
 * SIGCHLD and SIGTERM are blocked (and read from a signalfd). Every other signal stays at its
 * default, which the kernel turns into "ignored" for the init of a PID namespace when it comes from
 * within, and SIGTERM from there is not listened to: nothing in the dyno can end it. It is not
 * dumpable, so nothing in the dyno can trace it, read its memory, or use its descriptors by
 * /proc/1. */
#include "isolate/init/init.h"
#include "isolate/init/sys.h"

#include <asm/poll.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/signalfd.h>
#include <linux/time.h>

#define EXIT_NOT_FOUND 127 /* the shell's statuses for a command that cannot be executed */
#define EXIT_NOT_EXEC  126
#define REAP_MAX       64 /* dead children that are taken at one time */

uint64_t init_now(void)
{
    struct __kernel_timespec t = {0};

    (void)sys2(__NR_clock_gettime, CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The record outlives us; the file has one event, the newest. */
static void write_record(const struct init *in, uint32_t kind)
{
    struct init_event ev;

    agent_event(in, kind, &ev);
    (void)sys4(__NR_pwrite64, INIT_FD_RECORD, &ev, sizeof(ev), 0);
}

static void command_ended(struct init *in, int status)
{
    in->pid = 0;
    in->ended = true;
    in->status = status;
    in->ended_usec = init_now();
    write_record(in, INIT_MAIN_ENDED);
    if (in->stopping)
        in->owe_main_ended = true; /* the others have their grace period too */
    else
        (void)sys2(__NR_kill, -1, SIGKILL);
}

/* Its copies of the log pipe's write end would keep the reader from seeing the end of the log. */
static void release_stdio(void)
{
    long null = sys4(__NR_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);

    for (int i = INIT_FD_STDIN; i <= INIT_FD_STDERR; i++)
        if (null < 0 || sys3(__NR_dup3, null, i, O_CLOEXEC) < 0)
            (void)sys1(__NR_close, i);
    if (null > INIT_FD_STDERR)
        (void)sys1(__NR_close, null);
}

/* R: of command_start(). */
static void command_started(struct init *in, const struct command *c, int r)
{
    in->owe_start = true;
    if (r < 0) {
        in->started_usec = 0;
        in->start_errno = -r;
        command_ended(in, (r == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXEC) << 8);
    } else {
        in->phase = INIT_PHASE_RUNNING;
        in->pid = in->started_pid = c->pid;
        in->master = c->master;
        write_record(in, INIT_STARTED); /* who finds us dead knows that the command ran */
    }
    (void)sys1(__NR_close, INIT_FD_LAUNCH);
    release_stdio();
}

/* False: it is a spare's, and there will be none. */
static bool start_command(struct init *in, const char *how)
{
    struct command c = {.launch_fd = INIT_FD_LAUNCH,
                        .stdio = {INIT_FD_STDIN, INIT_FD_STDOUT, INIT_FD_STDERR}};
    int r = 0;

    if (how && how[0] == INIT_DRESSED_ARG[0]) {
        if (!spare_wait_dressed(in, &c, &r))
            return false;
    } else {
        if (how && !spare_wait(in))
            return false;
        agent_take_identity(in);
        in->started_usec = init_now();
        r = command_start(&c);
    }
    command_started(in, &c, r);
    return true;
}

static void reaped(struct init *in, int pid, int status)
{
    if (pid == in->pid) {
        command_ended(in, status);
        return;
    }
    for (struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++)
        if (x->used && !x->ended && x->pid == pid) {
            x->ended = true;
            x->status = status;
        }
}

/* Every orphan of the namespace becomes our child, so without a child we are alone. A few at a
 * time: a dyno that leaves us orphans without end does not keep us from the agent. */
static void reap(struct init *in)
{
    in->unreaped = true;
    for (int i = 0; i < REAP_MAX; i++) {
        int status = 0;
        long pid = sys4(__NR_wait4, -1, &status, 1 /* WNOHANG */, NULL);

        if (pid > 0) {
            reaped(in, (int)pid, status);
            continue;
        }
        in->unreaped = false;
        if (pid == -ECHILD && in->ended && in->phase != INIT_PHASE_ENDED) {
            in->phase = INIT_PHASE_ENDED;
            in->owe_main_ended = false; /* the larger news says it too */
            in->owe_exited = true;
            write_record(in, INIT_EXITED);
        }
        return;
    }
}

/* A sender whom our namespace does not know is outside of it; but not everything that names no
 * sender is from there. Signals of descriptors (F_SETOWN) have none, who queues one writes what he
 * likes (both: not SI_USER, which only the kernel sets); and of one that found no room in a queue
 * that the dyno has filled (RLIMIT_SIGPENDING) all is 0, also the user, whom no dyno has. */
static bool is_from_outside(const struct signalfd_siginfo *info)
{
    return info->ssi_code == SI_USER && info->ssi_pid == 0 && info->ssi_uid != 0;
}

static void read_signals(struct init *in)
{
    struct signalfd_siginfo infos[4] = {0}; /* analyzers do not know that the kernel fills them */
    long n = sys3(__NR_read, in->sigfd, infos, sizeof(infos));

    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(infos[0]); i++)
        if (infos[i].ssi_signo == SIGTERM && is_from_outside(&infos[i]))
            in->leave = true;
}

/* Puts into FDS what tells of the execs; returns how many. *ret: how long to wait for it. */
static unsigned wait_for_execs(const struct init *in, struct pollfd *fds,
                               struct __kernel_timespec *ret)
{
    uint64_t now = init_now(), soonest = UINT64_MAX;
    unsigned n = 0;

    for (const struct exec *x = in->execs; x < in->execs + EXEC_MAX; x++)
        if (x->used && x->report >= 0) {
            fds[n++] = (struct pollfd){.fd = x->report, .events = POLLIN};
            if (x->deadline < soonest)
                soonest = x->deadline;
        }
    uint64_t usec = n == 0 || in->unreaped || soonest <= now ? 0 : soonest - now;
    *ret = (struct __kernel_timespec){.tv_sec = (int64_t)(usec / 1000000),
                                      .tv_nsec = (int64_t)(usec % 1000000 * 1000)};
    return n;
}

static void wait_and_serve(struct init *in)
{
    enum { SIG, LISTEN, CONN, CANDIDATE, N };
    short conn_events = in->refusal.kind == 0 ? POLLIN : 0;
    struct pollfd fds[N + EXEC_MAX] = {
        [SIG] = {.fd = in->sigfd, .events = POLLIN},
        [LISTEN] = {.fd = INIT_FD_LISTEN, .events = POLLIN},
        [CONN] = {.fd = in->conn, .events = conn_events},
        [CANDIDATE] = {.fd = in->candidate, .events = POLLIN},
    };

    if (agent_owes(in))
        fds[CONN].events |= POLLOUT;
    struct __kernel_timespec timeout;
    unsigned execs = wait_for_execs(in, fds + N, &timeout);
    bool waits = execs > 0 || in->unreaped;
    if (sys5(__NR_ppoll, fds, N + execs, waits ? &timeout : NULL, NULL, 0) < 0)
        return;
    if (fds[SIG].revents)
        read_signals(in);
    if (fds[SIG].revents || in->unreaped)
        reap(in);
    if (execs > 0)
        agent_look_at_execs(in);
    if (fds[CONN].revents & (POLLIN | POLLHUP | POLLERR))
        agent_read(in, false);
    if (fds[CANDIDATE].revents)
        agent_read(in, true);
    if (fds[LISTEN].revents)
        agent_accept(in);
}

int start_main(int argc, char **argv)
{
    static struct init in = {.master = -1, .identity = -1, .conn = INIT_FD_CTL, .candidate = -1};
    uint64_t ours = UINT64_C(1) << (SIGCHLD - 1) | UINT64_C(1) << (SIGTERM - 1);

    /* First: from here on the descriptors are ours alone. */
    (void)sys5(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)sys5(__NR_prctl, PR_SET_NAME, "dyno-init", 0, 0, 0);
    (void)sys4(__NR_rt_sigprocmask, SIG_SETMASK, &ours, NULL, sizeof(ours));
    in.sigfd = (int)sys4(__NR_signalfd4, -1, &ours, sizeof(ours), O_CLOEXEC | O_NONBLOCK);
    if (!start_command(&in, argc > 1 ? argv[1] : NULL))
        return 0;
    reap(&in);
    while (!in.release) {
        agent_tell(&in);
        if (in.leave && in.phase == INIT_PHASE_ENDED)
            break; /* who comes later finds the record */
        wait_and_serve(&in);
    }
    return 0;
}
