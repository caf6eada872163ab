/* probe - what a hostile program would try, run as a dyno's command. Static: needs nothing of the
 * stack. `probe [NAME=value...] PROBE...` prints "PROBE=RESULT" for each. When it stands in for
 * dyno-init (argv[0] says so) its arguments are those of the launch record. */
#include "probe.h"

#include "isolate/initproto.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char **arguments;
static int n_arguments;

const char *told(const char *name)
{
    size_t len = strlen(name);

    for (int i = 0; i < n_arguments; i++)
        if (!strncmp(arguments[i], name, len) && arguments[i][len] == '=')
            return arguments[i] + len + 1;
    return "";
}

long told_number(const char *name)
{
    return strtol(told(name), NULL, 10);
}

static const struct attack *find(const char *name)
{
    const struct attack *const tables[] = {file_probes, process_probes, kernel_probes,
                                           runtime_probes};

    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
        for (const struct attack *p = tables[t]; p->name; p++)
            if (!strcmp(p->name, name))
                return p;
    return NULL;
}

/* Each in a process of its own: some change what the next would see, some are killed. */
static int run(const struct attack *p)
{
    int fds[2], answer = -1, status = 0;

    if (pipe(fds) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        alarm(10);
        if (told_number("own-mounts"))
            (void)unshare(CLONE_NEWNS);
        answer = p->run();
        (void)!write(fds[1], &answer, sizeof(answer));
        _exit(0);
    }
    close(fds[1]);
    if (pid < 0 || read(fds[0], &answer, sizeof(answer)) != sizeof(answer))
        answer = -1;
    close(fds[0]);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : answer;
}

static int run_all(void)
{
    printf("\n");
    for (int i = 0; i < n_arguments; i++) {
        const struct attack *p = find(arguments[i]);

        if (p)
            printf("%s=%d\n", p->name, run(p));
        else if (!strchr(arguments[i], '='))
            printf("%s=?\n", arguments[i]);
        fflush(stdout);
    }
    return 0;
}

/* Instead of dyno-init: the strings of the record that it would have read. */
static void read_record(void)
{
    struct stat st;

    if (fstat(INIT_FD_LAUNCH, &st) < 0)
        return;
    char *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, INIT_FD_LAUNCH, 0);
    if (at == MAP_FAILED)
        return;
    const struct init_launch *head = (const struct init_launch *)at;
    n_arguments = (int)head->argc;
    arguments = calloc(head->argc + 1, sizeof(*arguments));
    at += sizeof(*head);
    for (int i = 0; i < n_arguments; i++, at += strlen(at) + 1)
        arguments[i] = at;
    arguments++; /* its argv[0] */
    n_arguments--;
}

int main(int argc, char **argv)
{
    arguments = argv + 1;
    n_arguments = argc - 1;
    if (!strcmp(argv[0], "dyno-init"))
        read_record();
    if (n_arguments == 0)
        return 2;
    if (!strcmp(arguments[0], "--syscalls"))
        return every_syscall();
    if (!strcmp(arguments[0], "--state"))
        return print_state();
    if (!strcmp(arguments[0], "--exhaust"))
        return exhaust(arguments[1]);
    if (!strcmp(arguments[0], "--take"))
        return take_one(arguments[1]);
    if (!strcmp(arguments[0], "--hard-to-kill"))
        return be_hard_to_kill(atoi(arguments[1]));
    return run_all();
}
