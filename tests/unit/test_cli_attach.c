/* test_cli_attach.c - the client and attached commands, against a fake agent: a child that speaks
 * the API for one connection and runs the command with sh(1). */
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/attach.h"
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <utmp.h>
#include <termios.h>

#include <cmocka.h>

#define FAILED 250 /* the client's status when attach_run() gave an error */

#define PATIENCE 60 /* seconds for what comes at once, where others have the machine */

static char dir[] = "/tmp/test-cli-attach-XXXXXX";
static char sock_path[64];

/* --- The fake agent --- */

struct fake {
    const char *command; /* NULL: answer with `raw` and close */
    const char *raw;
    bool tty;
    bool vanish; /* close the connection once the command runs */
};

static void send_json(struct frame_conn *c, json_t *j, const int *fds, size_t n)
{
    struct err e = ERR_INIT;

    if (frame_send(c, j, fds, n, &e) < 0)
        _exit(98);
    json_decref(j);
}

static pid_t spawn_pipes(const char *command, int ours[3])
{
    int in[2], out[2], err[2];

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        _exit(97);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        signal(SIGPIPE, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    ours[0] = in[1];
    ours[1] = out[0];
    ours[2] = err[0];
    return pid;
}

static pid_t spawn_tty(const char *command, int *ret_master)
{
    pid_t pid = forkpty(ret_master, NULL, NULL, NULL);

    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Until the command ends: passes signals on. */
static int fake_wait(struct frame_conn *c, pid_t pid)
{
    struct err e = ERR_INIT;
    int status;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct pollfd p = {.fd = frame_conn_fd(c), .events = POLLIN};
        struct frame f;

        (void)poll(&p, 1, 5);
        int r = frame_next(c, &f, &e);
        if (r > 0) {
            kill(pid, (int)json_int(f.json, "signal", 0));
            frame_done(&f);
        } else if (r < 0) { /* the client hung up */
            kill(pid, SIGHUP);
            waitpid(pid, &status, 0);
            _exit(0);
        }
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void fake_command(const struct fake *fake, int fd)
{
    struct frame_conn *c = NULL;
    struct err e = ERR_INIT;
    int fds[3] = {-1, -1, -1};

    if (frame_conn_new(fd, &c, &e) < 0)
        _exit(96);
    pid_t pid = fake->tty ? spawn_tty(fake->command, fds) : spawn_pipes(fake->command, fds);
    send_json(c, json_pack("{s:{s:s,s:b}}", "started", "dyno", "run.1", "tty", fake->tty), fds,
              fake->tty ? 1 : 3);
    for (int i = 0; i < 3; i++)
        fd_closep(&fds[i]);
    if (fake->vanish) {
        frame_conn_freep(&c);
        waitpid(pid, NULL, 0);
        _exit(0);
    }
    send_json(c, json_pack("{s:{s:i}}", "ended", "status", fake_wait(c, pid)), NULL, 0);
    while (frame_flush(c, &e) > 0)
        usleep(1000);
    /* The client closes. */
    struct pollfd p = {.fd = frame_conn_fd(c), .events = POLLIN};
    (void)poll(&p, 1, PATIENCE * 1000);
    _exit(0);
}

/* Serves one connection in a child. */
static pid_t fake_agent(const struct fake *fake)
{
    static const char switching[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                    "Upgrade: dynod-attach\r\n\r\n";
    struct err e = ERR_INIT;
    char buf[65536];
    int listener;

    assert_int_equal(unix_listen(sock_path, SOCK_STREAM, 0600, &listener, &e), 0);
    pid_t pid = fork();
    if (pid) {
        close(listener);
        return pid;
    }
    alarm(2 * PATIENCE);
    signal(SIGPIPE, SIG_IGN);
    struct pollfd p = {.fd = listener, .events = POLLIN};
    (void)poll(&p, 1, -1);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (recv(fd, buf, sizeof(buf), 0) <= 0)
        _exit(95);
    const char *answer = fake->command ? switching : fake->raw;
    (void)fd_write_full(fd, answer, strlen(answer));
    if (fake->command)
        fake_command(fake, fd);
    shutdown(fd, SHUT_WR);
    _exit(0);
}

/* --- The client, in a child with standard streams of its own --- */

static void client_main(bool tty)
{
    struct err e = ERR_INIT;
    json_t *spec = json_pack("{s:s}", "command", "whatever");
    int fd, status, r;

    alarm(2 * PATIENCE);
    attach_block_signals(tty);
    r = client_upgrade(sock_path, "/v1/apps/x/run", spec, &fd, &e);
    json_decref(spec);
    if (r == 0)
        r = attach_run(fd, tty, &status, &e);
    if (r < 0)
        dprintf(2, "%s\n", e.text);
    _exit(r < 0 ? FAILED : status);
}

struct client {
    pid_t pid, agent;
    int in, out, err; /* our ends */
};

static struct client client_start(const struct fake *fake)
{
    struct client c = {.agent = fake_agent(fake)};
    int in[2], out[2], err[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    c.pid = fork();
    if (c.pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        for (int fd = 3; fd < 64; fd++) /* as after an exec */
            close(fd);
        client_main(false);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    c.in = in[1];
    c.out = out[0];
    c.err = err[0];
    return c;
}

/* Reads FD to its end. */
static size_t slurp(int fd, char *buf, size_t cap)
{
    ssize_t n = fd_read_full(fd, buf, cap - 1);

    assert_true(n >= 0);
    buf[n] = '\0';
    return (size_t)n;
}

static int client_end(struct client *c)
{
    int status;

    fd_closep(&c->in);
    fd_closep(&c->out);
    fd_closep(&c->err);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    assert_int_equal(waitpid(c->agent, NULL, 0), c->agent);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Runs COMMAND with INPUT; OUT and ERR of 64 KiB. */
static int run(const struct fake *fake, const char *input, char *out, char *err)
{
    struct client c = client_start(fake);

    (void)signal(SIGPIPE, SIG_IGN);
    if (input)
        (void)fd_write_full(c.in, input, strlen(input));
    if (input)
        fd_closep(&c.in);
    (void)slurp(c.out, out, 65536);
    (void)slurp(c.err, err, 65536);
    return client_end(&c);
}

static char out[65536], err[65536];

/* --- Pipes --- */

static void status_and_streams_come_through(void **state)
{
    (void)state;
    assert_int_equal(
        run(&(struct fake){.command = "echo out; echo err >&2; exit 42"}, "", out, err), 42);
    assert_string_equal(out, "out\n");
    assert_string_equal(err, "err\n");
    assert_int_equal(run(&(struct fake){.command = "kill -9 $$"}, "", out, err), 137);
    assert_int_equal(run(&(struct fake){.command = "cat; echo end"}, "to the end", out, err), 0);
    assert_string_equal(out, "to the endend\n");
}

static void input_that_stays_open_keeps_nothing_waiting(void **state)
{
    (void)state;
    assert_int_equal(run(&(struct fake){.command = "echo done"}, NULL, out, err), 0);
    assert_string_equal(out, "done\n");
    /* A background child that keeps the pipes open neither. */
    assert_int_equal(run(&(struct fake){.command = "sleep 20 & echo $!"}, "", out, err), 0);
    kill(atoi(out), SIGKILL);
}

#define BULK (32u << 20)

/* More than all pipes hold, in both directions at once, and a slow reader. */
static void bulk_flows_both_ways(void **state)
{
    struct fake fake = {.command = "cat"};
    struct client c = client_start(&fake);
    uint32_t sum_in = 0, sum_out = 0;
    size_t received = 0;
    static unsigned char buf[65536];
    ssize_t n;

    (void)state;
    pid_t writer = fork();
    if (writer == 0) {
        close(c.out);
        for (size_t sent = 0; sent < BULK; sent += sizeof(buf)) {
            for (size_t i = 0; i < sizeof(buf); i++)
                buf[i] = (unsigned char)((sent + i) * 2654435761u >> 13);
            if (fd_write_full(c.in, buf, sizeof(buf)) < 0)
                _exit(1);
        }
        _exit(0);
    }
    fd_closep(&c.in);
    usleep(200000); /* let everything fill up */
    while ((n = read(c.out, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++, received++) {
            sum_in = sum_in * 31 + (unsigned char)(received * 2654435761u >> 13);
            sum_out = sum_out * 31 + buf[i];
        }
    assert_int_equal(received, BULK);
    assert_int_equal(sum_in, sum_out);
    assert_int_equal(waitpid(writer, NULL, 0), writer);
    assert_int_equal(client_end(&c), 0);
}

static void a_reader_that_leaves_is_seen_by_the_command(void **state)
{
    struct fake fake = {.command = "yes; echo $? >&2; exit 141"};
    struct client c = client_start(&fake);
    char line[8];

    (void)state;
    assert_int_equal(fd_read_full(c.out, line, 2), 2);
    fd_closep(&c.out);
    (void)slurp(c.err, err, sizeof(err));
    assert_int_equal(client_end(&c), 141); /* 128 + SIGPIPE */
}

static void a_command_that_reads_nothing_ends_nothing_else(void **state)
{
    struct fake fake = {.command = "exec <&-; sleep 0.1; echo still"};
    struct client c = client_start(&fake);
    static char junk[1 << 20];

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)fcntl(c.in, F_SETFL, O_NONBLOCK);
    (void)write(c.in, junk, sizeof(junk)); /* into a pipe whose reader closed */
    (void)slurp(c.out, out, sizeof(out));
    assert_string_equal(out, "still\n");
    assert_int_equal(client_end(&c), 0);
}

static void signals_are_passed_on(void **state)
{
    struct fake fake = {.command = "trap 'echo got; exit 7' TERM; echo ready; "
                                   "while :; do sleep 0.05; done"};
    struct client c = client_start(&fake);

    (void)state;
    assert_int_equal(fd_read_full(c.out, out, 6), 6);
    kill(c.pid, SIGTERM);
    (void)slurp(c.out, out, sizeof(out));
    assert_string_equal(out, "got\n");
    assert_int_equal(client_end(&c), 7);
}

/* Waits until PID has taken SIGNO, or is gone. */
static void taken(pid_t pid, int signo)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    for (;; usleep(1000)) {
        scoped_free char *text = NULL;
        struct err e = ERR_INIT;
        size_t len;

        assert_int_equal(file_read(AT_FDCWD, path, 1 << 16, &text, &len, &e), 0);
        const char *at = strstr(text, "\nShdPnd:");
        if (!at || !(strtoull(at + 8, NULL, 16) & 1ull << (signo - 1)))
            return;
    }
}

static void the_third_interrupt_lets_go(void **state)
{
    struct fake fake = {.command = "trap '' INT; echo ready; "
                                   "while :; do sleep 0.05; done"};
    struct client c = client_start(&fake);

    (void)state;
    assert_int_equal(fd_read_full(c.out, out, 6), 6);
    for (int i = 0; i < 3; i++) {
        kill(c.pid, SIGINT);
        taken(c.pid, SIGINT); /* one that is pending takes the next one in */
    }
    assert_int_equal(client_end(&c), 130);
}

static void a_hangup_lets_go_at_once(void **state)
{
    struct fake fake = {.command = "echo ready; sleep 50"};
    struct client c = client_start(&fake);

    (void)state;
    assert_int_equal(fd_read_full(c.out, out, 6), 6);
    kill(c.pid, SIGHUP);
    assert_int_equal(client_end(&c), 129);
}

static void an_agent_that_dies_costs_the_status_only(void **state)
{
    struct fake fake = {.command = "sleep 0.2; echo late", .vanish = true};

    (void)state;
    assert_int_equal(run(&fake, "", out, err), FAILED);
    assert_string_equal(out, "late\n");
    assert_non_null(strstr(err, "exit status is not known"));
}

/* --- Refusals --- */

static void refusals_are_told(void **state)
{
    static const struct {
        const char *raw, *word;
    } cases[] = {
        {"HTTP/1.1 404 Not Found\r\n\r\n"
         "{\"error\":{\"message\":\"no app x here\",\"fault\":\"operator\",\"code\":\"not_found\"}}",
         "no app x here"},
        {"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nwhat", "500"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "closed the connection"},
        {"SSH-2.0-x\r\n\r\n", "not HTTP"},
        {"", "closed the connection"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake = {.raw = cases[i].raw};

        assert_int_equal(run(&fake, "", out, err), FAILED);
        assert_non_null(strstr(err, cases[i].word));
    }
}

static void answers_and_their_faults(void **state)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "8\r\n{\"a\": [1\r\n3\r\n,2]\r\n1\r\n}\r\n0\r\n\r\n";
    static const char bad[] =
        "HTTP/1.1 400 Bad Request\r\n\r\n"
        "{\"error\":{\"message\":\"field \\\"size\\\"\",\"fault\":\"operator\"}}";
    struct fake fake = {.raw = ok};
    struct err e = ERR_INIT;
    json_t *j = NULL;

    (void)state;
    pid_t agent = fake_agent(&fake);
    assert_int_equal(client_call(sock_path, "GET", "/v1/x", NULL, &j, &e), 0);
    assert_int_equal(json_array_size(json_object_get(j, "a")), 2);
    json_decref(j);
    waitpid(agent, NULL, 0);

    fake.raw = bad;
    agent = fake_agent(&fake);
    assert_int_equal(client_call(sock_path, "GET", "/v1/x", NULL, NULL, &e), -EINVAL);
    assert_string_equal(e.text, "field \"size\"");
    assert_int_equal(e.fault, FAULT_OPERATOR);
    waitpid(agent, NULL, 0);

    assert_int_equal(unlink(sock_path), 0);
    assert_int_equal(client_call(sock_path, "GET", "/v1/x", NULL, NULL, &e), -ENOTCONN);
    assert_non_null(strstr(e.text, sock_path));
}

static void streams_come_by_lines(void **state)
{
    struct fake fake = {.raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "3\r\none\r\n5\r\n\ntwo\n\r\n1\r\n\n\r\n4\r\nlast\r\n0\r\n\r\n"};
    static const char *const want[] = {"one", "two", "", "last"};
    struct feed *s = NULL;
    struct err e = ERR_INIT;
    const char *line;
    size_t len;

    (void)state;
    pid_t agent = fake_agent(&fake);
    assert_int_equal(client_feed(sock_path, "/v1/logs", &s, &e), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(feed_line_wait(s, &line, &len, &e), 1);
        assert_string_equal(line, want[i]);
        assert_int_equal(len, strlen(want[i]));
    }
    assert_int_equal(feed_line_wait(s, &line, &len, &e), -ENODATA);
    feed_freep(&s);
    waitpid(agent, NULL, 0);
}

/* --- A terminal --- */

/* The client on a terminal of its own: *ret_master is the far end. */
static struct client client_on_tty(const struct fake *fake, int *ret_master, struct termios *before)
{
    struct client c = {.agent = fake_agent(fake), .in = -1, .out = -1, .err = -1};
    struct winsize ws = {.ws_row = 31, .ws_col = 97};

    int slave;

    /* Looked at before there is a client that could change it. */
    assert_int_equal(openpty(ret_master, &slave, NULL, NULL, &ws), 0);
    assert_int_equal(tcgetattr(*ret_master, before), 0);
    c.pid = fork();
    if (c.pid == 0) {
        close(*ret_master);
        if (login_tty(slave) < 0)
            _exit(125);
        client_main(true);
    }
    close(slave);
    return c;
}

/* Reads the terminal until WORD was seen. */
static void expect(int master, const char *word)
{
    size_t len = 0;

    memset(out, 0, sizeof(out));
    while (!strstr(out, word)) {
        struct pollfd p = {.fd = master, .events = POLLIN};

        if (poll(&p, 1, PATIENCE * 1000) <= 0)
            fail_msg("no '%s' in: %s", word, out);
        ssize_t n = read(master, out + len, sizeof(out) - 1 - len);
        if (n <= 0)
            fail_msg("ended without '%s': %s", word, out);
        len += (size_t)n;
    }
}

/* After the client: its terminal is as it was. PATH was opened before. */
static void expect_restored(int tty, const struct termios *before)
{
    struct termios now;

    assert_int_equal(tcgetattr(tty, &now), 0);
    assert_int_equal(now.c_lflag, before->c_lflag);
    assert_int_equal(now.c_iflag, before->c_iflag);
    assert_int_equal(now.c_oflag, before->c_oflag);
}

static void a_terminal_is_one_end_to_end(void **state)
{
    struct fake fake = {.command =
                            "echo re''ady; read x; stty size; "
                            "trap 'echo interrup''ted' INT; echo armed; "
                            "sleep 50; until stty size | grep -v '31 97'; do sleep 0.05; done; "
                            "exit 9",
                        .tty = true};
    struct termios before, raw;
    struct winsize bigger = {.ws_row = 40, .ws_col = 120};
    int master;
    struct client c = client_on_tty(&fake, &master, &before);

    (void)state;
    expect(master, "ready");
    assert_int_equal(tcgetattr(master, &raw), 0);
    assert_false(raw.c_lflag & (ICANON | ECHO | ISIG));
    assert_int_equal(write(master, "x\r", 2), 2);
    expect(master, "armed");
    assert_non_null(strstr(out, "31 97"));
    assert_int_equal(write(master, "\003", 1), 1);
    expect(master, "interrupted");
    assert_int_equal(ioctl(master, TIOCSWINSZ, &bigger), 0); /* SIGWINCH to the client */
    expect(master, "40 120");
    assert_int_equal(client_end(&c), 9);
    expect_restored(master, &before);
    close(master);
}

static void the_terminal_is_restored_whatever_ends_it(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    static const int crashes[] = {SIGABRT, SIGSEGV};
    struct fake fake = {.command = "echo ready; sleep 50", .tty = true};
    struct termios before;
    int master;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct client c = client_on_tty(&fake, &master, &before);

        expect(master, "ready");
        kill(c.pid, signals[i]);
        assert_int_equal(client_end(&c), 128 + signals[i]);
        expect_restored(master, &before);
        close(master);
    }
    for (size_t i = 0; i < 2; i++) {
        struct client c = client_on_tty(&fake, &master, &before);

        expect(master, "ready");
        kill(c.pid, crashes[i]);
        assert_int_equal(client_end(&c), -crashes[i]);
        expect_restored(master, &before);
        close(master);
    }
}

static void a_stopped_client_gives_the_terminal_back(void **state)
{
    struct fake fake = {.command = "echo ready; read x; exit 4", .tty = true};
    struct termios before, now;
    int master, status;
    struct client c = client_on_tty(&fake, &master, &before);

    (void)state;
    expect(master, "ready");
    kill(c.pid, SIGTSTP);
    assert_int_equal(waitpid(c.pid, &status, WUNTRACED), c.pid);
    assert_true(WIFSTOPPED(status));
    expect_restored(master, &before);
    kill(c.pid, SIGCONT);
    do
        assert_int_equal(tcgetattr(master, &now), 0);
    while ((now.c_lflag & ICANON) && usleep(1000) == 0);
    assert_int_equal(write(master, "x\r", 2), 2);
    /* What is echoed must be read, or the client cannot put it out. */
    while (read(master, out, sizeof(out)) > 0)
        ;
    assert_int_equal(client_end(&c), 4);
    close(master);
}

/* -t without a terminal of our own: an end of file becomes ^D. */
static void a_forced_terminal_ends_its_input(void **state)
{
    struct fake fake = {.command = "cat; exit 6", .tty = true};
    struct client c = {.agent = fake_agent(&fake)};
    int in[2], outp[2];

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(outp, O_CLOEXEC), 0);
    c.err = -1;
    c.pid = fork();
    if (c.pid == 0) {
        dup2(in[0], 0);
        dup2(outp[1], 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        client_main(true);
    }
    close(in[0]);
    close(outp[1]);
    c.in = in[1];
    c.out = outp[0];
    assert_int_equal(write(c.in, "no line end", 11), 11);
    fd_closep(&c.in);
    (void)slurp(c.out, out, sizeof(out));
    assert_non_null(strstr(out, "no line endno line end")); /* the echo, and cat's */
    assert_int_equal(client_end(&c), 6);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(sock_path, sizeof(sock_path), "%s/s", dir);
    return 0;
}

static int remove_dir(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_and_streams_come_through),
        cmocka_unit_test(input_that_stays_open_keeps_nothing_waiting),
        cmocka_unit_test(bulk_flows_both_ways),
        cmocka_unit_test(a_reader_that_leaves_is_seen_by_the_command),
        cmocka_unit_test(a_command_that_reads_nothing_ends_nothing_else),
        cmocka_unit_test(signals_are_passed_on),
        cmocka_unit_test(the_third_interrupt_lets_go),
        cmocka_unit_test(a_hangup_lets_go_at_once),
        cmocka_unit_test(an_agent_that_dies_costs_the_status_only),
        cmocka_unit_test(refusals_are_told),
        cmocka_unit_test(answers_and_their_faults),
        cmocka_unit_test(streams_come_by_lines),
        cmocka_unit_test(a_terminal_is_one_end_to_end),
        cmocka_unit_test(the_terminal_is_restored_whatever_ends_it),
        cmocka_unit_test(a_stopped_client_gives_the_terminal_back),
        cmocka_unit_test(a_forced_terminal_ends_its_input),
    };
    return cmocka_run_group_tests_name("cli_attach", tests, make_dir, remove_dir);
}
