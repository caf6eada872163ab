/* test_cli_slug.c - dyno slug ls, fetch, rm, verify, against an agent that answers what the test
 * wrote down; the bar and the numbers beside it. */
#include "fake_agent.h"

#include "base/clock.h"
#include "cli/progress.h"
#include "cli/slugcache.h"
#include "cli/text.h"

#include <errno.h>
#include <pty.h>

#define HEX_A "aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000"
#define HEX_B "aaaa1111aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000"
#define ONE(hex, kind, more)                                                                       \
    "{\"digest\":\"sha256:" hex "\",\"kind\":\"" kind "\",\"bytes\":1048576,"                      \
    "\"used\":\"2026-11-21T20:00:00.000000+00:00\"," more "}"
#define FREE "\"synced\":true,\"in_use\":false,\"used_by\":[]"
#define SLUGS                                                                                          \
    "{\"slugs\":[" ONE(                                                                                \
        HEX_A, "image",                                                                                \
        "\"synced\":false,\"in_use\":true,\"used_by\":[\"shop\",\"shop/web.1\"]") "," ONE(HEX_B,       \
                                                                                          "directory", \
                                                                                          FREE) "],\"fetches\":[],\"bytes\":2097152}"
#define EVENTS "GET /v1/events?follow=1&n=0"

/* --- Pure --- */

static void expect_line(const struct progress *p, unsigned width, const char *want)
{
    struct str out = {0};

    progress_line(p, width, &out);
    assert_string_equal(str_text(&out), want);
    if (width)
        assert_true(out.len <= width);
    str_done(&out);
}

static void the_bar(void **state)
{
    struct progress p = {0};
    uint64_t t = 1000 * USEC_PER_SEC;

    (void)state;
    progress_update(&p, t, 0, 200000000);
    expect_line(&p, 0, "  0%  0.0 of 200 MB");
    expect_line(&p, 40, "[-----------------]    0%  0.0 of 200 MB");
    progress_update(&p, t + USEC_PER_SEC, 50000000, 200000000);
    assert_int_equal(progress_percent(&p), 25);
    expect_line(&p, 0, " 25%  50.0 of 200 MB  50.0 MB/s  0:03 left");
    expect_line(&p, 80,
                "[########--------------------------]   25%  50.0 of 200 MB  50.0 MB/s  0:03 left");
    /* No room for a bar: the words, cut where the terminal ends. */
    expect_line(&p, 45, " 25%  50.0 of 200 MB  50.0 MB/s  0:03 left");
    expect_line(&p, 8, " 25%  50");
    /* The last seconds count for more than those before. */
    progress_update(&p, t + 9 * USEC_PER_SEC, 130000000, 200000000);
    assert_true(p.rate > 10e6 && p.rate < 25e6);
    /* Whole: nothing is left. */
    progress_update(&p, t + 10 * USEC_PER_SEC, 200000000, 200000000);
    assert_int_equal(progress_percent(&p), 100);
    struct str out = {0};
    progress_line(&p, 0, &out);
    assert_null(strstr(str_text(&out), "left"));
    str_done(&out);
}

static void odd_totals(void **state)
{
    struct progress p = {0};

    (void)state;
    progress_update(&p, 5, 3000000, -1);
    assert_int_equal(progress_percent(&p), -1);
    expect_line(&p, 60, "3.0 MB");
    /* A total that is passed is none; an empty one is there. */
    progress_update(&p, 6, 3000000, 2000000);
    assert_int_equal(progress_percent(&p), -1);
    p = (struct progress){0};
    progress_update(&p, 5, 0, 0);
    assert_int_equal(progress_percent(&p), 100);
    /* The next mirror begins anew, and a clock may stand still. */
    p = (struct progress){0};
    progress_update(&p, 1, 0, 100);
    progress_update(&p, 1 + USEC_PER_SEC, 90, 100);
    progress_update(&p, 1 + 2 * USEC_PER_SEC, 10, 100);
    progress_update(&p, 1 + 2 * USEC_PER_SEC, 10, 100);
    assert_true(p.rate >= 0);
    /* Hours. */
    p = (struct progress){.begun = 1, .at = 1, .rate = 1e6, .has_total = true, .total = 7384000000};
    expect_line(&p, 0, "  0%  0.0 of 7384 MB  1.0 MB/s  2:03:04 left");
}

