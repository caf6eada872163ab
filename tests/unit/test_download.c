/* The download from one mirror and from several, against servers that misbehave: what arrives in
 * the pipe, what is asked of the store, and what is said when it fails. */
#include "slug/fetch/mirrors.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/str.h"
#include "download_server.h"
#include "slug/fetch/download.h"
#include "slug/fetch/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/random.h>

#include <cmocka.h>

#define SMALL (100u << 10)
#define LARGE (40u << 20)

static char *object; /* LARGE bytes; the small one is its beginning */

static int set_up(void **state)
{
    uint32_t x = 1;

    (void)state;
    object = malloc(LARGE);
    for (size_t i = 0; object && i < LARGE; i++) {
        x = x * 1664525u + 1013904223u;
        object[i] = (char)(x >> 24);
    }
    if (!object)
        return -1;
    memcpy(object, "\x1f\x8b", 2);
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(object);
    curl_global_cleanup();
    return 0;
}

static struct digest digest_of(size_t len)
{
    unsigned char sum[32];
    struct digest d;

    assert_int_equal(EVP_Digest(object, len, sum, NULL, EVP_sha256(), NULL), 1);
    digest_from_bytes(sum, &d);
    return d;
}

/* --- the unpacker's side of the pipe --- */

struct reader {
    pthread_t thread;
    int fd;
    useconds_t pause; /* before each read */
    size_t stop;      /* closes after so many bytes; 0: never */
    size_t got;
    bool wrong;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    static char buf[65536];
    ssize_t n;

    while ((!r->stop || r->got < r->stop) && (n = read(r->fd, buf, sizeof(buf))) > 0) {
        if (r->got + (size_t)n > LARGE || memcmp(buf, object + r->got, (size_t)n) != 0)
            r->wrong = true;
        r->got += (size_t)n;
        if (r->pause)
            (void)usleep(r->pause);
    }
    close(r->fd);
    return NULL;
}

/* --- one fetch --- */

struct got {
    int r;
    struct err e;
    struct mirrors_result m;
    struct reader reader;
    uint64_t usec;
};

static int no_progress(void *userdata, uint64_t bytes, int64_t total, size_t mirror,
                       unsigned connections, struct err *e)
{
    (void)userdata;
    (void)bytes;
    (void)total;
    (void)mirror;
    (void)connections;
    (void)e;
    return 0;
}

static int spool_new(void)
{
    int fd = memfd_create("spool", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static struct job job_for(const char *url, size_t len)
{
    return (struct job){
        .mirrors = {{(char *)(uintptr_t)url, -1}},
        .n_mirrors = 1,
        .has_digest = true,
        .digest = digest_of(len),
        .allow_http = true,
        .compressed = LARGE,
        .connect_ms = 60000,
        .stall_ms = 60000,
        .total_ms = 120000,
        .slow_bytes = 0,
        .slow_ms = 1000,
        .connections = 8,
        .failed = json_array(),
    };
}

/* Runs J (its pipe and spool are made here, its array freed). */
static struct got fetch_with(struct job *j, struct reader reader,
                             int (*progress)(void *, uint64_t, int64_t, size_t, unsigned,
                                             struct err *))
{
    struct got g = {.e = ERR_INIT, .reader = reader};
    struct mirrors_watch watch = {.progress = progress};
    uint64_t start = clock_boot();
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    j->pipe = fds[1];
    j->spool = spool_new();
    g.reader.fd = fds[0];
    assert_int_equal(pthread_create(&g.reader.thread, NULL, read_all, &g.reader), 0);
    g.r = mirrors_run(j, &watch, &g.m, &g.e);
    close(j->pipe);
    close(j->spool);
    assert_int_equal(pthread_join(g.reader.thread, NULL), 0);
    json_decref(j->failed);
    j->failed = NULL;
    g.usec = clock_boot() - start;
    if (strstr(g.e.text, "pass") || strstr(g.e.text, "sig="))
        fail_msg("a secret is in: %s", g.e.text);
    return g;
}

static struct got fetch(struct job *j)
{
    return fetch_with(j, (struct reader){0}, no_progress);
}

static void assert_whole(struct got *g, size_t len)
{
    if (g->r < 0)
        fail_msg("%s: %s", g->m.step, g->e.text);
    assert_int_equal(g->reader.got, len);
    assert_false(g->reader.wrong);
    assert_int_equal(g->m.bytes, len);
    assert_string_equal(g->m.digest.hex, digest_of(len).hex);
    assert_null(g->m.next);
    mirrors_result_done(&g->m);
}

static void assert_failed(struct got *g, const char *step, enum fault fault, const char *text)
{
    if (g->r == 0)
        fail_msg("no error, but expected: %s", text);
    if (strcmp(g->m.step, step) != 0 || g->e.fault != fault || !strstr(g->e.text, text))
        fail_msg("%s of step %s expected, but %s, fault %s: %s", text, step, g->m.step,
                 fault_name(g->e.fault), g->e.text);
    mirrors_result_done(&g->m);
}

/* Fetches the first LEN bytes from a server of FN, which is told what it saw in *RET_N. */
static struct got fetch_from(server_fn *fn, size_t len, struct server_counts *ret_n)
{
    struct server s;

    server_start(&s, fn, len);
    struct job j = job_for(s.url, len);
    struct got g = fetch(&j);
    if (ret_n)
        memcpy(ret_n, s.n, sizeof(*ret_n));
    server_stop(&s);
    return g;
}

/* The same without knowing the digest. */
static struct got fetch_blindly(server_fn *fn, size_t len)
{
    struct server s;

    server_start(&s, fn, len);
    struct job j = job_for(s.url, len);
    j.has_digest = false;
    struct got g = fetch(&j);
    server_stop(&s);
    return g;
}

/* --- what works ----------------------------------------------------------------------------------
 */

static bool small(struct server_request *rq)
{
    return server_object(rq,
                         &(struct server_answer){.data = object, .len = SMALL, .etag = "\"e\""});
}

static bool large(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .fields = "Accept-Ranges: bytes\r\n"});
}

