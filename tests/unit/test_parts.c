/* The pure parts of the download: ranges, the number of connections, header fields, waiting. */
#include "base/clock.h"
#include "slug/fetch.h"
#include "slug/fetch/head.h"
#include "slug/fetch/pace.h"
#include "slug/fetch/parts.h"
#include "slug/fetch/transport.h"
#include "slug/fetch/tune.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void ranges_are_taken_from_the_front(void **state)
{
    struct parts p;
    struct range r;

    (void)state;
    parts_init(&p, 10, 100);
    assert_true(parts_take(&p, 30, &r));
    assert_int_equal(r.at, 10);
    assert_int_equal(r.end, 40);
    assert_int_equal(parts_first(&p), 40);
    assert_int_equal(parts_left(&p), 60);
    assert_false(parts_take_at(&p, 50, 10, &r));
    assert_true(parts_take_at(&p, 40, 1000, &r));
    assert_int_equal(r.end, 100);
    assert_false(parts_take(&p, 1, &r));
    assert_true(parts_first(&p) == UINT64_MAX);
}

static void what_is_given_back_joins(void **state)
{
    struct parts p;

    (void)state;
    parts_init(&p, 0, 0);
    assert_int_equal(p.n, 0);
    parts_give(&p, &(struct range){40, 50});
    parts_give(&p, &(struct range){10, 20});
    parts_give(&p, &(struct range){60, 60}); /* empty */
    assert_int_equal(p.n, 2);
    assert_int_equal(parts_first(&p), 10);
    parts_give(&p, &(struct range){20, 40}); /* between the two */
    assert_int_equal(p.n, 1);
    assert_int_equal(p.free[0].end, 50);
    parts_give(&p, &(struct range){5, 10});
    parts_give(&p, &(struct range){50, 60});
    assert_int_equal(p.n, 1);
    assert_int_equal(parts_left(&p), 55);
}

/* Many connections take and give back at random: no byte is lost, none is there twice. */
static void no_byte_is_lost(void **state)
{
    enum { HOLDERS = 64, BYTES = 100000 };
    struct range held[HOLDERS] = {{0, 0}};
    struct parts p;
    uint64_t arrived = 0;

    (void)state;
    srand(1);
    parts_init(&p, 0, BYTES);
    for (int i = 0; i < 200000; i++) {
        struct range *h = &held[rand() % HOLDERS];
        uint64_t sum = parts_left(&p) + arrived, n = (uint64_t)(rand() % 50);

        if (h->at == h->end && !parts_take(&p, 300, h))
            continue;
        if (n > h->end - h->at)
            n = h->end - h->at;
        h->at += n;
        arrived += n;
        if (rand() % 3 == 0) {
            parts_give(&p, h);
            *h = (struct range){0, 0};
        }
        sum = parts_left(&p) + arrived;
        for (int k = 0; k < HOLDERS; k++)
            sum += held[k].end - held[k].at;
        assert_int_equal(sum, BYTES);
        for (size_t k = 1; k < p.n; k++)
            assert_true(p.free[k - 1].end < p.free[k].at);
    }
    assert_int_equal(arrived, BYTES);
}

static void parts_have_a_fitting_length(void **state)
{
    (void)state;
    assert_int_equal(parts_length(20u << 20, 16, FETCH_PART / 2, FETCH_PART), FETCH_PART / 2);
    assert_int_equal(parts_length(160u << 20, 16, FETCH_PART / 2, FETCH_PART), 10u << 20);
    assert_int_equal(parts_length(1000u << 20, 16, FETCH_PART / 2, FETCH_PART), FETCH_PART);
    assert_int_equal(parts_length((160u << 20) + 1, 16, FETCH_PART / 2, FETCH_PART),
                     (10u << 20) + 1); /* not a 17th of 1 byte */
}

/* Connections that all flow from the start, each of RATE bytes a second, but no more than MOST
 * together. */
static unsigned settle(uint64_t rate, uint64_t most, unsigned max)
{
    struct tune t;
    uint64_t bytes = 0;

    tune_init(&t, max, 0);
    for (uint64_t now = 0; now < 5 * USEC_PER_SEC; now += 10 * USEC_PER_MSEC) {
        uint64_t all = rate * t.wanted < most ? rate * t.wanted : most;

        bytes += all / 100;
        tune_step(&t, now, bytes, t.wanted);
    }
    return t.wanted;
}

