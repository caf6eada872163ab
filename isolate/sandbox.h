/* sandbox.h - what one agent sets up once, and how one dyno is started in it.
 *
 * The parent decides and validates everything into a plan; the child carries it out in one ordered
 * table of steps (steps.c) and executes dyno-init. The two need no meeting point: the child works
 * from descriptors that exist before it is cloned, so a start never waits for the agent, and an
 * agent that dies in the middle of one leaves a child that either completes or fails by itself.
 *
 * As root: the child does its mounts with the machine's root credentials in a mount namespace that
 * the machine's user namespace owns (a copy of the root template's, see rootfs.c), then joins the
 * dyno's user namespace, where it is one unprivileged user and has no capability over any of its
 * namespaces. Rootless: the agent itself lives in a user namespace of its own
 * (sandbox_enter_rootless), where it has the same powers over a private mount namespace; everything
 * after that is the same code. */
#ifndef ISOLATE_SANDBOX_H
#define ISOLATE_SANDBOX_H

#include "base/err.h"
#include "isolate/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Moves this process, which must be single-threaded and not root, into a user namespace (its own
 * ids mapped to themselves) and a mount namespace of its own. The first thing that a rootless agent
 * does. -EPERM and its kin name the sysctl or policy that forbids it, and the fix. */
int sandbox_enter_rootless(struct err *e);

struct sandbox_config {
    const char *stack;       /* "host", or an absolute path of a root filesystem's directory; of an
                              * image: its name for errors */
    const char *image_type;  /* "squashfs", "erofs": the stack is an image; NULL: it is none */
    int image_fd;            /* the image, of which every byte has been checked and which nobody can
                              * write to; borrowed */
    const char *state_dir;   /* the agent's, which no stack may show; NULL: none */
    const char *runtime_dir; /* the agent's runtime directory, exists; its `root` directory is the
                              * place where the template is mounted while it is built */
    const char *init_path;   /* the dyno-init program */
    const char *resolv_conf; /* its content; NULL: the machine's */
    bool rootless;           /* sandbox_enter_rootless() was called */
    uid_t slug_owner; /* uid that owns unpacked slugs on disk; also the uid inside every dyno,
                       * so that one idmapped mount maps it to the dyno's host uid */
};

struct sandbox;

/* Builds the root template, in a mount namespace of its own (the caller's stays as it is), compiles
 * the seccomp program, opens dyno-init. Blocks for some 10 ms; forks. After a change of the stack,
 * or of the host's /etc, open another one: dynos keep the one they were started with. An image is
 * mounted once, for all dynos, and stays until the sandbox and the last of them are gone.
 *
 * The operator's faults: a stack that is not there, no directory, not root's or open to others'
 * writing, that has no /bin/sh, or holds a directory of the agent. */
int sandbox_open(const struct sandbox_config *config, struct sandbox **ret, struct err *e);
void sandbox_freep(struct sandbox **s);
/* Words for a log: "the host's files", "/srv/stack", "/srv/stack.erofs, from the file". */
const char *sandbox_stack_text(const struct sandbox *s);
/* The stack has /bin/bash or /usr/bin/bash. */
bool sandbox_has_bash(const struct sandbox *s);

/* A user namespace that maps INNER (the slug owner) to the host ids UID/GID and nothing else. Made
 * ahead and kept for a dyno's restarts: making one costs a process. *ret_fd is the caller's. Root
 * only. */
int sandbox_userns(const struct sandbox *s, uid_t uid, gid_t gid, int *ret_fd, struct err *e);

/* Everything that one start needs, decided. Descriptors are borrowed for the call; all are CLOEXEC.
 * slug_fd and a scratch_fd that is a directory must have been opened in the agent's own mount
 * namespace (rootless: after sandbox_enter_rootless()): the kernel clones no mount of another one.
 */
