/* test_cli_text.c - what the command line prints: words, tables, lines. */
#include "base/clock.h"
#include "base/name.h"
#include "cli/call.h"
#include "cli/foreman.h"
#include "cli/logline.h"
#include "cli/pstable.h"
#include "cli/started.h"
#include "cli/table.h"
#include "cli/target.h"
#include "cli/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void durations_have_their_two_largest_units(void **state)
{
    static const struct {
        uint64_t seconds;
        const char *want;
    } cases[] = {{0, "0s"},         {59, "59s"},     {60, "1m0s"},
                 {3599, "59m59s"},  {3600, "1h0m"},  {7380, "2h3m"},
                 {86399, "23h59m"}, {86400, "1d0h"}, {273600, "3d4h"}};
    char out[TEXT_DURATION_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(text_duration(cases[i].seconds * USEC_PER_SEC + 999999, out),
                            cases[i].want);
    assert_true(strlen(text_duration(UINT64_MAX, out)) > 3);
}

static void memory_is_short(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *want;
    } cases[] = {{0, "0"},
                 {1023, "1023"},
                 {1024, "1.0K"},
                 {22020096, "21.0M"},
                 {536870912, "512M"},
                 {1073741823, "1.0G"},
                 {2684354560, "2.5G"},
                 {UINT64_MAX, "16.0E"}};
    char out[TEXT_MEMORY_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(text_memory(cases[i].bytes, out), cases[i].want);
}

static void app_names_are_made_of_paths(void **state)
{
    static const char *const cases[][2] = {
        {"/home/me/My App", "my-app"},
        {"/srv/shop/", "shop"},
        {"/", "local"},
        {"123", "local"},
        {"/x/2shops", "shops"},
        {"a__b..c", "a-b-c"},
        {"-", "local"},
        {"caf\xc3\xa9", "caf"},
        {"", "local"},
        {"/a/b--", "b"},
    };
    char out[APP_NAME_MAX + 1], longest[300];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(text_app_name(cases[i][0], out), cases[i][1]);
        assert_true(app_name_valid(out));
    }
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(strlen(text_app_name(longest, out)), APP_NAME_MAX);
    memset(longest, 'a', 62);
    strcpy(longest + 62, "---b"); /* the cut falls on a dash */
    assert_true(app_name_valid(text_app_name(longest, out)));
}

static void exits_are_told_as_foreman_does(void **state)
{
    char out[64];

    (void)state;
    assert_string_equal(text_exit(0, out, sizeof(out)), "exited with code 0");
    assert_string_equal(text_exit(127, out, sizeof(out)), "exited with code 127");
    assert_string_equal(text_exit(137, out, sizeof(out)), "terminated by SIGKILL");
    assert_string_equal(text_exit(143, out, sizeof(out)), "terminated by SIGTERM");
    assert_string_equal(text_exit(255, out, sizeof(out)), "exited with code 255");
}

static void expect_terminal(const char *text, const char *want)
{
    struct str out = {0};

    text_terminal(&out, text, strlen(text));
    assert_string_equal(str_text(&out), want);
    str_done(&out);
}

static void a_terminal_gets_colours_and_nothing_else(void **state)
{
    struct str longest = {0}, out = {0};

    (void)state;
    expect_terminal("plain", "plain");
    expect_terminal("a\tb", "a\tb");
    expect_terminal("caf\xc3\xa9", "caf\xc3\xa9");
    expect_terminal("\x1b[31mred", "\x1b[31mred\x1b[0m");
    expect_terminal("\x1b[1;32mok\x1b[0m", "\x1b[1;32mok\x1b[0m\x1b[0m");
    expect_terminal("\x1b[2Jgone", "\\x1b[2Jgone");
    expect_terminal("\x1b]0;title\x07", "\\x1b]0;title\\x07");
    expect_terminal("\x1b[31", "\\x1b[31");
    expect_terminal("\x9b"
                    "31m",
                    "\\x9b31m");
    expect_terminal("back\rover", "back\\x0dover");
    expect_terminal("crlf\r", "crlf");
    /* Longer than any buffer, with characters of two bytes across its borders. */
    str_add(&longest, "x");
    for (int i = 0; i < 3000; i++)
        str_add(&longest, "\xc3\xa9");
    text_terminal(&out, longest.data, longest.len);
    assert_string_equal(out.data, longest.data);
    str_done(&out);
    str_done(&longest);
}

