/* Archives, good and hostile, through the role `unpack` into a directory, in this process and
 * unconfined: what is tested are the guards themselves. Every archive also goes through
 * slug_inspect(), and through the roles `unpack` and `image` into an image: they must say the same
 * and leave the same tree. Where tar(1) can be told to do without a guard, it shows that the
 * archive bites. */
#include "slug/fetch/unpack.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "slug/inspect.h"
#include "tarball.h"
#include "tmpdir.h"
#include "unpackroles.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

/* BASE/top is handed to the fetch; BASE/canary must stay as it is. */
static struct slug_limits limits;

static int set_up(void **state)
{
    (void)state;
    slug_limits_default(&limits);
    return base_make("unpack-test");
}

/* For trees of many directories, which cost a disk a block each, and many syncs. */
static int set_up_in_memory(void **state)
{
    (void)state;
    slug_limits_default(&limits);
    (void)snprintf(base, sizeof(base), "/dev/shm/unpack-test-XXXXXX");
    return mkdtemp(base) ? 0 : set_up(state);
}

static void digest_of(const struct str *gz, struct digest *ret)
{
    unsigned char sum[32];

    assert_int_equal(EVP_Digest(str_text(gz), gz->len, sum, NULL, EVP_sha256(), NULL), 1);
    digest_from_bytes(sum, ret);
}

static void compare_with_inspect(const struct role_result *res, const struct str *gz)
{
    struct slug_report report;
    struct digest digest;
    struct err e = ERR_INIT;
    int fd;

    assert_int_equal(memfd_with("slug", str_text(gz), gz->len, &fd, &e), 0);
    int r = slug_inspect(fd, &limits, &report, &e);
    close(fd);
    if (r != res->r || strcmp(e.text, res->e.text) != 0)
        fail_msg("fetch: %d %s; inspect: %d %s", res->r, res->e.text, r, e.text);
    if (r < 0)
        return;
    digest_of(gz, &digest);
    assert_string_equal(report.digest.hex, digest.hex);
    assert_int_equal(report.compressed, res->o.compressed);
    assert_int_equal(report.counts.entries, res->o.counts.entries);
    assert_int_equal(report.counts.unpacked, res->o.counts.unpacked);
    assert_int_equal(report.types.n_types, res->o.types.n_types);
    assert_int_equal(report.types.n_warnings, res->o.types.n_warnings);
    slug_report_done(&report);
}

static void assert_same_outcome(const char *what, const struct role_result *res,
                                const struct role_result *role)
{
    if (role->r != res->r || role->e.fault != res->e.fault ||
        strcmp(role->e.text, res->e.text) != 0 ||
        (res->r < 0 && strcmp(role->o.step, res->o.step) != 0))
        fail_msg("fetch: %d %s: %s; %s: %d %s: %s", res->r, res->o.step, res->e.text, what, role->r,
                 role->o.step, role->e.text);
    if (res->r < 0)
        return;
    assert_int_equal(role->o.compressed, res->o.compressed);
    assert_int_equal(role->o.counts.entries, res->o.counts.entries);
    assert_int_equal(role->o.counts.unpacked, res->o.counts.unpacked);
    assert_int_equal(role->o.types.n_types, res->o.types.n_types);
    for (size_t i = 0; i < res->o.types.n_types; i++) {
        assert_string_equal(role->o.types.types[i].name, res->o.types.types[i].name);
        assert_string_equal(role->o.types.types[i].command, res->o.types.types[i].command);
    }
    assert_int_equal(role->o.types.n_warnings, res->o.types.n_warnings);
}

