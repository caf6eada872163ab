#include "link/rendezvous.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/linkproto.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/attachwire.h"
#include "link/dial.h"
#include "link/ends.h"
#include "link/http.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define REDIAL_USEC  (1 * USEC_PER_SEC) /* nobody listens yet */
#define LINGER_USEC  (5 * USEC_PER_SEC) /* for the peer to close, once it was told the end */
#define OUTPUT_MAX   65536              /* bytes for a peer that does not read */
#define OUTPUT_CHUNK 16384
#define LAST_MAX     4096 /* an X frame fits */
#define HELLO_MAX    2048 /* an H frame fits */
#define ERROR_SHOWN  400  /* bytes of the error in X */
#define TURN_MAX     16   /* moves in one turn of the loop: others wait too */
#define FRAMES_MAX   256  /* of the peer's in one move */

enum state {
    DIALING,
    WAITING, /* connected, H is out: for R */
    UP,
    LAST,   /* X is queued, the last frame */
    LINGER, /* it is out: for the peer to close */
    OVER,
};

enum ending { NOT_YET, FAILED, GONE, DONE };

/* What the owner is to be told when this turn is over: its calls may free everything. */
struct news {
    bool up;
    unsigned rows, cols;
    unsigned char signals[RENDEZVOUS_SIGNALS_A_SECOND];
    unsigned n_signals;
    enum ending ending;
    char why[ERR_TEXT_MAX];
};

struct rendezvous {
    sd_event *loop;
    const struct rendezvous_ops *ops;
    void *userdata;
    unsigned attach;
    enum state state;
    struct dial *dial;
    struct ends *ends;
    struct news news;
    bool calling, freed; /* freed while a callback runs: the memory goes after it */

    char url[WIRE_URL_MAX];
    char *hello; /* the H frame's payload */
    char *ca, *cert, *key;
    struct http_trust trust; /* points to those; for dialling again */
    bool trusted;

    uint64_t wait_until, frame_until, last_until, linger_until, redial_at;
    sd_event_source *timer; /* timer "rendezvous": the first of those */
    sd_event_source *again; /* defer: there is more to do than one turn may */

    bool ended;
    int status;
    char *error;

    unsigned signals; /* in the second that began at signals_since */
    uint64_t signals_since;

    bool in_ready, out_ready, hung_up;
    bool held_back;            /* the peer's next frame has to wait for stdin */
    size_t in_start, in_len;   /* what has come and is not taken yet */
    size_t out_start, out_len; /* what is not sent yet is from start to len */
    char in[WIRE_HEAD + WIRE_PAYLOAD_MAX];
    char out[OUTPUT_MAX];
};

static void turn(struct rendezvous *r);

/* --- its end -----------------------------------------------------------------------------------
 */

/* The one end that this state has: nobody came, somebody went, or all was told anyway. */
static void over(struct rendezvous *r, const char *why)
{
    if (r->state == OVER)
        return;
    if (r->ended)
        r->news.ending = DONE;
    else
        r->news.ending = r->state < UP ? FAILED : GONE;
    (void)text_escape(r->news.why, sizeof(r->news.why), why, strlen(why));
    r->state = OVER;
}

static void over_by(struct rendezvous *r, const struct err *why)
{
    over(r, why->text);
}

static void release(struct rendezvous *r)
{
    r->timer = sd_event_source_disable_unref(r->timer);
    r->again = sd_event_source_disable_unref(r->again);
    dial_freep(&r->dial);
    ends_freep(&r->ends);
}

static void discard(struct rendezvous *r)
{
    free(r->hello);
    free(r->ca);
    free(r->cert);
    free(r->key);
    free(r->error);
    sd_event_unref(r->loop);
    free(r);
}

static void tell_ending(struct rendezvous *r, const struct news *news)
{
    switch (news->ending) {
    case FAILED:
        r->ops->failed(r->userdata, r->attach, news->why);
        break;
    case GONE:
        r->ops->gone(r->userdata, r->attach, news->why);
        break;
    case DONE:
        r->ops->done(r->userdata, r->attach);
        break;
    case NOT_YET:
        break;
    }
}

