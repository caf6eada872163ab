#include "corelink_agent.h"

/* --- Numbering --- */

static void numbering(void **state)
{
    static const struct {
        const char *obeyed;
        uint64_t last;
        const char *outcome, *store;
        uint64_t generation;
        const char *replaces;
        enum control_verdict verdict;
    } table[] = {
        {"", 0, NULL, "a", 1, NULL, CONTROL_APPLY}, /* the first one ever */
        {"", 0, NULL, "a", 900, "x", CONTROL_APPLY},
        {"a", 5, NULL, "a", 6, NULL, CONTROL_APPLY},
        {"a", 5, NULL, "a", 60, NULL, CONTROL_APPLY}, /* gaps are fine */
        {"a", 5, NULL, "a", 5, NULL, CONTROL_STALE},
        {"a", 5, NULL, "a", 1, NULL, CONTROL_STALE},
        {"a", 5, "done", "a", 6, NULL, CONTROL_DUPLICATE},
        {"a", 5, "refused", "a", 6, NULL, CONTROL_DUPLICATE},
        {"a", 5, "done", "a", 5, NULL, CONTROL_DUPLICATE},
        {"a", 5, NULL, "b", 6, NULL, CONTROL_WRONG_STORE},
        {"a", 5, "done", "b", 6, NULL, CONTROL_WRONG_STORE}, /* another store's ids */
        {"a", 5, NULL, "b", 6, "c", CONTROL_WRONG_STORE},
        {"a", 5, NULL, "b", 6, "b", CONTROL_WRONG_STORE},
        {"a", 5, NULL, "b", 1, "a", CONTROL_APPLY}, /* taken over: its numbers start anew */
        {"a", 5, "done", "b", 1, "a", CONTROL_APPLY},
        {"b", 1, NULL, "b", 1, "a", CONTROL_STALE}, /* and once only */
        {"b", 1, NULL, "b", 2, "a", CONTROL_APPLY},
        {"a", UINT64_MAX, NULL, "a", UINT64_MAX, NULL, CONTROL_STALE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct control now = {.generation = table[i].last};

        (void)snprintf(now.store, sizeof(now.store), "%s", table[i].obeyed);
        if (control_judge(&now, table[i].outcome, table[i].store, table[i].generation,
                          table[i].replaces) != table[i].verdict)
            fail_msg("row %zu", i);
    }
}

static void replayed_reordered_and_stale_ones_do_nothing(void **state)
{
    struct world *w = *state;

    assert_string_equal(command_of(w, "db", 7, START(1, "'web.1'")), "done");
    assert_true(json_bool(w->result, "settled", false));
    unsigned lines = journal_lines(w);
    assert_string_equal(command_of(w, "db", 7, START(1, "'web.1'")), "duplicate");
    assert_true(json_bool(w->result, "settled", false));
    assert_string_equal(command_of(w, "db", 3, START(1, "'web.2'")), "stale");
    scoped(json_freep) json_t *again =
        parse("{'id':'c-7','generation':12,'op':'stop','app':'hello'}");
    scoped(json_freep) json_t *result = control_command(&w->a, "db", again);
    assert_string_equal(json_str(result, "status", ""), "duplicate");
    assert_int_equal(json_int(result, "generation", 0), 12);
    assert_string_equal(wanted(w), "hello/web.1");
    assert_int_equal(journal_lines(w), lines);
    agent_again(w);
    assert_string_equal(command_of(w, "db", 7, START(1, "'web.1'")), "duplicate");
    assert_string_equal(command_of(w, "db", 6, START(1, "'web.3'")), "stale");
    assert_string_equal(wanted(w), "hello/web.1");
}

static void another_store_is_refused_until_it_takes_over(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    unsigned lines = journal_lines(w);
    assert_string_equal(command_of(w, "new", 1, "'op':'sync','apps':[]"), "refused");
    assert_string_equal(code(w), "wrong-store");
    assert_string_equal(command_of(w, "new", 1, "'op':'sync','apps':[],'replaces':'other'"),
                        "refused");
    assert_string_equal(command_of(w, "new", 9, "'op':'stop','app':'hello','replaces':'db'"),
                        "refused");
    assert_int_equal(journal_lines(w), lines); /* nothing is settled by it */
    assert_string_equal(wanted(w), "hello/web.1");
    json_t *link = agent_link(&w->a);
    assert_string_equal(json_str(link, "conflict", ""), "new");
    assert_string_equal(json_str(link, "store", ""), "db");
    json_decref(link);
    assert_string_equal(command_of(w, "new", 1,
                                   "'op':'sync','replaces':'db','apps':[{'app':'hello'," RELEASE(
                                       1) ",'formation':{'web':[2]}}]"),
                        "done");
    assert_string_equal(wanted(w), "hello/web.2");
    assert_string_equal(model_control(w->a.model)->store, "new");
    assert_int_equal(model_control(w->a.model)->generation, 1);
    assert_string_equal(command(w, "'op':'stop','app':'hello'"), "refused");
    assert_string_equal(code(w), "wrong-store");
}

static void a_bad_envelope_is_refused_and_settles_nothing(void **state)
{
    static const char *const bad[] = {
        "{'generation':1,'op':'stop','app':'a'}",
        "{'id':'','generation':1,'op':'stop','app':'a'}",
        "{'id':'a b','generation':1,'op':'stop','app':'a'}",
        "{'id':7,'generation':1,'op':'stop','app':'a'}",
        "{'id':'12345678901234567890123456789012345678901234567890123456789012345',"
        "'generation':1,'op':'x'}",
        "{'id':'a','op':'stop','app':'a'}",
        "{'id':'a','generation':0,'op':'stop'}",
        "{'id':'a','generation':-4,'op':'stop'}",
        "{'id':'a','generation':'1','op':'stop'}",
        "{'id':'a','generation':1.5,'op':'stop'}",
        "{'id':'a','generation':1}",
        "{'id':'a','generation':1,'op':null}",
        "{}",
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        scoped(json_freep) json_t *j = parse("%s", bad[i]);
        scoped(json_freep) json_t *result = control_command(&w->a, "db", j);

        assert_string_equal(json_str(result, "status", ""), "refused");
        assert_string_equal(json_str(json_object_get(result, "error"), "code", ""), "bad-command");
        assert_string_equal(json_str(json_object_get(result, "error"), "fault", ""), "operator");
    }
    assert_string_equal(model_control(w->a.model)->store, "");
}

/* --- Bad commands --- */

static void each_bad_command_is_refused_and_settled(void **state)
{
    static const struct {
        const char *members, *code, *names;
    } bad[] = {
        {"'op':'dance'", "unknown-op", "dance"},
        {"'op':'stop'", "bad-command", "app"},
        {"'op':'stop','app':'nope'", "unknown-app", "nope"},
        {"'op':'stop','app':'hello','extra':1", "bad-command", "extra"},
        {"'op':'stop','app':'Hello'", "bad-command", "Hello"},
        {"'op':'stop','app':7", "bad-command", "app"},
        {"'op':'stop','app':'hello','dynos':'web.1'", "bad-command", "dynos"},
        {"'op':'stop','app':'hello','dynos':[]", "bad-command", "dynos"},
        {"'op':'stop','app':'hello','dynos':['web.1','web.1']", "bad-command", "web.1 twice"},
        {"'op':'stop','app':'hello','dynos':['web.0']", "bad-command", "web.0"},
        {"'op':'stop','app':'hello','dynos':['hello/web.1']", "bad-command", "hello/web.1"},
        {"'op':'stop','app':'hello','dynos':['web.1'],'forget':true", "bad-command", "forgotten"},
        {"'op':'start','app':'nope','dynos':['web.1']", "unknown-app", "nope"},
        {"'op':'start','app':'hello'," RELEASE(2), "bad-command", "dynos"},
        {"'op':'start','app':'hello','dynos':['run.1000']", "bad-command", "one-off"},
        {"'op':'start','app':'hello','release':{'version':2},'dynos':['web.1']", "bad-command",
         "slug"},
        {"'op':'start','app':'hello','release':{'version':0,'slug':'https://s/'},'dynos':['web.1']",
         "bad-command", "version"},
        {"'op':'start','app':'hello','release':{'version':2,'slug':'gopher://s/'},'dynos':['web.1']",
         "bad-command", "slug"},
        {"'op':'start','app':'hello','release':{'version':2,'slug':['https://s/',7]},"
         "'dynos':['web.1']",
         "bad-command", "slug"},
        {"'op':'start','app':'hello','release':{'version':2,'slug':'https://s/','digest':'x'},"
         "'dynos':['web.1']",
         "bad-command", "digest"},
        {"'op':'start','app':'hello','release':{'version':2,'slug':'https://s/','size':'huge'},"
         "'dynos':['web.1']",
         "bad-command", "huge"},
        {"'op':'start','app':'hello','release':{'version':2,'slug':'https://s/','env':{'A':1}},"
         "'dynos':['web.1']",
         "bad-command", "A"},
        {"'op':'start','app':'hello','release':{'version':2,'slug':'https://s/','colour':1},"
         "'dynos':['web.1']",
         "bad-command", "colour"},
        {"'op':'scale','app':'hello','formation':{}", "bad-command", "formation"},
        {"'op':'scale','app':'hello','formation':{'web':-1}", "bad-command", "web"},
        {"'op':'scale','app':'hello','formation':{'web':1e3}", "bad-command", "web"},
        {"'op':'scale','app':'hello','formation':{'web':[1,1]}", "bad-command", "web"},
        {"'op':'scale','app':'hello','formation':{'web':[0]}", "bad-command", "web"},
        {"'op':'scale','app':'hello','formation':{'run':1}", "bad-command", "run"},
        {"'op':'scale','app':'hello','formation':{'web':9223372036854775807}", "bad-command",
         "web"},
        {"'op':'restart','app':'hello','dynos':['web.9']", "unknown-dyno", "hello"},
        {"'op':'run','app':'hello'", "bad-command", "argv"},
        {"'op':'run','app':'nope','command':'x'", "unknown-app", "nope"},
        {"'op':'run','app':'hello','command':'x','num':0", "bad-command", "num"},
        {"'op':'run','app':'hello','command':'x','tty':5", "bad-command", "tty"},
        {"'op':'run','app':'hello','command':'x','attach':{'url':'tls://h:1'}", "bad-command",
         "secret"},
        {"'op':'run','app':'hello','command':'x','attach':{'url':'http://h','secret':'s'}",
         "bad-command", "tls://"},
        {"'op':'prefetch','slug':'https://s/'", "bad-command", "digest"},
        {"'op':'prefetch','slug':'s','digest':'" DIGEST_A "'", "bad-command", "slug"},
        {"'op':'prefetch','slug':['https://s/','s'],'digest':'" DIGEST_A "'", "bad-command",
         "slug"},
        {"'op':'prefetch','slug':[],'digest':'" DIGEST_A "'", "bad-command", "slug"},
        {"'op':'drain','deadline_ms':-1", "bad-command", "deadline_ms"},
        {"'op':'undrain','app':'hello'", "bad-command", "app"},
        {"'op':'sync'", "bad-command", "apps"},
        {"'op':'sync','apps':[7]", "bad-command", "apps"},
        {"'op':'sync','apps':[{'app':'x'," RELEASE(1) "}]", "bad-command", "formation"},
        {"'op':'sync','apps':[{'app':'x'," RELEASE(1) ",'formation':{}},{'app':'x'," RELEASE(
             1) ",'formation':{}}]",
         "bad-command", "x is there twice"},
    };
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *status = command(w, bad[i].members);

        if (strcmp(status, "refused") != 0 || strcmp(code(w), bad[i].code) != 0 ||
            !strstr(message(w), bad[i].names))
            fail_msg("%s: %s, %s: %s", bad[i].members, status, code(w), message(w));
        assert_int_equal(model_control(w->a.model)->generation, w->generation); /* settled */
        assert_true(json_bool(w->result, "settled", false));
    }
    assert_string_equal(wanted(w), "hello/web.1");
    assert_string_equal(command_of(w, "db", w->generation, "'op':'undrain'"), "duplicate");
}

