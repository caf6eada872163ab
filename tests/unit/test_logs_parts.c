/* The pure parts of dynod-logs, and its files in a directory. */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "logs/lines.h"
#include "logs/msg.h"
#include "logs/record.h"
#include "logs/render.h"
#include "logs/spool.h"
#include "logs/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --- lines --------------------------------------------------------------------------------------
 */

static void expect_line(const char *data, size_t len, bool last, const char *text, size_t text_len,
                        size_t raw)
{
    struct line line;

    assert_true(line_cut(data, len, last, &line));
    assert_int_equal(line.len, text_len);
    assert_int_equal(line.raw, raw);
    assert_memory_equal(line.text, text, text_len);
}

static void a_line_ends_with_lf_or_crlf(void **state)
{
    struct line line;

    (void)state;
    expect_line("one\ntwo\n", 8, false, "one", 3, 4);
    expect_line("one\r\ntwo\n", 9, false, "one", 3, 5);
    expect_line("\n", 1, false, "", 0, 1);
    expect_line("\r\n", 2, false, "", 0, 2);
    expect_line("a\rb\r\r\n", 6, false, "a\rb\r", 4, 6);
    expect_line("a\0b\n", 4, false, "a\0b", 3, 4);
    assert_false(line_cut("part", 4, false, &line));
    assert_false(line_cut("part\r", 5, false, &line));
    assert_false(line_cut("", 0, false, &line));
}

static void the_last_line_needs_no_end(void **state)
{
    struct line line;

    (void)state;
    expect_line("part", 4, true, "part", 4, 4);
    assert_false(line_cut("", 0, true, &line));
}

static void a_long_line_is_cut(void **state)
{
    scoped_free char *big = malloc(3 * LOG_LINE_MAX);
    struct line line;

    (void)state;
    memset(big, 'x', 3 * LOG_LINE_MAX);
    expect_line(big, 3 * LOG_LINE_MAX, false, big, LOG_LINE_MAX, LOG_LINE_MAX);
    expect_line(big, LINE_WINDOW, false, big, LOG_LINE_MAX, LOG_LINE_MAX);
    assert_false(line_cut(big, LINE_WINDOW - 1, false, &line));
    expect_line(big, LINE_WINDOW - 1, true, big, LOG_LINE_MAX, LOG_LINE_MAX);
    expect_line(big, LOG_LINE_MAX, true, big, LOG_LINE_MAX, LOG_LINE_MAX);

    /* Exactly the limit is one line, with either end. */
    big[LOG_LINE_MAX] = '\n';
    expect_line(big, 2 * LOG_LINE_MAX, false, big, LOG_LINE_MAX, LOG_LINE_MAX + 1);
    big[LOG_LINE_MAX] = '\r';
    big[LOG_LINE_MAX + 1] = '\n';
    expect_line(big, 2 * LOG_LINE_MAX, false, big, LOG_LINE_MAX, LOG_LINE_MAX + 2);
    big[LOG_LINE_MAX] = 'x'; /* one more than the limit */
    expect_line(big, 2 * LOG_LINE_MAX, false, big, LOG_LINE_MAX, LOG_LINE_MAX);
}

static void a_cut_spares_characters(void **state)
{
    scoped_free char *big = malloc(2 * LOG_LINE_MAX);

    (void)state;
    memset(big, 'x', 2 * LOG_LINE_MAX);
    memcpy(big + LOG_LINE_MAX - 2, "\xf0\x9f\x98\x80", 4);
    expect_line(big, 2 * LOG_LINE_MAX, false, big, LOG_LINE_MAX - 2, LOG_LINE_MAX - 2);
    memcpy(big + LOG_LINE_MAX - 4, "\xf0\x9f\x98\x80", 4); /* ends just there */
    big[LOG_LINE_MAX] = 'x';
    expect_line(big, 2 * LOG_LINE_MAX, false, big, LOG_LINE_MAX, LOG_LINE_MAX);
    memset(big, '\x80', 2 * LOG_LINE_MAX); /* no UTF-8 at all */
    expect_line(big, 2 * LOG_LINE_MAX, false, big, LOG_LINE_MAX, LOG_LINE_MAX);
}

