/* run_priv.h - the inside of struct run, for run.c (start), run_life.c (what happens to it),
 * run_exec.c, and run_trace.c, run_identity.c, run_adopt.c and run_sweep.c (what an earlier agent
 * left) only. */
#ifndef CORE_RUN_PRIV_H
#define CORE_RUN_PRIV_H

#include "base/fdio.h"
#include "core/run/initlink.h"
#include "core/run/run.h"

#include <sys/queue.h>

#define RUN_RECORD     "run.json"
#define RUN_SOCKET     "init.sock"
#define RUN_EXIT       "exit"
#define RUN_TOLD       "told" /* RUN_EXIT: its end is on record, and run.json had no room for it */
#define RUN_STOP       "stop" /* it is there: run_stop() was called */
#define RUN_HELD       "held" /* it is there: run_hold() was called */
#define RUN_FULL       "disk-full" /* it is there: that was told */
#define RUN_PAUSED     "paused"    /* it is there: run_pause() was called */
#define RUN_OVER       "over"      /* it is there: run_note_over() */
#define RUN_NAME       "dyno" /* a link that leads nowhere: the dyno's name, where the id has none */
#define RUN_RECORD_MAX (1u << 20)

/* An exec that dyno-init has not answered yet. */
struct pending_exec {
    LIST_ENTRY(pending_exec) link;
    uint32_t token;
    struct run_attach_fds fds;
};

struct run {
    struct run_env *env;
    const struct run_ops *ops;
    void *owner;
    char id[RUN_ID_MAX];
    struct dyno_name name;
    int dirfd;      /* RUNTIME/run/ID */
    json_t *record; /* the whole of run.json */
    struct cgroup *cgroup;
    struct initlink *link;
    pid_t pid;
    int pidfd; /* of dyno-init; -1: gone, or not known yet */
    int report_fd;
    sd_event_source *on_report, *on_pidfd, *on_oom;
    sd_event_source *timer; /* "run-kill", "run-cleanup", "run-adopt": one at a time */
    struct err failed;      /* errnum: the start's failing step */
    bool attached;
    struct run_attach_fds attach; /* until `started` */
    bool started, ended, gone;
    bool told_ended; /* `ended` or `failed` was called */
    bool status_known;
    int status, start_errno;
    uint64_t started_boot, ended_boot;
    bool has_slot; /* its network's is taken */
    bool log_eof, released;
    uint64_t kill_pause;        /* of run_kill(): 0: not killing */
    sd_event_source *oom_timer; /* "run-oom" */
    uint64_t oom_kills;         /* that were told */
    unsigned oom_looks;
    bool paused, over;
    unsigned cleanup_tries, adopt_tries, adopt_looks, relinks;
    uint32_t next_token;
    LIST_HEAD(, pending_exec) execs;
};

int run_new(struct run_env *env, const char *id, const struct dyno_name *name,
            const struct run_ops *ops, void *owner, struct run **ret, struct err *e);
/* Watches the link in SOCK (taken), the process in r->pidfd, the cgroup. */
int run_watch_link(struct run *r, int sock, struct err *e);
int run_watch_process(struct run *r, struct err *e);
void run_watch_oom(struct run *r);
/* All of that, and what it logs, of one that has just been started; CTL and LOG are taken. */
void run_watch(struct run *r, int ctl, int log);
/* The launch record, and the command's ends of an attached one's pipes; the caller's. */
int run_make_command(struct run *r, const struct run_spec *spec, int stdio[3], int *ret_launch,
                     struct err *e);
/* Connects to the dyno-init that listens for R and says INIT_HELLO. -ECONNREFUSED: it is dead. */
int run_connect_init(struct run *r, struct err *e);
/* Sends a request without descriptors. */
void run_request(struct run *r, uint32_t kind, int signo);
/* Every process is gone, as far as it will ever be known; tells the owner once. */
void run_note_end(struct run *r);
/* Takes what the exit record says. 1: it has; 0: nothing is on record: the command was not
 * executed. -EBADMSG: no telling (set aside, and said so). */
int run_read_exit(struct run *r);
/* Three pipes: the command's ends of stdin, stdout, stderr, and ours. What was made before a
 * failure is in the arrays, for the caller to close. */
int run_pipes(int theirs[3], int ours[3], struct err *e);
void attach_fds_close(struct run_attach_fds *fds);

/* The directory ID below PARENT; *ret_dirfd is the caller's. */
int run_dir_new(int parent, const char *id, int *ret_dirfd, struct err *e);
/* What dyno-init will have of it, both the caller's: RUN_SOCKET, listening, and RUN_EXIT. It is
 * RUNTIME/PLACE/ID. */
int run_dir_fill(const struct run_env *env, const char *place, const char *id, int dirfd,
                 int *ret_listen, int *ret_exit, struct err *e);
/* run.json anew. */
int run_write_record(struct run *r, struct err *e);
/* The end of the run in DIR (below DIRFD) is on record, and run.json cannot say so: where the disk
 * is full a name can still be changed. */
void run_mark_told(int dirfd, const char *dir);

/* --- Pausing (run_pause.c) --- */

/* Ends a pause, for what may not wait. */
void run_thaw(struct run *r);
/* What the marks in its directory say, at adoption. A freezer that no mark explains is one that a
 * killed agent did not get to thaw. */
void run_find_marks(struct run *r);
/* Adopts a run that stands still and can tell nothing: from its files and the kernel. False: it has
 * to be asked after all (and is thawed). */
bool run_adopt_paused(struct run *r);

/* --- What an earlier agent left --- */

/* Any other failure to reach a dyno-init is ours: it says nothing about what runs. */
bool run_nobody_listens(int errnum);
/* Who R is, for its dyno-init: a sealed memfd, the caller's. */
int run_identity_make(const struct run *r, const json_t *record, int *ret_fd, struct err *e);
/* Sends that (borrowed) ahead of everything else on SOCK, the agent's end of INIT_FD_CTL. */
int run_identity_give(const struct run *r, int fd, int sock, struct err *e);
/* Asks the dyno-init of the run ID. Does not wait. */
int run_identity_ask(const struct run_env *env, const char *id, int *ret_sock, struct err *e);
/* Its answer; *ret_record is the caller's. -ENODATA: it lives (*ret_cred is its process) and cannot
 * say; -ETIMEDOUT (DEADLINE is boot usec): it says nothing; -EBADMSG: what it says is no good. */
int run_identity_hear(int sock, const char *id, uint64_t deadline, json_t **ret_record,
                      struct ucred *ret_cred, struct err *e);
/* The same from the memfd. */
int run_identity_read(int fd, const char *id, json_t **ret_record, struct err *e);

/* Moves FROM (below RUNTIME/run) to RUNTIME/odd, where the newest RUN_ODD_KEPT are kept. Fills
 * KEPT with "odd/NAME", or with why it could not be kept, which must stop nobody. */
#define RUN_KEPT_MAX 512
void run_set_aside(const struct run_env *env, const char *from, char kept[RUN_KEPT_MAX]);

/* --- Execs --- */

void run_exec_answer(struct run *r, const struct init_event *event, int fd);
void run_execs_fail(struct run *r);

#endif
