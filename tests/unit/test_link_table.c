#include "link/table.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *dyno(const char *app, const char *name, const char *state_name, int port)
{
    json_t *d =
        json_pack("{s:s,s:s,s:s,s:i,s:s,s:b,s:s,s:i,s:s,s:i}", "app", app, "dyno", name, "type",
                  "web", "release", 42, "state", state_name, "up", !strcmp(state_name, "up"),
                  "address", "10.0.3.7", "port", port, "run", "r1", "restarts", 0);

    assert_non_null(d);
    return d;
}

static void put(struct table *t, json_t *taken)
{
    scoped(json_freep) json_t *d = taken;
    struct err e = ERR_INIT;

    assert_int_equal(table_put(t, d, &e), 0);
}

static struct table *table(void)
{
    struct table *t = NULL;
    struct err e = ERR_INIT;

    assert_int_equal(table_new(&t, &e), 0);
    return t;
}

/* Worked out by hand (sha256sum), not by this program. */
static void the_hash_is_the_one_of_the_protocol(void **state)
{
    scoped(table_freep) struct table *t = table();
    struct err e = ERR_INIT;

    (void)state;
    /* printf '' | sha256sum */
    assert_string_equal(table_hash(t), "e3b0c44298fc1c14");
    /* printf 'shop/web.3 42 up 1 10.0.3.7 20011 shop.web.3.1a2b3c\n' | sha256sum */
    scoped(json_freep) json_t *web = dyno("shop", "web.3", "up", 20011);
    assert_int_equal(json_object_set_new(web, "run", json_string("shop.web.3.1a2b3c")), 0);
    assert_int_equal(table_put(t, web, &e), 0);
    assert_string_equal(table_hash(t), "44be6cb2a328334e");
    /* With what is empty, and in the order of the lines' bytes: web.10 before web.3.
     * printf 'shop/web.10 7 starting 0 - 0 -\nshop/web.3 42 up 1 10.0.3.7 20011
     * shop.web.3.1a2b3c\n'
     */
    scoped(json_freep) json_t *plain =
        json_pack("{s:s,s:s,s:i,s:s,s:b,s:s,s:n,s:n}", "app", "shop", "dyno", "web.10", "release",
                  7, "state", "starting", "up", 0, "address", "", "port", "run");
    assert_int_equal(table_put(t, plain, &e), 0);
    assert_string_equal(table_hash(t), "019973bfb8485049");
}

static void what_changes_nothing_makes_no_generation(void **state)
{
    scoped(table_freep) struct table *t = table();
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(table_generation(t), 1);
    put(t, dyno("shop", "web.1", "up", 1));
    assert_int_equal(table_generation(t), 2);
    put(t, dyno("shop", "web.1", "up", 1));
    assert_int_equal(table_remove(t, "shop/web.2", &e), 0);
    assert_int_equal(table_generation(t), 2);
    scoped(json_freep) json_t *same = json_pack("[o]", dyno("shop", "web.1", "up", 1));
    assert_int_equal(table_replace(t, same, &e), 0);
    assert_int_equal(table_generation(t), 2);
    assert_int_equal(table_remove(t, "shop/web.1", &e), 0);
    assert_int_equal(table_remove(t, "shop/web.1", &e), 0);
    assert_int_equal(table_generation(t), 3);
}

static void since(struct table *t, uint64_t from, size_t n_dynos, size_t n_gone)
{
    scoped(json_freep) json_t *dynos = NULL;
    scoped(json_freep) json_t *gone = NULL;
    struct err e = ERR_INIT;

    assert_int_equal(table_since(t, from, &dynos, &gone, &e), 0);
    assert_int_equal(json_array_size(dynos), n_dynos);
    assert_int_equal(json_array_size(gone), n_gone);
}

static void a_difference_has_what_it_takes(void **state)
{
    scoped(table_freep) struct table *t = table();
    scoped(json_freep) json_t *dynos = NULL;
    scoped(json_freep) json_t *gone = NULL;
    struct err e = ERR_INIT;

    (void)state;
    put(t, dyno("a", "web.1", "up", 1)); /* 2 */
    put(t, dyno("a", "web.2", "up", 2)); /* 3 */
    put(t, dyno("a", "web.3", "up", 3)); /* 4 */
    since(t, 1, 3, 0);
    since(t, 4, 0, 0);
    put(t, dyno("a", "web.2", "stopping", 2));           /* 5 */
    assert_int_equal(table_remove(t, "a/web.1", &e), 0); /* 6 */
    since(t, 4, 1, 1);
    since(t, 5, 0, 1);
    put(t, dyno("a", "web.1", "up", 9)); /* it is there again */
    assert_int_equal(table_since(t, 4, &dynos, &gone, &e), 0);
    assert_int_equal(json_array_size(dynos), 2);
    assert_int_equal(json_array_size(gone), 0);
    scoped(json_freep) json_t *all = table_all(t);
    assert_int_equal(json_array_size(all), 3);
}

