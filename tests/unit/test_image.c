/* Images against the directories that slug/fetch/writer.c makes of the same archives: the same
 * tree, or the same refusal. Looked at by a reader of our own, by fsck.erofs, and (as root) by the
 * kernel, through a mount straight from the file. */
#include "imagefixture.h"

#include "base/clock.h"
#include "slug/fetch/writer.h"
#include "slug/hash.h"
#include "tmpdir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static struct slug_limits limits;
static time_t began;

/* The COUNTDOWN-th pwrite from here on writes CUT bytes and kills the process. 0: none does. */
static unsigned countdown;
static size_t cut;

/* In place of the libc's. */
ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    if (countdown == 1 && len > cut)
        len = cut;
    ssize_t n = syscall(SYS_pwrite64, fd, buf, len, at);
    if (countdown > 0 && --countdown == 0)
        _exit(99);
    return n;
}

static int set_up(void **state)
{
    (void)state;
    slug_limits_default(&limits);
    began = time(NULL);
    return base_make("image-test");
}

static int new_image(void)
{
    int fd = open(in_base("image"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static const unsigned char *map_image(int image, size_t *ret_len)
{
    struct stat st;

    assert_int_equal(fstat(image, &st), 0);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, image, 0);
    assert_true(map != MAP_FAILED);
    *ret_len = (size_t)st.st_size;
    return map;
}

static void assert_sound(int image, uint64_t data_end)
{
    size_t len;
    const unsigned char *map = map_image(image, &len);
    const char *why = erofs_check(map, len, data_end, TEST_UID, TEST_GID);

    if (why)
        fail_msg("the image: %s", why);
    (void)munmap((void *)map, len);
    assert_int_equal(image_fsck(image), 0);
}

/* --- two trees ------------------------------------------------------------------------------ */

#define NAMES_MAX 4000
#define LINKS_MAX 4000

/* Files of several names: of an inode here, its partner there. */
static struct {
    ino_t a, b;
} links[LINKS_MAX];
static size_t n_links;

static void same_inode(const char *path, const struct stat *a, const struct stat *b)
{
    if (a->st_nlink < 2 || S_ISDIR(a->st_mode))
        return;
    for (size_t i = 0; i < n_links; i++)
        if ((links[i].a == a->st_ino) != (links[i].b == b->st_ino))
            fail_msg("%s: linked to another file", path);
    assert_true(n_links < LINKS_MAX);
    links[n_links].a = a->st_ino;
    links[n_links++].b = b->st_ino;
}

static void same_bytes(const char *path, int a, int b)
{
    static char one[1 << 16], two[sizeof(one)];
    ssize_t n;

    for (off_t at = 0; (n = pread(a, one, sizeof(one), at)) > 0; at += n)
        if (pread(b, two, sizeof(two), at) != n || memcmp(one, two, (size_t)n) != 0)
            fail_msg("%s: other bytes", path);
    assert_int_equal(n, 0);
}

static void same_stat(const char *path, const struct stat *a, const struct stat *b)
{
    /* Only its content names it: there writer.c leaves the disk's own time. */
    bool implied = S_ISDIR(a->st_mode) && a->st_mtim.tv_sec >= began;

    if (a->st_mode != b->st_mode)
        fail_msg("%s: mode %o, in the image %o", path, a->st_mode, b->st_mode);
    if (!implied &&
        (a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec))
        fail_msg("%s: time %lld.%09ld, in the image %lld.%09ld", path, (long long)a->st_mtim.tv_sec,
                 a->st_mtim.tv_nsec, (long long)b->st_mtim.tv_sec, b->st_mtim.tv_nsec);
    /* Some disks say 1 of all directories. */
    if (a->st_nlink != b->st_nlink && !(S_ISDIR(a->st_mode) && a->st_nlink == 1))
        fail_msg("%s: %lu links, in the image %lu", path, (unsigned long)a->st_nlink,
                 (unsigned long)b->st_nlink);
    if (!S_ISDIR(a->st_mode) && a->st_size != b->st_size)
        fail_msg("%s: %lld bytes, in the image %lld", path, (long long)a->st_size,
                 (long long)b->st_size);
    assert_int_equal(b->st_uid, TEST_UID);
    assert_int_equal(b->st_gid, TEST_GID);
    same_inode(path, a, b);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t list(int dir, char **names)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fdopendir(copy);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(d);
    while ((entry = readdir(d))) {
        assert_true(n < NAMES_MAX);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            names[n++] = strdup(entry->d_name);
    }
    qsort(names, n, sizeof(*names), by_text);
    return n;
}

static void same_tree(const char *path, int a, int b);

static void same_node(const char *dir, const char *name, int a, int b)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC;
    scoped_free char *path = NULL;
    struct stat sa, sb;

    assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
    if (fstatat(a, name, &sa, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(b, name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    same_stat(path, &sa, &sb);
    if (S_ISLNK(sa.st_mode)) {
        char one[4097] = "", two[4097] = "";

        assert_int_equal(readlinkat(a, name, one, sizeof(one) - 1), sa.st_size);
        assert_int_equal(readlinkat(b, name, two, sizeof(two) - 1), sa.st_size);
        assert_string_equal(one, two);
        return;
    }
    int fa = openat(a, name, flags), fb = openat(b, name, flags);
    if (fa < 0 || fb < 0)
        fail_msg("%s: %s", path, strerror(errno));
    if (S_ISDIR(sa.st_mode))
        same_tree(path, fa, fb);
    else
        same_bytes(path, fa, fb);
    close(fa);
    close(fb);
}

static void same_tree(const char *path, int a, int b)
{
    scoped_free char **one = calloc(NAMES_MAX, sizeof(*one));
    scoped_free char **two = calloc(NAMES_MAX, sizeof(*two));
    size_t n = list(a, one), m = list(b, two);

    if (n != m)
        fail_msg("%s: %zu names, in the image %zu", path, n, m);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(one[i], two[i]) != 0)
            fail_msg("%s: %s, in the image %s", path, one[i], two[i]);
        same_node(path, one[i], a, b);
        free(one[i]);
        free(two[i]);
    }
}

/* What writer.c makes of T, in BASE/top. *ret_app: the directory. */
static int write_dir(const struct str *t, int *ret_app, struct err *e)
{
    struct writer w;
    struct slug_counts counts;
    struct stream_mem mem;

    assert_int_equal(tree_remove(AT_FDCWD, in_base("top"), e), 0);
    assert_int_equal(mkdir(in_base("top"), 0700), 0);
    scoped_fd top = open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(writer_init(&w, top, e), 0);
    stream_mem_init(&mem, t->data, t->len);
    int r = archive_walk(&mem.s, &limits, &w.sink, &counts, e);
    if (r == 0)
        r = writer_finish(&w, &counts, ret_app, e);
    writer_done(&w);
    return r;
}

static void compare(int app, int image)
{
    scoped_fd mount = image_mount(image);
    struct stat sa, sb;

    if (mount < 0)
        fail_msg("mount the image: %s", strerror(-mount));
    assert_int_equal(fstat(app, &sa), 0);
    assert_int_equal(fstat(mount, &sb), 0);
    n_links = 0;
    same_stat("(the app)", &sa, &sb);
    same_tree("", app, mount);
}

/* T, which is ended and freed, in both ways. False: refused in both. */
static bool both_ways(struct str *t)
{
    struct err e = ERR_INIT, f = ERR_INIT;
    scoped_fd app = -1;
    scoped_fd image = new_image();
    uint64_t end = 0;

    tar_end(t);
    int r = write_dir(t, &app, &e), s = image_of_tar(t, image, &limits, &end, &f);
    if (r != s || strcmp(e.text, f.text) != 0)
        fail_msg("the directory: %d %s; the image: %d %s", r, e.text, s, f.text);
    str_done(t);
    if (r < 0)
        return false;
    assert_sound(image, end);
    if (geteuid() == 0)
        compare(app, image);
    return true;
}

/* --- trees ---------------------------------------------------------------------------------- */

static void add_text_tree(struct str *t)
{
    tar_dir(t, "./app/", 0750);
    tar_file(t, "./app/Procfile", 0644, "web: true\n");
    tar_dir(t, "app/ro", 0555);
    tar_dir(t, "app/none", 0);
    tar_file(t, "app/ro/f", 0444, "x");
    tar_file(t, "app/none/sub/f", 0, "x");
    tar_file(t, "app/empty", 0600, "");
    tar_hardlink(t, "app/none/hard", "./app//empty");
    tar_hardlink(t, "app/Procfile2", "app/Procfile");
    tar_symlink(t, "app/out", "/etc/passwd");
    tar_symlink(t, "app/dot", ".");
    tar_file(t, "app/bits", 06755, "x");
    tar_dir(t, "app/emptydir", 07777);
}

static void both_layouts(void **state)
{
    struct str t = {0};

    (void)state;
    add_text_tree(&t);
    assert_true(both_ways(&t));
    tar_dir(&t, "./", 0711);
    add_text_tree(&t);
    tar_file(&t, "Procfile", 0644, "web: true\n");
    assert_true(both_ways(&t));
    tar_file(&t, "app/app/x", 0644, "x"); /* no entry for app */
    assert_true(both_ways(&t));
    tar_file(&t, "x", 0644, "x"); /* none for the top */
    assert_true(both_ways(&t));
    tar_symlink(&t, "app", "/etc"); /* `app` is no directory: the top is the app */
    tar_file(&t, "x", 0644, "x");
    assert_true(both_ways(&t));
    tar_file(&t, "app", 0644, "x");
    assert_true(both_ways(&t));
    tar_file(&t, "app", 0644, "x");
    tar_dir(&t, "app", 0755);
    tar_file(&t, "app/x", 0644, "x");
    assert_true(both_ways(&t));
}

static void later_entries_replace_earlier_ones(void **state)
{
    struct str t = {0};

    (void)state;
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
    tar_hardlink(&t, "app/again", "app/kept");
    tar_hardlink(&t, "app/again", "app/f");
    tar_file(&t, "app/gone", 0644, "x");
    tar_symlink(&t, "app/gone", "x");
    tar_dir(&t, "app/gone", 0700);
    tar_dir(&t, "app/implied/by/name", 0700);
    tar_dir(&t, "app/implied", 0701);
    assert_true(both_ways(&t));
}

static void refusals_have_the_same_words(void **state)
{
    static const struct {
        char kind; /* of the entry `app/a` */
        char kind2;
        const char *path, *target; /* of what comes next */
    } cases[] = {
        {'2', '0', "app/a/x", NULL},    {'2', '0', "app/a/deep/er/x", NULL},
        {'2', '5', "app/a/x", NULL},    {'0', '0', "app/a/x", NULL},
        {'0', '5', "app/a/x/y", NULL},  {'5', '0', "app/a", NULL},
        {'5', '2', "app/a", "x"},       {'5', '1', "app/a", "app/f"},
        {'2', '1', "app/h", "app/a"},   {'2', '1', "app/h", "app/a/x"},
        {'5', '1', "app/h", "app/a"},   {'5', '1', "app/h", "app/a/x"},
        {'5', '1', "app/h", "app/no"},  {'5', '1', "app/h", "no/where"},
        {'0', '1', "app/h", "app/a/x"}, {'0', '1', "app/h", "app/a/x/y"},
        {'5', '1', "app/h", "."},       {'5', '1', "app/a/h", "app"},
        {'0', '1', "app/a/h", "app/f"}, {'2', '1', "app/a/h", "app/f"},
    };
    struct str t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tar_file(&t, "app/f", 0644, "x");
        tar_header(&t, "app/a", cases[i].kind, 0755, cases[i].kind == '2' ? "." : NULL, 0);
        tar_header(&t, cases[i].path, cases[i].kind2, 0755, cases[i].target, 0);
        if (both_ways(&t))
            fail_msg("case %zu was not refused", i);
    }
}

static void add_pax(struct str *t, const char *key, const char *value)
{
    tar_pax_one(t, key, value);
}

static void times_are_kept(void **state)
{
    static const char *const times[] = {"1.000000001", "-5.5", "4000000000.999999999", "0",
                                        "1234567890.123456789"};
    struct str t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "app/f%zu", i);
        add_pax(&t, "mtime", times[i]);
        tar_file(&t, name, 0644, "x");
        (void)snprintf(name, sizeof(name), "app/d%zu", i);
        add_pax(&t, "mtime", times[i]);
        tar_dir(&t, name, 0755);
        (void)snprintf(name, sizeof(name), "app/l%zu", i);
        add_pax(&t, "mtime", times[i]);
        tar_symlink(&t, name, "x");
    }
    assert_true(both_ways(&t));
}

