#include "slug/pack.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "slug/ignore.h"
#include "slug/inspect.h"
#include "tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up(void **state)
{
    (void)state;
    return base_make("pack-test");
}

static void shell(const char *script)
{
    char command[2000];

    (void)snprintf(command, sizeof(command), "cd %s && %s", base, script);
    if (system(command) != 0)
        fail_msg("%s", command);
}

/* Packs BASE/DIR into a memfd. */
static int pack(const char *name, struct slug_packed *ret)
{
    scoped_fd dir = -1;
    char path[300];
    struct err e = ERR_INIT;
    int out = memfd_create("slug", MFD_CLOEXEC);

    (void)snprintf(path, sizeof(path), "%s/%s", base, name);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (slug_pack(dir, out, ret, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(lseek(out, 0, SEEK_CUR), ret->compressed);
    assert_int_equal(lseek(out, 0, SEEK_SET), 0);
    return out;
}

/* What tar lists of the slug OUT. */
static void list(int out, const char *flags, char *text, size_t cap)
{
    char command[400];

    (void)snprintf(command, sizeof(command), "tar %s -f /proc/%d/fd/%d", flags, getpid(), out);
    FILE *f = popen(command, "re");
    assert_non_null(f);
    text[fread(text, 1, cap - 1, f)] = '\0';
    assert_int_equal(pclose(f), 0);
}

static void a_packed_slug_is_what_a_fetch_takes(void **state)
{
    struct slug_packed packed;
    struct slug_report report;
    struct err e = ERR_INIT;

    (void)state;
    shell("mkdir -p d/b d/a && echo 'web: x' > d/Procfile && seq 1 50000 > d/a/big && "
          "ln -s ../b d/a/l && ln d/a/big d/b/hard && chmod 4755 d/a/big && "
          "touch \"$(printf 'd/b/caf\\351')\" \"$(printf 'd/b/caf\\303\\251')\"");
    int out = pack("d", &packed);
    if (slug_inspect(out, NULL, &report, &e) < 0)
        fail_msg("%s", e.text);
    assert_string_equal(report.digest.hex, packed.digest.hex);
    assert_int_equal(report.compressed, packed.compressed);
    assert_int_equal(report.counts.unpacked, packed.unpacked);
    assert_int_equal(report.counts.entries, packed.entries);
    assert_true(report.app_layout);
    assert_string_equal(report.types.types[0].name, "web");
    slug_report_done(&report);
    slug_packed_done(&packed);
    shell("mkdir out");
    char command[300], ignored[10];
    (void)snprintf(command, sizeof(command), "-xz -C %s/out", base);
    list(out, command, ignored, sizeof(ignored));
    shell("diff -r d out/app && test -L out/app/a/l && test ! -u out/app/a/big && "
          "test -x out/app/a/big");
    close(out);
}

static void the_same_directory_gives_the_same_bytes(void **state)
{
    struct slug_packed one, two;
    char listing[4096];

    (void)state;
    /* Made in another order, with other owners of nothing, at another time. */
    shell("mkdir d && touch d/b d/a d/Z d/a.b && mkdir d/a-dir && touch -d @1000000000.5 d/* d");
    shell("mkdir e && mkdir e/a-dir && touch e/a.b e/Z e/a e/b && touch -d @1000000000.7 e/* e");
    int a = pack("d", &one), b = pack("e", &two);
    assert_string_equal(one.digest.hex, two.digest.hex);
    list(a, "-tz", listing, sizeof(listing));
    assert_string_equal(listing, "./app/\n./app/Z\n./app/a\n./app/a-dir/\n./app/a.b\n./app/b\n");
    list(a, "-tvz --numeric-owner", listing, sizeof(listing));
    assert_non_null(strstr(listing, " 0/0 "));
    assert_non_null(strstr(listing, "2001-09-09"));
    shell("chmod 600 d/a && touch -d @1000000000 d/a");
    slug_packed_done(&two);
    close(b);
    b = pack("d", &two); /* the control: something differs */
    assert_string_not_equal(one.digest.hex, two.digest.hex);
    slug_packed_done(&one);
    slug_packed_done(&two);
    close(a);
    close(b);
}

static void the_locale_does_not_matter(void **state)
{
    struct slug_packed one, two;

    (void)state;
    shell("mkdir d && touch d/$(printf 'caf\\303\\251') d/b d/B d/$(printf 'x%.0s' $(seq 200))");
    int a = pack("d", &one);
    assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
    int b = pack("d", &two);
    (void)setlocale(LC_ALL, "C");
    assert_string_equal(one.digest.hex, two.digest.hex);
    slug_packed_done(&one);
    slug_packed_done(&two);
    close(a);
    close(b);
}

static void what_is_ignored_stays_out(void **state)
{
    struct slug_packed packed;
    char listing[4096];

    (void)state;
    shell("mkdir -p d/.git/x d/sub/.git d/tmp d/sub/tmp d/log d/keep && "
          "touch d/.git/x/y d/a.o d/sub/b.o d/tmp/x d/sub/tmp/x d/log/x d/keep/log d/Procfile "
          "d/sub/only d/only && "
          "printf '# c\\n\\n*.o\\r\\n/tmp\\nlog/\\nsub/only\\n' > d/.slugignore");
    int out = pack("d", &packed);
    list(out, "-tz", listing, sizeof(listing));
    assert_string_equal(listing, "./app/\n./app/.slugignore\n./app/Procfile\n./app/keep/\n"
                                 "./app/keep/log\n./app/only\n./app/sub/\n./app/sub/tmp/\n"
                                 "./app/sub/tmp/x\n");
    slug_packed_done(&packed);
    close(out);
}

static void what_cannot_be_packed_is_told(void **state)
{
    struct slug_packed packed;
    struct err e = ERR_INIT;

    (void)state;
    shell("mkdir d && mkfifo d/fifo && touch d/f");
    int out = pack("d", &packed);
    assert_int_equal(packed.n_warnings, 1);
    assert_string_equal(packed.warnings[0], "fifo: neither file, directory nor link: left out");
    assert_int_equal(packed.entries, 2);
    slug_packed_done(&packed);
    close(out);
    shell("mkfifo d/.slugignore"); /* does not block */
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/d", base);
    scoped_fd dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped_fd null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(slug_pack(dir, null, &packed, &e), -EINVAL);
    assert_int_equal(e.fault, FAULT_OPERATOR);
}

static void a_full_disk_is_an_error(void **state)
{
    struct slug_packed packed = {.entries = 77};
    struct err e = ERR_INIT;
    char path[300];

    (void)state;
    shell("mkdir d && head -c 300000 /dev/urandom > d/f");
    (void)snprintf(path, sizeof(path), "%s/d", base);
    scoped_fd dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped_fd full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(slug_pack(dir, full, &packed, &e), -ENOSPC);
    assert_int_equal(packed.entries, 77);
}

static void too_deep_is_an_error(void **state)
{
    struct slug_packed packed;
    struct err e = ERR_INIT;
    char path[300];

    (void)state;
    shell("mkdir d && cd d && for i in $(seq 254); do mkdir d && cd d || exit 1; done; touch f");
    struct slug_report report;
    shell("echo 'web: x' > d/Procfile");
    int out = pack("d", &packed); /* the deepest that a fetch takes */
    assert_int_equal(slug_inspect(out, NULL, &report, &e), 0);
    slug_report_done(&report);
    slug_packed_done(&packed);
    close(out);
    shell("cd d && for i in $(seq 254); do cd d || exit 1; done; mkdir d");
    (void)snprintf(path, sizeof(path), "%s/d", base);
    scoped_fd dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped_fd null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(slug_pack(dir, null, &packed, &e), -ELOOP);
}

static void assert_match(const char *patterns, const char *path, bool is_dir, bool matches)
{
    struct ignore ig;
    struct err e = ERR_INIT;

    assert_int_equal(ignore_parse(patterns, strlen(patterns), &ig, &e), 0);
    if (ignore_matches(&ig, path, is_dir) != matches)
        fail_msg("'%s' and %s", patterns, path);
    ignore_done(&ig);
}

static void patterns(void **state)
{
    struct ignore ig;
    struct err e = ERR_INIT;

    (void)state;
    assert_match("*.o", "a.o", false, true);
    assert_match("*.o", "x/a.o", false, true);
    assert_match("/*.o", "x/a.o", false, false);
    assert_match("/*.o", "a.o", false, true);
    assert_match("x/*.o", "x/a.o", false, true);
    assert_match("x/*.o", "y/x/a.o", false, false);
    assert_match("x*o", "x/o", false, false);
    assert_match("tmp/", "tmp", true, true);
    assert_match("tmp/", "a/tmp", true, true);
    assert_match("tmp/", "tmp", false, false);
    assert_match("a/tmp/", "a/tmp", true, true);
    assert_match("*", ".env", false, true);
    assert_match("[ab]?", "b1", false, true);
    assert_match("# x\n\n", "# x", false, false);
    assert_match("", ".git", true, true);
    assert_match("", "sub/.git", false, true);
    assert_match("", ".gitignore", false, false);
    assert_match("/", "a", true, false);
    assert_int_equal(ignore_parse("a\n!b", 4, &ig, &e), -EINVAL);
    assert_non_null(strstr(e.text, ".slugignore:2"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, base_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_packed_slug_is_what_a_fetch_takes),
        TEST(the_same_directory_gives_the_same_bytes),
        TEST(the_locale_does_not_matter),
        TEST(what_is_ignored_stays_out),
        TEST(what_cannot_be_packed_is_told),
        TEST(a_full_disk_is_an_error),
        TEST(too_deep_is_an_error),
        cmocka_unit_test(patterns),
    };

    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
