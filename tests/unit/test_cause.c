#include "core/policy/cause.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EXITED(n) ((n) << 8)

static void expect(struct end_facts facts, const char *name, enum fault fault, int status)
{
    struct end_cause cause;

    end_classify(&facts, &cause);
    assert_string_equal(cause.name, name);
    assert_int_equal(cause.fault, fault);
    assert_int_equal(cause.exit_status, status);
    assert_true(cause.text[0] != '\0');
}

static void whose_doing(void **state)
{
    struct err platform = {ENOMEM, FAULT_PLATFORM, "no memory"};
    struct err operator_ = {ENOENT, FAULT_OPERATOR, "no such slug"};

    (void)state;
    expect((struct end_facts){.started = true, .status_known = true, .status = EXITED(1)}, "exited",
           FAULT_APP, 1);
    expect((struct end_facts){.started = true, .status_known = true, .status = EXITED(0)}, "exited",
           FAULT_APP, 0);
    expect((struct end_facts){.started = true, .status_known = true, .oneoff = true}, "complete",
           FAULT_NONE, 0);
    expect((struct end_facts){.started = true, .status_known = true, .status = SIGKILL},
           "signalled", FAULT_APP, 137);
    expect(
        (struct end_facts){
            .started = true, .status_known = true, .status = SIGTERM, .told_to_stop = true},
        "stopped", FAULT_OPERATOR, 143);
    expect((struct end_facts){.started = true}, "init-lost", FAULT_PLATFORM, -1);
    expect((struct end_facts){.start_errno = ENOENT, .status_known = true, .status = EXITED(127)},
           "start-failed", FAULT_APP, 127);
    expect((struct end_facts){.start_errno = EACCES}, "start-failed", FAULT_APP, 126);
    expect((struct end_facts){.failed = &platform}, "start-failed", FAULT_PLATFORM, -1);
    expect((struct end_facts){.failed = &operator_}, "start-failed", FAULT_OPERATOR, -1);
}

/* What was done to it explains the signal that it died of. */
static void what_we_did_comes_first(void **state)
{
    (void)state;
    expect(
        (struct end_facts){
            .started = true, .status_known = true, .status = SIGKILL, .boot_timeout = true},
        "boot-timeout", FAULT_APP, 137);
    expect((struct end_facts){.started = true,
                              .status_known = true,
                              .status = SIGKILL,
                              .exit_timeout = true,
                              .told_to_stop = true},
           "exit-timeout", FAULT_APP, 137);
    expect((struct end_facts){.started = true,
                              .status_known = true,
                              .status = SIGKILL,
                              .oom_kills = 1,
                              .oom_own = true},
           "memory", FAULT_APP, 137);
    expect((struct end_facts){.started = true,
                              .status_known = true,
                              .status = SIGKILL,
                              .detached = true,
                              .oneoff = true},
           "detached", FAULT_OPERATOR, 137);
}

/* dyno-init, killed too, did not tell; it is known all the same. */
static void what_sigkill_ended_has_its_status(void **state)
{
    (void)state;
    expect((struct end_facts){.started = true, .oom_kills = 1, .oom_own = true}, "memory",
           FAULT_APP, 137);
    expect((struct end_facts){.started = true, .boot_timeout = true}, "boot-timeout", FAULT_APP,
           137);
    expect((struct end_facts){.started = true, .exit_timeout = true, .told_to_stop = true},
           "exit-timeout", FAULT_APP, 137);
    expect((struct end_facts){.started = true, .detached = true, .oneoff = true}, "detached",
           FAULT_OPERATOR, 137);
    /* Of these it is not. */
    expect((struct end_facts){.started = true, .told_to_stop = true}, "stopped", FAULT_OPERATOR,
           -1);
    expect((struct end_facts){.started = true}, "init-lost", FAULT_PLATFORM, -1);
}

/* What the kernel kills nobody for, we do. */
static void more_than_its_limit_is_the_apps(void **state)
{
    const struct end_facts f = {
        .started = true, .status_known = true, .status = SIGKILL, .over = true};

    (void)state;
    expect(f, "memory", FAULT_APP, 137);
}

/* Whose memory it was that there was none of. */
static void a_kill_for_memory_is_not_always_the_apps(void **state)
{
    const struct end_facts machine = {
        .started = true, .status_known = true, .status = SIGKILL, .oom_kills = 2};
    struct end_facts f = machine;

    (void)state;
    expect(f, "machine-memory", FAULT_PLATFORM, 137);
    f.told_to_stop = true; /* and it did not live to obey */
    expect(f, "machine-memory", FAULT_PLATFORM, 137);
    f = machine;
    f.status_known = false; /* dyno-init was the victim */
    expect(f, "machine-memory", FAULT_PLATFORM, 137);
    /* A child was killed; the command's own end came later. */
    f = machine;
    f.status = EXITED(4);
    expect(f, "exited", FAULT_APP, 4);
    f.status = SIGSEGV;
    expect(f, "signalled", FAULT_APP, 139);
    /* Its own limit's kill is the app's, whatever the command says of it. */
    f.oom_own = true;
    expect(f, "memory", FAULT_APP, 139);
    /* kill(0, SIGKILL) of an app near its limit: nobody was killed for memory. */
    f = machine;
    f.oom_kills = 0;
    f.oom_own = true;
    expect(f, "signalled", FAULT_APP, 137);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whose_doing),
        cmocka_unit_test(what_we_did_comes_first),
        cmocka_unit_test(what_sigkill_ended_has_its_status),
        cmocka_unit_test(more_than_its_limit_is_the_apps),
        cmocka_unit_test(a_kill_for_memory_is_not_always_the_apps),
    };

    return cmocka_run_group_tests_name("cause", tests, NULL, NULL);
}
