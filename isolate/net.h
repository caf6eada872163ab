/* net.h - a network of its own for each dyno (`network = private`): a namespace with one veth,
 * routed, no bridge; and the rules on the host's side of it. Root only.
 *
 * Each run has a slot, a small number: its address in the ranges, the name of its interface on the
 * host. The other end is eth0 in a network namespace that the machine's user namespace owns, so the
 * dyno has no power over it. Both ends have one MAC address and no ARP: there is nobody to ask, and
 * nothing to forge. What may come from an interface is what the host routes to it: a start adds a
 * route, no rule. All rules are in one nftables table of the agent's own, replaced as a whole in
 * one transaction when an agent starts (nft(8)); only the map of published ports changes later.
 *
 * What survives the agent: the table, the interfaces, and the slot in each run's record. A
 * namespace ends with the last process in it, and takes its interfaces and routes along.
 *
 * Calls block for some 0.1 ms each (net_make() 0.5 ms), more while the kernel takes many namespaces
 * apart, and longer in net_open() and net_install(). docs/isolation.md has what each rule stops. */
#ifndef ISOLATE_NET_H
#define ISOLATE_NET_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_NAME_MAX    16    /* bytes of an interface's name, with its NUL (IFNAMSIZ) */
#define NET_ADDRESS_MAX 46    /* of an address as text (INET6_ADDRSTRLEN) */
#define NET_SLOTS_MAX   65533 /* 1 to this */
#define NET_LIST_MAX    64    /* networks in one list */
#define NET_SERVERS_MAX 3     /* name servers: what resolvers read (resolv.conf(5), MAXNS) */
#define NET_OWN_NAMES   "dyno"

/* Texts are borrowed for the call. Lists have a blank between. */
struct net_config {
    const char *name;        /* "": the machine's agent; else 5 hex digits, for another one on it */
    const char *range4;      /* "10.213.0.0/16", /8 to /29 */
    const char *range6;      /* "fd64:796e:6f64::/64", /32 to /112; "": dynos have no IPv6 */
    const char *egress_deny; /* networks that no dyno reaches, */
    const char *egress_allow; /* but for these */
    const char *nameservers;  /* "": the host's */
    unsigned connections;     /* of one dyno at once; 0: no limit */
    unsigned dynos;           /* that must find room in the ranges. Better twice as much: one may
                               * start while its last run is cleaned up */
};

struct net;

/* Checks the configuration (the operator's fault) and the machine: names and ranges must not be in
 * use, and forwarding is switched on. Makes nothing else that dynos could use. */
int net_open(const struct net_config *config, struct net **ret, struct err *e);
void net_freep(struct net **n);
/* The same without looking at the machine, or changing it: for --check-config and tests. */
int net_check(const struct net_config *config, struct err *e);

/* TEXT is a list of networks, as in a struct net_config; SINGLE: one, or none. Pure. */
bool net_list_valid(const char *text, bool single);

uint32_t net_slots(const struct net *n); /* the last slot; the first is 1 */
/* Of SLOT; OUT is returned. net_address6(): "" without IPv6. */
char *net_address(const struct net *n, uint32_t slot, char out[NET_ADDRESS_MAX]);
char *net_address6(const struct net *n, uint32_t slot, char out[NET_ADDRESS_MAX]);
char *net_interface(const struct net *n, uint32_t slot, char out[NET_NAME_MAX]);
const char *net_table(const struct net *n); /* of nftables, family inet; owned by N */
/* The content of a resolv.conf that works inside; owned by N. */
const char *net_resolv_conf(const struct net *n);
/* What an operator should know, of the last net_open(); "": nothing. */
const char *net_notice(const struct net *n);

/* A port of the host's that leads to the same port of the dyno in SLOT. */
struct net_port {
    uint16_t port;
    uint32_t slot;
};

/* Puts the rules in place, with the ports of adopted dynos, instead of those of an earlier agent;
 * connections stay. Before it nothing may be started. The error says when the kernel has no
 * nftables. */
int net_install(struct net *n, const struct net_port *ports, size_t n_ports, struct err *e);
/* Readable when somebody changed rules on this machine (`nft flush ruleset`, say). Borrowed. */
int net_rules_fd(const struct net *n);
/* Hears of it: whether our own are concerned, which takes net_install() again at once. Never by
 * what N did itself. */
bool net_rules_changed(struct net *n);
/* Removes every interface of ours whose slot KEEP refuses. */
int net_sweep(struct net *n, bool (*keep)(void *userdata, uint32_t slot), void *userdata,
              unsigned *ret_removed, struct err *e);
/* Removes rules and routes: no dyno is left. */
int net_remove(struct net *n, struct err *e);

/* Makes the namespace of SLOT with its interface. RATE: bytes a second each way; 0: no limit.
 * *ret_fd is the caller's and holds the namespace, like the processes that join it. -EEXIST: the
 * kernel is still taking the last one of this slot apart; take another slot. */
int net_make(struct net *n, uint32_t slot, uint64_t rate, int *ret_fd, struct err *e);
/* The same ahead, by a process of its own (which it starts, where there is none yet): the calls
 * take locks that the whole kernel shares. What it made goes with it, and with the agent. */
int net_ask(struct net *n, uint32_t slot, uint64_t rate, struct err *e);
/* The socket on which that process says what it made, to wait for with POLLIN; -1: there is none.
 * Another one when it was started again: look after each net_ask(). */
int net_asked_fd(const struct net *n);
/* Takes what it says, in the order of what it was asked for. 1: a network, as of net_make(). 0: not
 * yet. An error is about one that will not come; -EPIPE: none will, the process is gone. */
int net_hear(struct net *n, int *ret_fd, struct err *e);
/* Changes the rate of SLOT, whose namespace is NS: a descriptor of it, or a pidfd of a process in
 * it. */
int net_set_rate(struct net *n, int ns, uint32_t slot, uint64_t rate, struct err *e);

/* From now on PORT leads to SLOT, whatever it led to. */
int net_publish(struct net *n, unsigned port, uint32_t slot, struct err *e);
/* PORT leads nowhere. One that is not published is success. */
int net_unpublish(struct net *n, unsigned port, struct err *e);

/* socket(2) in the network namespace NS (as above). */
int net_socket(int ns, int domain, int type, int protocol, int *ret_fd, struct err *e);

/* Whether the kernel has what a private network takes; E says what is missing. Stays in a network
 * namespace of its own: for a child process. */
int net_probe(struct err *e);

#endif