/* What an image says of a directory without an entry: the time of what named it. */
static void implied_directories_have_a_time(void **state)
{
    struct str t = {0};
    struct err e = ERR_INIT;
    scoped_fd image = new_image();
    struct erofs_inode inode;
    uint64_t end;
    size_t len;

    (void)state;
    add_pax(&t, "mtime", "77.5");
    tar_file(&t, "x", 0644, "x");
    tar_file(&t, "y", 0644, "x");
    tar_end(&t);
    assert_int_equal(image_of_tar(&t, image, &limits, &end, &e), 0);
    str_done(&t);
    const unsigned char *map = map_image(image, &len);
    struct erofs_super super = erofs_super_of(map);
    memcpy(&inode, map + (size_t)super.meta_block * EROFS_BLOCK + super.root_nid * 32u,
           sizeof(inode));
    assert_int_equal(inode.mode, S_IFDIR | 0755);
    assert_int_equal(inode.mtime, 77);
    assert_int_equal(inode.mtime_nsec, 500000000);
    (void)munmap((void *)map, len);
}

/* Every byte, every length: 255 bytes in all, sorted before and after the dots. */
static void names_of_any_bytes(void **state)
{
    struct str t = {0};
    char path[300], small[32];

    (void)state;
    for (int c = 1; c < 256; c++) {
        if (c == '/')
            continue;
        /* The first byte alone, the last of many, and behind a dot. */
        (void)snprintf(small, sizeof(small), "app/%c%s", c, c == '.' ? "x" : "");
        tar_file(&t, small, 0644, "1");
        (void)snprintf(small, sizeof(small), "app/.%c.", c);
        tar_file(&t, small, 0644, "2");
    }
    for (int len = 1; len <= 255; len++) {
        memset(path, 'n', sizeof(path));
        memcpy(path, "app/long/", 9);
        path[9 + len] = '\0';
        add_pax(&t, "path", path);
        tar_file(&t, "x", 0644, "3");
    }
    assert_true(both_ways(&t));
}

