/* For which slugs spares are dressed. */
#include "core/run/dress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct dress_key key(char name)
{
    struct dress_key k = {.limits = {.pids = 100}};

    memset(k.digest.hex, name, sizeof(k.digest.hex) - 1);
    return k;
}

/* One start for each letter, the last of TEXT last. */
static struct dress started(const char *text)
{
    struct dress d = {0};

    for (; *text; text++) {
        struct dress_key k = key(*text);

        dress_note(&d, &k);
    }
    return d;
}

/* "abb-" for those that stay ('-': dropped), ">x" for the next that is made. */
static const char *chosen(const struct dress *d, unsigned seats, const char *have)
{
    static char out[80];
    struct dress_key keys[32];
    const struct dress_key *pointers[32] = {NULL};
    bool drop[32];
    size_t n = strlen(have);

    for (size_t i = 0; i < n; i++) {
        keys[i] = key(have[i]);
        pointers[i] = &keys[i];
    }
    const struct dress_key *next = dress_choose(d, seats, pointers, n, drop);
    for (size_t i = 0; i < n; i++)
        out[i] = drop[i] ? '-' : have[i];
    snprintf(out + n, sizeof(out) - n, ">%.1s", next ? next->digest.hex : "");
    return out;
}

static void nothing_started_nothing_dressed(void **state)
{
    struct dress d = {0};

    (void)state;
    assert_string_equal(chosen(&d, 4, ""), ">");
    assert_string_equal(chosen(&d, 4, "a"), "->");
    d = started("a");
    assert_string_equal(chosen(&d, 0, "a"), "->");
}

static void seats_go_by_share(void **state)
{
    struct dress d = started("a");

    (void)state;
    assert_string_equal(chosen(&d, 1, ""), ">a");
    assert_string_equal(chosen(&d, 1, "a"), "a>");
    assert_string_equal(chosen(&d, 2, "a"), "a>a");
    d = started("ab");
    assert_string_equal(chosen(&d, 2, ""), ">b");
    assert_string_equal(chosen(&d, 2, "b"), "b>a");
    assert_string_equal(chosen(&d, 2, "ba"), "ba>");
    /* 9, 4 and 3 starts, 8 seats: 5, 2 and 1. */
    d = started("aaaaaaaaabbbbccc");
    assert_string_equal(chosen(&d, 8, "aaaaabbc"), "aaaaabbc>");
    assert_string_equal(chosen(&d, 8, "aaaaaabbcc"), "-aaaaabb-c>");
}

static void the_last_started_is_first(void **state)
{
    struct dress d = started("ab");

    (void)state;
    assert_string_equal(chosen(&d, 1, ""), ">b");
}

static void those_in_turns_leave_each_other_alone(void **state)
{
    struct dress d = started("");

    (void)state;
    for (int i = 0; i < 100; i++) {
        struct dress_key k = key(i % 2 ? 'b' : 'a');

        dress_note(&d, &k);
        assert_string_equal(chosen(&d, 1, "a"), "a>");
    }
    /* Until one of them is asked for more. */
    struct dress_key k = key('b');
    dress_note(&d, &k);
    assert_string_equal(chosen(&d, 1, "a"), "->b");
}

static void only_the_last_starts_count(void **state)
{
    struct dress d = started("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");

    (void)state;
    assert_int_equal(d.n, DRESS_STARTS);
    for (int i = 0; i < DRESS_STARTS; i++) {
        struct dress_key k = key('b');

        dress_note(&d, &k);
    }
    assert_string_equal(chosen(&d, 2, "a"), "->b");
}

static void what_is_forgotten_goes(void **state)
{
    struct dress d = started("abab");
    struct dress_key a = key('a');

    (void)state;
    dress_forget(&d, &a.digest);
    assert_int_equal(d.n, 2);
    assert_string_equal(chosen(&d, 2, "ab"), "-b>b");
}

static void other_limits_are_another_share(void **state)
{
    struct dress d = started("aa");
    struct dress_key big = key('a');
    const struct dress_key *have[] = {&big};
    bool drop[1];

    (void)state;
    big.limits.pids = 200;
    assert_false(dress_key_equal(&d.starts[0], &big));
    assert_ptr_equal(dress_choose(&d, 1, have, 1, drop), &d.starts[0]);
    assert_true(drop[0]);
    dress_note(&d, &big);
    dress_note(&d, &big);
    assert_null(dress_choose(&d, 1, have, 1, drop));
    assert_false(drop[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_started_nothing_dressed),
        cmocka_unit_test(seats_go_by_share),
        cmocka_unit_test(the_last_started_is_first),
        cmocka_unit_test(those_in_turns_leave_each_other_alone),
        cmocka_unit_test(only_the_last_starts_count),
        cmocka_unit_test(what_is_forgotten_goes),
        cmocka_unit_test(other_limits_are_another_share),
    };

    return cmocka_run_group_tests_name("dress", tests, NULL, NULL);
}
