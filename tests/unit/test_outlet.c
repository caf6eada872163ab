/* test_outlet.c - bytes that come in any order leave the outlet in theirs, whatever waits in the
 * spool, in memory or in the pipe. */
#include "slug/fetch/outlet.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define TOTAL (3u << 20)
#define PIECE 16411u /* about what libcurl gives; no divisor of anything */

struct line {
    struct outlet o;
    int reader;
    char *data, *got;
    size_t n_got;
    bool *here; /* pieces that have come */
    size_t n_pieces;
};

static void begin(struct line *l)
{
    struct err e = ERR_INIT;
    int fds[2];

    *l = (struct line){.n_pieces = (TOTAL + PIECE - 1) / PIECE};
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    l->reader = fds[0];
    l->data = malloc(TOTAL);
    l->got = malloc(TOTAL);
    l->here = calloc(l->n_pieces, sizeof(*l->here));
    assert_true(l->data && l->got && l->here);
    for (size_t i = 0; i < TOTAL; i++)
        l->data[i] = (char)rand();
    assert_int_equal(outlet_init(&l->o, memfd_create("spool", MFD_CLOEXEC), fds[1], &e), 0);
}

static void end(struct line *l)
{
    (void)close(l->o.spool);
    (void)close(l->o.pipe);
    (void)close(l->reader);
    outlet_done(&l->o);
    free(l->data);
    free(l->got);
    free(l->here);
}

/* How much is there without a gap. */
static uint64_t prefix(const struct line *l)
{
    size_t i = 0;

    while (i < l->n_pieces && l->here[i])
        i++;
    return i == l->n_pieces ? TOTAL : (uint64_t)i * PIECE;
}

static void come(struct line *l, size_t piece)
{
    size_t at = piece * PIECE, len = TOTAL - at < PIECE ? TOTAL - at : PIECE;
    struct err e = ERR_INIT;

    assert_int_equal(outlet_put(&l->o, at, l->data + at, len, &e), 0);
    l->here[piece] = true;
}

/* The reader takes up to MOST bytes, then as much is given on as goes. */
static void take(struct line *l, size_t most)
{
    struct err e = ERR_INIT;
    ssize_t n;

    while (most > 0 && (n = read(l->reader, l->got + l->n_got,
                                 TOTAL - l->n_got < most ? TOTAL - l->n_got : most)) > 0) {
        l->n_got += (size_t)n;
        most -= (size_t)n;
    }
    outlet_look(&l->o);
    assert_int_equal(outlet_pump(&l->o, prefix(l), &e), 0);
}

static void ends_whole(struct line *l)
{
    struct err e = ERR_INIT;
    unsigned char sum[SHA256_DIGEST_LENGTH];
    struct digest wanted, digest;

    for (int turns = 0; l->n_got < TOTAL; turns++) {
        assert_true(turns < 10000);
        take(l, 100000);
    }
    assert_memory_equal(l->got, l->data, TOTAL);
    assert_int_equal(l->o.at, TOTAL);
    (void)SHA256((unsigned char *)l->data, TOTAL, sum);
    digest_from_bytes(sum, &wanted);
    assert_int_equal(outlet_digest(&l->o, &digest, &e), 0);
    assert_string_equal(digest.hex, wanted.hex);
    end(l);
}

static void in_order_with_a_reader_that_keeps_up(void **state)
{
    struct line l;

    (void)state;
    begin(&l);
    for (size_t i = 0; i < l.n_pieces; i++) {
        come(&l, i);
        take(&l, TOTAL);
    }
    assert_false(l.o.spooled); /* nothing ever had to wait */
    ends_whole(&l);
}

static void in_order_with_nobody_reading(void **state)
{
    struct line l;

    (void)state;
    begin(&l);
    for (size_t i = 0; i < l.n_pieces; i++)
        come(&l, i);
    assert_true(l.o.blocked);
    ends_whole(&l);
}

/* Some connections, each in order in a part of its own, and a reader that now and then reads. */
static void parts_at_once(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct line l;
        size_t at[5], n = 1 + seed % 5;

        srand(seed);
        begin(&l);
        for (size_t i = 0; i < n; i++)
            at[i] = l.n_pieces * i / n;
        for (size_t left = l.n_pieces; left > 0;) {
            size_t i = (size_t)rand() % n, run = 1 + (size_t)rand() % 40;

            for (; run > 0 && at[i] < l.n_pieces * (i + 1) / n; run--, left--)
                come(&l, at[i]++);
            if (rand() % 3 == 0)
                take(&l, (size_t)rand() % 300000);
        }
        ends_whole(&l);
    }
}

/* What was held for the spool belongs to the mirror that failed. */
static void nothing_is_left_by_a_reset(void **state)
{
    struct err e = ERR_INIT;
    struct line l;

    (void)state;
    begin(&l);
    assert_int_equal(outlet_put(&l.o, 1000, "another mirror's", 16, &e), 0);
    assert_int_equal(outlet_reset(&l.o, &e), 0);
    for (size_t i = l.n_pieces; i-- > 0;)
        come(&l, i);
    ends_whole(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_with_a_reader_that_keeps_up),
        cmocka_unit_test(in_order_with_nobody_reading),
        cmocka_unit_test(parts_at_once),
        cmocka_unit_test(nothing_is_left_by_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
