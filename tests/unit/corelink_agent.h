/* corelink_agent.h - an agent for tests of its link: a real model, journal, events and outbox in
 * directories of their own, a dynod-logs that swallows everything, no sandbox, and this process at
 * the other end of dynod-link's socket. Dynos are made, never started. */
#ifndef TESTS_CORELINK_AGENT_H
#define TESTS_CORELINK_AGENT_H

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "core/control/control.h"
#include "core/dyno.h"
#include "core/control/link_priv.h"
#include "core/slugs/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct world {
    struct agent a;
    char dir[64];
    struct frame_conn *theirs; /* dynod-link's end; NULL: not connected */
    uint64_t generation;       /* of the last command */
    json_t *result;            /* of it */
};

static void write_program(const struct world *w, const char *name, const char *text)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", w->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static void config_dir(const struct world *w, char *out, size_t cap, const char *name)
{
    (void)snprintf(out, cap, "%s/%s", w->dir, name);
    (void)mkdir(out, 0700);
}

static void config_make(struct world *w)
{
    struct config *c = &w->a.config;
    struct err e = ERR_INIT;

    assert_int_equal(config_defaults(geteuid() != 0, c, &e), 0);
    config_dir(w, c->runtime_dir, sizeof(c->runtime_dir), "run");
    config_dir(w, c->state_dir, sizeof(c->state_dir), "state");
    (void)snprintf(c->program_dir, sizeof(c->program_dir), "%s", w->dir);
    (void)snprintf(c->controllers, sizeof(c->controllers), "https://one.test https://two.test");
    (void)snprintf(c->metadata, sizeof(c->metadata), "off");
    c->dynos_max = 20;
}

/* Everything that lives in the agent's memory; what is on disk stays. */
static void agent_up(struct world *w)
{
    static const struct logger_ops logger_ops = {.eof = NULL, .restarted = NULL};
    struct agent *a = &w->a;
    const struct config config = a->config;
    struct err e = ERR_INIT;
    char *notice = NULL;

    *a = (struct agent){.config = config, .rootless = true, .diag_fd = -1};
    assert_true(sd_event_new(&a->loop) >= 0);
    TAILQ_INIT(&a->dynos);
    a->state_dirfd = open(config.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(drain_epoch(a->drain.epoch, &e), 0);
    assert_int_equal(model_new(&a->model, &e), 0);
    assert_int_equal(journal_open(a->state_dirfd, "journal", a->model, &a->journal, &notice, &e),
                     0);
    assert_null(notice);
    assert_int_equal(events_open(a->state_dirfd, &a->events, &e), 0);
    assert_int_equal(
        logger_open(a->loop, &a->config, -1, (uid_t)-1, &logger_ops, a, &a->logger, &e), 0);
    assert_int_equal(slots_init(&a->ports, 20000, 30000, &e), 0);
    if (link_wanted(&a->config))
        assert_int_equal(link_open(a, (uid_t)-1, &a->link, &e), 0);
    drain_open(a);
}

static void agent_down(struct world *w)
{
    struct agent *a = &w->a;

    link_abandon(a->link);
    while (!TAILQ_EMPTY(&a->dynos))
        dyno_free(TAILQ_FIRST(&a->dynos));
    warm_done(a);
    link_freep(&a->link);
    drain_close(a);
    logger_freep(&a->logger);
    events_freep(&a->events);
    journal_freep(&a->journal);
    model_freep(&a->model);
    slots_done(&a->ports);
    sd_event_source_disable_unref(a->reconcile_soon);
    sd_event_source_disable_unref(a->contact_lost);
    sd_event_source_disable_unref(a->drained);
    fd_closep(&a->state_dirfd);
    sd_event_unref(a->loop);
    frame_conn_freep(&w->theirs);
}

static int world_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/test-corelink-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    write_program(w, "dynod-logs", "#!/bin/sh\nexec cat >/dev/null\n");
    config_make(w);
    agent_up(w);
    *state = w;
    return 0;
}

static int world_down(void **state)
{
    struct world *w = *state;
    struct err e = ERR_INIT;

    agent_down(w);
    json_decref(w->result);
    assert_int_equal(tree_remove(AT_FDCWD, w->dir, &e), 0);
    free(w);
    return 0;
}

/* The next agent. */
__attribute__((unused)) static void agent_again(struct world *w)
{
    agent_down(w);
    agent_up(w);
}

/* --- Being dynod-link --- */

__attribute__((unused)) static void connect_link(struct world *w)
{
    struct err e = ERR_INIT;
    int sv[2];

    frame_conn_freep(&w->theirs);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(frame_conn_new(sv[1], &w->theirs, &e), 0);
    assert_int_equal(link_connected(w->a.link, sv[0], &e), 0);
}

/* The loop, but no reconciliation: nothing is ever started here, what is wanted is looked at in the
 * model. */
__attribute__((unused)) static void run_loop(struct world *w, uint64_t wait_usec)
{
    if (w->a.reconcile_soon)
        (void)sd_event_source_set_enabled(w->a.reconcile_soon, SD_EVENT_OFF);
    assert_true(sd_event_run(w->a.loop, wait_usec) >= 0);
}

