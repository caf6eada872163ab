/* A cgroup that was made ahead (v1, as root). */
#include "isolate/cgroup.h"

#include "base/scoped.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup_child.h"

static const struct limits usual = {
    .memory_quota = 64 << 20, .memory_max = 128 << 20, .pids = 77, .cpu_shares = 512};
static struct cgroup_tree *tree;

static void ok(int r, const struct err *e)
{
    if (r < 0)
        fail_msg("%s", e->text);
}

static int setup(void **state)
{
    struct err e = ERR_INIT;
    char parent[64];

    (void)state;
    alarm(280);
    snprintf(parent, sizeof(parent), "/dynod-ready-%d", getpid());
    return geteuid() == 0 ? cgroup_tree_open(parent, true, &tree, &e) : 0;
}

static int teardown(void **state)
{
    struct err e = ERR_INIT;
    int r = tree ? cgroup_tree_remove(tree, &e) : 0; /* nothing may be left in it */

    (void)state;
    cgroup_tree_freep(&tree);
    return r;
}

static void need_v1(void)
{
    if (!tree || cgroup_tree_version(tree) != CGROUP_V1) {
        print_message("not root, or no v1 hierarchies: nothing to try\n");
        skip();
    }
}

/* The only cgroup in the tree; "" where there is none. */
static const char *only(char *out, size_t cap)
{
    struct err e = ERR_INIT;
    char **ids;

    ok(cgroup_tree_list(tree, &ids, &e), &e);
    (void)snprintf(out, cap, "%s", ids[0] ? ids[0] : "");
    assert_true(!ids[0] || !ids[1]);
    cgroup_ids_free(ids);
    return out;
}

static void stay(void)
{
    for (;;)
        pause();
}

static uint64_t number(struct cgroup *c, enum controller ctrl, const char *file)
{
    return cg_get_u64(c, ctrl, file, 0);
}

static void the_next_dyno_gets_it(void **state)
{
    struct cgroup *c, *again;
    struct err e = ERR_INIT;
    char name[64], before[64];

    (void)state;
    need_v1();
    ok(cgroup_ready(tree, &usual, &e), &e);
    assert_memory_equal(only(before, sizeof(before)), "ready.", 6);
    ok(cgroup_ready(tree, &usual, &e), &e); /* one is enough */
    assert_string_equal(only(name, sizeof(name)), before);
    ok(cgroup_create(tree, "a.web.1", &usual, &c, &e), &e);
    assert_string_equal(only(name, sizeof(name)), "a.web.1");
    assert_int_equal(number(c, CTRL_MEMORY, "memory.limit_in_bytes"), 128 << 20);
    assert_int_equal(number(c, CTRL_PIDS, "pids.max"), 77);
    assert_int_equal(number(c, CTRL_CPU, "cpu.shares"), 512);
    assert_true(cgroup_oom_fd(c) >= 0);
    /* Who joins is in it, in every hierarchy. */
    pid_t pid = start_in(c, stay);
    for (int i = 0; i < 60000 && number(c, CTRL_PIDS, "pids.current") == 0; i++)
        usleep(1000);
    for (int i = 0; i < CTRL_COUNT; i++)
        if (tree->dirs[i] >= 0 && i != CTRL_IO) {
            int procs = -1;

            for (int n = 0; n < 60000 && procs != pid; n++) {
                procs = (int)number(c, (enum controller)i, "cgroup.procs");
                usleep(1000);
            }
            assert_int_equal(procs, pid);
        }
    /* The name is taken, and there is none ready. */
    assert_int_equal(cgroup_create(tree, "a.web.1", &usual, &again, &e), -EEXIST);
    ok(cgroup_kill(c, &e), &e);
    waitpid(pid, NULL, 0);
    while (cgroup_remove(c, &e) == -EBUSY)
        usleep(1000);
    cgroup_freep(&c);
    assert_string_equal(only(name, sizeof(name)), "");
}

static void a_taken_name_stays_whose_it_is(void **state)
{
    struct cgroup *c, *other;
    struct err e = ERR_INIT;
    char name[64];

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "b.web.1", &usual, &c, &e), &e);
    ok(cgroup_ready(tree, &usual, &e), &e);
    assert_int_equal(cgroup_create(tree, "b.web.1", &usual, &other, &e), -EEXIST);
    /* Half a name, too: the rest is as it was. */
    ok(cgroup_remove(c, &e), &e);
    assert_int_equal(mkdirat(tree->dirs[CTRL_PIDS], "b.web.1", 0755), 0);
    assert_int_equal(cgroup_create(tree, "b.web.1", &usual, &other, &e), -EEXIST);
    ok(cgroup_remove(c, &e), &e);
    cgroup_freep(&c);
    assert_memory_equal(only(name, sizeof(name)), "ready.", 6);
    ok(cgroup_create(tree, "b.web.1", &usual, &c, &e), &e);
    assert_string_equal(only(name, sizeof(name)), "b.web.1");
    ok(cgroup_remove(c, &e), &e);
    cgroup_freep(&c);
}

static void one_of_another_size_does_not(void **state)
{
    struct limits large = usual;
    struct cgroup *c;
    struct err e = ERR_INIT;
    char name[64];

    (void)state;
    need_v1();
    large.pids = 1000;
    ok(cgroup_ready(tree, &usual, &e), &e);
    ok(cgroup_create(tree, "c.web.1", &large, &c, &e), &e);
    assert_int_equal(number(c, CTRL_PIDS, "pids.max"), 1000);
    ok(cgroup_remove(c, &e), &e);
    cgroup_freep(&c);
    assert_memory_equal(only(name, sizeof(name)), "ready.", 6);
    ok(cgroup_ready(tree, &large, &e), &e); /* the default size is another one now */
    ok(cgroup_create(tree, "c.web.1", &large, &c, &e), &e);
    assert_string_equal(only(name, sizeof(name)), "c.web.1");
    ok(cgroup_remove(c, &e), &e);
    cgroup_freep(&c);
    ok(cgroup_ready(tree, &usual, &e), &e);
    cgroup_ready_drop(tree);
    assert_string_equal(only(name, sizeof(name)), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_dyno_gets_it),
        cmocka_unit_test(a_taken_name_stays_whose_it_is),
        cmocka_unit_test(one_of_another_size_does_not),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