static void names_of_slugs(void **state)
{
    static const struct {
        const char *text;
        int r;
        const char *says;
    } cases[] = {
        {"sha256:" HEX_A, 0, HEX_A},
        {HEX_B, 0, HEX_B},
        {"AAAA1", 0, HEX_B},
        {"sha256:aaaa0", 0, HEX_A},
        {"aaaa", -EINVAL, "several"},
        {"bbbb", -ENOENT, "not cached"},
        {"aaa", -EINVAL, "no digest"},
        {"", -EINVAL, "no digest"},
        {"aaaa0x", -EINVAL, "no digest"},
        {HEX_A "0", -EINVAL, "no digest"},
    };
    json_t *slugs = json_loads(SLUGS, 0, NULL);

    (void)state;
    assert_non_null(slugs);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct digest digest = {0};
        struct err e = ERR_INIT;

        assert_int_equal(slugs_find(slugs, cases[i].text, &digest, &e), cases[i].r);
        if (cases[i].r == 0)
            assert_string_equal(digest.hex, cases[i].says);
        else if (!strstr(e.text, cases[i].says) || e.fault != FAULT_OPERATOR)
            fail_msg("%s: \"%s\"", cases[i].text, e.text);
    }
    json_decref(slugs);
}

static void the_table(void **state)
{
    json_t *slugs =
        json_loads("{\"slugs\":[" ONE(HEX_A, "image", FREE) "," ONE(
                       HEX_B, "directory",
                       "\"synced\":false,\"in_use\":true,\"used_by\":[\"shop\","
                       "\"shop/web.1\"]") "],\"fetches\":[{\"digest\":null,\"state\":"
                                          "\"fetching\",\"bytes\":1024,\"total\":2048}]}",
                   0, NULL);
    struct str out = {0};
    uint64_t used;

    (void)state;
    assert_non_null(slugs);
    assert_true(text_time("2026-11-21T20:00:00.000000+00:00", &used));
    slugs_table(slugs, used + 90 * USEC_PER_SEC, false, &out);
    assert_string_equal(str_text(&out),
                        "SLUG          KIND       SIZE          USED   SYNCED   BY\n"
                        "aaaa0000aaaa  image      1.0M          1m30s  yes\n"
                        "aaaa1111aaaa  directory  1.0M          1m30s  not yet  shop shop/web.1\n"
                        "(not known)   fetching   1.0K of 2.0K  -      -\n");
    str_done(&out);
    json_decref(slugs);
}

/* --- Commands --- */

static void usage(void **state)
{
    static const char *const wrong[] = {"slug",
                                        "slug sweep",
                                        "slug ls x",
                                        "slug rm",
                                        "slug fetch",
                                        "slug fetch --digest",
                                        "slug fetch a b c d e f g h i"};
    struct fake *f = *state;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct ran ran = run(f, wrong[i]);

        if (ran.status != EXIT_USAGE)
            fail_msg("%s: %d, %s", wrong[i], ran.status, ran.err);
    }
    struct ran ran = run(f, "slug fetch --digest sha256:12 https://s/x");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_non_null(strstr(ran.err, "'sha256:12' is not sha256:"));
}

static void what_is_listed(void **state)
{
    static const struct step some[] = {{"GET /v1/slugs", 200, SLUGS, 0}};
    static const struct step none[] = {{"GET /v1/slugs", 200, "{\"slugs\":[],\"fetches\":[]}", 0}};
    struct fake *f = *state;

    START(f, some);
    struct ran ran = run(f, "slug ls");
    assert_int_equal(ran.status, EXIT_OK);
    assert_non_null(strstr(ran.out, "shop shop/web.1"));
    ran = run(f, "slug ls --json");
    json_t *json = json_loads(ran.out, 0, NULL);
    assert_int_equal(json_int(json, "bytes", 0), 2097152);
    json_decref(json);
    START(f, none);
    ran = run(f, "slug ls");
    assert_string_equal(ran.out, "No slugs. Fetch one: dyno slug fetch URL\n");
}

