/* dynod-logs - reads the dynos' pipes, stamps lines, keeps each app's tail, serves who reads.
 *
 * Unprivileged. Started by dynod with fd 0, a socket (base/logproto.h), and fd 3, its own
 * directory. Any kill loses no line and repeats none: see logs/spool.h and logs/tail.h. */
#include "logs/logs.h"

#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define CONTROL_FD 0
#define DIR_FD     3
#define EXIT_USAGE 2
#define LOCK_FILE  "lock"

static int usage(void)
{
    static const char text[] =
        "usage: dynod-logs [--tail-bytes N] [--tail-lines N] [--platform-source NAME]\n"
        "Started by dynod: fd 0 is its socket, fd 3 a directory on tmpfs.\n"
        "  --tail-bytes N          bytes of an app's tail before its older half goes\n"
        "  --tail-lines N          the most lines that a query gets\n"
        "  --platform-source NAME  source of the platform's lines\n";

    (void)!write(STDERR_FILENO, text, sizeof(text) - 1); /* nowhere else to say it */
    return EXIT_USAGE;
}

/* It stands between a time and a bracket. */
static bool source_valid(const char *name)
{
    return type_name_valid(name, strlen(name)) && strcmp(name, LOG_SOURCE_APP) != 0;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"tail-bytes", required_argument, NULL, 'b'},
        {"tail-lines", required_argument, NULL, 'l'},
        {"platform-source", required_argument, NULL, 'p'},
        {0},
    };
    bool good = true;

    opterr = 0;
    for (int c; good && (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'b')
            good = parse_bytes(optarg, &o->tail_bytes) == 0 && o->tail_bytes >= TAIL_BYTES_MIN &&
                   o->tail_bytes <= TAIL_BYTES_MAX;
        else if (c == 'l')
            good = parse_u64(optarg, 1, TAIL_LINES_MAX, &o->tail_lines) == 0;
        else if (c == 'p' && source_valid(optarg))
            o->platform = optarg;
        else
            good = false;
    }
    return good && optind == argc;
}

static bool fds_are_right(void)
{
    struct stat st;

    return fstat(CONTROL_FD, &st) == 0 && S_ISSOCK(st.st_mode) && fstat(DIR_FD, &st) == 0 &&
           S_ISDIR(st.st_mode);
}

/* One process at a time in a directory: an earlier one may still be on its way out of a system call
 * when the next has been started. The kernel drops the lock after the call. */
static int lock(struct logs *l, struct err *e)
{
    l->lock = openat(l->dirfd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->lock < 0)
        return err_set(e, errno, "open %s", LOCK_FILE);
    if (flock(l->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    log_notice("waiting for an earlier process to end");
    while (flock(l->lock, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_set(e, errno, "lock %s", LOCK_FILE);
    return 0;
}

static int start(struct logs *l, struct err *e)
{
    int r = lock(l, e);

    if (r < 0)
        return r;
    l->in = malloc(TURN_BYTES);
    l->batch = malloc(TURN_BATCH);
    if (!l->in || !l->batch)
        return err_set(e, ENOMEM, "start");
    r = sd_event_new(&l->loop);
    if (r < 0)
        return err_set(e, -r, "make an event loop");
    r = logs_confine(e);
    if (r == 0)
        r = dynos_start(l, e);
    if (r == 0)
        r = logs_load(l, e);
    return r < 0 ? r : control_start(l, CONTROL_FD, e);
}

static void stop(struct logs *l)
{
    readers_free(l);
    while (l->dynos)
        logdyno_free(l->dynos);
    while (l->apps) {
        struct app *app = l->apps;

        l->apps = app->next;
        tail_freep(&app->tail);
        free(app);
    }
    peer_freep(&l->peer);
    json_decref(l->pending);
    sd_event_source_disable_unref(l->retry);
    sd_event_source_disable_unref(l->turns);
    sd_event_unref(l->loop);
    free(l->in);
    free(l->batch);
    fd_closep(&l->lock);
}

int main(int argc, char **argv)
{
    struct logs l = {
        .dirfd = DIR_FD,
        .lock = -1,
        .options = {TAIL_BYTES_DEFAULT, TAIL_LINES_DEFAULT, LOG_SOURCE_PLATFORM},
    };
    struct err e = ERR_INIT;

    if (!parse_options(argc, argv, &l.options) || !fds_are_right())
        return usage();
    log_open("dynod-logs", LOG_LVL_INFO);
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write(2) */
    (void)fcntl(DIR_FD, F_SETFD, FD_CLOEXEC);
    (void)umask(077);

    int r = start(&l, &e);
    if (r < 0)
        log_err("%s", e.text);
    else
        r = sd_event_loop(l.loop);
    stop(&l);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
