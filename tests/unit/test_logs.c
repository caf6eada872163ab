/* dynod-logs as a process of its own: this program runs its main() when it is called "dynod-logs",
 * so the test needs no other file, under the sanitizers too. */
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

#define PATIENCE 20000 /* ms: longer than any machine needs */
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

static pid_t spawn(int control, int dir, const char *const *options)
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

static void agent_start_with(struct agent *a, int dir, const char *const *options)
{
    struct err e = ERR_INIT;
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    *a = (struct agent){.hello = -1, .acked = -1};
    a->pid = spawn(sv[1], dir, options);
    close(sv[1]);
    assert_int_equal(frame_conn_new(sv[0], &a->conn, &e), 0);
}

static void agent_start(struct agent *a, int dir)
{
    agent_start_with(a, dir, NULL);
}

static void agent_kill(struct agent *a)
{
    int status;

    assert_int_equal(kill(a->pid, SIGKILL), 0);
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_true(WIFSIGNALED(status)); /* it had not ended by itself */
    frame_conn_freep(&a->conn);
}

/* Closes its socket: it ends by itself, and well. */
static void agent_stop(struct agent *a)
{
    int status;

    frame_conn_freep(&a->conn);
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void agent_take(struct agent *a, const json_t *j)
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
static bool agent_poll(struct agent *a, int timeout)
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

static void say(struct agent *a, json_t *j, int fd)
{
    struct err e = ERR_INIT;

    assert_non_null(j);
    assert_int_equal(frame_send(a->conn, j, &fd, fd >= 0, &e), 0);
    json_decref(j);
}

static void say_open(struct agent *a, unsigned i, const char *dyno, int pipe)
{
    char inc[16];

    snprintf(inc, sizeof(inc), "inc-%u", i);
    say(a, json_pack("{s:{s:s,s:s}}", "open", "dyno", dyno, "inc", inc), pipe);
}

static void say_line(struct agent *a, int64_t seq, const char *dyno, const char *text)
{
    say(a,
        json_pack("{s:{s:I,s:s,s:I,s:s}}", "line", "seq", (json_int_t)seq, "dyno", dyno, "t",
                  (json_int_t)1700000000000000 + seq, "text", text),
        -1);
}

/* Sends the query (taken), gives where its answer comes. */
static int ask(struct agent *a, json_t *query)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    say(a, json_pack("{s:o}", "query", query), fds[1]);
    close(fds[1]);
    return fds[0];
}

/* Reads until END is the last of it, or to the end of file where END is NULL. */
static char *read_until(struct agent *a, int fd, const char *end)
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

static char *answer(struct agent *a, json_t *query)
{
    scoped_fd fd = ask(a, query);

    return read_until(a, fd, NULL);
}

/* Each line without its time. */
static void expect_answer(struct agent *a, json_t *query, const char *want)
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
static void settle(struct agent *a)
{
    scoped_free char *none = answer(a, json_pack("{s:i}", "n", 0));

    assert_string_equal(none, "");
}

