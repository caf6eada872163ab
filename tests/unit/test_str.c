#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ESC "\033"

/* --- struct str --- */

static void it_grows(void **state)
{
    struct str s = {0};

    (void)state;
    assert_string_equal(str_text(&s), "");
    for (int i = 0; i < 10000; i++)
        str_addf(&s, "%d,", i % 10);
    assert_int_equal(s.len, 20000);
    assert_int_equal(strlen(str_text(&s)), 20000);
    assert_memory_equal(str_text(&s) + 19990, "5,6,7,8,9,", 11);
    str_add_n(&s, "a\0b", 3);
    assert_int_equal(s.len, 20003);
    assert_memory_equal(s.data + 20000, "a\0b", 4); /* with the NUL behind */
    assert_false(s.failed);
    str_done(&s);
    assert_null(s.data);
    assert_int_equal(s.len, 0);
    str_done(&s);
}

static void its_limit_is_a_failure(void **state)
{
    struct str s = {.max = 10};

    (void)state;
    str_add(&s, "0123456789");
    assert_false(s.failed);
    str_add(&s, "");
    assert_false(s.failed);
    str_add(&s, "x");
    assert_true(s.failed);
    assert_string_equal(str_text(&s), "0123456789");
    str_done(&s);
    s = (struct str){.max = 10};
    str_addf(&s, "%s", "0123456789a");
    assert_true(s.failed);
    str_add(&s, "b"); /* later ones do nothing, even when they would fit */
    assert_string_equal(str_text(&s), "");
    str_done(&s);
    /* The default limit, and lengths that would wrap around. */
    s = (struct str){0};
    str_add_n(&s, "x", (64u << 20) + 1);
    assert_true(s.failed);
    s = (struct str){0};
    str_add(&s, "abc");
    str_add_n(&s, "x", SIZE_MAX);
    assert_true(s.failed);
    assert_string_equal(str_text(&s), "abc");
    str_done(&s);
}

/* --- Numbers --- */

static void whole_numbers(void **state)
{
    static const char *const bad[] = {"",    " 1",  "1 ", "+1", "-1",
                                      "0x1", "1.0", "1k", "a",  "\xd9\xa1"};
    uint64_t n = 77;

    (void)state;
    assert_int_equal(parse_u64("0", 0, 10, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(parse_u64("00010", 0, 10, &n), 0);
    assert_int_equal(n, 10);
    assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &n), 0);
    assert_true(n == UINT64_MAX);
    n = 77;
    assert_int_equal(parse_u64("18446744073709551616", 0, UINT64_MAX, &n), -ERANGE);
    assert_int_equal(parse_u64("99999999999999999999999999", 0, UINT64_MAX, &n), -ERANGE);
    assert_int_equal(parse_u64("4", 5, 10, &n), -ERANGE);
    assert_int_equal(parse_u64("11", 5, 10, &n), -ERANGE);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse_u64(bad[i], 0, UINT64_MAX, &n), -EINVAL);
    assert_int_equal(n, 77);
}

struct number {
    const char *text;
    uint64_t value;
};

static void sizes(void **state)
{
    static const struct number good[] = {
        {"0", 0},
        {"1", 1},
        {"1k", 1024},
        {"1K", 1024},
        {"1KB", 1024},
        {"512M", 536870912},
        {"2.5G", 2684354560},
        {".5k", 512},
        {"5.", 5},
        {"1T", 1099511627776},
        {"1TB", 1099511627776},
        {"2251799813685249", 2251799813685249}, /* 2^51 + 1: still exact */
    };
    static const char *const bad[] = {"",  "k",   "1 k",   "1kk", "-1",  "+1",  "1e3", "0x10",
                                      ".", "1,5", "1.2.3", "nan", "inf", "1Mi", " 1",  "1\n"};
    uint64_t n = 77;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(parse_bytes(good[i].text, &n), 0);
        assert_int_equal(n, good[i].value);
    }
    n = 77;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse_bytes(bad[i], &n) != -EINVAL)
            fail_msg("'%s' is taken", bad[i]);
    assert_int_equal(parse_bytes("99999999999G", &n), -ERANGE);
    char *digits = malloc(1001); /* past what a double holds */
    memset(digits, '9', 1000);
    digits[1000] = '\0';
    assert_int_equal(parse_bytes(digits, &n), -ERANGE);
    free(digits);
    assert_int_equal(n, 77);
}

static void times(void **state)
{
    static const struct number good[] = {
        {"0", 0},
        {"30", 30000000},
        {"30s", 30000000},
        {"500ms", 500000},
        {"1us", 1},
        {"1.5s", 1500000},
        {"15m", 900000000},
        {"15min", 900000000},
        {"24h", 86400000000},
        {"7d", 604800000000},
        {"0.1ms", 100},
    };
    static const char *const bad[] = {"", "s", "1 s", "1S", "1hour", "-1s", "1h30m", "1w"};
    uint64_t n = 77;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(parse_usec(good[i].text, &n), 0);
        assert_int_equal(n, good[i].value);
    }
    n = 77;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse_usec(bad[i], &n) != -EINVAL)
            fail_msg("'%s' is taken", bad[i]);
    assert_int_equal(parse_usec("999999999d", &n), -ERANGE);
    assert_int_equal(n, 77);
}

