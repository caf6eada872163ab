#include "core/policy/slots.h"

#include <errno.h>
#include <stdlib.h>

int slots_init(struct slots *s, uint32_t first, uint32_t last, struct err *e)
{
    size_t words = ((size_t)last - first) / 64 + 1;
    uint64_t *taken = calloc(words, sizeof(*taken));

    if (!taken)
        return err_set(e, ENOMEM, "make the table of %u..%u", first, last);
    *s = (struct slots){.first = first, .last = last, .next = first, .taken = taken};
    return 0;
}

void slots_done(struct slots *s)
{
    free(s->taken);
    s->taken = NULL;
}

static bool is_taken(const struct slots *s, uint32_t n)
{
    return s->taken[(n - s->first) / 64] >> ((n - s->first) % 64) & 1;
}

bool slots_take(struct slots *s, uint32_t n)
{
    if (n < s->first || n > s->last || is_taken(s, n))
        return false;
    s->taken[(n - s->first) / 64] |= UINT64_C(1) << ((n - s->first) % 64);
    return true;
}

int slots_get(struct slots *s, uint32_t *ret)
{
    uint32_t count = s->last - s->first + 1;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = s->next;

        s->next = n == s->last ? s->first : n + 1;
        if (slots_take(s, n)) {
            *ret = n;
            return 0;
        }
    }
    return -ENOSPC;
}

void slots_put(struct slots *s, uint32_t n)
{
    if (n >= s->first && n <= s->last)
        s->taken[(n - s->first) / 64] &= ~(UINT64_C(1) << ((n - s->first) % 64));
}

uint32_t slots_taken(const struct slots *s)
{
    uint32_t n = 0;

    for (size_t i = 0; s->taken && i <= (s->last - s->first) / 64; i++)
        n += (uint32_t)__builtin_popcountll(s->taken[i]);
    return n;
}
