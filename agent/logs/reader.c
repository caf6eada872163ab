#include "logs/reader.h"

#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "logs/render.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define READER_CHUNK      (32u << 10)  /* bytes made ready for one write */
#define READER_TURN_BYTES (256u << 10) /* bytes written before others have their turn */

/* Whoever asked. Lines on record at that moment first, then, if it follows, what comes. */
struct reader {
    struct reader *next;
    struct logs *logs;
    int fd;
    sd_event_source *io; /* NULL: FD is a file, which is always ready */
    sd_event_source *ready;
    struct filter filter;
    enum render_format format;
    bool follow;
    bool blocked; /* FD took no more, and has not said since that it does */
    struct msg **history;
    size_t n_history;
    size_t shown; /* of HISTORY */
    struct queue queue;
    struct str out;
    size_t sent; /* of OUT */
};

static void reader_free(struct reader *r)
{
    for (struct reader **p = &r->logs->readers; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            r->logs->n_readers--;
            break;
        }
    sd_event_source_disable_unref(r->io);
    sd_event_source_disable_unref(r->ready);
    fd_closep(&r->fd);
    while (r->shown < r->n_history)
        msg_unref(r->history[r->shown++]);
    free(r->history);
    queue_done(&r->queue);
    str_done(&r->out);
    free(r);
}

void readers_free(struct logs *l)
{
    while (l->readers)
        reader_free(l->readers);
}

static void reader_freep(struct reader **r)
{
    if (*r)
        reader_free(*r);
}

static struct msg *next_msg(struct reader *r)
{
    if (r->shown < r->n_history)
        return r->history[r->shown++];
    struct msg *notice = queue_pop_notice(&r->queue, r->filter.app, clock_real());
    return notice ? notice : queue_pop(&r->queue);
}

static void make_ready(struct reader *r)
{
    struct msg *m;

    r->out.len = r->sent = 0;
    while (r->out.len < READER_CHUNK && (m = next_msg(r))) {
        render(&r->out, m, r->format, r->logs->options.platform);
        msg_unref(m);
    }
}

/* Writes what FD takes, within a turn. 0: nothing is left, 1: something is, or -errno: FD is of no
 * more use. */
static int drain(struct reader *r)
{
    size_t written = 0;

    while (written < READER_TURN_BYTES) {
        if (r->sent == r->out.len)
            make_ready(r);
        if (r->out.failed)
            return -ENOMEM;
        if (r->out.len == 0)
            return 0;
        ssize_t n = write(r->fd, r->out.data + r->sent, r->out.len - r->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            r->blocked = true;
            return 1;
        }
        if (n < 0)
            return -errno;
        r->sent += (size_t)n;
        written += (size_t)n;
    }
    return 1;
}

