/* cgroup_tree.c - the agent's part of the hierarchies: opened, asked what it can, listed, removed.
 */
#include "isolate/cgroup.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool parent_valid(const char *parent)
{
    return !strcmp(parent, "auto") || str_starts(parent, "auto/") ||
           (parent[0] == '/' && parent[1] != '\0' && !strstr(parent, "/.") &&
            !strchr(parent, '\n'));
}

const char *cgroup_own_name(const char *parent)
{
    if (!strcmp(parent, "auto"))
        return "/dynod";
    return str_starts(parent, "auto/") ? parent + strlen("auto") : parent;
}

/* CGROUP_NONE in place of what could not be opened. */
static void tree_none(struct cgroup_tree *t, const char *why)
{
    for (int i = 0; i < CTRL_COUNT; i++) {
        fd_closep(&t->dirs[i]);
        free(t->path[i]);
        t->path[i] = NULL;
        t->alias[i] = -1;
    }
    t->version = CGROUP_NONE;
    t->ops = NULL;
    (void)snprintf(t->text, sizeof(t->text), "none: %s", why);
}

/* It may be there already, and be another user's. */
static int tree_writable(const struct cgroup_tree *t, struct err *e)
{
    for (int i = 0; i < CTRL_COUNT; i++)
        if (t->dirs[i] >= 0 && faccessat(t->dirs[i], ".", W_OK, AT_EACCESS) < 0)
            return err_set(e, errno, "make cgroups in %s", t->path[i] ? t->path[i] : "the tree");
    return 0;
}

int cgroup_tree_open_at(const struct cgroup_sources *src, const char *parent, bool needed,
                        struct cgroup_tree **ret, struct err *e)
{
    scoped(cgroup_mounts_done) struct cgroup_mounts m = {0};
    scoped(cgroup_tree_freep) struct cgroup_tree *t = calloc(1, sizeof(*t));
    struct err why = ERR_INIT;
    int r;

    if (!t)
        return err_set(e, ENOMEM, "open the cgroup tree");
    for (int i = 0; i < CTRL_COUNT; i++)
        t->dirs[i] = t->alias[i] = -1;
    if (!parent_valid(parent)) {
        (void)err_say(e, EINVAL, "cgroup parent %s: not \"auto\" or a path like /dynod", parent);
        return err_blame(e, FAULT_OPERATOR);
    }
    r = cgroup_mounts_find(src->mountinfo, &m, &why);
    if (r == 0)
        t->own = cg_own_level(&m, src->self_cgroup);
    if (r == 0 && cgroup_v2_usable(m.v2))
        r = cgroup_v2_open(t, m.v2, src->self_cgroup, parent, &why);
    else if (r == 0)
        r = cgroup_v1_open(t, m.v1, parent, &why);
    if (r == 0)
        r = tree_writable(t, &why);
    if (r < 0 && needed) {
        *e = why;
        return err_wrap(e, "cgroups");
    }
    if (r < 0)
        tree_none(t, why.text);
    *ret = TAKE_PTR(t);
    return 0;
}

int cgroup_tree_open(const char *parent, bool needed, struct cgroup_tree **ret, struct err *e)
{
    const struct cgroup_sources src = {"/proc/self/mountinfo", "/proc/self/cgroup"};

    return cgroup_tree_open_at(&src, parent, needed, ret, e);
}

void cgroup_tree_freep(struct cgroup_tree **t)
{
    if (!*t)
        return;
    cgroup_ready_drop(*t);
    for (int i = 0; i < CTRL_COUNT; i++) {
        fd_closep(&(*t)->dirs[i]);
        free((*t)->path[i]);
    }
    free((*t)->own);
    free(*t);
    *t = NULL;
}

enum cgroup_version cgroup_tree_version(const struct cgroup_tree *t)
{
    return t->version;
}

const char *cgroup_tree_text(const struct cgroup_tree *t)
{
    return t->text;
}