static void compare_with_image(const struct role_result *res, const struct str *gz)
{
    int status, image = open(in_base("image"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct role_result role = roles_image(str_text(gz), gz->len, 4096, image, &limits, &status);
    struct stat st;

    assert_same_outcome("unpack into an image", res, &role);
    assert_true(role.r < 0 ? status != 0 : status == 0);
    assert_int_equal(fstat(image, &st), 0);
    if (role.r == 0) {
        assert_int_equal(image_fsck(image), 0);
        if (geteuid() == 0)
            assert_int_equal(image_differs(base, in_base("top/app"), image), 0);
    }
    close(image);
    unpack_outcome_done(&role.o);
}

/* The gzip file GZ into a fresh BASE/top, and into an image. */
static struct role_result fetch_gz(const struct str *gz)
{
    struct err e = ERR_INIT;

    assert_int_equal(tree_remove(AT_FDCWD, in_base("top"), &e), 0);
    assert_int_equal(mkdir(in_base("top"), 0700), 0);
    int dir = open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct role_result res = roles_dir(str_text(gz), gz->len, 4096, dir, &limits);
    close(dir);
    /* Whatever came: never half a slug under the name. */
    if (res.r < 0 && strcmp(res.o.step, "procfile") != 0)
        assert_int_equal(access(in_base("top/app"), F_OK), -1);
    compare_with_image(&res, gz);
    return res;
}

/* The same for the tar T, which is ended, packed, compared with inspect, and freed. */
static struct role_result fetch(struct str *t)
{
    struct str gz = {0};

    tar_end(t);
    gzip_add(&gz, t->data, t->len);
    struct role_result res = fetch_gz(&gz);
    compare_with_inspect(&res, &gz);
    str_done(&gz);
    str_done(t);
    return res;
}

static void assert_ok(struct str *t)
{
    struct role_result res = fetch(t);

    if (res.r < 0)
        fail_msg("%s: %s", res.o.step, res.e.text);
    assert_int_equal(access(in_base("top/.stage"), F_OK), -1);
    unpack_outcome_done(&res.o);
}

static void assert_refused(struct str *t, const char *step, const char *why)
{
    struct role_result res = fetch(t);

    assert_true(res.r < 0);
    if (strcmp(res.o.step, step) != 0 || !strstr(res.e.text, why))
        fail_msg("'%s' expected, but: %s: %s", why, res.o.step, res.e.text);
    assert_int_equal(res.e.fault, FAULT_APP);
    unpack_outcome_done(&res.o);
}

static void procfile(struct str *t)
{
    tar_file(t, "./app/Procfile", 0644, "web: true\n");
}

/* What tar(1) does with T when told to trust it, in BASE/control/a/b. */
static void control(const struct str *t)
{
    char command[600];
    struct str whole = {0};
    struct err e = ERR_INIT;

    str_add_n(&whole, t->data, t->len);
    tar_end(&whole);
    (void)tree_remove(AT_FDCWD, in_base("control"), &e);
    assert_int_equal(dir_make_all(in_base("control/a/b"), 0700, &e), 0);
    assert_int_equal(file_write_atomic(AT_FDCWD, in_base("t.tar"), whole.data, whole.len, 0600, &e),
                     0);
    (void)snprintf(command, sizeof(command),
                   "cd %s/control/a/b && tar --xattrs --xattrs-include='*' "
                   "-xpPf %s/t.tar 2>/dev/null",
                   base, base);
    (void)system(command);
    str_done(&whole);
}

static struct stat stat_of(const char *name)
{
    struct stat st = {0};

    if (lstat(in_base(name), &st) < 0)
        fail_msg("%s: %s", name, strerror(errno));
    return st;
}

static void assert_text(const char *name, const char *text)
{
    scoped_free char *found = NULL;
    struct err e = ERR_INIT;
    size_t len;

    if (file_read(AT_FDCWD, in_base(name), 1 << 20, &found, &len, &e) < 0)
        fail_msg("%s", e.text);
    assert_string_equal(found, text);
}

/* --- what works --------------------------------------------------------------------------------
 */

static void both_layouts_unpack(void **state)
{
    struct str t = {0};

    (void)state;
    tar_dir(&t, "./app/", 0755);
    procfile(&t);
    tar_file(&t, "./app/bin/x", 0750, "run");
    assert_ok(&t);
    assert_text("top/app/bin/x", "run");
    assert_int_equal(stat_of("top/app/bin/x").st_mode & 07777, 0750);
    assert_int_equal(stat_of("top/app/bin/x").st_mtim.tv_sec, 1000000000);
    assert_int_equal(stat_of("top/app").st_mtim.tv_sec, 1000000000);

    tar_dir(&t, "./", 0711);
    tar_file(&t, "bin/x", 0644, "run");
    tar_file(&t, "Procfile", 0644, "web: true\n");
    assert_ok(&t);
    assert_text("top/app/bin/x", "run");
    assert_int_equal(stat_of("top/app").st_mode & 07777, 0711);
}

/* An app at the root may have a folder `app`, and its Procfile may come last. */
static void a_root_layout_may_hold_app(void **state)
{
    struct str t = {0};

    (void)state;
    tar_file(&t, "app/models/x.rb", 0644, "x");
    tar_file(&t, "app/Procfile", 0644, "wrong: true\n");
    tar_file(&t, "Procfile", 0644, "right: true\n");
    struct role_result res = fetch(&t);
    assert_int_equal(res.r, 0);
    assert_non_null(procfile_find(&res.o.types, "right"));
    assert_null(procfile_find(&res.o.types, "wrong"));
    assert_text("top/app/app/models/x.rb", "x");
    assert_int_equal(stat_of("top/app").st_mode & 07777, 0755);
    assert_int_equal(stat_of("top/app").st_mtim.tv_sec, 1000000000);
    unpack_outcome_done(&res.o);
}

static void app_in_app_is_the_app_layout(void **state)
{
    struct str t = {0};

    (void)state;
    tar_file(&t, "app/app/x", 0644, "x");
    procfile(&t);
    assert_ok(&t);
    assert_text("top/app/app/x", "x");
}

static void types_come_from_release_too(void **state)
{
    struct str t = {0};

    (void)state;
    tar_file(&t, "app/.release", 0644, "default_process_types: {web: w}\n");
    assert_ok(&t);
    tar_file(&t, "app/x", 0644, "");
    assert_refused(&t, "procfile", "no Procfile, and no process type in .release");
    tar_file(&t, "app/Procfile", 0644, "# nothing\n");
    assert_refused(&t, "procfile", "Procfile: no process type");
    procfile(&t);
    tar_file(&t, "README", 0644, "");
    assert_refused(&t, "procfile", "no Procfile at the top of the archive, and more than app/");
    tar_file(&t, "app/Procfile", 0644, "web: x\n=======\n");
    assert_refused(&t, "procfile", "Procfile:2: a conflict marker");
}

static void directories_without_write_mode_hold_files(void **state)
{
    struct str t = {0};

    (void)state;
    tar_dir(&t, "app/ro", 0555);
    tar_dir(&t, "app/none", 0);
    tar_file(&t, "app/ro/f", 0444, "x");
    tar_file(&t, "app/none/sub/f", 0, "x");
    procfile(&t);
    assert_ok(&t);
    assert_int_equal(stat_of("top/app/ro").st_mode & 07777, 0555);
    assert_int_equal(stat_of("top/app/ro").st_mtim.tv_sec, 1000000000);
    assert_int_equal(stat_of("top/app/ro/f").st_mode & 07777, 0444);
    assert_int_equal(stat_of("top/app/none").st_mode & 07777, 0500); /* the owner's rights */
    assert_int_equal(stat_of("top/app/none/sub/f").st_mode & 07777, 0400);
    assert_int_equal(stat_of("top/app/none/sub").st_mode & 07777, 0755); /* implied */
    assert_int_equal(stat_of("top/app/none/sub").st_mtim.tv_sec, 1000000000);
    assert_int_equal(stat_of("top/app").st_mtim.tv_sec, 1000000000);
}

static void later_entries_replace_earlier_ones(void **state)
{
    struct str t = {0};

    (void)state;
    procfile(&t);
    tar_file(&t, "app/f", 0644, "longer text");
    tar_hardlink(&t, "app/kept", "app/f");
    tar_file(&t, "app/f", 0600, "new");
    tar_symlink(&t, "app/l", "f");
    tar_file(&t, "app/l", 0644, "no link");
    tar_dir(&t, "app/d", 0700);
    tar_file(&t, "app/d/x", 0644, "x");
    tar_dir(&t, "app/d", 0711);
    tar_file(&t, "app/n", 0644, "x");
    tar_dir(&t, "app/n", 0755);
    tar_symlink(&t, "app/f2", "a");
    tar_symlink(&t, "app/f2", "b");
    tar_hardlink(&t, "app/f", "app/f"); /* itself */
    assert_ok(&t);
    assert_text("top/app/f", "new");
    assert_text("top/app/kept", "longer text"); /* not written through */
    assert_text("top/app/l", "no link");
    assert_text("top/app/d/x", "x");
    assert_int_equal(stat_of("top/app/d").st_mode & 07777, 0711);
    assert_true(S_ISDIR(stat_of("top/app/n").st_mode));
    tar_dir(&t, "app/d", 0755);
    tar_file(&t, "app/d", 0644, "x");
    assert_refused(&t, "archive", "app/d: is a directory already");
    tar_file(&t, "app/f", 0644, "x");
    tar_file(&t, "app/f/g", 0644, "x");
    assert_refused(&t, "archive", "goes through a file");
}

static void links_inside_work(void **state)
{
    struct str t = {0};
    char target[16] = "";

    (void)state;
    procfile(&t);
    tar_file(&t, "app/f", 0644, "x");
    tar_hardlink(&t, "app/h", "./app//f");
    tar_symlink(&t, "app/s", "/etc");
    assert_ok(&t);
    assert_int_equal(stat_of("top/app/f").st_ino, stat_of("top/app/h").st_ino);
    assert_int_equal(readlink(in_base("top/app/s"), target, sizeof(target)), 4);
    assert_string_equal(target, "/etc");
}

/* --- the battery -------------------------------------------------------------------------------
 */

static void case_1_paths_that_leave(void **state)
{
    static const char *const names[] = {"../../x", "a/../../x",      "..",     "app/..",
                                        "./../x",  "app/../../../x", "/abs/x", "//x"};
    struct str t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        procfile(&t);
        tar_file(&t, names[i], 0644, "x");
        assert_refused(&t, "archive", names[i][0] == '/' ? "is absolute" : "has '..' in it");
    }
    assert_int_equal(access(in_base("x"), F_OK), -1);
    tar_file(&t, "../../x", 0644, "x");
    control(&t);
    assert_int_equal(access(in_base("control/x"), F_OK), 0);
    str_done(&t);
}

static void case_2_through_a_symlink(void **state)
{
    struct str t = {0};

    (void)state;
    assert_int_equal(mkdir(in_base("canary"), 0700), 0);
    procfile(&t);
    tar_symlink(&t, "app/out", "../../../canary");
    tar_file(&t, "app/out/x", 0644, "x");
    assert_refused(&t, "archive", "goes through a symbolic link");
    procfile(&t);
    tar_symlink(&t, "app/out", "../../../canary");
    tar_file(&t, "app/out/deep/er/x", 0644, "x");
    assert_refused(&t, "archive", "goes through a symbolic link");
    procfile(&t);
    tar_symlink(&t, "app/in", ".");
    tar_dir(&t, "app/in/x", 0755);
    assert_refused(&t, "archive", "goes through a symbolic link");
    assert_int_equal(rmdir(in_base("canary")), 0); /* still empty */

    assert_int_equal(mkdir(in_base("canary"), 0700), 0);
    tar_symlink(&t, "app/out", in_base("canary"));
    tar_file(&t, "app/out/x", 0644, "x");
    control(&t);
    assert_int_equal(access(in_base("canary/x"), F_OK), 0);
    str_done(&t);
}

static void case_3_hard_links(void **state)
{
    struct str t = {0};
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(file_write_atomic(AT_FDCWD, in_base("canary"), "c", 1, 0644, &e), 0);
    procfile(&t);
    tar_hardlink(&t, "app/h", "../../canary");
    assert_refused(&t, "archive", "has '..' in it");
    procfile(&t);
    tar_hardlink(&t, "app/h", in_base("canary"));
    assert_refused(&t, "archive", "is absolute");
    procfile(&t);
    tar_symlink(&t, "app/s", "/etc/passwd");
    tar_hardlink(&t, "app/h", "app/s");
    assert_refused(&t, "archive", "what is not a file");
    procfile(&t);
    tar_symlink(&t, "app/s", "/etc");
    tar_hardlink(&t, "app/h", "app/s/passwd");
    assert_refused(&t, "archive", "goes through a symbolic link");
    procfile(&t);
    tar_dir(&t, "app/d", 0755);
    tar_hardlink(&t, "app/h", "app/d");
    assert_refused(&t, "archive", "what is not a file");
    procfile(&t);
    tar_hardlink(&t, "app/h", "app/nope");
    assert_refused(&t, "archive", "what is not there");
    procfile(&t);
    tar_hardlink(&t, "app/h", ".");
    assert_refused(&t, "archive", "app/h: is a hard link to what is not a file");
    procfile(&t);
    tar_hardlink(&t, "app/h", "app/./");
    assert_refused(&t, "archive", "app/h: is a hard link to what is not a file");
    assert_int_equal(stat_of("canary").st_nlink, 1);
    tar_hardlink(&t, "h", in_base("canary"));
    control(&t);
    assert_int_equal(stat_of("canary").st_nlink, 2);
    str_done(&t);
}

static void case_4_symlinks_where_mounts_will_be(void **state)
{
    static const char *const names[] = {"app/dev", "app/proc", "app/sys", "app/etc/resolv.conf",
                                        "app/app"};
    struct str t = {0};

    (void)state;
    procfile(&t);
    for (size_t i = 0; i < 5; i++)
        tar_symlink(&t, names[i], "/");
    assert_ok(&t);
    for (size_t i = 0; i < 5; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "top/%s", names[i]);
        assert_true(S_ISLNK(stat_of(name).st_mode)); /* data, as it came */
    }
    tar_symlink(&t, "app", "/etc");
    tar_file(&t, "app/x", 0644, "x");
    assert_refused(&t, "archive", "goes through a symbolic link");
    tar_symlink(&t, "app", "/etc");
    tar_file(&t, "x", 0644, "x");
    assert_refused(&t, "procfile", "no Procfile"); /* the root layout, with a link in it */
    assert_int_equal(mkdir(in_base("canary"), 0700), 0);
    tar_symlink(&t, "app", in_base("canary"));
    tar_file(&t, "app/x", 0644, "x");
    control(&t);
    assert_text("canary/x", "x");
    str_done(&t);
}

