/* net_link.c - one dyno's network: a namespace, the veth into it, addresses and routes. */
#include "base/scoped.h"
#include "isolate/net_impl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INNER_NAME  "eth0"
#define INNER_INDEX 1000 /* a new namespace may begin with tunnels that the kernel puts there */
#define BURST_MIN   (64u << 10)

/* Both ends' address: without ARP the kernel takes its own for the other's. Locally administered;
 * "dynod". */
static const unsigned char mac[6] = {0x02, 'd', 'y', 'n', 'o', 'd'};

/* --- Namespaces --- */

static int open_own(int *ret, struct err *e)
{
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(e, errno, "open /proc/self/ns/net");
    *ret = fd;
    return 0;
}

/* An agent that stayed in a dyno's network would take it for the host's: better it dies here, and
 * the next one adopts what runs. The kernel refuses only for want of memory. */
static void go_back(int home)
{
    for (int i = 0; setns(home, CLONE_NEWNET) < 0; i++) {
        if (i == 1000 || errno != ENOMEM)
            abort();
        (void)usleep(1000);
    }
}

int net_socket(int ns, int domain, int type, int protocol, int *ret_fd, struct err *e)
{
    scoped_fd home = -1;
    int r = open_own(&home, e);

    if (r < 0)
        return r;
    if (setns(ns, CLONE_NEWNET) < 0)
        return err_set(e, errno, "enter a dyno's network namespace");
    int fd = socket(domain, type | SOCK_CLOEXEC, protocol), errnum = errno;
    go_back(home);
    if (fd < 0)
        return err_set(e, errnum, "open a socket in a dyno's network namespace");
    *ret_fd = fd;
    return 0;
}

/* A route socket in the namespace NS, or in a new one (NS -1), which *ret_ns then is. */
static int open_inside(int ns, int *ret_home, int *ret_ns, struct mnl_socket **ret, struct err *e)
{
    scoped_fd home = -1, made = -1;
    int r = open_own(&home, e);

    if (r < 0)
        return r;
    if ((ns < 0 ? unshare(CLONE_NEWNET) : setns(ns, CLONE_NEWNET)) < 0)
        return err_set(e, errno, ns < 0 ? "make a network namespace" : "enter a network namespace");
    if (ns < 0)
        r = open_own(&made, e);
    if (r == 0)
        r = net_talk_open(ret, e);
    go_back(home);
    if (r < 0)
        return r;
    *ret_home = TAKE_FD(home);
    *ret_ns = TAKE_FD(made);
    return 0;
}

/* --- Requests --- */

static void add_link_change(struct net_talk *t, const char *what, int index, unsigned flags)
{
    struct ifinfomsg *m = net_talk_add(t, what, RTM_NEWLINK, 0, sizeof(*m));

    m->ifi_index = index;
    m->ifi_flags = m->ifi_change = flags;
}

/* No address of its own making, no router asked for; ROUTE_LOCALNET: what comes from the host's
 * loopback may leave by it. */
static void add_link_quiet(const struct net *n, struct net_talk *t, const char *what, int index,
                           bool route_localnet)
{
    if (!n->has_ipv6 && !route_localnet)
        return;
    add_link_change(t, what, index, 0);
    struct nlattr *spec = net_nest(t, IFLA_AF_SPEC);
    if (n->has_ipv6) {
        struct nlattr *six = net_nest(t, AF_INET6);
        unsigned char none = IN6_ADDR_GEN_MODE_NONE;

        net_put(t, IFLA_INET6_ADDR_GEN_MODE, &none, 1);
        net_nest_end(t, six);
    }
    if (route_localnet) {
        struct nlattr *four = net_nest(t, AF_INET), *conf = net_nest(t, IFLA_INET_CONF);

        net_put_u32(t, IPV4_DEVCONF_ROUTE_LOCALNET, 1);
        net_nest_end(t, conf);
        net_nest_end(t, four);
    }
    net_nest_end(t, spec);
}

