/* cgroup v1 as it is mounted here (as root), and v2's files in a directory that stands for one. */
#include "isolate/cgroup.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "cgroup_child.h"
#include "shortage.h"

static struct cgroup_tree *tree;
#define NOBODY 65534u /* the user of that name */

static char parent[64];

static void need_v1(void)
{
    if (!tree || cgroup_tree_version(tree) != CGROUP_V1) {
        print_message("not root, or no v1 hierarchies: nothing to try\n");
        skip();
    }
}

static void ok(int r, const struct err *e)
{
    if (r < 0)
        fail_msg("%s", e->text);
}

static void read_level(const char *controller, const char *id, const char *file, char *buf,
                       size_t cap)
{
    char path[512];

    snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s/%s/%s", controller, parent, id, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);
    if (n < 0)
        fail_msg("%s: %s", path, strerror(errno));
    buf[n] = '\0';
    close(fd);
}

static void remove_soon(struct cgroup **c)
{
    struct err e = ERR_INIT;

    for (int i = 0; i < 6000; i++) {
        if (cgroup_remove(*c, &e) == 0) {
            cgroup_freep(c);
            return;
        }
        usleep(10000);
    }
    fail_msg("%s", e.text);
}

static void limits_are_written(void **state)
{
    struct limits limits = {.memory_quota = 64 << 20,
                            .memory_max = 128 << 20,
                            .pids = 77,
                            .cpu_shares = 512,
                            .cpu_percent = 50};
    struct cgroup *c, *again;
    struct err e = ERR_INIT;
    char buf[64];

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "limits.web.1", &limits, &c, &e), &e);
    read_level("memory", "limits.web.1", "memory.limit_in_bytes", buf, sizeof(buf));
    assert_string_equal(buf, "134217728\n");
    read_level("memory", "limits.web.1", "memory.memsw.limit_in_bytes", buf, sizeof(buf));
    assert_string_equal(buf, "134217728\n");
    read_level("pids", "limits.web.1", "pids.max", buf, sizeof(buf));
    assert_string_equal(buf, "77\n");
    read_level("cpu", "limits.web.1", "cpu.shares", buf, sizeof(buf));
    assert_string_equal(buf, "512\n");
    read_level("cpu", "limits.web.1", "cpu.cfs_quota_us", buf, sizeof(buf));
    assert_string_equal(buf, "50000\n");
    assert_int_equal(cgroup_create(tree, "limits.web.1", &limits, &again, &e), -EEXIST);
    /* Up, then away. */
    limits.memory_max = 512 << 20;
    ok(cgroup_set_limits(c, &limits, NULL, &e), &e);
    read_level("memory", "limits.web.1", "memory.memsw.limit_in_bytes", buf, sizeof(buf));
    assert_string_equal(buf, "536870912\n");
    ok(cgroup_set_limits(c, &(struct limits){0}, NULL, &e), &e);
    read_level("pids", "limits.web.1", "pids.max", buf, sizeof(buf));
    assert_string_equal(buf, "max\n");
    read_level("cpu", "limits.web.1", "cpu.cfs_quota_us", buf, sizeof(buf));
    assert_string_equal(buf, "-1\n");
    assert_false(cgroup_populated(c));
    remove_soon(&c);
    assert_int_equal(cgroup_open(tree, "limits.web.1", &c, &e), -ENOENT);
}

static void bad_names_are_refused(void **state)
{
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", "a\nb", ".hidden", "a b"};
    struct limits none = {0};
    struct cgroup *c;
    struct err e = ERR_INIT;

    (void)state;
    need_v1();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(cgroup_create(tree, bad[i], &none, &c, &e), -EINVAL);
    struct cgroup_tree *t;
    assert_int_equal(cgroup_tree_open("dynod", false, &t, &e), -EINVAL);
    assert_int_equal(cgroup_tree_open("/../x", false, &t, &e), -EINVAL);
}

static void the_tree_lists_what_is_in_it(void **state)
{
    struct limits none = {0};
    struct cgroup *a, *b;
    struct err e = ERR_INIT;
    char **ids;

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "a.web.1", &none, &a, &e), &e);
    ok(cgroup_create(tree, "b.web.2", &none, &b, &e), &e);
    ok(cgroup_tree_list(tree, &ids, &e), &e);
    assert_non_null(ids[0]);
    assert_non_null(ids[1]);
    assert_null(ids[2]);
    cgroup_ids_free(ids);
    remove_soon(&a);
    remove_soon(&b);
}

