/* When memory is too short to keep anything ahead: what the kernel's files say, and the decision.
 */
#include "core/host/shortage.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/cgroup_impl.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MB   (UINT64_C(1) << 20)
#define KEEP (64 * MB)

static bool is_short(uint64_t machine, uint64_t level, double pressure, bool was)
{
    const struct memory_view v = {
        .available = machine, .level = {.left = level}, .pressure = pressure};

    return memory_is_short(&v, KEEP, was);
}

static void less_than_is_to_be_kept_is_short(void **state)
{
    (void)state;
    assert_true(is_short(KEEP - 1, UINT64_MAX, 0, false));
    assert_false(is_short(KEEP, UINT64_MAX, 0, false));
    assert_true(is_short(1000 * MB, KEEP - 1, 0, false));
    assert_false(is_short(UINT64_MAX, UINT64_MAX, 100, false)); /* nothing is known */
    const struct memory_view none = {.available = 0};
    assert_false(memory_is_short(&none, 0, false)); /* switched off */
    assert_false(memory_is_short(&none, 0, true));
}

static void it_is_over_when_there_is_a_quarter_more(void **state)
{
    (void)state;
    assert_true(is_short(KEEP, UINT64_MAX, 0, true));
    assert_true(is_short(KEEP + KEEP / 4 - 1, UINT64_MAX, 0, true));
    assert_false(is_short(KEEP + KEEP / 4, UINT64_MAX, 0, true));
}

static void pressure_counts_where_little_is_left(void **state)
{
    (void)state;
    assert_true(is_short(3 * KEEP, UINT64_MAX, 10, false));
    assert_false(is_short(3 * KEEP, UINT64_MAX, 9.9, false));
    assert_true(is_short(3 * KEEP, UINT64_MAX, 5, true));
    assert_false(is_short(3 * KEEP, UINT64_MAX, 4.9, true));
    /* One dyno that thrashes at its own limit. */
    assert_false(is_short(4 * KEEP, UINT64_MAX, 90, false));
    assert_false(is_short(5 * KEEP, UINT64_MAX, 90, true));
}

static void the_kernels_words_are_read(void **state)
{
    (void)state;
    assert_true(memory_available("MemTotal:  8 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n") ==
                2 * MB);
    assert_true(memory_available("") == UINT64_MAX);
    assert_true(memory_available("MemAvailable: what\n") == UINT64_MAX);
    assert_true(memory_pressure("some avg10=12.34 avg60=0.00 avg300=0.00 total=5\n"
                                "full avg10=99.00 avg60=0.00 avg300=0.00 total=5\n") > 12.33);
    assert_true(memory_pressure("some avg10=12.04 avg60=9.00 avg300=0.00 total=5\n") < 12.05);
    assert_true(memory_pressure("") == 0);
    assert_true(memory_pressure("full avg10=99.00\n") == 0);
}

static void this_machine_says_something(void **state)
{
    struct cgroup_tree none = {.alias = {-1, -1, -1, -1, -1, -1}};
    struct memory_view v = {.pressure = -1};
    char text[MEMORY_TEXT_MAX];

    (void)state;
    memory_look(&none, &v);
    assert_true(v.available > MB && v.available < UINT64_MAX);
    assert_true(v.pressure >= 0 && v.pressure <= 100);
    assert_true(v.level.left == UINT64_MAX);
    assert_non_null(strstr(memory_text(&v, text), "left on the machine"));
    v.level = (struct cgroup_room){.left = 3 * MB, .where = "/sys/fs/cgroup/x"};
    assert_non_null(strstr(memory_text(&v, text), "3.0 MB of memory are left in /sys/fs/cgroup/x"));
}

/* --- the levels, as files --- */

static char dir[] = "/tmp/shortage-XXXXXX";
static int dirfd_ = -1;

static void level(const char *name)
{
    assert_int_equal(mkdirat(dirfd_, name, 0755), 0);
}