/* Tells the owner what happened. R may be gone after it. */
static void deliver(struct rendezvous *r)
{
    struct news news = r->news;

    r->news = (struct news){0};
    if (news.ending != NOT_YET)
        release(r);
    r->calling = true;
    if (news.up)
        r->ops->up(r->userdata, r->attach, news.rows, news.cols);
    for (unsigned i = 0; i < news.n_signals && !r->freed; i++)
        r->ops->signal(r->userdata, r->attach, news.signals[i]);
    if (!r->freed)
        tell_ending(r, &news);
    r->calling = false;
    if (r->freed)
        discard(r);
}

/* --- out ---------------------------------------------------------------------------------------
 */

static size_t out_room(const struct rendezvous *r)
{
    return sizeof(r->out) - r->out_len;
}

/* LEN fits: the caller has asked for the room. */
static void out_frame(struct rendezvous *r, char kind, const char *data, size_t len)
{
    wire_head(r->out + r->out_len, kind, len);
    memcpy(r->out + r->out_len + WIRE_HEAD, data, len);
    r->out_len += WIRE_HEAD + len;
}

/* Bytes stay where they are until all of them are sent: TLS wants to be asked for the same again.
 */
static bool send_out(struct rendezvous *r)
{
    struct err e = ERR_INIT;
    bool moved = false;

    while (r->out_len > r->out_start && r->out_ready) {
        ssize_t n = dial_send(r->dial, r->out + r->out_start, r->out_len - r->out_start, &e);

        if (n == -EAGAIN) {
            r->out_ready = false;
            return moved;
        }
        if (n < 0) {
            over_by(r, &e);
            return true;
        }
        r->out_start += (size_t)n;
        moved = true;
    }
    if (r->out_start == r->out_len)
        r->out_start = r->out_len = 0;
    return moved;
}

/* One frame of what the command wrote. */
static bool take_output(struct rendezvous *r)
{
    if (r->state != UP || out_room(r) <= WIRE_HEAD + LAST_MAX)
        return false;
    size_t room = out_room(r) - WIRE_HEAD - LAST_MAX;
    char *data = r->out + r->out_len + WIRE_HEAD, kind = 0;
    size_t n = ends_take(r->ends, &kind, data, room < OUTPUT_CHUNK ? room : OUTPUT_CHUNK);
    if (n == 0)
        return false;
    wire_head(data - WIRE_HEAD, kind, n);
    r->out_len += WIRE_HEAD + n;
    return true;
}

/* X, once all output is on its way before it. */
static bool tell_end(struct rendezvous *r)
{
    char text[LAST_MAX], shown[ERROR_SHOWN];

    if (r->state != UP || !r->ended || !ends_drained(r->ends))
        return false;
    if (r->error)
        (void)text_escape(shown, sizeof(shown), r->error, strlen(r->error));
    json_t *j = json_pack("{s:i,s:s?}", "status", r->status, "error", r->error ? shown : NULL);
    size_t n = j ? json_dumpb(j, text, sizeof(text), JSON_COMPACT) : 0;
    json_decref(j);
    if (n == 0 || n > out_room(r) - WIRE_HEAD) {
        over(r, "there is no memory for the last frame");
        return true;
    }
    out_frame(r, 'X', text, n);
    r->state = LAST;
    return true;
}

/* --- in ----------------------------------------------------------------------------------------
 */

static int come_up(struct rendezvous *r, const struct wire_frame *f, struct err *e)
{
    unsigned rows, cols;

    if (f->kind != 'R')
        return err_say(e, EBADMSG, "a frame %c before R", f->kind);
    int rc = wire_size(f, &rows, &cols, e);
    if (rc < 0)
        return rc;
    if (rows && cols)
        ends_resize(r->ends, rows, cols);
    r->news.up = true;
    r->news.rows = rows;
    r->news.cols = cols;
    r->state = UP;
    r->wait_until = USEC_NEVER;
    if (r->ended)
        r->last_until = clock_boot() + RENDEZVOUS_LAST_SEC * USEC_PER_SEC;
    return 0;
}

