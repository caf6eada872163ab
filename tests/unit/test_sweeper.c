#include "core/host/sweeper.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static size_t count_entries(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void what_is_taken_is_gone(void **state)
{
    char base[] = "/tmp/test-sweeper-XXXXXX", trash[64];
    struct sweeper *s;
    struct err e = ERR_INIT;
    sd_event *loop = NULL;
    sigset_t chld;

    (void)state;
    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &chld, NULL);
    assert_non_null(mkdtemp(base));
    (void)snprintf(trash, sizeof(trash), "%s/trash", base);
    int dirfd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(sd_event_new(&loop) >= 0);
    assert_int_equal(sweeper_open(loop, trash, &s, &e), 0);
    assert_int_equal(sweeper_take(s, dirfd, "missing", &e), 0);
    for (int round = 0; round < 5; round++) { /* each child starts where the last one read to */
        assert_int_equal(mkdirat(dirfd, "scratch", 0700), 0);
        assert_int_equal(mkdirat(dirfd, "scratch/work", 0700), 0);
        assert_int_equal(mkdirat(dirfd, "scratch/work/work", 0000), 0);
        assert_int_equal(sweeper_take(s, dirfd, "scratch", &e), 0);
        assert_int_not_equal(faccessat(dirfd, "scratch", F_OK, 0), 0);
        uint64_t patience = clock_boot() + 60 * USEC_PER_SEC;
        while (count_entries(trash) > 0 && clock_boot() < patience)
            assert_true(sd_event_run(loop, 10000) >= 0);
        assert_int_equal(count_entries(trash), 0);
    }
    sweeper_freep(&s);
    sd_event_unref(loop);
    close(dirfd);
    assert_int_equal(tree_remove(AT_FDCWD, base, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_is_gone),
    };

    return cmocka_run_group_tests_name("sweeper", tests, NULL, NULL);
}
