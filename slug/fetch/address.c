#include "slug/fetch/transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static bool v4_link_local(const uint8_t b[4])
{
    return b[0] == 169 && b[1] == 254;
}

/* The instance metadata address of IPv6 on EC2 is unique local, not link-local: fd00:ec2::254. */
static bool v6_metadata(const uint8_t b[16])
{
    static const uint8_t ec2[16] = {0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};

    return !memcmp(b, ec2, sizeof(ec2));
}

bool address_is_link_local(const struct sockaddr *addr)
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}; /* RFC 6052 */
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (addr->sa_family == AF_INET) {
        memcpy(&v4, addr, sizeof(v4));
        return v4_link_local((const uint8_t *)&v4.sin_addr);
    }
    if (addr->sa_family != AF_INET6)
        return false;
    memcpy(&v6, addr, sizeof(v6));
    const uint8_t *b = v6.sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) || IN6_IS_ADDR_V4COMPAT(&v6.sin6_addr) ||
        !memcmp(b, nat64, sizeof(nat64)))
        return v4_link_local(b + 12);
    return IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr) || v6_metadata(b);
}
