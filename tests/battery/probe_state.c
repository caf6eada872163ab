/* probe_state.c - what a program was started with, a line each: to be compared with a golden file.
 */
#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;

static void print_status(void)
{
    static const char *const keys[] = {
        "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",      "NoNewPrivs", "Seccomp:", "SigPnd",
        "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "THP_enabled", "Groups",     "TracerPid"};
    char line[512];
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof(line), f))
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            if (!strncmp(line, keys[i], strlen(keys[i]))) {
                char *at = strchr(line, '\t');

                if (at)
                    *at = ' ';
                printf("%s", line);
            }
    if (f)
        fclose(f);
}

static void print_limits(void)
{
    static const struct {
        const char *name;
        int which;
    } all[] = {{"as", RLIMIT_AS},
               {"core", RLIMIT_CORE},
               {"cpu", RLIMIT_CPU},
               {"data", RLIMIT_DATA},
               {"fsize", RLIMIT_FSIZE},
               {"locks", RLIMIT_LOCKS},
               {"memlock", RLIMIT_MEMLOCK},
               {"msgqueue", RLIMIT_MSGQUEUE},
               {"nice", RLIMIT_NICE},
               {"nofile", RLIMIT_NOFILE},
               {"nproc", RLIMIT_NPROC},
               {"rss", RLIMIT_RSS},
               {"rtprio", RLIMIT_RTPRIO},
               {"rttime", RLIMIT_RTTIME},
               {"sigpending", RLIMIT_SIGPENDING},
               {"stack", RLIMIT_STACK}};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct rlimit l;

        if (getrlimit(all[i].which, &l) == 0)
            printf("limit %s %ld %ld\n", all[i].name, (long)l.rlim_cur, (long)l.rlim_max);
    }
}

static void print_file(const char *path, const char *name)
{
    char text[512] = "";
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (n > 0)
        printf("%s %s%s", name, text, text[n - 1] == '\n' ? "" : "\n");
    close(fd);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int print_state(void)
{
    char at[4096];
    struct stat st;
    size_t n = 0;
    mode_t mask = umask(0);

    printf("umask %03o\n", mask);
    for (int fd = 0; fd < 1024; fd++)
        if (fstat(fd, &st) == 0)
            printf("fd %d %s flags %#x\n", fd,
                   S_ISCHR(st.st_mode)    ? "device"
                   : S_ISFIFO(st.st_mode) ? "pipe"
                                          : "other",
                   (unsigned)fcntl(fd, F_GETFL) & ~0100000u);
    printf("directory %s\n", getcwd(at, sizeof(at)));
    printf("uid %d gid %d groups %d\n", getuid() == geteuid() ? 0 : 1,
           getgid() == getegid() ? 0 : 1, getgroups(0, NULL));
    printf("session %s group %s terminal %s\n", getsid(0) == getpid() ? "own" : "other",
           getpgrp() == getpid() ? "own" : "other", open("/dev/tty", O_RDWR) < 0 ? "none" : "one");
    errno = 0;
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    printf("policy %d\n", sched_getscheduler(0));
    printf("io priority %ld\n", syscall(SYS_ioprio_get, 1, 0));
    printf("timer slack %d\n", prctl(PR_GET_TIMERSLACK));
    printf("personality %#x\n", (unsigned)personality(0xffffffff));
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
    printf("death signal %d\n", prctl(PR_GET_PDEATHSIG, &n) == 0 ? (int)n : -1);
    printf("subreaper %d\n", prctl(PR_GET_CHILD_SUBREAPER, &n) == 0 ? (int)n : -1);
    printf("secure bits %#x\n", (unsigned)prctl(PR_GET_SECUREBITS));
    print_file("/proc/self/oom_score_adj", "oom score");
    print_file("/proc/self/coredump_filter", "core filter");
    print_status();
    print_limits();
    for (n = 0; environ[n]; n++)
        ;
    qsort(environ, n, sizeof(*environ), by_name);
    for (size_t i = 0; i < n; i++)
        printf("env %s\n", environ[i]);
    return 0;
}
