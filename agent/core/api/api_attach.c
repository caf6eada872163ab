#include "core/api/api_priv.h"

#include "base/attachproto.h"
#include "base/clock.h"
#include "base/frame.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

/* One attached command. Its connection is libmicrohttpd's until the 101 has been sent; what the
 * agent says before that waits here. */
struct session {
    struct api *api; /* NULL: it is gone, and the agent does not know yet */
    struct request *rq;
    struct attach *attach; /* NULL: it has ended */
    struct MHD_UpgradeResponseHandle *urh;
    struct peer *peer; /* on a duplicate of the connection's descriptor */
    int fd;            /* the connection's, while it is switched over */
    json_t *started;   /* waiting, with FDS */
    int fds[ATTACH_FDS_PIPES];
    size_t n_fds;
    json_t *ended; /* waiting */
    sd_event_source *linger;
    TAILQ_ENTRY(session) link;
};

static void session_clear(struct session *s)
{
    sd_event_source_disable_unref(s->linger);
    peer_freep(&s->peer);
    for (size_t i = 0; i < s->n_fds; i++)
        fd_closep(&s->fds[i]);
    json_decref(s->started);
    json_decref(s->ended);
    TAILQ_REMOVE(&s->api->sessions, s, link);
}

static void session_free(struct session *s)
{
    session_clear(s);
    free(s);
}

/* Gives the connection back to libmicrohttpd, which closes it. */
static void session_hang_up(struct session *s)
{
    s->rq->session = NULL;
    peer_freep(&s->peer); /* before the descriptor that it duplicates */
    if (!s->urh)
        return;                                                 /* never taken */
    (void)MHD_upgrade_action(s->urh, MHD_UPGRADE_ACTION_CLOSE); /* only fails the second time */
    api_again(s->api);
}

static void session_end(struct session *s)
{
    attach_detach(s->attach);
    session_hang_up(s);
    session_free(s);
}

void session_abandon(struct session *s)
{
    attach_detach(s->attach);
    session_free(s);
}

void session_end_all(struct api *api)
{
    struct session *s;

    while ((s = TAILQ_FIRST(&api->sessions))) {
        session_hang_up(s);
        if (!s->attach) {
            session_free(s);
            continue;
        }
        /* The command goes on without this agent, which still holds S: on_ended() frees it. */
        session_clear(s);
        *s = (struct session){.attach = s->attach};
    }
}

static int on_linger(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source;
    (void)usec;
    session_end(userdata);
    return 0;
}

/* A session whose client cannot be told anything is over; on_close() then ends it from the loop,
 * because the agent may be in the middle of a callback now. */
static void session_send(struct session *s, const json_t *json, const int *fds, size_t n_fds)
{
    struct err e = ERR_INIT;

    if (!json || peer_send(s->peer, json, fds, n_fds, &e) < 0)
        (void)shutdown(s->fd, SHUT_RDWR); /* fails when the peer did it first */
}

/* What has waited for the connection goes out. */
static void session_flush(struct session *s)
{
    if (!s->peer)
        return;
    if (s->started) {
        session_send(s, s->started, s->fds, s->n_fds);
        json_decref(TAKE_PTR(s->started));
        for (; s->n_fds > 0; s->n_fds--)
            fd_closep(&s->fds[s->n_fds - 1]);
    }
    if (s->ended) {
        uint64_t at = clock_boot() + ATTACH_LINGER_SEC * USEC_PER_SEC;

        session_send(s, s->ended, NULL, 0);
        json_decref(TAKE_PTR(s->ended));
        if (timer_set(s->api->loop, &s->linger, "api-linger", at, on_linger, s) < 0)
            (void)shutdown(s->fd, SHUT_RDWR); /* no patience without a timer */
    }
}

/* Out of memory or descriptors at a moment when only the client can be told, by its hangup. */
static void session_break(struct session *s)
{
    if (s->peer)
        (void)shutdown(s->fd, SHUT_RDWR);
    else
        (void)shutdown(s->rq->client->fd, SHUT_RDWR);
}

static void on_started(void *userdata, const char *dyno, const int *fds, size_t n, bool tty)
{
    struct session *s = userdata;

    if (!s->api)
        return;
    for (size_t i = 0; i < n && i < ATTACH_FDS_PIPES; i++) {
        s->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (s->fds[i] < 0) {
            session_break(s);
            return;
        }
        s->n_fds++;
    }
    s->started = json_pack("{s:{s:s,s:b}}", "started", "dyno", dyno, "tty", tty);
    if (!s->started)
        session_break(s);
    else
        session_flush(s);
}

static void on_ended(void *userdata, int status, const struct err *why)
{
    struct session *s = userdata;

    if (!s->api) {
        free(s);
        return;
    }
    s->attach = NULL; /* this was its last callback */
    s->ended = json_pack("{s:{s:i,s:o*}}", "ended", "status", status, "error",
                         why ? error_json(why) : NULL);
    if (!s->ended)
        session_break(s);
    else
        session_flush(s);
}

static const struct attach_ops attach_ops = {on_started, on_ended};

