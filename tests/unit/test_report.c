/* dynod's side of dynod-link's socket: what is told, what is taken, and what a stranger may not do.
 */
#include "corelink_agent.h"

#include <sys/ioctl.h>

static void have_dyno(struct world *w)
{
    assert_string_equal(command(w, START(1, "'web.1','worker.2'")), "done");
}

/* --- At the start --- */

static void it_is_told_everything_first(void **state)
{
    struct world *w = *state;
    struct frame f = {0};
    struct err e = ERR_INIT;

    have_dyno(w);
    struct dyno *d = make_dyno(w, "hello/web.1", DYNO_UP);
    d->port = 20007;
    connect_link(w);
    assert_int_equal(frame_next(w->theirs, &f, &e), 1);
    const json_t *start = json_object_get(f.json, "start");
    assert_string_equal(json_str(start, "agent", "?"), "");
    assert_int_equal(strncmp(json_str(start, "fallback_agent", ""), "d-", 2), 0);
    assert_int_equal(strlen(json_str(start, "fallback_agent", "")), 18);
    assert_int_equal(strlen(json_str(start, "epoch", "")), 16);
    assert_int_equal(json_array_size(json_object_get(start, "controllers")), 2);
    assert_string_equal(json_str(json_object_get(start, "control"), "store", ""), "db");
    assert_int_equal(json_int(json_object_get(start, "control"), "generation", 0), 1);
    assert_int_equal(json_int(json_object_get(start, "capacity"), "dynos", 0), 20);
    assert_false(json_bool(json_object_get(start, "instance"), "draining", true));
    char id[32];
    (void)snprintf(id, sizeof(id), "%s", json_str(start, "fallback_agent", ""));
    frame_done(&f);
    assert_int_equal(frame_next(w->theirs, &f, &e), 1);
    assert_non_null(json_object_get(f.json, "files"));
    frame_done(&f);
    assert_int_equal(frame_next(w->theirs, &f, &e), 1);
    const json_t *snapshot = json_object_get(f.json, "snapshot");
    assert_int_equal(json_array_size(snapshot), 1);
    const json_t *one = json_array_get(snapshot, 0);
    assert_string_equal(json_str(one, "app", ""), "hello");
    assert_string_equal(json_str(one, "dyno", ""), "web.1");
    assert_string_equal(json_str(one, "state", ""), "up");
    assert_true(json_bool(one, "up", false));
    assert_int_equal(json_int(one, "port", 0), 20007);
    assert_int_equal(json_int(one, "release", 0), 1);
    assert_string_equal(json_str(one, "size", ""), w->a.config.default_size);
    frame_done(&f);
    d->port = 0;
    agent_again(w); /* the same id for good */
    connect_link(w);
    json_t *again = next_frame(w, "start", NULL, NULL);
    assert_string_equal(json_str(again, "fallback_agent", ""), id);
    json_decref(again);
}

static void its_files_come_as_descriptors(void **state)
{
    struct world *w = *state;
    struct config *c = &w->a.config;
    int fds[8];
    size_t n = 0;
    char text[16] = "";

    write_program(w, "token", "s3cret");
    (void)snprintf(c->link_token_file, sizeof(c->link_token_file), "%s/token", w->dir);
    (void)snprintf(c->link_ca_file, sizeof(c->link_ca_file), "%s/missing", w->dir);
    connect_link(w);
    json_t *names = next_frame(w, "files", fds, &n);
    assert_int_equal(n, 1);
    assert_int_equal(json_array_size(names), 2); /* named all the same: without it nothing goes */
    assert_string_equal(json_string_value(json_array_get(names, 1)), "token");
    assert_int_equal(read(fds[0], text, sizeof(text)), 6);
    assert_string_equal(text, "s3cret");
    close(fds[0]);
    json_decref(names);
    json_t *link = agent_link(&w->a);
    assert_non_null(strstr(json_str(link, "error", ""), "missing"));
    assert_string_equal(json_str(link, "fault", ""), "operator");
    json_decref(link);
    write_program(w, "missing", "CA"); /* and when it asks again */
    say_frame(w, parse("{'files':{}}"));
    names = next_frame(w, "files", fds, &n);
    assert_int_equal(n, 2);
    close(fds[0]);
    close(fds[1]);
    json_decref(names);
    link = agent_link(&w->a);
    assert_true(json_is_null(json_object_get(link, "error")));
    json_decref(link);
    char path[128]; /* a huge one, and one that is no file */
    (void)snprintf(path, sizeof(path), "%s/missing", w->dir);
    assert_int_equal(truncate(path, LINK_FILE_MAX + 1), 0);
    (void)snprintf(c->link_token_file, sizeof(c->link_token_file), "%s", w->dir);
    say_frame(w, parse("{'files':{}}"));
    names = next_frame(w, "files", fds, &n);
    assert_int_equal(n, 0);
    json_decref(names);
}

