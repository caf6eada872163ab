/* The stream of entries, as hostile as a subverted unpacker can make it. */
#include "imagefixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct image_limits limits;

static int set_up(void **state)
{
    struct slug_limits l;

    (void)state;
    slug_limits_default(&l);
    image_limits_for(&l, &limits);
    return 0;
}

/* --- one record ----------------------------------------------------------------------------- */

/* A record as it lies on the wire. */
struct raw {
    uint32_t magic;
    uint8_t kind, zero;
    uint16_t mode;
    uint64_t mtime, size, offset;
    uint32_t nsec;
    uint16_t path_len, target_len;
    const char *path, *target;
};

static struct raw raw(uint8_t kind, const char *path, const char *target)
{
    return (struct raw){
        .magic = 0x31657964,
        .kind = kind,
        .mode = kind == ENTRY_END ? 0 : 0644,
        .path_len = (uint16_t)strlen(path),
        .target_len = (uint16_t)strlen(target),
        .path = path,
        .target = target,
    };
}

static void raw_add(struct str *s, const struct raw *r)
{
    for (int i = 0; i < 4; i++)
        str_add_n(s, (char[]){(char)(r->magic >> (8 * i))}, 1);
    str_add_n(s, (char[]){(char)r->kind, (char)r->zero, (char)r->mode, (char)(r->mode >> 8)}, 4);
    for (int i = 0; i < 8; i++)
        str_add_n(s, (char[]){(char)(r->mtime >> (8 * i))}, 1);
    for (int i = 0; i < 8; i++)
        str_add_n(s, (char[]){(char)(r->size >> (8 * i))}, 1);
    for (int i = 0; i < 8; i++)
        str_add_n(s, (char[]){(char)(r->offset >> (8 * i))}, 1);
    for (int i = 0; i < 4; i++)
        str_add_n(s, (char[]){(char)(r->nsec >> (8 * i))}, 1);
    str_add_n(s, (char[]){(char)r->path_len, (char)(r->path_len >> 8)}, 2);
    str_add_n(s, (char[]){(char)r->target_len, (char)(r->target_len >> 8)}, 2);
    str_add_n(s, r->path, strlen(r->path) + 1);
    str_add_n(s, r->target, strlen(r->target) + 1);
}

static void assert_decode(const struct raw *r, int result, const char *why, enum fault fault)
{
    struct str s = {0};
    struct err e = ERR_INIT;
    struct entry entry;
    size_t used;

    raw_add(&s, r);
    str_add_n(&s, "more than lengths that lie may reach", 36);
    int got = entry_decode(s.data, s.len, &limits, &entry, &used, &e);
    if (got != result || (why && !strstr(e.text, why)) || (why && e.fault != fault))
        fail_msg("%d '%s' expected, but: %d %s (%s)", result, why ? why : "", got, e.text,
                 fault_name(e.fault));
    str_done(&s);
}

static void assert_violates(const struct raw *r, const char *why)
{
    assert_decode(r, -EBADMSG, why, FAULT_PLATFORM);
}

