#include "slug/fetch/unpack_ahead.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define STACK_BYTES (256u << 10)

/* The ring: FILLED counts up in the thread, TAKEN in the reader, and the buffers between the two
 * are full. A buffer is touched without the lock by the side that has it. */
struct ahead {
    struct stream s;
    struct stream *up;
    int (*idle)(void *userdata, struct err *e);
    void *userdata;

    pthread_t thread;
    bool running; /* the reader's: there is a thread to wait for */
    pthread_mutex_t lock;
    pthread_cond_t more; /* FILLED or ENDED has changed */
    pthread_cond_t room; /* TAKEN or STOPPED has changed */
    uint64_t filled, taken;
    bool ended;   /* nothing more will be filled, */
    bool failed;  /* because of WHY; else the stream is at its end */
    bool stopped; /* nothing more will be taken */
    struct err why;
    size_t lens[AHEAD_BUFFERS];
    bool holding; /* the reader's: a buffer is out */
    char *buffers;
};

static char *buffer_of(struct ahead *a, uint64_t i)
{
    return a->buffers + (i % AHEAD_BUFFERS) * (size_t)AHEAD_BUFFER_BYTES;
}

/* Waits for an empty buffer. False: stopped. */
static bool wait_room(struct ahead *a)
{
    bool stopped;

    pthread_mutex_lock(&a->lock);
    while (!a->stopped && a->filled - a->taken == AHEAD_BUFFERS)
        pthread_cond_wait(&a->room, &a->lock);
    stopped = a->stopped;
    pthread_mutex_unlock(&a->lock);
    return !stopped;
}

/* Hands the filled buffer over. N: as of stream_read(); what is not above 0 is the end. */
static void hand_over(struct ahead *a, size_t len, ssize_t n)
{
    pthread_mutex_lock(&a->lock);
    if (len > 0)
        a->lens[a->filled++ % AHEAD_BUFFERS] = len;
    a->ended = n <= 0;
    a->failed = n < 0;
    pthread_cond_signal(&a->more);
    pthread_mutex_unlock(&a->lock);
}

/* Fills whole buffers, so that what comes out is cut up the same however it came in. */
static void *run(void *arg)
{
    struct ahead *a = arg;
    ssize_t n = 1;

    while (n > 0 && wait_room(a)) {
        char *buf = buffer_of(a, a->filled);
        size_t len = 0;

        while (len < AHEAD_BUFFER_BYTES &&
               (n = stream_read(a->up, buf + len, AHEAD_BUFFER_BYTES - len, &a->why)) > 0)
            len += (size_t)n;
        hand_over(a, len, n);
    }
    return NULL;
}

/* The time of CLOCK_MONOTONIC until which one waits. */
static struct timespec idle_until(void)
{
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += AHEAD_IDLE_MS * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

/* Gives the buffer back that is out, and waits for the next. False: none for a while, or ever. */
static bool wait_more(struct ahead *a, bool *ret_ended)
{
    struct timespec until = idle_until();
    int r = 0;

    pthread_mutex_lock(&a->lock);
    if (a->holding) {
        a->taken++;
        a->holding = false;
        pthread_cond_signal(&a->room);
    }
    while (a->filled == a->taken && !a->ended && r == 0)
        r = pthread_cond_timedwait(&a->more, &a->lock, &until);
    a->holding = a->filled != a->taken;
    *ret_ended = a->ended;
    pthread_mutex_unlock(&a->lock);
    return a->holding;
}

static ssize_t ahead_next(struct stream *base, const void **ret, struct err *e)
{
    struct ahead *a = (struct ahead *)base;

    for (;;) {
        bool ended, have = wait_more(a, &ended);
        int r = a->idle ? a->idle(a->userdata, e) : 0;

        if (r < 0)
            return r;
        if (have) {
            *ret = buffer_of(a, a->taken);
            return (ssize_t)a->lens[a->taken % AHEAD_BUFFERS];
        }
        if (ended && !a->failed)
            return 0;
        if (ended) {
            *e = a->why;
            return -e->errnum;
        }
    }
}

static int start_thread(struct ahead *a)
{
    pthread_attr_t attr;
    int r = pthread_attr_init(&attr);

    if (r != 0)
        return r;
    r = pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (r == 0)
        r = pthread_create(&a->thread, &attr, run, a);
    (void)pthread_attr_destroy(&attr);
    a->running = r == 0;
    return r;
}

static int init_locks(struct ahead *a)
{
    pthread_condattr_t monotonic;
    int r = pthread_condattr_init(&monotonic);

    if (r != 0)
        return r;
    r = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    if (r == 0)
        r = pthread_cond_init(&a->more, &monotonic);
    if (r == 0)
        r = pthread_cond_init(&a->room, NULL);
    if (r == 0)
        r = pthread_mutex_init(&a->lock, NULL);
    (void)pthread_condattr_destroy(&monotonic);
    return r;
}

int ahead_new(struct stream *up, int (*idle)(void *userdata, struct err *e), void *userdata,
              struct ahead **ret, struct err *e)
{
    scoped(ahead_freep) struct ahead *a = calloc(1, sizeof(*a));
    int r;

    if (!a)
        return err_set(e, ENOMEM, "prepare to inflate");
    a->s = (struct stream){.next = ahead_next, .step = "unpack"};
    a->up = up;
    a->idle = idle;
    a->userdata = userdata;
    a->buffers = malloc((size_t)AHEAD_BUFFERS * AHEAD_BUFFER_BYTES);
    if (!a->buffers)
        return err_set(e, ENOMEM, "prepare to inflate");
    r = init_locks(a);
    if (r == 0)
        r = start_thread(a);
    if (r != 0)
        return err_set(e, r, "start a thread");
    *ret = TAKE_PTR(a);
    return 0;
}

struct stream *ahead_stream(struct ahead *a)
{
    return &a->s;
}

void ahead_stop(struct ahead *a)
{
    if (!a->running)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopped = true;
    pthread_cond_signal(&a->room);
    pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->thread, NULL);
    a->running = false;
}

void ahead_freep(struct ahead **a)
{
    if (*a) {
        ahead_stop(*a);
        free((*a)->buffers);
    }
    free(*a);
    *a = NULL;
}
