#include "base/name.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define A63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void app_names(void **state)
{
    static const char *const good[] = {"a", "hello", "a-", "a1", "a--b", A63};
    static const char *const bad[] = {"",   "A",   "1a",  "-a",       "a_b",       "a.b",  "a/b",
                                      "..", "a b", "a\n", "\xc3\xa4", "a\xc3\xa4", A63 "a"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(app_name_valid(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (app_name_valid(bad[i]))
            fail_msg("'%s' is taken", bad[i]);
}

/* Each byte value, at the start and inside. */
static void type_names(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char name[2] = {'a', (char)c};
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        assert_int_equal(type_name_valid(name + 1, 1), alnum);
        assert_int_equal(type_name_valid(name, 2), alnum || c == '-' || c == '_');
    }
    assert_false(type_name_valid("web", 0));
    assert_true(type_name_valid("web:", 3)); /* only LEN counts */
    assert_true(type_name_valid(A63, 63));
    assert_false(type_name_valid(A63 "a", 64));
}

static void dyno_names_go_both_ways(void **state)
{
    struct dyno_name d;
    char text[DYNO_TEXT_MAX];

    (void)state;
    assert_int_equal(dyno_name_parse("hello/web.1", &d), 0);
    assert_string_equal(d.app, "hello");
    assert_string_equal(d.type, "web");
    assert_int_equal(d.num, 1);
    assert_string_equal(dyno_name_short(&d, text), "web.1");
    /* The longest fits. */
    assert_int_equal(dyno_name_parse(A63 "/" A63 ".9999999", &d), 0);
    assert_string_equal(dyno_name_text(&d, text), A63 "/" A63 ".9999999");
    assert_int_equal(strlen(text), DYNO_TEXT_MAX - 1);
}

static void bad_dyno_names(void **state)
{
    static const char *const bad[] = {
        "",
        "web.1",
        "a/web",
        "a/web.",
        "a/web.0",
        "a/web.01",
        "a/web.1x",
        "a/.1",
        "/web.1",
        "a/b/web.1",
        "a//web.1",
        "a/web.10000000",
        "a/web.-1",
        "a/web. 1",
        "A/web.1",
        "a/we b.1",
        "a/web.1.2",
        "a.b/web.1",
        "a/web.99999999999999999999",
        A63 "a/web.1",
        "a/" A63 "a.1",
        ".1/",
        "a.1/",
    };
    struct dyno_name d;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&d, 7, sizeof(d));
        if (dyno_name_parse(bad[i], &d) != -EINVAL)
            fail_msg("'%s' is taken", bad[i]);
        assert_int_equal(d.num, 0x07070707); /* set on success only */
    }
}

static void digests(void **state)
{
    static const char *const good[] = {
        HEX, "sha256:" HEX, "SHA256:" HEX, "Sha256:" HEX,
        "0123456789ABCDEF0123456789ABCDEF0123456789abcdef0123456789abcdef"};
    static const char *const bad[] = {
        "",
        "sha256:",
        HEX "0",
        "sha512:" HEX,
        "sha256: " HEX,
        "sha256:sha256:" HEX,
        " " HEX,
        HEX "\n",
        "g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    unsigned char bytes[32];
    struct digest d, e;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(digest_parse(good[i], &d), 0);
        assert_string_equal(d.hex, HEX);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (digest_parse(bad[i], &d) != -EINVAL)
            fail_msg("'%s' is taken", bad[i]);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(0x23 * i + 1);
    digest_from_bytes(bytes, &e);
    assert_int_equal(strlen(e.hex), 64);
    assert_memory_equal(e.hex, "0124476a", 8);
    assert_false(digest_equal(&d, &e));
    d = e;
    assert_true(digest_equal(&d, &e));
    d.hex[63] ^= 1;
    assert_false(digest_equal(&d, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(app_names),
        cmocka_unit_test(type_names),
        cmocka_unit_test(dyno_names_go_both_ways),
        cmocka_unit_test(bad_dyno_names),
        cmocka_unit_test(digests),
    };

    return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