static bool large_dated(struct server_request *rq)
{
    const char *fields = "Accept-Ranges: bytes\r\nETag: W/\"weak\"\r\n"
                         "Last-Modified: Sun, 22 Nov 2026 01:30:10 GMT\r\n";

    return server_object(rq,
                         &(struct server_answer){.data = object, .len = LARGE, .fields = fields});
}

/* As Swift's S3 interface answers: a bare tag, and not a word of ranges. */
static bool large_untold(struct server_request *rq)
{
    const char *fields = rq->ranged ? "ETag: \"6b02-2\"\r\n" : "ETag: 6b02-2\r\n";

    if (rq->ranged && !strstr(rq->head, "If-Match: \"6b02-2\"\r\n")) {
        server_error(rq, "412 Precondition Failed");
        return true;
    }
    return server_object(rq,
                         &(struct server_answer){.data = object, .len = LARGE, .fields = fields});
}

static bool large_without_ranges(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .fields = "Accept-Ranges: none\r\n"});
}

static bool chunked(struct server_request *rq)
{
    return server_object(rq,
                         &(struct server_answer){.data = object, .len = SMALL, .chunked = true});
}

static void a_small_slug_is_one_request(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(small, SMALL, &n);
    assert_whole(&g, SMALL);
    assert_int_equal(n.requests, 1);
    assert_int_equal(n.ranged, 0);
}

static void without_a_length_it_comes_over_one_connection(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(chunked, SMALL, &n);
    assert_whole(&g, SMALL);
    assert_int_equal(n.requests, 1);
}

static void a_large_slug_comes_in_parts_of_one_object(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(large, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(n.ranged >= 3);
    assert_true(n.most >= 2);
    assert_true(n.most <= 8);
    assert_int_equal(n.unconditional, 0);
    g = fetch_from(large_dated, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(n.ranged >= 3);
    assert_int_equal(n.unconditional, 0);
    g = fetch_from(large_untold, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(n.ranged >= 3);
    assert_int_equal(n.unconditional, 0);
    g = fetch_from(large_without_ranges, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_int_equal(n.requests, 1);
}

static void one_connection_when_no_more_are_wanted(void **state)
{
    struct server s;

    (void)state;
    server_start(&s, large, LARGE);
    struct job j = job_for(s.url, LARGE);
    j.connections = 1;
    struct got g = fetch(&j);
    assert_whole(&g, LARGE);
    assert_int_equal(s.n->requests, 1);
    server_stop(&s);
}

static bool ranges_only_promised(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .no_ranges = true,
                                                     .fields = "Accept-Ranges: bytes\r\n"});
}

static void a_server_that_ignores_ranges_gives_all(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(ranges_only_promised, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(n.ranged >= 1);
}

static bool at_most_two(struct server_request *rq)
{
    if (atomic_load(&rq->n->open) > 2) {
        server_head(rq, "429 Too Many", "Content-Length: 0\r\n");
        return true;
    }
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .bytes_per_ms = 40000,
                                                     .fields = "Accept-Ranges: bytes\r\n"});
}

static void a_store_that_wants_fewer_gets_fewer(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(at_most_two, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(n.requests < 40);
}

/* --- broken connections --------------------------------------------------------------------------
 */

static bool breaks_small(struct server_request *rq)
{
    return server_object(
        rq, &(struct server_answer){
                .data = object, .len = SMALL, .etag = "\"e\"", .cut = rq->number < 3 ? 30000 : 0});
}

static bool breaks_parts(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .cut = rq->number < 12 ? 1500000 : 0,
                                                     .fields = "Accept-Ranges: bytes\r\n"});
}