/* Directories whose names fill their last block to any degree: inline, just not, and full. */
static void directories_of_any_size(void **state)
{
    struct str t = {0};
    char path[400];

    (void)state;
    for (int n = 1; n <= 48; n++)
        for (int i = 0; i < n; i++) {
            (void)snprintf(path, sizeof(path), "app/d%02d/%0*d", n, 60 + n % 7, i);
            add_pax(&t, "path", path);
            tar_file(&t, "x", 0644, "");
        }
    /* One name grows by a byte: the size passes through all of the last block. */
    for (int len = 1; len <= 250; len += 1) {
        for (int i = 0; i < 15; i++) {
            (void)snprintf(path, sizeof(path), "app/e%03d/%d-%0*d", len, i, 240, i);
            add_pax(&t, "path", path);
            tar_file(&t, "x", 0644, "");
        }
        (void)snprintf(path, sizeof(path), "app/e%03d/%0*d", len, len, 1);
        add_pax(&t, "path", path);
        tar_file(&t, "x", 0644, "");
    }
    assert_true(both_ways(&t));
}

static void targets_of_any_length(void **state)
{
    static const int lengths[] = {1, 31, 59, 60, 100, 1000, 4000, 4031, 4032, 4033, 4094, 4095};
    struct str t = {0};
    char name[32], target[4096];

    (void)state;
    tar_file(&t, "app/x", 0644, "");
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            memset(target, 't', sizeof(target));
            target[lengths[i]] = '\0';
            (void)snprintf(name, sizeof(name), "app/l%zu-%zu", k, i);
            add_pax(&t, "linkpath", target);
            tar_symlink(&t, name, "x");
        }
    assert_true(both_ways(&t));
}

