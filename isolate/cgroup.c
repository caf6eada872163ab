/* cgroup.c - one cgroup, and what does not differ between the versions. */
#include "isolate/cgroup.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/cgroup_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define NOTE_XATTR "trusted.dynod"

bool cg_id_valid(const char *id)
{
    size_t len = strlen(id);

    if (len == 0 || len > CGROUP_ID_MAX || id[0] == '.')
        return false;
    for (; *id; id++)
        if (!isalnum((unsigned char)*id) && !strchr("._-@:", *id))
            return false;
    return true;
}

static int cgroup_alloc(struct cgroup_tree *t, const char *id, struct cgroup **ret, struct err *e)
{
    if (!cg_id_valid(id))
        return err_say(e, EINVAL, "a cgroup's name cannot be \"%.*s\"", CGROUP_ID_MAX, id);
    struct cgroup *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ENOMEM, "cgroup %s", id);
    c->tree = t;
    c->oom_fd = c->quota_fd = -1;
    c->join.into = -1;
    (void)snprintf(c->id, sizeof(c->id), "%s", id);
    *ret = c;
    return 0;
}

void cgroup_freep(struct cgroup **c)
{
    if (!*c)
        return;
    fd_closep(&(*c)->oom_fd);
    fd_closep(&(*c)->quota_fd);
    cgroup_join_done(&(*c)->join);
    free(*c);
    *c = NULL;
}

bool cg_needs(const struct cgroup_tree *t, enum controller ctrl, const struct limits *limits)
{
    return ctrl != CTRL_IO || t->alias[ctrl] != CTRL_IO ||
           (limits->io_weight && limits->io_weight != CGROUP_IO_WEIGHT_DEFAULT);
}

static int make_levels(struct cgroup *c, const struct limits *limits, struct err *e)
{
    struct cgroup_tree *t = c->tree;

    for (int i = 0; i < CTRL_COUNT; i++) {
        if (t->dirs[i] < 0 || !cg_needs(t, (enum controller)i, limits) ||
            mkdirat(t->dirs[i], c->id, 0755) == 0)
            continue;
        int r = err_set(e, errno, "make the cgroup %s/%s", t->path[i], c->id);
        while (--i >= 0)
            if (t->dirs[i] >= 0)
                (void)unlinkat(t->dirs[i], c->id, AT_REMOVEDIR);
        return r;
    }
    return 0;
}

static int make_new(struct cgroup_tree *t, const char *id, const struct limits *limits,
                    struct cgroup **ret, struct err *e)
{
    scoped(cgroup_freep) struct cgroup *c = NULL;
    int r = cgroup_alloc(t, id, &c, e);

    if (r == 0)
        r = make_levels(c, limits, e);
    if (r < 0)
        return r;
    if (t->ops) {
        r = cgroup_set_limits(c, limits, NULL, e);
        if (r < 0) {
            struct err ignored = ERR_INIT; /* the first error is the one to tell */

            (void)cgroup_remove(c, &ignored);
            return r;
        }
    }
    *ret = TAKE_PTR(c);
    return 0;
}

int cgroup_create(struct cgroup_tree *t, const char *id, const struct limits *limits,
                  struct cgroup **ret, struct err *e)
{
    struct cgroup *ready = cg_id_valid(id) ? cg_take_ready(t, id, limits) : NULL;

    if (!ready)
        return make_new(t, id, limits, ret, e);
    *ret = ready;
    return 0;
}

int cgroup_open(struct cgroup_tree *t, const char *id, struct cgroup **ret, struct err *e)
{
    scoped(cgroup_freep) struct cgroup *c = NULL;
    bool found = t->ops == NULL;
    int r = cgroup_alloc(t, id, &c, e);

    if (r < 0)
        return r;
    for (int i = 0; i < CTRL_COUNT; i++)
        found = found || (t->dirs[i] >= 0 && faccessat(t->dirs[i], id, F_OK, 0) == 0);
    if (!found)
        return err_set(e, ENOENT, "cgroup %s", id);
    c->found = true;
    if (t->ops) {
        struct err ignored = ERR_INIT; /* half a cgroup can still be killed and removed */

        (void)t->ops->watch(c, &ignored);
    }
    *ret = TAKE_PTR(c);
    return 0;
}

int cg_set_io(const struct cgroup *c, const struct limits *limits, struct err *e)
{
    uint64_t weight = limits->io_weight ? limits->io_weight : CGROUP_IO_WEIGHT_DEFAULT;

    if (!cgroup_tree_can(c->tree, CGROUP_CAN_IO))
        return 0;
    int r = cg_put_u64(c, CTRL_IO, c->tree->io_file, weight);
    if (r == 0 && c->tree->version == CGROUP_V2) /* which of the two counts depends on the device */
        (void)cg_put_u64(c, CTRL_IO, "io.bfq.weight", weight);
    return r < 0 ? err_set(e, -r, "cgroup %s: set %s", c->id, c->tree->io_file) : 0;
}

