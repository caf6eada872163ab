#include "core/events.h"

#include "base/fdio.h"
#include "base/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "refuse_open.h"

struct place {
    char path[64];
    int dirfd;
};

static void place_make(struct place *p)
{
    (void)snprintf(p->path, sizeof(p->path), "/tmp/test-events-XXXXXX");
    assert_non_null(mkdtemp(p->path));
    p->dirfd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(p->dirfd >= 0);
}

static void place_drop(struct place *p)
{
    struct err e = ERR_INIT;

    close(p->dirfd);
    assert_int_equal(tree_remove(AT_FDCWD, p->path, &e), 0);
}

static void numbers_go_on_after_a_restart(void **state)
{
    struct events *ev;
    struct err e = ERR_INIT;
    struct place p;

    (void)state;
    place_make(&p);
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    events_emit(ev, json_pack("{s:s}", "kind", "one"));
    events_emit(ev, json_pack("{s:s}", "kind", "two"));
    events_freep(&ev);
    int fd = openat(p.dirfd, "events.jsonl", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "{\"kind\":\"to", 11), 11); /* torn */
    assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);

    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    events_emit(ev, json_pack("{s:s}", "kind", "three"));
    json_t *list = events_list(ev, 0, 10);
    assert_int_equal(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(json_int(json_array_get(list, i), "id", 0), (int)i + 1);
    assert_string_equal(json_str(json_array_get(list, 2), "kind", ""), "three");
    json_decref(list);
    list = events_list(ev, 2, 10);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    events_freep(&ev);
    place_drop(&p);
}

static void numbers_are_not_given_again_for_want_of_a_descriptor(void **state)
{
    struct events *ev = NULL;
    struct err e = ERR_INIT;
    struct place p;
    int r = -1;

    (void)state;
    place_make(&p);
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    events_emit(ev, json_pack("{s:s}", "kind", "one"));
    events_freep(&ev);
    for (int n = 1; n < 8 && r < 0; n++) {
        refuse_open = n;
        r = events_open(p.dirfd, &ev, &e);
        assert_true(r == -ENFILE || (r == 0 && n > 2)); /* either file counts */
    }
    refuse_open = 0;
    assert_int_equal(r, 0);
    events_emit(ev, json_pack("{s:s}", "kind", "two"));
    json_t *list = events_list(ev, 0, 10);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_int(json_array_get(list, 1), "id", 0), 2);
    json_decref(list);
    events_freep(&ev);
    place_drop(&p);
}

