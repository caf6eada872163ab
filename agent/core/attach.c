#include "core/attach.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/dyno.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define HANGUP_PAUSE (5 * USEC_PER_SEC)
#define HANGUPS      3 /* at 0, 5 and 10 s; the fourth step is R16 */

struct attach {
    LIST_ENTRY(attach) link;
    struct agent *agent;
    struct dyno_name dyno;
    struct run *run; /* an exec's; NULL: a one-off, its dyno's */
    uint32_t token;
    const struct attach_ops *ops; /* NULL: the client is gone */
    void *userdata;
    sd_event_source *hangup; /* timer "attach-hangup" */
    unsigned hangups;
};

/* All of the process: looked up by run and token, and swept with their runs. */
static LIST_HEAD(, attach) execs = LIST_HEAD_INITIALIZER(execs);

static struct attach *attach_alloc(struct dyno *d, const struct attach_ops *ops, void *userdata)
{
    struct attach *at = calloc(1, sizeof(*at));

    if (at)
        *at = (struct attach){.agent = d->agent, .dyno = d->name, .ops = ops, .userdata = userdata};
    return at;
}

int attach_new_oneoff(struct dyno *d, const struct attach_ops *ops, void *userdata,
                      struct attach **ret, struct err *e)
{
    struct attach *at = attach_alloc(d, ops, userdata);

    if (!at)
        return err_set(e, ENOMEM, "attach");
    d->attach = at;
    *ret = at;
    return 0;
}

int attach_new_exec(struct dyno *d, uint32_t token, const struct attach_ops *ops, void *userdata,
                    struct attach **ret, struct err *e)
{
    struct attach *at = attach_alloc(d, ops, userdata);

    if (!at)
        return err_set(e, ENOMEM, "attach");
    at->run = d->run;
    at->token = token;
    LIST_INSERT_HEAD(&execs, at, link);
    *ret = at;
    return 0;
}

struct attach *attach_find_exec(const struct run *run, uint32_t token)
{
    struct attach *at;

    LIST_FOREACH (at, &execs, link)
        if (at->run == run && at->token == token)
            return at;
    return NULL;
}

void attach_run_over(const struct run *run)
{
    struct attach *at = LIST_FIRST(&execs);

    while (at) {
        struct attach *next = LIST_NEXT(at, link);

        if (at->run == run) {
            audit_leave(at->agent, &at->dyno, at->token, 128 + SIGKILL, NULL);
            attach_ended(at, 128 + SIGKILL, NULL);
        }
        at = next;
    }
}

void attach_started(struct attach *at, struct run_attach_fds *fds)
{
    char dyno[DYNO_TEXT_MAX];

    if (at && at->ops)
        at->ops->started(at->userdata, dyno_name_short(&at->dyno, dyno), fds->fds, fds->tty ? 1 : 3,
                         fds->tty);
    for (int i = 0; i < 3; i++)
        fd_closep(&fds->fds[i]);
}

void attach_ended(struct attach *at, int status, const struct err *why)
{
    if (!at)
        return;
    if (at->ops)
        at->ops->ended(at->userdata, status, why);
    if (at->run)
        LIST_REMOVE(at, link);
    sd_event_source_disable_unref(at->hangup);
    free(at);
}

/* The one-off's dyno; an exec's, while its run is the current one. */
static struct dyno *attach_dyno(struct attach *at)
{
    struct dyno *d = agent_find_dyno(at->agent, &at->dyno);

    if (!d || !d->run || (at->run && d->run != at->run))
        return NULL;
    return d;
}

static void send_signal(struct attach *at, int signo)
{
    struct dyno *d = attach_dyno(at);

    if (d && at->run)
        run_exec_signal(d->run, at->token, signo);
    else if (d)
        run_signal(d->run, signo);
}

int attach_signal(struct attach *at, int signo, struct err *e)
{
    if (signo != SIGINT && signo != SIGTERM && signo != SIGHUP && signo != SIGQUIT)
        return err_say(e, EINVAL, "signal %d is not one a client may send", signo);
    send_signal(at, signo);
    return 0;
}

static int on_hangup(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct attach *at = userdata;
    struct dyno *d = attach_dyno(at);
    char name[DYNO_TEXT_MAX];

    (void)s;
    (void)usec;
    if (at->hangups++ < HANGUPS) {
        send_signal(at, SIGHUP);
        (void)timer_set(at->agent->loop, &at->hangup, "attach-hangup", clock_boot() + HANGUP_PAUSE,
                        on_hangup, at);
        return 0;
    }
    logger_line(at->agent->logger, dyno_name_text(&at->dyno, name),
                "Error R16 (Detached) -> An attached process is not responding to SIGHUP after its "
                "external connection was closed.");
    if (at->run) {
        send_signal(at, SIGKILL);
    } else if (d) {
        d->detached = true;
        run_kill(d->run);
    }
    return 0;
}

void attach_abandon(struct attach *at)
{
    if (at)
        at->ops = NULL;
}

void attach_detach(struct attach *at)
{
    if (!at)
        return;
    at->ops = NULL;
    (void)on_hangup(NULL, 0, at);
}
