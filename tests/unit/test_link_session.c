/* The session against a backend that the test plays: each call waits until the test answers it.
 * Time passes only while the session waits. */
#include "link/session.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "virtual_time.h"

#define PATIENCE (5 * USEC_PER_SEC)

enum verb { ENLIST, COMMANDS, REPORT, HEARTBEAT, VERBS };

struct fake_call {
    struct backend_call base;
    enum verb verb;
    bool open;
    json_t *body;
    char url[64], session[64];
    uint64_t seq, after, wait_usec, at;
    backend_done_fn fn;
    void *userdata;
};

struct fake {
    struct backend base;
    struct fake_call calls[VERBS]; /* the last of each */
    unsigned n[VERBS];
};

struct world {
    sd_event *loop;
    struct session *s;
    struct fake fake;
    json_t *commands; /* handed over */
    json_t *acked;
    json_t *status;
    unsigned n_contacts, n_status, n_renew;
    uint64_t ttl, ago;
};

/* The ops have no place for userdata at open: one world at a time. */
static struct world *the_world;

/* --- the backend --------------------------------------------------------------------------------
 */

static int fake_open(const struct backend_setup *setup, struct backend **ret, struct err *e)
{
    (void)setup;
    (void)e;
    *ret = &the_world->fake.base;
    return 0;
}

static void call_clear(struct fake_call *c)
{
    json_decref(c->body);
    *c = (struct fake_call){0};
}

static void fake_close(struct backend *b)
{
    (void)b;
    for (int i = 0; i < VERBS; i++)
        call_clear(&the_world->fake.calls[i]);
}

static void fake_use_files(struct backend *b, const struct files *files)
{
    (void)b;
    (void)files;
}

static int fake_call(enum verb verb, const struct backend_request *rq, backend_done_fn fn,
                     void *userdata, struct backend_call **ret)
{
    struct fake_call *c = &the_world->fake.calls[verb];

    assert_false(c->open);
    call_clear(c);
    c->verb = verb;
    c->open = true;
    c->body = json_deep_copy(rq->body);
    (void)snprintf(c->url, sizeof(c->url), "%s", rq->url);
    (void)snprintf(c->session, sizeof(c->session), "%s", rq->session ? rq->session : "");
    c->seq = rq->seq;
    c->after = rq->after;
    c->wait_usec = rq->wait_usec;
    c->fn = fn;
    c->userdata = userdata;
    c->at = clock_boot();
    the_world->fake.n[verb]++;
    *ret = &c->base;
    return 0;
}

#define FAKE(name, verb)                                                                           \
    static int name(struct backend *b, const struct backend_request *rq, backend_done_fn fn,       \
                    void *userdata, struct backend_call **ret, struct err *e)                      \
    {                                                                                              \
        (void)b;                                                                                   \
        (void)e;                                                                                   \
        return fake_call(verb, rq, fn, userdata, ret);                                             \
    }
FAKE(fake_enlist, ENLIST)
FAKE(fake_commands, COMMANDS)
FAKE(fake_report, REPORT)
FAKE(fake_heartbeat, HEARTBEAT)

static void fake_cancel(struct backend_call *call)
{
    if (call)
        ((struct fake_call *)call)->open = false;
}

static const struct backend_ops fake_ops = {
    .open = fake_open,
    .close = fake_close,
    .use_files = fake_use_files,
    .enlist = fake_enlist,
    .commands = fake_commands,
    .report = fake_report,
    .heartbeat = fake_heartbeat,
    .cancel = fake_cancel,
};

/* --- dynod --------------------------------------------------------------------------------------
 */

static void on_command(void *userdata, const char *store, json_t *command)
{
    struct world *w = userdata;

    assert_non_null(store);
    assert_int_equal(json_array_append(w->commands, command), 0);
}

static void on_acked(void *userdata, json_t *ids)
{
    struct world *w = userdata;

    assert_int_equal(json_array_extend(w->acked, ids), 0);
}

static void on_contact(void *userdata, uint64_t ttl_usec, uint64_t ago_usec)
{
    struct world *w = userdata;

    w->n_contacts++;
    w->ttl = ttl_usec;
    w->ago = ago_usec;
}

static void on_status(void *userdata, json_t *status)
{
    struct world *w = userdata;

    w->n_status++;
    json_decref(w->status);
    w->status = json_incref(status);
}

static void on_renew_files(void *userdata)
{
    struct world *w = userdata;

    w->n_renew++;
}

static void on_address(void *userdata, const char *address)
{
    (void)userdata;
    (void)address;
}

static const struct session_ops ops = {on_command, on_acked,       on_contact,
                                       on_status,  on_renew_files, on_address};

/* --- the world of one test ----------------------------------------------------------------------
 */

