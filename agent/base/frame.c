#include "base/frame.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME_HEADER 8
#define READ_CHUNK   65536
#define FDS_HELD_MAX 64 /* descriptors that arrived ahead of the frames they belong to */

/* One queued frame. Its descriptors travel with its first byte. */
struct outgoing {
    struct outgoing *next;
    size_t len;
    size_t sent;
    int fds[FRAME_FDS_MAX];
    size_t n_fds;
    char data[];
};

struct frame_conn {
    int fd;
    char *in;
    size_t in_len;
    size_t in_cap;
    int held[FDS_HELD_MAX];
    size_t n_held;
    bool eof;
    struct outgoing *out;
    struct outgoing **out_tail;
    size_t out_bytes;
};

void frame_done(struct frame *f)
{
    json_decref(f->json);
    for (size_t i = 0; i < f->n_fds; i++)
        fd_closep(&f->fds[i]);
    *f = (struct frame){0};
}

int frame_take_fd(struct frame *f, size_t i)
{
    return i < f->n_fds ? TAKE_FD(f->fds[i]) : -1;
}

int frame_conn_new(int fd, struct frame_conn **ret, struct err *e)
{
    struct frame_conn *c = calloc(1, sizeof(*c));
    int r = c ? fd_set_nonblock(fd, true) : -ENOMEM;

    if (r < 0) {
        free(c);
        close(fd);
        return err_set(e, -r, "make a frame connection");
    }
    c->fd = fd;
    c->out_tail = &c->out;
    *ret = c;
    return 0;
}

static void outgoing_free(struct outgoing *o)
{
    for (size_t i = 0; i < o->n_fds; i++)
        fd_closep(&o->fds[i]);
    free(o);
}

void frame_conn_freep(struct frame_conn **cp)
{
    struct frame_conn *c = *cp;

    if (!c)
        return;
    while (c->out) {
        struct outgoing *next = c->out->next;

        outgoing_free(c->out);
        c->out = next;
    }
    for (size_t i = 0; i < c->n_held; i++)
        fd_closep(&c->held[i]);
    fd_closep(&c->fd);
    free(c->in);
    free(c);
    *cp = NULL;
}

int frame_conn_fd(const struct frame_conn *c)
{
    return c->fd;
}

bool frame_pending(const struct frame_conn *c)
{
    return c->out != NULL;
}

static struct outgoing *outgoing_new(const json_t *json, const int *fds, size_t n_fds)
{
    size_t len = json_dumpb(json, NULL, 0, JSON_COMPACT);
    struct outgoing *o;
    uint32_t header[2] = {htonl((uint32_t)len), htonl((uint32_t)n_fds)};

    if (len == 0 || len > FRAME_MAX || !(o = calloc(1, sizeof(*o) + FRAME_HEADER + len)))
        return NULL;
    memcpy(o->data, header, FRAME_HEADER);
    (void)json_dumpb(json, o->data + FRAME_HEADER, len, JSON_COMPACT);
    o->len = FRAME_HEADER + len;
    for (size_t i = 0; i < n_fds; i++) {
        o->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        o->n_fds++;
        if (o->fds[i] < 0) {
            outgoing_free(o);
            return NULL;
        }
    }
    return o;
}

int frame_send(struct frame_conn *c, const json_t *json, const int *fds, size_t n_fds,
               struct err *e)
{
    assert(n_fds <= FRAME_FDS_MAX);
    if (c->out_bytes > FRAME_QUEUE_MAX)
        return err_say(e, ENOBUFS, "the peer does not read: %zu bytes are queued", c->out_bytes);
    struct outgoing *o = outgoing_new(json, fds, n_fds);
    if (!o)
        return err_set(e, ENOMEM, "make a frame");
    *c->out_tail = o;
    c->out_tail = &o->next;
    c->out_bytes += o->len;
    int r = frame_flush(c, e);
    return r < 0 ? r : 0;
}

