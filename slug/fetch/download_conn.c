/* download_conn.c - one connection of a download: its request, its bytes, its end. */
#include "slug/fetch/download_priv.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PUMP_BYTES (512u << 10)

/* --- bytes ---------------------------------------------------------------------------------------
 */

/* C has all of its range. Whether it goes on with the bytes behind it, which are on their way. */
static bool extend(struct conn *c)
{
    struct download *d = c->d;
    struct range more;

    if (c->r.at < c->r.end)
        return true;
    if (c->stop <= c->r.end)
        return false;
    uint64_t len = c->stop - c->r.end < d->part_length ? c->stop - c->r.end : d->part_length;
    if (!parts_take_at(&d->parts, c->r.end, len, &more))
        return false;
    c->r.end = more.end;
    return true;
}

static int blame(struct download *d, const char *step, enum fault fault)
{
    d->step = step;
    return err_blame(&d->e, fault);
}

/* N bytes that are wanted. */
static int take_bytes(struct conn *c, const char *data, size_t n)
{
    struct download *d = c->d;

    if (c->r.at + n > d->o.compressed_max) {
        err_say(&d->e, EFBIG, "%s: over the limit of %llu compressed bytes (compressed_max)",
                d->o.store->shown, (unsigned long long)d->o.compressed_max);
        return blame(d, "download", FAULT_APP);
    }
    int r = outlet_put(d->o.outlet, c->r.at, data, n, &d->e);
    if (r < 0)
        return blame(d, "disk", FAULT_PLATFORM);
    c->r.at += n;
    c->got += n;
    d->bytes += n;
    d->renewed = false;
    if (c->got >= DOWNLOAD_PROGRESS)
        c->tries = 0;
    /* A fast server keeps libcurl reading for long, and unpack is not to wait for that. */
    if (d->bytes - d->pumped < PUMP_BYTES)
        return 0;
    d->pumped = d->bytes;
    outlet_look(d->o.outlet);
    return download_pump(d, &d->e);
}

/* What of an answer that is not the object may say why. */
static size_t keep_refusal(struct conn *c, const char *data, size_t len)
{
    size_t room = sizeof(c->body) - 1 - c->body_len;
    size_t n = len < room ? len : room;

    memcpy(c->body + c->body_len, data, n);
    c->body_len += n;
    c->body[c->body_len] = '\0';
    return n < len ? CURL_WRITEFUNC_ERROR : len;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
    struct conn *c = userdata;
    struct download *d = c->d;
    size_t len = size * n;

    c->last = d->last_byte = clock_boot();
    if (c->answer == ANSWER_NONE)
        c->answer = download_take_head(c, data, len);
    if (c->answer == ANSWER_STATUS)
        return keep_refusal(c, data, len);
    if (c->answer != ANSWER_TAKEN)
        return CURL_WRITEFUNC_ERROR;
    size_t at = c->skip < len ? (size_t)c->skip : len;
    c->skip -= at;
    while (at < len && extend(c)) {
        uint64_t room = c->r.end - c->r.at;
        size_t take = len - at < room ? len - at : (size_t)room;

        if (take_bytes(c, data + at, take) < 0) {
            c->answer = ANSWER_FAILED;
            return CURL_WRITEFUNC_ERROR;
        }
        at += take;
    }
    if (at == len)
        return len;
    if (d->part_length != UINT64_MAX && !d->confirmed && !c->ranged) {
        c->state = CONN_PAUSED;
        c->skip = at; /* the same bytes come again */
        return CURL_WRITEFUNC_PAUSE;
    }
    c->cut = true;
    return CURL_WRITEFUNC_ERROR;
}

/* --- the request ---------------------------------------------------------------------------------
 */

static int add_header(struct conn *c, const char *name, const char *value, struct err *e)
{
    char line[HEAD_TAG_MAX + 32];

    (void)snprintf(line, sizeof(line), "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(c->rq.headers, line);
    if (!longer)
        return err_set(e, ENOMEM, "prepare the download");
    c->rq.headers = longer;
    return 0;
}

/* Only the bytes of R, of the object that the first answer was of (RFC 9110, 13.1 and 14.2). */
static int ask_for_part(struct conn *c, struct err *e)
{
    struct download *d = c->d;
    bool open_end = c->r.end == UINT64_MAX || c->r.end == (uint64_t)d->total;
    char range[64];
    int r = 0;

    if (open_end)
        (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)c->r.at);
    else
        (void)snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)c->r.at,
                       (unsigned long long)c->r.end - 1);
    if (d->etag[0])
        r = add_header(c, "If-Match", d->etag, e);
    else if (d->date[0])
        r = add_header(c, "If-Unmodified-Since", d->date, e);
    if (r == 0 && curl_easy_setopt(c->easy, CURLOPT_RANGE, range) != CURLE_OK)
        r = err_set(e, ENOMEM, "prepare the download");
    return r;
}