/* --- Ops, each twice: the second time nothing but "control" is written --- */

static void expect(struct world *w, const char *members, const char *op, const char *wants)
{
    assert_string_equal(command(w, members), "done");
    assert_string_equal(last_op(w), op);
    assert_string_equal(wanted(w), wants);
    unsigned lines = journal_lines(w);
    assert_string_equal(command(w, members), "done");
    assert_string_equal(last_op(w), "control");
    assert_int_equal(journal_lines(w), lines + 1);
    assert_string_equal(wanted(w), wants);
}

static void starts_stops_and_scales_are_the_smallest_change(void **state)
{
    struct world *w = *state;

    expect(w, START(3, "'web.2'"), "release", "hello/web.2");
    assert_int_equal(model_app(w->a.model, "hello")->release.version, 3);
    assert_true(model_app(w->a.model, "hello")->controlled);
    uint64_t generation = model_generation(w->a.model);
    expect(w, "'op':'start','app':'hello','dynos':['web.5','worker.1']", "scale",
           "hello/web.2 hello/web.5 hello/worker.1");
    assert_int_equal(model_generation(w->a.model), generation); /* nobody is replaced */
    expect(w, "'op':'stop','app':'hello','dynos':['web.2','web.77']", "scale",
           "hello/web.5 hello/worker.1");
    expect(w, "'op':'scale','app':'hello','formation':{'web':2}", "scale",
           "hello/web.1 hello/web.2 hello/worker.1");
    expect(w, "'op':'scale','app':'hello','formation':{'web':[4,2],'worker':0}", "scale",
           "hello/web.2 hello/web.4");
    expect(w, "'op':'stop','app':'hello'", "stop", "");
    expect(w, "'op':'start','app':'hello','dynos':['web.4']", "scale", "hello/web.4");
    expect(w, START(4, "'web.1'"), "release", "hello/web.1 hello/web.4");
    assert_true(model_generation(w->a.model) > generation); /* all are replaced */
    assert_string_equal(command(w, "'op':'stop','app':'hello','forget':true"), "done");
    assert_null(model_app(w->a.model, "hello"));
    assert_string_equal(command(w, "'op':'stop','app':'hello','forget':true"), "refused");
    assert_string_equal(code(w), "unknown-app");
}

