#include "slug/fetch/parts.h"

#include <assert.h>
#include <string.h>

void parts_init(struct parts *p, uint64_t at, uint64_t end)
{
    *p = (struct parts){0};
    parts_give(p, &(struct range){at, end});
}

static void remove_at(struct parts *p, size_t i)
{
    p->n--;
    memmove(&p->free[i], &p->free[i + 1], (p->n - i) * sizeof(p->free[0]));
}

static struct range take(struct parts *p, size_t i, uint64_t len)
{
    struct range *f = &p->free[i];
    struct range r = *f;

    if (r.end - r.at > len)
        r.end = r.at + len;
    f->at = r.end;
    if (f->at == f->end)
        remove_at(p, i);
    return r;
}

bool parts_take(struct parts *p, uint64_t len, struct range *ret)
{
    if (p->n == 0 || len == 0)
        return false;
    *ret = take(p, 0, len);
    return true;
}

bool parts_take_at(struct parts *p, uint64_t at, uint64_t len, struct range *ret)
{
    for (size_t i = 0; i < p->n && len > 0; i++)
        if (p->free[i].at == at) {
            *ret = take(p, i, len);
            return true;
        }
    return false;
}

void parts_give(struct parts *p, const struct range *r)
{
    size_t i = 0;

    if (r->at >= r->end)
        return;
    while (i < p->n && p->free[i].at < r->at)
        i++;
    if (i > 0 && p->free[i - 1].end == r->at) {
        p->free[--i].end = r->end;
    } else if (i < p->n && r->end == p->free[i].at) {
        p->free[i].at = r->at;
    } else {
        assert(p->n < PARTS_MAX);
        memmove(&p->free[i + 1], &p->free[i], (p->n - i) * sizeof(p->free[0]));
        p->free[i] = *r;
        p->n++;
    }
    if (i + 1 < p->n && p->free[i].end == p->free[i + 1].at) {
        p->free[i].end = p->free[i + 1].end;
        remove_at(p, i + 1);
    }
}

uint64_t parts_first(const struct parts *p)
{
    return p->n > 0 ? p->free[0].at : UINT64_MAX;
}

uint64_t parts_left(const struct parts *p)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < p->n; i++)
        sum += p->free[i].end - p->free[i].at;
    return sum;
}

uint64_t parts_length(uint64_t total, unsigned max, uint64_t least, uint64_t most)
{
    uint64_t each = max > 0 ? (total + max - 1) / max : total;

    return each < least ? least : each > most ? most : each;
}
