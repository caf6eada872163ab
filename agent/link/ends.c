#include "link/ends.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { STDIN, STDOUT, STDERR, ENDS };

/* One descriptor. A terminal has one for both ways: STDIN. */
struct end {
    struct ends *all;
    int fd;
    sd_event_source *source; /* NULL: not pollable (a regular file), always ready */
    bool in_ready, out_ready;
    bool over;    /* nothing more is read: end of file */
    bool drained; /* since ends_last() */
};

struct ends {
    bool tty;
    bool last;
    bool eof;      /* close stdin once it has what is held */
    bool no_stdin; /* nobody reads it, or it is closed */
    bool line_begun;
    unsigned turn; /* which output is asked first */
    ends_ready_fn ready;
    void *userdata;
    struct end end[ENDS];
    size_t start, len;             /* of what is held */
    char held[ENDS_STDIN_MAX + 2]; /* and a terminal's end-of-file characters */
};

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct end *end = userdata;
    bool broken = revents & (EPOLLHUP | EPOLLERR); /* the next read or write tells */

    (void)s;
    (void)fd;
    end->in_ready = end->in_ready || broken || revents & EPOLLIN;
    end->out_ready = end->out_ready || broken || revents & EPOLLOUT;
    end->all->ready(end->all->userdata);
    return 0;
}

static int end_open(sd_event *loop, struct end *end, struct err *e)
{
    int r = fd_set_nonblock(end->fd, true);

    if (r < 0)
        return err_set(e, -r, "make an attached descriptor non-blocking");
    r = sd_event_add_io(loop, &end->source, end->fd, 0, on_io, end);
    if (r == -EPERM) /* epoll knows no regular files: they never make anybody wait */
        return 0;
    if (r >= 0)
        r = sd_event_source_set_enabled(end->source, SD_EVENT_OFF);
    return r < 0 ? err_set(e, -r, "watch an attached descriptor") : 0;
}

int ends_open(sd_event *loop, int fds[3], bool tty, ends_ready_fn ready, void *userdata,
              struct ends **ret, struct err *e)
{
    scoped(ends_freep) struct ends *all = calloc(1, sizeof(*all));
    int r = all ? 0 : err_set(e, ENOMEM, "attach");

    for (int i = 0; i < ENDS; i++) {
        if (all)
            all->end[i] = (struct end){
                .all = all, .fd = TAKE_FD(fds[i]), .in_ready = true, .out_ready = true};
        else
            fd_closep(&fds[i]);
    }
    if (r < 0)
        return r;
    all->tty = tty;
    all->ready = ready;
    all->userdata = userdata;
    for (int i = 0; r == 0 && i < ENDS; i++) {
        all->end[i].over = all->end[i].fd < 0 || (!tty && i == STDIN);
        if (all->end[i].fd >= 0)
            r = end_open(loop, &all->end[i], e);
    }
    if (r < 0)
        return r;
    all->no_stdin = all->end[STDIN].fd < 0;
    *ret = TAKE_PTR(all);
    return 0;
}

static void end_close(struct end *end)
{
    end->source = sd_event_source_disable_unref(end->source);
    fd_closep(&end->fd);
    end->over = true;
}

void ends_freep(struct ends **all)
{
    if (!*all)
        return;
    for (int i = 0; i < ENDS; i++)
        end_close(&(*all)->end[i]);
    free(*all);
    *all = NULL;
}

/* --- into the command --------------------------------------------------------------------------
 */

size_t ends_room(const struct ends *all)
{
    return all->no_stdin ? ENDS_STDIN_MAX : ENDS_STDIN_MAX - all->len;
}

static void hold(struct ends *all, const void *data, size_t len)
{
    if (all->start > 0) {
        memmove(all->held, all->held + all->start, all->len);
        all->start = 0;
    }
    memcpy(all->held + all->len, data, len);
    all->len += len;
}

void ends_put(struct ends *all, const void *data, size_t len)
{
    if (all->no_stdin || all->eof || len == 0 || len > ends_room(all))
        return;
    hold(all, data, len);
    all->line_begun = ((const char *)data)[len - 1] != '\n';
}