static void tables_are_aligned(void **state)
{
    struct table t = {0};
    struct str out = {0};

    (void)state;
    table_cell(&t, NULL, "NAME");
    table_cell(&t, NULL, "N");
    table_cell(&t, NULL, "NOTE");
    table_end_row(&t);
    table_cell(&t, COLOR_RED, "caf\xc3\xa9s");
    table_cell(&t, NULL, "%d", 1000);
    table_cell(&t, NULL, "bad\x1b[2J");
    table_end_row(&t);
    table_render(&t, &out, false);
    assert_string_equal(out.data, "NAME   N     NOTE\ncaf\xc3\xa9s  1000  bad\\x1b[2J\n");
    str_done(&out);
    table_render(&t, &out, true);
    assert_non_null(strstr(out.data, COLOR_RED "caf\xc3\xa9s" COLOR_RESET "  1000"));
    str_done(&out);
    table_done(&t);
}

static void foreman_lines(void **state)
{
    struct proc_type types[] = {{.name = "web"}, {.name = "a-long-worker"}};
    struct procfile p = {.types = types, .n_types = 2};
    const struct tm when = {.tm_hour = 9, .tm_min = 5, .tm_sec = 7};
    const unsigned only_web[] = {1, 0}, both[] = {1, 10};
    struct foreman f;
    struct str out = {0};

    (void)state;
    foreman_init(&f, &p, only_web, false, false);
    foreman_line(&f, &out, &when, "web.1", "text", 4);
    foreman_line(&f, &out, &when, "system", "\x1b[2J", 4);
    assert_string_equal(out.data, "09:05:07 web.1    | text\n09:05:07 system   | \x1b[2J\n");
    str_done(&out);

    foreman_init(&f, &p, both, true, true);
    foreman_line(&f, &out, &when, "web.1", "a\x1b[2J", 5);
    foreman_line(&f, &out, &when, "a-long-worker.10", "b", 1);
    assert_string_equal(out.data, "\x1b[36m09:05:07 web.1            | \x1b[0ma\\x1b[2J\n"
                                  "\x1b[33m09:05:07 a-long-worker.10 | \x1b[0mb\n");
    str_done(&out);
}

static void log_lines_are_coloured_by_dyno(void **state)
{
    static const char line[] = "2026-11-21T20:31:00.000001+00:00 app[web.1]: hi [x]: there";
    struct str out = {0};

    (void)state;
    log_line(&out, line, strlen(line), false, false);
    assert_string_equal(out.data, line);
    str_done(&out);
    log_line(&out, line, strlen(line), true, true);
    assert_non_null(strstr(out.data, "app[web.1]:" COLOR_RESET " hi [x]: there"));
    assert_non_null(strstr(out.data, color_of("web.1]:")));
    str_done(&out);
    /* Not a log line: as it is, but safe. */
    log_line(&out, "no\x1b[2J prefix", 13, true, true);
    assert_string_equal(out.data, "no\\x1b[2J prefix");
    str_done(&out);
}

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *j = json_loads(text, 0, &why);

    assert_non_null(j);
    return j;
}

static void events_become_sentences(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"{\"t\":\"T\",\"kind\":\"state\",\"app\":\"shop\",\"dyno\":\"web.1\",\"from\":\"starting\","
         "\"to\":\"up\",\"release\":3}",
         "T state shop/web.1 starting -> up v3"},
        {"{\"t\":\"T\",\"kind\":\"exit\",\"app\":\"shop\",\"dyno\":\"web.1\",\"cause\":\"exited\","
         "\"fault\":\"app\",\"text\":\"it said \\u001b[2J\"}",
         "T exit shop/web.1 exited: it said \\x1b[2J (app's fault)"},
        {"{\"t\":\"T\",\"kind\":\"agent\",\"text\":\"started\",\"fault\":\"none\"}",
         "T agent: started"},
        {"{\"t\":\"T\",\"kind\":\"fetch\",\"state\":\"failed\",\"digest\":\"sha256:"
         "0123456789abcdef\",\"text\":\"HTTP status 404\",\"fault\":\"operator\"}",
         "T fetch sha256:0123456789ab failed: HTTP status 404 (operator's fault)"},
        {"{\"t\":\"T\",\"kind\":\"slug\",\"outcome\":\"removed\",\"digest\":\"sha256:01\"}",
         "T slug sha256:01 removed"},
        {"{\"t\":\"T\",\"kind\":\"link\",\"state\":\"registered\"}", "T link"},
        {"{}", "- -"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct str out = {0};
        json_t *event = parse(cases[i].json);

        event_line(&out, event, false);
        assert_string_equal(out.data, cases[i].want);
        str_done(&out);
        json_decref(event);
    }
}

