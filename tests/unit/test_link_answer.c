/* What a controller may answer, and all that it may not. */
#include "link/answer.h"

#include "base/frame.h"
#include "base/linkproto.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct backend_timing usual = TIMING_DEFAULT;

static void session_is(const char *text, int want)
{
    struct answer_session a;
    struct err e = ERR_INIT;

    if (answer_session(text, strlen(text), &a, &e) != want)
        fail_msg("%s: not %d but: %s", text, want, e.text);
    assert_true(want == 0 || e.text[0]);
}

static void a_session_is_read(void **state)
{
    static const char text[] =
        "{\"session\":\"s/81?f2\",\"store\":\"db-7c1e\",\"heartbeat_ms\":500,"
        "\"ttl_ms\":1000,\"poll_ms\":2000,\"later\":{\"more\":[]}}";
    struct answer_session a;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(answer_session(text, strlen(text), &a, &e), 0);
    assert_string_equal(a.session, "s/81?f2");
    assert_string_equal(a.store, "db-7c1e");
    assert_int_equal(a.timing.heartbeat_usec, 500 * USEC_PER_MSEC);
    assert_int_equal(a.timing.ttl_usec, USEC_PER_SEC);
    assert_int_equal(a.timing.poll_usec, 2 * USEC_PER_SEC);
    assert_int_equal(answer_session("{\"session\":\"s\",\"store\":\"d\"}", 27, &a, &e), 0);
    assert_int_equal(a.timing.heartbeat_usec, 10 * USEC_PER_SEC);
    assert_int_equal(a.timing.ttl_usec, 30 * USEC_PER_SEC);
    assert_int_equal(a.timing.poll_usec, 25 * USEC_PER_SEC);
}

static void what_is_no_session(void **state)
{
    char text[400];

    (void)state;
    session_is("", -EBADMSG);
    session_is("<html>", -EBADMSG);
    session_is("[]", -EBADMSG);
    session_is("null", -EBADMSG);
    session_is("{\"session\":\"s\",\"store\":\"d\"}x", -EBADMSG);
    session_is("{\"session\":\"s\",\"session\":\"s\",\"store\":\"d\"}", -EBADMSG);
    session_is("{\"session\":\"s\",\"store\":\"d\",\"n\":1e999}", -EBADMSG);
    session_is("{\"session\":\"s\",\"store\":\"d\",\"n\":99999999999999999999}", -EBADMSG);
    session_is("{\"session\":\"s\\u0000\",\"store\":\"d\"}", -EBADMSG);
    session_is("{}", -EINVAL);
    session_is("{\"session\":\"s\"}", -EINVAL);
    session_is("{\"store\":\"d\"}", -EINVAL);
    session_is("{\"session\":7,\"store\":\"d\"}", -EINVAL);
    session_is("{\"session\":\"s\",\"store\":null}", -EINVAL);
    session_is("{\"session\":\"a b\",\"store\":\"d\"}", -EINVAL);
    session_is("{\"session\":\"\\r\\nX: y\",\"store\":\"d\"}", -EINVAL);
    session_is("{\"session\":\"\303\244\",\"store\":\"d\"}", -EINVAL);
    session_is("{\"session\":\"s\",\"store\":\"d/e\"}", -EINVAL);
    session_is("{\"session\":\"\",\"store\":\"d\"}", -EINVAL);
    (void)snprintf(text, sizeof(text), "{\"session\":\"%0128d\",\"store\":\"%064d\"}", 0, 0);
    session_is(text, 0);
    (void)snprintf(text, sizeof(text), "{\"session\":\"%0129d\",\"store\":\"d\"}", 0);
    session_is(text, -EINVAL);
    (void)snprintf(text, sizeof(text), "{\"session\":\"s\",\"store\":\"%065d\"}", 0);
    session_is(text, -EINVAL);
}

/* In milliseconds; -1: left out. */
static void timing_is(const char *heartbeat, const char *ttl, const char *poll, int want)
{
    char text[400];

    (void)snprintf(text, sizeof(text), "{\"session\":\"s\",\"store\":\"d\"%s%s%s%s%s%s}",
                   *heartbeat ? ",\"heartbeat_ms\":" : "", heartbeat, *ttl ? ",\"ttl_ms\":" : "",
                   ttl, *poll ? ",\"poll_ms\":" : "", poll);
    session_is(text, want);
}

static void times_are_within_their_limits(void **state)
{
    (void)state;
    timing_is("100", "200", "1000", 0);
    timing_is("3600000", "7200000", "300000", 0);
    timing_is("99", "200", "", -EINVAL);
    timing_is("3600001", "8000000", "", -EINVAL);
    timing_is("100", "199", "", -EINVAL);
    timing_is("20000", "", "", -EINVAL); /* over half of the usual TTL */
    timing_is("", "19999", "", -EINVAL);
    timing_is("", "604800001", "", -EINVAL);
    timing_is("", "", "999", -EINVAL);
    timing_is("", "", "300001", -EINVAL);
    timing_is("1000.0", "", "", -EINVAL);
    timing_is("\"1000\"", "", "", -EINVAL);
    timing_is("null", "", "", -EINVAL);
    timing_is("-1", "", "", -EINVAL);
    timing_is("9223372036854775807", "", "", -EINVAL);
}

