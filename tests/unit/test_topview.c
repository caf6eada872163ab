/* What `dyno top` makes of the API's answers. */
#include "cli/topview.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static json_t *answer(uint64_t cpu_a, uint64_t cpu_b, const char *run_b)
{
    json_t *j = json_pack(
        "{s:{s:s,s:i,s:n,s:{s:b}},s:[{s:s,s:s,s:s,s:s,s:s,s:I,s:f,s:I,s:I,s:i,s:i},"
        "{s:s,s:s,s:s,s:s,s:s,s:I,s:f,s:I,s:I,s:i,s:i,s:i,s:I}]}",
        "status", "version", "1.2", "uptime_ms", 61000, "link", "instance", "draining", 0, "dynos",
        /* the first */
        "app", "shop", "dyno", "web.10", "state", "up", "run", "shop.web.10.1", "command",
        "ruby \x1b[31mred\x1b[0m", "cpu_usec", (json_int_t)cpu_a, "cpu_percent", 1.5, "memory",
        (json_int_t)600 << 20, "memory_quota", (json_int_t)512 << 20, "pids", 3, "pids_max", 256,
        /* the second */
        "app", "shop", "dyno", "web.9", "state", "paused", "run", run_b, "command", "perl",
        "cpu_usec", (json_int_t)cpu_b, "cpu_percent", 2.5, "memory", (json_int_t)1 << 20,
        "memory_quota", (json_int_t)512 << 20, "pids", 9, "pids_max", 256, "disk", 1048576,
        "disk_quota", (json_int_t)1 << 30);

    assert_non_null(j);
    return j;
}

static const struct top_row *row(const struct top *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->rows[i].name, name))
            return &t->rows[i];
    fail_msg("no row %s", name);
    return NULL;
}

static void cpu_is_what_was_used_between_two_answers(void **state)
{
    struct top t = {0};

    (void)state;
    assert_int_equal(top_take(&t, answer(1000000, 5000000, "b.1"), 10 * USEC_PER_SEC), 0);
    assert_float_equal(row(&t, "shop/web.10")->cpu, 1.5, 0.001); /* the agent's word */
    assert_int_equal(top_take(&t, answer(2500000, 100, "b.2"), 11 * USEC_PER_SEC), 0);
    assert_float_equal(row(&t, "shop/web.10")->cpu, 150, 0.001);
    assert_float_equal(row(&t, "shop/web.9")->cpu, 2.5, 0.001); /* another run: no difference */
    /* The same answer again, in no time; and a counter that ran backwards. */
    assert_int_equal(top_take(&t, answer(2500000, 100, "b.2"), 11 * USEC_PER_SEC), 0);
    assert_float_equal(row(&t, "shop/web.10")->cpu, 1.5, 0.001);
    assert_int_equal(top_take(&t, answer(1, 100, "b.2"), 12 * USEC_PER_SEC), 0);
    assert_float_equal(row(&t, "shop/web.10")->cpu, 1.5, 0.001);
    top_done(&t);
}

static void an_answer_that_is_none_changes_nothing(void **state)
{
    struct top t = {0};

    (void)state;
    assert_int_equal(top_take(&t, json_object(), 1), -EBADMSG);
    assert_int_equal(top_take(&t, json_pack("{s:{},s:{}}", "status", "dynos"), 1), -EBADMSG);
    assert_int_equal(top_take(&t, json_pack("{s:[]}", "dynos"), 1), -EBADMSG);
    assert_int_equal(t.n, 0);
    /* Elements that are no dynos are rows without anything. */
    assert_int_equal(top_take(&t, json_pack("{s:{},s:[i,n]}", "status", "dynos", 1), 1), 0);
    assert_int_equal(t.n, 2);
    assert_string_equal(t.rows[0].name, "/");
    assert_int_equal(top_take(&t, json_pack("{s:i}", "dynos", 7), 2), -EBADMSG);
    assert_int_equal(t.n, 2);
    top_done(&t);
}

static void sorted_by_each_key(void **state)
{
    struct top t = {0};
    enum top_sort by;

    (void)state;
    assert_int_equal(top_take(&t, answer(1, 1, "b"), 1), 0);
    top_order(&t, TOP_MEMORY);
    assert_string_equal(t.rows[0].name, "shop/web.10");
    top_order(&t, TOP_CPU);
    assert_string_equal(t.rows[0].name, "shop/web.9");
    top_order(&t, TOP_PIDS);
    assert_string_equal(t.rows[0].name, "shop/web.9");
    top_order(&t, TOP_DISK);
    assert_string_equal(t.rows[0].name, "shop/web.9");
    top_order(&t, TOP_MEMORY);
    top_order(&t, TOP_NAME); /* by number, not by digit */
    assert_string_equal(t.rows[0].name, "shop/web.9");
    top_done(&t);
    for (int i = TOP_MEMORY; i <= TOP_NAME; i++) {
        assert_int_equal(top_sort_parse(top_sort_name((enum top_sort)i), &by), 0);
        assert_int_equal(by, i);
    }
    assert_int_equal(top_sort_parse("size", &by), -EINVAL);
    assert_int_equal(top_sort_parse("", &by), -EINVAL);
}

static void nothing_of_a_stranger_reaches_the_terminal(void **state)
{
    struct str out = {0};
    struct top t = {0};

    (void)state;
    assert_int_equal(top_take(&t, answer(1, 1, "b"), 1), 0);
    top_line(row(&t, "shop/web.10"), &out);
    assert_null(strchr(out.data, '\x1b'));
    assert_non_null(strstr(out.data, "ruby \\x1b[31mred"));
    assert_non_null(strstr(out.data, "600M/512M"));
    assert_non_null(strstr(out.data, " - ")); /* no disk quota */
    str_done(&out);
    top_header(&t, 0, &out);
    assert_non_null(strstr(out.data, "dynod 1.2, up 1m1s"));
    assert_non_null(strstr(out.data, "2 dynos: 1 up, 1 paused, 0 crashed"));
    assert_non_null(strstr(out.data, "pids 12  disk 1.0M\n"));
    str_done(&out);
    top_line(NULL, &out);
    assert_non_null(strstr(out.data, "MEMORY"));
    str_done(&out);
    top_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_is_what_was_used_between_two_answers),
        cmocka_unit_test(an_answer_that_is_none_changes_nothing),
        cmocka_unit_test(sorted_by_each_key),
        cmocka_unit_test(nothing_of_a_stranger_reaches_the_terminal),
    };

    return cmocka_run_group_tests_name("topview", tests, NULL, NULL);
}
