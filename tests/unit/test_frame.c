#include "base/frame.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void make_pair(struct frame_conn **a, int *raw)
{
    struct err e = ERR_INIT;
    int sv[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(frame_conn_new(sv[0], a, &e), 0);
    *raw = sv[1];
}

static void frames_carry_json_and_descriptors(void **state)
{
    struct frame_conn *a, *b;
    struct err e = ERR_INIT;
    struct frame f;
    int raw, pipe_fds[2];
    char c;

    (void)state;
    make_pair(&a, &raw);
    assert_int_equal(frame_conn_new(raw, &b, &e), 0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    json_t *j = json_pack("{s:s,s:i}", "kind", "hello", "n", 7);
    assert_int_equal(frame_send(a, j, NULL, 0, &e), 0);
    assert_int_equal(frame_send(a, j, pipe_fds, 2, &e), 0);
    json_decref(j);
    close(pipe_fds[0]);
    close(pipe_fds[1]);

    assert_int_equal(frame_next(b, &f, &e), 1);
    assert_string_equal(json_str(f.json, "kind", ""), "hello");
    assert_int_equal(f.n_fds, 0);
    frame_done(&f);
    assert_int_equal(frame_next(b, &f, &e), 1);
    assert_int_equal(f.n_fds, 2);
    int rd = frame_take_fd(&f, 0), wr = frame_take_fd(&f, 1);
    assert_int_equal(write(wr, "x", 1), 1);
    assert_int_equal(read(rd, &c, 1), 1);
    assert_true(fcntl(rd, F_GETFD) & FD_CLOEXEC);
    close(rd);
    close(wr);
    frame_done(&f);
    assert_int_equal(frame_next(b, &f, &e), 0);
    frame_conn_freep(&a);
    assert_int_equal(frame_next(b, &f, &e), -EPIPE);
    frame_conn_freep(&b);
}

static void a_full_socket_queues(void **state)
{
    struct frame_conn *a, *b;
    struct err e = ERR_INIT;
    struct frame f;
    int raw;
    enum { COUNT = 40 };

    (void)state;
    make_pair(&a, &raw);
    assert_int_equal(frame_conn_new(raw, &b, &e), 0);
    char *big = malloc(100001);
    memset(big, 'x', 100000);
    big[100000] = '\0';
    for (int i = 0; i < COUNT; i++) {
        json_t *j = json_pack("{s:i,s:s}", "i", i, "big", big);
        assert_int_equal(frame_send(a, j, NULL, 0, &e), 0);
        json_decref(j);
    }
    assert_true(frame_pending(a));
    for (int got = 0; got < COUNT;) {
        int r = frame_next(b, &f, &e);

        if (r == 0) {
            assert_true(frame_flush(a, &e) >= 0);
            continue;
        }
        assert_int_equal(r, 1);
        assert_int_equal(json_int(f.json, "i", -1), got++);
        frame_done(&f);
    }
    assert_false(frame_pending(a));
    free(big);
    frame_conn_freep(&a);
    frame_conn_freep(&b);
}

static void expect_bad(const void *bytes, size_t len)
{
    struct frame_conn *a;
    struct err e = ERR_INIT;
    struct frame f;
    int raw;

    make_pair(&a, &raw);
    assert_int_equal(write(raw, bytes, len), (ssize_t)len);
    assert_int_equal(frame_next(a, &f, &e), -EBADMSG);
    assert_true(e.text[0] != '\0');
    close(raw);
    frame_conn_freep(&a);
}

static void garbage_is_an_error(void **state)
{
    (void)state;
    expect_bad("\xff\xff\xff\xff\0\0\0\0", 8);             /* 4 GiB */
    expect_bad("\0\0\0\2\0\0\0\0xx", 10);                  /* not JSON */
    expect_bad("\0\0\0\2\0\0\0\0[]", 10);                  /* not an object */
    expect_bad("\0\0\0\2\0\0\0\1{}", 10);                  /* a descriptor that never came */
    expect_bad("\0\0\0\2\0\0\377\377{}", 10);              /* 65,535 descriptors */
    expect_bad("\0\0\0\x0d\0\0\0\0{\"a\":1,\"a\":2}", 21); /* duplicate keys */
}

static void json_has_limits(void **state)
{
    struct err e = ERR_INIT;
    json_t *j = NULL;
    char *deep = malloc(200000);

    (void)state;
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    assert_int_equal(json_parse(deep, 200000, 1 << 20, &j, &e), -EBADMSG);
    assert_int_equal(json_parse(deep, 200000, 1000, &j, &e), -EMSGSIZE);
    assert_int_equal(json_parse("\"\\u0000\"", 8, 1000, &j, &e), -EBADMSG);
    assert_int_equal(json_parse("[1e400]", 7, 1000, &j, &e), -EBADMSG);
    assert_null(j);
    /* What is wrong is quoted, not what it does to a terminal. */
    assert_int_equal(json_parse("{\x1b[2J}", 6, 1000, &j, &e), -EBADMSG);
    assert_null(strchr(e.text, '\x1b'));
    assert_non_null(strstr(e.text, "\\x1b"));
    assert_int_equal(json_parse("{\"a\":\"[[\\\"[\"}", 13, 1000, &j, &e), 0);
    json_decref(j);
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_carry_json_and_descriptors),
        cmocka_unit_test(a_full_socket_queues),
        cmocka_unit_test(garbage_is_an_error),
        cmocka_unit_test(json_has_limits),
    };

    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
