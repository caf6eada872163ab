/* The HTTP source against a server that keeps to a script: one connection an answer, on loopback.
 * The real store stands in tests/integration; here are the answers that a real one gives only
 * rarely. */
#include "slug/fetch/http.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct answer {
    const char *expect; /* part of the request; NULL: anything */
    const char *head;   /* NULL: close at once */
    const char *body;
    unsigned hang_ms; /* before closing */
};

#define OK "HTTP/1.1 200 OK\r\n"

struct server {
    pid_t pid;
    unsigned port;
    char url[100];
};

static void serve_one(int fd, const struct answer *a)
{
    char request[4096] = "";
    size_t used = 0;
    ssize_t n;

    while (!strstr(request, "\r\n\r\n") && used < sizeof(request) - 1 &&
           (n = read(fd, request + used, sizeof(request) - 1 - used)) > 0)
        used += (size_t)n;
    if (a->expect && !strstr(request, a->expect))
        _exit(10);
    if (a->head)
        (void)dprintf(fd, "%sConnection: close\r\n\r\n%s", a->head, a->body ? a->body : "");
    (void)usleep(a->hang_ms * 1000);
    close(fd);
}

/* Answers as many connections as ANSWERS has, then exits 0. */
static void server_start(struct server *s, const struct answer *answers, size_t n)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    s->port = ntohs(a.sin_port);
    (void)snprintf(s->url, sizeof(s->url), "http://user:pass@127.0.0.1:%u/slug?sig=x", s->port);
    s->pid = fork();
    if (s->pid == 0) {
        (void)signal(SIGPIPE, SIG_IGN);
        (void)alarm(30);
        for (size_t i = 0; i < n; i++)
            serve_one(accept(fd, NULL, NULL), &answers[i]);
        _exit(0);
    }
    close(fd);
}

static struct http_options options(const char *url)
{
    return (struct http_options){
        .url = url, .scheme = URL_HTTP, .connect_ms = 2000, .stall_ms = 300, .total_ms = 20000};
}

struct result {
    ssize_t r;
    struct err e;
    struct str body;
    const char *step;
    long status;
};

static struct result download(const struct http_options *o)
{
    struct result res = {.e = ERR_INIT};
    scoped(http_freep) struct http *h = NULL;
    char buf[7]; /* small, so that a body takes several reads */

    assert_int_equal(http_new(o, &h, &res.e), 0);
    while ((res.r = stream_read(http_stream(h), buf, sizeof(buf), &res.e)) > 0)
        str_add_n(&res.body, buf, (size_t)res.r);
    res.step = http_stream(h)->failed;
    res.status = http_status(h);
    return res;
}

/* Downloads from a server with this script; all of it must be used. */
static struct result play(const struct answer *answers, size_t n)
{
    struct server s;
    int status;

    server_start(&s, answers, n);
    struct http_options o = options(s.url);
    struct result res = download(&o);
    assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
    if (status != 0)
        fail_msg("the server did not see what it expected: %d (%s)", status, res.e.text);
    return res;
}

#define PLAY(...)                                                                                  \
    play((const struct answer[]){__VA_ARGS__},                                                     \
         sizeof((const struct answer[]){__VA_ARGS__}) / sizeof(struct answer))

static void assert_body(struct result res, const char *body)
{
    if (res.r < 0)
        fail_msg("%s: %s", res.step, res.e.text);
    assert_string_equal(str_text(&res.body), body);
    str_done(&res.body);
}

static void assert_failed(struct result res, const char *step, enum fault fault, const char *text)
{
    assert_true(res.r < 0);
    if (strcmp(res.step, step) != 0 || res.e.fault != fault || !strstr(res.e.text, text))
        fail_msg("%s expected, but %s, fault %s: %s", text, res.step, fault_name(res.e.fault),
                 res.e.text);
    assert_null(strstr(res.e.text, "pass")); /* no secret in any error */
    assert_null(strstr(res.e.text, "sig="));
    str_done(&res.body);
}