static void a_broken_body_goes_on_where_it_broke(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(breaks_small, SMALL, &n);
    assert_whole(&g, SMALL);
    assert_int_equal(n.requests, 4);
    assert_int_equal(n.ranged, 3);
    assert_int_equal(n.sent, SMALL); /* no byte twice */
    g = fetch_from(breaks_parts, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(n.requests > 12);
    assert_true(n.sent < LARGE + LARGE / 4);
}

static bool breaks_without_ranges(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = SMALL,
                                                     .no_ranges = true,
                                                     .cut = rq->number == 0 ? 30000 : 0});
}

static void without_ranges_the_rest_needs_a_digest(void **state)
{
    (void)state;
    struct got g = fetch_from(breaks_without_ranges, SMALL, NULL);
    assert_whole(&g, SMALL);
    g = fetch_blindly(breaks_without_ranges, SMALL);
    assert_failed(&g, "download", FAULT_PLATFORM, "the server takes no ranges");
}

static bool lies_about_length(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = SMALL,
                                                     .claims = rq->ranged ? 5000 : SMALL + 5000,
                                                     .etag = "\"e\""});
}

static void a_length_that_lies_is_found_out(void **state)
{
    (void)state;
    struct got g = fetch_from(lies_about_length, SMALL, NULL);
    assert_failed(&g, "changed", FAULT_PLATFORM, "or is shorter than announced");
}

static bool cut_for_ever(struct server_request *rq)
{
    return server_object(
        rq, &(struct server_answer){.data = object, .len = SMALL, .etag = "\"e\"", .cut = 100});
}

static void what_breaks_for_ever_is_given_up(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(cut_for_ever, SMALL, &n);
    assert_failed(&g, "download", FAULT_PLATFORM, "after 4 tries");
    assert_int_equal(n.requests, 4);
}

/* --- answers that are not the slug ---------------------------------------------------------------
 */

static bool unavailable_twice(struct server_request *rq)
{
    if (rq->number < 2) {
        server_head(rq, "503 Down", "Content-Length: 5\r\nRetry-After: 1\r\n\r\nsorry");
        return false;
    }
    return small(rq);
}

static void retry_after_is_heeded(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(unavailable_twice, SMALL, &n);
    assert_true(g.usec >= 2 * USEC_PER_SEC);
    assert_whole(&g, SMALL);
    assert_int_equal(n.requests, 3);
}

#define REFUSES(name, status)                                                                      \
    static bool name(struct server_request *rq)                                                    \
    {                                                                                              \
        server_error(rq, status);                                                                  \
        return true;                                                                               \
    }
REFUSES(gone, "404 Not Found")
REFUSES(forbidden, "403 Forbidden")
REFUSES(moved, "304 Not Modified")
REFUSES(nothing, "204 No Content")
REFUSES(down, "502 Bad Gateway")
REFUSES(unsupported, "501 Not Implemented")

static bool skewed(struct server_request *rq)
{
    server_head(rq, "403 Forbidden",
                "Date: Sun, 22 Nov 2020 01:30:10 GMT\r\nContent-Length: 0\r\n");
    return true;
}

static bool page(struct server_request *rq)
{
    static const char html[] = "<!DOCTYPE html><p>maintenance";
    const char *type = strstr(rq->head, "Range") ? "" : "Content-Type: text/html\r\n";

    return server_object(
        rq, &(struct server_answer){.data = html, .len = sizeof(html) - 1, .fields = type});
}

static bool page_unnamed(struct server_request *rq)
{
    static const char html[] = " \r\n<html>";

    return server_object(rq, &(struct server_answer){.data = html, .len = sizeof(html) - 1});
}