/* However the bytes arrive, and wherever a restart begins, the lines are the same. */
static void chunks_do_not_matter(void **state)
{
    enum { LEN = 60000 };
    scoped_free char *data = malloc(LEN);
    struct line line, part;

    (void)state;
    srandom(1);
    for (size_t i = 0; i < LEN; i++)
        data[i] = random() % 4000 == 0 ? '\n' : random() % 9 == 0 ? '\r' : (char)random();
    for (size_t at = 0; at < LEN; at += line.raw) {
        assert_true(line_cut(data + at, LEN - at, true, &line));
        assert_in_range(line.raw, 1, LINE_WINDOW);
        for (size_t len = 0; len < LEN - at && len <= LINE_WINDOW; len++) {
            if (line_cut(data + at, len, false, &part)) {
                assert_int_equal(part.raw, line.raw);
                assert_int_equal(part.len, line.len);
            }
            if (len >= 16 && len < line.raw - 16)
                len += 97;
        }
    }
}

/* --- records ------------------------------------------------------------------------------------
 */

static struct record a_line(enum record_kind kind, const char *dyno, const char *text)
{
    return (struct record){
        .kind = kind,
        .t = UINT64_C(1795379460000001),
        .seq = 7,
        .end = UINT64_C(0x123456789a),
        .dyno = dyno,
        .dyno_len = strlen(dyno),
        .inc = "inc-1",
        .inc_len = 5,
        .text = text,
        .text_len = strlen(text),
    };
}

static void a_record_comes_back(void **state)
{
    struct record in = a_line(RECORD_APP, "web.1", "hello"), out;
    unsigned char data[2 * RECORD_MAX];
    size_t n = record_encode(&in, data);

    (void)state;
    assert_int_equal(n, record_size(&in));
    assert_int_equal(record_decode(data, n + 5, true, &out), n);
    assert_int_equal(out.kind, RECORD_APP);
    assert_int_equal(out.t, in.t);
    assert_int_equal(out.seq, 7);
    assert_int_equal(out.end, in.end);
    assert_int_equal(out.dyno_len, 5);
    assert_memory_equal(out.dyno, "web.1", 5);
    assert_memory_equal(out.inc, "inc-1", 5);
    assert_int_equal(out.text_len, 5);
    assert_memory_equal(out.text, "hello", 5);

    struct record second = a_line(RECORD_PLATFORM, "web.2", "");
    size_t m = record_encode(&second, data + n);
    assert_int_equal(record_decode_last(data, n + m, &out), m);
    assert_int_equal(out.kind, RECORD_PLATFORM);
    assert_int_equal(out.text_len, 0);
    assert_int_equal(record_decode_last(data, n, &out), n);
}

static void a_torn_or_damaged_record_is_none(void **state)
{
    struct record in = a_line(RECORD_APP, "web.1", "hello world"), out;
    unsigned char data[RECORD_MAX], copy[RECORD_MAX];
    size_t n = record_encode(&in, data);

    (void)state;
    for (size_t len = 0; len < n; len++)
        assert_int_equal(record_decode(data, len, true, &out), -EBADMSG);
    for (size_t bit = 0; bit < n * 8; bit++) {
        memcpy(copy, data, n);
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(record_decode(copy, n, true, &out), -EBADMSG);
    }
    memset(copy, 0, sizeof(copy)); /* a file that was extended, not written */
    assert_int_equal(record_decode(copy, sizeof(copy), true, &out), -EBADMSG);
    memset(copy, 0xff, sizeof(copy));
    assert_int_equal(record_decode(copy, sizeof(copy), true, &out), -EBADMSG);
    assert_int_equal(record_decode_last(copy, sizeof(copy), &out), -EBADMSG);
}

/* --- rendering ----------------------------------------------------------------------------------
 */

static void expect_rendered(const struct record *line, enum render_format format, const char *text)
{
    struct msg *m = msg_new("shop", line);
    struct str out = {0};

    render(&out, m, format, "heroku");
    assert_false(out.failed);
    assert_string_equal(str_text(&out), text);
    str_done(&out);
    msg_unref(m);
}

static void text_is_as_the_platform_writes_it(void **state)
{
    struct record app = a_line(RECORD_APP, "web.1", "hello");
    struct record platform = a_line(RECORD_PLATFORM, "web.1", "State changed from starting to up");
    char time[CLOCK_TEXT_MAX], want[200];

    (void)state;
    clock_text(app.t, time);
    snprintf(want, sizeof(want), "%s app[web.1]: hello\n", time);
    expect_rendered(&app, RENDER_TEXT, want);
    snprintf(want, sizeof(want), "%s heroku[web.1]: State changed from starting to up\n", time);
    expect_rendered(&platform, RENDER_TEXT, want);
    app.text = "a\0b\x1b[31m\xff\0";
    app.text_len = 9;
    snprintf(want, sizeof(want), "%s app[web.1]: ab\x1b[31m\xff\n", time);
    expect_rendered(&app, RENDER_TEXT, want);
}