/* A URL that is signed anew each time is the same slug. */
static void a_release_is_the_same_by_its_digest(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    uint64_t generation = model_generation(w->a.model);
    assert_string_equal(command(w, "'op':'start','app':'hello','release':{'version':1,'slug':"
                                   "'https://s.test/a.tgz?signed=2','digest':'" DIGEST_A
                                   "','env':{'A':'b'}},'dynos':['web.1']"),
                        "done");
    assert_int_equal(model_generation(w->a.model), generation);
    assert_string_equal(command(w, "'op':'start','app':'hello','release':{'version':1,'slug':"
                                   "'https://s.test/a.tgz','digest':'" DIGEST_A
                                   "','env':{'A':'c'}},'dynos':['web.1']"),
                        "done");
    assert_true(model_generation(w->a.model) > generation);
}

static void restarts_leave_alone_what_is_stopped(void **state)
{
    struct world *w = *state;
    json_t *ret = NULL;
    struct err e = ERR_INIT;

    assert_string_equal(command(w, START(1, "'web.1','web.2','web.3'")), "done");
    assert_int_equal(agent_stop(&w->a, "hello", "web.2", &ret, &e), 0); /* by hand */
    json_decref(ret);
    assert_string_equal(wanted(w), "hello/web.1 hello/web.3");
    uint64_t generation = model_generation(w->a.model);
    assert_string_equal(command(w, "'op':'restart','app':'hello'"), "done");
    assert_string_equal(wanted(w), "hello/web.1 hello/web.3");
    assert_true(model_generation(w->a.model) > generation);
    assert_string_equal(command(w, "'op':'restart','app':'hello','dynos':['web.2']"), "refused");
    assert_string_equal(code(w), "unknown-dyno");
    assert_string_equal(command(w, "'op':'restart','app':'hello','dynos':['web.3']"), "done");
}

