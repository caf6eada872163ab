#include "core/state/journal.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "core/state/journal_line.h"
#include "journal_v1.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME "journal"

/* --- A directory of its own for each test --- */

struct place {
    char path[64];
    int dirfd;
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->path, sizeof(p->path), "/tmp/test_journal.XXXXXX");
    if (!mkdtemp(p->path))
        return -1;
    p->dirfd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = p;
    return p->dirfd < 0 ? -1 : 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    struct err e = ERR_INIT;
    int r = tree_remove(AT_FDCWD, p->path, &e);

    close(p->dirfd);
    free(p);
    return r;
}

/* How many files beside the journal start with NAME.bad-; the last one's name in LAST. */
static int count_bad(const struct place *p, char last[256])
{
    DIR *d = fdopendir(dup(p->dirfd));
    struct dirent *entry;
    int n = 0;

    rewinddir(d);
    while ((entry = readdir(d)))
        if (str_starts(entry->d_name, NAME ".bad-")) {
            (void)snprintf(last, 256, "%s", entry->d_name);
            n++;
        }
    closedir(d);
    return n;
}

static void forget_bad(const struct place *p)
{
    char name[256];

    while (count_bad(p, name) > 0)
        assert_int_equal(unlinkat(p->dirfd, name, 0), 0);
}

static char *slurp(const struct place *p, const char *name, size_t *ret_len)
{
    struct err e = ERR_INIT;
    char *text = NULL;

    if (file_read(p->dirfd, name, 64u << 20, &text, ret_len, &e) < 0)
        fail_msg("%s", e.text);
    return text;
}

static void spit(const struct place *p, const void *data, size_t len)
{
    struct err e = ERR_INIT;

    assert_int_equal(file_write_atomic(p->dirfd, NAME, data, len, 0600, &e), 0);
}

/* --- The journal in a line --- */

struct opened {
    struct model *model;
    struct journal *journal;
    char *notice;
};

static int try_open(const struct place *p, struct opened *o, struct err *e)
{
    *o = (struct opened){0};
    assert_int_equal(model_new(&o->model, e), 0);
    return journal_open(p->dirfd, NAME, o->model, &o->journal, &o->notice, e);
}

static struct opened open_it(const struct place *p)
{
    struct err e = ERR_INIT;
    struct opened o;

    if (try_open(p, &o, &e) < 0)
        fail_msg("%s", e.text);
    return o;
}

static void close_it(struct opened *o)
{
    journal_freep(&o->journal);
    model_freep(&o->model);
    free(o->notice);
    *o = (struct opened){0};
}

static char *dump(const struct model *m)
{
    json_t *entries = model_entries(m);
    char *text = json_dumps(entries, JSON_COMPACT | JSON_SORT_KEYS);

    assert_non_null(text);
    json_decref(entries);
    return text;
}

static int put(struct opened *o, const char *text, struct err *e)
{
    json_t *entry = NULL;

    assert_int_equal(json_parse(text, strlen(text), 1 << 24, &entry, e), 0);
    int r = journal_apply(o->journal, entry, NULL, e);
    json_decref(entry);
    return r;
}

static void must_put(struct opened *o, const char *text)
{
    struct err e = ERR_INIT;

    if (put(o, text, &e) < 0)
        fail_msg("%s", e.text);
}

static const char *const story[] = {
    "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"file:///s\",\"env\":{\"K\":\"a\\nb \\u0001\"}}",
    "{\"op\":\"resolve\",\"app\":\"hello\",\"version\":1,\"types\":[{\"name\":\"web\",\"command\":"
    "\"serve\"}]}",
    "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":3}}",
    "{\"op\":\"restart\",\"app\":\"hello\",\"dyno\":\"web.2\"}",
    "{\"op\":\"run\",\"app\":\"hello\",\"num\":4123,\"command\":\"ls\"}",
    "{\"op\":\"stop\",\"app\":\"hello\",\"dyno\":\"web.1\"}",
    "{\"op\":\"ran\",\"app\":\"hello\",\"num\":4123}",
    "{\"op\":\"scale\",\"app\":\"hello\",\"formation\":{\"web\":[7,2]},\"by\":{\"store\":\"db-1\","
    "\"generation\":3,\"id\":\"c-3\"}}",
    "{\"op\":\"control\",\"by\":{\"store\":\"db-1\",\"generation\":4,\"id\":\"c-4\"},\"outcome\":"
    "\"refused\"}",
    "{\"op\":\"drain\",\"reason\":\"spot\",\"deadline\":2000,\"since\":1000,\"by\":{\"store\":"
    "\"db-1\",\"generation\":9,\"id\":\"c-9\"}}",
};
enum { STORY = sizeof(story) / sizeof(story[0]) };