static void every_field_is_checked(void **state)
{
    struct raw r, file = raw(ENTRY_FILE, "app/x", ""), link = raw(ENTRY_SYMLINK, "l", "/x");
    struct raw hard = raw(ENTRY_HARDLINK, "h", "app/x"), end = raw(ENTRY_END, "", "");

    (void)state;
    file.size = 5;
    file.offset = IMAGE_BLOCK;
    end.size = IMAGE_BLOCK;
    assert_decode(&file, 1, NULL, FAULT_NONE); /* the controls */
    assert_decode(&link, 1, NULL, FAULT_NONE);
    assert_decode(&hard, 1, NULL, FAULT_NONE);
    assert_decode(&end, 1, NULL, FAULT_NONE);
#define BREAK(record, change, why)                                                                 \
    do {                                                                                           \
        r = (record);                                                                              \
        change;                                                                                    \
        assert_violates(&r, why);                                                                  \
    } while (0)
    BREAK(file, r.magic++, "the magic number");
    BREAK(file, r.zero = 1, "the zero");
    BREAK(file, r.kind = 0, "the kind is unknown");
    BREAK(file, r.kind = 5, "the kind is unknown");
    BREAK(file, r.kind = 8, "the kind is unknown");
    BREAK(file, r.kind = 255, "the kind is unknown");
    BREAK(file, r.mode = 01000, "more than rights");
    BREAK(file, r.mode = 04755, "more than rights");
    BREAK(file, r.mode = 0100644, "more than rights");
    BREAK(file, r.nsec = 1000000000, "nanoseconds");
    BREAK(file, r.offset = 0, "the first block");
    BREAK(file, r.offset = 4097, "not a multiple");
    BREAK(file, r.size = 0, "an empty file has an offset");
    BREAK(file, r.path_len = 4096, "over the limit of 4095");
    BREAK(file, r.path_len = 65535, "over the limit of 4095");
    BREAK(file, r.target_len = 4096, "over the limit of 4095");
    BREAK(file, r.path_len = 4, "a text and its length differ");
    BREAK(file, r.path_len = 6, "a text and its length differ");
    BREAK(file, (r.target = "x", r.target_len = 1), "what is no link has a target");
    BREAK(file, (r.path = "", r.path_len = 0), "the root is no directory");
    BREAK(link, r.target_len = 3, "a text and its length differ");
    BREAK(link, (r.target = "", r.target_len = 0), "to nothing");
    BREAK(link, r.size = 1, "what is no file has data");
    BREAK(link, r.offset = IMAGE_BLOCK, "what is no file has data");
    BREAK(hard, (r.target = "../x", r.target_len = 4), "the hard link's target: ");
    BREAK(hard, (r.target = "/x", r.target_len = 2), "the hard link's target: ");
    BREAK(end, r.mode = 1, "fields of an entry");
    BREAK(end, r.mtime = 1, "fields of an entry");
    BREAK(end, r.nsec = 1, "fields of an entry");
    BREAK(end, r.offset = IMAGE_BLOCK, "fields of an entry");
    BREAK(end, (r.path = "x", r.path_len = 1), "fields of an entry");
    BREAK(end, r.size = 0, "the data's end is not");
    BREAK(end, r.size = 6000, "the data's end is not");
#undef BREAK
}

static void paths_must_be_normal(void **state)
{
    static const char *const paths[] = {"/",     "/x", "x/",   "x//y",   ".",    "./x", "x/.",
                                        "x/./y", "..", "../x", "x/../y", "x/..", "//x"};
    char name[300] = "";
    struct raw r;

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        r = raw(ENTRY_DIR, paths[i], "");
        assert_violates(&r, "the path: ");
        r = raw(ENTRY_HARDLINK, "x", paths[i]);
        assert_violates(&r, "the hard link's target: ");
    }
    memset(name, 'n', 256);
    r = raw(ENTRY_DIR, name, "");
    assert_decode(&r, -ENAMETOOLONG, "a name is over the limit of 255", FAULT_APP);
    name[255] = '\0';
    r = raw(ENTRY_DIR, name, "");
    assert_decode(&r, 1, NULL, FAULT_NONE);
    limits.depth = 3;
    r = raw(ENTRY_DIR, "a/b/c/d", "");
    assert_decode(&r, -ENAMETOOLONG, "over the limit of 3 directories in one another", FAULT_APP);
}

static void sizes_do_not_overflow(void **state)
{
    static const uint64_t sizes[] = {1ull << 62, 1ull << 63, UINT64_MAX - 4096, UINT64_MAX - 4095,
                                     UINT64_MAX};
    struct raw r;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        r = raw(ENTRY_FILE, "x", "");
        r.size = sizes[i];
        r.offset = IMAGE_BLOCK;
        assert_decode(&r, -EFBIG, "over the limit", FAULT_APP);
        r.size = 1;
        r.offset = sizes[i] & ~4095ull;
        assert_decode(&r, -EFBIG, "over the limit", FAULT_APP);
        r = raw(ENTRY_END, "", "");
        r.size = sizes[i] & ~4095ull;
        assert_decode(&r, -EFBIG, "over the limit", FAULT_APP);
    }
    r = raw(ENTRY_FILE, "x", "");
    r.offset = IMAGE_BLOCK;
    r.size = limits.data - IMAGE_BLOCK;
    assert_decode(&r, 1, NULL, FAULT_NONE);
    r.size++;
    assert_decode(&r, -EFBIG, "bytes of data", FAULT_APP);
}

