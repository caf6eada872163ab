/* net_talk.c - rtnetlink(7) by libmnl: requests that go together go in one call, because each call
 * is a round trip and each request takes the kernel's one lock for networks. */
#include "isolate/net_impl.h"

#include <assert.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define ANSWER_MAX 32768

int net_talk_open(struct mnl_socket **ret, struct err *e)
{
    struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

    if (!s)
        return err_set(e, errno, "open a route socket");
    if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
        int r = err_set(e, errno, "bind a route socket");

        (void)mnl_socket_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void net_socket_closep(struct mnl_socket **s)
{
    if (*s)
        (void)mnl_socket_close(*s);
    *s = NULL;
}

void net_talk_begin(struct net *n, struct net_talk *t)
{
    t->len = 0;
    t->n = 0;
    t->last = NULL;
    n->seq += NET_TALKS;
    t->first = n->seq;
}

static void close_last(struct net_talk *t)
{
    if (t->last)
        t->len += MNL_ALIGN(t->last->nlmsg_len);
}

void *net_talk_add(struct net_talk *t, const char *what, unsigned type, unsigned flags,
                   size_t extra)
{
    close_last(t);
    assert(t->n < NET_TALKS && t->len + 512 < sizeof(t->buf));
    t->last = mnl_nlmsg_put_header(t->buf + t->len);
    t->last->nlmsg_type = (uint16_t)type;
    t->last->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    t->last->nlmsg_seq = t->first + t->n;
    t->what[t->n++] = what;
    return mnl_nlmsg_put_extra_header(t->last, extra);
}

void net_put(struct net_talk *t, unsigned type, const void *data, size_t len)
{
    mnl_attr_put(t->last, (uint16_t)type, len, data);
}

void net_put_u32(struct net_talk *t, unsigned type, uint32_t value)
{
    mnl_attr_put_u32(t->last, (uint16_t)type, value);
}

struct nlattr *net_nest(struct net_talk *t, unsigned type)
{
    return mnl_attr_nest_start(t->last, (uint16_t)type);
}

void net_nest_end(struct net_talk *t, struct nlattr *nest)
{
    mnl_attr_nest_end(t->last, nest);
}

/* What the kernel says of one request. 1: it was the last. */
static int take_answer(const struct net_talk *t, const struct nlmsghdr *h, struct err *e)
{
    const struct nlmsgerr *told = mnl_nlmsg_get_payload(h);
    unsigned at = h->nlmsg_seq - t->first;

    if (h->nlmsg_type != NLMSG_ERROR || at >= t->n)
        return 0; /* an answer to an earlier talk that failed half way */
    if (told->error && !e->errnum)
        (void)err_set(e, -told->error, "%s", t->what[at]);
    return at + 1 == t->n;
}

int net_talk_send(struct mnl_socket *s, struct net_talk *t, struct err *e)
{
    char buf[ANSWER_MAX];
    struct err told = ERR_INIT;

    t->last->nlmsg_flags |= NLM_F_ACK; /* of the others failures are answered */
    close_last(t);
    t->last = NULL;
    if (mnl_socket_sendto(s, t->buf, t->len) < 0)
        return err_set(e, errno, "ask the kernel to %s", t->what[0]);
    for (bool over = false; !over;) {
        ssize_t got = mnl_socket_recvfrom(s, buf, sizeof(buf));
        int left = (int)got;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(e, errno, "hear whether the kernel could %s", t->what[0]);
        for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
            over = take_answer(t, h, &told) || over;
    }
    if (told.errnum)
        *e = told;
    return -told.errnum;
}

/* What changes while it is told is there, or not, as it likes: that is fine. libmnl would pass over
 * the rest of an answer that is marked so, and if it is the last one, wait for another. */
static void forget_changes(char *buf, size_t len)
{
    int left = (int)len;

    for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
        h->nlmsg_flags &= (uint16_t)~NLM_F_DUMP_INTR;
}

int net_dump(struct net *n, unsigned type, mnl_cb_t cb, void *userdata, struct err *e)
{
    char buf[ANSWER_MAX];
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
    struct rtgenmsg *body = mnl_nlmsg_put_extra_header(h, sizeof(*body));
    unsigned seq = n->seq += NET_TALKS, port = mnl_socket_get_portid(n->route);

    h->nlmsg_type = (uint16_t)type;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    h->nlmsg_seq = seq;
    body->rtgen_family = AF_UNSPEC;
    if (mnl_socket_sendto(n->route, h, h->nlmsg_len) < 0)
        return err_set(e, errno, "ask the kernel for its networks");
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(n->route, buf, sizeof(buf));

        if (got < 0 && errno == EINTR)
            continue;
        if (got > 0)
            forget_changes(buf, (size_t)got);
        int r = got < 0 ? -1 : mnl_cb_run(buf, (size_t)got, seq, port, cb, userdata);
        if (r < 0)
            return err_set(e, errno, "hear of the kernel's networks");
        if (r == 0)
            return 0;
    }
}
