#include "core/control/outbox.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX 100

struct place {
    char path[64];
    int dirfd;
    struct outbox *o;
    char *notice;
};

static void open_again(struct place *p, size_t max)
{
    struct err e = ERR_INIT;

    outbox_freep(&p->o);
    free(p->notice);
    p->notice = NULL;
    assert_int_equal(outbox_open(p->dirfd, max, &p->o, &p->notice, &e), 0);
}

static int place_make(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    (void)snprintf(p->path, sizeof(p->path), "/tmp/test-outbox-XXXXXX");
    assert_non_null(mkdtemp(p->path));
    p->dirfd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(p->dirfd >= 0);
    open_again(p, MAX);
    *state = p;
    return 0;
}

static int place_drop(void **state)
{
    struct place *p = *state;
    struct err e = ERR_INIT;

    outbox_freep(&p->o);
    free(p->notice);
    close(p->dirfd);
    assert_int_equal(tree_remove(AT_FDCWD, p->path, &e), 0);
    free(p);
    return 0;
}

static int add(struct place *p, const char *id)
{
    scoped(json_freep) json_t *exit =
        json_pack("{s:s,s:s,s:i}", "id", id, "cause", "exited", "status", 1);
    struct err e = ERR_INIT;

    return outbox_add(p->o, exit, &e);
}

static int ack(struct place *p, const char *id)
{
    scoped(json_freep) json_t *ids = json_pack("[s]", id);
    struct err e = ERR_INIT;

    return outbox_ack(p->o, ids, &e);
}

/* All ids that it gives out, with blanks. */
static char *given(struct place *p, char out[512])
{
    const json_t *exit;
    size_t len = 0;

    out[0] = '\0';
    outbox_rewind(p->o);
    while ((exit = outbox_next(p->o)))
        len += (size_t)snprintf(out + len, 512 - len, "%s%s", len ? " " : "",
                                json_str(exit, "id", "?"));
    return out;
}