/* A terminal has no end of file, only a character that means it, and twice where a line has begun.
 */
static void terminal_eof(struct ends *all)
{
    struct termios t;

    if (tcgetattr(all->end[STDIN].fd, &t) < 0 || !(t.c_lflag & ICANON) || all->len > ENDS_STDIN_MAX)
        return;
    char eof[2] = {(char)t.c_cc[VEOF], (char)t.c_cc[VEOF]};
    hold(all, eof, all->line_begun ? 2 : 1);
    all->line_begun = false;
}

static void stdin_over(struct ends *all)
{
    all->no_stdin = true;
    all->start = all->len = 0;
    if (!all->tty)
        end_close(&all->end[STDIN]);
}

void ends_eof(struct ends *all)
{
    if (all->no_stdin)
        return;
    if (all->tty) {
        terminal_eof(all);
        return;
    }
    all->eof = true;
    if (all->len == 0)
        stdin_over(all);
}

bool ends_feed(struct ends *all)
{
    struct end *end = &all->end[STDIN];
    bool moved = false;

    while (!all->no_stdin && all->len > 0 && end->out_ready) {
        ssize_t n = write(end->fd, all->held + all->start, all->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            end->out_ready = false;
            break;
        }
        if (n < 0) {
            stdin_over(all);
            return true;
        }
        all->start += (size_t)n;
        all->len -= (size_t)n;
        moved = true;
    }
    if (all->eof && all->len == 0 && !all->no_stdin)
        stdin_over(all);
    return moved;
}

/* --- out of it ---------------------------------------------------------------------------------
 */

static size_t end_take(struct ends *all, struct end *end, void *buf, size_t len)
{
    if (end->over || !end->in_ready)
        return 0;
    ssize_t n = read(end->fd, buf, len);
    if (n > 0)
        return (size_t)n;
    if (n < 0 && errno == EINTR)
        return 0;
    end->in_ready = false;
    if (n == 0 || errno != EAGAIN) /* EIO: nobody has the terminal's other side open */
        end->over = true;
    end->drained = all->last;
    return 0;
}

size_t ends_take(struct ends *all, char *ret_kind, void *buf, size_t len)
{
    for (unsigned i = 0; i < ENDS; i++) {
        unsigned which = (all->turn + i) % ENDS;
        size_t n = end_take(all, &all->end[which], buf, len);

        if (n > 0) {
            *ret_kind = which == STDERR ? 'E' : 'O';
            all->turn = which + 1;
            return n;
        }
    }
    return 0;
}

void ends_last(struct ends *all)
{
    all->last = true;
    stdin_over(all);
    for (int i = 0; i < ENDS; i++) {
        struct end *end = &all->end[i];

        /* A terminal that somebody opened again after all had closed it. */
        end->over = end->over && !(all->tty && end->fd >= 0);
        end->drained = end->over;
        end->in_ready = true;
    }
}

bool ends_drained(const struct ends *all)
{
    for (int i = 0; i < ENDS; i++)
        if (!all->end[i].drained)
            return false;
    return all->last;
}

void ends_watch(struct ends *all, bool reading)
{
    for (int i = 0; i < ENDS; i++) {
        struct end *end = &all->end[i];
        uint32_t events = reading && !end->over && !end->in_ready && !all->last ? EPOLLIN : 0;

        if (i == STDIN && !all->no_stdin && all->len > 0 && !end->out_ready)
            events |= EPOLLOUT;
        if (!end->source)
            continue;
        /* Off, and not merely without events: a hang-up is always told. Both only fail on our own
         * bugs. */
        if (events)
            (void)sd_event_source_set_io_events(end->source, events);
        (void)sd_event_source_set_enabled(end->source, events ? SD_EVENT_ON : SD_EVENT_OFF);
    }
}

void ends_resize(struct ends *all, unsigned rows, unsigned cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

    if (all->tty && all->end[STDIN].fd >= 0)
        (void)ioctl(all->end[STDIN].fd, TIOCSWINSZ, &size); /* a terminal that is gone is told */
}
