#include "core/usage.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S USEC_PER_SEC

static void is_percent(const struct cpu_meter *m, uint64_t cpu, uint64_t from, uint64_t now,
                       double want)
{
    assert_float_equal(cpu_meter_percent(m, cpu, from, now), want, 0.001);
}

static void cpu_since_the_last_mark(void **state)
{
    struct cpu_meter m = {0};

    (void)state;
    /* Nothing was marked: since its start; and not even that is known. */
    is_percent(&m, 5 * S, 100 * S, 110 * S, 50);
    is_percent(&m, 5 * S, 0, 110 * S, 0);
    cpu_meter_mark(&m, 5 * S, 110 * S);
    /* Too young to tell anything: the one before, or the start. */
    is_percent(&m, 5 * S + S / 2, 100 * S, 110 * S + S / 2, 100.0 * 5.5 / 10.5);
    is_percent(&m, 7 * S, 100 * S, 112 * S, 100);
    /* Two cores. */
    is_percent(&m, 9 * S, 100 * S, 112 * S, 200);
    cpu_meter_mark(&m, 9 * S, 112 * S);
    is_percent(&m, 9 * S, 100 * S, 112 * S + 1, 100.0 * 4 * S / (2 * S + 1));
    is_percent(&m, 9 * S, 100 * S, 122 * S, 0);
}

static void a_counter_that_makes_no_sense_is_nothing(void **state)
{
    struct cpu_meter m = {0};

    (void)state;
    cpu_meter_mark(&m, 9 * S, 10 * S);
    is_percent(&m, 8 * S, 1 * S, 20 * S, 0);   /* it ran backwards: another run's */
    is_percent(&m, 9 * S, 1 * S, 10 * S, 100); /* the mark is of now: since the start */
    is_percent(&(struct cpu_meter){0}, 9 * S, 20 * S, 20 * S, 0); /* no time has passed */
    is_percent(&(struct cpu_meter){0}, 9 * S, 21 * S, 20 * S, 0);
}

static void what_fits(void **state)
{
    (void)state;
    assert_true(usage_fits(0, 1));
    assert_true(usage_fits(100, 100));
    assert_false(usage_fits(101, 100));
    assert_true(usage_fits(UINT64_MAX, 0)); /* no limit */
    assert_false(usage_fits(UINT64_MAX, UINT64_MAX - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_since_the_last_mark),
        cmocka_unit_test(a_counter_that_makes_no_sense_is_nothing),
        cmocka_unit_test(what_fits),
    };

    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
