/* The http backend against controllers that answer as they should not, and one that does. */
#include "link/backend_http.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/str.h"
#include "link/files.h"
#include "link/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link_server.h"

#define PATIENCE (60 * USEC_PER_SEC)

static struct server plain, mutual;
static struct files files;

struct world {
    sd_event *loop;
    struct http *h;
    struct backend *b;
    unsigned n;
    enum backend_code code;
    char kind[32], session[200], address[64];
    struct err why;
    uint64_t retry_after;
    bool snapshot;
    json_t *commands;
};

static void on_address(void *userdata, const char *address)
{
    struct world *w = userdata;

    assert_string_equal(w->address, "");
    (void)snprintf(w->address, sizeof(w->address), "%s", address);
}

static struct world world(void)
{
    struct world w = {0};
    struct err e = ERR_INIT;

    assert_true(sd_event_new(&w.loop) >= 0);
    assert_int_equal(http_new(w.loop, &w.h, &e), 0);
    return w;
}

static void world_open(struct world *w, bool look_for_address)
{
    struct backend_setup setup = {.loop = w->loop,
                                  .http = w->h,
                                  .agent = "i-1",
                                  .on_address = look_for_address ? on_address : NULL,
                                  .userdata = w};
    struct err e = ERR_INIT;

    assert_int_equal(backend_http()->open(&setup, &w->b, &e), 0);
    backend_http()->use_files(w->b, &files);
}

static void world_done(struct world *w)
{
    if (w->b)
        backend_http()->close(w->b);
    http_freep(&w->h);
    json_decref(w->commands);
    sd_event_unref(w->loop);
}

static void on_reply(void *userdata, const struct backend_reply *r)
{
    struct world *w = userdata;

    w->n++;
    w->code = r->code;
    w->retry_after = r->retry_after_usec;
    w->snapshot = r->snapshot;
    w->kind[0] = '\0';
    assert_true((r->code == BACKEND_OK) == !r->why);
    assert_true(!r->why == !r->kind);
    if (r->why) {
        w->why = *r->why;
        (void)snprintf(w->kind, sizeof(w->kind), "%s", r->kind);
    }
    if (r->session)
        (void)snprintf(w->session, sizeof(w->session), "%s %s %llu", r->session, r->store,
                       (unsigned long long)r->timing->heartbeat_usec);
    json_decref(w->commands);
    w->commands = json_incref(r->commands);
}

/* CALL to the controller whose every answer is that of PATH. */
static void ask(struct world *w, backend_call_fn call, const struct server *s, const char *path,
                json_t *body)
{
    static const struct backend_timing now = {10000000, 30000000, 25000000};
    struct backend_call *c = NULL;
    char url[200];
    struct err e = ERR_INIT;
    uint64_t end = clock_boot() + PATIENCE;

    (void)snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", s == &mutual ? "https" : "http",
                   s->port, path);
    struct backend_request rq = {.url = url,
                                 .session = "s/1 ?",
                                 .body = body,
                                 .seq = 7,
                                 .after = 41,
                                 .wait_usec = 2 * USEC_PER_SEC,
                                 .timing = &now};
    w->n = 0;
    assert_int_equal(call(w->b, &rq, on_reply, w, &c, &e), 0);
    assert_int_equal(w->n, 0);
    while (w->n == 0) {
        assert_true(clock_boot() < end);
        assert_true(sd_event_run(w->loop, 100 * USEC_PER_MSEC) >= 0);
    }
}

/* Each kind of call, to a controller that always answers with TEXT. */
static void answers(struct world *w, const char *text, backend_call_fn call)
{
    scoped(json_freep) json_t *body = json_object();

    assert_int_equal(server_file("answer", text, strlen(text)), 0);
    ask(w, call, &plain, "/file/answer", body);
}

