/* test_cli_instance.c - drain, undrain, and what ps and doctor say of the instance and its link,
 * against an agent that answers what the test wrote down. */
#include "fake_agent.h"

#include "base/clock.h"
#include "cli/instance.h"

#include <pty.h>

#define DRAINING(n)                                                                                \
    "{\"draining\":true,\"deadline\":null,\"reason\":\"operator\",\"dynos\":" #n ",\"since\":null}"
#define NOT_DRAINING                                                                               \
    "{\"draining\":false,\"deadline\":null,\"reason\":null,\"dynos\":2,\"since\":null}"
#define DRAINED "drained: no dyno runs here, and none is started until `dyno undrain`\n"

/* --- drain, undrain --- */

static void a_drain_waits_until_nothing_runs(void **state)
{
    static const struct step steps[] = {
        {"POST /v1/instance/drain", 200, DRAINING(3), 0},
        {"GET /v1/instance", 200, DRAINING(3), 0},
        {"GET /v1/instance", 0, "", 0}, /* the agent is restarted */
        {"GET /v1/instance", 200, DRAINING(1), 0},
        {"GET /v1/instance", 200, DRAINING(0), 0},
    };
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "drain --deadline 1m30s");
    assert_int_equal(ran.status, EXIT_USAGE); /* one unit only */
    assert_string_equal(f->asked, "");
    ran = run(f, "drain --deadline 90");
    assert_string_equal(ran.err, "");
    assert_string_equal(ran.out, "3 dynos still run\n1 dyno still runs\n" DRAINED);
    assert_int_equal(ran.status, 0);
    assert_string_equal(f->asked, "POST /v1/instance/drain {\"deadline_ms\":90000}\n"
                                  "GET /v1/instance \nGET /v1/instance \nGET /v1/instance \n"
                                  "GET /v1/instance \n");
}

static void an_empty_instance_is_drained_at_once(void **state)
{
    static const struct step steps[] = {{"POST /v1/instance/drain", 200, DRAINING(0), 0}};
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "drain");
    assert_string_equal(ran.out, DRAINED);
    assert_string_equal(f->asked, "POST /v1/instance/drain {}\n");
    START(f, steps);
    ran = run(f, "drain --deadline 0 --json");
    assert_string_equal(ran.out, DRAINING(0) "\n");
    assert_string_equal(f->asked, "POST /v1/instance/drain {\"deadline_ms\":0}\n");
}

static void nobody_has_to_wait(void **state)
{
    static const struct step steps[] = {{"POST /v1/instance/drain", 200, DRAINING(2), 0}};
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "drain --no-wait");
    assert_string_equal(ran.out, "draining (operator): 2 dynos still run\n");
    assert_int_equal(ran.status, 0);
    ran = run(f, "drain --no-wait --json");
    assert_string_equal(ran.out, DRAINING(2) "\n");
}

static void only_the_end_is_json(void **state)
{
    static const struct step steps[] = {
        {"POST /v1/instance/drain", 200, DRAINING(2), 0},
        {"GET /v1/instance", 200, DRAINING(1), 0},
        {"GET /v1/instance", 200, DRAINING(0), 0},
    };
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "drain --json");
    assert_string_equal(ran.out, DRAINING(0) "\n");
    assert_string_equal(ran.err, "");
    assert_int_equal(ran.status, 0);
}

static void a_drain_taken_back_is_no_success(void **state)
{
    static const struct step steps[] = {
        {"POST /v1/instance/drain", 200, DRAINING(2), 0},
        {"GET /v1/instance", 200, NOT_DRAINING, 0},
    };
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "drain");
    assert_int_equal(ran.status, 1);
    assert_string_equal(ran.err, "dyno: somebody took the drain back\n");
}

/* The agent's own answer is final, a restart of it is not. */
static void errors_end_the_wait(void **state)
{
    static const struct step refused[] = {
        {"POST /v1/instance/drain", 403, "{\"error\":{\"message\":\"not you\"}}", 0}};
    static const struct step broken[] = {
        {"POST /v1/instance/drain", 200, DRAINING(2), 0},
        {"GET /v1/instance", 500, "{\"error\":{\"message\":\"it broke\"}}", 0},
    };
    struct fake *f = *state;

    START(f, refused);
    struct ran ran = run(f, "drain");
    assert_int_equal(ran.status, 1);
    assert_non_null(strstr(ran.err, "dyno: not you\n  run it as root, or as a member of"));
    START(f, broken);
    ran = run(f, "drain");
    assert_int_equal(ran.status, 1);
    assert_string_equal(ran.out, "2 dynos still run\n");
    assert_string_equal(ran.err, "dyno: it broke\n");
    stop(f);
    ran = run(f, "drain");
    assert_int_equal(ran.status, 1);
    assert_non_null(strstr(ran.err, "no agent listens"));
}

