/* Agents of one machine and the uids and ports that they have. Another agent is a child here: a
 * process does not see its own locks. */
#include "core/host/claims.h"

#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/claims-XXXXXX";
static char dir[64];

static struct claims claims(const char *name, uid_t uid, unsigned port)
{
    static char paths[8][2][96];
    static unsigned n;
    char(*p)[96] = paths[n++ % 8];

    (void)snprintf(p[0], 96, "%s/%s.state", base, name);
    (void)snprintf(p[1], 96, "%s/%s.run", base, name);
    (void)mkdir(p[1], 0700);
    return (struct claims){.dir = dir,
                           .state_dir = p[0],
                           .runtime_dir = p[1],
                           .uid_first = uid,
                           .uid_last = uid + 99,
                           .port_first = port,
                           .port_last = port + 9};
}

/* Another agent claims C and waits for its end; 0: it was refused. */
static pid_t other(const struct claims *c)
{
    int ready[2];
    char said = 'n';
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        struct err e = ERR_INIT;
        int fd;

        close(ready[0]);
        said = claims_take(c, &fd, &e) == 0 ? 'y' : 'n';
        if (write(ready[1], &said, 1) != 1)
            _exit(2);
        for (;;)
            (void)pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &said, 1), 1);
    close(ready[0]);
    if (said == 'y')
        return pid;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return 0;
}

static void end(pid_t pid)
{
    assert_true(pid > 0);
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void take_and_let_go(const struct claims *c)
{
    struct err e = ERR_INIT;
    int fd = -1;

    if (claims_take(c, &fd, &e) < 0)
        fail_msg("%s", e.text);
    assert_true(fd >= 0);
    claims_drop(c);
    close(fd);
}

static void refused(const struct claims *c, const char *text)
{
    struct err e = ERR_INIT;
    int fd = -2;

    assert_int_equal(claims_take(c, &fd, &e), -EADDRINUSE);
    assert_int_equal(fd, -2);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    if (!strstr(e.text, text))
        fail_msg("'%s' is not in: %s", text, e.text);
}

static void two_that_run_share_nothing(void **state)
{
    struct claims one = claims("one", 1000, 100), users = claims("two", 1099, 200),
                  ports = claims("two", 2000, 109), apart = claims("two", 1100, 110);
    char text[128];
    pid_t pid = other(&one);

    (void)state;
    (void)snprintf(text, sizeof(text), "state_dir %s/one.state, pid %d:", base, pid);
    refused(&users, "uid_range 1099-1198 overlaps 1000-1099, that of the dynod with");
    refused(&users, text);
    refused(&ports, "port_range 109-118 overlaps 100-109, that of the dynod with");
    refused(&ports, text);
    take_and_let_go(&apart);
    end(pid);
}

static void one_that_is_gone_leaves_nothing(void **state)
{
    struct claims one = claims("one", 1000, 100), two = claims("two", 1000, 100);

    (void)state;
    end(other(&one)); /* killed */
    take_and_let_go(&two);
}

/* Its dynos run on without it, as those users, with those ports. */
static void runs_of_one_that_is_gone_count(void **state)
{
    struct claims one = claims("one", 1000, 100), two = claims("two", 1000, 100);
    char runs[128], run[160];

    (void)state;
    (void)snprintf(runs, sizeof(runs), "%s/run", one.runtime_dir);
    (void)snprintf(run, sizeof(run), "%s/app.web.1.abc", runs);
    assert_int_equal(mkdir(runs, 0700), 0);
    assert_int_equal(mkdir(run, 0700), 0);
    end(other(&one));
    refused(&two, "which does not run, but its dynos may");
    end(other(&one)); /* itself it comes back */
    claims_drop(&one);
    refused(&two, "which does not run, but its dynos may");
    assert_int_equal(rmdir(run), 0);
    take_and_let_go(&two);
}

static void of_many_at_once_one_gets_it(void **state)
{
    pid_t pids[6];
    int got = 0;

    (void)state;
    for (int i = 0; i < 6; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i);
        struct claims c = claims(name, 5000, 500);
        pids[i] = other(&c);
        got += pids[i] > 0;
    }
    assert_int_equal(got, 1);
    for (int i = 0; i < 6; i++)
        if (pids[i] > 0)
            end(pids[i]);
}

static void garbage_is_swept(void **state)
{
    static const char *const texts[] = {"", "nonsense", "[]", "{\"uid_first\": -1}",
                                        "{\"runtime_dir\": 7}"};
    struct claims one = claims("one", 1000, 100);
    char path[128];
    struct stat st;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/garbage%zu", dir, i);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        (void)fputs(texts[i], f);
        (void)fclose(f);
    }
    (void)snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)snprintf(path, sizeof(path), "%s/link", dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    take_and_let_go(&one);
    (void)snprintf(path, sizeof(path), "%s/garbage0", dir);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(stat("/etc/passwd", &st), 0);
}

static void who_holds_one_can_ask_again(void **state)
{
    struct claims one = claims("one", 1000, 100), two = claims("two", 3000, 300);
    struct err e = ERR_INIT;
    int fd;

    (void)state;
    assert_int_equal(claims_take(&one, &fd, &e), 0);
    assert_int_equal(claims_check(&one, &e), 0);
    pid_t pid = other(&two);
    assert_int_equal(claims_check(&one, &e), 0);
    end(pid);
    struct claims same = claims("two", 1000, 300);
    assert_int_equal(other(&same), 0); /* also after the question: it did not unlock ours */
    claims_drop(&one);
    close(fd);
}

static void off_is_off(void **state)
{
    struct claims one = claims("one", 1000, 100);
    struct err e = ERR_INIT;
    int fd = 5;

    (void)state;
    one.dir = "";
    assert_int_equal(claims_take(&one, &fd, &e), 0);
    assert_int_equal(fd, -1);
    assert_int_equal(claims_check(&one, &e), 0);
    claims_drop(&one);
}

static void what_we_cannot_read_is_not_swept(void **state)
{
    struct claims one = claims("one", 1000, 100), two = claims("two", 1000, 300);
    struct err e = ERR_INIT;
    int fd = -1, r = 0;

    (void)state;
    pid_t pid = other(&one);
    for (int n = 0; n < 16 && r != -EADDRINUSE; n++) {
        struct rlimit was = fds_limit(n);

        r = claims_take(&two, &fd, &e);
        fds_allow(&was);
        assert_true(r == -EMFILE || r == -EADDRINUSE);
    }
    assert_int_equal(r, -EADDRINUSE); /* with enough of them, and the claim is still there */
    end(pid);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(base))
        return -1;
    (void)snprintf(dir, sizeof(dir), "%s/claims", base);
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", base);
    return system(command); /* NOLINT: a path of our own */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_that_run_share_nothing),
        cmocka_unit_test(one_that_is_gone_leaves_nothing),
        cmocka_unit_test(runs_of_one_that_is_gone_count),
        cmocka_unit_test(of_many_at_once_one_gets_it),
        cmocka_unit_test(garbage_is_swept),
        cmocka_unit_test(who_holds_one_can_ask_again),
        cmocka_unit_test(off_is_off),
        cmocka_unit_test(what_we_cannot_read_is_not_swept),
    };

    return cmocka_run_group_tests_name("claims", tests, setup, teardown);
}
