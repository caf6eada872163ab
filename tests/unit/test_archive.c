/* What the stages of a slug take for a failure: what returns one, not what left an error behind. */
#include "slug/archive.h"

#include "base/scoped.h"
#include "slug/fetch/unpack_ahead.h"
#include "tarball.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A source that got over something, each time it is read. */
struct shaky {
    struct stream_mem mem;
    ssize_t (*read)(struct stream *s, void *buf, size_t cap, struct err *e);
};

static ssize_t shaky_read(struct stream *s, void *buf, size_t cap, struct err *e)
{
    struct shaky *from = (struct shaky *)s;

    (void)err_say(e, EPIPE, "an error that was got over");
    return from->read(s, buf, cap, e);
}

static void shaky_init(struct shaky *s, const struct str *tar)
{
    stream_mem_init(&s->mem, tar->data, tar->len);
    s->read = s->mem.s.read;
    s->mem.s.read = shaky_read;
}

struct counting {
    struct slug_sink sink;
    size_t bytes;
};

static int on_entry(struct slug_sink *sink, const struct slug_entry *entry, struct err *e)
{
    (void)sink;
    (void)entry;
    (void)e;
    return 0;
}

static int on_data(struct slug_sink *sink, const void *buf, size_t len, uint64_t offset,
                   struct err *e)
{
    (void)buf;
    (void)offset;
    (void)e;
    ((struct counting *)sink)->bytes += len;
    return 0;
}

static int on_file_end(struct slug_sink *sink, struct err *e)
{
    (void)sink;
    (void)e;
    return 0;
}

static void make_tar(struct str *tar)
{
    tar_dir(tar, "app/", 0755);
    tar_file(tar, "app/Procfile", 0644, "web: x\n");
    tar_file(tar, "app/data", 0644, "some data");
    tar_end(tar);
}

static int walk(struct stream *s, size_t *ret_bytes, struct err *e)
{
    struct counting sink = {.sink = {.entry = on_entry, .data = on_data, .file_end = on_file_end}};
    struct slug_limits limits;
    struct slug_counts counts;

    slug_limits_default(&limits);
    int r = archive_walk(s, &limits, &sink.sink, &counts, e);
    *ret_bytes = sink.bytes;
    return r;
}

static void an_error_that_was_got_over_is_none(void **state)
{
    struct str tar = {0};
    struct shaky s;
    struct err e = ERR_INIT;
    size_t bytes;

    (void)state;
    make_tar(&tar);
    shaky_init(&s, &tar);
    assert_int_equal(walk(&s.mem.s, &bytes, &e), 0);
    assert_int_equal(bytes, strlen("web: x\n") + strlen("some data"));
    str_done(&tar);
}

static void nor_is_it_for_the_thread_that_reads_ahead(void **state)
{
    struct str tar = {0};
    struct ahead *ahead = NULL;
    struct shaky s;
    struct err e = ERR_INIT;
    size_t bytes;

    (void)state;
    make_tar(&tar);
    shaky_init(&s, &tar);
    assert_int_equal(ahead_new(&s.mem.s, NULL, NULL, &ahead, &e), 0);
    assert_int_equal(walk(ahead_stream(ahead), &bytes, &e), 0);
    assert_int_equal(bytes, strlen("web: x\n") + strlen("some data"));
    ahead_freep(&ahead);
    str_done(&tar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_that_was_got_over_is_none),
        cmocka_unit_test(nor_is_it_for_the_thread_that_reads_ahead),
    };

    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