static json_t *dyno(const char *name, const char *what)
{
    json_t *d = json_pack("{s:s,s:s,s:s,s:i,s:s,s:b,s:s,s:i,s:s}", "app", "shop", "dyno", name,
                          "type", "web", "release", 1, "state", what, "up", !strcmp(what, "up"),
                          "address", "10.0.0.1", "port", 20001, "run", "r");

    assert_non_null(d);
    return d;
}

static json_t *first_frame(const char *urls)
{
    scoped(json_freep) json_t *list = json_loads(urls, 0, NULL);
    json_t *start =
        json_pack("{s:s,s:s,s:s,s:O,s:{s:s},s:{s:i},s:{s:s,s:i},s:{s:b,s:n,s:n}}", "agent", "a1",
                  "version", "0.2.0", "epoch", "6f0c1b2d3e4f5a6b", "controllers", list, "labels",
                  "zone", "a", "capacity", "dynos", 10, "control", "store", "db-1", "generation",
                  41, "instance", "draining", 0, "deadline", "reason");

    assert_non_null(start);
    return start;
}

/* Everything but the identity. */
static struct world *world_before(const char *urls)
{
    struct world *w = calloc(1, sizeof(*w));
    scoped(json_freep) json_t *start = first_frame(urls);
    struct err e = ERR_INIT;

    assert_non_null(w);
    the_world = w;
    w->commands = json_array();
    w->acked = json_array();
    assert_true(sd_event_new(&w->loop) >= 0);
    struct session_setup setup = {
        .loop = w->loop, .start = start, .ops = &ops, .userdata = w, .backend = &fake_ops};
    assert_int_equal(session_new(&setup, &w->s, &e), 0);
    return w;
}

static void begin(struct world *w)
{
    struct files files = {0};
    struct err e = ERR_INIT;
    scoped(json_freep) json_t *dynos = json_pack("[o]", dyno("web.1", "up"));

    session_files(w->s, &files);
    assert_int_equal(session_snapshot(w->s, dynos, &e), 0);
    assert_int_equal(session_identify(w->s, "a1", NULL, "10.0.0.1", NULL, &e), 0);
}

static void world_free(struct world **wp)
{
    struct world *w = *wp;

    session_freep(&w->s);
    json_decref(w->commands);
    json_decref(w->acked);
    json_decref(w->status);
    sd_event_unref(w->loop);
    free(w);
}

/* Runs the loop for USEC. */
static void run_for(struct world *w, uint64_t usec)
{
    uint64_t end = clock_boot() + usec;

    for (uint64_t now; (now = clock_boot()) < end;)
        assert_true(sd_event_run(w->loop, end - now) >= 0);
}

static struct fake_call *await(struct world *w, enum verb verb)
{
    uint64_t end = clock_boot() + PATIENCE;

    while (!w->fake.calls[verb].open) {
        assert_true(clock_boot() < end);
        assert_true(sd_event_run(w->loop, 10 * USEC_PER_MSEC) >= 0);
    }
    return &w->fake.calls[verb];
}

static void reply(struct fake_call *c, const struct backend_reply *r)
{
    assert_true(c->open);
    c->open = false;
    c->fn(c->userdata, r);
}

static void fail_as(struct fake_call *c, enum backend_code code, const char *kind,
                    uint64_t retry_after)
{
    struct err why = ERR_INIT;

    (void)err_say(&why, EIO, "%s did not work", c->url);
    reply(c, &(struct backend_reply){
                 .code = code, .why = &why, .kind = kind, .retry_after_usec = retry_after});
}

static void registered(struct world *w, const char *session, const char *store,
                       uint64_t heartbeat_ms)
{
    struct backend_timing t = {heartbeat_ms * USEC_PER_MSEC, 2 * heartbeat_ms * USEC_PER_MSEC,
                               2 * USEC_PER_SEC};

    reply(await(w, ENLIST),
          &(struct backend_reply){BACKEND_OK, .session = session, .store = store, .timing = &t});
}

static struct world *world(void)
{
    struct world *w = world_before("[\"https://a\"]");

    begin(w);
    registered(w, "s-1", "db-1", 60000);
    return w;
}

static void ok(struct fake_call *c)
{
    struct backend_timing t = {60 * USEC_PER_SEC, 120 * USEC_PER_SEC, 2 * USEC_PER_SEC};

    reply(c, &(struct backend_reply){BACKEND_OK, .timing = &t});
}

static void answer_commands(struct fake_call *c, const char *text)
{
    scoped(json_freep) json_t *list = json_loads(text, 0, NULL);

    assert_non_null(list);
    reply(c, &(struct backend_reply){BACKEND_OK, .commands = list});
}

