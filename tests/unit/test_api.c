/* The API against an agent that only remembers what it was asked. Client and server share this
 * process and its loop: pump() lets the server work while the client waits. */
#include "core/api/api_priv.h"

#include "base/attachproto.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE   (60 * USEC_PER_SEC)
#define STRANGER   54321 /* a uid that is nobody's */
#define API_GROUP  54322
#define ANSWER_MAX (8u << 20)
#define HEX        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* --- The agent ---------------------------------------------------------------------------- */

struct attach {
    struct agent *agent;
};

struct event_watch {
    event_fn fn;
    void *userdata;
};

struct agent {
    sd_event *loop;
    struct api *api;
    char dir[64], path[96];
    char call[512]; /* the last one, in words */
    char *spec;     /* its JSON */
    struct err fail;
    int log_fd; /* agent_logs()'s write end */
    struct event_watch watch;
    bool watched;
    size_t n_events;
    const struct attach_ops *ops;
    void *userdata;
    struct attach attach;
    int signo;
    bool detached;
};

__attribute__((format(printf, 3, 4))) static int called(struct agent *a, const json_t *spec,
                                                        const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(a->call, sizeof(a->call), fmt, ap);
    va_end(ap);
    free(a->spec);
    a->spec = spec ? json_dumps(spec, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    return -a->fail.errnum;
}

static int answer(struct agent *a, json_t **ret, struct err *e, int r)
{
    if (r < 0)
        *e = a->fail;
    else
        *ret = json_pack("{s:s}", "did", a->call);
    return r;
}

sd_event *agent_loop(struct agent *a)
{
    return a->loop;
}

int agent_release(struct agent *a, const char *app, const json_t *spec, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, spec, "release %s", app));
}

int agent_scale(struct agent *a, const char *app, const json_t *spec, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, spec, "scale %s", app));
}

int agent_restart(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "restart %s %s", app, dyno ? dyno : "-"));
}

int agent_stop(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "stop %s %s", app, dyno ? dyno : "-"));
}

int agent_pause(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "pause %s %s", app, dyno ? dyno : "-"));
}

int agent_resume(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "resume %s %s", app, dyno ? dyno : "-"));
}

int agent_resize(struct agent *a, const char *app, const char *dyno, const json_t *spec,
                 json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, spec, "resize %s %s", app, dyno ? dyno : "-"));
}

json_t *agent_top(struct agent *a, const char *app)
{
    (void)called(a, NULL, "top %s", app ? app : "-");
    return json_object();
}

int agent_forget(struct agent *a, const char *app, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "forget %s", app));
}

int agent_drain(struct agent *a, const json_t *spec, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, spec, "drain"));
}

int agent_undrain(struct agent *a, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "undrain"));
}

json_t *agent_instance(struct agent *a)
{
    (void)called(a, NULL, "instance");
    return json_pack("{s:b}", "draining", 0);
}

int agent_slug_fetch(struct agent *a, const json_t *spec, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, spec, "slug fetch"));
}

int agent_slug_remove(struct agent *a, const struct digest *digest, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "slug remove %s", digest->hex));
}

int agent_slug_verify(struct agent *a, const struct digest *digest, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "slug verify %s", digest->hex));
}

json_t *agent_slugs(struct agent *a)
{
    (void)called(a, NULL, "slugs");
    return json_pack("{s:[],s:[],s:i}", "slugs", "fetches", "bytes", 0);
}

static int attached(struct agent *a, const struct attach_ops *ops, void *userdata,
                    struct attach **ret, struct err *e, int r)
{
    if (r < 0) {
        *e = a->fail;
        return r;
    }
    a->ops = ops;
    a->userdata = userdata;
    a->detached = false;
    a->attach.agent = a;
    if (ops)
        *ret = &a->attach;
    return 0;
}

int agent_run(struct agent *a, const char *app, const json_t *spec, const struct caller *caller,
              const struct attach_ops *ops, void *userdata, struct attach **ret_attach,
              json_t **ret, struct err *e)
{
    assert_int_equal(caller->uid, getuid());
    assert_int_equal(caller->pid, getpid());
    int r = attached(a, ops, userdata, ret_attach, e,
                     called(a, spec, "run %s %s", app, ops ? "attached" : "detached"));

    if (r == 0)
        *ret = json_pack("{s:s}", "dyno", "run.4123");
    return r;
}

int agent_exec(struct agent *a, const char *app, const char *dyno, const json_t *spec,
               const struct caller *caller, const struct attach_ops *ops, void *userdata,
               struct attach **ret_attach, struct err *e)
{
    assert_int_equal(caller->uid, getuid());
    assert_int_equal(caller->pid, getpid());
    return attached(a, ops, userdata, ret_attach, e, called(a, spec, "exec %s %s", app, dyno));
}

int attach_signal(struct attach *at, int signo, struct err *e)
{
    if (signo == 33)
        return err_say(e, EINVAL, "nobody sends 33");
    at->agent->signo = signo;
    return 0;
}

void attach_detach(struct attach *at)
{
    if (at)
        at->agent->detached = true;
}

json_t *agent_status(struct agent *a)
{
    (void)called(a, NULL, "status");
    return json_pack("{s:s}", "version", "1");
}

json_t *agent_doctor(struct agent *a)
{
    (void)called(a, NULL, "doctor");
    return json_pack("[{s:s}]", "name", "cgroup2");
}

json_t *agent_apps(struct agent *a)
{
    (void)called(a, NULL, "apps");
    return json_array();
}

int agent_app(struct agent *a, const char *app, json_t **ret, struct err *e)
{
    if (!strcmp(app, "nosuch"))
        return err_say(e, ENOENT, "no app is called %s", app);
    return answer(a, ret, e, called(a, NULL, "app %s", app));
}

json_t *agent_dynos(struct agent *a, const char *app)
{
    (void)called(a, NULL, "dynos %s", app ? app : "-");
    return app ? json_array() : json_pack("[{s:s}]", "dyno", "web.1");
}

int agent_dyno(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e)
{
    return answer(a, ret, e, called(a, NULL, "dyno %s %s", app, dyno));
}

int agent_logs(struct agent *a, const json_t *query, int fd, struct err *e)
{
    int r = called(a, query, "logs");

    fd_closep(&a->log_fd);
    if (r < 0) {
        close(fd);
        *e = a->fail;
        return r;
    }
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    a->log_fd = fd;
    return 0;
}

json_t *agent_events(struct agent *a, uint64_t after_id, size_t max)
{
    json_t *all = json_array();

    (void)called(a, NULL, "events %llu %zu", (unsigned long long)after_id, max);
    for (size_t i = 0; i < a->n_events; i++)
        json_array_append_new(all, json_pack("{s:i}", "id", (int)i + 1));
    return all;
}

int agent_watch_events(struct agent *a, event_fn fn, void *userdata, struct event_watch **ret,
                       struct err *e)
{
    (void)e;
    assert_false(a->watched);
    a->watched = true;
    a->watch = (struct event_watch){fn, userdata};
    *ret = &a->watch;
    return 0;
}

void agent_unwatch_events(struct event_watch *w)
{
    struct agent *a = (struct agent *)((char *)w - offsetof(struct agent, watch));

    assert_true(a->watched);
    a->watched = false;
}

/* PAD: how many bytes longer than need be. */
static void happen_long(struct agent *a, int id, size_t pad)
{
    scoped_free char *text = calloc(1, pad + 1);

    memset(text, 'x', pad);
    json_t *event =
        pad ? json_pack("{s:i,s:s}", "id", id, "text", text) : json_pack("{s:i}", "id", id);

    assert_true(a->watched);
    a->watch.fn(a->watch.userdata, event);
    json_decref(event);
}

static void happen(struct agent *a, int id)
{
    happen_long(a, id, 0);
}

/* --- The client --------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct agent *a = calloc(1, sizeof(*a));
    struct err e = ERR_INIT;
    int fd;

    assert_non_null(a);
    a->log_fd = -1;
    assert_true(sd_event_new(&a->loop) >= 0);
    strcpy(a->dir, "/tmp/dynod-test-api-XXXXXX");
    assert_non_null(mkdtemp(a->dir));
    assert_int_equal(chmod(a->dir, 0755), 0);
    (void)snprintf(a->path, sizeof(a->path), "%s/api.sock", a->dir);
    assert_int_equal(unix_listen(a->path, SOCK_STREAM, 0666, &fd, &e), 0);
    assert_int_equal(api_open(a, fd, API_GROUP, &a->api, &e), 0);
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    struct agent *a = *state;

    api_freep(&a->api);
    assert_false(a->watched);
    fd_closep(&a->log_fd);
    sd_event_unref(a->loop);
    (void)unlink(a->path);
    (void)rmdir(a->dir);
    free(a->spec);
    free(a);
    return 0;
}

static void pump(struct agent *a)
{
    assert_true(sd_event_run(a->loop, USEC_PER_MSEC) >= 0);
}

/* Lets the server do all that it can do now. */
static void settle(struct agent *a)
{
    while (sd_event_run(a->loop, 5 * USEC_PER_MSEC) > 0)
        ;
}

