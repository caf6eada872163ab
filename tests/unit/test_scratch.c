/* What dynos write, and how much of it. As root each way but project quotas, which the machine in
 * tests/vm has; in a mount namespace of its own, on disks (tmpfs) of its own. */
#include "isolate/scratch.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/scratch_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#define MIB    (UINT64_C(1) << 20)
#define HELPER 65533u
#define UID    200077u

static const struct scratch_quota small = {16 * MIB, 500}, other = {8 * MIB, 100}, none;
static char dir[64];
static int dirfd_ = -1;

#define must(call)                                                                                 \
    do {                                                                                           \
        struct err must_e_ = ERR_INIT;                                                             \
        struct err *e = &must_e_;                                                                  \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, must_e_.text);                                               \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/scratch-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    if (geteuid() == 0 &&
        (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
         mount("scratch", dir, "tmpfs", 0, "size=64M") < 0))
        return -1;
    dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dirfd_ < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    fd_closep(&dirfd_);
    /* Not lazily: nothing may use it any more, but who was killed may still be on its way. */
    for (int i = 0; geteuid() == 0 && umount2(dir, 0) < 0; i++) {
        if (errno != EBUSY || i == 6000)
            return -1;
        (void)usleep(10000);
    }
    return rmdir(dir);
}

static void needs_root(void)
{
    if (geteuid() != 0)
        skip(); /* only root mounts filesystems */
}

static struct scratch_config config_of(const char *way)
{
    static const struct scratch_quota quotas[] = {{16 * MIB, 500}, {8 * MIB, 100}};

    return (struct scratch_config){.dirfd = dirfd_,
                                   .path = dir,
                                   .way = way,
                                   .rootless = geteuid() != 0,
                                   .helper = HELPER,
                                   .quotas = quotas,
                                   .n_quotas = 2,
                                   .overcommit = 1};
}

/* Loop devices whose file lies on the test's disk: their paths may be another's. */
static unsigned count_loops(void)
{
    scoped(dir_closep) DIR *d = opendir("/sys/block");
    struct dirent *entry;
    struct stat disk;
    unsigned n = 0;

    assert_int_equal(fstat(dirfd_, &disk), 0);
    while (d && (entry = readdir(d))) {
        struct loop_info64 info;
        char path[300];

        if (strncmp(entry->d_name, "loop", 4) != 0)
            continue;
        (void)snprintf(path, sizeof(path), "/dev/%.100s", entry->d_name);
        scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
        n += fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == disk.st_dev;
    }
    return n;
}

/* Those who take a mount apart are not always those who let go of it. */
static void assert_loops(unsigned wanted)
{
    for (int i = 0; i < 6000 && count_loops() != wanted; i++)
        (void)usleep(10000);
    assert_int_equal(count_loops(), wanted);
}

