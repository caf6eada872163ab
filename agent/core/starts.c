#include "core/starts.h"

#include "base/log.h"
#include "core/dyno.h"

#include <assert.h>

void starts_init(struct starts *s, struct agent *a)
{
    *s = (struct starts){.agent = a, .made_in = UINT64_MAX};
    TAILQ_INIT(&s->queue);
}

void starts_done(struct starts *s)
{
    s->turn = sd_event_source_disable_unref(s->turn);
}

static uint64_t this_turn(const struct starts *s)
{
    uint64_t turn = 0;

    (void)sd_event_get_iteration(s->agent->loop, &turn); /* it is our loop, in our process */
    return turn;
}

static int on_turn(sd_event_source *source, void *userdata);

/* All that is pending now comes before the next turn: the loop takes equals in the order in which
 * they became pending. sd_event_source_set_priority(3) */
static void ask_for_turn(struct starts *s)
{
    int r = s->turn ? 0 : sd_event_add_defer(s->agent->loop, &s->turn, on_turn, s);

    if (r >= 0)
        r = sd_event_source_set_enabled(s->turn, SD_EVENT_ONESHOT);
    if (r < 0)
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

static int on_turn(sd_event_source *source, void *userdata)
{
    struct starts *s = userdata;
    struct dyno *d = TAILQ_FIRST(&s->queue);

    (void)source;
    if (!d)
        return 0;
    starts_drop(s, d);
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
    ask_for_turn(s);
}
