/* Which slugs leave the cache: by use, by size, by free space; never what is in use. */
#include "slug/evict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define G (UINT64_C(1) << 30)

/* Sizes of 1 to 4 G, used in the order 2, 0, 3, 1. */
static const struct evict_entry four[] = {
    {1 * G, 200, false}, {2 * G, 400, false}, {3 * G, 100, false}, {4 * G, 300, false}};

static void nothing_goes_without_need(void **state)
{
    const struct evict_limits none = {0, 0}, fits = {10 * G, 5 * G};
    const struct evict_state s = {.free = 5 * G}, full = {0};
    size_t out[4];
    uint64_t missing = 7;

    (void)state;
    assert_int_equal(evict_choose(four, 4, &none, &full, out, &missing), 0);
    assert_int_equal(missing, 0);
    assert_int_equal(evict_choose(four, 4, &fits, &s, out, &missing), 0);
    assert_int_equal(missing, 0);
    assert_int_equal(evict_choose(NULL, 0, &fits, &s, out, NULL), 0);
}

static void the_least_recently_used_go_first(void **state)
{
    const struct evict_limits l = {5 * G, 0};
    const struct evict_state s = {0};
    size_t out[4];
    uint64_t missing;

    (void)state;
    /* 10 G in all: 3 and 1 go, that is not enough, then 4. */
    assert_int_equal(evict_choose(four, 4, &l, &s, out, &missing), 3);
    assert_int_equal(out[0], 2);
    assert_int_equal(out[1], 0);
    assert_int_equal(out[2], 3);
    assert_int_equal(missing, 0);
}

static void one_byte_over_is_over(void **state)
{
    const struct evict_limits l = {10 * G, 0};
    struct evict_state s = {.want = 1};
    size_t out[4];

    (void)state;
    assert_int_equal(evict_choose(four, 4, &l, &s, out, NULL), 1);
    assert_int_equal(out[0], 2);
    s.want = 0;
    assert_int_equal(evict_choose(four, 4, &l, &s, out, NULL), 0);
}

static void free_space_is_kept(void **state)
{
    const struct evict_limits l = {0, 5 * G};
    struct evict_state s = {.free = 3 * G};
    size_t out[4];

    (void)state;
    assert_int_equal(evict_choose(four, 4, &l, &s, out, NULL), 1); /* 2 G are missing */
    assert_int_equal(out[0], 2);
    s.going = 2 * G; /* on its way out already: nobody else has to go */
    assert_int_equal(evict_choose(four, 4, &l, &s, out, NULL), 0);
    s.want = 4 * G;
    assert_int_equal(evict_choose(four, 4, &l, &s, out, NULL), 2);
}

static void what_is_in_use_stays(void **state)
{
    struct evict_entry all[4];
    const struct evict_limits l = {1, 0};
    const struct evict_state s = {0};
    size_t out[4];
    uint64_t missing;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        all[i] = four[i];
    all[2].pinned = true;
    all[1].bytes = 0; /* gives nothing back */
    assert_int_equal(evict_choose(all, 4, &l, &s, out, &missing), 2);
    assert_int_equal(out[0], 0);
    assert_int_equal(out[1], 3);
    assert_int_equal(missing, 3 * G - 1); /* the pinned one's */
    for (size_t i = 0; i < 4; i++)
        all[i].pinned = true;
    assert_int_equal(evict_choose(all, 4, &l, &s, out, NULL), 0);
}

static void of_equals_the_larger_goes(void **state)
{
    const struct evict_entry all[] = {{1, 5, false}, {9, 5, false}, {3, 5, false}};
    const struct evict_limits l = {12, 0};
    const struct evict_state s = {0};
    size_t out[3];

    (void)state;
    assert_int_equal(evict_choose(all, 3, &l, &s, out, NULL), 1);
    assert_int_equal(out[0], 1);
}

static void sums_do_not_wrap(void **state)
{
    const struct evict_entry all[] = {{UINT64_MAX, 1, false}, {UINT64_MAX - 5, 2, true}};
    const struct evict_limits l = {UINT64_MAX - 1, UINT64_MAX};
    const struct evict_state s = {.free = UINT64_MAX, .going = UINT64_MAX, .want = UINT64_MAX};
    size_t out[2];

    (void)state;
    assert_int_equal(evict_choose(all, 2, &l, &s, out, NULL), 1);
    assert_int_equal(out[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_goes_without_need),
        cmocka_unit_test(the_least_recently_used_go_first),
        cmocka_unit_test(one_byte_over_is_over),
        cmocka_unit_test(free_space_is_kept),
        cmocka_unit_test(what_is_in_use_stays),
        cmocka_unit_test(of_equals_the_larger_goes),
        cmocka_unit_test(sums_do_not_wrap),
    };

    return cmocka_run_group_tests_name("evict", tests, NULL, NULL);
}