/* Writes to NAME below DIR until it fails. Returns the bytes; errno says why. */
static uint64_t fill(int at, const char *name)
{
    static char block[65536];
    scoped_fd fd = openat(at, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    uint64_t sum = 0;
    ssize_t n;

    memset(block, 'x', sizeof(block));
    while (fd >= 0 && sum < 256 * MIB && (n = write(fd, block, sizeof(block))) > 0)
        sum += (uint64_t)n;
    return sum;
}

static void an_image_holds_what_it_promises_and_no_more(void **state)
{
    struct scratch_config c = config_of("image");
    struct scratch scratch = SCRATCH_INIT;
    struct scratch_usage u;
    struct scratches *s;
    struct stat st;

    (void)state;
    needs_root();
    must(scratches_open(&c, &s, e));
    assert_int_equal(scratches_way(s), SCRATCH_IMAGE);
    must(scratch_take(s, "a.web.1.00", UID, UID, &small, &scratch, e));
    assert_true(scratch.mounted);
    assert_int_equal(fstatat(scratch.fd, "upper", &st, 0), 0);
    assert_int_equal(st.st_uid, UID);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(fstatat(scratch.fd, "tmp", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 01777);
    assert_int_equal(fstatat(scratch.fd, "work", &st, 0), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(scratch_usage(scratch.fd, &small, &u), 0);
    assert_false(scratch_is_full(&u));

    uint64_t wrote = fill(scratch.fd, "tmp/big");
    assert_int_equal(errno, ENOSPC);
    assert_in_range(wrote, small.bytes, small.bytes + small.bytes / 4);
    assert_int_equal(scratch_usage(scratch.fd, &small, &u), 0);
    assert_true(scratch_is_full(&u));
    assert_in_range(u.bytes, small.bytes, u.bytes_max);

    scratch_done(&scratch);
    scratches_freep(&s);
    assert_loops(0);
}

static void an_image_holds_so_many_files_and_no_more(void **state)
{
    struct scratch_config c = config_of("image");
    struct scratch scratch = SCRATCH_INIT;
    struct scratch_usage u;
    struct scratches *s;
    unsigned n = 0;
    char name[32];
    int fd;

    (void)state;
    needs_root();
    must(scratches_open(&c, &s, e));
    must(scratch_take(s, "a.web.1.00", UID, UID, &small, &scratch, e));
    do {
        (void)snprintf(name, sizeof(name), "tmp/%u", n);
        fd = openat(scratch.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
            (void)close(fd);
    } while (fd >= 0 && ++n < 100000);
    assert_int_equal(errno, ENOSPC);
    assert_in_range(n, small.inodes, small.inodes + 100);
    assert_int_equal(scratch_usage(scratch.fd, &small, &u), 0);
    assert_true(scratch_is_full(&u));
    assert_true(u.bytes < u.bytes_max / 2);
    scratch_done(&scratch);
    scratches_freep(&s);
    assert_loops(0);
}

static uint64_t disk_used(void)
{
    struct statfs fs;

    assert_int_equal(fstatfs(dirfd_, &fs), 0);
    return (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
}

static void what_is_deleted_is_free_on_the_disk_again(void **state)
{
    struct scratch_config c = config_of("image");
    struct scratch scratch = SCRATCH_INIT;
    struct scratches *s;

    (void)state;
    needs_root();
    must(scratches_open(&c, &s, e));
    must(scratch_take(s, "a.web.1.00", UID, UID, &small, &scratch, e));
    uint64_t before = disk_used();
    assert_true(before < 2 * MIB); /* of 16 */
    (void)fill(scratch.fd, "tmp/big");
    scoped_fd inside = openat(scratch.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(syncfs(inside), 0);
    assert_true(disk_used() > before + 15 * MIB);
    assert_int_equal(unlinkat(scratch.fd, "tmp/big", 0), 0);
    assert_int_equal(syncfs(inside), 0);
    assert_true(disk_used() < before + MIB);
    fd_closep(&inside);
    scratch_done(&scratch);
    assert_loops(0);
    assert_int_equal(disk_used(), 0);
    scratches_freep(&s);
}

static void promises_are_kept_or_not_made(void **state)
{
    struct scratch_config c = config_of("image");
    struct scratch scratch[4] = {SCRATCH_INIT, SCRATCH_INIT, SCRATCH_INIT, SCRATCH_INIT};
    struct err why = ERR_INIT;
    struct scratches *s;
    char name[8] = "r0";

    (void)state;
    needs_root();
    c.keep_free = 10 * MIB; /* but a twentieth of 64 MB is less: 3.2 */
    must(scratches_open(&c, &s, e));
    must(scratch_adopt(s, "of an earlier agent", &small, e));
    for (int i = 0; i < 2; i++, name[1]++)
        must(scratch_take(s, name, UID, UID, &small, &scratch[i], e));
    assert_int_equal(scratch_take(s, "r9", UID, UID, &small, &scratch[2], &why), -ENOSPC);
    assert_non_null(strstr(why.text, "no room on the disk"));
    assert_non_null(strstr(why.text, "disk_keep_free"));
    assert_int_equal(why.fault, FAULT_PLATFORM);
    must(scratch_take(s, name, UID, UID, &other, &scratch[2], e)); /* a smaller one fits */
    scratch_done(&scratch[2]);
    scratch_forget(s, name);
    /* What is written is no promise any more, but nor is it free. */
    (void)fill(scratch[0].fd, "tmp/big");
    scoped_fd inside = openat(scratch[0].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(syncfs(inside), 0);
    fd_closep(&inside);
    scratch_note(s, "r0", small.bytes);
    assert_int_equal(scratch_take(s, "r9", UID, UID, &small, &scratch[3], &why), -ENOSPC);
    scratch_forget(s, "of an earlier agent");
    must(scratch_take(s, "r9", UID, UID, &small, &scratch[3], e));
    for (int i = 0; i < 4; i++)
        scratch_done(&scratch[i]);
    scratches_freep(&s);
    /* The operator may say otherwise. */
    c.overcommit = 3;
    must(scratches_open(&c, &s, e));
    for (int i = 0; i < 10; i++)
        must(scratch_adopt(s, (char[]){(char)('a' + i), '\0'}, &small, e));
    must(scratch_take(s, "r9", UID, UID, &small, &scratch[0], e));
    scratch_done(&scratch[0]);
    scratches_freep(&s);
    assert_loops(0);
}

/* Asks for N, and waits for those that a process makes. */
static int ready(struct scratches *s, const struct scratch_quota *quota, unsigned n)
{
    struct err why = ERR_INIT;
    int r = scratch_ready(s, quota, n, &why);

    while (r == 1 && scratches_way(s) == SCRATCH_IMAGE) {
        struct pollfd p = {.fd = scratch_ready_fd(s), .events = POLLIN};

        assert_int_equal(poll(&p, 1, 60000), 1);
        if (scratch_ready_hear(s, &why) != 0)
            break;
    }
    if (why.errnum)
        print_message("# %s\n", why.text);
    return why.errnum ? -why.errnum : r;
}

static void one_made_ahead_is_used_once(void **state)
{
    struct scratch_config c = config_of(geteuid() == 0 ? "image" : "none");
    struct scratch a = SCRATCH_INIT, b = SCRATCH_INIT;
    uid_t uid = geteuid() == 0 ? UID : geteuid();
    struct scratches *s;

    (void)state;
    must(scratches_open(&c, &s, e));
    assert_int_equal(ready(s, &small, 1), 1);
    assert_int_equal(ready(s, &small, 1), 0);
    assert_int_equal(ready(s, &small, 2), 1);
    must(scratch_take(s, "a", uid, uid, &small, &a, e));
    assert_int_equal(ready(s, &small, 2), 1);
    must(scratch_take(s, "b", uid, uid, &small, &b, e));
    int fd = openat(a.fd, "tmp/mine", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(faccessat(b.fd, "tmp/mine", F_OK, 0), -1);
    scratch_done(&a);
    scratch_done(&b);
    scratch_forget(s, "a");
    scratches_freep(&s);
    if (geteuid() == 0) {
        assert_loops(0);
    } else { /* the dynos' are the caller's to remove */
        must(tree_remove(dirfd_, "a", e));
        must(tree_remove(dirfd_, "b", e));
    }
    /* Of those made ahead nothing is left. */
    scoped(dir_closep) DIR *d = opendir(dir);
    struct dirent *entry;
    while ((entry = readdir(d)))
        assert_int_equal(entry->d_name[0], '.');
}

static void those_made_ahead_give_way(void **state)
{
    struct scratch_config c = config_of("image");
    struct scratch scratch = SCRATCH_INIT;
    struct scratches *s;

    (void)state;
    needs_root();
    must(scratches_open(&c, &s, e));
    unsigned n = 1;
    while (n < 20 && ready(s, &other, n) == 1)
        n++;
    assert_int_equal(ready(s, &other, n), -ENOSPC);
    struct err left = ERR_INIT;
    assert_int_equal(scratch_take(s, "a", UID, UID, &small, &scratch, &left), 0);
    assert_int_equal(left.errnum, 0); /* there was no room at first */
    scratch_done(&scratch);
    scratches_freep(&s);
    assert_loops(0);
}

static void a_maker_that_dies_is_replaced(void **state)
{
    struct scratch_config c = config_of("image");
    struct err why = ERR_INIT;
    struct scratches *s;

    (void)state;
    needs_root();
    must(scratches_open(&c, &s, e));
    assert_false(scratch_coming(s, &small));
    assert_int_equal(ready(s, &small, 1), 1);
    assert_false(scratch_coming(s, &small)); /* it is there */
    (void)kill(s->maker.pid, SIGKILL);
    struct pollfd p = {.fd = scratch_ready_fd(s), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_int_equal(scratch_ready_hear(s, &why), -EPIPE);
    assert_int_equal(scratch_ready_fd(s), -1);
    assert_int_equal(ready(s, &small, 2), 1);
    assert_int_equal(count_loops(), 2);
    assert_false(scratch_ready_fewer(s, &small, 2));
    assert_true(scratch_ready_fewer(s, &small, 1));
    assert_false(scratch_ready_fewer(s, &small, 1));
    assert_loops(1);
    scratches_freep(&s);
    assert_loops(0);
}

static void a_directory_has_no_quota(void **state)
{
    struct scratch_config c = config_of("none");
    struct scratch scratch = SCRATCH_INIT;
    uid_t uid = geteuid() == 0 ? UID : geteuid();
    struct scratch_usage u;
    struct scratches *s;
    struct err why = ERR_INIT;
    struct stat st;

    (void)state;
    must(scratches_open(&c, &s, e));
    assert_int_equal(scratches_way(s), SCRATCH_PLAIN);
    assert_non_null(strstr(scratches_text(s), "dynos share the disk"));
    must(scratch_take(s, "a", uid, uid, &small, &scratch, e));
    assert_false(scratch.mounted);
    assert_int_equal(fstatat(scratch.fd, "tmp", &st, 0), 0);
    assert_int_equal(st.st_uid, uid);
    /* The control of the two above: the same writing goes on beyond the quota. */
    if (geteuid() == 0)
        assert_true(fill(scratch.fd, "tmp/big") > 2 * small.bytes);
    assert_int_equal(scratch_usage(scratch.fd, &none, &u), -ENODATA);
    struct scratch again = SCRATCH_INIT;
    assert_int_equal(scratch_take(s, "a", uid, uid, &small, &again, &why), -EEXIST);
    scratch_done(&scratch);
    scratch_forget(s, "a");
    scratches_freep(&s);
    must(tree_remove(dirfd_, "a", e));
}

static void an_agent_that_is_killed_leaves_none(void **state)
{
    int up[2];
    char c;

    (void)state;
    needs_root();
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct scratch_config config = config_of("image");
        struct scratch scratch = SCRATCH_INIT;
        struct scratches *s;
        struct err why = ERR_INIT;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that failed waits for nobody */
        if (scratches_open(&config, &s, &why) < 0 || ready(s, &other, 1) < 0 ||
            scratch_take(s, "a", UID, UID, &small, &scratch, &why) < 0)
            _exit(1);
        (void)write(up[1], "", 1);
        (void)pause();
        _exit(2);
    }
    (void)close(up[1]);
    assert_int_equal(read(up[0], &c, 1), 1);
    (void)close(up[0]);
    assert_int_equal(count_loops(), 2);
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_loops(0);
    for (int i = 0; i < 6000 && disk_used() > 0; i++)
        (void)usleep(10000);
    assert_int_equal(disk_used(), 0);
}

/* scratches_open() with C fails as the operator's, saying WORDS. */
static void assert_refused(const struct scratch_config *c, const char *words)
{
    struct scratches *s = NULL;
    struct err why = ERR_INIT;
    int r = scratches_open(c, &s, &why);

    scratches_freep(&s);
    assert_true(r < 0);
    if (!strstr(why.text, words))
        fail_msg("\"%s\" does not say: %s", why.text, words);
    assert_int_equal(why.fault, FAULT_OPERATOR);
}

static void what_is_missing_is_named(void **state)
{
    static const struct scratch_quota huge = {UINT64_C(1) << 39, 0};
    struct scratch_config c = config_of("project");

    (void)state;
    needs_root();
    assert_refused(&c, "prjquota");
    c = config_of("auto");
    c.quotas = &huge;
    c.n_quotas = 1;
    assert_refused(&c, "too small for one dyno");

    c = config_of("image");
    assert_int_equal(mount("empty", "/usr/sbin", "tmpfs", 0, ""), 0);
    assert_refused(&c, "install e2fsprogs");
    c.way = "auto";
    assert_refused(&c, "disk_quota = none");
    /* Nobody needs it where nobody has a quota. */
    struct scratches *s;
    c.n_quotas = 0;
    must(scratches_open(&c, &s, e));
    scratches_freep(&s);
    assert_int_equal(umount("/usr/sbin"), 0);

    c = config_of("image");
    assert_int_equal(mount("empty", "/dev", "tmpfs", 0, ""), 0);
    int fd = open("/dev/null", O_WRONLY | O_CREAT | O_CLOEXEC, 0666); /* a file will do */
    assert_int_equal(fchmod(fd, 0666), 0);
    (void)close(fd);
    assert_refused(&c, "modprobe loop");
    assert_int_equal(umount("/dev"), 0);
}

static void a_probe_says_what_works(void **state)
{
    enum scratch_way way;
    char text[200];

    (void)state;
    scratch_probe(dir, geteuid() != 0, &way, text, sizeof(text));
    assert_int_equal(way, geteuid() == 0 ? SCRATCH_IMAGE : SCRATCH_PLAIN);
    assert_true(strlen(text) > 0);
    scratch_probe("/nonexistent", geteuid() != 0, &way, text, sizeof(text));
    assert_int_equal(way, SCRATCH_PLAIN);
    assert_non_null(strstr(text, "/nonexistent"));
    if (geteuid() == 0)
        assert_loops(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_holds_what_it_promises_and_no_more, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_image_holds_so_many_files_and_no_more, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_deleted_is_free_on_the_disk_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(promises_are_kept_or_not_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_made_ahead_is_used_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(those_made_ahead_give_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_maker_that_dies_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_has_no_quota, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_agent_that_is_killed_leaves_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_probe_says_what_works, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