/* Whether who opens NAME without a thought hangs. */
static bool opening_hangs(const char *name)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        const struct itimerval soon = {.it_value = {.tv_usec = 100000}};

        (void)signal(SIGALRM, SIG_DFL);
        (void)setitimer(ITIMER_REAL, &soon, NULL);
        _exit(open(in_base(name), O_RDONLY | O_CLOEXEC) < 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
}

static void case_5_texts_that_are_no_files(void **state)
{
    struct str t = {0};

    (void)state;
    tar_symlink(&t, "app/Procfile", "/etc/passwd");
    tar_file(&t, "app/x", 0644, "x");
    assert_refused(&t, "procfile", "Procfile: not a regular file");
    tar_dir(&t, "app/Procfile", 0755);
    tar_file(&t, "app/x", 0644, "x");
    assert_refused(&t, "procfile", "Procfile: not a regular file");
    procfile(&t);
    tar_symlink(&t, "app/.release", "/etc/passwd");
    tar_symlink(&t, "app/.profile", "/etc/passwd");
    struct role_result res = fetch(&t);
    assert_int_equal(res.r, 0);
    assert_int_equal(res.o.types.n_warnings, 1);
    assert_string_equal(res.o.types.warnings[0], ".release: not a regular file: skipped");
    unpack_outcome_done(&res.o);
    tar_header(&t, "app/Procfile", '6', 0644, NULL, 0);
    assert_refused(&t, "archive", "is a FIFO");
    struct err e = ERR_INIT;
    assert_int_equal(file_write_atomic(AT_FDCWD, in_base("secret"), "s", 1, 0600, &e), 0);
    tar_symlink(&t, "Procfile", in_base("secret"));
    tar_header(&t, ".profile", '6', 0644, NULL, 0);
    control(&t);
    char found = 0;
    scoped_fd fd = open(in_base("control/a/b/Procfile"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, &found, 1), 1);
    assert_int_equal(found, 's'); /* it leads out */
    assert_true(opening_hangs("control/a/b/.profile"));
    assert_false(opening_hangs("control/a/b/Procfile"));
    str_done(&t);
}

