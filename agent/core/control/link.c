#include "core/control/link_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "core/host/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRMWARE_MAX        256u
#define LINK_ADOPT_PATIENCE (2 * USEC_PER_SEC)

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata);

/* --- Whether there is anybody --- */

static bool file_starts(const char *path, const char *with)
{
    scoped_free char *text = NULL;
    struct err ignored = ERR_INIT;
    size_t len;

    return file_read(AT_FDCWD, path, FIRMWARE_MAX, &text, &len, &ignored) == 0 &&
           str_starts(text, with);
}

/* Nitro says so in its firmware's tables, Xen in the hypervisor's uuid. */
static bool on_ec2(void)
{
    return file_starts("/sys/class/dmi/id/sys_vendor", "Amazon EC2") ||
           file_starts("/sys/hypervisor/uuid", "ec2");
}

bool link_wanted(const struct config *c)
{
    if (c->controllers[0])
        return true;
    return strcmp(c->metadata, "off") != 0 && (strcmp(c->metadata, "auto") != 0 || on_ec2());
}

/* --- Starting it, and again --- */

static void restart_at(struct link *l, uint64_t at)
{
    if (timer_set(l->agent->loop, &l->retry, "link-restart", at, on_retry, l) < 0)
        log_err("dynod-link: no memory for a timer");
}

static uint64_t pause_of(struct link *l)
{
    unsigned doublings = l->failures < 16 ? l->failures : 16;
    uint64_t pause = LINK_RESTART_PAUSE << doublings;

    l->failures++;
    return pause < LINK_RESTART_MAX ? pause : LINK_RESTART_MAX;
}

/* Once as it begins: it is tried for ever. */
static void failed_to_start(struct link *l, const struct err *why)
{
    if (strcmp(l->trouble, why->text) != 0)
        log_err("dynod-link: %s; the dynos run on, and it is tried again", why->text);
    (void)snprintf(l->trouble, sizeof(l->trouble), "%s", why->text);
    restart_at(l, clock_boot() + pause_of(l));
}

/* It is gone, or is no good to us. */
static void lost(struct link *l)
{
    uint64_t now = clock_boot();
    char how[64] = "ended by us";

    peer_freep(&l->peer);
    if (l->pidfd >= 0) {
        helper_reap(l->pidfd, how, sizeof(how));
        helper_dispose(l->agent->loop, TAKE_FD(l->pidfd));
    }
    l->broken = false;
    json_decref(TAKE_PTR(l->status));
    (void)json_object_clear(l->reported);
    if (l->outbox)
        outbox_rewind(l->outbox);
    if (now - l->started >= LINK_LIVED)
        l->failures = 0;
    (void)snprintf(l->trouble, sizeof(l->trouble), "dynod-link is gone (%s)", how);
    log_warn("%s; starting it again", l->trouble);
    restart_at(l, l->failures ? now + pause_of(l) : now);
    l->failures += l->failures == 0;
    remotes_lost(l); /* last: it may start and stop things */
}

static void on_frame(void *userdata, struct frame *f)
{
    link_on_frame(userdata, f);
}

static void on_close(void *userdata, const struct err *why)
{
    (void)why; /* the exit says more */
    lost(userdata);
}

void link_send_or_keep(struct link *l, json_t *frame)
{
    if (l->peer && !l->broken) {
        (void)link_send(l, frame, NULL, 0);
        return;
    }
    if (json_array_size(l->waiting) >= LINK_WAITING_MAX) {
        (void)json_array_remove(l->waiting, 0);
        l->dropped++;
    }
    if (json_array_append_new(l->waiting, frame) < 0)
        l->dropped++;
}

static void send_waiting(struct link *l)
{
    json_t *frame;
    size_t i;

    json_array_foreach (l->waiting, i, frame)
        (void)link_send(l, json_incref(frame), NULL, 0);
    (void)json_array_clear(l->waiting);
}

int link_connected(struct link *l, int sock, struct err *e)
{
    static const struct peer_ops ops = {.on_frame = on_frame, .on_close = on_close};
    int r = peer_new(l->agent->loop, sock, &ops, l, &l->peer, e);

    if (r < 0)
        return r;
    l->trouble[0] = '\0';
    (void)link_send(l, link_start_frame(l), NULL, 0);
    link_send_files(l);
    link_send_snapshot(l);
    link_send_exits(l);
    send_waiting(l);
    return 0;
}