static void good_answers_are_taken(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    world_open(&w, false);
    answers(&w, "{\"session\":\"s-1\",\"store\":\"d\",\"heartbeat_ms\":100}",
            backend_http()->enlist);
    assert_int_equal(w.code, BACKEND_OK);
    assert_string_equal(w.session, "s-1 d 100000");
    answers(&w, "{\"commands\":[{\"id\":\"c-1\"}]}", backend_http()->commands);
    assert_int_equal(w.code, BACKEND_OK);
    assert_int_equal(json_array_size(w.commands), 1);
    answers(&w, "{\"acked\":7,\"snapshot\":true}", backend_http()->report);
    assert_int_equal(w.code, BACKEND_OK);
    assert_true(w.snapshot);
    answers(&w, "{}", backend_http()->heartbeat);
    assert_int_equal(w.code, BACKEND_OK);
    assert_false(w.snapshot);
}

/* What is asked: seen by a controller that says it back, where a command is not looked into. */
static void the_requests_are_those_of_the_protocol(void **state)
{
    scoped(world_done) struct world w = world();

    (void)state;
    world_open(&w, false);
    ask(&w, backend_http()->commands, &plain, "/commands/x/", NULL);
    assert_int_equal(w.code, BACKEND_OK);
    const json_t *seen = json_array_get(w.commands, 0);
    assert_string_equal(json_str(seen, "path", ""),
                        "/commands/x/v1/agents/i-1/commands?session=s%2F1%20%3F&after=41&wait=2");
    const json_t *head = json_object_get(seen, "head");
    assert_string_equal(json_str(head, "", ""), "GET");
    assert_string_equal(json_str(head, "authorization", ""), "Bearer open-sesame");
    assert_string_equal(json_str(head, "accept", ""), "application/json");
    scoped(json_freep) json_t *body = json_pack("{s:[f],s:s}", "load", 0.1, "text", "\303\244");
    ask(&w, backend_http()->heartbeat, &plain, "/last", body); /* any object answers a heartbeat */
    ask(&w, backend_http()->commands, &plain, "/last", NULL);
    seen = json_array_get(w.commands, 0);
    assert_string_equal(json_str(seen, "path", ""), "/last/v1/agents/i-1/heartbeat");
    assert_string_equal(json_str(seen, "body", ""), "{\"load\":[0.1],\"text\":\"\303\244\"}");
    head = json_object_get(seen, "head");
    assert_string_equal(json_str(head, "", ""), "POST");
    assert_string_equal(json_str(head, "content-type", ""), "application/json");
}

static void our_address_is_found_on_the_way(void **state)
{
    scoped(world_done) struct world w = world();
    scoped(json_freep) json_t *body = json_pack("{s:s}", "address", "");

    (void)state;
    world_open(&w, true);
    ask(&w, backend_http()->enlist, &plain, "/status/500", body);
    assert_string_equal(w.address, "127.0.0.1");
    assert_string_equal(json_str(body, "address", ""), "127.0.0.1");
    ask(&w, backend_http()->enlist, &plain, "/status/500", body); /* and asked for once */
}

static const struct {
    const char *path;
    enum backend_code code;
    const char *kind;
    enum fault fault;
} bad[] = {
    {"/status/201", BACKEND_FAILED, "status", FAULT_PLATFORM},
    {"/status/204", BACKEND_FAILED, "status", FAULT_PLATFORM},
    {"/status/400", BACKEND_FAILED, "status", FAULT_PLATFORM},
    {"/status/401", BACKEND_DENIED, "denied", FAULT_OPERATOR},
    {"/status/403", BACKEND_DENIED, "denied", FAULT_OPERATOR},
    {"/status/404", BACKEND_FAILED, "not-found", FAULT_OPERATOR},
    {"/status/409", BACKEND_FORGOTTEN, "session-lost", FAULT_PLATFORM},
    {"/status/418", BACKEND_FAILED, "status", FAULT_PLATFORM},
    {"/status/429", BACKEND_FAILED, "busy", FAULT_PLATFORM},
    {"/status/500", BACKEND_FAILED, "server-error", FAULT_PLATFORM},
    {"/status/502", BACKEND_FAILED, "server-error", FAULT_PLATFORM},
    {"/status/503", BACKEND_FAILED, "server-error", FAULT_PLATFORM},
    {"/retry/7", BACKEND_LATER, "busy", FAULT_PLATFORM},
    {"/retry-date/90", BACKEND_LATER, "busy", FAULT_PLATFORM},
    {"/redirect", BACKEND_FAILED, "redirect", FAULT_OPERATOR},
    {"/html", BACKEND_FAILED, "not-json", FAULT_PLATFORM},
    {"/large", BACKEND_FAILED, "too-big", FAULT_PLATFORM},
    {"/endless", BACKEND_FAILED, "too-big", FAULT_PLATFORM},
    /* We have a certificate, and it may be what the server does not like. */
    {"/close", BACKEND_DENIED, "broken", FAULT_PLATFORM},
    {"/garbage", BACKEND_FAILED, "not-http", FAULT_PLATFORM},
};