static void put_lines(const struct place *p, const char *text)
{
    int fd = openat(p->dirfd, "events.jsonl", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* As 0.1.0 wrote them: never to be edited. */
static const char of_0_1[] =
    "{\"from\":\"starting\",\"to\":\"up\",\"release\":1,\"port\":0,\"kind\":\"state\",\"app\":\"shop\","
    "\"dyno\":\"fails.1\",\"id\":14,\"t\":\"2026-11-21T23:49:03.385465+00:00\"}\n"
    "{\"cause\":\"exited\",\"fault\":\"app\",\"text\":\"exited with status 7\",\"status\":7,"
    "\"evidence\":{\"started\":true,\"wait_status\":1792,\"exit_status\":7},\"release\":1,\"run\":"
    "\"shop.fails.1.02803774\",\"kind\":\"exit\",\"app\":\"shop\",\"dyno\":\"fails.1\",\"id\":15,"
    "\"t\":\"2026-11-21T23:49:04.389213+00:00\"}\n";
/* A kind, fields and types that nobody has thought of yet. */
static const char of_the_future[] =
    "{\"id\":16,\"kind\":\"moved\",\"app\":[\"shop\"],\"t\":{\"boot\":1},\"whither\":null}\n";

static void lines_of_any_version_are_kept_as_they_are(void **state)
{
    struct events *ev;
    struct err e = ERR_INIT;
    struct place p;

    (void)state;
    place_make(&p);
    put_lines(&p, of_0_1);
    put_lines(&p, of_the_future);
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    events_emit(ev, json_pack("{s:s}", "kind", "now"));
    json_t *list = events_list(ev, 0, 10);
    assert_int_equal(json_array_size(list), 4);
    assert_string_equal(json_str(json_array_get(list, 1), "run", ""), "shop.fails.1.02803774");
    char *text = json_dumps(json_array_get(list, 2), JSON_COMPACT);
    assert_int_equal(strlen(text), strlen(of_the_future) - 1);
    assert_memory_equal(text, of_the_future, strlen(text));
    free(text);
    assert_int_equal(json_int(json_array_get(list, 3), "id", 0), 17);
    json_decref(list);
    events_freep(&ev);
    place_drop(&p);
}

/* After the clock went back a day, and after a line that says the end of all numbers. */
static void order_is_that_of_the_ids(void **state)
{
    struct events *ev;
    struct err e = ERR_INIT;
    struct place p;

    (void)state;
    place_make(&p);
    put_lines(&p, "{\"id\":3,\"kind\":\"a\",\"t\":\"2099-01-01T00:00:00.000000+00:00\"}\n"
                  "{\"id\":4,\"kind\":\"b\",\"t\":\"2001-01-01T00:00:00.000000+00:00\"}\n"
                  "{\"id\":9223372036854775807,\"kind\":\"c\"}\n"
                  "{\"id\":4,\"kind\":\"b again\"}\n"
                  "{\"id\":-1,\"kind\":\"d\"}\n");
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    events_emit(ev, json_pack("{s:s}", "kind", "now"));
    json_t *list = events_list(ev, 3, 10);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_str(json_array_get(list, 0), "kind", ""), "b");
    assert_string_equal(json_str(json_array_get(list, 1), "kind", ""), "now");
    assert_int_equal(json_int(json_array_get(list, 1), "id", 0), 5);
    json_decref(list);
    events_freep(&ev);
    place_drop(&p);
}

static void memory_and_file_are_bounded(void **state)
{
    struct events *ev;
    struct err e = ERR_INIT;
    struct place p;
    char big[2000];

    (void)state;
    place_make(&p);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    for (int i = 0; i < 3 * EVENTS_KEPT; i++)
        events_emit(ev, json_pack("{s:s}", "text", big));
    json_t *list = events_list(ev, 0, SIZE_MAX);
    assert_int_equal(json_array_size(list), EVENTS_KEPT);
    assert_int_equal(json_int(json_array_get(list, 0), "id", 0), 2 * EVENTS_KEPT + 1);
    json_decref(list);
    assert_int_equal(faccessat(p.dirfd, "events.old", F_OK, 0), 0);
    events_freep(&ev);
    place_drop(&p);
}

struct watcher {
    struct event_watch *watch;
    int seen;
};

static void on_event(void *userdata, const json_t *event)
{
    struct watcher *w = userdata;

    (void)event;
    if (++w->seen == 2)
        events_unwatch(w->watch);
}

static void a_watcher_may_leave_from_within(void **state)
{
    struct events *ev;
    struct err e = ERR_INIT;
    struct place p;
    struct watcher a = {0}, b = {0};

    (void)state;
    place_make(&p);
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    assert_int_equal(events_watch(ev, on_event, &a, &a.watch, &e), 0);
    assert_int_equal(events_watch(ev, on_event, &b, &b.watch, &e), 0);
    events_unwatch(b.watch);
    for (int i = 0; i < 5; i++)
        events_emit(ev, json_object());
    assert_int_equal(a.seen, 2);
    assert_int_equal(b.seen, 0);
    events_freep(&ev);
    place_drop(&p);
}

static void on_told(void *userdata, const json_t *event)
{
    struct watcher *w = userdata;

    w->seen++;
    assert_string_equal(json_str(event, "kind", ""), "progress");
    assert_true(json_is_string(json_object_get(event, "t")));
    assert_null(json_object_get(event, "id"));
}

/* What is only told is in no list, and takes no number. */
static void what_is_told_is_not_kept(void **state)
{
    struct events *ev;
    struct err e = ERR_INIT;
    struct place p;
    struct watcher a = {0};

    (void)state;
    place_make(&p);
    assert_int_equal(events_open(p.dirfd, &ev, &e), 0);
    events_tell(ev, json_pack("{s:s}", "kind", "progress")); /* to nobody */
    events_tell(ev, NULL);
    events_emit(ev, json_object());
    assert_int_equal(events_watch(ev, on_told, &a, &a.watch, &e), 0);
    events_tell(ev, json_pack("{s:s}", "kind", "progress"));
    assert_int_equal(a.seen, 1);
    events_unwatch(a.watch);
    events_tell(ev, json_pack("{s:s}", "kind", "progress"));
    assert_int_equal(a.seen, 1);
    events_emit(ev, json_object());
    json_t *list = events_list(ev, 0, SIZE_MAX);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_int(json_array_get(list, 1), "id", 0), 2);
    json_decref(list);
    events_freep(&ev);
    place_drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_go_on_after_a_restart),
        cmocka_unit_test(lines_of_any_version_are_kept_as_they_are),
        cmocka_unit_test(order_is_that_of_the_ids),
        cmocka_unit_test(memory_and_file_are_bounded),
        cmocka_unit_test(a_watcher_may_leave_from_within),
        cmocka_unit_test(what_is_told_is_not_kept),
        cmocka_unit_test(numbers_are_not_given_again_for_want_of_a_descriptor),
    };

    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
