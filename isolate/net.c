/* net.c - the network of all dynos: configuration, the machine's switches, the rules' life. */
#include "isolate/net.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/net_impl.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RESOLV_CONF "/etc/resolv.conf"
#define RESOLV_STUB                                                                                \
    "/run/systemd/resolve/resolv.conf" /* what 127.0.0.53 asks; systemd-resolved(8) */
#define FORWARD4      "/proc/sys/net/ipv4/ip_forward"
#define FORWARD6      "/proc/sys/net/ipv6/conf/all/forwarding"
#define TCP_MEM       "/proc/sys/net/ipv4/tcp_mem"
#define UDP_MEM       "/proc/sys/net/ipv4/udp_mem"
#define INSTALL_TRIES 3
#define CONF6         "/proc/sys/net/ipv6/conf"

void net_freep(struct net **n)
{
    if (!*n)
        return;
    maker_stop(&(*n)->maker);
    net_socket_closep(&(*n)->route);
    net_socket_closep(&(*n)->filter);
    net_socket_closep(&(*n)->watch);
    free((*n)->resolv_conf);
    free(*n);
    *n = NULL;
}

/* --- Configuration --- */

static int refuse_range(const char *key, const char *text, const char *must, struct err *e)
{
    (void)err_say(e, EINVAL, "%s: '%.60s' is not %s", key, text, must);
    return err_blame(e, FAULT_OPERATOR);
}

static int parse_ranges(const struct net_config *c, struct net *n, struct err *e)
{
    if (net_range_parse(c->range4, &n->range4) < 0 || n->range4.family != AF_INET ||
        n->range4.len < 8 || n->range4.len > 29 || n->range4.addr[0] == 0 ||
        n->range4.addr[0] == 127 || n->range4.addr[0] >= 224)
        return refuse_range("ipv4_range", c->range4,
                            "an IPv4 network of /8 to /29, like 10.213.0.0/16", e);
    if (c->range6[0] &&
        (net_range_parse(c->range6, &n->range6) < 0 || n->range6.family != AF_INET6 ||
         n->range6.len < 32 || n->range6.len > 112 || n->range6.addr[0] < 0x20 ||
         n->range6.addr[0] >= 0xfe))
        return refuse_range("ipv6_range", c->range6,
                            "an IPv6 network of /32 to /112, like fd64:796e:6f64::/64", e);
    uint32_t slots = net_range_slots(&n->range4);
    if (n->range6.family && net_range_slots(&n->range6) < slots)
        slots = net_range_slots(&n->range6);
    if (slots < c->dynos) {
        (void)err_say(
            e, EINVAL,
            "ipv4_range, ipv6_range: room for %u dynos, fewer than dynos_max = %u: take a "
            "larger range, or fewer dynos",
            slots, c->dynos);
        return err_blame(e, FAULT_OPERATOR);
    }
    n->slots = slots;
    return 0;
}

static int parse_name(const struct net_config *c, struct net *n, struct err *e)
{
    for (const char *p = c->name; *p; p++)
        if (!isxdigit((unsigned char)*p) || p - c->name >= 5)
            return err_say(e, EINVAL, "a network's name is of 5 hex digits");
    (void)snprintf(n->prefix, sizeof(n->prefix), NET_OWN_NAMES "%s-", c->name);
    (void)snprintf(n->table, sizeof(n->table), "dynod%s%s", c->name[0] ? "-" : "", c->name);
    /* A number that no administrator's link group or metric has by chance. */
    n->id = 0x64000000u | (uint32_t)strtoul(c->name[0] ? c->name : "0", NULL, 16);
    return 0;
}

int net_parse(const struct net_config *c, struct net *n, struct err *e)
{
    int r = parse_name(c, n, e);

    n->connections = c->connections;
    if (r == 0)
        r = parse_ranges(c, n, e);
    if (r == 0)
        r = net_list_parse(c->egress_deny, "egress_deny", n->deny, &n->n_deny, e);
    if (r == 0)
        r = net_list_parse(c->egress_allow, "egress_allow", n->allow, &n->n_allow, e);
    return r;
}

int net_check(const struct net_config *c, struct err *e)
{
    scoped(net_freep) struct net *n = calloc(1, sizeof(*n));

    if (!n)
        return err_set(e, ENOMEM, "check the network");
    n->maker = (struct maker)MAKER_INIT;
    return net_parse(c, n, e);
}

/* --- The machine --- */

static int read_switch(const char *path)
{
    char c = '0';
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && read(fd, &c, 1) == 1 ? c - '0' : -1;
}

static int set_switch(const char *path, const char *value, struct err *e)
{
    scoped_fd fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, value, strlen(value)) < 0) {
        (void)err_set(e, errno,
                      "set %s to %s, without which no dyno reaches the network (set it in "
                      "sysctl.d, or network = host)",
                      path, value);
        return err_blame(e, FAULT_OPERATOR);
    }
    return 0;
}

/* What the buffers of all sockets of the machine may hold, in pages: from its size a 1/16 and less,
 * which two dynos may fill that never read. Beyond it nobody's connections get on, the agent's
 * neither. The dynos' cgroups count these buffers; so the machine's limit need not be the first.
 * Only the first network namespace has the files. tcp(7), tcp_mem */