static void bodies_come_whole(void **state)
{
    (void)state;
    assert_body(PLAY({"GET /slug?sig=x ", OK "Content-Length: 10\r\n", "0123456789", 0}),
                "0123456789");
    assert_body(PLAY({"Authorization: Basic", OK "Transfer-Encoding: chunked\r\n",
                      "4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n", 0}),
                "abcde");
    assert_body(PLAY({NULL, OK "Content-Length: 0\r\n", NULL, 0}), "");
}

static void what_may_pass_is_tried_again(void **state)
{
    (void)state;
    assert_body(PLAY({NULL, "HTTP/1.1 503 Down\r\nContent-Length: 5\r\n", "sorry", 0},
                     {NULL, NULL, NULL, 0}, {NULL, "HTTP/1.1 429 Slow\r\n", NULL, 0},
                     {NULL, OK "Content-Length: 2\r\n", "ok", 0}),
                "ok");
    struct result res = PLAY({NULL, "HTTP/1.1 500 X\r\n", NULL, 0}, {NULL, NULL, NULL, 0},
                             {NULL, NULL, NULL, 0}, {NULL, "HTTP/1.1 502 X\r\n", NULL, 0});
    assert_int_equal(res.status, 502);
    assert_failed(res, "http", FAULT_PLATFORM, "after 4 tries: http://127.0.0.1:");
}

static void retry_after_is_heeded(void **state)
{
    uint64_t start = clock_boot();

    (void)state;
    assert_body(PLAY({NULL, "HTTP/1.1 503 Down\r\nRetry-After: 2\r\n", NULL, 0},
                     {NULL, OK "Content-Length: 2\r\n", "ok", 0}),
                "ok");
    assert_true(clock_boot() - start >= 2 * USEC_PER_SEC);
}

static void what_will_not_pass_is_not_tried_again(void **state)
{
    (void)state;
    assert_failed(PLAY({NULL, "HTTP/1.1 404 No\r\n", NULL, 0}), "http", FAULT_OPERATOR,
                  "/slug: HTTP status 404");
    assert_failed(PLAY({NULL, "HTTP/1.1 403 No\r\nContent-Length: 3\r\n", "bad", 0}), "http",
                  FAULT_OPERATOR, "HTTP status 403");
    assert_failed(PLAY({NULL, "HTTP/1.1 204 None\r\n", NULL, 0}), "http", FAULT_OPERATOR,
                  "HTTP status 204");
    assert_failed(PLAY({NULL, "HTTP/1.1 304 None\r\n", NULL, 0}), "http", FAULT_OPERATOR,
                  "HTTP status 304");
}

static void a_broken_body_goes_on_where_it_broke(void **state)
{
    (void)state;
    assert_body(
        PLAY({NULL, OK "Content-Length: 10\r\nETag: \"e1\"\r\n", "0123", 0},
             {"If-Range: \"e1\"",
              "HTTP/1.1 206 P\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n", "456", 0},
             {"Range: bytes=7-",
              "HTTP/1.1 206 P\r\nContent-Range: bytes 7-9/10\r\nContent-Length: 3\r\n", "789", 0}),
        "0123456789");
    assert_body(
        PLAY({NULL, OK "Content-Length: 4\r\nAccept-Ranges: bytes\r\n", "01", 0},
             {"Range: bytes=2-",
              "HTTP/1.1 206 P\r\nContent-Range: bytes 2-3/4\r\nContent-Length: 2\r\n", "23", 0}),
        "0123");
    /* A 503 in between changes nothing. */
    assert_body(
        PLAY({NULL, OK "Content-Length: 4\r\nETag: \"e\"\r\n", "01", 0},
             {"Range: bytes=2-", "HTTP/1.1 503 Down\r\n", NULL, 0},
             {"Range: bytes=2-",
              "HTTP/1.1 206 P\r\nContent-Range: bytes 2-3/4\r\nContent-Length: 2\r\n", "23", 0}),
        "0123");
}