static void case_6_special_bits(void **state)
{
    struct str t = {0};

    (void)state;
    procfile(&t);
    tar_file(&t, "app/s", 06755, "x");
    tar_dir(&t, "app/d", 07777);
    control(&t);
    assert_int_equal(stat_of("control/a/b/app/s").st_mode & 07777, 06755);
    assert_ok(&t);
    assert_int_equal(stat_of("top/app/s").st_mode & 07777, 0755);
    assert_int_equal(stat_of("top/app/d").st_mode & 07777, 0777);
}

static void case_7_devices(void **state)
{
    static const struct {
        char type;
        const char *why;
    } kinds[] = {{'3', "is a device"}, {'4', "is a device"}, {'6', "is a FIFO"}};
    struct str t = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) { /* major and minor are 0 */
        procfile(&t);
        tar_header(&t, "app/dev", kinds[i].type, 0644, NULL, 0);
        assert_refused(&t, "archive", kinds[i].why);
    }
    tar_header(&t, "fifo", '6', 0644, NULL, 0);
    control(&t);
    assert_true(S_ISFIFO(stat_of("control/a/b/fifo").st_mode));
    str_done(&t);
}

static void case_8_owners(void **state)
{
    static const char *const uids[] = {"-1", "2147483648", "0"};
    struct str t = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct str records = {0};

        pax_record(&records, "uid", uids[i], strlen(uids[i]));
        pax_record(&records, "gid", uids[i], strlen(uids[i]));
        pax_record(&records, "uname", "root", 4);
        tar_pax(&t, 'x', &records);
        procfile(&t);
        assert_ok(&t);
        assert_int_equal(stat_of("top/app/Procfile").st_uid, geteuid());
    }
    if (geteuid() != 0)
        return; /* nobody else can give files away */
    struct str records = {0};
    pax_record(&records, "uid", uids[1], strlen(uids[1]));
    tar_pax(&t, 'x', &records);
    tar_file(&t, "x", 0644, "x");
    control(&t);
    assert_int_equal(stat_of("control/a/b/x").st_uid, 2147483648);
    str_done(&t);
}

