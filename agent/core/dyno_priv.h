/* dyno_priv.h - what the parts of one dyno share. dyno*.c only. */
#ifndef CORE_DYNO_PRIV_H
#define CORE_DYNO_PRIV_H

#include "core/dyno.h"

#define R15_LINE "Error R15 (Memory quota vastly exceeded)"

/* A line of the platform's in the app's log. */
#define dyno_line(d, ...)                                                                          \
    do {                                                                                           \
        char line_name_[DYNO_TEXT_MAX];                                                            \
        logger_line((d)->agent->logger, dyno_name_text(&(d)->name, line_name_), __VA_ARGS__);      \
    } while (0)

/* DEV_DEADLINE at AT_BOOT (usec), in place of any earlier one; USEC_NEVER: none. */
void dyno_set_deadline(struct dyno *d, uint64_t at_boot);
/* It has to listen on its port to be up. */
bool dyno_is_web(const struct dyno *d);

/* --- dyno_end.c --- */

/* Classifies the end, tells the controller's outbox, the events, the run's own record and the
 * platform's log of it, in the order that a death in between needs; ends the attached client's
 * wait. */
void dyno_record_end(struct dyno *d);
/* The run is over for this dyno: it cleans up by itself. Nothing when there is none. */
void dyno_let_run_go(struct dyno *d);
/* It ended by itself: sets the deadline of its restart, if it gets one; restarts are for what may
 * go better the next time. WAS_UP: how long counts for the delay. While its run is still there. */
void dyno_plan_restart(struct dyno *d, bool was_up);

#endif