static void connections_grow_while_that_helps(void **state)
{
    struct tune t;

    (void)state;
    assert_int_equal(settle(20 << 20, UINT64_MAX, 16), 16);
    assert_int_equal(settle(20 << 20, UINT64_MAX, 3), 3);
    assert_int_equal(settle(20 << 20, 60 << 20, 64), 8); /* one doubling to see that it is no use */
    tune_init(&t, 16, 0);
    tune_step(&t, 0, 0, 3); /* not all of them flow yet: nothing is measured */
    tune_step(&t, 10 * USEC_PER_SEC, 1 << 30, 3);
    assert_int_equal(t.wanted, TUNE_FIRST);
    tune_limit(&t, 2);
    tune_step(&t, 20 * USEC_PER_SEC, 1 << 30, 2);
    tune_step(&t, 30 * USEC_PER_SEC, 2 << 29, 2);
    assert_int_equal(t.wanted, 2);
    tune_limit(&t, 0);
    assert_int_equal(t.wanted, 1);
}

/* The further away, the more from the beginning, but never more than there may be. */
static void a_far_store_gets_more_connections_at_once(void **state)
{
    struct tune t;

    (void)state;
    tune_init(&t, 64, TUNE_FAR_USEC - 1);
    assert_int_equal(t.wanted, TUNE_FIRST);
    tune_init(&t, 64, TUNE_FAR_USEC);
    assert_int_equal(t.wanted, 2 * TUNE_FIRST);
    tune_init(&t, 64, 2 * TUNE_FAR_USEC);
    assert_int_equal(t.wanted, 4 * TUNE_FIRST);
    tune_init(&t, 64, 200 * USEC_PER_MSEC);
    assert_int_equal(t.wanted, 16 * TUNE_FIRST);
    assert_false(t.settled);
    tune_init(&t, 5, UINT64_MAX);
    assert_int_equal(t.wanted, 5);
}

/* There a part is over before its connection is up to speed: more connections are what helps. */
static void a_far_store_is_asked_for_shorter_parts(void **state)
{
    (void)state;
    assert_int_equal(tune_part_least(0, FETCH_PART), 8u << 20);
    assert_int_equal(tune_part_least(2 * TUNE_FAR_USEC - 1, FETCH_PART), 8u << 20);
    assert_int_equal(tune_part_least(200 * USEC_PER_MSEC, FETCH_PART), 2u << 20);
}

/* What a connection has after NOW when a round trip is 200 ms: in slow start, up to a window of
 * MOST bytes. */
static uint64_t after(uint64_t now, uint64_t most)
{
    uint64_t sum = 0, window = 14600;

    for (uint64_t t = 400 * USEC_PER_MSEC; t < now; t += 200 * USEC_PER_MSEC) {
        sum += window;
        window = 2 * window < most ? 2 * window : most;
    }
    return sum;
}

/* Whether a connection of that kind is ever taken for settled within USEC. */
static bool settles(uint64_t usec, uint64_t most)
{
    struct pace p;
    bool settled = false;

    pace_start(&p, 0);
    for (uint64_t now = 0; now < usec; now += 10 * USEC_PER_MSEC) {
        pace_note(&p, now, after(now, most), 200 * USEC_PER_MSEC);
        settled |= p.settled;
    }
    return settled;
}

/* Who took half of the bytes of one that looks slow because it is young would only be later. */
static void a_connection_in_slow_start_is_not_called_slow(void **state)
{
    struct pace p;

    (void)state;
    assert_false(settles(3 * USEC_PER_SEC, UINT64_MAX));
    assert_true(settles(2 * USEC_PER_SEC, 14600)); /* as slow as it began */
    assert_true(settles(4 * USEC_PER_SEC, 3 << 20));
    pace_start(&p, 0);
    for (uint64_t now = 0; now < 2 * USEC_PER_SEC; now += 10 * USEC_PER_MSEC)
        pace_note(&p, now, 0, 200 * USEC_PER_MSEC);
    assert_true(p.settled); /* nothing comes at all */
}

static void what_is_left_is_foreseen(void **state)
{
    struct pace p;

    (void)state;
    pace_start(&p, 1000);
    assert_int_equal(pace_left(&p, 1500, 0, 100), 500); /* at least as long again */
    assert_int_equal(pace_left(&p, 1500, 100, 300), 1500);
    pace_note(&p, 1000 + USEC_PER_SEC, 1 << 20, 0);
    assert_int_equal(pace_left(&p, 2 * USEC_PER_SEC, 1 << 20, 3 << 20), 3 * USEC_PER_SEC);
    /* a millisecond to the first byte, then the windows' 1 + 2 + 4 of 14,600 bytes */
    assert_int_equal(pace_fresh(1000, 200, 14600 * 7), 1000 + 3 * 200);
    assert_int_equal(pace_fresh(1000, 200, 10), 1000);
}