static void attributes_are_not_applied(void **state)
{
    struct str t = {0}, records = {0};

    (void)state;
    pax_record(&records, "SCHILY.xattr.user.evil", "yes", 3);
    pax_record(&records, "SCHILY.acl.access",
               "user::rw-,user:1234:rwx,group::r--,mask::r--,other::r--", 55);
    pax_record(&records, "SCHILY.fflags", "immutable", 9);
    tar_pax(&t, 'x', &records);
    procfile(&t);
    control(&t);
    /* Where this file system has them. */
    if (setxattr(base, "user.test", "x", 1, 0) == 0)
        assert_int_equal(getxattr(in_base("control/a/b/app/Procfile"), "user.evil", NULL, 0), 3);
    assert_ok(&t);
    assert_int_equal(listxattr(in_base("top/app/Procfile"), NULL, 0), 0);
    assert_int_equal(stat_of("top/app/Procfile").st_mode & 07777, 0644);
}

/* A file of SIZE with one byte of data at its start and a hole behind it, which GNU tar ends with a
 * piece of no length. */
static void sparse(struct str *t, const char *name, const char *size)
{
    struct str records = {0};
    char map[64];

    (void)snprintf(map, sizeof(map), "0,1,%s,0", size);
    pax_record(&records, "GNU.sparse.size", size, strlen(size));
    pax_record(&records, "GNU.sparse.numblocks", "2", 1);
    pax_record(&records, "GNU.sparse.map", map, strlen(map));
    tar_pax(t, 'x', &records);
    tar_file(t, name, 0644, "x");
}

static void case_9_sparse_files(void **state)
{
    struct str t = {0};

    (void)state;
    procfile(&t);
    sparse(&t, "app/s", "1048576");
    assert_ok(&t); /* the control: holes as such are fine */
    assert_int_equal(stat_of("top/app/s").st_size, 1048576);
    assert_true(stat_of("top/app/s").st_blocks < 64);
    procfile(&t);
    sparse(&t, "app/s", "1099511627776");
    control(&t);
    assert_int_equal(stat_of("control/a/b/app/s").st_size, 1ll << 40);
    assert_refused(&t, "archive", "over the limit of 4294967296 unpacked bytes");
    limits.unpacked = 3 << 20;
    procfile(&t);
    for (int i = 0; i < 4; i++)
        sparse(&t, "app/s", "1048576"); /* the same name again counts again */
    assert_refused(&t, "archive", "over the limit of 3145728 unpacked bytes");
}

static void case_10_too_many_too_deep_too_long(void **state)
{
    struct str t = {0}, path = {0};

    (void)state;
    limits.entries = 5;
    procfile(&t);
    for (int i = 0; i < 4; i++)
        tar_file(&t, "app/x", 0644, "x");
    assert_ok(&t); /* the control: exactly as many */
    procfile(&t);
    for (int i = 0; i < 5; i++)
        tar_file(&t, "app/x", 0644, "x");
    assert_refused(&t, "archive", "over the limit of 5 entries");

    limits.entries = 1000;
    for (int deep = 256; deep <= 257; deep++) {
        str_add(&path, "app");
        for (int i = 1; i < deep; i++)
            str_add(&path, "/d");
        procfile(&t);
        tar_pax_one(&t, "path", path.data);
        tar_file(&t, "x", 0644, "x");
        if (deep == 256)
            assert_ok(&t);
        else
            assert_refused(&t, "archive",
                           "over the limit of 256 directories in one another (depth_max)");
        str_done(&path);
    }
    for (int i = 0; i < 100000; i++)
        str_add(&path, "d/");
    str_add(&path, "x");
    procfile(&t);
    tar_pax_one(&t, "path", path.data);
    tar_file(&t, "x", 0644, "x");
    assert_refused(&t, "archive", "the path is over the limit of 4096 bytes");
    str_done(&path);
    for (int len = 255; len <= 65536; len = len == 255 ? 256 : 65536 + (len == 65536)) {
        str_add(&path, "app/");
        for (int i = 0; i < len; i++)
            str_add(&path, "n");
        procfile(&t);
        tar_pax_one(&t, "path", path.data);
        tar_file(&t, "x", 0644, "x");
        if (len == 255)
            assert_ok(&t);
        else
            assert_refused(&t, "archive",
                           len == 256 ? "a name is over the limit of 255"
                                      : "the path is over the limit of 4096");
        str_done(&path);
    }
}

/* libarchive reads the headers of an entry, and the map of a sparse file, into memory. */
/* What has no entry of its own costs as much as what has one: each way of unpacking has the same
 * limit. N entries, each below DEPTH directories of its own with names of LEN bytes. */