static void refusals_have_a_fault(void **state)
{
    static const struct {
        server_fn *fn;
        enum fault fault;
        const char *text;
        unsigned requests;
    } cases[] = {
        {gone, FAULT_OPERATOR, "/slug: HTTP status 404", 1},
        {forbidden, FAULT_OPERATOR, "HTTP status 403", 1},
        {skewed, FAULT_OPERATOR, "s ahead of the store's)", 1},
        {moved, FAULT_OPERATOR, "HTTP status 304", 1},
        {nothing, FAULT_OPERATOR, "HTTP status 204", 1},
        {unsupported, FAULT_PLATFORM, "HTTP status 501", 1},
        {page, FAULT_OPERATOR, "an HTML page, not a slug", 1},
        {page_unnamed, FAULT_OPERATOR, "an HTML page, not a slug", 1},
        {down, FAULT_PLATFORM, "after 4 tries: http://127.0.0.1:", 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct server_counts n;
        struct got g = fetch_from(cases[i].fn, SMALL, &n);

        assert_int_equal(g.reader.got, 0);
        assert_null(g.m.next);
        assert_failed(&g, "http", cases[i].fault, cases[i].text);
        assert_int_equal(n.requests, cases[i].requests);
    }
}

/* Where the server of the next test sends everybody, with the number of its answer behind. */
static const char *elsewhere;

static bool redirects(struct server_request *rq)
{
    char fields[300];

    (void)snprintf(fields, sizeof(fields), "Location: %s%u\r\nContent-Length: 0\r\n", elsewhere,
                   rq->number);
    server_head(rq, "302 F", fields);
    return false;
}

/* Addresses of instance metadata and of the link, as they can be written. */
static const char *const link_local[] = {
    "http://169.254.169.254/x",
    "http://169.254.0.1/x",
    "http://2852039166/x",    /* the first one, as a number */
    "http://0xa9fea9fe/x",    /* and again */
    "http://169.254.43518/x", /* and again */
    "http://[::ffff:169.254.169.254]/x",
    "http://[::169.254.169.254]/x",
    "http://[64:ff9b::169.254.169.254]/x",
    "http://[fe80::1]/x",
    "http://[febf::1]/x",
    "http://[fd00:ec2::254]/x",
};

static void redirects_have_limits(void **state)
{
    struct server_counts n;

    (void)state;
    for (size_t i = 0; i < sizeof(link_local) / sizeof(link_local[0]); i++) {
        elsewhere = link_local[i];
        struct got g = fetch_from(redirects, SMALL, NULL);
        assert_failed(&g, "connect", FAULT_OPERATOR, "leads to a link-local address");
        struct job j = job_for(link_local[i], SMALL); /* nor without a redirect */
        g = fetch(&j);
        assert_failed(&g, "connect", FAULT_OPERATOR, "leads to a link-local address");
    }
    elsewhere = "file:///etc/passwd";
    struct got g = fetch_from(redirects, SMALL, NULL);
    assert_failed(&g, "http", FAULT_OPERATOR, "rotocol");
    elsewhere = "ftp://127.0.0.1/x";
    g = fetch_from(redirects, SMALL, NULL);
    assert_failed(&g, "http", FAULT_OPERATOR, "rotocol");
    elsewhere = "/";
    g = fetch_from(redirects, SMALL, &n);
    assert_failed(&g, "http", FAULT_OPERATOR, "over the limit of 5 redirects");
    assert_int_equal(n.requests, 6);
}

static bool is_link_local(const char *text)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return address_is_link_local((struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return address_is_link_local((struct sockaddr *)&v6);
}

static void the_link_ends_where_it_ends(void **state)
{
    static const char *const others[] = {"169.253.255.255", "169.255.0.0",     "127.0.0.1",
                                         "254.169.254.169", "fec0::1",         "fe7f::1",
                                         "fd00:ec2::253",   "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"};
    static const char *const inside[] = {"169.254.0.0", "169.254.255.255", "fe80::",
                                         "febf:ffff::", "fd00:ec2::254",   "::ffff:169.254.1.1"};

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (is_link_local(others[i]))
            fail_msg("%s", others[i]);
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
        if (!is_link_local(inside[i]))
            fail_msg("%s", inside[i]);
}

static bool with_password(struct server_request *rq)
{
    if (!strstr(rq->head, "Authorization: Basic dXNlcjpwYXNz\r\n")) { /* user:pass */
        server_error(rq, "401 Unauthorized");
        return true;
    }
    return small(rq);
}

static bool empty(struct server_request *rq)
{
    server_error(rq, "200 OK");
    return true;
}

static void an_address_may_have_a_password(void **state)
{
    (void)state;
    struct got g = fetch_from(with_password, SMALL, NULL);
    assert_whole(&g, SMALL);
}

static void nothing_is_a_slug_of_no_bytes(void **state)
{
    (void)state;
    struct got g = fetch_from(empty, 0, NULL); /* for unpack to refuse */
    assert_whole(&g, 0);
}

static void nobody_listens(void **state)
{
    struct server s;

    (void)state;
    server_start(&s, small, SMALL);
    server_stop(&s);
    struct job j = job_for(s.url, SMALL);
    j.total_ms = 3000; /* gives up before the last try */
    struct got g = fetch(&j);
    assert_int_equal(g.e.errnum, ECONNREFUSED);
    assert_failed(&g, "connect", FAULT_PLATFORM, "127.0.0.1");
}

/* A socket that listens, and takes the first connections but nothing from them. */
static int deaf(char url[64], const char *scheme)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(url, 64, "%s://127.0.0.1:%u/slug", scheme, ntohs(at.sin_port));
    return fd;
}

static void connecting_has_a_limit(void **state)
{
    char url[64];
    int ear = deaf(url, "https"), crowd[8];

    (void)state;
    struct job j = job_for(url, SMALL);
    j.connect_ms = 2000; /* it is connected before */
    j.tries = 1;
    struct got g = fetch(&j);
    assert_failed(&g, "tls", FAULT_PLATFORM, "no TLS handshake within 2000 ms (fetch_connect)");
    assert_int_equal(g.e.errnum, ETIMEDOUT);
    close(ear);

    /* No room for another connection: a SYN gets no answer. */
    ear = deaf(url, "http");
    struct sockaddr_in at;
    socklen_t len = sizeof(at);
    assert_int_equal(getsockname(ear, (struct sockaddr *)&at, &len), 0);
    for (size_t i = 0; i < sizeof(crowd) / sizeof(crowd[0]); i++) {
        crowd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(crowd[i], (struct sockaddr *)&at, sizeof(at)); /* or is left waiting */
    }
    j = job_for(url, SMALL);
    j.connect_ms = 100;
    j.tries = 1;
    g = fetch(&j);
    assert_failed(&g, "connect", FAULT_PLATFORM, "no connection within 100 ms (fetch_connect)");
    assert_int_equal(g.e.errnum, ETIMEDOUT);
    for (size_t i = 0; i < sizeof(crowd) / sizeof(crowd[0]); i++)
        close(crowd[i]);
    close(ear);
}

static void sizes_have_limits(void **state)
{
    static server_fn *const servers[] = {small, chunked};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct server s;

        server_start(&s, servers[i], SMALL);
        struct job j = job_for(s.url, SMALL);
        j.compressed = SMALL - 1;
        struct got g = fetch(&j);
        assert_failed(&g, "download", FAULT_APP, "over the limit of 102399 compressed bytes");
        server_stop(&s);
    }
}