static void result(struct world *w, const char *text)
{
    scoped(json_freep) json_t *j = json_loads(text, 0, NULL);
    struct err e = ERR_INIT;

    assert_non_null(j);
    assert_int_equal(session_result(w->s, j, &e), 0);
}

static void add_exit(struct world *w, const char *id)
{
    scoped(json_freep) json_t *j = json_pack("{s:s,s:s}", "id", id, "app", "shop");
    struct err e = ERR_INIT;

    assert_int_equal(session_exit(w->s, j, &e), 0);
}

static void set_dyno(struct world *w, const char *name, const char *what)
{
    scoped(json_freep) json_t *d = dyno(name, what);
    struct err e = ERR_INIT;

    assert_int_equal(session_dyno(w->s, d, &e), 0);
}

/* --- registration -------------------------------------------------------------------------------
 */

static void nothing_is_sent_before_all_is_there(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");
    struct files files = {0};
    struct err e = ERR_INIT;
    scoped(json_freep) json_t *dynos = json_array();

    (void)state;
    assert_int_equal(session_identify(w->s, "a b", NULL, "", NULL, &e), -EINVAL);
    assert_int_equal(session_identify(w->s, "a1", NULL, "", NULL, &e), 0);
    assert_int_equal(session_snapshot(w->s, dynos, &e), 0);
    run_for(w, 20 * USEC_PER_MSEC);
    assert_int_equal(w->fake.n[ENLIST], 0);
    session_files(w->s, &files);
    assert_int_equal(w->fake.n[ENLIST], 1);
    assert_string_equal(json_str(w->status, "state", ""), "connecting");
}

static void a_registration_says_it_all(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");
    scoped(json_freep) json_t *labels = json_pack("{s:s,s:s}", "zone", "x", "type", "m6i");
    scoped(json_freep) json_t *document = json_pack("{s:s}", "document", "d");
    scoped(json_freep) json_t *dynos = json_pack("[o]", dyno("web.1", "up"));
    struct files files = {0};
    struct err e = ERR_INIT;

    (void)state;
    session_files(w->s, &files);
    assert_int_equal(session_snapshot(w->s, dynos, &e), 0);
    assert_int_equal(session_identify(w->s, "i-0abc", labels, "10.0.3.7", document, &e), 0);
    struct fake_call *c = await(w, ENLIST);
    json_object_del(json_object_get(c->body, "state"), "hash");
    scoped(json_freep) json_t *want = json_pack(
        "{s:s,s:s,s:s,s:s,s:i,s:{s:i},s:{s:s,s:s},s:s,s:{s:b,s:n,s:n},s:{s:i,s:O},s:{s:s}}",
        "agent", "i-0abc", "version", "0.2.0", "epoch", "6f0c1b2d3e4f5a6b", "store", "db-1",
        "generation", 41, "capacity", "dynos", 10, "labels", "zone", "a", "type", "m6i", "address",
        "10.0.3.7", "instance", "draining", 0, "deadline", "reason", "state", "generation", 2,
        "dynos", dynos, "document", "document", "d");
    assert_true(json_equal(c->body, want));
    registered(w, "s-1", "db-1", 60000);
    assert_int_equal(w->n_contacts, 1);
    assert_int_equal(w->ttl, 120 * USEC_PER_SEC);
    c = await(w, COMMANDS);
    assert_int_equal(c->after, 41);
    assert_int_equal(c->wait_usec, 2 * USEC_PER_SEC);
    assert_string_equal(c->session, "s-1");
    run_for(w, REPORT_BATCH_USEC + 50 * USEC_PER_MSEC); /* all of it has been told */
    assert_int_equal(w->fake.n[REPORT], 0);
    assert_string_equal(json_str(w->status, "state", ""), "registered");
    assert_string_equal(json_str(w->status, "session", ""), "s-1");
}

static void a_session_that_is_forgotten_begins_anew(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    add_exit(w, "e1");
    struct fake_call *c = await(w, REPORT);
    assert_int_equal(c->seq, 1);
    fail_as(c, BACKEND_FORGOTTEN, "session-lost", 0);
    assert_false(w->fake.calls[COMMANDS].open); /* of a session that is no more */
    assert_int_equal(w->fake.n[ENLIST], 2);     /* at once */
    registered(w, "s-2", "db-1", 60000);
    c = await(w, REPORT);
    assert_string_equal(c->session, "s-2");
    assert_int_equal(c->seq, 1);
    assert_int_equal(json_array_size(json_object_get(c->body, "exits")), 1);
    ok(c);
    assert_int_equal(json_array_size(w->acked), 1);
}