static void add_implied(struct str *t, int n, int depth, int len)
{
    char path[FETCH_NAME_MAX + 300];

    procfile(t);
    for (int i = 0; i < n; i++) {
        size_t used = (size_t)snprintf(path, sizeof(path), "app");

        for (int k = 0; k < depth; k++)
            used += (size_t)snprintf(path + used, sizeof(path) - used, "/%0*d", len, i);
        (void)snprintf(path + used, sizeof(path) - used, "/x");
        tar_pax_one(t, "path", path);
        tar_file(t, "x", 0644, "x");
    }
}

static void what_is_implied_has_limits(void **state)
{
    struct str t = {0};

    (void)state;
    limits.ratio = 1000000;
    add_implied(&t, 263, 250, 3);
    assert_refused(&t, "archive",
                   "over the limit of 65536 directories that have no entry of their own");
    add_implied(&t, 2250, 15, 250);
    assert_refused(&t, "archive",
                   "over the limit of 8388608 bytes of names of directories without an entry");
}

static void names_and_links_have_a_limit(void **state)
{
    struct str t = {0}, records = {0};
    char target[4000];

    (void)state;
    limits.ratio = 1000000;
    memset(target, 't', sizeof(target) - 1);
    target[sizeof(target) - 1] = '\0';
    procfile(&t);
    for (int i = 0; i < 4300; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "app/%d", i);
        pax_record(&records, "linkpath", target, strlen(target));
        tar_pax(&t, 'x', &records);
        tar_symlink(&t, name, "x");
    }
    assert_refused(&t, "archive", "over the limit of 16777216 bytes of names and links");
}

/* Each limit of the configuration, and its key in the words. */
static void limits_name_their_keys(void **state)
{
    struct str t = {0};

    (void)state;
    limits.name = 8;
    procfile(&t);
    assert_ok(&t);
    tar_file(&t, "app/ninebytes", 0644, "");
    assert_refused(&t, "archive", "app/ninebytes: a name is over the limit of 8 bytes (name_max)");
    slug_limits_default(&limits);
    limits.depth = 3;
    tar_file(&t, "app/b/Procfile", 0644, "");
    procfile(&t);
    assert_ok(&t);
    tar_file(&t, "app/b/c/d", 0644, "");
    assert_refused(&t, "archive",
                   "app/b/c/d: over the limit of 3 directories in one another (depth_max)");
    slug_limits_default(&limits);
    limits.entries = 1;
    procfile(&t);
    tar_file(&t, "app/x", 0644, "");
    assert_refused(&t, "archive", "over the limit of 1 entries (entries_max)");
    slug_limits_default(&limits);
    limits.unpacked = 10;
    procfile(&t);
    tar_file(&t, "app/x", 0644, "0");
    assert_refused(&t, "archive", "over the limit of 10 unpacked bytes (unpacked_max)");
    slug_limits_default(&limits);
    limits.compressed = 40;
    procfile(&t);
    assert_refused(&t, "download", "over the limit of 40 compressed bytes (compressed_max)");
}

static void headers_are_bounded(void **state)
{
    static const char zeros[100000];
    struct str t = {0}, records = {0}, map = {0};

    (void)state;
    for (int i = 0; i < 3000; i++) {
        pax_record(&records, "comment", "x", 1);
        tar_pax(&t, 'g', &records);
    }
    procfile(&t);
    assert_refused(&t, "archive", "Too many special headers");
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 9; k++)
            str_add_n(&map, zeros, sizeof(zeros));
        pax_record(&records, "comment", map.data, map.len);
        tar_pax(&t, 'x', &records);
        str_done(&map);
    }
    procfile(&t);
    assert_refused(&t, "archive", "the headers of one entry are over the limit of 1048576 bytes");
    str_add(&map, "4000000\n");
    for (int i = 0; i < 1000000; i++)
        str_add(&map, "0\n0\n");
    pax_record(&records, "GNU.sparse.major", "1", 1);
    pax_record(&records, "GNU.sparse.minor", "0", 1);
    pax_record(&records, "GNU.sparse.realsize", "5", 1);
    tar_pax(&t, 'x', &records);
    tar_header(&t, "app/s", '0', 0644, NULL, map.len);
    tar_data(&t, map.data, map.len);
    assert_refused(&t, "archive", "the headers of one entry are over the limit of 1048576 bytes");
    str_done(&map);
}

static void make_gz(struct str *gz)
{
    struct str t = {0};

    procfile(&t);
    tar_file(&t, "app/x", 0644, "some text that is there to be damaged");
    tar_end(&t);
    gzip_add(gz, t.data, t.len);
    str_done(&t);
}