static int state_dir(void **state)
{
    int fd = open(*state, O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int dir_setup(void **state)
{
    char *path = strdup("/dev/shm/dynod-test-logs-XXXXXX");

    if (!path || !mkdtemp(path))
        return -1;
    *state = path;
    return 0;
}

static int dir_teardown(void **state)
{
    struct err e = ERR_INIT;
    int r = tree_remove(AT_FDCWD, *state, &e);

    free(*state);
    return r;
}

static void make_pipe(int fds[2])
{
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}

static void put(int fd, const char *text)
{
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
}

/* --- stories ------------------------------------------------------------------------------------
 */

static void expect_usage(int control, int dir, const char *const *options)
{
    int status;
    pid_t pid = spawn(control, dir, options);

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 2);
}

static void it_refuses_what_it_cannot_work_with(void **state)
{
    scoped_fd dir = state_dir(state), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    expect_usage(null, dir, NULL);
    expect_usage(sv[0], null, NULL);
    expect_usage(sv[0], dir, (const char *const[]){"--tail-bytes", "1", NULL});
    expect_usage(sv[0], dir, (const char *const[]){"--tail-lines", "x", NULL});
    expect_usage(sv[0], dir, (const char *const[]){"--platform-source", "a b", NULL});
    expect_usage(sv[0], dir, (const char *const[]){"--nonsense", NULL});
    expect_usage(sv[0], dir, (const char *const[]){"more", NULL});
    close(sv[0]);
    close(sv[1]);
}

static void lines_are_stamped_kept_and_found(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    int web[2], worker[2], other[2];

    make_pipe(web);
    make_pipe(worker);
    make_pipe(other);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", web[0]);
    say_open(&a, 1, "shop/worker.1", worker[0]);
    say_open(&a, 2, "blog/web.1", other[0]);
    say_line(&a, 1, "shop/web.1", "Starting process with command `x`");
    WAIT(&a, a.acked == 1);
    put(web[1], "one\ntwo\r\nthr");
    put(web[1], "ee\npart");
    close(web[1]);
    WAIT(&a, a.eofs[0] == 1);
    put(worker[1], "w\n");
    close(worker[1]);
    WAIT(&a, a.eofs[1] == 1);
    put(other[1], "b\n");
    close(other[1]);
    WAIT(&a, a.eofs[2] == 1);

    for (int again = 0; again < 2; again++) {
        const char *shop = "heroku[web.1]: Starting process with command `x`\n"
                           "app[web.1]: one\napp[web.1]: two\napp[web.1]: three\n"
                           "app[web.1]: part\napp[worker.1]: w\n";
        char all[500];

        expect_answer(&a, json_pack("{s:s}", "app", "shop"), shop);
        snprintf(all, sizeof(all), "%sapp[web.1]: b\n", strchr(shop, '\n') + 1);
        expect_answer(&a, json_pack("{s:i}", "n", 6), all);
        expect_answer(&a, json_pack("{s:s,s:i}", "app", "shop", "n", 2),
                      "app[web.1]: part\napp[worker.1]: w\n");
        expect_answer(&a, json_pack("{s:s,s:s}", "app", "shop", "dyno", "worker.1"),
                      "app[worker.1]: w\n");
        expect_answer(&a, json_pack("{s:s,s:s}", "app", "shop", "dyno", "worker"),
                      "app[worker.1]: w\n");
        expect_answer(&a, json_pack("{s:s,s:s}", "app", "shop", "source", "heroku"),
                      "heroku[web.1]: Starting process with command `x`\n");
        expect_answer(&a, json_pack("{s:s,s:s,s:i}", "dyno", "web", "source", "app", "n", 2),
                      "app[web.1]: part\napp[web.1]: b\n");
        expect_answer(&a, json_pack("{s:s}", "app", "none"), "");
        expect_answer(&a, json_pack("{s:s}", "app", "../shop"), "");
        expect_answer(&a, json_pack("{s:s,s:i}", "app", "shop", "n", 0), "");
        expect_answer(&a, json_pack("{s:s,s:i}", "app", "shop", "n", 1000000), shop);
        agent_kill(&a); /* and all of it is still there */
        agent_start(&a, dir);
    }
    agent_stop(&a);
    close(web[0]);
    close(worker[0]);
    close(other[0]);
}

static void json_lines_are_objects(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    struct err e = ERR_INIT;
    json_t *j;
    int fds[2];

    make_pipe(fds);
    agent_start_with(&a, dir, (const char *const[]){"--platform-source", "dynod", NULL});
    say_open(&a, 0, "shop/web.1", fds[0]);
    assert_int_equal(write(fds[1], "a\0\xff\x1b\n", 5), 5);
    close(fds[1]);
    WAIT(&a, a.eofs[0] == 1);
    say_line(&a, 1, "shop/web.1", "up\nand \"up\"");
    WAIT(&a, a.acked == 1);
    scoped_free char *text = answer(&a, json_pack("{s:s}", "format", "json"));
    char *second = strchr(text, '\n') + 1;
    assert_int_equal(json_parse(text, (size_t)(second - text), 1 << 20, &j, &e), 0);
    assert_string_equal(json_str(j, "text", ""), "a\xef\xbf\xbd\x1b");
    assert_string_equal(json_str(j, "source", ""), "app");
    assert_string_equal(json_str(j, "app", ""), "shop");
    assert_string_equal(json_str(j, "dyno", ""), "web.1");
    assert_int_equal(strlen(json_str(j, "t", "")), 32);
    json_decref(j);
    assert_int_equal(json_parse(second, strlen(second), 1 << 20, &j, &e), 0);
    assert_string_equal(json_str(j, "text", ""), "up and \"up\"");
    assert_string_equal(json_str(j, "source", ""), "dynod");
    json_decref(j);
    agent_stop(&a);
    close(fds[0]);
}

static void a_platform_line_is_there_once(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;

    agent_start(&a, dir);
    WAIT(&a, a.hello == 0);
    say_line(&a, 5, "shop/web.1", "five");
    say_line(&a, 5, "shop/web.1", "five again");
    say_line(&a, 4, "shop/web.1", "four, late");
    say_line(&a, 7, "blog/web.1", "seven");
    WAIT(&a, a.acked == 7);
    agent_kill(&a);
    agent_start(&a, dir);
    WAIT(&a, a.hello == 7);
    say_line(&a, 7, "blog/web.1", "seven");
    say_line(&a, 8, "shop/web.1", "eight");
    WAIT(&a, a.acked == 8);
    expect_answer(&a, json_pack("{s:s}", "app", "shop"),
                  "heroku[web.1]: five\nheroku[web.1]: eight\n");
    expect_answer(&a, json_pack("{s:s}", "app", "blog"), "heroku[web.1]: seven\n");
    /* The app goes, the number stays. */
    say(&a, json_pack("{s:{s:s}}", "forget", "app", "shop"), -1);
    expect_answer(&a, json_pack("{s:s}", "app", "shop"), "");
    agent_kill(&a);
    agent_start(&a, dir);
    WAIT(&a, a.hello == 8);
    expect_answer(&a, json_object(), "heroku[web.1]: seven\n");
    agent_stop(&a);
}

/* Bytes that left the pipe are told although the pipe is gone; a line that has not ended is not. */
static void what_left_a_pipe_is_not_lost_with_it(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    struct err e = ERR_INIT;
    struct spool spool;
    int fds[2];

    make_pipe(fds);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    put(fds[1], "one\npa");
    scoped_fd follow = ask(&a, json_pack("{s:b}", "follow", 1));
    scoped_free char *one = read_until(&a, follow, "one\n");
    agent_kill(&a);

    /* It dies between the pipe and the record. */
    put(fds[1], "rt\nthree");
    assert_int_equal(spool_open(dir, "inc-0", 0, &spool, &e), 0);
    spool.pos = 4;
    assert_int_equal(spool_fill(&spool, fds[0], &e), 1);
    spool_close(&spool);
    close(fds[0]);
    agent_start(&a, dir);
    expect_answer(&a, json_object(), "app[web.1]: one\napp[web.1]: part\n");
    assert_int_equal(faccessat(dir, "inc-0.spool", F_OK, 0), 0);
    say(&a, json_pack("{s:{s:s}}", "forget_inc", "inc", "inc-0"), -1);
    expect_answer(&a, json_object(), "app[web.1]: one\napp[web.1]: part\napp[web.1]: three\n");
    assert_int_equal(faccessat(dir, "inc-0.spool", F_OK, 0), -1);
    assert_int_equal(a.eofs[0], 0);
    agent_stop(&a);
    close(fds[1]);
}

static void an_end_is_told_to_each_dynod(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    int fds[2];

    make_pipe(fds);
    put(fds[1], "x\n");
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    say_open(&a, 0, "shop/web.1", fds[0]); /* open already */
    expect_answer(&a, json_object(), "app[web.1]: x\n");
    put(fds[1], "last");
    close(fds[1]);
    WAIT(&a, a.eofs[0] == 1);
    say_open(&a, 0, "shop/web.1", fds[0]);
    WAIT(&a, a.eofs[0] == 2);
    agent_stop(&a);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    WAIT(&a, a.eofs[0] == 1);
    expect_answer(&a, json_object(), "app[web.1]: x\napp[web.1]: last\n");
    /* The app is forgotten while its dyno is there: where it stands is not. */
    say(&a, json_pack("{s:{s:s}}", "forget", "app", "shop"), -1);
    expect_answer(&a, json_object(), "");
    agent_kill(&a);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    WAIT(&a, a.eofs[0] == 1);
    expect_answer(&a, json_object(), "");
    agent_stop(&a);
    close(fds[0]);
}

static void a_huge_line_comes_in_pieces(void **state)
{
    enum { LEN = 5000000 };
    scoped_fd dir = state_dir(state);
    scoped_free char *big = malloc(LEN + 2);
    struct agent a;
    size_t at = 0;
    int fds[2];

    for (size_t i = 0; i < LEN; i++)
        big[i] = (char)('a' + i % 26);
    strcpy(big + LEN, "\n");
    make_pipe(fds);
    agent_start_with(&a, dir, (const char *const[]){"--tail-bytes", "8M", NULL});
    say_open(&a, 0, "shop/web.1", fds[0]);
    scoped_fd follow = ask(&a, json_pack("{s:b}", "follow", 1));
    settle(&a);
    if (fork() == 0)
        _exit(fd_write_full(fds[1], big, LEN + 1) < 0 || fd_write_full(fds[1], "end\n", 4) < 0);
    close(fds[1]);
    scoped_free char *text = read_until(&a, follow, "]: end\n");
    for (char *line = text; *line; line = strchr(line, '\n') + 1) {
        char *body = strstr(line, "]: ") + 3;
        size_t len = strcspn(body, "\n");

        if (at == LEN)
            break;
        assert_in_range(len, 1, LOG_LINE_MAX);
        assert_memory_equal(body, big + at, len);
        at += len;
    }
    assert_int_equal(at, LEN);
    assert_true(wait(NULL) > 0);
    agent_stop(&a);
    close(fds[0]);
}

static void a_stalled_reader_blocks_nobody_and_is_told(void **state)
{
    enum { LINES = 20000 };
    scoped_fd dir = state_dir(state);
    struct agent a;
    int fds[2];
    unsigned before, dropped, next = 0;
    char since[64];

    make_pipe(fds);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    scoped_fd stalled = ask(&a, json_pack("{s:b,s:s}", "follow", 1, "app", "shop"));
    settle(&a);
    for (unsigned i = 0; i < LINES; i++) {
        char line[64];

        snprintf(line, sizeof(line), "line %06u\n", i);
        put(fds[1], line); /* would block for ever */
    }
    close(fds[1]);
    WAIT(&a, a.eofs[0] == 1);
    scoped_free char *text = read_until(&a, stalled, "line 019999\n");
    char *l10 = strstr(text, "heroku[logplex]: Error L10 (output buffer overflow): ");
    assert_non_null(l10);
    assert_null(strstr(strstr(l10, "L10") + 1, "L10"));
    assert_int_equal(sscanf(strchr(l10, ')'), "): %u messages dropped since %63s", &dropped, since),
                     2);
    assert_int_equal(strlen(since), strlen("2026-11-21T20:31:00.000001+00:00."));
    for (char *at = text; (at = strstr(at, "app[web.1]: line ")); at++) {
        assert_int_equal(sscanf(at, "app[web.1]: line %u", &before), 1);
        if (at > l10 && next != before)
            next += dropped; /* exactly as many are missing as it says, and in that place */
        assert_int_equal(before, next);
        next++;
        if (at > l10)
            dropped = 0;
    }
    assert_int_equal(next, LINES);
    agent_stop(&a);
    close(fds[0]);
}

/* Readers come and go, far more than there may be at a time. */
static void readers_are_forgotten_when_they_close(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    int fds[READERS_MAX];

    agent_start(&a, dir);
    say_line(&a, 1, "shop/web.1", "x");
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < READERS_MAX; i++) {
            fds[i] = ask(&a, json_pack("{s:b}", "follow", 1));
            scoped_free char *text = read_until(&a, fds[i], "x\n");
        }
        /* One more is refused: its descriptor is closed. */
        scoped_free char *none = answer(&a, json_pack("{s:b}", "follow", 1));
        assert_string_equal(none, "");
        for (size_t i = 0; i < READERS_MAX; i++)
            close(fds[i]);
    }
    expect_answer(&a, json_object(), "heroku[web.1]: x\n");
    agent_stop(&a);
}

