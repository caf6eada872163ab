/* events.h - what happened: numbered, kept in memory and in a bounded file that survives the agent,
 * sent to whoever watches.
 *
 * The file is one JSON object a line and has no version: a line is kept and handed on as it is,
 * whatever kind it is of and whatever fields it has, as long as it has an "id" above the one before
 * it. So an older agent shows what a newer one wrote. Order is that of the ids; "t" is what the
 * machine's clock said, and that clock may have jumped. */
#ifndef CORE_EVENTS_H
#define CORE_EVENTS_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define EVENTS_KEPT     1000
#define EVENTS_FILE_MAX (2u << 20) /* bytes; then it becomes events.old */
#define EVENTS_ID_MAX                                                                              \
    (1ull << 52) /* that is believed of a line: a reader's double holds it, and                    \
                  * ids never run out after it */

struct events;

/* Reads the latest of DIRFD/events.jsonl (and .old) and goes on appending to it. DIRFD is borrowed
 * for E's life. A line that does not parse is skipped: a torn write. */
int events_open(int dirfd, struct events **ret, struct err *e);
void events_freep(struct events **ev);

/* Gives EVENT (taken) its "id" and "t", keeps and sends it. */
void events_emit(struct events *ev, json_t *event);
/* Sends EVENT (taken) to those who watch, with its "t" but without an "id", and keeps it nowhere:
 * what is worth nothing a moment later. */
void events_tell(struct events *ev, json_t *event);
/* Those after AFTER_ID, at most MAX, the newest of them. */
json_t *events_list(const struct events *ev, uint64_t after_id, size_t max);

struct event_watch;
typedef void (*event_fn)(void *userdata, const json_t *event);
/* FN may unwatch from within itself. */
int events_watch(struct events *ev, event_fn fn, void *userdata, struct event_watch **ret,
                 struct err *e);
void events_unwatch(struct event_watch *w);

#endif
