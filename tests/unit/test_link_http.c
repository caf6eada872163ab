/* HTTP on the loop, against a server that does everything wrong. */
#include "link/http.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link_server.h"

#define PATIENCE (90 * USEC_PER_SEC)

static struct server plain, tls, mutual, other, wrong, old;
static struct http_trust trust;

struct world {
    sd_event *loop;
    struct http *h;
    /* The last answer. */
    unsigned n;
    int status;
    char *body, *type, *local;
    char kind[32];
    struct err why;
    uint64_t retry_after;
    void (*in_callback)(struct world *w);
    struct http_job *job, *other_job;
};

static void forget(struct world *w)
{
    free(w->body);
    free(w->type);
    free(w->local);
    w->body = w->type = w->local = NULL;
    w->n = 0;
    w->kind[0] = '\0';
}

static void world_done(struct world *w)
{
    http_freep(&w->h);
    forget(w);
    sd_event_unref(w->loop);
}

static struct world world(void)
{
    struct world w = {0};
    struct err e = ERR_INIT;

    assert_true(sd_event_new(&w.loop) >= 0);
    assert_int_equal(http_new(w.loop, &w.h, &e), 0);
    return w;
}

static void on_done(void *userdata, const struct http_answer *a)
{
    struct world *w = userdata;
    unsigned n = w->n;

    forget(w);
    w->n = n + 1;
    w->status = a->status;
    w->body = strndup(a->body, a->len);
    w->type = strdup(a->type);
    w->local = strdup(a->local);
    w->retry_after = a->retry_after_usec;
    assert_true(!a->why == !a->kind);
    if (a->why) {
        w->why = *a->why;
        (void)snprintf(w->kind, sizeof(w->kind), "%s", a->kind);
    }
    if (w->in_callback)
        w->in_callback(w);
}

static const struct http_request usual = {
    .method = "GET",
    .answer_max = 100000,
    .connect_usec = 60 * USEC_PER_SEC,
    .total_usec = 60 * USEC_PER_SEC,
};

static void send_to(struct world *w, const char *scheme, const struct server *s, const char *path,
                    struct http_request rq)
{
    char url[300];
    struct err e = ERR_INIT;

    (void)snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", scheme, s->port, path);
    rq.url = url;
    assert_int_equal(http_send(w->h, &rq, on_done, w, &w->job, &e), 0);
}

static void await(struct world *w, unsigned n)
{
    uint64_t end = clock_boot() + PATIENCE;

    while (w->n < n) {
        assert_true(clock_boot() < end);
        assert_true(sd_event_run(w->loop, 100 * USEC_PER_MSEC) >= 0);
    }
}

static void get(struct world *w, const char *path)
{
    forget(w);
    send_to(w, "http", &plain, path, usual);
    await(w, 1);
}

static void get_tls(struct world *w, const struct server *s, const struct http_trust *t)
{
    struct http_request rq = usual;

    rq.trust = t;
    forget(w);
    send_to(w, "https", s, "/echo", rq);
    await(w, 1);
}

/* --- what works ---------------------------------------------------------------------------------
 */

static void a_request_arrives_as_it_was_sent(void **state)
{
    scoped(world_done) struct world w = world();
    const char *const headers[] = {"X-One: 1", "Authorization: Bearer t", NULL};
    struct http_request rq = usual;

    (void)state;
    rq.method = "POST";
    rq.headers = headers;
    rq.body = "{\"a\":1}";
    rq.body_len = 7;
    send_to(&w, "http", &plain, "/echo?x=y", rq);
    assert_int_equal(w.n, 0); /* from the loop */
    await(&w, 1);
    assert_int_equal(w.status, 200);
    assert_string_equal(w.type, "application/json");
    assert_string_equal(w.local, "127.0.0.1");
    scoped(json_freep) json_t *j = json_loads(w.body, 0, NULL);
    json_t *head = json_object_get(j, "head");
    assert_string_equal(json_str(j, "path", ""), "/echo?x=y");
    assert_string_equal(json_str(j, "body", ""), "{\"a\":1}");
    assert_string_equal(json_str(head, "", ""), "POST");
    assert_string_equal(json_str(head, "x-one", ""), "1");
    assert_string_equal(json_str(head, "authorization", ""), "Bearer t");
    assert_true(str_starts(json_str(head, "user-agent", ""), "dynod-link/"));
    assert_null(json_object_get(head, "expect"));
}

static int64_t connection(const struct world *w)
{
    scoped(json_freep) json_t *j = json_loads(w->body, 0, NULL);

    return json_int(j, "connection", -1);
}

