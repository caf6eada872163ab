/* logs_agent.h - dynod-logs as a process of its own, for tests that play dynod. A test program runs
 * dynod-logs' main() when it is called "dynod-logs", so it needs no other file, under the
 * sanitizers too. Every function asserts that it succeeds. */
#ifndef TESTS_LOGS_AGENT_H
#define TESTS_LOGS_AGENT_H

int dynod_logs_main(int argc, char **argv);
#define main dynod_logs_main
#include "agent/logs/main.c"
#undef main

#include "base/fdio.h"
#include "base/frame.h"

#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE 60000 /* ms: longer than any machine needs */
#define INCS_MAX 8

struct agent {
    pid_t pid;
    struct frame_conn *conn;
    int64_t hello; /* -1: not said yet */
    int64_t acked;
    unsigned eofs[INCS_MAX]; /* of "inc-0", "inc-1", ... */
};

/* --- starting, stopping, talking ----------------------------------------------------------------
 */

static inline pid_t spawn(int control, int dir, const char *const *options)
{
    const char *argv[8] = {"dynod-logs"};
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    for (int i = 0; options && options[i]; i++)
        argv[i + 1] = options[i];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    control = fcntl(control, F_DUPFD, 10);
    dir = fcntl(dir, F_DUPFD, 10);
    if (dup2(control, 0) < 0 || dup2(dir, 3) < 0)
        _exit(99);
    close(control); /* else it would never see the end of its own socket pair */
    execv("/proc/self/exe", (char *const *)argv);
    _exit(98);
}

static inline void agent_start_with(struct agent *a, int dir, const char *const *options)
{
    struct err e = ERR_INIT;
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    *a = (struct agent){.hello = -1, .acked = -1};
    a->pid = spawn(sv[1], dir, options);
    close(sv[1]);
    assert_int_equal(frame_conn_new(sv[0], &a->conn, &e), 0);
}

static inline void agent_start(struct agent *a, int dir)
{
    agent_start_with(a, dir, NULL);
}

static inline void agent_kill(struct agent *a)
{
    int status;

    assert_int_equal(kill(a->pid, SIGKILL), 0);
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself */
    frame_conn_freep(&a->conn);
}

/* Closes its socket: it ends by itself, and well. */
static inline void agent_stop(struct agent *a)
{
    int status;

    frame_conn_freep(&a->conn);
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static inline void agent_take(struct agent *a, const json_t *j)
{
    const json_t *hello = json_object_get(j, "hello"), *ack = json_object_get(j, "ack");
    const json_t *eof = json_object_get(j, "eof");

    if (hello) {
        assert_int_equal(a->hello, -1);
        a->hello = json_int(hello, "seq", -1);
        a->acked = a->hello;
    } else if (ack) {
        assert_true(a->hello >= 0); /* hello is the first */
        a->acked = json_int(ack, "seq", -1);
    } else {
        assert_non_null(eof);
        const char *inc = json_str(eof, "inc", "");
        assert_true(str_starts(inc, "inc-"));
        a->eofs[inc[4] - '0']++;
    }
}

/* Takes what has come. False: the agent has gone. */
static inline bool agent_poll(struct agent *a, int timeout)
{
    struct pollfd p = {.fd = frame_conn_fd(a->conn), .events = POLLIN};
    struct err e = ERR_INIT;
    struct frame f;
    int r;

    (void)frame_flush(a->conn, &e);
    (void)poll(&p, 1, timeout);
    while ((r = frame_next(a->conn, &f, &e)) > 0) {
        agent_take(a, f.json);
        frame_done(&f);
    }
    return r == 0;
}

#define WAIT(a, condition)                                                                         \
    do {                                                                                           \
        uint64_t until_ = clock_boot() + PATIENCE * USEC_PER_MSEC;                                 \
        while (!(condition)) {                                                                     \
            assert_true(clock_boot() < until_);                                                    \
            assert_true(agent_poll(a, 10) || (condition));                                         \
        }                                                                                          \
    } while (0)

static inline void say(struct agent *a, json_t *j, int fd)
{
    struct err e = ERR_INIT;

    assert_non_null(j);
    assert_int_equal(frame_send(a->conn, j, &fd, fd >= 0, &e), 0);
    json_decref(j);
}

static inline void say_open(struct agent *a, unsigned i, const char *dyno, int pipe)
{
    char inc[16];

    snprintf(inc, sizeof(inc), "inc-%u", i);
    say(a, json_pack("{s:{s:s,s:s}}", "open", "dyno", dyno, "inc", inc), pipe);
}

static inline void say_line(struct agent *a, int64_t seq, const char *dyno, const char *text)
{
    say(a,
        json_pack("{s:{s:I,s:s,s:I,s:s}}", "line", "seq", (json_int_t)seq, "dyno", dyno, "t",
                  (json_int_t)1700000000000000 + seq, "text", text),
        -1);
}

/* Sends the query (taken), gives where its answer comes. */
static inline int ask(struct agent *a, json_t *query)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    say(a, json_pack("{s:o}", "query", query), fds[1]);
    close(fds[1]);
    return fds[0];
}

