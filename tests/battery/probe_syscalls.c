/* probe_syscalls.c - every system call number of every ABI of the machine, asked of the kernel with
 * the dyno's filter in force, and nothing of it done: a second filter hands what the first one
 * allows to a supervisor (SECCOMP_RET_USER_NOTIF gives way to every refusal), which answers
 * ALLOWED.
 *
 * Prints "ABI NUMBER ANSWER" where ANSWER is an errno, ALLOWED, or KILLED + a signal. */
#include "probe.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALLOWED  4000
#define NUMBERS  600 /* of each ABI: some 130 more than the newest kernel has */
#define LISTENER 77

enum abi { NATIVE, X32, I386, ABIS };
static const char *const abi_names[] = {"native", "x32", "i386"};

struct shared {
    volatile int next;
    volatile int answers[NUMBERS];
};

static long call(enum abi abi, long nr)
{
#if defined(__x86_64__)
    long r = abi == I386 ? nr : nr | (abi == X32 ? 0x40000000 : 0);

    if (abi == I386)
        __asm__ volatile("int $0x80"
                         : "+a"(r)
                         : "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
                         : "memory", "r8", "r9", "r10", "r11");
    else
        __asm__ volatile("xor %%r8d, %%r8d\n\txor %%r9d, %%r9d\n\txor %%r10d, %%r10d\n\tsyscall"
                         : "+a"(r)
                         : "D"(0), "S"(0), "d"(0)
                         : "rcx", "r8", "r9", "r10", "r11", "memory");
    return r;
#else
    (void)abi;
    long r = syscall(nr, 0, 0, 0, 0, 0, 0);
    return r < 0 ? -errno : r;
#endif
}

static void worker(enum abi abi, struct shared *s)
{
    /* All but the end of this process. */
    struct sock_filter insns[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog program = {2, insns};
    long fd =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);

    if (fd != LISTENER)
        for (;;)
            *(volatile int *)NULL = 0;
    while (s->next < NUMBERS) {
        int nr = s->next;
        long r = call(abi, nr);

        s->answers[nr] = r < 0 ? (int)-r : 0;
        s->next = nr + 1;
    }
    for (;;) /* the supervisor sees that we are done */
        ;
}

/* Answers until the worker is done or dead. */
static void supervise(pid_t pid, int listener, struct shared *s)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp response;

    while (s->next < NUMBERS) {
        struct pollfd p = {.fd = listener, .events = POLLIN};

        if (poll(&p, 1, 20) < 0 || (p.revents & POLLHUP))
            break;
        if (!(p.revents & POLLIN)) {
            siginfo_t si = {0};

            if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == pid)
                break;
            continue;
        }
        request = (struct seccomp_notif){0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
            continue;
        response = (struct seccomp_notif_resp){.id = request.id, .error = -ALLOWED};
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
    kill(pid, SIGKILL);
}

static int ask(enum abi abi, struct shared *s)
{
    int status = 0, listener = -1;
    pid_t pid;

    /* The descriptor that the worker's filter will get. */
    for (int fd = 3; fd < LISTENER; fd++)
        dup2(2, fd);
    fflush(stdout);
    pid = fork();
    if (pid == 0)
        worker(abi, s);
    for (int fd = 3; fd < LISTENER; fd++)
        close(fd);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    /* It is not there yet, unless the worker was killed by its first call, or is through already.
     */
    while ((listener = (int)syscall(SYS_pidfd_getfd, pidfd, LISTENER, 0)) < 0) {
        siginfo_t si = {0};

        if (s->next == NUMBERS ||
            (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == pid))
            break;
        usleep(20);
    }
    close(pidfd);
    if (listener >= 0)
        supervise(pid, listener, s);
    else
        kill(pid, SIGKILL);
    close(listener);
    waitpid(pid, &status, 0);
    if (s->next < NUMBERS && WIFSIGNALED(status)) {
        s->answers[s->next] = KILLED + WTERMSIG(status);
        s->next++;
    }
    return 0;
}

int every_syscall(void)
{
#if defined(__x86_64__)
    const int abis = ABIS;
#else
    const int abis = 1;
#endif
    struct shared *s =
        mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int abi = 0; abi < abis; abi++) {
        s->next = 0;
        while (s->next < NUMBERS)
            ask((enum abi)abi, s);
        for (int nr = 0; nr < NUMBERS; nr++)
            printf("%s %d %d\n", abi_names[abi], nr, s->answers[nr]);
    }
    return 0;
}