static void removal(void **state)
{
    static const struct step steps[] = {
        {"GET /v1/slugs", 200, SLUGS, 0},
        {"DELETE /v1/slugs/sha256:" HEX_A, 409, "{\"error\":{\"message\":\"it is in use\"}}", 0},
        {"DELETE /v1/slugs/sha256:" HEX_B, 200, "{\"removed\":\"sha256:" HEX_B "\"}", 0},
    };
    struct fake *f = *state;

    START(f, steps);
    /* The first cannot go: the second does. */
    struct ran ran = run(f, "slug rm aaaa0 aaaa1");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_string_equal(ran.err, "dyno: it is in use\n");
    assert_string_equal(ran.out, "removed sha256:" HEX_B "\n");
    ran = run(f, "slug rm aaaa1");
    assert_int_equal(ran.status, EXIT_OK);
}

#define DONE                                                                                       \
    "{\"kind\":\"fetch\",\"fetch\":7,\"state\":\"done\",\"digest\":\"sha256:" HEX_A                \
    "\",\"bytes\":2000000,\"unpacked\":5000000,\"entries\":12,\"ms\":{\"download\":1500}}\n"
#define PROGRESS(n)                                                                                \
    "{\"kind\":\"fetch\",\"fetch\":7,\"state\":\"progress\",\"bytes\":" #n                         \
    "00000,\"total\":2000000}\n"

static const struct step fetched[] = {
    {EVENTS, 200,
     "{\"kind\":\"state\",\"fetch\":7}\n{\"kind\":\"fetch\",\"fetch\":6,\"state\":\"failed\"}\n"
     "{\"kind\":\"fetch\",\"fetch\":7,\"state\":\"started\"}\n" PROGRESS(1) PROGRESS(2) PROGRESS(11)
         DONE,
     0},
    {"POST /v1/slugs", 202, "{\"fetch\":7,\"cached\":false}", 0},
};

static void a_fetch_in_lines(void **state)
{
    struct fake *f = *state;

    START(f, fetched);
    struct ran ran = run(f, "slug fetch --digest " HEX_A " s3://b/k https://m/k");
    assert_int_equal(ran.status, EXIT_OK);
    /* Ten per cent apart. */
    assert_true(str_starts(ran.err, " 10%  0.2 of 2.0 MB"));
    assert_non_null(strstr(ran.err, "\n 55%  1.1 of 2.0 MB"));
    assert_null(strstr(ran.err, "  5%"));
    assert_null(strchr(ran.err, '\r'));
    assert_true(
        str_starts(ran.out, "sha256:" HEX_A "  1.9 MB, unpacked 4.8 MB in 12 entries, in "));
    assert_non_null(strstr(ran.out, "\ndownload 1.50 s\n"));
    assert_non_null(strstr(f->asked, "POST /v1/slugs {\"slug\":[\"s3://b/k\",\"https://m/k\"],"
                                     "\"digest\":\"sha256:" HEX_A "\"}\n"));
    START(f, fetched);
    ran = run(f, "slug fetch --json https://m/k");
    assert_string_equal(ran.err, "");
    json_t *json = json_loads(ran.out, 0, NULL);
    assert_string_equal(json_str(json, "state", ""), "done");
    json_decref(json);
    assert_non_null(strstr(f->asked, "POST /v1/slugs {\"slug\":\"https://m/k\"}\n"));
}

/* On a terminal of 60 columns. */
static void a_fetch_with_a_bar(void **state)
{
    char *argv[] = {(char[]){"slug"}, (char[]){"fetch"}, (char[]){"https://m/k"}, NULL};
    struct winsize size = {.ws_row = 10, .ws_col = 60};
    struct fake *f = *state;
    char seen[8192] = "";
    int master, slave;
    size_t len = 0;
    ssize_t n;

    START(f, fetched);
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
    scoped_fd out = file_in(f->dir, "out");
    f->err_fd = slave;
    assert_int_equal(run_in_child(f, out, argv), EXIT_OK);
    f->err_fd = 0;
    close(slave);
    while (len < sizeof(seen) - 1 && (n = read(master, seen + len, sizeof(seen) - 1 - len)) > 0)
        len += (size_t)n;
    close(master);
    assert_true(str_starts(seen, "\r\x1b[K[#"));
    assert_non_null(strstr(seen, " 55%  1.1 of 2.0 MB"));
    assert_string_equal(seen + strlen(seen) - 4, "\r\x1b[K"); /* nothing is left of it */
}

