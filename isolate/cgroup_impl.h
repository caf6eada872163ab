/* cgroup_impl.h - what the two cgroup versions share; private to cgroup*.c, spawn.c and their
 * tests. */
#ifndef ISOLATE_CGROUP_IMPL_H
#define ISOLATE_CGROUP_IMPL_H

#include "isolate/cgroup.h"

#include <sys/types.h>

#define CGROUP_ID_MAX          200  /* bytes of an id; with ".N" still a file name */
#define CGROUP_TEXT_MAX        8192 /* memory.stat is the longest file that is read whole */
#define CGROUP_CPU_PERIOD_USEC 100000u

/* The hierarchies of v1; v2 has one, and uses the first place. */
enum controller {
    CTRL_MEMORY,
    CTRL_PIDS,
    CTRL_CPU,
    CTRL_CPUACCT,
    CTRL_FREEZER,
    CTRL_IO,
    CTRL_COUNT,
};
/* As the kernel calls it; v1's name of `io` is blkio. */
const char *controller_name(enum controller ctrl);

struct cgroup_ops {
    int (*set_limits)(struct cgroup *c, const struct limits *limits, struct err *e);
    int (*watch)(struct cgroup *c, struct err *e); /* fills oom_fd */
    int (*quota_fd)(struct cgroup *c);             /* NULL: there is no such thing */
    int (*usage)(struct cgroup *c, struct cgroup_usage *ret, struct err *e);
    bool (*populated)(struct cgroup *c);
    int (*kill)(struct cgroup *c, struct err *e);
    int (*freeze)(struct cgroup *c, bool on, struct err *e);
    bool (*frozen)(struct cgroup *c);
};

/* One that was made ahead; of v1 only. */
struct cgroup_ready {
    struct cgroup *cgroup;
    struct cgroup_join join;
    struct limits limits; /* that it has */
};

struct cgroup_tree {
    enum cgroup_version version;
    const struct cgroup_ops *ops;
    int dirs[CTRL_COUNT];   /* the agent's level in each hierarchy; -1: not there, or as in an
                             * earlier place */
    int alias[CTRL_COUNT];  /* the place that has the directory of this controller; -1: none */
    char *path[CTRL_COUNT]; /* of dirs[] */
    bool memsw;             /* v1: memory.memsw.* exists */
    const char *io_file;    /* where an io weight is written; NULL: the kernel has no such thing */
    char *own;              /* where the agent itself was when it began; NULL: not seen */
    bool given;             /* the level is the service manager's, and stays */
    bool own_unit;          /* it is a part of the agent's own unit */
    char text[512];         /* cgroup_tree_text() */
    struct cgroup_ready *ready; /* NULL: none */
};

struct cgroup {
    struct cgroup_tree *tree;
    uint64_t quota; /* v1: what quota_fd was made for */
    int oom_fd;
    int quota_fd;
    struct cgroup_join join; /* prepared ahead; nothing in it: not */
    bool found;    /* made by an earlier agent, which may have heard of what we have not */
    bool oom_told; /* v1: oom_fd has told of an OOM of ours */
    char id[CGROUP_ID_MAX + 1];
};

/* --- cgroup_mounts.c: where the hierarchies are --- */

struct cgroup_mounts {
    char *v1[CTRL_COUNT]; /* a controller's mount point; NULL: it has none */
    char *v2;
};
/* Reads MOUNTINFO, a file as /proc/self/mountinfo, into M, which is {0}. M: for
 * cgroup_mounts_done(), also after an error. */
int cgroup_mounts_find(const char *mountinfo, struct cgroup_mounts *m, struct err *e);
void cgroup_mounts_done(struct cgroup_mounts *m);
/* v2 counts only with the controllers that limit a dyno; on many v1 machines it is mounted too.
 * MOUNT may be NULL. */
bool cgroup_v2_usable(const char *mount);

/* WORD is in LIST, between SEPARATORS. */
bool cg_has_word(const char *list, const char *word, const char *separators);
/* cgroup_room.c: the directory of the agent's own level, of the memory controller; to free. NULL:
 * it is not seen. SELF_CGROUP: a file as /proc/self/cgroup. */
char *cg_own_level(const struct cgroup_mounts *m, const char *self_cgroup);

/* --- the tree --- */

/* The path that PARENT means where nothing is delegated. */
const char *cgroup_own_name(const char *parent);

/* Where the tree looks; for the tests. */
struct cgroup_sources {
    const char *mountinfo;   /* /proc/self/mountinfo */
    const char *self_cgroup; /* /proc/self/cgroup */
};
int cgroup_tree_open_at(const struct cgroup_sources *src, const char *parent, bool needed,
                        struct cgroup_tree **ret, struct err *e);

/* cgroup_v1.c, cgroup_v2.c: open the agent's level. MOUNTS: the mount points of the controllers. */
int cgroup_v1_open(struct cgroup_tree *t, char *const mounts[CTRL_COUNT], const char *parent,
                   struct err *e);
int cgroup_v2_open(struct cgroup_tree *t, const char *mount, const char *self_cgroup,
                   const char *parent, struct err *e);

_Static_assert(CTRL_COUNT == CGROUP_TASKS_MAX, "one place to join for each controller");

/* cgroup_ready.c: the one that was made ahead, now called ID; the caller's. NULL: there is none, it
 * has not LIMITS, or could not get that name. */
struct cgroup *cg_take_ready(struct cgroup_tree *t, const char *id, const struct limits *limits);

/* A file's name that is not hidden: what a cgroup's id may be. */
bool cg_id_valid(const char *id);

/* --- files of the cgroup ID in the hierarchy of CTRL --- */

int cg_open(const struct cgroup *c, enum controller ctrl, const char *file, int flags);
/* 0 or -errno. */
int cg_put(const struct cgroup *c, enum controller ctrl, const char *file, const char *text);
int cg_put_u64(const struct cgroup *c, enum controller ctrl, const char *file, uint64_t value);
/* The same with an error that says what was to be written where. */
int cg_set(const struct cgroup *c, enum controller ctrl, const char *file, const char *text,
           struct err *e);
/* The whole file, NUL-terminated; its length or -errno. */
ssize_t cg_get(const struct cgroup *c, enum controller ctrl, const char *file, char *buf,
               size_t cap);
/* Whether N, of cg_get(), says that the file may be there and could not be read now. */
bool cg_unseen(ssize_t n);
/* A file with one number; "max" and an absent file are DEF. */
uint64_t cg_get_u64(const struct cgroup *c, enum controller ctrl, const char *file, uint64_t def);
/* The number after "KEY " at a line's start of TEXT; 0: not there. */
uint64_t cg_field(const char *text, const char *key);
/* Whether a start with LIMITS needs a cgroup of its own in the hierarchy of CTRL (v1: blkio only
 * for a weight that is not everybody's; it would cost every start). */
bool cg_needs(const struct cgroup_tree *t, enum controller ctrl, const struct limits *limits);
/* Writes the io weight. 0, also where there is nothing to write it to; -ENOENT: C has no cgroup
 * there. */
int cg_set_io(const struct cgroup *c, const struct limits *limits, struct err *e);
/* SIGKILL to each process listed in `cgroup.procs` of CTRL; how many, or -errno. */
int cg_kill_listed(const struct cgroup *c, enum controller ctrl);

#endif
