/* net_rules.c - the rules as nft(8) reads them. docs/isolation.md says of each what it stops, and
 * which test shows that. */
#include "isolate/net_impl.h"

#include <errno.h>

/* Where clouds keep an instance's metadata and credentials: no dyno ever reaches these, whatever
 * the lists say. IPv4 link-local is EC2's (169.254.169.254), ECS's (.170.2), EKS's (.170.23),
 * Google's, Azure's, Oracle's; then Alibaba's, Oracle's old one, Azure's wire server. IPv6: EC2's,
 * Google's, Oracle's; link-local; and IPv4 inside IPv6 (mapped; through NAT64, RFC 6052; through
 * 6to4, RFC 3056), which a router behind this host would translate. */
static const char never4[] = "169.254.0.0/16, 100.100.100.200, 192.0.0.192, 168.63.129.16";
static const char never6[] = "fe80::/10, fd00:ec2::/32, fd20:ce::/32, fd00:c1::/32, "
                             "::ffff:0:0/96, 64:ff9b::a9fe:0/112, 2002:a9fe::/32";
/* Of these not even a name server: 169.254.169.254 is one, on Google's machines. */
static const char metadata4[] = "169.254.169.254, 169.254.170.2, 169.254.170.23";

static void add_list(struct str *out, const char *set, int family, const struct net_range *list,
                     size_t n)
{
    const char *between = "";
    char text[NET_RANGE_TEXT];

    str_addf(out, "  set %s%c { type ipv%c_addr; flags interval; auto-merge;", set,
             family == AF_INET ? '4' : '6', family == AF_INET ? '4' : '6');
    for (size_t i = 0; i < n; i++)
        if (list[i].family == family) {
            str_addf(out, "%s %s", *between ? between : " elements = {",
                     net_range_text(&list[i], text));
            between = ",";
        }
    str_addf(out, "%s }\n", *between ? " };" : "");
}

static void add_ports(struct str *out, const struct net_range *range, const struct net_port *ports,
                      size_t n)
{
    char kind = range->family == AF_INET ? '4' : '6', text[NET_ADDRESS_MAX];

    str_addf(out, "  map ports%c { type inet_service : ipv%c_addr;", kind, kind);
    for (size_t i = 0; i < n; i++)
        str_addf(out, "%s %u : %s", i ? "," : " elements = {", ports[i].port,
                 net_range_at_text(range, ports[i].slot + NET_FIRST, text));
    str_addf(out, "%s }\n", n ? " };" : "");
}

static void add_sets(const struct net *n, const struct net_port *ports, size_t n_ports,
                     struct str *out)
{
    static const struct net_range none6 = {.family = AF_INET6};

    add_ports(out, &n->range4, ports, n_ports);
    add_ports(out, n->range6.family ? &n->range6 : &none6, ports, n->range6.family ? n_ports : 0);
    str_addf(out, "  set never4 { type ipv4_addr; flags interval; elements = { %s }; }\n", never4);
    str_addf(out, "  set never6 { type ipv6_addr; flags interval; elements = { %s }; }\n", never6);
    add_list(out, "allow", AF_INET, n->allow, n->n_allow);
    add_list(out, "allow", AF_INET6, n->allow, n->n_allow);
    add_list(out, "deny", AF_INET, n->deny, n->n_deny);
    add_list(out, "deny", AF_INET6, n->deny, n->n_deny);
    add_list(out, "dns", AF_INET, n->servers, n->n_servers);
    add_list(out, "dns", AF_INET6, n->servers, n->n_servers);
    if (n->connections)
        str_add(out, "  set count4 { type ipv4_addr; flags dynamic; size 65536; }\n"
                     "  set count6 { type ipv6_addr; flags dynamic; size 65536; }\n");
}

/* What an interface sends must be from the address that the host routes to it, and never to the
 * host's loopback, which route_localnet opens for answers (CVE-2020-8558). Before conntrack, which
 * spoofed packets are not to fill. */
static void add_spoofing(const struct net *n, struct str *out)
{
    str_addf(out,
             "  chain spoofing {\n"
             "    type filter hook prerouting priority raw; policy accept;\n"
             "    iifname != \"%s*\" return\n"
             "    fib saddr . iif oif missing counter drop comment \"spoofing\"\n"
             "    ip daddr 127.0.0.0/8 counter drop comment \"loopback\"\n"
             "    %s\n"
             "  }\n",
             n->prefix,
             n->range6.family ? "ip6 daddr ::1 counter drop comment \"loopback6\""
                              : "meta nfproto ipv6 counter drop comment \"ipv6\"");
}

/* Where dynos may go: anywhere but. Before the routing decision, so that the host's own addresses
 * are one of the places; after conntrack, so that answers pass. */