static void connections_are_used_again(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    get(&w, "/echo");
    int64_t first = connection(&w);
    get(&w, "/echo");
    assert_int_equal(connection(&w), first);
    /* One that the server has closed meanwhile is nobody's error. */
    get(&w, "/once");
    get(&w, "/echo");
    assert_int_equal(w.status, 200);
    assert_true(connection(&w) > first);
}

/* Nor is it done for another reason. */
static void never_ends(struct world *w)
{
    assert_string_equal(w->kind, "");
    assert_int_equal(w->status, 200);
}

static void several_at_once(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    w.in_callback = never_ends;
    send_to(&w, "http", &plain, "/never", usual);
    for (int i = 0; i < 5; i++)
        send_to(&w, "http", &plain, "/echo", usual);
    await(&w, 5); /* none waits for the slow one */
}

static void a_connection_alone_tells_our_address(void **state)
{
    scoped(world_done) struct world w = world();
    struct http_request rq = usual;

    (void)state;
    rq.connect_only = true;
    rq.trust = &trust;
    send_to(&w, "https", &tls, "/hang", rq);
    await(&w, 1);
    assert_string_equal(w.kind, "");
    assert_string_equal(w.local, "127.0.0.1");
}

static void tls_with_ca_and_client_certificate(void **state)
{
    scoped(world_done) struct world w = world();
    struct http_trust ca_only = {.ca = trust.ca, .ca_len = trust.ca_len};

    (void)state;
    get_tls(&w, &tls, &ca_only);
    assert_int_equal(w.status, 200);
    get_tls(&w, &mutual, &trust);
    assert_int_equal(w.status, 200);
}

/* --- what does not ------------------------------------------------------------------------------
 */

static void fails(struct world *w, const char *kind, int errnum, enum fault fault)
{
    assert_string_equal(w->kind, kind);
    assert_int_equal(w->why.errnum, errnum);
    assert_int_equal(w->why.fault, fault);
    assert_non_null(strstr(w->why.text, "127.0.0.1"));
    assert_string_equal(w->body, "");
}

static void who_is_not_verified_is_not_spoken_to(void **state)
{
    scoped(world_done) struct world w = world();
    struct http_trust ca_only = {.ca = trust.ca, .ca_len = trust.ca_len};
    struct http_trust system = {0};
    struct http_trust nonsense = {.ca = "no certificate", .ca_len = 14};

    (void)state;
    get_tls(&w, &other, &ca_only); /* of nobody that we know */
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    get_tls(&w, &wrong, &ca_only); /* another host's */
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    get_tls(&w, &tls, &system); /* not of the system's authorities */
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    get_tls(&w, &tls, NULL);
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    get_tls(&w, &tls, &nonsense);
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    get_tls(&w, &old, &ca_only); /* TLS 1.1 */
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    /* A connection of one trust is not used for another. */
    get_tls(&w, &tls, &ca_only);
    assert_int_equal(w.status, 200);
    get_tls(&w, &tls, &system);
    fails(&w, "tls", EPROTO, FAULT_OPERATOR);
}

/* With TLS 1.3 the refusal shows when the answer is read, if the connection's end is not faster. */
static void a_server_that_wants_a_certificate(void **state)
{
    scoped(world_done) struct world w = world();
    struct http_trust ca_only = {.ca = trust.ca, .ca_len = trust.ca_len};

    (void)state;
    get_tls(&w, &mutual, &ca_only);
    if (strcmp(w.kind, "broken") != 0)
        fails(&w, "tls", EPROTO, FAULT_OPERATOR);
    assert_string_equal(w.body, "");
}

static void no_redirect_is_followed(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    get(&w, "/redirect");
    fails(&w, "redirect", ELOOP, FAULT_OPERATOR);
    assert_int_equal(w.status, 302);
}

static void sizes_have_limits(void **state)
{
    static const char *const paths[] = {"/endless", "/large", "/head", "/continue"};
    scoped(world_done) struct world w = world();

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        get(&w, paths[i]);
        fails(&w, "too-big", EFBIG, FAULT_PLATFORM); /* not the time that ended it */
    }
}

static void an_answer_of_just_the_limit(void **state)
{
    scoped(world_done) struct world w = world();
    scoped_free char *data = malloc(100001);

    (void)state;
    memset(data, 'x', 100001);
    assert_int_equal(server_file("limit", data, 100000), 0);
    assert_int_equal(server_file("over", data, 100001), 0);
    get(&w, "/file/limit");
    assert_int_equal(w.status, 200);
    assert_int_equal(strlen(w.body), 100000);
    get(&w, "/file/over");
    fails(&w, "too-big", EFBIG, FAULT_PLATFORM);
}