/* {"signal": N}, and nothing else. */
static int do_frame(struct session *s, const json_t *json, struct err *e)
{
    int64_t signo = json_int(json, "signal", 0);

    if (signo < 1 || signo > ATTACH_SIGNAL_MAX || json_object_size(json) != 1) {
        err_say(e, EINVAL, "a frame of an attached client is {\"signal\": 1..%d}",
                ATTACH_SIGNAL_MAX);
        return err_blame(e, FAULT_OPERATOR);
    }
    /* It may have ended while the frame was on its way. */
    return s->attach ? attach_signal(s->attach, (int)signo, e) : 0;
}

static void on_frame(void *userdata, struct frame *f)
{
    struct session *s = userdata;
    struct err e = ERR_INIT;

    if (do_frame(s, f->json, &e) == 0)
        return;
    json_t *json = json_pack("{s:o*}", "error", error_json(&e));
    session_send(s, json, NULL, 0);
    json_decref(json);
}

static void on_close(void *userdata, const struct err *why)
{
    (void)why; /* whatever it was: the client is gone */
    session_end(userdata);
}

static const struct peer_ops peer_ops = {on_frame, on_close};

/* The 101 is in the socket. A connection without TLS is handed over as it is, so descriptors can be
 * sent on it. */
static void on_upgraded(void *cls, struct MHD_Connection *conn, void *con_cls, const char *extra,
                        size_t extra_size, MHD_socket fd, struct MHD_UpgradeResponseHandle *urh)
{
    struct session *s = cls;
    struct err e = ERR_INIT;
    int peer_fd;

    (void)conn;
    (void)con_cls;
    (void)extra;
    s->urh = urh;
    s->fd = fd;
    /* A client that spoke before its turn has lost those bytes to the HTTP parser. */
    if (extra_size > 0 || (peer_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0 ||
        peer_new(s->api->loop, peer_fd, &peer_ops, s, &s->peer, &e) < 0) {
        session_end(s);
        return;
    }
    session_flush(s);
}

static struct session *session_new(struct request *rq)
{
    struct session *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->api = rq->client->api;
    s->rq = rq;
    s->fd = -1;
    TAILQ_INSERT_TAIL(&s->api->sessions, s, link);
    rq->session = s;
    return s;
}

/* Says 101; on_upgraded() comes when it is on its way. DYNO: its name in the header, or NULL. */
static int session_accept(struct session *s, const char *dyno, struct err *e)
{
    struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgraded, s);

    if (!response ||
        MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, ATTACH_UPGRADE) != MHD_YES ||
        (dyno && MHD_add_response_header(response, ATTACH_DYNO_HEADER, dyno) != MHD_YES)) {
        if (response)
            MHD_destroy_response(response);
        return err_set(e, ENOMEM, "attach");
    }
    s->rq->response = response;
    s->rq->status = MHD_HTTP_SWITCHING_PROTOCOLS;
    return 0;
}

/* R: what the agent said when it was asked to start the command. */
static int session_begin(struct session *s, int r, const char *dyno, struct err *e)
{
    if (r == 0)
        r = session_accept(s, dyno, e);
    if (r < 0) {
        s->rq->session = NULL;
        session_abandon(s);
    }
    return r;
}

static int need_upgrade(struct err *e)
{
    err_say(e, EPROTONOSUPPORT,
            "an attached command needs HTTP/1.1 with \"Connection: Upgrade\" and \"Upgrade: %s\"",
            ATTACH_UPGRADE);
    return err_blame(e, FAULT_OPERATOR);
}

static int run_attached(struct request *rq, struct err *e)
{
    scoped(json_freep) json_t *answer = NULL;
    struct session *s = session_new(rq);

    if (!s)
        return err_set(e, ENOMEM, "attach");
    int r = agent_run(s->api->agent, rq->params.app, rq->spec, &rq->client->caller, &attach_ops, s,
                      &s->attach, &answer, e);
    return session_begin(s, r, json_string_value(json_object_get(answer, "dyno")), e);
}

static int run_detached(struct request *rq, struct err *e)
{
    struct attach *none = NULL;
    json_t *answer = NULL;
    int r = agent_run(rq->client->api->agent, rq->params.app, rq->spec, &rq->client->caller, NULL,
                      NULL, &none, &answer, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_ACCEPTED, answer, e);
}

/* Attached or not is what the body says; when it does not, what the headers ask for. */
int route_run(struct request *rq, struct err *e)
{
    const json_t *said = json_object_get(rq->spec, "attach");
    bool attach = said ? json_is_true(said) : rq->upgrade;

    if (said && !json_is_boolean(said)) {
        err_say(e, EINVAL, "attach: true or false is wanted");
        return err_blame(e, FAULT_OPERATOR);
    }
    if (attach && !rq->upgrade)
        return need_upgrade(e);
    if (!said && json_object_set_new(rq->spec, "attach", json_boolean(attach)) < 0)
        return err_set(e, ENOMEM, "run");
    return attach ? run_attached(rq, e) : run_detached(rq, e);
}

int route_exec(struct request *rq, struct err *e)
{
    struct session *s;

    if (!rq->upgrade)
        return need_upgrade(e);
    s = session_new(rq);
    if (!s)
        return err_set(e, ENOMEM, "attach");
    int r = agent_exec(s->api->agent, rq->params.app, rq->params.dyno, rq->spec,
                       &rq->client->caller, &attach_ops, s, &s->attach, e);
    return session_begin(s, r, rq->params.dyno, e);
}
