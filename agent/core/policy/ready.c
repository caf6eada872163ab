#include "core/policy/ready.h"

#include "base/scoped.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define TCP_LISTEN_BIT (1u << TCP_LISTEN)

struct diag_query {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

int ready_open(int *ret_fd, struct err *e)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    if (fd < 0)
        return err_set(e, errno, "open a sock_diag socket");
    *ret_fd = fd;
    return 0;
}

/* Reads one answer. 1: one of its sockets is a listener on PORT of UID; 0: none; 2: none yet, more
 * to come. */
static int scan_answer(int fd, unsigned port, uid_t uid)
{
    union {
        struct nlmsghdr header;
        char bytes[16384];
    } buf;
    ssize_t n = recv(fd, &buf, sizeof(buf), 0);

    if (n <= 0)
        return 0;
    int left = (int)n;
    for (struct nlmsghdr *h = &buf.header; NLMSG_OK(h, (unsigned)left); h = NLMSG_NEXT(h, left)) {
        if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
            return 0;
        const struct inet_diag_msg *m = NLMSG_DATA(h);
        if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && m->idiag_state == TCP_LISTEN &&
            ntohs(m->id.idiag_sport) == port && m->idiag_uid == uid)
            return 1;
        if (!(h->nlmsg_flags & NLM_F_MULTI))
            return 0;
    }
    return 2;
}

static bool ask(int fd, const struct diag_query *q, unsigned port, uid_t uid)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    bool found = false;

    if (sendto(fd, q, sizeof(*q), 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
        return false;
    /* A dump is read to its end even after a hit: its rest would be taken for the next answer. */
    for (;;) {
        int r = scan_answer(fd, port, uid);

        if (r == 1 && !(q->header.nlmsg_flags & NLM_F_DUMP))
            return true;
        if (r == 0)
            return found;
        found = found || r == 1;
    }
}

static struct diag_query query_for(int family, unsigned port, const struct ready_at *at, bool dump)
{
    struct diag_query q = {
        .header = {.nlmsg_len = sizeof(q),
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | (dump ? NLM_F_DUMP : 0))},
        .body = {.sdiag_family = (unsigned char)family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = TCP_LISTEN_BIT},
    };

    q.body.id.idiag_sport = htons((unsigned short)port);
    q.body.id.idiag_cookie[0] = q.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (!dump && family == AF_INET) { /* who would take a connection to it */
        q.body.id.idiag_src[0] = q.body.id.idiag_dst[0] = at->addr4;
    } else if (!dump) {
        memcpy(q.body.id.idiag_src, at->addr6, sizeof(at->addr6));
        memcpy(q.body.id.idiag_dst, at->addr6, sizeof(at->addr6));
    }
    return q;
}

bool port_listened(int diag_fd, unsigned port, uid_t uid, const struct ready_at *at, bool thorough)
{
    static const int families[] = {AF_INET, AF_INET6};
    static const unsigned char one6[16] = {[15] = 1};
    struct ready_at loopback = {.addr4 = htonl(INADDR_LOOPBACK)};

    memcpy(loopback.addr6, one6, sizeof(one6));

    for (unsigned i = 0; i < 2; i++) {
        struct diag_query q = query_for(families[i], port, at ? at : &loopback, thorough);

        if (ask(diag_fd, &q, port, uid))
            return true;
    }
    return false;
}

/* Connections of a dead process that linger in TIME_WAIT do not hold a port; a listener does. */
static bool can_bind(int fd, const void *sa, socklen_t len)
{
    int one = 1;

    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
           bind(fd, sa, len) == 0;
}

bool port_free(unsigned port)
{
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6,
                              .sin6_port = htons((unsigned short)port),
                              .sin6_addr = in6addr_any};
    scoped_fd six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (six >= 0) /* a dual-stack bind meets every holder */
        return can_bind(six, &sa, sizeof(sa));
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    scoped_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && can_bind(fd, &four, sizeof(four));
}
