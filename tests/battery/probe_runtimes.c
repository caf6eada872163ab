/* probe_runtimes.c - what must go on in spite of the filter: a program that would rather use
 * io_uring, and what Go's runtime asks of the kernel before main() and in a server's first moments
 * (as of 1.25; gojq in test_confine.c is real, but older). Where Go takes no for an answer, these
 * do too. */
#include "probe.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Newer than some headers. */
#define MADV_COLLAPSE_NOW 25
#define MPTCP             262

/* --- io_uring, or epoll ---------------------------------------------------------------------- */

struct ring {
    int fd;
    struct io_uring_params p;
    char *sq, *cq;
    struct io_uring_sqe *sqes;
};

static void *ring_map(const struct ring *r, size_t len, off_t what)
{
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, what);

    return at == MAP_FAILED ? NULL : at;
}

static int ring_open(struct ring *r)
{
    memset(r, 0, sizeof(*r));
    r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->p);
    if (r->fd < 0)
        return errno;
    r->sq = ring_map(r, r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
    r->cq = ring_map(r, r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe),
                     IORING_OFF_CQ_RING);
    r->sqes = ring_map(r, r->p.sq_entries * sizeof(*r->sqes), IORING_OFF_SQES);
    return r->sq && r->cq && r->sqes ? 0 : STOPPED;
}

/* What read(2) returns, by way of the ring. */
static int ring_read(struct ring *r, int fd, char *buffer, unsigned len)
{
    uint32_t *tail = (uint32_t *)(void *)(r->sq + r->p.sq_off.tail);
    uint32_t *array = (uint32_t *)(void *)(r->sq + r->p.sq_off.array);
    const struct io_uring_cqe *answer = (void *)(r->cq + r->p.cq_off.cqes);

    r->sqes[0] = (struct io_uring_sqe){
        .opcode = IORING_OP_READ, .fd = fd, .addr = (uintptr_t)buffer, .len = len};
    array[0] = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return -1;
    return answer->res;
}

static int epoll_read(int fd, char *buffer, unsigned len)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN};

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0 || epoll_wait(ep, &ev, 1, 5000) != 1)
        return -1;
    return (int)read(fd, buffer, len);
}

/* The same work both ways: what somebody says a moment later is heard. 0: with the ring; the errno
 * that the ring was refused with; STOPPED: it was not done. */
static int ring_or_epoll(void)
{
    char said[8] = "";
    struct ring ring;
    int fds[2];

    if (pipe(fds) < 0)
        return errno + 100;
    pid_t pid = fork();
    if (pid == 0) {
        usleep(20000);
        _exit(write(fds[1], "hello", 5) != 5);
    }
    int refused = ring_open(&ring);
    int n = refused ? epoll_read(fds[0], said, 7) : ring_read(&ring, fds[0], said, 7);
    (void)waitpid(pid, NULL, 0);
    return n == 5 && !strcmp(said, "hello") ? refused : STOPPED;
}

/* --- Go -------------------------------------------------------------------------------------- */

#define STACK_LEN (256u << 10)

static volatile sig_atomic_t preempted;
static uint32_t woken, asleep;
static pid_t thread_id;

static int go_processors(void)
{
    unsigned char mask[8192];

    return result(syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask));
}