static int take_signal(struct rendezvous *r, const struct wire_frame *f, struct err *e)
{
    uint64_t now = clock_boot();
    int signo, rc = wire_signal(f, &signo, e);

    if (rc < 0)
        return rc;
    if (now - r->signals_since >= USEC_PER_SEC) {
        r->signals_since = now;
        r->signals = 0;
    }
    /* Those that are still to be told in this turn may be of the second before. */
    if (r->signals++ >= RENDEZVOUS_SIGNALS_A_SECOND ||
        r->news.n_signals >= RENDEZVOUS_SIGNALS_A_SECOND)
        return err_say(e, EBADMSG, "more than %d signals in a second", RENDEZVOUS_SIGNALS_A_SECOND);
    if (!r->ended)
        r->news.signals[r->news.n_signals++] = (unsigned char)signo;
    return 0;
}

/* 0, or -EAGAIN: stdin has no room for it yet. */
static int take_frame(struct rendezvous *r, const struct wire_frame *f, struct err *e)
{
    unsigned rows, cols;
    int rc;

    if (r->state == WAITING)
        return come_up(r, f, e);
    switch (f->kind) {
    case 'I':
        if (f->len == 0)
            ends_eof(r->ends);
        else if (f->len > ends_room(r->ends))
            return -EAGAIN;
        else
            ends_put(r->ends, f->data, f->len);
        return 0;
    case 'W':
        rc = wire_size(f, &rows, &cols, e);
        if (rc == 0 && rows && cols)
            ends_resize(r->ends, rows, cols);
        return rc;
    case 'S':
        return take_signal(r, f, e);
    default:
        return err_say(e, EBADMSG, "a second frame R");
    }
}

/* One frame of what was received. */
static bool take_input(struct rendezvous *r)
{
    struct wire_frame f;
    struct err e = ERR_INIT;
    size_t used = 0;

    r->held_back = false;
    if (r->state != WAITING && r->state != UP)
        return false;
    int rc = wire_next(r->in + r->in_start, r->in_len, &f, &used, &e);
    if (rc == 0) {
        if (r->in_len > 0 && r->frame_until == USEC_NEVER)
            r->frame_until = clock_boot() + RENDEZVOUS_FRAME_SEC * USEC_PER_SEC;
        return false;
    }
    r->frame_until = USEC_NEVER;
    if (rc > 0)
        rc = take_frame(r, &f, &e);
    if (rc == -EAGAIN) {
        r->held_back = true;
        return false;
    }
    if (rc < 0) {
        (void)err_wrap(&e, "the other end sent what it may not");
        over_by(r, &e);
        return true;
    }
    r->in_start += used;
    r->in_len -= used;
    return true;
}

/* Reads on until it has what is one frame at least; a frame that waits stops it. */
static bool receive(struct rendezvous *r)
{
    struct err e = ERR_INIT;

    if (!r->in_ready || r->state == OVER || r->held_back)
        return false;
    if (r->state >= LAST)
        r->in_len = 0; /* nobody is there who would take it */
    if (r->in_len > 0)
        memmove(r->in, r->in + r->in_start, r->in_len);
    r->in_start = 0;
    ssize_t n = dial_recv(r->dial, r->in + r->in_len, sizeof(r->in) - r->in_len, &e);
    if (n == -EAGAIN) {
        r->in_ready = false;
        return false;
    }
    if (n == 0)
        over(r, "the other end closed the connection");
    else if (n < 0)
        over_by(r, &e);
    else
        r->in_len += (size_t)n;
    return true;
}

/* --- the turn ----------------------------------------------------------------------------------
 */

static uint64_t first_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void wait_for_more(struct rendezvous *r)
{
    uint64_t at = first_of(first_of(r->wait_until, r->frame_until),
                           first_of(first_of(r->last_until, r->linger_until), r->redial_at));

    if (timer_set(r->loop, &r->timer, "rendezvous", at, on_timer, r) < 0)
        over(r, "there is no memory for a timer");
    if (r->state > DIALING && r->state < OVER)
        dial_watch(r->dial, !r->in_ready && !r->held_back, r->out_len > 0 && !r->out_ready);
    if (r->ends)
        ends_watch(r->ends, r->state == UP && out_room(r) > WIRE_HEAD + LAST_MAX);
}