static void put(const char *name, const char *text)
{
    scoped_fd fd = openat(dirfd_, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static struct cgroup_room room_of(const char *dynos, const char *own)
{
    char path[128], ours[128];
    struct cgroup_tree t = {.path = {path}, .own = own ? ours : NULL};
    struct cgroup_room room;

    snprintf(path, sizeof(path), "%s/%s", dir, dynos);
    snprintf(ours, sizeof(ours), "%s/%s", dir, own ? own : "");
    cgroup_tree_room(&t, &room);
    return room;
}

static void v2_levels(void **state)
{
    struct cgroup_room room;

    (void)state;
    level("a.slice");
    level("a.slice/dynos");
    level("a.slice/agent");
    put("a.slice/dynos/memory.max", "max\n");
    put("a.slice/dynos/memory.high", "max\n");
    put("a.slice/agent/memory.max", "max\n");
    put("a.slice/memory.max", "max\n");
    assert_true(room_of("a.slice/dynos", "a.slice/agent").left == UINT64_MAX);
    /* A level above. What is cached is free. */
    put("a.slice/memory.max", "104857600\n");
    put("a.slice/memory.current", "94371840\n");
    put("a.slice/memory.stat",
        "anon 1\nfile 9999999\nactive_file 10485760\ninactive_file 10485760\n");
    room = room_of("a.slice/dynos", NULL);
    assert_true(room.left == 30 * MB);
    assert_non_null(strstr(room.where, "/a.slice"));
    assert_null(strstr(room.where, "dynos"));
    /* The throttle comes before the limit. */
    put("a.slice/memory.high", "83886080\n");
    assert_true(room_of("a.slice/dynos", NULL).left == 10 * MB);
    /* The agent's own; over its limit, nothing is left. */
    put("a.slice/agent/memory.max", "1048576\n");
    put("a.slice/agent/memory.current", "2097152\n");
    room = room_of("a.slice/dynos", "a.slice/agent");
    assert_true(room.left == 0);
    assert_non_null(strstr(room.where, "/agent"));
}

static void v1_levels(void **state)
{
    (void)state;
    level("b");
    level("b/dynod");
    put("b/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    put("b/dynod/memory.limit_in_bytes", "104857600\n");
    put("b/dynod/memory.usage_in_bytes", "52428800\n");
    put("b/dynod/memory.stat", "active_file 1\ntotal_active_file 1048576\ntotal_inactive_file 0\n");
    assert_true(room_of("b/dynod", "b").left == 51 * MB);
}

static void the_agents_own_level_is_found(void **state)
{
    char v2[64], v1[64], file[64];
    struct cgroup_mounts m = {.v1 = {v1}};

    (void)state;
    snprintf(v1, sizeof(v1), "%s/b", dir);
    snprintf(v2, sizeof(v2), "%s/a.slice", dir);
    snprintf(file, sizeof(file), "%s/self", dir);
    put("self", "9:pids:/no\n4:cpu,memory:/dynod\n0::/agent\n");
    scoped_free char *one = cg_own_level(&m, file);
    assert_non_null(one);
    assert_non_null(strstr(one, "/b/dynod"));
    m.v2 = v2; /* does not count without its controllers */
    scoped_free char *still = cg_own_level(&m, file);
    assert_string_equal(still, one);
    put("a.slice/cgroup.controllers", "memory pids\n");
    scoped_free char *two = cg_own_level(&m, file);
    assert_non_null(two);
    assert_non_null(strstr(two, "/a.slice/agent"));
    put("self", "0::/../elsewhere\n");
    assert_null(cg_own_level(&m, file));
    put("self", "nonsense\n");
    assert_null(cg_own_level(&m, file));
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    dirfd_ = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return dirfd_ < 0;
}

static int teardown(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    fd_closep(&dirfd_);
    return tree_remove(AT_FDCWD, dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(less_than_is_to_be_kept_is_short),
        cmocka_unit_test(it_is_over_when_there_is_a_quarter_more),
        cmocka_unit_test(pressure_counts_where_little_is_left),
        cmocka_unit_test(the_kernels_words_are_read),
        cmocka_unit_test(this_machine_says_something),
        cmocka_unit_test(v2_levels),
        cmocka_unit_test(v1_levels),
        cmocka_unit_test(the_agents_own_level_is_found),
    };

    return cmocka_run_group_tests_name("shortage", tests, setup, teardown);
}
