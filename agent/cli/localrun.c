#include "cli/localrun.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/foreman.h"
#include "cli/text.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#define QUIET_MS     100 /* without a line: what an ended dyno wrote has arrived */
#define QUIET_MAX_MS 1000

struct local {
    const struct local_plan *plan;
    struct private_agent *agent;
    const char *socket;
    struct feed *logs, *events;
    struct foreman look;
    int signals;
    size_t first[PROCFILE_MAX_TYPES]; /* index of a type's first dyno in `ended` */
    bool *ended;
    size_t n_dynos, n_ended;
    int status; /* to exit with; -1: not known yet */
    bool stopping, killed;
    bool look_again; /* ask the agent how its dynos are */
    bool over;       /* nothing runs any more */
    bool stdout_broken;
    uint64_t deadline; /* boot time of the next harsher step; 0: none */
};

/* --- Output --- */

static void put_line(struct local *l, const char *name, const char *text, size_t len)
{
    scoped(str_done) struct str out = {0};
    time_t now = time(NULL);
    struct tm when;

    if (l->stdout_broken || !localtime_r(&now, &when))
        return;
    foreman_line(&l->look, &out, &when, name, text, len);
    if (fwrite(str_text(&out), 1, out.len, stdout) != out.len || fflush(stdout) != 0)
        l->stdout_broken = true;
}