int frame_flush(struct frame_conn *c, struct err *e)
{
    while (c->out) {
        struct outgoing *o = c->out;
        ssize_t n = fd_send(c->fd, o->data + o->sent, o->len - o->sent, o->fds, o->n_fds);

        if (n == -EAGAIN)
            return 1;
        if (n < 0)
            return err_set(e, (int)-n, "write a frame");
        for (size_t i = 0; i < o->n_fds; i++) /* they left with the first byte */
            fd_closep(&o->fds[i]);
        o->n_fds = 0;
        o->sent += (size_t)n;
        c->out_bytes -= (size_t)n;
        if (o->sent < o->len)
            continue;
        c->out = o->next;
        if (!c->out)
            c->out_tail = &c->out;
        outgoing_free(o);
    }
    return 0;
}

/* Reads once. 1: something came; 0: nothing now; or an error. */
static int frame_fill(struct frame_conn *c, struct err *e)
{
    int fds[FD_PASS_MAX];
    size_t n_fds;

    if (c->in_cap - c->in_len < READ_CHUNK) {
        size_t cap = c->in_len + 2 * READ_CHUNK;
        char *in = realloc(c->in, cap);

        if (!in)
            return err_set(e, ENOMEM, "read a frame");
        c->in = in;
        c->in_cap = cap;
    }
    ssize_t n = fd_recv(c->fd, c->in + c->in_len, READ_CHUNK, fds, &n_fds);
    if (n == -EAGAIN)
        return 0;
    if (n == -ECONNRESET)
        n = 0;
    if (n < 0)
        return err_set(e, (int)-n, "read a frame");
    for (size_t i = 0; i < n_fds; i++) {
        if (c->n_held == FDS_HELD_MAX)
            fd_closep(&fds[i]); /* more than any frame announces: the count check will tell */
        else
            c->held[c->n_held++] = fds[i];
    }
    if (n == 0)
        return err_say(e, EPIPE, "the peer closed the connection");
    c->in_len += (size_t)n;
    return 1;
}

/* Cuts one frame off the front of the buffer. 1, 0 when it is not whole yet, or an error. */
static int frame_cut(struct frame_conn *c, struct frame *ret, struct err *e)
{
    uint32_t header[2];
    struct frame f = {0};

    if (c->in_len < FRAME_HEADER)
        return 0;
    memcpy(header, c->in, FRAME_HEADER);
    size_t len = ntohl(header[0]), n_fds = ntohl(header[1]);
    if (len > FRAME_MAX || n_fds > FRAME_FDS_MAX)
        return err_say(e, EBADMSG,
                       "a frame of %zu bytes and %zu descriptors is over the limit of %u and %d",
                       len, n_fds, FRAME_MAX, FRAME_FDS_MAX);
    if (c->in_len < FRAME_HEADER + len)
        return 0;
    if (c->n_held < n_fds)
        return err_say(e, EBADMSG, "a frame announced %zu descriptors, %zu came", n_fds, c->n_held);
    int r = json_parse(c->in + FRAME_HEADER, len, FRAME_MAX, &f.json, e);
    if (r == 0 && !json_is_object(f.json)) {
        json_decref(f.json);
        r = err_say(e, EBADMSG, "a frame is not a JSON object");
    }
    if (r < 0)
        return r == -ENOMEM ? r : -EBADMSG;
    memcpy(f.fds, c->held, n_fds * sizeof(int));
    f.n_fds = n_fds;
    c->n_held -= n_fds;
    memmove(c->held, c->held + n_fds, c->n_held * sizeof(int));
    c->in_len -= FRAME_HEADER + len;
    memmove(c->in, c->in + FRAME_HEADER + len, c->in_len);
    *ret = f;
    return 1;
}

int frame_next(struct frame_conn *c, struct frame *ret, struct err *e)
{
    for (;;) {
        int r = frame_cut(c, ret, e);

        if (r != 0)
            return r;
        r = frame_fill(c, e);
        if (r <= 0)
            return r;
    }
}