static bool move(struct rendezvous *r)
{
    bool moved = false;

    for (int i = 0; i < FRAMES_MAX && take_input(r); i++)
        moved = true;
    /* Before the connection's end can be read: what came before it still counts. */
    moved |= r->state < OVER && ends_feed(r->ends);
    moved |= r->state < OVER && r->in_len < sizeof(r->in) && receive(r);
    moved |= r->state < OVER && take_output(r);
    moved |= r->state < OVER && tell_end(r);
    moved |= r->state < OVER && send_out(r);
    if (r->state == LAST && r->out_len == 0) {
        r->state = LINGER;
        r->last_until = USEC_NEVER;
        r->linger_until = clock_boot() + LINGER_USEC;
    }
    return moved && r->state < OVER;
}

/* Moves what can be moved, waits for the rest, tells what happened. */
static void turn(struct rendezvous *r)
{
    bool moved = r->state > DIALING && r->state < OVER;

    for (int i = 0; moved && i < TURN_MAX; i++)
        moved = move(r);
    /* One that is held back is not read, so its closing is all that is heard of it. */
    if (r->state < OVER && r->held_back && r->hung_up)
        over(r, "the other end closed the connection");
    if (r->state < OVER)
        wait_for_more(r);
    if (moved && r->state < OVER)
        (void)sd_event_source_set_enabled(r->again, SD_EVENT_ONESHOT); /* exists: cannot fail */
    deliver(r);
}

static int on_again(sd_event_source *s, void *userdata)
{
    (void)s;
    turn(userdata);
    return 0;
}

static void on_ends_ready(void *userdata)
{
    turn(userdata);
}

/* --- dialling ----------------------------------------------------------------------------------
 */

static void on_dial_up(void *userdata)
{
    struct rendezvous *r = userdata;

    r->state = WAITING;
    r->in_ready = r->out_ready = true;
    out_frame(r, 'H', r->hello, strlen(r->hello));
    turn(r);
}

static void on_dial_failed(void *userdata, const struct err *why, bool later)
{
    struct rendezvous *r = userdata;

    dial_freep(&r->dial);
    if (r->state == OVER)
        return;
    if (later && clock_boot() + REDIAL_USEC < r->wait_until)
        r->redial_at = clock_boot() + REDIAL_USEC;
    else
        over_by(r, why);
    turn(r);
}

static void on_dial_ready(void *userdata, uint32_t revents)
{
    struct rendezvous *r = userdata;
    bool broken = revents & (EPOLLHUP | EPOLLERR | EPOLLRDHUP);

    r->hung_up = r->hung_up || broken;
    r->in_ready = r->in_ready || broken || revents & EPOLLIN;
    r->out_ready = r->out_ready || revents & (EPOLLOUT | EPOLLHUP | EPOLLERR);
    turn(r);
}

static const struct dial_ops dial_ops = {on_dial_up, on_dial_failed, on_dial_ready};

static int dial(struct rendezvous *r, struct err *e)
{
    uint64_t now = clock_boot();

    return dial_open(r->loop, r->url, r->trusted ? &r->trust : NULL,
                     r->wait_until > now ? r->wait_until - now : 1, &dial_ops, r, &r->dial, e);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct rendezvous *r = userdata;
    struct err e = ERR_INIT;
    uint64_t now = clock_boot();

    (void)s;
    (void)usec;
    if (now >= r->wait_until)
        over(r, r->state == DIALING ? "nobody could be reached in time" : "nobody came in time");
    if (now >= r->frame_until)
        over(r, "the other end began a frame and did not send the rest");
    if (now >= r->last_until || now >= r->linger_until)
        over(r, "the other end does not read");
    if (r->state == DIALING && now >= r->redial_at) {
        r->redial_at = USEC_NEVER;
        if (dial(r, &e) < 0)
            over_by(r, &e);
    }
    turn(r);
    return 0;
}

/* --- making it ---------------------------------------------------------------------------------
 */

static int keep_pem(const char *pem, size_t len, char **copy, const char **ret, size_t *ret_len)
{
    if (!pem)
        return 0;
    *copy = malloc(len + 1);
    if (!*copy)
        return -ENOMEM;
    memcpy(*copy, pem, len);
    (*copy)[len] = '\0';
    *ret = *copy;
    *ret_len = len;
    return 0;
}