static void json_is_always_valid(void **state)
{
    struct record app = a_line(RECORD_APP, "web.1", "");
    char time[CLOCK_TEXT_MAX], want[300];

    (void)state;
    clock_text(app.t, time);
    /* a, NUL, ESC, quote, é, a lone lead, an overlong slash, a surrogate, 😀, a cut one */
    app.text = "a\0\x1b\"\xc3\xa9\xc3.\xc0\xaf\xed\xa0\x80\xf0\x9f\x98\x80\xf0\x9f\x98";
    app.text_len = 20;
    snprintf(want, sizeof(want),
             "{\"t\":\"%s\",\"app\":\"shop\",\"dyno\":\"web.1\",\"source\":\"app\",\"text\":"
             "\"a\\u001B\\\"\xc3\xa9\xef\xbf\xbd.\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
             "\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}\n",
             time);
    expect_rendered(&app, RENDER_JSON, want);
}

/* --- filters and queues -------------------------------------------------------------------------
 */

static bool passes(const char *dyno, enum record_kind kind, const struct record *line)
{
    struct filter f = {.kind = kind};

    snprintf(f.dyno, sizeof(f.dyno), "%s", dyno);
    return filter_line(&f, line);
}

static void filters_pick_dyno_type_and_source(void **state)
{
    struct record web1 = a_line(RECORD_APP, "web.1", "x"),
                  web10 = a_line(RECORD_APP, "web.10", "x");
    struct record other = a_line(RECORD_PLATFORM, "webby.1", "x");
    struct record position = a_line(RECORD_POSITION, "web.1", "");
    struct filter shop = {.app = "shop"}, any = {0};

    (void)state;
    assert_true(passes("web.1", 0, &web1));
    assert_false(passes("web.1", 0, &web10));
    assert_true(passes("web", 0, &web10));
    assert_false(passes("web", 0, &other));
    assert_false(passes("webby.1.1", 0, &other));
    assert_true(passes("", RECORD_PLATFORM, &other));
    assert_false(passes("", RECORD_PLATFORM, &web1));
    assert_false(passes("", RECORD_APP, &other));
    assert_false(passes("", 0, &position));
    assert_true(filter_app(&shop, "shop"));
    assert_false(filter_app(&shop, "shop2"));
    assert_true(filter_app(&any, "shop2"));
}

static void push_number(struct queue *q, unsigned i, uint64_t now)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", i);
    struct record line = a_line(RECORD_APP, "web.1", text);
    struct msg *m = msg_new("shop", &line);
    queue_push(q, m, now);
    msg_unref(m);
}

static void expect_number(struct queue *q, unsigned i)
{
    struct msg *m = queue_pop(q);
    char text[16];

    assert_non_null(m);
    snprintf(text, sizeof(text), "%u", i);
    assert_int_equal(m->line.text_len, strlen(text));
    assert_memory_equal(m->line.text, text, strlen(text));
    msg_unref(m);
}

static void a_full_queue_drops_the_oldest_and_says_so(void **state)
{
    scoped_free struct queue *q = calloc(1, sizeof(*q));
    const char *want = "Error L10 (output buffer overflow): 3 messages dropped since "
                       "2026-11-22T20:31:01.000000+00:00.";

    (void)state;
    for (unsigned i = 0; i < QUEUE_MAX; i++)
        push_number(q, i, 5);
    assert_null(queue_pop_notice(q, "shop", 6));
    for (unsigned i = 0; i < 3; i++)
        push_number(q, QUEUE_MAX + i, UINT64_C(1795379461000000) + i);
    assert_int_equal(q->count, QUEUE_MAX);
    struct msg *notice = queue_pop_notice(q, "shop", UINT64_C(1795379469000000));
    assert_non_null(notice);
    assert_int_equal(notice->line.kind, RECORD_PLATFORM);
    assert_memory_equal(notice->line.dyno, "logplex", 7);
    assert_int_equal(notice->line.text_len, strlen(want));
    assert_memory_equal(notice->line.text, want, strlen(want));
    msg_unref(notice);
    assert_null(queue_pop_notice(q, "shop", 9)); /* told once */
    for (unsigned i = 0; i < QUEUE_MAX; i++)
        expect_number(q, i + 3);
    assert_null(queue_pop(q));
    push_number(q, 1, 1);
    queue_done(q);
}

