#include "core/drain.h"

#include "corelink_agent.h"

#define S USEC_PER_SEC

/* --- Pure --- */

static void when_all_get_sigterm(void **state)
{
    static const struct {
        struct drain_facts facts;
        uint64_t at;
    } table[] = {
        {{.routed = true, .deadline_boot = 1000, .lead = 40, .now_boot = 100}, 960},
        {{.routed = true, .deadline_boot = 120, .lead = 40, .now_boot = 100}, 100}, /* late */
        {{.routed = true, .deadline_boot = 140, .lead = 40, .now_boot = 100}, 100},
        {{.routed = true, .deadline_boot = 20, .lead = 40, .now_boot = 100}, 100},    /* past */
        {{.routed = true, .deadline_boot = 0, .lead = 40, .now_boot = 100}, 100},     /* none */
        {{.routed = false, .deadline_boot = 1000, .lead = 40, .now_boot = 100}, 100}, /* by hand */
        {{.routed = false, .deadline_boot = 0, .lead = 40, .now_boot = 100}, 100},
        {{.interruption = true, .deadline_boot = 1000, .lead = 40, .now_boot = 100}, 960},
        {{.interruption = true, .deadline_boot = 0, .lead = 40, .now_boot = 100}, 100},
        {{.routed = true, .interruption = true, .deadline_boot = 1000, .lead = 40, .now_boot = 1},
         960},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (drain_term_at(&table[i].facts) != table[i].at)
            fail_msg("row %zu: %ju", i, (uintmax_t)drain_term_at(&table[i].facts));
}

static void a_deadline_on_the_other_clock(void **state)
{
    (void)state;
    assert_int_equal(drain_boot_of(5000, 4000, 100), 1100);
    assert_int_equal(drain_boot_of(4000, 5000, 100), 100); /* past: now */
    assert_int_equal(drain_boot_of(0, 5000, 100), 100);
    assert_int_equal(drain_boot_of(UINT64_MAX, 5000, 100), 100 + DRAIN_DEADLINE_MAX);
    assert_int_equal(drain_boot_of(5000 + DRAIN_DEADLINE_MAX + 1, 5000, 0), DRAIN_DEADLINE_MAX);
}

static void times_are_rfc_3339(void **state)
{
    static const char *const bad[] = {"",
                                      "soon",
                                      "2026-11-21",
                                      "2026-11-21T12:00:00",
                                      "2026-11-21 12:00:00Z",
                                      "2026-11-21T12:00:00Zz",
                                      "2026-11-21T12:00:00.Z",
                                      "2026-11-21T12:00:00+1:00",
                                      "2026-11-21T12:00:00+01:00x",
                                      "2026-13-21T12:00:00Z",
                                      "2026-11-21T25:00:00Z",
                                      "1492-10-12T12:00:00Z",
                                      "2026-11-21T12:00:00+99:00",
                                      "2026-11-21T12:00:00+-1:-1"};
    uint64_t at = 0;

    (void)state;
    assert_int_equal(drain_parse_time("2026-11-21T12:00:00Z", &at), 0);
    assert_int_equal(at, 1795262400 * S);
    assert_int_equal(drain_parse_time("2026-11-21T13:30:00.123456+01:30", &at), 0);
    assert_int_equal(at, 1795262400 * S);
    assert_int_equal(drain_parse_time("2026-11-21t07:00:00-05:00", &at), 0);
    assert_int_equal(at, 1795262400 * S);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (drain_parse_time(bad[i], &at) == 0)
            fail_msg("'%s' is a time", bad[i]);
}

/* --- By hand and by command --- */

static int drain_by_hand(struct world *w, const char *spec)
{
    scoped(json_freep) json_t *j = parse("%s", spec);
    struct err e = ERR_INIT;
    json_t *ret = NULL;
    int r = agent_drain(&w->a, j, &ret, &e);

    json_decref(ret);
    return r;
}

static void undrain(struct world *w)
{
    struct err e = ERR_INIT;
    json_t *ret = NULL;

    assert_int_equal(agent_undrain(&w->a, &ret, &e), 0);
    json_decref(ret);
}

/* Seconds until SIGTERM; 0: at once; -1: not at all. */
static int term_in(struct world *w)
{
    uint64_t at = 0;
    int on = 0;

    if (drain_terminating(&w->a))
        return 0;
    if (w->a.drain.timer)
        (void)sd_event_source_get_enabled(w->a.drain.timer, &on);
    if (!on)
        return -1;
    (void)sd_event_source_get_time(w->a.drain.timer, &at);
    uint64_t now = clock_boot();
    return at <= now ? 0 : (int)((at - now + S / 2) / S);
}

/* grace 30 s, out of the route 2 s, margin 5 s. */
#define LEAD 37

static void a_drain_and_its_end(void **state)
{
    struct world *w = *state;
    json_t *j = agent_instance(&w->a);

    assert_false(json_bool(j, "draining", true));
    assert_true(json_is_null(json_object_get(j, "deadline")));
    assert_int_equal(json_int(j, "dynos", -1), 0);
    json_decref(j);
    undrain(w); /* nothing to undo */
    assert_int_equal(drain_by_hand(w, "{}"), 0);
    assert_int_equal(term_in(w), 120 - LEAD); /* drain_deadline */
    j = agent_instance(&w->a);
    assert_true(json_bool(j, "draining", false));
    assert_string_equal(json_str(j, "reason", ""), "operator");
    assert_true(json_is_string(json_object_get(j, "deadline")));
    assert_true(json_is_string(json_object_get(j, "since")));
    json_decref(j);
    unsigned lines = journal_lines(w);
    assert_int_equal(drain_by_hand(w, "{}"), 0);
    assert_int_equal(journal_lines(w), lines); /* it drains so already */
    assert_int_equal(drain_by_hand(w, "{'deadline_ms':600000}"), 0);
    assert_int_equal(term_in(w), 600 - LEAD); /* whoever says so may put it off */
    assert_int_equal(drain_by_hand(w, "{'deadline_ms':0}"), 0);
    turn(w);
    assert_true(drain_terminating(&w->a));
    undrain(w);
    assert_false(drain_terminating(&w->a));
    assert_int_equal(term_in(w), -1);
    assert_false(model_drain_state(w->a.model)->on);
}

static void bad_drains(void **state)
{
    static const char *const bad[] = {"[]",
                                      "{'deadline_ms':-1}",
                                      "{'deadline_ms':'5'}",
                                      "{'deadline_ms':1.5}",
                                      "{'deadline_ms':9223372036854775807}",
                                      "{'reason':7}",
                                      "{'reason':''}",
                                      "{'reason':'a b'}",
                                      "{'reason':'much-too-long-for-a-reason'}",
                                      "{'now':true}"};
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (drain_by_hand(w, bad[i]) != -EINVAL)
            fail_msg("%s", bad[i]);
    assert_false(model_drain_state(w->a.model)->on);
    assert_int_equal(term_in(w), -1);
}

static void without_a_controller_it_is_at_once(void **state)
{
    struct world *w = *state;

    w->a.config.controllers[0] = '\0';
    agent_again(w);
    assert_int_equal(drain_by_hand(w, "{'deadline_ms':600000}"), 0);
    turn(w);
    assert_true(drain_terminating(&w->a));
}

static void the_far_future_is_a_day_away(void **state)
{
    struct world *w = *state;

    assert_int_equal(drain_by_hand(w, "{'deadline_ms':99999999999}"), 0);
    assert_in_range(term_in(w), 86400 - LEAD - 1, 86400 - LEAD);
}

/* --- The instance's own end --- */

static uint64_t in(unsigned seconds)
{
    return clock_real() + seconds * S;
}

static void an_interruption_drains(void **state)
{
    struct world *w = *state;

    connect_link(w);
    uint64_t at = in(120);
    drain_interrupted(&w->a, "spot", at, "the spot instance goes");
    assert_int_equal(term_in(w), 120 - LEAD);
    assert_string_equal(model_drain_state(w->a.model)->reason, "spot");
    json_t *instance = next_frame(w, "instance", NULL, NULL);
    assert_true(json_bool(instance, "draining", false));
    assert_string_equal(json_str(instance, "reason", ""), "spot");
    json_decref(instance);
    assert_int_equal(drain_by_hand(w, "{'deadline_ms':600000}"), 0);
    assert_int_equal(term_in(w), 120 - LEAD); /* nobody puts that off */
    assert_int_equal(drain_by_hand(w, "{'deadline_ms':60000}"), 0);
    assert_int_equal(term_in(w), 60 - LEAD);
    assert_string_equal(model_drain_state(w->a.model)->reason, "spot");
    undrain(w); /* but one may not believe it */
    assert_int_equal(term_in(w), -1);
    drain_interrupted(&w->a, "spot", at, "the spot instance goes"); /* told again */
    assert_false(model_drain_state(w->a.model)->on);
    agent_again(w);
    drain_interrupted(&w->a, "spot", at, "the spot instance goes");
    assert_false(model_drain_state(w->a.model)->on);
    drain_interrupted(&w->a, "spot", in(90), "another date is another notice");
    assert_true(model_drain_state(w->a.model)->on);
}

static void a_nearer_end_tightens(void **state)
{
    struct world *w = *state;

    drain_interrupted(&w->a, "rebalance", 0, "it may go");
    assert_int_equal(term_in(w), 120 - LEAD);
    drain_interrupted(&w->a, "maintenance", in(3600), "later");
    assert_int_equal(term_in(w), 120 - LEAD);
    assert_string_equal(model_drain_state(w->a.model)->reason, "rebalance");
    drain_interrupted(&w->a, "spot", in(100), "sooner");
    assert_int_equal(term_in(w), 100 - LEAD);
    assert_string_equal(model_drain_state(w->a.model)->reason, "spot");
}

static void without_a_controller_only_a_sure_end_drains(void **state)
{
    struct world *w = *state;

    w->a.config.controllers[0] = '\0';
    agent_again(w);
    drain_interrupted(&w->a, "rebalance", 0, "it may go");
    assert_false(model_drain_state(w->a.model)->on);
    drain_interrupted(&w->a, "maintenance", 0, "some day");
    assert_false(model_drain_state(w->a.model)->on);
    drain_interrupted(&w->a, "spot", in(120), "it goes");
    assert_int_equal(term_in(w), 120 - 35); /* as late as may be: no route to leave */
}

static void frames_are_taken_at_their_word(void **state)
{
    struct world *w = *state;

    connect_link(w);
    say_frame(w, parse("{'interruption':{'kind':'spot','deadline':'2020-01-01T00:00:00Z',"
                       "'text':'past'}}"));
    assert_true(drain_terminating(&w->a));
}

/* --- Across agents and boots --- */

static void another_boot(struct world *w)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/drain", w->a.config.runtime_dir);
    assert_int_equal(unlink(path), 0);
}