static void what_was_put_is_what_comes(void **state)
{
    const struct slug_entry in[] = {
        {SLUG_FILE, "a/b", NULL, 0640, {-7, 999999999}, 12345},
        {SLUG_FILE, "a/empty", NULL, 0400, {0, 0}, 0},
        {SLUG_DIR, "", NULL, 0755, {INT64_MIN, 0}, 0},
        {SLUG_SYMLINK, "l", "../\377\n/etc", 0777, {INT64_MAX, 1}, 0},
        {SLUG_HARDLINK, "h", "a/b", 0644, {1, 1}, 0},
    };
    scoped_fd fd = memfd_create("entries", MFD_CLOEXEC);
    scoped_free struct entries_out *o = malloc(sizeof(*o));
    scoped_free struct entries_in *i = malloc(sizeof(*i));
    struct entries_reply reply;
    struct entry got;
    struct err e = ERR_INIT;

    (void)state;
    entries_out_init(o, fd);
    for (size_t k = 0; k < 5; k++)
        assert_int_equal(entries_put(o, &in[k], 8192, &e), 0);
    (void)entries_end(o, 24576, &reply, &e);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    entries_in_init(i, fd, &limits);
    for (size_t k = 0; k < 5; k++) {
        assert_int_equal(entries_next(i, &got, &e), 0);
        assert_false(got.end);
        assert_int_equal(got.e.kind, in[k].kind);
        assert_string_equal(got.e.path, in[k].path);
        if (in[k].target)
            assert_string_equal(got.e.target, in[k].target);
        else
            assert_null(got.e.target);
        assert_int_equal(got.e.mode, in[k].mode);
        assert_int_equal(got.e.mtime.tv_sec, in[k].mtime.tv_sec);
        assert_int_equal(got.e.mtime.tv_nsec, in[k].mtime.tv_nsec);
        assert_int_equal(got.e.size, in[k].size);
        assert_int_equal(got.offset, k == 0 ? 8192 : 0);
    }
    assert_int_equal(entries_next(i, &got, &e), 0);
    assert_true(got.end);
    assert_int_equal(got.data_end, 24576);
}

/* --- streams -------------------------------------------------------------------------------- */

/* What becomes of the stream S (freed): an image in a file that ends where the data should. */
static int image_of(struct str *s, uint64_t data_end, struct err *e)
{
    struct err why = ERR_INIT;
    uint64_t end, bytes;
    int stream, r;
    scoped_fd image = memfd_create("image", MFD_CLOEXEC);

    assert_int_equal(memfd_with("entries", str_text(s), s->len, &stream, e), 0);
    assert_int_equal(ftruncate(image, (off_t)data_end), 0);
    r = image_from(stream, image, &limits, &end, &bytes, &why);
    close(stream);
    str_done(s);
    *e = why;
    return r;
}

static void add(struct str *s, uint8_t kind, const char *path, const char *target)
{
    struct raw r = raw(kind, path, target);

    if (kind == ENTRY_END)
        r.size = 3 * IMAGE_BLOCK;
    raw_add(s, &r);
}

static void assert_stream(struct str *s, int result, const char *why)
{
    struct err e = ERR_INIT;
    int r = image_of(s, 3 * IMAGE_BLOCK, &e);

    if (r != result || !strstr(e.text, why))
        fail_msg("%d '%s' expected, but: %d %s", result, why, r, e.text);
}

static void streams_that_lie(void **state)
{
    struct raw file = raw(ENTRY_FILE, "f", "");
    struct str s = {0};

    (void)state;
    add(&s, ENTRY_END, "", "");
    assert_stream(&s, 0, ""); /* an empty tree is one */
    assert_stream(&s, -EPIPE, "ended before its end");
    add(&s, ENTRY_FILE, "f", "");
    assert_stream(&s, -EPIPE, "ended before its end");
    add(&s, ENTRY_END, "", "");
    add(&s, ENTRY_END, "", "");
    assert_stream(&s, -EBADMSG, "record 1: there is something behind the end");
    add(&s, ENTRY_END, "", "");
    str_add(&s, "x");
    assert_stream(&s, -EBADMSG, "record 1: there is something behind the end");
    add(&s, ENTRY_FILE, "f", "");
    add(&s, ENTRY_DIR, "../f", "");
    assert_stream(&s, -EBADMSG, "the stream of entries, record 2: the path: ../f: ");

    file.size = 4097;
    file.offset = IMAGE_BLOCK;
    raw_add(&s, &file);
    file.path = "g"; /* the same bytes by another name: fine */
    raw_add(&s, &file);
    add(&s, ENTRY_DIR, "", ""); /* the root twice */
    add(&s, ENTRY_DIR, "", "");
    add(&s, ENTRY_END, "", "");
    assert_stream(&s, 0, "");
    file.size++;
    file.offset += IMAGE_BLOCK;
    raw_add(&s, &file);
    add(&s, ENTRY_END, "", "");
    assert_stream(&s, -EBADMSG, "record 2: a file's data lie behind the data's end");
}