/* The signal goes to this process, so the command is in it, not in a child. */
static void an_interrupt_ends_the_wait_only(void **state)
{
    static const struct step steps[] = {
        {"POST /v1/instance/drain", 200, DRAINING(2), 0},
        {"GET /v1/instance", 200, DRAINING(2), SIGINT},
    };
    struct fake *f = *state;
    int status;

    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char *argv[] = {(char[]){"drain"}, NULL};
        struct cli cli = {.command = "drain", .socket = f->path};

        f->pid = 0;
        START(f, steps); /* a child of this child */
        (void)dup2(file_in(f->dir, "out"), STDOUT_FILENO);
        (void)dup2(file_in(f->dir, "err"), STDERR_FILENO);
        cli_options_begin();
        status = command_find("drain")->run(&cli, 1, argv);
        (void)fflush(NULL);
        stop(f);
        _exit(status);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    struct ran ran;
    slurp(f->dir, "out", ran.out, sizeof(ran.out));
    slurp(f->dir, "err", ran.err, sizeof(ran.err));
    assert_string_equal(ran.out, "2 dynos still run\n");
    assert_string_equal(ran.err, "dyno: the instance still drains: `dyno drain` waits for it "
                                 "again, `dyno undrain` takes it back\n");
}

static void a_terminal_has_one_line_that_changes(void **state)
{
    static const struct step steps[] = {
        {"POST /v1/instance/drain", 200, DRAINING(2), 0},
        {"GET /v1/instance", 200, DRAINING(1), 0},
        {"GET /v1/instance", 200, DRAINING(0), 0},
    };
    struct fake *f = *state;
    char *argv[] = {(char[]){"drain"}, NULL}, text[4096] = {0};
    size_t len = 0;
    int pty, tty;

    START(f, steps);
    assert_int_equal(openpty(&pty, &tty, NULL, NULL, NULL), 0);
    assert_int_equal(run_in_child(f, tty, argv), 0);
    close(tty);
    for (ssize_t n; (n = read(pty, text + len, sizeof(text) - 1 - len)) > 0;)
        len += (size_t)n;
    close(pty);
    assert_string_equal(text, "\r\x1b[K2 dynos still run\r\x1b[K1 dyno still runs\r\x1b[K"
                              "drained: no dyno runs here, and none is started until `dyno "
                              "undrain`\r\n");
}

static void an_undrain(void **state)
{
    static const struct step steps[] = {{"POST /v1/instance/undrain", 200, NOT_DRAINING, 0}};
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "undrain");
    assert_string_equal(ran.out, "this instance takes dynos again\n");
    assert_int_equal(ran.status, 0);
    ran = run(f, "undrain --json");
    assert_string_equal(ran.out, NOT_DRAINING "\n");
    assert_string_equal(f->asked, "POST /v1/instance/undrain \nPOST /v1/instance/undrain \n");
    stop(f);
    ran = run(f, "undrain");
    assert_int_equal(ran.status, 1);
    assert_non_null(strstr(ran.err, "no agent listens"));
}

static void wrong_words_are_told(void **state)
{
    static const char *const bad[][2] = {
        {"drain now", "'now' is one word too many"},
        {"drain --deadline", "--deadline needs a value"},
        {"drain --deadline soon", "--deadline soon: a time is needed"},
        {"drain --deadline -1", "--deadline -1: a time is needed"},
        {"drain --force", "unknown option --force"},
        {"undrain shop", "'shop' is one word too many"},
        {"undrain --no-wait", "unknown option --no-wait"},
    };
    struct fake *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ran ran = run(f, bad[i][0]);

        assert_int_equal(ran.status, EXIT_USAGE);
        if (!strstr(ran.err, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], ran.err);
    }
    assert_true(strstr(run(f, "drain --help").out, "--deadline TIME") != NULL);
    assert_true(strstr(run(f, "undrain -h").out, "usage: dyno undrain") != NULL);
}

/* --- ps, doctor --- */

#define LINK                                                                                       \
    "{\"state\":\"registered\",\"url\":\"https://a\",\"error\":null,\"fault\":null,"               \
    "\"agent\":\"i-0abc\",\"session\":\"s\",\"retry_ms\":null,\"queued\":2,\"dropped\":0,"         \
    "\"counts\":{\"tls\":3},\"alive\":true,\"restarts\":0,\"last_contact_ms\":2500,"               \
    "\"exits_waiting\":1,\"store\":\"db-7c1e\",\"generation\":41}"