static int dial(struct agent *a)
{
    struct err e = ERR_INIT;
    int fd;

    for (;;) {
        if (unix_connect(a->path, SOCK_STREAM | SOCK_NONBLOCK, &fd, &e) == 0)
            return fd;
        assert_int_equal(e.errnum, EAGAIN); /* the backlog is full */
        pump(a);
    }
}

static void say_n(struct agent *a, int fd, const char *text, size_t len)
{
    uint64_t end = clock_boot() + PATIENCE;

    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return; /* refused in the middle: the answer tells */
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        } else {
            pump(a);
        }
        assert_true(clock_boot() < end);
    }
}

static void say(struct agent *a, int fd, const char *text)
{
    say_n(a, fd, text, strlen(text));
}

/* Reads once into TEXT. False at the end. */
static bool hear(int fd, struct str *text)
{
    static char buf[65536];
    ssize_t n = recv(fd, buf, sizeof(buf), 0);

    if (n > 0)
        str_add_n(text, buf, (size_t)n);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool whole(const struct str *text)
{
    const char *head = strstr(str_text(text), "\r\n\r\n"), *length;

    if (!head)
        return false;
    length = strcasestr(text->data, "Content-Length: ");
    if (!length || length > head)
        return false;
    return text->len >= (size_t)(head + 4 - text->data) + strtoul(length + 16, NULL, 10);
}

/* What comes until UNTIL is in it, or, NULL: until an answer is whole, or the end. To be freed. */
static char *listen_for(struct agent *a, int fd, const char *until)
{
    struct str text = {.max = ANSWER_MAX};
    uint64_t end = clock_boot() + PATIENCE;

    while (hear(fd, &text) && !(until ? strstr(str_text(&text), until) != NULL : whole(&text))) {
        pump(a);
        assert_true(clock_boot() < end);
    }
    return text.data ? text.data : strdup("");
}

static char *ask_raw(struct agent *a, const char *text)
{
    scoped_fd fd = dial(a);

    say(a, fd, text);
    return listen_for(a, fd, NULL);
}

static char *ask(struct agent *a, const char *line, const char *body)
{
    struct str text = {0};

    str_addf(&text, "%s HTTP/1.1\r\nHost: dynod\r\n", line);
    if (body)
        str_addf(&text, "Content-Length: %zu\r\n", strlen(body));
    str_addf(&text, "\r\n%s", body ? body : "");
    char *got = ask_raw(a, text.data);
    str_done(&text);
    return got;
}

static int status_of(const char *got)
{
    return !strncmp(got, "HTTP/1.1 ", 9) ? atoi(got + 9) : -1;
}

static const char *body_of(const char *got)
{
    const char *head = strstr(got, "\r\n\r\n");

    return head ? head + 4 : "";
}

static json_t *json_of(const char *got)
{
    json_t *json = json_loads(body_of(got), 0, NULL);

    if (!json)
        fail_msg("not JSON: %s", got);
    return json;
}

/* GOT is an error with STATUS and CODE whose message has WORDS in it. */
static void expect_error(const char *got, int status, const char *code, const char *words)
{
    if (status_of(got) != status)
        fail_msg("%d was expected: %s", status, got);
    json_t *json = json_of(got), *error = json_object_get(json, "error");
    assert_string_equal(json_str(error, "code", ""), code);
    assert_string_equal(json_str(error, "fault", ""), "operator");
    if (!strstr(json_str(error, "message", ""), words))
        fail_msg("'%s' is not in: %s", words, got);
    json_decref(json);
}

static void refused(struct agent *a, const char *line, const char *body, int status,
                    const char *code, const char *words)
{
    scoped_free char *got = ask(a, line, body);

    a->call[0] = a->call[0] ? '!' : a->call[0];
    expect_error(got, status, code, words);
    assert_string_equal(a->call, ""); /* the agent was not asked */
}

/* --- Requests ----------------------------------------------------------------------------- */

static void every_route_asks_the_agent(void **state)
{
    static const struct {
        const char *line, *body;
        int status;
        const char *call, *spec;
    } cases[] = {
        {"GET /v1/status", NULL, 200, "status", NULL},
        {"GET /v1/doctor", NULL, 200, "doctor", NULL},
        {"GET /v1/instance", NULL, 200, "instance", NULL},
        {"POST /v1/instance/drain", NULL, 200, "drain", "{}"},
        {"POST /v1/instance/drain", "{}", 200, "drain", "{}"},
        {"POST /v1/instance/drain", "{\"deadline_ms\":5}", 200, "drain", "{\"deadline_ms\":5}"},
        {"POST /v1/instance/undrain", NULL, 200, "undrain", NULL},
        {"POST /v1/instance/undrain", "{}", 200, "undrain", NULL},
        {"GET /v1/apps", NULL, 200, "apps", NULL},
        {"GET /v1/apps/shop", NULL, 200, "app shop", NULL},
        {"DELETE /v1/apps/shop", NULL, 200, "forget shop", NULL},
        {"POST /v1/apps/shop/releases", "{\"slug\":\"file:///s\"}", 201, "release shop",
         "{\"slug\":\"file:///s\"}"},
        {"PATCH /v1/apps/shop/formation", "{\"web\":3}", 200, "scale shop", "{\"web\":3}"},
        {"POST /v1/apps/shop/restart", NULL, 200, "restart shop -", NULL},
        {"POST /v1/apps/shop/restart", "{}", 200, "restart shop -", NULL},
        {"POST /v1/apps/shop/stop", NULL, 200, "stop shop -", NULL},
        {"POST /v1/apps/shop/pause", NULL, 200, "pause shop -", NULL},
        {"POST /v1/apps/shop/resume", NULL, 200, "resume shop -", NULL},
        {"POST /v1/apps/shop/resize", "{\"size\":\"x\",\"type\":\"web\"}", 200, "resize shop -",
         "{\"size\":\"x\",\"type\":\"web\"}"},
        {"POST /v1/apps/shop/run", "{\"command\":\"ls\"}", 202, "run shop detached",
         "{\"attach\":false,\"command\":\"ls\"}"},
        {"POST /v1/apps/shop/run", "{\"attach\":false}", 202, "run shop detached",
         "{\"attach\":false}"},
        {"GET /v1/dynos", NULL, 200, "dynos -", NULL},
        {"GET /v1/dynos?app=shop", NULL, 200, "app shop", NULL}, /* none: is there such an app? */
        {"GET /v1/dynos/shop/web.1", NULL, 200, "dyno shop web.1", NULL},
        {"GET /v1/dynos/shop/w%65b.1", NULL, 200, "dyno shop web.1", NULL},
        {"POST /v1/dynos/shop/web.1/restart", NULL, 200, "restart shop web.1", NULL},
        {"POST /v1/dynos/shop/web.1/stop", NULL, 200, "stop shop web.1", NULL},
        {"POST /v1/dynos/shop/web.1/pause", NULL, 200, "pause shop web.1", NULL},
        {"POST /v1/dynos/shop/web.1/resume", "{}", 200, "resume shop web.1", NULL},
        {"POST /v1/dynos/shop/web.1/resize", "{\"size\":\"x\"}", 200, "resize shop web.1",
         "{\"size\":\"x\"}"},
        {"GET /v1/top", NULL, 200, "top -", NULL},
        {"GET /v1/top?app=shop", NULL, 200, "top shop", NULL},
        {"GET /v1/slugs", NULL, 200, "slugs", NULL},
        {"POST /v1/slugs", "{\"slug\":\"https://s/\"}", 202, "slug fetch",
         "{\"slug\":\"https://s/\"}"},
        {"DELETE /v1/slugs/sha256:" HEX, NULL, 200, "slug remove " HEX, NULL},
        {"DELETE /v1/slugs/sha256%3a" HEX, NULL, 200, "slug remove " HEX, NULL},
        {"POST /v1/slugs/sha256:" HEX "/verify", NULL, 202, "slug verify " HEX, NULL},
        {"GET /v1/events", NULL, 200, "events 0 100", NULL},
        {"GET /v1/events?after=7", NULL, 200, "events 7 10000", NULL},
        {"GET /v1/events?n=5&after=7", NULL, 200, "events 7 5", NULL},
    };
    struct agent *a = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        a->call[0] = '\0';
        scoped_free char *got = ask(a, cases[i].line, cases[i].body);

        if (status_of(got) != cases[i].status)
            fail_msg("%s: %s", cases[i].line, got);
        assert_string_equal(a->call, cases[i].call);
        if (cases[i].spec)
            assert_string_equal(a->spec, cases[i].spec);
    }
}