static void fetches_that_fail(void **state)
{
    static const struct step refused[] = {
        {EVENTS, 200, "", 0},
        {"POST /v1/slugs", 400, "{\"error\":{\"message\":\"no such scheme\"}}", 0},
    };
    static const struct step failed[] = {
        {EVENTS, 200,
         "{\"kind\":\"fetch\",\"fetch\":7,\"state\":\"failed\",\"text\":\"HTTP status 403\","
         "\"fault\":\"operator\"}\n",
         0},
        {"POST /v1/slugs", 202, "{\"fetch\":7,\"cached\":false}", 0},
    };
    static const struct step gone[] = {
        {EVENTS, 200, PROGRESS(1), 0},
        {"POST /v1/slugs", 202, "{\"fetch\":7,\"cached\":false}", 0},
    };
    struct fake *f = *state;

    START(f, refused);
    struct ran ran = run(f, "slug fetch x://y");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_string_equal(ran.err, "dyno: no such scheme\n");
    START(f, failed);
    ran = run(f, "slug fetch https://s");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_string_equal(ran.err, "dyno: HTTP status 403 (operator's fault)\n");
    START(f, failed);
    ran = run(f, "slug fetch --json https://s");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_non_null(strstr(ran.out, "HTTP status 403"));
    START(f, gone);
    ran = run(f, "slug fetch https://s");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_non_null(strstr(ran.err, "the agent went away"));
}

static void no_wait(void **state)
{
    static const struct step steps[] = {
        {"POST /v1/slugs", 202, "{\"fetch\":7,\"cached\":false}", 0},
        {"POST /v1/slugs", 202, "{\"fetch\":8,\"cached\":true}", 0},
    };
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "slug fetch --no-wait https://s");
    assert_string_equal(ran.out, "the agent fetches it: see `dyno slug ls`\n");
    ran = run(f, "slug fetch --no-wait https://s");
    assert_string_equal(ran.out, "cached already\n");
    assert_null(strstr(f->asked, "events"));
}

#define OUTCOME(hex, outcome)                                                                      \
    "{\"kind\":\"slug\",\"digest\":\"sha256:" hex "\",\"outcome\":\"" outcome                      \
    "\",\"text\":\"it has changed\"}\n"

static void verification(void **state)
{
    static const struct step good[] = {
        {EVENTS, 200, OUTCOME(HEX_B, "unverified") OUTCOME(HEX_A, "verified"), 0},
        {"GET /v1/slugs", 200, SLUGS, 0},
        {"POST /v1/slugs/sha256:" HEX_A "/verify", 503, "{\"error\":{\"message\":\"busy\"}}", 0},
        {"POST /v1/slugs/sha256:" HEX_A "/verify", 202, "{}", 0},
    };
    static const struct step bad[] = {
        {EVENTS, 200, OUTCOME(HEX_A, "corrupt") OUTCOME(HEX_A, "unverified"), 0},
        {"GET /v1/slugs", 200, SLUGS, 0},
        {"POST /v1/slugs/sha256:" HEX_A "/verify", 202, "{}", 0},
    };
    static const struct step unable[] = {
        {EVENTS, 200, "", 0},
        {"GET /v1/slugs", 200, SLUGS, 0},
        {"POST /v1/slugs/sha256:" HEX_B "/verify", 501,
         "{\"error\":{\"message\":\"it is a directory\"}}", 0},
    };
    struct fake *f = *state;

    /* Without a name: the images, and a moment's patience. */
    START(f, good);
    struct ran ran = run(f, "slug verify");
    assert_string_equal(ran.err, "");
    assert_string_equal(ran.out, "sha256:" HEX_A " is as it was published\n");
    assert_int_equal(ran.status, EXIT_OK);
    assert_null(strstr(f->asked, HEX_B));
    START(f, bad);
    ran = run(f, "slug verify aaaa0");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_string_equal(ran.err, "dyno: sha256:" HEX_A ": it has changed\n");
    START(f, unable);
    ran = run(f, "slug verify aaaa1");
    assert_int_equal(ran.status, EXIT_FAIL);
    assert_string_equal(ran.err, "dyno: it is a directory\n");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bar),
        cmocka_unit_test(odd_totals),
        cmocka_unit_test(names_of_slugs),
        cmocka_unit_test(the_table),
        TEST(usage),
        TEST(what_is_listed),
        TEST(removal),
        TEST(a_fetch_in_lines),
        TEST(a_fetch_with_a_bar),
        TEST(fetches_that_fail),
        TEST(no_wait),
        TEST(verification),
    };

    return cmocka_run_group_tests_name("cli slug", tests, NULL, NULL);
}