/* Plays the story; STATES[i] is the model after i entries, ENDS[i] the file's size then. */
static void play(const struct place *p, char *states[STORY + 1], off_t ends[STORY + 1])
{
    struct opened o = open_it(p);
    struct stat st;

    assert_null(o.notice);
    for (size_t i = 0;; i++) {
        assert_int_equal(fstatat(p->dirfd, NAME, &st, 0), 0);
        states[i] = dump(o.model);
        ends[i] = st.st_size;
        if (i == STORY)
            break;
        must_put(&o, story[i]);
    }
    close_it(&o);
}

static void free_states(char *states[STORY + 1])
{
    for (size_t i = 0; i <= STORY; i++)
        free(states[i]);
}

/* --- Tests --- */

static void the_checksum_is_the_common_one(void **state)
{
    (void)state;
    assert_int_equal(crc32_of("", 0), 0);
    assert_int_equal(crc32_of("123456789", 9), 0xcbf43926);
    assert_int_equal(crc32_of("The quick brown fox jumps over the lazy dog", 43), 0x414fa339);
}

static void what_was_applied_is_there_again(void **state)
{
    const struct place *p = *state;
    char *states[STORY + 1], *text;
    off_t ends[STORY + 1];
    struct stat st;
    size_t len;

    play(p, states, ends);
    assert_int_equal(fstatat(p->dirfd, NAME, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    text = slurp(p, NAME, &len);
    assert_true(str_starts(text, "0db54f69 19 {\"dynod-journal\":2}\n"));
    free(text);
    for (int i = 0; i < 2; i++) {
        struct opened o = open_it(p);

        assert_null(o.notice);
        text = dump(o.model);
        assert_string_equal(text, states[STORY]);
        free(text);
        close_it(&o);
    }
    assert_int_equal(fstatat(p->dirfd, NAME, &st, 0), 0);
    assert_int_equal(st.st_size, ends[STORY]);
    free_states(states);
}

/* kill -9, or a full disk, at any byte: exactly a prefix of the entries is there, the torn rest is
 * kept beside, and the journal goes on. */
static void cut_at_every_byte_gives_a_prefix(void **state)
{
    const struct place *p = *state;
    char *states[STORY + 1], *text, *kept, bad[256];
    off_t ends[STORY + 1];
    size_t len, kept_len;

    play(p, states, ends);
    text = slurp(p, NAME, &len);
    for (size_t cut = 0; cut <= len; cut++) {
        size_t whole = 0;

        spit(p, text, cut);
        while (whole < STORY && (off_t)cut >= ends[whole + 1])
            whole++;
        struct opened o = open_it(p);
        char *got = dump(o.model);
        assert_string_equal(got, states[whole]);
        free(got);
        bool clean = cut == 0 || (off_t)cut == ends[whole];
        assert_int_equal(!o.notice, clean);
        assert_int_equal(count_bad(p, bad), clean ? 0 : 1);
        if (!clean) {
            size_t from = (off_t)cut < ends[0] ? 0 : (size_t)ends[whole];

            assert_non_null(strstr(o.notice, bad));
            kept = slurp(p, bad, &kept_len);
            assert_int_equal(kept_len, cut - from);
            assert_memory_equal(kept, text + from, kept_len);
            free(kept);
            forget_bad(p);
        }
        /* It goes on where the prefix ends, and is sound from then on. */
        for (size_t i = whole; i < STORY; i++)
            must_put(&o, story[i]);
        close_it(&o);
        o = open_it(p);
        assert_null(o.notice);
        got = dump(o.model);
        assert_string_equal(got, states[STORY]);
        free(got);
        close_it(&o);
    }
    free(text);
    free_states(states);
}

/* A flipped bit anywhere: a prefix, never something else. */
static void a_flipped_bit_gives_a_prefix(void **state)
{
    const struct place *p = *state;
    char *states[STORY + 1], *text, bad[256];
    off_t ends[STORY + 1];
    size_t len;

    play(p, states, ends);
    text = slurp(p, NAME, &len);
    for (size_t at = 0; at < len; at++) {
        size_t sound = 0;

        text[at] = (char)(text[at] ^ (1 << (at % 8)));
        spit(p, text, len);
        text[at] = (char)(text[at] ^ (1 << (at % 8)));
        while (sound < STORY && (off_t)at >= ends[sound])
            sound++;
        /* SOUND: 1 + the entry that is hit; 0: the header. A checksum's case does not matter. */
        sound = sound ? sound - 1 : 0;
        struct opened o = open_it(p);
        char *got = dump(o.model);
        if (o.notice) {
            assert_string_equal(got, states[sound]);
            assert_int_equal(count_bad(p, bad), 1);
        } else {
            assert_string_equal(got, states[STORY]);
        }
        free(got);
        forget_bad(p);
        close_it(&o);
    }
    free(text);
    free_states(states);
}

static void add_line(struct str *out, const char *json_text)
{
    struct err e = ERR_INIT;
    json_t *json = NULL;

    assert_int_equal(json_parse(json_text, strlen(json_text), 1 << 24, &json, &e), 0);
    assert_int_equal(line_encode(json, out, &e), 0);
    json_decref(json);
}

/* Opens what TEXT holds; the notice has NEEDLE, a file beside keeps KEPT (NULL: all of TEXT). */
static struct opened open_damaged(const struct place *p, const struct str *text, const char *needle,
                                  const char *kept)
{
    char bad[256], *got;
    size_t len;

    spit(p, text->data, text->len);
    struct opened o = open_it(p);
    assert_non_null(o.notice);
    if (!strstr(o.notice, needle))
        fail_msg("\"%s\" does not say \"%s\"", o.notice, needle);
    assert_int_equal(count_bad(p, bad), 1);
    assert_non_null(strstr(o.notice, bad));
    got = slurp(p, bad, &len);
    assert_int_equal(len, kept ? strlen(kept) : text->len);
    assert_memory_equal(got, kept ? kept : text->data, len);
    free(got);
    forget_bad(p);
    return o;
}

static void expect_sound(const struct place *p, struct opened *o, size_t n_apps)
{
    assert_int_equal(model_n_apps(o->model), n_apps);
    must_put(o, "{\"op\":\"release\",\"app\":\"z\",\"url\":\"x:y\"}");
    close_it(o);
    *o = open_it(p);
    assert_null(o->notice);
    assert_int_equal(model_n_apps(o->model), n_apps + 1);
    close_it(o);
}

static void garbage_is_cut_and_kept(void **state)
{
    static const char *const garbage[] = {
        "garbage\n",
        "00000000 2 {}\n", /* checksum */
        "a3a6bf43 3 {}\n", /* length */
        "a3a6bf43 02 {\n", /* length and checksum */
        "a3a6bf43 2\n",    /* no JSON */
        "a3a6bf43\n",      /* no length */
        "\n",              /* an empty line */
        "a3a6bf43 99999999999999999999 {}\n",
        "a3a6bf43 -2 {}\n",
        "8f1e7b5a 1 {\n",
    };
    const struct place *p = *state;

    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        scoped(str_done) struct str text = {0}, tail = {0};

        add_line(&text, "{\"dynod-journal\":2}");
        add_line(&text, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
        str_add(&tail, garbage[i]);
        add_line(&tail, "{\"op\":\"release\",\"app\":\"b\",\"url\":\"x:y\"}");
        str_add(&text, str_text(&tail));
        struct opened o = open_damaged(p, &text, "after 1 entries", str_text(&tail));
        expect_sound(p, &o, 1);
    }
}

static void nul_bytes_are_cut(void **state)
{
    const struct place *p = *state;
    scoped(str_done) struct str text = {0};

    /* As a file system leaves them after a power cut. */
    add_line(&text, "{\"dynod-journal\":2}");
    char zeros[5000] = {0}, bad[256];
    str_add_n(&text, zeros, sizeof(zeros));
    spit(p, text.data, text.len);
    struct opened o = open_it(p);
    assert_non_null(strstr(o.notice, "cut 5000 bytes after 0 entries"));
    assert_int_equal(count_bad(p, bad), 1);
    expect_sound(p, &o, 0);
    close_it(&o);
}

static void a_file_that_is_no_journal_is_kept(void **state)
{
    static const char *const firsts[] = {"{\"op\":\"generation\",\"generation\":7}", "{}", "[]",
                                         "{\"dynod-journal\":0}", "{\"dynod-journal\":\"1\"}"};
    const struct place *p = *state;

    for (size_t i = 0; i < 5; i++) {
        scoped(str_done) struct str text = {0};

        add_line(&text, firsts[i]);
        struct opened o = open_damaged(p, &text, "no journal's first line", NULL);
        expect_sound(p, &o, 0);
    }
}

static void a_line_over_the_limit_is_cut(void **state)
{
    const struct place *p = *state;
    scoped(str_done) struct str text = {0};
    char bad[256];

    add_line(&text, "{\"dynod-journal\":2}");
    add_line(&text, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    char *big = malloc(JOURNAL_LINE_MAX + 100);
    memset(big, 'x', JOURNAL_LINE_MAX + 100);
    str_add_n(&text, big, JOURNAL_LINE_MAX + 100);
    str_add(&text, "\n");
    free(big);
    spit(p, text.data, text.len);
    struct opened o = open_it(p);
    assert_non_null(strstr(o.notice, "over the limit"));
    assert_int_equal(count_bad(p, bad), 1);
    expect_sound(p, &o, 1);
}

static void the_future_is_set_aside(void **state)
{
    static const char *const future[] = {
        "{\"dynod-journal\":3}",
        "{\"op\":\"teleport\",\"app\":\"a\"}",
    };
    const struct place *p = *state;

    for (size_t i = 0; i < 2; i++) {
        scoped(str_done) struct str text = {0};

        if (i > 0)
            add_line(&text, "{\"dynod-journal\":2}");
        if (i > 0)
            add_line(&text, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
        add_line(&text, future[i]);
        add_line(&text, "{\"op\":\"release\",\"app\":\"b\",\"url\":\"x:y\"}");
        struct opened o = open_damaged(p, &text, i ? "'teleport'" : "version 3", NULL);
        expect_sound(p, &o, 0);
    }
}

/* --- Version 1 --- */

static void expect_v1(const struct opened *o)
{
    char *got = dump(o->model);

    assert_string_equal(got, journal_v1_entries);
    free(got);
}

static void expect_first_line(const struct place *p, const char *json)
{
    scoped(str_done) struct str first = {0};
    size_t len;
    char *text = slurp(p, NAME, &len);

    add_line(&first, json);
    assert_true(str_starts(text, first.data));
    free(text);
}

static void the_version_before_is_read_and_written_anew(void **state)
{
    const struct place *p = *state;
    char bad[256];

    spit(p, journal_v1, strlen(journal_v1));
    for (int i = 0; i < 2; i++) {
        struct opened o = open_it(p);

        assert_null(o.notice); /* nothing is lost: nothing to say */
        expect_v1(&o);
        expect_first_line(p, "{\"dynod-journal\":2}");
        close_it(&o);
    }
    assert_int_equal(count_bad(p, bad), 0);
    struct opened o = open_it(p);
    expect_sound(p, &o, 3);
}

static void a_torn_tail_of_the_version_before_is_cut(void **state)
{
    const struct place *p = *state;
    char bad[256];

    spit(p, journal_v1, strlen(journal_v1) - 1); /* its last entry is the generation */
    struct opened o = open_it(p);
    assert_non_null(strstr(o.notice, "an unfinished line"));
    assert_int_equal(count_bad(p, bad), 1);
    assert_int_equal(model_n_apps(o.model), 3);
    assert_int_equal(model_generation(o.model), 7);
    expect_first_line(p, "{\"dynod-journal\":2}");
    expect_sound(p, &o, 3);
}

static void a_refused_entry_is_skipped_alone(void **state)
{
    const struct place *p = *state;
    scoped(str_done) struct str text = {0};

    add_line(&text, "{\"dynod-journal\":2}");
    add_line(&text, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    add_line(&text, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\",\"colour\":7}");
    add_line(&text, "{\"op\":\"scale\",\"app\":\"q\",\"formation\":{\"web\":1}}");
    add_line(&text, "{\"op\":\"release\",\"app\":\"b\",\"url\":\"x:y\"}");
    struct opened o = open_damaged(
        p, &text, "skipped 2 of 4 entries, the first: release: unknown field 'colour'", NULL);
    expect_sound(p, &o, 2);
}

static void both_or_neither(void **state)
{
    const struct place *p = *state;
    struct opened o = open_it(p);
    struct err e = ERR_INIT;
    struct stat before, after;

    must_put(&o, story[0]);
    assert_int_equal(fstatat(p->dirfd, NAME, &before, 0), 0);
    assert_int_equal(put(&o, "{\"op\":\"scale\",\"app\":\"no\",\"formation\":{\"web\":1}}", &e),
                     -ENOENT);
    assert_int_equal(put(&o, "{\"op\":\"nop\"}", &e), -EOPNOTSUPP);
    /* Over the limit of a line, though each field is within its own: control characters are six
     * bytes each in JSON. */
    char *ones = malloc(131001);
    memset(ones, 1, 131000);
    ones[131000] = '\0';
    json_t *env = json_object(), *types = json_array();
    for (int i = 0; i < 8; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "N%d", i);
        json_object_set_new(env, name, json_string(ones));
        json_array_append_new(types, json_pack("{s:s,s:s}", "name", name, "command", ones));
    }
    json_t *entry = json_pack("{s:s,s:s,s:s,s:o,s:o}", "op", "release", "app", "big", "url", "x:y",
                              "env", env, "types", types);
    assert_int_equal(journal_apply(o.journal, entry, NULL, &e), -EMSGSIZE);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_null(model_app(o.model, "big"));
    assert_int_equal(fstatat(p->dirfd, NAME, &after, 0), 0);
    assert_int_equal(after.st_size, before.st_size);
    json_object_del(entry, "types");
    assert_int_equal(journal_apply(o.journal, entry, NULL, &e), 0);
    json_decref(entry);
    free(ones);
    char *was = dump(o.model);
    close_it(&o);
    o = open_it(p);
    assert_null(o.notice);
    char *is = dump(o.model);
    assert_string_equal(was, is);
    free(was);
    free(is);
    close_it(&o);
}

/* In a child, because a limit lowered by an ordinary user cannot be raised again. */
static void with_file_limit(const struct place *p, rlim_t room, void (*fn)(const struct place *p))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {room, room};

        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
            _exit(99);
        fn(p);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the child with a full disk: status %#x", (unsigned)status);
}

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Runs into the limit in the middle of a line. */
static void fill_the_disk(const struct place *p)
{
    struct err e = ERR_INIT;
    struct opened o;
    struct stat before, after;
    int r = 0, n = 0;

    CHECK(try_open(p, &o, &e) == 0);
    do {
        char *was = dump(o.model);

        CHECK(fstatat(p->dirfd, NAME, &before, 0) == 0);
        r = put(&o, "{\"op\":\"restart\",\"app\":\"hello\"}", &e);
        CHECK(fstatat(p->dirfd, NAME, &after, 0) == 0);
        char *is = dump(o.model);
        CHECK((r == 0) == (strcmp(was, is) != 0));
        CHECK((r == 0) == (before.st_size != after.st_size));
        free(was);
        free(is);
    } while (r == 0 && ++n < 1000);
    CHECK(n >= 2 && n < 1000);
    CHECK(r == -ENOSPC || r == -EFBIG);
    CHECK(e.fault == FAULT_PLATFORM);
    /* Still full, still the same. */
    CHECK(put(&o, "{\"op\":\"restart\",\"app\":\"hello\"}", &e) == r || e.errnum == EFBIG);
    close_it(&o);
    CHECK(try_open(p, &o, &e) == 0);
    CHECK(!o.notice);
    CHECK(model_generation(o.model) == (uint64_t)n + 2);
    close_it(&o);
}

/* It starts with the old file as it is, and adds nothing of the new version to it. */
static void open_v1_on_a_full_disk(const struct place *p)
{
    struct err e = ERR_INIT;
    struct opened o;
    size_t len;

    CHECK(try_open(p, &o, &e) == 0);
    CHECK(!o.notice);
    char *was = dump(o.model);
    CHECK(!strcmp(was, journal_v1_entries));
    CHECK(put(&o, "{\"op\":\"undrain\"}", &e) < 0);
    char *is = dump(o.model);
    CHECK(!strcmp(was, is));
    free(was);
    free(is);
    close_it(&o);
    char *text = slurp(p, NAME, &len);
    CHECK(len == strlen(journal_v1) && !memcmp(text, journal_v1, len));
    free(text);
}

static void a_full_disk_keeps_the_version_before(void **state)
{
    const struct place *p = *state;

    spit(p, journal_v1, strlen(journal_v1));
    with_file_limit(p, 100, open_v1_on_a_full_disk);
    struct opened o = open_it(p);
    expect_v1(&o);
    expect_first_line(p, "{\"dynod-journal\":2}");
    close_it(&o);
}

/* What becomes possible only once the disk has room again. */
static void the_version_before_is_left_with_the_first_entry(void **state)
{
    const struct place *p = *state;
    struct rlimit limit, was;
    struct err e = ERR_INIT;
    struct opened o;

    spit(p, journal_v1, strlen(journal_v1));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    limit = (struct rlimit){100, was.rlim_max};
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int r = try_open(p, &o, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, old);
    assert_int_equal(r, 0);
    expect_first_line(p, "{\"dynod-journal\":1}");
    must_put(&o, "{\"op\":\"drain\",\"reason\":\"operator\"}");
    expect_first_line(p, "{\"dynod-journal\":2}");
    close_it(&o);
    o = open_it(p);
    assert_null(o.notice);
    assert_true(model_drain_state(o.model)->on);
    assert_int_equal(model_n_apps(o.model), 3);
    close_it(&o);
}

static void a_full_disk_changes_nothing(void **state)
{
    const struct place *p = *state;
    struct stat st;

    for (rlim_t room = 150; room < 220; room += 9) { /* any place in the line */
        struct opened o = open_it(p);

        must_put(&o, "{\"op\":\"release\",\"app\":\"hello\",\"url\":\"x:y\"}");
        must_put(&o, "{\"op\":\"restart\",\"app\":\"hello\"}");
        close_it(&o);
        assert_int_equal(fstatat(p->dirfd, NAME, &st, 0), 0);
        with_file_limit(p, (rlim_t)st.st_size + room, fill_the_disk);
        assert_int_equal(unlinkat(p->dirfd, NAME, 0), 0);
    }
}

static void open_on_a_full_disk(const struct place *p)
{
    struct err e = ERR_INIT;
    struct opened o;

    CHECK(try_open(p, &o, &e) == -EFBIG);
    CHECK(strstr(e.text, "journal"));
    CHECK(faccessat(p->dirfd, NAME, F_OK, 0) < 0);
    CHECK(faccessat(p->dirfd, NAME ".new", F_OK, 0) < 0);
    close_it(&o);
}

static void a_disk_without_room_for_the_first_line(void **state)
{
    with_file_limit(*state, 5, open_on_a_full_disk);
}

/* The copy of a torn tail finds no room: said, and no reason not to start. */
static void open_torn_on_a_full_disk(const struct place *p)
{
    struct err e = ERR_INIT;
    char bad[256];
    struct opened o;

    CHECK(try_open(p, &o, &e) == 0);
    CHECK(o.notice && strstr(o.notice, "a copy could not be kept"));
    CHECK(count_bad(p, bad) == 0);
    CHECK(model_n_apps(o.model) == 1);
    close_it(&o);
}

static void a_torn_tail_on_a_full_disk(void **state)
{
    const struct place *p = *state;
    scoped(str_done) struct str text = {0};

    add_line(&text, "{\"dynod-journal\":2}");
    add_line(&text, "{\"op\":\"release\",\"app\":\"a\",\"url\":\"x:y\"}");
    str_add(&text, "torn torn torn");
    spit(p, text.data, text.len);
    with_file_limit(p, 5, open_torn_on_a_full_disk);
}

static void it_compacts(void **state)
{
    const struct place *p = *state;
    struct opened o = open_it(p);
    struct stat st;
    off_t largest = 0, last = 0;
    int compactions = 0;

    char *text = malloc(120000), entry[64];
    memset(text, 'x', 119999);
    text[119999] = '\0';
    json_t *release = json_pack("{s:s,s:s,s:s,s:{s:s}}", "op", "release", "app", "a", "url", "x:y",
                                "env", "BIG", text);
    free(text);
    for (int i = 0; i < 40; i++) {
        struct err e = ERR_INIT;

        assert_int_equal(journal_apply(o.journal, release, NULL, &e), 0);
        assert_int_equal(fstatat(p->dirfd, NAME, &st, 0), 0);
        compactions += st.st_size < last;
        last = st.st_size;
        largest = st.st_size > largest ? st.st_size : largest;
    }
    json_decref(release);
    assert_in_range(compactions, 3, 6); /* 40 * 120 kB through a file of at most 1 MiB */
    assert_true(largest <= (off_t)JOURNAL_COMPACT_AT);
    (void)snprintf(entry, sizeof(entry), "{\"op\":\"restart\",\"app\":\"a\"}");
    must_put(&o, entry);
    char *was = dump(o.model);
    close_it(&o);
    assert_int_not_equal(faccessat(p->dirfd, NAME ".new", F_OK, 0), 0);
    o = open_it(p);
    assert_null(o.notice);
    char *is = dump(o.model);
    assert_string_equal(was, is);
    assert_int_equal(model_app(o.model, "a")->release.version, 40);
    assert_int_equal(model_generation(o.model), 41);
    free(was);
    free(is);
    close_it(&o);
}

static void a_removed_or_changed_file_is_written_anew(void **state)
{
    const struct place *p = *state;
    struct opened o = open_it(p);

    for (int i = 0; i < 4; i++) {
        must_put(&o, i ? "{\"op\":\"restart\",\"app\":\"hello\"}" : story[0]);
        if (i == 0)
            assert_int_equal(unlinkat(p->dirfd, NAME, 0), 0);
        if (i == 1)
            spit(p, "something else\n", 15);
        if (i == 2) {
            int fd = openat(p->dirfd, NAME, O_WRONLY | O_APPEND | O_CLOEXEC);
            assert_int_equal(write(fd, "xx", 2), 2);
            close(fd);
        }
    }
    char *was = dump(o.model);
    close_it(&o);
    o = open_it(p);
    assert_null(o.notice);
    char *is = dump(o.model);
    assert_string_equal(was, is);
    free(was);
    free(is);
    close_it(&o);
}

static void what_cannot_be_read_is_an_error(void **state)
{
    const struct place *p = *state;
    struct err e = ERR_INIT;
    struct opened o;

    /* Reading address 0 of our own memory is EIO: the file stays as it is. */
    struct place self = {.dirfd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    o = (struct opened){0};
    assert_int_equal(model_new(&o.model, &e), 0);
    assert_int_equal(journal_open(self.dirfd, "mem", o.model, &o.journal, &o.notice, &e), -EIO);
    assert_non_null(strstr(e.text, "read the journal"));
    assert_null(o.notice);
    close_it(&o);
    close(self.dirfd);

    assert_int_equal(mkdirat(p->dirfd, NAME, 0700), 0);
    assert_int_equal(try_open(p, &o, &e), -EISDIR);
    close_it(&o);
    assert_int_equal(unlinkat(p->dirfd, NAME, AT_REMOVEDIR), 0);
    assert_int_equal(mkfifoat(p->dirfd, NAME, 0600), 0);
    assert_int_equal(try_open(p, &o, &e), -EINVAL);
    close_it(&o);
    assert_int_equal(unlinkat(p->dirfd, NAME, 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", p->dirfd, NAME), 0);
    assert_int_equal(try_open(p, &o, &e), -ELOOP);
    close_it(&o);
}

static void the_completed_entry_comes_back(void **state)
{
    const struct place *p = *state;
    struct opened o = open_it(p);
    struct err e = ERR_INIT;
    json_t *out = NULL,
           *entry = json_pack("{s:s,s:s,s:s}", "op", "release", "app", "a", "url", "x:y");

    assert_int_equal(journal_apply(o.journal, entry, &out, &e), 0);
    assert_int_equal(json_int(out, "version", 0), 1);
    assert_null(json_object_get(entry, "version"));
    json_decref(out);
    json_decref(entry);
    close_it(&o);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_the_common_one),
        TEST(what_was_applied_is_there_again),
        TEST(cut_at_every_byte_gives_a_prefix),
        TEST(a_flipped_bit_gives_a_prefix),
        TEST(garbage_is_cut_and_kept),
        TEST(nul_bytes_are_cut),
        TEST(a_file_that_is_no_journal_is_kept),
        TEST(a_line_over_the_limit_is_cut),
        TEST(the_future_is_set_aside),
        TEST(the_version_before_is_read_and_written_anew),
        TEST(a_torn_tail_of_the_version_before_is_cut),
        TEST(a_full_disk_keeps_the_version_before),
        TEST(the_version_before_is_left_with_the_first_entry),
        TEST(a_refused_entry_is_skipped_alone),
        TEST(both_or_neither),
        TEST(a_full_disk_changes_nothing),
        TEST(a_disk_without_room_for_the_first_line),
        TEST(a_torn_tail_on_a_full_disk),
        TEST(it_compacts),
        TEST(a_removed_or_changed_file_is_written_anew),
        TEST(what_cannot_be_read_is_an_error),
        TEST(the_completed_entry_comes_back),
    };

    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
