/* net_impl.h - what the files of the network share; private to isolate/net*.c and their tests. */
#ifndef ISOLATE_NET_IMPL_H
#define ISOLATE_NET_IMPL_H

#include "base/str.h"
#include "isolate/maker.h"
#include "isolate/net.h"

#include <libmnl/libmnl.h>
#include <net/if.h>
#include <netinet/in.h>

/* Addresses are kept as bytes in network order; IPv4 uses the first four. */
struct net_range {
    int family; /* AF_INET, AF_INET6; 0: none */
    unsigned len;
    unsigned char addr[16];
};

/* "10.0.0.0/8", "fd00::/8", "192.0.2.1". -EINVAL: not one, or bits are set behind the prefix. */
int net_range_parse(const char *text, struct net_range *ret);
bool net_range_overlaps(const struct net_range *a, const struct net_range *b);
/* "ADDRESS/LEN" */
#define NET_RANGE_TEXT (NET_ADDRESS_MAX + 4)
char *net_range_text(const struct net_range *r, char out[NET_RANGE_TEXT]);
/* Address number N of R. */
void net_range_at(const struct net_range *r, uint32_t n, unsigned char out[16]);
char *net_range_at_text(const struct net_range *r, uint32_t n, char out[NET_ADDRESS_MAX]);
/* How many slots it has room for. */
uint32_t net_range_slots(const struct net_range *r);
/* The networks of a list. WHAT is for the error. */
int net_list_parse(const char *text, const char *what, struct net_range ret[NET_LIST_MAX],
                   size_t *ret_n, struct err *e);

#define NET_GATEWAY 1 /* number of the address that dynos route to, in both ranges */
#define NET_FIRST   1 /* slot 1 has address number 1 + NET_FIRST */

struct net {
    char prefix[NET_NAME_MAX]; /* "dyno-", or "dyno1a2b3-" */
    char table[24];            /* "dynod", "dynod-1a2b3" */
    uint32_t id;               /* the group of our links, and the metric of our routes */
    struct net_range range4, range6;
    bool has_ipv6; /* the kernel has it, dynos or not */
    struct net_range deny[NET_LIST_MAX], allow[NET_LIST_MAX];
    size_t n_deny, n_allow;
    struct net_range servers[NET_SERVERS_MAX];
    size_t n_servers;
    unsigned connections;
    uint32_t slots;
    struct mnl_socket *route, *filter;
    struct mnl_socket *watch; /* hears who changes rules */
    struct maker maker;
    unsigned seq;
    char *resolv_conf;
    char notice[256];
};

/* net.c */
int net_parse(const struct net_config *config, struct net *n, struct err *e);

/* net.c: makes the last number of PATH (tcp_mem, udp_mem) at least half of PAGES. -EBADMSG: PATH is
 * no such file; -errno. */
int net_raise_buffers(const char *path, uint64_t pages);

/* net_resolv.c: fills servers and resolv_conf. HOST, STUB: paths of the host's resolv.conf, and of
 * the one behind a local stub resolver. */
int net_resolv(struct net *n, const char *nameservers, const char *host, const char *stub,
               struct err *e);

/* net_rules.c: the whole table, to replace what there is of it in one transaction. Pure. */
int net_rules(const struct net *n, const struct net_port *ports, size_t n_ports, struct str *out);

/* net_filter.c */
int net_filter_run(const char *commands, struct err *e);
/* Opens N's sockets. */
int net_filter_open(struct net *n, struct err *e);

/* net_watch.c: from now on the kernel tells of changed rules. */
int net_watch_open(struct net *n, struct err *e);
/* Reads all that has been told. How many changed our table, but for its published ports: 0, 1, 2
 * for more. *ret_lost: there was more than was heard. */
unsigned net_watch_drain(struct net *n, bool *ret_lost);

/* --- net_talk.c: rtnetlink requests, several in one call --- */

#define NET_TALK_MAX 4096 /* bytes */
#define NET_TALKS    16   /* requests */
struct net_talk {
    char buf[NET_TALK_MAX];
    size_t len;
    struct nlmsghdr *last;
    unsigned first; /* sequence number of the first */
    unsigned n;
    const char *what[NET_TALKS]; /* each one's words in an error */
};

/* The socket is in the network namespace of the caller. */
int net_talk_open(struct mnl_socket **ret, struct err *e);
void net_socket_closep(struct mnl_socket **s);
void net_talk_begin(struct net *n, struct net_talk *t);
/* Adds a request for TYPE with FLAGS beside NLM_F_REQUEST, and EXTRA bytes of its family's header,
 * which are returned. WHAT is borrowed. */
void *net_talk_add(struct net_talk *t, const char *what, unsigned type, unsigned flags,
                   size_t extra);
void net_put(struct net_talk *t, unsigned type, const void *data, size_t len);
void net_put_u32(struct net_talk *t, unsigned type, uint32_t value);
struct nlattr *net_nest(struct net_talk *t, unsigned type);
void net_nest_end(struct net_talk *t, struct nlattr *nest);
/* Sends them and waits for the kernel's answers: the first failure, if any. */
int net_talk_send(struct mnl_socket *s, struct net_talk *t, struct err *e);
/* Asks for all of TYPE (RTM_GETLINK, ...); CB as of mnl_cb_run(3). */
int net_dump(struct net *n, unsigned type, mnl_cb_t cb, void *userdata, struct err *e);

/* --- net_link.c, net_look.c --- */

/* The ranges' own routes, which refuse what no dyno has: made, or removed. */
int net_routes_cover(struct net *n, bool there, struct err *e);
/* -EADDRINUSE, -EEXIST: the operator's. */
int net_look_free(struct net *n, struct err *e);
/* The slot that the name of an interface of ours tells; 0: none. */
uint32_t net_slot_of(const struct net *n, const char *name);
/* An interface of ours: by name, kind and group. */
bool net_is_ours(const struct net *n, const struct nlmsghdr *h, const char **ret_name);

#define NET_ROUTE_PROTO 213 /* who made a route: rt_protos of iproute2 has none of this number */

#endif
