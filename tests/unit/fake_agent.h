/* fake_agent.h - an agent that answers what a test wrote down, and commands of `dyno` run against
 * it, each in a child as main() would. */
#ifndef TESTS_FAKE_AGENT_H
#define TESTS_FAKE_AGENT_H

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ASKED_MAX 65536

/* --- An agent of few words --- */

/* One request and its answer. Those of a path come in their order, the last one again and again. */
struct step {
    const char *line; /* "GET /v1/instance" */
    int status;       /* 0: closes the connection without an answer */
    const char *body;
    int signo; /* sent to the client before the answer */
};

struct fake {
    char dir[64], path[96];
    pid_t pid;
    int err_fd;  /* 0: a file; else what commands get as stderr */
    char *asked; /* "LINE BODY\n" of every request, shared with the child */
};

static void answer(int fd, const struct step *s)
{
    struct str text = {0};

    if (s->signo)
        (void)kill(getppid(), s->signo);
    if (s->status) {
        str_addf(&text, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", s->status,
                 strlen(s->body), s->body);
        (void)fd_write_full(fd, text.data, text.len);
    }
    str_done(&text);
}

static void serve_one(struct fake *f, int fd, const struct step *steps, size_t *at, size_t n)
{
    static char buf[65536];
    size_t len = 0, match = n;
    char *end = NULL;

    while (!end && len < sizeof(buf) - 1) {
        ssize_t got = read(fd, buf + len, sizeof(buf) - 1 - len);

        if (got <= 0)
            return;
        buf[len += (size_t)got] = '\0';
        end = strstr(buf, "\r\n\r\n");
    }
    char *http = strstr(buf, " HTTP/1.1\r\n");
    *http = '\0';
    size_t used = strlen(f->asked);
    (void)snprintf(f->asked + used, ASKED_MAX - used, "%s %s\n", buf, end + 4);
    for (size_t i = *at; i < n && match == n; i++)
        if (!strcmp(steps[i].line, buf))
            match = i;
    for (size_t i = *at; i-- > 0 && match == n;)
        if (!strcmp(steps[i].line, buf))
            match = i;
    static const struct step unknown = {"", 404, "{\"error\":{\"message\":\"not scripted\"}}", 0};
    answer(fd, match < n ? &steps[match] : &unknown);
    if (match < n && match >= *at)
        *at = match + 1;
}

static void serve(struct fake *f, int listen_fd, const struct step *steps, size_t n)
{
    size_t at = 0;

    for (;;) {
        scoped_fd fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            serve_one(f, fd, steps, &at, n);
    }
}

static int setup(void **state)
{
    struct fake *f = calloc(1, sizeof(*f));

    strcpy(f->dir, "/tmp/test-cli-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/api.sock", f->dir);
    f->asked = mmap(NULL, ASKED_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(f->asked != MAP_FAILED);
    *state = f;
    return 0;
}

static void stop(struct fake *f)
{
    if (f->pid > 0) {
        (void)kill(f->pid, SIGKILL);
        (void)waitpid(f->pid, NULL, 0);
    }
    f->pid = 0;
    (void)unlink(f->path);
}

static int teardown(void **state)
{
    struct fake *f = *state;
    struct err e = ERR_INIT;

    stop(f);
    (void)munmap(f->asked, ASKED_MAX);
    int r = tree_remove(AT_FDCWD, f->dir, &e);
    free(f);
    return r;
}

static void start(struct fake *f, const struct step *steps, size_t n)
{
    struct err e = ERR_INIT;
    scoped_fd fd = -1;

    stop(f);
    memset(f->asked, 0, ASKED_MAX);
    assert_int_equal(unix_listen(f->path, SOCK_STREAM, 0600, &fd, &e), 0);
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0) {
        (void)fcntl(fd, F_SETFL, 0); /* it waits */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(f, fd, steps, n);
    }
}

#define START(f, steps) start(f, steps, sizeof(steps) / sizeof((steps)[0]))

/* --- A command, and what it wrote --- */

struct ran {
    int status;
    char out[16384], err[4096];
};

static void slurp(const char *dir, const char *name, char *to, size_t cap)
{
    scoped_free char *text = NULL;
    struct err e = ERR_INIT;
    char path[128];
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(file_read(AT_FDCWD, path, cap - 1, &text, &len, &e), 0);
    memcpy(to, text, len + 1);
}

static int file_in(const char *dir, const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

/* In a child, as main() runs it: a Ctrl-C is its own. OUT: instead of a file. */
static int run_in_child(struct fake *f, int out_fd, char **argv)
{
    const struct command *c = command_find(argv[0]);
    int argc = 0, status;

    while (argv[argc])
        argc++;
    assert_non_null(c);
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct cli cli = {.command = argv[0], .socket = f->path};

        (void)dup2(out_fd, STDOUT_FILENO);
        (void)dup2(f->err_fd ? f->err_fd : file_in(f->dir, "err"), STDERR_FILENO);
        cli_options_begin();
        status = c->run(&cli, argc, argv);
        (void)fflush(NULL);
        _exit(status);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* WORDS: the command line, split at blanks. */
static struct ran run(struct fake *f, const char *words)
{
    scoped_free char *text = strdup(words);
    char *argv[16] = {0}, *save;
    int n = 0;
    struct ran ran;

    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    scoped_fd out = file_in(f->dir, "out");
    ran.status = run_in_child(f, out, argv);
    slurp(f->dir, "out", ran.out, sizeof(ran.out));
    slurp(f->dir, "err", ran.err, sizeof(ran.err));
    return ran;
}

#endif
