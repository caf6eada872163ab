#include "logs/logs.h"

#include "base/log.h"
#include "base/logproto.h"
#include "base/scoped.h"
#include "logs/lines.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

static_assert(TURN_BYTES >= LINE_WINDOW, "a turn always cuts a line");
static_assert(SPOOL_BACKLOG_MAX >= TURN_BYTES, "a turn can fill its buffer");

struct dyno *logdyno_find(const struct logs *l, const char *inc)
{
    struct dyno *d = l->dynos;

    while (d && strcmp(d->inc, inc) != 0)
        d = d->next;
    return d;
}

int logdyno_new(struct logs *l, const char *inc, struct dyno **ret, struct err *e)
{
    if (l->n_dynos == DYNOS_MAX)
        return err_say(e, EMFILE, "%s is one dyno more than the limit of %u", inc, DYNOS_MAX);
    struct dyno *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ENOMEM, "make a dyno");
    d->logs = l;
    d->pipe = d->spool.fd = -1;
    (void)snprintf(d->inc, sizeof(d->inc), "%s", inc);
    d->next = l->dynos;
    l->dynos = d;
    l->n_dynos++;
    *ret = d;
    return 0;
}

static void line_up(struct dyno *d)
{
    struct logs *l = d->logs;

    if (d->in_line)
        return;
    d->in_line = true;
    d->behind = NULL;
    *l->last = d;
    l->last = &d->behind;
    (void)sd_event_source_set_enabled(l->turns, SD_EVENT_ON); /* fails on our own bugs only */
}

static void leave_line(struct dyno *d)
{
    struct logs *l = d->logs;

    if (!d->in_line)
        return;
    for (struct dyno **p = &l->first; *p; p = &(*p)->behind)
        if (*p == d) {
            *p = d->behind;
            if (!*p)
                l->last = p;
            break;
        }
    d->in_line = false;
    if (!l->first)
        (void)sd_event_source_set_enabled(l->turns, SD_EVENT_OFF); /* as above */
}

static int on_turn(sd_event_source *s, void *userdata)
{
    struct logs *l = userdata;
    struct dyno *d = l->first;

    (void)s;
    assert(d);
    leave_line(d);
    logdyno_run(d);
    return 0;
}

int dynos_start(struct logs *l, struct err *e)
{
    l->last = &l->first;
    int r = sd_event_add_defer(l->loop, &l->turns, on_turn, l);
    if (r >= 0)
        r = sd_event_source_set_priority(l->turns, TURN_PRIORITY);
    if (r >= 0)
        r = sd_event_source_set_enabled(l->turns, SD_EVENT_OFF);
    return r < 0 ? err_set(e, -r, "set up turns") : 0;
}

static void close_pipe(struct dyno *d)
{
    d->io = sd_event_source_disable_unref(d->io);
    fd_closep(&d->pipe);
}

void logdyno_free(struct dyno *d)
{
    for (struct dyno **p = &d->logs->dynos; *p; p = &(*p)->next)
        if (*p == d) {
            *p = d->next;
            break;
        }
    d->logs->n_dynos--;
    leave_line(d);
    close_pipe(d);
    spool_close(&d->spool);
    free(d);
}

static int on_pipe(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct dyno *d = userdata;

    (void)s;
    (void)fd;
    (void)revents;
    if (!d->stalled)
        line_up(d);
    return 0;
}

int logdyno_open(struct dyno *d, int pipe, struct err *e)
{
    scoped_fd fd = pipe;
    int r;

    if (d->pipe >= 0)
        return 0;
    r = sd_event_add_io(d->logs->loop, &d->io, fd, EPOLLIN | EPOLLET, on_pipe, d);
    if (r < 0)
        return err_set(e, -r, "watch the pipe of %s", d->inc);
    (void)sd_event_source_set_priority(d->io, PIPE_PRIORITY); /* fails on our own bugs only */
    d->pipe = TAKE_FD(fd);
    d->eof = d->told = false;
    return 0;
}

/* The record comes before the spool: a spool is never without a record that says whose it is. */
static int begin(struct dyno *d, struct err *e)
{
    unsigned char record[RECORD_MAX];
    size_t len = record_encode(&(struct record){.kind = RECORD_POSITION,
                                                .dyno = d->name,
                                                .dyno_len = strlen(d->name),
                                                .inc = d->inc,
                                                .inc_len = strlen(d->inc)},
                               record);
    int r = app_append(d->logs, d->app, record, len, e);

    return r < 0 ? r : spool_open(d->logs->dirfd, d->inc, 0, &d->spool, e);
}

