#include "base/loop.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

struct peer {
    struct frame_conn *conn;
    sd_event_source *source;
    const struct peer_ops *ops;
    void *userdata;
    bool *freed; /* set while a callback runs: the callback may free the peer */
};

static void peer_events(struct peer *p)
{
    uint32_t events = EPOLLIN | (frame_pending(p->conn) ? EPOLLOUT : 0u);

    (void)sd_event_source_set_io_events(p->source, events); /* only fails on our own bugs */
}

/* No more events; tell the owner, who may free P. */
static void peer_close(struct peer *p, const struct err *why)
{
    (void)sd_event_source_set_enabled(p->source, SD_EVENT_OFF);
    p->ops->on_close(p->userdata, why);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct peer *p = userdata;
    struct err e = ERR_INIT;
    bool freed = false;
    int r = 0;

    (void)s;
    (void)fd;
    p->freed = &freed;
    if (revents & EPOLLOUT)
        r = frame_flush(p->conn, &e);
    /* A peer that closed may have left frames to read, so reading goes on until it says so. */
    while (r >= 0) {
        struct frame f;

        r = frame_next(p->conn, &f, &e);
        if (r <= 0)
            break;
        p->ops->on_frame(p->userdata, &f);
        frame_done(&f);
        if (freed)
            return 0;
    }
    p->freed = NULL;
    if (r < 0)
        peer_close(p, &e);
    else
        peer_events(p);
    return 0;
}

int peer_new(sd_event *loop, int fd, const struct peer_ops *ops, void *userdata, struct peer **ret,
             struct err *e)
{
    struct peer *p = calloc(1, sizeof(*p));

    if (!p) {
        close(fd);
        return err_set(e, ENOMEM, "make a peer");
    }
    p->ops = ops;
    p->userdata = userdata;
    int r = frame_conn_new(fd, &p->conn, e);
    if (r == 0) {
        r = sd_event_add_io(loop, &p->source, frame_conn_fd(p->conn), EPOLLIN, on_io, p);
        if (r < 0)
            r = err_set(e, -r, "watch a peer");
    }
    if (r < 0) {
        peer_freep(&p);
        return r;
    }
    *ret = p;
    return 0;
}

void peer_freep(struct peer **pp)
{
    struct peer *p = *pp;

    if (!p)
        return;
    if (p->freed)
        *p->freed = true;
    sd_event_source_disable_unref(p->source);
    frame_conn_freep(&p->conn);
    free(p);
    *pp = NULL;
}

int peer_send(struct peer *p, const json_t *json, const int *fds, size_t n_fds, struct err *e)
{
    int r = frame_send(p->conn, json, fds, n_fds, e);

    if (r == 0)
        peer_events(p);
    return r;
}

int timer_set(sd_event *loop, sd_event_source **source, const char *name, uint64_t at_boot_usec,
              sd_event_time_handler_t fn, void *userdata)
{
    int r;

    if (!*source) {
        if (at_boot_usec == USEC_NEVER)
            return 0;
        r = sd_event_add_time(loop, source, CLOCK_BOOTTIME, at_boot_usec, 1, fn, userdata);
        if (r >= 0)
            r = sd_event_source_set_description(*source, name);
        return r;
    }
    if (at_boot_usec == USEC_NEVER)
        return sd_event_source_set_enabled(*source, SD_EVENT_OFF);
    r = sd_event_source_set_time(*source, at_boot_usec);
    return r < 0 ? r : sd_event_source_set_enabled(*source, SD_EVENT_ONESHOT);
}
