#include "core/run/initlink.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct initlink {
    int sock;
    sd_event_source *source;
    const struct initlink_ops *ops;
    void *userdata;
    bool *freed; /* set while a callback runs */
};

int initlink_receive(int sock, struct init_packet *p)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
    } control;
    struct iovec iov = {.iov_base = &p->event, .iov_len = sizeof(p->event)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (n < 0) /* no memory now is no word of dyno-init's: the packet is still there */
        return errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS ? 0
                                                                                        : -errno;
    if (n == 0)
        return -EPIPE;
    p->fd = -1;
    p->cred = (struct ucred){0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&p->cred, CMSG_DATA(c), sizeof(p->cred));
        } else if (c->cmsg_type == SCM_RIGHTS) {
            size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            int fds[FD_PASS_MAX];

            memcpy(fds, CMSG_DATA(c), count * sizeof(int));
            for (size_t i = 0; i < count; i++)
                if (p->fd < 0)
                    p->fd = fds[i];
                else
                    fd_closep(&fds[i]);
        }
    }
    if (n != sizeof(p->event) || p->event.version != INIT_PROTO_VERSION) {
        fd_closep(&p->fd);
        return -EBADMSG;
    }
    return 1;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct initlink *l = userdata;
    struct init_packet p = {.fd = -1};
    bool freed = false;
    int r;

    (void)s;
    (void)fd;
    (void)revents;
    l->freed = &freed;
    while ((r = initlink_receive(l->sock, &p)) > 0) {
        l->ops->on_event(l->userdata, &p.event, p.cred.pid, p.fd);
        if (freed)
            return 0;
    }
    l->freed = NULL;
    if (r < 0) {
        (void)sd_event_source_set_enabled(l->source, SD_EVENT_OFF);
        l->ops->on_close(l->userdata);
    }
    return 0;
}

int initlink_new(sd_event *loop, int sock, const struct initlink_ops *ops, void *userdata,
                 struct initlink **ret, struct err *e)
{
    struct initlink *l = calloc(1, sizeof(*l));
    int one = 1;

    if (!l) {
        close(sock);
        return err_set(e, ENOMEM, "make a link to dyno-init");
    }
    *l = (struct initlink){.sock = sock, .ops = ops, .userdata = userdata};
    int r = fd_set_nonblock(sock, true);

    if (r == 0 && setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0)
        r = -errno;
    if (r == 0)
        r = sd_event_add_io(loop, &l->source, sock, EPOLLIN, on_io, l);
    if (r < 0) {
        initlink_freep(&l);
        return err_set(e, -r, "watch dyno-init");
    }
    *ret = l;
    return 0;
}

void initlink_freep(struct initlink **lp)
{
    struct initlink *l = *lp;

    if (!l)
        return;
    if (l->freed)
        *l->freed = true;
    sd_event_source_disable_unref(l->source);
    fd_closep(&l->sock);
    free(l);
    *lp = NULL;
}

int initlink_send(struct initlink *l, const struct init_request *request, const int *fds,
                  size_t n_fds)
{
    struct init_request out = *request;

    out.version = INIT_PROTO_VERSION;
    ssize_t n = fd_send(l->sock, &out, sizeof(out), fds, n_fds);
    return n < 0 ? (int)n : 0;
}
