/* cgroup.h - one cgroup a dyno, on cgroup v2 or v1, whichever has the controllers. The tree is the
 * truth about what runs: its leaves are named by dyno ids.
 *
 * Nothing here blocks for long; on v1 a process joins by writing "0" into `tasks` itself, which
 * skips the kernel's global lock (and its RCU grace period, 10 ms and more) that moving another
 * process takes. Kernel: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/. */
#ifndef ISOLATE_CGROUP_H
#define ISOLATE_CGROUP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a dyno may use. 0: no limit. */
struct limits {
    uint64_t memory_quota; /* bytes: R14 above it */
    uint64_t memory_max;   /* bytes of memory + swap: the kernel's limit, R15 */
    uint64_t pids;
    unsigned cpu_shares;  /* 1024: one share (v2: cpu.weight 100 each) */
    unsigned cpu_percent; /* hard cap, 100: one core */
    unsigned io_weight;   /* 1 to 1000, the kernel's default is 100 */
    uint64_t disk_bytes;  /* of what it writes, and how many files; not the cgroup's, but its */
    uint64_t disk_inodes; /* scratch's (scratch.h) */
    uint64_t rate_bits;   /* bits a second of its network, each way: net.h's */
    /* Not the cgroup's, but what its processes are started with. */
    unsigned open_files; /* RLIMIT_NOFILE; 0: LIMITS_OPEN_FILES, or what the agent may have */
    uint64_t procs_max;  /* RLIMIT_NPROC: what pids may be raised to while it runs; 0: pids */
};
bool limits_equal(const struct limits *a, const struct limits *b);

#define CGROUP_IO_WEIGHT_DEFAULT 100u
#define LIMITS_OPEN_FILES        10000u /* what apps of the platform count on */

struct cgroup_usage {
    uint64_t memory; /* bytes: rss + cache + swap */
    uint64_t memory_rss, memory_cache, memory_swap;
    uint64_t memory_kernel; /* beside `memory`, within memory_max: page tables, slab, sockets */
    /* v1: with TCP's buffers, which memory_max does not hold there, it has more than that and can
     * drop none of it. v2: false, the kernel sees to it. */
    bool memory_over;
    uint64_t pgpgin, pgpgout; /* pages since the start */
    uint64_t cpu_usec;
    uint64_t pids;
    uint64_t oom_kills; /* processes of this cgroup that the kernel killed for memory */
    bool oom_own; /* of those, for its own limit; false: the machine, or a level above, had none */
};

struct cgroup_tree; /* the agent's part of the hierarchies */
struct cgroup;      /* one dyno's */

enum cgroup_version { CGROUP_NONE = 0, CGROUP_V1 = 1, CGROUP_V2 = 2 };

/* What a tree may lack and still be one. */
enum cgroup_can { CGROUP_CAN_CPU, CGROUP_CAN_IO, CGROUP_CAN_FREEZE };

/* Finds where cgroups may be made. PARENT: "auto", or a path below the hierarchies ("/dynod").
 * "auto" is what the service manager delegates (v2): the unit UNIT-dynos.service beside the
 * agent's own UNIT.service, or else a part of the agent's own; without that, "/dynod".
 * "auto/NAME" has another name than "dynod": for a second agent on one machine, because agents
 * never share a tree, each sweeps what it does not know. Makes the parent, enables controllers.
 * NEEDED: false: where nothing may be made (rootless), the tree is CGROUP_NONE and every operation
 * below succeeds and does nothing; true: that is an error that names what is missing. */
int cgroup_tree_open(const char *parent, bool needed, struct cgroup_tree **ret, struct err *e);
void cgroup_tree_freep(struct cgroup_tree **t);
enum cgroup_version cgroup_tree_version(const struct cgroup_tree *t);
/* Words for `dyno doctor`: "v1: memory pids cpu freezer", "v2: memory pids cpu, in /dynod", and
 * what is missing. */
const char *cgroup_tree_text(const struct cgroup_tree *t);
bool cgroup_tree_can(const struct cgroup_tree *t, enum cgroup_can what);
/* Whether LIMITS, which WHAT has ("size standard-1x"), can be kept here. The error names the
 * controller that lacks and the fix. A CGROUP_NONE tree keeps none, which is not told here. */
int cgroup_tree_check(const struct cgroup_tree *t, const char *what, const struct limits *limits,
                      struct err *e);

#define CGROUP_WHERE_MAX 256
struct cgroup_room {
    uint64_t left;                /* bytes; UINT64_MAX: no level has a limit */
    char where[CGROUP_WHERE_MAX]; /* the level's directory */
};
/* Which of the levels that the dynos' cgroups, and the agent's own, are in has the least memory
 * left; cached files count as free. Reads some files of each level. */