static void eat(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        _exit(98);
    for (size_t i = 0; i < bytes; i += 4096)
        p[i] = 1;
}

static void eat_32(void)
{
    eat(32 << 20);
    pause();
}

static void eat_200(void)
{
    eat(200 << 20);
}

static void the_quota_is_told_and_the_maximum_kills(void **state)
{
    struct limits limits = {.memory_quota = 16 << 20, .memory_max = 64 << 20};
    struct cgroup_usage usage;
    struct cgroup *c;
    struct err e = ERR_INIT;
    int status;

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "oom.web.1", &limits, &c, &e), &e);
    struct pollfd quota = {.fd = cgroup_quota_fd(c), .events = POLLIN};
    struct pollfd oom = {.fd = cgroup_oom_fd(c), .events = POLLIN};
    assert_true(quota.fd >= 0 && oom.fd >= 0);
    assert_int_equal(poll(&quota, 1, 0), 0);
    pid_t pid = start_in(c, eat_32);
    assert_int_equal(poll(&quota, 1, 60000), 1);
    assert_int_equal(poll(&oom, 1, 0), 0);
    /* It eats on. */
    for (int i = 0; i < 6000; i++) {
        ok(cgroup_usage(c, &usage, &e), &e);
        if (usage.memory_rss >= 32 << 20)
            break;
        usleep(10000);
    }
    assert_in_range(usage.memory_rss, 31 << 20, 34 << 20);
    assert_in_range(usage.memory, usage.memory_rss, 40 << 20);
    assert_int_equal(usage.pids, 1);
    assert_int_equal(usage.oom_kills, 0);
    assert_true(usage.pgpgin >= (32 << 20) / 4096);
    assert_true(usage.cpu_usec > 0);
    assert_true(cgroup_populated(c));
    ok(cgroup_kill(c, &e), &e);
    waitpid(pid, &status, 0);
    assert_int_equal(WTERMSIG(status), SIGKILL);

    pid = start_in(c, eat_200);
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(poll(&oom, 1, 60000), 1);
    ok(cgroup_usage(c, &usage, &e), &e);
    assert_true(usage.oom_kills >= 1);
    remove_soon(&c);
    /* The control: without the limit it lives. */
    ok(cgroup_create(tree, "oom.web.1", &(struct limits){0}, &c, &e), &e);
    pid = start_in(c, eat_200);
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    remove_soon(&c);
}

/* Each process forks on as fast as it can, and outlives its parent. */
static void fork_on(void)
{
    for (;;)
        if (fork() < 0)
            usleep(1000);
}

static void a_fork_bomb_is_held_and_killed(void **state)
{
    struct limits limits = {.pids = 60};
    struct cgroup_usage usage = {0};
    struct cgroup *c;
    struct err e = ERR_INIT;

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "bomb.web.1", &limits, &c, &e), &e);
    pid_t pid = start_in(c, fork_on);
    for (int i = 0; i < 6000 && usage.pids < 60; i++) {
        usleep(10000);
        ok(cgroup_usage(c, &usage, &e), &e);
        assert_true(usage.pids <= 60);
    }
    assert_int_equal(usage.pids, 60);
    assert_int_equal(cgroup_remove(c, &e), -EBUSY);
    ok(cgroup_kill(c, &e), &e);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 6000 && cgroup_populated(c); i++)
        usleep(10000);
    assert_false(cgroup_populated(c));
    remove_soon(&c);
}

/* --- standing still --- */

static volatile unsigned *ticks; /* shared with the children */

static void tick_on(void)
{
    for (;;) {
        ++*ticks;
        usleep(1000);
    }
}

static bool ticks_on(void)
{
    unsigned before = *ticks;

    for (int i = 0; i < 12000 && *ticks == before; i++)
        usleep(5000);
    return *ticks != before;
}

static void stands_still(struct cgroup *c)
{
    unsigned before;

    assert_true(cgroup_frozen(c));
    for (int i = 0; i < 100; i++) { /* it takes effect a moment later */
        before = *ticks;
        usleep(20000);
        if (*ticks == before)
            return;
    }
    fail_msg("it runs on");
}

