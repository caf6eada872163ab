/* main.c - dynod: reads its words and its configuration, becomes what it must be, runs the loop. */
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/agent_open.h"
#include "core/api/api.h"
#include "core/config/config.h"
#include "isolate/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define CONFIG_FILE   "/etc/dynod/dynod.conf"
#define OVERRIDES_MAX 64
#define START_USEC    (300 * UINT64_C(1000000)) /* that a start may take */

struct options {
    const char *config; /* NULL: CONFIG_FILE, which may be missing */
    const char *local;  /* a directory for everything: a private agent of `dyno local` */
    const char *overrides[OVERRIDES_MAX];
    size_t n_overrides;
    bool check, dump;
};

static void usage(FILE *out)
{
    (void)fputs("usage: dynod [-c FILE] [-o SECTION.KEY=VALUE]... [--local DIR]\n"
                "             [--check-config] [--dump-config] [--version] [--help]\n"
                "The dyno manager agent. See dynod(8) and dynod.conf(5).\n",
                out);
}

static int fail_usage(const char *what, const char *arg)
{
    (void)fprintf(stderr, "dynod: %s%s%s\n", what, arg ? ": " : "", arg ? arg : "");
    usage(stderr);
    return 2;
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
            usage(stdout);
            return 0;
        }
        if (!strcmp(arg, "--version")) {
            (void)puts("dynod " DYNOD_VERSION);
            return 0;
        }
        if (!strcmp(arg, "--check-config")) {
            o->check = true;
            continue;
        }
        if (!strcmp(arg, "--dump-config")) {
            o->dump = true;
            continue;
        }
        if (strcmp(arg, "-c") != 0 && strcmp(arg, "-o") != 0 && strcmp(arg, "--local") != 0)
            return fail_usage("unknown argument", arg);
        if (!value)
            return fail_usage("a value is missing after", arg);
        if (arg[1] == 'c')
            o->config = value;
        else if (arg[1] == '-')
            o->local = value;
        else if (o->n_overrides == OVERRIDES_MAX)
            return fail_usage("too many -o", NULL);
        else
            o->overrides[o->n_overrides++] = value;
        i++;
    }
    return -1;
}

/* --- Configuration --- */