static void put(struct local *l, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put(struct local *l, const char *name, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put_line(l, name, text, strlen(text));
}

/* The type's place and the index in `ended` of "web.1"; false: none of ours. */
static bool find_dyno(const struct local *l, const char *name, size_t *ret_type, size_t *ret_index)
{
    const char *dot = strrchr(name, '.');
    uint64_t num;

    for (size_t i = 0; dot && i < l->plan->types.n_types; i++) {
        const char *type = l->plan->types.types[i].name;

        if (strlen(type) != (size_t)(dot - name) || memcmp(type, name, (size_t)(dot - name)) != 0)
            continue;
        if (parse_u64(dot + 1, 1, l->plan->counts[i], &num) < 0)
            return false;
        *ret_type = i;
        *ret_index = l->first[i] + (size_t)num - 1;
        return true;
    }
    return false;
}

/* What the platform says about a dyno: errors as they are, the start with its port. */
static void on_platform_line(struct local *l, const char *dyno, const char *text)
{
    size_t type, index;

    if (str_starts(text, "Error "))
        put(l, dyno, "%s", text);
    else if (str_starts(text, "Starting process") && find_dyno(l, dyno, &type, &index))
        put(l, dyno, "started on port %zu", l->plan->ports[type] + index - l->first[type]);
}

static int on_log(struct local *l, const char *line, size_t len, struct err *e)
{
    scoped(json_freep) json_t *j = NULL;
    int r = json_parse(line, len, CLIENT_LINE_MAX, &j, e);

    if (r < 0)
        return err_wrap(e, "a log line");
    const char *dyno = json_str(j, "dyno", "system");
    const json_t *text = json_object_get(j, "text");
    if (!strcmp(json_str(j, "source", ""), "app"))
        put_line(l, dyno, json_string_value(text) ? json_string_value(text) : "",
                 json_string_length(text));
    else
        on_platform_line(l, dyno, json_str(j, "text", ""));
    return 0;
}

/* All log lines there are now. */
static int read_logs(struct local *l, struct err *e)
{
    const char *line;
    size_t len;
    int r;

    while ((r = feed_line(l->logs, &line, &len, e)) > 0)
        if (len && (r = on_log(l, line, len, e)) < 0)
            return r;
    return r;
}

/* What a dyno wrote before its end comes before the words about it. */
static int read_logs_until_quiet(struct local *l, struct err *e)
{
    uint64_t deadline = clock_boot() + QUIET_MAX_MS * USEC_PER_MSEC;
    struct pollfd p = {.fd = feed_fd(l->logs), .events = POLLIN};
    int r;

    do
        r = read_logs(l, e);
    while (r == 0 && clock_boot() < deadline && poll(&p, 1, QUIET_MS) > 0);
    return r == -ENODATA ? 0 : r;
}

/* --- Stopping --- */

static void begin_stop(struct local *l)
{
    struct target t = {0};
    struct err e = ERR_INIT;
    char path[CALL_PATH_MAX];

    if (l->stopping)
        return;
    l->stopping = true;
    l->look_again = true;
    l->deadline = clock_boot() + LOCAL_STOP_MS * USEC_PER_MSEC;
    put(l, "system", "sending SIGTERM to all processes");
    (void)snprintf(t.app, sizeof(t.app), "%s", l->plan->app);
    if (client_call(l->socket, "POST", call_path(&t, "stop", path), NULL, NULL, &e) < 0)
        put(l, "system", "%s", e.text);
}

/* The last means: the agent knows no such command, because a platform has no use for it. */
static void kill_all(struct local *l)
{
    scoped(json_freep) json_t *dynos = NULL;
    struct err e = ERR_INIT;
    const json_t *dyno;
    size_t i;

    if (!l->killed)
        put(l, "system", "sending SIGKILL to all processes");
    l->killed = true;
    l->look_again = true;
    l->deadline = clock_boot() + LOCAL_KILL_MS * USEC_PER_MSEC;
    if (client_call(l->socket, "GET", "/v1/dynos", NULL, &dynos, &e) < 0)
        return;
    json_array_foreach (dynos, i, dyno) {
        int64_t pid = json_int(dyno, "pid", 0);

        /* Of its namespace's first process, so that nothing of the dyno outlives it. */
        if (pid > 1 && pid <= INT32_MAX)
            (void)kill((pid_t)pid, SIGKILL);
    }
}

static void on_exit_of(struct local *l, const char *name, int status, struct err *e)
{
    size_t type, index;
    char text[64];

    if (!find_dyno(l, name, &type, &index) || l->ended[index])
        return;
    (void)read_logs_until_quiet(l, e); /* if the stream broke, the loop will see it */
    l->ended[index] = true;
    l->n_ended++;
    if (status < 0) /* none on record: its dyno-init was killed, by us or by another */
        status = l->killed ? 128 + SIGKILL : EXIT_FAIL;
    put(l, name, "%s", text_exit(status, text, sizeof(text)));
    if (l->status < 0)
        l->status = status;
    l->over = l->n_ended == l->n_dynos;
    if (!l->over)
        begin_stop(l);
}

/* --- What happens --- */

static void on_event(struct local *l, const json_t *event, struct err *e)
{
    const char *kind = json_str(event, "kind", ""), *text = json_str(event, "text", NULL);
    const char *dyno = json_str(event, "dyno", NULL);

    if (!strcmp(kind, "overflow")) {
        l->look_again = true;
    } else if (!strcmp(kind, "exit") && dyno) {
        /* Why it never ran is in no log of its own. */
        if (text && !json_bool(json_object_get(event, "evidence"), "started", true))
            put(l, dyno, "%s", text);
        on_exit_of(l, dyno, call_exit_status(event), e);
    } else if (l->stopping) {
        l->look_again = true; /* one that had nothing to exit from */
    }
}

static int read_events(struct local *l, struct err *e)
{
    for (;;) {
        scoped(json_freep) json_t *event = NULL;
        int r = feed_event(l->events, &event, e);

        if (r <= 0)
            return r;
        on_event(l, event, e);
    }
}

static bool state_lives(const char *state)
{
    return strcmp(state, "down") != 0 && strcmp(state, "crashed") != 0 &&
           strcmp(state, "complete") != 0;
}

/* Asks instead of believing the events: some may have been dropped, some dynos never ran. */
static int look_at_dynos(struct local *l, struct err *e)
{
    scoped(json_freep) json_t *dynos = NULL;
    const json_t *dyno;
    size_t i, living = 0;
    int r = client_call(l->socket, "GET", "/v1/dynos", NULL, &dynos, e);

    l->look_again = false;
    if (r < 0)
        return r;
    json_array_foreach (dynos, i, dyno) {
        const json_t *last = json_object_get(dyno, "last_exit");

        if (state_lives(json_str(dyno, "state", "")))
            living++;
        else if (json_is_object(last))
            on_exit_of(l, json_str(dyno, "dyno", ""), call_exit_status(last), e);
    }
    l->over = l->over || (l->stopping && living == 0);
    return 0;
}

static void on_signals(struct local *l)
{
    struct signalfd_siginfo info;

    while (read(l->signals, &info, sizeof(info)) == sizeof(info)) {
        int signo = (int)info.ssi_signo;
        char name[32];

        if (l->stopping) {
            kill_all(l);
            continue;
        }
        if (l->look.terminal && signo == SIGINT)
            (void)putchar('\n'); /* after the terminal's own "^C" */
        put(l, "system", "%s received, starting shutdown", text_signal(signo, name, sizeof(name)));
        if (l->status < 0)
            l->status = 128 + signo;
        begin_stop(l);
    }
}

static int agent_died(struct local *l, struct err *e)
{
    scoped_free char *log = private_log(l->agent);

    if (log && *log)
        (void)fprintf(stderr, "%s\n", log);
    return err_say(e, ECHILD, "the private agent ended unexpectedly; what it said last is above");
}

static int poll_timeout(const struct local *l)
{
    uint64_t now = clock_boot();

    if (!l->deadline)
        return -1;
    return l->deadline <= now ? 0 : (int)((l->deadline - now) / USEC_PER_MSEC) + 1;
}

static int serve(struct local *l, const struct pollfd *polls, struct err *e)
{
    int r = 0;

    if (polls[1].revents)
        r = read_logs(l, e);
    if (r == 0 && polls[2].revents)
        r = read_events(l, e);
    if (r == 0 && polls[0].revents)
        on_signals(l);
    if (r == 0 && l->look_again && !l->over)
        r = look_at_dynos(l, e);
    if (l->stdout_broken && !l->stopping) {
        l->status = EXIT_FAIL;
        begin_stop(l);
    }
    /* The agent's end closes the streams too: it is the better explanation. */
    if (polls[3].revents)
        r = agent_died(l, e);
    return r;
}

/* All have ended; what is still on its way about them comes too. */
static int last_words(struct local *l, struct err *e)
{
    uint64_t deadline = clock_boot() + QUIET_MAX_MS * USEC_PER_MSEC;
    struct pollfd p = {.fd = feed_fd(l->events), .events = POLLIN};
    int r = 0;

    while (r == 0 && l->n_ended < l->n_dynos && clock_boot() < deadline &&
           poll(&p, 1, QUIET_MS) > 0)
        r = read_events(l, e);
    if (r == 0 || r == -ENODATA)
        r = read_logs_until_quiet(l, e);
    return r;
}

static int local_loop(struct local *l, struct err *e)
{
    while (!l->over) {
        struct pollfd polls[] = {{.fd = l->signals, .events = POLLIN},
                                 {.fd = feed_fd(l->logs), .events = POLLIN},
                                 {.fd = feed_fd(l->events), .events = POLLIN},
                                 {.fd = private_pidfd(l->agent), .events = POLLIN}};
        int n = poll(polls, 4, poll_timeout(l));

        if (n < 0 && errno != EINTR)
            return err_set(e, errno, "wait");
        int r = n >= 0 ? serve(l, polls, e) : 0;
        if (r < 0)
            return r == -ENODATA || r == -EPIPE ? agent_died(l, e) : r;
        if (l->over || !l->deadline || clock_boot() < l->deadline)
            continue;
        if (l->killed)
            return err_say(e, ETIMEDOUT, "some dynos cannot be killed");
        kill_all(l);
    }
    return last_words(l, e);
}

/* --- The start --- */

static int local_begin(struct local *l, struct err *e)
{
    scoped(json_freep) json_t *release = NULL;
    struct target t = {0};
    char path[CALL_PATH_MAX];
    /* First, so that nothing is missed. */
    int r = client_feed(l->socket, "/v1/logs?follow=1&n=0&format=json", &l->logs, e);

    if (r == 0)
        r = client_feed(l->socket, "/v1/events?follow=1&n=0", &l->events, e);
    if (r == 0)
        r = local_plan_release(l->plan, &release, e);
    (void)snprintf(t.app, sizeof(t.app), "%s", l->plan->app);
    return r < 0
               ? r
               : client_call(l->socket, "POST", call_path(&t, "releases", path), release, NULL, e);
}

static void local_freep(struct local **l)
{
    if (!*l)
        return;
    feed_freep(&(*l)->logs);
    feed_freep(&(*l)->events);
    free((*l)->ended);
    free(*l);
    *l = NULL;
}

int local_run(const struct cli *cli, const struct local_plan *plan, struct private_agent *agent,
              int signals, int *ret_status, struct err *e)
{
    scoped(local_freep) struct local *l = calloc(1, sizeof(*l));

    if (!l)
        return err_set(e, ENOMEM, "run");
    l->plan = plan;
    l->agent = agent;
    l->socket = private_socket(agent);
    l->signals = signals;
    l->status = -1;
    for (size_t i = 0; i < plan->types.n_types; i++) {
        l->first[i] = l->n_dynos;
        l->n_dynos += plan->counts[i];
    }
    assert(l->n_dynos > 0); /* an empty formation is refused where it is read */
    l->ended = calloc(l->n_dynos, sizeof(*l->ended));
    if (!l->ended)
        return err_set(e, ENOMEM, "run");
    foreman_init(&l->look, &plan->types, plan->counts, cli->color, isatty(STDOUT_FILENO));
    int r = local_begin(l, e);
    if (r == 0)
        r = local_loop(l, e);
    if (r < 0)
        return r;
    *ret_status = l->status < 0 ? EXIT_FAIL : l->status;
    return 0;
}
