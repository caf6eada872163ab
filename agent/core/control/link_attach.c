/* link_attach.c - one-offs to which somebody comes over the network: dynod-link dials, we hold the
 * command. R13 when nobody comes; a terminal that goes away is a terminal that goes away. */
#include "core/control/link_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "core/dyno.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* A little longer than dynod-link's own, which says why. */
#define ATTACH_WAIT ((LINK_ATTACH_WAIT_SEC + 3) * USEC_PER_SEC)

enum remote_state {
    REMOTE_WAITS,  /* for its command to run */
    REMOTE_DIALS,  /* dynod-link has its descriptors; nobody is there yet */
    REMOTE_UP,     /* somebody is */
    REMOTE_FAILED, /* R13: its command is being stopped */
};

struct remote {
    LIST_ENTRY(remote) link;
    struct link *owner;
    unsigned number;
    enum remote_state state;
    struct attach *attach;
    struct dyno_name dyno;
    char *url, *secret;
    sd_event_source *timer; /* "attach-wait" */
    int master;             /* of its terminal, until its size is known; -1: none */
};

static void remote_free(struct remote *r)
{
    LIST_REMOVE(r, link);
    r->owner->n_remotes--;
    sd_event_source_disable_unref(r->timer);
    fd_closep(&r->master);
    free(r->url);
    free(r->secret);
    free(r);
}

static struct remote *find(struct link *l, unsigned number)
{
    struct remote *r;

    LIST_FOREACH (r, &l->remotes, link)
        if (r->number == number)
            return r;
    return NULL;
}

/* Stops the command, which may free R at once. */
static void attach_error(struct remote *r, const char *why)
{
    struct agent *a = r->owner->agent;
    struct dyno *d = agent_find_dyno(a, &r->dyno);
    const struct dyno_name who = r->dyno;
    char name[DYNO_TEXT_MAX];

    r->state = REMOTE_FAILED;
    r->timer = sd_event_source_disable_unref(r->timer);
    fd_closep(&r->master);
    logger_line(a->logger, dyno_name_text(&who, name),
                "Error R13 (Attach error) -> Failed to attach to process");
    agent_event(a, "attach", &who, json_pack("{s:s,s:s}", "code", "R13", "text", why));
    link_notice(a, "attach", &who, json_pack("{s:s}", "code", "R13"), "%s", why);
    if (!d)
        return;
    d->attach_failed = true;
    dyno_event(d, DEV_STOP);
}

static int on_wait(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct remote *r = userdata;

    (void)s;
    (void)usec;
    attach_error(r, r->owner->peer ? "nobody came to the one-off's terminal in time"
                                   : "dynod-link does not run");
    return 0;
}

/* It runs: dynod-link dials. Where that fails it is told from the loop, as the dyno is in the
 * middle of a step now. */
static void on_started(void *userdata, const char *dyno, const int *fds, size_t n, bool tty)
{
    struct remote *r = userdata;
    struct link *l = r->owner;
    char name[DYNO_TEXT_MAX];
    uint64_t at = clock_boot() + ATTACH_WAIT;

    (void)dyno;
    r->state = REMOTE_DIALS;
    if (tty)
        r->master = fcntl(fds[0], F_DUPFD_CLOEXEC, 3); /* without it the size stays as it is */
    json_t *frame =
        json_pack("{s:{s:i,s:s,s:s,s:s,s:b}}", "attach", "attach", (int)r->number, "dyno",
                  dyno_name_text(&r->dyno, name), "url", r->url, "secret", r->secret, "tty", tty);
    if (!link_send(l, frame, fds, n))
        at = 0;
    if (timer_set(l->agent->loop, &r->timer, "attach-wait", at, on_wait, r) < 0)
        log_err("%s: no memory for a timer", name);
}

