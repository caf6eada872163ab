/* A stack that is a directory, and one that is out to harm. */
#include "sandbox_fixture.h"

static struct fixture fx;
static char stack[64];

/* COMMAND in a shell, with the stack's directory in $S. */
static void run(const char *command)
{
    assert_int_equal(setenv("S", stack, 1), 0);
    assert_int_equal(system(command), 0);
}

static void its_files_are_seen_and_ours_win(void **state)
{
    scoped_free char *out = NULL;

    (void)state;
    out = dyno_run(&fx,
                   "cat /opt/tool /etc/issue /etc/hosts /etc/hostname; ls /etc /var /dev; "
                   "cat /etc/resolv.conf /etc/passwd; touch /opt/x /var/lib/x; exit 0",
                   NULL);
    assert_non_null(strstr(out, "tool\nissue\n127.0.0.1 localhost\n"));
    assert_non_null(strstr(out, "\ndyno\n"));
    assert_non_null(strstr(out, "dyno:x:"));
    assert_null(strstr(out, "host's secret"));
    assert_null(strstr(out, "shadow"));
    assert_non_null(strstr(out, "lib\ntmp\n")); /* /var */
    assert_non_null(strstr(out, "urandom"));
    assert_non_null(strstr(out, "annot touch '/opt/x': Read-only file system"));
    assert_non_null(strstr(out, "annot touch '/var/lib/x': Read-only file system"));
}

static void a_login_shell_without_bash_works(void **state)
{
    struct dyno_options o = {0};
    const char *argv[5];
    struct dyno d;

    (void)state;
    assert_false(sandbox_has_bash(fx.sandbox));
    launch_shell(false, "echo $PROFILE; pwd", argv);
    dyno_exec(&fx, &d, &o, (char *const *)(uintptr_t)argv);
    assert_int_equal(dyno_wait(&d), 0);
    assert_string_equal(d.out, "stack\n/app\n");
    dyno_done(&d, d.ctl);
}

/* The programs that the tests use and their libraries, and traps. */
static void make_stack(void)
{
    strcpy(stack, "/tmp/isolate-XXXXXX");
    assert_non_null(mkdtemp(stack));
    assert_int_equal(chmod(stack, 0755), 0);
    run("cd $S && mkdir -p bin opt etc/secret var/lib var/tmp && for p in sh cat ls touch; do "
        "cp -L /bin/$p bin/; ldd /bin/$p | grep -o '/[^ ]*' | while read l; do "
        "mkdir -p .$(dirname $l); cp -L $l .$l; done; done");
    run("cd $S && echo tool > opt/tool && echo issue > etc/issue && echo 'export PROFILE=stack' > "
        "etc/profile && echo x > etc/shadow && echo evil > etc/hosts");
    /* Links where the agent makes its own, and out of the stack. */
    run("echo \"host's secret\" > $S.secret && ln -s $S.secret $S/etc/resolv.conf && cd $S && "
        "ln -s /tmp dev && ln -s /etc proc && ln -s / app && ln -s ../../../etc run");
}

/* Opens a sandbox with the stack PATH; the error that must come of it. */
static void refused(const char *path, const char *state_dir, const char *words)
{
    struct sandbox *s = NULL;
    struct err e = ERR_INIT;
    char runtime[128];

    snprintf(runtime, sizeof(runtime), "%s/run", fx.dir);
    struct sandbox_config config = {.stack = path,
                                    .runtime_dir = runtime,
                                    .state_dir = state_dir,
                                    .init_path = fx.init,
                                    .rootless = fx.rootless,
                                    .slug_owner = fx.inner};
    assert_true(sandbox_open(&config, &s, &e) < 0);
    assert_null(s);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    if (!strstr(e.text, words))
        fail_msg("%s: %s", path, e.text);
}

static void what_dynos_would_see_of_the_agent_is_refused(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/var/lib", stack);
    refused(stack, stack, "move state_dir");
    refused(stack, path, "move state_dir");
    refused(fx.dir, NULL, "move runtime_dir");
    refused("host", "/usr/lib", "which is in /usr");
}

static void directories_that_are_none_or_open_are_refused(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/none", stack);
    refused(path, NULL, "No such file");
    snprintf(path, sizeof(path), "%s/opt/tool", stack);
    refused(path, NULL, "neither a directory nor an image");
    assert_int_equal(chmod(stack, 0775), 0);
    refused(stack, NULL, "chmod go-w");
    assert_int_equal(chmod(stack, 0755), 0);
}

static void a_stack_without_a_shell_is_refused(void **state)
{
    (void)state;
    run("mv $S/bin/sh $S/bin/no-sh && chmod 0600 $S/bin/no-sh");
    refused(stack, NULL, "no /bin/sh");
    run("ln -s /proc/self/root/bin/sh $S/bin/sh"); /* the host's */
    refused(stack, NULL, "no /bin/sh");
    run("rm $S/bin/sh; mkdir $S/bin/sh");
    refused(stack, NULL, "no /bin/sh");
    run("rmdir $S/bin/sh; ln -s no-sh $S/bin/sh");
    refused(stack, NULL, "no /bin/sh"); /* nobody may execute it, whatever root may */
    run("chmod 0755 $S/bin/no-sh; rm $S/bin/sh; mv $S/bin/no-sh $S/bin/sh");
}

static int setup(void **state)
{
    (void)state;
    alarm(280);
    make_stack();
    return fixture_open_stack(&fx, stack);
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fx);
    run("rm -rf $S $S.secret");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_files_are_seen_and_ours_win),
        cmocka_unit_test(a_login_shell_without_bash_works),
        cmocka_unit_test(what_dynos_would_see_of_the_agent_is_refused),
        cmocka_unit_test(directories_that_are_none_or_open_are_refused),
        cmocka_unit_test(a_stack_without_a_shell_is_refused),
    };

    return cmocka_run_group_tests_name("stack", tests, setup, teardown);
}
