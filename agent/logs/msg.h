/* msg.h - one line on its way to readers, shared by all of them; and the queue of one reader. Pure.
 */
#ifndef LOGS_MSG_H
#define LOGS_MSG_H

#include "base/name.h"
#include "logs/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msg {
    unsigned refs;
    char app[APP_NAME_MAX + 1];
    struct record line; /* points into DATA */
    size_t size;        /* of DATA */
    unsigned char data[];
};

/* A copy of LINE, with one reference. NULL: no memory. */
struct msg *msg_new(const char *app, const struct record *line);
struct msg *msg_ref(struct msg *m);
void msg_unref(struct msg *m); /* NULL is fine */

/* Which lines a reader wants. An empty string: any. */
struct filter {
    char app[APP_NAME_MAX + 1];
    char dyno[RECORD_DYNO_MAX + 1]; /* "web.1", or a type: "web" */
    enum record_kind kind;          /* RECORD_APP, RECORD_PLATFORM, or 0 */
};
bool filter_app(const struct filter *f, const char *app);
/* Whether LINE, of an app that the filter lets pass, passes too; what is no line does not. */
bool filter_line(const struct filter *f, const struct record *line);

#define QUEUE_MAX 1024u /* CONTRACT.md: messages kept for a reader that stalls */

/* The oldest is dropped for a new one when it is full; the dropped are counted. {0} is empty. */
struct queue {
    struct msg *ring[QUEUE_MAX];
    size_t head;
    size_t count;
    uint64_t dropped;
    uint64_t dropped_since; /* when the first of them was dropped, CLOCK_REALTIME */
};
void queue_push(struct queue *q, struct msg *m, uint64_t now); /* takes a reference of its own */
/* The oldest, with its reference; NULL: empty. */
struct msg *queue_pop(struct queue *q);
/* What to tell before the next message: an L10 line, with one reference, and the count starts anew.
 * NULL: nothing was dropped (or no memory: then it is told later). */
struct msg *queue_pop_notice(struct queue *q, const char *app, uint64_t now);
void queue_done(struct queue *q);

#endif
