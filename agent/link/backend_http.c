#include "link/backend_http.h"

#include "base/linkproto.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/answer.h"
#include "link/files.h"
#include "link/http.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_USEC (5 * USEC_PER_SEC)
#define ANSWER_USEC  (10 * USEC_PER_SEC) /* over the time that a long-poll may wait */
#define URL_MAX_LEN  2048
#define HEADERS_MAX  4

struct server {
    struct backend base;
    struct http *http;
    char *agent;
    const struct files *files;                               /* NULL: none yet */
    void (*on_address)(void *userdata, const char *address); /* NULL: known, or not wanted */
    void *userdata;
    struct call *calls;
};

struct call {
    struct backend_call base;
    struct call *next, **prev;
    const struct verb *verb;
    struct http_job *job;
    backend_done_fn fn;
    void *userdata;
    char *url; /* the endpoint */
    char *session;
    json_t *body;
    uint64_t seq, after, wait_usec;
    struct backend_timing timing;
};

/* One kind of request: its place below the agent's, and how its answer is read into REPLY. What the
 * reply points at is in a struct parsed. */
struct parsed {
    struct answer_session session;
    struct backend_timing timing;
    json_t *commands;
};
struct verb {
    const char *path;
    int (*read)(const struct call *c, const struct http_answer *a, struct parsed *p,
                struct backend_reply *reply, struct err *e);
};

static int read_enlist(const struct call *c, const struct http_answer *a, struct parsed *p,
                       struct backend_reply *reply, struct err *e)
{
    int r = answer_session(a->body, a->len, &p->session, e);

    (void)c;
    reply->session = p->session.session;
    reply->store = p->session.store;
    reply->timing = &p->session.timing;
    return r;
}

static int read_commands(const struct call *c, const struct http_answer *a, struct parsed *p,
                         struct backend_reply *reply, struct err *e)
{
    int r = answer_commands(a->body, a->len, &p->commands, e);

    (void)c;
    reply->commands = p->commands;
    return r;
}

static int read_report(const struct call *c, const struct http_answer *a, struct parsed *p,
                       struct backend_reply *reply, struct err *e)
{
    (void)p;
    return answer_report(a->body, a->len, c->seq, &reply->snapshot, e);
}

static int read_heartbeat(const struct call *c, const struct http_answer *a, struct parsed *p,
                          struct backend_reply *reply, struct err *e)
{
    reply->timing = &p->timing;
    return answer_heartbeat(a->body, a->len, &c->timing, &p->timing, &reply->snapshot, e);
}

static const struct verb verb_enlist = {"register", read_enlist};
static const struct verb verb_commands = {"commands", read_commands};
static const struct verb verb_report = {"reports", read_report};
static const struct verb verb_heartbeat = {"heartbeat", read_heartbeat};

/* --- what an answer means ----------------------------------------------------------------------
 */

/* "application/json; charset=utf-8", "application/problem+json". */
static bool is_json(const char *type)
{
    size_t len = strcspn(type, "; \t");

    return (len == 16 && !strncasecmp(type, "application/json", len)) ||
           (len > 5 && !strncasecmp(type + len - 5, "+json", 5));
}

static const struct meaning {
    int status; /* 0: any other */
    enum backend_code code;
    const char *kind;
    enum fault fault;
} meanings[] = {
    {401, BACKEND_DENIED, "denied", FAULT_OPERATOR},
    {403, BACKEND_DENIED, "denied", FAULT_OPERATOR},
    {404, BACKEND_FAILED, "not-found", FAULT_OPERATOR},
    {409, BACKEND_FORGOTTEN, "session-lost", FAULT_PLATFORM},
    {429, BACKEND_FAILED, "busy", FAULT_PLATFORM},
    {500, BACKEND_FAILED, "server-error", FAULT_PLATFORM},
    {0, BACKEND_FAILED, "status", FAULT_PLATFORM},
};

static void refuse(const struct call *c, const struct http_answer *a, struct backend_reply *reply,
                   struct err *e)
{
    int status = a->status > 500 && a->status < 600 ? 500 : a->status;
    const struct meaning *m = meanings;

    while (m->status != 0 && m->status != status)
        m++;
    reply->code = m->code;
    reply->kind = m->kind;
    /* Whoever has just asked for a session has none that could be forgotten. */
    if (m->code == BACKEND_FORGOTTEN && c->verb == &verb_enlist)
        reply->code = BACKEND_FAILED;
    if ((a->status == 429 || a->status == 503) && a->retry_after_usec > 0) {
        reply->code = BACKEND_LATER;
        reply->kind = "busy";
        reply->retry_after_usec = a->retry_after_usec;
    }
    (void)err_say(e, EPROTO, "%s: %s: HTTP status %d", c->url, c->verb->path, a->status);
    (void)err_blame(e, m->fault);
}

/* A server that refuses our certificate closes the connection, and its reason may be lost with it.
 */