struct plan {
    const char *hostname;
    uid_t uid; /* host ids of the dyno; rootless: the agent's own */
    gid_t gid;
    int userns_fd;  /* from sandbox_userns(); -1 when rootless: the child makes its own */
    int netns_fd;   /* from net_make(); -1: the agent's own network */
    int slug_fd;    /* O_PATH directory: the overlay's lower layer; -1: an empty /app */
    int scratch_fd; /* what the dyno writes: struct scratch (scratch.h), its fd and its mounted */
    bool scratch_mounted;
    struct cgroup *cgroup;
    struct limits limits; /* for rlimits that follow the size (processes) */
    int stdio[3];         /* the command's; -1: /dev/null for 0, the log pipe for 1 and 2 */
    int log_read;         /* the log pipe's two ends */
    int log_write;
    int ctl_fd; /* INIT_FD_CTL .. INIT_FD_LAUNCH, see initproto.h */
    int listen_fd;
    int record_fd;
    int launch_fd;
};

/* A child on its way to dyno-init. */
struct spawned {
    pid_t pid;
    int pidfd;
    int report_fd; /* non-blocking; sandbox_report() reads it when readable */
};

/* Makes ahead what the sandbox of every dyno with the memory of LIMITS has: the next
 * sandbox_spawn() for such a one takes it. It is descriptors alone, and gone with the agent.
 * Nothing is done if there is one already; rootless, never. Waits for a child of its own, some
 * 0.2 ms. */
int sandbox_ready(struct sandbox *s, const struct limits *limits, struct err *e);

/* Clones the child into its namespaces and returns at once. */
int sandbox_spawn(struct sandbox *s, const struct plan *plan, struct spawned *ret, struct err *e);

/* --- Spares: sandboxes made before it is known for which dyno ---
 *
 * A spare has taken all steps but those that need to know (steps.c), and is a dyno-init that waits
 * (INIT_TAKE): it is in its namespaces and its cgroup, has given up every power and loaded the
 * filter. It has nothing of the agent's memory, and goes when the agent's end of ctl_fd is closed.
 * What is still missing is done by a process of the agent's that enters its namespaces; only then
 * is it told what to run, so no code of an app is in there before the last step is done.
 *
 * One that is dressed was made for a slug and for limits: /app is there, and it has entered
 * landlock. It lacks the host name alone, and serves no other dyno. */

/* What a spare was made for. */
struct spare_cut {
    struct limits limits;
    bool dressed; /* with the slug whose root this is (none other has both as long as it is
                     mounted): */
    dev_t slug_dev;
    ino_t slug_ino;
};

/* As sandbox_spawn(), of a plan without hostname, launch_fd and stdio; with a slug_fd it is
 * dressed. */
int sandbox_prepare(struct sandbox *s, const struct plan *plan, struct spawned *ret,
                    struct spare_cut *ret_cut, struct err *e);

/* A spare of CUT can be made what a plan with LIMITS and SLUG_FD says. What it was made for has to
 * be the same: of a dressed one everything, of another one disk, rate_bits, open_files, io_weight.
 */
bool spare_fits(const struct spare_cut *cut, const struct limits *limits, int slug_fd);

/* Takes SPARE, whose report said 1: does the steps that are missing for PLAN (its scratch and
 * sockets are not looked at: the spare has them), and has it run. IDENTITY_FD: as of INIT_IDENTITY;
 * CTL_FD: the agent's end. -EINVAL: CUT does not fit. Waits for a child of its own, some 0.3 ms,
 * unless it is dressed. On failure the spare is of no use any more: the caller ends it. */
int sandbox_take(struct sandbox *s, const struct spawned *spare, const struct spare_cut *cut,
                 const struct plan *plan, int ctl_fd, int identity_fd, struct err *e);

/* What became of the child's steps. 1: they are over without a failure: dyno-init was executed, or
 * the child was killed on the way, which its pidfd tells. 0: not known yet. Negative: the step that
 * failed is in E ("switch user: setresuid: Operation not permitted") and the child has exited. */
int sandbox_report(int report_fd, struct err *e);

/* One line of `dyno doctor`. */
struct probe {
    const char *name; /* "idmapped mounts" */
    bool found;
    bool required;    /* dynod does not start without it */
    char detail[200]; /* found: which form; missing: what it costs and how to get it */
};

/* Looks at the kernel and the machine. Works without a sandbox; makes and removes a few namespaces.
 * *ret_n probes, freed with free(). */
int sandbox_probe(bool rootless, struct probe **ret, size_t *ret_n, struct err *e);

#endif
