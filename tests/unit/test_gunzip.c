#include "slug/gunzip.h"

#include "base/scoped.h"
#include "slug/hash.h"
#include "tarball.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* Both inflaters, whole and byte by byte, small and large reads: all must agree. */
static void each_way(const struct str *gz,
                     int (*check)(int r, const struct str *out, struct err *e))
{
    const struct inflate_ops *const ops[] = {&inflate_zlib, inflate_isal()};
    const size_t chunks[] = {0, 1, 7, 4096}, caps[] = {1, 100, 65536};

    for (size_t o = 0; o < 2; o++)
        for (size_t c = 0; ops[o] && c < 4; c++)
            for (size_t k = 0; k < 3; k++) {
                struct stream_mem mem;
                struct gunzip g;
                struct str out = {0};
                struct err e = ERR_INIT;
                scoped_free char *buf = malloc(caps[k]);
                ssize_t n;

                if (gz->len > 100000 && (chunks[c] == 1 || caps[k] == 1))
                    continue; /* the same, but slow */
                stream_mem_init(&mem, str_text(gz), gz->len);
                mem.chunk = chunks[c];
                assert_int_equal(gunzip_init(&g, &mem.s, ops[o], &e), 0);
                g.out_max = 300u << 20;
                while ((n = stream_read(&g.s, buf, caps[k], &e)) > 0)
                    if (out.len < (4u << 20))
                        str_add_n(&out, buf, (size_t)n);
                if (!check((int)n, &out, &e))
                    fail_msg("%s, chunk %zu, cap %zu: %zd %s (%zu bytes)", ops[o]->name, chunks[c],
                             caps[k], n, e.text, out.len);
                assert_true(n == 0 || (g.s.failed && e.fault == FAULT_APP));
                gunzip_done(&g);
                str_done(&out);
            }
}

static int is_hello(int r, const struct str *out, struct err *e)
{
    (void)e;
    return r == 0 && !strcmp(str_text(out), "hello");
}

static int is_hello_twice(int r, const struct str *out, struct err *e)
{
    (void)e;
    return r == 0 && !strcmp(str_text(out), "hellohello");
}

#define REFUSAL(name, words)                                                                       \
    static int name(int r, const struct str *out, struct err *e)                                   \
    {                                                                                              \
        (void)out;                                                                                 \
        return r < 0 && strstr(e->text, words) != NULL;                                            \
    }
REFUSAL(is_empty, "the file is empty")
REFUSAL(is_cut, "cut short")
REFUSAL(is_garbage, "trailing garbage")
REFUSAL(is_damaged, "damaged")
REFUSAL(is_bad_crc, "its checksum is wrong")
REFUSAL(is_bad_size, "its length is wrong")
REFUSAL(is_bad_header_crc, "header's checksum is wrong")
REFUSAL(is_unknown, "unknown kind of gzip")
REFUSAL(is_html, "not a gzip file (starts with \"<html\")")
REFUSAL(is_doctype, "not a gzip file (starts with \"<!DOCTYPE\")")
REFUSAL(is_zip, "not a gzip file (starts with \"PK\\x03\\x04")

static void hello(struct str *gz)
{
    gzip_add(gz, "hello", 5);
}

static void members_follow_each_other(void **state)
{
    struct str gz = {0};

    (void)state;
    hello(&gz);
    each_way(&gz, is_hello);
    gzip_add(&gz, "", 0);
    each_way(&gz, is_hello);
    hello(&gz);
    each_way(&gz, is_hello_twice);
    str_done(&gz);
}

static void zeros_may_follow(void **state)
{
    struct str gz = {0};
    char zeros[1000] = {0};

    (void)state;
    hello(&gz);
    str_add_n(&gz, zeros, sizeof(zeros));
    each_way(&gz, is_hello);
    str_add(&gz, "x");
    each_way(&gz, is_garbage);
    str_done(&gz);
    hello(&gz);
    str_add(&gz, "x");
    each_way(&gz, is_garbage);
    str_done(&gz);
}

static void what_is_no_gzip_is_shown(void **state)
{
    static const struct {
        const char *text;
        int (*check)(int r, const struct str *out, struct err *e);
    } cases[] = {
        {"", is_empty},
        {"<html><body>404</body></html>", is_html},
        {"<!DOCTYPE html>", is_doctype},
        {"PK\003\004xx", is_zip},
        {"\x1f", is_cut},
        {"\x1f\x8b", is_cut},
        {"\x1f\x8b\x07\x01\x01\x01\x01\x01\x01\x01", is_unknown},
        {"\x1f\x8b\x08\xe0\x01\x01\x01\x01\x01\x01", is_unknown},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct str gz = {0};

        str_add(&gz, cases[i].text);
        each_way(&gz, cases[i].check);
        str_done(&gz);
    }
}