/* --- Dynos --- */

static void only_what_changed_is_told(void **state)
{
    struct world *w = *state;

    have_dyno(w);
    struct dyno *d = make_dyno(w, "hello/web.1", DYNO_STARTING);
    agent_dyno_changed(&w->a, d); /* nobody there: nothing */
    connect_link(w);
    json_decref(next_frame(w, "snapshot", NULL, NULL));
    agent_dyno_changed(&w->a, d);
    assert_null(next_frame(w, "dyno", NULL, NULL));
    d->state = DYNO_UP;
    agent_dyno_changed(&w->a, d);
    agent_dyno_changed(&w->a, d);
    json_t *one = next_frame(w, "dyno", NULL, NULL);
    assert_string_equal(json_str(one, "state", ""), "up");
    json_decref(one);
    assert_null(next_frame(w, "dyno", NULL, NULL));
    d->state = DYNO_LEAVING; /* out of the route before anything else */
    agent_dyno_changed(&w->a, d);
    one = next_frame(w, "dyno", NULL, NULL);
    assert_false(json_bool(one, "up", true));
    assert_string_equal(json_str(one, "state", ""), "stopping");
    json_decref(one);
    const struct dyno_name name = d->name;
    dyno_free(d);
    agent_dyno_gone(&w->a, &name);
    agent_dyno_gone(&w->a, &name);
    one = next_frame(w, "gone", NULL, NULL);
    assert_string_equal(json_string_value(one), "hello/web.1");
    json_decref(one);
    assert_null(next_frame(w, "gone", NULL, NULL));
}

static void the_address_is_the_operators_or_the_metadatas(void **state)
{
    struct world *w = *state;

    have_dyno(w);
    (void)make_dyno(w, "hello/web.1", DYNO_UP);
    connect_link(w);
    json_decref(next_frame(w, "snapshot", NULL, NULL));
    say_frame(w, parse("{'identity':{'agent':'i-1','labels':{},'address':'10.0.0.9'}}"));
    json_t *one = next_frame(w, "dyno", NULL, NULL);
    assert_string_equal(json_str(one, "address", ""), "10.0.0.9");
    json_decref(one);
    (void)snprintf(w->a.config.address, sizeof(w->a.config.address), "192.0.2.1");
    agent_again(w);
    (void)make_dyno(w, "hello/web.1", DYNO_UP);
    connect_link(w);
    one = next_frame(w, "snapshot", NULL, NULL);
    assert_string_equal(json_str(json_array_get(one, 0), "address", ""), "192.0.2.1");
    json_decref(one);
    say_frame(w, parse("{'identity':{'agent':'i-1','labels':{},'address':'10.0.0.9'}}"));
    assert_null(next_frame(w, "dyno", NULL, NULL));
}

/* --- Exits --- */

static void an_exit_is_told_until_it_is_acknowledged(void **state)
{
    struct world *w = *state;
    scoped(json_freep) json_t *fields =
        parse("{'cause':'exited','fault':'app','text':'exited with status 1','status':1,"
              "'evidence':{'exit_status':1},'release':1,'run':'hello.web.1.abc'}");

    have_dyno(w);
    struct dyno *d = make_dyno(w, "hello/web.1", DYNO_CRASHED);
    connect_link(w);
    agent_dyno_exited(&w->a, d, "hello.web.1.abc", fields);
    agent_dyno_exited(&w->a, d, "hello.web.1.abc", fields); /* told again after a death */
    json_t *one = next_frame(w, "exit", NULL, NULL);
    assert_string_equal(json_str(one, "id", ""), "hello.web.1.abc");
    assert_string_equal(json_str(one, "app", ""), "hello");
    assert_string_equal(json_str(one, "dyno", ""), "web.1");
    assert_string_equal(json_str(one, "cause", ""), "exited");
    assert_string_equal(json_str(one, "fault", ""), "app");
    assert_int_equal(json_int(one, "release", 0), 1);
    assert_true(json_is_string(json_object_get(one, "t")));
    assert_null(json_object_get(one, "run"));
    json_decref(one);
    assert_null(next_frame(w, "exit", NULL, NULL));
    agent_dyno_exited(&w->a, d, "", fields); /* never had a process: an id of its own */
    one = next_frame(w, "exit", NULL, NULL);
    assert_int_equal(strncmp(json_str(one, "id", ""), "hello.web.1.none-", 17), 0);
    json_decref(one);
    agent_again(w);
    connect_link(w);
    one = next_frame(w, "exit", NULL, NULL);
    assert_string_equal(json_str(one, "id", ""), "hello.web.1.abc");
    json_decref(one);
    say_frame(w, parse("{'acked':{'exits':['hello.web.1.abc','nobody',7]}}"));
    json_t *link = agent_link(&w->a);
    assert_int_equal(json_int(link, "exits_waiting", 0), 1);
    json_decref(link);
}