/* Cuts LEN bytes at IN into records in the batch. Returns the bytes used. */
static size_t cut(struct dyno *d, const char *in, size_t len, bool last, size_t *ret_batch,
                  bool *ret_more)
{
    struct logs *l = d->logs;
    size_t used = 0, batch = 0, lines = 0;
    struct line line;

    while (lines < TURN_LINES && line_cut(in + used, len - used, last, &line)) {
        struct record r = {
            .kind = RECORD_APP,
            .t = clock_real(),
            .end = d->spool.pos + used + line.raw,
            .dyno = d->name,
            .dyno_len = strlen(d->name),
            .inc = d->inc,
            .inc_len = strlen(d->inc),
            .text = line.text,
            .text_len = line.len,
        };

        batch += record_encode(&r, l->batch + batch);
        used += line.raw;
        lines++;
    }
    *ret_batch = batch;
    *ret_more = lines == TURN_LINES;
    return used;
}

/* Takes from the pipe. *ret_empty: nothing is in it now. */
static int fill(struct dyno *d, bool *ret_empty, struct err *e)
{
    bool room = spool_backlog(&d->spool) < SPOOL_BACKLOG_MAX;
    int r = spool_fill(&d->spool, d->pipe, e);

    if (r == 0) {
        d->eof = true;
        close_pipe(d);
    }
    *ret_empty = r == 0 || (r == -EAGAIN && room);
    return r < 0 && r != -EAGAIN ? r : 0;
}

enum turn {
    TURN_WAIT,  /* the pipe is empty: until it has more */
    TURN_AGAIN, /* there is more to do now */
    TURN_DONE,  /* the pipe is at its end, and all of it on record */
};

/* Pipe to spool, spool to record: each step can die after any instruction, and the next process
 * goes on from the last record. */
static int turn(struct dyno *d, enum turn *ret, struct err *e)
{
    struct logs *l = d->logs;
    bool empty = true, more;
    size_t batch;
    int r = d->spool.fd < 0 ? begin(d, e) : 0;

    if (r == 0 && d->pipe >= 0)
        r = fill(d, &empty, e);
    if (r < 0)
        return r;
    ssize_t n = spool_peek(&d->spool, l->in, TURN_BYTES, e);
    if (n < 0)
        return (int)n;
    bool all = (uint64_t)n == spool_backlog(&d->spool);
    bool last = all && empty && (d->eof || d->forgotten);
    size_t used = cut(d, l->in, (size_t)n, last, &batch, &more);
    if (batch > 0)
        r = app_append(l, d->app, l->batch, batch, e);
    if (r < 0)
        return r;
    spool_consume(&d->spool, used);
    if (more || !all || !empty)
        *ret = TURN_AGAIN;
    else
        *ret = last ? TURN_DONE : TURN_WAIT;
    return 0;
}

static void stall(struct dyno *d, const struct err *why)
{
    if (!d->stalled)
        log_err("%s/%s: %s: trying again, its pipe keeps the rest", d->app->name, d->name,
                why->text);
    d->stalled = true;
    logs_retry_later(d->logs);
}

static void finish(struct dyno *d)
{
    struct logs *l = d->logs;
    struct app *app = d->app;
    struct err e = ERR_INIT;

    if (!d->forgotten) {
        if (!d->told)
            control_eof(l, d->inc);
        d->told = true;
        return;
    }
    if (spool_remove(l->dirfd, d->inc, &e) < 0)
        log_err("%s", e.text); /* the next start finds it, and the next forget_inc */
    logdyno_free(d);
    app_collect(l, app);
}

void logdyno_run(struct dyno *d)
{
    struct err e = ERR_INIT;
    enum turn next = TURN_WAIT;
    int r = turn(d, &next, &e);

    if (r < 0) {
        stall(d, &e);
        return;
    }
    d->stalled = false;
    if (next == TURN_AGAIN)
        line_up(d);
    else if (next == TURN_DONE)
        finish(d);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct logs *l = userdata;

    (void)s;
    (void)usec;
    control_retry(l);
    for (struct dyno *d = l->dynos, *next; d; d = next) {
        next = d->next;
        if (d->stalled)
            logdyno_run(d);
    }
    return 0;
}

void logs_retry_later(struct logs *l)
{
    int enabled = SD_EVENT_OFF;

    if (l->retry)
        (void)sd_event_source_get_enabled(l->retry, &enabled); /* fails on our own bugs only */
    if (enabled != SD_EVENT_OFF)
        return;
    int r = timer_set(l->loop, &l->retry, "retry", clock_boot() + RETRY_USEC, on_retry, l);
    if (r >= 0)
        r = sd_event_source_set_priority(l->retry, PIPE_PRIORITY);
    if (r < 0) {
        log_err("no timer: %s", strerror(-r));
        (void)sd_event_exit(l->loop, 1); /* dynod starts another, which goes on from the record */
    }
}