static int set_request(struct conn *c, struct err *e)
{
    struct download *d = c->d;
    struct store *s = d->o.store;
    int r = s->ops->prepare(s, c->easy, &c->rq, e);

    if (r < 0) {
        d->step = s->step;
        return r;
    }
    d->step = "download";
    r = transport_set(c->easy, s->env, c->rq.url, c->rq.follow, &c->guard, e);
    c->ranged = d->known && !d->no_ranges && (c->r.at > 0 || c->r.end < (uint64_t)d->total);
    if (r == 0 && c->ranged)
        r = ask_for_part(c, e);
    if (r < 0)
        return r;
    if (curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->rq.headers) != CURLE_OK)
        return err_set(e, ENOMEM, "prepare the download");
    (void)curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    (void)curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->text);
    (void)curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
    return 0;
}

int conn_start(struct conn *c, const struct range *r, struct err *e)
{
    struct download *d = c->d;

    if (!c->easy && !(c->easy = curl_easy_init()))
        return err_set(e, ENOMEM, "prepare the download");
    curl_easy_reset(c->easy); /* connections stay */
    store_request_done(&c->rq);
    c->r = *r;
    c->stop = r->end;
    c->skip = c->got = c->mark = 0;
    c->answer = ANSWER_NONE;
    c->cut = false;
    c->guard.refused = false;
    c->broken = NULL;
    c->text[0] = '\0';
    c->body_len = 0;
    c->last = clock_boot();
    pace_start(&c->pace, c->last);
    c->renewal = d->renewals;
    int result = set_request(c, e);
    if (result == 0 && curl_multi_add_handle(d->multi, c->easy) != CURLM_OK)
        result = err_set(e, ENOMEM, "start a download");
    if (result < 0) {
        parts_give(&d->parts, &c->r);
        return result;
    }
    c->state = CONN_RUNS;
    return 0;
}

void conn_stop(struct conn *c)
{
    if (c->state == CONN_IDLE)
        return;
    (void)curl_multi_remove_handle(c->d->multi, c->easy);
    c->state = CONN_IDLE;
    parts_give(&c->d->parts, &c->r);
    c->r = (struct range){0};
}

void conn_done(struct conn *c)
{
    conn_stop(c);
    curl_easy_cleanup(c->easy);
    c->easy = NULL;
    store_request_done(&c->rq);
}

int conn_resume(struct conn *c, struct err *e)
{
    if (!extend(c)) {
        if (c->d->confirmed)
            conn_stop(c);
        return 0;
    }
    c->state = CONN_RUNS;
    c->last = clock_boot();
    CURLcode code = curl_easy_pause(c->easy, CURLPAUSE_CONT); /* may hand over bytes at once */
    return code == CURLE_OK ? 0 : conn_ended(c, code, e);
}

/* --- its end -------------------------------------------------------------------------------------
 */

static uint64_t pause_usec(struct conn *c)
{
    uint64_t wait = transport_backoff(c->tries, random_u64());
    curl_off_t asked = 0;

    if (curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &asked) != CURLE_OK || asked <= 0)
        return wait;
    if (asked > DOWNLOAD_RETRY_AFTER_MAX)
        asked = DOWNLOAD_RETRY_AFTER_MAX;
    return (uint64_t)asked * USEC_PER_SEC + random_u64() % (USEC_PER_SEC / 4);
}

/* E has what went wrong. Another try after a pause, on this connection or another, or the end of
 * the mirror. */
static int try_later(struct conn *c, const char *step, struct err *e)
{
    struct download *d = c->d;
    uint64_t wait;

    c->tries++;
    wait = pause_usec(c);
    conn_stop(c);
    c->due = clock_boot() + wait;
    d->step = step;
    if (c->tries < d->o.tries && c->due < d->o.until)
        return 0;
    /* Others get on: the store only wants fewer at once. */
    if (download_running(d) > 0 && d->last_byte > c->pace.began) {
        c->retired = true;
        tune_limit(&d->tune, download_running(d));
        return 0;
    }
    return c->tries > 1 ? err_wrap(e, "after %u tries", c->tries) : -e->errnum;
}

static int fail(struct conn *c, const char *step, int errnum, enum fault fault, const char *why,
                struct err *e)
{
    char quoted[160];

    c->d->step = step;
    err_say(e, errnum, "%s: %s", c->d->o.store->shown,
            text_escape(quoted, sizeof(quoted), why, strlen(why)));
    return err_blame(e, fault);
}

/* Adds to a refusal what may be its cause. */
static void add_skew(const struct store_refusal *r, struct err *e)
{
    struct err plain = *e;
    int64_t ahead = r->skew_sec > 0 ? r->skew_sec : -r->skew_sec;

    if (r->skew_sec == 0 || (r->status != 401 && r->status != 403))
        return;
    err_say(e, plain.errnum, "%s (the clock here is %lld s %s the store's)", plain.text,
            (long long)ahead, r->skew_sec > 0 ? "ahead of" : "behind");
    e->fault = plain.fault;
}