static off_t file_size(struct place *p)
{
    struct stat st;

    assert_int_equal(fstatat(p->dirfd, OUTBOX_FILE, &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    return st.st_size;
}

static void write_file(struct place *p, const char *text)
{
    int fd = openat(p->dirfd, OUTBOX_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static unsigned files_named(struct place *p, const char *start)
{
    DIR *d = fdopendir(dup(p->dirfd));
    struct dirent *entry;
    unsigned n = 0;

    rewinddir(d);
    while ((entry = readdir(d)))
        n += strncmp(entry->d_name, start, strlen(start)) == 0;
    closedir(d);
    return n;
}

static void what_waits_survives_and_what_is_acknowledged_does_not(void **state)
{
    struct place *p = *state;
    char text[512];

    assert_int_equal(add(p, "a"), 0);
    assert_int_equal(add(p, "b"), 0);
    assert_int_equal(add(p, "c"), 0);
    assert_int_equal(add(p, "b"), 0); /* the same exit */
    assert_int_equal(outbox_waiting(p->o), 3);
    assert_int_equal(ack(p, "b"), 0);
    assert_int_equal(ack(p, "b"), 0);
    assert_int_equal(ack(p, "nobody"), 0);
    assert_string_equal(given(p, text), "a c");
    open_again(p, MAX);
    assert_null(p->notice);
    assert_string_equal(given(p, text), "a c");
    assert_null(outbox_next(p->o)); /* each once, until somebody else asks */
    outbox_rewind(p->o);
    const json_t *exit = outbox_next(p->o);
    assert_string_equal(json_str(exit, "cause", ""), "exited");
    assert_int_equal(json_int(exit, "status", 0), 1);
}

static void a_torn_tail_and_garbage_cost_only_themselves(void **state)
{
    struct place *p = *state;
    char text[512];

    write_file(
        p,
        "{\"dynod-exits\":1}\n{\"exit\":{\"id\":\"a\"}}\nrubbish\n\n{\"exit\":{\"id\":7}}\n"
        "{\"exit\":{}}\n[]\n{\"ack\":[1,null]}\n{\"exit\":{\"id\":\"b\"}}\n{\"exit\":{\"id\":\"c");
    open_again(p, MAX);
    assert_string_equal(given(p, text), "a b");
    assert_non_null(strstr(p->notice, "5 lines"));
    assert_int_equal(add(p, "d"), 0); /* a line of its own */
    open_again(p, MAX);
    assert_null(p->notice);
    assert_string_equal(given(p, text), "a b d");
}

static void a_file_from_the_future_is_set_aside(void **state)
{
    struct place *p = *state;
    char text[512];

    write_file(p, "{\"dynod-exits\":2}\n{\"exit\":{\"id\":\"a\"}}\n");
    open_again(p, MAX);
    assert_non_null(strstr(p->notice, "later version of dynod (2)"));
    assert_int_equal(files_named(p, OUTBOX_FILE ".bad-"), 1);
    assert_int_equal(add(p, "b"), 0);
    open_again(p, MAX);
    assert_string_equal(given(p, text), "b");
}

static void what_is_no_file_is_set_aside(void **state)
{
    struct place *p = *state;

    assert_int_equal(unlinkat(p->dirfd, OUTBOX_FILE, 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", p->dirfd, OUTBOX_FILE), 0);
    open_again(p, MAX);
    assert_non_null(p->notice);
    assert_int_equal(add(p, "a"), 0);
    assert_true(file_size(p) > 0);
}

static void the_oldest_go_and_are_counted(void **state)
{
    struct place *p = *state;
    char id[16], text[512];

    open_again(p, 3);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(id, sizeof(id), "e%d", i);
        assert_int_equal(add(p, id), 0);
    }
    assert_int_equal(outbox_dropped(p->o), 2);
    assert_string_equal(given(p, text), "e2 e3 e4");
    open_again(p, 2);
    assert_string_equal(given(p, text), "e3 e4");
}

static void the_file_does_not_grow_for_ever(void **state)
{
    struct place *p = *state;
    char id[64];

    assert_int_equal(add(p, "stays"), 0);
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(id, sizeof(id), "shop.web.%d.0123456789abcdef0123456789", i);
        assert_int_equal(add(p, id), 0);
        assert_int_equal(ack(p, id), 0);
    }
    assert_in_range(file_size(p), 1, 2 * OUTBOX_COMPACT_AT);
    open_again(p, MAX);
    assert_int_equal(outbox_waiting(p->o), 1);
}

static void only_a_window_is_out_at_once(void **state)
{
    struct place *p = *state;
    char id[16];
    int n = 0;

    open_again(p, 10 * OUTBOX_WINDOW);
    for (int i = 0; i < OUTBOX_WINDOW + 5; i++) {
        (void)snprintf(id, sizeof(id), "e%d", i);
        assert_int_equal(add(p, id), 0);
    }
    while (outbox_next(p->o))
        n++;
    assert_int_equal(n, OUTBOX_WINDOW);
    assert_int_equal(ack(p, "e0"), 0);
    assert_string_equal(json_str(outbox_next(p->o), "id", ""), "e1000");
    assert_null(outbox_next(p->o));
}

/* A limit on file sizes is as good as a full disk: writes come out short, or fail. */
static void a_full_disk_loses_nothing(void **state)
{
    struct place *p = *state;
    struct rlimit was, tight;
    char text[512];

    assert_int_equal(add(p, "a"), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    tight = was;
    tight.rlim_cur = (rlim_t)file_size(p) + 7;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_true(add(p, "b") < 0);
    assert_true(add(p, "c") < 0);
    assert_true(outbox_unsaved(p->o));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_string_equal(given(p, text), "a b c"); /* told all the same */
    struct err e = ERR_INIT;
    assert_int_equal(outbox_save(p->o, &e), 0);
    assert_false(outbox_unsaved(p->o));
    open_again(p, MAX);
    assert_null(p->notice);
    assert_string_equal(given(p, text), "a b c");
}

static void a_file_that_somebody_removed_is_made_again(void **state)
{
    struct place *p = *state;
    char text[512];

    assert_int_equal(add(p, "a"), 0);
    assert_int_equal(unlinkat(p->dirfd, OUTBOX_FILE, 0), 0);
    assert_int_equal(add(p, "b"), 0);
    open_again(p, MAX);
    assert_string_equal(given(p, text), "a b");
}

static void an_exit_is_bounded(void **state)
{
    struct place *p = *state;
    scoped(json_freep) json_t *exit = json_pack("{s:s,s:{}}", "id", "a", "evidence");
    scoped_free char *big = malloc(200000);
    struct err e = ERR_INIT;

    memset(big, 'x', 199999);
    big[199999] = '\0';
    (void)json_object_set_new(json_object_get(exit, "evidence"), "error", json_string(big));
    assert_int_equal(outbox_add(p->o, exit, &e), 0);
    assert_true(file_size(p) < OUTBOX_LINE_MAX);
    assert_int_equal(json_object_size(json_object_get(outbox_next(p->o), "evidence")), 0);
    (void)json_object_set_new(exit, "id", json_string(""));
    assert_true(outbox_add(p->o, exit, &e) < 0);
}

/* The child: says each step after it is done. */
static void churn(struct place *p, int out)
{
    struct place mine = {.dirfd = p->dirfd};
    char id[16], step[32];

    open_again(&mine, 100000);
    for (int i = 0;; i++) {
        (void)snprintf(id, sizeof(id), "x%d", i);
        if (add(&mine, id) < 0)
            _exit(1);
        int n = snprintf(step, sizeof(step), "+%d\n", i);
        if (write(out, step, (size_t)n) != n)
            _exit(1);
        if (i % 3 || i < 10)
            continue;
        (void)snprintf(id, sizeof(id), "x%d", i - 10);
        n = snprintf(step, sizeof(step), "?%d\n", i - 10);
        if (write(out, step, (size_t)n) != n || ack(&mine, id) < 0)
            _exit(1);
    }
}

/* Killed anywhere: whatever was added and not acknowledged is there, each once. */
static void nothing_is_lost_to_a_kill(void **state)
{
    struct place *p = *state;

    for (int round = 0; round < 20; round++) {
        int fds[2];
        char line[32];
        int last = -1;
        static char asked[1 << 20]; /* whose acknowledgement was begun */

        memset(asked, 0, sizeof(asked));
        (void)unlinkat(p->dirfd, OUTBOX_FILE, 0);
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
            (void)close(fds[0]);
            churn(p, fds[1]);
        }
        close(fds[1]);
        usleep(1000 + 700 * (unsigned)round);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        FILE *f = fdopen(fds[0], "r");
        while (fgets(line, sizeof(line), f) && strchr(line, '\n')) {
            if (line[0] == '+')
                last = atoi(line + 1);
            else
                asked[atoi(line + 1)] = 1;
        }
        (void)fclose(f);
        open_again(p, 100000);
        assert_null(p->notice);
        size_t kept = outbox_waiting(p->o), must = 0;
        for (int i = 0; i <= last; i++)
            must += !asked[i];
        assert_true(kept >= must);
        for (int i = 0; i <= last; i++) { /* one more than that could be: the last one asked for */
            char id[16];

            (void)snprintf(id, sizeof(id), "x%d", i);
            size_t before = outbox_waiting(p->o);
            assert_int_equal(ack(p, id), 0);
            if (!asked[i])
                assert_int_equal(outbox_waiting(p->o), before - 1);
        }
        assert_in_range(outbox_waiting(p->o), 0, 1); /* added, and killed before it could say so */
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, place_make, place_drop)
    const struct CMUnitTest tests[] = {
        TEST(what_waits_survives_and_what_is_acknowledged_does_not),
        TEST(a_torn_tail_and_garbage_cost_only_themselves),
        TEST(a_file_from_the_future_is_set_aside),
        TEST(what_is_no_file_is_set_aside),
        TEST(the_oldest_go_and_are_counted),
        TEST(the_file_does_not_grow_for_ever),
        TEST(only_a_window_is_out_at_once),
        TEST(a_full_disk_loses_nothing),
        TEST(a_file_that_somebody_removed_is_made_again),
        TEST(an_exit_is_bounded),
        TEST(nothing_is_lost_to_a_kill),
    };

    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
