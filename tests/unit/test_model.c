#include "core/state/model.h"

#include "base/frame.h"
#include "base/scoped.h"
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

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* --- Saying things in a line --- */

static struct model *new_model(void)
{
    struct model *m = NULL;
    struct err e = ERR_INIT;

    assert_int_equal(model_new(&m, &e), 0);
    return m;
}

static json_t *parse(const char *text)
{
    struct err e = ERR_INIT;
    json_t *j = NULL;

    if (json_parse(text, strlen(text), 64u << 20, &j, &e) < 0)
        fail_msg("%s: %s", e.text, text);
    return j;
}

/* Every state of the model as one text: two models are the same when their texts are. */
static char *dump(const struct model *m)
{
    json_t *entries = model_entries(m);
    char *text = json_dumps(entries, JSON_COMPACT | JSON_SORT_KEYS);

    assert_non_null(text);
    json_decref(entries);
    return text;
}

static int try_json(struct model *m, const json_t *entry, json_t **ret_entry, struct err *e)
{
    char *before = dump(m);
    int r = model_apply(m, entry, ret_entry, e);

    if (r < 0) { /* all or nothing */
        char *after = dump(m);

        assert_string_equal(before, after);
        assert_int_equal(e->errnum, -r);
        free(after);
    }
    free(before);
    return r;
}

static void apply(struct model *m, const char *text)
{
    struct err e = ERR_INIT;
    json_t *entry = parse(text);

    if (try_json(m, entry, NULL, &e) < 0)
        fail_msg("%s: %s", e.text, text);
    json_decref(entry);
}

/* Refused with ERRNUM, the operator's fault, and words that contain NEEDLE. */
static void refused_json(struct model *m, const json_t *entry, int errnum, const char *needle)
{
    struct err e = ERR_INIT;
    json_t *out = NULL;

    assert_int_equal(try_json(m, entry, &out, &e), -errnum);
    assert_null(out);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    if (!strstr(e.text, needle))
        fail_msg("\"%s\" does not say \"%s\"", e.text, needle);
}

static void refused(struct model *m, const char *text, int errnum, const char *needle)
{
    json_t *entry = parse(text);

    refused_json(m, entry, errnum, needle);
    json_decref(entry);
}

/* "web.1:3 web.2:3 run.5:4", with generations; apps after the first have their name before. */
static char *wants_text(const struct model *m, bool generations)
{
    scoped_free struct want *wants = NULL;
    char *out = calloc(1, 4096), dyno[DYNO_TEXT_MAX];
    struct err e = ERR_INIT;
    size_t n = 0, len = 0;

    assert_int_equal(model_wants(m, &wants, &n, &e), 0);
    for (size_t i = 0; i < n; i++) {
        len += (size_t)snprintf(out + len, 4096 - len, "%s%s", i ? " " : "",
                                dyno_name_text(&wants[i].name, dyno));
        if (generations)
            len += (size_t)snprintf(out + len, 4096 - len, ":%ju", (uintmax_t)wants[i].generation);
        assert_ptr_equal(wants[i].app, model_app(m, wants[i].name.app));
        assert_true(!wants[i].type != !wants[i].oneoff);
    }
    return out;
}

static void expect_wants(const struct model *m, const char *text)
{
    char *got = wants_text(m, strchr(text, ':') != NULL);

    assert_string_equal(got, text);
    free(got);
}

#define HELLO                                                                                      \
    "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"file:///s\",\"types\":["                      \
    "{\"name\":\"web\",\"command\":\"serve\"},{\"name\":\"worker\",\"command\":\"work\"},"         \
    "{\"name\":\"release\",\"command\":\"migrate\"}]}"

/* --- Formations --- */

static void a_first_release_gets_one_web(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    expect_wants(m, "");
    apply(m, HELLO);
    expect_wants(m, "hello/web.1:1");
    const struct app *app = model_app(m, "hello");
    assert_int_equal(app->release.version, 1);
    assert_true(app->release.restart);
    assert_true(app->release.resolved);
    assert_false(app->release.has_digest);
    assert_string_equal(app->types[0].command, "serve");
    assert_int_equal(json_object_size(app->release.env), 0);
    assert_null(model_app(m, "hell"));
    assert_int_equal(model_n_apps(m), 1);
}

static void a_later_release_keeps_the_formation(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, HELLO);
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"worker\":2}}");
    expect_wants(m, "hello/web.1:1 hello/worker.1:1 hello/worker.2:1");
    const struct app *app = model_app(m, "hello");
    apply(m, HELLO);
    assert_ptr_equal(app, model_app(m, "hello")); /* its address stays */
    assert_int_equal(app->release.version, 2);
    expect_wants(m, "hello/web.1:2 hello/worker.1:2 hello/worker.2:2");
    /* A formation that is given is the whole one. */
    apply(m, "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"file:///s\",\"types\":[{\"name\":"
             "\"web\",\"command\":\"x\"},{\"name\":\"worker\",\"command\":\"y\"}],"
             "\"formation\":{\"worker\":1}}");
    expect_wants(m, "hello/worker.1:3");
    /* A type that is gone is told. */
    json_t *out = NULL,
           *entry = parse("{\"op\":\"release\",\"app\":\"hello\",\"url\":\"file:///s\","
                          "\"types\":[{\"name\":\"web\",\"command\":\"x\"}]}");
    struct err e = ERR_INIT;
    assert_int_equal(try_json(m, entry, &out, &e), 0);
    expect_wants(m, "");
    assert_string_equal(json_string_value(json_array_get(json_object_get(out, "unknown_types"), 0)),
                        "worker");
    assert_int_equal(json_int(out, "version", 0), 4);
    assert_int_equal(json_int(out, "generation", 0), 4);
    json_decref(out);
    json_decref(entry);
}

static void without_a_web_type_nothing_starts(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"types\":[{\"name\":\"clock\","
             "\"command\":\"c\"}]}");
    expect_wants(m, "");
    apply(m, "{\"op\":\"scale\",\"app\":\"a\",\"formation\":{\"clock\":1}}");
    expect_wants(m, "a/clock.1:1");
}

static void resolve_checks_what_was_stored(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    struct err e = ERR_INIT;
    json_t *out = NULL;

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"digest\":null,\"types\":null,"
             "\"formation\":{\"web\":2,\"nope\":1,\"zero\":0}}");
    expect_wants(m, "a/web.1:1 a/web.2:1 a/nope.1:1");
    assert_null(model_app(m, "a")->types[0].command);
    apply(m, "{\"op\":\"scale\",\"app\":\"a\",\"formation\":{\"later\":1}}");
    json_t *entry =
        parse("{\"op\":\"resolve\",\"app\":\"a\",\"version\":1,\"digest\":\"SHA256:" HEX_A
              "\",\"types\":[{\"name\":\"other\",\"command\":\"o\"},{\"name\":\"web\","
              "\"command\":\"w\",\"from_release_file\":true}]}");
    assert_int_equal(try_json(m, entry, &out, &e), 0);
    expect_wants(m, "a/web.1:1 a/web.2:1");
    json_t *unknown = json_object_get(out, "unknown_types");
    assert_int_equal(json_array_size(unknown), 2);
    assert_string_equal(json_string_value(json_array_get(unknown, 0)), "nope");
    assert_string_equal(json_string_value(json_array_get(unknown, 1)), "later");
    const struct app *a = model_app(m, "a");
    assert_true(a->release.has_digest);
    assert_string_equal(a->release.digest.hex, HEX_A);
    assert_true(a->types[1].from_release_file);
    assert_int_equal(a->types[0].count, 0);
    /* Told twice, or late. */
    refused_json(m, entry, EALREADY, "v1 of a is resolved");
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:z\",\"digest\":\"" HEX_B "\"}");
    refused_json(m, entry, ESTALE, "v1 of a is not the current one, v2");
    json_object_set_new(entry, "version", json_integer(2));
    refused_json(m, entry, EINVAL, "digest");
    json_object_del(entry, "digest");
    json_decref(out);
    assert_int_equal(try_json(m, entry, &out, &e), 0);
    expect_wants(m, "a/web.1:2 a/web.2:2");
    assert_null(json_object_get(out, "unknown_types"));
    json_decref(out);
    json_decref(entry);
}