static void on_ended(void *userdata, int status, const struct err *why)
{
    struct remote *r = userdata;

    if (r->state != REMOTE_WAITS)
        (void)link_send(r->owner,
                        json_pack("{s:{s:i,s:i,s:s*}}", "attach_ended", "attach", (int)r->number,
                                  "status", status, "error", why ? why->text : NULL),
                        NULL, 0);
    remote_free(r);
}

static const struct attach_ops remote_ops = {on_started, on_ended};

static struct remote *remote_new(struct link *l, const char *url, const char *secret)
{
    struct remote *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    *r = (struct remote){.owner = l,
                         .number = ++l->last_attach,
                         .url = strdup(url),
                         .secret = strdup(secret),
                         .master = -1};
    LIST_INSERT_HEAD(&l->remotes, r, link);
    l->n_remotes++;
    if (r->url && r->secret)
        return r;
    remote_free(r);
    return NULL;
}

int link_run_attached(struct agent *a, const char *app, const json_t *spec, unsigned num,
                      json_t *by, const char *url, const char *secret, json_t **ret, struct err *e)
{
    struct link *l = a->link;
    char name[DYNO_TEXT_MAX];

    if (!l)
        return err_say(e, EOPNOTSUPP, "nobody to attach through");
    if (l->n_remotes >= LINK_ATTACHES_MAX) {
        (void)err_say(e, EBUSY, "%d one-offs are attached already", LINK_ATTACHES_MAX);
        return err_blame(e, FAULT_OPERATOR);
    }
    struct remote *r = remote_new(l, url, secret);
    if (!r)
        return err_set(e, ENOMEM, "attach");
    int rc = agent_run_by(a, app, spec, num, NULL, by, &remote_ops, r, &r->attach, ret, e);
    if (rc < 0) {
        remote_free(r);
        return rc;
    }
    (void)snprintf(name, sizeof(name), "%s/%s", app, json_str(*ret, "dyno", ""));
    (void)dyno_name_parse(name, &r->dyno); /* it was made here */
    return 0;
}

/* --- What dynod-link says of it --- */

void remote_up(struct link *l, unsigned attach, unsigned rows, unsigned cols)
{
    struct remote *r = find(l, attach);
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

    if (!r || r->state != REMOTE_DIALS)
        return;
    r->state = REMOTE_UP;
    r->timer = sd_event_source_disable_unref(r->timer);
    if (r->master >= 0 && rows && cols)
        (void)ioctl(r->master, TIOCSWINSZ, &size); /* fails when the command is gone already */
    fd_closep(&r->master);
}

void remote_failed(struct link *l, unsigned attach, const char *why)
{
    struct remote *r = find(l, attach);

    if (r && r->state == REMOTE_DIALS)
        attach_error(r, why);
}

void remote_gone(struct link *l, unsigned attach)
{
    struct remote *r = find(l, attach);

    if (!r || r->state != REMOTE_UP)
        return;
    attach_detach(r->attach); /* no callback after this */
    remote_free(r);
}

void remote_signal(struct link *l, unsigned attach, int signo)
{
    struct remote *r = find(l, attach);
    struct err e = ERR_INIT;

    if (r && r->state == REMOTE_UP && attach_signal(r->attach, signo, &e) < 0)
        log_debug("attach %u: %s", attach, e.text);
}

void remotes_lost(struct link *l)
{
    struct remote *r, *next;

    for (r = LIST_FIRST(&l->remotes); r; r = next) {
        next = LIST_NEXT(r, link);
        if (r->state == REMOTE_UP)
            remote_gone(l, r->number);
        else if (r->state == REMOTE_DIALS)
            (void)timer_set(l->agent->loop, &r->timer, "attach-wait", 0, on_wait, r);
    }
}

void link_abandon(struct link *l)
{
    if (l)
        remotes_done(l);
}

void remotes_done(struct link *l)
{
    struct remote *r;

    while ((r = LIST_FIRST(&l->remotes))) {
        attach_abandon(r->attach);
        remote_free(r);
    }
}