static void times_have_limits(void **state)
{
    static const char *const paths[] = {"/drip", "/never"};
    scoped(world_done) struct world w = world();
    struct http_request rq = usual;

    (void)state;
    rq.total_usec = 400 * USEC_PER_MSEC;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        uint64_t begun = clock_boot();

        forget(&w);
        send_to(&w, "http", &plain, paths[i], rq);
        await(&w, 1);
        fails(&w, "timeout", ETIMEDOUT, FAULT_PLATFORM);
        assert_in_range(clock_boot() - begun, 390 * USEC_PER_MSEC, usual.total_usec / 2);
    }
}

/* A server that takes the connection and then says nothing of TLS. */
static void tls_has_to_come_in_time_too(void **state)
{
    scoped(world_done) struct world w = world();
    struct http_request rq = usual;
    uint64_t begun = clock_boot();

    (void)state;
    rq.connect_usec = 400 * USEC_PER_MSEC;
    send_to(&w, "https", &plain, "/echo", rq); /* it reads a line that never ends */
    await(&w, 1);
    assert_true(w.kind[0] != '\0');
    assert_true(clock_boot() - begun < usual.total_usec / 2);
}

static void connections_that_break(void **state)
{
    scoped(world_done) struct world w = world();
    struct server nobody = plain;

    (void)state;
    get(&w, "/close");
    fails(&w, "broken", EIO, FAULT_PLATFORM);
    get(&w, "/half");
    fails(&w, "broken", EIO, FAULT_PLATFORM);
    get(&w, "/garbage");
    fails(&w, "not-http", EBADMSG, FAULT_PLATFORM);
    nobody.port = 1;
    forget(&w);
    send_to(&w, "http", &nobody, "/", usual);
    await(&w, 1);
    fails(&w, "connect", ECONNREFUSED, FAULT_PLATFORM);
}

static void names_that_there_are_not(void **state)
{
    scoped(world_done) struct world w = world();
    struct http_request rq = usual;
    struct err e = ERR_INIT;

    (void)state;
    rq.url = "http://nobody.invalid/";
    assert_int_equal(http_send(w.h, &rq, on_done, &w, &w.job, &e), 0);
    await(&w, 1);
    assert_string_equal(w.kind, "resolve");
    rq.url = "ftp://127.0.0.1/";
    assert_int_equal(http_send(w.h, &rq, on_done, &w, &w.job, &e), -EINVAL);
    rq.url = "http://127.0.0.1:99999/";
    forget(&w);
    assert_int_equal(http_send(w.h, &rq, on_done, &w, &w.job, &e), 0);
    await(&w, 1);
    assert_string_equal(w.kind, "url");
}

static void retry_after_is_read(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    get(&w, "/retry/7");
    assert_int_equal(w.status, 429);
    assert_int_equal(w.retry_after, 7 * USEC_PER_SEC);
    get(&w, "/retry/99999999");
    assert_int_equal(w.retry_after, HTTP_RETRY_AFTER_SEC * USEC_PER_SEC);
    get(&w, "/retry/-5");
    assert_int_equal(w.retry_after, 0);
    get(&w, "/retry/soon");
    assert_int_equal(w.retry_after, 0);
    get(&w, "/retry-date/90");
    assert_int_equal(w.status, 503);
    assert_in_range(w.retry_after, 30 * USEC_PER_SEC, 91 * USEC_PER_SEC);
    get(&w, "/retry-date/-90");
    assert_int_equal(w.retry_after, 0);
    get(&w, "/echo");
    assert_int_equal(w.retry_after, 0);
}

static void what_is_secret_is_not_shown(void **state)
{
    scoped(world_done) struct world w = world();
    char url[200];
    struct http_request rq = usual;
    struct err e = ERR_INIT;

    (void)state;
    (void)snprintf(url, sizeof(url), "http://user:secret@127.0.0.1:%u/close/x?token=secret",
                   plain.port);
    rq.url = url;
    assert_int_equal(http_send(w.h, &rq, on_done, &w, &w.job, &e), 0);
    await(&w, 1);
    assert_null(strstr(w.why.text, "secret"));
    assert_non_null(strstr(w.why.text, "/close/x"));
}

static void a_header_is_one_line(void **state)
{
    scoped(world_done) struct world w = world();
    const char *const headers[] = {"X: a\r\nY: b", NULL};
    struct http_request rq = usual;
    struct err e = ERR_INIT;

    (void)state;
    rq.url = "http://127.0.0.1/";
    rq.headers = headers;
    assert_int_equal(http_send(w.h, &rq, on_done, &w, &w.job, &e), -EINVAL);
}

/* --- whose memory -------------------------------------------------------------------------------
 */

