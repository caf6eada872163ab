/* link.h - what dynod-link's parts share: dynod's socket, the session with the controllers, the
 * instance's metadata, remote attaches. */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include "base/loop.h"
#include "link/http.h"
#include "link/metadata.h"
#include "link/session.h"

#define FILES_RETRY_USEC (5 * USEC_PER_SEC) /* after files that could not be read */

struct attach;

struct link {
    sd_event *loop;
    struct http *http;
    struct peer *peer;
    struct session *session;   /* NULL: dynod has not said "start" */
    struct metadata *metadata; /* NULL: none is asked */
    json_t *start;             /* its body */
    json_t *identity;          /* as the metadata has it; NULL: unknown */
    struct attach *attaches;
    size_t n_attaches;
    bool on_ec2;
    sd_event_source *files_retry;
};

/* control.c: takes FD, dynod's socket, and says hello. */
int control_start(struct link *l, int fd, struct err *e);
/* Sends {KEY: BODY} to dynod; BODY is taken. */
void control_tell(struct link *l, const char *key, json_t *body);

/* identity.c: who we are, from dynod and the metadata; then the session begins. */
int identity_find(struct link *l, struct err *e);
void identity_address(struct link *l, const char *address);

/* attaches.c */
int attach_open(struct link *l, const json_t *j, struct frame *f, struct err *e);
int attach_ended(struct link *l, const json_t *j, struct err *e);
void attaches_free(struct link *l);

#endif
