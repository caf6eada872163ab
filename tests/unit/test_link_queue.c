#include "link/queue.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct queue *queue(void)
{
    struct queue *q = NULL;
    struct err e = ERR_INIT;

    assert_int_equal(queue_new(&q, &e), 0);
    return q;
}

enum what { EXIT, RESULT, NOTICE };

static void add(struct queue *q, enum what what, const char *prefix, int n, size_t ballast)
{
    static int (*const fns[])(struct queue *, json_t *, struct err *) = {queue_exit, queue_result,
                                                                         queue_notice};
    char id[64];
    struct err e = ERR_INIT;
    scoped_free char *text = calloc(1, ballast + 1);

    (void)snprintf(id, sizeof(id), "%s%d", prefix, n);
    memset(text, 'x', ballast);
    scoped(json_freep) json_t *j = json_pack("{s:s,s:s}", "id", id, "text", text);
    assert_int_equal(fns[what](q, j, &e), 0);
}

static struct batch peek(const struct queue *q)
{
    struct batch b;
    struct err e = ERR_INIT;

    assert_int_equal(queue_peek(q, &b, &e), 0);
    return b;
}

static const char *id_at(const json_t *list, size_t i)
{
    return json_str(json_array_get(list, i), "id", "");
}

static void what_is_not_acknowledged_stays(void **state)
{
    scoped(queue_freep) struct queue *q = queue();

    (void)state;
    add(q, RESULT, "r", 1, 0);
    add(q, EXIT, "e", 1, 0);
    add(q, NOTICE, "n", 1, 0);
    scoped(batch_done) struct batch first = peek(q);
    assert_int_equal(json_array_size(first.exits), 1);
    assert_int_equal(json_array_size(first.results), 1);
    assert_int_equal(json_array_size(first.notices), 1);
    scoped(batch_done) struct batch again = peek(q);
    assert_true(json_equal(first.exits, again.exits));
    /* What comes between the report and its acknowledgement is for the next. */
    add(q, EXIT, "e", 2, 0);
    add(q, RESULT, "r", 2, 0);
    queue_acked(q, &first);
    assert_int_equal(queue_waiting(q), 2);
    scoped(batch_done) struct batch next = peek(q);
    assert_string_equal(id_at(next.exits, 0), "e2");
    assert_string_equal(id_at(next.results, 0), "r2");
    queue_acked(q, &next);
    scoped(batch_done) struct batch empty = peek(q);
    queue_acked(q, &empty);
    assert_int_equal(queue_waiting(q), 0);
    assert_int_equal(queue_dropped(q), 0);
}

static void an_exit_waits_once(void **state)
{
    scoped(queue_freep) struct queue *q = queue();

    (void)state;
    add(q, EXIT, "e", 1, 0);
    add(q, EXIT, "e", 1, 0);
    assert_int_equal(queue_waiting(q), 1);
    scoped(batch_done) struct batch b = peek(q);
    queue_acked(q, &b);
    add(q, EXIT, "e", 1, 0); /* dynod did not hear of it */
    assert_int_equal(queue_waiting(q), 1);
}

static void the_oldest_goes_first(void **state)
{
    scoped(queue_freep) struct queue *q = queue();

    (void)state;
    for (int i = 0; i < QUEUE_OTHERS_MAX; i++)
        add(q, i % 2 ? NOTICE : RESULT, "o", i, 0);
    scoped(batch_done) struct batch before = peek(q);
    for (int i = 0; i < 10; i++)
        add(q, EXIT, "e", i, 0);
    assert_int_equal(queue_dropped(q), 0);
    add(q, NOTICE, "o", 1000, 0);
    add(q, NOTICE, "o", 1001, 0);
    assert_int_equal(queue_dropped(q), 2);
    assert_int_equal(queue_waiting(q), QUEUE_OTHERS_MAX + 10);
    scoped(batch_done) struct batch b = peek(q);
    assert_int_equal(json_array_size(b.exits), 10);
    assert_string_equal(id_at(b.results, 0), "o2");
    assert_string_equal(id_at(b.notices, 0), "o3");
    /* An acknowledgement of what was in flight takes nothing that came later. */
    queue_acked(q, &before);
    scoped(batch_done) struct batch after = peek(q);
    assert_string_equal(id_at(after.results, 0), "o500");
    assert_int_equal(json_array_size(after.exits), 10);
}

static void exits_have_a_limit_of_their_own(void **state)
{
    scoped(queue_freep) struct queue *q = queue();

    (void)state;
    add(q, NOTICE, "n", 1, 0);
    for (int i = 0; i <= QUEUE_EXITS_MAX; i++)
        add(q, EXIT, "e", i, 0);
    assert_int_equal(queue_dropped(q), 1);
    assert_int_equal(queue_waiting(q), QUEUE_EXITS_MAX + 1);
    scoped(batch_done) struct batch b = peek(q);
    assert_string_equal(id_at(b.exits, 0), "e1");
    assert_int_equal(json_array_size(b.exits), BATCH_ITEMS_MAX);
    assert_int_equal(json_array_size(b.notices), 0);
}

/* Room for an exit is made by a result, not by another exit. */
static void bytes_have_a_limit_too(void **state)
{
    scoped(queue_freep) struct queue *q = queue();
    const size_t piece = 1u << 20;
    int n = QUEUE_BYTES_MAX / (1 << 20);

    (void)state;
    add(q, RESULT, "r", 1, piece);
    add(q, RESULT, "r", 2, piece);
    for (int i = 0; i < n - 3; i++)
        add(q, EXIT, "e", i, piece);
    assert_int_equal(queue_dropped(q), 0);
    add(q, EXIT, "e", 100, piece);
    assert_int_equal(queue_dropped(q), 1);
    scoped(batch_done) struct batch b = peek(q);
    assert_string_equal(id_at(b.exits, 0), "e0");
    assert_int_equal(json_array_size(b.exits), 1); /* over the bytes of a report by itself */
}

static void one_report_is_no_larger_than_it_may_be(void **state)
{
    scoped(queue_freep) struct queue *q = queue();

    (void)state;
    for (int i = 0; i < 20; i++)
        add(q, RESULT, "r", i, 100000);
    scoped(batch_done) struct batch b = peek(q);
    assert_int_equal(json_array_size(b.results), 5);
    queue_acked(q, &b);
    assert_int_equal(queue_waiting(q), 15);
}

static void an_exit_has_an_id(void **state)
{
    scoped(queue_freep) struct queue *q = queue();
    scoped(json_freep) json_t *none = json_pack("{s:s}", "app", "a");
    scoped(json_freep) json_t *number = json_pack("{s:i}", "id", 7);
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(queue_exit(q, none, &e), -EINVAL);
    assert_int_equal(queue_exit(q, number, &e), -EINVAL);
    assert_int_equal(queue_waiting(q), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_acknowledged_stays),
        cmocka_unit_test(an_exit_waits_once),
        cmocka_unit_test(the_oldest_goes_first),
        cmocka_unit_test(exits_have_a_limit_of_their_own),
        cmocka_unit_test(bytes_have_a_limit_too),
        cmocka_unit_test(one_report_is_no_larger_than_it_may_be),
        cmocka_unit_test(an_exit_has_an_id),
    };

    return cmocka_run_group_tests_name("link_queue", tests, NULL, NULL);
}