static void files_of_any_size(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 65536, 1000001};
    scoped_free char *text = malloc(1000001);
    struct str t = {0};
    char name[32];

    (void)state;
    for (size_t i = 0; i < 1000001; i++)
        text[i] = (char)(i * 2654435761u >> 24);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        (void)snprintf(name, sizeof(name), "app/f%zu", i);
        tar_header(&t, name, '0', 0644, NULL, sizes[i]);
        tar_data(&t, text, sizes[i]);
    }
    struct str records = {0}; /* one byte, then a hole to the end */
    pax_record(&records, "GNU.sparse.size", "1048577", 7);
    pax_record(&records, "GNU.sparse.numblocks", "1", 1);
    pax_record(&records, "GNU.sparse.map", "0,1", 3);
    tar_pax(&t, 'x', &records);
    tar_file(&t, "app/sparse", 0644, "x");
    tar_file(&t, "app/after", 0644, "after the hole");
    assert_true(both_ways(&t));
}

static void as_deep_as_it_may_be(void **state)
{
    struct str t = {0}, path = {0};

    (void)state;
    str_add(&path, "app");
    for (int i = 1; i < 256; i++)
        str_add(&path, "/d");
    add_pax(&t, "path", path.data);
    tar_file(&t, "x", 0644, "x");
    str_done(&path);
    assert_true(both_ways(&t));
}

