#include "core/logger.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/host/helper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define RESTART_PAUSE (USEC_PER_SEC) /* between a start that failed at once and the next */
#define LINE_TEXT_MAX 4096

/* A line that dynod-logs has not confirmed yet. */
struct unacked {
    TAILQ_ENTRY(unacked) link;
    uint64_t seq;
    json_t *frame;
};

struct logger {
    sd_event *loop;
    const struct config *config;
    int dirfd;
    uid_t uid;
    const struct logger_ops *ops;
    void *userdata;
    struct peer *peer; /* NULL: it is dead */
    int pidfd;
    uint64_t started; /* boot usec */
    unsigned restarts;
    sd_event_source *retry; /* timer "logs-restart" */
    uint64_t last_seq;
    bool greeted; /* the first hello came: what numbers are taken is known */
    TAILQ_HEAD(unacked_list, unacked) unacked;
    size_t n_unacked;
};

static void on_frame(void *userdata, struct frame *f);
static void on_close(void *userdata, const struct err *why);

static int start(struct logger *lg, struct err *e)
{
    static const struct peer_ops peer_ops = {.on_frame = on_frame, .on_close = on_close};
    char path[512], bytes[32], lines[32];
    int sock = -1;

    (void)snprintf(path, sizeof(path), "%s/dynod-logs", lg->config->program_dir);
    (void)snprintf(bytes, sizeof(bytes), "%" PRIu64, lg->config->tail_bytes);
    (void)snprintf(lines, sizeof(lines), "%u", lg->config->tail_lines);
    char *const argv[] = {"dynod-logs",
                          "--tail-bytes",
                          bytes,
                          "--tail-lines",
                          lines,
                          "--platform-source",
                          (char *)lg->config->log_source,
                          NULL};
    struct helper h = {.path = path, .argv = argv, .uid = lg->uid, .fd3 = lg->dirfd, .fd4 = -1};
    int r = helper_spawn(&h, &sock, &lg->pidfd, e);
    if (r < 0)
        return r;
    lg->started = clock_boot();
    r = peer_new(lg->loop, sock, &peer_ops, lg, &lg->peer, e);
    if (r < 0)
        helper_dispose(lg->loop, TAKE_FD(lg->pidfd));
    return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct logger *lg = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    lg->restarts++;
    if (start(lg, &e) < 0) {
        log_err("dynod-logs: %s", e.text);
        (void)timer_set(lg->loop, &lg->retry, "logs-restart", clock_boot() + RESTART_PAUSE,
                        on_retry, lg);
    }
    return 0;
}

static void on_close(void *userdata, const struct err *why)
{
    struct logger *lg = userdata;
    char how[64];

    (void)why; /* the exit says more */
    peer_freep(&lg->peer);
    helper_reap(lg->pidfd, how, sizeof(how));
    helper_dispose(lg->loop, TAKE_FD(lg->pidfd));
    log_warn("dynod-logs is gone (%s); starting it again", how);
    /* At once, unless it does not even get going. */
    uint64_t now = clock_boot();
    uint64_t at = now - lg->started < RESTART_PAUSE ? now + RESTART_PAUSE / 4 : now;
    (void)timer_set(lg->loop, &lg->retry, "logs-restart", at, on_retry, lg);
}

static void ack(struct logger *lg, uint64_t seq)
{
    struct unacked *u;

    while ((u = TAILQ_FIRST(&lg->unacked)) && u->seq <= seq) {
        TAILQ_REMOVE(&lg->unacked, u, link);
        lg->n_unacked--;
        json_decref(u->frame);
        free(u);
    }
}

static void send_frame(struct logger *lg, const json_t *json, const int *fds, size_t n_fds)
{
    struct err e = ERR_INIT;

    /* A failed write shows as a closed connection too, and that starts a new dynod-logs. */
    if (lg->peer && peer_send(lg->peer, json, fds, n_fds, &e) < 0)
        log_warn("to dynod-logs: %s", e.text);
}

/* Until the first hello the clock alone makes the numbers. After it was set back they are those of
 * an earlier agent's lines, and ours were dropped as a replay: they get others. */
static void renumber(struct logger *lg, uint64_t taken)
{
    struct unacked_list again = TAILQ_HEAD_INITIALIZER(again);
    struct unacked *u;

    while ((u = TAILQ_FIRST(&lg->unacked)) && u->seq <= taken) {
        TAILQ_REMOVE(&lg->unacked, u, link);
        TAILQ_INSERT_TAIL(&again, u, link);
    }
    TAILQ_FOREACH (u, &again, link) {
        u->seq = ++lg->last_seq;
        (void)json_object_set_new(json_object_get(u->frame, "line"), "seq",
                                  json_integer((json_int_t)u->seq));
    }
    TAILQ_CONCAT(&lg->unacked, &again, link);
}

static void on_hello(struct logger *lg, uint64_t seq)
{
    struct unacked *u;

    if (seq > lg->last_seq)
        lg->last_seq = seq;
    if (!lg->greeted)
        renumber(lg, seq);
    lg->greeted = true;
    ack(lg, seq);
    TAILQ_FOREACH (u, &lg->unacked, link)
        send_frame(lg, u->frame, NULL, 0);
    lg->ops->restarted(lg->userdata);
}

