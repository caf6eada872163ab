#include "core/policy/fsm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void expect(enum dyno_state from, enum dyno_event event, enum dyno_state to,
                   enum dyno_act act)
{
    struct dyno_step step = dyno_fsm(from, event);

    assert_int_equal(step.next, to);
    assert_int_equal(step.act, act);
}

static void a_life_without_trouble(void **state)
{
    (void)state;
    expect(DYNO_DOWN, DEV_START, DYNO_PROVISIONING, ACT_PROVISION);
    expect(DYNO_PROVISIONING, DEV_SLUG_READY, DYNO_STARTING, ACT_SPAWN);
    expect(DYNO_STARTING, DEV_READY, DYNO_UP, ACT_ANNOUNCE_UP);
    expect(DYNO_UP, DEV_STOP, DYNO_STOPPING, ACT_TERM);
    expect(DYNO_STOPPING, DEV_EXIT, DYNO_DOWN, ACT_END);
}

static void every_fault_ends_in_crashed(void **state)
{
    (void)state;
    expect(DYNO_PROVISIONING, DEV_SLUG_FAILED, DYNO_CRASHED, ACT_CRASH);
    expect(DYNO_STARTING, DEV_SPAWN_FAILED, DYNO_CRASHED, ACT_CRASH);
    expect(DYNO_STARTING, DEV_DEADLINE, DYNO_CRASHING, ACT_KILL_R10);
    expect(DYNO_STARTING, DEV_OOM, DYNO_CRASHING, ACT_KILL_R15);
    expect(DYNO_UP, DEV_OOM, DYNO_CRASHING, ACT_KILL_R15);
    expect(DYNO_CRASHING, DEV_EXIT, DYNO_CRASHED, ACT_CRASH);
    expect(DYNO_UP, DEV_EXIT, DYNO_CRASHED, ACT_CRASH);
    expect(DYNO_CRASHED, DEV_DEADLINE, DYNO_PROVISIONING, ACT_RETRY);
}

static void a_stop_wins_over_everything(void **state)
{
    (void)state;
    expect(DYNO_PROVISIONING, DEV_STOP, DYNO_DOWN, ACT_FORGET);
    expect(DYNO_CRASHED, DEV_STOP, DYNO_DOWN, ACT_FORGET);
    expect(DYNO_CRASHING, DEV_STOP, DYNO_KILLING, ACT_NONE);
    expect(DYNO_STOPPING, DEV_DEADLINE, DYNO_KILLING, ACT_KILL_R12);
    expect(DYNO_KILLING, DEV_EXIT, DYNO_DOWN, ACT_END);
    expect(DYNO_STOPPING, DEV_SPAWN_FAILED, DYNO_DOWN, ACT_END);
}

/* Between a router that has to hear of it and SIGTERM. */
static void a_routed_dyno_leaves_first(void **state)
{
    (void)state;
    expect(DYNO_UP, DEV_LEAVE, DYNO_LEAVING, ACT_LEAVE);
    expect(DYNO_STARTING, DEV_LEAVE, DYNO_LEAVING, ACT_LEAVE); /* adopted: it may be up */
    expect(DYNO_LEAVING, DEV_SPAWN_FAILED, DYNO_DOWN, ACT_END);
    expect(DYNO_LEAVING, DEV_DEADLINE, DYNO_STOPPING, ACT_TERM);
    expect(DYNO_LEAVING, DEV_EXIT, DYNO_DOWN, ACT_END); /* no crash: it was to end */
    expect(DYNO_LEAVING, DEV_OOM, DYNO_KILLING, ACT_KILL_R15);
    expect(DYNO_LEAVING, DEV_STOP, DYNO_LEAVING, ACT_NONE);
    expect(DYNO_LEAVING, DEV_START, DYNO_LEAVING, ACT_NONE);
    for (int s = 0; s < DYNO_STATES; s++)
        if (s != DYNO_UP && s != DYNO_STARTING) /* nothing else is in a route */
            expect((enum dyno_state)s, DEV_LEAVE, (enum dyno_state)s, ACT_NONE);
}