static unsigned roll(uint64_t *seed, unsigned n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*seed >> 33) % n;
}

static void random_path(uint64_t *seed, char *out, size_t cap)
{
    static const char *const parts[] = {"a", "b", "app", "c"};
    unsigned depth = 1 + roll(seed, 4);
    size_t used = 0;

    for (unsigned i = 0; i < depth; i++)
        used +=
            (size_t)snprintf(out + used, cap - used, "%s%s", i ? "/" : "", parts[roll(seed, 4)]);
}

/* Archives without sense: entries of a few names, over and over, through each other. */
static void random_archives(void **state)
{
    static const char kinds[] = "0005555512";
    unsigned good = 0, bad = 0;
    char path[64], target[64];

    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t seed = i * 7919 + 1;
        unsigned n = 2 + roll(&seed, 10);
        struct str t = {0};

        tar_file(&t, "app/z", 0644, "z");
        while (n-- > 0) {
            char kind = kinds[roll(&seed, sizeof(kinds) - 1)];

            random_path(&seed, path, sizeof(path));
            random_path(&seed, target, sizeof(target));
            if (kind == '0')
                tar_file(&t, path, 0400 | roll(&seed, 0777), target);
            else if (kind == '1' && roll(&seed, 2))
                tar_hardlink(&t, path, "app/z");
            else
                tar_header(&t, path, kind, 0500 | roll(&seed, 0777), target, 0);
        }
        if (both_ways(&t))
            good++;
        else
            bad++;
    }
    assert_true(good > 40 && bad > 40); /* or it tests only half */
}

/* --- by hand: what no archive of a test can hold ---------------------------------------------- */

/* A stream of entries in a file. */
struct stream_file {
    int fd;
    struct entries_out out;
};

