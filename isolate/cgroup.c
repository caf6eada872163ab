/* cgroup.c - the tree, and what does not differ between the versions. */
#include "isolate/cgroup.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/cgroup_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define NOTE_XATTR    "trusted.dynod"
#define MOUNTINFO_MAX (4u << 20)

/* --- where the hierarchies are --- */

struct mounts {
    char *v1[CTRL_COUNT];
    char *v2;
};

static void mounts_done(struct mounts *m)
{
    for (int i = 0; i < CTRL_COUNT; i++)
        free(m->v1[i]);
    free(m->v2);
}

static bool has_word(const char *list, const char *word, const char *separators)
{
    size_t len = strlen(word);

    for (const char *at = list; *at;) {
        size_t n = strcspn(at, separators);

        if (n == len && !strncmp(at, word, len))
            return true;
        at += n + (at[n] != '\0');
    }
    return false;
}

const char *controller_name(enum controller ctrl)
{
    static const char *const names[CTRL_COUNT] = {"memory",  "pids",    "cpu",
                                                  "cpuacct", "freezer", "blkio"};

    return names[ctrl];
}

/* proc_pid_mountinfo(5): id parent dev root POINT options [tags...] - TYPE source SUPER_OPTIONS */
static int mounts_line(struct mounts *m, char *line)
{
    char *dash = strstr(line, " - "), *save = NULL, *point = NULL;

    if (!dash)
        return 0;
    *dash = '\0';
    char *word = strtok_r(line, " ", &save);
    for (int i = 0; word && i < 4; i++)
        point = word = strtok_r(NULL, " ", &save);
    char *type = strtok_r(dash + 3, " ", &save);
    (void)strtok_r(NULL, " ", &save);
    char *options = strtok_r(NULL, " ", &save);
    /* A blank in a mount point is written \040: no cgroup mount has one. */
    if (!point || !type || !options || strchr(point, '\\'))
        return 0;
    if (!strcmp(type, "cgroup2") && !m->v2) {
        m->v2 = strdup(point);
        return m->v2 ? 0 : -ENOMEM;
    }
    if (strcmp(type, "cgroup") != 0)
        return 0;
    for (int i = 0; i < CTRL_COUNT; i++)
        if (!m->v1[i] && has_word(options, controller_name((enum controller)i), ",")) {
            m->v1[i] = strdup(point);
            if (!m->v1[i])
                return -ENOMEM;
        }
    return 0;
}

static int mounts_find(const char *mountinfo, struct mounts *m, struct err *e)
{
    scoped_free char *text = NULL;
    char *save = NULL;
    size_t len;
    int r = file_read(AT_FDCWD, mountinfo, MOUNTINFO_MAX, &text, &len, e);

    if (r < 0)
        return r;
    for (char *line = strtok_r(text, "\n", &save); line && r == 0;
         line = strtok_r(NULL, "\n", &save))
        r = mounts_line(m, line);
    return r < 0 ? err_set(e, -r, "find the cgroup hierarchies") : 0;
}

/* v2 counts only with the controllers that limit a dyno; on many v1 machines it is mounted too. */
static bool v2_usable(const char *mount)
{
    scoped_free char *text = NULL;
    struct err ignored = ERR_INIT; /* not readable is as good as not there */
    char path[4096];
    size_t len;

    if (!mount || snprintf(path, sizeof(path), "%s/cgroup.controllers", mount) >= (int)sizeof(path))
        return false;
    if (file_read(AT_FDCWD, path, CGROUP_TEXT_MAX, &text, &len, &ignored) < 0)
        return false;
    return has_word(text, "memory", " \n") && has_word(text, "pids", " \n");
}

/* --- the tree --- */

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
    scoped(mounts_done) struct mounts m = {0};
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
    r = mounts_find(src->mountinfo, &m, &why);
    if (r == 0 && v2_usable(m.v2))
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
    for (int i = 0; i < CTRL_COUNT; i++) {
        fd_closep(&(*t)->dirs[i]);
        free((*t)->path[i]);
    }
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
    for (int i = 0; i < CTRL_COUNT && !t->given; i++)
        if (t->path[i] && rmdir(t->path[i]) < 0 && errno != ENOENT)
            return err_set(e, errno, "remove the cgroup %s", t->path[i]);
    return 0;
}

/* --- ids --- */

static bool id_valid(const char *id)
{
    size_t len = strlen(id);

    if (len == 0 || len > CGROUP_ID_MAX || id[0] == '.')
        return false;
    for (; *id; id++)
        if (!isalnum((unsigned char)*id) && !strchr("._-@:", *id))
            return false;
    return true;
}

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

        if (!id_valid(entry->d_name) || fstatat(dirfd, entry->d_name, &st, 0) < 0 ||
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

/* --- one cgroup --- */

static int cgroup_alloc(struct cgroup_tree *t, const char *id, struct cgroup **ret, struct err *e)
{
    if (!id_valid(id))
        return err_say(e, EINVAL, "a cgroup's name cannot be \"%.*s\"", CGROUP_ID_MAX, id);
    struct cgroup *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ENOMEM, "cgroup %s", id);
    c->tree = t;
    c->oom_fd = c->quota_fd = -1;
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

int cgroup_create(struct cgroup_tree *t, const char *id, const struct limits *limits,
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

    *ret = (struct cgroup_join){.into = -1};
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