/* Reads until END is the last of it, or to the end of file where END is NULL. */
static inline char *read_until(struct agent *a, int fd, const char *end)
{
    uint64_t until = clock_boot() + PATIENCE * USEC_PER_MSEC;
    struct str s = {0};

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char buf[65536];

        assert_true(clock_boot() < until);
        if (end && s.len >= strlen(end) && !strcmp(s.data + s.len - strlen(end), end))
            break;
        assert_true(agent_poll(a, 0));
        if (poll(&p, 1, 10) == 0)
            continue;
        ssize_t n = read(fd, buf, sizeof(buf));
        assert_true(n >= 0);
        if (n == 0)
            break;
        str_add_n(&s, buf, (size_t)n);
    }
    str_add(&s, "");
    assert_false(s.failed);
    return s.data ? s.data : strdup("");
}

static inline char *answer(struct agent *a, json_t *query)
{
    scoped_fd fd = ask(a, query);

    return read_until(a, fd, NULL);
}

/* Each line without its time. */
static inline void expect_answer(struct agent *a, json_t *query, const char *want)
{
    scoped_free char *text = answer(a, query);
    struct str got = {0};

    for (char *at = text; *at; at = strchr(at, '\n') + 1)
        str_add_n(&got, at + strlen("2026-11-21T20:31:00.000001+00:00 "),
                  strcspn(at, "\n") + 1 - strlen("2026-11-21T20:31:00.000001+00:00 "));
    assert_string_equal(str_text(&got), want);
    str_done(&got);
}

/* Frames are taken in order: what was said before has been done when this returns. */
static inline void settle(struct agent *a)
{
    scoped_free char *none = answer(a, json_pack("{s:i}", "n", 0));

    assert_string_equal(none, "");
}

static inline int state_dir(void **state)
{
    int fd = open(*state, O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static inline int dir_setup(void **state)
{
    char *path = strdup("/dev/shm/dynod-test-logs-XXXXXX");

    if (!path || !mkdtemp(path))
        return -1;
    *state = path;
    return 0;
}

static inline int dir_teardown(void **state)
{
    struct err e = ERR_INIT;
    int r = tree_remove(AT_FDCWD, *state, &e);

    free(*state);
    return r;
}

static inline void make_pipe(int fds[2])
{
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}

static inline void put(int fd, const char *text)
{
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

static inline unsigned long status_number(pid_t pid, const char *key, int base)
{
    char path[64];
    scoped_free char *text = NULL;
    struct err e = ERR_INIT;
    size_t len;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    assert_int_equal(file_read(AT_FDCWD, path, 65536, &text, &len, &e), 0);
    char *at = strstr(text, key);
    assert_non_null(at);
    return strtoul(at + strlen(key), NULL, base);
}

#define IN_DIR(fn) cmocka_unit_test_setup_teardown(fn, dir_setup, dir_teardown)

/* What main() does. */
#define RUN_LOGS_TESTS(name, tests, argc, argv)                                                    \
    (!strcmp((argv)[0], "dynod-logs") ? dynod_logs_main(argc, argv)                                \
                                      : (srandom((unsigned)clock_boot()),                          \
                                         cmocka_run_group_tests_name(name, tests, NULL, NULL)))

#endif