static void ps_tells_of_the_instance(void **state)
{
    static const struct step quiet[] = {
        {"GET /v1/dynos", 200, "[]", 0},
        {"GET /v1/status", 200, "{\"link\":null,\"instance\":" NOT_DRAINING "}", 0},
    };
    static const struct step busy[] = {
        {"GET /v1/dynos?app=shop", 200,
         "[{\"app\":\"shop\",\"dyno\":\"web.9999999\",\"state\":\"up\",\"release\":3}]", 0},
        {"GET /v1/status", 200, "{\"link\":" LINK ",\"instance\":" DRAINING(1) "}", 0},
        {"GET /v1/dynos", 200, "[]", 0},
    };
    struct fake *f = *state;

    START(f, quiet);
    struct ran ran = run(f, "ps");
    assert_string_equal(ran.out, "No dynos. Start an app: dyno start APP --slug URL\n");
    START(f, busy);
    ran = run(f, "ps shop");
    const char *below = strchr(ran.out, '\n') + 1;
    assert_true(str_starts(below, "shop/web.9999999  up "));
    assert_string_equal(strchr(below, '\n') + 1, "draining (operator): 1 dyno still runs\n"
                                                 "link registered with https://a as i-0abc\n");
    ran = run(f, "ps");
    assert_string_equal(ran.out, "No dynos. Start an app: dyno start APP --slug URL\n"
                                 "draining (operator): 1 dyno still runs\n"
                                 "link registered with https://a as i-0abc\n");
    /* For programs the list is the list: the status has the rest. */
    START(f, busy);
    ran = run(f, "ps --json");
    assert_string_equal(ran.out, "[]\n");
    assert_string_equal(f->asked, "GET /v1/dynos \n");
}

static void doctor_tells_of_the_link(void **state)
{
    static const struct step steps[] = {
        {"GET /v1/doctor", 200,
         "[{\"name\":\"cgroup2\",\"found\":true,\"required\":true,\"detail\":\"here\"}]", 0},
        {"GET /v1/status", 200, "{\"link\":" LINK "}", 0},
    };
    static const struct step none[] = {
        {"GET /v1/doctor", 200, "[]", 0},
        {"GET /v1/status", 200, "{\"link\":null}", 0},
    };
    static const struct step trouble[] = {
        {"GET /v1/doctor", 200, "[]", 0},
        {"GET /v1/status", 200,
         "{\"link\":{\"state\":\"backoff\",\"url\":\"https://a\",\"error\":\"certificate \\u001b[1m "
         "expired\",\"fault\":\"operator\",\"agent\":\"\",\"retry_ms\":12000,\"alive\":true,"
         "\"restarts\":2,\"last_contact_ms\":null,\"counts\":{\"tls\":3,\"http-500\":1,"
         "\"none\":0}}}",
         0},
    };
    static const struct step off[] = {
        {"GET /v1/doctor", 200, "[]", 0},
        {"GET /v1/status", 200, "{\"link\":{\"state\":\"off\",\"alive\":true,\"counts\":{}}}", 0},
    };
    static const struct step gone[] = {
        {"GET /v1/doctor", 200, "[]", 0},
        {"GET /v1/status", 200, "{\"link\":{\"state\":\"registered\",\"alive\":false}}", 0},
    };
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "doctor");
    assert_int_equal(ran.status, 0);
    assert_string_equal(ran.out,
                        "found       cgroup2      here\n"
                        "registered  link         with https://a as i-0abc\n"
                        "            link         last answer 2s ago, store db-7c1e at generation "
                        "41, exits waiting: 1, reports queued: 2\n"
                        "            link errors  tls 3\n");
    ran = run(f, "doctor --json");
    assert_string_equal(
        ran.out, "[{\"name\":\"cgroup2\",\"found\":true,\"required\":true,\"detail\":\"here\"},"
                 "{\"name\":\"link\",\"found\":true,\"required\":false,"
                 "\"detail\":\"with https://a as i-0abc\",\"link\":" LINK "}]\n");
    START(f, none);
    ran = run(f, "doctor");
    assert_string_equal(ran.out, "");
    START(f, trouble);
    ran = run(f, "doctor");
    assert_int_equal(ran.status, 0); /* dynos run nevertheless */
    assert_string_equal(ran.out,
                        "backoff  link         with https://a, next try in 12s: certificate "
                        "\\x1b[1m expired (operator's fault)\n"
                        "         link         no answer yet, restarts of dynod-link: 2\n"
                        "         link errors  tls 3, http-500 1\n");
    START(f, off);
    ran = run(f, "doctor");
    assert_string_equal(ran.out, "off  link  no controller\n");
    START(f, gone);
    ran = run(f, "doctor");
    assert_true(str_starts(ran.out, "gone  link  dynod-link is gone and being started again\n"));
}

