/* net_watch.c - whoever changes our rules is heard of: the kernel tells of each transaction
 * (NFNLGRP_NFTABLES) when it is over, before the call that made it returns. */
#include "isolate/net_impl.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

/* Room for what replacing the table says, with the ports of some ten thousand dynos; beyond it the
 * kernel drops all, and tells that it did (ENOBUFS). */
#define BACKLOG_MAX (16 << 20)
#define MESSAGE_MAX 32768
/* The attribute with the table's name has this number in all messages about what is in a table. */
#define TABLE_NAME 1

_Static_assert(NFTA_TABLE_NAME == TABLE_NAME && NFTA_CHAIN_TABLE == TABLE_NAME &&
                   NFTA_RULE_TABLE == TABLE_NAME && NFTA_SET_TABLE == TABLE_NAME &&
                   NFTA_SET_ELEM_LIST_TABLE == TABLE_NAME && NFTA_OBJ_TABLE == TABLE_NAME &&
                   NFTA_FLOWTABLE_TABLE == TABLE_NAME,
               "one attribute names the table");

int net_watch_open(struct net *n, struct err *e)
{
    const int backlog = BACKLOG_MAX, group = NFNLGRP_NFTABLES;
    struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int r = 0;

    if (!s)
        return err_set(e, errno, "open a socket that tells of changed rules");
    if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
        setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &backlog, sizeof(backlog)) <
            0 ||
        mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, (void *)(uintptr_t)&group, sizeof(group)) <
            0)
        r = err_set(e, errno, "have the kernel tell of changed rules");
    if (r < 0)
        (void)mnl_socket_close(s);
    else
        n->watch = s;
    return r;
}

static int take_table(const struct nlattr *attr, void *userdata)
{
    const struct nlattr **table = userdata;

    if (mnl_attr_get_type(attr) == TABLE_NAME)
        *table = attr;
    return MNL_CB_OK;
}

static bool is_about_ours(const struct net *n, const struct nlmsghdr *h)
{
    const struct nfgenmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *table = NULL;

    if (NFNL_SUBSYS_ID(h->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
        NFNL_MSG_TYPE(h->nlmsg_type) == NFT_MSG_NEWGEN || m->nfgen_family != NFPROTO_INET ||
        mnl_attr_parse(h, sizeof(*m), take_table, (void *)&table) < 0 || !table ||
        mnl_attr_validate(table, MNL_TYPE_NUL_STRING) < 0)
        return false;
    return !strcmp(mnl_attr_get_str(table), n->table);
}

/* Who, by the number of their sockets, changed what is ours. */
struct authors {
    unsigned n; /* 2: or more */
    uint32_t first;
};

/* Ports are published by N's own socket, and no change that matters. */
static void take_authors(const struct net *n, const char *buf, size_t len, struct authors *ret)
{
    uint32_t self = mnl_socket_get_portid(n->filter);
    int left = (int)len;

    for (const struct nlmsghdr *h = (const void *)buf; mnl_nlmsg_ok(h, left);
         h = mnl_nlmsg_next(h, &left)) {
        if (h->nlmsg_pid == self || h->nlmsg_len < sizeof(*h) + sizeof(struct nfgenmsg) ||
            !is_about_ours(n, h))
            continue;
        if (ret->n == 0)
            *ret = (struct authors){1, h->nlmsg_pid};
        else if (ret->first != h->nlmsg_pid)
            ret->n = 2;
    }
}

unsigned net_watch_drain(struct net *n, bool *ret_lost)
{
    char buf[MESSAGE_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct authors authors = {0};

    *ret_lost = false;
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(n->watch, buf, sizeof(buf));

        if (got >= 0)
            take_authors(n, buf, (size_t)got, &authors);
        else if (errno == ENOBUFS || errno == ENOSPC) /* more than the backlog, or BUF, holds */
            *ret_lost = true;
        else if (errno != EINTR)
            return authors.n;
    }
}

int net_rules_fd(const struct net *n)
{
    return mnl_socket_get_fd(n->watch);
}

bool net_rules_changed(struct net *n)
{
    bool lost;

    return net_watch_drain(n, &lost) > 0 || lost;
}
