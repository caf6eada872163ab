/* Real dynos, as root and rootless. */
#include "sandbox_fixture.h"

static struct fixture fx;

static void output_and_status_come_back(void **state)
{
    int status;
    scoped_free char *out = NULL;

    (void)state;
    out = dyno_run(&fx, "echo out; echo err >&2; pwd; echo $HOME $GREETING; exit 7", &status);
    assert_string_equal(out, "out\nerr\n/app\n/app hello world\n");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

static int setup(void **state)
{
    (void)state;
    alarm(300);
    return fixture_open(&fx);
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_status_come_back),
    };

    return cmocka_run_group_tests_name("spawn", tests, setup, teardown);
}