static void sync_is_all_that_should_run(void **state)
{
    struct world *w = *state;
    scoped(json_freep) json_t *by_hand =
        parse("{'slug':'https://s.test/b.tgz','digest':'" DIGEST_B "','formation':{'web':1}}");
    json_t *ret = NULL;
    struct err e = ERR_INIT;

    assert_int_equal(agent_release(&w->a, "mine", by_hand, &ret, &e), 0);
    json_decref(ret);
    assert_string_equal(command(w, START(1, "'web.1','web.2','worker.1'")), "done");
    assert_string_equal(command(w, "'op':'start','app':'other'," RELEASE(1) ",'dynos':['web.1']"),
                        "done");
    assert_string_equal(wanted(w), "hello/web.1 hello/web.2 hello/worker.1 mine/web.1 other/web.1");
    expect(w,
           "'op':'sync','apps':[{'app':'hello'," RELEASE(
               1) ",'formation':{'web':[2,3]}},{'app':'new'," RELEASE(7) ",'formation':{'web':1}}]",
           "release", "hello/web.2 hello/web.3 mine/web.1 new/web.1");
    assert_null(model_app(w->a.model, "other")); /* absent, and this store's */
    assert_non_null(model_app(w->a.model, "mine"));
    expect(w, "'op':'sync','apps':[]", "forget", "mine/web.1");
    /* Named once, it is the controller's. */
    assert_string_equal(command(w, "'op':'sync','apps':[{'app':'mine','release':{'version':1,"
                                   "'slug':'https://s.test/b.tgz','digest':'" DIGEST_B
                                   "'},'formation':{'web':1}}]"),
                        "done");
    assert_string_equal(wanted(w), "mine/web.1");
    assert_true(model_app(w->a.model, "mine")->controlled);
    assert_string_equal(command(w, "'op':'sync','apps':[]"), "done");
    assert_string_equal(wanted(w), "");
}