static void a_start_does_not_wait_for_a_drained_instance(void **state)
{
    static const struct step steps[] = {
        {"GET /v1/events?follow=1&n=0", 200, "", 0},
        {"POST /v1/apps/shop/releases", 201, "{\"release\":{\"version\":1}}", 0},
        {"GET /v1/apps/shop", 200, "{\"release\":{\"version\":1},\"formation\":{\"web\":1}}", 0},
        {"GET /v1/dynos?app=shop", 200, "[]", 0},
        {"GET /v1/instance", 200, DRAINING(0), 0},
    };
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "start shop --slug https://store/s.tgz");
    assert_int_equal(ran.status, 1);
    assert_string_equal(ran.err, "dyno: this instance drains: shop starts after `dyno undrain`\n");
    /* An older agent does not know the question. */
    start(f, steps, 4);
    ran = run(f, "start shop --slug https://store/s.tgz");
    assert_non_null(strstr(f->asked, "GET /v1/instance"));
    assert_null(strstr(ran.err, "drain"));
}

/* --- Formations of numbers --- */

static void a_formation_may_be_a_list(void **state)
{
    static const struct step steps[] = {
        {"PATCH /v1/apps/shop/formation", 200, "{\"web\":3,\"worker\":[1,4,7],\"clock\":[]}", 0}};
    struct fake *f = *state;

    START(f, steps);
    struct ran ran = run(f, "scale shop web=3");
    assert_string_equal(ran.out, "shop: web=3 worker=1,4,7 clock=0\n");
    assert_string_equal(f->asked, "PATCH /v1/apps/shop/formation {\"web\":3}\n");
}

static void ps_and_doctor_without_an_answer(void **state)
{
    static const struct step half[] = {
        {"GET /v1/dynos?app=shop", 200, "[]", 0},
        {"GET /v1/dynos", 200, "[]", 0},
        {"GET /v1/doctor", 200, "[]", 0},
        {"GET /v1/status", 500, "{\"error\":{\"message\":\"it broke\"}}", 0},
    };
    static const struct step whole[] = {
        {"GET /v1/dynos?app=shop", 200, "[]", 0},
        {"GET /v1/status", 200, "{}", 0},
    };
    struct fake *f = *state;

    START(f, half);
    assert_string_equal(run(f, "ps shop").err, "dyno: it broke\n");
    assert_string_equal(run(f, "doctor").err, "dyno: it broke\n");
    assert_int_equal(run(f, "doctor").status, 1);
    START(f, whole);
    assert_string_equal(run(f, "ps shop").out,
                        "No dynos of shop. Scale it up: dyno scale shop web=1\n");
    assert_int_equal(run(f, "ps shop blog").status, EXIT_USAGE);
    assert_int_equal(run(f, "ps shop/web.1").status, EXIT_USAGE);
    assert_int_equal(run(f, "doctor shop").status, EXIT_USAGE);
    stop(f);
    assert_int_equal(run(f, "ps").status, 1);
    /* Doctor looks itself. */
    struct ran ran = run(f, "doctor");
    assert_non_null(strstr(ran.out, "(No agent was asked: this is what "));
    assert_null(strstr(ran.out, "link"));
}

/* --- Words --- */

static void expect_line(void (*fn)(const json_t *, struct str *), const char *json,
                        const char *want)
{
    struct str out = {0};
    json_t *j = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;

    fn(j, &out);
    assert_string_equal(str_text(&out), want);
    str_done(&out);
    json_decref(j);
}