static void the_next_agent_goes_on(void **state)
{
    struct world *w = *state;

    assert_int_equal(drain_by_hand(w, "{'deadline_ms':600000}"), 0);
    uint64_t deadline = w->a.drain.deadline_boot;
    agent_again(w);
    assert_true(model_drain_state(w->a.model)->on);
    assert_int_equal(w->a.drain.deadline_boot, deadline); /* not by the clock that people set */
    assert_int_equal(term_in(w), 600 - LEAD);
    another_boot(w);
    agent_again(w); /* an operator's drain outlives the boot */
    assert_true(model_drain_state(w->a.model)->on);
    assert_in_range(term_in(w), 598 - LEAD, 600 - LEAD);
    undrain(w);
    agent_again(w);
    assert_false(model_drain_state(w->a.model)->on);
}

static void an_interruption_that_came_true_is_over(void **state)
{
    struct world *w = *state;

    drain_interrupted(&w->a, "maintenance", in(600), "a reboot");
    agent_again(w);
    assert_true(model_drain_state(w->a.model)->on);
    another_boot(w);
    agent_again(w);
    assert_false(model_drain_state(w->a.model)->on);
    assert_int_equal(term_in(w), -1);
}

static void it_tells_once_when_it_is_empty(void **state)
{
    struct world *w = *state;

    connect_link(w);
    drain_check_empty(&w->a); /* it does not drain */
    assert_int_equal(drain_by_hand(w, "{}"), 0);
    drain_check_empty(&w->a);
    drain_check_empty(&w->a);
    json_t *notice = next_frame(w, "notice", NULL, NULL);
    assert_string_equal(json_str(notice, "kind", ""), "instance");
    assert_non_null(strstr(json_str(notice, "text", ""), "drained"));
    json_decref(notice);
    assert_null(next_frame(w, "notice", NULL, NULL));
    agent_again(w);
    connect_link(w);
    drain_check_empty(&w->a);
    assert_null(next_frame(w, "notice", NULL, NULL));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_up, world_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(when_all_get_sigterm),
        cmocka_unit_test(a_deadline_on_the_other_clock),
        cmocka_unit_test(times_are_rfc_3339),
        TEST(a_drain_and_its_end),
        TEST(bad_drains),
        TEST(without_a_controller_it_is_at_once),
        TEST(the_far_future_is_a_day_away),
        TEST(an_interruption_drains),
        TEST(a_nearer_end_tightens),
        TEST(without_a_controller_only_a_sure_end_drains),
        TEST(frames_are_taken_at_their_word),
        TEST(the_next_agent_goes_on),
        TEST(an_interruption_that_came_true_is_over),
        TEST(it_tells_once_when_it_is_empty),
    };

    return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