/* --- files --------------------------------------------------------------------------------------
 */

static int dir_setup(void **state)
{
    struct err e = ERR_INIT;
    char *path = strdup("/dev/shm/dynod-test-logs-XXXXXX");

    if (!path || (!mkdtemp(path) && e.errnum == 0))
        return -1;
    *state = path;
    return 0;
}

static int dir_teardown(void **state)
{
    struct err e = ERR_INIT;
    int r = tree_remove(AT_FDCWD, *state, &e);

    free(*state);
    return r;
}

static int dir_of(void **state)
{
    int fd = open(*state, O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void append(struct tail *t, unsigned i)
{
    unsigned char data[RECORD_MAX], checkpoint[RECORD_MAX];
    struct record position = a_line(RECORD_POSITION, "web.1", "");
    struct err e = ERR_INIT;
    char text[16];

    snprintf(text, sizeof(text), "%u", i);
    struct record line = a_line(RECORD_APP, "web.1", text);
    line.end = i;
    position.end = i - 1;
    if (tail_full(t))
        assert_int_equal(tail_rotate(t, checkpoint, record_encode(&position, checkpoint), &e), 0);
    assert_int_equal(tail_append(t, data, record_encode(&line, data), &e), 0);
}

static unsigned number_of(const struct record *r)
{
    char text[16];

    assert_in_range(r->text_len, 1, sizeof(text) - 1);
    memcpy(text, r->text, r->text_len);
    text[r->text_len] = '\0';
    return (unsigned)strtoul(text, NULL, 10);
}

/* Expects a run of lines that ends with NEWEST; returns how many there are. */
static size_t expect_run(const struct tail *t, unsigned newest)
{
    struct tail_view view;
    struct record r;
    struct err e = ERR_INIT;
    size_t n = 0;

    assert_int_equal(tail_view_open(t, &view, &e), 0);
    while (tail_view_prev(&view, &r))
        if (record_is_line(&r)) {
            assert_int_equal(number_of(&r), newest - n);
            n++;
        }
    tail_view_done(&view);
    return n;
}

static struct tail *find_tail(int dir)
{
    struct err e = ERR_INIT;
    struct tail *t = NULL;
    char name[64], app[APP_NAME_MAX + 1];
    uint64_t gen;

    assert_int_equal(tail_new(dir, "shop", TAIL_BYTES_MIN, &t, &e), 0);
    for (unsigned i = 1; i < 2000; i++) {
        snprintf(name, sizeof(name), "shop.%u.tail", i);
        if (faccessat(dir, name, F_OK, 0) == 0 && tail_name_parse(name, app, &gen))
            tail_found(t, gen);
    }
    return t;
}

static void last_end(void *userdata, const struct record *r)
{
    *(uint64_t *)userdata = r->end;
}

static void a_tail_rotates_and_is_found_again(void **state)
{
    scoped_fd dir = dir_of(state);
    scoped(tail_freep) struct tail *t = find_tail(dir);
    struct err e = ERR_INIT;
    uint64_t end = 0, cut = 1;

    assert_true(tail_full(t));
    for (unsigned i = 1; i <= 1000; i++)
        append(t, i);
    size_t n = expect_run(t, 1000);
    assert_in_range(n, TAIL_BYTES_MIN / 80, 2 * TAIL_BYTES_MIN / 50 + 2);
    tail_freep(&t);

    t = find_tail(dir);
    assert_int_equal(tail_load(t, last_end, &end, &cut, &e), 0);
    assert_int_equal(end, 1000);
    assert_int_equal(cut, 0);
    assert_int_equal(expect_run(t, 1000), n);
    append(t, 1001);
    expect_run(t, 1001);
    assert_int_equal(tail_remove(t, &e), 0);
    tail_freep(&t);
    t = find_tail(dir);
    assert_int_equal(expect_run(t, 0), 0);
}

/* Right after a rotation the newest file alone says where the spools stand. */
static void a_checkpoint_is_enough(void **state)
{
    scoped_fd dir = dir_of(state);
    scoped(tail_freep) struct tail *t = find_tail(dir);
    unsigned char checkpoint[RECORD_MAX];
    struct record position = a_line(RECORD_POSITION, "web.1", "");
    struct err e = ERR_INIT;
    uint64_t end = 0, cut = 0;

    for (unsigned i = 1; i <= 300; i++)
        append(t, i);
    position.end = 300;
    assert_int_equal(tail_rotate(t, checkpoint, record_encode(&position, checkpoint), &e), 0);
    assert_int_equal(tail_remove_older(t, &e), 0);
    tail_freep(&t);
    t = find_tail(dir);
    assert_int_equal(tail_load(t, last_end, &end, &cut, &e), 0);
    assert_int_equal(end, 300);
    assert_int_equal(expect_run(t, 300), 0);
}

static void a_torn_record_is_cut(void **state)
{
    scoped_fd dir = dir_of(state);
    struct err e = ERR_INIT;
    uint64_t end, cut;
    struct stat st;

    for (unsigned torn = 1; torn < 40; torn += 3) {
        scoped(tail_freep) struct tail *t = find_tail(dir);

        for (unsigned i = 1; i <= 3; i++)
            append(t, i);
        scoped_fd fd = openat(dir, "shop.1.tail", O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(ftruncate(fd, st.st_size - torn), 0);
        tail_freep(&t);

        t = find_tail(dir);
        assert_int_equal(tail_load(t, last_end, &end, &cut, &e), 0);
        assert_int_equal(end, 2);
        assert_true(cut > 0);
        assert_int_equal(expect_run(t, 2), 2);
        append(t, 3);
        assert_int_equal(expect_run(t, 3), 3);
        assert_int_equal(tail_remove(t, &e), 0);
    }
}

static void a_strange_file_is_set_aside(void **state)
{
    scoped_fd dir = dir_of(state);
    struct err e = ERR_INIT;
    uint64_t end = 0, cut;

    assert_int_equal(file_write_atomic(dir, "shop.1.tail", "dynod-tail 9999\nxyz", 19, 0600, &e),
                     0);
    scoped(tail_freep) struct tail *t = find_tail(dir);
    assert_int_equal(tail_load(t, last_end, &end, &cut, &e), -EBADMSG);
    assert_int_equal(faccessat(dir, "shop.1.tail.bad", F_OK, 0), 0);
    assert_int_equal(expect_run(t, 0), 0);
    append(t, 1);
    assert_int_equal(expect_run(t, 1), 1);
}

static void only_proper_names_are_files_of_ours(void **state)
{
    char app[APP_NAME_MAX + 1], inc[LOG_INC_MAX + 1], longer[LOG_INC_MAX + 20];
    uint64_t gen;

    (void)state;
    assert_true(tail_name_parse("shop.12.tail", app, &gen));
    assert_string_equal(app, "shop");
    assert_int_equal(gen, 12);
    static const char *const bad[] = {
        "shop.tail",       "shop..tail",
        "shop.0.tail",     "shop.01.tail",
        "shop.-1.tail",    "shop.1.2.tail",
        ".1.tail",         "SHOP.1.tail",
        "shop.1.tail.new", "shop.99999999999999999999.tail",
        "1.tail",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(tail_name_parse(bad[i], app, &gen));
    assert_true(spool_name_parse("a.tail.spool", inc));
    assert_string_equal(inc, "a.tail");
    assert_false(spool_name_parse(".spool", inc));
    assert_false(spool_name_parse("a b.spool", inc));
    assert_false(spool_name_parse("a.spool.new", inc));
    memset(longer, 'x', sizeof(longer));
    strcpy(longer + LOG_INC_MAX, ".spool");
    assert_true(spool_name_parse(longer, inc));
    memset(longer, 'x', sizeof(longer));
    strcpy(longer + LOG_INC_MAX + 1, ".spool");
    assert_false(spool_name_parse(longer, inc));
    assert_false(inc_valid("../x"));
    assert_false(inc_valid(""));
}

static void fill_all(struct spool *s, int pipe, int want)
{
    struct err e = ERR_INIT;

    assert_int_equal(spool_fill(s, pipe, &e), want);
}

static void a_spool_keeps_what_left_the_pipe(void **state)
{
    scoped_fd dir = dir_of(state);
    struct err e = ERR_INIT;
    struct spool s;
    char buf[64];
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(spool_open(dir, "inc", 0, &s, &e), 0);
    fill_all(&s, fds[0], -EAGAIN);
    assert_int_equal(write(fds[1], "hello world", 11), 11);
    fill_all(&s, fds[0], 1);
    assert_false(s.no_splice);
    spool_consume(&s, 6);
    spool_close(&s); /* the process died */

    assert_int_equal(spool_open(dir, "inc", 6, &s, &e), 0);
    assert_int_equal(s.size, 11);
    assert_int_equal(spool_peek(&s, buf, sizeof(buf), &e), 5);
    assert_memory_equal(buf, "world", 5);
    close(fds[1]);
    fill_all(&s, fds[0], 0);
    spool_close(&s);
    close(fds[0]);

    /* A spool that was lost goes on at its record. */
    assert_int_equal(spool_remove(dir, "inc", &e), 0);
    assert_int_equal(spool_remove(dir, "inc", &e), 0);
    assert_int_equal(spool_open(dir, "inc", 5000, &s, &e), 0);
    assert_int_equal(spool_backlog(&s), 0);
    spool_close(&s);
}

static void a_spool_is_bounded_and_gives_memory_back(void **state)
{
    scoped_fd dir = dir_of(state);
    scoped_free char *buf = malloc(65536);
    struct err e = ERR_INIT;
    struct stat st;
    struct spool s;
    int fds[2];

    memset(buf, 'x', 65536);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(spool_open(dir, "inc", 0, &s, &e), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(fds[1], buf, 65536), 65536);
        fill_all(&s, fds[0], 1);
    }
    assert_int_equal(spool_backlog(&s), SPOOL_BACKLOG_MAX);
    assert_int_equal(write(fds[1], buf, 1000), 1000);
    fill_all(&s, fds[0], -EAGAIN); /* no room: the pipe keeps it */
    for (int i = 0; i < 100; i++) {
        spool_consume(&s, 65536);
        (void)!write(fds[1], buf, 65536);
        fill_all(&s, fds[0], 1);
    }
    assert_int_equal(fstat(s.fd, &st), 0);
    assert_true(st.st_size > 4 << 20);
    assert_true(st.st_blocks * 512 <= SPOOL_BACKLOG_MAX + SPOOL_PUNCH_MIN + 8192);
    /* Even a record that was lost cannot bring back what was punched out. */
    uint64_t pos = s.pos;
    spool_close(&s);
    assert_int_equal(spool_open(dir, "inc", 0, &s, &e), 0);
    assert_in_range(s.pos, pos - SPOOL_PUNCH_MIN - 4096, pos);
    spool_close(&s);
    close(fds[0]);
    close(fds[1]);
}

/* A socket is no pipe: splice(2) refuses it, read(2) does it. */
static void a_spool_takes_sockets_too(void **state)
{
    scoped_fd dir = dir_of(state);
    struct err e = ERR_INIT;
    struct spool s;
    char buf[64];
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(spool_open(dir, "inc", 0, &s, &e), 0);
    assert_int_equal(write(fds[1], "hello", 5), 5);
    fill_all(&s, fds[0], 1);
    assert_true(s.no_splice);
    fill_all(&s, fds[0], -EAGAIN);
    assert_int_equal(spool_peek(&s, buf, sizeof(buf), &e), 5);
    assert_memory_equal(buf, "hello", 5);
    close(fds[1]);
    fill_all(&s, fds[0], 0);
    spool_close(&s);
    close(fds[0]);
}

#define IN_DIR(fn) cmocka_unit_test_setup_teardown(fn, dir_setup, dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_ends_with_lf_or_crlf),
        cmocka_unit_test(the_last_line_needs_no_end),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(a_cut_spares_characters),
        cmocka_unit_test(chunks_do_not_matter),
        cmocka_unit_test(a_record_comes_back),
        cmocka_unit_test(a_torn_or_damaged_record_is_none),
        cmocka_unit_test(text_is_as_the_platform_writes_it),
        cmocka_unit_test(json_is_always_valid),
        cmocka_unit_test(filters_pick_dyno_type_and_source),
        cmocka_unit_test(a_full_queue_drops_the_oldest_and_says_so),
        IN_DIR(a_tail_rotates_and_is_found_again),
        IN_DIR(a_checkpoint_is_enough),
        IN_DIR(a_torn_record_is_cut),
        IN_DIR(a_strange_file_is_set_aside),
        cmocka_unit_test(only_proper_names_are_files_of_ours),
        IN_DIR(a_spool_keeps_what_left_the_pipe),
        IN_DIR(a_spool_is_bounded_and_gives_memory_back),
        IN_DIR(a_spool_takes_sockets_too),
    };

    return cmocka_run_group_tests_name("logs_parts", tests, NULL, NULL);
}
