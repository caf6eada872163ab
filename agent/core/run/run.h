/* run.h - one incarnation of a dyno: from the making of its sandbox to the removal of its last
 * trace. A dyno that restarts is one dyno and several runs; the end of one run is cleaned up while
 * the next starts.
 *
 * RUNTIME/run/ID/ holds what survives the agent: run.json (who this is; at the end, how it ended),
 * init.sock (where dyno-init listens), exit (dyno-init's record). ID is also the name of the
 * cgroup, of the scratch directory and of the log spool.
 *
 * run.json is {"v": 1, "id": ID, "record": {...}, "end": {...}}: whose run it is, and how it ended
 * once that has been reported. Its versions: an agent writes RUN_RECORD_VERSION and reads that one
 * and the one before. A field that an agent can do without is simply added (what is not known is
 * ignored, and written back as it was); the version grows only when the one before would misread.
 * Any other version, and a file that is torn, is set aside in RUNTIME/odd, and said so; who the run
 * is then comes from its dyno-init, which was told at the start: {"v": 1, "id": ID, "record":
 * {...}} in a sealed memfd. That version never grows and "record" never loses a field or changes
 * what one means, because an agent of any age must be able to read it: after a downgrade it is all
 * there is. */
#ifndef CORE_RUN_H
#define CORE_RUN_H

#include "base/err.h"
#include "base/name.h"
#include "core/logger.h"
#include "core/policy/slots.h"
#include "isolate/cgroup.h"
#include "isolate/sandbox.h"
#include "isolate/scratch.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define RUN_ID_MAX           160
#define RUN_RECORD_VERSION   1
#define RUN_RECORD_OLDEST    1 /* that is still read: RUN_RECORD_VERSION - 1, from 2 on */
#define RUN_IDENTITY_VERSION 1 /* for good */
#define RUN_ODD_KEPT         32

/* What all runs share; lives as long as the agent. */
struct run_env {
    sd_event *loop;
    struct sandbox *sandbox;
    struct cgroup_tree *cgroups;
    struct logger *logger;
    bool rootless;
    char runtime_dir[256];
    int run_dirfd;     /* RUNTIME/run */
    int scratch_dirfd; /* STATE/scratch */
    struct scratches *scratches;
    struct sweeper *sweeper;
    struct slots *nets; /* of networks; NULL: dynos have none of their own */
};

/* How a command that somebody is attached to is connected. */
struct run_attach_fds {
    int fds[3]; /* TTY: [0] the master; else the agent's ends of stdin, stdout, stderr; -1: none */
    bool tty;
};

struct run;

/* Called from the loop, never from inside run_start() or run_adopt(). */
struct run_ops {
    /* The command was executed. FDS is NULL unless the run is attached; taken by the callee. */
    void (*started)(void *owner, struct run *r, struct run_attach_fds *fds);
    /* A step of the start failed, nothing runs. */
    void (*failed)(void *owner, struct run *r, const struct err *why);
    /* Every process is gone (status as run_status()). After this only `gone` comes. */
    void (*ended)(void *owner, struct run *r);
    /* The kernel killed a process of it for memory; run_usage() tells for whose limit. */
    void (*oom)(void *owner, struct run *r);
    /* No trace is left but run.json: run_free() it. */
    void (*gone)(void *owner, struct run *r);
    /* An exec in it (run_exec): started (FDS as above, or WHY) and ended. */
    void (*exec_started)(void *owner, struct run *r, uint32_t token, struct run_attach_fds *fds,
                         const struct err *why);
    void (*exec_ended)(void *owner, struct run *r, uint32_t token, int wait_status);
};

/* Ids of runs whose sandbox was made before their dyno was known: of no use as a dyno's name. */
#define RUN_SPARE_PREFIX "spare."
/* A new id for a run of NAME. Returns OUT. */
char *run_make_id(const struct dyno_name *name, char out[RUN_ID_MAX]);