/* --- What it says --- */

static void a_status_is_checked_and_shown(void **state)
{
    struct world *w = *state;

    connect_link(w);
    say_frame(w, parse("{'status':{'state':'registered','url':'https://one.test','error':null,"
                       "'fault':null,'agent':'i-7','session':'s-1','retry_ms':null,'queued':3,"
                       "'dropped':1,'counts':{'tls':2}}}"));
    json_t *link = agent_link(&w->a);
    assert_string_equal(json_str(link, "state", ""), "registered");
    assert_string_equal(json_str(link, "agent", ""), "i-7");
    assert_int_equal(json_int(json_object_get(link, "counts"), "tls", 0), 2);
    assert_true(json_bool(link, "alive", false));
    assert_true(json_is_null(json_object_get(link, "last_contact_ms")));
    json_decref(link);
    static const char *const odd[] = {
        "{'status':{'state':'dancing','agent':'x'}}",
        "{'status':{'state':'off','agent':'a b'}}",
        "{'status':[]}",
        "{'contact':{'ttl_ms':-1}}",
        "{'contact':{'ttl_ms':'1'}}",
        "{'contact':{'ttl_ms':1e300}}",
        "{'acked':{'exits':{}}}",
        "{'command':{'store':'a b','command':{}}}",
        "{'command':{'store':'a'}}",
        "{'interruption':{'kind':'flood','deadline':null,'text':'x'}}",
        "{'interruption':{'kind':'spot','deadline':'soon','text':'x'}}",
        "{'attach_up':{'attach':0,'rows':1,'cols':1}}",
        "{'attach_up':{'attach':1,'rows':-1,'cols':1}}",
        "{'attach_gone':{'attach':99999999999}}",
        "{'identity':{'agent':'','address':null}}",
        "{'whatever':{}}",
        "{'hello':{'version':'1'},'files':{}}",
        "{}",
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        say_frame(w, parse("%s", odd[i]));
        assert_int_equal(w->a.link->odd_frames, i + 1);
    }
    link = agent_link(&w->a);
    assert_string_equal(json_str(link, "state", ""), "registered"); /* nothing of it was taken */
    json_decref(link);
    assert_non_null(w->a.link->peer);
}

static void a_contact_is_remembered_within_the_boot(void **state)
{
    struct world *w = *state;
    char path[300];

    assert_int_equal(agent_last_contact(&w->a), 1); /* before this boot, for all we know */
    assert_true(link_now(&w->a, 5) > 86400 * USEC_PER_SEC);
    connect_link(w);
    say_frame(w, parse("{'contact':{'ttl_ms':30000}}"));
    uint64_t at = agent_last_contact(&w->a);
    assert_true(at > 1 && at <= clock_boot());
    assert_int_equal(link_now(&w->a, 5), 5);
    agent_again(w);
    assert_int_equal(agent_last_contact(&w->a), at);
    (void)snprintf(path, sizeof(path), "%s/contact", w->a.config.runtime_dir);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(fd_write_full(fd, "{\"boot\":\"0123456789abcdef\",\"contact\":5000}", 42), 0);
    close(fd);
    agent_again(w);
    assert_int_equal(agent_last_contact(&w->a), 1); /* another boot's */
}

static void without_a_controller_there_is_no_contact_to_lose(void **state)
{
    struct world *w = *state;

    w->a.config.controllers[0] = '\0';
    (void)snprintf(w->a.config.metadata, sizeof(w->a.config.metadata), "http://127.0.0.1:1");
    agent_again(w);
    assert_non_null(w->a.link);
    assert_false(agent_routed(&w->a));
    assert_int_equal(agent_last_contact(&w->a), 0);
    json_t *link = agent_link(&w->a);
    assert_true(json_is_null(link));
    json_decref(link);
    assert_null(w->a.link->outbox);
}