int net_raise_buffers(const char *path, uint64_t pages)
{
    unsigned long long low, pressure, most;
    char text[100] = "";
    scoped_fd fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (read(fd, text, sizeof(text) - 1) < 0)
        return -errno;
    if (sscanf(text, "%llu %llu %llu", &low, &pressure, &most) != 3)
        return -EBADMSG;
    if (most >= pages / 2)
        return 0;
    int n = snprintf(text, sizeof(text), "%llu %llu %llu\n", (unsigned long long)pages * 3 / 8,
                     (unsigned long long)pages * 3 / 8, (unsigned long long)pages / 2);
    return pwrite(fd, text, (size_t)n, 0) < 0 ? -errno : 0;
}

/* A router takes no router's advertisements, unless told to; a host that lives by them would lose
 * its IPv6 when it begins to forward. Kernel: ip-sysctl.rst, accept_ra */
static int keep_advertisements(struct err *e)
{
    scoped(dir_closep) DIR *d = opendir(CONF6);
    struct dirent *entry;
    char path[320];
    int r = 0;

    while (d && r == 0 && (entry = readdir(d))) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), CONF6 "/%s/accept_ra", entry->d_name);
        if (read_switch(path) == 1)
            r = set_switch(path, "2", e);
    }
    return r;
}

static int switch_forwarding_on(const struct net *n, struct err *e)
{
    const uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);

    /* Dynos run without it as well, as long as none is hostile; a container may not write it. */
    (void)net_raise_buffers(TCP_MEM, pages);
    (void)net_raise_buffers(UDP_MEM, pages);
    int r = read_switch(FORWARD4) == 1 ? 0 : set_switch(FORWARD4, "1", e);

    if (r < 0 || !n->range6.family || read_switch(FORWARD6) == 1)
        return r;
    r = keep_advertisements(e);
    return r == 0 ? set_switch(FORWARD6, "1", e) : r;
}

int net_open(const struct net_config *config, struct net **ret, struct err *e)
{
    scoped(net_freep) struct net *n = calloc(1, sizeof(*n));

    if (!n)
        return err_set(e, ENOMEM, "open the network");
    n->maker = (struct maker)MAKER_INIT;
    int r = net_parse(config, n, e);
    n->has_ipv6 = access(FORWARD6, F_OK) == 0;
    if (r == 0 && n->range6.family && !n->has_ipv6) {
        (void)snprintf(n->notice, sizeof(n->notice),
                       "this kernel has no IPv6: dynos have none either (ipv6_range)");
        n->range6 = (struct net_range){0};
    }
    if (r == 0)
        r = net_resolv(n, config->nameservers, RESOLV_CONF, RESOLV_STUB, e);
    if (r == 0)
        r = net_talk_open(&n->route, e);
    if (r == 0)
        r = net_filter_open(n, e);
    if (r == 0)
        r = net_watch_open(n, e);
    if (r == 0)
        r = net_look_free(n, e);
    if (r == 0)
        r = switch_forwarding_on(n, e);
    if (r == 0)
        r = net_routes_cover(n, true, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(n);
    return 0;
}

/* --- Questions --- */

uint32_t net_slots(const struct net *n)
{
    return n->slots;
}

char *net_address(const struct net *n, uint32_t slot, char out[NET_ADDRESS_MAX])
{
    return net_range_at_text(&n->range4, slot + NET_FIRST, out);
}

char *net_address6(const struct net *n, uint32_t slot, char out[NET_ADDRESS_MAX])
{
    out[0] = '\0';
    return n->range6.family ? net_range_at_text(&n->range6, slot + NET_FIRST, out) : out;
}

char *net_interface(const struct net *n, uint32_t slot, char out[NET_NAME_MAX])
{
    (void)snprintf(out, NET_NAME_MAX, "%.10s%u", n->prefix, slot % 100000);
    return out;
}

const char *net_table(const struct net *n)
{
    return n->table;
}

const char *net_resolv_conf(const struct net *n)
{
    return n->resolv_conf;
}

const char *net_notice(const struct net *n)
{
    return n->notice;
}

/* --- Rules --- */

int net_install(struct net *n, const struct net_port *ports, size_t n_ports, struct err *e)
{
    scoped(str_done) struct str rules = {0};

    unsigned authors = 2;
    bool lost = false;
    int r = 0;

    if (net_rules(n, ports, n_ports, &rules) < 0)
        return err_set(e, ENOMEM, "make the network's rules");
    /* Once more if somebody else was at it in the same moment, before us or after. */
    for (int i = 0; r == 0 && authors > 1 && i < INSTALL_TRIES; i++) {
        r = net_filter_run(str_text(&rules), e);
        authors = net_watch_drain(n, &lost);
    }
    return r < 0 ? err_wrap(e, "put the network's rules in place (the kernel needs nf_tables with "
                               "inet, nat, masq, ct, connlimit, fib and reject; or network = host)")
                 : 0;
}

int net_remove(struct net *n, struct err *e)
{
    char commands[128];

    (void)snprintf(commands, sizeof(commands), "add table inet %s\ndelete table inet %s\n",
                   n->table, n->table);
    int r = net_filter_run(commands, e);
    return r < 0 ? r : net_routes_cover(n, false, e);
}
