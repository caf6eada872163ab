/* agent_priv.h - the inside of struct agent, for agent*.c, dyno*.c and attach.c. */
#ifndef CORE_AGENT_PRIV_H
#define CORE_AGENT_PRIV_H

#include "core/agent.h"
#include "core/drain.h"
#include "core/events.h"
#include "core/slugs/fetcher.h"
#include "core/host/ids.h"
#include "core/state/journal.h"
#include "core/logger.h"
#include "core/state/model.h"
#include "core/host/netstock.h"
#include "core/run/run.h"
#include "core/policy/slots.h"
#include "core/run/spares.h"
#include "core/starts.h"
#include "core/host/sweeper.h"
#include "slug/cache.h"

#include <sys/queue.h>

TAILQ_HEAD(dyno_list, dyno);

/* A run whose dyno has gone on without it: it is being cleaned up. */
struct ending {
    LIST_ENTRY(ending) link;
    struct agent *agent;
    struct run *run;
};

struct agent {
    sd_event *loop;
    struct config config;
    bool rootless;
    uint64_t started_boot, started_real;
    struct sandbox *sandbox;
    struct cgroup_tree *cgroups;
    struct scratches *scratches;
    struct cache *cache;
    struct model *model;
    struct journal *journal;
    struct events *events;
    struct logger *logger;
    struct fetcher *fetcher;
    struct slugs *slugs; /* slugs.h */
    struct sweeper *sweeper;
    struct run_env env;
    struct slots uids, ports;
    struct ids ids; /* root only */
    struct spares spares;
    struct starts starts;
    uid_t slug_owner;
    int state_dirfd, logs_dirfd;
    int diag_fd;       /* ready.h */
    int claims_fd;     /* claims.h; -1: none */
    struct net *net;   /* network.h; NULL: dynos share the host's */
    struct slots nets; /* of NET */
    struct network_guard {
        sd_event_source *changed, *again; /* somebody changed the rules; the next try */
        unsigned restored;                /* how often they were put back, */
        uint64_t restored_at;             /* the last time, CLOCK_REALTIME in microseconds */
        struct err missing;               /* errnum: why they are not in place now */
    } guard;
    struct netstock netstock;
    struct dyno_list dynos;
    unsigned n_dynos;
    LIST_HEAD(, ending) endings;
    LIST_HEAD(, prefetch) prefetches;
    bool forgetful;                  /* part of the journal was lost: see dyno->held */
    sd_event_source *reconcile_soon; /* deferred: one pass however many changes */
    sd_event_source *sample;         /* timer "sample": R14, while anything runs */
    sd_event_source *drained;        /* deferred: all dynos are down, in a shutdown */
    bool shutting_down;              /* every dyno is being stopped, then the loop ends */
    struct link *link;               /* link.h; NULL: there is nobody to speak to */
    struct drain_watch drain;
    bool full;       /* dynos_max: said so */
    size_t withheld; /* wanted dynos that a lost controller keeps from running (stop_after) */
    sd_event_source *contact_lost; /* timer: the next of them */
    LIST_HEAD(, warming) warmings; /* slugs that are fetched ahead: warm.h */
    unsigned n_warmings;
    uint64_t last_warming; /* its number */
};

/* What A has on this machine, as config says. Borrows from A. */
struct claims agent_claims(const struct agent *a);

/* Acts on the difference between desired and actual at the next turn of the loop. */
void agent_reconcile_soon(struct agent *a);
/* Applies ENTRY to the desired state and has it acted on. */
int agent_change(struct agent *a, const json_t *entry, json_t **ret_entry, struct err *e);
/* Somebody who knows has spoken about APP: its dynos are not held any more (dyno.h). Whether any
 * was. */
bool agent_release_held(struct agent *a, const char *app);
struct dyno *agent_find_dyno(struct agent *a, const struct dyno_name *name);
/* An event of KIND about a dyno or (DYNO NULL) the agent; FIELDS (taken, may be NULL) go into it.
 */
void agent_event(struct agent *a, const char *kind, const struct dyno_name *dyno, json_t *fields);
/* The run that has this id, of a dyno or ending; NULL. */
struct run *agent_find_run(struct agent *a, const char *id);
/* RUN (taken) has ended and cleans up without its dyno. */
void agent_adopt_ending(struct agent *a, struct run *run);
/* What is left of a run that is no dyno's any more; NULL: the next agent tries again. */
struct run *agent_adopt_remains(struct agent *a, const struct run_trace *t);
/* Frees them all; they go on, for the next agent. */
void agent_endings_done(struct agent *a);
/* Adopts what every trace in RUNTIME/run tells of, and sweeps what none does. Fails when we lack
 * the means: to go on would be to start a second one of what may run. */
int agent_adopt_all(struct agent *a, struct err *e);
/* A trace (by its run's id, "": none) that no dyno wants to remember any more. */
void agent_drop_tomb(struct agent *a, const char *id);
/* Starts the sampling timer if it is not running. */
void agent_sample_soon(struct agent *a);
/* Makes the release of APP known by what a fetch, or the cache, says it holds. */
int agent_resolve(struct agent *a, const struct app *app, const struct digest *digest,
                  const json_t *meta, struct err *e);
/* agent_run() with the number NUM (0: any that is free) for the controller's command BY (model.h;
 * borrowed), or else for CALLER. */
int agent_run_by(struct agent *a, const char *app, const json_t *spec, unsigned num,
                 const struct caller *caller, json_t *by, const struct attach_ops *ops,
                 void *userdata, struct attach **ret_attach, json_t **ret, struct err *e);
/* All dynos that run, after a shutdown was asked for, are gone. */
void agent_check_drained(struct agent *a);

/* --- What the controller hears of: report.c. All of these are cheap, and nothing without a link.
 * --- */

/* Anything that a DYNO object (docs/protocol.md) shows may have changed. */
void agent_dyno_changed(struct agent *a, const struct dyno *d);
void agent_dyno_gone(struct agent *a, const struct dyno_name *name);
/* D has ended, or could not be started. RUN_ID: "" when there was no process. FIELDS (borrowed):
 * the "exit" event's. Call it before that event is written: who dies between the two reports the
 * same exit, by its id, again. */
void agent_dyno_exited(struct agent *a, const struct dyno *d, const char *run_id, json_t *fields);
/* A controller is configured: routers follow what we report, so route_drain applies. */
bool agent_routed(const struct agent *a);
/* When a controller last answered, as CLOCK_BOOTTIME usec; survives the agent, not the boot.
 * Before the first one: when the agent started. 0: no controller is configured. */
uint64_t agent_last_contact(const struct agent *a);

#endif
