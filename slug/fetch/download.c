#include "slug/fetch/download_priv.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS        200
#define TOLD_USEC      (200 * USEC_PER_MSEC)
#define CHECK_USEC     (2000 * USEC_PER_MSEC)
#define LAGGARD        8            /* so many times slower than usual: a new connection */
#define LAGGARDS_MAX   64           /* a network that became slow is not their doing */
#define SPLIT_MIN      (1ull << 20) /* a smaller half is not worth a request */
#define SPLIT_MIN_USEC (200 * USEC_PER_MSEC)

unsigned download_running(const struct download *d)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_conns; i++)
        n += d->conns[i].state != CONN_IDLE;
    return n;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* So many bytes are there without a gap. */
static uint64_t prefix(const struct download *d)
{
    uint64_t at = parts_first(&d->parts);

    for (unsigned i = 0; i < d->n_conns; i++)
        if (d->conns[i].state != CONN_IDLE && d->conns[i].r.at < d->conns[i].r.end)
            at = lower(at, d->conns[i].r.at);
    return at == UINT64_MAX ? (uint64_t)d->total : at;
}

static bool all_here(const struct download *d)
{
    return d->known && d->parts.n == 0 && download_running(d) == 0;
}

/* --- who downloads what --------------------------------------------------------------------------
 */

/* How long C has still to go. */
static uint64_t left_usec(const struct conn *c, uint64_t now)
{
    return pace_left(&c->pace, now, c->got, c->r.end - c->r.at);
}

/* No part is left: half of what the slowest still has before it, if that spares a quarter of the
 * time. Far away a young connection looks slow, and yet is about to be faster than a new one. */
static bool split(struct download *d, uint64_t now, struct range *ret)
{
    struct conn *slowest = NULL;
    uint64_t most = SPLIT_MIN_USEC;
    bool near = d->wait_usec < TUNE_FAR_USEC;

    for (unsigned i = 0; d->confirmed && i < d->n_conns; i++) {
        struct conn *c = &d->conns[i];

        if (c->state != CONN_RUNS || (!near && !c->pace.settled) ||
            c->r.end - c->r.at < 2 * SPLIT_MIN || left_usec(c, now) < most)
            continue;
        most = left_usec(c, now);
        slowest = c;
    }
    if (!slowest)
        return false;
    if (pace_fresh(d->first_usec, d->wait_usec, (slowest->r.end - slowest->r.at) / 2) >
        most - most / 4)
        return false;
    uint64_t middle = slowest->r.at + (slowest->r.end - slowest->r.at) / 2;
    *ret = (struct range){middle, slowest->r.end};
    slowest->r.end = middle;
    return true;
}

/* The next idle connection that may start; NULL: none, now. Those that wait count as many. */
static struct conn *next_idle(struct download *d, uint64_t now)
{
    unsigned wanted = d->part_length != UINT64_MAX && !d->no_ranges ? d->tune.wanted : 1;
    struct conn *found = NULL;
    unsigned busy = 0;

    for (unsigned i = 0; i < d->n_conns; i++) {
        struct conn *c = &d->conns[i];

        if (c->state != CONN_IDLE || c->due > now)
            busy++;
        else if (!found && !c->retired)
            found = c;
    }
    return busy < wanted ? found : NULL;
}

static int start_more(struct download *d, uint64_t now, struct err *e)
{
    struct conn *c;
    struct range r;
    int result = 0;

    while (result == 0 && (c = next_idle(d, now)) &&
           (parts_take(&d->parts, d->part_length, &r) || split(d, now, &r))) {
        result = conn_start(c, &r, e);
        if (download_running(d) > d->most)
            d->most = download_running(d);
    }
    return result;
}

void download_without_ranges(struct download *d)
{
    d->no_ranges = true;
    for (unsigned i = 0; i < d->n_conns; i++)
        if (d->conns[i].ranged)
            conn_stop(&d->conns[i]);
    d->part_length = UINT64_MAX;
}

/* --- looking after them --------------------------------------------------------------------------
 */

/* What waits for the others to say whether ranges work. */
static int resume_paused(struct download *d, struct err *e)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < d->n_conns; i++)
        if (d->conns[i].state == CONN_PAUSED)
            r = conn_resume(&d->conns[i], e);
    return r;
}