/* Read where they are there: the size of a huge page, the cgroup's share of the processors. */
static int go_files(void)
{
    static const char *const may_lack[] = {"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
                                           "/sys/fs/cgroup/cpu.max"};
    static const char *const all[] = {"/proc/self/cgroup", "/proc/self/mountinfo",
                                      "/proc/sys/net/core/somaxconn"};
    char text[100];

    for (size_t i = 0; i < sizeof(may_lack) / sizeof(may_lack[0]); i++) {
        int fd = open(may_lack[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0 && errno != ENOENT && errno != EACCES)
            return errno;
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        int fd = open(all[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0 || read(fd, text, sizeof(text)) < 1)
            return errno;
    }
    return 0;
}

/* The heap: a large reservation, made usable part by part. */
static int go_heap(void)
{
    const size_t reserved = 64u << 20, used = 4u << 20;
    char *at = mmap((void *)(uintptr_t)UINT64_C(0xc000000000), reserved, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || mmap(at, used, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
        return errno;
    memset(at, 1, used);
    (void)madvise(at, used, MADV_HUGEPAGE); /* the kernel may have none */
    (void)madvise(at, used, MADV_COLLAPSE_NOW);
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, used, "Go: heap");
    if (madvise(at, used, MADV_DONTNEED) < 0 || madvise(at, used, MADV_FREE) < 0)
        return errno;
    return result(munmap(at, reserved));
}

static void on_preempt(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)info;
    (void)context;
    preempted = 1;
}

static int go_signals(void)
{
    stack_t stack = {.ss_sp = malloc(STACK_LEN), .ss_size = STACK_LEN};
    struct sigaction act = {.sa_sigaction = on_preempt,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

    if (sigaltstack(&stack, NULL) < 0)
        return errno;
    for (int i = 1; i <= SIGSYS; i++)
        if (i != SIGKILL && i != SIGSTOP && i != SIGALRM && sigaction(i, &act, NULL) < 0)
            return errno;
    return 0;
}

static int thread_main(void *arg)
{
    struct timespec patience = {5, 0};

    (void)arg;
    thread_id = (pid_t)syscall(SYS_gettid);
    __atomic_store_n(&asleep, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    while (!__atomic_load_n(&woken, __ATOMIC_ACQUIRE))
        (void)syscall(SYS_futex, &woken, FUTEX_WAIT_PRIVATE, 0, &patience, NULL, 0);
    return 0;
}

/* A thread as Go makes them, without the C library's help, that is preempted by a signal. */
static int go_threads(void)
{
    const int flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD;
    struct timespec patience = {5, 0};
    char *stack = malloc(STACK_LEN);

    if (!stack || clone(thread_main, stack + STACK_LEN - 64, flags, NULL) < 0)
        return errno;
    while (!__atomic_load_n(&asleep, __ATOMIC_ACQUIRE))
        (void)syscall(SYS_futex, &asleep, FUTEX_WAIT_PRIVATE, 0, &patience, NULL, 0);
    if (syscall(SYS_tgkill, getpid(), thread_id, SIGURG) < 0)
        return errno;
    for (int i = 0; i < 5000 && !preempted; i++)
        usleep(1000);
    __atomic_store_n(&woken, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &woken, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return preempted ? 0 : STOPPED;
}

/* The profiler's. */
static int go_timers(void)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    struct itimerval off = {0};
    timer_t timer;

    ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &timer) < 0 || timer_delete(timer) < 0)
        return errno;
    return result(setitimer(ITIMER_PROF, &off, NULL));
}

/* As many files as it may have. */
static int go_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return errno;
    limit.rlim_cur = limit.rlim_max;
    return result(setrlimit(RLIMIT_NOFILE, &limit));
}

/* The poller, and a listener in it: MPTCP since 1.24, where the kernel has it. */
static int go_network(void)
{
    int ep = epoll_create1(EPOLL_CLOEXEC), wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), one = 1;
    const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    struct epoll_event ev = {.events = EPOLLIN};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    uint64_t word = 1;

    if (ep < 0 || wake < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, wake, &ev) < 0)
        return errno;
    int fd = socket(AF_INET, type, MPTCP);
    if (fd < 0 && errno != EINVAL && errno != EPROTONOSUPPORT && errno != ENOPROTOOPT)
        return errno;
    if (fd < 0)
        fd = socket(AF_INET, type, 0);
    ev.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4096) < 0 ||
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
        return errno;
    if (accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) >= 0 || errno != EAGAIN)
        return STOPPED;
    if (write(wake, &word, sizeof(word)) != sizeof(word))
        return errno;
    return epoll_pwait(ep, &ev, 1, 5000, NULL) == 1 ? 0 : STOPPED;
}

/* os/exec: a child known by its pidfd, since 1.23. */
static int go_child(void)
{
    siginfo_t info = {0};
    int pidfd = -1;
    long pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, NULL);

    if (pid == 0)
        _exit(7);
    if (pid < 0)
        return errno;
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0 ||
        waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
        return errno;
    return info.si_status == 7 ? 0 : STOPPED;
}

static int go_start(void)
{
    static const struct attack steps[] = {
        {"processors", go_processors}, {"files", go_files},     {"heap", go_heap},
        {"signals", go_signals},       {"threads", go_threads}, {"timers", go_timers},
        {"limits", go_limits},         {"network", go_network}, {"child", go_child}};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int r = steps[i].run();

        if (r == 0)
            continue;
        fprintf(stderr, "go-start, %s: %s\n", steps[i].name, strerror(r));
        return r;
    }
    return 0;
}

const struct attack runtime_probes[] = {
    {"ring-or-epoll", ring_or_epoll},
    {"go-start", go_start},
    {NULL, NULL},
};
