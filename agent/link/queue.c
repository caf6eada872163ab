#include "link/queue.h"

#include "base/frame.h"
#include "base/linkproto.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

enum kind { KIND_EXIT, KIND_RESULT, KIND_NOTICE };

struct item {
    TAILQ_ENTRY(item) link;
    enum kind kind;
    json_t *json;
    size_t bytes;
    uint64_t number; /* from 1, over all kinds */
};

TAILQ_HEAD(items, item);

struct queue {
    struct items exits;
    struct items others;
    size_t n_exits;
    size_t n_others;
    size_t bytes;
    json_t *ids; /* of the exits */
    uint64_t last;
    uint64_t dropped;
};

int queue_new(struct queue **ret, struct err *e)
{
    struct queue *q = calloc(1, sizeof(*q));

    if (!q || !(q->ids = json_object())) {
        free(q);
        return err_set(e, ENOMEM, "make the queue of reports");
    }
    TAILQ_INIT(&q->exits);
    TAILQ_INIT(&q->others);
    *ret = q;
    return 0;
}

static void item_remove(struct queue *q, struct item *i)
{
    q->bytes -= i->bytes;
    if (i->kind == KIND_EXIT) {
        (void)json_object_del(q->ids, json_str(i->json, "id", "")); /* it is there */
        TAILQ_REMOVE(&q->exits, i, link);
        q->n_exits--;
    } else {
        TAILQ_REMOVE(&q->others, i, link);
        q->n_others--;
    }
    json_decref(i->json);
    free(i);
}

void queue_freep(struct queue **qp)
{
    struct queue *q = *qp;
    struct item *i;

    if (!q)
        return;
    while ((i = TAILQ_FIRST(&q->exits)) || (i = TAILQ_FIRST(&q->others)))
        item_remove(q, i);
    json_decref(q->ids);
    free(q);
    *qp = NULL;
}

static void drop(struct queue *q, struct item *i)
{
    item_remove(q, i);
    q->dropped++;
}

/* Back within the limits. What has just come stays: it is not over them by itself. */
static void limit(struct queue *q)
{
    while (q->n_others > QUEUE_OTHERS_MAX)
        drop(q, TAILQ_FIRST(&q->others));
    while (q->n_exits > QUEUE_EXITS_MAX)
        drop(q, TAILQ_FIRST(&q->exits));
    while (q->bytes > QUEUE_BYTES_MAX && q->n_exits + q->n_others > 1)
        drop(q, q->n_others > 0 ? TAILQ_FIRST(&q->others) : TAILQ_FIRST(&q->exits));
}

static int add(struct queue *q, enum kind kind, json_t *json, struct err *e)
{
    struct item *i = calloc(1, sizeof(*i));

    if (!i)
        return err_set(e, ENOMEM, "queue a report");
    i->kind = kind;
    i->json = json_incref(json);
    i->bytes = json_dumpb(json, NULL, 0, JSON_COMPACT);
    i->number = ++q->last;
    q->bytes += i->bytes;
    if (kind == KIND_EXIT) {
        TAILQ_INSERT_TAIL(&q->exits, i, link);
        q->n_exits++;
    } else {
        TAILQ_INSERT_TAIL(&q->others, i, link);
        q->n_others++;
    }
    limit(q);
    return 0;
}

int queue_exit(struct queue *q, json_t *exit, struct err *e)
{
    const char *id = json_str(exit, "id", "");

    if (!*id || strlen(id) > LINK_EXIT_ID_MAX)
        return err_say(e, EINVAL, "an exit without an id");
    if (json_object_get(q->ids, id))
        return 0;
    if (json_object_set_new(q->ids, id, json_true()) < 0)
        return err_set(e, ENOMEM, "queue an exit");
    return add(q, KIND_EXIT, exit, e);
}

int queue_result(struct queue *q, json_t *result, struct err *e)
{
    return add(q, KIND_RESULT, result, e);
}

int queue_notice(struct queue *q, json_t *notice, struct err *e)
{
    return add(q, KIND_NOTICE, notice, e);
}

size_t queue_waiting(const struct queue *q)
{
    return q->n_exits + q->n_others;
}

uint64_t queue_dropped(const struct queue *q)
{
    return q->dropped;
}

void batch_done(struct batch *b)
{
    json_decref(b->exits);
    json_decref(b->results);
    json_decref(b->notices);
    *b = (struct batch){0};
}

/* Puts I into B if there is room. */
static bool take(struct batch *b, const struct item *i, size_t *bytes, bool *failed)
{
    size_t n =
        json_array_size(b->exits) + json_array_size(b->results) + json_array_size(b->notices);
    json_t *into = i->kind == KIND_EXIT     ? b->exits
                   : i->kind == KIND_RESULT ? b->results
                                            : b->notices;

    if (n == BATCH_ITEMS_MAX || (n > 0 && *bytes + i->bytes > BATCH_BYTES_MAX))
        return false;
    *bytes += i->bytes;
    *failed = *failed || json_array_append(into, i->json) < 0;
    return !*failed;
}

int queue_peek(const struct queue *q, struct batch *ret, struct err *e)
{
    struct batch b = {.exits = json_array(), .results = json_array(), .notices = json_array()};
    bool failed = !b.exits || !b.results || !b.notices;
    const struct item *i;
    size_t bytes = 0;

    TAILQ_FOREACH (i, &q->exits, link) {
        if (failed || !take(&b, i, &bytes, &failed))
            break;
        b.last_exit = i->number;
    }
    TAILQ_FOREACH (i, &q->others, link) {
        if (failed || !take(&b, i, &bytes, &failed))
            break;
        b.last_other = i->number;
    }
    if (failed) {
        batch_done(&b);
        return err_set(e, ENOMEM, "make a report");
    }
    *ret = b;
    return 0;
}

void queue_acked(struct queue *q, const struct batch *b)
{
    struct item *i;

    while ((i = TAILQ_FIRST(&q->exits)) && i->number <= b->last_exit)
        item_remove(q, i);
    while ((i = TAILQ_FIRST(&q->others)) && i->number <= b->last_other)
        item_remove(q, i);
}