/* An entry as completed is fit to be replayed. */
static void completed_entries_replay(void **state)
{
    static const char *const entries[] = {
        "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"formation\":{\"gone\":1}}",
        "{\"op\":\"resolve\",\"app\":\"a\",\"version\":1,\"types\":[{\"name\":\"web\",\"command\":"
        "\"w\"}]}",
        "{\"op\":\"scale\",\"app\":\"a\",\"formation\":{\"web\":3}}",
        "{\"op\":\"restart\",\"app\":\"a\",\"dyno\":\"web.2\"}",
        "{\"op\":\"run\",\"app\":\"a\",\"num\":7,\"command\":\"ls\"}",
        "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}",
        "{\"op\":\"restart\",\"app\":\"a\"}",
    };
    scoped(model_freep) struct model *a = new_model();
    scoped(model_freep) struct model *b = new_model();
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        json_t *out = NULL, *entry = parse(entries[i]);

        assert_int_equal(try_json(a, entry, &out, &e), 0);
        assert_int_equal(try_json(b, out, NULL, &e), 0);
        json_decref(out);
        json_decref(entry);
        char *x = dump(a), *y = dump(b);
        assert_string_equal(x, y);
        free(x);
        free(y);
    }
    expect_wants(b, "a/web.1:5 a/web.2:5 a/web.3:5 a/run.7:3");
}

static void ports_of_local_mode(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"dir\":\"/srv/a\",\"restart\":false,\"types\":["
             "{\"name\":\"web\",\"command\":\"w\"},{\"name\":\"job\",\"command\":\"j\"}],"
             "\"formation\":{\"web\":2,\"job\":1},\"ports\":{\"web\":5000,\"job\":65535}}");
    const struct app *a = model_app(m, "a");
    assert_int_equal(a->types[0].port, 5000);
    assert_int_equal(a->types[1].port, 65535);
    assert_false(a->release.restart);
    assert_string_equal(a->release.dir, "/srv/a");
    assert_null(a->release.url);
    refused(m, "{\"op\":\"scale\",\"app\":\"a\",\"formation\":{\"job\":2}}", EINVAL,
            "the port of job.2 would be 65536");
    refused(m,
            "{\"op\":\"resolve\",\"app\":\"a\",\"version\":1,\"types\":[{\"name\":\"web\","
            "\"command\":\"w\"}]}",
            EALREADY, "resolved");
    /* Not resolved yet: they wait for their types. */
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"formation\":{\"web\":1},"
             "\"ports\":{\"job\":5100,\"web\":5000}}");
    apply(m, "{\"op\":\"resolve\",\"app\":\"a\",\"version\":2,\"types\":[{\"name\":\"job\","
             "\"command\":\"j\"},{\"name\":\"web\",\"command\":\"w\"}]}");
    assert_int_equal(a->types[0].port, 5100);
    assert_int_equal(a->types[1].port, 5000);
    assert_int_equal(a->types[0].count, 0);
}

/* --- stop, restart --- */

static void stop_lasts_until_scale_restart_or_release(void **state)
{
    static const char *const ends[] = {
        "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":2}}",
        "{\"op\":\"restart\",\"app\":\"hello\"}",
        HELLO,
    };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        scoped(model_freep) struct model *m = new_model();

        apply(m, HELLO);
        apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":2}}");
        apply(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.1\"}");
        apply(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.1\"}");
        expect_wants(m, "hello/web.2");
        apply(m, ends[i]);
        expect_wants(m, "hello/web.1 hello/web.2");
        apply(m, "{\"op\":\"stop\",\"app\":\"hello\"}");
        apply(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.1\"}");
        expect_wants(m, "");
        apply(m, ends[i]);
        expect_wants(m, "hello/web.1 hello/web.2");
    }
}

static void scale_ends_the_stop_of_its_types_only(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, HELLO);
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":2,\"worker\":1}}");
    apply(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.2\"}");
    apply(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"worker.1\"}");
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":3}}");
    expect_wants(m, "hello/web.1 hello/web.2 hello/web.3");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"worker.1\"}");
    expect_wants(m, "hello/web.1 hello/web.2 hello/web.3 hello/worker.1");
}

static void restart_of_one_dyno(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, HELLO);
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":3}}");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.2\"}");
    expect_wants(m, "hello/web.1:1 hello/web.2:2 hello/web.3:1");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.2\"}");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.1\"}");
    expect_wants(m, "hello/web.1:4 hello/web.2:3 hello/web.3:1");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\"}");
    expect_wants(m, "hello/web.1:5 hello/web.2:5 hello/web.3:5");
    /* In an app that is stopped: that one alone. */
    apply(m, "{\"op\":\"stop\",\"app\":\"hello\"}");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.3\"}");
    expect_wants(m, "hello/web.3:6");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.1\"}");
    expect_wants(m, "hello/web.1:7 hello/web.3:6");
    refused(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.4\"}", ENOENT,
            "no dyno web.4 of hello");
    refused(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"release.1\"}", ENOENT,
            "release.1");
    refused(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web\"}", EINVAL, "'web'");
    refused(m, "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"run.1\"}", EINVAL, "one-off");
}

/* An app forgotten and made again must not take the old app's dynos for its own. */
static void generations_are_never_used_twice(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, HELLO);
    apply(m, "{\"op\":\"forget\",\"app\":\"hello\"}");
    expect_wants(m, "");
    assert_null(model_app(m, "hello"));
    apply(m, HELLO);
    expect_wants(m, "hello/web.1:2");
    assert_int_equal(model_app(m, "hello")->release.version, 1);
    apply(m, "{\"op\":\"generation\",\"generation\":40}");
    apply(m, "{\"op\":\"generation\",\"generation\":3}");
    assert_int_equal(model_generation(m), 40);
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\"}");
    expect_wants(m, "hello/web.1:41");
}

/* --- One-offs --- */

static void oneoffs_come_and_go(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, HELLO);
    apply(m, "{\"op\":\"run\",\"app\":\"hello\",\"num\":4123,\"argv\":[\"ls\",\"-l\",\"\"],"
             "\"env\":{\"A\":\"1\"},\"size\":\"standard-2x\",\"attached\":true}");
    apply(m, "{\"op\":\"run\",\"app\":\"hello\",\"num\":2,\"command\":\"ls | wc\"}");
    expect_wants(m, "hello/web.1:1 hello/run.4123:2 hello/run.2:3");
    const struct oneoff *o = model_app(m, "hello")->oneoffs;
    assert_true(o->attached);
    assert_string_equal(o->size, "standard-2x");
    assert_string_equal(json_str(o->env, "A", ""), "1");
    assert_int_equal(json_array_size(o->argv), 3);
    assert_null(o->command);
    assert_string_equal(o[1].command, "ls | wc");
    refused(m, "{\"op\":\"run\",\"app\":\"hello\",\"num\":2,\"command\":\"x\"}", EEXIST, "run.2");
    /* A stop is final, a restart of the app or a release does not bring it back. */
    apply(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"run.2\"}");
    expect_wants(m, "hello/web.1 hello/run.4123");
    apply(m, "{\"op\":\"restart\",\"app\":\"hello\"}");
    apply(m, HELLO);
    expect_wants(m, "hello/web.1 hello/run.4123");
    /* Stopping all includes them; a new one runs in a stopped app. */
    apply(m, "{\"op\":\"stop\",\"app\":\"hello\"}");
    expect_wants(m, "");
    apply(m, "{\"op\":\"run\",\"app\":\"hello\",\"num\":3,\"command\":\"x\"}");
    expect_wants(m, "hello/run.3");
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":1}}");
    expect_wants(m, "hello/web.1 hello/run.3");
    apply(m, "{\"op\":\"ran\",\"app\":\"hello\",\"num\":2}");
    refused(m, "{\"op\":\"ran\",\"app\":\"hello\",\"num\":2}", ENOENT, "run.2");
    /* Its number is free again, and so is its mark. */
    apply(m, "{\"op\":\"run\",\"app\":\"hello\",\"num\":2,\"command\":\"x\"}");
    expect_wants(m, "hello/web.1 hello/run.3 hello/run.2");
    refused(m, "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"run.9\"}", ENOENT, "run.9");
}

/* --- What is refused --- */

struct bad {
    const char *entry;
    int errnum;
    const char *needle;
};

#define REL(rest)  "{\"op\":\"release\",\"app\":\"x\",\"url\":\"x:y\"," rest "}"
#define TYPE(rest) REL("\"types\":[" rest "]")
#define SIXTYFIVE  "a2345678901234567890123456789012345678901234567890123456789012345"
#define FORM(n)    "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":" n "}}"
#define BY(by)     "{\"op\":\"stop\",\"app\":\"hello\",\"by\":" by "}"
#define RUN(rest)  "{\"op\":\"run\",\"app\":\"hello\",\"num\":1," rest "}"