static void on_frame(void *userdata, struct frame *f)
{
    struct logger *lg = userdata;
    const json_t *body;

    if ((body = json_object_get(f->json, "ack")))
        ack(lg, (uint64_t)json_int(body, "seq", 0));
    else if ((body = json_object_get(f->json, "eof")))
        lg->ops->eof(lg->userdata, json_str(body, "inc", ""));
    else if ((body = json_object_get(f->json, "hello")))
        on_hello(lg, (uint64_t)json_int(body, "seq", 0));
}

int logger_open(sd_event *loop, const struct config *config, int dirfd, uid_t uid,
                const struct logger_ops *ops, void *userdata, struct logger **ret, struct err *e)
{
    struct logger *lg = calloc(1, sizeof(*lg));

    if (!lg)
        return err_set(e, ENOMEM, "start dynod-logs");
    *lg = (struct logger){.loop = loop,
                          .config = config,
                          .dirfd = dirfd,
                          .uid = uid,
                          .ops = ops,
                          .userdata = userdata,
                          .pidfd = -1};
    TAILQ_INIT(&lg->unacked);
    int r = start(lg, e);
    if (r < 0) {
        logger_freep(&lg);
        return r;
    }
    *ret = lg;
    return 0;
}

void logger_freep(struct logger **lgp)
{
    struct logger *lg = *lgp;

    if (!lg)
        return;
    peer_freep(&lg->peer); /* it exits at the end of its input */
    if (lg->pidfd >= 0)
        helper_join(TAKE_FD(lg->pidfd));
    sd_event_source_disable_unref(lg->retry);
    ack(lg, UINT64_MAX);
    free(lg);
    *lgp = NULL;
}

bool logger_alive(const struct logger *lg)
{
    return lg->peer != NULL;
}

unsigned logger_restarts(const struct logger *lg)
{
    return lg->restarts;
}

void logger_pipe(struct logger *lg, const char *dyno, const char *inc, int pipe_fd)
{
    json_t *frame = json_pack("{s:{s:s,s:s}}", "open", "dyno", dyno, "inc", inc);

    send_frame(lg, frame, &pipe_fd, 1);
    json_decref(frame);
    fd_closep(&pipe_fd);
}

void logger_line(struct logger *lg, const char *dyno, const char *fmt, ...)
{
    char text[LINE_TEXT_MAX];
    uint64_t now = clock_real();
    struct unacked *u = calloc(1, sizeof(*u));
    va_list ap;

    if (!u)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut line is still a line */
    va_end(ap);
    /* The clock keeps the numbers growing across restarts; the last one known does when it jumps
     * back. */
    lg->last_seq = now > lg->last_seq ? now : lg->last_seq + 1;
    u->seq = lg->last_seq;
    u->frame = json_pack("{s:{s:I,s:s,s:I,s:s}}", "line", "seq", (json_int_t)u->seq, "dyno", dyno,
                         "t", (json_int_t)now, "text", text);
    if (!u->frame) { /* a command that is not UTF-8 */
        char safe[LINE_TEXT_MAX];

        u->frame =
            json_pack("{s:{s:I,s:s,s:I,s:s}}", "line", "seq", (json_int_t)u->seq, "dyno", dyno, "t",
                      (json_int_t)now, "text", text_escape(safe, sizeof(safe), text, strlen(text)));
    }
    TAILQ_INSERT_TAIL(&lg->unacked, u, link);
    if (++lg->n_unacked > LOGGER_UNACKED_MAX)
        ack(lg, TAILQ_FIRST(&lg->unacked)->seq);
    send_frame(lg, u->frame, NULL, 0);
}

int logger_query(struct logger *lg, const json_t *query, int fd, struct err *e)
{
    scoped_fd owned = fd;

    if (!lg->peer)
        return err_say(e, EAGAIN, "dynod-logs is being restarted: try again");
    json_t *frame = json_pack("{s:O}", "query", query);
    int r = peer_send(lg->peer, frame, &owned, 1, e);
    json_decref(frame);
    return r;
}

static void forget(struct logger *lg, const char *what, const char *key, const char *name)
{
    json_t *frame = json_pack("{s:{s:s}}", what, key, name);

    send_frame(lg, frame, NULL, 0);
    json_decref(frame);
}

void logger_forget_inc(struct logger *lg, const char *inc)
{
    forget(lg, "forget_inc", "inc", inc);
}

void logger_keep(struct logger *lg, json_t *incs, json_t *apps)
{
    json_t *frame = json_pack("{s:{s:o,s:o*}}", "keep", "incs", incs, "apps", apps);

    if (frame) /* no memory: the next one says it */
        send_frame(lg, frame, NULL, 0);
    json_decref(frame);
}

void logger_forget_app(struct logger *lg, const char *app)
{
    forget(lg, "forget", "app", app);
}