/* Waits for FD only while there is something for it; a reader that closes is told of always. */
static int watch(struct reader *r, bool want)
{
    if (r->io)
        return sd_event_source_set_io_events(r->io, want ? EPOLLOUT : 0);
    return sd_event_source_set_enabled(r->ready, want ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void run(struct reader *r)
{
    int left = drain(r);

    if (left < 0 || (left == 0 && !r->follow) || watch(r, left > 0) < 0)
        reader_free(r); /* served, or gone: which is its own business */
}

static int on_reader(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct reader *r = userdata;

    (void)s;
    (void)fd;
    if (revents & (EPOLLERR | EPOLLHUP)) {
        reader_free(r);
        return 0;
    }
    r->blocked = false;
    run(r);
    return 0;
}

static int on_ready(sd_event_source *s, void *userdata)
{
    (void)s;
    run(userdata);
    return 0;
}

static int parse_app_and_dyno(const json_t *query, struct filter *ret, struct err *e)
{
    const char *app = json_str(query, "app", ""), *dyno = json_str(query, "dyno", "");
    struct dyno_name name;
    char whole[RECORD_DYNO_MAX + 4];

    if (app[0] && !app_name_valid(app))
        return err_say(e, EINVAL, "a query names no app");
    if (strlen(dyno) > RECORD_DYNO_MAX)
        return err_say(e, EINVAL, "a query names no dyno");
    (void)snprintf(whole, sizeof(whole), "a/%s", dyno);
    if (dyno[0] && !type_name_valid(dyno, strlen(dyno)) && dyno_name_parse(whole, &name) < 0)
        return err_say(e, EINVAL, "a query names no dyno");
    memcpy(ret->app, app, strlen(app) + 1);
    memcpy(ret->dyno, dyno, strlen(dyno) + 1);
    return 0;
}

static int parse(const struct logs *l, const json_t *query, struct reader *ret, struct err *e)
{
    const char *source = json_str(query, "source", ""), *format = json_str(query, "format", "text");
    int r = parse_app_and_dyno(query, &ret->filter, e);

    if (r < 0)
        return r;
    if (!strcmp(source, l->options.platform) || !strcmp(source, LOG_SOURCE_PLATFORM))
        ret->filter.kind = RECORD_PLATFORM;
    else if (!strcmp(source, LOG_SOURCE_APP))
        ret->filter.kind = RECORD_APP;
    else if (source[0])
        return err_say(e, EINVAL, "a query names no source");
    if (!strcmp(format, "json"))
        ret->format = RENDER_JSON;
    else if (strcmp(format, "text") != 0)
        return err_say(e, EINVAL, "a query names no format");
    ret->follow = json_bool(query, "follow", false);
    return 0;
}

static int watch_fd(struct reader *r, struct err *e)
{
    struct logs *l = r->logs;
    int n = fd_set_nonblock(r->fd, true);

    if (n < 0)
        return err_set(e, -n, "set up a reader");
    n = sd_event_add_io(l->loop, &r->io, r->fd, 0, on_reader, r);
    if (n == -EPERM) { /* epoll(7) does not take files */
        r->io = NULL;
        n = sd_event_add_defer(l->loop, &r->ready, on_ready, r);
    }
    return n < 0 ? err_set(e, -n, "watch a reader") : 0;
}

/* Forgets who has closed and whose event is yet to come. */
static void reap(struct logs *l)
{
    for (struct reader *r = l->readers, *next; r; r = next) {
        struct pollfd p = {.fd = r->fd};

        next = r->next;
        if (poll(&p, 1, 0) > 0)
            reader_free(r);
    }
}

int reader_open(struct logs *l, const json_t *query, int fd, struct err *e)
{
    int64_t n = json_int(query, "n", QUERY_LINES), max = (int64_t)l->options.tail_lines;
    scoped_fd taken = fd;

    if (l->n_readers == READERS_MAX)
        reap(l);
    if (l->n_readers == READERS_MAX)
        return err_say(e, EMFILE, "a reader more than the limit of %u", READERS_MAX);
    scoped(reader_freep) struct reader *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ENOMEM, "make a reader");
    r->logs = l;
    r->fd = TAKE_FD(taken);
    int err = parse(l, query, r, e);
    if (err == 0)
        err = watch_fd(r, e);
    if (err == 0)
        err = history_find(l, &r->filter,
                           (size_t)(n < 0     ? 0
                                    : n < max ? n
                                              : max),
                           &r->history, &r->n_history, e);
    if (err < 0)
        return err;
    r->next = l->readers;
    l->readers = r;
    l->n_readers++;
    run(TAKE_PTR(r));
    return 0;
}

/* A full queue is emptied into FD first, if that takes it: a reader that keeps up loses nothing. */
static void push(struct reader *r, struct msg *m)
{
    if (r->queue.count == QUEUE_MAX && !r->blocked)
        (void)drain(r); /* an error comes again when the turn is over */
    queue_push(&r->queue, m, clock_real());
}

static void publish_one(struct logs *l, const struct app *app, const struct record *line)
{
    struct msg *m = NULL;

    for (struct reader *r = l->readers; r; r = r->next) {
        if (!r->follow || !filter_app(&r->filter, app->name) || !filter_line(&r->filter, line))
            continue;
        if (!m && !(m = msg_new(app->name, line)))
            return; /* no memory: the line is on record all the same */
        push(r, m);
    }
    msg_unref(m);
}

void readers_publish(struct logs *l, const struct app *app, const void *records, size_t len)
{
    const char *at = records;
    struct record line;

    if (!l->readers)
        return;
    for (ssize_t n; len > 0; at += n, len -= (size_t)n) {
        n = record_decode(at, len, false, &line);
        if (n < 0)
            break; /* cannot be: this process has just made it */
        publish_one(l, app, &line);
    }
    for (struct reader *r = l->readers, *next; r; r = next) {
        next = r->next;
        if (r->queue.count > 0 && !r->blocked)
            run(r);
    }
}
