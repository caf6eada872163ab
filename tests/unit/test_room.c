/* What is made ahead of a start that no spare is there for: whom it serves, and that it is gone. */
#include "sandbox_fixture.h"

#include "isolate/sandbox_impl.h"

#define MIB (UINT64_C(1) << 20)

static struct fixture fx;

/* Root's: a rootless dyno's namespaces belong to a user namespace that it makes itself. */
static int setup(void **state)
{
    (void)state;
    return fixture_open(&fx);
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fx);
    return 0;
}

static bool has_room(void)
{
    assert_int_equal(fx.sandbox->room.mnt >= 0, fx.sandbox->room.ipc >= 0);
    return fx.sandbox->room.mnt >= 0;
}

static void run(const struct dyno_options *o, const char *script, struct dyno *d)
{
    dyno_sh(&fx, d, o, script);
    assert_int_equal(dyno_wait(d), 0);
}

static void one_room_serves_one_dyno(void **state)
{
    static const char script[] = "test ! -e /dev/shm/mine && test ! -e /dev/mqueue/mine && "
                                 "touch /dev/shm/mine /dev/mqueue/mine; "
                                 "echo $? $(readlink /proc/self/ns/ipc)";
    const struct dyno_options o = {.limits = {.memory_max = 64 * MIB}};
    char ours[64] = "";
    struct dyno d[3];

    (void)state;
    if (fx.rootless)
        skip();
    assert_true(readlink("/proc/self/ns/ipc", ours, sizeof(ours) - 1) > 0);
    must(sandbox_ready(fx.sandbox, &o.limits, e));
    assert_true(has_room());
    for (int i = 0; i < 3; i++) { /* of which the last two live while the first is there still */
        run(&o, script, &d[i]);
        assert_false(has_room());
        assert_memory_equal(d[i].out, "0 ipc:[", 7);
        assert_null(strstr(d[i].out, ours));
        if (i == 1)
            must(sandbox_ready(fx.sandbox, &o.limits, e));
    }
    assert_string_not_equal(d[0].out, d[1].out);
    assert_string_not_equal(d[0].out, d[2].out);
    for (int i = 0; i < 3; i++)
        dyno_done(&d[i], d[i].ctl);
}

static void another_size_has_none_of_it(void **state)
{
    static const char script[] = "df -k /dev/shm | tail -1 | { read _ size _; echo $size; }";
    const struct dyno_options small = {.limits = {.memory_max = 32 * MIB}},
                              large = {.limits = {.memory_max = 64 * MIB}};
    struct dyno d;

    (void)state;
    if (fx.rootless)
        skip();
    must(sandbox_ready(fx.sandbox, &small.limits, e));
    int mnt = fx.sandbox->room.mnt;
    must(sandbox_ready(fx.sandbox, &small.limits, e)); /* is there */
    assert_int_equal(fx.sandbox->room.mnt, mnt);
    run(&large, script, &d);
    assert_string_equal(d.out, "65536\n");
    assert_true(has_room());
    dyno_done(&d, d.ctl);
    must(sandbox_ready(fx.sandbox, &large.limits, e)); /* takes its place */
    assert_true(fx.sandbox->room.shm == 64 * MIB);
    run(&large, script, &d);
    assert_string_equal(d.out, "65536\n");
    assert_false(has_room());
    dyno_done(&d, d.ctl);
}

/* Nor does one begin with fewer namespaces. */
static void one_that_cannot_be_entered_fails_the_start(void **state)
{
    const struct dyno_options o = {0};
    char *argv[] = {(char *)"/bin/true", NULL};

    (void)state;
    if (fx.rootless)
        skip();
    for (int i = 0; i < 2; i++) {
        int *broken = i ? &fx.sandbox->room.mnt : &fx.sandbox->room.ipc, launch;
        struct err why = ERR_INIT;
        struct plan p;
        struct dyno d;

        must(sandbox_ready(fx.sandbox, &o.limits, e));
        close(*broken);
        *broken = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dyno_prepare(&fx, &d, &o, &p, &launch, argv);
        must(sandbox_spawn(fx.sandbox, &p, &d.spawned, e));
        struct pollfd said = {.fd = d.spawned.report_fd, .events = POLLIN};
        assert_int_equal(poll(&said, 1, WAIT_MSEC), 1);
        assert_int_equal(sandbox_report(d.spawned.report_fd, &why), -EINVAL);
        assert_non_null(strstr(why.text, i ? "enter the root: enter the copy of the root template"
                                           : "enter the root: enter the IPC namespace"));
        assert_false(has_room());
        close(d.spawned.report_fd);
        close(p.log_write);
        close(p.ctl_fd);
        close(launch);
        dyno_done(&d, -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_room_serves_one_dyno),
        cmocka_unit_test(another_size_has_none_of_it),
        cmocka_unit_test(one_that_cannot_be_entered_fails_the_start),
    };

    return cmocka_run_group_tests_name("room", tests, setup, teardown);
}
