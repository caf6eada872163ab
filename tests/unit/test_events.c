#include "core/events.h"

#include "base/fdio.h"
#include "base/frame.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_go_on_after_a_restart),
        cmocka_unit_test(memory_and_file_are_bounded),
        cmocka_unit_test(a_watcher_may_leave_from_within),
    };

    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
