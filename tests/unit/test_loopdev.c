/* Loop devices, where others take them too. */
#include "isolate/loopdev.h"

#include "base/scoped.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { TAKERS = 6, TIMES = 150, TRUTH = 16384 };

static int file_of(char content)
{
    char block[TRUTH];
    int file = memfd_create("loopdev", MFD_CLOEXEC);

    memset(block, content, sizeof(block));
    if (file < 0 || write(file, block, sizeof(block)) != (ssize_t)sizeof(block))
        return -1;
    return file;
}

/* Whether most are had, each bound to FILE and without an error. */
static bool take_some(int file, char content)
{
    int had = 0;

    for (int i = 0; i < TIMES; i++) {
        struct err e = ERR_INIT;
        char path[LOOPDEV_PATH_MAX], c = 0;
        scoped_fd fd = -1;

        int r = loopdev_take(file, true, path, &fd, &e);
        if (r == -EBUSY) /* so many at once may be more than it puts up with: then it says so */
            continue;
        if (r < 0 || e.errnum || pread(fd, &c, 1, TRUTH - 1) != 1 || c != content)
            return false;
        had++;
    }
    return had > TIMES / 2;
}

static void one_that_is_had_comes_without_an_error(void **state)
{
    pid_t pids[TAKERS];

    (void)state;
    if (geteuid() != 0)
        skip(); /* only root binds loop devices */
    for (int i = 0; i < TAKERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            char content = (char)('a' + i);

            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            scoped_fd file = file_of(content);
            _exit(file >= 0 && take_some(file, content) ? 0 : 1);
        }
    }
    for (int i = 0; i < TAKERS; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

static void what_is_no_file_is_refused(void **state)
{
    char path[LOOPDEV_PATH_MAX];
    struct err e = ERR_INIT;
    int fd = -1;

    (void)state;
    if (geteuid() != 0)
        skip(); /* only root binds loop devices */
    assert_int_equal(loopdev_take(-1, true, path, &fd, &e), -EBADF);
    assert_int_equal(e.errnum, EBADF);
    assert_int_equal(fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_had_comes_without_an_error),
        cmocka_unit_test(what_is_no_file_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