static void the_answer_is_the_agents(void **state)
{
    struct agent *a = *state;
    scoped_free char *got = ask(a, "POST /v1/dynos/shop/web.1/stop", NULL);

    assert_non_null(strstr(got, "Content-Type: application/json\r\n"));
    assert_string_equal(body_of(got), "{\"did\":\"stop shop web.1\"}\n");
    a->n_events = 2;
    scoped_free char *events = ask(a, "GET /v1/events", NULL);
    assert_non_null(strstr(events, "Content-Type: application/x-ndjson\r\n"));
    assert_string_equal(body_of(events), "{\"id\":1}\n{\"id\":2}\n");
}

static void errors_become_answers(void **state)
{
    static const struct {
        int errnum, status;
        const char *code;
    } cases[] = {
        {EINVAL, 400, "invalid"},  {EACCES, 403, "forbidden"},   {ENOENT, 404, "not_found"},
        {EEXIST, 409, "exists"},   {E2BIG, 413, "too_large"},    {EDQUOT, 429, "too_many"},
        {EIO, 500, "internal"},    {ENOSYS, 501, "unsupported"}, {EBUSY, 503, "busy"},
        {ENOSPC, 503, "no_space"}, {ENOMEM, 503, "no_memory"},   {ENOTCONN, 503, "unavailable"},
    };
    struct agent *a = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err_say(&a->fail, cases[i].errnum, "the \"reason\" \x1b[1m of %zu", i);
        a->fail.fault = FAULT_OPERATOR;
        scoped_free char *got = ask(a, "POST /v1/apps/shop/releases", "{}");
        expect_error(got, cases[i].status, cases[i].code, "the \"reason\" \\x1b[1m of ");
        assert_int_equal(strstr(got, "Retry-After: ") != NULL,
                         cases[i].status == 429 || cases[i].status == 503);
    }
    a->fail.fault = FAULT_APP; /* it is not the API that knows */
    scoped_free char *got = ask(a, "GET /v1/logs", NULL);
    assert_non_null(strstr(got, "\"fault\":\"app\""));
}

static void wrong_paths_say_so(void **state)
{
    static const struct {
        const char *line;
        int status;
        const char *code, *words;
    } cases[] = {
        {"GET /", 404, "not_found", "openapi"},
        {"GET /v1", 404, "not_found", "/v1"},
        {"GET /v1/", 404, "not_found", ""},
        {"GET /v1/apps/", 400, "invalid", "''"},
        {"GET /v1/status/", 404, "not_found", ""},
        {"GET //v1/status", 404, "not_found", ""},
        {"GET /v2/status", 404, "not_found", ""},
        {"GET /v1/apps/shop/releases/1/2/3/4", 404, "not_found", ""},
        {"GET v1/status", 404, "not_found", ""},
        {"GET /v1/apps/..", 400, "invalid", "'..'"},
        {"GET /v1/apps/Shop", 400, "invalid", "small letter"},
        {"GET /v1/apps/a%2fb", 400, "invalid", "'a/b'"},
        {"GET /v1/apps/a%00b", 400, "invalid", "control"},
        {"GET /v1/apps/a%0ab", 400, "invalid", "control"},
        {"GET /v1/apps/a%", 400, "invalid", "hexadecimal"},
        {"GET /v1/apps/a%4", 400, "invalid", "hexadecimal"},
        {"GET /v1/apps/a%zz", 400, "invalid", "hexadecimal"},
        {"GET /v1/dynos/shop/web", 400, "invalid", "web.1"},
        {"GET /v1/dynos/shop/web.0", 400, "invalid", "web.1"},
        {"GET /v1/dynos/shop/web.99999999", 400, "invalid", "web.1"},
        {"GET /v1/dynos/shop/a%2fweb.1", 400, "invalid", "web.1"},
        {"GET /v1/apps?x=1", 400, "invalid", "'x' is not a parameter"},
        {"GET /v1/apps?app=shop", 400, "invalid", "none"},
        {"DELETE /v1/slugs/sha256:" HEX "0", 400, "invalid", "is not the digest"},
        {"DELETE /v1/slugs/shop", 400, "invalid", "'shop' is not the digest"},
        {"POST /v1/slugs/%00/verify", 400, "invalid", "control"},
        {"GET /v1/logs?x", 400, "invalid", "app, dyno, n, follow, format, source"},
        {"GET /v1/logs?n=1&n=2", 400, "invalid", "twice"},
        {"GET /v1/logs?n", 400, "invalid", "no value"},
        {"GET /v1/logs?n=-1", 400, "invalid", "number"},
        {"GET /v1/logs?n=100001", 400, "invalid", "100000"},
        {"GET /v1/logs?n=", 400, "invalid", "number"},
        {"GET /v1/logs?follow=yes", 400, "invalid", "1 or 0"},
        {"GET /v1/logs?format=xml", 400, "invalid", "json or text"},
        {"GET /v1/logs?dyno=web.1", 400, "invalid", "app beside"},
        {"GET /v1/logs?app=shop&dyno=web", 400, "invalid", "web.1"},
        {"GET /v1/logs?app=%zz", 400, "invalid", "hexadecimal"},
        {"GET /v1/logs?source=", 400, "invalid", "source"},
        {"GET /v1/events?n=10001", 400, "invalid", "10000"},
        {"GET /v1/events?after=99999999999999999999", 400, "invalid", "number"},
        {"GET /v1/dynos?app=nosuch", 404, "not_found", "nosuch"},
    };
    struct agent *a = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scoped_free char *got = ask(a, cases[i].line, NULL);
        bool asked = strstr(cases[i].line, "nosuch") != NULL;

        if (asked) { /* that one is the agent's own */
            assert_int_equal(status_of(got), 404);
            a->call[0] = '\0';
            continue;
        }
        expect_error(got, cases[i].status, cases[i].code, cases[i].words);
        assert_string_equal(a->call, "");
    }
    struct str longer = {0};
    str_add(&longer, "GET /v1/apps/");
    for (int i = 0; i < 1000; i++)
        str_add(&longer, "a");
    refused(a, longer.data, NULL, 400, "invalid", "longer");
    str_done(&longer);
}

static void wrong_methods_name_the_right_ones(void **state)
{
    static const struct {
        const char *line, *allow;
    } cases[] = {
        {"POST /v1/status", "Allow: GET, HEAD\r\n"},
        {"POST /v1/instance", "Allow: GET, HEAD\r\n"},
        {"GET /v1/instance/drain", "Allow: POST\r\n"},
        {"PUT /v1/slugs", "Allow: GET, HEAD, POST\r\n"},
        {"GET /v1/slugs/" HEX, "Allow: DELETE\r\n"},
        {"PUT /v1/apps/shop", "Allow: GET, HEAD, DELETE\r\n"},
        {"GET /v1/apps/shop/run", "Allow: POST\r\n"},
        {"OPTIONS /v1/apps/shop/formation", "Allow: PATCH\r\n"},
        {"BREW /v1/logs", "Allow: GET, HEAD\r\n"},
    };
    struct agent *a = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scoped_free char *got = ask(a, cases[i].line, NULL);

        expect_error(got, 405, "method_not_allowed", "");
        assert_non_null(strstr(got, cases[i].allow));
    }
}