static const struct bad bad_entries[] = {
    {"{}", EINVAL, "without 'op'"},
    {"[]", EINVAL, "without 'op'"},
    {"{\"op\":7}", EINVAL, "without 'op'"},
    {"{\"op\":\"explode\",\"app\":\"a\"}", EOPNOTSUPP, "'explode'"},
    {"{\"op\":\"ex\\u001bplode\"}", EOPNOTSUPP, "'ex\\x1bplode'"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":1},\"foo\":1}", EINVAL,
     "scale: unknown field 'foo'"},
    {"{\"op\":\"scale\",\"formation\":{\"web\":1}}", EINVAL, "scale: 'app' is missing"},
    {"{\"op\":\"scale\",\"app\":7,\"formation\":{\"web\":1}}", EINVAL, "'app' is not a string"},
    {"{\"op\":\"scale\",\"app\":\"Hello\",\"formation\":{\"web\":1}}", EINVAL, "'Hello'"},
    {"{\"op\":\"scale\",\"app\":\"other\",\"formation\":{\"web\":1}}", ENOENT, "no app 'other'"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{}}", EINVAL, "names no process type"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":-1}}", EINVAL, "'web' is -1"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":10001}}", EINVAL, "10001"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":1.5}}", EINVAL, "whole number"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":\"1\"}}", EINVAL, "whole number"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":1,\"x\":0}}", EINVAL,
     "no process type 'x' in release v1 of hello (it has: web, worker)"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"release\":1}}", EINVAL, "'release'"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"all\":1}}", EINVAL, "reserved"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"run\":1}}", EINVAL, "reserved"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"a b\":1}}", EINVAL, "'a b'"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":[]}", EINVAL,
     "'formation' is not an object"},
    {"{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.0\"}", EINVAL, "web.0"},
    {"{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.2\"}", ENOENT, "web.2"},
    {"{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"a/web.1\"}", EINVAL, "a/web.1"},
    {"{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":null}", EINVAL, "'dyno' is not a string"},
    {"{\"op\":\"forget\",\"app\":\"nobody\"}", ENOENT, "nobody"},
    {"{\"op\":\"generation\",\"generation\":0}", EINVAL, "generation"},
    {"{\"op\":\"generation\",\"generation\":1,\"app\":\"hello\"}", EINVAL, "'app'"},
    {"{\"op\":\"release\",\"app\":\"x\"}", EINVAL, "exactly one of 'url' and 'dir'"},
    {REL("\"dir\":\"/a\""), EINVAL, "exactly one of 'url' and 'dir'"},
    {"{\"op\":\"release\",\"app\":\"x\",\"url\":\"\"}", EINVAL, "'url' is empty"},
    {"{\"op\":\"release\",\"app\":\"x\",\"url\":\"a  b\"}", EINVAL, "blanks"},
    {"{\"op\":\"release\",\"app\":\"x\",\"url\":\"a \"}", EINVAL, "blanks"},
    {"{\"op\":\"release\",\"app\":\"x\",\"url\":\"a b c d e f g h i\"}", EINVAL,
     "more than 8 addresses"},
    {"{\"op\":\"release\",\"app\":\"x\",\"url\":\"a\\tb\"}", EINVAL, "control"},
    {"{\"op\":\"release\",\"app\":\"x\",\"dir\":\"a\"}", EINVAL, "absolute"},
    {"{\"op\":\"release\",\"app\":\"-x\",\"url\":\"x:y\"}", EINVAL, "'-x'"},
    {REL("\"digest\":\"abc\""), EINVAL, "digest 'abc'"},
    {REL("\"size\":\"a b\""), EINVAL, "'a b'"},
    {REL("\"size\":\"a2345678901234567890123456789012\""), EINVAL, "no name of a size"},
    {REL("\"version\":0"), EINVAL, "version"},
    {REL("\"version\":2147483648"), EINVAL, "version"},
    {REL("\"created\":-1"), EINVAL, "created"},
    {REL("\"restart\":1"), EINVAL, "'restart' is not true or false"},
    {REL("\"env\":[]"), EINVAL, "'env' is not an object"},
    {REL("\"env\":{\"\":\"x\"}"), EINVAL, "env name ''"},
    {REL("\"env\":{\"A=B\":\"x\"}"), EINVAL, "env name 'A=B'"},
    {REL("\"env\":{\"A\":1}"), EINVAL, "env 'A' is not a string"},
    {REL("\"formation\":{\"web\":null}"), EINVAL, "whole number"},
    {REL("\"ports\":{\"web\":0}"), EINVAL, "'web' is 0"},
    {REL("\"ports\":{\"web\":65536}"), EINVAL, "'web' is 65536"},
    {REL("\"ports\":{\"web\":65535},\"formation\":{\"web\":2}"), EINVAL, "web.2 would be 65536"},
    {REL("\"types\":[]"), EINVAL, "0 process types"},
    {REL("\"types\":{}"), EINVAL, "'types' is not a list"},
    {TYPE("7"), EINVAL, "types[0] is not an object"},
    {TYPE("{\"name\":\"web\"}"), EINVAL, "'command' is missing"},
    {TYPE("{\"name\":\"web\",\"command\":\"x\",\"n\":1}"), EINVAL, "unknown field 'n'"},
    {TYPE("{\"name\":\"web\",\"command\":\"\"}"), EINVAL, "command is empty"},
    {TYPE("{\"name\":\"run\",\"command\":\"x\"}"), EINVAL, "reserved"},
    {TYPE("{\"name\":\"-\",\"command\":\"x\"}"), EINVAL, "'-'"},
    {TYPE("{\"name\":\"a\",\"command\":\"x\"},{\"name\":\"a\",\"command\":\"y\"}"), EINVAL,
     "twice"},
    {REL("\"formation\":{\"job\":1},\"types\":[{\"name\":\"web\",\"command\":\"x\"}]"), EINVAL,
     "no process type 'job' in release v1 of x (it has: web)"},
    {REL("\"ports\":{\"job\":1},\"types\":[{\"name\":\"web\",\"command\":\"x\"}]"), EINVAL,
     "'job'"},
    {RUN("\"x\":1"), EINVAL, "'x'"},
    {"{\"op\":\"run\",\"app\":\"hello\",\"num\":1}", EINVAL, "exactly one of 'argv' and 'command'"},
    {RUN("\"command\":\"x\",\"argv\":[\"x\"]"), EINVAL, "exactly one of 'argv' and 'command'"},
    {RUN("\"command\":\"\""), EINVAL, "empty"},
    {RUN("\"argv\":[]"), EINVAL, "0 arguments"},
    {RUN("\"argv\":[\"\"]"), EINVAL, "argv[0] is empty"},
    {RUN("\"argv\":[\"a\",7]"), EINVAL, "argv[1]"},
    {"{\"op\":\"run\",\"app\":\"hello\",\"num\":0,\"command\":\"x\"}", EINVAL, "'num' is 0"},
    {"{\"op\":\"run\",\"app\":\"hello\",\"num\":10000000,\"command\":\"x\"}", EINVAL, "10000000"},
    {"{\"op\":\"resolve\",\"app\":\"hello\",\"version\":1}", EINVAL, "'types' is missing"},
    {REL("\"version\":\"3\""), EINVAL, "'version' is not a whole number"},
    {REL("\"stop_after\":[]"), EINVAL, "'stop_after' is not an object"},
    {REL("\"stop_after\":{\"clock\":0}"), EINVAL, "release: stop_after: 'clock' is 0"},
    {REL("\"stop_after\":{\"clock\":86401}"), EINVAL, "'clock' is 86401, not within 1 to 86400"},
    {REL("\"stop_after\":{\"clock\":\"60\"}"), EINVAL,
     "stop_after of 'clock' is not a whole number"},
    {REL("\"stop_after\":{\"run\":60}"), EINVAL, "'run' is reserved"},
    {REL("\"meta\":\"x\""), EINVAL, "'meta' is not an object"},
    {REL("\"meta\":{\"colour\":\"x\"}"), EINVAL, "release: meta: unknown field 'colour'"},
    {REL("\"meta\":{\"app_id\":7}"), EINVAL, "meta: 'app_id' is not a string"},
    {REL("\"controlled\":1"), EINVAL, "'controlled' is not true or false"},
    {FORM("true"), EINVAL, "formation of 'web' is not a whole number"},
    {FORM("-1"), EINVAL, "scale: formation: 'web' is -1"},
    {FORM("10001"), EINVAL, "'web' is 10001, not within 0 to 10000"},
    {FORM("[0]"), EINVAL, "'web' lists what is no number within 1 to 9999999"},
    {FORM("[1,10000000]"), EINVAL, "'web' lists what is no number"},
    {FORM("[1,\"2\"]"), EINVAL, "'web' lists what is no number"},
    {FORM("[1.0]"), EINVAL, "'web' lists what is no number"},
    {FORM("[[1]]"), EINVAL, "'web' lists what is no number"},
    {FORM("[4,2,4]"), EINVAL, "scale: formation of 'web' lists 4 twice"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"release\":[1]}}", EINVAL, "'release'"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"run\":[1]}}", EINVAL, "reserved"},
    {"{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"-\":[1]}}", EINVAL, "'-'"},
    {REL("\"formation\":{\"web\":[9]},\"ports\":{\"web\":65528}"), EINVAL, "web.9 would be 65536"},
    {BY("7"), EINVAL, "'by' is not an object"},
    {BY("{}"), EINVAL, "stop: by: 'store' is missing"},
    {BY("{\"store\":\"\"}"), EINVAL, "'' is no name of a store"},
    {BY("{\"store\":\"a b\"}"), EINVAL, "stop: 'a b' is no name of a store"},
    {BY("{\"store\":\"" SIXTYFIVE "\"}"), EINVAL, "no name of a store"},
    {BY("{\"store\":\"s\",\"x\":1}"), EINVAL, "by: unknown field 'x'"},
    {BY("{\"store\":\"s\",\"generation\":1}"), EINVAL, "only one of 'generation' and 'id'"},
    {BY("{\"store\":\"s\",\"id\":\"c\"}"), EINVAL, "only one of 'generation' and 'id'"},
    {BY("{\"store\":\"s\",\"generation\":0,\"id\":\"c\"}"), EINVAL, "'generation' is 0"},
    {BY("{\"store\":\"s\",\"generation\":-3,\"id\":\"c\"}"), EINVAL, "'generation' is -3"},
    {BY("{\"store\":\"s\",\"generation\":1.5,\"id\":\"c\"}"), EINVAL, "not a whole number"},
    {BY("{\"store\":\"s\",\"generation\":1,\"id\":\"\"}"), EINVAL, "'' is no id"},
    {BY("{\"store\":\"s\",\"generation\":1,\"id\":\"a b\"}"), EINVAL,
     "'a b' is no id of a command"},
    {BY("{\"store\":\"s\",\"generation\":1,\"id\":\"\u00e9\"}"), EINVAL, "is no id"},
    {BY("{\"store\":\"s\",\"generation\":1,\"id\":\"" SIXTYFIVE "\"}"), EINVAL, "is no id"},
    {"{\"op\":\"control\"}", EINVAL, "exactly one of 'by' and 'store'"},
    {"{\"op\":\"control\",\"by\":{\"store\":\"s\"},\"store\":\"s\"}", EINVAL, "exactly one of"},
    {"{\"op\":\"control\",\"app\":\"hello\",\"by\":{\"store\":\"s\"}}", EINVAL, "'app'"},
    {"{\"op\":\"control\",\"by\":{\"store\":\"s\",\"generation\":1,\"id\":\"c\"},\"outcome\":\"x\"}",
     EINVAL, "outcome 'x' is neither done nor refused"},
    {"{\"op\":\"control\",\"by\":{\"store\":\"s\"},\"settled\":[]}", EINVAL, "go with 'store'"},
    {"{\"op\":\"control\",\"store\":\"s\"}", EINVAL, "'generation' is missing"},
    {"{\"op\":\"control\",\"store\":\"s\",\"generation\":1,\"settled\":[7]}", EINVAL,
     "what is not an object"},
    {"{\"op\":\"control\",\"store\":\"s\",\"generation\":1,\"settled\":[{\"id\":\"c\"}]}", EINVAL,
     "settled: 'outcome' is missing"},
    {"{\"op\":\"stop\",\"app\":\"hello\",\"outcome\":\"done\"}", EINVAL, "'outcome'"},
    {"{\"op\":\"drain\"}", EINVAL, "'reason' is missing"},
    {"{\"op\":\"drain\",\"reason\":\"\"}", EINVAL, "drain: reason ''"},
    {"{\"op\":\"drain\",\"reason\":\"a b\"}", EINVAL, "reason 'a b'"},
    {"{\"op\":\"drain\",\"reason\":\"a234567890123456\"}", EINVAL, "1 to 15 letters"},
    {"{\"op\":\"drain\",\"reason\":\"spot\",\"deadline\":-1}", EINVAL, "'deadline' is -1"},
    {"{\"op\":\"drain\",\"reason\":\"spot\",\"deadline\":null}", EINVAL, "'deadline'"},
    {"{\"op\":\"drain\",\"reason\":\"spot\",\"since\":\"now\"}", EINVAL, "'since'"},
    {"{\"op\":\"drain\",\"reason\":\"spot\",\"app\":\"hello\"}", EINVAL, "'app'"},
    {"{\"op\":\"undrain\",\"reason\":\"spot\"}", EINVAL, "'reason'"},
};

