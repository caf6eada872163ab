/* spares.h - sandboxes that are kept ready (`spares = N`), so that a start has to wait only for
 * what depends on the dyno (isolate/sandbox.h, "Spares"). Each is used once.
 *
 * A spare has what a run will need: an id, a host uid, a cgroup, a scratch of the default size, its
 * sockets and its exit record in RUNTIME/spare/ID; a run takes all of that over and keeps the id.
 * Spares are made when nothing else waits in the loop, one after the other. They go with the agent:
 * each is a dyno-init that ends when its socket is closed, and what a killed agent left of them is
 * swept by the next (spares_open(), run_sweep()), which knows no run of theirs.
 *
 * Half of them (rounded down) are dressed: made for a slug that was started lately (dress.h), with
 * the limits that its dynos have. A start gets one that was dressed for just that, else one that is
 * not dressed. A dressed one is no use of its slug that would keep it in the cache: it goes when
 * the slug does, when no app is to run it any more, and when another's share of the starts has
 * become larger.
 *
 * When memory is short (shortage.h, `spares_keep_free`) all go, and none is made until it is over;
 * what waits there is worth less than what works. Each such episode is told once, as an event and
 * in the log. */
#ifndef CORE_SPARES_H
#define CORE_SPARES_H

#include "core/run/dress.h"
#include "core/run/run.h"

#include <sys/queue.h>

struct agent;

struct spare {
    TAILQ_ENTRY(spare) link;
    struct spares *all;
    char id[RUN_ID_MAX];
    struct spare_cut cut;
    struct dress_key key; /* of a dressed one; without a digest: of none */
    uid_t uid;            /* 0: rootless */
    int userns_fd;        /* -1: rootless */
    uint32_t slot;        /* of its network; 0: the host's */
    int dirfd;            /* RUNTIME/spare/ID */
    struct cgroup *cgroup;
    struct spawned child;
    int ctl, log_read;
    bool dying;
    unsigned tries; /* to remove its cgroup */
    sd_event_source *on_end, *timer;
};
TAILQ_HEAD(spare_list, spare);

struct spares {
    struct agent *agent;
    struct run_env *env; /* the agent's; NULL: not open */
    struct limits limits;
    unsigned asked;                      /* by spares_want() */
    unsigned wanted, n_ready, n_dressed; /* 0 while memory is short; n_dressed of n_ready */
    struct spare_list ready, dying;
    struct dress dress;
    uint64_t rest_until; /* boot usec: none is made before */
    bool closing;        /* the loop does not run any more */
    int dirfd;           /* RUNTIME/spare */
    sd_event_source *refill;
    uint64_t keep_free; /* bytes of memory; 0: it is never short */
    bool memory_short;
    uint64_t looked_at;     /* boot usec */
    sd_event_source *watch; /* looks at the memory, while any are wanted */
    bool complained;        /* that none can be made, since the last that could */
    /* Since the agent started. */
    uint64_t made, taken, taken_dressed;
    uint64_t empty, unfit; /* starts without one: none was ready; its size differs in what a spare
                            * cannot change any more */
    uint64_t lost;         /* that died, or failed when they were taken */
    uint64_t made_usec;    /* what the last one took, the loop standing still */
};

/* LIMITS: the default size's. Removes an earlier agent's. Makes none yet. */
int spares_open(struct spares *s, struct agent *a, const struct limits *limits, struct err *e);
/* Ends all, and waits for that: a few ms each. */
void spares_done(struct spares *s);
/* From now on N are kept ready; what is too many goes. */
void spares_want(struct spares *s, unsigned n);
/* Makes what is missing, soon, when the loop has nothing better to do. */
void spares_refill(struct spares *s);
/* Their uids and disk are needed: all go, and none is made for a while. How many are on their way
 * out; what they have is free when it is 0. */
unsigned spares_shed(struct spares *s);

/* A dyno with LIMITS runs from DIGEST: that is what the next are dressed for. */
void spares_note(struct spares *s, const struct digest *digest, const struct limits *limits);
/* DIGEST leaves the cache: those that are dressed for it go now. */
void spares_drop_slug(struct spares *s, const struct digest *digest);
/* Those that are dressed for what no app is to run any more go. */
void spares_review(struct spares *s);

/* One for a dyno with LIMITS that runs from SLUG_FD (-1: nothing), the caller's; NULL: none. */
struct spare *spares_take(struct spares *s, const struct limits *limits, int slug_fd);
/* Taken, and all that was to be had of it is somebody's: frees the rest. */
void spare_used(struct spare *spare);
/* Taken, and of no use: whatever it still has is removed, in its own time. */
void spare_end(struct spare *spare);

/* For the API. NULL: no memory. */
json_t *spares_json(const struct spares *s);

#endif