static void an_answer_can_go_to_a_file(void **state)
{
    scoped_fd dir = state_dir(state);
    scoped_fd file = openat(dir, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct agent a;
    struct stat st;

    agent_start(&a, dir);
    say_line(&a, 1, "shop/web.1", "x");
    say(&a, json_pack("{s:{s:b}}", "query", "follow", 1), file);
    say_line(&a, 2, "shop/web.1", "y");
    WAIT(&a, a.acked == 2 && fstat(file, &st) == 0 && st.st_size == 2 * 50);
    agent_stop(&a);
}

static unsigned long status_number(pid_t pid, const char *key, int base)
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

static void it_sleeps_when_nothing_happens_and_holds_no_rights(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    int fds[2];

    make_pipe(fds);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    put(fds[1], "x\n");
    scoped_fd follow = ask(&a, json_pack("{s:b}", "follow", 1));
    scoped_free char *text = read_until(&a, follow, "x\n");
    settle(&a);
    usleep(100000);
    unsigned long before = status_number(a.pid, "\nvoluntary_ctxt_switches:", 10);
    usleep(1500000); /* longer than RETRY_USEC */
    assert_int_equal(status_number(a.pid, "\nvoluntary_ctxt_switches:", 10), before);
    assert_int_equal(status_number(a.pid, "\nCapEff:", 16), 0);
    assert_int_equal(status_number(a.pid, "\nCapPrm:", 16), 0);
    assert_int_equal(status_number(a.pid, "\nNoNewPrivs:", 10), 1);
#ifndef __SANITIZE_ADDRESS__
    assert_int_equal(status_number(a.pid, "\nSeccomp:", 10), 2);
#endif
    agent_stop(&a);
    close(fds[0]);
    close(fds[1]);
}

/* Their offsets would not agree: the second waits until the first is gone for good. */
static void two_never_share_a_directory(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a, b;

    agent_start(&a, dir);
    WAIT(&a, a.hello == 0);
    agent_start(&b, dir);
    for (int i = 0; i < 20; i++)
        assert_true(agent_poll(&b, 10));
    assert_int_equal(b.hello, -1);
    say_line(&a, 3, "shop/web.1", "x");
    WAIT(&a, a.acked == 3);
    agent_kill(&a);
    WAIT(&b, b.hello == 3);
    agent_stop(&b);
}

static bool write_proc(const char *path, const char *text)
{
    scoped_fd fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && fd_write_full(fd, text, strlen(text)) == 0;
}

/* Over a user namespace in which this user is itself. */
static bool become_root_here(void)
{
    char users[64], groups[64];

    snprintf(users, sizeof(users), "%u %u 1", getuid(), getuid());
    snprintf(groups, sizeof(groups), "%u %u 1", getgid(), getgid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_proc("/proc/self/uid_map", users) &&
           write_proc("/proc/self/setgroups", "deny") && write_proc("/proc/self/gid_map", groups);
}

/* In a mount of its own: a tmpfs of SIZE bytes as a directory. -1: not allowed here. */
static int small_tmpfs(const char *size)
{
    int sv[2], fd = -1, status;
    size_t n_fds;
    char c;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    uid_t uid = getuid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (uid != 0 && !become_root_here())
            _exit(1);
        int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
        if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
            fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0777", 0) < 0 ||
            fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
            _exit(1);
        fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
        _exit(fd < 0 || fd_send(sv[1], "x", 1, &fd, 1) != 1);
    }
    close(sv[1]);
    if (fd_recv(sv[0], &c, 1, &fd, &n_fds) != 1 || n_fds != 1)
        fd = -1;
    close(sv[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return fd;
}

/* A full filesystem stops the pipes, and loses nothing. */
static void a_full_filesystem_is_waited_for(void **state)
{
    enum { LINES = 6000, PLATFORM = 20 };
    scoped_fd dir = small_tmpfs("1m");
    struct agent a;
    struct err e = ERR_INIT;
    unsigned want = 0;
    char line[64];
    int fds[2];

    (void)state;
    if (dir < 0) {
        print_message("no tmpfs of our own: user namespaces are not allowed here\n");
        skip();
    }
    scoped_free char *ballast = calloc(1, 800 << 10);
    assert_int_equal(file_write_atomic(dir, "ballast", ballast, 800 << 10, 0600, &e), 0);
    make_pipe(fds);
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    pid_t pid = fork();
    if (pid == 0) {
        for (unsigned i = 0; i < LINES; i++) {
            snprintf(line, sizeof(line), "line %u\n", i);
            put(fds[1], line);
        }
        _exit(0);
    }
    close(fds[1]);
    usleep(500000);
    scoped_free char *big = calloc(1, 9001);
    memset(big, 'p', 9000);
    for (unsigned i = 1; i <= PLATFORM; i++)
        say_line(&a, i, "shop/web.1", big);
    settle(&a);
    assert_int_equal(a.eofs[0], 0);
    assert_true(a.acked < PLATFORM); /* no room for all: not said to be on record */
    assert_int_equal(unlinkat(dir, "ballast", 0), 0);
    WAIT(&a, a.eofs[0] == 1 && a.acked == PLATFORM);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    agent_kill(&a);
    agent_start_with(&a, dir, (const char *const[]){"--tail-lines", "10000", NULL});
    scoped_free char *text = answer(&a, json_pack("{s:i,s:s}", "n", 10000, "source", "app"));
    for (char *at = text; *at; at = strchr(at, '\n') + 1) {
        unsigned got;

        assert_int_equal(sscanf(strstr(at, "]: "), "]: line %u", &got), 1);
        assert_int_equal(got, want++);
    }
    assert_int_equal(want, LINES);
    scoped_free char *platform = answer(&a, json_pack("{s:s}", "source", "heroku"));
    assert_int_equal(strlen(platform), PLATFORM * (33 + strlen("heroku[web.1]: ") + 9000 + 1));
    agent_stop(&a);
    close(fds[0]);
}

static void nonsense_is_refused(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    int fds[2];

    make_pipe(fds);
    agent_start(&a, dir);
    say(&a, json_pack("{s:{s:s,s:s}}", "open", "dyno", "shop/web.1", "inc", "../x"), fds[0]);
    say(&a, json_pack("{s:{s:s,s:s}}", "open", "dyno", "../shop/web.1", "inc", "x"), fds[0]);
    say(&a, json_pack("{s:{s:s,s:s}}", "open", "dyno", "shop/web.1", "inc", "x"), -1);
    say(&a, json_pack("{s:{s:i}}", "line", "seq", 1), -1);
    say(&a, json_pack("{s:{s:i,s:s}}", "line", "seq", -1, "dyno", "shop/web.1"), -1);
    say(&a, json_pack("{s:{}}", "query"), -1);
    say(&a, json_pack("{s:{s:s}}", "forget_inc", "inc", "../../x"), -1);
    say(&a, json_pack("{s:{s:s}}", "forget", "app", "../x"), -1);
    say(&a, json_pack("{s:i}", "open", 1), -1);
    say(&a, json_pack("{s:{}}", "what"), -1);
    expect_answer(&a, json_pack("{s:s}", "dyno", "web.x"), "");
    expect_answer(&a, json_pack("{s:s}", "source", "nobody"), "");
    expect_answer(&a, json_pack("{s:s}", "format", "xml"), "");
    WAIT(&a, a.hello == 0);
    agent_stop(&a);
    close(fds[0]);
    close(fds[1]);
}

/* --- floods -------------------------------------------------------------------------------------
 */

static void flood(int fd)
{
    static char lines[65536];

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(lines, 'x', sizeof(lines));
    for (size_t i = 79; i < sizeof(lines); i += 80)
        lines[i] = '\n';
    while (fd_write_full(fd, lines, sizeof(lines)) == 0)
        ;
    _exit(0);
}

static uint64_t dir_bytes(int dir)
{
    scoped_fd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *list = fdopendir(TAKE_FD(fd));
    uint64_t bytes = 0;
    struct stat st;

    for (struct dirent *entry; (entry = readdir(list));)
        if (fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_blocks * 512;
    return bytes;
}

/* Three floods: each is served as much as the others, a whisper is heard at once, and memory and
 * directory stay what they were. */
static void floods_are_bounded_and_fair(void **state)
{
    enum { FLOODS = 3 };
    scoped_fd dir = state_dir(state);
    uint64_t least = UINT64_MAX, most = 0, bytes = 0, rss = 0;
    pid_t pids[FLOODS];
    struct agent a;
    int fds[2];

    agent_start(&a, dir);
    for (unsigned i = 0; i < FLOODS; i++) {
        make_pipe(fds);
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            flood(fds[1]);
        close(fds[1]);
        say_open(&a, i, i ? "shop/web.1" : "blog/web.1", fds[0]);
        close(fds[0]);
    }
    make_pipe(fds);
    say_open(&a, FLOODS, "shop/worker.1", fds[0]);
    scoped_fd stalled = ask(&a, json_pack("{s:b}", "follow", 1));
    scoped_fd whisper = ask(&a, json_pack("{s:b,s:s}", "follow", 1, "dyno", "worker"));
    usleep(500000);
    put(fds[1], "psst\n");
    scoped_free char *text = read_until(&a, whisper, "psst\n");
    for (int i = 0; i < 20; i++) {
        usleep(50000);
        bytes = dir_bytes(dir) > bytes ? dir_bytes(dir) : bytes;
        rss =
            status_number(a.pid, "\nVmRSS:", 10) > rss ? status_number(a.pid, "\nVmRSS:", 10) : rss;
    }
    for (unsigned i = 0; i < FLOODS; i++) {
        struct stat st;
        char name[32];

        snprintf(name, sizeof(name), "inc-%u.spool", i);
        assert_int_equal(fstatat(dir, name, &st, 0), 0);
        least = (uint64_t)st.st_size < least ? (uint64_t)st.st_size : least;
        most = (uint64_t)st.st_size > most ? (uint64_t)st.st_size : most;
        kill(pids[i], SIGKILL);
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
    }
    assert_true(least > most / 2);
    /* Two apps with two files each, and the spools. */
    assert_true(bytes < 2 * 2 * (TAIL_BYTES_DEFAULT + TURN_BATCH) + 4 * (256 << 10));
#ifndef __SANITIZE_ADDRESS__
    assert_true(rss < 8 << 10);
#endif
    agent_stop(&a);
    close(fds[0]);
    close(fds[1]);
}

/* --- kill -9 ------------------------------------------------------------------------------------
 */

#define WRITERS 4

struct writer {
    pid_t pid;
    int pipe; /* the read end, which outlives the agent */
    char dyno[32];
};

/* Shared with the writers. */
struct script {
    bool stop;
    unsigned written[WRITERS];
};

/* Numbered lines of all lengths, as fast as they go. */
static void write_lines(struct script *script, unsigned who, int fd)
{
    static char filler[12000];
    unsigned seed = who, i;

    memset(filler, 'f', sizeof(filler));
    for (i = 0; !__atomic_load_n(&script->stop, __ATOMIC_RELAXED); i++) {
        char line[12100];
        int len = rand_r(&seed) % 50 == 0 ? rand_r(&seed) % 9900 : rand_r(&seed) % 60;
        int n = snprintf(line, sizeof(line), "%u %.*s%s", i, len, filler,
                         rand_r(&seed) % 3 ? "\n" : "\r\n");

        if (fd_write_full(fd, line, (size_t)n) < 0)
            _exit(1);
    }
    script->written[who] = i;
    _exit(fd_write_full(fd, "end", 3) < 0);
}

static void start_writers(struct writer *w, struct script *script)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        int fds[2];

        make_pipe(fds);
        w[i].pid = fork();
        assert_true(w[i].pid >= 0);
        if (w[i].pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(fds[0]);
            write_lines(script, i, fds[1]);
        }
        close(fds[1]);
        w[i].pipe = fds[0];
        snprintf(w[i].dyno, sizeof(w[i].dyno), "%s/web.%u", i < 3 ? "shop" : "blog", i + 1);
    }
}

static void open_all(struct agent *a, const struct writer *w)
{
    for (unsigned i = 0; i < WRITERS; i++)
        say_open(a, i, w[i].dyno, w[i].pipe);
}

/* What dynod does: lines are numbered, and sent again until they are on record. */
static void say_platform_lines(struct agent *a, int64_t from, int64_t to)
{
    char text[32];

    for (int64_t seq = from; seq <= to; seq++) {
        snprintf(text, sizeof(text), "platform %d", (int)seq);
        say_line(a, seq, seq % 2 ? "shop/web.1" : "blog/web.4", text);
    }
}

struct seen {
    unsigned next[WRITERS]; /* number of the next line */
    bool any[WRITERS];
    bool ended[WRITERS];
    bool placed[WRITERS]; /* there is a record of where the spool stands */
    int64_t seq;
    bool from_start; /* every line from 0 on; else any run without a gap */
};

static void check_record(void *userdata, const struct record *r)
{
    struct seen *s = userdata;
    char text[32] = "";

    if (r->inc_len > 0)
        s->placed[r->inc[4] - '0'] = true;
    if (!record_is_line(r))
        return;
    memcpy(text, r->text, r->text_len < 31 ? r->text_len : 31);
    if (r->kind == RECORD_PLATFORM) {
        assert_true((int64_t)r->seq > s->seq);
        s->seq = (int64_t)r->seq;
        return;
    }
    unsigned who = (unsigned)(r->dyno[r->dyno_len - 1] - '1');
    assert_in_range(who, 0, WRITERS - 1);
    assert_false(s->ended[who]);
    if (!strcmp(text, "end")) {
        s->ended[who] = true;
        return;
    }
    unsigned n = (unsigned)strtoul(text, NULL, 10);
    if (!s->any[who] && !s->from_start)
        s->next[who] = n;
    s->any[who] = true;
    assert_int_equal(n, s->next[who]);
    s->next[who]++;
}

static void check_app(int dir, const char *app, struct seen *seen)
{
    scoped(tail_freep) struct tail *t = NULL;
    struct err e = ERR_INIT;
    scoped_fd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *list = fdopendir(TAKE_FD(fd));
    char name[APP_NAME_MAX + 1];
    uint64_t gen, cut = 0;

    assert_int_equal(tail_new(dir, app, TAIL_BYTES_DEFAULT, &t, &e), 0);
    for (struct dirent *entry; (entry = readdir(list));)
        if (tail_name_parse(entry->d_name, name, &gen) && !strcmp(name, app))
            tail_found(t, gen);
    assert_int_equal(tail_load(t, check_record, seen, &cut, &e), 0);
}

static void check_places(int dir, const struct seen *seen)
{
    char name[32];

    for (unsigned i = 0; i < WRITERS; i++) {
        snprintf(name, sizeof(name), "inc-%u.spool", i);
        if (faccessat(dir, name, F_OK, 0) == 0)
            assert_true(seen->placed[i]);
    }
}

/* Kills it at random moments, starts it again on the same pipes, and looks at what is on record. */
static void kill_it_often(int dir, const char *tail_bytes, unsigned kills, bool from_start)
{
    const char *const options[] = {"--tail-bytes", tail_bytes, NULL};
    struct script *script =
        mmap(NULL, sizeof(*script), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct seen seen;
    struct writer w[WRITERS];
    struct agent a;
    int64_t sent = 0;

    assert_true(script != MAP_FAILED);
    start_writers(w, script);
    for (unsigned i = 0; i < kills; i++) {
        agent_start_with(&a, dir, options);
        open_all(&a, w);
        if (i % 3 != 0) {
            WAIT(&a, a.hello >= 0);
            say_platform_lines(&a, a.hello + 1, sent += 20);
            assert_true(agent_poll(&a, 0));
        }
        /* Half of them while it starts. */
        usleep((useconds_t)random() % (i % 2 ? 20000 : 2500));
        agent_kill(&a);
        seen = (struct seen){.from_start = from_start};
        if (!from_start) {
            check_app(dir, "shop", &seen);
            seen.seq = 0;
            check_app(dir, "blog", &seen);
            check_places(dir, &seen);
        }
    }
    script->stop = true;
    agent_start_with(&a, dir, options);
    open_all(&a, w);
    WAIT(&a, a.hello >= 0);
    say_platform_lines(&a, a.hello + 1, sent);
    WAIT(&a, a.acked == sent && a.eofs[0] && a.eofs[1] && a.eofs[2] && a.eofs[3]);
    agent_stop(&a);

    seen = (struct seen){.from_start = from_start};
    check_app(dir, "shop", &seen);
    seen.seq = 0;
    check_app(dir, "blog", &seen);
    for (unsigned i = 0; i < WRITERS; i++) {
        int status;

        assert_int_equal(a.eofs[i], 1);
        assert_int_equal(waitpid(w[i].pid, &status, 0), w[i].pid);
        assert_int_equal(status, 0);
        close(w[i].pipe);
        if (seen.any[i] || from_start)
            assert_int_equal(seen.next[i], script->written[i]);
        if (from_start)
            assert_true(seen.ended[i]);
    }
    munmap(script, sizeof(*script));
}

static void kill_9_loses_nothing_and_repeats_nothing(void **state)
{
    scoped_fd dir = state_dir(state);

    kill_it_often(dir, "256M", 60, true);
}

/* The same while files are begun and dropped all the time. */
static void kill_9_does_not_hurt_a_rotation(void **state)
{
    scoped_fd dir = state_dir(state);

    kill_it_often(dir, "4k", 200, false);
}

#define IN_DIR(fn) cmocka_unit_test_setup_teardown(fn, dir_setup, dir_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(it_refuses_what_it_cannot_work_with),
        IN_DIR(lines_are_stamped_kept_and_found),
        IN_DIR(json_lines_are_objects),
        IN_DIR(a_platform_line_is_there_once),
        IN_DIR(what_left_a_pipe_is_not_lost_with_it),
        IN_DIR(an_end_is_told_to_each_dynod),
        IN_DIR(a_huge_line_comes_in_pieces),
        IN_DIR(a_stalled_reader_blocks_nobody_and_is_told),
        IN_DIR(readers_are_forgotten_when_they_close),
        IN_DIR(an_answer_can_go_to_a_file),
        IN_DIR(it_sleeps_when_nothing_happens_and_holds_no_rights),
        IN_DIR(two_never_share_a_directory),
        IN_DIR(a_full_filesystem_is_waited_for),
        IN_DIR(nonsense_is_refused),
        IN_DIR(floods_are_bounded_and_fair),
        IN_DIR(kill_9_loses_nothing_and_repeats_nothing),
        IN_DIR(kill_9_does_not_hurt_a_rotation),
    };

    if (!strcmp(argv[0], "dynod-logs"))
        return dynod_logs_main(argc, argv);
    srandom((unsigned)clock_boot());
    return cmocka_run_group_tests_name("logs", tests, NULL, NULL);
}