static void has_size(const struct model *m, const char *dyno, const char *want)
{
    struct dyno_name name;

    assert_int_equal(dyno_name_parse(dyno, &name), 0);
    assert_string_equal(app_size(model_app(m, name.app), &name, "default"), want);
}

#define RESIZE "{\"op\":\"resize\",\"app\":\"hello\","

static void the_nearest_size_counts(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"x:y\","
             "\"formation\":{\"web\":3,\"job\":1}}");
    has_size(m, "hello/web.1", "default");
    apply(m, RESIZE "\"size\":\"whole\"}");
    apply(m, RESIZE "\"size\":\"type\",\"type\":\"web\"}");
    apply(m, RESIZE "\"size\":\"one\",\"dyno\":\"web.2\"}");
    has_size(m, "hello/web.1", "type");
    has_size(m, "hello/web.2", "one");
    has_size(m, "hello/job.1", "whole");
    /* What is nearer goes with what covers it. */
    apply(m, RESIZE "\"size\":\"other\",\"type\":\"web\"}");
    has_size(m, "hello/web.2", "other");
    has_size(m, "hello/job.1", "whole");
    apply(m, RESIZE "\"size\":\"one\",\"dyno\":\"web.2\"}");
    apply(m, RESIZE "\"size\":\"all\"}");
    has_size(m, "hello/web.2", "all");
    /* A dyno that the formation has no more; a type that it has none of. */
    apply(m, RESIZE "\"size\":\"one\",\"dyno\":\"web.3\"}");
    apply(m, RESIZE "\"size\":\"type\",\"type\":\"job\"}");
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":2,\"job\":0}}");
    apply(m, "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":3,\"job\":1}}");
    has_size(m, "hello/web.3", "all");
    has_size(m, "hello/job.1", "type");
    /* A release without a size keeps them, one with a size does not. */
    apply(m, "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"x:z\"}");
    has_size(m, "hello/web.1", "all");
    has_size(m, "hello/job.1", "type");
    apply(m, "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"x:z\",\"size\":\"new\"}");
    has_size(m, "hello/web.1", "new");
    has_size(m, "hello/job.1", "new");
    /* A one-off's own. */
    apply(m, "{\"op\":\"run\",\"app\":\"hello\",\"num\":5,\"command\":\"ls\"}");
    has_size(m, "hello/run.5", "new");
    apply(m, RESIZE "\"size\":\"one\",\"dyno\":\"run.5\"}");
    has_size(m, "hello/run.5", "one");
}

static void a_bad_resize_is_refused(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"x:y\",\"types\":[{\"name\":"
             "\"web\",\"command\":\"w\"}]}");
    refused(m, RESIZE "\"size\":\"\"}", EINVAL, "empty");
    refused(m, RESIZE "\"size\":\"a b\"}", EINVAL, "no name of a size");
    refused(m, RESIZE "\"type\":\"web\"}", EINVAL, "'size' is missing");
    refused(m, RESIZE "\"size\":\"s\",\"type\":\"job\"}", EINVAL, "no process type 'job'");
    refused(m, RESIZE "\"size\":\"s\",\"type\":\"web.1\"}", EINVAL, "no name of a process type");
    refused(m, RESIZE "\"size\":\"s\",\"type\":\"*\"}", EINVAL, "no name of a process type");
    refused(m, RESIZE "\"size\":\"s\",\"dyno\":\"web.2\"}", ENOENT, "no dyno web.2");
    refused(m, RESIZE "\"size\":\"s\",\"dyno\":\"run.2\"}", ENOENT, "no dyno run.2");
    refused(m, RESIZE "\"size\":\"s\",\"dyno\":\"../x\"}", EINVAL, "no name of a dyno");
    refused(m, RESIZE "\"size\":\"s\",\"dyno\":\"web.1\",\"type\":\"web\"}", EINVAL, "only one of");
    refused(m, "{\"op\":\"resize\",\"app\":\"nope\",\"size\":\"s\"}", ENOENT, "no app");
}

static void bad_entries_are_refused(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, HELLO);
    for (size_t i = 0; i < sizeof(bad_entries) / sizeof(bad_entries[0]); i++)
        refused(m, bad_entries[i].entry, bad_entries[i].errnum, bad_entries[i].needle);
}

static json_t *release_of(const char *app)
{
    return json_pack("{s:s,s:s,s:s}", "op", "release", "app", app, "url", "x:y");
}

