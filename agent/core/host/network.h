/* network.h - the agent's side of isolate/net.h: who has which slot, which ports are published,
 * what an earlier agent left. Without a private network (`network = host`) all of it is nothing. */
#ifndef CORE_NETWORK_H
#define CORE_NETWORK_H

#include "core/agent_priv.h"

#include <stdint.h>

struct dyno;

/* Checks the machine and opens the network, before the sandbox is. */
int network_open(struct agent *a, struct err *e);
/* After the adoption: puts the rules in place, with the ports of what runs, and sweeps the rest.
 * Before it nothing may be started. */
int network_ready(struct agent *a, struct err *e);
/* The state of the rules in words, into OUT. False: they are not in place, and nothing starts. Only
 * with a private network. */
bool network_rules_text(const struct agent *a, char out[ERR_TEXT_MAX]);
/* EMPTY: no dyno is left: nothing of the network either. */
void network_close(struct agent *a, bool empty);

/* A slot, and the namespace made for it: both the caller's. Where none was made ahead
 * (netstock.h) it blocks for some 0.5 ms.
 * *ret_slot 0, *ret_fd -1: the host's network. */
int network_make(struct agent *a, const struct limits *limits, uint32_t *ret_slot, int *ret_fd,
                 struct err *e);
/* SLOT 0: nothing. */
void network_put(struct agent *a, uint32_t slot);

/* The port of D leads to its run. */
int network_publish(struct dyno *d, struct err *e);
void network_unpublish(struct dyno *d);
/* The rate of LIMITS for the running D. -ENOTSUP: it shares the host's network. */
int network_set_rate(struct dyno *d, const struct limits *limits, struct err *e);
/* Whether something of D listens on its port, where others reach it. THOROUGH: as ready.h has it.
 */
bool network_listened(struct dyno *d, bool thorough);

#endif