static void a_pause_ends_in_every_way(void **state)
{
    (void)state;
    expect(DYNO_UP, DEV_PAUSE, DYNO_PAUSED, ACT_PAUSE);
    expect(DYNO_STARTING, DEV_PAUSE, DYNO_PAUSED, ACT_PAUSE); /* adopted: it stood still before */
    expect(DYNO_PAUSED, DEV_RESUME, DYNO_UP, ACT_RESUME);
    expect(DYNO_PAUSED, DEV_STOP, DYNO_STOPPING, ACT_TERM);
    expect(DYNO_PAUSED, DEV_OOM, DYNO_CRASHING, ACT_KILL_R15);
    expect(DYNO_PAUSED, DEV_EXIT, DYNO_CRASHED, ACT_CRASH); /* SIGKILL reaches it */
    expect(DYNO_PAUSED, DEV_DEADLINE, DYNO_PAUSED, ACT_NONE);
    expect(DYNO_PAUSED, DEV_PAUSE, DYNO_PAUSED, ACT_NONE);
    for (int s = 0; s < DYNO_STATES; s++) {
        if (s != DYNO_UP && s != DYNO_STARTING) /* what has no process, or is on its way out */
            expect((enum dyno_state)s, DEV_PAUSE, (enum dyno_state)s, ACT_NONE);
        if (s != DYNO_PAUSED)
            expect((enum dyno_state)s, DEV_RESUME, (enum dyno_state)s, ACT_NONE);
    }
}

static void names_are_what_others_see(void **state)
{
    static const char *const names[DYNO_STATES] = {
        [DYNO_DOWN] = "down",         [DYNO_PROVISIONING] = "provisioning",
        [DYNO_STARTING] = "starting", [DYNO_UP] = "up",
        [DYNO_PAUSED] = "paused",     [DYNO_LEAVING] = "stopping",
        [DYNO_STOPPING] = "stopping", [DYNO_KILLING] = "stopping",
        [DYNO_CRASHING] = "stopping", [DYNO_CRASHED] = "crashed",
        [DYNO_COMPLETE] = "complete",
    };

    (void)state;
    for (int s = 0; s < DYNO_STATES; s++) {
        assert_string_equal(dyno_state_name((enum dyno_state)s), names[s]);
        assert_int_equal(dyno_state_ending((enum dyno_state)s),
                         s == DYNO_LEAVING || s == DYNO_STOPPING || s == DYNO_KILLING);
    }
}

/* What comes late, or twice, changes nothing. */
static void late_events_are_ignored(void **state)
{
    (void)state;
    for (int s = 0; s < DYNO_STATES; s++) {
        if (s != DYNO_STARTING)
            expect((enum dyno_state)s, DEV_READY, (enum dyno_state)s, ACT_NONE);
        if (s != DYNO_PROVISIONING) {
            expect((enum dyno_state)s, DEV_SLUG_READY, (enum dyno_state)s, ACT_NONE);
            expect((enum dyno_state)s, DEV_SLUG_FAILED, (enum dyno_state)s, ACT_NONE);
        }
    }
    expect(DYNO_STOPPING, DEV_STOP, DYNO_STOPPING, ACT_NONE);
    expect(DYNO_DOWN, DEV_EXIT, DYNO_DOWN, ACT_NONE);
    expect(DYNO_UP, DEV_START, DYNO_UP, ACT_NONE);
    expect(DYNO_UP, DEV_DEADLINE, DYNO_UP, ACT_NONE);
}

/* Nothing that has a process may reach a state in which it would be forgotten without its end. */
static void a_process_is_never_forgotten(void **state)
{
    static const enum dyno_state living[] = {DYNO_STARTING, DYNO_UP,       DYNO_PAUSED,
                                             DYNO_LEAVING,  DYNO_STOPPING, DYNO_KILLING,
                                             DYNO_CRASHING};

    (void)state;
    for (unsigned i = 0; i < sizeof(living) / sizeof(living[0]); i++)
        for (int ev = 0; ev < DEV_EVENTS; ev++) {
            struct dyno_step step = dyno_fsm(living[i], (enum dyno_event)ev);
            bool ends = ev == DEV_EXIT || ev == DEV_SPAWN_FAILED;
            bool rests = step.next == DYNO_DOWN || step.next == DYNO_CRASHED ||
                         step.next == DYNO_COMPLETE || step.next == DYNO_PROVISIONING;

            assert_true(!rests || ends);
            assert_true(!ends || rests);
            assert_true(!ends || step.act == ACT_CRASH || step.act == ACT_END); /* both report */
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life_without_trouble),
        cmocka_unit_test(every_fault_ends_in_crashed),
        cmocka_unit_test(a_stop_wins_over_everything),
        cmocka_unit_test(a_routed_dyno_leaves_first),
        cmocka_unit_test(a_pause_ends_in_every_way),
        cmocka_unit_test(names_are_what_others_see),
        cmocka_unit_test(late_events_are_ignored),
        cmocka_unit_test(a_process_is_never_forgotten),
    };

    return cmocka_run_group_tests_name("fsm", tests, NULL, NULL);
}
