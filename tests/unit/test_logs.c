/* What dynod and readers see of dynod-logs. */
#include "logs_agent.h"

#include <sys/statvfs.h>

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

static bool there(int dir, const char *name)
{
    return faccessat(dir, name, F_OK, 0) == 0;
}

/* What is said while somebody is dead is not heard: what is known is said again. */
static void what_nobody_knows_is_forgotten(void **state)
{
    scoped_fd dir = state_dir(state);
    struct agent a;
    int fds[2], more[2];

    make_pipe(fds);
    make_pipe(more);
    put(fds[1], "one\n");
    put(more[1], "two\n");
    agent_start(&a, dir);
    say_open(&a, 0, "shop/web.1", fds[0]);
    say_open(&a, 1, "blog/web.1", more[0]);
    say_line(&a, 5, "gone/web.1", "five");
    WAIT(&a, a.acked == 5);
    expect_answer(&a, json_pack("{s:s}", "app", "shop"), "app[web.1]: one\n");
    agent_kill(&a);
    int fd = openat(dir, "inc-7.spool", O_WRONLY | O_CREAT, 0600); /* of which no record tells */
    assert_true(fd >= 0);
    close(fd);
    agent_start(&a, dir);
    WAIT(&a, a.hello == 5);
    /* A frame that is none changes nothing; without apps they stay. */
    say(&a, json_pack("{s:{s:s}}", "keep", "incs", "inc-0"), -1);
    say(&a, json_pack("{s:{s:{s:b,s:b}}}", "keep", "incs", "inc-0", 1, "inc-1", 1), -1);
    expect_answer(&a, json_pack("{s:s}", "app", "gone"), "heroku[web.1]: five\n");
    assert_true(there(dir, "inc-0.spool") && there(dir, "inc-1.spool"));
    assert_false(there(dir, "inc-7.spool"));
    say(&a, json_pack("{s:{s:{s:b},s:{s:b}}}", "keep", "incs", "inc-0", 1, "apps", "shop", 1), -1);
    expect_answer(&a, json_object(), "app[web.1]: one\n");
    assert_true(there(dir, "inc-0.spool"));
    assert_false(there(dir, "inc-1.spool"));
    /* The number stays, although the app that had it went. */
    agent_kill(&a);
    agent_start(&a, dir);
    WAIT(&a, a.hello == 5);
    expect_answer(&a, json_object(), "app[web.1]: one\n");
    agent_stop(&a);
    close(fds[0]);
    close(fds[1]);
    close(more[0]);
    close(more[1]);
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
        /* It learns of all that follows, up to the next round's queries, at one moment. */
        assert_int_equal(kill(a.pid, SIGSTOP), 0);
        for (size_t i = 0; i < READERS_MAX; i++)
            close(fds[i]);
        scoped_fd fd = ask(&a, json_object());
        assert_int_equal(kill(a.pid, SIGCONT), 0);
        scoped_free char *text = read_until(&a, fd, NULL);
        assert_true(strlen(text) > 0);
    }
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

static bool wakes_up(const struct agent *a)
{
    unsigned long before = status_number(a->pid, "\nvoluntary_ctxt_switches:", 10);

    usleep(1500000); /* longer than RETRY_USEC */
    return status_number(a->pid, "\nvoluntary_ctxt_switches:", 10) != before;
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
    uint64_t until = clock_boot() + PATIENCE * USEC_PER_MSEC;
    while (wakes_up(&a)) /* until what was asked of it is done */
        assert_true(clock_boot() < until);
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

static uint64_t free_bytes(int dir)
{
    struct statvfs v;

    assert_int_equal(fstatvfs(dir, &v), 0);
    return (uint64_t)v.f_bfree * v.f_frsize;
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
    uint64_t until = clock_boot() + PATIENCE * USEC_PER_MSEC;
    while (free_bytes(dir) > PLATFORM * 9000 / 2)
        assert_true(agent_poll(&a, 10) && clock_boot() < until);
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(it_refuses_what_it_cannot_work_with),
        IN_DIR(lines_are_stamped_kept_and_found),
        IN_DIR(json_lines_are_objects),
        IN_DIR(a_platform_line_is_there_once),
        IN_DIR(what_left_a_pipe_is_not_lost_with_it),
        IN_DIR(what_nobody_knows_is_forgotten),
        IN_DIR(an_end_is_told_to_each_dynod),
        IN_DIR(a_huge_line_comes_in_pieces),
        IN_DIR(a_stalled_reader_blocks_nobody_and_is_told),
        IN_DIR(readers_are_forgotten_when_they_close),
        IN_DIR(an_answer_can_go_to_a_file),
        IN_DIR(it_sleeps_when_nothing_happens_and_holds_no_rights),
        IN_DIR(two_never_share_a_directory),
        IN_DIR(a_full_filesystem_is_waited_for),
        IN_DIR(nonsense_is_refused),
    };

    return RUN_LOGS_TESTS("logs", tests, argc, argv);
}