static void ps_shows_what_matters(void **state)
{
    json_t *dynos = parse(
        "[{\"app\":\"shop\",\"dyno\":\"web.1\",\"state\":\"up\",\"release\":3,\"port\":10000,"
        "\"restarts\":2,\"uptime_ms\":7380000,\"memory\":22020096,\"memory_quota\":536870912,"
        "\"cpu_percent\":12.34,\"pids\":9,\"pids_max\":256,\"disk\":2097152,"
        "\"disk_quota\":1073741824,"
        "\"last_exit\":{\"status\":1,\"fault\":\"app\"}},"
        "{\"app\":\"shop\",\"dyno\":\"worker.1\",\"state\":\"crashed\",\"release\":3,\"port\":null,"
        "\"restarts\":9,\"uptime_ms\":0,\"last_exit\":{\"cause\":\"exited\",\"status\":1,"
        "\"fault\":\"app\"},\"next_start_ms\":42000}]");
    struct str out = {0};

    (void)state;
    ps_table(dynos, false, &out);
    assert_string_equal(
        out.data,
        "DYNO           STATE    UPTIME  RESTARTS  MEMORY        CPU    PIDS     DISK"
        "         PORT   RELEASE\n"
        "shop/web.1     up       2h3m    2         21.0M / 512M  12.3%  9 / 256  2.0M / 1.0G"
        "  10000  v3\n"
        "shop/worker.1  crashed  -       9         -             -      -        -"
        "            -      v3       "
        "exit 1, app's fault; next start in 42s\n");
    str_done(&out);
    json_decref(dynos);
}

static void last_exits_in_words(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {{"{\"status\":1,\"fault\":\"app\"}", "exit 1, app's fault"},
                 {"{\"status\":0,\"fault\":\"none\"}", "exit 0"},
                 {"{\"status\":-1,\"cause\":\"start-failed\",\"fault\":\"platform\"}",
                  "start-failed, platform's fault"},
                 {"{\"evidence\":{\"exit_status\":137},\"fault\":\"operator\"}",
                  "exit 137, operator's fault"},
                 {"{\"status\":\"1\"}", "ended"},
                 {"[]", ""}};
    char out[PS_EXIT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *j = parse(cases[i].json);

        assert_string_equal(ps_exit(j, out), cases[i].want);
        json_decref(j);
    }
    assert_string_equal(ps_exit(NULL, out), "");
}

static void targets(void **state)
{
    static const char *const bad[] = {"",          "Shop",        "shop/",  "shop/web",
                                      "shop/web.", "shop/web.0x", "/web.1", "shop/web.1/x",
                                      "-rf",       "../x"};
    struct target t;
    struct err e = ERR_INIT;
    char path[CALL_PATH_MAX];

    (void)state;
    assert_int_equal(target_parse("shop", &t, &e), 0);
    assert_string_equal(call_path(&t, "stop", path), "/v1/apps/shop/stop");
    assert_int_equal(target_parse("shop/web.12", &t, &e), 0);
    assert_string_equal(call_path(&t, NULL, path), "/v1/dynos/shop/web.12");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        e = (struct err)ERR_INIT;
        assert_int_equal(target_parse(bad[i], &t, &e), -EINVAL);
        assert_int_equal(e.fault, FAULT_OPERATOR);
        assert_non_null(strstr(e.text, bad[i]));
    }
    assert_int_equal(target_parse_dyno("shop", &t, &e), -EINVAL);
}

static void slug_addresses(void **state)
{
    static const char *const cases[][3] = {
        {"/a/b.tgz", "/w", "file:///a/b.tgz"},        {"b.tgz", "/w", "file:///w/b.tgz"},
        {"./b.tgz", "/", "file:///./b.tgz"},          {"https://h/x.tgz", "/w", "https://h/x.tgz"},
        {"s3://bucket/key", "/w", "s3://bucket/key"}, {"C:/x", "/w", "file:///w/C:/x"},
    };
    struct err e = ERR_INIT;
    struct str escaped = {0};
    char *url;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(slug_url(cases[i][0], cases[i][1], &url, &e), 0);
        assert_string_equal(url, cases[i][2]);
        free(url);
    }
    assert_int_equal(slug_url("", "/w", &url, &e), -EINVAL);
    url_escape(&escaped, "a b&c=\xc3\xa9/~");
    assert_string_equal(escaped.data, "a%20b%26c%3D%C3%A9%2F~");
    str_done(&escaped);
}

static void formations(void **state)
{
    static const char *const bad[] = {"web", "web=",   "web=-1",      "web=101",
                                      "",    "web=1,", "web=1,web=2", "all=1"};
    struct err e = ERR_INIT;
    json_t *f = json_object();

    (void)state;
    assert_int_equal(cli_formation("web=2,worker=0", f, &e), 0);
    assert_int_equal(json_integer_value(json_object_get(f, "web")), 2);
    assert_int_equal(json_integer_value(json_object_get(f, "worker")), 0);
    json_decref(f);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        f = json_object();
        assert_true(cli_formation(bad[i], f, &e) < 0);
        assert_int_equal(e.fault, FAULT_OPERATOR);
        json_decref(f);
    }
}