static void what_is_settled_is_forgotten(void **state)
{
    scoped(table_freep) struct table *t = table();
    json_t *dynos = NULL, *gone = NULL;
    struct err e = ERR_INIT;

    (void)state;
    put(t, dyno("a", "web.1", "up", 1));
    put(t, dyno("a", "web.2", "up", 2));
    assert_int_equal(table_remove(t, "a/web.1", &e), 0); /* 4 */
    assert_int_equal(table_remove(t, "a/web.2", &e), 0); /* 5 */
    table_settle(t, 4);
    since(t, 4, 0, 1);
    assert_int_equal(table_since(t, 3, &dynos, &gone, &e), -ESTALE);
    assert_int_equal(table_since(t, 6, &dynos, &gone, &e), -ESTALE);
    assert_null(dynos);
}

/* A controller that is away while one-offs come and go costs a bounded memory. */
static void too_many_that_are_gone_mean_tell_all(void **state)
{
    scoped(table_freep) struct table *t = table();
    json_t *dynos = NULL, *gone = NULL;
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 1; i <= TABLE_GONE_MAX; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "run.%d", i);
        put(t, dyno("a", name, "up", 0));
        (void)snprintf(name, sizeof(name), "a/run.%d", i);
        assert_int_equal(table_remove(t, name, &e), 0);
    }
    since(t, 1, 0, TABLE_GONE_MAX);
    put(t, dyno("a", "run.99999", "up", 0));
    assert_int_equal(table_remove(t, "a/run.99999", &e), 0);
    assert_int_equal(table_since(t, 1, &dynos, &gone, &e), -ESTALE);
}

static void a_snapshot_is_all_there_is(void **state)
{
    scoped(table_freep) struct table *t = table();
    struct err e = ERR_INIT;

    (void)state;
    put(t, dyno("a", "web.1", "up", 1));
    put(t, dyno("a", "web.2", "up", 2));
    scoped(json_freep) json_t *next =
        json_pack("[o,o]", dyno("a", "web.2", "up", 2), dyno("b", "web.1", "up", 3));
    assert_int_equal(table_replace(t, next, &e), 0);
    assert_int_equal(table_generation(t), 4);
    since(t, 3, 1, 1);
}

static void refused(const char *text)
{
    scoped(table_freep) struct table *t = table();
    scoped(json_freep) json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    struct err e = ERR_INIT;

    assert_non_null(j);
    assert_int_equal(table_put(t, j, &e), -EINVAL);
    scoped(json_freep) json_t *list = json_pack("[O]", j);
    assert_int_equal(table_replace(t, list, &e), -EINVAL);
    assert_int_equal(table_generation(t), 1);
}

static void what_is_no_dyno_is_refused(void **state)
{
    (void)state;
    refused("7");
    refused("{}");
    refused("{\"app\":\"a\",\"dyno\":\"web.1\"}");
    refused("{\"app\":\"A\",\"dyno\":\"web.1\",\"release\":1,\"state\":\"up\",\"up\":true}");
    refused("{\"app\":\"a\",\"dyno\":\"web\",\"release\":1,\"state\":\"up\",\"up\":true}");
    refused("{\"app\":\"a\",\"dyno\":\"web.1\",\"release\":\"1\",\"state\":\"up\",\"up\":true}");
    refused("{\"app\":\"a\",\"dyno\":\"web.1\",\"release\":1,\"state\":\"up\",\"up\":1}");
    refused("{\"app\":\"a\",\"dyno\":\"web.1\",\"release\":1,\"state\":5,\"up\":true}");
    refused("{\"app\":\"a\",\"dyno\":\"web.1\",\"release\":1,\"state\":\"up\",\"up\":true,"
            "\"port\":\"1\"}");
    refused("{\"app\":\"a\",\"dyno\":\"web.1\",\"release\":1,\"state\":\"up\",\"up\":true,"
            "\"address\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_is_the_one_of_the_protocol),
        cmocka_unit_test(what_changes_nothing_makes_no_generation),
        cmocka_unit_test(a_difference_has_what_it_takes),
        cmocka_unit_test(what_is_settled_is_forgotten),
        cmocka_unit_test(too_many_that_are_gone_mean_tell_all),
        cmocka_unit_test(a_snapshot_is_all_there_is),
        cmocka_unit_test(what_is_no_dyno_is_refused),
    };

    return cmocka_run_group_tests_name("link_table", tests, NULL, NULL);
}