/* --- It dies --- */

static void a_program_that_cannot_be_started_is_tried_again(void **state)
{
    struct world *w = *state;

    link_start(w->a.link);
    turn(w);
    json_t *link = agent_link(&w->a);
    assert_false(json_bool(link, "alive", true));
    assert_non_null(strstr(json_str(link, "error", ""), "dynod-link"));
    assert_string_equal(json_str(link, "fault", ""), "platform");
    json_decref(link);
    write_program(w, "dynod-link", "#!/bin/sh\nexec cat >/dev/null\n");
    for (int i = 0; i < 600 && !w->a.link->peer; i++)
        run_loop(w, 100000);
    assert_non_null(w->a.link->peer);
    assert_true(w->a.link->restarts >= 1);
}

static void one_that_dies_is_started_again(void **state)
{
    struct world *w = *state;

    write_program(w, "dynod-link", "#!/bin/sh\nexit 3\n");
    link_start(w->a.link);
    for (int i = 0; i < 600 && (w->a.link->restarts < 3 || w->a.link->peer); i++)
        run_loop(w, 100000);
    turn(w); /* the last one is reaped */
    assert_true(w->a.link->restarts >= 3);
    assert_true(w->a.link->failures >= 2); /* each pause is longer */
    json_t *link = agent_link(&w->a);
    assert_non_null(strstr(json_str(link, "error", ""), "status 3"));
    json_decref(link);
}

/* What is told once only waits for the next one. */
static void results_and_notices_wait_for_it(void **state)
{
    struct world *w = *state;

    link_notice(&w->a, "agent", NULL, NULL, "while nobody %s", "listens");
    for (int i = 0; i < LINK_WAITING_MAX; i++)
        link_result(&w->a, parse("{'id':'c-%d'}", i));
    json_t *link = agent_link(&w->a);
    assert_int_equal(json_int(link, "dropped", 0), 1); /* the oldest */
    json_decref(link);
    connect_link(w);
    int n = 0;
    for (int i = 0; i < 50; i++, turn(w)) /* more than a socket takes at once */
        for (json_t *one; (one = next_frame(w, "result", NULL, NULL)); json_decref(one), n++)
            if (n == 0)
                assert_string_equal(json_str(one, "id", ""), "c-0");
    assert_int_equal(n, LINK_WAITING_MAX);
    frame_conn_freep(&w->theirs);
    turn(w);
    connect_link(w);
    assert_null(next_frame(w, "result", NULL, NULL)); /* once */
}

/* --- Attached from afar --- */

#define RUN_ATTACHED                                                                               \
    "'op':'run','app':'hello','command':'x','num':7,'tty':true,'attach':{'url':'tls://h.test:1',"  \
    "'secret':'sesame'}"

/* Its dyno, as if its slug were on its way. */
static struct dyno *attached(struct world *w)
{
    struct dyno *d;

    assert_string_equal(command(w, START(1, "'web.1'")), "done");
    connect_link(w);
    assert_string_equal(command(w, RUN_ATTACHED), "done");
    TAILQ_FOREACH (d, &w->a.dynos, link)
        if (d->oneoff) {
            d->poll = sd_event_source_disable_unref(d->poll); /* nothing is started here */
            d->state = DYNO_PROVISIONING;
            return d;
        }
    fail();
    return NULL;
}

/* Its command runs, on a terminal whose master is *ret_master (the test's). */
static void run_it(struct dyno *d, int *ret_master)
{
    struct run_attach_fds fds = {.fds = {-1, -1, -1}, .tty = true};

    fds.fds[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fds.fds[0] >= 0);
    *ret_master = dup(fds.fds[0]);
    attach_started(d->attach, &fds);
}

static unsigned dialled(struct world *w)
{
    int fds[8];
    size_t n = 0;
    json_t *frame = next_frame(w, "attach", fds, &n);

    assert_non_null(frame);
    assert_int_equal(n, 1);
    close(fds[0]);
    assert_string_equal(json_str(frame, "dyno", ""), "hello/run.7");
    assert_string_equal(json_str(frame, "url", ""), "tls://h.test:1");
    assert_string_equal(json_str(frame, "secret", ""), "sesame");
    assert_true(json_bool(frame, "tty", false));
    unsigned number = (unsigned)json_int(frame, "attach", 0);
    json_decref(frame);
    return number;
}

