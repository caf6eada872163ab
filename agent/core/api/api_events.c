/* api_events.c - events as JSON lines, and followers of them. An event is written out once, however
 * many follow; each follower has a bounded queue of references to such lines. */
#include "core/api/api_priv.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* gcc's analyzer loses track of who holds it: a line belongs to the queues that hold it. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define EVENTS_N_DEFAULT 100
#define EVENTS_TYPE      "application/x-ndjson"

struct line {
    unsigned refs;
    size_t len;
    char *text;
};

struct follower {
    struct stream stream; /* first */
    struct follower *next;
    struct line *queue[API_EVENTS_QUEUE]; /* a ring */
    size_t head, n;
    size_t sent;      /* of the line at the head */
    uint64_t dropped; /* after the last queued line */
};

static void line_unref(struct line *l)
{
    if (!l || --l->refs > 0)
        return;
    free(l->text);
    free(l);
}

/* Takes TEXT's content. NULL without memory. */
static struct line *line_new(struct str *text)
{
    struct line *l = text->failed ? NULL : calloc(1, sizeof(*l));

    if (l)
        *l = (struct line){.refs = 1, .len = text->len, .text = TAKE_PTR(text->data)};
    str_done(text);
    return l;
}

static struct line *line_of(const json_t *json)
{
    struct str text = {0};

    if (json_line(&text, json) < 0)
        text.failed = true; /* a str that is there, a line that is not */
    return line_new(&text);
}

static void append(struct follower *f, struct line *l)
{
    f->queue[(f->head + f->n++) % API_EVENTS_QUEUE] = l;
}

/* Says in the queue what was dropped, at its place between the lines. */
static bool append_overflow(struct follower *f)
{
    struct str text = {0};

    str_addf(&text, "{\"kind\":\"overflow\",\"dropped\":%llu}\n", (unsigned long long)f->dropped);
    struct line *l = line_new(&text);
    if (!l)
        return false;
    append(f, l);
    f->dropped = 0;
    return true;
}

/* L may be NULL: an event that there was no memory for. */
static void follower_push(struct follower *f, struct line *l)
{
    size_t room = API_EVENTS_QUEUE - f->n, needed = f->dropped ? 2 : 1;

    if (!l || room < needed || (f->dropped && !append_overflow(f))) {
        f->dropped++;
    } else {
        l->refs++;
        append(f, l);
    }
    stream_wake(&f->stream);
}

static void on_event(void *userdata, const json_t *event)
{
    struct api *api = userdata;
    struct line *l = line_of(event);

    for (struct follower *f = api->followers; f; f = f->next)
        follower_push(f, l);
    line_unref(l);
}

static ssize_t follower_read(struct stream *s, char *buf, size_t max)
{
    struct follower *f = (struct follower *)s;
    size_t done = 0;

    if (f->n == 0 && f->dropped)
        (void)append_overflow(f); /* without memory it is told with the next event */
    while (f->n > 0 && done < max) {
        struct line *l = f->queue[f->head];
        size_t len = l->len - f->sent < max - done ? l->len - f->sent : max - done;

        memcpy(buf + done, l->text + f->sent, len);
        done += len;
        f->sent += len;
        if (f->sent < l->len)
            break;
        line_unref(l);
        f->sent = 0;
        f->head = (f->head + 1) % API_EVENTS_QUEUE;
        f->n--;
    }
    return (ssize_t)done;
}

static void follower_free(struct stream *s)
{
    struct follower *f = (struct follower *)s;
    struct api *api = s->rq->client->api;

    for (struct follower **p = &api->followers; *p; p = &(*p)->next) {
        if (*p == f) {
            *p = f->next;
            break;
        }
    }
    if (!api->followers && api->watch)
        agent_unwatch_events(TAKE_PTR(api->watch));
    for (; f->n > 0; f->n--, f->head = (f->head + 1) % API_EVENTS_QUEUE)
        line_unref(f->queue[f->head]);
    free(f);
}

static const struct stream_ops follower_ops = {follower_read, follower_free};

/* The events that are there, as text. */
static int past_events(const struct request *rq, struct str *ret, struct err *e)
{
    const struct params *p = &rq->params;
    uint64_t n = p->has_n ? p->n : p->has_after ? API_EVENTS_N_MAX : EVENTS_N_DEFAULT;
    const json_t *event;
    size_t i;

    if (n == 0)
        return 0;
    scoped(json_freep) json_t *events = agent_events(rq->client->api->agent, p->after, (size_t)n);
    if (!events)
        return err_set(e, ENOMEM, "list events");
    json_array_foreach (events, i, event)
        if (json_line(ret, event) < 0)
            return err_set(e, ENOMEM, "list events");
    return 0;
}

static int follow(struct request *rq, struct str *past, struct err *e)
{
    struct api *api = rq->client->api;
    struct follower *f;

    if (!api->watch) {
        int r = agent_watch_events(api->agent, on_event, api, &api->watch, e);

        if (r < 0)
            return r;
    }
    f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(e, ENOMEM, "follow events");
    if (past->len > 0) {
        struct line *l = line_new(past);

        if (!l) {
            free(f);
            return err_set(e, ENOMEM, "follow events");
        }
        append(f, l);
    }
    f->next = api->followers;
    api->followers = f;
    return stream_start(&f->stream, &follower_ops, rq, EVENTS_TYPE, e);
}

int route_events(struct request *rq, struct err *e)
{
    scoped(str_done) struct str past = {0};
    int r = past_events(rq, &past, e);

    if (r < 0)
        return r;
    if (rq->params.follow && !rq->head)
        return follow(rq, &past, e);
    size_t len = past.len;
    return reply_text(rq, EVENTS_TYPE, TAKE_PTR(past.data), len, e);
}