/* --- the object is another one -------------------------------------------------------------------
 */

static bool changes(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = SMALL,
                                                     .etag = rq->number ? "\"new\"" : "\"old\"",
                                                     .cut = rq->number ? 0 : 30000});
}

static bool precondition(struct server_request *rq)
{
    if (rq->ranged) {
        server_error(rq, "412 Precondition Failed");
        return true;
    }
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .bytes_per_ms = 10000,
                                                     .fields = "Accept-Ranges: bytes\r\n"});
}

static bool other_place(struct server_request *rq)
{
    if (rq->ranged) {
        server_head(rq, "206 P", "Content-Range: bytes 1-3/4\r\nContent-Length: 3\r\n\r\nabc");
        return false;
    }
    return server_object(
        rq, &(struct server_answer){.data = object, .len = SMALL, .etag = "\"e\"", .cut = 30000});
}

static bool unsatisfiable(struct server_request *rq)
{
    if (rq->ranged) {
        server_error(rq, "416 Range");
        return true;
    }
    return other_place(rq);
}

static void another_object_is_never_glued_on(void **state)
{
    static const struct {
        server_fn *fn;
        size_t len;
    } cases[] = {
        {changes, SMALL}, {precondition, LARGE}, {other_place, SMALL}, {unsatisfiable, SMALL}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct got g = fetch_from(cases[i].fn, cases[i].len, NULL);

        assert_false(g.reader.wrong);
        /* Bytes went into the pipe: once more from the start, by a fresh fetch. */
        assert_non_null(g.m.next);
        assert_true(json_bool(g.m.next, "anew", false));
        assert_int_equal(json_array_size(json_object_get(g.m.next, "mirrors")), 1);
        assert_failed(&g, "changed", FAULT_PLATFORM, "the object was changed while");
    }
}

static void a_second_change_ends_the_mirror(void **state)
{
    struct server s;

    (void)state;
    server_start(&s, changes, SMALL);
    struct job j = job_for(s.url, SMALL);
    j.anew = true;
    struct got g = fetch(&j);
    assert_null(g.m.next);
    assert_failed(&g, "changed", FAULT_PLATFORM, "the object was changed while");
    server_stop(&s);
}

/* --- waiting -------------------------------------------------------------------------------------
 */

static bool hangs(struct server_request *rq)
{
    (void)server_object(
        rq, &(struct server_answer){.data = object, .len = SMALL, .etag = "\"e\"", .cut = 1000});
    (void)usleep(10000000);
    return false;
}