static void add_leaving(const struct net *n, struct str *out)
{
    char range4[NET_RANGE_TEXT], range6[NET_RANGE_TEXT];

    str_add(out, "  chain refuse {\n"
                 "    meta l4proto tcp reject with tcp reset\n"
                 "    reject with icmpx admin-prohibited\n"
                 "  }\n"
                 "  chain count {\n");
    if (n->connections)
        str_addf(out,
                 "    add @count4 { ip saddr ct count over %u } counter goto refuse "
                 "comment \"connections\"\n"
                 "    add @count6 { ip6 saddr ct count over %u } counter goto refuse "
                 "comment \"connections6\"\n",
                 n->connections, n->connections);
    str_addf(out,
             "  }\n"
             "  chain leaving {\n"
             "    type filter hook prerouting priority mangle; policy accept;\n"
             "    iifname != \"%s*\" return\n"
             "    ct state established return\n"
             "    ct state related meta l4proto { icmp, icmpv6 } return\n"
             "    ct state != new counter drop comment \"invalid\"\n"
             "    ip daddr { %s } counter goto refuse comment \"metadata\"\n"
             "    meta l4proto { tcp, udp } th dport 53 ip daddr @dns4 goto count\n"
             "    meta l4proto { tcp, udp } th dport 53 ip6 daddr @dns6 goto count\n"
             "    ip daddr @never4 counter goto refuse comment \"never\"\n"
             "    ip6 daddr @never6 counter goto refuse comment \"never6\"\n"
             "    ip daddr %s counter goto refuse comment \"dynos\"\n",
             n->prefix, metadata4, net_range_text(&n->range4, range4));
    if (n->range6.family)
        str_addf(out, "    ip6 daddr %s counter goto refuse comment \"dynos6\"\n",
                 net_range_text(&n->range6, range6));
    str_add(out, "    fib daddr type != unicast counter goto refuse comment \"host\"\n"
                 "    ip daddr @allow4 goto count\n"
                 "    ip6 daddr @allow6 goto count\n"
                 "    ip daddr @deny4 counter goto refuse comment \"egress\"\n"
                 "    ip6 daddr @deny6 counter goto refuse comment \"egress6\"\n"
                 "    goto count\n"
                 "  }\n");
}

/* To dynos comes what a published port was turned into, and answers. */
static void add_entering(const struct net *n, struct str *out)
{
    str_addf(out,
             "  chain entering {\n"
             "    ct state established,related return\n"
             "    ct status dnat return\n"
             "    counter goto refuse comment \"entering\"\n"
             "  }\n"
             "  chain forwarding {\n"
             "    type filter hook forward priority filter; policy accept;\n"
             "    iifname \"" NET_OWN_NAMES "*\" oifname \"" NET_OWN_NAMES "*\" counter "
             "goto refuse comment \"other agents\"\n"
             "    oifname \"%s*\" goto entering\n"
             "  }\n"
             "  chain sending {\n"
             "    type filter hook output priority filter; policy accept;\n"
             "    oifname \"%s*\" goto entering\n"
             "  }\n",
             n->prefix, n->prefix);
}

/* The host's own ::1 cannot leave it. */
static void add_nat(const struct net *n, struct str *out)
{
    char range4[NET_RANGE_TEXT], range6[NET_RANGE_TEXT], gateway[NET_ADDRESS_MAX];

    str_addf(out,
             "  chain arriving {\n"
             "    type nat hook prerouting priority dstnat; policy accept;\n"
             "    iifname \"" NET_OWN_NAMES "*\" return\n"
             "    fib daddr type local dnat ip to tcp dport map @ports4\n"
             "    fib daddr type local dnat ip6 to tcp dport map @ports6\n"
             "  }\n"
             "  chain own {\n"
             "    type nat hook output priority -100; policy accept;\n"
             "    ip6 daddr ::1 return\n"
             "    fib daddr type local dnat ip to tcp dport map @ports4\n"
             "    fib daddr type local dnat ip6 to tcp dport map @ports6\n"
             "  }\n"
             "  chain masquerading {\n"
             "    type nat hook postrouting priority srcnat; policy accept;\n"
             "    oifname \"%s*\" ip saddr 127.0.0.0/8 snat ip to %s\n"
             "    oifname \"" NET_OWN_NAMES "*\" return\n"
             "    ip saddr %s masquerade\n",
             n->prefix, net_range_at_text(&n->range4, NET_GATEWAY, gateway),
             net_range_text(&n->range4, range4));
    if (n->range6.family)
        str_addf(out, "    ip6 saddr %s masquerade\n", net_range_text(&n->range6, range6));
    str_add(out, "  }\n");
}

int net_rules(const struct net *n, const struct net_port *ports, size_t n_ports, struct str *out)
{
    str_addf(out, "add table inet %s\ndelete table inet %s\ntable inet %s {\n", n->table, n->table,
             n->table);
    add_sets(n, ports, n_ports, out);
    add_spoofing(n, out);
    add_leaving(n, out);
    add_entering(n, out);
    add_nat(n, out);
    str_add(out, "}\n");
    return out->failed ? -ENOMEM : 0;
}
