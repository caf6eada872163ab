#include "slug/dotenv.h"

#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* TEXT gives the one value of A, and as many warnings as WARNING tells. */
static void assert_a(const char *text, const char *value)
{
    struct dotenv d;
    struct err e = ERR_INIT;

    if (dotenv_parse(".env", text, strlen(text), &d, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(d.n_entries, 1);
    assert_int_equal(d.n_warnings, 0);
    assert_non_null(dotenv_get(&d, "A"));
    assert_string_equal(dotenv_get(&d, "A"), value);
    dotenv_done(&d);
}

/* TEXT is skipped but for B=ok, with one warning that is WARNING. */
static void assert_warned(const char *text, const char *warning)
{
    struct dotenv d;
    struct err e = ERR_INIT;

    assert_int_equal(dotenv_parse(".env", text, strlen(text), &d, &e), 0);
    assert_int_equal(d.n_entries, 1);
    assert_string_equal(dotenv_get(&d, "B"), "ok");
    assert_int_equal(d.n_warnings, 1);
    assert_string_equal(d.warnings[0], warning);
    dotenv_done(&d);
}

static void assert_error(const char *text, size_t len, const char *error)
{
    struct dotenv d = {.n_entries = 77};
    struct err e = ERR_INIT;

    assert_true(dotenv_parse(".env", text, len, &d, &e) < 0);
    assert_int_equal(d.n_entries, 77); /* untouched */
    if (!strstr(e.text, error))
        fail_msg("'%s' is not in '%s'", error, e.text);
}

static void plain_values(void **state)
{
    (void)state;
    assert_a("A=1", "1");
    assert_a("A=1\n", "1");
    assert_a(" \tA \t= \t1 2 \t\n", "1 2");
    assert_a("export A=1", "1");
    assert_a("  export \t A = 1", "1");
    assert_a("A=", "");
    assert_a("A= \n", "");
    assert_a("A=a=b=c", "a=b=c");
    assert_a("A=$HOME ${X} `x` \\n", "$HOME ${X} `x` \\n");
    assert_a("A=a\"b\" 'c'", "a\"b\" 'c'");
    assert_a("\xef\xbb\xbf"
             "A=1",
             "1");
    assert_a("A=1\nA=2\n", "2");
}

static void names(void **state)
{
    struct dotenv d;
    struct err e = ERR_INIT;
    const char text[] = "_a.b9=1\nexport=2\nexport = 3\nexportX=4\nZ=5\n_a.b9=6\n";

    (void)state;
    assert_int_equal(dotenv_parse(".env", text, strlen(text), &d, &e), 0);
    assert_int_equal(d.n_warnings, 0);
    assert_int_equal(d.n_entries, 4);
    assert_string_equal(d.entries[0].name, "_a.b9"); /* the order of first mention */
    assert_string_equal(d.entries[0].value, "6");
    assert_string_equal(dotenv_get(&d, "export"), "3");
    assert_string_equal(dotenv_get(&d, "exportX"), "4");
    assert_null(dotenv_get(&d, "a"));
    dotenv_done(&d);
}

static void comments(void **state)
{
    (void)state;
    assert_a("# x\n \t# B=y\n\n \t\nA=1", "1");
    assert_a("A=1 # two", "1");
    assert_a("A=1\t#two", "1");
    assert_a("A=1#two", "1#two");
    assert_a("A=#two", "#two");
    assert_a("A= # two", "");
    assert_a("A= #two", "");
    assert_a("A=a#b #c", "a#b");
    assert_a("A='x' # c", "x");
    assert_a("A=\"x\"# c", "x");
    assert_a("A=\"x # y\"", "x # y");
}

static void line_ends(void **state)
{
    (void)state;
    assert_a("A=1\r\n", "1");
    assert_a("A=1\r", "1");
    assert_a("\rA=1\r\r\n\n", "1");
    assert_a("A=\"a\r\nb\"\r\n", "a\nb");
    assert_a("A='a\r\nb'", "a\nb");
    assert_a("A=\"a\nb\"", "a\nb");
    assert_a("A='a\rb'", "a\rb");
}

static void quotes(void **state)
{
    (void)state;
    assert_a("A=''", "");
    assert_a("A=\"\"", "");
    assert_a("A='$x \\n \"'", "$x \\n \"");
    assert_a("A=\"\\n\\t\\r\\\"\\\\\\$\"", "\n\t\r\"\\$");
    assert_a("A=\"\\x\\'\\ \"", "\\x\\'\\ ");
    assert_a("A=\"a\\\nb\"", "a\\\nb");
    assert_a("A=\"a\\\r\nb\"", "a\\\nb");
    assert_a("A = '  a  ' ", "  a  ");
    assert_a("A=\"'\"", "'");
    assert_a("A='-----BEGIN X-----\nabc=\n# no comment\n=======\n-----END X-----\n'\n",
             "-----BEGIN X-----\nabc=\n# no comment\n=======\n-----END X-----\n");
}

static void other_lines_are_warnings(void **state)
{
    (void)state;
    assert_warned("nothing\nB=ok", ".env:1: no '='");
    assert_warned("B=ok\n\n9X=1", ".env:3: not a name before '='");
    assert_warned("B=ok\nX-Y=1", ".env:2: not a name before '='");
    assert_warned("=1\nB=ok", ".env:1: not a name before '='");
    assert_warned("export A\nB=ok", ".env:1: no '='");
    assert_warned("export A B=1\nB=ok", ".env:1: not a name before '='");
}

static void text_after_a_quote_skips_the_whole_entry(void **state)
{
    (void)state;
    assert_warned("A='x' y\nB=ok", ".env:1: text after the closing quote: skipped");
    assert_warned("A=\"x\"y\nB=ok", ".env:1: text after the closing quote: skipped");
    assert_warned("\nA='x\nB=no\n' y\nB=ok", ".env:2: text after the closing quote: skipped");
}

static void lines_are_counted_over_quotes(void **state)
{
    (void)state;
    assert_warned("B=\"a\nb\r\nc\"\nB=ok\nbad", ".env:5: no '='");
    assert_warned("B='\n'\nbad\nB=ok", ".env:3: no '='");
    assert_warned("B='a'\nbad\nB=ok", ".env:2: no '='");
    assert_warned("B='a\r\n' # c\r\nbad\r\nB=ok", ".env:3: no '='");
}

static void errors(void **state)
{
    (void)state;
    assert_error("A=1\nB='x\ny\n", 10, ".env:2: a quote is not closed");
    assert_error("B=\"x\\\"", 6, ".env:1: a quote is not closed");
    assert_error("A=1\n<<<<<<< HEAD\n", 17, ".env:2: a conflict marker");
    assert_error("=======", 7, ".env:1: a conflict marker");
    assert_error("A=1\nB=\0", 7, ".env:2: a NUL byte");
    assert_error("A='\0'", 5, ".env:1: a NUL byte");
}

static void limits(void **state)
{
    struct str text = {0};
    struct dotenv d;
    struct err e = ERR_INIT;
    scoped_free char *big = malloc(131080);

    (void)state;
    memset(big, 'x', 131080);
    memcpy(big, "A=", 2);
    assert_int_equal(dotenv_parse(".env", big, 131071, &d, &e), 0);
    dotenv_done(&d);
    assert_error(big, 131072, "over the limit of 131071 bytes");
    for (int i = 0; i <= DOTENV_MAX_ENTRIES; i++)
        str_add(&text, "A=1\n");
    assert_error(text.data, text.len, "over the limit of 10000 entries");
    assert_int_equal(dotenv_parse(".env", text.data, text.len - 4, &d, &e), 0);
    dotenv_done(&d);
    str_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_values),
        cmocka_unit_test(names),
        cmocka_unit_test(comments),
        cmocka_unit_test(line_ends),
        cmocka_unit_test(quotes),
        cmocka_unit_test(other_lines_are_warnings),
        cmocka_unit_test(text_after_a_quote_skips_the_whole_entry),
        cmocka_unit_test(lines_are_counted_over_quotes),
        cmocka_unit_test(errors),
        cmocka_unit_test(limits),
    };

    return cmocka_run_group_tests_name("dotenv", tests, NULL, NULL);
}