static void another_body_is_never_glued_on(void **state)
{
    (void)state;
    /* It has changed: If-Range makes the server send all of the new one. */
    assert_failed(PLAY({NULL, OK "Content-Length: 4\r\nETag: \"e1\"\r\n", "01", 0},
                       {NULL, OK "Content-Length: 4\r\nETag: \"e2\"\r\n", "abcd", 0}),
                  "download", FAULT_PLATFORM, "does not go on with the same slug");
    assert_failed(PLAY({NULL, OK "Content-Length: 4\r\nETag: \"e1\"\r\n", "01", 0},
                       {NULL, "HTTP/1.1 206 P\r\nContent-Range: bytes 1-3/4\r\n", "123", 0}),
                  "download", FAULT_PLATFORM, "does not go on with the same slug");
    assert_failed(PLAY({NULL, OK "Content-Length: 4\r\n", "01", 0}), "download", FAULT_PLATFORM,
                  "the server takes no ranges");
    assert_failed(PLAY({NULL, OK "Content-Length: 4\r\nETag: W/\"e\"\r\n", "01", 0}), "download",
                  FAULT_PLATFORM, "the server takes no ranges");
}

static void redirects_have_limits(void **state)
{
#define TO(where) {NULL, "HTTP/1.1 302 F\r\nLocation: " where "\r\n", NULL, 0}
    (void)state;
    assert_failed(PLAY(TO("/1"), TO("/2"), TO("/3"), TO("/4"), TO("/5"), TO("/6")), "http",
                  FAULT_OPERATOR, "redirects");
    assert_failed(PLAY(TO("file:///etc/passwd")), "http", FAULT_OPERATOR, "rotocol");
    assert_failed(PLAY(TO("http://169.254.169.254/latest/")), "connect", FAULT_OPERATOR,
                  "leads to a link-local address");
    assert_failed(PLAY(TO("http://[::ffff:169.254.169.254]/")), "connect", FAULT_OPERATOR,
                  "leads to a link-local address");
#undef TO
}

static void waiting_has_limits(void **state)
{
    struct server s;
    struct http_options o;
    const struct answer hang[] = {{NULL, OK "Content-Length: 9\r\n", "0", 900}};

    (void)state;
    server_start(&s, hang, 1);
    o = options(s.url);
    assert_failed(download(&o), "download", FAULT_PLATFORM, "no byte came for 300 ms");
    (void)kill(s.pid, SIGKILL);
    (void)waitpid(s.pid, NULL, 0);

    server_start(&s, hang, 1);
    o = options(s.url);
    o.stall_ms = 10000;
    o.total_ms = 300;
    assert_failed(download(&o), "download", FAULT_PLATFORM, "over the limit of 300 ms");
    (void)kill(s.pid, SIGKILL);
    (void)waitpid(s.pid, NULL, 0);
}

static void nobody_listens(void **state)
{
    struct server s;
    struct http_options o;

    (void)state;
    server_start(&s, NULL, 0);
    (void)waitpid(s.pid, NULL, 0);
    o = options(s.url);
    o.total_ms = 1000; /* gives up before the fourth try */
    struct result res = download(&o);
    assert_failed(res, "connect", FAULT_PLATFORM, "127.0.0.1");
    assert_int_equal(res.e.errnum, ECONNREFUSED);
}

static int gone(void *userdata, struct err *e)
{
    (void)userdata;
    return err_say(e, EPIPE, "gone");
}

static void who_waits_is_asked(void **state)
{
    const struct answer hang[] = {{NULL, OK "Content-Length: 9\r\n", NULL, 900}};
    struct server s;

    (void)state;
    server_start(&s, hang, 1);
    struct http_options o = options(s.url);
    o.stall_ms = 10000;
    o.on_wait = gone;
    struct result res = download(&o);
    assert_int_equal(res.r, -EPIPE);
    (void)kill(s.pid, SIGKILL);
    (void)waitpid(s.pid, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_come_whole),
        cmocka_unit_test(what_may_pass_is_tried_again),
        cmocka_unit_test(retry_after_is_heeded),
        cmocka_unit_test(what_will_not_pass_is_not_tried_again),
        cmocka_unit_test(a_broken_body_goes_on_where_it_broke),
        cmocka_unit_test(another_body_is_never_glued_on),
        cmocka_unit_test(redirects_have_limits),
        cmocka_unit_test(waiting_has_limits),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(who_waits_is_asked),
    };

    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