int cgroup_set_limits(struct cgroup *c, const struct limits *limits, bool *ret_later, struct err *e)
{
    struct err io = ERR_INIT;
    bool later = false;

    if (c->tree->ops) {
        int r = c->tree->ops->set_limits(c, limits, e);

        if (r == 0 && cg_set_io(c, limits, &io) < 0) {
            later = io.errnum == ENOENT; /* v1, without a cgroup there: it has the default */
            r = later ? 0 : err_wrap(&io, "limits");
            if (r < 0)
                *e = io;
        }
        if (r == 0)
            r = c->tree->ops->watch(c, e);
        if (r < 0)
            return r;
    }
    if (ret_later)
        *ret_later = later && limits->io_weight && limits->io_weight != CGROUP_IO_WEIGHT_DEFAULT;
    return 0;
}

int cgroup_usage(struct cgroup *c, struct cgroup_usage *ret, struct err *e)
{
    if (c->tree->ops)
        return c->tree->ops->usage(c, ret, e);
    *ret = (struct cgroup_usage){0};
    return 0;
}

bool cgroup_populated(struct cgroup *c)
{
    return c->tree->ops && c->tree->ops->populated(c);
}

int cgroup_kill(struct cgroup *c, struct err *e)
{
    return c->tree->ops ? c->tree->ops->kill(c, e) : 0;
}

int cgroup_freeze(struct cgroup *c, bool on, struct err *e)
{
    if (cgroup_tree_can(c->tree, CGROUP_CAN_FREEZE))
        return c->tree->ops->freeze(c, on, e);
    return err_say(e, EOPNOTSUPP, "there is no cgroup freezer here (%s)", c->tree->text);
}

bool cgroup_frozen(struct cgroup *c)
{
    return cgroup_tree_can(c->tree, CGROUP_CAN_FREEZE) && c->tree->ops->frozen(c);
}

int cgroup_remove(struct cgroup *c, struct err *e)
{
    for (int i = 0; i < CTRL_COUNT; i++)
        if (c->tree->dirs[i] >= 0 && unlinkat(c->tree->dirs[i], c->id, AT_REMOVEDIR) < 0 &&
            errno != ENOENT)
            return err_set(e, errno, "remove the cgroup %s/%s", c->tree->path[i], c->id);
    return 0;
}

int cgroup_oom_fd(struct cgroup *c)
{
    return c->oom_fd;
}

void cgroup_oom_read(struct cgroup *c)
{
    char scrap[4096];

    while (c->oom_fd >= 0 && read(c->oom_fd, scrap, sizeof(scrap)) > 0)
        c->oom_told = true; /* eventfd or inotify: only that it came matters */
}

int cgroup_quota_fd(struct cgroup *c)
{
    return c->tree->ops && c->tree->ops->quota_fd ? c->tree->ops->quota_fd(c) : -1;
}

/* --- what is written on one --- */

static int note_path(const struct cgroup_tree *t, const char *id, char *path, size_t cap)
{
    if (!t->ops)
        return -ENOENT;
    int n = snprintf(path, cap, "%s/%s", t->path[t->alias[CTRL_MEMORY]], id);
    return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

int cgroup_note(struct cgroup *c, const char *text)
{
    char path[4096];
    int r = note_path(c->tree, c->id, path, sizeof(path));

    return r < 0 ? r : lsetxattr(path, NOTE_XATTR, text, strlen(text), 0) < 0 ? -errno : 0;
}

ssize_t cgroup_noted(struct cgroup_tree *t, const char *id, char *text, size_t cap)
{
    char path[4096];
    int r = note_path(t, id, path, sizeof(path));

    if (r < 0)
        return r;
    ssize_t n = lgetxattr(path, NOTE_XATTR, text, cap - 1);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    return n;
}

/* --- joining --- */

void cgroup_join_done(struct cgroup_join *j)
{
    for (size_t i = 0; i < j->n_tasks; i++)
        fd_closep(&j->tasks[i]);
    j->n_tasks = 0;
    fd_closep(&j->into);
}

int cgroup_join_prepare(struct cgroup *c, struct cgroup_join *ret, struct err *e)
{
    struct cgroup_tree *t = c->tree;

    *ret = c->join;
    c->join = (struct cgroup_join){.into = -1};
    if (ret->n_tasks > 0)
        return 0;
    if (t->version == CGROUP_V2) {
        ret->into = cg_open(c, CTRL_MEMORY, ".", O_RDONLY | O_DIRECTORY);
        return ret->into < 0 ? err_set(e, -ret->into, "open the cgroup %s", c->id) : 0;
    }
    for (int i = 0; i < CTRL_COUNT; i++) {
        if (t->dirs[i] < 0)
            continue;
        int fd = cg_open(c, (enum controller)i, "tasks", O_WRONLY);
        if (fd == -ENOENT && i == CTRL_IO)
            continue; /* no weight of its own: it stays where the agent is */
        if (fd < 0) {
            cgroup_join_done(ret);
            return err_set(e, -fd, "open %s/%s/tasks", t->path[i], c->id);
        }
        ret->tasks[ret->n_tasks++] = fd;
    }
    return 0;
}

/* Field by field: what lies between them is nobody's. */
bool limits_equal(const struct limits *a, const struct limits *b)
{
    return a->memory_quota == b->memory_quota && a->memory_max == b->memory_max &&
           a->pids == b->pids && a->cpu_shares == b->cpu_shares &&
           a->cpu_percent == b->cpu_percent && a->io_weight == b->io_weight &&
           a->disk_bytes == b->disk_bytes && a->disk_inodes == b->disk_inodes &&
           a->rate_bits == b->rate_bits && a->open_files == b->open_files &&
           a->procs_max == b->procs_max;
}
