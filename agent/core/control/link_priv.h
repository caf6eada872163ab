/* link_priv.h - the inside of struct link, for link*.c and report.c. */
#ifndef CORE_LINK_PRIV_H
#define CORE_LINK_PRIV_H

#include "base/linkproto.h"
#include "base/loop.h"
#include "core/agent_priv.h"
#include "core/control/link.h"
#include "core/control/outbox.h"

#include <sys/queue.h>

#define LINK_FILES       4
#define LINK_COUNTS_MAX  64   /* kinds of errors in a status */
#define LINK_TEXT_MAX    1000 /* bytes of a text of dynod-link's that we show */
#define LINK_LABELS_MAX  200
#define LINK_WAITING_MAX 1000      /* results and notices kept while it is dead; the oldest go */
#define LINK_TTL_MAX_MS  604800000 /* docs/controller-openapi.yaml */
#define LINK_AGO_MAX_MS  60000

LIST_HEAD(remote_list, remote);

struct link {
    struct agent *agent;
    uid_t uid;
    bool routed;       /* a controller is configured */
    struct peer *peer; /* NULL: it is dead */
    bool broken;       /* it takes no frames: it is ended at the next turn */
    int pidfd;
    uint64_t started; /* boot usec */
    bool adopting;    /* it waits for the dynos that an earlier agent left */
    bool tried;
    unsigned restarts, failures;
    sd_event_source *retry;     /* timer "link-restart" */
    char trouble[ERR_TEXT_MAX]; /* why it does not run; "": it does */
    char missing[ERR_TEXT_MAX]; /* a certificate or token file; "": none */
    unsigned long odd_frames;

    char fallback[LINK_AGENT_MAX + 1]; /* our own id, where nobody gives another */
    char address[64];                  /* where dynos are reached; "": not known */
    json_t *status;                    /* its last one, checked; NULL: none yet */
    char conflict[LINK_STORE_MAX + 1]; /* a store that was refused; "": none */

    bool contacted;                    /* in this boot */
    uint64_t contact, contact_written; /* boot usec */

    struct event_watch *events;
    struct outbox *outbox;  /* NULL: no controller */
    sd_event_source *again; /* timer "exits-save" */
    json_t *reported;       /* what it was told of each dyno, by "APP/DYNO" */
    json_t *waiting;        /* frames with results and notices, while it is dead */
    uint64_t dropped;       /* of those */

    struct remote_list remotes;
    unsigned n_remotes, last_attach;
};

/* link.c: FRAME is taken. False: it could not be sent, and nothing can until it is started again.
 */
bool link_send(struct link *l, json_t *frame, const int *fds, size_t n_fds);
/* The same for what is told once only: it waits for the next dynod-link. */
void link_send_or_keep(struct link *l, json_t *frame);
/* The other end of SOCK (taken) speaks for the controller. */
int link_connected(struct link *l, int sock, struct err *e);

/* link.c: a dyno has changed: have those that were adopted said how they are? */
void link_adopted(struct link *l);

/* link_frames.c: one frame of dynod-link's. */
void link_on_frame(struct link *l, struct frame *f);

/* link_start.c: what it is told first: start, files. */
json_t *link_start_frame(struct link *l);
void link_send_files(struct link *l);
int link_load_id(struct link *l, struct err *e);
void link_load_contact(struct link *l);
void link_note_contact(struct link *l, uint64_t ago_usec);

/* report.c */
void link_on_event(void *userdata, const json_t *event);
void link_send_snapshot(struct link *l);
void link_send_exits(struct link *l);

/* link_attach.c: ATTACH is the number in the frames. Unknown numbers are fine. */
void remote_up(struct link *l, unsigned attach, unsigned rows, unsigned cols);
void remote_failed(struct link *l, unsigned attach, const char *why);
void remote_gone(struct link *l, unsigned attach);
void remote_signal(struct link *l, unsigned attach, int signo);
/* dynod-link died. */
void remotes_lost(struct link *l);
void remotes_done(struct link *l);

#endif
