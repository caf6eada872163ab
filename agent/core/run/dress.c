#include "core/run/dress.h"

#include <string.h>

struct share {
    const struct dress_key *key;
    unsigned starts, have, seats;
};

bool dress_key_equal(const struct dress_key *a, const struct dress_key *b)
{
    return digest_equal(&a->digest, &b->digest) && limits_equal(&a->limits, &b->limits);
}

void dress_note(struct dress *d, const struct dress_key *key)
{
    size_t kept = d->n < DRESS_STARTS ? d->n : DRESS_STARTS - 1;

    memmove(&d->starts[1], &d->starts[0], kept * sizeof(d->starts[0]));
    d->starts[0] = *key;
    d->n = kept + 1;
}

void dress_forget(struct dress *d, const struct digest *digest)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->n; i++)
        if (!digest_equal(&d->starts[i].digest, digest))
            d->starts[kept++] = d->starts[i];
    d->n = kept;
}

static struct share *find(struct share *shares, size_t n, const struct dress_key *key)
{
    for (size_t i = 0; i < n; i++)
        if (dress_key_equal(shares[i].key, key))
            return &shares[i];
    return NULL;
}

/* The last started first. */
static size_t list_shares(const struct dress *d, struct share *shares)
{
    size_t n = 0;

    for (size_t i = 0; i < d->n; i++) {
        struct share *s = find(shares, n, &d->starts[i]);

        if (!s) {
            s = &shares[n++];
            *s = (struct share){.key = &d->starts[i]};
        }
        s->starts++;
    }
    return n;
}

/* A has more right to the next seat than B, which comes before it. */
static bool is_better(const struct share *a, const struct share *b)
{
    unsigned x = a->starts * (b->seats + 1), y = b->starts * (a->seats + 1);

    return x > y || (x == y && a->have > a->seats && b->have <= b->seats);
}

static void give_seats(struct share *shares, size_t n, unsigned seats)
{
    for (; n > 0 && seats > 0; seats--) {
        struct share *best = &shares[0];

        for (size_t i = 1; i < n; i++)
            if (is_better(&shares[i], best))
                best = &shares[i];
        best->seats++;
    }
}

const struct dress_key *dress_choose(const struct dress *d, unsigned seats,
                                     const struct dress_key *const *have, size_t n, bool *ret_drop)
{
    struct share shares[DRESS_STARTS];
    size_t n_shares = list_shares(d, shares);

    for (size_t i = 0; i < n; i++) {
        struct share *s = find(shares, n_shares, have[i]);

        if (s)
            s->have++;
    }
    give_seats(shares, n_shares, seats);
    for (size_t i = 0; i < n; i++) {
        struct share *s = find(shares, n_shares, have[i]);

        ret_drop[i] = !s || s->have > s->seats;
        if (s && ret_drop[i])
            s->have--;
    }
    for (size_t i = 0; i < n_shares; i++)
        if (shares[i].have < shares[i].seats)
            return shares[i].key;
    return NULL;
}
