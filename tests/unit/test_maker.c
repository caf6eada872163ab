/* A process that makes things ahead: what it says of a try that failed, and of one that did not. */
#include "isolate/maker.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum want { FINE, FINE_AT_LAST, BAD };

/* A first try that fails leaves its error behind. */
static int make(void *context, const void *request, int *ret_fd, struct err *e)
{
    enum want want;

    (void)context;
    memcpy(&want, request, sizeof(want));
    if (want != FINE)
        (void)err_say(e, EBUSY, "the first try failed");
    if (want == BAD)
        return -EBUSY;
    *ret_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

static int begin_at_last(void *context, struct err *e)
{
    (void)context;
    (void)err_say(e, EBUSY, "the first try failed");
    return 0;
}

static int begin_badly(void *context, struct err *e)
{
    (void)context;
    return err_say(e, ENODEV, "there is none");
}

static int hear(struct maker *m, const struct maker_job *job, int *ret_fd, struct err *e)
{
    struct pollfd p = {.fd = m->sock, .events = POLLIN};

    return poll(&p, 1, 10000) == 1 ? maker_hear(m, job, ret_fd, e) : -ETIMEDOUT;
}

/* What comes of WANT. */
static int ask(int (*begin)(void *, struct err *), enum want want)
{
    const struct maker_job job = {
        .name = "test-maker", .size = sizeof(want), .keep = -1, .begin = begin, .make = make};
    struct maker m = MAKER_INIT;
    struct err e = ERR_INIT;
    scoped_fd fd = -1;

    assert_int_equal(maker_ask(&m, &job, &want, &e), 0);
    int r = hear(&m, &job, &fd, &e);
    assert_int_equal(fd >= 0, r == 1);
    assert_int_equal(e.errnum, r < 0 ? -r : 0);
    maker_stop(&m);
    return r;
}

static void what_counts_is_how_it_ends(void **state)
{
    (void)state;
    assert_int_equal(ask(NULL, FINE), 1);
    assert_int_equal(ask(NULL, FINE_AT_LAST), 1);
    assert_int_equal(ask(NULL, BAD), -EBUSY);
}

static void the_same_of_its_beginning(void **state)
{
    (void)state;
    assert_int_equal(ask(begin_at_last, FINE), 1);
    assert_int_equal(ask(begin_badly, FINE), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_counts_is_how_it_ends),
        cmocka_unit_test(the_same_of_its_beginning),
    };

    return cmocka_run_group_tests_name("maker", tests, NULL, NULL);
}