/* --- Text for a terminal --- */

static void expect_escape(const char *text, size_t len, const char *want)
{
    char out[256];

    assert_ptr_equal(text_escape(out, sizeof(out), text, len), out);
    assert_string_equal(out, want);
}

static void what_is_dangerous_is_escaped(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"plain ~", "plain ~"},
        {"a\tb\nc\r", "a\\x09b\\x0ac\\x0d"},
        {ESC "[2J", "\\x1b[2J"},
        {"\x7f", "\\x7f"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"},        /* C1: CSI in one byte */
        {"\xc2\xa0", "\xc2\xa0"}, /* the first one after C1 */
        /* RIGHT-TO-LEFT OVERRIDE and its kin; the plain marks stay */
        {"a\xe2\x80\xae"
         "b\xe2\x81\xa6",
         "a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6"},
        {"\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\xa5\xe2\x80\x8f",
         "\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\xa5\xe2\x80\x8f"},
        {"\x9b", "\\x9b"},          /* not UTF-8 */
        {"\xc0\xaf", "\\xc0\\xaf"}, /* overlong "/" */
        {"\xc1\xbf", "\\xc1\\xbf"},
        {"\xe0\x9f\xbf", "\\xe0\\x9f\\xbf"},          /* overlong */
        {"\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"}, /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},     /* U+10FFFF */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above */
        {"\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
        {"\xe2\x82", "\\xe2\\x82"}, /* cut short */
        {"\xe2\x82z", "\\xe2\\x82z"},
        {"\xff\xfe", "\\xff\\xfe"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_escape(cases[i].text, strlen(cases[i].text), cases[i].want);
    expect_escape("a\0b", 3, "a\\x00b");
}

/* Any bytes into any room: ended, within it, and nothing but printable text. */
static void any_bytes_any_room(void **state)
{
    uint64_t x = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[40], guard[64];
        size_t cap = (size_t)round % 33, len = (size_t)(round / 33) % sizeof(text);

        for (size_t i = 0; i < sizeof(text); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            text[i] = (char)(x & 1 ? x >> 8 : 'a');
        }
        memset(guard, '!', sizeof(guard));
        (void)text_escape(guard, cap, text, len);
        for (size_t i = cap; i < sizeof(guard); i++)
            assert_int_equal(guard[i], '!');
        if (cap == 0)
            continue;
        size_t got = strnlen(guard, cap);
        assert_true(got < cap);
        for (size_t i = 0; i < got; i++) {
            assert_true((unsigned char)guard[i] >= 0x20);
            assert_int_not_equal(guard[i], 0x7f);
        }
    }
}

static void a_cut_is_marked(void **state)
{
    char out[16];

    (void)state;
    assert_string_equal(text_escape(out, 8, "abcdefghij", 10), "abcd...");
    assert_string_equal(text_escape(out, 12, "aaaaa" ESC "bbbbbbb", 13), "aaaaa...");
    assert_string_equal(text_escape(out, 4, "abcdefg", 7), "...");
    assert_string_equal(text_escape(out, 3, "abcdefg", 7), "..");
    assert_string_equal(text_escape(out, 1, "abcdefg", 7), "");
    /* No character is cut in two. */
    assert_string_equal(text_escape(out, 8, "abc\xe2\x82\xac\xe2\x82\xac", 9), "abc...");
}

static void sizes_for_people(void **state)
{
    char out[16];

    (void)state;
    assert_string_equal(format_bytes(out, sizeof(out), 0), "0 B");
    assert_string_equal(format_bytes(out, sizeof(out), 1023), "1023 B");
    assert_string_equal(format_bytes(out, sizeof(out), 1024), "1.0 kB");
    assert_string_equal(format_bytes(out, sizeof(out), 22020096), "21.0 MB");
    assert_string_equal(format_bytes(out, sizeof(out), 2684354560), "2.5 GB");
    assert_string_equal(format_bytes(out, sizeof(out), UINT64_MAX), "16384.0 PB");
}

static void prefixes(void **state)
{
    (void)state;
    assert_true(str_starts("abc", "abc"));
    assert_true(str_starts("abc", ""));
    assert_true(str_starts("", ""));
    assert_false(str_starts("ab", "abc"));
    assert_false(str_starts("xabc", "abc"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_grows),
        cmocka_unit_test(its_limit_is_a_failure),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(sizes),
        cmocka_unit_test(times),
        cmocka_unit_test(what_is_dangerous_is_escaped),
        cmocka_unit_test(any_bytes_any_room),
        cmocka_unit_test(a_cut_is_marked),
        cmocka_unit_test(sizes_for_people),
        cmocka_unit_test(prefixes),
    };

    return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