static int refused_plainly(struct conn *c, const struct store_refusal *refusal, struct err *e)
{
    struct download *d = c->d;
    struct transport_verdict v = transport_judge_status(d->status);

    err_say(e, v.errnum, "%s: HTTP status %ld", d->o.store->shown, d->status);
    (void)err_blame(e, v.fault);
    add_skew(refusal, e);
    d->step = v.step;
    return v.again ? try_later(c, v.step, e) : -e->errnum;
}

/* A new credential, once. */
static int renew(struct conn *c, struct err *e)
{
    struct download *d = c->d;

    if (c->renewal == d->renewals) {
        if (d->renewed)
            return -e->errnum;
        d->renewed = true;
        d->renewals++;
    }
    conn_stop(c);
    return 0;
}

/* The store has answered with another status. */
static int refused(struct conn *c, struct err *e)
{
    struct download *d = c->d;
    struct store *s = d->o.store;
    struct store_refusal refusal = {
        .status = d->status,
        .body = c->body,
        .len = c->body_len,
        .easy = c->easy,
        .skew_sec = transport_skew(c->easy),
    };

    c->body[c->body_len] = '\0';
    /* The store has had enough of us at once. */
    if ((d->status == 429 || d->status == 503) && download_running(d) > 1)
        tune_limit(&d->tune, download_running(d) - 1);
    /* Another connection has had the same answer, and a new credential is there. */
    if ((d->status == 400 || d->status == 401 || d->status == 403) && c->renewal != d->renewals)
        return renew(c, e);
    switch (s->ops->refused ? s->ops->refused(s, &refusal, e) : STORE_PLAIN) {
    case STORE_FINAL:
        d->step = "http";
        return -e->errnum;
    case STORE_LATER:
        return try_later(c, "http", e);
    case STORE_RENEW:
        d->step = "auth";
        return renew(c, e);
    case STORE_MOVED:
        conn_stop(c);
        return 0;
    case STORE_PLAIN:
    default:
        return refused_plainly(c, &refusal, e);
    }
}

static int changed(struct conn *c, struct err *e)
{
    return fail(c, "changed", ESTALE, FAULT_PLATFORM,
                c->d->status == 416
                    ? "the object was changed while it was downloaded, or is shorter than announced"
                    : "the object was changed while it was downloaded",
                e);
}

/* The connection broke, or never was. */
static int broke(struct conn *c, CURLcode code, struct err *e)
{
    struct transport_verdict v = transport_judge(c->easy, code);
    char words[TRANSPORT_WORDS_MAX];
    const char *late = transport_late(c->easy, code, c->d->o.store->env->connect_ms, words);
    /* libcurl's text is of the first thing that went wrong, which need not be what ended it. */
    const char *why = c->broken                          ? c->broken
                      : late                             ? late
                      : code == CURLE_TOO_MANY_REDIRECTS ? TRANSPORT_MANY
                      : c->text[0]                       ? c->text
                      : code == CURLE_OK                 ? "the server ended the body too early"
                                                         : curl_easy_strerror(code);

    if (c->guard.refused)
        return fail(c, "connect", EPERM, FAULT_OPERATOR, "leads to a link-local address", e);
    (void)fail(c, v.step, v.errnum, v.fault, why, e);
    return v.again ? try_later(c, v.step, e) : -e->errnum;
}

/* What a connection can do here, for those that cannot. */
static void note_speed(const struct conn *c)
{
    c->d->ended_bytes += c->got;
    c->d->ended_usec += clock_boot() - c->pace.began;
}

/* The body is over; without an announced length only now is it known how long it was. */
static int body_ended(struct conn *c, struct err *e)
{
    struct download *d = c->d;

    if (d->total < 0 && c->r.end == UINT64_MAX && c->skip == 0) {
        d->total = (int64_t)c->r.at;
        c->r.end = c->r.at;
    }
    if (c->r.at < c->r.end && c->r.at < c->stop)
        return broke(c, CURLE_OK, e);
    c->tries = 0;
    note_speed(c);
    conn_stop(c);
    return 0;
}

int conn_ended(struct conn *c, CURLcode code, struct err *e)
{
    struct download *d = c->d;

    if (c->broken)
        return broke(c, code, e);
    /* An answer without a body, or whose body never came. */
    if (c->answer == ANSWER_NONE && (code == CURLE_OK || code == CURLE_PARTIAL_FILE))
        c->answer = download_take_head(c, NULL, 0);
    switch (c->answer) {
    case ANSWER_STATUS:
        return refused(c, e);
    case ANSWER_CHANGED:
        return changed(c, e);
    case ANSWER_NO_RANGES:
        conn_stop(c);
        download_without_ranges(d);
        return 0;
    case ANSWER_FAILED:
        *e = d->e;
        return -e->errnum;
    case ANSWER_NONE:
    case ANSWER_TAKEN:
    default:
        break;
    }
    if (c->cut) {
        note_speed(c);
        conn_stop(c);
        return 0;
    }
    return code == CURLE_OK ? body_ended(c, e) : broke(c, code, e);
}
