/* Mounting images of slugs, each way; with root, in a mount namespace of its own. */
#include "isolate/slugimage.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"
#include "slug/image/erofs.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#define OWNER 4711u
#define TEXT  "web: true\n"

static char dir[200], place[256];

static int set_up(void **state)
{
    (void)state;
    /* Not on a tmpfs, which no image can be mounted from. */
    (void)snprintf(dir, sizeof(dir), "%s/slugimage-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(place, sizeof(place), "%s/place", dir);
    return 0;
}

static int tear_down(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, dir, &e);
}

static void needs_root(void)
{
    if (geteuid() != 0)
        skip(); /* only root mounts images */
}

/* An image with one file, by the code that makes slugs' images. */
static int make_image(void)
{
    const struct image_limits limits = {.entries = 100,
                                        .nodes = 100,
                                        .depth = 10,
                                        .name = NAME_MAX,
                                        .data = 1 << 20,
                                        .texts = IMAGE_TEXTS_MAX};
    static const struct digest digest = {
        "1111111111111111111111111111111111111111111111111111111111111111"};
    struct erofs_identity who = erofs_identity_for(&digest, OWNER, OWNER);
    struct entry file = {
        .e = {.kind = SLUG_FILE, .path = "Procfile", .mode = 0640, .size = strlen(TEXT)},
        .offset = IMAGE_BLOCK};
    struct err e = ERR_INIT;
    scoped(tree_freep) struct tree *t = NULL;
    char path[300];
    uint64_t bytes;

    (void)snprintf(path, sizeof(path), "%s/image", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, TEXT, strlen(TEXT), IMAGE_BLOCK), strlen(TEXT));
    assert_int_equal(ftruncate(fd, 2 * IMAGE_BLOCK), 0);
    if (tree_new(&limits, &t, &e) < 0 || tree_put(t, &file, &e) < 0 || tree_finish(t, &e) < 0 ||
        erofs_write(t, fd, 2 * IMAGE_BLOCK, &who, &bytes, &e) < 0)
        fail_msg("%s", e.text);
    return fd;
}

static struct slugimages *open_images(void)
{
    struct slugimages *s = NULL;
    struct err e = ERR_INIT;

    assert_int_equal(slugimages_open(dir, place, false, &s, &e), 0);
    return s;
}

/* How many loop devices read a file of ours. */
static int loops(void)
{
    scoped(dir_closep) DIR *d = opendir("/sys/block");
    struct dirent *entry;
    char path[300], text[300];
    int n = 0;

    while (d && (entry = readdir(d))) {
        (void)snprintf(path, sizeof(path), "/sys/block/%.100s/loop/backing_file", entry->d_name);
        scoped(file_closep) FILE *f = fopen(path, "re");
        n += f && fgets(text, sizeof(text), f) && strstr(text, dir) != NULL;
    }
    return n;
}

/* Whoever looks at all devices of the machine may hold one a moment longer. */
static void assert_no_loops(void)
{
    for (int i = 0; i < 6000 && loops() != 0; i++)
        usleep(10000);
    assert_int_equal(loops(), 0);
}

