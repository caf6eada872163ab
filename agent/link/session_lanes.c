/* session_lanes.c - when a call is made, where to, and what follows from how it ended. */
#include "link/session_priv.h"

#include "base/log.h"
#include "link/backoff.h"

#include <stdlib.h>

static void lane_run(struct lane *lane);

const char *session_url(const struct session *s)
{
    return json_string_value(json_array_get(s->urls, s->current));
}

void lanes_init(struct session *s)
{
    for (int i = 0; i < LANES; i++)
        s->lanes[i] = (struct lane){.s = s, .type = lane_type(i), .timer_at = USEC_NEVER};
}

static void lane_cancel(struct lane *lane)
{
    if (lane->call)
        lane->s->backend->cancel(lane->call);
    lane->call = NULL;
}

void lanes_done(struct session *s)
{
    for (int i = 0; i < LANES; i++) {
        lane_cancel(&s->lanes[i]);
        sd_event_source_disable_unref(s->lanes[i].timer);
        json_decref(s->lanes[i].kinds);
    }
}

/* The registration is no more. One that forgets us as soon as it knows us is not asked in a loop.
 */
static void forgotten(struct session *s, uint64_t now)
{
    s->registered = false;
    for (int i = 0; i < LANES; i++)
        lane_cancel(&s->lanes[i]);
    if (++s->lost > 1)
        s->lanes[LANE_REGISTER].not_before = now + backoff_usec(s->lost - 2, random_u64());
}

/* The next URL is tried at once, with the session that there is; after all of them, once more,
 * comes a wait that grows. */
static void move_on(struct lane *lane, uint64_t now)
{
    struct session *s = lane->s;
    unsigned n = (unsigned)json_array_size(s->urls);

    if (lane->url == s->current) /* another lane may have moved on already */
        s->current = (s->current + 1) % n;
    lane->not_before =
        lane->fails % n == 0 ? now + backoff_usec(lane->fails / n - 1, random_u64()) : now;
}

static void lane_failed(struct lane *lane, const struct backend_reply *reply)
{
    struct session *s = lane->s;
    uint64_t now = clock_boot();

    lane->fails++;
    trouble_begins(lane, reply->kind, reply->why);
    switch (reply->code) {
    case BACKEND_FORGOTTEN:
        forgotten(s, now);
        break;
    case BACKEND_LATER:
        lane->not_before = now + reply->retry_after_usec;
        lane->told_to_wait = true;
        break;
    case BACKEND_DENIED:
        s->files_until = now + FILES_WAIT_USEC;
        s->ops->renew_files(s->userdata);
        move_on(lane, now);
        break;
    default:
        move_on(lane, now);
    }
}

static int on_contact_timer(sd_event_source *source, uint64_t usec, void *userdata);

/* Not more often than once a second, but the last one, after which there may be silence, always. */
static void tell_contact(struct session *s)
{
    uint64_t now = clock_boot();

    if (s->contact != 0 && now - s->contact < CONTACT_USEC) {
        (void)timer_set(s->loop, &s->contact_timer, "contact", s->contact + CONTACT_USEC,
                        on_contact_timer, s);
        return;
    }
    s->contact = now;
    s->ops->contact(s->userdata, s->timing.ttl_usec, now - s->answered);
}

static int on_contact_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct session *s = userdata;

    (void)source;
    (void)usec;
    tell_contact(s);
    return 0;
}

/* What kept the other lanes waiting may be over too; they find out now. */
static void wake_others(struct session *s)
{
    for (int i = 0; i < LANES; i++)
        if (!s->lanes[i].told_to_wait)
            s->lanes[i].not_before = 0;
}

static void on_reply(void *userdata, const struct backend_reply *reply)
{
    struct lane *lane = userdata;
    struct session *s = lane->s;

    lane->call = NULL;
    if (reply->code == BACKEND_OK) {
        if (lane->fails > 0 || lane == &s->lanes[LANE_REGISTER])
            wake_others(s);
        trouble_ends(lane);
        lane->fails = 0;
        if (lane != &s->lanes[LANE_REGISTER])
            s->lost = 0;
        lane->type->done(s, reply);
        s->answered = clock_boot();
        tell_contact(s);
    } else {
        lane_failed(lane, reply);
    }
    lanes_run(s);
    session_tell(s);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct lane *lane = userdata;

    (void)source;
    (void)usec;
    lane->timer_at = USEC_NEVER;
    lane_run(lane);
    return 0;
}

/* A timer that stands as it should is left alone. */
static void wake_at(struct lane *lane, uint64_t at)
{
    if (lane->timer_at == at)
        return;
    lane->timer_at = at;
    int r = timer_set(lane->s->loop, &lane->timer, lane->type->name, at, on_timer, lane);
    if (r < 0) { /* without memory: dynod starts another */
        log_err("set the timer of %s: no memory", lane->type->name);
        (void)sd_event_exit(lane->s->loop, 1);
    }
}

static void lane_send(struct lane *lane)
{
    struct session *s = lane->s;
    struct err e = ERR_INIT;
    struct backend_request rq = {
        .url = session_url(s),
        .session = s->id,
        .timing = &s->timing,
    };
    const backend_call_fn calls[LANES] = {
        [LANE_REGISTER] = s->backend->enlist,
        [LANE_COMMANDS] = s->backend->commands,
        [LANE_REPORT] = s->backend->report,
        [LANE_HEARTBEAT] = s->backend->heartbeat,
    };

    wake_at(lane, USEC_NEVER);
    lane->told_to_wait = false;
    lane->url = s->current;
    lane->sent = clock_boot();
    int r = lane->type->send(s, &rq, &e);
    if (r == 0)
        r = calls[lane - s->lanes](s->b, &rq, on_reply, lane, &lane->call, &e);
    json_decref(rq.body);
    if (r < 0)
        lane_failed(lane, &(struct backend_reply){BACKEND_FAILED, .why = &e, .kind = "memory"});
}

static void lane_run(struct lane *lane)
{
    struct session *s = lane->s;

    if (lane->call || !s->b)
        return;
    for (;;) {
        uint64_t at = lane->type->due(s), now = clock_boot();

        if (at != USEC_NEVER && at < lane->not_before)
            at = lane->not_before;
        if (at != USEC_NEVER && at < s->files_until)
            at = s->files_until;
        if (at > now) {
            wake_at(lane, at);
            return;
        }
        lane_send(lane);
        if (lane->call)
            return;
    }
}

void lanes_run(struct session *s)
{
    for (int i = 0; i < LANES; i++)
        lane_run(&s->lanes[i]);
}
