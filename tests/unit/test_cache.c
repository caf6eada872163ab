#include "slug/cache.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "shortage.h"
#include "tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static const struct digest one = {
    "1111111111111111111111111111111111111111111111111111111111111111"};

static int set_up(void **state)
{
    (void)state;
    return base_make("cache-test");
}

static int n_dropped;
static char dropped_why[200];

static void on_dropped(void *userdata, const char *name, const char *why)
{
    (void)userdata;
    (void)name;
    n_dropped++;
    (void)snprintf(dropped_why, sizeof(dropped_why), "%s", why);
}

static struct cache *open_as(uid_t owner, const char *boot)
{
    const struct cache_options o = {
        .root = base, .owner = owner, .dropped = on_dropped, .boot = boot};
    struct cache *c = NULL;
    struct err e = ERR_INIT;

    n_dropped = 0;
    if (cache_open(&o, &c, &e) < 0)
        fail_msg("%s", e.text);
    return c;
}

static struct cache *open_cache(void)
{
    return open_as(geteuid(), "this boot");
}

/* An incoming directory with app/f that holds TEXT. */
static void fetch(struct cache *c, const char *text, char name[CACHE_INCOMING_MAX])
{
    struct err e = ERR_INIT;
    int dir;

    assert_int_equal(cache_incoming(c, CACHE_DIRECTORY, name, &dir, &e), 0);
    assert_int_equal(mkdirat(dir, "app", 0755), 0);
    assert_int_equal(file_write_atomic(dir, "app/f", text, strlen(text), 0644, &e), 0);
    close(dir);
}

static json_t *meta(void)
{
    return json_pack("{s:[{s:s,s:s,s:b}],s:[],s:i}", "types", "name", "web", "command", "c",
                     "release_file", 0, "warnings", "unpacked", 42);
}

static void publish(struct cache *c, const char *text)
{
    char name[CACHE_INCOMING_MAX];
    struct err e = ERR_INIT;
    scoped(json_freep) json_t *m = meta();

    fetch(c, text, name);
    if (cache_publish(c, name, &one, m, true, &e) < 0)
        fail_msg("%s", e.text);
}

static void assert_app(struct cache *c, const char *text)
{
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_IMAGE;
    scoped_free char *found = NULL;
    size_t len;
    int fd = -1;

    assert_int_equal(cache_lookup(c, &one, &kind, &fd, &e), 0);
    assert_true(fcntl(fd, F_GETFL) & O_PATH);
    assert_int_equal(file_read(fd, "f", 100, &found, &len, &e), 0);
    assert_string_equal(found, text);
    close(fd);
}

static int count_incoming(void)
{
    char path[300];
    struct dirent *d;
    int n = 0;

    (void)snprintf(path, sizeof(path), "%s/incoming", base);
    scoped(dir_closep) DIR *dir = opendir(path);
    while ((d = readdir(dir)))
        n += d->d_name[0] != '.';
    return n;
}

static void published_slugs_are_found(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    scoped(json_freep) json_t *m = NULL;
    scoped(procfile_done) struct procfile p = {0};
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_IMAGE;
    int fd = -7;

    (void)state;
    assert_int_equal(cache_lookup(c, &one, &kind, &fd, &e), -ENOENT);
    assert_int_equal(fd, -7);
    assert_int_equal(cache_meta(c, &one, &m, &e), -ENOENT);
    publish(c, "first");
    assert_app(c, "first");
    assert_int_equal(count_incoming(), 0);
    assert_int_equal(cache_meta(c, &one, &m, &e), 0);
    assert_int_equal(slug_meta_types(m, &p, &e), 0);
    assert_string_equal(p.types[0].name, "web");
}

static void the_entry_that_exists_wins(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();

    (void)state;
    publish(c, "first");
    publish(c, "second");
    assert_app(c, "first");
    assert_int_equal(count_incoming(), 0);
}

static void a_broken_entry_is_replaced(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    char path[400];
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_IMAGE;
    int fd;

    (void)state;
    publish(c, "first");
    (void)snprintf(path, sizeof(path), "%s/sha256/%s/meta.json", base, one.hex);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(cache_lookup(c, &one, &kind, &fd, &e), -ENOENT);
    publish(c, "second");
    assert_app(c, "second");
    assert_int_equal(count_incoming(), 0);
}