static void a_frozen_one_stands_still_and_can_be_killed(void **state)
{
    struct limits none = {0};
    struct cgroup *c;
    struct err e = ERR_INIT;
    int status;

    (void)state;
    need_v1();
    ticks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ticks != MAP_FAILED);
    assert_true(cgroup_tree_can(tree, CGROUP_CAN_FREEZE));
    ok(cgroup_create(tree, "still.web.1", &none, &c, &e), &e);
    pid_t pid = start_in(c, tick_on);
    assert_true(ticks_on());
    assert_false(cgroup_frozen(c));
    ok(cgroup_freeze(c, true, &e), &e);
    stands_still(c);
    /* A later agent sees the same. */
    cgroup_freep(&c);
    ok(cgroup_open(tree, "still.web.1", &c, &e), &e);
    stands_still(c);
    ok(cgroup_freeze(c, false, &e), &e);
    assert_false(cgroup_frozen(c));
    assert_true(ticks_on());
    ok(cgroup_freeze(c, true, &e), &e);
    stands_still(c);
    ok(cgroup_kill(c, &e), &e);
    waitpid(pid, &status, 0);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    remove_soon(&c);
    munmap((void *)ticks, 4096);
}

/* --- memory that is nobody's mapping --- */

static void hoard_shm(void)
{
    char *p = mmap(NULL, 200 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (size_t i = 0; i < 200u << 20; i += 4096)
        p[i] = 1;
}

static void hoard_memfd(void)
{
    static char block[1 << 20];
    int fd = memfd_create("hoard", MFD_CLOEXEC);

    for (int i = 0; i < 200; i++)
        if (write(fd, block, sizeof(block)) != sizeof(block))
            _exit(98);
}

/* Unread datagrams: kernel memory, of no process. */
static void hoard_sockets(void)
{
    static char block[100000];
    int pair[2];

    for (int n = 0; n < 4000; n++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
            _exit(98);
        while (write(pair[0], block, sizeof(block)) > 0)
            ;
    }
}

static void hoard_pipes(void)
{
    static char block[1 << 16];
    int pair[2];

    for (int n = 0; n < 4000; n++) {
        if (pipe2(pair, O_NONBLOCK) < 0)
            _exit(98);
        while (write(pair[1], block, sizeof(block)) > 0)
            ;
    }
}

static void every_kind_of_memory_counts(void **state)
{
    static void (*const hoards[])(void) = {eat_200, hoard_shm, hoard_memfd, hoard_sockets,
                                           hoard_pipes};
    struct limits limits = {.memory_max = 48 << 20};
    struct err e = ERR_INIT;

    (void)state;
    need_v1();
    for (size_t i = 0; i < sizeof(hoards) / sizeof(hoards[0]); i++) {
        struct cgroup_usage usage;
        struct cgroup *c;
        int status;

        ok(cgroup_create(tree, "hoard.web.1", &limits, &c, &e), &e);
        waitpid(start_in(c, hoards[i]), &status, 0);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            fail_msg("hoard %zu lives: status %x", i, (unsigned)status);
        ok(cgroup_usage(c, &usage, &e), &e);
        assert_true(usage.oom_kills >= 1);
        assert_true(usage.oom_own);
        /* Also for an agent that was not there to hear of it. */
        struct cgroup *again;
        ok(cgroup_open(tree, "hoard.web.1", &again, &e), &e);
        ok(cgroup_usage(again, &usage, &e), &e);
        assert_true(usage.oom_own);
        cgroup_freep(&again);
        remove_soon(&c);
    }
    /* The control: with room for it, each does what it does and ends. */
    limits.memory_max = UINT64_C(2) << 30;
    for (size_t i = 0; i < 3; i++) {
        struct cgroup *c;
        int status;

        ok(cgroup_create(tree, "hoard.web.1", &limits, &c, &e), &e);
        waitpid(start_in(c, hoards[i]), &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        remove_soon(&c);
    }
}

static void kill_myself_near_the_limit(void)
{
    eat(40 << 20);
    raise(SIGKILL);
}

static void ones_own_sigkill_is_no_oom(void **state)
{
    struct limits limits = {.memory_max = 48 << 20};
    struct cgroup_usage usage;
    struct cgroup *c;
    struct err e = ERR_INIT;
    int status;

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "self.web.1", &limits, &c, &e), &e);
    waitpid(start_in(c, kill_myself_near_the_limit), &status, 0);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    ok(cgroup_usage(c, &usage, &e), &e);
    assert_int_equal(usage.oom_kills, 0);
    assert_false(usage.oom_own);
    remove_soon(&c);
}

