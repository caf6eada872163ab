#include "core/policy/reconcile.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Haves in name order, so that each want finds its own by bisection. */
struct sorted {
    const struct have *have;
    bool taken; /* it belongs to a want: not to be stopped as a stray */
};

static int name_compare(const struct dyno_name *a, const struct dyno_name *b)
{
    int r = strcmp(a->app, b->app);

    if (r == 0)
        r = strcmp(a->type, b->type);
    if (r == 0)
        r = (a->num > b->num) - (a->num < b->num);
    return r;
}

static int sorted_compare(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int r = name_compare(&x->have->name, &y->have->name);

    /* Equal names in the order that the caller gave: the result depends on nothing else. */
    return r ? r : (x->have > y->have) - (x->have < y->have);
}

/* The first place in SORTED whose name is not before NAME. */
static size_t lower_bound(const struct sorted *sorted, size_t n, const struct dyno_name *name)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (name_compare(&sorted[mid].have->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_current(const struct have *have, const struct want *want)
{
    return !have->stopping && have->generation == want->generation;
}

/* The best have for WANT: see the header. NULL: there is none. */
static struct sorted *best_have(struct sorted *sorted, size_t n, const struct want *want)
{
    struct sorted *best = NULL;

    for (size_t i = lower_bound(sorted, n, &want->name);
         i < n && name_compare(&sorted[i].have->name, &want->name) == 0; i++) {
        if (is_current(sorted[i].have, want))
            return &sorted[i];
        if (!best || (sorted[i].have->stopping && !best->have->stopping))
            best = &sorted[i];
    }
    return best;
}

struct plan {
    struct action *actions;
    size_t n;
};

static void plan_add(struct plan *p, enum action_kind kind, size_t want, size_t have)
{
    p->actions[p->n++] = (struct action){.kind = kind, .want = want, .have = have};
}

/* One pass over the wants: HAVE_OF[i] is the index of want i's have, SIZE_MAX for none. */
static void match(const struct want *wants, size_t n_wants, const struct have *haves,
                  struct sorted *sorted, size_t n_haves, size_t *have_of)
{
    for (size_t i = 0; i < n_wants; i++) {
        struct sorted *s = best_have(sorted, n_haves, &wants[i]);

        have_of[i] = s ? (size_t)(s->have - haves) : SIZE_MAX;
        if (s)
            s->taken = true;
    }
}

static int by_have(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;

    return (x->have > y->have) - (x->have < y->have);
}

static void plan_stops(struct plan *p, const struct have *haves, struct sorted *sorted,
                       size_t n_haves, bool draining)
{
    qsort(sorted, n_haves, sizeof(*sorted), by_have);
    for (size_t i = 0; i < n_haves; i++)
        if (!haves[i].stopping && (!sorted[i].taken || (draining && haves[i].idle)))
            plan_add(p, ACTION_STOP, SIZE_MAX, i);
}

static void plan_starts(struct plan *p, const struct want *wants, size_t n_wants,
                        const struct have *haves, const size_t *have_of)
{
    for (size_t i = 0; i < n_wants; i++)
        if (have_of[i] != SIZE_MAX && !is_current(&haves[have_of[i]], &wants[i]))
            plan_add(p, ACTION_REPLACE, i, have_of[i]);
    for (size_t i = 0; i < n_wants; i++)
        if (have_of[i] == SIZE_MAX)
            plan_add(p, ACTION_START, i, SIZE_MAX);
}

int reconcile(const struct want *wants, size_t n_wants, const struct have *haves, size_t n_haves,
              bool draining, struct action **ret, size_t *ret_n, struct err *e)
{
    /* At most one action a want and one a have; + 1: calloc(0) may be NULL. */
    scoped_free struct sorted *sorted = calloc(n_haves + 1, sizeof(*sorted));
    scoped_free size_t *have_of = calloc(n_wants + 1, sizeof(*have_of));
    scoped_free struct action *actions = calloc(n_wants + n_haves + 1, sizeof(*actions));
    struct plan p = {.actions = actions};

    if (!sorted || !have_of || !actions)
        return err_set(e, ENOMEM, "compare %zu wanted dynos with %zu", n_wants, n_haves);
    for (size_t i = 0; i < n_haves; i++)
        sorted[i].have = &haves[i];
    qsort(sorted, n_haves, sizeof(*sorted), sorted_compare);
    match(wants, n_wants, haves, sorted, n_haves, have_of);
    plan_stops(&p, haves, sorted, n_haves, draining);
    if (!draining)
        plan_starts(&p, wants, n_wants, haves, have_of);
    *ret_n = p.n;
    *ret = p.n ? TAKE_PTR(actions) : NULL;
    return 0;
}

size_t wants_in_contact(struct want *wants, size_t n_wants, uint64_t now, uint64_t last_contact,
                        uint64_t *ret_next)
{
    uint64_t next = USEC_NEVER;
    size_t kept = 0;

    for (size_t i = 0; i < n_wants; i++) {
        uint64_t due = last_contact + wants[i].stop_after * USEC_PER_SEC;

        if (last_contact && wants[i].stop_after) {
            if (now >= due)
                continue;
            next = due < next ? due : next;
        }
        wants[kept++] = wants[i];
    }
    *ret_next = next;
    return kept;
}
