/* queue.h - what waits to be reported: exits, results, notices. Bounded: of the results and notices
 * the oldest goes first, also where room is wanted for exits; what goes is counted. An exit leaves
 * when it is acknowledged. No I/O. */
#ifndef LINK_QUEUE_H
#define LINK_QUEUE_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define QUEUE_OTHERS_MAX 1000         /* results and notices together */
#define QUEUE_EXITS_MAX  10000        /* dynod has them on disk and gives out fewer at a time */
#define QUEUE_BYTES_MAX  (64u << 20)  /* of all, as JSON text */
#define BATCH_ITEMS_MAX  500          /* in one report */
#define BATCH_BYTES_MAX  (512u << 10) /* in one report; one item alone may be larger */

struct queue;

int queue_new(struct queue **ret, struct err *e);
void queue_freep(struct queue **q);

/* EXIT (borrowed) has a string "id"; one that waits already is left as it is. */
int queue_exit(struct queue *q, json_t *exit, struct err *e);
int queue_result(struct queue *q, json_t *result, struct err *e);
int queue_notice(struct queue *q, json_t *notice, struct err *e);

size_t queue_waiting(const struct queue *q);
/* How many went unreported, ever. */
uint64_t queue_dropped(const struct queue *q);

/* What one report takes: arrays, some may be empty. */
struct batch {
    json_t *exits, *results, *notices;
    uint64_t last_exit, last_other; /* the queue's numbers of the last ones; 0: none */
};
void batch_done(struct batch *b);

/* The oldest, exits first; they stay in the queue. */
int queue_peek(const struct queue *q, struct batch *ret, struct err *e);
/* What queue_peek() gave has been acknowledged. */
void queue_acked(struct queue *q, const struct batch *b);

#endif
