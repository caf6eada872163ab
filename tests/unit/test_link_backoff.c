#include "link/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void it_is_between_nothing_and_what_the_round_allows(void **state)
{
    static const struct {
        unsigned round;
        uint64_t top;
    } rows[] = {
        {0, USEC_PER_SEC / 2},   {1, USEC_PER_SEC},       {2, 2 * USEC_PER_SEC},
        {3, 4 * USEC_PER_SEC},   {6, 32 * USEC_PER_SEC},  {7, 60 * USEC_PER_SEC},
        {63, 60 * USEC_PER_SEC}, {64, 60 * USEC_PER_SEC}, {UINT32_MAX, 60 * USEC_PER_SEC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_equal(backoff_usec(rows[i].round, 0), 0);
        assert_int_equal(backoff_usec(rows[i].round, rows[i].top), rows[i].top);
        assert_int_equal(backoff_usec(rows[i].round, rows[i].top + 1), 0);
        assert_true(backoff_usec(rows[i].round, UINT64_MAX) <= rows[i].top);
    }
}

/* Full jitter: a fleet spreads over the whole of it. */
static void all_of_it_is_used(void **state)
{
    unsigned tenths[10] = {0};

    (void)state;
    for (int i = 0; i < 10000; i++)
        tenths[backoff_usec(7, random_u64()) * 10 / (BACKOFF_MAX_USEC + 1)]++;
    for (int i = 0; i < 10; i++)
        assert_in_range(tenths[i], 700, 1300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_between_nothing_and_what_the_round_allows),
        cmocka_unit_test(all_of_it_is_used),
    };

    return cmocka_run_group_tests_name("link_backoff", tests, NULL, NULL);
}