static void bodies_are_checked(void **state)
{
    struct agent *a = *state;
    const char *line = "POST /v1/apps/shop/releases";

    refused(a, line, NULL, 400, "invalid", "wants a JSON object");
    refused(a, line, "{\"a\":\n  nope}", 400, "invalid", "line 2, column ");
    refused(a, line, "[1]", 400, "invalid", "not a JSON object");
    refused(a, line, "{\"a\":1,\"a\":2}", 400, "invalid", "duplicate");
    refused(a, line, "{} {}", 400, "invalid", "line 1");
    refused(a, "POST /v1/apps/shop/stop", "{\"a\":1}", 400, "invalid", "takes no body");
    refused(a, "POST /v1/instance/drain", "[]", 400, "invalid", "not a JSON object");
    refused(a, "POST /v1/instance/drain", "x", 400, "invalid", "line 1");
    refused(a, "POST /v1/instance/undrain", "{\"a\":1}", 400, "invalid", "takes no body");
    refused(a, "GET /v1/status", "x", 400, "invalid", "line 1");
    refused(a, "POST /v1/apps/shop/run", "{\"attach\":1}", 400, "invalid", "attach");
    struct str deep = {0}, many = {0};
    for (int i = 0; i < 100; i++)
        str_add(&deep, "{\"a\":");
    refused(a, line, deep.data, 400, "invalid", "deep");
    str_add(&many, "{\"a\":[1");
    for (int i = 0; i < API_BODY_VALUES_MAX; i++)
        str_add(&many, ",1");
    str_add(&many, "]}");
    refused(a, line, many.data, 413, "too_large", "values");
    str_done(&deep);
    str_done(&many);
}

static void a_large_body_goes_through(void **state)
{
    struct agent *a = *state;
    struct str body = {0};

    str_add(&body, "{\"env\":\"");
    while (body.len < API_BODY_MAX - 2)
        str_add(&body, ",");
    str_add(&body, "\"}");
    assert_int_equal(body.len, API_BODY_MAX);
    scoped_free char *got = ask(a, "POST /v1/apps/shop/releases", body.data);
    assert_int_equal(status_of(got), 201);
    assert_int_equal(strlen(a->spec), API_BODY_MAX);
    str_done(&body);
}

static void a_length_over_the_limit_is_refused_at_once(void **state)
{
    struct agent *a = *state;
    scoped_free char *got = ask_raw(a, "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\n"
                                       "Content-Length: 4194305\r\nExpect: 100-continue\r\n\r\n");

    expect_error(got, 413, "too_large", "4194305");
    scoped_free char *huge = ask_raw(a, "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\n"
                                        "Content-Length: 99999999999999999999999\r\n\r\n");
    assert_int_equal(status_of(huge), 413);
}

static void chunks_are_counted(void **state)
{
    struct agent *a = *state;
    static char chunk[65536];
    scoped_fd fd = dial(a);

    say(a, fd,
        "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\n{}\r\n0\r\n\r\n");
    scoped_free char *small = listen_for(a, fd, NULL);
    assert_int_equal(status_of(small), 201);
    a->call[0] = '\0';

    say(a, fd,
        "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n");
    memset(chunk, ' ', sizeof(chunk));
    for (size_t sent = 0; sent <= API_BODY_MAX; sent += sizeof(chunk)) {
        say(a, fd, "10000\r\n");
        say_n(a, fd, chunk, sizeof(chunk));
        say(a, fd, "\r\n");
    }
    say(a, fd, "0\r\n\r\n");
    scoped_free char *got = listen_for(a, fd, NULL);
    expect_error(got, 413, "too_large", "limit");
    assert_string_equal(a->call, "");
}

static void a_body_without_end_is_cut_off(void **state)
{
    struct agent *a = *state;
    struct str heard = {0};
    static char chunk[65536];
    scoped_fd fd = dial(a);
    size_t sent = 0;

    say(a, fd,
        "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n");
    memset(chunk, ' ', sizeof(chunk));
    while (hear(fd, &heard) && sent < 2 * (size_t)API_DISCARD_MAX) {
        say(a, fd, "10000\r\n");
        say_n(a, fd, chunk, sizeof(chunk));
        say(a, fd, "\r\n");
        sent += sizeof(chunk);
    }
    assert_true(sent >= API_DISCARD_MAX && sent < API_DISCARD_MAX + (2u << 20));
    str_done(&heard);
}

static void head_is_get_without_a_body(void **state)
{
    struct agent *a = *state;
    scoped_fd fd = dial(a);
    static const char *const lines[] = {"HEAD /v1/status", "HEAD /v1/logs?follow=1",
                                        "HEAD /v1/events?follow=1", "HEAD /v1/nosuch"};

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct str text = {0};

        str_addf(&text, "%s HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", lines[i]);
        scoped_fd one = dial(a);
        say(a, one, text.data);
        scoped_free char *got = listen_for(a, one, "never");
        assert_int_equal(status_of(got), i < 3 ? 200 : 404);
        assert_string_equal(body_of(got), "");
        str_done(&text);
    }
    assert_false(a->watched);
    assert_int_equal(a->log_fd, -1);
}

static char *lower(const char *text, char out[16])
{
    size_t i = 0;

    for (; text[i] && i < 15; i++)
        out[i] = (char)(text[i] | 0x20);
    out[i] = '\0';
    return out;
}

/* How many lines of TEXT start with PREFIX. */
static size_t count_lines(const char *text, const char *prefix)
{
    size_t n = 0;

    for (const char *p = strstr(text, prefix); p; p = strstr(p + 1, prefix))
        n += p == text || p[-1] == '\n';
    return n;
}

static void the_document_has_the_same_routes(void **state)
{
    scoped_free char *doc = NULL;
    struct err e = ERR_INIT;
    size_t len, n, documented = 0;
    static const char *const methods[] = {"get", "post", "patch", "delete", "put"};
    const struct route *all = routes(&n);

    (void)state;
    if (file_read(AT_FDCWD, "docs/openapi.yaml", 1u << 20, &doc, &len, &e) < 0)
        fail_msg("run me in the project's folder: %s", e.text);
    for (size_t i = 0; i < n; i++) {
        char path[128], method[32], word[16];

        (void)snprintf(path, sizeof(path), "\n  %s:\n", all[i].path);
        (void)snprintf(method, sizeof(method), "\n    %s:\n", lower(all[i].method, word));
        const char *from = strstr(doc, path), *to = from ? strstr(from + 1, "\n  /v1/") : NULL;
        const char *at = from ? strstr(from, method) : NULL;
        if (!at || (to && at > to))
            fail_msg("docs/openapi.yaml lacks %s %s", all[i].method, all[i].path);
    }
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        char line[16];

        (void)snprintf(line, sizeof(line), "    %s:\n", methods[i]);
        documented += count_lines(doc, line);
    }
    assert_int_equal(documented, n);
}

/* --- Connections -------------------------------------------------------------------------- */

static void garbage_is_refused(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"\x16\x03\x01\x02garbage\r\n\r\n", 400},
        {"GET /v1/status\r\n\r\n", 400},
        {"GET /v1/status HTTP/1.1\r\n\r\n", 400}, /* no Host */
        {"GET /v1/status HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n", 400},
        {"GET /v1/status HTTP/3.1\r\nHost: d\r\n\r\n", 505},
    };
    struct agent *a = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scoped_fd fd = dial(a);
        say(a, fd, cases[i].text);
        (void)shutdown(fd, SHUT_WR);
        scoped_free char *got = listen_for(a, fd, "never");
        if (status_of(got) != cases[i].status && got[0])
            fail_msg("%zu: %s", i, got);
        assert_string_equal(a->call, "");
    }
    struct str big = {0};
    str_add(&big, "GET /v1/status HTTP/1.1\r\nHost: d\r\nX: ");
    while (big.len < 2 * API_MEMORY_MAX)
        str_add(&big, "xxxxxxxxxxxxxxxx");
    scoped_fd fd = dial(a);
    say(a, fd, big.data);
    scoped_free char *got = listen_for(a, fd, "never");
    assert_int_equal(status_of(got), 431);
    str_done(&big);
    scoped_free char *after = ask(a, "GET /v1/status", NULL);
    assert_int_equal(status_of(after), 200);
}

static void a_slow_request_stops_nobody(void **state)
{
    struct agent *a = *state;
    static const char slow[] = "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\n"
                               "Content-Length: 2\r\n\r\n{}";
    scoped_fd fd = dial(a);

    for (size_t i = 0; i < sizeof(slow) - 1; i++) {
        say_n(a, fd, slow + i, 1);
        if (i % 16 == 0) {
            scoped_free char *other = ask(a, "GET /v1/status", NULL);
            assert_int_equal(status_of(other), 200);
        }
        settle(a);
    }
    scoped_free char *got = listen_for(a, fd, NULL);
    assert_int_equal(status_of(got), 201);
}