static void each_wrong_answer_has_its_kind(void **state)
{
    scoped(world_done) struct world w = world();
    const backend_call_fn calls[] = {backend_http()->enlist, backend_http()->commands,
                                     backend_http()->report, backend_http()->heartbeat};

    (void)state;
    world_open(&w, false);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        for (size_t k = 0; k < 4; k++) {
            scoped(json_freep) json_t *body = k == 1 ? NULL : json_object();
            bool enlisting = k == 0 && bad[i].code == BACKEND_FORGOTTEN;

            ask(&w, calls[k], &plain, bad[i].path, body);
            assert_int_equal(w.code, enlisting ? BACKEND_FAILED : bad[i].code);
            assert_string_equal(w.kind, bad[i].kind);
            assert_int_equal(w.why.fault, bad[i].fault);
            assert_non_null(strstr(w.why.text, "127.0.0.1"));
            assert_true((w.retry_after > 0) == (bad[i].code == BACKEND_LATER));
        }
    }
}

static void wrong_members_are_a_wrong_answer(void **state)
{
    scoped(world_done) struct world w = world();
    const backend_call_fn calls[] = {backend_http()->enlist, backend_http()->commands,
                                     backend_http()->report, backend_http()->heartbeat};

    (void)state;
    world_open(&w, false);
    for (size_t k = 0; k < 4; k++) {
        answers(&w, "{\"heartbeat_ms\":\"x\",\"acked\":[]}", calls[k]);
        assert_int_equal(w.code, BACKEND_FAILED);
        assert_string_equal(w.kind, "bad-answer");
        answers(&w, "{\"a\":1,\"a\":2}", calls[k]);
        assert_string_equal(w.kind, "not-json");
        answers(&w, "", calls[k]);
        assert_string_equal(w.kind, "not-json");
    }
}

static void a_wrong_certificate_is_denied(void **state)
{
    scoped(world_done) struct world w = world();
    struct files none = {.token = files.token};

    (void)state;
    world_open(&w, false);
    ask(&w, backend_http()->commands, &mutual, "/commands", NULL);
    assert_int_equal(w.code, BACKEND_OK);
    backend_http()->use_files(w.b, &none); /* of what the system trusts, and without our own */
    ask(&w, backend_http()->commands, &mutual, "/commands", NULL);
    assert_int_equal(w.code, BACKEND_DENIED);
    assert_string_equal(w.kind, "tls");
    backend_http()->use_files(w.b, &files); /* renewed */
    ask(&w, backend_http()->commands, &mutual, "/commands", NULL);
    assert_int_equal(w.code, BACKEND_OK);
}

static void closing_cancels(void **state)
{
    scoped(world_done) struct world w = world();
    struct backend_call *first = NULL, *second = NULL;
    struct backend_request rq = {.session = "s", .wait_usec = USEC_PER_SEC};
    char url[200];
    struct err e = ERR_INIT;

    (void)state;
    world_open(&w, false);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/hang", plain.port);
    rq.url = url;
    assert_int_equal(backend_http()->commands(w.b, &rq, on_reply, &w, &first, &e), 0);
    assert_int_equal(backend_http()->report(w.b, &rq, on_reply, &w, &second, &e), 0);
    backend_http()->cancel(first);
    backend_http()->cancel(NULL);
    backend_http()->close(w.b);
    w.b = NULL;
    uint64_t end = clock_boot() + 200 * USEC_PER_MSEC;
    while (clock_boot() < end)
        assert_true(sd_event_run(w.loop, 50 * USEC_PER_MSEC) >= 0);
    assert_int_equal(w.n, 0);
}

/* --- files --------------------------------------------------------------------------------------
 */

