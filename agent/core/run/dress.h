/* dress.h - for which slugs spare sandboxes are dressed. Pure.
 *
 * What starts next is most likely one of what started lately. Each slug, with the limits of its
 * dynos, has its share of the last DRESS_STARTS starts, and the seats go by it (highest averages).
 * Where two are just as good, one that has a spare keeps it: two apps that start in turns would
 * throw out each other's for ever. */
#ifndef CORE_DRESS_H
#define CORE_DRESS_H

#include "base/name.h"
#include "isolate/cgroup.h"

#include <stdbool.h>
#include <stddef.h>

#define DRESS_STARTS 16

struct dress_key {
    struct digest digest;
    struct limits limits;
};

struct dress {
    struct dress_key starts[DRESS_STARTS]; /* the last one first */
    size_t n;
};

bool dress_key_equal(const struct dress_key *a, const struct dress_key *b);
/* Something of KEY was started. */
void dress_note(struct dress *d, const struct dress_key *key);
/* Nothing of DIGEST will be. */
void dress_forget(struct dress *d, const struct digest *digest);

/* Who gets SEATS, when the spares that there are have the N keys HAVE. ret_drop[i]: HAVE[i] is in
 * another's place. Returns the key that the next is made for, borrowed from D; NULL: none. */
const struct dress_key *dress_choose(const struct dress *d, unsigned seats,
                                     const struct dress_key *const *have, size_t n, bool *ret_drop);

#endif