static void requests_in_a_row_share_a_connection(void **state)
{
    struct agent *a = *state;
    scoped_fd fd = dial(a);

    /* Pipelined, an error and a body in the middle. */
    say(a, fd,
        "GET /v1/status HTTP/1.1\r\nHost: d\r\n\r\n"
        "GET /v1/nosuch HTTP/1.1\r\nHost: d\r\n\r\n"
        "POST /v1/apps/shop/nosuch HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}"
        "PATCH /v1/apps/shop/formation HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{\"web\":1}"
        "GET /v1/dynos/shop/web.9 HTTP/1.1\r\nHost: d\r\n\r\n");
    scoped_free char *got = listen_for(a, fd, "dyno shop web.9");
    const char *p = got;
    for (int i = 0; i < 5; i++) {
        static const int expected[] = {200, 404, 404, 200, 200};

        p = strstr(p, "HTTP/1.1 ");
        assert_non_null(p);
        assert_int_equal(atoi(p + 9), expected[i]);
        p++;
    }
}

/* Each read on a closed connection gives 0 or ECONNRESET. */
static bool is_closed(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_PEEK);

    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void idle_connections_keep_nobody_out(void **state)
{
    struct agent *a = *state;
    enum { COUNT = 600 }; /* client and server share the 1024 descriptors */
    static int fds[COUNT];
    size_t n_closed = 0;

    if (geteuid() != 0)
        a->api->euid = geteuid();
    scoped_fd stream = dial(a);
    say(a, stream, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    scoped_free char *head = listen_for(a, stream, "\r\n\r\n");
    assert_int_equal(status_of(head), 200);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial(a);
        if (i % 3 == 0) /* half a request is idle, too */
            say(a, fds[i], "GET /v1/sta");
        if (i % 100 == 0) {
            scoped_free char *got = ask(a, "GET /v1/status", NULL);
            assert_int_equal(status_of(got), 200);
        }
    }
    settle(a);
    for (int i = 0; i < COUNT; i++)
        n_closed += is_closed(fds[i]);
    assert_int_equal(n_closed, COUNT - (API_CONNECTIONS_MAX - 1));
    assert_true(is_closed(fds[0]));
    assert_false(is_closed(fds[COUNT - 1]));
    /* The newest is served, and the busy one was left alone. */
    say(a, fds[COUNT - 1], "GET /v1/status HTTP/1.1\r\nHost: d\r\n\r\n");
    scoped_free char *got = listen_for(a, fds[COUNT - 1], NULL);
    assert_int_equal(status_of(got), 200);
    assert_int_equal(write(a->log_fd, "still here\n", 11), 11);
    scoped_free char *line = listen_for(a, stream, "still here");
    assert_non_null(strstr(line, "still here"));
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
}

