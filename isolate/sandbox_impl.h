/* sandbox_impl.h - what the files of the sandbox share; private to isolate/. */
#ifndef ISOLATE_SANDBOX_IMPL_H
#define ISOLATE_SANDBOX_IMPL_H

#include "isolate/cgroup_impl.h"
#include "isolate/sandbox.h"

#include <linux/filter.h>
#include <stddef.h>

#define MASKS_MAX  24
#define CORE_LIMIT 1 /* bytes: steps_user.c says why not 0 */

/* A file or directory of /proc that a dyno gets read-only, or not at all. */
struct mask {
    const char *path;
    bool read_only; /* false: /dev/null is mounted over it */
};

#define CHILD_STACK (256u << 10)

/* A child's stack, with a page below it that nothing may touch. *ret: freed with
 * child_stack_free(). */
int child_stack_new(void **ret, struct err *e);
void child_stack_free(void *stack);

/* What a child says in a page that it shares with us. */
struct told {
    struct err err;
    int fd[2]; /* in the agent's table */
};

/* What a start finds made: room.c. Descriptors of namespaces, or -1. */
struct room {
    int mnt, ipc;
    uint64_t shm; /* the bytes that /dev/shm has; 0: as without a memory limit */
};
#define ROOM_INIT                                                                                  \
    {                                                                                              \
        .mnt = -1, .ipc = -1                                                                       \
    }

struct sandbox {
    char stack_text[320];
    bool rootless;
    bool has_bash;
    uid_t inner;     /* uid and gid inside every dyno */
    int template_ns; /* mount namespace with nothing but the root template in it */
    int init_fd;
    int null_fd;       /* /dev/null */
    int uts_ns;        /* the agent's own */
    int landlock;      /* ABI; 0: none */
    void *stack;       /* CHILD_STACK bytes, of the one child that is on its way (clonevm.h) */
    struct told *told; /* one page that a child shares with us: errand.c */
    struct room room;  /* for the next start */
    struct sock_fprog filter;
    struct mask masks[MASKS_MAX]; /* those that this kernel has */
    size_t n_masks;
};

/* What came of building a root template. */
struct rootfs {
    bool bash; /* the stack has one */
    bool loop; /* its image is read through a loop device */
};

/* rootfs.c: builds the root template in a mount namespace of its own and opens that. The calling
 * process stays where it is. */
int rootfs_build(const struct sandbox_config *config, int *ret_ns, struct rootfs *ret,
                 struct err *e);

/* rootfs_stack.c: in the namespace of the template, which must be the caller's own: opens the stack
 * to build from, at PLACE, a directory of ours that the stack is mounted on (but the host's). Every
 * mount of it is read-only, without devices and set-id programs, before anything in it is looked
 * at. *ret_fd: O_PATH of its root. */
int rootfs_stack(const struct sandbox_config *config, const char *place, int *ret_fd,
                 bool *ret_loop, struct err *e);
/* In the finished template: it has a shell that INNER may execute. */
int rootfs_has_shell(const struct sandbox_config *config, uid_t inner, struct err *e);

/* rootfs_etc.c: fills the empty directory ETC from the stack's /etc (-1: it has none). HOST: only
 * what is on the list of what apps need; else everything that is not replaced. RESOLV_CONF: its
 * content; NULL: the stack's. */
int rootfs_etc(int etc, int stack_etc, bool host, uid_t inner, const char *resolv_conf,
               struct err *e);

/* plan.c: -EINVAL with the field that is wrong. */
int plan_check(const struct sandbox *s, const struct plan *plan, struct err *e);
/* The same of what a spare has; and of what it is given later. */
int plan_check_ahead(const struct sandbox *s, const struct plan *plan, struct err *e);
int plan_check_rest(const struct plan *plan, struct err *e);

/* userns.c: the one line of an id map. */
int userns_write_map(const char *dir, uid_t inner, uid_t uid, gid_t gid, struct err *e);

/* What the child works with; everything in it is decided and open before it is cloned. */
struct start {
    const struct sandbox *s;
    const struct plan *plan;
    struct cgroup_join join;
    int slug_tree;    /* detached mounts: the slug, mapped to the dyno's ids; -1: none */
    int scratch_tree; /* what the dyno writes */
    int proc_tree;    /* made by the child */
    int report;       /* write end */
    int rules;        /* of landlock, for a spare to enter; -1: none */
    struct room room; /* taken from the sandbox, if there is one that fits */
    bool spare;       /* who the dyno will be is not known yet: spare.c */
    bool dressed;     /* but what it will run from is */
};

#define START_INIT(sandbox, p)                                                                     \
    {                                                                                              \
        .s = (sandbox), .plan = (p), .join = {.into = -1}, .slug_tree = -1, .scratch_tree = -1,    \
        .proc_tree = -1, .report = -1, .rules = -1, .room = ROOM_INIT                              \
    }

/* spawn.c: a detached mount of the plan's slug, in st->slug_tree. */
int start_detach_slug(struct start *st, struct err *e);
void start_done(struct start *st);

/* errand.c: RUN in a process of its own, because it leaves the agent's namespaces, or is cloned
 * into others with FLAGS; with the agent's memory and descriptors. The agent stands still until it
 * is over; WHAT is who fails in E. What it leaves is in s->told. */
int errand_run(const struct sandbox *s, uint64_t flags, int (*run)(void *arg, struct told *told),
               void *arg, const char *what, struct err *e);

/* room.c: takes the sandbox's room for a start of LIMITS, or leaves *ret without one. */
void room_take(struct sandbox *s, const struct limits *limits, struct room *ret);
void room_done(struct room *room);

/* steps.c: carries out the steps and executes dyno-init. Does not return. */
_Noreturn void steps_run(struct start *st);
/* The same for those that a spare has not had yet, in a process that has entered its namespaces. */
int steps_fit(struct start *st, struct err *e);
/* The one of them that a dressed spare lacks, for whoever is in its UTS namespace. */
int step_hostname(struct start *st, struct err *e);

/* steps_mount.c: the steps that build the dyno's view of files. */
int step_proc(struct start *st, struct err *e);
int step_namespaces(struct start *st, struct err *e);
int step_files(struct start *st, struct err *e);
int step_slug(struct start *st, struct err *e);
int step_devices(struct start *st, struct err *e);
/* The bytes that /dev/shm has with LIMITS; 0: they do not say. */
uint64_t shm_bytes(const struct limits *limits);
int step_mask_proc(struct start *st, struct err *e);
/* Gives /dev/shm the size that the plan's limits allow. */
int step_resize_shm(struct start *st, struct err *e);

/* steps_user.c: the steps that give powers away. */
int step_oom_score(struct start *st, struct err *e);
int step_scheduling(struct start *st, struct err *e);
int step_user(struct start *st, struct err *e);
int step_limits(struct start *st, struct err *e);
int step_capabilities(struct start *st, struct err *e);
int step_no_new_privs(struct start *st, struct err *e);
int step_landlock(struct start *st, struct err *e);
int step_inherited(struct start *st, struct err *e);

#endif
