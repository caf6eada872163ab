/* drain.c - dyno drain [--deadline S] [--no-wait]: and the wait until nothing runs. */
#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/instance.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_MS          250 /* between two looks */
#define AGENT_AWAY_SEC   10  /* an agent that is restarted meanwhile is back by then */
#define EXIT_INTERRUPTED (128 + SIGINT)

#define ERASE_LINE "\r\x1b[K"

/* What has been shown. */
struct shown {
    bool terminal;
    bool line;     /* the terminal's line is not ended */
    int64_t dynos; /* of the last plain line */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
    (void)signo;
    interrupted = 1;
}

static void end_line(struct shown *s)
{
    if (s->line)
        (void)printf(ERASE_LINE);
    s->line = false;
    (void)fflush(stdout);
}

/* On a terminal one line that changes; elsewhere a line whenever fewer run. */
static void show(struct shown *s, const json_t *instance)
{
    scoped(str_done) struct str text = {0};
    int64_t dynos = json_int(instance, "dynos", 0);

    if (!s->terminal && dynos == s->dynos)
        return;
    s->dynos = dynos;
    instance_left(instance, clock_real(), &text);
    (void)printf(s->terminal ? ERASE_LINE "%s" : "%s\n", str_text(&text));
    (void)fflush(stdout);
    s->line = s->terminal;
}

/* *ret as it was while the agent is away; -ENOTCONN: for too long. */
static int look(const struct cli *cli, uint64_t *last_seen, json_t **ret, struct err *e)
{
    json_t *instance = NULL;
    int r = client_call(cli->socket, "GET", "/v1/instance", NULL, &instance, e);

    if (r == 0) {
        *last_seen = clock_boot();
        json_decref(*ret);
        *ret = instance;
        return 0;
    }
    if ((r == -ENOTCONN || r == -EPIPE) && /* EPIPE: it went while it answered */
        clock_boot() - *last_seen < AGENT_AWAY_SEC * USEC_PER_SEC)
        return 0;
    return r;
}

static int stopped_waiting(struct shown *s)
{
    end_line(s);
    (void)fprintf(stderr, "dyno: the instance still drains: `dyno drain` waits for it again, "
                          "`dyno undrain` takes it back\n");
    return cli_flush(EXIT_INTERRUPTED);
}

static int drained(const struct cli *cli, struct shown *s, const json_t *instance)
{
    end_line(s);
    if (cli->json)
        return cli_print_json(instance);
    (void)printf("drained: no dyno runs here, and none is started until `dyno undrain`\n");
    return cli_flush(EXIT_OK);
}

/* Takes over *INSTANCE, the drain's answer. */
static int wait_empty(const struct cli *cli, json_t **instance)
{
    struct shown s = {.terminal = isatty(STDOUT_FILENO) && !cli->json, .dynos = -1};
    const struct sigaction act = {.sa_handler = on_interrupt};
    uint64_t last_seen = clock_boot();
    struct err e = ERR_INIT;

    (void)sigaction(SIGINT, &act, NULL); /* cannot fail for a handler of SIGINT */
    for (;;) {
        if (!json_bool(*instance, "draining", false)) {
            end_line(&s);
            (void)err_say(&e, ECANCELED, "somebody took the drain back");
            return cli_fail(&e);
        }
        if (json_int(*instance, "dynos", -1) == 0)
            return drained(cli, &s, *instance);
        if (!cli->json)
            show(&s, *instance);
        if (interrupted)
            return stopped_waiting(&s);
        (void)poll(NULL, 0, LOOK_MS); /* ends early by Ctrl-C only */
        if (look(cli, &last_seen, instance, &e) < 0) {
            end_line(&s);
            return cli_fail(&e);
        }
    }
}

static int drain(const struct cli *cli, uint64_t deadline, bool no_wait)
{
    scoped(json_freep) json_t *spec = json_object(), *instance = NULL;
    scoped(str_done) struct str text = {0};
    struct err e = ERR_INIT;

    if (deadline != USEC_NEVER &&
        json_object_set_new(spec, "deadline_ms",
                            json_integer((json_int_t)(deadline / USEC_PER_MSEC))) < 0) {
        (void)err_set(&e, ENOMEM, "make a drain");
        return cli_fail(&e);
    }
    if (client_call(cli->socket, "POST", "/v1/instance/drain", spec, &instance, &e) < 0)
        return cli_fail(&e);
    if (!no_wait)
        return wait_empty(cli, &instance);
    if (cli->json)
        return cli_print_json(instance);
    instance_line(instance, clock_real(), &text);
    (void)fputs(str_text(&text), stdout);
    return cli_flush(EXIT_OK);
}

int cmd_drain(struct cli *cli, int argc, char **argv)
{
    enum { OPT_DEADLINE = 1, OPT_NO_WAIT };
    static const struct option longs[] = {{"deadline", required_argument, NULL, OPT_DEADLINE},
                                          {"no-wait", no_argument, NULL, OPT_NO_WAIT},
                                          CLI_OPTIONS};
    uint64_t deadline = USEC_NEVER;
    bool no_wait = false;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "", longs, &status)) >= 0) {
        no_wait = no_wait || c == OPT_NO_WAIT;
        if (c == OPT_DEADLINE && parse_usec(optarg, &deadline) < 0)
            return cli_usage(cli, "--deadline %s: a time is needed, like 90, 90s or 2m", optarg);
    }
    if (c == CLI_STOP)
        return status;
    if (optind < argc)
        return cli_usage(cli, "'%s' is one word too many", argv[optind]);
    return drain(cli, deadline, no_wait);
}