static void cancelled_is_silent(void **state)
{
    scoped(world_done) struct world w = world();
    uint64_t end = clock_boot() + 300 * USEC_PER_MSEC;

    (void)state;
    send_to(&w, "http", &plain, "/echo", usual);
    http_cancel(w.job);
    send_to(&w, "http", &plain, "/hang", usual);
    assert_true(sd_event_run(w.loop, 10 * USEC_PER_MSEC) >= 0);
    http_cancel(w.job);
    http_cancel(NULL);
    while (clock_boot() < end)
        assert_true(sd_event_run(w.loop, 50 * USEC_PER_MSEC) >= 0);
    assert_int_equal(w.n, 0);
}

static void free_all(struct world *w)
{
    http_freep(&w->h);
}

static void cancel_other(struct world *w)
{
    http_cancel(w->other_job);
    w->other_job = NULL;
}

static void send_more(struct world *w)
{
    if (w->n < 3)
        send_to(w, "http", &plain, "/echo", usual);
}

static void callbacks_may_do_anything(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    w.in_callback = send_more;
    get(&w, "/echo");
    await(&w, 3);
    w.in_callback = cancel_other;
    forget(&w);
    send_to(&w, "http", &plain, "/hang", usual);
    w.other_job = w.job;
    send_to(&w, "http", &plain, "/echo", usual);
    await(&w, 1);
    w.in_callback = free_all;
    forget(&w);
    send_to(&w, "http", &plain, "/hang", usual);
    send_to(&w, "http", &plain, "/close", usual);
    await(&w, 1);
    assert_null(w.h);
}

/* How often the loop turns in the next two seconds. */
static uint64_t turns(struct world *w)
{
    uint64_t before = 0, after = 0, end = clock_boot() + 2 * USEC_PER_SEC;

    assert_true(sd_event_get_iteration(w->loop, &before) >= 0);
    for (uint64_t now; (now = clock_boot()) < end;)
        assert_true(sd_event_run(w->loop, end - now) >= 0);
    assert_true(sd_event_get_iteration(w->loop, &after) >= 0);
    return after - before;
}

/* Nothing wakes up while a request waits. */
static void waiting_costs_nothing(void **state)
{
    scoped(world_done) struct world w = world();
    uint64_t end = clock_boot() + usual.total_usec / 2;

    (void)state;
    send_to(&w, "http", &plain, "/never", usual);
    while (turns(&w) > 4) /* until it is under way */
        assert_true(clock_boot() < end);
    assert_in_range(turns(&w), 0, 4);
    assert_int_equal(w.n, 0);
}

static int set_up_all(void **state)
{
    (void)state;
    if (server_prepare() < 0)
        return -1;
    plain = server_start("", false);
    tls = server_start("server", false);
    mutual = server_start("server", true);
    other = server_start("other", false);
    wrong = server_start("wrong", false);
    old = server_start("old", false);
    return server_read("ca.pem", (char **)&trust.ca, &trust.ca_len) < 0 ||
                   server_read("client.pem", (char **)&trust.cert, &trust.cert_len) < 0 ||
                   server_read("client.key", (char **)&trust.key, &trust.key_len) < 0
               ? -1
               : 0;
}

static int tear_down_all(void **state)
{
    struct server *all[] = {&plain, &tls, &mutual, &other, &wrong, &old};

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        server_stop(all[i]);
    free((char *)trust.ca);
    free((char *)trust.cert);
    free((char *)trust.key);
    return server_cleanup();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_arrives_as_it_was_sent),
        cmocka_unit_test(connections_are_used_again),
        cmocka_unit_test(several_at_once),
        cmocka_unit_test(a_connection_alone_tells_our_address),
        cmocka_unit_test(tls_with_ca_and_client_certificate),
        cmocka_unit_test(who_is_not_verified_is_not_spoken_to),
        cmocka_unit_test(a_server_that_wants_a_certificate),
        cmocka_unit_test(no_redirect_is_followed),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(an_answer_of_just_the_limit),
        cmocka_unit_test(times_have_limits),
        cmocka_unit_test(tls_has_to_come_in_time_too),
        cmocka_unit_test(connections_that_break),
        cmocka_unit_test(names_that_there_are_not),
        cmocka_unit_test(retry_after_is_read),
        cmocka_unit_test(what_is_secret_is_not_shown),
        cmocka_unit_test(a_header_is_one_line),
        cmocka_unit_test(cancelled_is_silent),
        cmocka_unit_test(callbacks_may_do_anything),
        cmocka_unit_test(waiting_costs_nothing),
    };

    return cmocka_run_group_tests_name("link_http", tests, set_up_all, tear_down_all);
}