static bool was_r13(struct world *w)
{
    json_t *notice = next_frame(w, "notice", NULL, NULL);
    bool is = !strcmp(json_str(notice, "kind", ""), "attach") &&
              !strcmp(json_str(notice, "code", ""), "R13") &&
              !strcmp(json_str(notice, "dyno", ""), "run.7");

    json_decref(notice);
    return is && TAILQ_EMPTY(&w->a.dynos) && LIST_EMPTY(&w->a.link->remotes) &&
           !strcmp(wanted(w), "hello/web.1");
}

static void somebody_comes_and_the_command_ends(void **state)
{
    struct world *w = *state;
    struct dyno *d = attached(w);
    struct winsize size = {0};
    int master;

    run_it(d, &master);
    unsigned n = dialled(w);
    say_frame(w, parse("{'attach_up':{'attach':%u,'rows':50,'cols':132}}", n));
    assert_int_equal(ioctl(master, TIOCGWINSZ, &size), 0);
    assert_int_equal(size.ws_row, 50);
    assert_int_equal(size.ws_col, 132);
    say_frame(w, parse("{'attach_signal':{'attach':%u,'signal':2}}", n));
    attach_ended(TAKE_PTR(d->attach), 3, NULL);
    json_t *ended = next_frame(w, "attach_ended", NULL, NULL);
    assert_int_equal(json_int(ended, "attach", 0), n);
    assert_int_equal(json_int(ended, "status", 0), 3);
    json_decref(ended);
    assert_true(LIST_EMPTY(&w->a.link->remotes));
    say_frame(w, parse("{'attach_gone':{'attach':%u}}", n)); /* late: nothing */
    close(master);
}

static void nobody_can_be_dialled(void **state)
{
    struct world *w = *state;
    int master;

    run_it(attached(w), &master);
    unsigned n = dialled(w);
    say_frame(w, parse("{'attach_failed':{'attach':%u,'error':'refused'}}", n + 1)); /* no such */
    assert_false(LIST_EMPTY(&w->a.link->remotes));
    say_frame(w, parse("{'attach_failed':{'attach':%u,'error':'refused'}}", n));
    assert_true(was_r13(w));
    close(master);
}

static void the_link_dies_before_anybody_came(void **state)
{
    struct world *w = *state;
    int master;

    run_it(attached(w), &master);
    (void)dialled(w);
    frame_conn_freep(&w->theirs);
    turn(w);
    assert_true(TAILQ_EMPTY(&w->a.dynos));
    assert_true(LIST_EMPTY(&w->a.link->remotes));
    assert_string_equal(wanted(w), "hello/web.1");
    close(master);
}

static void the_link_dies_with_somebody_there(void **state)
{
    struct world *w = *state;
    struct dyno *d = attached(w);
    int master;

    run_it(d, &master);
    say_frame(w, parse("{'attach_up':{'attach':%u,'rows':0,'cols':0}}", dialled(w)));
    frame_conn_freep(&w->theirs);
    turn(w);
    assert_true(LIST_EMPTY(&w->a.link->remotes)); /* a terminal that went away: SIGHUP and so on */
    assert_false(TAILQ_EMPTY(&w->a.dynos));
    assert_false(d->attach_failed);
    close(master);
}

static void nobody_is_attached_while_the_link_is_down(void **state)
{
    struct world *w = *state;
    struct dyno *d = attached(w);
    int master;

    frame_conn_freep(&w->theirs);
    turn(w);
    assert_false(LIST_EMPTY(&w->a.link->remotes)); /* its command does not run yet */
    run_it(d, &master);
    turn(w);
    assert_true(TAILQ_EMPTY(&w->a.dynos));
    close(master);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_up, world_down)
    const struct CMUnitTest tests[] = {
        TEST(it_is_told_everything_first),
        TEST(its_files_come_as_descriptors),
        TEST(only_what_changed_is_told),
        TEST(the_address_is_the_operators_or_the_metadatas),
        TEST(an_exit_is_told_until_it_is_acknowledged),
        TEST(a_status_is_checked_and_shown),
        TEST(a_contact_is_remembered_within_the_boot),
        TEST(without_a_controller_there_is_no_contact_to_lose),
        TEST(a_program_that_cannot_be_started_is_tried_again),
        TEST(one_that_dies_is_started_again),
        TEST(results_and_notices_wait_for_it),
        TEST(somebody_comes_and_the_command_ends),
        TEST(nobody_can_be_dialled),
        TEST(the_link_dies_before_anybody_came),
        TEST(the_link_dies_with_somebody_there),
        TEST(nobody_is_attached_while_the_link_is_down),
    };

    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