static void header_fields_are_passed(void **state)
{
    struct str plain = {0}, gz = {0};
    uint8_t head[] = {0x1f, 0x8b, 8, 4 | 8 | 16 | 2, 0, 0, 0, 0, 0, 3, 3, 0, 'a', 'b', 'c', 'n',
                      0,    'c',  0};
    uint32_t crc = (uint32_t)crc32(0, head, sizeof(head));
    uint8_t tail[2] = {(uint8_t)crc, (uint8_t)(crc >> 8)};

    (void)state;
    hello(&plain);
    str_add_n(&gz, head, sizeof(head));
    str_add_n(&gz, tail, 2);
    str_add_n(&gz, plain.data + 10, plain.len - 10);
    each_way(&gz, is_hello);
    gz.data[sizeof(head)] ^= 1;
    each_way(&gz, is_bad_header_crc);
    str_done(&gz);
    str_done(&plain);
}

static void every_cut_is_seen(void **state)
{
    struct str gz = {0}, cut = {0};

    (void)state;
    hello(&gz);
    for (size_t len = 1; len < gz.len; len++) {
        str_add_n(&cut, gz.data, len);
        each_way(&cut, is_cut);
        str_done(&cut);
    }
    str_done(&gz);
}

static void damage_is_seen(void **state)
{
    struct str gz = {0};

    (void)state;
    hello(&gz);
    gz.data[gz.len - 8] ^= 1;
    each_way(&gz, is_bad_crc);
    gz.data[gz.len - 8] ^= 1;
    gz.data[gz.len - 4] ^= 1;
    each_way(&gz, is_bad_size);
    gz.data[gz.len - 4] ^= 1;
    gz.data[10] = 7; /* block type 3 does not exist */
    each_way(&gz, is_damaged);
    str_done(&gz);
}

static const struct str *expected;

static int is_expected(int r, const struct str *out, struct err *e)
{
    (void)e;
    return r == 0 && out->len == expected->len && !memcmp(out->data, expected->data, out->len);
}

/* Text, noise and runs: stored, fixed and dynamic blocks, over the edges of every buffer. */
static void large_streams_are_whole(void **state)
{
    struct str data = {0}, gz = {0};
    unsigned x = 1;

    (void)state;
    for (int i = 0; i < 300000; i++) {
        x = x * 1103515245 + 12345;
        if (i % 1000 < 700)
            str_addf(&data, "%u", (x >> 16) & 7);
        else
            str_addf(&data, "%c", (int)(x >> 16) & 0xff);
    }
    gzip_add(&gz, data.data, data.len / 2);
    gzip_add(&gz, data.data + data.len / 2, data.len - data.len / 2);
    expected = &data;
    each_way(&gz, is_expected);
    str_done(&gz);
    str_done(&data);
}

/* The bomb: 200 MB of zeros. CAP 0: no limit. Returns the bytes that came. */
static uint64_t burst(uint64_t max, uint64_t ratio, struct err *e)
{
    static char zeros[1 << 20], buf[1 << 18];
    struct str gz = {0};
    struct stream_mem mem;
    struct gunzip g;
    ssize_t n;

    for (int i = 0; i < 200; i++)
        gzip_add(&gz, zeros, sizeof(zeros));
    stream_mem_init(&mem, gz.data, gz.len);
    assert_int_equal(gunzip_init(&g, &mem.s, NULL, e), 0);
    g.out_max = max;
    g.ratio_max = ratio;
    while ((n = stream_read(&g.s, buf, sizeof(buf), e)) > 0)
        ;
    uint64_t total = g.out_total;
    gunzip_done(&g);
    str_done(&gz);
    return total;
}

static void bombs_are_stopped(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(burst(0, 0, &e), 200u << 20); /* the control */
    assert_int_equal(e.errnum, 0);
    assert_true(burst(10u << 20, 0, &e) < 11u << 20);
    assert_int_equal(e.errnum, EFBIG);
    assert_non_null(strstr(e.text, "limit of 10485760 unpacked bytes"));
    assert_true(burst(0, 200, &e) < 66u << 20);
    assert_non_null(strstr(e.text, "limit of 200 times its size (ratio_max)"));
}

static void the_hash_counts_and_limits(void **state)
{
    struct stream_mem mem;
    struct hash_stream h;
    struct digest d;
    struct err e = ERR_INIT;

    (void)state;
    stream_mem_init(&mem, "abc", 3);
    mem.chunk = 1;
    assert_int_equal(hash_stream_init(&h, &mem.s, 3, &e), 0);
    assert_int_equal(stream_drain(&h.s, &e), 0);
    assert_int_equal(h.bytes, 3);
    assert_int_equal(hash_stream_digest(&h, &d, &e), 0);
    assert_string_equal(d.hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_stream_done(&h);
    stream_mem_init(&mem, "abcd", 4);
    assert_int_equal(hash_stream_init(&h, &mem.s, 3, &e), 0);
    assert_int_equal(stream_drain(&h.s, &e), -EFBIG);
    assert_int_equal(e.fault, FAULT_APP);
    assert_non_null(strstr(e.text, "limit of 3 compressed bytes"));
    assert_string_equal(h.s.failed, "download");
    hash_stream_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_follow_each_other),  cmocka_unit_test(zeros_may_follow),
        cmocka_unit_test(what_is_no_gzip_is_shown),   cmocka_unit_test(header_fields_are_passed),
        cmocka_unit_test(every_cut_is_seen),          cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(large_streams_are_whole),    cmocka_unit_test(bombs_are_stopped),
        cmocka_unit_test(the_hash_counts_and_limits),
    };

    return cmocka_run_group_tests_name("gunzip", tests, NULL, NULL);
}
