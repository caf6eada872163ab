/* starts.h - the starts that are due. One is made in a turn of the loop, so that a thousand of them
 * (a scale, a slug that has arrived, a crash of all) keep nothing else waiting: not what the
 * started ones say, nor the API, nor a stop. The first of a turn is made at once: a start that is
 * alone waits for nothing. Those in the queue
 * wait for what other processes make ahead meanwhile: networks and scratches. */
#ifndef CORE_STARTS_H
#define CORE_STARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

struct agent;
struct dyno;
TAILQ_HEAD(start_queue, dyno);

struct starts {
    struct agent *agent;
    struct start_queue queue; /* in the order in which they became due */
    unsigned n;
    uint64_t made_in;          /* the turn of the loop that has had its start */
    sd_event_source *turn;     /* deferred: the next one */
    sd_event_source *patience; /* timer: what is made ahead for it does not come */
    bool waits, impatient;
};

void starts_init(struct starts *s, struct agent *a);
/* The agent's ids are open: from now on it hears of scratches. */
void starts_open(struct starts *s);
void starts_done(struct starts *s);
/* D is provisioned: DEV_SLUG_READY, now or in a turn to come. D may be freed in it. */
void starts_add(struct starts *s, struct dyno *d);
/* What is made ahead (networks, scratches): as many as there are starts in the queue, or spares to
 * be made. */
void starts_stock(struct starts *s);
/* Something of that may be ready, or will not be. */
void starts_kick(struct starts *s);
/* D is not to start, if it was. */
void starts_drop(struct starts *s, struct dyno *d);

#endif
