#include "isolate/launch.h"

#include "base/scoped.h"
#include "isolate/initproto.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_record_has_all_strings_and_is_sealed(void **state)
{
    struct launch l = {.argv = (char *[]){(char *)"cmd", (char *)"", (char *)"a b", NULL},
                       .env = (char *[]){(char *)"A=1", NULL},
                       .tty = true,
                       .rows = 24,
                       .cols = 80};
    static const char strings[] = "cmd\0\0a b\0A=1";
    struct init_launch head;
    struct err e = ERR_INIT;
    scoped_fd fd = -1;
    char buf[64];

    (void)state;
    assert_int_equal(launch_memfd(&l, &fd, &e), 0);
    assert_int_equal(read(fd, &head, sizeof(head)), sizeof(head));
    assert_int_equal(head.magic, INIT_LAUNCH_MAGIC);
    assert_int_equal(head.argc, 3);
    assert_int_equal(head.envc, 1);
    assert_int_equal(head.flags, INIT_TTY);
    assert_int_equal(head.rows, 24);
    assert_int_equal(head.size, sizeof(head) + sizeof(strings));
    assert_int_equal(read(fd, buf, sizeof(buf)), sizeof(strings));
    assert_memory_equal(buf, strings, sizeof(strings));
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(errno, EPERM);
}

static void what_execve_would_refuse_is_refused_by_name(void **state)
{
    scoped_free char *longest = malloc(131072 + 8);
    char *many[100] = {0};
    struct launch l = {.argv = (char *[]){(char *)"cmd", NULL}};
    struct err e = ERR_INIT;
    int fd = -1;

    (void)state;
    memset(longest, 'x', 131072 + 8);
    memcpy(longest, "SECRET=", 7);
    longest[131071] = '\0'; /* with its NUL 131,072: the most */
    l.env = (char *[]){longest, NULL};
    assert_int_equal(launch_memfd(&l, &fd, &e), 0);
    close(fd);
    longest[131071] = 'x';
    longest[131072] = '\0';
    assert_int_equal(launch_memfd(&l, &fd, &e), -E2BIG);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_non_null(strstr(e.text, "SECRET"));
    assert_null(strstr(e.text, "xxxx"));
    longest[131071] = '\0';
    for (int i = 0; i < 99; i++)
        many[i] = longest;
    l.env = many;
    assert_int_equal(launch_memfd(&l, &fd, &e), -E2BIG); /* over INIT_LAUNCH_MAX together */
    l.argv = (char *[]){NULL};
    assert_int_equal(launch_memfd(&l, &fd, &e), -EINVAL);
}

static void the_shell_depends_on_the_stack(void **state)
{
    const char *argv[5];

    (void)state;
    launch_shell(true, "a b", argv);
    assert_string_equal(argv[0], "bash");
    assert_string_equal(argv[1], "--login");
    assert_string_equal(argv[2], "-c");
    assert_string_equal(argv[3], "a b");
    assert_null(argv[4]);
    launch_shell(false, "c", argv);
    assert_string_equal(argv[0], "/bin/sh");
    assert_string_equal(argv[1], "-l");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_has_all_strings_and_is_sealed),
        cmocka_unit_test(what_execve_would_refuse_is_refused_by_name),
        cmocka_unit_test(the_shell_depends_on_the_stack),
    };

    return cmocka_run_group_tests_name("launch", tests, NULL, NULL);
}
