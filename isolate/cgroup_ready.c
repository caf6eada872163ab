/* cgroup_ready.c - an empty cgroup that is made before it is known for which dyno. On v1 it is five
 * directories, whose making and limiting is a sixth of a start; there it can get its name later. */
#include "base/clock.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* In what is the cgroup's. */
static bool same_limits(const struct limits *a, const struct limits *b)
{
    return a->memory_quota == b->memory_quota && a->memory_max == b->memory_max &&
           a->pids == b->pids && a->cpu_shares == b->cpu_shares &&
           a->cpu_percent == b->cpu_percent && a->io_weight == b->io_weight;
}

int cgroup_ready(struct cgroup_tree *t, const struct limits *limits, struct err *e)
{
    char id[32];

    if (t->version != CGROUP_V1)
        return 0;
    if (t->ready && !same_limits(&t->ready->limits, limits))
        cgroup_ready_drop(t);
    if (t->ready)
        return 0;
    struct cgroup_ready *ready = calloc(1, sizeof(*ready));
    if (!ready)
        return err_set(e, ENOMEM, "make a cgroup ahead");
    /* No run's id; the next agent sweeps what it finds under such a name. */
    (void)snprintf(id, sizeof(id), "ready.%08" PRIx32, (uint32_t)random_u64());
    int r = cgroup_create(t, id, limits, &ready->cgroup, e);
    if (r == 0)
        r = cgroup_join_prepare(ready->cgroup, &ready->join, e);
    ready->limits = *limits;
    t->ready = ready;
    if (r < 0)
        cgroup_ready_drop(t);
    return r;
}

void cgroup_ready_drop(struct cgroup_tree *t)
{
    struct cgroup_ready *ready = t->ready;
    struct err ignored = ERR_INIT; /* the next agent's sweep finds what this misses */

    if (!ready)
        return;
    t->ready = NULL;
    cgroup_join_done(&ready->join);
    if (ready->cgroup)
        (void)cgroup_remove(ready->cgroup, &ignored);
    cgroup_freep(&ready->cgroup);
    free(ready);
}

static int rename_levels(const struct cgroup_tree *t, const char *from, const char *to)
{
    for (int i = 0; i < CTRL_COUNT; i++) {
        if (t->dirs[i] < 0 || renameat(t->dirs[i], from, t->dirs[i], to) == 0 ||
            (i == CTRL_IO && errno == ENOENT)) /* only who has a weight is there */
            continue;
        int r = -errno;
        while (--i >= 0)
            if (t->dirs[i] >= 0)
                (void)renameat(t->dirs[i], to, t->dirs[i], from);
        return r;
    }
    return 0;
}

struct cgroup *cg_take_ready(struct cgroup_tree *t, const char *id, const struct limits *limits)
{
    struct cgroup_ready *ready = t->ready;

    if (!ready || !same_limits(&ready->limits, limits))
        return NULL;
    if (rename_levels(t, ready->cgroup->id, id) < 0)
        return NULL;
    struct cgroup *c = ready->cgroup;
    (void)snprintf(c->id, sizeof(c->id), "%s", id);
    c->join = ready->join;
    t->ready = NULL;
    free(ready);
    return c;
}
