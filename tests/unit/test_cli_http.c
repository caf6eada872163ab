/* test_cli_http.c - the response parser of the command line. */
#include "cli/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Feeds TEXT in pieces of PIECE bytes; returns the first error, or 0. */
static int feed(struct http *h, const char *text, size_t len, size_t piece, struct str *body,
                size_t *ret_used, struct err *e)
{
    size_t at = 0;

    *ret_used = 0;
    while (at < len) {
        size_t n = len - at < piece ? len - at : piece, used;
        int r = http_feed(h, text + at, n, body, &used, e);

        if (r < 0)
            return r;
        *ret_used += used;
        if (used < n)
            return 0;
        at += n;
    }
    return 0;
}

/* The answer, whatever the size of the pieces in which it comes. */
static void expect_body(const char *text, int status, const char *want)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct http h = {0};
        struct str body = {.max = 1000};
        struct err e = ERR_INIT;
        size_t used;

        assert_int_equal(feed(&h, text, strlen(text), piece, &body, &used, &e), 0);
        assert_int_equal(http_eof(&h, &e), 0);
        assert_int_equal(h.status, status);
        assert_string_equal(str_text(&body), want);
        http_done(&h);
        str_done(&body);
    }
}

static void expect_error(const char *text, size_t len, int want)
{
    for (size_t piece = 1; piece <= len; piece = piece < 8 ? piece + 1 : piece * 2) {
        struct http h = {0};
        struct str body = {.max = 1000};
        struct err e = ERR_INIT;
        size_t used;
        int r = feed(&h, text, len, piece, &body, &used, &e);

        if (r == 0)
            r = http_eof(&h, &e);
        assert_int_equal(r, want);
        assert_true(e.text[0]);
        http_done(&h);
        str_done(&body);
    }
}

static void bodies_by_length_chunks_and_close(void **state)
{
    (void)state;
    expect_body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
    expect_body("HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", 404, "");
    expect_body("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    expect_body("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end");
    expect_body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5\r\nhello\r\nA;ext=1\r\n 0123456\r\n\r\n0\r\nTrailer: x\r\n\r\n",
                200, "hello 0123456\r\n");
    expect_body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
                201, "{}");
    /* Bare LF, as lenient readers take it. */
    expect_body("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok");
}

static void an_upgrade_takes_nothing_after_the_head(void **state)
{
    static const char text[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nframes";
    struct http h = {0};
    struct str body = {.max = 10};
    struct err e = ERR_INIT;
    size_t used;

    (void)state;
    assert_int_equal(http_feed(&h, text, strlen(text), &body, &used, &e), 0);
    assert_int_equal(h.state, HTTP_UPGRADED);
    assert_string_equal(text + used, "frames");
    http_done(&h);
    str_done(&body);
}

static void garbage_is_an_error(void **state)
{
    static const char *const bad[] = {
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    };
    static const char nul[] = "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n";

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_error(bad[i], strlen(bad[i]), -EBADMSG);
    expect_error(nul, sizeof(nul) - 1, -EBADMSG);
}

static void an_end_in_the_middle_is_an_error(void **state)
{
    static const char *const cut[] = {
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    };
    struct http h = {0};
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 1; i < sizeof(cut) / sizeof(cut[0]); i++)
        expect_error(cut[i], strlen(cut[i]), -EPIPE);
    assert_int_equal(http_eof(&h, &e), -EPIPE);
}

static void every_size_has_its_limit(void **state)
{
    struct str text = {0};

    (void)state;
    str_add(&text, "HTTP/1.1 200 OK\r\n");
    for (unsigned i = 0; i < HTTP_HEAD_MAX / 10; i++)
        str_add(&text, "X-A: bcde\r\n");
    expect_error(text.data, text.len, -EMSGSIZE);
    str_done(&text);

    str_add(&text, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;");
    for (unsigned i = 0; i < HTTP_LINE_MAX; i++)
        str_add(&text, "x");
    expect_error(text.data, text.len, -EMSGSIZE);
    str_done(&text);

    str_add(&text, "HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n");
    for (unsigned i = 0; i < 1001; i++)
        str_add(&text, "x");
    expect_error(text.data, text.len, -EMSGSIZE); /* the body's own limit, 1000 */
    str_done(&text);
}

/* No input makes it crash, loop or write past its end: bytes drawn from what means something. */
static void random_bytes_are_survived(void **state)
{
    static const char *const parts[] = {
        "HTTP/1.1 200 OK", "\r\n", "\n", "\r", ":", " ", "Content-Length", "Transfer-Encoding",
        "chunked",         "5",    "0",  "ff", ";", "x", "\xff",           "101",
        "HTTP/1.1 "};
    unsigned seed = 7;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct http h = {0};
        struct str body = {.max = 100}, text = {0};
        struct err e = ERR_INIT;
        size_t used;

        for (int i = 0; i < 30; i++) {
            seed = seed * 1103515245u + 12345u;
            str_add(&text, parts[(seed >> 16) % (sizeof(parts) / sizeof(parts[0]))]);
        }
        if (http_feed(&h, text.data, text.len, &body, &used, &e) == 0)
            (void)http_eof(&h, &e);
        assert_true(body.len <= 100);
        http_done(&h);
        str_done(&body);
        str_done(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_by_length_chunks_and_close),
        cmocka_unit_test(an_upgrade_takes_nothing_after_the_head),
        cmocka_unit_test(garbage_is_an_error),
        cmocka_unit_test(an_end_in_the_middle_is_an_error),
        cmocka_unit_test(every_size_has_its_limit),
        cmocka_unit_test(random_bytes_are_survived),
    };
    return cmocka_run_group_tests_name("cli_http", tests, NULL, NULL);
}