/* One that forgets each session as soon as it has given it out. */
static void forgetting_is_no_loop(void **state)
{
    scoped(world_free) struct world *w = world();
    uint64_t end = clock_boot() + USEC_PER_SEC;

    (void)state;
    while (clock_boot() < end) {
        if (w->fake.calls[ENLIST].open)
            registered(w, "s-x", "db-1", 60000);
        if (w->fake.calls[COMMANDS].open)
            fail_as(&w->fake.calls[COMMANDS], BACKEND_FORGOTTEN, "session-lost", 0);
        assert_true(sd_event_run(w->loop, USEC_PER_MSEC) >= 0);
    }
    assert_in_range(w->fake.n[ENLIST], 2, 40);
    assert_true(json_int(json_object_get(w->status, "counts"), "session-lost", 0) > 0);
}

/* --- reports ------------------------------------------------------------------------------------
 */

static void changes_are_gathered_into_one_report(void **state)
{
    scoped(world_free) struct world *w = world();
    struct err e = ERR_INIT;
    uint64_t begun = clock_boot();

    (void)state;
    set_dyno(w, "web.2", "starting");
    run_for(w, 50 * USEC_PER_MSEC);
    set_dyno(w, "web.2", "up");
    assert_int_equal(session_gone(w->s, "shop/web.1", &e), 0);
    struct fake_call *c = await(w, REPORT);
    assert_true(c->at - begun >= REPORT_BATCH_USEC);
    assert_true(c->at - begun < REPORT_BATCH_USEC + 100 * USEC_PER_MSEC);
    assert_int_equal(json_int(c->body, "from", 0), 2);
    assert_int_equal(json_int(c->body, "generation", 0), 5);
    assert_int_equal(json_array_size(json_object_get(c->body, "dynos")), 1);
    assert_int_equal(json_array_size(json_object_get(c->body, "gone")), 1);
    assert_null(json_object_get(c->body, "exits"));
    assert_null(json_object_get(c->body, "instance"));
    /* One at a time, and what comes meanwhile is for the next. */
    set_dyno(w, "web.2", "stopping");
    run_for(w, REPORT_BATCH_USEC + 50 * USEC_PER_MSEC);
    assert_int_equal(w->fake.n[REPORT], 1);
    ok(c);
    c = await(w, REPORT);
    assert_int_equal(c->seq, 2);
    assert_int_equal(json_int(c->body, "from", 0), 5);
    assert_int_equal(json_int(c->body, "generation", 0), 6);
}

static void a_report_is_repeated_as_it_was(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    add_exit(w, "e1");
    struct fake_call *c = await(w, REPORT);
    scoped(json_freep) json_t *first = json_incref(c->body);
    fail_as(c, BACKEND_FAILED, "timeout", 0);
    add_exit(w, "e2");
    set_dyno(w, "web.9", "up");
    c = await(w, REPORT);
    assert_int_equal(c->seq, 1);
    assert_true(json_equal(c->body, first));
    assert_int_equal(json_array_size(w->acked), 0);
    ok(c);
    assert_int_equal(json_array_size(w->acked), 1);
    assert_string_equal(json_string_value(json_array_get(w->acked, 0)), "e1");
    c = await(w, REPORT);
    assert_int_equal(c->seq, 2);
    assert_string_equal(json_str(json_array_get(json_object_get(c->body, "exits"), 0), "id", ""),
                        "e2");
}

static void everything_is_told_when_asked_for(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    set_dyno(w, "web.2", "up");
    reply(await(w, REPORT), &(struct backend_reply){BACKEND_OK, .snapshot = true});
    struct fake_call *c = await(w, REPORT);
    assert_true(json_bool(c->body, "snapshot", false));
    assert_int_equal(json_array_size(json_object_get(c->body, "dynos")), 2);
    ok(c);
    run_for(w, REPORT_BATCH_USEC + 50 * USEC_PER_MSEC);
    assert_int_equal(w->fake.n[REPORT], 2); /* once */
}

static void the_instance_is_told_when_it_changes(void **state)
{
    scoped(world_free) struct world *w = world();
    scoped(json_freep) json_t *same =
        json_pack("{s:b,s:n,s:n}", "draining", 0, "deadline", "reason");
    scoped(json_freep) json_t *j =
        json_pack("{s:b,s:n,s:s}", "draining", 1, "deadline", "reason", "operator");
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(session_instance(w->s, same, &e), 0);
    run_for(w, REPORT_BATCH_USEC + 50 * USEC_PER_MSEC);
    assert_int_equal(w->fake.n[REPORT], 0);
    assert_int_equal(session_instance(w->s, j, &e), 0);
    struct fake_call *c = await(w, REPORT);
    assert_true(json_equal(json_object_get(c->body, "instance"), j));
    assert_null(json_object_get(c->body, "dynos"));
}