static struct stream_file *stream_new(void)
{
    struct stream_file *s = malloc(sizeof(*s));

    s->fd = memfd_create("entries", MFD_CLOEXEC);
    entries_out_init(&s->out, s->fd);
    return s;
}

static void stream_put(struct stream_file *s, enum slug_kind kind, const char *path,
                       const char *target, uint64_t size, uint64_t offset)
{
    const struct slug_entry entry = {.kind = kind,
                                     .path = path,
                                     .target = target,
                                     .mode = kind == SLUG_DIR ? 0755 : 0644,
                                     .mtime = {.tv_sec = 1000000000},
                                     .size = size};
    struct err e = ERR_INIT;

    assert_int_equal(entries_put(&s->out, &entry, offset, &e), 0);
}

/* Ends the stream and makes IMAGE of it. */
static int stream_image(struct stream_file *s, int image, uint64_t data_end, uint64_t *ret_bytes,
                        struct err *e)
{
    struct slug_limits large = limits;
    struct image_limits il;
    struct entries_reply reply;
    struct err ignored = ERR_INIT;
    uint64_t end;

    large.unpacked = 1ull << 43;
    image_limits_for(&large, &il);
    (void)entries_end(&s->out, data_end, &reply, &ignored);
    assert_int_equal(lseek(s->fd, 0, SEEK_SET), 0);
    assert_int_equal(ftruncate(image, (off_t)data_end), 0);
    int r = image_from(s->fd, image, &il, &end, ret_bytes, e);
    close(s->fd);
    free(s);
    return r;
}

static void a_hundred_thousand_names_in_one_directory(void **state)
{
    struct stream_file *s = stream_new();
    struct err e = ERR_INIT;
    scoped_fd image = new_image();
    uint64_t bytes;
    char path[64];

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        (void)snprintf(path, sizeof(path), "app/many/name-%u", i * 2654435761u);
        stream_put(s, i % 3 ? SLUG_FILE : SLUG_DIR, path, NULL, 0, 0);
    }
    assert_int_equal(stream_image(s, image, IMAGE_BLOCK, &bytes, &e), 0);
    assert_sound(image, IMAGE_BLOCK);
    if (geteuid() != 0)
        return;
    scoped_fd mount = image_mount(image);
    assert_true(mount >= 0);
    for (unsigned i = 0; i < 100000; i++) { /* each is found, by the kernel's search */
        struct stat st;

        (void)snprintf(path, sizeof(path), "many/name-%u", i * 2654435761u);
        if (fstatat(mount, path, &st, 0) < 0)
            fail_msg("%s: %s", path, strerror(errno));
        assert_int_equal(S_ISDIR(st.st_mode), i % 3 == 0);
    }
    assert_int_equal(faccessat(mount, "many/name-", F_OK, 0), -1);
}

static void more_than_4_gib(void **state)
{
    const uint64_t large = (5ull << 30) + 17, at = (9ull << 30), end = at + IMAGE_BLOCK;
    struct stream_file *s = stream_new();
    struct err e = ERR_INIT;
    scoped_fd image = new_image();
    uint64_t bytes;
    char found[8];

    (void)state;
    stream_put(s, SLUG_FILE, "app/large", NULL, large, IMAGE_BLOCK);
    stream_put(s, SLUG_FILE, "app/far", NULL, 3, at);
    assert_int_equal(pwrite(image, "end", 3, (off_t)(IMAGE_BLOCK + large - 3)), 3);
    assert_int_equal(pwrite(image, "far", 3, (off_t)at), 3);
    assert_int_equal(stream_image(s, image, end, &bytes, &e), 0);
    assert_sound(image, end);
    if (geteuid() != 0)
        return;
    scoped_fd mount = image_mount(image);
    assert_true(mount >= 0);
    scoped_fd a = openat(mount, "large", O_RDONLY | O_CLOEXEC);
    scoped_fd b = openat(mount, "far", O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(a, found, sizeof(found), (off_t)large - 3), 3);
    assert_memory_equal(found, "end", 3);
    assert_int_equal(pread(b, found, sizeof(found), 0), 3);
    assert_memory_equal(found, "far", 3);
}

