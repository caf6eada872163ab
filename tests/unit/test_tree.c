/* Trees as a stranger might leave them, removed as root and as an ordinary user. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ORDINARY 12345 /* a user without any right */

/* In children, where cmocka's asserts would long-jump into a copy of the test. */
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #cond,                         \
                    strerrorname_np(errno));                                                       \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

typedef void scene_fn(int dir);

/* Runs FN in a child with uid UID, its working directory an empty one of that user. Whatever FN
 * leaves is removed with a tool that is not ours. */
static void run_as(uid_t uid, const char *below, scene_fn *fn)
{
    char dir[64], command[200];
    int status;

    (void)snprintf(dir, sizeof(dir), "%s/test_tree.XXXXXX", below);

    assert_non_null(mkdtemp(dir));
    if (uid != geteuid())
        assert_int_equal(chown(dir, uid, (gid_t)uid), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        CHECK(chdir(dir) == 0);
        if (uid != geteuid()) {
            CHECK(setgroups(0, NULL) == 0);
            CHECK(setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) == 0);
            CHECK(setresuid(uid, uid, uid) == 0);
        }
        int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(fd >= 0);
        fn(fd);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", dir, dir);
    assert_int_equal(system(command), 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("uid %u: status %#x", uid, (unsigned)status);
}

static void run_as_both(const char *below, scene_fn *fn)
{
    run_as(geteuid(), below, fn);
    if (geteuid() == 0)
        run_as(ORDINARY, below, fn);
}

/* Making thousands of directories on a disk takes seconds. */
static const char *in_memory(void)
{
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static void make_file(int dir, const char *name)
{
    scoped_fd fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
}

static int make_dir(int dir, const char *name)
{
    CHECK(mkdirat(dir, name, 0700) == 0);
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static void expect_gone(int dir, const char *name)
{
    struct err e = ERR_INIT;

    if (tree_remove(dir, name, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        _exit(1);
    }
    CHECK(faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT);
}

/* --- One thing --- */

static void single_things(int dir)
{
    expect_gone(dir, "missing");
    make_file(dir, "file");
    expect_gone(dir, "file");
    CHECK(mkfifoat(dir, "fifo", 0600) == 0);
    expect_gone(dir, "fifo");
    CHECK(mkdirat(dir, "empty", 0) == 0);
    expect_gone(dir, "empty");
    close(make_dir(dir, "target"));
    make_file(dir, "target/kept");
    CHECK(symlinkat("target", dir, "link") == 0);
    expect_gone(dir, "link");
    CHECK(faccessat(dir, "target/kept", F_OK, 0) == 0);
    CHECK(symlinkat("nowhere", dir, "dangling") == 0);
    expect_gone(dir, "dangling");
}

static void things_and_links(void **state)
{
    (void)state;
    run_as_both("/tmp", single_things);
}

/* --- Depth and width --- */

static void deep_with_modes(int dir, unsigned depth, mode_t mode)
{
    int at = make_dir(dir, "deep");

    for (unsigned i = 0; i < depth; i++) {
        make_file(at, "f");
        int next = make_dir(at, "d");
        CHECK(fchmod(at, mode) == 0);
        close(at);
        at = next;
    }
    CHECK(fchmod(at, mode) == 0);
    close(at);
    expect_gone(dir, "deep");
}

static void deep_scene(int dir)
{
    static const mode_t modes[] = {0700, 0500, 0300, 0400, 0100, 0000};

    deep_with_modes(dir, 5000, 0700); /* over PATH_MAX, over any stack of descriptors */
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        deep_with_modes(dir, 60, modes[i]);
    deep_with_modes(dir, 5000, 0000);
}

static void five_thousand_deep(void **state)
{
    (void)state;
    run_as_both(in_memory(), deep_scene);
}

static void wide_scene(int dir)
{
    int top = make_dir(dir, "wide");
    char name[64];

    for (int i = 0; i < 1500; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        int sub = make_dir(top, name);
        make_file(sub, "f");
        close(make_dir(sub, "d"));
        make_file(sub, "d/f");
        close(sub);
        (void)snprintf(name, sizeof(name), "f%d", i);
        make_file(top, name);
    }
    close(top);
    expect_gone(dir, "wide");
}

static void thousands_wide(void **state)
{
    (void)state;
    run_as_both(in_memory(), wide_scene);
}

/* --- Names --- */

static void names_scene(int dir)
{
    static const char *const odd[] = {"\n",   "\xff\xfe", " ",   "-rf",    "...",
                                      "a\\b", "*",        ".rm", "\033[2J"};
    char longest[256];
    int top = make_dir(dir, "names");

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        int sub = make_dir(top, odd[i]);
        int below = make_dir(sub, odd[i]);
        make_file(below, odd[i]);
        close(below);
        close(sub);
    }
    memset(longest, 'x', 255);
    longest[255] = '\0';
    int sub = make_dir(top, longest);
    int below = make_dir(sub, longest);
    make_file(below, longest);
    close(below);
    close(sub);
    close(top);
    expect_gone(dir, "names");
}

/* The fresh names that tree_remove() itself gives are taken, by all that could be in the way. */
static void taken_scene(int dir)
{
    char name[64];
    int top = make_dir(dir, "taken");

    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof(name), ".rm-%d", i);
        int sub = make_dir(top, name);
        for (int k = 0; k < 3; k++) {
            (void)snprintf(name, sizeof(name), ".rm-%d", (i + k * 7) % 40);
            int below = make_dir(sub, name);
            make_file(below, "f");
            close(make_dir(below, ".rm-1"));
            make_file(below, ".rm-1/.rm-0");
            close(below);
        }
        close(sub);
    }
    close(top);
    expect_gone(dir, "taken");
}

static void odd_names(void **state)
{
    (void)state;
    run_as_both("/tmp", names_scene);
}

static void names_that_are_taken(void **state)
{
    (void)state;
    run_as_both("/tmp", taken_scene);
}

/* --- Nothing outside --- */

static void outside_scene(int dir)
{
    struct stat st;
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "tree/sub/socket"};
    int out = make_dir(dir, "outside");

    make_file(out, "file");
    CHECK(mkdirat(out, "locked", 0500) == 0);
    int tree = make_dir(dir, "tree"), sub = make_dir(tree, "sub");
    CHECK(symlinkat("../../outside", sub, "dir") == 0);
    CHECK(symlinkat("../../outside/file", sub, "file") == 0);
    CHECK(symlinkat("../../outside/locked", sub, "locked") == 0);
    CHECK(symlinkat("/", sub, "root") == 0);
    CHECK(symlinkat(".", sub, "self") == 0);
    CHECK(symlinkat("..", sub, "up") == 0);
    CHECK(linkat(out, "file", sub, "hard", 0) == 0);
    CHECK(mkfifoat(sub, "fifo", 0600) == 0);
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(sock, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    close(sock);
    CHECK(fchmod(sub, 0500) == 0);
    close(sub);
    close(tree);
    expect_gone(dir, "tree");
    CHECK(fstatat(out, "file", &st, 0) == 0 && st.st_size == 1 && st.st_nlink == 1);
    CHECK((st.st_mode & 07777) == 0600);
    CHECK(fstatat(out, "locked", &st, 0) == 0 && (st.st_mode & 07777) == 0500);
    CHECK(fstat(out, &st) == 0 && (st.st_mode & 07777) == 0700);
    close(out);
}

static void links_are_not_followed(void **state)
{
    (void)state;
    run_as_both("/tmp", outside_scene);
}

/* A directory of somebody else in the tree: it stays, that is an error, and no link in it gets
 * anything outside changed. Made by root, removed by an ordinary user. */
static void a_directory_of_somebody_else(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root to make a directory of another user\n");
        skip();
    }
    char dir[] = "/tmp/test_tree.XXXXXX";
    struct stat st;
    int status;

    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(make_dir(fd, "tree"));
    close(make_dir(fd, "tree/theirs"));
    assert_int_equal(symlinkat("../../victim", fd, "tree/theirs/link"), 0);
    make_file(fd, "victim");
    assert_int_equal(fchownat(fd, "tree", ORDINARY, ORDINARY, 0), 0);
    assert_int_equal(fchownat(fd, "victim", ORDINARY, ORDINARY, 0), 0);
    assert_int_equal(fchmodat(fd, "tree/theirs", 0755, 0), 0);
    assert_int_equal(chown(dir, ORDINARY, ORDINARY), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err e = ERR_INIT;

        CHECK(setgroups(0, NULL) == 0 && setresgid(ORDINARY, ORDINARY, ORDINARY) == 0);
        CHECK(setresuid(ORDINARY, ORDINARY, ORDINARY) == 0);
        int r = tree_remove(fd, "tree", &e);
        CHECK(r == -EACCES || r == -EPERM);
        CHECK(str_starts(e.text, "remove tree"));
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(fstatat(fd, "victim", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(fstatat(fd, "tree/theirs/link", &st, AT_SYMLINK_NOFOLLOW), 0);
    struct err e = ERR_INIT;
    assert_int_equal(tree_remove(AT_FDCWD, dir, &e), 0); /* root may */
    close(fd);
}

/* --- Other mounts --- */

static void mount_scene(int dir)
{
    struct err e = ERR_INIT;

    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    dir = AT_FDCWD; /* the descriptor belongs to the mounts of before */
    close(make_dir(dir, "m"));
    close(make_dir(dir, "m/a"));
    close(make_dir(dir, "m/a/b"));
    make_file(dir, "m/file");
    /* A directory two levels down. */
    CHECK(mount("tmpfs", "m/a/b", "tmpfs", 0, NULL) == 0);
    make_file(dir, "m/a/b/kept");
    CHECK(tree_remove(dir, "m", &e) == -EBUSY);
    /* Wherever the mount has been moved to by now, its content is there. */
    CHECK(system("test -n \"$(find . -name kept)\"") == 0);
    CHECK(system("umount \"$(dirname \"$(find . -name kept)\")\"") == 0);
    expect_gone(dir, "m");
    /* A single file. */
    close(make_dir(dir, "m"));
    close(make_dir(dir, "m/a"));
    make_file(dir, "m/a/file");
    make_file(dir, "source");
    CHECK(mount("source", "m/a/file", NULL, MS_BIND, NULL) == 0);
    CHECK(tree_remove(dir, "m", &e) == -EBUSY);
    CHECK(umount("m/a/file") == 0);
    CHECK(faccessat(dir, "source", F_OK, 0) == 0);
    expect_gone(dir, "m");
    /* The top itself. */
    close(make_dir(dir, "m"));
    CHECK(mount("tmpfs", "m", "tmpfs", 0, NULL) == 0);
    make_file(dir, "m/kept");
    CHECK(tree_remove(dir, "m", &e) == -EBUSY);
    CHECK(faccessat(dir, "m/kept", F_OK, 0) == 0);
    CHECK(umount("m") == 0);
    expect_gone(dir, "m");
}

static void mounts_are_not_entered(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("needs root to mount\n");
        skip();
    }
    run_as(0, "/tmp", mount_scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(things_and_links),
        cmocka_unit_test(five_thousand_deep),
        cmocka_unit_test(thousands_wide),
        cmocka_unit_test(odd_names),
        cmocka_unit_test(names_that_are_taken),
        cmocka_unit_test(links_are_not_followed),
        cmocka_unit_test(a_directory_of_somebody_else),
        cmocka_unit_test(mounts_are_not_entered),
    };

    return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