static void case_11_not_what_it_should_be(void **state)
{
    static const char *const others[] = {"PK\x03\x04",
                                         "Rar!\x1a\x07",
                                         "\xfd"
                                         "7zXZ",
                                         "BZh91AY",
                                         "\x28\xb5\x2f\xfd",
                                         "./app/Procfile"};
    struct str gz = {0};
    struct role_result res;
    int same = 0;

    (void)state;
    make_gz(&gz);
    res = fetch_gz(&gz);
    assert_int_equal(res.r, 0); /* the control */
    unpack_outcome_done(&res.o);
    size_t whole = gz.len;
    for (gz.len = 0; gz.len < whole; gz.len++) {
        res = fetch_gz(&gz);
        assert_true(res.r < 0);
        assert_string_equal(res.o.step, "gzip");
        compare_with_inspect(&res, &gz);
    }
    for (size_t i = 10; i < whole; i++) {
        gz.data[i] ^= 0x10;
        res = fetch_gz(&gz);
        if (res.r < 0) {
            assert_int_equal(res.e.fault, FAULT_APP);
        } else { /* another way to say the same bytes: CRC and length have been checked */
            assert_text("top/app/x", "some text that is there to be damaged");
            unpack_outcome_done(&res.o);
            same++;
        }
        gz.data[i] ^= 0x10;
    }
    assert_true(same < 10);
    str_done(&gz);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        str_add(&gz, others[i]);
        res = fetch_gz(&gz);
        assert_non_null(strstr(res.e.text, "not a gzip file (starts with"));
        str_done(&gz);
        gzip_add(&gz, others[i], strlen(others[i])); /* nor inside of gzip */
        res = fetch_gz(&gz);
        assert_string_equal(res.o.step, "archive");
        compare_with_inspect(&res, &gz);
        str_done(&gz);
    }
}

static void gzip_in_gzip_is_not_unpacked_twice(void **state)
{
    struct str gz = {0}, twice = {0};

    (void)state;
    make_gz(&gz);
    gzip_add(&twice, gz.data, gz.len);
    struct role_result res = fetch_gz(&twice);
    assert_string_equal(res.o.step, "archive");
    str_done(&twice);
    str_done(&gz);
}

static void empty_archives_are_refused(void **state)
{
    struct str t = {0};

    (void)state;
    assert_refused(&t, "archive", "the archive holds no file");
    tar_dir(&t, "app", 0755);
    tar_symlink(&t, "app/l", "x");
    assert_refused(&t, "archive", "the archive holds no file");
    struct str gz = {0};
    gzip_add(&gz, "", 0);
    struct role_result res = fetch_gz(&gz);
    assert_true(res.r < 0);
    assert_string_equal(res.o.step, "archive");
    compare_with_inspect(&res, &gz);
    str_done(&gz);
}

static void case_12_names_are_escaped(void **state)
{
    static const char *const names[] = {"app/a\nb", "app/\x1b[31m", "app/\xff\xfe",
                                        "app/caf\xc3\xa9", "app/caf\xe9"};
    struct str t = {0};

    (void)state;
    procfile(&t);
    for (size_t i = 0; i < 5; i++)
        tar_file(&t, names[i], 0644, "ustar");
    assert_ok(&t);
    for (size_t i = 0; i < 5; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "top/%s", names[i]);
        assert_text(name, "ustar");
    }
    procfile(&t);
    for (size_t i = 0; i < 5; i++) {
        tar_pax_one(&t, "path", names[i]);
        tar_file(&t, "x", 0644, "pax");
    }
    assert_ok(&t);
    assert_text("top/app/caf\xc3\xa9", "pax");
    assert_text("top/app/\xff\xfe", "pax");
    procfile(&t);
    tar_header(&t, "app/\x1b[2J\n\xff", '6', 0644, NULL, 0);
    control(&t);
    assert_true(S_ISFIFO(stat_of("control/a/b/app/\x1b[2J\n\xff").st_mode));
    assert_refused(&t, "archive", "app/\\x1b[2J\\x0a\\xff: is a FIFO");
}

/* --- killed at every system call --- */

/* Unpacks GZ into DIR, in a process that stops at each of its system calls. */
static pid_t traced_start(const struct str *gz, int dir)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], gz->data, gz->len), gz->len);
    close(fds[1]);
    pid_t pid = fork();
    if (pid == 0) {
        struct unpack_request rq = {
            .in = fds[0], .limits = limits, .image = -1, .entries = -1, .dir = dir};
        struct unpack_outcome o;
        struct err e = ERR_INIT;

        if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 || raise(SIGSTOP) != 0)
            _exit(2);
        _exit(unpack_run(&rq, NULL, &o, &e) < 0);
    }
    close(fds[0]);
    return pid;
}

/* Kills PID at its system call N, or one of its threads'. False: it had ended before, well. */
static bool kill_at(pid_t pid, unsigned n)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    unsigned stops = 0;
    int status, seen;
    pid_t who;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, 0, options), 0);
    for (who = pid; stops < n; stops += WSTOPSIG(status) == (SIGTRAP | 0x80)) {
        (void)ptrace(PTRACE_SYSCALL, who, 0, 0);
        do {
            who = waitpid(-1, &status, __WALL);
            assert_true(who > 0);
        } while (who != pid && !WIFSTOPPED(status)); /* a thread's end */
        if (!WIFSTOPPED(status)) {
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            return false;
        }
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    while ((who = waitpid(-1, &seen, __WALL)) > 0)
        if (WIFSTOPPED(seen)) /* a thread that is to die, too */
            (void)ptrace(PTRACE_CONT, who, 0, 0);
    return true;
}