/* What a dyno would see. */
static void assert_slug(int mount_fd)
{
    scoped_free char *text = NULL;
    struct err e = ERR_INIT;
    struct statvfs fs;
    struct stat st;
    size_t len;

    assert_true(fcntl(mount_fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(file_read(mount_fd, "Procfile", 100, &text, &len, &e), 0);
    assert_string_equal(text, TEXT);
    assert_int_equal(fstatat(mount_fd, "Procfile", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    assert_int_equal(st.st_uid, OWNER);
    assert_int_equal(openat(mount_fd, "new", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
    assert_int_equal(errno, EROFS);
    assert_int_equal(fstatvfs(mount_fd, &fs), 0);
    assert_int_equal(fs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV),
                     ST_RDONLY | ST_NOSUID | ST_NODEV);
}

/* As spawn.c does it: a clone with the dyno's ids. */
static void assert_idmapped(int mount_fd)
{
    struct sandbox box = {.inner = OWNER};
    struct err e = ERR_INIT;
    scoped_fd userns = -1;
    struct stat st;

    assert_int_equal(child_stack_new(&box.stack, &e), 0);
    assert_int_equal(sandbox_userns(&box, 200000, 200000, &userns, &e), 0);
    child_stack_free(box.stack);
    scoped_fd copy = k_open_tree(mount_fd, "", AT_EMPTY_PATH | K_TREE_CLONE | K_TREE_CLOEXEC);
    assert_true(copy >= 0);
    const struct k_mount_attr attr = {.attr_set = K_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
    assert_int_equal(k_mount_setattr(copy, "", AT_EMPTY_PATH, &attr), 0);
    assert_int_equal(fstatat(copy, "Procfile", &st, 0), 0);
    assert_int_equal(st.st_uid, 200000);
}

static void images_are_mounted(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    needs_root();
    struct slugimages *s = open_images();
    if (slugimages_way(s) == SLUGIMAGE_NONE)
        fail_msg("no way here: %s", slugimages_text(s));
    assert_no_loops(); /* of looking */
    int image = make_image(), fd = -1;
    if (slugimages_mount(s, image, &fd, &e) < 0)
        fail_msg("%s", e.text);
    close(image);
    assert_int_equal(tree_remove(AT_FDCWD, dir, &e), 0); /* who runs from it keeps it */
    assert_slug(fd);
    assert_idmapped(fd);
    slugimages_unmount(s, fd);
    slugimages_freep(&s);
}

static void what_is_no_image_is_refused(void **state)
{
    static const char *const texts[] = {"", "x", "just words"};
    static const enum slugimage_way ways[] = {SLUGIMAGE_FILE, SLUGIMAGE_LOOP};
    struct err e = ERR_INIT;
    char path[300], byte = 1;

    (void)state;
    needs_root();
    struct slugimages *s = open_images();
    for (size_t w = 0; w < 2; w++) {
        slugimages_force(s, ways[w], false);
        for (size_t i = 0; i < 3; i++) {
            int fd = -7;

            (void)snprintf(path, sizeof(path), "%s/no", dir);
            scoped_fd file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            assert_int_equal(write(file, texts[i], strlen(texts[i])), strlen(texts[i]));
            assert_true(slugimages_mount(s, file, &fd, &e) < 0);
            assert_int_equal(fd, -7);
        }
        scoped_fd image = make_image();
        int fd = -7;
        assert_int_equal(pwrite(image, &byte, 1, 1024), 1); /* the magic number */
        assert_true(slugimages_mount(s, image, &fd, &e) < 0);
        assert_no_loops();
    }
    slugimages_freep(&s);
}

static void loop_devices_go_with_their_mount(void **state)
{
    struct err e = ERR_INIT;
    int fd = -1;

    (void)state;
    needs_root();
    if (access("/dev/loop-control", F_OK) < 0)
        skip(); /* this machine has no loop devices */
    struct slugimages *s = open_images();
    slugimages_force(s, SLUGIMAGE_LOOP, false);
    int image = make_image();
    if (slugimages_mount(s, image, &fd, &e) < 0)
        fail_msg("%s", e.text);
    close(image);
    assert_int_equal(loops(), 1);
    assert_slug(fd);
    assert_idmapped(fd);
    slugimages_unmount(s, fd);
    assert_no_loops();
    slugimages_freep(&s);
}

static int entries_of_place(void)
{
    scoped(dir_closep) DIR *d = opendir(place);
    int n = 0;

    for (struct dirent *entry; d && (entry = readdir(d));)
        n += entry->d_name[0] != '.';
    return n;
}

/* The way of kernels that clone no detached mount. */
static int attached_in_a_namespace(void)
{
    struct err e = ERR_INIT;
    int fd = -1;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return 2;
    struct slugimages *s = open_images();
    slugimages_force(s, SLUGIMAGE_FILE, true);
    scoped_fd image = make_image();
    if (slugimages_mount(s, image, &fd, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.text);
        return 3;
    }
    if (entries_of_place() != 1)
        return 4;
    assert_slug(fd);
    assert_idmapped(fd);
    scoped_fd dyno = k_open_tree(fd, "", AT_EMPTY_PATH | K_TREE_CLONE | K_TREE_CLOEXEC);
    slugimages_unmount(s, fd);
    if (entries_of_place() != 0)
        return 5;
    assert_slug(dyno); /* runs on */
    slugimages_freep(&s);
    return 0;
}

static void attached_images_stay_in_their_namespace(void **state)
{
    int status = -1;

    (void)state;
    needs_root();
    pid_t pid = fork();
    if (pid == 0)
        _exit(attached_in_a_namespace());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(entries_of_place(), 0);
}

static void what_was_left_of_places_is_cleared(void **state)
{
    char path[300];

    (void)state;
    needs_root();
    (void)snprintf(path, sizeof(path), "%s/0123456789abcdef", place);
    assert_int_equal(mkdir(place, 0700) | mkdir(path, 0700), 0);
    struct slugimages *s = open_images();
    /* Kernels that need no places do not touch them. */
    slugimages_freep(&s);
    assert_true(entries_of_place() <= 1);
}

static void the_rootless_have_none(void **state)
{
    struct slugimages *s = NULL;
    struct err e = ERR_INIT;
    int fd = -7;

    (void)state;
    assert_int_equal(slugimages_open(dir, place, true, &s, &e), 0);
    assert_int_equal(slugimages_way(s), SLUGIMAGE_NONE);
    assert_int_equal(slugimages_mount(s, 0, &fd, &e), -EOPNOTSUPP);
    assert_int_equal(fd, -7);
    slugimages_freep(&s);
    assert_null(s);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(images_are_mounted),
        TEST(what_is_no_image_is_refused),
        TEST(loop_devices_go_with_their_mount),
        TEST(attached_images_stay_in_their_namespace),
        TEST(what_was_left_of_places_is_cleared),
        TEST(the_rootless_have_none),
    };

    return cmocka_run_group_tests_name("slugimage", tests, NULL, NULL);
}