static void an_instance_that_changes_while_it_registers_is_told_of(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");
    scoped(json_freep) json_t *j =
        json_pack("{s:b,s:n,s:s}", "draining", 1, "deadline", "reason", "spot");
    struct err e = ERR_INIT;

    (void)state;
    begin(w);
    struct fake_call *c = await(w, ENLIST);
    assert_int_equal(session_instance(w->s, j, &e), 0);
    assert_false(json_equal(json_object_get(c->body, "instance"), j));
    registered(w, "s-1", "db-1", 60000);
    c = await(w, REPORT);
    assert_true(json_equal(json_object_get(c->body, "instance"), j));
}

/* --- heartbeats ---------------------------------------------------------------------------------
 */

static void heartbeats_go_where_no_report_does(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");

    (void)state;
    begin(w);
    registered(w, "s-1", "db-1", 300);
    uint64_t begun = clock_boot();
    struct fake_call *c = await(w, HEARTBEAT);
    assert_in_range(c->at - begun, 200 * USEC_PER_MSEC, 400 * USEC_PER_MSEC);
    assert_int_equal(json_int(c->body, "seq", 0), 1);
    assert_int_equal(json_int(c->body, "generation", 0), 2);
    assert_int_equal(strlen(json_str(c->body, "hash", "")), 16);
    assert_int_equal(json_array_size(json_object_get(c->body, "load")), 3);
    /* While one is under way no report goes: it would make the heartbeat's hash a lie. */
    set_dyno(w, "web.2", "up");
    run_for(w, REPORT_BATCH_USEC + 100 * USEC_PER_MSEC);
    assert_int_equal(w->fake.n[REPORT], 0);
    struct backend_timing t = {400 * USEC_PER_MSEC, 800 * USEC_PER_MSEC, 2 * USEC_PER_SEC};
    reply(c, &(struct backend_reply){BACKEND_OK, .timing = &t});
    c = await(w, REPORT);
    run_for(w, 500 * USEC_PER_MSEC); /* nor a heartbeat while a report is */
    assert_int_equal(w->fake.n[HEARTBEAT], 1);
    begun = c->at;
    reply(c, &(struct backend_reply){BACKEND_OK});
    c = await(w, HEARTBEAT);
    assert_true(c->at - begun >= 400 * USEC_PER_MSEC); /* the report was as good as one */
    assert_int_equal(json_int(c->body, "generation", 0), 3);
}

/* What the longest ids that there are in practice come to: an EC2 instance, a UUID for the session,
 * a hundred million heartbeats. */
static void a_heartbeat_is_small(void **state)
{
    scoped(json_freep) json_t *start = first_frame("[\"https://a\"]");
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");
    scoped(json_freep) json_t *dynos = json_array();
    struct files files = {0};
    struct err e = ERR_INIT;

    (void)state;
    session_files(w->s, &files);
    assert_int_equal(session_snapshot(w->s, dynos, &e), 0);
    assert_int_equal(session_identify(w->s, "i-0123456789abcdef0", NULL, "10.0.0.1", NULL, &e), 0);
    registered(w, "123e4567-e89b-42d3-a456-426614174000", "db-1", 100);
    struct fake_call *c = await(w, HEARTBEAT);
    assert_int_equal(json_object_set_new(c->body, "seq", json_integer(99999999)), 0);
    assert_int_equal(json_object_set_new(c->body, "generation", json_integer(9999999)), 0);
    assert_int_equal(
        json_object_set_new(c->body, "load", json_pack("[f,f,f]", 100.5, 100.5, 100.5)), 0);
    size_t len = json_dumpb(c->body, NULL, 0, JSON_COMPACT | JSON_REAL_PRECISION(15));
    print_message("a heartbeat of %zu bytes\n", len);
    assert_true(len < 200);
}

/* --- commands -----------------------------------------------------------------------------------
 */

static void commands_are_handed_over_one_by_one(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    answer_commands(await(w, COMMANDS), "[{\"id\":\"c-1\",\"generation\":42,\"op\":\"start\"},"
                                        " {\"id\":\"c-2\",\"generation\":45,\"op\":\"x\"}]");
    assert_int_equal(json_array_size(w->commands), 1);
    run_for(w, 20 * USEC_PER_MSEC);
    assert_false(w->fake.calls[COMMANDS].open);
    /* The result of something else is not this one's. */
    result(w, "{\"id\":\"c-0\",\"generation\":40,\"status\":\"done\",\"settled\":true}");
    assert_int_equal(json_array_size(w->commands), 1);
    result(w, "{\"id\":\"c-1\",\"generation\":42,\"status\":\"done\",\"settled\":true}");
    assert_int_equal(json_array_size(w->commands), 2);
    assert_string_equal(json_str(json_array_get(w->commands, 1), "op", ""), "x");
    result(w, "{\"id\":\"c-2\",\"generation\":45,\"status\":\"refused\",\"settled\":true,"
              "\"error\":{\"code\":\"unknown-op\"}}");
    /* The next poll is open before the loop turns. */
    assert_true(w->fake.calls[COMMANDS].open);
    assert_int_equal(w->fake.calls[COMMANDS].after, 45);
    struct fake_call *c = await(w, REPORT);
    json_t *results = json_object_get(c->body, "results");
    assert_int_equal(json_array_size(results), 3);
    assert_null(json_object_get(json_array_get(results, 1), "settled"));
}