static int check_stall(struct conn *c, uint64_t now, struct err *e)
{
    char words[64];

    if (c->state != CONN_RUNS || now < c->last + c->d->o.stall_ms * USEC_PER_MSEC)
        return 0;
    (void)snprintf(words, sizeof(words), "no byte came for %llu ms (fetch_stall)",
                   (unsigned long long)c->d->o.stall_ms);
    c->broken = words;
    int r = conn_ended(c, CURLE_OPERATION_TIMEDOUT, e);
    c->broken = NULL;
    return r;
}

/* What the others got since the last check, each on average; what has ended may have been faster.
 */
static uint64_t usual(const struct download *d, const struct conn *but, uint64_t usec)
{
    uint64_t sum = 0, n = 0;
    uint64_t ended = d->ended_usec > 0 ? d->ended_bytes * usec / d->ended_usec : 0;

    for (unsigned i = 0; i < d->n_conns; i++)
        if (d->conns[i].state == CONN_RUNS && &d->conns[i] != but) {
            sum += d->conns[i].got - d->conns[i].mark;
            n++;
        }
    return n > 0 && sum / n > ended ? sum / n : ended;
}

/* A connection that lags far behind since the last check gives its part to a new one. */
static void check_laggards(struct download *d, uint64_t now)
{
    for (unsigned i = 0; i < d->n_conns; i++) {
        struct conn *c = &d->conns[i];
        bool lags = (c->got - c->mark) * LAGGARD < usual(d, c, now - d->checked);

        if (c->state != CONN_RUNS || c->pace.began > d->checked || !d->confirmed || !lags ||
            d->dropped >= LAGGARDS_MAX)
            continue;
        d->dropped++;
        conn_stop(c);
    }
    for (unsigned i = 0; i < d->n_conns; i++)
        d->conns[i].mark = d->conns[i].got;
    d->checked = now;
}

/* The whole mirror drips. */
static int check_drip(struct download *d, uint64_t now, struct err *e)
{
    uint64_t window = d->o.slow_ms * USEC_PER_MSEC;

    if (d->o.slow_bytes == 0 || now < d->slow_since + window)
        return 0;
    bool drips = d->bytes - d->slow_bytes < d->o.slow_bytes * d->o.slow_ms / 1000;
    d->slow_since = now;
    d->slow_bytes = d->bytes;
    if (!drips || all_here(d))
        return 0;
    d->step = "download";
    return err_say(e, ETIMEDOUT, "%s: less than %llu bytes a second for %llu ms (fetch_slow)",
                   d->o.store->shown, (unsigned long long)d->o.slow_bytes,
                   (unsigned long long)d->o.slow_ms);
}

static unsigned flowing(const struct download *d)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_conns; i++)
        n += d->conns[i].state == CONN_RUNS && d->conns[i].got > 0;
    return n;
}

static int look_after(struct download *d, uint64_t now, struct err *e)
{
    int r = check_drip(d, now, e);

    for (unsigned i = 0; r == 0 && i < d->n_conns; i++)
        r = check_stall(&d->conns[i], now, e);
    for (unsigned i = 0; i < d->n_conns; i++)
        if (d->conns[i].state == CONN_RUNS)
            pace_note(&d->conns[i].pace, now, d->conns[i].got, d->wait_usec);
    if (d->part_length != UINT64_MAX)
        tune_step(&d->tune, now, d->bytes, flowing(d));
    if (r == 0 && now >= d->checked + CHECK_USEC)
        check_laggards(d, now);
    if (r == 0 && now > d->o.until) {
        d->step = "download";
        r = err_say(e, ETIMEDOUT, "%s: over the limit of %llu ms for a download (fetch_total)",
                    d->o.store->shown, (unsigned long long)d->o.total_ms);
    }
    if (r < 0 || now < d->told + TOLD_USEC)
        return r;
    d->told = now;
    return d->o.on_turn ? d->o.on_turn(d->o.userdata, d->bytes, d->total, download_running(d), e)
                        : 0;
}

/* --- the loop ------------------------------------------------------------------------------------
 */

static int reap(struct download *d, struct err *e)
{
    struct CURLMsg *m;
    int left, r = 0;

    while (r == 0 && (m = curl_multi_info_read(d->multi, &left))) {
        struct conn *c = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        if (curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c) == CURLE_OK && c &&
            c->state != CONN_IDLE)
            r = conn_ended(c, code, e);
    }
    return r;
}

