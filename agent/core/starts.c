#include "core/starts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "core/dyno.h"

#include <assert.h>

#define AHEAD_MAX NETSTOCK_MAX
#define PATIENCE  (500 * USEC_PER_MSEC) /* then a start makes what it needs itself */

void starts_init(struct starts *s, struct agent *a)
{
    *s = (struct starts){.agent = a, .made_in = UINT64_MAX};
    TAILQ_INIT(&s->queue);
}

void starts_done(struct starts *s)
{
    s->turn = sd_event_source_disable_unref(s->turn);
    s->patience = sd_event_source_disable_unref(s->patience);
}

static uint64_t this_turn(const struct starts *s)
{
    uint64_t turn = 0;

    (void)sd_event_get_iteration(s->agent->loop, &turn); /* it is our loop, in our process */
    return turn;
}

static int on_turn(sd_event_source *source, void *userdata);

/* All that is pending now comes before the next turn: of equals the loop takes what has been pending
 * for longest. So it is a new source each time; one that is only enabled again has been pending ever
 * since it was made (sd_event_add_defer(3)), and would come before all else. */
static void ask_for_turn(struct starts *s)
{
    s->turn = sd_event_source_disable_unref(s->turn);
    if (sd_event_add_defer(s->agent->loop, &s->turn, on_turn, s) < 0)
        log_err("starts: no memory");
}

void starts_drop(struct starts *s, struct dyno *d)
{
    if (!d->due)
        return;
    TAILQ_REMOVE(&s->queue, d, next_due);
    d->due = false;
    s->n--;
}

void starts_stock(struct starts *s)
{
    struct agent *a = s->agent;
    unsigned n = s->n > a->spares.wanted ? s->n : a->spares.wanted;

    if (n > AHEAD_MAX)
        n = AHEAD_MAX;
    netstock_want(&a->netstock, n);
    if (!a->rootless)
        ids_want(&a->ids, n);
}

static bool must_wait(const struct starts *s)
{
    return netstock_coming(&s->agent->netstock) || ids_coming(&s->agent->ids);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct starts *s = userdata;

    (void)source;
    (void)usec;
    s->impatient = true; /* the next one makes its own */
    starts_kick(s);
    return 0;
}

void starts_kick(struct starts *s)
{
    if (!s->waits || (must_wait(s) && !s->impatient))
        return;
    s->waits = false;
    (void)timer_set(s->agent->loop, &s->patience, "start-patience", USEC_NEVER, NULL, NULL);
    if (s->n > 0)
        ask_for_turn(s);
}

static void on_scratch(void *userdata)
{
    starts_kick(userdata);
}

void starts_open(struct starts *s)
{
    s->agent->ids.heard = on_scratch;
    s->agent->ids.userdata = s;
}

/* Whether the next start has to wait. Without a timer it does not. */
static bool wait_for_stock(struct starts *s)
{
    if (s->impatient || !must_wait(s))
        return false;
    s->waits = timer_set(s->agent->loop, &s->patience, "start-patience", clock_boot() + PATIENCE,
                         on_patience, s) >= 0;
    return s->waits;
}

static int on_turn(sd_event_source *source, void *userdata)
{
    struct starts *s = userdata;
    struct dyno *d = TAILQ_FIRST(&s->queue);

    (void)source;
    if (!d || wait_for_stock(s))
        return 0;
    s->impatient = false;
    starts_drop(s, d);
    starts_stock(s);
    if (s->n > 0)
        ask_for_turn(s);
    s->made_in = this_turn(s);
    dyno_provisioned(d);
    return 0;
}

void starts_add(struct starts *s, struct dyno *d)
{
    assert(!d->due);
    if (s->n == 0 && s->made_in != this_turn(s)) {
        s->made_in = this_turn(s);
        dyno_provisioned(d);
        return;
    }
    TAILQ_INSERT_TAIL(&s->queue, d, next_due);
    d->due = true;
    s->n++;
    starts_stock(s);
    if (!s->waits)
        ask_for_turn(s);
}