static void case_13_killed_at_every_system_call(void **state)
{
    struct str t = {0}, gz = {0};
    struct err e = ERR_INIT;
    unsigned torn = 0, whole = 0;
    bool killed = true;

    (void)state;
    procfile(&t);
    tar_file(&t, "app/a/b", 0644, "text");
    tar_hardlink(&t, "app/c", "app/a/b");
    tar_file(&t, "app/last", 0755, "last");
    tar_end(&t);
    gzip_add(&gz, t.data, t.len);
    for (unsigned n = 1; killed; n++) {
        assert_int_equal(mkdir(in_base("top"), 0700), 0);
        int dir = open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        killed = kill_at(traced_start(&gz, dir), n);
        close(dir);
        if (access(in_base("top/app"), F_OK) == 0) { /* all of it, then */
            assert_text("top/app/Procfile", "web: true\n");
            assert_text("top/app/c", "text");
            assert_text("top/app/last", "last");
            assert_int_equal(stat_of("top/app/last").st_mode & 07777, 0755);
            whole++;
        } else {
            assert_true(killed);
            torn += access(in_base("top/.stage/app/a/b"), F_OK) == 0;
        }
        if (tree_remove(AT_FDCWD, in_base("top"), &e) < 0)
            fail_msg("%s", e.text);
    }
    /* The control: the kill does come in the middle. */
    assert_true(torn > 10);
    assert_true(whole > 0);
    str_done(&gz);
    str_done(&t);
}

/* A NUL cuts the name; what is left is policed as any other. */
static void names_with_nul_stay_inside(void **state)
{
    struct str t = {0}, records = {0};

    (void)state;
    procfile(&t);
    pax_record(&records, "path", "app/in\0/../../../x", 18);
    tar_pax(&t, 'x', &records);
    tar_file(&t, "y", 0644, "x");
    assert_ok(&t);
    assert_text("top/app/in", "x");
    procfile(&t);
    pax_record(&records, "path", "../x\0in", 7);
    tar_pax(&t, 'x', &records);
    tar_file(&t, "y", 0644, "x");
    assert_refused(&t, "archive", "has '..' in it");
}

static void the_directory_must_be_empty(void **state)
{
    struct err e = ERR_INIT;
    struct str gz = {0};

    (void)state;
    make_gz(&gz);
    assert_int_equal(dir_make_all(in_base("full/app"), 0700, &e), 0);
    int dir = open(in_base("full"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct role_result res = roles_dir(gz.data, gz.len, 4096, dir, &limits);
    assert_int_equal(res.r, -ENOTEMPTY);
    assert_int_equal(res.e.fault, FAULT_PLATFORM);
    close(dir);
    str_done(&gz);
}

/* What real programs make, in every format they have. */
static void real_tars_are_the_same_afterwards(void **state)
{
    static const char *const tars[] = {"tar --format=gnu -cz", "tar --format=pax -cz",
                                       "tar --format=ustar -cz", "tar --format=v7 -cz",
                                       "tar --format=gnu --sparse -cz"};
    char command[800];

    (void)state;
    (void)snprintf(command, sizeof(command),
                   "mkdir -p %s/src/app/a/b && cd %s/src && echo 'web: x' > app/Procfile && "
                   "seq 1 99999 > app/a/b/long && ln -s ../Procfile app/a/l && "
                   "ln app/a/b/long app/hard && truncate -s 3M app/hole && mkdir app/empty && "
                   "chmod 700 app/a && chmod 444 app/hole",
                   base, base);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof(tars) / sizeof(tars[0]); i++) {
        struct str gz = {0};
        struct err e = ERR_INIT;
        scoped_free char *data = NULL;
        size_t len;

        (void)snprintf(command, sizeof(command), "cd %s/src && %s -f ../s.tgz ./app", base,
                       tars[i]);
        assert_int_equal(system(command), 0);
        assert_int_equal(file_read(AT_FDCWD, in_base("s.tgz"), 16 << 20, &data, &len, &e), 0);
        str_add_n(&gz, data, len);
        struct role_result res = fetch_gz(&gz);
        compare_with_inspect(&res, &gz);
        if (res.r < 0)
            fail_msg("%s: %s", tars[i], res.e.text);
        (void)snprintf(command, sizeof(command),
                       "cd %s && L='-printf %%P:%%m:%%n:%%y:%%l:%%Ts\\n'; "
                       "diff -r src/app top/app && find src/app $L | sort > 1 && "
                       "find top/app $L | sort > 2 && diff 1 2",
                       base);
        assert_int_equal(system(command), 0);
        unpack_outcome_done(&res.o);
        str_done(&gz);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, base_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_layouts_unpack),
        TEST(a_root_layout_may_hold_app),
        TEST(app_in_app_is_the_app_layout),
        TEST(types_come_from_release_too),
        TEST(directories_without_write_mode_hold_files),
        TEST(later_entries_replace_earlier_ones),
        TEST(links_inside_work),
        TEST(case_1_paths_that_leave),
        TEST(case_2_through_a_symlink),
        TEST(case_3_hard_links),
        TEST(case_4_symlinks_where_mounts_will_be),
        TEST(case_5_texts_that_are_no_files),
        TEST(case_6_special_bits),
        TEST(case_7_devices),
        TEST(case_8_owners),
        TEST(attributes_are_not_applied),
        TEST(case_9_sparse_files),
        TEST(case_10_too_many_too_deep_too_long),
        cmocka_unit_test_setup_teardown(what_is_implied_has_limits, set_up_in_memory, base_remove),
        TEST(names_and_links_have_a_limit),
        TEST(limits_name_their_keys),
        TEST(headers_are_bounded),
        TEST(case_11_not_what_it_should_be),
        TEST(gzip_in_gzip_is_not_unpacked_twice),
        TEST(empty_archives_are_refused),
        TEST(case_12_names_are_escaped),
        cmocka_unit_test_setup_teardown(case_13_killed_at_every_system_call, set_up_in_memory,
                                        base_remove),
        TEST(names_with_nul_stay_inside),
        TEST(the_directory_must_be_empty),
        TEST(real_tars_are_the_same_afterwards),
    };

    (void)umask(022);
    return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
