#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void set_says_what_and_why(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(e.errnum, 0);
    assert_int_equal(err_set(&e, ENOENT, "open %s", "/x"), -ENOENT);
    assert_int_equal(e.errnum, ENOENT);
    assert_int_equal(e.fault, FAULT_PLATFORM);
    assert_string_equal(e.text, "open /x: No such file or directory");
    assert_int_equal(err_set(&e, 99999, "odd"), -99999);
    assert_string_equal(e.text, "odd: unknown error");
    assert_int_equal(err_say(&e, EINVAL, "%d apples", 7), -EINVAL);
    assert_string_equal(e.text, "7 apples");
}

static void context_and_blame_chain(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    (void)err_set(&e, EIO, "read");
    assert_int_equal(err_blame(&e, FAULT_APP), -EIO);
    assert_int_equal(err_wrap(&e, "slug %s", "abc"), -EIO);
    assert_int_equal(err_wrap(&e, "start %s.%d", "web", 1), -EIO);
    assert_string_equal(e.text, "start web.1: slug abc: read: Input/output error");
    assert_int_equal(e.errnum, EIO);
    assert_int_equal(e.fault, FAULT_APP); /* context does not change whose fault it is */
    (void)err_say(&e, EIO, "again");
    assert_int_equal(e.fault, FAULT_PLATFORM); /* a new error does */
}

static void long_texts_are_cut_and_ended(void **state)
{
    char big[3 * ERR_TEXT_MAX];
    struct err e = ERR_INIT;

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(err_set(&e, ENOSPC, "%s", big), -ENOSPC);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_int_equal(err_wrap(&e, "context"), -ENOSPC);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_memory_equal(e.text, "context: xxx", 12);
    assert_int_equal(err_wrap(&e, "%s", big), -ENOSPC);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
    assert_memory_equal(e.text, "xxx", 3);
    /* The places around the end, one by one. */
    for (size_t n = ERR_TEXT_MAX - 5; n < ERR_TEXT_MAX + 5; n++) {
        (void)err_say(&e, EIO, "why");
        (void)err_wrap(&e, "%.*s", (int)n, big);
        assert_in_range(strlen(e.text), ERR_TEXT_MAX - 5, ERR_TEXT_MAX - 1);
    }
}

static void faults_have_names(void **state)
{
    static const char *const names[] = {"none", "app", "platform", "operator"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_string_equal(fault_name((enum fault)i), names[i]);
        assert_int_equal(fault_from_name(names[i]), i);
    }
    assert_int_equal(fault_from_name("God"), FAULT_PLATFORM);
    assert_int_equal(fault_from_name(""), FAULT_PLATFORM);
    assert_int_equal(fault_from_name(NULL), FAULT_PLATFORM);
}

static void a_shortage_is_nobody_elses_fault(void **state)
{
    static const int ours[] = {ENOMEM, EMFILE, ENFILE, EAGAIN, EIO};
    static const int theirs[] = {ENOENT, EACCES, ENOTDIR, ELOOP};
    struct err e = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        (void)err_set(&e, ours[i], "open it");
        assert_int_equal(err_blame_operator(&e), -ours[i]);
        assert_int_equal(e.fault, FAULT_PLATFORM);
        assert_int_equal(err_is_shortage(ours[i]), ours[i] != EIO);
    }
    for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++) {
        (void)err_set(&e, theirs[i], "open it");
        assert_int_equal(err_blame_operator(&e), -theirs[i]);
        assert_int_equal(e.fault, FAULT_OPERATOR);
        assert_false(err_is_shortage(theirs[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_says_what_and_why),
        cmocka_unit_test(context_and_blame_chain),
        cmocka_unit_test(long_texts_are_cut_and_ended),
        cmocka_unit_test(faults_have_names),
        cmocka_unit_test(a_shortage_is_nobody_elses_fault),
    };

    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
