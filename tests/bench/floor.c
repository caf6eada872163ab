/* floor.c - what the kernel alone takes: clone3 with the namespaces of a dyno (user, mount, pid,
 * ipc, uts, cgroup), overlay, pivot_root, execve of a static program, until its first
 * instruction, of which it tells by the clock (hello-byte.c). No cgroup, no seccomp, no /proc, no
 * PID 1 of its own: the floor under every start.
 *
 * floor HELLO-BYTE [N [PAUSE [net]]]: prints milliseconds; PAUSE between the starts, in
 * milliseconds too: a processor that has gone to sleep takes its time to wake. "net": a network
 * namespace too. As root.
 * floor N exec COMMAND...: fork and execve of that command, until what it starts tells the same:
 * for what other programs take. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    perror(what);
    _exit(1);
}

static void put(pid_t pid, const char *file, const char *text)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd, path);
    check((int)write(fd, text, strlen(text)), path);
    close(fd);
}

/* What the program said of its first instruction, in milliseconds of our clock. */
static double stamp(int from)
{
    char text[64];
    ssize_t n = read(from, text, sizeof(text) - 1);

    check(n < 3 || text[0] != 'S' ? -1 : 0, "no stamp");
    text[n] = '\0';
    return strtod(text + 2, NULL) / 1e6;
}

static void child(int go, int out)
{
    char *argv[] = {(char *)"hello", (char *)"now", NULL}, *envp[] = {NULL};
    char c;

    check((int)read(go, &c, 1), "wait for the id map");
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    check(mount("overlay", "m", "overlay", 0, "lowerdir=l,upperdir=u,workdir=w,userxattr,volatile"),
          "overlay");
    check(chdir("m"), "chdir");
    check((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount");
    check(dup2(out, 1), "dup2");
    execve("/hello", argv, envp);
    check(-1, "execve");
}

static double once(uint64_t more)
{
    struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
                                       CLONE_NEWUTS | CLONE_NEWCGROUP | more,
                              .exit_signal = SIGCHLD};
    int go[2], out[2];

    check(mkdir("u", 0755) | mkdir("w", 0755), "mkdir");
    check(pipe2(go, O_CLOEXEC) | pipe2(out, O_CLOEXEC), "pipe");
    double start = now_ms();
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    check(pid, "clone3");
    if (pid == 0)
        child(go[0], out[1]);
    put(pid, "uid_map", "0 0 1");
    put(pid, "setgroups", "deny");
    put(pid, "gid_map", "0 0 1");
    check((int)write(go[1], "x", 1), "go");
    close(out[1]);
    double took = stamp(out[0]) - start;
    waitpid(pid, NULL, 0);
    close(go[0]);
    close(go[1]);
    close(out[0]);
    check(system("rm -rf u w"), "rm");
    return took;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void report(double *all, int n)
{
    qsort(all, (size_t)n, sizeof(*all), by_value);
    printf("floor: n=%d p50=%.3f ms p90=%.3f ms min=%.3f ms\n", n, all[n / 2], all[n * 9 / 10],
           all[0]);
}

static double once_exec(char **argv)
{
    int out[2], status;
    char c;

    check(pipe2(out, O_CLOEXEC), "pipe");
    double start = now_ms();
    pid_t pid = fork();
    check(pid, "fork");
    if (pid == 0) {
        check(dup2(out[1], 1), "dup2");
        execvp(argv[0], argv);
        check(-1, argv[0]);
    }
    close(out[1]);
    double took = stamp(out[0]) - start;
    while (read(out[0], &c, 1) > 0)
        ;
    waitpid(pid, &status, 0);
    close(out[0]);
    if (status != 0) {
        fprintf(stderr, "floor: %s failed\n", argv[0]);
        _exit(1);
    }
    return took;
}

static int run_floor(const char *hello, int n, useconds_t pause_usec, uint64_t more)
{
    char dir[] = "/tmp/floor-XXXXXX", command[512];
    double *all = calloc((size_t)n, sizeof(*all));

    if (!all || !mkdtemp(dir))
        return 2;
    snprintf(command, sizeof(command), "chmod 755 %s && mkdir %s/l %s/m && cp '%s' %s/l/hello", dir,
             dir, dir, hello, dir);
    if (system(command) != 0 || chdir(dir) < 0)
        return 2;
    for (int i = 0; i < n; i++) {
        usleep(pause_usec);
        all[i] = once(more);
    }
    report(all, n);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command) != 0;
}

int main(int argc, char **argv)
{
    bool is_exec = argc > 3 && !strcmp(argv[2], "exec");
    int n = is_exec ? atoi(argv[1]) : argc > 2 ? atoi(argv[2]) : 200;

    if (argc < 2 || n < 1)
        return 2;
    if (is_exec) {
        double *all = calloc((size_t)n, sizeof(*all));

        for (int i = 0; all && i < n; i++)
            all[i] = once_exec(argv + 3);
        if (all)
            report(all, n);
        return all ? 0 : 2;
    }
    return run_floor(argv[1], n, argc > 3 ? (useconds_t)atoi(argv[3]) * 1000 : 0,
                     argc > 4 && !strcmp(argv[4], "net") ? CLONE_NEWNET : 0);
}