static struct frame files_frame(const char *names, const char *const *contents, size_t n)
{
    struct frame f = {.json = json_pack("{s:o}", "files", json_loads(names, 0, NULL))};
    struct err e = ERR_INIT;

    assert_non_null(f.json);
    for (f.n_fds = 0; f.n_fds < n; f.n_fds++)
        assert_int_equal(
            memfd_with("test", contents[f.n_fds], strlen(contents[f.n_fds]), &f.fds[f.n_fds], &e),
            0);
    return f;
}

static int files_result(const char *names, const char *const *contents, size_t n, struct files *ret)
{
    scoped(frame_done) struct frame f = files_frame(names, contents, n);
    struct err e = ERR_INIT;

    return files_read(&f, ret, &e);
}

static void files_come_as_descriptors(void **state)
{
    static const char *const contents[] = {"CA", "CERT", "KEY", "  to.ken\r\n"};
    scoped(files_done) struct files got = {0};
    scoped(files_done) struct files none = {0};

    (void)state;
    assert_int_equal(files_result("[\"ca\",\"cert\",\"key\",\"token\"]", contents, 4, &got), 0);
    assert_string_equal(got.ca, "CA");
    assert_int_equal(got.ca_len, 2);
    assert_string_equal(got.cert, "CERT");
    assert_string_equal(got.key, "KEY");
    assert_string_equal(got.token, "to.ken");
    assert_int_equal(files_result("[]", NULL, 0, &none), 0);
    assert_null(none.ca);
}

static void files_that_are_not_right(void **state)
{
    static const char *const contents[] = {"one two", "\n", "x\001y", "a", "b"};
    struct files none = {0};

    (void)state;
    assert_int_equal(files_result("[\"token\"]", contents, 1, &none), -EBADMSG);
    assert_int_equal(files_result("[\"token\"]", contents + 1, 1, &none), -EBADMSG);
    assert_int_equal(files_result("[\"token\"]", contents + 2, 1, &none), -EBADMSG);
    assert_int_equal(files_result("[\"ca\",\"ca\"]", contents + 3, 2, &none), -EINVAL);
    assert_int_equal(files_result("[\"password\"]", contents + 3, 1, &none), -EINVAL);
    assert_int_equal(files_result("[7]", contents + 3, 1, &none), -EINVAL);
    assert_int_equal(files_result("{}", contents + 3, 1, &none), -EINVAL);
    assert_int_equal(files_result("[\"ca\"]", contents + 3, 2, &none), -EINVAL);
    /* It is configured, and dynod could not open it: nobody else is to be trusted instead. */
    assert_int_equal(files_result("[\"ca\",\"token\"]", contents + 3, 1, &none), -ENOENT);
    assert_null(none.ca);
    struct frame f = {.json = json_pack("{s:[s]}", "files", "ca"), .n_fds = 1};
    struct err e = ERR_INIT;
    f.fds[0] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_int_equal(files_read(&f, &none, &e), -EINVAL);
    frame_done(&f);
}

static int set_up_all(void **state)
{
    (void)state;
    if (server_prepare() < 0)
        return -1;
    plain = server_start("", false);
    mutual = server_start("server", true);
    files.token = strdup("open-sesame");
    return server_read("ca.pem", &files.ca, &files.ca_len) < 0 ||
                   server_read("client.pem", &files.cert, &files.cert_len) < 0 ||
                   server_read("client.key", &files.key, &files.key_len) < 0
               ? -1
               : 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    server_stop(&plain);
    server_stop(&mutual);
    files_done(&files);
    return server_cleanup();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_answers_are_taken),
        cmocka_unit_test(the_requests_are_those_of_the_protocol),
        cmocka_unit_test(our_address_is_found_on_the_way),
        cmocka_unit_test(each_wrong_answer_has_its_kind),
        cmocka_unit_test(wrong_members_are_a_wrong_answer),
        cmocka_unit_test(a_wrong_certificate_is_denied),
        cmocka_unit_test(closing_cancels),
        cmocka_unit_test(files_come_as_descriptors),
        cmocka_unit_test(files_that_are_not_right),
    };

    return cmocka_run_group_tests_name("link_controller", tests, set_up_all, tear_down_all);
}