bool cgroup_tree_can(const struct cgroup_tree *t, enum cgroup_can what)
{
    switch (what) {
    case CGROUP_CAN_CPU:
        return t->alias[CTRL_CPU] >= 0;
    case CGROUP_CAN_IO:
        return t->alias[CTRL_IO] >= 0 && t->io_file;
    case CGROUP_CAN_FREEZE:
        return t->alias[CTRL_FREEZER] >= 0;
    }
    return false;
}

static int lacks(const struct cgroup_tree *t, const char *what, const char *limit,
                 enum controller ctrl, struct err *e)
{
    const char *name = t->version == CGROUP_V2 && ctrl == CTRL_IO ? "io" : controller_name(ctrl);

    (void)err_say(e, EOPNOTSUPP, "%s: %s needs the %s cgroup controller: %s, or take the limit out",
                  what, limit, name,
                  t->version == CGROUP_V2 ? "add it to Delegate= of the agent's units "
                                            "(Delegate=yes is all), or to the kernel"
                                          : "mount its hierarchy, or boot with cgroup v2");
    return err_blame(e, FAULT_OPERATOR);
}

int cgroup_tree_check(const struct cgroup_tree *t, const char *what, const struct limits *limits,
                      struct err *e)
{
    if (t->version == CGROUP_NONE)
        return 0;
    if (limits->cpu_percent && !cgroup_tree_can(t, CGROUP_CAN_CPU))
        return lacks(t, what, "cpu_cap", CTRL_CPU, e);
    if (limits->io_weight && limits->io_weight != CGROUP_IO_WEIGHT_DEFAULT &&
        !cgroup_tree_can(t, CGROUP_CAN_IO))
        return lacks(t, what, "io_weight", CTRL_IO, e);
    return 0;
}

int cgroup_tree_remove(struct cgroup_tree *t, struct err *e)
{
    cgroup_ready_drop(t);
    for (int i = 0; i < CTRL_COUNT && !t->given; i++)
        if (t->path[i] && rmdir(t->path[i]) < 0 && errno != ENOENT)
            return err_set(e, errno, "remove the cgroup %s", t->path[i]);
    return 0;
}

/* --- which cgroups there are --- */

void cgroup_ids_free(char **ids)
{
    for (char **id = ids; ids && *id; id++)
        free(*id);
    free(ids);
}

struct id_list {
    char **ids; /* has room for the NULL at its end */
    size_t n;
};

static void id_list_done(struct id_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->ids[i]);
    free(l->ids);
}

/* gcc 12's analyzer sees no owner in the element of an array that grew where it is. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
static int id_list_add(struct id_list *l, const char *id)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->ids[i], id))
            return 0; /* another hierarchy has it too */
    scoped_free char *copy = strdup(id);
    char **bigger = copy ? realloc(l->ids, (l->n + 2) * sizeof(*bigger)) : NULL;
    if (!bigger)
        return -ENOMEM;
    l->ids = bigger;
    l->ids[l->n++] = TAKE_PTR(copy);
    return 0;
}
#pragma GCC diagnostic pop

static int list_level(int dirfd, struct id_list *l)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    scoped(dir_closep) DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return -ENOMEM;
    }
    for (struct dirent *entry; (entry = readdir(d));) {
        struct stat st;

        if (!cg_id_valid(entry->d_name) || fstatat(dirfd, entry->d_name, &st, 0) < 0 ||
            !S_ISDIR(st.st_mode))
            continue;
        int r = id_list_add(l, entry->d_name);
        if (r < 0)
            return r;
    }
    return 0;
}

/* All hierarchies: a death between two of them leaves an id in some only. */
int cgroup_tree_list(struct cgroup_tree *t, char ***ret_ids, struct err *e)
{
    scoped(id_list_done) struct id_list l = {.ids = calloc(1, sizeof(*l.ids))};

    if (!l.ids)
        return err_set(e, ENOMEM, "list the cgroups");
    for (int i = 0; i < CTRL_COUNT; i++) {
        int r = t->dirs[i] < 0 ? 0 : list_level(t->dirs[i], &l);

        if (r < 0)
            return err_set(e, -r, "list the cgroups of %s", t->path[i]);
    }
    l.ids[l.n] = NULL;
    l.n = 0;
    *ret_ids = TAKE_PTR(l.ids);
    return 0;
}
