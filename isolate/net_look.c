/* net_look.c - what there is on the host already: ours, and what is in our way. */
#include "isolate/net_impl.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t net_slot_of(const struct net *n, const char *name)
{
    size_t len = strlen(n->prefix);
    uint64_t slot;

    if (strncmp(name, n->prefix, len) != 0 || parse_u64(name + len, 1, NET_SLOTS_MAX, &slot) < 0)
        return 0;
    return (uint32_t)slot;
}

/* mnl_attr_parse()'s callback: remembers the attributes up to MAX. */
struct attrs {
    const struct nlattr **of;
    unsigned max;
};

static int take_attr(const struct nlattr *attr, void *userdata)
{
    struct attrs *a = userdata;

    if (mnl_attr_get_type(attr) <= a->max)
        a->of[mnl_attr_get_type(attr)] = attr;
    return MNL_CB_OK;
}

static bool is_veth(const struct nlattr *info)
{
    const struct nlattr *of[IFLA_INFO_MAX + 1] = {0};
    struct attrs a = {of, IFLA_INFO_MAX};

    if (!info || mnl_attr_parse_nested(info, take_attr, &a) < 0 || !of[IFLA_INFO_KIND])
        return false;
    return !strcmp(mnl_attr_get_str(of[IFLA_INFO_KIND]), "veth");
}

bool net_is_ours(const struct net *n, const struct nlmsghdr *h, const char **ret_name)
{
    const struct nlattr *of[IFLA_MAX + 1] = {0};
    struct attrs a = {of, IFLA_MAX};

    *ret_name = NULL;
    if (mnl_attr_parse(h, sizeof(struct ifinfomsg), take_attr, &a) < 0 || !of[IFLA_IFNAME])
        return false;
    *ret_name = mnl_attr_get_str(of[IFLA_IFNAME]);
    return net_slot_of(n, *ret_name) && is_veth(of[IFLA_LINKINFO]) && of[IFLA_GROUP] &&
           mnl_attr_get_u32(of[IFLA_GROUP]) == n->id;
}

/* --- In our way --- */

struct look {
    const struct net *n;
    struct err told; /* errnum: the first thing that is */
};

static int look_at_link(const struct nlmsghdr *h, void *userdata)
{
    struct look *l = userdata;
    const char *name;

    if (!net_is_ours(l->n, h, &name) && name && !l->told.errnum &&
        !strncmp(name, l->n->prefix, strlen(l->n->prefix)))
        (void)err_say(&l->told, EEXIST,
                      "an interface that is not this agent's is called %s: the names %s1, %s2, ... "
                      "are for dynos; rename it (ip link set %s name NAME)",
                      name, l->n->prefix, l->n->prefix, name);
    return MNL_CB_OK;
}

/* WHAT is on the interface INDEX and has ADDR/LEN. */
static void meet(struct look *l, const char *what, int family, const void *addr, unsigned len,
                 unsigned index)
{
    const struct net_range *ranges[] = {&l->n->range4, &l->n->range6};
    struct net_range there = {.family = family, .len = len};
    char name[IF_NAMESIZE] = "", text[NET_RANGE_TEXT], ours[NET_RANGE_TEXT];

    if (l->told.errnum || (family != AF_INET && family != AF_INET6))
        return;
    memcpy(there.addr, addr, family == AF_INET ? 4 : 16);
    for (unsigned i = 0; i < 2; i++)
        if (net_range_overlaps(ranges[i], &there)) {
            if (index && !if_indextoname(index, name))
                name[0] = '\0';
            (void)err_say(&l->told, EADDRINUSE,
                          "%s %s is in use on this host: it has the %s %s%s%s; choose another one "
                          "(ipv%c_range in [network])",
                          i == 0 ? "ipv4_range" : "ipv6_range", net_range_text(ranges[i], ours),
                          what, net_range_text(&there, text), name[0] ? " on " : "", name,
                          i == 0 ? '4' : '6');
        }
}

static int look_at_address(const struct nlmsghdr *h, void *userdata)
{
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *of[IFA_MAX + 1] = {0};
    struct attrs a = {of, IFA_MAX};

    if (mnl_attr_parse(h, sizeof(*m), take_attr, &a) < 0)
        return MNL_CB_OK;
    const struct nlattr *addr = of[IFA_LOCAL] ? of[IFA_LOCAL] : of[IFA_ADDRESS];
    if (addr && mnl_attr_get_payload_len(addr) >= (m->ifa_family == AF_INET ? 4 : 16))
        meet(userdata, "address", m->ifa_family, mnl_attr_get_payload(addr),
             m->ifa_family == AF_INET ? 32 : 128, m->ifa_index);
    return MNL_CB_OK;
}