static void nesting_has_a_limit(void **state)
{
    struct str text = {0};
    struct answer_session a;
    struct err e = ERR_INIT;

    (void)state;
    str_add(&text, "{\"session\":\"s\",\"store\":\"d\",\"x\":");
    for (int i = 0; i < 100000; i++)
        str_add(&text, "[");
    for (int i = 0; i < 100000; i++)
        str_add(&text, "]");
    str_add(&text, "}");
    assert_int_equal(answer_session(str_text(&text), text.len, &a, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "deep"));
    str_done(&text);
}

static int heartbeat(const char *text, struct backend_timing *timing, bool *snapshot)
{
    struct err e = ERR_INIT;

    return answer_heartbeat(text, strlen(text), timing, timing, snapshot, &e);
}

static void a_heartbeat_may_change_things(void **state)
{
    struct backend_timing t = usual;
    bool snapshot = true;

    (void)state;
    assert_int_equal(heartbeat("{}", &t, &snapshot), 0);
    assert_false(snapshot);
    assert_memory_equal(&t, &usual, sizeof(t));
    assert_int_equal(heartbeat("{\"snapshot\":true,\"heartbeat_ms\":5000}", &t, &snapshot), 0);
    assert_true(snapshot);
    assert_int_equal(t.heartbeat_usec, 5 * USEC_PER_SEC);
    assert_int_equal(t.ttl_usec, usual.ttl_usec);
    struct backend_timing before = t;
    assert_int_equal(heartbeat("{\"heartbeat_ms\":20000}", &t, &snapshot), -EINVAL);
    assert_int_equal(heartbeat("{\"snapshot\":1}", &t, &snapshot), -EINVAL);
    assert_int_equal(heartbeat("{\"heartbeat_ms\":200,\"snapshot\":\"\"}", &t, &snapshot), -EINVAL);
    assert_int_equal(heartbeat("[]", &t, &snapshot), -EBADMSG);
    assert_memory_equal(&t, &before, sizeof(t));
}

static int report(const char *text, uint64_t seq, bool *snapshot)
{
    struct err e = ERR_INIT;

    return answer_report(text, strlen(text), seq, snapshot, &e);
}

static void an_acknowledgement_is_of_this_report(void **state)
{
    bool snapshot = true;

    (void)state;
    assert_int_equal(report("{\"acked\":7}", 7, &snapshot), 0);
    assert_false(snapshot);
    assert_int_equal(report("{\"acked\":7,\"snapshot\":true,\"x\":1}", 7, &snapshot), 0);
    assert_true(snapshot);
    assert_int_equal(report("{\"acked\":6}", 7, &snapshot), -EINVAL);
    assert_int_equal(report("{\"acked\":\"7\"}", 7, &snapshot), -EINVAL);
    assert_int_equal(report("{\"acked\":7.0}", 7, &snapshot), -EINVAL);
    assert_int_equal(report("{\"acked\":7,\"snapshot\":null}", 7, &snapshot), -EINVAL);
    assert_int_equal(report("{}", 7, &snapshot), -EINVAL);
    assert_int_equal(report("{\"acked\":7,\"acked\":7}", 7, &snapshot), -EBADMSG);
}

static int commands(const char *text, size_t *ret_n)
{
    scoped(json_freep) json_t *list = NULL;
    struct err e = ERR_INIT;
    int r = answer_commands(text, strlen(text), &list, &e);

    *ret_n = json_array_size(list);
    return r;
}

static void commands_are_objects(void **state)
{
    struct str many = {0};
    size_t n;

    (void)state;
    assert_int_equal(commands("{\"commands\":[]}", &n), 0);
    assert_int_equal(n, 0);
    /* What they say is for dynod to judge. */
    assert_int_equal(commands("{\"commands\":[{},{\"id\":7,\"nonsense\":[1]}],\"x\":1}", &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(commands("{}", &n), -EINVAL);
    assert_int_equal(commands("{\"commands\":{}}", &n), -EINVAL);
    assert_int_equal(commands("{\"commands\":[{},7]}", &n), -EINVAL);
    assert_int_equal(commands("{\"commands\":[null]}", &n), -EINVAL);
    assert_int_equal(commands("{\"commands\":[{\"a\":1,\"a\":2}]}", &n), -EBADMSG);
    str_add(&many, "{\"commands\":[{}");
    for (int i = 1; i < LINK_COMMANDS_MAX; i++)
        str_add(&many, ",{}");
    size_t most = many.len;
    str_add(&many, "]}");
    assert_int_equal(commands(str_text(&many), &n), 0);
    assert_int_equal(n, LINK_COMMANDS_MAX);
    many.len = most;
    str_add(&many, ",{}]}");
    assert_int_equal(commands(str_text(&many), &n), -EINVAL);
    str_done(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_read),
        cmocka_unit_test(what_is_no_session),
        cmocka_unit_test(times_are_within_their_limits),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(a_heartbeat_may_change_things),
        cmocka_unit_test(an_acknowledgement_is_of_this_report),
        cmocka_unit_test(commands_are_objects),
    };

    return cmocka_run_group_tests_name("link_answer", tests, NULL, NULL);
}