static void what_could_not_be_done_is_asked_for_again(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    answer_commands(await(w, COMMANDS), "[{\"id\":\"c-1\",\"generation\":42},"
                                        " {\"id\":\"c-2\",\"generation\":43}]");
    result(w, "{\"id\":\"c-1\",\"generation\":42,\"status\":\"failed\",\"settled\":false}");
    assert_int_equal(json_array_size(w->commands), 1); /* those after it wait for it */
    struct fake_call *c = await(w, COMMANDS);
    assert_int_equal(c->after, 41);
    answer_commands(c, "[{\"id\":\"c-1\",\"generation\":42}]");
    result(w, "{\"id\":\"c-1\",\"generation\":42,\"status\":\"done\",\"settled\":true}");
    assert_int_equal(await(w, COMMANDS)->after, 42);
}

static unsigned polls_within(struct world *w, uint64_t usec, const char *answer, const char *told)
{
    uint64_t end = clock_boot() + usec;
    unsigned before = w->fake.n[COMMANDS];

    while (clock_boot() < end) {
        if (w->fake.calls[COMMANDS].open) {
            size_t had = json_array_size(w->commands);

            answer_commands(&w->fake.calls[COMMANDS], answer);
            if (json_array_size(w->commands) > had)
                result(w, told);
        }
        assert_true(sd_event_run(w->loop, USEC_PER_MSEC) >= 0);
    }
    return w->fake.n[COMMANDS] - before;
}

static void a_controller_that_does_not_wait_is_not_asked_in_a_loop(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    assert_in_range(polls_within(w, 1500 * USEC_PER_MSEC, "[]", NULL), 1, 2);
    assert_in_range(
        polls_within(w, 1500 * USEC_PER_MSEC, "[{\"id\":\"c-1\",\"generation\":3}]",
                     "{\"id\":\"c-1\",\"generation\":3,\"status\":\"stale\",\"settled\":true}"),
        1, 2);
    /* One that has no generation at all moves nothing either. */
    assert_in_range(polls_within(w, 1500 * USEC_PER_MSEC, "[{\"id\":5}]",
                                 "{\"id\":\"\",\"status\":\"refused\",\"settled\":true}"),
                    1, 2);
}

/* One that has waited as it should is asked again at once. */
static void a_poll_follows_a_poll(void **state)
{
    scoped(world_free) struct world *w = world();
    struct fake_call *c = await(w, COMMANDS);

    (void)state;
    run_for(w, 1100 * USEC_PER_MSEC); /* of the two seconds */
    answer_commands(c, "[]");
    assert_true(w->fake.calls[COMMANDS].open);
}

static void another_store_is_a_conflict(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");

    (void)state;
    begin(w);
    registered(w, "s-1", "db-2", 60000);
    assert_int_equal(await(w, COMMANDS)->after, 0); /* its numbers are its own */
    answer_commands(await(w, COMMANDS), "[{\"id\":\"c-1\",\"generation\":7}]");
    result(w, "{\"id\":\"c-1\",\"generation\":7,\"status\":\"refused\",\"settled\":true,"
              "\"error\":{\"code\":\"wrong-store\"}}");
    assert_int_equal(await(w, COMMANDS)->after, 7);
    run_for(w, STATUS_USEC + 50 * USEC_PER_MSEC);
    assert_string_equal(json_str(w->status, "state", ""), "conflict");
    /* It still obeys the other. */
    fail_as(await(w, COMMANDS), BACKEND_FORGOTTEN, "session-lost", 0);
    struct fake_call *c = await(w, ENLIST);
    assert_string_equal(json_str(c->body, "store", ""), "db-1");
    assert_int_equal(json_int(c->body, "generation", 0), 41);
    registered(w, "s-2", "db-2", 60000);
    assert_int_equal(await(w, COMMANDS)->after, 7);
    /* Until one of its commands is carried out: a sync that replaces. */
    answer_commands(await(w, COMMANDS), "[{\"id\":\"c-2\",\"generation\":8}]");
    result(w, "{\"id\":\"c-2\",\"generation\":8,\"status\":\"done\",\"settled\":true}");
    run_for(w, STATUS_USEC + 50 * USEC_PER_MSEC);
    assert_string_equal(json_str(w->status, "state", ""), "registered");
    fail_as(await(w, COMMANDS), BACKEND_FORGOTTEN, "session-lost", 0);
    c = await(w, ENLIST);
    assert_string_equal(json_str(c->body, "store", ""), "db-2");
    assert_int_equal(json_int(c->body, "generation", 0), 8);
}

