/* dyno.h - one dyno of the agent: what its state machine (fsm.h) asks for is done here. */
#ifndef CORE_DYNO_H
#define CORE_DYNO_H

#include "core/agent_priv.h"
#include "core/attach.h"
#include "core/policy/cause.h"
#include "core/policy/fsm.h"
#include "core/policy/restart.h"
#include "core/usage.h"

#include <sys/queue.h>

struct dyno {
    TAILQ_ENTRY(dyno) link;
    TAILQ_ENTRY(dyno) next_due; /* starts.h */
    bool due;                   /* it is in that queue */
    struct agent *agent;
    struct dyno_name name;
    enum dyno_state state;
    uint64_t since_real, since_boot; /* of the state as it is told */
    uint64_t generation;
    unsigned release; /* version it was started for */
    bool oneoff;
    /* Adopted by an agent that lost part of the desired state: what seems not wanted may only be
     * forgotten, so it runs on until a command about its app comes (promise 7). */
    bool held;
    bool no_retry;   /* the slug is not what was promised: another try gets no other slug */
    bool adopted;    /* its run is an earlier agent's: no second "up" for it */
    uid_t uid;       /* host uid; 0: none */
    unsigned port;   /* 0: none */
    bool port_given; /* by the release (local mode): not ours to give back */
    int userns_fd;
    char size[32];
    char *command;         /* as shown; NULL until it was spawned */
    struct run *run;       /* NULL: none, or ended */
    struct digest slug;    /* what it runs from: */
    bool has_slug;         /* false: no slug (local mode), or */
    bool slug_unknown;     /* an older agent's, which did not write it down */
    char tomb[RUN_ID_MAX]; /* the run whose directory keeps the last end; "": none */
    struct fetch_waiter *fetch;
    sd_event_source *deadline; /* timer "dyno-deadline": boot, out of the route, grace, restart */
    sd_event_source *start;    /* deferred, of a one-off: the answer that it will be goes first */
    sd_event_source *poll;     /* timer "dyno-ready": is $PORT listened on yet */
    unsigned polls;
    int diag_fd;         /* ready.h, in its own network; -1: not open */
    bool published;      /* its port leads to its run: network.h */
    uint64_t restart_at; /* boot usec; 0: none */
    struct restart_state crashes;
    unsigned restarts;
    struct cpu_meter cpu;
    /* what the end will have to explain */
    bool told_to_stop, boot_timeout, exit_timeout, oom, detached, attach_failed;
    bool over;        /* it held more than its limit in what the kernel kills nobody for */
    bool machine_oom; /* it was killed because the machine had no memory */
    struct err failed;
    json_t *last_exit;     /* NULL: none yet */
    struct attach *attach; /* a one-off's client */
    struct terminal {
        bool tty;
        uint16_t rows, cols;
        char term[64];
    } terminal; /* of that client */
};

/* Makes a dyno for WANT, in DYNO_DOWN. -ENOSPC: the instance has as many as it may. */
int dyno_new(struct agent *a, const struct want *want, struct dyno **ret, struct err *e);
/* The same whatever the limit: for those that run already. */
int dyno_make(struct agent *a, const struct want *want, struct dyno **ret, struct err *e);
/* Makes one for what an earlier agent left; its run is adopted. NAME and RECORD as in the trace. */
int dyno_adopt(struct agent *a, const struct run_trace *trace, struct dyno **ret, struct err *e);
/* Frees it and takes it off the agent's list. Its run, if any, goes on without it. */
void dyno_free(struct dyno *d);
/* Starts it at the next turn of the loop: no callback may come from inside the call that made it.
 */
void dyno_start_soon(struct dyno *d);
/* Its delay is over, at the next turn of the loop: DEV_DEADLINE. */
void dyno_retry_soon(struct dyno *d);
/* For starts.h: the slug is there, and its turn has come. D may be freed in it. */
void dyno_provisioned(struct dyno *d);
/* Feeds EVENT to the state machine and does what it says. D may be freed in it. */
void dyno_event(struct dyno *d, enum dyno_event event);
/* Something happened to its memory: R14 once an episode. */
void dyno_sample(struct dyno *d);
/* dyno_disk.c: the same for its disk. */
void dyno_sample_disk(struct dyno *d);
/* What it has written. -ENODATA: it has no quota, or does not run. */
int dyno_disk(const struct dyno *d, struct scratch_usage *ret);
bool dyno_running(const struct dyno *d); /* a process of it exists */

/* (dyno_limits.c) It stands still, or runs on. -EALREADY: it is in no state for that. */
int dyno_pause(struct dyno *d, struct err *e);
int dyno_resume(struct dyno *d, struct err *e);
/* Every limit that SIZE has. */
void size_limits(const struct size *size, struct limits *ret);
/* The limits of the size NAME. -EINVAL, the operator's: there is none. */
int dyno_limits_of(const struct agent *a, const char *name, struct limits *ret, struct err *e);
/* The same limits that a start would get. */
int dyno_limits(const struct dyno *d, struct limits *ret, struct err *e);
/* Whether D can take on the size NAME while it runs. -EALREADY: it holds more memory than that has.
 */
int dyno_check_size(struct dyno *d, const char *name, struct err *e);
/* Gives D the size that is wanted for it, if that is another one; nothing for what does not run, or
 * belongs to another release. *ret_later as of run_resize(). */
int dyno_settle_size(struct dyno *d, unsigned *ret_later, struct err *e);

/* dyno_spawn.c: whose run a trace's "record" tells of. -EBADMSG. */
int dyno_name_of_record(const json_t *record, struct dyno_name *ret, struct err *e);
/* Makes its process. DYNO_SPAWN_LATER: not yet, others are making room for it. */
#define DYNO_SPAWN_LATER 1
int dyno_spawn(struct dyno *d, struct err *e);
extern const struct run_ops dyno_run_ops;

#endif