static enum started look(const char *app, const char *dynos)
{
    json_t *a = parse(app), *d = parse(dynos);
    enum started what = started_look(a, d, NULL, 3);

    json_decref(a);
    json_decref(d);
    return what;
}

static void a_start_is_over_when_all_are_up_or_one_crashed(void **state)
{
    static const char two[] = "{\"release\":{\"version\":3},\"formation\":{\"web\":1,\"w\":1}}";

    (void)state;
    assert_int_equal(look(two, "[]"), STARTED_NOT_YET);
    assert_int_equal(look(two, "[{\"release\":3,\"state\":\"up\"}]"), STARTED_NOT_YET);
    assert_int_equal(
        look(two, "[{\"release\":3,\"state\":\"up\"},{\"release\":3,\"state\":\"starting\"}]"),
        STARTED_NOT_YET);
    assert_int_equal(
        look(two, "[{\"release\":3,\"state\":\"up\"},{\"release\":3,\"state\":\"up\"}]"),
        STARTED_UP);
    /* The old release's dynos first have to go. */
    assert_int_equal(
        look(two, "[{\"release\":3,\"state\":\"up\"},{\"release\":2,\"state\":\"up\"}]"),
        STARTED_NOT_YET);
    assert_int_equal(
        look(two, "[{\"release\":3,\"state\":\"crashed\"},{\"release\":3,\"state\":\"up\"}]"),
        STARTED_CRASHED);
    /* Dynos by their numbers. */
    assert_int_equal(look("{\"release\":{\"version\":3},\"formation\":{\"web\":[2,9]}}",
                          "[{\"release\":3,\"state\":\"up\"}]"),
                     STARTED_NOT_YET);
    assert_int_equal(look("{\"release\":{\"version\":3},\"formation\":{\"web\":[2,9]}}",
                          "[{\"release\":3,\"state\":\"up\"},{\"release\":3,\"state\":\"up\"}]"),
                     STARTED_UP);
    /* A one-off's end is not the formation's. */
    assert_int_equal(look(two, "[{\"type\":\"run\",\"release\":3,\"state\":\"crashed\"}]"),
                     STARTED_NOT_YET);
    assert_int_equal(look("{\"release\":{\"version\":4},\"formation\":{}}", "[]"), STARTED_OTHER);
    assert_int_equal(
        look("{\"release\":{\"version\":3,\"resolved\":false},\"formation\":{}}", "[]"),
        STARTED_NOT_YET);
    assert_int_equal(look("{\"release\":{\"version\":3},\"formation\":{\"web\":0}}", "[]"),
                     STARTED_UP);
}

static void a_type_that_lacks_is_noticed(void **state)
{
    json_t *wanted = parse("{\"web\":0,\"nosuch\":1}");
    json_t *app = parse("{\"release\":{\"version\":3,\"resolved\":true},"
                        "\"formation\":{\"web\":0}}");
    json_t *not_yet = parse("{\"release\":{\"version\":3,\"resolved\":false},\"formation\":{}}");
    json_t *none = json_array();

    (void)state;
    assert_int_equal(started_look(app, none, wanted, 3), STARTED_NO_TYPE);
    assert_string_equal(started_missing(app, wanted), "nosuch");
    assert_int_equal(started_look(not_yet, none, wanted, 3), STARTED_NOT_YET);
    json_decref(wanted);
    json_decref(app);
    json_decref(not_yet);
    json_decref(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_have_their_two_largest_units),
        cmocka_unit_test(memory_is_short),
        cmocka_unit_test(app_names_are_made_of_paths),
        cmocka_unit_test(exits_are_told_as_foreman_does),
        cmocka_unit_test(a_terminal_gets_colours_and_nothing_else),
        cmocka_unit_test(tables_are_aligned),
        cmocka_unit_test(foreman_lines),
        cmocka_unit_test(log_lines_are_coloured_by_dyno),
        cmocka_unit_test(events_become_sentences),
        cmocka_unit_test(ps_shows_what_matters),
        cmocka_unit_test(last_exits_in_words),
        cmocka_unit_test(targets),
        cmocka_unit_test(slug_addresses),
        cmocka_unit_test(formations),
        cmocka_unit_test(a_start_is_over_when_all_are_up_or_one_crashed),
        cmocka_unit_test(a_type_that_lacks_is_noticed),
    };
    return cmocka_run_group_tests_name("cli_text", tests, NULL, NULL);
}