static bool drips(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){
                                 .data = object, .len = SMALL, .etag = "\"e\"", .bytes_per_ms = 1});
}

static void waiting_has_limits(void **state)
{
    struct server s;

    (void)state;
    server_start(&s, hangs, SMALL);
    struct job j = job_for(s.url, SMALL);
    j.stall_ms = 100;
    struct got g = fetch(&j);
    assert_failed(&g, "download", FAULT_PLATFORM, "no byte came for 100 ms (fetch_stall)");
    j = job_for(s.url, SMALL);
    j.total_ms = 300;
    g = fetch(&j);
    assert_failed(&g, "download", FAULT_PLATFORM,
                  "over the limit of 300 ms for a download (fetch_total)");
    server_stop(&s);

    server_start(&s, drips, SMALL);
    j = job_for(s.url, SMALL);
    j.slow_bytes = 10000;
    j.slow_ms = 500;
    g = fetch(&j);
    assert_failed(&g, "download", FAULT_PLATFORM,
                  "less than 10000 bytes a second for 500 ms (fetch_slow)");
    server_stop(&s);
}

/* The second request's connection all but stops; the others are as fast as they are. */
static bool one_laggard(struct server_request *rq)
{
    return server_object(rq, &(struct server_answer){.data = object,
                                                     .len = LARGE,
                                                     .etag = "\"e\"",
                                                     .bytes_per_ms = rq->number == 1 ? 1 : 20000,
                                                     .fields = "Accept-Ranges: bytes\r\n"});
}

static void a_slow_connection_does_not_hold_the_others_up(void **state)
{
    struct server_counts n;

    (void)state;
    struct got g = fetch_from(one_laggard, LARGE, &n);
    assert_whole(&g, LARGE);
    assert_true(g.usec < 100 * USEC_PER_SEC); /* alone it would take hours */
}

static int gone_after(void *userdata, uint64_t bytes, int64_t total, size_t mirror,
                      unsigned connections, struct err *e)
{
    (void)userdata;
    (void)bytes;
    (void)total;
    (void)mirror;
    (void)connections;
    return err_say(e, EPIPE, "the agent is gone");
}

static void without_its_agent_it_ends(void **state)
{
    struct server s;

    (void)state;
    server_start(&s, drips, SMALL);
    struct job j = job_for(s.url, SMALL);
    j.mirrors[1] = j.mirrors[0];
    j.n_mirrors = 2;
    struct got g = fetch_with(&j, (struct reader){0}, gone_after);
    assert_int_equal(g.r, -EPIPE);
    assert_int_equal(g.m.mirror, 0); /* no other is tried */
    assert_null(g.m.next);
    mirrors_result_done(&g.m);
    server_stop(&s);
}

/* --- the unpacker --------------------------------------------------------------------------------
 */

static void a_slow_unpacker_gets_all_and_is_told_of(void **state)
{
    struct server s;

    (void)state;
    server_start(&s, large, LARGE);
    struct job j = job_for(s.url, LARGE);
    struct got g = fetch_with(&j, (struct reader){.pause = 1000}, no_progress);
    assert_true(g.m.wait_ms > 50);
    assert_true(g.m.download_ms < g.usec / USEC_PER_MSEC); /* the spool took it meanwhile */
    assert_whole(&g, LARGE);
    server_stop(&s);
}

static void when_the_unpacker_is_gone_the_digest_still_counts(void **state)
{
    struct server s;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    server_start(&s, large, LARGE);
    struct job j = job_for(s.url, LARGE);
    struct got g = fetch_with(&j, (struct reader){.stop = 1}, no_progress);
    assert_int_equal(g.r, 0);
    assert_string_equal(g.m.digest.hex, digest_of(LARGE).hex);
    mirrors_result_done(&g.m);
    j = job_for(s.url, LARGE);
    j.has_digest = false;
    g = fetch_with(&j, (struct reader){.stop = 1}, no_progress);
    assert_null(g.m.next);
    assert_failed(&g, "unpack", FAULT_PLATFORM, "the unpacker is gone");
    server_stop(&s);
}

/* --- mirrors -------------------------------------------------------------------------------------
 */

static bool flipped(struct server_request *rq)
{
    object[5000] ^= 1; /* this process's own copy */
    return small(rq);
}

static struct got fetch_mirrors(server_fn *a, server_fn *b, server_fn *c)
{
    struct server s[3];
    server_fn *const fns[] = {a, b, c};

    for (int i = 0; i < 3; i++)
        server_start(&s[i], fns[i], SMALL);
    struct job j = job_for(s[0].url, SMALL);
    for (int i = 0; i < 3; i++)
        j.mirrors[i] = (struct job_mirror){s[i].url, -1};
    j.n_mirrors = 3;
    struct got g = fetch(&j);
    for (int i = 0; i < 3; i++)
        server_stop(&s[i]);
    return g;
}

