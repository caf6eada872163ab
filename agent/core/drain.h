/* drain.h - an instance that is being emptied: nothing is started on it, what runs may run on until
 * its replacement is up elsewhere, and gets SIGTERM in time before the deadline. That it drains is
 * in the journal; what belongs to this boot only is in RUNTIME/drain.
 *
 * When all get SIGTERM (drain_term_at()):
 * - where a controller is configured, stop_grace + route_drain + DRAIN_MARGIN before the deadline;
 *   a drain without one gets the configuration's drain_deadline;
 * - by hand where no controller is: at once, as nobody brings up replacements;
 * - for the instance's own end where no controller is: as late as with one, or at once when no
 *   deadline is known. A rebalance recommendation or a maintenance without a date then only is
 *   told of: nothing would be won.
 *
 * Deadlines are kept on the boot clock, so a clock that jumps moves none; one that is more than
 * DRAIN_DEADLINE_MAX away counts as so far away. */
#ifndef CORE_DRAIN_H
#define CORE_DRAIN_H

#include "core/agent.h"
#include "core/state/model.h"

#define DRAIN_MARGIN       (5 * USEC_PER_SEC)
#define DRAIN_DEADLINE_MAX (24 * 3600 * USEC_PER_SEC)
#define DRAIN_NOTE_MAX     128 /* of what an interruption is known by: its kind and deadline */

/* Of the agent. */
struct drain_watch {
    char epoch[17];         /* this boot */
    uint64_t deadline_boot; /* 0: none */
    sd_event_source *timer; /* "drain" */
    bool terminating;       /* everything is told to stop */
    bool told_empty;
    char seen[DRAIN_NOTE_MAX];   /* the last interruption that was told of */
    char undone[DRAIN_NOTE_MAX]; /* one that `undrain` was said about: it drains us no more */
};

/* --- Pure --- */

struct drain_facts {
    bool routed;            /* a controller is configured */
    bool interruption;      /* the instance itself is about to go */
    uint64_t deadline_boot; /* 0: none */
    uint64_t lead;          /* what a stop may take */
    uint64_t now_boot;
};
uint64_t drain_term_at(const struct drain_facts *f);
/* A stamp on the other clock; past ones are now. */
uint64_t drain_boot_of(uint64_t deadline_real, uint64_t now_real, uint64_t now_boot);
/* spot, rebalance, maintenance, autoscaling. */
bool drain_is_interruption(const char *reason);
/* RFC 3339, with any zone. -EINVAL. */
int drain_parse_time(const char *text, uint64_t *ret_real);

/* --- */

/* "6f0c1b2d…", 16 digits that are others after each boot. */
int drain_epoch(char out[17], struct err *e);

/* A drain goes on that an earlier agent began; one for the end of an earlier boot is over. */
void drain_open(struct agent *a);
void drain_close(struct agent *a);

/* The entry that drains for REASON (a word); DEADLINE real usec, 0: none given. NULL with 0: it
 * drains so already. FIRM: an operator or controller says so, who may also put it off. */
int drain_entry(struct agent *a, const char *reason, uint64_t deadline, bool firm, json_t **ret,
                struct err *e);
/* Journals ENTRY ("drain" or "undrain", perhaps with a "by"; borrowed) and acts on it. */
int drain_apply(struct agent *a, const json_t *entry, struct err *e);

/* The metadata says that the instance will go. DEADLINE: real usec, 0: not known. */
void drain_interrupted(struct agent *a, const char *kind, uint64_t deadline, const char *text);

/* Nothing is wanted here any more. */
bool drain_terminating(const struct agent *a);
/* After each reconciliation: tells once when the instance is empty. */
void drain_check_empty(struct agent *a);

/* {"draining", "deadline", "reason"} */
json_t *drain_json(const struct agent *a);

#endif
