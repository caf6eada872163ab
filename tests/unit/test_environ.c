#include "core/run/environ.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *value_of(char **env, const char *name)
{
    size_t len = strlen(name);

    for (; *env; env++)
        if (!strncmp(*env, name, len) && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

static char **make_told(struct environ_facts *f, json_t *vars, json_t *extra, json_t *meta)
{
    struct app app = {.name = "hello", .release = {.version = 7, .env = vars, .meta = meta}};
    struct err e = ERR_INIT;
    char **env = NULL;

    f->app = &app;
    assert_int_equal(environ_make(f, extra, &env, &e), 0);
    json_decref(vars);
    json_decref(extra);
    json_decref(meta);
    return env;
}

static char **make(struct environ_facts *f, json_t *vars, json_t *extra)
{
    return make_told(f, vars, extra, NULL);
}

static void defaults(void **state)
{
    struct environ_facts f = {.dyno = "web.1", .port = 5000};
    char **env = make(&f, json_object(), NULL);

    (void)state;
    assert_string_equal(value_of(env, "HOME"), "/app");
    assert_string_equal(value_of(env, "PATH"), "/usr/local/bin:/usr/bin:/bin");
    assert_string_equal(value_of(env, "USER"), "dyno");
    assert_string_equal(value_of(env, "LOGNAME"), "dyno");
    assert_string_equal(value_of(env, "SHELL"), "/bin/bash");
    assert_string_equal(value_of(env, "DYNO"), "web.1");
    assert_string_equal(value_of(env, "PORT"), "5000");
    assert_string_equal(value_of(env, "HEROKU_RELEASE_VERSION"), "v7");
    assert_string_equal(value_of(env, "HEROKU_APP_NAME"), "hello");
    assert_null(value_of(env, "TERM"));
    environ_free(env);
}

static void what_the_controller_tells(void **state)
{
    struct environ_facts f = {.dyno = "web.1", .run = "hello.web.1.0000002a"};
    char **env = make_told(&f, json_pack("{s:s}", "HEROKU_SLUG_COMMIT", "mine"), NULL,
                           json_pack("{s:s,s:s,s:s,s:s,s:s}", "app_id", "11-22", "app_name",
                                     "Hello", "created_at", "2026-01-02T03:04:05Z", "slug_commit",
                                     "abc", "slug_description", "Deploy abc\nby somebody"));

    (void)state;
    assert_string_equal(value_of(env, "HEROKU_APP_ID"), "11-22");
    assert_string_equal(value_of(env, "HEROKU_APP_NAME"), "Hello");
    assert_string_equal(value_of(env, "HEROKU_RELEASE_VERSION"), "v7");
    assert_string_equal(value_of(env, "HEROKU_RELEASE_CREATED_AT"), "2026-01-02T03:04:05Z");
    assert_string_equal(value_of(env, "HEROKU_SLUG_COMMIT"), "mine"); /* a config var */
    assert_string_equal(value_of(env, "HEROKU_SLUG_DESCRIPTION"), "Deploy abc\nby somebody");
    assert_string_equal(value_of(env, "HEROKU_DYNO_ID"), "hello.web.1.0000002a");
    environ_free(env);

    /* what it does not tell is what the agent knows, or nothing */
    env = make_told(&f, json_object(), NULL, json_pack("{s:s}", "app_id", "11-22"));
    assert_string_equal(value_of(env, "HEROKU_APP_NAME"), "hello");
    assert_null(value_of(env, "HEROKU_SLUG_COMMIT"));
    assert_string_equal(value_of(env, "HEROKU_DYNO_ID"), "hello.web.1.0000002a");
    environ_free(env);

    env = make_told(&f, json_object(), NULL, json_object());
    assert_null(value_of(env, "HEROKU_APP_ID"));
    assert_null(value_of(env, "HEROKU_DYNO_ID"));
    environ_free(env);
}

/* A value is not cut, however long. */
static void a_long_description_is_whole(void **state)
{
    struct environ_facts f = {.dyno = "web.1"};
    char text[MODEL_META_MAX + 1];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    char **env = make_told(&f, json_object(), NULL, json_pack("{s:s}", "slug_description", text));
    assert_string_equal(value_of(env, "HEROKU_SLUG_DESCRIPTION"), text);
    environ_free(env);
}

static void config_vars_beat_all_but_port_and_dyno(void **state)
{
    struct environ_facts f = {.dyno = "web.2", .port = 5001};
    json_t *vars =
        json_pack("{s:s,s:s,s:s,s:s}", "PATH", "/mine", "PORT", "1", "DYNO", "x", "A", "1");
    char **env = make(&f, vars, json_pack("{s:s}", "A", "2"));

    (void)state;
    assert_string_equal(value_of(env, "PATH"), "/mine");
    assert_string_equal(value_of(env, "PORT"), "5001");
    assert_string_equal(value_of(env, "DYNO"), "web.2");
    assert_string_equal(value_of(env, "A"), "2");
    environ_free(env);
}

static void only_a_port_where_there_is_one(void **state)
{
    struct environ_facts f = {.dyno = "run.1", .term = "xterm", .rows = 24, .cols = 80};
    char **env = make(&f, json_object(), NULL);

    (void)state;
    assert_null(value_of(env, "PORT"));
    assert_string_equal(value_of(env, "TERM"), "xterm");
    assert_string_equal(value_of(env, "LINES"), "24");
    assert_string_equal(value_of(env, "COLUMNS"), "80");
    environ_free(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(what_the_controller_tells),
        cmocka_unit_test(a_long_description_is_whole),
        cmocka_unit_test(config_vars_beat_all_but_port_and_dyno),
        cmocka_unit_test(only_a_port_where_there_is_one),
    };

    return cmocka_run_group_tests_name("environ", tests, NULL, NULL);
}
