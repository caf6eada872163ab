#include "core/policy/slots.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void each_number_once(void **state)
{
    struct slots s;
    struct err e = ERR_INIT;
    bool seen[130] = {false};
    uint32_t n;

    (void)state;
    assert_int_equal(slots_init(&s, 1000, 1129, &e), 0);
    assert_int_equal(slots_taken(&s), 0);
    assert_true(slots_take(&s, 1064));
    assert_false(slots_take(&s, 1064));
    assert_false(slots_take(&s, 999));
    assert_false(slots_take(&s, 1130));
    for (int i = 0; i < 129; i++) {
        assert_int_equal(slots_get(&s, &n), 0);
        assert_in_range(n, 1000, 1129);
        assert_int_not_equal(n, 1064);
        assert_false(seen[n - 1000]);
        seen[n - 1000] = true;
    }
    assert_int_equal(slots_get(&s, &n), -ENOSPC);
    assert_int_equal(slots_taken(&s), 130);
    slots_put(&s, 5);
    slots_put(&s, 1001);
    slots_put(&s, 1001);
    assert_int_equal(slots_taken(&s), 129);
    assert_int_equal(slots_get(&s, &n), 0);
    assert_int_equal(n, 1001);
    slots_done(&s);
    assert_int_equal(slots_taken(&s), 0);
}

static void what_was_given_back_rests(void **state)
{
    struct slots s;
    struct err e = ERR_INIT;
    uint32_t first, second;

    (void)state;
    assert_int_equal(slots_init(&s, 10, 12, &e), 0);
    assert_int_equal(slots_get(&s, &first), 0);
    slots_put(&s, first);
    assert_int_equal(slots_get(&s, &second), 0);
    assert_int_not_equal(first, second);
    slots_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_number_once),
        cmocka_unit_test(what_was_given_back_rests),
    };

    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