static void links_in_words(void **state)
{
    (void)state;
    expect_line(link_line, NULL, "");
    expect_line(link_line, "null", "");
    expect_line(link_line, "{\"state\":\"off\",\"alive\":true,\"agent\":\"i-1\"}", "");
    expect_line(link_line, "{\"state\":\"connecting\",\"url\":\"https://a\",\"agent\":\"\"}",
                "link connecting with https://a\n");
    expect_line(link_line,
                "{\"state\":\"conflict\",\"url\":\"https://a\",\"agent\":\"i-1\",\"error\":\"store "
                "b is not a\",\"fault\":\"operator\"}",
                "link conflict with https://a as i-1: store b is not a (operator's fault)\n");
    expect_line(link_line,
                "{\"state\":\"backoff\",\"url\":null,\"agent\":\"\",\"retry_ms\":0,"
                "\"error\":\"x\",\"fault\":\"none\"}",
                "link backoff with no controller yet, next try in 0s: x\n");
    expect_line(link_line, "{\"state\":\"registered\",\"alive\":false}",
                "link dynod-link is gone and being started again\n");
    expect_line(link_line,
                "{\"state\":\"connecting\",\"alive\":false,\"error\":\"no \\u001b such program\","
                "\"fault\":\"platform\"}",
                "link dynod-link is gone and being started again: no \\x1b such program "
                "(platform's fault)\n");
    expect_line(link_line,
                "{\"state\":\"conflict\",\"url\":\"https://a\",\"agent\":\"i-1\","
                "\"conflict\":\"db-2\"}",
                "link conflict with https://a as i-1; refuses commands of the store db-2\n");
    expect_line(link_words, "{\"state\":\"off\",\"agent\":\"i-1\"}", "no controller");
    expect_line(link_errors, "{\"counts\":{}}", "");
    expect_line(link_errors, "{\"counts\":{\"a\\u001b\":1,\"b\":\"2\"}}", "a\\x1b 1");
    expect_line(link_errors, "{\"counts\":7}", "");
    expect_line(link_progress, "{\"generation\":4,\"store\":null,\"dropped\":5}",
                "no answer yet, dropped: 5");
}

static void expect_instance(const char *json, const char *want)
{
    /* 2026-11-21T12:00:00Z */
    const uint64_t now = UINT64_C(1795262400) * USEC_PER_SEC;
    struct str out = {0};
    json_t *j = json_loads(json, 0, NULL);

    assert_non_null(j);
    instance_line(j, now, &out);
    assert_string_equal(str_text(&out), want);
    str_done(&out);
    json_decref(j);
}

static void drains_in_words(void **state)
{
    struct str out = {0};

    (void)state;
    instance_line(NULL, 0, &out); /* an agent that knows nothing of it */
    assert_int_equal(out.len, 0);
    expect_instance(NOT_DRAINING, "");
    expect_instance("{\"draining\":true,\"dynos\":0,\"reason\":\"spot\"}",
                    "drained (spot): no dyno runs here\n");
    expect_instance("{\"draining\":true,\"dynos\":2,\"reason\":null}",
                    "draining: 2 dynos still run\n");
    expect_instance("{\"draining\":true,\"dynos\":2,\"reason\":\"a\\u001b\",\"deadline\":"
                    "\"2026-11-21T12:01:40.000000+00:00\"}",
                    "draining (a\\x1b): 2 dynos still run, deadline in 1m40s\n");
    expect_instance("{\"draining\":true,\"dynos\":1,\"deadline\":\"2026-11-21T11:59:59Z\"}",
                    "draining: 1 dyno still runs, past the deadline\n");
    expect_instance("{\"draining\":true,\"dynos\":1,\"deadline\":\"2026-11-21T11:59:59+01:00\"}",
                    "draining: 1 dyno still runs\n");
    expect_instance("{\"draining\":true,\"dynos\":1,\"deadline\":\"tomorrow\"}",
                    "draining: 1 dyno still runs\n");
    expect_instance("{\"draining\":true,\"dynos\":1,\"deadline\":\"1960-01-01T00:00:00Z\"}",
                    "draining: 1 dyno still runs\n");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_drain_waits_until_nothing_runs),
        TEST(an_empty_instance_is_drained_at_once),
        TEST(nobody_has_to_wait),
        TEST(only_the_end_is_json),
        TEST(a_drain_taken_back_is_no_success),
        TEST(errors_end_the_wait),
        TEST(an_interrupt_ends_the_wait_only),
        TEST(a_terminal_has_one_line_that_changes),
        TEST(an_undrain),
        TEST(wrong_words_are_told),
        TEST(ps_tells_of_the_instance),
        TEST(doctor_tells_of_the_link),
        TEST(ps_and_doctor_without_an_answer),
        TEST(a_start_does_not_wait_for_a_drained_instance),
        TEST(a_formation_may_be_a_list),
        cmocka_unit_test(links_in_words),
        cmocka_unit_test(drains_in_words),
    };

    return cmocka_run_group_tests_name("cli_instance", tests, NULL, NULL);
}
