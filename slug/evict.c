#include "slug/evict.h"

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t above(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* How many bytes must go. */
static uint64_t excess(uint64_t total, const struct evict_limits *l, const struct evict_state *s)
{
    uint64_t large = l->max ? above(add(total, s->want), l->max) : 0;
    uint64_t full = l->keep_free ? above(add(l->keep_free, s->want), add(s->free, s->going)) : 0;

    return large > full ? large : full;
}

static bool older(const struct evict_entry *a, const struct evict_entry *b)
{
    return a->used_usec != b->used_usec ? a->used_usec < b->used_usec : a->bytes > b->bytes;
}

/* Sorts the numbers of all that may go into OUT. A cache holds few entries, and few have moved
 * since they were listed. */
static size_t sort(const struct evict_entry *all, size_t n, size_t *out)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        if (all[i].pinned || all[i].bytes == 0)
            continue;
        size_t at = k++;
        for (; at > 0 && older(&all[i], &all[out[at - 1]]); at--)
            out[at] = out[at - 1];
        out[at] = i;
    }
    return k;
}

size_t evict_choose(const struct evict_entry *all, size_t n, const struct evict_limits *limits,
                    const struct evict_state *state, size_t *out, uint64_t *ret_short)
{
    uint64_t total = 0, left;
    size_t can, k = 0;

    for (size_t i = 0; i < n; i++)
        total = add(total, all[i].bytes);
    left = excess(total, limits, state);
    for (can = left ? sort(all, n, out) : 0; left && k < can; k++)
        left = above(left, all[out[k]].bytes);
    if (ret_short)
        *ret_short = left;
    return k;
}