static void the_file_must_end_where_the_data_do(void **state)
{
    struct err e = ERR_INIT;
    struct image_limits il;
    scoped_fd image = new_image();
    uint64_t end, bytes;
    struct entries_reply reply;

    (void)state;
    image_limits_for(&limits, &il);
    for (int more = -1; more <= 1; more += 2) {
        struct stream_file *s = stream_new();
        struct err ignored = ERR_INIT;

        stream_put(s, SLUG_FILE, "x", NULL, 5000, IMAGE_BLOCK);
        (void)entries_end(&s->out, 3 * IMAGE_BLOCK, &reply, &ignored);
        assert_int_equal(lseek(s->fd, 0, SEEK_SET), 0);
        assert_int_equal(ftruncate(image, 3 * IMAGE_BLOCK + more), 0);
        assert_int_equal(image_from(s->fd, image, &il, &end, &bytes, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "but its data end at 12288"));
        close(s->fd);
        free(s);
    }
}

/* Where this is skipped, all of the above has been looked at by fsck.erofs and erofs_check.h alone.
 */
static void images_are_mounted(void **state)
{
    struct str t = {0};
    struct err e = ERR_INIT;
    scoped_fd image = new_image();
    uint64_t end;
    char found[32] = "";

    (void)state;
    if (geteuid() != 0)
        skip();
    add_text_tree(&t);
    tar_end(&t);
    assert_int_equal(image_of_tar(&t, image, &limits, &end, &e), 0);
    str_done(&t);
    scoped_fd mount = image_mount(image);
    scoped_fd file = openat(mount, "Procfile", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(file, found, sizeof(found)), 10);
    assert_string_equal(found, "web: true\n");
    assert_int_equal(openat(mount, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
    assert_int_equal(errno, EROFS);
}

/* --- promises ------------------------------------------------------------------------------- */

static void digest_of(int image, struct digest *ret)
{
    struct stream_fd file;
    struct hash_stream hash;
    struct err e = ERR_INIT;

    assert_int_equal(lseek(image, 0, SEEK_SET), 0);
    stream_fd_init(&file, image);
    assert_int_equal(hash_stream_init(&hash, &file.s, UINT64_MAX, &e), 0);
    assert_int_equal(stream_drain(&hash.s, &e), 0);
    assert_int_equal(hash_stream_digest(&hash, ret, &e), 0);
    hash_stream_done(&hash);
}

static void the_same_slug_gives_the_same_image(void **state)
{
    struct digest digests[3];
    struct err e = ERR_INIT;
    struct str t = {0};
    uint64_t end;

    (void)state;
    add_text_tree(&t);
    for (int i = 0; i < 200; i++) {
        char path[32];

        (void)snprintf(path, sizeof(path), "app/many/%d", i * 7919 % 1000);
        tar_file(&t, path, 0644, path);
    }
    tar_end(&t);
    for (int i = 0; i < 3; i++) {
        scoped_fd image = new_image();

        /* What was in the first block before is nothing to it. */
        if (i == 1)
            assert_int_equal(pwrite(image, "leftover", 8, 1000), 8);
        assert_int_equal(image_of_tar(&t, image, &limits, &end, &e), 0);
        digest_of(image, &digests[i]);
    }
    str_done(&t);
    assert_true(digest_equal(&digests[0], &digests[1]));
    assert_true(digest_equal(&digests[0], &digests[2]));
}

static void an_image_names_its_slug(void **state)
{
    struct digest digest;

    (void)state;
    assert_int_equal(digest_parse(TEST_DIGEST, &digest), 0);
    struct erofs_identity who = erofs_identity_for(&digest, 1, 2);
    static const unsigned char uuid[16] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x8c, 0x14,
                                           0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24};
    assert_memory_equal(who.uuid, uuid, 16);
}

/* Killed in its K-th write; the data end at DATA_END, and the first block was OLD. False: there are
 * not that many writes. */
static bool killed_at(const struct str *t, unsigned k, uint64_t data_end, const unsigned char *old)
{
    scoped_fd image = new_image();
    struct err e = ERR_INIT;
    uint64_t end;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (pwrite(image, old, EROFS_BLOCK, 0) != EROFS_BLOCK)
            _exit(1);
        countdown = k;
        int r = image_of_tar(t, image, &limits, &end, &e);
        _exit(r == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    assert_int_equal(WEXITSTATUS(status), 99);
    size_t len;
    const unsigned char *map = map_image(image, &len);
    assert_non_null(erofs_check(map, len, data_end, TEST_UID, TEST_GID));
    (void)munmap((void *)map, len);
    if (geteuid() == 0)
        assert_true(image_mount(image) < 0);
    return true;
}

/* Two blocks of data, then a cleared first block, blocks of a directory, inodes, the superblock. */
static void a_kill_leaves_no_image(void **state)
{
    static const size_t cuts[] = {0, EROFS_SUPER_AT + 48}; /* before its uuid */
    unsigned char old[EROFS_BLOCK];
    struct err e = ERR_INIT;
    uint64_t end;
    struct str t = {0};

    (void)state;
    tar_file(&t, "app/f", 0644, "one");
    tar_file(&t, "app/g", 0644, "two");
    for (int i = 0; i < 300; i++) {
        char path[32];

        (void)snprintf(path, sizeof(path), "app/many/%d", i);
        tar_file(&t, path, 0644, "");
    }
    tar_end(&t);
    /* A subverted unpacker has put the right superblock there already. */
    scoped_fd image = new_image();
    assert_int_equal(image_of_tar(&t, image, &limits, &end, &e), 0);
    assert_int_equal(pread(image, old, sizeof(old), 0), sizeof(old));
    for (size_t i = 0; i < 2; i++) {
        unsigned k = 1;

        cut = cuts[i];
        while (killed_at(&t, k, 3 * EROFS_BLOCK, old))
            k++;
        assert_int_equal(k - 1, 6);
    }
    str_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_layouts, set_up, base_remove),
        cmocka_unit_test_setup_teardown(later_entries_replace_earlier_ones, set_up, base_remove),
        cmocka_unit_test_setup_teardown(refusals_have_the_same_words, set_up, base_remove),
        cmocka_unit_test_setup_teardown(times_are_kept, set_up, base_remove),
        cmocka_unit_test_setup_teardown(implied_directories_have_a_time, set_up, base_remove),
        cmocka_unit_test_setup_teardown(names_of_any_bytes, set_up, base_remove),
        cmocka_unit_test_setup_teardown(directories_of_any_size, set_up, base_remove),
        cmocka_unit_test_setup_teardown(targets_of_any_length, set_up, base_remove),
        cmocka_unit_test_setup_teardown(files_of_any_size, set_up, base_remove),
        cmocka_unit_test_setup_teardown(as_deep_as_it_may_be, set_up, base_remove),
        cmocka_unit_test_setup_teardown(random_archives, set_up, base_remove),
        cmocka_unit_test_setup_teardown(a_hundred_thousand_names_in_one_directory, set_up,
                                        base_remove),
        cmocka_unit_test_setup_teardown(more_than_4_gib, set_up, base_remove),
        cmocka_unit_test_setup_teardown(the_file_must_end_where_the_data_do, set_up, base_remove),
        cmocka_unit_test_setup_teardown(images_are_mounted, set_up, base_remove),
        cmocka_unit_test_setup_teardown(the_same_slug_gives_the_same_image, set_up, base_remove),
        cmocka_unit_test_setup_teardown(an_image_names_its_slug, set_up, base_remove),
        cmocka_unit_test_setup_teardown(a_kill_leaves_no_image, set_up, base_remove),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
