#include "slug/cache.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"

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

static char root[256];
static const struct digest one = {
    "1111111111111111111111111111111111111111111111111111111111111111"};

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "%s/cache-test-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, root, &e);
}

static struct cache *open_cache(void)
{
    struct cache *c = NULL;
    struct err e = ERR_INIT;

    if (cache_open(root, geteuid(), &c, &e) < 0)
        fail_msg("%s", e.text);
    return c;
}

/* An incoming directory with app/f that holds TEXT. */
static void fetch(struct cache *c, const char *text, char name[CACHE_INCOMING_MAX])
{
    struct err e = ERR_INIT;
    int dir;

    assert_int_equal(cache_incoming(c, name, &dir, &e), 0);
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
    if (cache_publish(c, name, &one, m, &e) < 0)
        fail_msg("%s", e.text);
}

static void assert_app(struct cache *c, const char *text)
{
    struct err e = ERR_INIT;
    scoped_free char *found = NULL;
    size_t len;
    int fd = -1;

    assert_int_equal(cache_lookup(c, &one, &fd, &e), 0);
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

    (void)snprintf(path, sizeof(path), "%s/incoming", root);
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
    int fd = -7;

    (void)state;
    assert_int_equal(cache_lookup(c, &one, &fd, &e), -ENOENT);
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
    int fd;

    (void)state;
    publish(c, "first");
    (void)snprintf(path, sizeof(path), "%s/sha256/%s/meta.json", root, one.hex);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(cache_lookup(c, &one, &fd, &e), -ENOENT);
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
    assert_int_equal(cache_incoming(c, name, &fd, &e), 0);
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
        assert_int_equal(cache_publish(c, names[i], &one, m, &e), -EINVAL);
    }
}

/* What a hostile fetch may leave in its directory; each is refused, and nothing is published. */
static void hostile_leftovers_are_refused(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    scoped(json_freep) json_t *m = meta();
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < 5; i++) {
        char name[CACHE_INCOMING_MAX];
        int dir, none;

        assert_int_equal(cache_incoming(c, name, &dir, &e), 0);
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
        assert_int_equal(cache_publish(c, name, &one, m, &e), -EBADMSG);
        assert_int_equal(cache_lookup(c, &one, &none, &e), -ENOENT);
        close(dir);
    }
}

static void links_in_place_of_entries_are_not_followed(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    scoped(json_freep) json_t *m = NULL;
    char path[400];
    struct err e = ERR_INIT;
    int fd;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/sha256/%s", root, one.hex);
    assert_int_equal(symlink("/", path), 0);
    assert_true(cache_lookup(c, &one, &fd, &e) < 0);
    assert_true(cache_meta(c, &one, &m, &e) < 0);
    assert_null(m);
}

static int collect(const struct digest *digest, uint64_t bytes, uint64_t at, void *userdata)
{
    assert_string_equal(digest->hex, one.hex);
    assert_int_equal(bytes, 42);
    assert_true(at > 0);
    (*(int *)userdata)++;
    return 0;
}

static void entries_are_listed_and_removed(void **state)
{
    scoped(cache_freep) struct cache *c = open_cache();
    struct err e = ERR_INIT;
    int n = 0, fd;

    (void)state;
    publish(c, "x");
    assert_int_equal(cache_list(c, collect, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(cache_remove(c, &one, &e), 0);
    assert_int_equal(cache_remove(c, &one, &e), 0);
    assert_int_equal(cache_lookup(c, &one, &fd, &e), -ENOENT);
    assert_int_equal(count_incoming(), 0);
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

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
        cmocka_unit_test(types_survive_json),
        cmocka_unit_test(lies_in_meta_are_refused),
        cmocka_unit_test(lengths_in_meta_are_bounded),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
