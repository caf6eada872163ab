#include "core/policy/restart.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SEC UINT64_C(1000000)

static const struct restart_policy policy = {
    .delay = 1 * SEC,
    .delay_max = 300 * SEC,
    .reset = 600 * SEC,
};

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void the_first_restart_is_immediate(void **state)
{
    uint64_t x = 88172645463325252u;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct restart_state s = {0};

        assert_int_equal(restart_delay(&policy, &s, 0, next_random(&x)), 0);
        assert_int_equal(s.crashes, 1);
    }
}

/* Without jitter (random 0) the delays double up to the cap and stay there. */
static void delays_double_to_the_cap(void **state)
{
    static const uint64_t want[] = {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300};
    struct restart_state s = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        assert_int_equal(restart_delay(&policy, &s, 5 * SEC, 0), want[i] * SEC);
    assert_int_equal(s.crashes, sizeof(want) / sizeof(want[0]));
}

static void jitter_stays_in_the_upper_half(void **state)
{
    uint64_t x = 4101842887655102017u;
    uint64_t low = UINT64_MAX, high = 0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct restart_state s = {.crashes = 1 + (unsigned)(i % 12)};
        unsigned n = s.crashes - 1; /* doublings */
        uint64_t full = (n < 9 ? UINT64_C(1) << n : 300) * SEC;
        uint64_t delay = restart_delay(&policy, &s, 0, next_random(&x));

        assert_in_range(delay, full / 2, full);
        if (full == 300 * SEC) {
            low = delay < low ? delay : low;
            high = delay > high ? delay : high;
        }
    }
    /* It really spreads: over the most of the half. */
    assert_true(low < 155 * SEC);
    assert_true(high > 295 * SEC);
}

static void a_long_run_clears_the_count(void **state)
{
    struct restart_state s = {.crashes = 7};

    (void)state;
    assert_int_equal(restart_delay(&policy, &s, policy.reset - 1, 0), 64 * SEC);
    assert_int_equal(s.crashes, 8);
    assert_int_equal(restart_delay(&policy, &s, policy.reset, 0), 0);
    assert_int_equal(s.crashes, 1);
    assert_int_equal(restart_delay(&policy, &s, 0, 0), 1 * SEC);

    /* reset 0: nothing clears it, and a crash loop cannot become a busy loop. */
    struct restart_policy never = policy;
    never.reset = 0;
    s.crashes = 20;
    assert_int_equal(restart_delay(&never, &s, UINT64_MAX, 0), 300 * SEC);
}

static void nothing_overflows(void **state)
{
    static const uint64_t randoms[] = {0, 1, UINT64_MAX, UINT64_MAX / 2};
    struct restart_policy huge = {UINT64_MAX - 1, UINT64_MAX, 1};
    struct restart_policy none = {0, 300 * SEC, 0};
    struct restart_policy capped = {10 * SEC, 3 * SEC, 0};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct restart_state s = {.crashes = UINT_MAX};

        assert_in_range(restart_delay(&policy, &s, 0, randoms[i]), 150 * SEC, 300 * SEC);
        assert_int_equal(s.crashes, UINT_MAX);
        s.crashes = UINT_MAX - 1;
        assert_in_range(restart_delay(&policy, &s, 0, randoms[i]), 150 * SEC, 300 * SEC);
        assert_int_equal(s.crashes, UINT_MAX);
        assert_true(restart_delay(&huge, &s, 0, randoms[i]) >= UINT64_MAX / 2);
        assert_int_equal(restart_delay(&none, &s, 0, randoms[i]), 0);
        assert_in_range(restart_delay(&capped, &s, 0, randoms[i]), 15 * SEC / 10, 3 * SEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_restart_is_immediate),
        cmocka_unit_test(delays_double_to_the_cap),
        cmocka_unit_test(jitter_stays_in_the_upper_half),
        cmocka_unit_test(a_long_run_clears_the_count),
        cmocka_unit_test(nothing_overflows),
    };

    return cmocka_run_group_tests_name("restart", tests, NULL, NULL);
}