static void cut_at_every_byte(void **state)
{
    struct str whole = {0};
    struct err e = ERR_INIT;

    (void)state;
    add(&whole, ENTRY_FILE, "app/x", "");
    add(&whole, ENTRY_SYMLINK, "app/l", "x");
    add(&whole, ENTRY_END, "", "");
    for (size_t len = 0; len <= whole.len; len++) {
        struct str s = {0};

        str_add_n(&s, whole.data, len);
        assert_int_equal(image_of(&s, 3 * IMAGE_BLOCK, &e), len == whole.len ? 0 : -EPIPE);
    }
    str_done(&whole);
}

/* Any bit turned is an error that says something, or another tree: never a crash. */
static void every_bit_turned(void **state)
{
    struct str whole = {0};
    unsigned fine = 0;

    (void)state;
    add(&whole, ENTRY_FILE, "app/x", "");
    add(&whole, ENTRY_HARDLINK, "app/h", "app/x");
    add(&whole, ENTRY_DIR, "app", "");
    add(&whole, ENTRY_END, "", "");
    for (size_t bit = 0; bit < whole.len * 8; bit++) {
        struct err e = ERR_INIT;
        struct str s = {0};

        str_add_n(&s, whole.data, whole.len);
        s.data[bit / 8] ^= (char)(1 << bit % 8);
        int r = image_of(&s, 3 * IMAGE_BLOCK, &e);
        fine += r == 0;
        assert_true(r == 0 || e.text[0]);
    }
    assert_true(fine > 100); /* times, modes, names */
    str_done(&whole);
}