/* As an ordinary user's agent finds the tree of root's, of the same name: there, and no use. */
static void the_tree_of_another_user_is_none(void **state)
{
    int status;

    (void)state;
    need_v1();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct cgroup_tree *found = NULL;
        struct err e = ERR_INIT;
        bool good = setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
                    cgroup_tree_open(parent, true, &found, &e) == -EACCES &&
                    cgroup_tree_open(parent, false, &found, &e) == 0 &&
                    cgroup_tree_version(found) == CGROUP_NONE;
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* A weight of one's own costs a cgroup more; nobody else pays for it. */
static void a_weight_for_the_disk_is_made_at_the_start(void **state)
{
    struct limits limits = {.io_weight = 100};
    struct cgroup *c;
    struct err e = ERR_INIT;
    char path[512], buf[64];
    bool later = false;

    (void)state;
    need_v1();
    if (!cgroup_tree_can(tree, CGROUP_CAN_IO)) {
        print_message("no BFQ here: nothing to weigh with\n");
        skip();
    }
    ok(cgroup_create(tree, "io.web.1", &limits, &c, &e), &e);
    snprintf(path, sizeof(path), "/sys/fs/cgroup/blkio%s/io.web.1", parent);
    assert_int_equal(access(path, F_OK), -1);
    limits.io_weight = 300;
    ok(cgroup_set_limits(c, &limits, &later, &e), &e);
    assert_true(later);
    limits.io_weight = 100;
    ok(cgroup_set_limits(c, &limits, &later, &e), &e);
    assert_false(later);
    remove_soon(&c);
    limits.io_weight = 300;
    ok(cgroup_create(tree, "io.web.1", &limits, &c, &e), &e);
    read_level("blkio", "io.web.1", tree->io_file, buf, sizeof(buf));
    assert_non_null(strstr(buf, "300"));
    pid_t pid = start_in(c, (void (*)(void))pause);
    for (int i = 0; i < 6000 && !cgroup_populated(c); i++)
        usleep(10000);
    read_level("blkio", "io.web.1", "cgroup.procs", buf, sizeof(buf));
    assert_int_equal(atoi(buf), pid);
    limits.io_weight = 50;
    ok(cgroup_set_limits(c, &limits, &later, &e), &e);
    assert_false(later);
    ok(cgroup_kill(c, &e), &e);
    waitpid(pid, NULL, 0);
    remove_soon(&c);
}

static void an_agent_that_died_finds_it_again(void **state)
{
    struct limits limits = {.memory_max = 64 << 20};
    struct cgroup *c;
    struct err e = ERR_INIT;

    (void)state;
    need_v1();
    ok(cgroup_create(tree, "adopt.web.1", &limits, &c, &e), &e);
    pid_t pid = start_in(c, (void (*)(void))pause);
    cgroup_freep(&c);
    ok(cgroup_open(tree, "adopt.web.1", &c, &e), &e);
    for (int i = 0; i < 6000 && !cgroup_populated(c); i++)
        usleep(10000); /* it joins by itself */
    assert_true(cgroup_populated(c));
    struct rlimit was = fds_limit(0);
    bool seen = cgroup_populated(c); /* who cannot look does not say that it is empty */
    fds_allow(&was);
    assert_true(seen);
    assert_true(cgroup_oom_fd(c) >= 0);
    ok(cgroup_kill(c, &e), &e);
    waitpid(pid, NULL, 0);
    remove_soon(&c);
}

/* Its maker was killed between two levels: the next agent's sweep. */
static void half_a_cgroup_can_be_killed_and_removed(void **state)
{
    struct limits limits = {.memory_max = 64 << 20};
    struct cgroup *c;
    struct err e = ERR_INIT;
    char path[512];

    (void)state;
    need_v1();
    for (int i = 0; i < 2; i++) {
        ok(cgroup_create(tree, "half.web.1", &limits, &c, &e), &e);
        cgroup_freep(&c);
        snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s/half.web.1", i ? "memory" : "freezer",
                 parent);
        assert_int_equal(rmdir(path), 0);
        ok(cgroup_open(tree, "half.web.1", &c, &e), &e);
        ok(cgroup_kill(c, &e), &e);
        remove_soon(&c);
        assert_int_equal(cgroup_open(tree, "half.web.1", &c, &e), -ENOENT);
        e = (struct err)ERR_INIT;
    }
}