static void a_sync_with_one_bad_app_changes_nothing(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    assert_string_equal(command(w, "'op':'sync','apps':[{'app':'a'," RELEASE(
                                       1) ",'formation':{'web':1}},{'app':'b','release':{"
                                          "'version':1,'slug':'https://s/','env':{'=':'x'}},"
                                          "'formation':{'web':1}}]"),
                        "refused");
    assert_string_equal(wanted(w), "hello/web.1");
}

/* Cut off after any of its entries, it is carried out to its end the next time. */
static void a_command_cut_off_in_the_middle_is_finished_the_next_time(void **state)
{
    static const char sync[] = "'op':'sync','apps':[{'app':'hello'," RELEASE(
        2) ",'formation':{'web':2}},{'app':'new'," RELEASE(7) ",'formation':{'web':1}}]";
    struct world *w = *state;
    scoped(json_freep) json_t *text = parse("{'id':'x','generation':3,%s}", sync);

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    assert_string_equal(command(w, "'op':'start','app':'other'," RELEASE(1) ",'dynos':['web.1']"),
                        "done");
    const struct change_limits limits = {&w->a.config, false};
    for (size_t n = 0;; n++) {
        struct change change = {0};
        struct err e = ERR_INIT;

        assert_int_equal(change_command(w->a.model, &limits, text, &change, &e), 0);
        size_t left = json_array_size(change.entries);
        if (left > 0) { /* the agent dies after the first of them */
            json_t *entry = json_array_get(change.entries, 0);

            (void)json_object_set_new(entry, "by", json_pack("{s:s}", "store", "db"));
            assert_int_equal(agent_change(&w->a, entry, NULL, &e), 0);
        }
        change_done(&change);
        agent_again(w);
        if (left == 0)
            break;
        assert_int_equal(left, 3 - n); /* each once */
    }
    assert_int_equal(model_control(w->a.model)->generation, 2); /* not settled yet */
    assert_string_equal(command(w, sync), "done");
    assert_string_equal(last_op(w), "control");
    assert_string_equal(wanted(w), "hello/web.1 hello/web.2 new/web.1");
    assert_true(model_app(w->a.model, "new")->controlled);
}

/* --- Room, draining, disk --- */

static void more_than_there_is_room_for_is_refused(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    assert_string_equal(command(w, "'op':'scale','app':'hello','formation':{'web':20}"), "done");
    assert_string_equal(command(w, "'op':'scale','app':'hello','formation':{'web':21}"), "refused");
    assert_string_equal(code(w), "capacity");
    assert_string_equal(command(w, "'op':'start','app':'hello','dynos':['worker.1']"), "refused");
    assert_string_equal(code(w), "capacity");
    assert_string_equal(command(w, "'op':'run','app':'hello','command':'x'"), "refused");
    assert_string_equal(code(w), "capacity");
    assert_string_equal(
        command(w, "'op':'sync','apps':[{'app':'a'," RELEASE(1) ",'formation':{'web':21}}]"),
        "refused");
    assert_string_equal(code(w), "capacity");
    assert_non_null(model_app(w->a.model, "hello"));
    assert_string_equal(
        command(w, "'op':'sync','apps':[{'app':'a'," RELEASE(1) ",'formation':{'web':20}}]"),
        "done"); /* the others go */
}