static void add_veth(const struct net *n, struct net_talk *t, uint32_t slot, int home)
{
    char name[NET_NAME_MAX];
    struct ifinfomsg *m =
        net_talk_add(t, "make the interface", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));

    m->ifi_index = INNER_INDEX;
    m->ifi_flags = m->ifi_change = IFF_NOARP;
    net_put(t, IFLA_IFNAME, INNER_NAME, sizeof(INNER_NAME));
    net_put(t, IFLA_ADDRESS, mac, sizeof(mac));
    struct nlattr *info = net_nest(t, IFLA_LINKINFO);
    net_put(t, IFLA_INFO_KIND, "veth", 4);
    struct nlattr *data = net_nest(t, IFLA_INFO_DATA), *peer = net_nest(t, VETH_INFO_PEER);
    struct ifinfomsg *p = mnl_nlmsg_get_payload_tail(t->last);
    *p = (struct ifinfomsg){.ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP};
    t->last->nlmsg_len += MNL_ALIGN(sizeof(*p)); /* below 512 bytes: net_talk_add() has the room */
    net_interface(n, slot, name);
    net_put(t, IFLA_IFNAME, name, strlen(name) + 1);
    net_put(t, IFLA_ADDRESS, mac, sizeof(mac));
    net_put_u32(t, IFLA_GROUP, n->id);
    net_put_u32(t, IFLA_NET_NS_FD, (uint32_t)home);
    net_nest_end(t, peer);
    net_nest_end(t, data);
    net_nest_end(t, info);
}

static void add_address(struct net_talk *t, const struct net_range *range, uint32_t number)
{
    unsigned len = range->family == AF_INET ? 4 : 16;
    unsigned char addr[16];
    struct ifaddrmsg *m =
        net_talk_add(t, "give the address", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));

    net_range_at(range, number, addr);
    *m = (struct ifaddrmsg){.ifa_family = (uint8_t)range->family,
                            .ifa_prefixlen = (uint8_t)(8 * len),
                            .ifa_flags = IFA_F_NODAD,
                            .ifa_index = INNER_INDEX};
    net_put(t, IFA_LOCAL, addr, len);
    net_put(t, IFA_ADDRESS, addr, len);
}

/* NUMBER 0: the default route, to the range's gateway. */
static void add_route(struct net_talk *t, const struct net_range *range, uint32_t number, int index)
{
    unsigned len = range->family == AF_INET ? 4 : 16;
    unsigned char addr[16];
    struct rtmsg *m = net_talk_add(t, number ? "route to the dyno" : "route from the dyno",
                                   RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*m));

    *m = (struct rtmsg){.rtm_family = (uint8_t)range->family,
                        .rtm_dst_len = (uint8_t)(number ? 8 * len : 0),
                        .rtm_table = RT_TABLE_MAIN,
                        .rtm_protocol = NET_ROUTE_PROTO,
                        .rtm_scope = number && len == 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
                        .rtm_type = RTN_UNICAST,
                        .rtm_flags = number ? 0 : RTNH_F_ONLINK};
    net_range_at(range, number ? number : NET_GATEWAY, addr);
    net_put(t, number ? RTA_DST : RTA_GATEWAY, addr, len);
    net_put_u32(t, RTA_OIF, (uint32_t)index);
}

/* Sends more than RATE bytes a second wait in it, up to 50 ms; tc-tbf(8). RATE 0: none. */
static void add_rate(struct net_talk *t, int index, uint64_t rate)
{
    struct tcmsg *m = net_talk_add(t, "limit the bandwidth (the kernel needs sch_tbf)",
                                   rate ? RTM_NEWQDISC : RTM_DELQDISC,
                                   rate ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof(*m));
    uint64_t burst = rate / 100 > BURST_MIN ? rate / 100 : BURST_MIN, wait = rate / 20;
    struct tc_tbf_qopt opt = {
        .rate = {.linklayer = TC_LINKLAYER_ETHERNET,
                 .rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate},
        .limit = (uint32_t)(burst + wait > UINT32_MAX ? UINT32_MAX : burst + wait)};

    m->tcm_ifindex = index;
    m->tcm_parent = TC_H_ROOT;
    m->tcm_handle = TC_H_MAKE(1 << 16, 0);
    if (!rate)
        return;
    net_put(t, TCA_KIND, "tbf", 4);
    struct nlattr *options = net_nest(t, TCA_OPTIONS);
    net_put(t, TCA_TBF_PARMS, &opt, sizeof(opt));
    net_put_u32(t, TCA_TBF_BURST, burst > UINT32_MAX ? UINT32_MAX : (uint32_t)burst);
    if (rate > UINT32_MAX)
        net_put(t, TCA_TBF_RATE64, &rate, sizeof(rate));
    net_nest_end(t, options);
}

/* --- Making --- */

static int make_inside(struct net *n, struct mnl_socket *s, uint32_t slot, int home, uint64_t rate,
                       struct err *e)
{
    struct net_talk t;