static int start(struct link *l, struct err *e)
{
    char path[512];
    char *const argv[] = {"dynod-link", NULL};
    int sock = -1;

    (void)snprintf(path, sizeof(path), "%s/dynod-link", l->agent->config.program_dir);
    struct helper h = {.path = path, .argv = argv, .uid = l->uid, .fd3 = -1, .fd4 = -1};
    int r = helper_spawn(&h, &sock, &l->pidfd, e);
    if (r < 0)
        return r;
    l->started = clock_boot();
    r = link_connected(l, sock, e);
    if (r < 0)
        helper_dispose(l->agent->loop, TAKE_FD(l->pidfd));
    return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct link *l = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    l->adopting = false;
    if (l->peer) {
        if (l->broken)
            lost(l);
        return 0;
    }
    l->restarts += l->tried;
    l->tried = true;
    if (start(l, &e) < 0)
        failed_to_start(l, &e);
    return 0;
}

bool link_send(struct link *l, json_t *frame, const int *fds, size_t n_fds)
{
    struct err e = ERR_INIT;
    int r = 0;

    if (!l->peer || l->broken) {
        json_decref(frame);
        return false;
    }
    r = frame ? peer_send(l->peer, frame, fds, n_fds, &e) : err_set(&e, ENOMEM, "make a frame");
    json_decref(frame);
    if (r == 0)
        return true;
    /* It has missed something, so what it knows is not the truth any more: a new one gets it all.
     * From the loop, because whoever sends may be in the middle of a change. */
    log_warn("to dynod-link: %s", e.text);
    l->broken = true;
    restart_at(l, clock_boot());
    return false;
}

/* --- Its life --- */

static int open_outbox(struct link *l, struct err *e)
{
    scoped_free char *notice = NULL;
    int r = outbox_open(l->agent->state_dirfd, l->agent->config.exits_max, &l->outbox, &notice, e);

    if (notice)
        log_warn("%s", notice);
    return r;
}

int link_open(struct agent *a, uid_t uid, struct link **ret, struct err *e)
{
    scoped(link_freep) struct link *l = calloc(1, sizeof(*l));
    int r;

    if (!l || !(l->reported = json_object()) || !(l->waiting = json_array()))
        return err_set(e, ENOMEM, "start dynod-link");
    l->agent = a;
    l->uid = uid;
    l->routed = a->config.controllers[0] != '\0';
    l->pidfd = -1;
    LIST_INIT(&l->remotes);
    (void)snprintf(l->address, sizeof(l->address), "%s", a->config.address);
    link_load_contact(l);
    r = link_load_id(l, e);
    if (r == 0 && l->routed)
        r = open_outbox(l, e);
    if (r == 0 && l->routed)
        r = events_watch(a->events, link_on_event, l, &l->events, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(l);
    return 0;
}

static bool any_adopting(const struct agent *a)
{
    const struct dyno *d;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->adopted && d->state == DYNO_STARTING)
            return true;
    return false;
}

void link_adopted(struct link *l)
{
    if (l->adopting && !any_adopting(l->agent)) {
        l->adopting = false;
        restart_at(l, clock_boot());
    }
}

/* What was up is up, but that is known only when its dyno-init and its port have been asked; a
 * snapshot before that would take it out of its route for nothing. */
void link_start(struct link *l)
{
    if (!l)
        return;
    l->adopting = any_adopting(l->agent);
    restart_at(l, clock_boot() + (l->adopting ? LINK_ADOPT_PATIENCE : 0));
}

void link_freep(struct link **lp)
{
    struct link *l = *lp;

    if (!l)
        return;
    remotes_done(l);
    peer_freep(&l->peer); /* it exits at the end of its input */
    if (l->pidfd >= 0)
        helper_join(TAKE_FD(l->pidfd));
    sd_event_source_disable_unref(l->retry);
    sd_event_source_disable_unref(l->again);
    events_unwatch(l->events);
    outbox_freep(&l->outbox);
    json_decref(l->status);
    json_decref(l->reported);
    json_decref(l->waiting);
    free(l);
    *lp = NULL;
}
