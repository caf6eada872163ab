/* net_range.c - networks and the addresses in them. Pure. */
#include "isolate/net_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static unsigned family_bits(int family)
{
    return family == AF_INET ? 32 : 128;
}

static bool bit(const unsigned char *addr, unsigned i)
{
    return addr[i / 8] >> (7 - i % 8) & 1;
}

int net_range_parse(const char *text, struct net_range *ret)
{
    struct net_range r = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};
    char addr[NET_ADDRESS_MAX];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    uint64_t len = family_bits(r.family);

    if (n >= sizeof(addr))
        return -EINVAL;
    memcpy(addr, text, n);
    addr[n] = '\0';
    if (inet_pton(r.family, addr, r.addr) != 1)
        return -EINVAL;
    if (slash && parse_u64(slash + 1, 0, len, &len) < 0)
        return -EINVAL;
    r.len = (unsigned)len;
    for (unsigned i = r.len; i < family_bits(r.family); i++)
        if (bit(r.addr, i))
            return -EINVAL;
    *ret = r;
    return 0;
}

bool net_range_overlaps(const struct net_range *a, const struct net_range *b)
{
    unsigned len = a->len < b->len ? a->len : b->len;

    if (a->family != b->family || a->family == 0)
        return false;
    for (unsigned i = 0; i < len; i++)
        if (bit(a->addr, i) != bit(b->addr, i))
            return false;
    return true;
}

char *net_range_text(const struct net_range *r, char out[NET_RANGE_TEXT])
{
    char addr[NET_ADDRESS_MAX] = "";

    (void)inet_ntop(r->family, r->addr, addr, sizeof(addr)); /* fails for no family of ours */
    (void)snprintf(out, NET_RANGE_TEXT, "%s/%u", addr, r->len);
    return out;
}

void net_range_at(const struct net_range *r, uint32_t n, unsigned char out[16])
{
    unsigned last = family_bits(r->family) / 8;
    uint64_t carry = n;

    memcpy(out, r->addr, 16);
    for (unsigned i = last; i-- > 0 && carry;) {
        carry += out[i];
        out[i] = (unsigned char)carry;
        carry >>= 8;
    }
}

char *net_range_at_text(const struct net_range *r, uint32_t n, char out[NET_ADDRESS_MAX])
{
    unsigned char addr[16];

    net_range_at(r, n, addr);
    out[0] = '\0';
    (void)inet_ntop(r->family, addr, out, NET_ADDRESS_MAX);
    return out;
}

/* Without the network's own address, the gateway's and, as people expect it, the last one. */
uint32_t net_range_slots(const struct net_range *r)
{
    unsigned bits = family_bits(r->family) - r->len;
    uint64_t all = bits >= 31 ? UINT32_MAX : UINT64_C(1) << bits;

    if (all < 4)
        return 0;
    return all - 3 > NET_SLOTS_MAX ? NET_SLOTS_MAX : (uint32_t)(all - 3);
}

int net_list_parse(const char *text, const char *what, struct net_range ret[NET_LIST_MAX],
                   size_t *ret_n, struct err *e)
{
    size_t n = 0;

    for (const char *p = text + strspn(text, " "); *p; p += strspn(p, " ")) {
        char one[NET_RANGE_TEXT];
        size_t len = strcspn(p, " ");

        (void)snprintf(one, sizeof(one), "%.*s", (int)len, p);
        if (n == NET_LIST_MAX) {
            (void)err_say(e, E2BIG, "%s: more than %d networks", what, NET_LIST_MAX);
            return err_blame(e, FAULT_OPERATOR);
        }
        if (len >= sizeof(one) || net_range_parse(one, &ret[n]) < 0) {
            (void)err_say(e, EINVAL,
                          "%s: '%.60s' is not a network, like 10.0.0.0/8, 192.0.2.1 or fd00::/8 "
                          "(without bits behind its prefix)",
                          what, one);
            return err_blame(e, FAULT_OPERATOR);
        }
        n++;
        p += len;
    }
    *ret_n = n;
    return 0;
}

bool net_list_valid(const char *text, bool single)
{
    struct net_range list[NET_LIST_MAX];
    struct err ignored = ERR_INIT; /* the caller has better words */
    size_t n = 0;

    return net_list_parse(text, "", list, &n, &ignored) == 0 && (!single || n <= 1);
}