/* When the next connection may try again. */
static int wait_ms(const struct download *d, uint64_t now)
{
    uint64_t ms = POLL_MS;

    for (unsigned i = 0; i < d->n_conns; i++)
        if (d->conns[i].state == CONN_IDLE && d->conns[i].due > now)
            ms = lower(ms, (d->conns[i].due - now) / USEC_PER_MSEC + 1);
    return (int)ms;
}

/* Until something comes, the pipe can be written to, or it is time for something. */
static int wait_for_more(struct download *d, struct err *e)
{
    struct outlet *o = d->o.outlet;
    struct curl_waitfd pipe = {.fd = o->pipe, .events = CURL_WAIT_POLLOUT};
    uint64_t now = clock_boot();
    bool more = (!o->blocked && o->at < prefix(d)) || (d->parts.n > 0 && next_idle(d, now));

    if (curl_multi_poll(d->multi, &pipe, o->blocked ? 1 : 0, more ? 0 : wait_ms(d, now), NULL) !=
        CURLM_OK)
        return err_say(e, EIO, "wait for the download");
    outlet_look(o);
    return 0;
}

int download_pump(struct download *d, struct err *e)
{
    int r = outlet_pump(d->o.outlet, prefix(d), e);

    if (r < 0)
        d->step = "disk";
    /* Unpack has refused it. Only a digest could still say more. */
    if (r == 0 && d->o.outlet->gone && !d->o.has_digest) {
        d->step = "unpack";
        r = err_say(e, EPIPE, "%s: the unpacker is gone", d->o.store->shown);
    }
    return r;
}

static int turn(struct download *d, struct err *e)
{
    uint64_t now = clock_boot();
    int running, r = start_more(d, now, e);

    if (r == 0 && curl_multi_perform(d->multi, &running) != CURLM_OK)
        r = err_say(e, EIO, "run the download");
    if (r == 0)
        r = reap(d, e);
    if (r == 0)
        r = resume_paused(d, e);
    if (r == 0)
        r = download_pump(d, e);
    return r < 0 ? r : look_after(d, clock_boot(), e);
}

static bool done(const struct download *d)
{
    return all_here(d) && d->o.outlet->at >= (uint64_t)d->total;
}

static int run(struct download *d, struct err *e)
{
    int r = turn(d, e);

    while (r == 0 && !done(d)) {
        r = wait_for_more(d, e);
        if (r == 0)
            r = turn(d, e);
    }
    return r;
}

static int set_up(struct download *d, struct err *e)
{
    uint64_t now = clock_boot();

    d->multi = curl_multi_init();
    d->conns = calloc(d->n_conns, sizeof(d->conns[0]));
    if (!d->multi || !d->conns)
        return err_set(e, ENOMEM, "prepare the download");
    for (unsigned i = 0; i < d->n_conns; i++)
        d->conns[i].d = d;
    (void)curl_multi_setopt(d->multi, CURLMOPT_MAXCONNECTS, (long)d->n_conns);
    parts_init(&d->parts, 0, UINT64_MAX);
    d->checked = d->slow_since = now;
    return 0;
}

static void tear_down(struct download *d)
{
    for (unsigned i = 0; d->conns && i < d->n_conns; i++)
        conn_done(&d->conns[i]);
    curl_multi_cleanup(d->multi);
    free(d->conns);
}

int download_run(const struct download_options *o, struct download_outcome *ret, struct err *e)
{
    struct download d = {
        .o = *o,
        .n_conns = (unsigned)lower(o->connections, FETCH_CONNECTIONS_MAX),
        .part_length = UINT64_MAX,
        .total = -1,
        .step = "download",
        .e = ERR_INIT,
    };

    if (!d.o.tries)
        d.o.tries = FETCH_TRIES;
    if (!d.o.part_max)
        d.o.part_max = FETCH_PART;
    int r = set_up(&d, e);

    if (r == 0)
        r = run(&d, e);
    tear_down(&d);
    *ret = (struct download_outcome){
        .bytes = d.bytes,
        .connections = d.most,
        .last_byte = d.last_byte,
        .step = d.step,
        .http = d.status,
    };
    return r;
}
