/* command.c - one process from one launch record: terminal, stdio, directory, PATH, execve. */
#include "isolate/init/init.h"
#include "isolate/init/sys.h"

#include <asm/ioctls.h>
#include <asm/termios.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/signal.h>

#define CHILD_STACK     (32u << 10)
#define PATH_LEN_MAX    4096u
#define FIRST_OTHER_FD  3
#define REPORT_FD       FIRST_OTHER_FD /* the pipe's place in the child */
#define NO_SUCH_COMMAND 127            /* exit statuses as the shell has them */

/* The launch record, mapped, with the pointers that execve wants. */
struct record {
    char *map;
    size_t map_len;
    char **vector; /* one free slot (for "/bin/sh"), argv, NULL, envp, NULL */
    size_t vector_len;
    char **argv;
    char **envp;
    struct init_launch head;
};

/* What the child reads. It reports through `failed`, in memory that it shares with us (CLONE_VM);
 * or, where it has a copy, through a pipe whose end means that it has executed. */
struct child {
    const struct record *record;
    const int *stdio;
    int terminal; /* -1: none */
    int report;   /* -1: none */
    volatile int failed;
};

static void unmap(void *at, size_t len)
{
    if (at)
        (void)sys2(__NR_munmap, at, len);
}

static void record_done(struct record *r)
{
    unmap(r->map, r->map_len);
    unmap(r->vector, r->vector_len);
}

static void *map(size_t len, int prot, int flags, int fd)
{
    long at = sys6(__NR_mmap, 0, (long)len, prot, flags, fd, 0);

    return at < 0 && at > -4096 ? NULL : (void *)at;
}

/* The strings must fill the record exactly: argc + envc of them, the last byte a NUL. */
static int record_strings(struct record *r)
{
    char *at = r->map + sizeof(struct init_launch);
    char *end = r->map + r->head.size;
    char **next = r->vector + 1;

    if (end == at || end[-1] != '\0')
        return -EINVAL;
    r->argv = next;
    for (uint32_t i = 0; i < r->head.argc + r->head.envc; i++) {
        if (at >= end)
            return -EINVAL;
        if (i == r->head.argc) {
            *next++ = NULL;
            r->envp = next;
        }
        *next++ = at;
        at += strlen(at) + 1;
    }
    if (r->head.envc == 0) {
        *next++ = NULL;
        r->envp = next;
    }
    *next = NULL;
    return at == end ? 0 : -EINVAL;
}

