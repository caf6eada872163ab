#include "logs/msg.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTICE_DYNO "logplex" /* whose lines these are on the platform that apps know */

struct msg *msg_new(const char *app, const struct record *line)
{
    size_t size = record_size(line);
    struct msg *m = malloc(sizeof(*m) + size);

    if (!m)
        return NULL;
    m->refs = 1;
    m->size = size;
    (void)snprintf(m->app, sizeof(m->app), "%s", app);
    (void)record_encode(line, m->data);
    (void)record_decode(m->data, size, false, &m->line); /* what was just encoded */
    return m;
}

struct msg *msg_ref(struct msg *m)
{
    m->refs++;
    return m;
}

void msg_unref(struct msg *m)
{
    if (m && --m->refs == 0)
        free(m);
}

bool filter_app(const struct filter *f, const char *app)
{
    return !f->app[0] || !strcmp(f->app, app);
}

bool filter_line(const struct filter *f, const struct record *line)
{
    size_t len = strlen(f->dyno);

    if (!record_is_line(line) || (f->kind && f->kind != line->kind))
        return false;
    if (len == 0)
        return true;
    if (len > line->dyno_len || memcmp(line->dyno, f->dyno, len) != 0)
        return false;
    /* The name of a type has no dot, so "web" is never the start of another's. */
    return len == line->dyno_len || (line->dyno[len] == '.' && !strchr(f->dyno, '.'));
}

void queue_push(struct queue *q, struct msg *m, uint64_t now)
{
    if (q->count == QUEUE_MAX) {
        msg_unref(queue_pop(q));
        if (q->dropped++ == 0)
            q->dropped_since = now;
    }
    q->ring[(q->head + q->count) % QUEUE_MAX] = msg_ref(m);
    q->count++;
}

struct msg *queue_pop(struct queue *q)
{
    if (q->count == 0)
        return NULL;
    struct msg *m = q->ring[q->head];
    q->ring[q->head] = NULL;
    q->head = (q->head + 1) % QUEUE_MAX;
    q->count--;
    return m;
}

struct msg *queue_pop_notice(struct queue *q, const char *app, uint64_t now)
{
    char text[160], since[CLOCK_TEXT_MAX];

    if (q->dropped == 0)
        return NULL;
    int n = snprintf(text, sizeof(text),
                     "Error L10 (output buffer overflow): %" PRIu64 " messages dropped since %s.",
                     q->dropped, clock_text(q->dropped_since, since));
    struct msg *m = msg_new(app, &(struct record){.kind = RECORD_PLATFORM,
                                                  .t = now,
                                                  .dyno = NOTICE_DYNO,
                                                  .dyno_len = strlen(NOTICE_DYNO),
                                                  .text = text,
                                                  .text_len = (size_t)n});
    if (m)
        q->dropped = 0;
    return m;
}

void queue_done(struct queue *q)
{
    while (q->count > 0)
        msg_unref(queue_pop(q));
    *q = (struct queue){0};
}
