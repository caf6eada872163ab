/* run.c - dyno run [--app APP | --slug SLUG] [DIR] -- COMMAND [ARG...] */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/attach.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/localplan.h"
#include "cli/private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

struct run_options {
    struct local_options local;
    const char *app;
    const char *size;
    enum attach_tty tty_mode;
    char **command;
};

/* The one-off itself, in the agent at SOCKET. ENV: beside the release's; may be NULL. */
static int attach_one_off(const char *socket, const char *app, const struct run_options *o,
                          json_t *env, int *ret_status, struct err *e)
{
    scoped(json_freep) json_t *spec = json_object();
    struct target t = {0};
    char path[CALL_PATH_MAX];
    bool tty = attach_wants_tty(o->tty_mode);
    int sock = -1;
    int r = call_command(spec, o->command, e);

    (void)snprintf(t.app, sizeof(t.app), "%s", app);
    if (r == 0 && tty)
        r = attach_describe_tty(spec, e);
    if (r == 0 && ((o->size && json_object_set_new(spec, "size", json_string(o->size)) < 0) ||
                   (env && json_object_set(spec, "env", env) < 0)))
        r = err_say(e, EINVAL, "the size is not UTF-8");
    if (r == 0)
        r = client_upgrade(socket, call_path(&t, "run", path), spec, &sock, e);
    return r < 0 ? r : attach_run(sock, tty, ret_status, e);
}

static int run_in_app(const struct cli *cli, const struct run_options *o, int *ret_status,
                      struct err *e)
{
    scoped(json_freep) json_t *env = NULL;
    int r = o->local.env ? env_load(o->local.env, NULL, &env, e) : 0;

    return r < 0 ? r : attach_one_off(cli->socket, o->app, o, env, ret_status, e);
}

/* Waits for the private agent; a signal meanwhile ends the whole, with its status. */
static int start_agent(struct private_agent **ret, int *ret_status, struct err *e)
{
    struct signalfd_siginfo info;
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGQUIT);
    scoped_fd cancel = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int r = private_start(cancel, ret, e);
    if (r == -EINTR && read(cancel, &info, sizeof(info)) == sizeof(info))
        *ret_status = 128 + (int)info.ssi_signo;
    return r;
}

static int run_private(const struct run_options *o, int *ret_status, struct err *e)
{
    scoped(local_plan_freep) struct local_plan *plan = NULL;
    scoped(json_freep) json_t *release = NULL;
    struct private_agent *agent = NULL;
    struct err stop = ERR_INIT;
    char path[CALL_PATH_MAX];
    int r = local_plan_new(&o->local, &plan, e);

    if (r == 0)
        r = local_plan_release(plan, &release, e);
    if (r == 0)
        r = start_agent(&agent, ret_status, e);
    if (r < 0)
        return r;
    (void)snprintf(path, sizeof(path), "/v1/apps/%s/releases", plan->app);
    r = client_call(private_socket(agent), "POST", path, release, NULL, e);
    if (r == 0)
        r = attach_one_off(private_socket(agent), plan->app, o, NULL, ret_status, e);
    if (private_stop(&agent, &stop) < 0)
        cli_warn(stop.text);
    return r;
}

/* Parses what is before "--". 0, or the exit status in *ret_status and -1. */
static int parse(struct cli *cli, int argc, char **argv, struct run_options *o, int *ret_status)
{
    enum { OPT_APP = 1, OPT_SLUG, OPT_SIZE };
    static const struct option longs[] = {{"app", required_argument, NULL, OPT_APP},
                                          {"slug", required_argument, NULL, OPT_SLUG},
                                          {"env", required_argument, NULL, 'e'},
                                          {"size", required_argument, NULL, OPT_SIZE},
                                          CLI_OPTIONS};
    int c;

    while ((c = cli_option(cli, argc, argv, "e:tT", longs, ret_status)) >= 0) {
        if (c == OPT_APP)
            o->app = optarg;
        else if (c == OPT_SLUG)
            o->local.slug = optarg;
        else if (c == OPT_SIZE)
            o->size = optarg;
        else if (c == 'e')
            o->local.env = optarg;
        else
            o->tty_mode = c == 't' ? ATTACH_TTY_FORCE : ATTACH_TTY_NEVER;
    }
    if (c == CLI_STOP)
        return -1;
    if (optind < argc)
        o->local.dir = argv[optind++];
    if (optind < argc)
        *ret_status = cli_usage(cli, "'%s' is one word too many before --", argv[optind]);
    else if (!o->command || !*o->command)
        *ret_status = cli_usage(cli, "a command is missing: -- COMMAND [ARG...]");
    else if (o->app && (o->local.slug || o->local.dir))
        *ret_status = cli_usage(cli, "--app runs what is released; it goes without %s",
                                o->local.slug ? "--slug" : "DIR");
    else
        return 0;
    return -1;
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
    struct run_options o = {.local = {.one_off = true}};
    struct err e = ERR_INIT;
    struct target t;
    int n = 1, status = EXIT_FAIL;

    while (n < argc && strcmp(argv[n], "--") != 0)
        n++;
    o.command = n < argc ? argv + n + 1 : NULL;
    if (parse(cli, n, argv, &o, &status) < 0)
        return status;
    if (o.app && (target_parse(o.app, &t, &e) < 0 || *t.dyno))
        return cli_usage(cli, "%s", e.errnum ? e.text : "--app takes an app, not a dyno");
    attach_block_signals(attach_wants_tty(o.tty_mode));
    int r = o.app ? run_in_app(cli, &o, &status, &e) : run_private(&o, &status, &e);
    if (r == -EINTR)
        return status;
    return r < 0 ? cli_fail(&e) : status;
}