static int keep_trust(struct rendezvous *r, const struct http_trust *t)
{
    if (!t)
        return 0;
    r->trusted = true;
    int rc = keep_pem(t->ca, t->ca_len, &r->ca, &r->trust.ca, &r->trust.ca_len);
    if (rc == 0)
        rc = keep_pem(t->cert, t->cert_len, &r->cert, &r->trust.cert, &r->trust.cert_len);
    if (rc == 0)
        rc = keep_pem(t->key, t->key_len, &r->key, &r->trust.key, &r->trust.key_len);
    return rc;
}

static int make_hello(struct rendezvous *r, const struct rendezvous_spec *spec, struct err *e)
{
    if (strlen(spec->secret) > LINK_SECRET_MAX)
        return err_say(e, EINVAL, "an attach's secret has at most %d bytes", LINK_SECRET_MAX);
    json_t *j = json_pack("{s:s,s:s,s:s,s:b}", "secret", spec->secret, "agent", spec->agent, "dyno",
                          spec->dyno, "tty", spec->tty);
    r->hello = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (!r->hello || strlen(r->hello) > HELLO_MAX)
        return err_say(e, EINVAL, "an attach's secret or names cannot be told");
    return 0;
}

static int prepare(struct rendezvous *r, const struct rendezvous_spec *spec, struct err *e)
{
    int rc = wire_url(spec->url, r->url, e);

    if (rc == 0)
        rc = make_hello(r, spec, e);
    if (rc < 0)
        return rc;
    if (keep_trust(r, spec->trust) < 0)
        return err_set(e, ENOMEM, "attach");
    rc = sd_event_add_defer(r->loop, &r->again, on_again, r);
    if (rc >= 0)
        rc = sd_event_source_set_enabled(r->again, SD_EVENT_OFF);
    if (rc >= 0)
        rc = timer_set(r->loop, &r->timer, "rendezvous", r->wait_until, on_timer, r);
    return rc < 0 ? err_set(e, -rc, "attach") : dial(r, e);
}

int rendezvous_open(sd_event *loop, const struct rendezvous_spec *spec,
                    const struct rendezvous_ops *ops, void *userdata, struct rendezvous **ret,
                    struct err *e)
{
    scoped(rendezvous_freep) struct rendezvous *r = calloc(1, sizeof(*r));
    uint64_t wait = spec->wait_usec ? spec->wait_usec : LINK_ATTACH_WAIT_SEC * USEC_PER_SEC;
    int fds[3] = {spec->fds[0], spec->fds[1], spec->fds[2]};

    if (!r) {
        for (int i = 0; i < 3; i++)
            fd_closep(&fds[i]);
        return err_set(e, ENOMEM, "attach");
    }
    r->loop = sd_event_ref(loop);
    r->ops = ops;
    r->userdata = userdata;
    r->attach = spec->attach;
    r->wait_until = clock_boot() + wait;
    r->frame_until = r->last_until = r->linger_until = r->redial_at = USEC_NEVER;
    int rc = ends_open(loop, fds, spec->tty, on_ends_ready, r, &r->ends, e);
    if (rc == 0)
        rc = prepare(r, spec, e);
    if (rc < 0)
        return rc;
    *ret = TAKE_PTR(r);
    return 0;
}

void rendezvous_ended(struct rendezvous *r, int status, const char *error)
{
    if (r->ended || r->state == OVER)
        return;
    r->ended = true;
    r->status = status;
    r->error = error ? strdup(error) : NULL; /* without memory the status has to do */
    if (r->state == UP)
        r->last_until = clock_boot() + RENDEZVOUS_LAST_SEC * USEC_PER_SEC;
    ends_last(r->ends);
    (void)sd_event_source_set_enabled(r->again, SD_EVENT_ONESHOT); /* exists: cannot fail */
}

void rendezvous_freep(struct rendezvous **rp)
{
    struct rendezvous *r = *rp;

    if (!r)
        return;
    release(r);
    if (r->calling)
        r->freed = true;
    else
        discard(r);
    *rp = NULL;
}
