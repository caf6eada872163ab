/* ready.h - is a port being listened on, and by whom: sock_diag(7), without connecting to it. */
#ifndef CORE_READY_H
#define CORE_READY_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A netlink socket for port_listened() in this network namespace; the caller's. */
int ready_open(int *ret_fd, struct err *e);

/* Where a listener is looked for; network order. */
struct ready_at {
    uint32_t addr4;
    unsigned char addr6[16];
};

/* True when a TCP socket that UID made listens on PORT where connections to AT come (NULL: to
 * loopback), or, with THOROUGH, at any address. */
bool port_listened(int diag_fd, unsigned port, uid_t uid, const struct ready_at *at, bool thorough);

/* True when nothing holds PORT on any address: it can be bound. */
bool port_free(unsigned port);

#endif
