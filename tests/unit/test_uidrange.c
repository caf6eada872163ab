/* Whose uids a range has. */
#include "core/host/uidrange.h"

#include "base/scoped.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char dir[64];

static void put(const char *name, const char *text)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    scoped(file_closep) FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
}

static const char *check(uid_t first, uid_t last, int want)
{
    static struct err e;

    e = (struct err)ERR_INIT;
    int r = uidrange_check(dir, first, last, &e);
    if (r != want)
        fail_msg("%d: %s", r, e.text);
    if (r < 0)
        assert_int_equal(e.fault, FAULT_OPERATOR);
    return e.text;
}

static void whose_they_are_is_said(void **state)
{
    (void)state;
    assert_string_equal(check(1, 4000000, 0), ""); /* nothing to look at */
    put("passwd",
        "root:x:0:0::/root:/bin/sh\n\n# a comment\nbroken\nodd:x:y:z\nal\033ice:x:1000:1000:::\n"
        "nobody:x:65534:65534:::\nlast:x:200000:1::/:/bin/sh");
    put("subuid",
        "alice:100000:65536\nroot:300000:65536\ndynod:400000:65536\n1000:500000:1\nbob:x:5\n"
        "carol:600000\n:700000:10");
    assert_non_null(strstr(check(1000, 1000, -EEXIST), "holds 1000, the user al\\x1bice of"));
    assert_non_null(strstr(check(900, 5000, -EEXIST), "choose a range"));
    assert_non_null(strstr(check(165535, 170000, -EEXIST), "overlaps 100000-165535, which"));
    assert_non_null(strstr(check(99000, 100000, -EEXIST), "gives to alice"));
    assert_non_null(strstr(check(200000, 200000, -EEXIST), "user last"));
    assert_non_null(strstr(check(499999, 500000, -EEXIST), "500000"));
    check(165536, 199999, 0);
    check(300000, 499999, 0); /* reserved for us */
    check(1001, 65533, 0);
    check(900000000, 900065535, 0);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/uidrange-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    char path[128];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/passwd", dir);
    (void)remove(path);
    (void)snprintf(path, sizeof(path), "%s/subuid", dir);
    (void)remove(path);
    return remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whose_they_are_is_said)};

    return cmocka_run_group_tests_name("uidrange", tests, set_up, tear_down);
}