static char *text_of(size_t len)
{
    char *text = malloc(len + 1);

    assert_non_null(text);
    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

static void strings_have_limits(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    scoped_free char *text = text_of(131072);
    json_t *entry = release_of("a");

    (void)state;
    /* One variable: with its name and '=' at most 131,071 bytes. */
    json_object_set_new(entry, "env", json_pack("{s:s#}", "A", text, (size_t)131070));
    refused_json(m, entry, EINVAL, "131072 bytes, over the limit of 131071");
    json_object_set_new(entry, "env", json_pack("{s:s#}", "A", text, (size_t)131069));
    apply(m, "{\"op\":\"generation\",\"generation\":1}");
    struct err e = ERR_INIT;
    assert_int_equal(try_json(m, entry, NULL, &e), 0);
    /* All together. */
    json_t *env = json_object();
    char name[16];
    for (int i = 0; i < 9; i++) {
        (void)snprintf(name, sizeof(name), "V%d", i);
        json_object_set_new(env, name, json_stringn(text, 120000));
    }
    json_object_set_new(entry, "env", env);
    refused_json(m, entry, EINVAL, "limit of 1048576 bytes");
    json_object_del(env, "V8");
    assert_int_equal(try_json(m, entry, NULL, &e), 0);
    /* NUL, which JSON text cannot bring but code can. */
    json_object_set_new(env, "V8", json_stringn("a\0b", 3));
    refused_json(m, entry, EINVAL, "NUL");
    json_object_del(entry, "env");
    json_object_set_new(entry, "url", json_stringn("a\0b", 3));
    refused_json(m, entry, EINVAL, "'url' has a NUL");
    json_object_del(entry, "env");
    json_object_set_new(entry, "url", json_string("x:y"));
    json_object_set_new(entry, "meta", json_pack("{s:s#}", "slug_description", text, 4097));
    refused_json(m, entry, EINVAL,
                 "meta 'slug_description' has 4097 bytes, over the limit of 4096");
    json_object_set_new(entry, "meta", json_pack("{s:s#}", "slug_description", text, 4096));
    assert_int_equal(try_json(m, entry, NULL, &e), 0);
    json_object_del(entry, "meta");
    json_object_set_new(entry, "url", json_stringn(text, 8193));
    refused_json(m, entry, EINVAL, "8192");
    json_object_set_new(entry, "url", json_stringn(text, 8192));
    json_object_set_new(entry, "types", json_pack("[{s:s,s:s}]", "name", "web", "command", text));
    refused_json(m, entry, EINVAL, "131072 bytes is over the limit of 131071");
    json_decref(entry);
}

static void lists_have_limits(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    scoped_free char *text = text_of(100000);
    json_t *entry = release_of("a"), *types = json_array();
    struct err e = ERR_INIT;
    char name[16];

    (void)state;
    json_object_set_new(entry, "types", types);
    for (int i = 0; i < 11; i++) {
        (void)snprintf(name, sizeof(name), "t%d", i);
        json_array_append_new(types, json_pack("{s:s,s:s}", "name", name, "command", text));
    }
    refused_json(m, entry, EINVAL, "commands are over the limit of 1048576");
    json_array_clear(types);
    for (int i = 0; i < MODEL_TYPES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "t%d", i);
        json_array_append_new(types, json_pack("{s:s,s:s}", "name", name, "command", "x"));
    }
    assert_int_equal(try_json(m, entry, NULL, &e), 0);
    json_array_append_new(types, json_pack("{s:s,s:s}", "name", "z", "command", "x"));
    refused_json(m, entry, EINVAL, "1001 process types");
    /* A formation for a release that is not resolved yet. */
    json_t *formation = json_object();
    for (int i = 0; i <= MODEL_TYPES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "t%d", i);
        json_object_set_new(formation, name, json_integer(1));
    }
    json_object_del(entry, "types");
    json_object_set_new(entry, "formation", formation);
    refused_json(m, entry, EBUSY, "1000 process types");
    json_decref(entry);

    entry = json_pack("{s:s,s:s,s:i,s:[]}", "op", "run", "app", "a", "num", 1, "argv");
    json_t *argv = json_object_get(entry, "argv");
    for (int i = 0; i <= MODEL_ARGV_MAX; i++)
        json_array_append_new(argv, json_string("x"));
    refused_json(m, entry, EINVAL, "1001 arguments");
    json_array_clear(argv);
    json_array_append_new(argv, json_string(text));
    json_array_append_new(argv, json_string(text));
    refused_json(m, entry, EINVAL, "argv is over the limit");
    json_decref(entry);
}

static void dynos_have_a_limit(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    struct err e = ERR_INIT;
    char app[16];

    (void)state;
    for (int i = 0; i < 10; i++) {
        (void)snprintf(app, sizeof(app), "a%d", i);
        json_t *entry = release_of(app);
        json_object_set_new(entry, "formation", json_pack("{s:i}", "web", MODEL_COUNT_MAX));
        assert_int_equal(model_apply(m, entry, NULL, &e), 0);
        json_decref(entry);
    }
    refused(m, "{\"op\":\"release\",\"app\":\"b\",\"url\":\"x:y\"}", EBUSY, "100000 dynos");
    refused(m, "{\"op\":\"scale\",\"app\":\"a0\",\"formation\":{\"job\":1}}", EBUSY,
            "100000 dynos");
    apply(m, "{\"op\":\"scale\",\"app\":\"a0\",\"formation\":{\"web\":9999}}");
    apply(m, "{\"op\":\"release\",\"app\":\"b\",\"url\":\"x:y\"}");
    apply(m, "{\"op\":\"forget\",\"app\":\"a1\"}");
    apply(m, "{\"op\":\"scale\",\"app\":\"a0\",\"formation\":{\"job\":10000}}");
    scoped_free struct want *wants = NULL;
    size_t n;
    assert_int_equal(model_wants(m, &wants, &n, &e), 0);
    assert_int_equal(n, 100000);
    /* Restarting one of a stopped app marks all the others: must not take quadratic time. */
    apply(m, "{\"op\":\"stop\",\"app\":\"a0\"}");
    apply(m, "{\"op\":\"restart\",\"app\":\"a0\",\"dyno\":\"web.5\"}");
    assert_int_equal(model_app(m, "a0")->n_stopped, 19998);
}

static void apps_and_oneoffs_have_a_limit(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    struct err e = ERR_INIT;
    char app[16];

    (void)state;
    for (int i = 0; i < MODEL_APPS_MAX; i++) {
        (void)snprintf(app, sizeof(app), "a%d", (i * 7919) % MODEL_APPS_MAX);
        json_t *entry = release_of(app);
        assert_int_equal(model_apply(m, entry, NULL, &e), 0);
        json_decref(entry);
    }
    assert_int_equal(model_n_apps(m), MODEL_APPS_MAX);
    for (size_t i = 1; i < model_n_apps(m); i++)
        assert_true(strcmp(model_app_at(m, i - 1)->name, model_app_at(m, i)->name) < 0);
    json_t *entry = release_of("b");
    assert_int_equal(model_apply(m, entry, NULL, &e), -EBUSY);
    assert_non_null(strstr(e.text, "10000 apps"));
    json_decref(entry);

    for (int i = 0; i <= MODEL_ONEOFFS_MAX; i++) {
        entry =
            json_pack("{s:s,s:s,s:i,s:s}", "op", "run", "app", "a1", "num", i + 1, "command", "x");
        assert_int_equal(model_apply(m, entry, NULL, &e), i < MODEL_ONEOFFS_MAX ? 0 : -EBUSY);
        json_decref(entry);
    }
    model_clear(m);
    assert_int_equal(model_n_apps(m), 0);
    assert_int_equal(model_generation(m), 0);
    apply(m, HELLO);
}

/* --- Numbered dynos --- */

static void expect_formation(const struct model *m, const char *name, const char *text)
{
    struct err e = ERR_INIT;
    json_t *formation = NULL, *expected = parse(text);

    assert_int_equal(app_formation_json(model_app(m, name), &formation, &e), 0);
    if (!json_equal(formation, expected))
        fail_msg("%s, not %s", json_dumps(formation, 0), text);
    json_decref(formation);
    json_decref(expected);
}

#define SHOP                                                                                       \
    "{\"op\":\"release\",\"app\":\"shop\",\"url\":\"x:y\",\"formation\":{\"web\":[4,1],\"job\":2}}"
#define SHOP_TYPES                                                                                 \
    "{\"op\":\"resolve\",\"app\":\"shop\",\"version\":1,\"digest\":\"" HEX_A                       \
    "\",\"types\":[{\"name\":\"web\",\"command\":\"w\"},{\"name\":\"job\",\"command\":\"j\"}]}"