/* --- trouble ------------------------------------------------------------------------------------
 */

static void the_next_url_is_tried_at_once(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\",\"https://b\"]");

    (void)state;
    begin(w);
    fail_as(await(w, ENLIST), BACKEND_FAILED, "connect", 0);
    assert_true(w->fake.calls[ENLIST].open);
    assert_string_equal(w->fake.calls[ENLIST].url, "https://b");
    registered(w, "s-1", "db-1", 60000);
    struct fake_call *c = await(w, COMMANDS);
    assert_string_equal(c->url, "https://b");
    fail_as(c, BACKEND_FAILED, "server-error", 0);
    c = &w->fake.calls[COMMANDS];
    assert_true(c->open);
    assert_string_equal(c->url, "https://a");
    assert_string_equal(c->session, "s-1"); /* it may be known there too */
    run_for(w, STATUS_USEC + 50 * USEC_PER_MSEC);
    json_t *counts = json_object_get(w->status, "counts");
    assert_int_equal(json_int(counts, "connect", 0), 1);
    assert_int_equal(json_int(counts, "server-error", 0), 1);
    assert_string_equal(json_str(w->status, "state", ""), "backoff");
    assert_string_equal(json_str(w->status, "error", ""), "https://b did not work");
    assert_string_equal(json_str(w->status, "url", ""), "https://a");
    answer_commands(c, "[]");
    run_for(w, STATUS_USEC + 50 * USEC_PER_MSEC);
    assert_string_equal(json_str(w->status, "state", ""), "registered");
    assert_null(json_string_value(json_object_get(w->status, "error")));
}

/* After a whole round it waits, at the tenth round for up to a minute. */
static void after_all_urls_it_waits(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\",\"https://b\"]");
    unsigned n = 0;
    uint64_t end = clock_boot() + 2 * USEC_PER_SEC;

    (void)state;
    begin(w);
    while (clock_boot() < end) {
        if (w->fake.calls[ENLIST].open) {
            fail_as(&w->fake.calls[ENLIST], BACKEND_FAILED, "connect", 0);
            n++;
        }
        assert_true(sd_event_run(w->loop, USEC_PER_MSEC) >= 0);
    }
    assert_in_range(n, 2, 60); /* without waits: thousands */
    assert_true(w->n_status <= 2 * 5 + 2);
}

static void retry_after_is_honoured(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\",\"https://b\"]");
    uint64_t begun = clock_boot();

    (void)state;
    begin(w);
    fail_as(await(w, ENLIST), BACKEND_LATER, "busy", 700 * USEC_PER_MSEC);
    assert_false(w->fake.calls[ENLIST].open);
    struct fake_call *c = await(w, ENLIST);
    assert_true(c->at - begun >= 700 * USEC_PER_MSEC);
    assert_string_equal(c->url, "https://a");
}

/* A wait that the controller asked for is not cut short by what goes well elsewhere. */
static void retry_after_is_honoured_whatever_else_works(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    add_exit(w, "e1");
    uint64_t begun = clock_boot();
    fail_as(await(w, REPORT), BACKEND_LATER, "busy", 1500 * USEC_PER_MSEC);
    fail_as(await(w, COMMANDS), BACKEND_FAILED, "connect", 0);
    answer_commands(await(w, COMMANDS), "[]");
    struct fake_call *c = await(w, REPORT);
    assert_true(c->at - begun >= 1500 * USEC_PER_MSEC);
}

static void who_is_denied_asks_for_the_files(void **state)
{
    scoped(world_free) struct world *w = world_before("[\"https://a\"]");
    struct files files = {0};

    (void)state;
    begin(w);
    for (unsigned i = 1; i <= 3; i++) {
        fail_as(await(w, ENLIST), BACKEND_DENIED, "denied", 0);
        assert_int_equal(w->n_renew, i); /* once an attempt */
        run_for(w, 20 * USEC_PER_MSEC);
        assert_int_equal(w->fake.n[ENLIST], i); /* they come first */
        session_files(w->s, &files);
    }
    await(w, ENLIST);
    /* If they do not come it goes on without. */
    uint64_t begun = clock_boot();
    fail_as(await(w, ENLIST), BACKEND_DENIED, "denied", 0);
    assert_true(await(w, ENLIST)->at - begun >= FILES_WAIT_USEC);
}

