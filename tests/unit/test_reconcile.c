#include "core/policy/reconcile.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX 24

static uint64_t seed = 88172645463325252u;

static unsigned below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static struct dyno_name name_of(const char *app, const char *type, unsigned num)
{
    struct dyno_name n = {.num = num};

    (void)snprintf(n.app, sizeof(n.app), "%s", app);
    (void)snprintf(n.type, sizeof(n.type), "%s", type);
    return n;
}

static struct dyno_name random_name(void)
{
    static const char *const apps[] = {"a", "ab", "b"};
    static const char *const types[] = {"web", "worker"};

    return name_of(apps[below(3)], types[below(2)], 1 + below(3));
}

static bool same(const struct dyno_name *a, const struct dyno_name *b)
{
    return !strcmp(a->app, b->app) && !strcmp(a->type, b->type) && a->num == b->num;
}

/* What is to happen to have J, said as the header says it and without any cleverness. */
static size_t oracle_have_of(const struct want *w, const struct have *haves, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (same(&haves[i].name, &w->name) && !haves[i].stopping &&
            haves[i].generation == w->generation)
            return i;
    for (size_t i = 0; i < n; i++)
        if (same(&haves[i].name, &w->name) && haves[i].stopping)
            return i;
    for (size_t i = 0; i < n; i++)
        if (same(&haves[i].name, &w->name))
            return i;
    return SIZE_MAX;
}

static size_t oracle(const struct want *wants, size_t n_wants, const struct have *haves,
                     size_t n_haves, bool draining, struct action *out)
{
    size_t n = 0;

    for (size_t j = 0; j < n_haves; j++) {
        bool taken = false;

        for (size_t i = 0; i < n_wants; i++)
            taken |= oracle_have_of(&wants[i], haves, n_haves) == j;
        if (draining && haves[j].idle)
            taken = false;
        if (!taken && !haves[j].stopping)
            out[n++] = (struct action){ACTION_STOP, SIZE_MAX, j};
    }
    if (draining)
        return n;
    for (size_t i = 0; i < n_wants; i++) {
        size_t j = oracle_have_of(&wants[i], haves, n_haves);

        if (j != SIZE_MAX && (haves[j].stopping || haves[j].generation != wants[i].generation))
            out[n++] = (struct action){ACTION_REPLACE, i, j};
    }
    for (size_t i = 0; i < n_wants; i++)
        if (oracle_have_of(&wants[i], haves, n_haves) == SIZE_MAX)
            out[n++] = (struct action){ACTION_START, i, SIZE_MAX};
    return n;
}

static void agrees_with_a_naive_oracle(void **state)
{
    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct want wants[MAX];
        struct have haves[MAX];
        struct action expect[2 * MAX], *got = NULL;
        size_t n_wants = 0, n_haves = below(MAX), n = 99;
        struct err e = ERR_INIT;
        unsigned tries = below(MAX);
        bool draining = below(3) == 0;

        memset(wants, 0, sizeof(wants));
        memset(haves, 0, sizeof(haves));
        for (unsigned t = 0; t < tries; t++) {
            struct dyno_name name = random_name();
            bool known = false;

            for (size_t i = 0; i < n_wants; i++)
                known |= same(&wants[i].name, &name);
            if (!known)
                wants[n_wants++] = (struct want){.name = name, .generation = 1 + below(2)};
        }
        for (size_t j = 0; j < n_haves; j++)
            haves[j] =
                (struct have){random_name(), 1 + below(3), below(3) == 0, .idle = below(3) == 0};
        size_t n_expect = oracle(wants, n_wants, haves, n_haves, draining, expect);
        assert_int_equal(reconcile(wants, n_wants, haves, n_haves, draining, &got, &n, &e), 0);
        assert_int_equal(n, n_expect);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(got[i].kind, expect[i].kind);
            assert_int_equal(got[i].want, expect[i].want);
            assert_int_equal(got[i].have, expect[i].have);
        }
        free(got);
    }
}

static void expect_one_of(const struct want *w, const struct have *h, bool draining,
                          enum action_kind kind)
{
    struct action *got;
    struct err e = ERR_INIT;
    size_t n;