static void a_formation_may_list_numbers(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, SHOP);
    expect_formation(m, "shop", "{\"web\":[1,4],\"job\":2}");
    expect_wants(m, "shop/web.1 shop/web.4 shop/job.1 shop/job.2");
    apply(m, SHOP_TYPES);
    expect_wants(m, "shop/web.1 shop/web.4 shop/job.1 shop/job.2");
    const struct app *app = model_app(m, "shop");
    assert_int_equal(app->types[0].count, 2);
    assert_int_equal(type_num(&app->types[0], 1), 4);
    assert_true(app_in_formation(app, "web", 4));
    assert_false(app_in_formation(app, "web", 2));
    assert_false(app_in_formation(app, "web", 0));
    assert_false(app_in_formation(app, "web", 5));
    /* A list that equals 1 to n is n. */
    apply(m, "{\"op\":\"scale\",\"app\":\"shop\",\"formation\":{\"web\":[3,1,2]}}");
    assert_null(app->types[0].nums);
    expect_formation(m, "shop", "{\"web\":3,\"job\":2}");
    apply(m, "{\"op\":\"scale\",\"app\":\"shop\",\"formation\":{\"web\":[9999999],\"job\":[]}}");
    expect_formation(m, "shop", "{\"web\":[9999999]}");
    expect_wants(m, "shop/web.9999999");
    apply(m, "{\"op\":\"scale\",\"app\":\"shop\",\"formation\":{\"web\":1}}");
    expect_wants(m, "shop/web.1");
}

static void numbered_dynos_stop_and_restart_singly(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, SHOP);
    apply(m, SHOP_TYPES);
    refused(m, "{\"op\":\"stop\",\"app\":\"shop\",\"dyno\":\"web.2\"}", ENOENT, "web.2");
    refused(m, "{\"op\":\"restart\",\"app\":\"shop\",\"dyno\":\"web.3\"}", ENOENT, "web.3");
    apply(m, "{\"op\":\"stop\",\"app\":\"shop\",\"dyno\":\"web.4\"}");
    expect_wants(m, "shop/web.1 shop/job.1 shop/job.2");
    const struct app *app = model_app(m, "shop");
    assert_false(app_wants(app, "web", 4));
    assert_true(app_wants(app, "web", 1));
    assert_false(app_wants(app, "web", 2));
    /* of a stopped app, only what is restarted runs */
    apply(m, "{\"op\":\"stop\",\"app\":\"shop\"}");
    assert_false(app_wants(app, "web", 1));
    apply(m, "{\"op\":\"restart\",\"app\":\"shop\",\"dyno\":\"web.4\"}");
    expect_wants(m, "shop/web.4");
    assert_true(app_wants(app, "web", 4));
    assert_int_equal(app->n_stopped, 3);
    assert_int_equal(app->n_dyno_gens, 1);
    /* what the formation loses is forgotten, with its marks: prune */
    apply(m, "{\"op\":\"scale\",\"app\":\"shop\",\"formation\":{\"web\":[1,3]}}");
    assert_int_equal(app->n_dyno_gens, 0);
    expect_wants(m, "shop/web.1 shop/web.3");
    apply(m, "{\"op\":\"run\",\"app\":\"shop\",\"num\":7,\"command\":\"x\"}");
    assert_true(app_wants(app, "run", 7));
    assert_false(app_wants(app, "run", 8));
    apply(m, "{\"op\":\"stop\",\"app\":\"shop\",\"dyno\":\"run.7\"}");
    assert_false(app_wants(app, "run", 7));
}

static void numbers_are_carried_over(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    struct err e = ERR_INIT;
    json_t *out = NULL;

    (void)state;
    /* a release without a formation keeps them, also those of types that nobody knows yet */
    apply(m, SHOP);
    apply(m, "{\"op\":\"release\",\"app\":\"shop\",\"url\":\"x:z\",\"version\":42}");
    expect_wants(m, "shop/web.1 shop/web.4 shop/job.1 shop/job.2");
    apply(m, "{\"op\":\"scale\",\"app\":\"shop\",\"formation\":{\"odd\":[8]}}");
    expect_formation(m, "shop", "{\"web\":[1,4],\"job\":2,\"odd\":[8]}");
    json_t *entry = parse("{\"op\":\"resolve\",\"app\":\"shop\",\"version\":42,\"digest\":\"" HEX_A
                          "\",\"types\":[{\"name\":\"job\",\"command\":\"j\"},{\"name\":\"web\","
                          "\"command\":\"w\"}]}");
    assert_int_equal(model_apply(m, entry, &out, &e), 0);
    json_t *unknown = parse("[\"odd\"]");
    assert_true(json_equal(json_object_get(out, "unknown_types"), unknown));
    expect_wants(m, "shop/job.1 shop/job.2 shop/web.1 shop/web.4");
    json_decref(unknown);
    json_decref(out);
    json_decref(entry);
}

/* Instance i listens on port n + i - 1, whatever others there are. */
static void ports_of_numbered_dynos(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(
        m,
        "{\"op\":\"release\",\"app\":\"a\",\"dir\":\"/x\",\"types\":[{\"name\":\"web\",\"command\":"
        "\"w\"}],\"formation\":{\"web\":[2,9]},\"ports\":{\"web\":65527}}");
    refused(m, "{\"op\":\"scale\",\"app\":\"a\",\"formation\":{\"web\":[10]}}", EINVAL,
            "the port of web.10 would be 65536");
    apply(m, "{\"op\":\"scale\",\"app\":\"a\",\"formation\":{\"web\":[9]}}");
    assert_int_equal(model_app(m, "a")->types[0].port, 65527);
}

static void number_lists_have_a_limit(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    json_t *entry = release_of("a"), *nums = json_array();
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < MODEL_COUNT_MAX; i++)
        json_array_append_new(nums, json_integer(2 * (MODEL_COUNT_MAX - i)));
    json_object_set_new(entry, "formation", json_pack("{s:O}", "web", nums));
    assert_int_equal(try_json(m, entry, NULL, &e), 0);
    assert_true(app_in_formation(model_app(m, "a"), "web", 20000));
    assert_false(app_in_formation(model_app(m, "a"), "web", 19999));
    json_array_append_new(nums, json_integer(1));
    refused_json(m, entry, EINVAL, "lists 10001 numbers, over the limit of 10000");
    json_decref(nums);
    json_decref(entry);
}

/* --- Releases of a controller --- */

static void versions_may_be_anybodys(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"version\":42}");
    uint64_t generation = model_app(m, "a")->generation;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"version\":41}"); /* a rollback */
    assert_int_equal(model_app(m, "a")->release.version, 41);
    assert_true(model_app(m, "a")->generation > generation); /* replaced all the same */
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"version\":41}");
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    assert_int_equal(model_app(m, "a")->release.version, 42);
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"version\":2147483647}");
    refused(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}", EBUSY, "last version");
}

static void what_a_release_says_is_of_that_release(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    scoped_free struct want *wants = NULL;
    struct err e = ERR_INIT;
    size_t n = 0;

    (void)state;
    apply(m,
          "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"formation\":{\"web\":1,\"clock\":1},"
          "\"stop_after\":{\"clock\":60,\"nobody\":1},\"meta\":{\"app_id\":\"1-2\",\"slug_commit\":"
          "\"abc\"}}");
    apply(m, "{\"op\":\"run\",\"app\":\"a\",\"num\":1,\"command\":\"x\"}");
    assert_int_equal(model_wants(m, &wants, &n, &e), 0);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(wants[i].stop_after, strcmp(wants[i].name.type, "clock") ? 0 : 60);
    assert_string_equal(json_str(model_app(m, "a")->release.meta, "slug_commit", ""), "abc");
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    assert_int_equal(json_object_size(model_app(m, "a")->release.meta), 0);
    assert_int_equal(json_object_size(model_app(m, "a")->release.stop_after), 0);
    assert_false(model_app(m, "a")->controlled);
}

/* --- Commands --- */

#define CONTROL(store, generation, id)                                                             \
    "{\"op\":\"control\",\"by\":{\"store\":\"" store "\",\"generation\":" generation               \
    ",\"id\":\"" id "\"}}"

static void expect_control(const struct model *m, const char *store, uint64_t generation)
{
    assert_string_equal(model_control(m)->store, store);
    assert_int_equal(model_control(m)->generation, generation);
}

static void a_command_is_settled_with_what_it_does(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    expect_control(m, "", 0);
    assert_null(model_command_outcome(m, "c-1"));
    apply(m, "{\"op\":\"release\",\"app\":\"hand\",\"url\":\"x:y\"}");
    apply(m, "{\"op\":\"release\",\"app\":\"shop\",\"url\":\"x:y\",\"by\":{\"store\":\"db-1\","
             "\"generation\":7,\"id\":\"c-1\"}}");
    expect_control(m, "db-1", 7);
    assert_string_equal(model_command_outcome(m, "c-1"), "done");
    assert_true(model_app(m, "shop")->controlled);
    assert_false(model_app(m, "hand")->controlled);
    /* what it cannot do settles nothing */
    refused(m,
            "{\"op\":\"scale\",\"app\":\"no\",\"formation\":{\"web\":1},\"by\":{\"store\":\"db-1\","
            "\"generation\":8,\"id\":\"c-2\"}}",
            ENOENT, "no app 'no'");
    expect_control(m, "db-1", 7);
    assert_null(model_command_outcome(m, "c-2"));
    apply(m, "{\"op\":\"control\",\"by\":{\"store\":\"db-1\",\"generation\":8,\"id\":\"c-2\"},"
             "\"outcome\":\"refused\"}");
    expect_control(m, "db-1", 8);
    assert_string_equal(model_command_outcome(m, "c-2"), "refused");
    /* replayed, reordered */
    refused(m, CONTROL("db-1", "8", "c-3"), ESTALE, "generation 8 of db-1 is not above 8");
    refused(m, CONTROL("db-1", "1", "c-3"), ESTALE, "generation 1 of db-1 is not above 8");
    assert_null(model_command_outcome(m, "c-3"));
    /* the same id under another generation stays what it was */
    apply(m, CONTROL("db-1", "9", "c-2"));
    expect_control(m, "db-1", 9);
    assert_string_equal(model_command_outcome(m, "c-2"), "refused");
}