    net_talk_begin(n, &t);
    add_veth(n, &t, slot, home); /* first: the rest is nothing without it */
    add_link_change(&t, "switch lo on", 1, IFF_UP);
    add_link_quiet(n, &t, "quieten " INNER_NAME, INNER_INDEX, false);
    add_link_change(&t, "switch " INNER_NAME " on", INNER_INDEX, IFF_UP);
    add_address(&t, &n->range4, slot + NET_FIRST);
    add_route(&t, &n->range4, 0, INNER_INDEX);
    if (n->range6.family) {
        add_address(&t, &n->range6, slot + NET_FIRST);
        add_route(&t, &n->range6, 0, INNER_INDEX);
    }
    if (rate)
        add_rate(&t, INNER_INDEX, rate);
    return net_talk_send(s, &t, e);
}

static int make_outside(struct net *n, uint32_t slot, uint64_t rate, struct err *e)
{
    char name[NET_NAME_MAX];
    int index = (int)if_nametoindex(net_interface(n, slot, name));
    struct net_talk t;

    if (index == 0)
        return err_set(e, errno, "find the interface %s", name);
    net_talk_begin(n, &t);
    add_link_quiet(n, &t, "quieten it", index, true);
    add_link_change(&t, "switch it on", index, IFF_UP);
    add_route(&t, &n->range4, slot + NET_FIRST, index);
    if (n->range6.family)
        add_route(&t, &n->range6, slot + NET_FIRST, index);
    if (rate)
        add_rate(&t, index, rate);
    return net_talk_send(n->route, &t, e);
}

int net_make(struct net *n, uint32_t slot, uint64_t rate, int *ret_fd, struct err *e)
{
    scoped(net_socket_closep) struct mnl_socket *s = NULL;
    scoped_fd home = -1, ns = -1;
    char name[NET_NAME_MAX];

    assert(slot >= 1 && slot <= n->slots);
    int r = open_inside(-1, &home, &ns, &s, e);
    if (r == 0)
        r = make_inside(n, s, slot, home, rate, e);
    if (r == 0)
        r = make_outside(n, slot, rate, e);
    if (r < 0)
        return err_wrap(e, "network %s", net_interface(n, slot, name));
    *ret_fd = TAKE_FD(ns);
    return 0;
}

/* A rate of none is no qdisc to remove, the second time. */
static int send_rate(struct net *n, struct mnl_socket *s, int index, uint64_t rate, struct err *e)
{
    struct err told = ERR_INIT;
    struct net_talk t;

    net_talk_begin(n, &t);
    add_rate(&t, index, rate);
    int r = net_talk_send(s, &t, &told);
    if (r < 0 && !(rate == 0 && (r == -ENOENT || r == -EINVAL))) {
        *e = told;
        return r;
    }
    return 0;
}

int net_set_rate(struct net *n, int ns, uint32_t slot, uint64_t rate, struct err *e)
{
    scoped(net_socket_closep) struct mnl_socket *s = NULL;
    scoped_fd home = -1, none = -1;
    char name[NET_NAME_MAX];
    int index = (int)if_nametoindex(net_interface(n, slot, name));

    if (index == 0)
        return err_set(e, errno, "find the interface %s", name);
    int r = open_inside(ns, &home, &none, &s, e);
    if (r == 0)
        r = send_rate(n, s, INNER_INDEX, rate, e);
    return r < 0 ? r : send_rate(n, n->route, index, rate, e);
}

int net_routes_cover(struct net *n, bool there, struct err *e)
{
    const struct net_range *ranges[] = {&n->range4, &n->range6};

    for (unsigned i = 0; i < 2; i++) {
        struct err told = ERR_INIT;
        struct net_talk t;

        if (!ranges[i]->family)
            continue;
        net_talk_begin(n, &t);
        struct rtmsg *m = net_talk_add(&t, "route the range", there ? RTM_NEWROUTE : RTM_DELROUTE,
                                       there ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof(*m));
        *m = (struct rtmsg){.rtm_family = (uint8_t)ranges[i]->family,
                            .rtm_dst_len = (uint8_t)ranges[i]->len,
                            .rtm_table = RT_TABLE_MAIN,
                            .rtm_protocol = NET_ROUTE_PROTO,
                            .rtm_scope = RT_SCOPE_UNIVERSE,
                            .rtm_type = RTN_UNREACHABLE};
        net_put(&t, RTA_DST, ranges[i]->addr, ranges[i]->family == AF_INET ? 4 : 16);
        net_put_u32(&t, RTA_PRIORITY, n->id);
        int r = net_talk_send(n->route, &t, &told);
        if (r < 0 && (there || r != -ESRCH)) {
            *e = told;
            return r;
        }
    }
    return 0;
}