/* --- v2, on a directory --- */

static char fake[] = "/tmp/cgroup2-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[512];

    snprintf(full, sizeof(full), "%s/%s", fake, path);
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void is(const char *path, const char *text)
{
    scoped_free char *got = NULL;
    struct err e = ERR_INIT;
    char full[512];
    size_t len;

    snprintf(full, sizeof(full), "%s/%s", fake, path);
    ok(file_read(AT_FDCWD, full, 8192, &got, &len, &e), &e);
    if (strcmp(got, text) != 0)
        fail_msg("%s has %s instead of %s", path, got, text);
}

static void v2_speaks_the_files_of_the_kernel(void **state)
{
    struct limits limits = {.memory_quota = 512 << 20,
                            .memory_max = 1 << 30,
                            .pids = 256,
                            .cpu_shares = 2048,
                            .cpu_percent = 150,
                            .io_weight = 250};
    struct cgroup_usage usage;
    struct cgroup_tree *t;
    struct cgroup *c;
    struct err e = ERR_INIT;
    char mountinfo[256], path[256], **ids;
    bool later;

    (void)state;
    assert_non_null(mkdtemp(fake));
    snprintf(mountinfo, sizeof(mountinfo),
             "30 24 0:26 / %s rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", fake);
    put("mountinfo", mountinfo);
    put("self", "0::/system.slice/dynod.service\n");
    put("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n");
    snprintf(path, sizeof(path), "%s/dynod", fake);
    assert_int_equal(mkdir(path, 0755), 0);
    /* What is written goes to the front of this ordinary file, and is looked at below. */
    put("dynod/cgroup.subtree_control", "------------------- io cpu memory pids\n");
    put("dynod/io.weight", "default 100\n");
    char self[256], info[256];
    snprintf(self, sizeof(self), "%s/self", fake);
    snprintf(info, sizeof(info), "%s/mountinfo", fake);
    struct cgroup_sources src = {info, self};
    ok(cgroup_tree_open_at(&src, "/dynod", true, &t, &e), &e);
    assert_int_equal(cgroup_tree_version(t), CGROUP_V2);
    assert_string_equal(cgroup_tree_text(t), "v2: memory pids cpu io, in /dynod");
    is("dynod/cgroup.subtree_control", "+memory+pids+cpu+io io cpu memory pids\n");

    static const char *const files[] = {"memory.max",  "memory.swap.max", "memory.oom.group",
                                        "pids.max",    "cpu.weight",      "cpu.max",
                                        "cgroup.kill", "io.weight",       "cgroup.freeze"};
    snprintf(path, sizeof(path), "%s/dynod/x.web.1", fake);
    assert_int_equal(mkdir(path, 0755), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "dynod/x.web.1/%s", files[i]);
        put(path, "");
    }
    put("dynod/x.web.1/memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n");
    put("dynod/x.web.1/memory.stat", "anon 1048576\nfile 2097152\nkernel 5\nfile_mapped 9\n");
    put("dynod/x.web.1/memory.swap.current", "4096\n");
    put("dynod/x.web.1/pids.current", "3\n");
    put("dynod/x.web.1/cpu.stat", "usage_usec 777\nuser_usec 700\n");
    put("dynod/x.web.1/cgroup.events", "populated 1\nfrozen 0\n");
    ok(cgroup_open(t, "x.web.1", &c, &e), &e);
    ok(cgroup_set_limits(c, &limits, &later, &e), &e);
    assert_false(later);
    is("dynod/x.web.1/memory.max", "1073741824");
    is("dynod/x.web.1/memory.swap.max", "0"); /* so that the sum stays within memory_max */
    is("dynod/x.web.1/memory.oom.group", "1");
    is("dynod/x.web.1/pids.max", "256");
    is("dynod/x.web.1/cpu.weight", "200");
    is("dynod/x.web.1/cpu.max", "150000 100000");
    is("dynod/x.web.1/io.weight", "250");
    ok(cgroup_tree_check(t, "[size x]", &limits, &e), &e);
    assert_false(cgroup_frozen(c));
    ok(cgroup_freeze(c, true, &e), &e);
    is("dynod/x.web.1/cgroup.freeze", "1");
    assert_true(cgroup_frozen(c));
    ok(cgroup_freeze(c, false, &e), &e);
    assert_false(cgroup_frozen(c));
    ok(cgroup_usage(c, &usage, &e), &e);
    assert_int_equal(usage.memory, 1048576 + 2097152 + 4096);
    assert_int_equal(usage.memory_rss, 1048576);
    assert_int_equal(usage.pids, 3);
    assert_int_equal(usage.cpu_usec, 777);
    assert_int_equal(usage.memory_kernel, 5);
    assert_int_equal(usage.oom_kills, 2);
    assert_true(usage.oom_own);
    /* Killed, but not for a limit of its own. */
    put("dynod/x.web.1/memory.events", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 2\n");
    ok(cgroup_usage(c, &usage, &e), &e);
    assert_int_equal(usage.oom_kills, 2);
    assert_false(usage.oom_own);
    assert_true(cgroup_populated(c));
    put("dynod/x.web.1/cgroup.events", "populated 0\nfrozen 0\n");
    assert_false(cgroup_populated(c));
    assert_int_equal(cgroup_quota_fd(c), -1);
    struct pollfd oom = {.fd = cgroup_oom_fd(c), .events = POLLIN};
    cgroup_oom_read(c);
    assert_int_equal(poll(&oom, 1, 0), 0);
    put("dynod/x.web.1/memory.events", "low 0\nhigh 0\nmax 3\noom 3\noom_kill 3\n");
    assert_int_equal(poll(&oom, 1, 60000), 1);
    ok(cgroup_kill(c, &e), &e);
    is("dynod/x.web.1/cgroup.kill", "1");
    ok(cgroup_tree_list(t, &ids, &e), &e);
    assert_string_equal(ids[0], "x.web.1");
    assert_null(ids[1]);
    cgroup_ids_free(ids);
    cgroup_freep(&c);
    cgroup_tree_freep(&t);

    /* Without its controllers v2 does not count, and without v1 there is nothing. */
    put("cgroup.controllers", "hugetlb\n");
    assert_int_equal(cgroup_tree_open_at(&src, "/dynod", true, &t, &e), -ENOENT);
    assert_non_null(strstr(e.text, "memory controller"));
    ok(cgroup_tree_open_at(&src, "/dynod", false, &t, &e), &e);
    assert_int_equal(cgroup_tree_version(t), CGROUP_NONE);
    ok(cgroup_create(t, "x.web.1", &limits, &c, &e), &e);
    ok(cgroup_usage(c, &usage, &e), &e);
    assert_int_equal(usage.pids, 0);
    assert_false(cgroup_populated(c));
    ok(cgroup_kill(c, &e), &e);
    ok(cgroup_remove(c, &e), &e);
    assert_int_equal(cgroup_oom_fd(c), -1);
    cgroup_freep(&c);
    cgroup_tree_freep(&t);
    ok(tree_remove(AT_FDCWD, fake, &e), &e);
}