static void mirrors_are_tried_in_order(void **state)
{
    (void)state;
    struct got g = fetch_mirrors(gone, page, small);
    assert_int_equal(g.m.mirror, 2);
    assert_int_equal(json_array_size(g.m.failed), 2);
    const json_t *first = json_array_get(g.m.failed, 0);
    assert_int_equal(json_int(first, "mirror", -1), 0);
    assert_int_equal(json_int(first, "http", -1), 404);
    assert_string_equal(json_str(first, "fault", ""), "operator");
    assert_string_equal(json_str(json_array_get(g.m.failed, 1), "step", ""), "http");
    assert_whole(&g, SMALL);
}

static void all_reasons_are_told(void **state)
{
    (void)state;
    struct got g = fetch_mirrors(gone, page, forbidden);
    assert_non_null(strstr(g.e.text, "HTTP status 403; before it: "));
    assert_non_null(strstr(g.e.text, "HTTP status 404; "));
    assert_failed(&g, "http", FAULT_OPERATOR, "an HTML page");
    g = fetch_mirrors(unsupported, gone, forbidden);
    assert_failed(&g, "http", FAULT_PLATFORM, "HTTP status 501");
}

/* However many and long they are, and with room for whose fault it was. */
static void every_mirror_has_its_share_of_the_words(void **state)
{
    enum { MANY = FETCH_MIRRORS_MAX };
    char urls[MANY][300];
    size_t told = 0;

    (void)state;
    struct server s;
    server_start(&s, gone, SMALL);
    struct job j = job_for(s.url, SMALL);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(urls[i], sizeof(urls[i]), "%.*s/%d-\xc3\xa4\xc3\xb6\xc3\xbc-%0150d",
                       (int)strcspn(s.url, "?"), s.url, i, i);
        j.mirrors[i] = (struct job_mirror){urls[i], -1};
    }
    j.n_mirrors = MANY;
    struct got g = fetch(&j);
    server_stop(&s);
    for (const char *at = g.e.text; (at = strstr(at, "HTTP status 404")); at++)
        told++;
    assert_int_equal(told, MANY);
    assert_true(strlen(g.e.text) < sizeof(g.e.text) - 32);
    scoped(json_freep) json_t *text = json_string(g.e.text); /* NULL: not UTF-8 */
    assert_non_null(text);
    assert_failed(&g, "http", FAULT_OPERATOR, "; before it: HTTP status 404; ");
}

static void a_wrong_digest_is_never_asked_for_again(void **state)
{
    (void)state;
    struct got g = fetch_mirrors(gone, flipped, small);
    assert_string_equal(g.m.expected.hex, digest_of(SMALL).hex);
    assert_string_not_equal(g.m.actual.hex, g.m.expected.hex);
    const json_t *left = json_object_get(g.m.next, "mirrors");
    assert_int_equal(json_array_size(left), 1);
    assert_int_equal(json_integer_value(json_array_get(left, 0)), 2);
    assert_false(json_bool(g.m.next, "anew", true));
    assert_int_equal(json_array_size(json_object_get(g.m.next, "failed")), 2);
    assert_failed(&g, "digest", FAULT_PLATFORM, "Checksum does not match expected value");
    g = fetch_mirrors(gone, gone, flipped);
    assert_null(g.m.next);
    assert_failed(&g, "digest", FAULT_PLATFORM, "HTTP status 404");
}

static void a_file_is_a_mirror(void **state)
{
    static char url[] = "file:///slug.tgz", other[] = "file:///none";
    struct job j = job_for(other, SMALL);

    (void)state;
    j.mirrors[1] = (struct job_mirror){url, memfd_create("slug", MFD_CLOEXEC)};
    j.n_mirrors = 2;
    assert_int_equal(fd_write_full(j.mirrors[1].file, object, SMALL), 0);
    struct got g = fetch(&j);
    assert_non_null(
        strstr(json_str(json_array_get(g.m.failed, 0), "text", ""), "came without its file"));
    assert_whole(&g, SMALL);
    close(j.mirrors[1].file);
}

/* --- credentials ---------------------------------------------------------------------------------
 */

static bool wants_second_token(struct server_request *rq)
{
    if (!strstr(rq->head, "X-Token: 2")) {
        server_error(rq, "401 Unauthorized");
        return true;
    }
    return small(rq);
}

/* The token ends when the first connection has its answer: all others hear of it at once. */
static bool parts_want_second_token(struct server_request *rq)
{
    if (rq->ranged && !strstr(rq->head, "X-Token: 2")) {
        (void)usleep(100000);
        server_error(rq, "401 Unauthorized");
        return true;
    }
    return server_object(rq,
                         &(struct server_answer){
                             .data = object, .len = LARGE, .etag = "\"e\"", .bytes_per_ms = 50000});
}