static bool may_be_denied(const struct call *c, const char *kind)
{
    const struct server *s = (const struct server *)c->base.backend;

    return !strcmp(kind, "tls") || (!strcmp(kind, "broken") && s->files && s->files->cert);
}

static void judge(const struct call *c, const struct http_answer *a, struct parsed *p,
                  struct backend_reply *reply, struct err *e)
{
    int r;

    if (a->why) {
        *e = *a->why;
        reply->code = may_be_denied(c, a->kind) ? BACKEND_DENIED : BACKEND_FAILED;
        reply->kind = a->kind;
    } else if (a->status != 200) {
        refuse(c, a, reply, e);
    } else if (!is_json(a->type)) {
        char type[64];

        (void)err_say(e, EBADMSG, "%s: %s: the answer is of type '%s', not JSON", c->url,
                      c->verb->path, text_escape(type, sizeof(type), a->type, strlen(a->type)));
        reply->code = BACKEND_FAILED;
        reply->kind = "not-json";
    } else if ((r = c->verb->read(c, a, p, reply, e)) < 0) {
        (void)err_wrap(e, "%s: %s", c->url, c->verb->path);
        reply->code = BACKEND_FAILED;
        reply->kind = r == -EBADMSG ? "not-json" : "bad-answer";
    } else {
        reply->code = BACKEND_OK;
    }
}

/* --- calls -------------------------------------------------------------------------------------
 */

static void call_free(struct call *c)
{
    if (c->prev) {
        *c->prev = c->next;
        if (c->next)
            c->next->prev = c->prev;
    }
    http_cancel(c->job);
    free(c->url);
    free(c->session);
    json_decref(c->body);
    free(c);
}

static void call_freep(struct call **c)
{
    if (*c)
        call_free(*c);
}

static void call_end(struct call *c, const struct http_answer *a)
{
    struct backend_reply reply = {.code = BACKEND_FAILED};
    struct parsed parsed = {0};
    struct err e = ERR_INIT;

    judge(c, a, &parsed, &reply, &e);
    if (reply.code != BACKEND_OK)
        reply.why = &e;
    backend_done_fn fn = c->fn;
    void *userdata = c->userdata;
    call_free(c);
    fn(userdata, &reply);
    json_decref(parsed.commands);
}

static void on_answer(void *userdata, const struct http_answer *a)
{
    struct call *c = userdata;

    c->job = NULL;
    call_end(c, a);
}

/* The session's id is whatever the controller likes: %XX for all that is special in a URL. */
static void add_escaped(struct str *url, const char *text)
{
    for (; *text; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~", *text))
            str_add_n(url, text, 1);
        else
            str_addf(url, "%%%02X", (unsigned char)*text);
    }
}

static void make_url(const struct call *c, struct str *url)
{
    const struct server *s = (const struct server *)c->base.backend;
    size_t len = strlen(c->url);

    while (len > 0 && c->url[len - 1] == '/')
        len--;
    str_add_n(url, c->url, len);
    str_addf(url, "/v1/agents/%s/%s", s->agent, c->verb->path);
    if (c->verb != &verb_commands)
        return;
    str_add(url, "?session=");
    add_escaped(url, c->session);
    str_addf(url, "&after=%llu&wait=%llu", (unsigned long long)c->after,
             (unsigned long long)(c->wait_usec / USEC_PER_SEC));
}

/* Sends C's request; with CONNECT_ONLY just goes there. */
static int call_send(struct call *c, bool connect_only, http_done_fn fn, struct err *e)
{
    struct server *s = (struct server *)c->base.backend;
    scoped(str_done) struct str url = {.max = URL_MAX_LEN}, auth = {0};
    struct http_trust trust = s->files ? files_trust(s->files) : (struct http_trust){0};
    const char *headers[HEADERS_MAX] = {"Accept: application/json"};
    scoped_free char *body = NULL;
    size_t n = 1;

    make_url(c, &url);
    if (c->body && !connect_only) {
        body = json_dumps(c->body, JSON_COMPACT | JSON_REAL_PRECISION(15));
        headers[n++] = "Content-Type: application/json";
        if (!body)
            return err_set(e, ENOMEM, "make a request");
    }
    if (s->files && s->files->token) {
        str_addf(&auth, "Authorization: Bearer %s", s->files->token);
        headers[n++] = str_text(&auth);
    }
    if (url.failed || auth.failed)
        return err_say(e, EINVAL, "%s: the URL is too long", c->url);
    struct http_request rq = {
        .method = body ? "POST" : "GET",
        .url = str_text(&url),
        .headers = headers,
        .body = body,
        .body_len = body ? strlen(body) : 0,
        .answer_max = LINK_ANSWER_MAX,
        .connect_usec = CONNECT_USEC,
        .total_usec = ANSWER_USEC + c->wait_usec,
        .trust = &trust,
        .connect_only = connect_only,
    };
    int r = http_send(s->http, &rq, fn, c, &c->job, e);
    if (auth.data)
        explicit_bzero(auth.data, auth.len);
    return r;
}