static void what_a_dead_fetch_left_is_swept(void **state)
{
    struct cache *c = open_cache();
    char name[CACHE_INCOMING_MAX];

    (void)state;
    publish(c, "kept");
    fetch(c, "x", name);
    assert_int_equal(count_incoming(), 1);
    cache_freep(&c);
    c = open_cache();
    assert_int_equal(count_incoming(), 0);
    assert_app(c, "kept");
    cache_freep(&c);
}

static void incoming_directories_are_private(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    char name[CACHE_INCOMING_MAX];
    struct err e = ERR_INIT;
    struct stat st;
    int fd;

    (void)state;
    mode_t old = umask(0);
    assert_int_equal(cache_incoming(c, CACHE_DIRECTORY, name, &fd, &e), 0);
    (void)umask(old);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(st.st_uid, geteuid());
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_int_equal(cache_drop(c, name, &e), 0);
    assert_int_equal(cache_drop(c, name, &e), 0);
    assert_int_equal(count_incoming(), 0);
}

static void names_never_lead_elsewhere(void **state)
{
    static const char *const names[] = {
        "", ".", "..", "../sha256", "/etc", "0123456789abcdeg", "0123456789abcdef0"};
    scoped(cache_freep) struct cache *c = open_cache();
    scoped(json_freep) json_t *m = meta();
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(cache_drop(c, names[i], &e), -EINVAL);
        assert_int_equal(cache_publish(c, names[i], &one, m, true, &e), -EINVAL);
    }
}

/* What a hostile fetch may leave in its directory; each is refused, and nothing is published. */
static void hostile_leftovers_are_refused(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    scoped(json_freep) json_t *m = meta();
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_IMAGE;

    (void)state;
    for (int i = 0; i < 5; i++) {
        char name[CACHE_INCOMING_MAX];
        int dir, none;

        assert_int_equal(cache_incoming(c, CACHE_DIRECTORY, name, &dir, &e), 0);
        if (i >= 2)
            assert_int_equal(mkdirat(dir, "app", 0755), 0);
        if (i == 1)
            assert_int_equal(symlinkat("/etc", dir, "app"), 0);
        if (i == 2)
            assert_int_equal(symlinkat("/etc/passwd", dir, "meta.json"), 0);
        if (i == 3)
            assert_int_equal(mkfifoat(dir, "meta.json.new", 0600), 0);
        if (i == 4)
            assert_int_equal(mkdirat(dir, ".stage", 0700), 0);
        assert_int_equal(cache_publish(c, name, &one, m, true, &e), -EBADMSG);
        assert_int_equal(cache_lookup(c, &one, &kind, &none, &e), -ENOENT);
        close(dir);
    }
}

static void links_in_place_of_entries_are_not_followed(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    scoped(json_freep) json_t *m = NULL;
    char path[400];
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_IMAGE;
    int fd;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/sha256/%s", base, one.hex);
    assert_int_equal(symlink("/", path), 0);
    assert_true(cache_lookup(c, &one, &kind, &fd, &e) < 0);
    assert_true(cache_meta(c, &one, &m, &e) < 0);
    assert_null(m);
}

static void entries_are_listed_and_removed(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_IMAGE;
    int fd;

    (void)state;
    publish(c, "x");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(cache_count(c), 1);
        assert_string_equal(cache_at(c, 0)->digest.hex, one.hex);
        assert_int_equal(cache_at(c, 0)->bytes, 42);
        assert_int_equal(cache_at(c, 0)->kind, CACHE_DIRECTORY);
        assert_true(cache_at(c, 0)->synced);
        assert_true(cache_at(c, 0)->used_usec > 0);
        assert_int_equal(cache_bytes(c), 42);
        cache_freep(&c); /* the second round: as the disk has it */
        c = open_cache();
    }
    assert_int_equal(cache_remove(c, &one, &e), 0);
    assert_int_equal(cache_remove(c, &one, &e), 0);
    assert_int_equal(cache_lookup(c, &one, &kind, &fd, &e), -ENOENT);
    assert_int_equal(cache_count(c), 0);
    assert_null(cache_find(c, &one));
    assert_int_equal(count_incoming(), 0);
}

/* --- images --------------------------------------------------------------------------------- */

