/* netstock.h - networks made ahead: each is for one run, any run, that has the default size's rate.
 * One is always kept, for the next start or spare; more while starts wait for their turn. They are
 * made by a process of their own (isolate/net.h), and go with the agent. */
#ifndef CORE_NETSTOCK_H
#define CORE_NETSTOCK_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct agent;

#define NETSTOCK_MAX 8

struct netstock {
    struct agent *agent; /* NULL: not open, all of this is nothing */
    uint64_t rate;       /* bytes a second */
    struct netmade {
        uint32_t slot;
        int fd;
    } ready[NETSTOCK_MAX];
    uint32_t asked[NETSTOCK_MAX]; /* slots, in the order of the answers */
    unsigned n_ready, n_asked, wanted;
    sd_event_source *heard;
    bool complained; /* that one cannot be made, since the last that could */
};

/* When the network is ready for dynos. RATE: the default size's, as of net_make(). */
void netstock_open(struct netstock *k, struct agent *a, uint64_t rate);
void netstock_done(struct netstock *k);
/* From now on N, one at least, are kept ready. Those too many go. Asks for what is missing; makes
 * nothing itself. */
void netstock_want(struct netstock *k, unsigned n);
/* One with RATE: slot and descriptor are the caller's. False: none is ready. */
bool netstock_take(struct netstock *k, uint64_t rate, uint32_t *ret_slot, int *ret_fd);
/* None is ready, but one will be soon. */
bool netstock_coming(const struct netstock *k);

#endif
