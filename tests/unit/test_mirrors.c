/* Addresses of a slug: JSON to text and back, and what no address can be. */
#include "core/slugs/mirrors.h"
#include "core/run/spec.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

    assert_non_null(json);
    return json;
}

static void there_and_back(void **state)
{
    static const struct {
        const char *json, *text;
    } same[] = {
        {"\"https://a/s.tgz\"", "https://a/s.tgz"},
        {"[\"s3://b/k\",\"https://a/s.tgz\"]", "s3://b/k https://a/s.tgz"},
        {"[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]", "a b c d e f g h"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        scoped(json_freep) json_t *json = parse(same[i].json), *text = NULL;
        scoped(json_freep) json_t *back = mirrors_json(same[i].text);
        struct err e = ERR_INIT;

        assert_int_equal(mirrors_of_json(json, &text, &e), 0);
        assert_string_equal(json_string_value(text), same[i].text);
        assert_null(mirrors_wrong(same[i].text));
        assert_true(json_equal(json, back));
    }
    assert_null(mirrors_json(NULL));
    /* A list of one is a string when it comes back: they mean the same. */
    scoped(json_freep) json_t *one = parse("[\"https://a\"]"), *text = NULL;
    struct err e = ERR_INIT;
    assert_int_equal(mirrors_of_json(one, &text, &e), 0);
    assert_string_equal(json_string_value(text), "https://a");
}

static void bad_json(void **state)
{
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"7", "must be a URL, or a list"},
        {"null", "must be a URL, or a list"},
        {"{}", "must be a URL, or a list"},
        {"[]", "1 to 8"},
        {"[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]", "1 to 8"},
        {"[\"a\",7]", "must be a URL, or a list"},
        {"[\"a\",\"\"]", "is empty"},
        {"\"\"", "is empty"},
        {"\"a b\"", "blanks or control"},
        {"[\"a\",\"b c\"]", "blanks or control"},
        {"\"a\\nb\"", "blanks or control"},
        {"\"a\\u0000b\"", "blanks or control"},
        {"\"a\\u007f\"", "blanks or control"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        scoped(json_freep) json_t *json = parse(bad[i].json);
        json_t *text = NULL;
        struct err e = ERR_INIT;

        assert_int_equal(mirrors_of_json(json, &text, &e), -EINVAL);
        assert_null(text);
        assert_int_equal(e.fault, FAULT_OPERATOR);
        if (!strstr(e.text, bad[i].says))
            fail_msg("%s: \"%s\"", bad[i].json, e.text);
    }
}

static void lengths(void **state)
{
    scoped_free char *url = malloc(MIRROR_MAX + 2);
    struct err e = ERR_INIT;
    json_t *text = NULL;

    (void)state;
    assert_non_null(url);
    memset(url, 'x', MIRROR_MAX + 1);
    url[MIRROR_MAX + 1] = '\0';
    assert_non_null(strstr(mirrors_wrong(url), "8192"));
    json_t *json = json_string(url);
    assert_int_equal(mirrors_of_json(json, &text, &e), -EINVAL);
    assert_non_null(strstr(e.text, "8192"));
    json_decref(json);
    url[MIRROR_MAX] = '\0';
    assert_null(mirrors_wrong(url));
    /* Each of them may be as long. */
    json = json_pack("[s,s,s,s,s,s,s,s]", url, url, url, url, url, url, url, url);
    assert_int_equal(mirrors_of_json(json, &text, &e), 0);
    assert_int_equal(json_string_length(text), 8 * MIRROR_MAX + 7);
    assert_null(mirrors_wrong(json_string_value(text)));
    json_decref(json);
    json_decref(text);
}

static void bad_texts(void **state)
{
    static const char *const bad[] = {
        "", " ", " a", "a ", "a  b", "a\tb", "a\n", "\177", "a b c d e f g h i"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (!mirrors_wrong(bad[i]))
            fail_msg("'%s' passes", bad[i]);
}

static int check_slug(bool allow_http, const char *slug, struct err *e)
{
    struct config c = {.allow_http = allow_http};
    json_t *spec = json_pack("{s:o}", "slug", parse(slug));
    int r = spec_check_slug(&c, spec, e);

    json_decref(spec);
    return r;
}

static void schemes(void **state)
{
    static const char *const good[] = {
        "\"https://a/b\"", "\"file:///s\"", "\"s3://bucket/key\"", "\"swift://container/object\"",
        "[\"s3://a/b\",\"swift://a/b\",\"https://a\",\"file:///a\"]"};
    static const char *const bad[] = {"\"ftp://a/b\"",
                                      "\"file://host/s\"",
                                      "\"/s\"",
                                      "\"s3:/a/b\"",
                                      "[\"https://a\",\"gopher://b\"]",
                                      "\"HTTPS\"",
                                      "7"};
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(check_slug(false, good[i], &e), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(check_slug(true, bad[i], &e), -EINVAL);
        assert_int_equal(e.fault, FAULT_OPERATOR);
    }
    assert_int_equal(check_slug(true, "[\"https://a\",\"http://b\"]", &e), 0);
    assert_int_equal(check_slug(false, "[\"https://a\",\"http://b\"]", &e), -EINVAL);
    assert_non_null(strstr(e.text, "allow_http"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(bad_json), cmocka_unit_test(lengths),
        cmocka_unit_test(bad_texts),      cmocka_unit_test(schemes),
    };

    return cmocka_run_group_tests_name("mirrors", tests, NULL, NULL);
}