static void part_of_a_command_settles_nothing(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"by\":{\"store\":\"db-1\"}}");
    assert_true(model_app(m, "a")->controlled);
    expect_control(m, "", 0);
    apply(m, CONTROL("db-2", "5", "c-5"));
    apply(m, "{\"op\":\"stop\",\"app\":\"a\",\"by\":{\"store\":\"db-1\"}}");
    expect_control(m, "db-2", 5);
}

static void another_store_counts_anew(void **state)
{
    scoped(model_freep) struct model *m = new_model();

    (void)state;
    apply(m, CONTROL("db-1", "9223372036854775807", "c-1"));
    expect_control(m, "db-1", INT64_MAX);
    apply(m, CONTROL("db-2", "3", "x-1"));
    expect_control(m, "db-2", 3);
    assert_null(model_command_outcome(m, "c-1")); /* it may be another one there */
    assert_string_equal(model_command_outcome(m, "x-1"), "done");
    refused(m, CONTROL("db-2", "2", "x-2"), ESTALE, "is not above 3");
}

static void the_last_commands_are_known(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    char text[200], id[16];

    (void)state;
    for (int i = 1; i <= MODEL_COMMANDS_KEPT + 10; i++) {
        (void)snprintf(
            text, sizeof(text),
            "{\"op\":\"control\",\"by\":{\"store\":\"s\",\"generation\":%d,\"id\":\"c-%d\"},"
            "\"outcome\":\"%s\"}",
            i, i, i % 3 ? "done" : "refused");
        apply(m, text);
    }
    for (int i = 1; i <= MODEL_COMMANDS_KEPT + 10; i++) {
        (void)snprintf(id, sizeof(id), "c-%d", i);
        const char *outcome = model_command_outcome(m, id);

        if (i <= 10)
            assert_null(outcome);
        else
            assert_string_equal(outcome, i % 3 ? "done" : "refused");
    }
}

/* --- Draining --- */

static void draining_is_remembered(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    const struct drain *d = model_drain_state(m);

    (void)state;
    assert_false(d->on);
    apply(m, "{\"op\":\"undrain\"}");
    apply(m, "{\"op\":\"drain\",\"reason\":\"autoscaling\",\"deadline\":5000,\"since\":4000}");
    d = model_drain_state(m);
    assert_true(d->on);
    assert_string_equal(d->reason, "autoscaling");
    assert_int_equal(d->deadline_real, 5000);
    assert_int_equal(d->since_real, 4000);
    /* a new reason, another deadline; since the same time */
    apply(m, "{\"op\":\"drain\",\"reason\":\"operator\",\"by\":{\"store\":\"s\",\"generation\":1,"
             "\"id\":\"c\"}}");
    d = model_drain_state(m);
    assert_string_equal(d->reason, "operator");
    assert_int_equal(d->deadline_real, 0);
    assert_int_equal(d->since_real, 4000);
    expect_control(m, "s", 1);
    apply(m, HELLO);
    expect_wants(m, "hello/web.1"); /* what is wanted stays */
    apply(m, "{\"op\":\"undrain\",\"by\":{\"store\":\"s\",\"generation\":2,\"id\":\"d\"}}");
    d = model_drain_state(m);
    assert_false(d->on);
    assert_int_equal(d->since_real, 0);
    assert_string_equal(d->reason, "");
    expect_control(m, "s", 2);
    model_clear(m);
    expect_control(m, "", 0);
}

/* --- Two steps, compaction --- */

static void a_dropped_change_changes_nothing(void **state)
{
    static const char *const entries[] = {
        HELLO,
        "{\"op\":\"forget\",\"app\":\"a\"}",
        "{\"op\":\"run\",\"app\":\"a\",\"num\":1,\"command\":\"x\"}",
        "{\"op\":\"generation\",\"generation\":99}",
        "{\"op\":\"drain\",\"reason\":\"spot\"}",
        "{\"op\":\"control\",\"by\":{\"store\":\"s\",\"generation\":1,\"id\":\"c\"}}",
    };
    scoped(model_freep) struct model *m = new_model();
    struct err e = ERR_INIT;

    (void)state;
    apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        struct model_change *change = NULL;
        json_t *entry = parse(entries[i]), *out = NULL;
        char *before = dump(m);

        assert_int_equal(model_prepare(m, entry, &change, &out, &e), 0);
        model_drop(&change);
        assert_null(change);
        model_drop(&change);
        char *after = dump(m);
        assert_string_equal(before, after);
        assert_int_equal(model_prepare(m, out, &change, NULL, &e), 0);
        model_commit(&change);
        assert_null(change);
        json_decref(out);
        json_decref(entry);
        free(before);
        free(after);
        if (i == 1)
            apply(m, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    }
    expect_wants(m, "a/web.1 a/run.1 hello/web.1");
}

static uint64_t seed = 88172645463325252u;

static unsigned below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

/* A number, or a list of numbers, now and then with one twice. */
static json_t *random_numbers(void)
{
    json_t *list;

    if (below(2))
        return json_integer(below(4));
    list = json_array();
    for (unsigned i = 0, n = below(4); i < n; i++)
        json_array_append_new(list, json_integer(1 + below(6)));
    return list;
}

/* A command as new as the last one, or newer; now and then of another store, or a part of one. */
static void add_by(json_t *entry, const struct model *m)
{
    static const char *const stores[] = {"db-1", "db-1", "db-1", "db-2"};
    json_t *by = json_pack("{s:s}", "store", stores[below(4)]);

    if (below(4)) {
        json_object_set_new(by, "generation",
                            json_integer((json_int_t)model_control(m)->generation + below(3)));
        json_object_set_new(by, "id", json_sprintf("c-%u", below(400)));
    }
    json_object_set_new(entry, "by", by);
}

static json_t *random_standing(void)
{
    switch (below(4)) {
    case 0:
        return json_pack("{s:s,s:s,s:i,s:i}", "op", "drain", "reason",
                         below(2) ? "spot" : "operator", "deadline", (int)below(2), "since",
                         (int)below(3));
    case 1:
        return json_pack("{s:s}", "op", below(2) ? "undrain" : "drain");
    default:
        return json_pack("{s:s,s:s}", "op", "control", "outcome", below(2) ? "done" : "refused");
    }
}