/* Records in pieces of any size, through a socket. */
static void records_come_in_pieces(void **state)
{
    struct str s = {0};
    struct err e = ERR_INIT;
    scoped_free struct entries_in *in = malloc(sizeof(*in));
    struct entry entry;
    char path[64];
    int pair[2], status;
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        (void)snprintf(path, sizeof(path), "app/%0*u", 1 + (int)(i % 50), i);
        add(&s, ENTRY_FILE, path, "");
    }
    add(&s, ENTRY_END, "", "");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        for (size_t at = 0, len = 1; at < s.len; at += len, len = len * 7 % 1009 + 1) {
            len = len < s.len - at ? len : s.len - at;
            if (fd_write_full(pair[1], s.data + at, len) < 0)
                _exit(1);
        }
        _exit(0);
    }
    close(pair[1]);
    entries_in_init(in, pair[0], &limits);
    while (entries_next(in, &entry, &e) == 0 && !entry.end) {
        (void)snprintf(path, sizeof(path), "app/%0*u", 1 + (int)(n % 50), n);
        assert_string_equal(entry.e.path, path);
        n++;
    }
    assert_true(entry.end);
    assert_int_equal(n, 3000);
    close(pair[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    str_done(&s);
}

/* --- limits --------------------------------------------------------------------------------- */

static void limits_say_their_name(void **state)
{
    struct str s = {0};
    char name[16], target[4096];

    (void)state;
    limits.entries = 3;
    limits.nodes = 10;
    for (int over = 0; over < 2; over++) {
        for (int i = 0; i < 3 + over; i++)
            add(&s, ENTRY_FILE, "same", "");
        add(&s, ENTRY_END, "", "");
        assert_stream(&s, over ? -EFBIG : 0, over ? "over the limit of 3 entries" : "");
    }
    limits.entries = 1000;
    for (int over = 0; over < 2; over++) { /* one entry, and what it implies */
        add(&s, ENTRY_FILE, over ? "1/2/3/4/5/6/7/8/9/10/11" : "1/2/3/4/5/6/7/8/9/10", "");
        add(&s, ENTRY_END, "", "");
        assert_stream(&s, over ? -EFBIG : 0,
                      over ? "over the limit of 10 entries and directories" : "");
    }
    limits.nodes = 1000;
    limits.texts = 100000;
    memset(target, 't', sizeof(target));
    target[4000] = '\0';
    for (int i = 0; i < 30; i++) { /* the same one again and again: what is replaced counts */
        (void)snprintf(name, sizeof(name), "l");
        add(&s, ENTRY_SYMLINK, name, target);
    }
    add(&s, ENTRY_END, "", "");
    assert_stream(&s, -EFBIG, "over the limit of 100000 bytes of names and links");
}

/* A stream of N entries that look like a large slug's. */
static int many(unsigned n)
{
    int fd = memfd_create("entries", MFD_CLOEXEC);
    scoped_free struct entries_out *o = malloc(sizeof(*o));
    struct entries_reply reply;
    struct err e = ERR_INIT;
    char path[96];

    entries_out_init(o, fd);
    for (unsigned i = 0; i < n; i++) {
        const struct slug_entry entry = {
            .kind = SLUG_FILE, .path = path, .mode = 0644, .mtime = {.tv_sec = i}};

        (void)snprintf(path, sizeof(path), "app/node_modules/pkg-%u/lib/module-%u.js", i / 20, i);
        assert_int_equal(entries_put(o, &entry, 0, &e), 0);
    }
    (void)entries_end(o, IMAGE_BLOCK, &reply, &e);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void a_million_entries_are_refused(void **state)
{
    struct err e = ERR_INIT;
    scoped_fd stream = many(1000000);
    scoped_fd image = memfd_create("image", MFD_CLOEXEC);
    uint64_t end, bytes;

    (void)state;
    limits.entries = 500000;
    assert_int_equal(image_from(stream, image, &limits, &end, &bytes, &e), -EFBIG);
    assert_non_null(strstr(e.text, "over the limit of 500000 entries"));
    assert_int_equal(e.fault, FAULT_APP);
}

/* 450,000 files and the 45,000 directories around them: half a million names. */
static void half_a_million_in_48_mb(void **state)
{
    scoped_fd stream = many(454000);
    scoped_fd image = memfd_create("image", MFD_CLOEXEC);
    const long max_kb = 48 << 10;
    int status;

    (void)state;
    assert_int_equal(ftruncate(image, IMAGE_BLOCK), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rusage before, after;
        struct err e = ERR_INIT;
        uint64_t end, bytes;

        (void)getrusage(RUSAGE_SELF, &before);
        int r = image_from(stream, image, &limits, &end, &bytes, &e);
        (void)getrusage(RUSAGE_SELF, &after);
        long kb = after.ru_maxrss - before.ru_maxrss;
#ifdef __SANITIZE_ADDRESS__
        kb = 0; /* it keeps freed memory */
#endif
        if (r < 0 || kb > max_kb)
            (void)fprintf(stderr, "%d %s, %ld kB\n", r, e.text, kb);
        if (getenv("VERBOSE"))
            (void)fprintf(stderr, "%ld kB\n", kb);
        _exit(r < 0 || kb > max_kb);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_field_is_checked, set_up),
        cmocka_unit_test_setup(paths_must_be_normal, set_up),
        cmocka_unit_test_setup(sizes_do_not_overflow, set_up),
        cmocka_unit_test_setup(what_was_put_is_what_comes, set_up),
        cmocka_unit_test_setup(streams_that_lie, set_up),
        cmocka_unit_test_setup(cut_at_every_byte, set_up),
        cmocka_unit_test_setup(every_bit_turned, set_up),
        cmocka_unit_test_setup(records_come_in_pieces, set_up),
        cmocka_unit_test_setup(limits_say_their_name, set_up),
        cmocka_unit_test_setup(a_million_entries_are_refused, set_up),
        cmocka_unit_test_setup(half_a_million_in_48_mb, set_up),
    };
    return cmocka_run_group_tests_name("image entries", tests, NULL, NULL);
}