static void streams_do_not_exhaust_the_api_silently(void **state)
{
    struct agent *a = *state;
    static int fds[API_CONNECTIONS_MAX];

    for (int i = 0; i < API_CONNECTIONS_MAX; i++) {
        fds[i] = dial(a);
        say(a, fds[i], "GET /v1/events?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
        settle(a);
    }
    /* More of them than are told. */
    for (int i = 0; i < 2 * API_REFUSALS_MAX; i++) {
        scoped_free char *got = ask(a, "GET /v1/status", NULL);
        expect_error(got, 503, "busy", "in use");
    }
    /* Those who only wait to be told no are bounded, too. */
    int idle[2 * API_REFUSALS_MAX];
    size_t n_closed = 0;
    for (int i = 0; i < 2 * API_REFUSALS_MAX; i++)
        idle[i] = dial(a);
    settle(a);
    for (int i = 0; i < 2 * API_REFUSALS_MAX; i++) {
        n_closed += is_closed(idle[i]);
        close(idle[i]);
    }
    assert_int_equal(n_closed, API_REFUSALS_MAX);
    close(fds[0]);
    settle(a);
    scoped_free char *got = ask(a, "GET /v1/status", NULL);
    assert_int_equal(status_of(got), 200);
    for (int i = 1; i < API_CONNECTIONS_MAX; i++)
        close(fds[i]);
    settle(a);
    assert_false(a->watched);
}

static void without_descriptors_idle_ones_make_room(void **state)
{
    struct agent *a = *state;
    struct rlimit old, few;
    int fds[20];

    for (int i = 0; i < 20; i++)
        fds[i] = dial(a);
    settle(a);
    int probe = dup(0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)probe + 1; /* one for the client, none for the server */
    close(probe);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    scoped_free char *got = ask(a, "GET /v1/status", NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(status_of(got), 200);
    assert_true(is_closed(fds[0]));
    for (int i = 0; i < 20; i++)
        close(fds[i]);
}

/* Runs BODY in a child with another uid; its exit status. */
static int as_stranger(struct agent *a, gid_t primary, gid_t supplementary,
                       int (*body)(struct agent *))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        if (setgroups(supplementary ? 1 : 0, &supplementary) < 0 || setgid(primary) < 0 ||
            setuid(STRANGER) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) /* setuid() clears it */
            _exit(99);
        _exit(body(a));
    }
    for (uint64_t end = clock_boot() + PATIENCE; waitpid(pid, &status, WNOHANG) == 0;) {
        pump(a);
        assert_true(clock_boot() < end);
    }
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* In the child: the status of one request, as 200 / 2 so that it fits. */
static int plain_status(const char *path, const char *request)
{
    char buf[4096] = {0};
    struct err e = ERR_INIT;
    size_t len = 0;
    int fd;

    if (unix_connect(path, SOCK_STREAM, &fd, &e) < 0)
        return 98;
    if (fd_write_full(fd, request, strlen(request)) < 0)
        return 97;
    while (!strstr(buf, "\r\n\r\n")) {
        ssize_t n = read(fd, buf + len, sizeof(buf) - 1 - len);

        if (n <= 0)
            return 96;
        len += (size_t)n;
    }
    return atoi(buf + 9) / 2;
}

static int stranger_asks(struct agent *a)
{
    return plain_status(a->path, "GET /v1/status HTTP/1.1\r\nHost: d\r\n\r\n");
}

static int stranger_posts(struct agent *a)
{
    return plain_status(a->path, "POST /v1/apps/shop/releases HTTP/1.1\r\nHost: d\r\n"
                                 "Content-Length: 2\r\n\r\n{}");
}

/* Holds every connection of its share with a stream; then one more. */
static int stranger_hogs(struct agent *a)
{
    static const char follow[] = "GET /v1/events?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n";
    struct err e = ERR_INIT;
    char c;
    int fd;

    for (int i = 0; i < API_CONNECTIONS_PER_UID; i++)
        if (unix_connect(a->path, SOCK_STREAM, &fd, &e) < 0 ||
            fd_write_full(fd, follow, strlen(follow)) < 0 || read(fd, &c, 1) != 1)
            return 95;
    return stranger_asks(a);
}

/* Idle ones push out only their own. */
static int stranger_idles(struct agent *a)
{
    struct err e = ERR_INIT;
    int fds[2 * API_CONNECTIONS_PER_UID];
    char c;

    for (int i = 0; i < 2 * API_CONNECTIONS_PER_UID; i++)
        if (unix_connect(a->path, SOCK_STREAM, &fds[i], &e) < 0)
            return 95;
    if (read(fds[0], &c, 1) != 0) /* until it is pushed out */
        return 94;
    return stranger_asks(a);
}

static void strangers_are_refused(void **state)
{
    struct agent *a = *state;

    if (geteuid() != 0) { /* the same, the other way round */
        a->api->euid++;
        refused(a, "GET /v1/status", NULL, 403, "forbidden", "api_group");
        a->api->euid--;
        return;
    }
    assert_int_equal(as_stranger(a, STRANGER, 0, stranger_asks), 403 / 2);
    assert_int_equal(as_stranger(a, STRANGER, 0, stranger_posts), 403 / 2);
    assert_int_equal(as_stranger(a, STRANGER, STRANGER + 7, stranger_asks), 403 / 2);
    assert_string_equal(a->call, "");
    assert_int_equal(as_stranger(a, API_GROUP, 0, stranger_asks), 200 / 2);
    assert_int_equal(as_stranger(a, STRANGER, API_GROUP, stranger_asks), 200 / 2);
    a->api->group = API_GROUP_NONE;
    assert_int_equal(as_stranger(a, API_GROUP, 0, stranger_asks), 403 / 2);
}

static void a_uid_has_its_share(void **state)
{
    struct agent *a = *state;

    if (geteuid() != 0) {
        print_message("needs root, to be somebody else\n");
        skip();
    }
    scoped_fd mine = dial(a); /* idle, and the oldest of all */
    settle(a);
    assert_int_equal(as_stranger(a, API_GROUP, 0, stranger_hogs), 429 / 2);
    settle(a);
    assert_int_equal(as_stranger(a, API_GROUP, 0, stranger_idles), 200 / 2);
    assert_false(is_closed(mine));
}

static void an_idle_api_wakes_nobody(void **state)
{
    struct agent *a = *state;
    scoped_fd kept = dial(a), logs = dial(a), events = dial(a);
    uint64_t before = clock_boot();

    assert_true(a->api->timeout_at == USEC_NEVER);
    say(a, logs, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    say(a, events, "GET /v1/events?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    settle(a);
    assert_true(a->watched);
    assert_true(a->api->timeout_at > before + (API_IDLE_SEC - 5) * USEC_PER_SEC);
    say(a, kept, "GET /v1/status HTTP/1.1\r\nHost: d\r\n\r\n");
    scoped_free char *got = listen_for(a, kept, NULL);
    settle(a);
    assert_int_equal(sd_event_run(a->loop, USEC_PER_SEC), 0); /* a second without an event */
    fd_closep(&kept);
    settle(a);
    assert_true(a->api->timeout_at == USEC_NEVER); /* streams have no time-out */
    assert_int_equal(sd_event_run(a->loop, USEC_PER_SEC / 4), 0);
}

/* --- Streams ------------------------------------------------------------------------------ */

static void logs_stream_as_they_come(void **state)
{
    struct agent *a = *state;
    scoped_fd fd = dial(a);

    say(a, fd,
        "GET /v1/logs?app=shop&dyno=web.1&n=7&follow=1&format=json&source=heroku HTTP/1.1\r\n"
        "Host: d\r\n\r\n");
    scoped_free char *head = listen_for(a, fd, "\r\n\r\n");
    assert_string_equal(a->spec, "{\"app\":\"shop\",\"dyno\":\"web.1\",\"follow\":true,"
                                 "\"format\":\"json\",\"n\":7,\"source\":\"heroku\"}");
    assert_non_null(strstr(head, "Transfer-Encoding: chunked"));
    assert_non_null(strstr(head, "application/x-ndjson"));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write(a->log_fd, "{\"line\":1}\n", 11), 11);
        scoped_free char *line = listen_for(a, fd, "{\"line\":1}\n");
        assert_non_null(strstr(line, "{\"line\":1}\n"));
    }
    fd_closep(&a->log_fd);
    scoped_free char *end = listen_for(a, fd, "never"); /* up to the end of the connection */
    assert_string_equal(end, "0\r\n\r\n");
}

static void logs_have_defaults(void **state)
{
    struct agent *a = *state;
    scoped_fd fd = dial(a);

    say(a, fd, "GET /v1/logs HTTP/1.0\r\nHost: d\r\n\r\n");
    scoped_free char *head = listen_for(a, fd, "\r\n\r\n");
    assert_string_equal(a->spec, "{\"follow\":false,\"format\":\"text\",\"n\":100}");
    assert_non_null(strstr(head, "text/plain"));
    assert_int_equal(write(a->log_fd, "last words", 10), 10);
    fd_closep(&a->log_fd);
    scoped_free char *end = listen_for(a, fd, "never");
    assert_string_equal(end, "last words");
}

static void a_client_that_leaves_closes_the_pipe(void **state)
{
    struct agent *a = *state;
    int fd = dial(a);

    say(a, fd, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    scoped_free char *head = listen_for(a, fd, "\r\n\r\n");
    settle(a);
    assert_int_equal(write(a->log_fd, "x", 1), 1);
    settle(a);
    close(fd); /* while the connection is suspended */
    settle(a);
    assert_int_equal(write(a->log_fd, "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    assert_true(TAILQ_EMPTY(&a->api->streams));
    assert_true(TAILQ_EMPTY(&a->api->clients));

    /* Now while it is not: the client does not read what comes. */
    fd = dial(a);
    say(a, fd, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    settle(a);
    static char block[65536];
    for (int i = 0; i < 100; i++) {
        (void)write(a->log_fd, block, sizeof(block));
        settle(a);
    }
    assert_int_equal(sd_event_run(a->loop, USEC_PER_SEC / 4), 0); /* and nobody spins */
    assert_true(a->api->timeout_at == USEC_NEVER);                /* or counts its silence */
    close(fd);
    settle(a);
    assert_int_equal(write(a->log_fd, "x", 1), -1);
    assert_true(TAILQ_EMPTY(&a->api->clients));
}

static void a_half_closed_client_still_reads(void **state)
{
    struct agent *a = *state;
    scoped_fd fd = dial(a);

    say(a, fd, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    scoped_free char *head = listen_for(a, fd, "\r\n\r\n");
    settle(a);
    assert_int_equal(sd_event_run(a->loop, USEC_PER_SEC / 4), 0);
    assert_int_equal(write(a->log_fd, "still here\n", 11), 11);
    scoped_free char *line = listen_for(a, fd, "still here\n");
    assert_non_null(strstr(line, "still here\n"));
}

static void all_of_a_long_log_arrives(void **state)
{
    struct agent *a = *state;
    enum { TOTAL = 3 << 20 };
    scoped_fd fd = dial(a);
    size_t written = 0, got = 0;
    static char block[65536];
    struct str text = {.max = ANSWER_MAX};

    memset(block, 'x', sizeof(block));
    say(a, fd, "GET /v1/logs HTTP/1.0\r\nHost: d\r\n\r\n");
    scoped_free char *head = listen_for(a, fd, "\r\n\r\n");
    for (uint64_t end = clock_boot() + PATIENCE; got < TOTAL;) {
        if (written < TOTAL) {
            ssize_t n = write(a->log_fd, block, sizeof(block));

            written += n > 0 ? (size_t)n : 0;
            if (written >= TOTAL)
                fd_closep(&a->log_fd);
        }
        pump(a);
        if (!hear(fd, &text))
            break;
        got = text.len;
        assert_true(clock_boot() < end);
    }
    assert_int_equal(text.len, written);
    assert_int_equal(strspn(text.data, "x"), written);
    str_done(&text);
}

static void events_are_followed(void **state)
{
    struct agent *a = *state;
    scoped_fd one = dial(a), two = dial(a);

    a->n_events = 2;
    say(a, one, "GET /v1/events?follow=1 HTTP/1.0\r\nHost: d\r\n\r\n");
    scoped_free char *past = listen_for(a, one, "{\"id\":2}\n");
    assert_string_equal(body_of(past), "{\"id\":1}\n{\"id\":2}\n");
    say(a, two, "GET /v1/events?follow=1&n=0 HTTP/1.0\r\nHost: d\r\n\r\n");
    scoped_free char *head = listen_for(a, two, "\r\n\r\n");
    assert_string_equal(body_of(head), "");
    settle(a);
    happen(a, 3);
    happen(a, 4);
    scoped_free char *got_one = listen_for(a, one, "4}\n");
    scoped_free char *got_two = listen_for(a, two, "4}\n");
    assert_string_equal(got_one, "{\"id\":3}\n{\"id\":4}\n");
    assert_string_equal(got_two, "{\"id\":3}\n{\"id\":4}\n");
    fd_closep(&one);
    settle(a);
    assert_true(a->watched);
    happen(a, 5);
    fd_closep(&two);
    settle(a);
    assert_false(a->watched);
}

/* Whatever was dropped is told at its place, so the IDs in TEXT add up to LAST. */
static void expect_numbers(char *text, int last)
{
    json_int_t id = 0, dropped = 0;
    size_t n_overflows = 0;

    for (char *line = strtok(strstr(text, "\r\n\r\n") + 4, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *json = json_loads(line, 0, NULL);

        assert_non_null(json);
        if (!strcmp(json_str(json, "kind", ""), "overflow")) {
            n_overflows++;
            dropped += json_int(json, "dropped", 0);
            id += json_int(json, "dropped", 0);
        } else {
            assert_int_equal(json_int(json, "id", 0), ++id);
        }
        json_decref(json);
    }
    assert_int_equal(id, last);
    assert_true(n_overflows >= 2 && dropped > 100);
}

static void a_slow_follower_is_told_what_it_missed(void **state)
{
    struct agent *a = *state;
    enum { COUNT = 100000 };
    scoped_fd fd = dial(a);
    struct str text = {.max = ANSWER_MAX};
    size_t len = 0;

    say(a, fd, "GET /v1/events?follow=1&n=0 HTTP/1.0\r\nHost: d\r\n\r\n");
    settle(a);
    for (int i = 1; i <= COUNT; i++) {
        happen(a, i);
        if (i % 512 == 0)
            settle(a);
        if (i == COUNT / 2) /* it reads for a while */
            for (int k = 0; k < 64; k++, settle(a))
                assert_true(hear(fd, &text));
    }
    settle(a);
    happen(a, COUNT + 1);
    for (uint64_t end = clock_boot() + PATIENCE; clock_boot() < end;) {
        pump(a);
        assert_true(hear(fd, &text));
        if (sd_event_run(a->loop, 20 * USEC_PER_MSEC) == 0 && text.len == len)
            break;
        len = text.len;
    }
    expect_numbers(text.data, COUNT + 1);
    str_done(&text);
}

/* The first events are so long that the queue gets room one by one. */
static void a_marker_takes_a_place_of_its_own(void **state)
{
    struct agent *a = *state;
    enum { COUNT = API_EVENTS_QUEUE + 200, LONG = 40, PAD = 150000, STEPS = 120, STEP = 40000 };
    scoped_fd fd = dial(a);
    struct str text = {0};
    static char buf[STEP];
    size_t len = 0;

    say(a, fd, "GET /v1/events?follow=1&n=0 HTTP/1.0\r\nHost: d\r\n\r\n");
    settle(a);
    for (int i = 1; i <= COUNT; i++)
        happen_long(a, i, i <= LONG ? PAD : 0);
    for (int i = COUNT + 1; i <= COUNT + STEPS; i++) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);

        if (n > 0)
            str_add_n(&text, buf, (size_t)n);
        settle(a);
        happen(a, i);
    }
    for (int quiet = 0; quiet < 5;) {
        assert_true(hear(fd, &text));
        quiet = sd_event_run(a->loop, USEC_PER_MSEC) == 0 && text.len == len ? quiet + 1 : 0;
        len = text.len;
    }
    expect_numbers(text.data, COUNT + STEPS);
    str_done(&text);
}

/* --- Attached commands -------------------------------------------------------------------- */

#define UPGRADE "Connection: keep-alive, Upgrade\r\nUpgrade: dynod-attach\r\n"

static struct frame_conn *attach_with(struct agent *a, const char *line, const char *body)
{
    struct frame_conn *conn;
    struct err e = ERR_INIT;
    struct str text = {0};
    int fd = dial(a);

    str_addf(&text, "%s HTTP/1.1\r\nHost: d\r\n" UPGRADE "Content-Length: %zu\r\n\r\n%s", line,
             strlen(body), body);
    say(a, fd, text.data);
    str_done(&text);
    scoped_free char *got = listen_for(a, fd, "\r\n\r\n");
    if (status_of(got) != 101)
        fail_msg("not switched over: %s", got);
    assert_non_null(strstr(got, "Upgrade: dynod-attach\r\n"));
    assert_string_equal(body_of(got), "");
    if (strstr(line, "run"))
        assert_non_null(strstr(got, "Dynod-Dyno: run.4123\r\n"));
    assert_int_equal(frame_conn_new(fd, &conn, &e), 0);
    return conn;
}

static struct frame next_frame(struct agent *a, struct frame_conn *conn)
{
    struct frame f = {0};
    struct err e = ERR_INIT;
    int r;

    for (uint64_t end = clock_boot() + PATIENCE; (r = frame_next(conn, &f, &e)) == 0;) {
        pump(a);
        assert_true(clock_boot() < end);
    }
    assert_int_equal(r, 1);
    return f;
}

static void expect_hangup(struct agent *a, struct frame_conn *conn)
{
    struct frame f;
    struct err e = ERR_INIT;
    int r;

    for (uint64_t end = clock_boot() + PATIENCE; (r = frame_next(conn, &f, &e)) == 0;) {
        pump(a);
        assert_true(clock_boot() < end);
    }
    assert_int_equal(r, -EPIPE);
}

static void send_frame(struct frame_conn *conn, const char *text)
{
    struct err e = ERR_INIT;
    json_t *json = json_loads(text, 0, NULL);

    assert_int_equal(frame_send(conn, json, NULL, 0, &e), 0);
    json_decref(json);
}

static void exec_hands_over_the_pipes(void **state)
{
    struct agent *a = *state;
    struct frame_conn *conn =
        attach_with(a, "POST /v1/dynos/shop/web.1/exec", "{\"argv\":[\"cat\"]}");
    int in[2], out[2], err[2];
    char buf[8] = {0};

    assert_string_equal(a->call, "exec shop web.1");
    assert_string_equal(a->spec, "{\"argv\":[\"cat\"]}");
    assert_int_equal(pipe(in) | pipe(out) | pipe(err), 0);
    a->ops->started(a->userdata, "web.1", (int[]){in[1], out[0], err[0]}, 3, false);
    close(in[1]);
    close(out[0]);
    close(err[0]);
    struct frame f = next_frame(a, conn);
    const json_t *started = json_object_get(f.json, "started");
    assert_string_equal(json_str(started, "dyno", ""), "web.1");
    assert_false(json_bool(started, "tty", true));
    assert_int_equal(f.n_fds, 3);
    assert_int_equal(write(f.fds[0], "ping", 4), 4);
    assert_int_equal(read(in[0], buf, sizeof(buf)), 4);
    assert_int_equal(write(out[1], "pong", 4), 4);
    assert_int_equal(read(f.fds[1], buf, sizeof(buf)), 4);
    assert_string_equal(buf, "pong");
    frame_done(&f);
    assert_int_equal(write(out[1], "x", 1), -1); /* nobody else holds the other end */

    send_frame(conn, "{\"signal\":2}");
    while (!a->signo)
        pump(a);
    assert_int_equal(a->signo, SIGINT);
    static const char *const wrong[] = {"{\"signal\":0}",  "{\"signal\":65}",
                                        "{\"kill\":1}",    "{}",
                                        "{\"signal\":33}", "{\"signal\":2,\"x\":1}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        send_frame(conn, wrong[i]);
        f = next_frame(a, conn);
        assert_string_equal(json_str(json_object_get(f.json, "error"), "code", ""), "invalid");
        frame_done(&f);
    }

    a->ops->ended(a->userdata, 130, NULL);
    f = next_frame(a, conn);
    const json_t *ended = json_object_get(f.json, "ended");
    assert_int_equal(json_int(ended, "status", -1), 130);
    assert_null(json_object_get(ended, "error"));
    frame_done(&f);
    send_frame(conn, "{\"signal\":15}"); /* too late is no error */
    settle(a);
    assert_int_equal(a->signo, SIGINT);
    frame_conn_freep(&conn);
    settle(a);
    assert_false(a->detached); /* there was nothing to detach from */
    assert_true(TAILQ_EMPTY(&a->api->clients));
    close(in[0]);
    close(out[1]);
    close(err[1]);
}

static void a_client_that_hangs_up_detaches(void **state)
{
    struct agent *a = *state;
    struct frame_conn *conn =
        attach_with(a, "POST /v1/apps/shop/run", "{\"attach\":true,\"tty\":{}}");
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    assert_string_equal(a->call, "run shop attached");
    a->ops->started(a->userdata, "run.4123", &master, 1, true);
    struct frame f = next_frame(a, conn);
    assert_int_equal(f.n_fds, 1);
    assert_true(json_bool(json_object_get(f.json, "started"), "tty", false));
    assert_non_null(ptsname(f.fds[0]));
    frame_done(&f);
    settle(a);
    assert_int_equal(sd_event_run(a->loop, USEC_PER_SEC / 4), 0); /* a session costs no wake-up */
    assert_false(a->detached);
    frame_conn_freep(&conn);
    settle(a);
    assert_true(a->detached);
    assert_true(TAILQ_EMPTY(&a->api->clients));
    assert_true(TAILQ_EMPTY(&a->api->sessions));
    close(master);
}

static void what_never_ran_says_why(void **state)
{
    struct agent *a = *state;
    struct err why = ERR_INIT;
    struct frame_conn *conn = attach_with(a, "POST /v1/apps/shop/run", "{\"command\":\"nosuch\"}");

    assert_string_equal(a->spec, "{\"attach\":true,\"command\":\"nosuch\"}");
    err_say(&why, ENOENT, "nosuch: command not found");
    why.fault = FAULT_APP;
    a->ops->ended(a->userdata, 127, &why);
    struct frame f = next_frame(a, conn);
    const json_t *error = json_object_get(json_object_get(f.json, "ended"), "error");
    assert_string_equal(json_str(error, "message", ""), "nosuch: command not found");
    assert_string_equal(json_str(error, "fault", ""), "app");
    assert_string_equal(json_str(error, "code", ""), "not_found");
    frame_done(&f);
    expect_hangup(a, conn); /* after ATTACH_LINGER_SEC */
    frame_conn_freep(&conn);
}

/* The callbacks may be faster than the 101. */
static void what_comes_before_the_upgrade_waits(void **state)
{
    struct agent *a = *state;
    struct frame_conn *conn;
    struct err e = ERR_INIT;
    int fds[2], fd = dial(a);
    struct str heard = {.max = ANSWER_MAX};
    static char block[4096];

    /* The socket is full, so that the 101 has to wait. */
    settle(a);
    memset(block, 'x', sizeof(block));
    while (send(TAILQ_FIRST(&a->api->clients)->fd, block, sizeof(block), MSG_DONTWAIT) > 0)
        ;
    say(a, fd,
        "POST /v1/apps/shop/run HTTP/1.1\r\nHost: d\r\n" UPGRADE "Content-Length: 2\r\n\r\n{}");
    settle(a);
    assert_non_null(a->ops);
    assert_int_equal(pipe(fds), 0);
    a->ops->started(a->userdata, "run.4123", (int[]){fds[1], fds[0], fds[0]}, 3, false);
    close(fds[0]);
    close(fds[1]);
    a->ops->ended(a->userdata, 0, NULL);
    settle(a);
    while (recv(fd, block, 1, MSG_PEEK) == 1 && block[0] == 'x')
        assert_true(recv(fd, block, 512, 0) > 0);
    /* What is left are a few bytes of x, if any, and the 101. */
    while (!strstr(str_text(&heard), "HTTP/1.1 101") ||
           !strstr(strstr(heard.data, "HTTP/1.1 101"), "\r\n\r\n")) {
        char c;

        if (recv(fd, &c, 1, 0) == 1)
            str_add_n(&heard, &c, 1);
        else
            pump(a);
    }
    assert_int_equal(frame_conn_new(fd, &conn, &e), 0);
    struct frame f = next_frame(a, conn);
    assert_int_equal(f.n_fds, 3);
    frame_done(&f);
    f = next_frame(a, conn);
    assert_non_null(json_object_get(f.json, "ended"));
    frame_done(&f);
    frame_conn_freep(&conn);
    settle(a);
    str_done(&heard);
}

static void attaching_needs_an_upgrade(void **state)
{
    struct agent *a = *state;
    scoped_free char *got = ask(a, "POST /v1/dynos/shop/web.1/exec", "{}");

    expect_error(got, 426, "upgrade_required", "dynod-attach");
    assert_non_null(strstr(got, "Upgrade: dynod-attach\r\n"));
    refused(a, "POST /v1/apps/shop/run", "{\"attach\":true}", 426, "upgrade_required", "HTTP/1.1");
    scoped_free char *other =
        ask_raw(a, "POST /v1/dynos/shop/web.1/exec HTTP/1.1\r\nHost: d\r\nConnection: upgrade\r\n"
                   "Upgrade: websocket\r\nContent-Length: 2\r\n\r\n{}");
    expect_error(other, 426, "upgrade_required", "");
    scoped_free char *old =
        ask_raw(a, "POST /v1/dynos/shop/web.1/exec HTTP/1.0\r\nHost: d\r\n" UPGRADE
                   "Content-Length: 2\r\n\r\n{}");
    assert_non_null(strstr(old, " 426 "));
    assert_string_equal(a->call, "");
    /* What the agent refuses is an ordinary answer, and the connection goes on. */
    err_say(&a->fail, ENOENT, "shop/web.9 does not run");
    a->fail.fault = FAULT_OPERATOR;
    scoped_fd fd = dial(a);
    for (int i = 0; i < 2; i++) {
        say(a, fd,
            "POST /v1/dynos/shop/web.9/exec HTTP/1.1\r\nHost: d\r\n" UPGRADE
            "Content-Length: 2\r\n\r\n{}");
        scoped_free char *no = listen_for(a, fd, NULL);
        expect_error(no, 404, "not_found", "does not run");
    }
    assert_true(TAILQ_EMPTY(&a->api->sessions));
}

static void a_client_that_speaks_too_soon_is_hung_up_on(void **state)
{
    struct agent *a = *state;
    scoped_fd fd = dial(a);

    say(a, fd,
        "POST /v1/dynos/shop/web.1/exec HTTP/1.1\r\nHost: d\r\n" UPGRADE
        "Content-Length: 2\r\n\r\n{}and more");
    scoped_free char *got = listen_for(a, fd, "never");
    assert_int_equal(status_of(got), 101);
    assert_true(a->detached);
}

static void the_end_of_the_api_leaves_commands_running(void **state)
{
    struct agent *a = *state;
    struct frame_conn *conn = attach_with(a, "POST /v1/dynos/shop/web.1/exec", "{}");
    scoped_fd logs = dial(a), events = dial(a), kept = dial(a), half = dial(a);

    say(a, logs, "GET /v1/logs?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    say(a, events, "GET /v1/events?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
    say(a, half, "GET /v1/ev");
    settle(a);
    api_freep(&a->api);
    assert_false(a->detached);
    assert_false(a->watched);
    assert_int_equal(write(a->log_fd, "x", 1), -1);
    expect_hangup(a, conn);
    frame_conn_freep(&conn);
    (void)kept;
    /* The agent frees what it has of it only now. */
    a->ops->started(a->userdata, "web.1", (int[]){0, 1, 2}, 3, false);
    a->ops->ended(a->userdata, 1, NULL);
}

static void curl_is_enough(void **state)
{
    struct agent *a = *state;
    char command[512], buf[1024];
    size_t len = 0;

    (void)snprintf(command, sizeof(command),
                   "curl -sS --unix-socket %s -X PATCH -d '{\"web\":2}' -w ' %%{http_code} ' "
                   "http://dynod/v1/apps/shop/formation && "
                   "curl -sS --unix-socket %s -w '%%{http_code}' http://dynod/v1/nosuch",
                   a->path, a->path);
    FILE *curl = popen(command, "re");
    assert_non_null(curl);
    assert_int_equal(fd_set_nonblock(fileno(curl), true), 0);
    for (uint64_t end = clock_boot() + PATIENCE; clock_boot() < end;) {
        ssize_t n = read(fileno(curl), buf + len, sizeof(buf) - 1 - len);

        if (n == 0)
            break;
        len += n > 0 ? (size_t)n : 0;
        pump(a);
    }
    buf[len] = '\0';
    assert_int_equal(pclose(curl), 0);
    assert_non_null(strstr(buf, "{\"did\":\"scale shop\"}\n 200 "));
    assert_non_null(strstr(buf, "not_found"));
    assert_non_null(strstr(buf, "404"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_route_asks_the_agent),
        TEST(the_answer_is_the_agents),
        TEST(errors_become_answers),
        TEST(wrong_paths_say_so),
        TEST(wrong_methods_name_the_right_ones),
        TEST(bodies_are_checked),
        TEST(a_large_body_goes_through),
        TEST(a_length_over_the_limit_is_refused_at_once),
        TEST(chunks_are_counted),
        TEST(a_body_without_end_is_cut_off),
        TEST(head_is_get_without_a_body),
        cmocka_unit_test(the_document_has_the_same_routes),
        TEST(garbage_is_refused),
        TEST(a_slow_request_stops_nobody),
        TEST(requests_in_a_row_share_a_connection),
        TEST(idle_connections_keep_nobody_out),
        TEST(streams_do_not_exhaust_the_api_silently),
        TEST(without_descriptors_idle_ones_make_room),
        TEST(strangers_are_refused),
        TEST(a_uid_has_its_share),
        TEST(an_idle_api_wakes_nobody),
        TEST(logs_stream_as_they_come),
        TEST(logs_have_defaults),
        TEST(a_client_that_leaves_closes_the_pipe),
        TEST(a_half_closed_client_still_reads),
        TEST(all_of_a_long_log_arrives),
        TEST(events_are_followed),
        TEST(a_slow_follower_is_told_what_it_missed),
        TEST(a_marker_takes_a_place_of_its_own),
        TEST(exec_hands_over_the_pipes),
        TEST(a_client_that_hangs_up_detaches),
        TEST(what_never_ran_says_why),
        TEST(what_comes_before_the_upgrade_waits),
        TEST(attaching_needs_an_upgrade),
        TEST(a_client_that_speaks_too_soon_is_hung_up_on),
        TEST(the_end_of_the_api_leaves_commands_running),
        TEST(curl_is_enough),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as dynod has it */
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
