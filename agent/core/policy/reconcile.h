/* reconcile.h - the difference between what is wanted and what is, as a list of actions. Pure. */
#ifndef CORE_RECONCILE_H
#define CORE_RECONCILE_H

#include "core/state/model.h"

/* One dyno that the agent has, whatever its state. */
struct have {
    struct dyno_name name;
    uint64_t generation; /* it was started for */
    bool stopping;       /* its end is on its way already */
    bool idle; /* no process of it exists: it waits for its slug or its restart, or is over */
};

enum action_kind {
    ACTION_START,   /* wanted, not there */
    ACTION_STOP,    /* there, not wanted */
    ACTION_REPLACE, /* there, of another generation or on its way out: stop, then start */
};

struct action {
    enum action_kind kind;
    size_t want; /* index into wants; SIZE_MAX for ACTION_STOP */
    size_t have; /* index into haves; SIZE_MAX for ACTION_START */
};

/* Neither list needs an order; no two wants share a name. A dyno that is stopping gets no second
 * ACTION_STOP; wanted again, it gets ACTION_REPLACE. Of several haves of one name (which only a
 * mistake makes) the best one counts and the others are stopped: one that runs for the wanted
 * generation, else one that is stopping already, else the first.
 *
 * Generations are compared for equality: a dyno of a newer one than is wanted comes from a desired
 * state that was lost, and is replaced too. *ret: freed with free(), NULL when there is nothing to
 * do; stops first, in the haves' order, then replacements, then starts, in the wants' order.
 *
 * DRAINING: the instance is being emptied. Nothing is started or replaced: what has a process and
 * is wanted, of whatever generation, runs on; what is idle gets ACTION_STOP, wanted or not, so that
 * a dyno that crashes is not restarted here. */
int reconcile(const struct want *wants, size_t n_wants, const struct have *haves, size_t n_haves,
              bool draining, struct action **ret, size_t *ret_n, struct err *e);

/* Takes those out of WANTS that are not wanted for now, because a controller was last heard of at
 * LAST_CONTACT and that is their stop_after seconds ago, or more. Returns how many are left, in
 * their order. *ret_next: when the next of those left falls due, if nothing is heard until then;
 * USEC_NEVER: none will. Times are CLOCK_BOOTTIME usec; LAST_CONTACT 0: there is no controller, and
 * all stay. */
size_t wants_in_contact(struct want *wants, size_t n_wants, uint64_t now, uint64_t last_contact,
                        uint64_t *ret_next);

#endif