static int record_open(int fd, struct record *r)
{
    long size = sys3(__NR_lseek, fd, 0, SYS_SEEK_END);

    if (size < 0)
        return (int)size;
    if (size < (long)sizeof(r->head) || size > (long)INIT_LAUNCH_MAX)
        return -EINVAL;
    r->map_len = (size_t)size;
    r->map = map(r->map_len, PROT_READ, MAP_PRIVATE, fd);
    if (!r->map)
        return -ENOMEM;
    memcpy(&r->head, r->map, sizeof(r->head));
    if (r->head.magic != INIT_LAUNCH_MAGIC || r->head.size != r->map_len || r->head.argc == 0 ||
        r->head.argc > INIT_LAUNCH_STRINGS || r->head.envc > INIT_LAUNCH_STRINGS)
        return -EINVAL;
    r->vector_len = ((size_t)r->head.argc + r->head.envc + 3) * sizeof(char *);
    r->vector = map(r->vector_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (!r->vector)
        return -ENOMEM;
    return record_strings(r);
}

static bool starts_with(const char *text, const char *prefix)
{
    for (; *prefix; text++, prefix++)
        if (*text != *prefix)
            return false;
    return true;
}

static bool has_slash(const char *text)
{
    for (; *text; text++)
        if (*text == '/')
            return true;
    return false;
}

/* execve, and as execvp(3) does it: a script without an interpreter line is the shell's. */
static int try_exec(const struct record *r, char *path)
{
    long err = sys3(__NR_execve, path, r->argv, r->envp);

    if (err == -ENOEXEC) {
        char **sh = r->argv - 1;

        sh[0] = (char *)(uintptr_t) "/bin/sh";
        sh[1] = path;
        err = sys3(__NR_execve, "/bin/sh", sh, r->envp);
        r->argv[0] = path;
    }
    return (int)err;
}

static int exec_by_path(const struct record *r, const char *dirs, const char *name)
{
    char path[PATH_LEN_MAX];
    size_t name_len = strlen(name);
    int best = -ENOENT;

    for (;;) {
        size_t len = 0;

        while (dirs[len] != '\0' && dirs[len] != ':')
            len++;
        if (len + 1 + name_len < sizeof(path)) {
            size_t at = len;

            memcpy(path, dirs, len);
            if (len > 0) /* an empty element is the working directory, execvp(3) */
                path[at++] = '/';
            memcpy(path + at, name, name_len + 1);
            int err = try_exec(r, path);
            /* A later directory may have what this one only forbids. */
            if (err == -EACCES)
                best = err;
            else if (err != -ENOENT && err != -ENOTDIR && err != -ELOOP)
                return err;
        }
        if (dirs[len] == '\0')
            return best;
        dirs += len + 1;
    }
}

static int exec_command(const struct record *r)
{
    const char *dirs = "/usr/local/bin:/usr/bin:/bin";

    if (r->argv[0][0] == '\0')
        return -ENOENT;
    if (has_slash(r->argv[0]))
        return try_exec(r, r->argv[0]);
    for (char **env = r->envp; *env; env++)
        if (starts_with(*env, "PATH=")) {
            dirs = *env + strlen("PATH=");
            break;
        }
    return exec_by_path(r, dirs, r->argv[0]);
}

/* From here on the process has what the command is to have, and returns only -errno. */
static int become(const struct child *c)
{
    uint64_t none = 0;

    (void)sys4(__NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
    (void)sys0(__NR_setsid);
    if (c->terminal >= 0)
        (void)sys3(__NR_ioctl, c->terminal, TIOCSCTTY, 0);
    for (int i = 0; i < FIRST_OTHER_FD; i++) {
        int from = c->terminal >= 0 ? c->terminal : c->stdio[i];

        if (from != i)
            (void)sys3(__NR_dup3, from, i, 0);
    }
    if (c->report >= 0 && c->report != REPORT_FD)
        (void)sys3(__NR_dup3, c->report, REPORT_FD, O_CLOEXEC);
    /* Of its own table: it may be its parent's so far. */
    long r = sys3(__NR_close_range, FIRST_OTHER_FD + (c->report >= 0), ~0u, CLOSE_RANGE_UNSHARE);
    if (r < 0)
        return (int)r;
    if (sys1(__NR_chdir, "/app") < 0)
        (void)sys1(__NR_chdir, "/");
    return exec_command(c->record);
}

static void child_main(void *arg)
{
    struct child *c = arg;
    int failed = -become(c);

    if (c->report >= 0)
        (void)sys3(__NR_write, REPORT_FD, &failed, sizeof(failed));
    else
        c->failed = failed;
    for (;;)
        (void)sys1(__NR_exit_group, NO_SUCH_COMMAND);
}

/* Gives the dyno's own devpts a new terminal. */
static int terminal_open(const struct init_launch *head, int *ret_master, int *ret_terminal)
{
    struct winsize size = {.ws_row = head->rows, .ws_col = head->cols};
    int unlock = 0;
    long master = sys4(__NR_openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0);

    if (master < 0)
        return (int)master;
    long terminal = sys3(__NR_ioctl, master, TIOCSPTLCK, &unlock);
    if (terminal == 0)
        terminal = sys3(__NR_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0) {
        (void)sys1(__NR_close, master);
        return (int)terminal;
    }
    if (head->rows > 0 && head->cols > 0)
        (void)sys3(__NR_ioctl, master, TIOCSWINSZ, &size);
    *ret_master = (int)master;
    *ret_terminal = (int)terminal;
    return 0;
}

long command_clone(unsigned long flags, void (*fn)(void *), void *arg, uint32_t *child_tid)
{
    static char stack[CHILD_STACK] __attribute__((aligned(16)));

    return start_clone(flags | SIGCHLD, stack + sizeof(stack), fn, arg, child_tid);
}

/* As vfork(2): we stand still until the child has executed or ended, so its report is complete
 * when clone returns, and no page table is copied. */
static int run_child(struct command *c, struct child *child)
{
    long pid = command_clone(CLONE_VM | CLONE_VFORK, child_main, child, NULL);

    if (pid < 0)
        return (int)pid;
    if (child->failed != 0) {
        (void)sys4(__NR_wait4, pid, NULL, 0, NULL);
        return -child->failed;
    }
    c->pid = (int)pid;
    return 0;
}

/* As fork(2): with memory of its own, in which we go on. */
static int fork_child(struct command *c, struct child *child)
{
    int ends[2];
    long r = sys2(__NR_pipe2, ends, O_CLOEXEC | O_NONBLOCK);

    if (r < 0)
        return (int)r;
    child->report = ends[1];
    r = command_clone(0, child_main, child, NULL);
    (void)sys1(__NR_close, ends[1]);
    if (r < 0) {
        (void)sys1(__NR_close, ends[0]);
        return (int)r;
    }
    c->report = ends[0];
    c->pid = (int)r;
    return 0;
}

/* All that CHILD needs, in RECORD and itself. */
static int prepare(struct command *c, struct record *record, struct child *child)
{
    int r = record_open(c->launch_fd, record);

    *child = (struct child){.record = record, .stdio = c->stdio, .terminal = -1, .report = -1};
    c->pid = 0;
    c->master = c->report = -1;
    if (r == 0 && (record->head.flags & INIT_TTY))
        return terminal_open(&record->head, &c->master, &child->terminal);
    if (r == 0 && (c->stdio[0] < 0 || c->stdio[1] < 0 || c->stdio[2] < 0))
        return -EINVAL;
    return r;
}

static void clean_up(struct command *c, struct record *record, const struct child *child, int r)
{
    if (child->terminal >= 0)
        (void)sys1(__NR_close, child->terminal);
    if (r < 0 && c->master >= 0) {
        (void)sys1(__NR_close, c->master);
        c->master = -1;
    }
    record_done(record);
}

static int start(struct command *c, int (*clone)(struct command *c, struct child *child))
{
    struct record record = {0};
    struct child child;
    int r = prepare(c, &record, &child);

    if (r == 0)
        r = clone(c, &child);
    clean_up(c, &record, &child, r);
    return r;
}

int command_start(struct command *c)
{
    return start(c, run_child);
}

int command_fork(struct command *c)
{
    return start(c, fork_child);
}

/* Of the one that was made before its command was known. */
static struct record own_record;
static struct child own_child = {.terminal = -1};

int command_become(struct command *c)
{
    int r = prepare(c, &own_record, &own_child);

    return r < 0 ? r : become(&own_child);
}

void command_became(struct command *c, int r)
{
    clean_up(c, &own_record, &own_child, r);
}

int command_report(int report)
{
    int failed = 0;
    long n = sys3(__NR_read, report, &failed, sizeof(failed));

    if (n == -EAGAIN || n == -EINTR)
        return -EAGAIN;
    return n == sizeof(failed) ? -failed : 0;
}