/* Any entry, right or wrong. */
static json_t *random_entry(const struct model *m)
{
    static const char *const names[] = {"a", "b", "c"};
    static const char *const dynos[] = {"web.1", "web.2", "job.1", "job.3", "run.1", "run.2"};
    const char *app = names[below(3)];
    const struct app *known = model_app(m, app);
    json_t *types = json_pack("[{s:s,s:s,s:b},{s:s,s:s,s:b}]", "name", "web", "command", "w",
                              "direct", (int)below(2), "name", below(2) ? "job" : "release",
                              "command", "j", "from_release_file", (int)below(2));
    json_t *e = NULL;

    switch (below(14)) {
    case 10:
    case 11:
        e = random_standing();
        break;
    case 0:
        e = json_pack("{s:s,s:s,s:s,s:s,s:o*,s:{s:s},s:b}", "op", "release", "app", app,
                      below(2) ? "url" : "dir", "/x", "size", below(2) ? "" : "standard-2x",
                      "types", below(2) ? json_incref(types) : NULL, "env", "K", "v\001", "restart",
                      (int)below(2));
        if (below(2))
            json_object_set_new(e, "created", json_integer(below(1000)));
        if (below(3) == 0)
            json_object_set_new(e, "digest", json_string(HEX_A));
        if (below(3) == 0)
            json_object_set_new(e, "ports", json_pack("{s:i}", "web", 5000));
        if (below(3) == 0)
            json_object_set_new(e, "formation",
                                json_pack("{s:o,s:i}", "job", random_numbers(), "web", 1));
        if (below(3) == 0)
            json_object_set_new(e, "version", json_integer(1 + below(9)));
        if (below(3) == 0)
            json_object_set_new(e, "stop_after", json_pack("{s:i}", "job", 1 + below(99)));
        if (below(3) == 0)
            json_object_set_new(e, "meta", json_pack("{s:s}", "app_id", "1-2"));
        break;
    case 1:
    case 2:
        e = json_pack("{s:s,s:s,s:i,s:O}", "op", "resolve", "app", app, "version",
                      known ? (int)known->release.version : 1, "types", types);
        if (below(2))
            json_object_set_new(e, "digest", json_string(HEX_A));
        break;
    case 3:
    case 4:
        e = json_pack("{s:s,s:s,s:{s:o}}", "op", "scale", "app", app, "formation",
                      below(2) ? "web" : "job", random_numbers());
        break;
    case 5:
        e = json_pack("{s:s,s:s,s:s*}", "op", "stop", "app", app, "dyno",
                      below(4) ? dynos[below(6)] : NULL);
        break;
    case 6:
        e = json_pack("{s:s,s:s,s:s*}", "op", "restart", "app", app, "dyno",
                      below(4) ? dynos[below(6)] : NULL);
        break;
    case 7:
        e = json_pack("{s:s,s:s,s:i,s:b,s:{s:s}}", "op", "run", "app", app, "num", 1 + below(3),
                      "attached", (int)below(2), "env", "N", "v");
        if (below(2))
            json_object_set_new(e, "command", json_string("ls | wc"));
        else
            json_object_set_new(e, "argv", json_pack("[s,s]", "ls", "-l"));
        if (below(2))
            json_object_set_new(e, "size", json_string("standard-2x"));
        break;
    case 12:
    case 13:
        e = json_pack("{s:s,s:s,s:s}", "op", "resize", "app", app, "size",
                      below(2) ? "standard-2x" : "performance-m");
        if (below(2))
            json_object_set_new(e, "dyno", json_string(dynos[below(6)]));
        else if (below(2))
            json_object_set_new(e, "type", json_string(below(2) ? "web" : "job"));
        break;
    case 8:
        e = json_pack("{s:s,s:s,s:i}", "op", "ran", "app", app, "num", 1 + below(3));
        break;
    default:
        e = json_pack("{s:s,s:s}", "op", below(8) ? "restart" : "forget", "app", app);
        break;
    }
    json_decref(types);
    assert_non_null(e);
    if (below(3) == 0)
        add_by(e, m);
    return e;
}

static void add_json(struct str *out, const json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) : NULL;

    str_addf(out, " %s", text ? text : "-");
    free(text);
}

static void add_app_state(struct str *out, const struct app *a)
{
    const struct release *r = &a->release;

    str_addf(out, "\n%s v%u %s %s %s %d %s %d %ju", a->name, r->version, r->url ? r->url : "-",
             r->dir ? r->dir : "-", r->has_digest ? r->digest.hex : "-", r->resolved, r->size,
             r->restart, (uintmax_t)r->created);
    add_json(out, r->env);
    add_json(out, r->stop_after);
    add_json(out, r->meta);
    add_json(out, a->sizes);
    str_addf(out, " controlled %d", a->controlled);
    str_addf(out, " stopped %d generation %ju", a->stopped, (uintmax_t)a->generation);
    for (size_t i = 0; i < a->n_types; i++) {
        const struct want_type *t = &a->types[i];

        str_addf(out, "\n type %s '%s' %u %d %d %u", t->name, t->command ? t->command : "-",
                 t->count, t->from_release_file, t->direct, t->port);
        add_json(out, t->nums);
    }
    for (size_t i = 0; i < a->n_oneoffs; i++) {
        const struct oneoff *o = &a->oneoffs[i];

        str_addf(out, "\n run.%u '%s' %s %d %ju", o->num, o->command ? o->command : "-", o->size,
                 o->attached, (uintmax_t)o->generation);
        add_json(out, o->argv);
        add_json(out, o->env);
    }
    for (size_t i = 0; i < a->n_stopped; i++)
        str_addf(out, "\n stopped %s.%u", a->stopped_dynos[i].type, a->stopped_dynos[i].num);
    for (size_t i = 0; i < a->n_dyno_gens; i++)
        str_addf(out, "\n %s.%u generation %ju", a->dyno_gens[i].name.type,
                 a->dyno_gens[i].name.num, (uintmax_t)a->dyno_gens[i].generation);
}

static void add_standing(struct str *out, const struct model *m)
{
    const struct control *c = model_control(m);
    const struct drain *d = model_drain_state(m);
    char id[16];

    str_addf(out, "%ju obeys %s %ju, drain %d %s %ju %ju", (uintmax_t)model_generation(m), c->store,
             (uintmax_t)c->generation, d->on, d->reason, (uintmax_t)d->deadline_real,
             (uintmax_t)d->since_real);
    for (int i = 0; i < 400; i++) {
        (void)snprintf(id, sizeof(id), "c-%d", i);
        if (model_command_outcome(m, id))
            str_addf(out, " %s %s", id, model_command_outcome(m, id));
    }
}

/* Every field that the model shows, said without the help of model_entries(): what that one forgot
 * would be missing on both sides. */
static void same_state(const struct model *a, const struct model *b)
{
    scoped(str_done) struct str x = {0}, y = {0};

    add_standing(&x, a);
    add_standing(&y, b);
    for (size_t i = 0; i < model_n_apps(a); i++)
        add_app_state(&x, model_app_at(a, i));
    for (size_t i = 0; i < model_n_apps(b); i++)
        add_app_state(&y, model_app_at(b, i));
    assert_false(x.failed || y.failed);
    assert_string_equal(str_text(&x), str_text(&y));
}

static void same_wants(const struct model *a, const struct model *b)
{
    char *x = wants_text(a, true), *y = wants_text(b, true);

    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* Compaction says the whole state, whatever led to it: what is made anew from it gives the same
 * wants, the same compaction, and goes on to the same future. */
static void compaction_makes_the_same_model(void **state)
{
    scoped(model_freep) struct model *m = new_model();
    unsigned accepted = 0;

    (void)state;
    for (int round = 0; round < 4000; round++) {
        scoped(model_freep) struct model *again = new_model();
        struct err e = ERR_INIT;
        json_t *entry = random_entry(m), *entries = model_entries(m), *one;
        size_t i;

        json_array_foreach (entries, i, one) {
            if (model_apply(again, one, NULL, &e) < 0)
                fail_msg("%s", e.text);
        }
        json_decref(entries);
        char *x = dump(m), *y = dump(again);
        assert_string_equal(x, y);
        free(x);
        free(y);
        same_state(m, again);
        same_wants(m, again);
        int r = try_json(m, entry, NULL, &e);
        assert_int_equal(try_json(again, entry, NULL, &e), r);
        same_state(m, again);
        accepted += r == 0;
        json_decref(entry);
    }
    assert_in_range(accepted, 1500, 3900); /* both kinds are exercised */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_release_gets_one_web),
        cmocka_unit_test(a_later_release_keeps_the_formation),
        cmocka_unit_test(without_a_web_type_nothing_starts),
        cmocka_unit_test(resolve_checks_what_was_stored),
        cmocka_unit_test(completed_entries_replay),
        cmocka_unit_test(ports_of_local_mode),
        cmocka_unit_test(stop_lasts_until_scale_restart_or_release),
        cmocka_unit_test(scale_ends_the_stop_of_its_types_only),
        cmocka_unit_test(restart_of_one_dyno),
        cmocka_unit_test(generations_are_never_used_twice),
        cmocka_unit_test(oneoffs_come_and_go),
        cmocka_unit_test(bad_entries_are_refused),
        cmocka_unit_test(strings_have_limits),
        cmocka_unit_test(lists_have_limits),
        cmocka_unit_test(dynos_have_a_limit),
        cmocka_unit_test(apps_and_oneoffs_have_a_limit),
        cmocka_unit_test(a_formation_may_list_numbers),
        cmocka_unit_test(numbered_dynos_stop_and_restart_singly),
        cmocka_unit_test(numbers_are_carried_over),
        cmocka_unit_test(ports_of_numbered_dynos),
        cmocka_unit_test(number_lists_have_a_limit),
        cmocka_unit_test(versions_may_be_anybodys),
        cmocka_unit_test(what_a_release_says_is_of_that_release),
        cmocka_unit_test(a_command_is_settled_with_what_it_does),
        cmocka_unit_test(part_of_a_command_settles_nothing),
        cmocka_unit_test(another_store_counts_anew),
        cmocka_unit_test(the_last_commands_are_known),
        cmocka_unit_test(draining_is_remembered),
        cmocka_unit_test(a_dropped_change_changes_nothing),
        cmocka_unit_test(the_nearest_size_counts),
        cmocka_unit_test(a_bad_resize_is_refused),
        cmocka_unit_test(compaction_makes_the_same_model),
    };

    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