static unsigned *tokens(struct store *s)
{
    return s->state;
}

static int token_prepare(struct store *s, CURL *easy, struct store_request *ret, struct err *e)
{
    char line[32];

    (void)easy;
    (void)e;
    (void)snprintf(line, sizeof(line), "X-Token: %u", *tokens(s));
    *ret =
        (struct store_request){.url = strdup(s->address), .headers = curl_slist_append(NULL, line)};
    return 0;
}

static enum store_verdict token_refused(struct store *s, const struct store_refusal *r,
                                        struct err *e)
{
    (void)r;
    (void)err_say(e, EACCES, "no such token");
    (void)err_blame(e, FAULT_OPERATOR);
    ++*tokens(s);
    return STORE_RENEW;
}

/* With a first token of this number. */
static int with_token(server_fn *fn, unsigned connections, unsigned first, struct err *e,
                      unsigned *ret_last)
{
    static const struct store_ops ops = {
        .scheme = "test", .prepare = token_prepare, .refused = token_refused};
    static const struct store_env env = {.connect_ms = 60000, .allow_http = true};
    struct server srv;

    server_start(&srv, fn, LARGE);
    struct store s = {.ops = &ops, .env = &env, .address = srv.url, .file = -1, .state = &first};
    struct outlet o;
    int spool = spool_new(), r = outlet_init(&o, spool, -1, e);
    struct download_options options = {.store = &s,
                                       .outlet = &o,
                                       .compressed_max = LARGE,
                                       .stall_ms = 60000,
                                       .until = clock_boot() + 120 * USEC_PER_SEC,
                                       .connections = connections};
    struct download_outcome out;
    if (r == 0)
        r = download_run(&options, &out, e);
    outlet_done(&o);
    close(spool);
    server_stop(&srv);
    *ret_last = first;
    return r;
}

static void a_credential_is_renewed_once(void **state)
{
    struct err e = ERR_INIT;
    unsigned last;

    (void)state;
    assert_int_equal(with_token(wants_second_token, 1, 1, &e, &last), 0);
    assert_int_equal(last, 2);
    assert_int_equal(with_token(parts_want_second_token, 8, 1, &e, &last), 0);
    assert_int_equal(last, 2);
    assert_int_equal(with_token(wants_second_token, 1, 5, &e, &last), -EACCES);
    assert_int_equal(last, 7);
    assert_string_equal(e.text, "no such token");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_slug_is_one_request),
        cmocka_unit_test(without_a_length_it_comes_over_one_connection),
        cmocka_unit_test(a_large_slug_comes_in_parts_of_one_object),
        cmocka_unit_test(one_connection_when_no_more_are_wanted),
        cmocka_unit_test(a_server_that_ignores_ranges_gives_all),
        cmocka_unit_test(a_store_that_wants_fewer_gets_fewer),
        cmocka_unit_test(a_broken_body_goes_on_where_it_broke),
        cmocka_unit_test(without_ranges_the_rest_needs_a_digest),
        cmocka_unit_test(a_length_that_lies_is_found_out),
        cmocka_unit_test(what_breaks_for_ever_is_given_up),
        cmocka_unit_test(retry_after_is_heeded),
        cmocka_unit_test(refusals_have_a_fault),
        cmocka_unit_test(redirects_have_limits),
        cmocka_unit_test(the_link_ends_where_it_ends),
        cmocka_unit_test(an_address_may_have_a_password),
        cmocka_unit_test(nothing_is_a_slug_of_no_bytes),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(connecting_has_a_limit),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(another_object_is_never_glued_on),
        cmocka_unit_test(a_second_change_ends_the_mirror),
        cmocka_unit_test(waiting_has_limits),
        cmocka_unit_test(a_slow_connection_does_not_hold_the_others_up),
        cmocka_unit_test(without_its_agent_it_ends),
        cmocka_unit_test(a_slow_unpacker_gets_all_and_is_told_of),
        cmocka_unit_test(when_the_unpacker_is_gone_the_digest_still_counts),
        cmocka_unit_test(mirrors_are_tried_in_order),
        cmocka_unit_test(all_reasons_are_told),
        cmocka_unit_test(every_mirror_has_its_share_of_the_words),
        cmocka_unit_test(a_wrong_digest_is_never_asked_for_again),
        cmocka_unit_test(a_file_is_a_mirror),
        cmocka_unit_test(a_credential_is_renewed_once),
    };

    return cmocka_run_group_tests_name("download", tests, set_up, tear_down);
}