static struct call *call_new(struct server *s, const struct verb *verb,
                             const struct backend_request *rq, backend_done_fn fn, void *userdata)
{
    scoped(call_freep) struct call *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->base.backend = &s->base;
    c->verb = verb;
    c->fn = fn;
    c->userdata = userdata;
    c->url = strdup(rq->url);
    c->session = strdup(rq->session ? rq->session : "");
    c->body = json_incref(rq->body);
    c->seq = rq->seq;
    c->after = rq->after;
    c->wait_usec = rq->wait_usec;
    if (rq->timing)
        c->timing = *rq->timing;
    if (!c->url || !c->session)
        return NULL;
    return TAKE_PTR(c);
}

static void call_keep(struct call *c)
{
    struct server *s = (struct server *)c->base.backend;

    c->next = s->calls;
    c->prev = &s->calls;
    if (c->next)
        c->next->prev = &c->next;
    s->calls = c;
}

static int call_start(struct backend *b, const struct verb *verb, const struct backend_request *rq,
                      bool connect_only, http_done_fn first, backend_done_fn fn, void *userdata,
                      struct backend_call **ret, struct err *e)
{
    scoped(call_freep) struct call *c = call_new((struct server *)b, verb, rq, fn, userdata);

    if (!c)
        return err_set(e, ENOMEM, "make a request");
    int r = call_send(c, connect_only, first, e);
    if (r < 0)
        return r;
    call_keep(c);
    *ret = &TAKE_PTR(c)->base;
    return 0;
}

/* --- the backend -------------------------------------------------------------------------------
 */

/* We are there: from where, is now known. */
static void on_connected(void *userdata, const struct http_answer *a)
{
    struct call *c = userdata;
    struct server *s = (struct server *)c->base.backend;
    struct err e = ERR_INIT;

    c->job = NULL;
    if (a->why) {
        call_end(c, a);
        return;
    }
    if (a->local[0] && s->on_address) {
        void (*tell)(void *, const char *) = TAKE_PTR(s->on_address);

        (void)json_object_set_new(c->body, "address",
                                  json_string(a->local)); /* dynod tells it too */
        tell(s->userdata, a->local);
    }
    if (call_send(c, false, on_answer, &e) < 0)
        call_end(c, &(struct http_answer){.why = &e, .kind = "memory"});
}

static int http_enlist(struct backend *b, const struct backend_request *rq, backend_done_fn fn,
                       void *userdata, struct backend_call **ret, struct err *e)
{
    struct server *s = (struct server *)b;
    bool look = s->on_address != NULL;

    return call_start(b, &verb_enlist, rq, look, look ? on_connected : on_answer, fn, userdata, ret,
                      e);
}

static int http_commands(struct backend *b, const struct backend_request *rq, backend_done_fn fn,
                         void *userdata, struct backend_call **ret, struct err *e)
{
    return call_start(b, &verb_commands, rq, false, on_answer, fn, userdata, ret, e);
}

static int http_report(struct backend *b, const struct backend_request *rq, backend_done_fn fn,
                       void *userdata, struct backend_call **ret, struct err *e)
{
    return call_start(b, &verb_report, rq, false, on_answer, fn, userdata, ret, e);
}

static int http_heartbeat(struct backend *b, const struct backend_request *rq, backend_done_fn fn,
                          void *userdata, struct backend_call **ret, struct err *e)
{
    return call_start(b, &verb_heartbeat, rq, false, on_answer, fn, userdata, ret, e);
}

static void http_call_cancel(struct backend_call *call)
{
    if (call)
        call_free((struct call *)call);
}

static void http_use_files(struct backend *b, const struct files *files)
{
    ((struct server *)b)->files = files;
}

static void server_free(struct server *s)
{
    struct call *c;

    while ((c = s->calls)) {
        s->calls = c->next;
        c->prev = NULL; /* it is in no list any more, nor does the next one need to be */
        call_free(c);
    }
    free(s->agent);
    free(s);
}

static void server_freep(struct server **s)
{
    if (*s)
        server_free(*s);
}

static void http_close(struct backend *b)
{
    if (b)
        server_free((struct server *)b);
}

static int http_open(const struct backend_setup *setup, struct backend **ret, struct err *e)
{
    scoped(server_freep) struct server *s = calloc(1, sizeof(*s));

    if (!s || !(s->agent = strdup(setup->agent)))
        return err_set(e, ENOMEM, "open the controller");
    s->base.ops = backend_http();
    s->http = setup->http;
    s->on_address = setup->on_address;
    s->userdata = setup->userdata;
    *ret = (struct backend *)TAKE_PTR(s);
    return 0;
}

const struct backend_ops *backend_http(void)
{
    static const struct backend_ops ops = {
        .open = http_open,
        .close = http_close,
        .use_files = http_use_files,
        .enlist = http_enlist,
        .commands = http_commands,
        .report = http_report,
        .heartbeat = http_heartbeat,
        .cancel = http_call_cancel,
    };

    return &ops;
}
