/* local.c - dyno local [-f PROCFILE] [-e FILE] [-m FORMATION] [-p PORT] [--slug SLUG] [DIR] */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/localplan.h"
#include "cli/localrun.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

static int watch_signals(int *ret_fd, struct err *e)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that leaves is a reason to stop in order */
    *ret_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return *ret_fd < 0 ? err_set(e, errno, "watch for signals") : 0;
}

static int run_plan(const struct cli *cli, const struct local_plan *plan)
{
    struct private_agent *agent = NULL;
    struct signalfd_siginfo info;
    struct err e = ERR_INIT, stop = ERR_INIT;
    scoped_fd signals = -1;
    int status = EXIT_FAIL;
    int r = watch_signals(&signals, &e);

    if (r == 0)
        r = private_start(signals, &agent, &e);
    if (r == -EINTR && read(signals, &info, sizeof(info)) == sizeof(info))
        return 128 + (int)info.ssi_signo;
    if (r == 0)
        r = local_run(cli, plan, agent, signals, &status, &e);
    if (r < 0)
        status = cli_fail(&e);
    if (private_stop(&agent, &stop) < 0)
        cli_warn(stop.text);
    return cli_flush(status);
}

int cmd_local(struct cli *cli, int argc, char **argv)
{
    enum { OPT_SLUG = 1 };
    static const struct option longs[] = {
        {"procfile", required_argument, NULL, 'f'},  {"env", required_argument, NULL, 'e'},
        {"formation", required_argument, NULL, 'm'}, {"port", required_argument, NULL, 'p'},
        {"slug", required_argument, NULL, OPT_SLUG}, CLI_OPTIONS};
    scoped(local_plan_freep) struct local_plan *plan = NULL;
    struct local_options o = {0};
    struct err e = ERR_INIT;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "f:e:m:p:", longs, &status)) >= 0) {
        const char **text = c == 'f'   ? &o.procfile
                            : c == 'e' ? &o.env
                            : c == 'm' ? &o.formation
                            : c == 'p' ? &o.port
                                       : &o.slug;
        *text = optarg;
    }
    if (c == CLI_STOP)
        return status;
    if (argc - optind > 1)
        return cli_usage(cli, "'%s' is one word too many", argv[optind + 1]);
    if (o.slug && (o.procfile || optind < argc))
        return cli_usage(cli, "--slug goes without %s", o.procfile ? "-f" : "DIR");
    o.dir = argv[optind]; /* NULL at the end */
    if (local_plan_new(&o, &plan, &e) < 0 || local_plan_check_ports(plan, &e) < 0)
        return cli_fail(&e);
    return run_plan(cli, plan);
}
