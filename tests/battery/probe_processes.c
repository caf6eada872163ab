/* probe_processes.c - other processes, and PID 1. */
#include "probe.h"

#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_of(long pid, const char *file, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%ld/%s", pid, file);
    return result(open(path, flags));
}

static int seize(pid_t pid)
{
    int r = result(ptrace(PTRACE_SEIZE, pid, NULL, NULL));

    if (r == 0)
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return r;
}

/* --- PID 1 ----------------------------------------------------------------------------------- */

static int init_environ(void)
{
    return open_of(1, "environ", O_RDONLY);
}

static int init_mem(void)
{
    return open_of(1, "mem", O_RDWR);
}

static int init_root(void)
{
    return open_of(1, "root", O_PATH);
}

static int init_exe(void)
{
    return open_of(1, "exe", O_RDONLY);
}

static int init_fd(void)
{
    return open_of(1, "fd", O_RDONLY);
}

static int init_trace(void)
{
    return seize(1);
}

static int init_steal(void)
{
    int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);

    return pidfd < 0 ? errno : result(syscall(SYS_pidfd_getfd, pidfd, 3, 0));
}

/* With less time than it has used, the kernel kills it. The control is PID 1 as well. */
static int init_limits(void)
{
    struct rlimit limit;

    if (prlimit(1, RLIMIT_CPU, NULL, &limit) < 0)
        return errno;
    return prlimit(1, RLIMIT_CPU, &limit, NULL) < 0 ? errno : 0;
}

static int init_idle(void)
{
    const struct sched_param none = {0};

    return sched_setscheduler(1, SCHED_IDLE, &none) < 0 ? errno : 0;
}

static int init_nice(void)
{
    return setpriority(PRIO_PROCESS, 1, 19) < 0 ? errno : 0;
}

static int init_processors(void)
{
    cpu_set_t all;

    if (sched_getaffinity(1, sizeof(all), &all) < 0)
        return errno;
    return sched_setaffinity(1, sizeof(all), &all) < 0 ? errno : 0;
}

static int init_ns(void)
{
    return open_of(1, "ns/mnt", O_RDONLY);
}

/* --- a process of the host, with our very uid ------------------------------------------------ */

static int host_seen(void)
{
    char path[64], name[32] = "";

    snprintf(path, sizeof(path), "/proc/%ld/comm", told_number("pid"));
    int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, name, sizeof(name) - 1) < 0)
        return errno;
    return strcmp(name, "canary\n") ? STOPPED : 0;
}

static int host_kill(void)
{
    return result(kill((pid_t)told_number("pid"), 0));
}

static int host_trace(void)
{
    return seize((pid_t)told_number("pid"));
}

static int host_read(void)
{
    char c;
    struct iovec local = {&c, 1}, remote = {(void *)told_number("address"), 1};

    return result(process_vm_readv((pid_t)told_number("pid"), &local, 1, &remote, 1, 0));
}

static int host_environ(void)
{
    int r = host_seen();

    return r ? r : open_of(told_number("pid"), "environ", O_RDONLY);
}

static int host_abstract(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *name = told("abstract");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(to.sun_path + 1, name);
    return result(connect(fd, (struct sockaddr *)&to,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))));
}

static int host_shm(void)
{
    return result(shmget((key_t)told_number("shm"), 0, 0));
}

static int host_queue(void)
{
    return result(mq_open(told("queue"), O_RDONLY));
}

static int own_queue(void)
{
    int r = result(mq_open("/probe", O_RDWR | O_CREAT | O_EXCL, 0600, NULL));

    return r ? r : result(mq_open("/probe", O_RDONLY));
}

/* --- what must work -------------------------------------------------------------------------- */

static int child_of(int (*fn)(pid_t))
{
    pid_t pid = fork();

    if (pid == 0) {
        pause();
        _exit(0);
    }
    int r = fn(pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return r;
}

static int read_child(pid_t pid)
{
    static char mine[8] = "secret!";
    char got[8] = "";
    struct iovec local = {got, 8}, remote = {mine, 8};

    if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != 8)
        return errno;
    return strcmp(got, mine) ? EIO : open_of(pid, "environ", O_RDONLY);
}

static int own_trace(void)
{
    return child_of(seize);
}

static int own_read(void)
{
    return child_of(read_child);
}

const struct attack process_probes[] = {
    {"init-environ", init_environ}, {"init-mem", init_mem},
    {"init-root", init_root},       {"init-exe", init_exe},
    {"init-fd", init_fd},           {"init-ns", init_ns},
    {"init-trace", init_trace},     {"init-steal", init_steal},
    {"init-limits", init_limits},   {"init-idle", init_idle},
    {"init-nice", init_nice},       {"init-processors", init_processors},
    {"host-seen", host_seen},       {"host-kill", host_kill},
    {"host-trace", host_trace},     {"host-read", host_read},
    {"host-environ", host_environ}, {"host-abstract", host_abstract},
    {"host-shm", host_shm},         {"host-queue", host_queue},
    {"own-queue", own_queue},       {"own-trace", own_trace},
    {"own-read", own_read},         {0},
};