/* What a start needs to know. Strings are copied. */
struct run_spec {
    struct dyno_name name;
    const char *id; /* of run_make_id() */
    const json_t
        *record; /* goes into run.json as it is: whatever the owner wants back at adoption */
    char *const *argv;
    char *const *env;
    bool attached;
    bool tty;
    uint16_t rows, cols;
    const char *hostname;
    uid_t uid;
    int userns_fd; /* borrowed; -1: rootless */
    int slug_fd;   /* borrowed; -1: none */
    int netns_fd;  /* borrowed; -1: the host's network. The slot in RECORD's "network" is the run's
                    * from its start until `gone`. */
    struct limits limits;
};

/* Starts; everything that takes time goes on in the loop. A failure here leaves no trace. */
int run_start(struct run_env *env, const struct run_spec *spec, const struct run_ops *ops,
              void *owner, struct run **ret, struct err *e);
/* The same in a sandbox that was made ahead, which gives its id (SPEC's is not looked at), uid and
 * user namespace. What is not the run's after that is the caller's: spare_used(), or, when it
 * failed, spare_end(). */
struct spare;
int run_start_spare(struct run_env *env, const struct run_spec *spec, struct spare *spare,
                    const struct run_ops *ops, void *owner, struct run **ret, struct err *e);
/* Frees it; what still runs goes on running, to be adopted by the next agent. */
void run_freep(struct run **r);

const char *run_id(const struct run *r);
bool run_started(const struct run *r); /* the command was executed */
bool run_ended(const struct run *r);
uint64_t run_started_boot(const struct run *r); /* 0: not */
uint64_t run_ended_boot(const struct run *r);
/* False: dyno-init was lost, nobody knows. *ret_errno: not 0: execve failed with it. */
bool run_status(const struct run *r, int *ret_wait_status, int *ret_errno);
/* Its network, of RECORD: 0 and "": the host's. */
uint32_t run_slot(const struct run *r);
const char *run_address(const struct run *r);
const char *run_address6(const struct run *r);
/* Changes the rate of its network, one of N's; net.h. */
struct net;
int run_set_rate(const struct run *r, struct net *n, uint64_t rate, struct err *e);
/* A socket for ready.h in its network. */
int run_diag_open(const struct run *r, int *ret_fd, struct err *e);
pid_t run_pid(const struct run *r); /* of dyno-init, on the host */
int run_usage(const struct run *r, struct cgroup_usage *ret, struct err *e);
/* -ENODATA: nothing runs, or its disk has no limit; then nothing is known about it, either. */
int run_disk(const struct run *r, const struct scratch_quota *quota, struct scratch_usage *ret);
/* That the disk is full has been told in this episode; a later agent knows it, too. */
bool run_disk_told(const struct run *r);
void run_disk_tell(const struct run *r, bool full);
/* Gives a running one the limits of another size, under the rules of cgroup_set_limits(), and
 * writes down its name: SIZE replaces the one in the record. *ret_later: those of RUN_LATER_* that
 * only its next start brings. Blocks for as long as there are processes: some microseconds each. */
enum {
    RUN_LATER_IO_WEIGHT = 1 << 0,
    RUN_LATER_OPEN_FILES = 1 << 1,
    RUN_LATER_DISK = 1 << 2,
    RUN_LATER_BANDWIDTH = 1 << 3
};
int run_resize(struct run *r, const char *size, const struct limits *old,
               const struct limits *limits, unsigned *ret_later, struct err *e);
/* Freezes it, dyno-init too, which answers nothing until run_resume(); kept across agents.
 * run_stop() and run_kill() end it. -EOPNOTSUPP: no freezer here. */
int run_pause(struct run *r, struct err *e);
int run_resume(struct run *r, struct err *e);
bool run_paused(const struct run *r);
/* R14 was told, and its memory has not been below the quota since; kept across agents. */
void run_note_over(struct run *r, bool over);
bool run_is_over(const struct run *r);
/* From now on OPS are called, with OWNER. */
void run_hand_over(struct run *r, const struct run_ops *ops, void *owner);