/* All there is to do now. */
__attribute__((unused)) static void turn(struct world *w)
{
    for (int i = 0; i < 20; i++)
        run_loop(w, 0);
}

/* The next frame that has KEY; others are dropped. NULL: none. The caller's: its member. */
__attribute__((unused)) static json_t *next_frame(struct world *w, const char *key, int *fds,
                                                  size_t *n_fds)
{
    for (;;) {
        struct err e = ERR_INIT;
        struct frame f = {0};
        int r = frame_next(w->theirs, &f, &e);

        if (r <= 0)
            return NULL;
        json_t *body = json_object_get(f.json, key);
        if (body) {
            json_incref(body);
            for (size_t i = 0; fds && i < f.n_fds; i++)
                fds[i] = frame_take_fd(&f, i);
            if (n_fds)
                *n_fds = f.n_fds;
            frame_done(&f);
            return body;
        }
        frame_done(&f);
    }
}

__attribute__((unused)) static void say_frame(struct world *w, json_t *frame)
{
    struct err e = ERR_INIT;

    assert_non_null(frame);
    assert_int_equal(frame_send(w->theirs, frame, NULL, 0, &e), 0);
    json_decref(frame);
    turn(w);
}

/* --- Being a controller --- */

__attribute__((unused)) static json_t *parse(const char *fmt, ...)
{
    char text[16384];
    json_error_t e;
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++) /* so that JSON in C is readable */
        if (*p == '\'')
            *p = '"';
    json_t *j = json_loads(text, JSON_DECODE_ANY, &e);
    if (!j)
        print_error("%s: %s\n", e.text, text);
    assert_non_null(j);
    return j;
}

/* A command of STORE with GENERATION and "c-GENERATION" as its id; what became of it. */
__attribute__((unused)) static const char *command_of(struct world *w, const char *store,
                                                      uint64_t generation, const char *members)
{
    scoped(json_freep) json_t *command =
        parse("{'id':'c-%ju','generation':%ju,%s}", (uintmax_t)generation, (uintmax_t)generation,
              members);

    json_decref(w->result);
    w->result = control_command(&w->a, store, command);
    assert_non_null(w->result);
    return json_str(w->result, "status", "");
}

/* The next command of the store "db". */
__attribute__((unused)) static const char *command(struct world *w, const char *members)
{
    return command_of(w, "db", ++w->generation, members);
}

__attribute__((unused)) static const char *code(struct world *w)
{
    return json_str(json_object_get(w->result, "error"), "code", "");
}

__attribute__((unused)) static const char *message(struct world *w)
{
    return json_str(json_object_get(w->result, "error"), "message", "");
}

#define RELEASE(v)                                                                                 \
    "'release':{'version':" #v ",'slug':'https://s.test/a.tgz','digest':'" DIGEST_A                \
    "','env':{'A':'b'}}"
#define START(v, dynos) "'op':'start','app':'hello'," RELEASE(v) ",'dynos':[" dynos "]"

/* A dyno that is wanted ("hello/web.1"), as the reconciler would make it, in STATE. */
__attribute__((unused)) static struct dyno *make_dyno(struct world *w, const char *text,
                                                      enum dyno_state state)
{
    scoped_free struct want *wants = NULL;
    struct err e = ERR_INIT;
    char name[DYNO_TEXT_MAX];
    struct dyno *d = NULL;
    size_t n = 0;

    assert_int_equal(model_wants(w->a.model, &wants, &n, &e), 0);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(dyno_name_text(&wants[i].name, name), text))
            assert_int_equal(dyno_new(&w->a, &wants[i], &d, &e), 0);
    assert_non_null(d);
    d->state = state;
    return d;
}

/* All wanted dynos, "hello/web.1 hello/worker.4". */
__attribute__((unused)) static const char *wanted(struct world *w)
{
    static char text[8192];
    scoped_free struct want *wants = NULL;
    struct err e = ERR_INIT;
    char name[DYNO_TEXT_MAX];
    size_t n = 0, len = 0;

    assert_int_equal(model_wants(w->a.model, &wants, &n, &e), 0);
    text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
                                dyno_name_text(&wants[i].name, name));
    return text;
}

/* Lines of the journal so far: to see that nothing was written. */
__attribute__((unused)) static unsigned journal_lines(struct world *w)
{
    scoped_free char *text = NULL;
    struct err e = ERR_INIT;
    unsigned n = 0;
    size_t len = 0;

    assert_int_equal(file_read(w->a.state_dirfd, "journal", 64 << 20, &text, &len, &e), 0);
    for (size_t i = 0; i < len; i++)
        n += text[i] == '\n';
    return n;
}

/* The op of its last line. */
__attribute__((unused)) static const char *last_op(struct world *w)
{
    static char op[32];
    scoped_free char *text = NULL;
    struct err e = ERR_INIT;
    size_t len = 0;

    assert_int_equal(file_read(w->a.state_dirfd, "journal", 64 << 20, &text, &len, &e), 0);
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    char *line = strrchr(text, '\n');
    char *at = strstr(line ? line : text, "\"op\":\"");
    assert_non_null(at);
    (void)snprintf(op, sizeof(op), "%.*s", (int)strcspn(at + 6, "\""), at + 6);
    return op;
}

#endif
