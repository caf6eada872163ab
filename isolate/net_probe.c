/* net_probe.c - whether this kernel has what a private network takes: by making one, in a network
 * namespace that holds nothing else. */
#include "base/scoped.h"
#include "isolate/net_impl.h"

#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

int net_probe(struct err *e)
{
    static const struct net_config config = {.name = "",
                                             .range4 = "10.213.0.0/16",
                                             .range6 = "",
                                             .egress_deny = "",
                                             .egress_allow = "",
                                             .nameservers = "",
                                             .connections = 16};
    scoped(net_freep) struct net *n = NULL;
    scoped_fd ns = -1;

    if (unshare(CLONE_NEWNET) < 0)
        return err_set(e, errno, "make a network namespace");
    int r = net_open(&config, &n, e);
    if (r == 0)
        r = net_install(n, NULL, 0, e);
    return r == 0 ? net_make(n, 1, 0, &ns, e) : r;
}
