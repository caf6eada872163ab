/* outbox.h - exits that no controller has acknowledged yet: STATE/exits.jsonl. Each is told at
 * least once, across restarts of the agent and of dynod-link; the same id is the same exit.
 *
 * The file: a first line {"dynod-exits": VERSION}, then {"exit": EXIT} and {"ack": [ID, …]}, each
 * appended with one write and rewritten whole when most of it is history. A torn or unreadable line
 * costs that line; a file from a later version is set aside, and said so. Where the disk is full an
 * exit is kept in memory and written with the next change. 0600. One write(2) a change, no sync: an
 * instance that lost its power lost its dynos too. */
#ifndef CORE_OUTBOX_H
#define CORE_OUTBOX_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_FILE       "exits.jsonl"
#define OUTBOX_VERSION    1
#define OUTBOX_LINE_MAX   (64u << 10)  /* bytes; a longer exit loses its evidence */
#define OUTBOX_FILE_MAX   (512u << 20) /* of a file that is read at all */
#define OUTBOX_COMPACT_AT (256u << 10) /* bytes, and twice what is still waiting */

struct outbox;

/* Reads OUTBOX_FILE below DIRFD (borrowed; must stay open). At most MAX exits are kept, the oldest
 * go. *ret_notice: NULL, or what was lost or set aside, in words, to be freed. */
int outbox_open(int dirfd, size_t max, struct outbox **ret, char **ret_notice, struct err *e);
void outbox_freep(struct outbox **o);

/* EXIT (borrowed) has a string "id"; one that waits already is kept as it is. An error says that it
 * is in memory only, for now. */
int outbox_add(struct outbox *o, const json_t *exit, struct err *e);
/* The controller has these. Unknown ones are fine: each may be acknowledged twice. */
int outbox_ack(struct outbox *o, const json_t *ids, struct err *e);

size_t outbox_waiting(const struct outbox *o);
/* How many went unacknowledged for want of room, since it was opened. */
uint64_t outbox_dropped(const struct outbox *o);
/* Some of it is in memory only. */
bool outbox_unsaved(const struct outbox *o);
/* Tries again to write what is in memory only. */
int outbox_save(struct outbox *o, struct err *e);

/* The oldest that was not given out since outbox_rewind(); NULL: none, or as many are out as may be
 * (OUTBOX_WINDOW). Borrowed. */
#define OUTBOX_WINDOW 1000
const json_t *outbox_next(struct outbox *o);
/* Whoever had them is gone: all are given out anew. */
void outbox_rewind(struct outbox *o);

#endif