    assert_int_equal(reconcile(w, w ? 1 : 0, h, h ? 1 : 0, draining, &got, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(got[0].kind, kind);
    assert_int_equal(got[0].want, kind == ACTION_STOP ? SIZE_MAX : 0);
    assert_int_equal(got[0].have, kind == ACTION_START ? SIZE_MAX : 0);
    free(got);
}

static void expect_one(const struct want *w, const struct have *h, enum action_kind kind)
{
    expect_one_of(w, h, false, kind);
}

static void expect_none_of(const struct want *w, const struct have *h, bool draining)
{
    struct action *got;
    struct err e = ERR_INIT;
    size_t n = 7;

    assert_int_equal(reconcile(w, w ? 1 : 0, h, h ? 1 : 0, draining, &got, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_null(got);
}

static void expect_none(const struct want *w, const struct have *h)
{
    expect_none_of(w, h, false);
}

static void each_pair_has_its_action(void **state)
{
    struct want w = {.name = name_of("a", "web", 1), .generation = 5};
    struct have h = {.name = name_of("a", "web", 1), .generation = 5};

    (void)state;
    expect_none(NULL, NULL);
    expect_none(&w, &h);
    expect_one(&w, NULL, ACTION_START);
    expect_one(NULL, &h, ACTION_STOP);
    h.generation = 4;
    expect_one(&w, &h, ACTION_REPLACE);
    h.generation = 6; /* of a desired state that was lost */
    expect_one(&w, &h, ACTION_REPLACE);
    h.generation = 5;
    h.stopping = true;
    expect_one(&w, &h, ACTION_REPLACE);
    expect_none(NULL, &h); /* its end is on its way */
}

/* What runs goes on, what does not run does not come back, and what is not wanted goes. */
static void an_instance_that_is_emptied_starts_nothing(void **state)
{
    struct oneoff oneoff = {.num = 7};
    struct want w = {.name = name_of("a", "web", 1), .generation = 5};
    struct want run = {.name = name_of("a", "run", 7), .generation = 5, .oneoff = &oneoff};
    struct have h = {.name = name_of("a", "web", 1), .generation = 5};

    (void)state;
    expect_none_of(&w, NULL, true);
    expect_none_of(&run, NULL, true);
    expect_none_of(&w, &h, true);
    expect_one_of(NULL, &h, true, ACTION_STOP);
    h.generation = 4; /* a new release: the controller's other instances have it */
    expect_none_of(&w, &h, true);
    h.stopping = true;
    expect_none_of(&w, &h, true);
    h.stopping = false;
    h.idle = true; /* it crashed, or still waits for its slug */
    expect_one_of(&w, &h, true, ACTION_STOP);
    h.generation = 5;
    expect_one_of(&w, &h, true, ACTION_STOP);
    expect_none_of(&w, &h, false);
}

/* --- stop_after --- */

#define MINUTE (60 * USEC_PER_SEC)

/* Numbers of those wanted of 1 (always), 2 (one minute), 3 (always), 4 (two minutes). */
static void expect_contact(uint64_t now, uint64_t last, const char *numbers, uint64_t next)
{
    static const unsigned stop_after[] = {0, 60, 0, 120};
    struct want w[4];
    char got[16] = "";
    uint64_t got_next = 1;

    memset(w, 0, sizeof(w));
    for (unsigned i = 0; i < 4; i++) {
        w[i].name = name_of("a", "clock", i + 1);
        w[i].stop_after = stop_after[i];
    }
    size_t n = wants_in_contact(w, 4, now, last, &got_next);
    for (size_t i = 0; i < n; i++)
        (void)snprintf(got + i, sizeof(got) - i, "%u", w[i].name.num);
    assert_string_equal(got, numbers);
    assert_true(got_next == next);
}

static void lost_contact_stops_those_that_asked_for_it(void **state)
{
    uint64_t last = 1000 * MINUTE, next;

    (void)state;
    expect_contact(last, last, "1234", last + MINUTE);
    expect_contact(last + MINUTE - 1, last, "1234", last + MINUTE);
    expect_contact(last + MINUTE, last, "134", last + 2 * MINUTE);
    expect_contact(last + 2 * MINUTE - 1, last, "134", last + 2 * MINUTE);
    expect_contact(last + 2 * MINUTE, last, "13", USEC_NEVER);
    expect_contact(last - 1, last, "1234", last + MINUTE); /* a contact in the meantime */
    expect_contact(1000 * last, 0, "1234", USEC_NEVER);    /* nobody to have contact with */
    expect_contact(UINT64_MAX, last, "13", USEC_NEVER);
    assert_int_equal(wants_in_contact(NULL, 0, last, last, &next), 0);
    assert_true(next == USEC_NEVER);
}

/* Names that only a careless comparison mixes up. */
static void names_are_compared_whole(void **state)
{
    static const struct {
        const char *app, *type;
        unsigned num;
    } names[] = {
        {"a", "web", 1}, {"a", "web", 11},    {"a", "web-1", 1},
        {"aw", "eb", 1}, {"a-web", "web", 1}, {"a", "Web", 1},
    };
    enum { N = sizeof(names) / sizeof(names[0]) };
    struct want w[N];
    struct have h[N];
    struct action *got;
    struct err e = ERR_INIT;
    size_t n;

    (void)state;
    memset(w, 0, sizeof(w));
    memset(h, 0, sizeof(h));
    for (size_t i = 0; i < N; i++) {
        w[i].name = name_of(names[i].app, names[i].type, names[i].num);
        h[N - 1 - i].name = w[i].name;
        w[i].generation = h[N - 1 - i].generation = i + 1;
    }
    assert_int_equal(reconcile(w, N, h, N, false, &got, &n, &e), 0);
    assert_int_equal(n, 0);
}

static void ten_thousand_dynos(void **state)
{
    enum { N = 10000 };
    struct want *w = calloc(N, sizeof(*w));
    struct have *h = calloc(N, sizeof(*h));
    struct action *got;
    struct err e = ERR_INIT;
    size_t n;
    char app[32];

    (void)state;
    assert_non_null(w);
    assert_non_null(h);
    for (unsigned i = 0; i < N; i++) {
        (void)snprintf(app, sizeof(app), "app%u", i % 100);
        w[i].name = name_of(app, "web", i / 100 + 1);
        h[(i * 7919u) % N].name = w[i].name;
    }
    assert_int_equal(reconcile(w, N, h, N, false, &got, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_int_equal(reconcile(w, N, h, N / 2, false, &got, &n, &e), 0);
    assert_int_equal(n, N / 2);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(got[i].kind, ACTION_START);
        assert_true(i == 0 || got[i - 1].want < got[i].want);
    }
    free(got);
    free(w);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pair_has_its_action),
        cmocka_unit_test(an_instance_that_is_emptied_starts_nothing),
        cmocka_unit_test(lost_contact_stops_those_that_asked_for_it),
        cmocka_unit_test(names_are_compared_whole),
        cmocka_unit_test(agrees_with_a_naive_oracle),
        cmocka_unit_test(ten_thousand_dynos),
    };

    return cmocka_run_group_tests_name("reconcile", tests, NULL, NULL);
}