static void what_drains_starts_nothing(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1','web.2'")), "done");
    assert_string_equal(command(w, "'op':'drain','deadline_ms':600000"), "done");
    assert_true(json_bool(json_object_get(w->result, "answer"), "draining", false));
    static const char *const refused[] = {
        START(1, "'web.3'"),
        "'op':'scale','app':'hello','formation':{'web':3}",
        "'op':'scale','app':'hello','formation':{'web':[1,3]}",
        "'op':'restart','app':'hello'",
        "'op':'run','app':'hello','command':'x'",
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_string_equal(command(w, refused[i]), "refused");
        assert_string_equal(code(w), "draining");
    }
    assert_string_equal(command(w, "'op':'scale','app':'hello','formation':{'web':[2]}"), "done");
    assert_string_equal(wanted(w), "hello/web.2");
    assert_string_equal(
        command(
            w,
            "'op':'sync','apps':[{'app':'hello'," RELEASE(
                2) ",'formation':{'web':[1,2]}},{'app':'new'," RELEASE(1) ",'formation':{'web':1}}]"),
        "done");
    json_t *held = json_object_get(json_object_get(w->result, "answer"), "held");
    assert_int_equal(json_array_size(held), 2);
    assert_string_equal(wanted(w), "hello/web.2");
    assert_int_equal(model_app(w->a.model, "hello")->release.version, 1);
    assert_string_equal(command(w, "'op':'sync','apps':[]"), "done");
    assert_string_equal(wanted(w), "");
    assert_string_equal(command(w, "'op':'undrain'"), "done");
    assert_string_equal(command(w, START(1, "'web.3'")), "done");
}

/* By hand as well. */
static void the_api_starts_nothing_on_what_drains(void **state)
{
    struct world *w = *state;
    scoped(json_freep) json_t *none = parse("{}"), *up = parse("{'web':3}"),
                              *down = parse("{'web':0}"), *run = parse("{'command':'x'}");
    struct attach *at = NULL;
    const struct caller self = {.uid = getuid(), .pid = getpid()};
    json_t *ret = NULL;
    struct err e = ERR_INIT;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    assert_int_equal(agent_drain(&w->a, none, &ret, &e), 0);
    json_decref(TAKE_PTR(ret));
    assert_int_equal(agent_scale(&w->a, "hello", up, &ret, &e), -EBUSY);
    assert_int_equal(agent_restart(&w->a, "hello", NULL, &ret, &e), -EBUSY);
    assert_int_equal(agent_run(&w->a, "hello", run, &self, NULL, NULL, &at, &ret, &e), -EBUSY);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_int_equal(agent_scale(&w->a, "hello", down, &ret, &e), 0);
    json_decref(ret);
}

static void a_disk_that_is_full_is_our_own_trouble(void **state)
{
    struct world *w = *state;
    struct stat st;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    assert_int_equal(fstatat(w->a.state_dirfd, "journal", &st, 0), 0);
    struct rlimit was, tight;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    tight = was;
    tight.rlim_cur = (rlim_t)st.st_size + 3;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const char *status = command(w, "'op':'stop','app':'hello'");
    bool failed = !strcmp(status, "failed");
    status =
        command_of(w, "db", w->generation + 1, "'op':'dance'"); /* a refusal is no word either */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_true(failed);
    assert_string_equal(status, "failed");
    assert_false(json_bool(w->result, "settled", true));
    assert_string_equal(json_str(json_object_get(w->result, "error"), "fault", ""), "platform");
    assert_string_equal(wanted(w), "hello/web.1");
    assert_string_equal(command_of(w, "db", w->generation, "'op':'stop','app':'hello'"), "done");
    assert_string_equal(wanted(w), "");
}

/* --- One-offs --- */

static void a_one_off_has_its_name_in_the_answer(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    assert_string_equal(command(w, "'op':'run','app':'hello','argv':['echo','x'],'num':1234,"
                                   "'env':{'K':'v'},'tty':true"),
                        "done");
    assert_string_equal(json_str(json_object_get(w->result, "answer"), "dyno", ""), "run.1234");
    assert_string_equal(wanted(w), "hello/web.1 hello/run.1234");
    assert_string_equal(command(w, "'op':'run','app':'hello','command':'x','num':1234"), "refused");
    assert_string_equal(command(w, "'op':'stop','app':'hello','dynos':['run.1234']"), "done");
    assert_string_equal(wanted(w), "hello/web.1");
}