static void content_ranges_are_read_strictly(void **state)
{
    static const char *const bad[] = {
        "",
        "bytes",
        "bytes 0-99",
        "bytes 5-4/10",
        "bytes 0-9/9",
        "bytes -9/10",
        "bytes 0-/10",
        "items 0-1/2",
        "bytes */10",
        "bytes 0-1/2x",
        "bytes 0-1/-2",
        "bytes 0 - 1/2",
        "bytes 0-99999999999999999999/*",
        "bytes 0-1/99999999999999999999999",
    };
    uint64_t from, to;
    int64_t total;

    (void)state;
    assert_true(head_content_range("bytes 4-9/10", &from, &to, &total));
    assert_int_equal(from, 4);
    assert_int_equal(to, 9);
    assert_int_equal(total, 10);
    assert_true(head_content_range("Bytes  0-0/*", &from, &to, &total));
    assert_int_equal(total, -1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (head_content_range(bad[i], &from, &to, &total))
            fail_msg("taken: %s", bad[i]);
}

static void only_strong_tags_are_kept(void **state)
{
    char out[HEAD_TAG_MAX], lengthy[HEAD_TAG_MAX + 10];

    (void)state;
    assert_true(head_etag("\"6b02-8c\"", out));
    assert_string_equal(out, "\"6b02-8c\"");
    assert_true(head_etag("\"\"", out));
    assert_false(head_etag("W/\"6b02\"", out));
    assert_string_equal(out, "");
    assert_false(head_etag("\"a\r\nX: y\"", out));
    assert_false(head_etag("\"a\"b\"", out));
    assert_false(head_etag("\"", out));
    assert_false(head_etag("pl ain", out));
    assert_false(head_etag("", out));
    assert_false(head_etag("W/6b02", out));
    assert_true(head_etag("6b02-8C", out)); /* Swift's are bare */
    assert_string_equal(out, "\"6b02-8C\"");
    memset(lengthy, 'x', sizeof(lengthy));
    lengthy[HEAD_TAG_MAX - 3] = '\0';
    assert_true(head_etag(lengthy, out));
    assert_int_equal(strlen(out), HEAD_TAG_MAX - 1);
    lengthy[HEAD_TAG_MAX - 3] = 'x';
    lengthy[HEAD_TAG_MAX - 2] = '\0';
    assert_false(head_etag(lengthy, out));
    assert_string_equal(out, "");
    assert_true(head_no_ranges("none"));
    assert_false(head_no_ranges("bytes"));
    assert_false(head_no_ranges(NULL));
    memset(lengthy, 'x', sizeof(lengthy));
    lengthy[0] = lengthy[sizeof(lengthy) - 2] = '"';
    lengthy[sizeof(lengthy) - 1] = '\0';
    assert_false(head_etag(lengthy, out));
    assert_true(head_date("Sun, 22 Nov 2026 01:30:10 GMT", out));
    assert_false(head_date("yesterday", out));
}

static void pages_are_told_from_slugs(void **state)
{
    (void)state;
    assert_true(head_is_page("text/html", "x", 1));
    assert_true(head_is_page("text/html; charset=utf-8", "<p>", 3));
    assert_true(head_is_page("application/gzip", "\r\n <html", 8));
    assert_true(head_is_page(NULL, "<?xml", 5));
    assert_false(head_is_page("text/html", "\x1f\x8b", 2)); /* mislabelled */
    assert_false(head_is_page("text/plain", "BZh9", 4));
    assert_false(head_is_page("text/html", "", 0));
    assert_false(head_is_page(NULL, " \n", 2));
}

static void waits_grow_to_a_limit(void **state)
{
    (void)state;
    for (unsigned try = 1; try < 50; try++)
        for (uint64_t random = 0; random < 100; random++) {
            uint64_t wait = transport_backoff(try, random * 0x0123456789abcdefull);
            uint64_t most = BACKOFF_MAX_MS * USEC_PER_MSEC * 3 / 2;

            assert_true(wait >= BACKOFF_FIRST_MS * USEC_PER_MSEC / 2 && wait <= most);
            if (try == 1)
                assert_true(wait <= BACKOFF_FIRST_MS * USEC_PER_MSEC * 3 / 2);
            if (try > 5)
                assert_true(wait >= BACKOFF_MAX_MS * USEC_PER_MSEC / 2);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_taken_from_the_front),
        cmocka_unit_test(what_is_given_back_joins),
        cmocka_unit_test(no_byte_is_lost),
        cmocka_unit_test(parts_have_a_fitting_length),
        cmocka_unit_test(connections_grow_while_that_helps),
        cmocka_unit_test(a_far_store_gets_more_connections_at_once),
        cmocka_unit_test(a_far_store_is_asked_for_shorter_parts),
        cmocka_unit_test(a_connection_in_slow_start_is_not_called_slow),
        cmocka_unit_test(what_is_left_is_foreseen),
        cmocka_unit_test(content_ranges_are_read_strictly),
        cmocka_unit_test(only_strong_tags_are_kept),
        cmocka_unit_test(pages_are_told_from_slugs),
        cmocka_unit_test(waits_grow_to_a_limit),
    };

    return cmocka_run_group_tests_name("parts", tests, NULL, NULL);
}