static void publish_image(struct cache *c, const char *bytes)
{
    scoped(json_freep) json_t *m = meta();
    char name[CACHE_INCOMING_MAX];
    struct err e = ERR_INIT;
    struct stat st;
    int fd;

    /* What only cache_seal() may say is not believed. */
    assert_int_equal(json_object_set_new(m, "synced", json_true()), 0);
    assert_int_equal(json_object_set_new(m, "image", json_string(one.hex)), 0);
    mode_t old = umask(0);
    assert_int_equal(cache_incoming(c, CACHE_IMAGE, name, &fd, &e), 0);
    (void)umask(old);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_uid, geteuid());
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(fd, bytes, strlen(bytes)), strlen(bytes));
    close(fd);
    if (cache_publish(c, name, &one, m, false, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(count_incoming(), 0);
}

static void images_are_published_and_sealed(void **state)
{
    static const struct digest other = {
        "2222222222222222222222222222222222222222222222222222222222222222"};
    scoped(cache_freep) struct cache *c = open_cache();
    struct err e = ERR_INIT;
    enum cache_kind kind = CACHE_DIRECTORY;
    char text[8] = "";
    int fd = -1;

    (void)state;
    publish_image(c, "image!");
    assert_int_equal(cache_lookup(c, &one, &kind, &fd, &e), 0);
    assert_int_equal(kind, CACHE_IMAGE);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 6);
    assert_string_equal(text, "image!");
    close(fd);
    assert_false(cache_find(c, &one)->synced);
    assert_false(cache_find(c, &one)->has_image);
    assert_true(cache_find(c, &one)->bytes >= 6);
    assert_int_equal(cache_seal(c, &other, &other, &e), -ENOENT);
    assert_int_equal(cache_seal(c, &one, &other, &e), 0);
    for (int again = 0; again < 2; again++) {
        assert_true(cache_find(c, &one)->synced);
        assert_true(cache_find(c, &one)->has_image);
        assert_string_equal(cache_find(c, &one)->image.hex, other.hex);
        cache_freep(&c);
        c = open_as(geteuid(), "another boot");
    }
}

/* It comes some time after the use, and in any order: what leaves first must not depend on it. */
static void a_seal_is_no_use(void **state)
{
    const struct timespec old[2] = {{1000, 5000}, {1000, 5000}};
    struct err e = ERR_INIT;
    char path[400];
    struct cache *c;

    (void)state;
    c = open_cache();
    publish_image(c, "image!");
    cache_freep(&c);
    (void)snprintf(path, sizeof(path), "%s/sha256/%s", base, one.hex);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    c = open_cache();
    assert_int_equal(cache_seal(c, &one, &one, &e), 0);
    for (int again = 0; again < 2; again++) {
        assert_true(cache_at(c, 0)->synced);
        assert_int_equal(cache_at(c, 0)->used_usec, 1000 * 1000000ull + 5);
        cache_freep(&c);
        c = open_cache();
    }
    cache_freep(&c);
}

/* The power went before the image was on the disk. */
static void what_was_not_synced_does_not_outlive_its_boot(void **state)
{
    struct cache *c = open_cache();

    (void)state;
    publish_image(c, "image");
    cache_freep(&c);
    c = open_cache(); /* the agent died, the machine did not */
    assert_int_equal(n_dropped, 0);
    assert_int_equal(cache_count(c), 1);
    cache_freep(&c);
    c = open_as(geteuid(), "another boot");
    assert_int_equal(n_dropped, 1);
    assert_non_null(strstr(dropped_why, "restarted"));
    assert_int_equal(cache_count(c), 0);
    assert_int_equal(count_incoming(), 0);
    cache_freep(&c);
}

static void what_is_anothers_is_dropped(void **state)
{
    (void)state;
    for (int image = 0; image < 2; image++) {
        struct cache *c = open_cache();

        image ? publish_image(c, "image") : publish(c, "x");
        cache_freep(&c);
        c = open_as(geteuid() + 1, "this boot");
        assert_int_equal(n_dropped, 1);
        assert_non_null(strstr(dropped_why, "another user"));
        assert_int_equal(cache_count(c), 0);
        cache_freep(&c);
    }
}

static void write_entry(const char *file, const char *text)
{
    struct err e = ERR_INIT;
    char path[400];

    (void)snprintf(path, sizeof(path), "%s/sha256/%s/%s", base, one.hex, file);
    assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, &e), 0);
}