void cgroup_tree_room(const struct cgroup_tree *t, struct cgroup_room *ret);

/* Removes the agent's own level when no dyno is left in it, unless it is the service manager's. */
int cgroup_tree_remove(struct cgroup_tree *t, struct err *e);
/* The ids of all cgroups in the tree, a NULL-terminated array to free with its strings. */
int cgroup_tree_list(struct cgroup_tree *t, char ***ret_ids, struct err *e);
void cgroup_ids_free(char **ids);

/* Makes the cgroup ID and sets LIMITS before anything runs in it. -EEXIST. */
int cgroup_create(struct cgroup_tree *t, const char *id, const struct limits *limits,
                  struct cgroup **ret, struct err *e);
/* Sees to it that an empty cgroup with LIMITS is there, for cgroup_create() to take: for when
 * nobody waits. On v2 it does nothing: a cgroup cannot be renamed there. */
int cgroup_ready(struct cgroup_tree *t, const struct limits *limits, struct err *e);
/* Removes it. */
void cgroup_ready_drop(struct cgroup_tree *t);
/* Opens an existing one, for adoption. -ENOENT. */
int cgroup_open(struct cgroup_tree *t, const char *id, struct cgroup **ret, struct err *e);
void cgroup_freep(struct cgroup **c);
/* Changes the limits of a running dyno. What memory it holds must be within the new memory_max: v1
 * refuses (-EBUSY) what it cannot reclaim, v2 kills; either takes its time. An error may leave some
 * of the new limits set. *ret_later, which may be NULL: its io_weight cannot be changed before its
 * next start (v1: it is in no blkio cgroup unless it began with a weight of its own). */
int cgroup_set_limits(struct cgroup *c, const struct limits *limits, bool *ret_later,
                      struct err *e);
int cgroup_usage(struct cgroup *c, struct cgroup_usage *ret, struct err *e);
/* True while a process is in it, or where that cannot be seen (no descriptor, no memory).
 * CGROUP_NONE: false. */
bool cgroup_populated(struct cgroup *c);
/* SIGKILL to every process in it, also those that fork meanwhile (v2: cgroup.kill; v1: freezer,
 * then kill, thaw). Does not wait for them to be gone. */
int cgroup_kill(struct cgroup *c, struct err *e);
/* No process of it runs from here on, until it is thawed; both return before it has taken effect. A
 * signal waits for the thaw, but cgroup_kill() does not. -EOPNOTSUPP: no freezer. */
int cgroup_freeze(struct cgroup *c, bool on, struct err *e);
/* It is to be frozen, or is. cgroup_kill() of a killed agent may leave it so on v1. */
bool cgroup_frozen(struct cgroup *c);
/* Calls FN with each process in it until that returns other than 0, which it returns. */
int cgroup_each_process(struct cgroup *c, int (*fn)(pid_t pid, void *userdata), void *userdata,
                        struct err *e);
/* Removes it. -EBUSY: processes are still in it (dying ones too: try again shortly). */
int cgroup_remove(struct cgroup *c, struct err *e);
/* A descriptor to poll that tells of an OOM kill in C: v1 an eventfd (POLLIN), v2 an inotify
 * descriptor on memory.events (POLLIN). cgroup_oom_read() empties it; then ask cgroup_usage(). v1
 * tells it before the kernel has chosen whom to kill: the kill may be counted a moment later. Owned
 * by C; -1: CGROUP_NONE. */
int cgroup_oom_fd(struct cgroup *c);
void cgroup_oom_read(struct cgroup *c);
/* A descriptor that becomes readable when memory passes memory_quota, either way: v1 a threshold
 * eventfd; -1 where there is none (v2): poll cgroup_usage() with a timer. Owned by C, and another
 * one after cgroup_set_limits(). On v1 the first call blocks for an RCU grace period, 10 ms: not in
 * the path of a start. */
int cgroup_quota_fd(struct cgroup *c);

/* Writes TEXT on the cgroup, where it stays as long as that: xattr(7), trusted. 0 or -errno. */
int cgroup_note(struct cgroup *c, const char *text);
/* What was written on the cgroup ID; its length, or -errno. */
ssize_t cgroup_noted(struct cgroup_tree *t, const char *id, char *text, size_t cap);

/* --- joining: prepared by the parent, carried out by the child --- */

#define CGROUP_TASKS_MAX 6
struct cgroup_join {
    int tasks[CGROUP_TASKS_MAX]; /* v1: write "0" to each */
    size_t n_tasks;
    int into; /* v2: for CLONE_INTO_CGROUP; else -1 */
};
int cgroup_join_prepare(struct cgroup *c, struct cgroup_join *ret, struct err *e);
void cgroup_join_done(struct cgroup_join *j);

#endif