/* Ours are those of our number to our interfaces, or with our metric. */
static bool is_our_route(const struct net *n, const struct rtmsg *m, const struct nlattr **of,
                         unsigned index)
{
    char name[IF_NAMESIZE] = "";

    if (m->rtm_protocol != NET_ROUTE_PROTO)
        return false;
    if (of[RTA_PRIORITY] && mnl_attr_get_u32(of[RTA_PRIORITY]) == n->id)
        return true;
    return index && (!if_indextoname(index, name) || net_slot_of(n, name)); /* gone, or ours */
}

static int look_at_route(const struct nlmsghdr *h, void *userdata)
{
    const struct rtmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *of[RTA_MAX + 1] = {0};
    struct attrs a = {of, RTA_MAX};
    struct look *l = userdata;

    if (mnl_attr_parse(h, sizeof(*m), take_attr, &a) < 0 || !of[RTA_DST] || m->rtm_dst_len == 0 ||
        m->rtm_type == RTN_MULTICAST || (m->rtm_flags & RTM_F_CLONED))
        return MNL_CB_OK;
    unsigned index = of[RTA_OIF] ? mnl_attr_get_u32(of[RTA_OIF]) : 0;
    if (mnl_attr_get_payload_len(of[RTA_DST]) >= (m->rtm_family == AF_INET ? 4 : 16) &&
        !is_our_route(l->n, m, of, index))
        meet(l, "route", m->rtm_family, mnl_attr_get_payload(of[RTA_DST]), m->rtm_dst_len, index);
    return MNL_CB_OK;
}

int net_look_free(struct net *n, struct err *e)
{
    struct look l = {.n = n, .told = ERR_INIT};
    int r = net_dump(n, RTM_GETLINK, look_at_link, &l, e);

    if (r == 0)
        r = net_dump(n, RTM_GETADDR, look_at_address, &l, e);
    if (r == 0)
        r = net_dump(n, RTM_GETROUTE, look_at_route, &l, e);
    if (r < 0 || !l.told.errnum)
        return r;
    *e = l.told;
    return err_blame(e, FAULT_OPERATOR);
}

/* --- What nobody wants any more --- */

struct sweep {
    const struct net *n;
    bool (*keep)(void *userdata, uint32_t slot);
    void *userdata;
    int *found; /* indexes */
    size_t count;
    bool failed;
};

static int sweep_link(const struct nlmsghdr *h, void *userdata)
{
    const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
    struct sweep *s = userdata;
    const char *name;

    if (!net_is_ours(s->n, h, &name) || s->keep(s->userdata, net_slot_of(s->n, name)))
        return MNL_CB_OK;
    int *more = reallocarray(s->found, s->count + 1, sizeof(*more));
    if (!more) {
        s->failed = true;
        return MNL_CB_OK;
    }
    s->found = more;
    s->found[s->count++] = m->ifi_index;
    return MNL_CB_OK;
}

int net_sweep(struct net *n, bool (*keep)(void *userdata, uint32_t slot), void *userdata,
              unsigned *ret_removed, struct err *e)
{
    struct sweep s = {.n = n, .keep = keep, .userdata = userdata};
    unsigned removed = 0;
    int r = net_dump(n, RTM_GETLINK, sweep_link, &s, e);

    if (r == 0 && s.failed)
        r = err_set(e, ENOMEM, "sweep the interfaces");
    for (size_t i = 0; r == 0 && i < s.count; i++) {
        struct err told = ERR_INIT;
        struct net_talk t;

        net_talk_begin(n, &t);
        struct ifinfomsg *m =
            net_talk_add(&t, "remove a leftover interface", RTM_DELLINK, 0, sizeof(*m));
        m->ifi_index = s.found[i];
        if (net_talk_send(n->route, &t, &told) == 0)
            removed++;
        else if (told.errnum != ENODEV) { /* it went by itself */
            *e = told;
            r = -told.errnum;
        }
    }
    free(s.found);
    if (r == 0)
        *ret_removed = removed;
    return r;
}
