/* probe_exhaust.c - taking all there is of what a user may have of the kernel; being hard to kill.
 */
#include "probe.h"

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int one_watcher(void)
{
    return result(inotify_init());
}

static int one_pipe(void)
{
    int fds[2];

    if (pipe(fds) < 0)
        return errno;
    return result(fcntl(fds[0], F_SETPIPE_SZ, 1 << 20));
}

static int one_signal(void)
{
    union sigval v = {0};

    return result(sigqueue(getpid(), SIGRTMIN, v));
}

static int one_queue(void)
{
    static int n;
    char name[32];

    snprintf(name, sizeof(name), "/q%d-%d", getpid(), n++);
    return result(mq_open(name, O_RDWR | O_CREAT, 0600, NULL));
}

static int one_process(void)
{
    pid_t pid = fork();

    if (pid == 0)
        for (;;)
            pause();
    return result(pid);
}

static int one_locked_page(void)
{
    void *p = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : result(mlock(p, 1 << 16));
}

static const struct {
    const char *name;
    int (*take)(void);
} things[] = {
    {"watchers", one_watcher}, {"pipes", one_pipe},        {"signals", one_signal},
    {"queues", one_queue},     {"processes", one_process}, {"locked", one_locked_page},
};

static int (*find(const char *what))(void)
{
    for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++)
        if (!strcmp(things[i].name, what))
            return things[i].take;
    exit(2);
}

static void hold_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int exhaust(const char *what)
{
    int (*take)(void) = find(what), n = 0, r;

    hold_signals();
    while ((r = take()) == 0 && n < 100000)
        n++;
    printf("took %d, then %s\nready\n", n, strerror(r));
    fflush(stdout);
    for (;;)
        pause();
}

int take_one(const char *what)
{
    hold_signals();
    printf("%s=%d\n", what, find(what)());
    return 0;
}

int be_hard_to_kill(int n)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    for (int i = 0; i < 20; i++)
        if (fork() == 0) { /* a daemon: its parent gone, a session of its own */
            setsid();
            if (fork() != 0)
                _exit(0);
            for (;;)
                pause();
        }
    int made = 0;
    while (made < n) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        if (pid < 0)
            break;
        made++;
    }
    printf("made %d\nready\n", made);
    fflush(stdout);
    for (;;)
        pause();
}