/* SIGTERM to every process; from now on the end of the command leaves the others their time. */
void run_stop(struct run *r, int signo);
/* A signal to every process. */
void run_signal(struct run *r, int signo);
/* SIGKILL to every process; harder each time it has no effect, until it has. */
void run_kill(struct run *r);

/* Writes FIELDS (borrowed) into run.json's "end": the end has been recorded, a later agent need
 * not. */
int run_record_end(struct run *r, const json_t *fields, struct err *e);
/* Asks dyno-init for the log pipe again and hands it to dynod-logs: a new one has no pipes. */
void run_reopen_log(struct run *r);
/* All it wrote is on record. */
void run_log_eof(struct run *r);

/* One more process in the sandbox; results through exec_started and exec_ended with *ret_token. */
int run_exec(struct run *r, char *const *argv, char *const *env, bool tty, uint16_t rows,
             uint16_t cols, uint32_t *ret_token, struct err *e);
void run_exec_signal(struct run *r, uint32_t token, int signo);

/* --- Adoption --- */

/* What one directory of RUNTIME/run says (or, where it says nothing, what could be found out). */
struct run_trace {
    char id[RUN_ID_MAX];
    json_t *record; /* run.json: "record", and "end" when its end is recorded */
    bool recorded;  /* "end" is there, or a mark that it was told: how it ended is on record */
    bool clean;     /* nothing else of it is left: a tombstone */
    bool guessed;   /* "record" has only what the id and the kernel tell; nothing of it runs on */
};

/* A state file that was not as it should be. */
struct run_odd {
    const char *name; /* the run's id, or whatever lay there (a stranger's: escape it) */
    const char *why;
    const char *kept; /* where it was set aside: "odd/NAME" below RUNTIME; "": nothing to keep */
    enum run_odd_outcome {
        RUN_ODD_UNBORN,  /* an agent died before it wrote anything; removed */
        RUN_ODD_REMOVED, /* no run's, or one whose end is on record; removed */
        RUN_ODD_REBUILT, /* dyno-init said who it is: the run is adopted */
        RUN_ODD_DEAD,    /* dyno-init is dead, or out of reach: its end is going to be reported */
        RUN_ODD_ENDED,   /* dyno-init lives and cannot say who it is: the dyno is killed */
    } outcome;
};

/* All traces, sorted by id; each oddity is told through ODD(userdata, ...) when it has been dealt
 * with. Waits up to 10 s, all in all, for dyno-inits that have to be asked. Fails when it is our
 * means that fail, before anything has been changed of the run that this was about. *ret: to be
 * freed with run_traces_free(). */
int run_traces(struct run_env *env, struct run_trace **ret, size_t *ret_n,
               void (*odd)(void *userdata, const struct run_odd *odd), void *userdata,
               struct err *e);
void run_traces_free(struct run_trace *traces, size_t n);
/* That of the run ID; NULL: none. */
struct run_trace *run_trace_find(struct run_trace *traces, size_t n, const char *id);

/* Takes over what TRACE (not a clean one) left: connects to its dyno-init, or finds out how it
 * ended. The outcome comes through OPS as for a start (`started` when its command runs, `ended`,
 * `failed`). */
int run_adopt(struct run_env *env, const struct run_trace *trace, const struct dyno_name *name,
              const struct run_ops *ops, void *owner, struct run **ret, struct err *e);

/* An earlier agent called run_stop(): so should this one, or nobody sees to it that it ends. */
bool run_told_to_stop(const struct run *r);
/* Its owner may only have been forgotten (dyno.h); that is remembered in its directory. */
void run_hold(struct run *r);
void run_unhold(struct run *r);
bool run_held(const struct run *r);
/* As run_record_end(), for a trace that nothing runs of for us any more. */
int run_trace_record(struct run_env *env, struct run_trace *trace, const json_t *fields,
                     struct err *e);
/* Removes a tombstone's directory. */
void run_trace_remove(struct run_env *env, const char *id);

/* Kills and removes the cgroups and scratch directories that no trace names: what a death between
 * two instructions left. KEEP: sorted ids. */
void run_sweep(struct run_env *env, struct run_trace *traces, size_t n);

#endif