static void answers_hold_no_config_vars(void **state)
{
    struct world *w = *state;

    assert_string_equal(command(w, "'op':'start','app':'hello','release':{'version':1,'slug':"
                                   "'https://s.test/a.tgz','env':{'PASSWORD':'hunter2'}},"
                                   "'dynos':['web.1']"),
                        "done");
    scoped_free char *text = json_dumps(w->result, 0);
    assert_null(strstr(text, "hunter2"));
    json_t *events = agent_events(&w->a, 0, 1000);
    scoped_free char *told = json_dumps(events, 0);
    assert_null(strstr(told, "hunter2"));
    assert_non_null(strstr(told, "c-1")); /* whose command it was */
    json_decref(events);
}

/* 3 MB in one command, and a thousand commands at once. */
static void large_ones_are_no_trouble(void **state)
{
    struct world *w = *state;
    scoped(json_freep) json_t *apps = json_array();
    char name[16];

    w->a.config.dynos_max = 5000;
    scoped_free char *value = malloc(100001);
    memset(value, 'x', 100000);
    value[100000] = '\0';
    for (int i = 0; i < 30; i++) {
        (void)snprintf(name, sizeof(name), "app-%d", i);
        (void)json_array_append_new(apps, json_pack("{s:s,s:{s:i,s:s,s:{s:s}},s:{s:i}}", "app",
                                                    name, "release", "version", 1, "slug",
                                                    "https://s.test/a.tgz", "env", "BIG", value,
                                                    "formation", "web", 100));
    }
    scoped(json_freep) json_t *big =
        json_pack("{s:s,s:i,s:s,s:O}", "id", "big", "generation", 1, "op", "sync", "apps", apps);
    scoped(json_freep) json_t *result = control_command(&w->a, "db", big);
    assert_string_equal(json_str(result, "status", ""), "done");
    w->generation = 1;
    connect_link(w);
    for (int i = 0; i < 1000; i++) {
        w->generation++;
        json_t *frame = json_pack("{s:{s:s,s:o}}", "command", "store", "db", "command",
                                  parse("{'id':'n-%d','generation':%ju,'op':'scale','app':'app-%d',"
                                        "'formation':{'worker':[%d]}}",
                                        i, (uintmax_t)w->generation, i % 30, i + 1));
        struct err e = ERR_INIT;

        assert_int_equal(frame_send(w->theirs, frame, NULL, 0, &e), 0);
        json_decref(frame);
    }
    struct err e = ERR_INIT;
    int done = 0;
    for (uint64_t until = clock_boot() + 60 * USEC_PER_SEC; done < 1000 && clock_boot() < until;) {
        json_t *one;

        (void)frame_flush(w->theirs, &e);
        run_loop(w, 1000);
        while ((one = next_frame(w, "result", NULL, NULL))) {
            done += !strcmp(json_str(one, "status", ""), "done");
            json_decref(one);
        }
    }
    assert_int_equal(done, 1000);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_up, world_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbering),
        TEST(replayed_reordered_and_stale_ones_do_nothing),
        TEST(another_store_is_refused_until_it_takes_over),
        TEST(a_bad_envelope_is_refused_and_settles_nothing),
        TEST(each_bad_command_is_refused_and_settled),
        TEST(starts_stops_and_scales_are_the_smallest_change),
        TEST(a_release_is_the_same_by_its_digest),
        TEST(restarts_leave_alone_what_is_stopped),
        TEST(sync_is_all_that_should_run),
        TEST(a_sync_with_one_bad_app_changes_nothing),
        TEST(a_command_cut_off_in_the_middle_is_finished_the_next_time),
        TEST(more_than_there_is_room_for_is_refused),
        TEST(what_drains_starts_nothing),
        TEST(the_api_starts_nothing_on_what_drains),
        TEST(a_disk_that_is_full_is_our_own_trouble),
        TEST(a_one_off_has_its_name_in_the_answer),
        TEST(answers_hold_no_config_vars),
        TEST(large_ones_are_no_trouble),
    };

    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
