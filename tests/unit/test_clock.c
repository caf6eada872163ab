#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void text_is_rfc3339(void **state)
{
    static const struct {
        uint64_t usec;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000+00:00"},
        {1, "1970-01-01T00:00:00.000001+00:00"},
        {951827696999999, "2000-02-29T12:34:56.999999+00:00"},
        {2147483648000000, "2038-01-19T03:14:08.000000+00:00"},
        {253402300799999999, "9999-12-31T23:59:59.999999+00:00"},
    };
    char out[CLOCK_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_ptr_equal(clock_text(cases[i].usec, out), out);
        assert_string_equal(out, cases[i].text);
    }
    /* Nonsense is not right, but ends within the buffer. */
    assert_in_range(strlen(clock_text(UINT64_MAX, out)), 20, CLOCK_TEXT_MAX - 1);
}

static void text_does_not_depend_on_the_zone(void **state)
{
    char out[CLOCK_TEXT_MAX];

    (void)state;
    setenv("TZ", "Asia/Kolkata", 1);
    tzset();
    assert_string_equal(clock_text(0, out), "1970-01-01T00:00:00.000000+00:00");
    unsetenv("TZ");
    tzset();
}

static void clocks_go_on(void **state)
{
    uint64_t boot = clock_boot(), real = clock_real();

    (void)state;
    usleep(20000);
    uint64_t passed = clock_boot() - boot;
    assert_in_range(passed, 20000, 60 * USEC_PER_SEC);
    assert_in_range(clock_real(), real, real + 60 * USEC_PER_SEC);
    assert_in_range(real / USEC_PER_SEC, (uint64_t)time(NULL) - 5, (uint64_t)time(NULL) + 5);
}

static void random_numbers_differ(void **state)
{
    uint64_t all = 0, none = UINT64_MAX;

    (void)state;
    for (int i = 0; i < 200; i++) {
        uint64_t x = random_u64();

        all |= x;
        none &= x;
    }
    assert_true(all == UINT64_MAX); /* each bit was 1 once, and 0 once: 2^-193 that it was not */
    assert_true(none == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_rfc3339),
        cmocka_unit_test(text_does_not_depend_on_the_zone),
        cmocka_unit_test(clocks_go_on),
        cmocka_unit_test(random_numbers_differ),
    };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