/* The helpers lie beside dynod itself, or in ../lib/dynod when it is installed. */
static void find_programs(char out[256])
{
    char self[256 - 32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    self[n > 0 ? n : 0] = '\0';
    slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    (void)snprintf(out, 256, "%s/dyno-init", self);
    if (access(out, X_OK) == 0)
        (void)snprintf(out, 256, "%s", self);
    else
        (void)snprintf(out, 256, "%s/../lib/dynod", self);
}

static int read_config(const struct options *o, bool rootless, struct config *c, struct err *e)
{
    char value[600];
    int r = config_defaults(rootless, c, e);

    bool none = o->config && !strcmp(o->config, "/dev/null"); /* as people say "no file at all" */
    if (r == 0 && !none && (o->config || (!o->local && !rootless)))
        r = config_read(c, o->config ? o->config : CONFIG_FILE, o->config != NULL, e);
    if (r == 0 && o->local) {
        (void)snprintf(value, sizeof(value), "agent.runtime_dir=%s/run", o->local);
        r = config_set(c, value, e);
        (void)snprintf(value, sizeof(value), "agent.state_dir=%s/state", o->local);
        if (r == 0)
            r = config_set(c, value, e);
    }
    if (r == 0 && o->local) /* nobody's but its user's */
        r = config_set(c, "link.metadata=off", e);
    if (r == 0 && o->local) /* it comes and goes beside the machine's agent */
        r = config_set(c, "agent.claims_dir=", e);
    if (r == 0 && o->local) /* $PORT is to be reached as if the app ran without a sandbox */
        r = config_set(c, "sandbox.network=host", e);
    for (size_t i = 0; r == 0 && i < o->n_overrides; i++)
        r = config_set(c, o->overrides[i], e);
    if (r == 0 && !c->program_dir[0])
        find_programs(c->program_dir);
    if (r == 0 && !c->api_socket[0] &&
        snprintf(c->api_socket, sizeof(c->api_socket), "%s/api.sock", c->runtime_dir) >=
            (int)sizeof(c->api_socket))
        r = err_say(e, ENAMETOOLONG, "runtime_dir is too long");
    return r == 0 ? config_check(c, e) : r;
}

/* --- The parts --- */

/* Two agents on one state would start everything twice. Held for the process's life. */
static int lock_state(const struct config *c, int *ret_fd, struct err *e)
{
    char path[300];
    int r = dir_make_all(c->runtime_dir, 0755, e);

    if (r == 0)
        r = dir_make_all(c->state_dir, 0711, e);
    if (r < 0)
        return r;
    (void)snprintf(path, sizeof(path), "%s/lock", c->state_dir);
    scoped_fd fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(e, errno, "open %s", path);
    /* Not flock(2): children that were cloned and not executed yet would hold it on. */
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &whole) < 0) {
        (void)err_say(e, EBUSY, "another dynod uses %s", c->state_dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int find_group(const char *name, gid_t *ret, struct err *e)
{
    *ret = (gid_t)-1;
    if (!name[0])
        return 0;
    errno = 0;
    const struct group *g = getgrnam(name);
    if (!g) {
        (void)err_say(e, ENOENT, "api_group: no group '%s' on this machine", name);
        return err_blame(e, FAULT_OPERATOR);
    }
    *ret = g->gr_gid;
    return 0;
}

static int open_api(struct agent *a, struct api **ret, struct err *e)
{
    const struct config *c = agent_config(a);
    int fd = -1;
    gid_t group;
    int r = find_group(c->api_group, &group, e);

    if (r == 0)
        r = unix_listen(c->api_socket, SOCK_STREAM, group == (gid_t)-1 ? 0600 : 0660, &fd, e);
    if (r == 0 && group != (gid_t)-1 && chown(c->api_socket, (uid_t)-1, group) < 0) {
        r = err_set(e, errno, "give %s to the group %s", c->api_socket, c->api_group);
        close(fd);
    }
    return r < 0 ? r : api_open(a, fd, group, ret, e);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
    struct agent *local = userdata; /* NULL: dynos run on without us */

    if (!local)
        return sd_event_exit(sd_event_source_get_event(s), 0);
    log_notice("SIG%s: stopping all dynos", sigabbrev_np((int)si->ssi_signo));
    agent_shutdown(local);
    return 0;
}

/* A private agent goes when whoever started it is gone. */
static int on_stdin(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    char scrap[256];

    (void)revents;
    if (read(fd, scrap, sizeof(scrap)) > 0)
        return 0;
    (void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
    agent_shutdown(userdata);
    return 0;
}

static int watch_end(sd_event *loop, struct agent *a, bool local, struct err *e)
{
    struct agent *who = local ? a : NULL;
    int r = sd_event_add_signal(loop, NULL, SIGTERM, on_signal, who);

    if (r >= 0)
        r = sd_event_add_signal(loop, NULL, SIGINT, on_signal, who);
    if (r >= 0 && local)
        r = sd_event_add_io(loop, NULL, STDIN_FILENO, EPOLLIN, on_stdin, a);
    return r < 0 ? err_set(e, -r, "watch for the end") : 0;
}

/* Until the loop runs nobody pings the service manager's watchdog, and a start may take longer than
 * a turn of the loop ever may: a kernel loads its modules, filesystems are made. sd_notify(3) */
static void set_watchdog(bool starting)
{
    uint64_t usec;

    if (sd_watchdog_enabled(0, &usec) <= 0)
        return; /* nobody watches; to ask would be to begin with it */
    if (starting)
        (void)sd_notifyf(0, "WATCHDOG_USEC=%" PRIu64 "\nEXTEND_TIMEOUT_USEC=%" PRIu64, START_USEC,
                         START_USEC);
    else
        (void)sd_notifyf(0, "WATCHDOG_USEC=%" PRIu64, usec);
}

static int run(const struct config *c, bool rootless, bool local, struct err *e)
{
    scoped(agent_freep) struct agent *agent = NULL;
    scoped(api_freep) struct api *api = NULL;
    sd_event *loop = NULL;
    int r = sd_event_new(&loop);

    if (r < 0)
        return err_set(e, -r, "make the event loop");
    set_watchdog(true);
    r = agent_open(loop, c, rootless, &agent, e);
    if (r == 0)
        r = open_api(agent, &api, e);
    if (r == 0)
        r = watch_end(loop, agent, local, e);
    if (r == 0) {
        log_notice("version " DYNOD_VERSION ", %s, API on %s", rootless ? "rootless" : "root",
                   c->api_socket);
        (void)sd_notify(0, "READY=1"); /* nobody may be listening */
        set_watchdog(false);
        (void)sd_event_set_watchdog(loop, true); /* only when the service manager asks for it */
        r = sd_event_loop(loop);
        if (r < 0)
            r = err_set(e, -r, "event loop");
        (void)sd_notify(0, "STOPPING=1");
    }
    api_freep(&api);
    (void)unlink(c->api_socket);
    agent_freep(&agent);
    sd_event_unref(loop);
    return r;
}

/* What an operator's shell or a service manager may have left us with must not reach dynos or break
 * us. */
static void clean_process(bool rootless)
{
    struct rlimit files;
    sigset_t set;

    (void)umask(022);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN); /* the terminal of `dyno local` is the CLI's affair */
    (void)sigemptyset(&set);       /* cannot fail */
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    for (int fd = 0; fd < 3; fd++) /* a closed one would be given to the next file we open */
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDWR);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* some ten a dyno */
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (!rootless) /* config vars are in this memory; rootless children must write their id maps */
        (void)prctl(PR_SET_DUMPABLE, 0);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct config *config = calloc(1, sizeof(*config));
    struct err e = ERR_INIT;
    bool rootless = geteuid() != 0;
    int lock = -1, status = parse_options(argc, argv, &o);

    if (status >= 0) {
        free(config);
        return status;
    }
    log_open("dynod", LOG_LVL_INFO);
    int r = config ? read_config(&o, rootless, config, &e) : err_set(&e, ENOMEM, "start");
    if (r == 0 && o.dump) {
        scoped_free char *text = config_text(config);

        (void)fputs(text ? text : "", stdout);
    } else if (r == 0 && !o.check) {
        log_open("dynod", config->log_level);
        clean_process(rootless);
        r = lock_state(config, &lock, &e);
        if (r == 0 && rootless)
            r = sandbox_enter_rootless(&e);
        if (r == 0)
            r = run(config, rootless, o.local != NULL, &e);
    }
    if (r < 0)
        log_err("%s", e.text);
    fd_closep(&lock);
    free(config);
    return r < 0 ? 1 : 0;
}