/* --- v2: where the service manager lets us --- */

static void make_dir(const char *path)
{
    char full[512];

    snprintf(full, sizeof(full), "%s/%s", fake, path);
    assert_int_equal(mkdir(full, 0755), 0);
}

/* A cgroup with its file, and the mark of systemd when it is DELEGATED. */
static void make_unit(const char *path, bool delegated)
{
    char file[300], full[512];

    make_dir(path);
    snprintf(file, sizeof(file), "%s/cgroup.subtree_control", path);
    put(file, "------------------- io cpu memory pids\n");
    snprintf(file, sizeof(file), "%s/cgroup.procs", path);
    put(file, "");
    snprintf(full, sizeof(full), "%s/%s", fake, path);
    /* To an ordinary user, what may be written is delegated: no mark is needed. */
    if (delegated && geteuid() == 0)
        assert_int_equal(setxattr(full, "trusted.delegate", "1", 1, 0), 0);
}

static bool is_dir(const char *path)
{
    struct stat st;
    char full[512];

    snprintf(full, sizeof(full), "%s/%s", fake, path);
    return stat(full, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Opens what "auto" means for a process of the cgroup SELF. */
static struct cgroup_tree *open_auto(const char *self)
{
    struct cgroup_tree *t = NULL;
    struct err e = ERR_INIT;
    char info[64], own[64];

    snprintf(info, sizeof(info), "%s/mountinfo", fake);
    snprintf(own, sizeof(own), "%s/self", fake);
    put("self", self);
    struct cgroup_sources src = {info, own};
    ok(cgroup_tree_open_at(&src, "auto", true, &t, &e), &e);
    return t;
}

static int fake_setup(void **state)
{
    char mountinfo[256];

    (void)state;
    strcpy(fake, "/tmp/cgroup2-XXXXXX");
    assert_non_null(mkdtemp(fake));
    snprintf(mountinfo, sizeof(mountinfo), "30 24 0:26 / %s rw - cgroup2 cgroup2 rw\n", fake);
    put("mountinfo", mountinfo);
    put("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n");
    make_unit("dynod.slice", false);
    return 0;
}

static int fake_teardown(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, fake, &e);
}

static void dynos_live_in_the_unit_beside_the_agents(void **state)
{
    struct err e = ERR_INIT;
    char **ids;

    (void)state;
    make_unit("dynod.slice/dynod.service", false);
    make_unit("dynod.slice/dynod-dynos.service", true);
    make_dir("dynod.slice/dynod-dynos.service/.control"); /* the service manager's */
    make_unit("dynod.slice/dynod-dynos.service/.keeper", false);
    put("dynod.slice/dynod-dynos.service/cgroup.procs", "18\n");
    make_dir("dynod.slice/dynod-dynos.service/x.web.1");
    struct cgroup_tree *t = open_auto("0::/dynod.slice/dynod.service\n");
    ok(cgroup_tree_list(t, &ids, &e), &e);
    assert_string_equal(ids[0], "x.web.1");
    assert_null(ids[1]);
    cgroup_ids_free(ids);
    assert_string_equal(
        cgroup_tree_text(t),
        "v2: memory pids cpu; missing: io weights, in /dynod.slice/dynod-dynos.service");
    is("dynod.slice/dynod-dynos.service/cgroup.subtree_control",
       "+memory+pids+cpu+io io cpu memory pids\n");
    is("dynod.slice/dynod-dynos.service/.keeper/cgroup.procs", "18");
    /* One writer: what is above belongs to the service manager, and so does the unit itself. */
    is("dynod.slice/cgroup.subtree_control", "------------------- io cpu memory pids\n");
    is("dynod.slice/dynod.service/cgroup.subtree_control",
       "------------------- io cpu memory pids\n");
    ok(cgroup_tree_remove(t, &e), &e);
    assert_true(is_dir("dynod.slice/dynod-dynos.service"));
    cgroup_tree_freep(&t);
}

/* What lacks is named, and who can give it. */
static void too_little_delegation_stops_the_start(void **state)
{
    const char *unit = "dynod.slice/dynod-dynos.service/cgroup.subtree_control";
    struct limits plain = {.memory_max = 1 << 20, .io_weight = 100}, weighed = {.io_weight = 200};
    struct cgroup_tree *t;
    struct err e = ERR_INIT;
    char self[256], info[256];

    (void)state;
    make_unit("dynod.slice/dynod.service", false);
    make_unit("dynod.slice/dynod-dynos.service", true);
    make_unit("dynod.slice/dynod-dynos.service/.keeper", false);
    put("dynod.slice/dynod-dynos.service/cgroup.procs", "");
    t = open_auto("0::/dynod.slice/dynod.service\n");
    /* It has io, but not a file to weigh with. */
    ok(cgroup_tree_check(t, "[size a]", &plain, &e), &e);
    assert_int_equal(cgroup_tree_check(t, "[size a]", &weighed, &e), -EOPNOTSUPP);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_non_null(strstr(e.text, "[size a]: io_weight needs the io cgroup controller"));
    assert_non_null(strstr(e.text, "Delegate="));
    cgroup_tree_freep(&t);
    put(unit, "------------------- memory pids\n");
    snprintf(self, sizeof(self), "%s/self", fake);
    snprintf(info, sizeof(info), "%s/mountinfo", fake);
    struct cgroup_sources src = {info, self};
    assert_int_equal(cgroup_tree_open_at(&src, "auto", true, &t, &e), -ENOENT);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_non_null(strstr(e.text, " cpu controller"));
    assert_non_null(strstr(e.text, "Delegate="));
    put(unit, "------------------- cpu io\n");
    assert_int_equal(cgroup_tree_open_at(&src, "auto", true, &t, &e), -ENOENT);
    assert_non_null(strstr(e.text, " memory pids controller"));
}

static void an_instance_of_a_unit_has_its_own(void **state)
{
    (void)state;
    make_unit("dynod.slice/dynod@b.service", false);
    make_unit("dynod.slice/dynod-dynos@b.service", true);
    make_unit("dynod.slice/dynod-dynos.service", true);
    struct cgroup_tree *t = open_auto("0::/dynod.slice/dynod@b.service\n");
    is("dynod.slice/dynod-dynos@b.service/cgroup.subtree_control",
       "+memory+pids+cpu+io io cpu memory pids\n");
    is("dynod.slice/dynod-dynos.service/cgroup.subtree_control",
       "------------------- io cpu memory pids\n");
    cgroup_tree_freep(&t);
}

static void a_unit_that_is_not_delegated_is_left_alone(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* what a user may write counts as delegated */
    make_unit("dynod.slice/dynod.service", false);
    make_unit("dynod.slice/dynod-dynos.service", false);
    make_unit("dynod", false);
    struct cgroup_tree *t = open_auto("0::/dynod.slice/dynod.service\n");
    is("dynod.slice/dynod-dynos.service/cgroup.subtree_control",
       "------------------- io cpu memory pids\n");
    is("dynod/cgroup.subtree_control", "+memory+pids+cpu+io io cpu memory pids\n");
    cgroup_tree_freep(&t);
}

/* Without a second unit: a part of the agent's own, and the agent steps aside. */
static void the_agents_own_unit_is_divided(void **state)
{
    (void)state;
    make_unit("dynod.slice/dynod.service", true);
    make_unit("dynod.slice/dynod.service/dynos", false);
    make_unit("dynod.slice/dynod.service/agent", false);
    put("dynod.slice/dynod.service/cgroup.procs", "17\n");
    struct cgroup_tree *t = open_auto("0::/dynod.slice/dynod.service\n");
    is("dynod.slice/dynod.service/agent/cgroup.procs", "17");
    is("dynod.slice/dynod.service/dynos/cgroup.subtree_control",
       "+memory+pids+cpu+io io cpu memory pids\n");
    assert_non_null(strstr(cgroup_tree_text(t), "UNIT-dynos.service"));
    cgroup_tree_freep(&t);
    /* A service manager that starts it in that leaf (DelegateSubgroup=) has no such trouble. */
    t = open_auto("0::/dynod.slice/dynod.service/agent\n");
    assert_string_equal(
        cgroup_tree_text(t),
        "v2: memory pids cpu; missing: io weights, in /dynod.slice/dynod.service/dynos");
    cgroup_tree_freep(&t);
}

static int setup(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    alarm(280);
    snprintf(parent, sizeof(parent), "/dynod-test-%d", getpid());
    ok(cgroup_tree_open(parent, geteuid() == 0, &tree, &e), &e);
    return 0;
}

static int teardown(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    ok(cgroup_tree_remove(tree, &e), &e);
    cgroup_tree_freep(&tree);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_written),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(the_tree_lists_what_is_in_it),
        cmocka_unit_test(the_quota_is_told_and_the_maximum_kills),
        cmocka_unit_test(a_fork_bomb_is_held_and_killed),
        cmocka_unit_test(a_frozen_one_stands_still_and_can_be_killed),
        cmocka_unit_test(every_kind_of_memory_counts),
        cmocka_unit_test(ones_own_sigkill_is_no_oom),
        cmocka_unit_test(the_tree_of_another_user_is_none),
        cmocka_unit_test(a_weight_for_the_disk_is_made_at_the_start),
        cmocka_unit_test(an_agent_that_died_finds_it_again),
        cmocka_unit_test(half_a_cgroup_can_be_killed_and_removed),
        cmocka_unit_test(v2_speaks_the_files_of_the_kernel),
        cmocka_unit_test_setup_teardown(dynos_live_in_the_unit_beside_the_agents, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(too_little_delegation_stops_the_start, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(an_instance_of_a_unit_has_its_own, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_unit_that_is_not_delegated_is_left_alone, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(the_agents_own_unit_is_divided, fake_setup, fake_teardown),
    };

    return cmocka_run_group_tests_name("cgroup", tests, setup, teardown);
}