/* Each is what a power cut, or a disk, may make of an entry. */
static void what_is_no_entry_is_dropped(void **state)
{
    static const struct {
        const char *file, *text;
    } torn[] = {
        {"meta.json", ""},
        {"meta.json", "{\"kind\":\"image\",\"synced\":true,\"own"},
        {"meta.json", "{}"}, /* an unpacked slug, but there is an image */
        {"image", ""},
        {"image", "imag"},
        {"image", "image, and more"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
        struct cache *c = open_cache();

        publish_image(c, "image");
        cache_freep(&c);
        write_entry(torn[i].file, torn[i].text);
        c = open_cache();
        if (n_dropped != 1 || cache_count(c) != 0)
            fail_msg("taken: %s with '%s'", torn[i].file, torn[i].text);
        cache_freep(&c);
    }
}

/* From before there were images: synced, and of no known size on the disk. */
static void entries_of_old_stay(void **state)
{
    struct cache *c = open_cache();

    (void)state;
    publish(c, "x");
    cache_freep(&c);
    write_entry("meta.json", "{\"unpacked\":1000,\"entries\":3}");
    c = open_as(geteuid(), "another boot");
    assert_int_equal(n_dropped, 0);
    assert_int_equal(cache_count(c), 1);
    assert_true(cache_at(c, 0)->synced);
    assert_int_equal(cache_at(c, 0)->bytes, 1000 + 3 * 4096);
    assert_app(c, "x");
    cache_freep(&c);
}

static void use_is_remembered(void **state)
{
    struct cache *c = open_cache();
    const struct timespec old[2] = {{1000, 0}, {1000, 0}};
    char path[400];

    (void)state;
    publish(c, "x");
    cache_freep(&c);
    (void)snprintf(path, sizeof(path), "%s/sha256/%s", base, one.hex);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    c = open_cache();
    assert_int_equal(cache_at(c, 0)->used_usec, 1000 * 1000000ull);
    cache_touch(c, &one);
    uint64_t now = cache_at(c, 0)->used_usec;
    assert_true(now > 1000 * 1000000ull);
    cache_touch(c, &one); /* so soon again: nothing to write down */
    assert_int_equal(cache_at(c, 0)->used_usec, now);
    cache_freep(&c);
    c = open_cache();
    /* The kernel's clock for files is a tick behind. */
    assert_true(cache_at(c, 0)->used_usec + 1000000 > now);
    cache_freep(&c);
}

static int refuse(void *userdata, int dirfd, const char *name, struct err *e)
{
    (*(int *)userdata)++;
    return tree_remove(dirfd, name, e);
}

static void removal_is_somebody_elses(void **state)
{
    int n = 0;
    const struct cache_options o = {
        .root = base, .owner = geteuid(), .discard = refuse, .userdata = &n, .boot = "b"};
    struct cache *c = NULL;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(cache_open(&o, &c, &e), 0);
    publish(c, "first");
    publish(c, "second");
    assert_int_equal(n, 1);
    assert_int_equal(cache_remove(c, &one, &e), 0);
    assert_int_equal(n, 2);
    cache_freep(&c);
}

static void spools_have_no_name(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    struct err e = ERR_INIT;
    struct stat st;
    int fd = -1;

    (void)state;
    assert_int_equal(cache_spool(c, &fd, &e), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(count_incoming(), 0);
    close(fd);
}

static void types_survive_json(void **state)
{
    scoped(procfile_done) struct procfile p = {0}, q = {0};
    struct err e = ERR_INIT;
    const char text[] = "web: caf\xe9\nworker: k \xc3\xa9 \x1b\nbad line\n";

    (void)state;
    assert_int_equal(procfile_parse(&p, "P", text, strlen(text), &e), 0);
    assert_int_equal(procfile_add_release(&p, ".release", "default_process_types: {x: y}", 29, &e),
                     0);
    scoped(json_freep) json_t *m = json_pack("{s:o}", "types", slug_meta_types_json(&p));
    assert_non_null(m);
    assert_int_equal(slug_meta_types(m, &q, &e), 0);
    assert_int_equal(q.n_types, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(q.types[i].name, p.types[i].name);
        assert_string_equal(q.types[i].command, p.types[i].command);
        assert_int_equal(q.types[i].from_release_file, i == 2);
    }
}

static void lies_in_meta_are_refused(void **state)
{
    static const char *const lies[] = {
        "{}",
        "{\"types\":[]}",
        "{\"types\":{}}",
        "{\"types\":[1]}",
        "{\"types\":[{}]}",
        "{\"types\":[{\"name\":\"web\"}]}",
        "{\"types\":[{\"name\":\"../x\",\"command\":\"c\"}]}",
        "{\"types\":[{\"name\":\"\",\"command\":\"c\"}]}",
        "{\"types\":[{\"name\":\"run\",\"command\":\"c\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command\":\"\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command\":7}]}",
        "{\"types\":[{\"name\":\"web\",\"command_hex\":\"6\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command_hex\":\"00\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command_hex\":\"zz\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command\":\"c\",\"command_hex\":\"61\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command\":\"c\",\"release_file\":1}]}",
        "{\"types\":[{\"name\":\"web\",\"command\":\"c\"},{\"name\":\"web\",\"command\":\"d\"}]}",
        "{\"types\":[{\"name\":\"web\",\"command\":\"c\"}],\"warnings\":7}",
        "{\"types\":[{\"name\":\"web\",\"command\":\"c\"}],\"warnings\":[7]}",
    };
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        scoped(json_freep) json_t *m = NULL;
        struct procfile p = {.n_types = 77};

        assert_int_equal(json_parse(lies[i], strlen(lies[i]), 1 << 20, &m, &e), 0);
        if (slug_meta_types(m, &p, &e) != -EBADMSG)
            fail_msg("taken: %s", lies[i]);
        assert_int_equal(p.n_types, 77);
    }
}

static void lengths_in_meta_are_bounded(void **state)
{
    scoped_free char *command = calloc(1, COMMAND_MAX_BYTES + 2);
    struct err e = ERR_INIT;

    (void)state;
    memset(command, 'x', COMMAND_MAX_BYTES);
    for (int over = 0; over < 2; over++) {
        scoped(procfile_done) struct procfile p = {0};
        scoped(json_freep) json_t *m = json_pack("{s:[{s:s,s:s}],s:[s]}", "types", "name", "web",
                                                 "command", command, "warnings", "bad\x1b[2J");

        assert_int_equal(slug_meta_types(m, &p, &e), over ? -EBADMSG : 0);
        if (!over)
            assert_string_equal(p.warnings[0], "bad\\x1b[2J");
        command[COMMAND_MAX_BYTES] = 'x';
    }
}

/* An agent that starts with few descriptors left, or none: it may fail, but drops nothing. */
static void a_shortage_drops_nothing(void **state)
{
    const struct cache_options o = {
        .root = base, .owner = geteuid(), .dropped = on_dropped, .boot = "this boot"};
    struct cache *c = open_cache();
    int r = -1;

    (void)state;
    publish(c, "text");
    cache_freep(&c);
    for (int n = 0; n < 16 && r < 0; n++) {
        struct err e = ERR_INIT;
        struct rlimit was = fds_limit(n);

        r = cache_open(&o, &c, &e);
        fds_allow(&was);
        assert_true(r == 0 || r == -EMFILE);
        assert_int_equal(n_dropped, 0);
    }
    assert_int_equal(r, 0);
    struct rlimit was = fds_limit(1); /* its directory, but not what is in it */
    struct err e = ERR_INIT;
    enum cache_kind kind;
    int fd;
    r = cache_lookup(c, &one, &kind, &fd, &e);
    fds_allow(&was);
    assert_int_equal(r, -EMFILE);
    assert_app(c, "text");
    cache_freep(&c);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, base_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(published_slugs_are_found),
        TEST(the_entry_that_exists_wins),
        TEST(a_broken_entry_is_replaced),
        TEST(what_a_dead_fetch_left_is_swept),
        TEST(incoming_directories_are_private),
        TEST(names_never_lead_elsewhere),
        TEST(hostile_leftovers_are_refused),
        TEST(links_in_place_of_entries_are_not_followed),
        TEST(entries_are_listed_and_removed),
        TEST(images_are_published_and_sealed),
        TEST(a_seal_is_no_use),
        TEST(what_was_not_synced_does_not_outlive_its_boot),
        TEST(what_is_anothers_is_dropped),
        TEST(what_is_no_entry_is_dropped),
        TEST(entries_of_old_stay),
        TEST(use_is_remembered),
        TEST(removal_is_somebody_elses),
        TEST(spools_have_no_name),
        TEST(a_shortage_drops_nothing),
        cmocka_unit_test(types_survive_json),
        cmocka_unit_test(lies_in_meta_are_refused),
        cmocka_unit_test(lengths_in_meta_are_bounded),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