static void contact_is_told_once_a_second(void **state)
{
    scoped(world_free) struct world *w = world();

    (void)state;
    for (int i = 0; i < 5; i++) {
        char text[200];

        (void)snprintf(text, sizeof(text), "[{\"id\":\"c-%d\",\"generation\":%d}]", i, 50 + i);
        answer_commands(await(w, COMMANDS), text);
        (void)snprintf(text, sizeof(text),
                       "{\"id\":\"c-%d\",\"generation\":%d,\"status\":\"done\"}", i, 50 + i);
        result(w, text);
    }
    assert_int_equal(w->n_contacts, 1);
    assert_true(w->ago < 50 * USEC_PER_MSEC);
    /* The last one is told, though silence follows: with its time, not the second's end. */
    run_for(w, CONTACT_USEC + 100 * USEC_PER_MSEC);
    assert_int_equal(w->n_contacts, 2);
    assert_in_range(w->ago, CONTACT_USEC / 2, CONTACT_USEC + 100 * USEC_PER_MSEC);
    run_for(w, CONTACT_USEC);
    assert_int_equal(w->n_contacts, 2);
    answer_commands(await(w, COMMANDS), "[]");
    assert_int_equal(w->n_contacts, 3);
    assert_true(w->ago < 50 * USEC_PER_MSEC);
    /* An error is none. */
    run_for(w, CONTACT_USEC);
    fail_as(await(w, COMMANDS), BACKEND_FAILED, "server-error", 0);
    run_for(w, CONTACT_USEC);
    assert_int_equal(w->n_contacts, 3);
}

static void without_controllers_nothing_is_kept(void **state)
{
    scoped(world_free) struct world *w = world_before("[]");

    (void)state;
    begin(w);
    for (int i = 0; i < 100; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "e%d", i);
        add_exit(w, id);
    }
    run_for(w, STATUS_USEC + 50 * USEC_PER_MSEC);
    assert_string_equal(json_str(w->status, "state", ""), "off");
    assert_int_equal(json_int(w->status, "queued", -1), 0);
    assert_int_equal(w->fake.n[ENLIST], 0);
}

static void a_wrong_first_frame_is_refused(void **state)
{
    static const char *const frames[] = {
        "{}",
        "{\"controllers\":7}",
        "{\"controllers\":[7]}",
        "{\"controllers\":[\"ftp://a\"]}",
        "{\"controllers\":[\"https://a\"],\"control\":{\"store\":\"s\",\"generation\":-1}}",
    };
    struct session *s = NULL;
    sd_event *loop = NULL;

    (void)state;
    assert_true(sd_event_new(&loop) >= 0);
    for (size_t i = 0; i < sizeof(frames) / sizeof(*frames); i++) {
        scoped(json_freep) json_t *start = json_loads(frames[i], 0, NULL);
        struct err e = ERR_INIT;
        struct session_setup setup = {.loop = loop, .start = start, .ops = &ops};

        assert_int_equal(session_new(&setup, &s, &e), -EINVAL);
        assert_null(s);
    }
    sd_event_unref(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_sent_before_all_is_there),
        cmocka_unit_test(a_registration_says_it_all),
        cmocka_unit_test(a_session_that_is_forgotten_begins_anew),
        cmocka_unit_test(forgetting_is_no_loop),
        cmocka_unit_test(changes_are_gathered_into_one_report),
        cmocka_unit_test(a_report_is_repeated_as_it_was),
        cmocka_unit_test(everything_is_told_when_asked_for),
        cmocka_unit_test(the_instance_is_told_when_it_changes),
        cmocka_unit_test(an_instance_that_changes_while_it_registers_is_told_of),
        cmocka_unit_test(heartbeats_go_where_no_report_does),
        cmocka_unit_test(a_heartbeat_is_small),
        cmocka_unit_test(commands_are_handed_over_one_by_one),
        cmocka_unit_test(what_could_not_be_done_is_asked_for_again),
        cmocka_unit_test(a_controller_that_does_not_wait_is_not_asked_in_a_loop),
        cmocka_unit_test(a_poll_follows_a_poll),
        cmocka_unit_test(another_store_is_a_conflict),
        cmocka_unit_test(the_next_url_is_tried_at_once),
        cmocka_unit_test(after_all_urls_it_waits),
        cmocka_unit_test(retry_after_is_honoured),
        cmocka_unit_test(retry_after_is_honoured_whatever_else_works),
        cmocka_unit_test(who_is_denied_asks_for_the_files),
        cmocka_unit_test(contact_is_told_once_a_second),
        cmocka_unit_test(without_controllers_nothing_is_kept),
        cmocka_unit_test(a_wrong_first_frame_is_refused),
    };

    return cmocka_run_group_tests_name("link_session", tests, NULL, NULL);
}
