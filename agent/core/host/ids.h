/* ids.h - the host uid of a dyno, with the user namespace that maps it. One pair is kept ready,
 * because making a namespace takes a process: the next start need not wait for it. Nor for the
 * other things that any dyno of the default size has: an empty scratch, an empty cgroup, its
 * devices and its copy of the root (sandbox_ready()). */
#ifndef CORE_IDS_H
#define CORE_IDS_H

#include "base/err.h"
#include "core/policy/slots.h"
#include "isolate/cgroup.h"
#include "isolate/sandbox.h"
#include "isolate/scratch.h"

#include <sys/types.h>
#include <systemd/sd-event.h>

struct ids {
    sd_event *loop;
    struct sandbox *sandbox;
    struct slots *uids;
    uid_t spare_uid; /* 0: none ready */
    int spare_fd;
    struct scratches *scratches;
    struct scratch_quota quota; /* of the default size: one scratch of it is kept ready, too */
    struct cgroup_tree *cgroups;
    struct limits limits;          /* the default size's: of the cgroup that is kept ready */
    sd_event_source *refill;       /* deferred */
    sd_event_source *made;         /* what the maker of scratches says */
    unsigned ahead;                /* scratches that are to be ready, where a process makes them */
    void (*heard)(void *userdata); /* after it said something; NULL: nobody waits */
    void *userdata;
};

/* SANDBOX, UIDS, SCRATCHES and CGROUPS are borrowed. LIMITS: the default size's. */
void ids_init(struct ids *ids, sd_event *loop, struct sandbox *sandbox, struct slots *uids,
              struct scratches *scratches, struct cgroup_tree *cgroups,
              const struct limits *limits);
void ids_done(struct ids *ids);
/* A uid of its own and its namespace, both the caller's: ids_put(), close(). -ENOSPC. */
int ids_take(struct ids *ids, uid_t *ret_uid, int *ret_fd, struct err *e);
/* Gives a uid back. */
void ids_put(struct ids *ids, uid_t uid);
/* From now on N scratches, one at least, are kept ready, where a process makes them (images); asks
 * for what is missing; those too many go. */
void ids_want(struct ids *ids, unsigned n);
/* No scratch is ready, but one will be soon. */
bool ids_coming(const struct ids *ids);
/* Makes the next one's at the next turn of the loop: for when a start is done. */
void ids_refill(struct ids *ids);

#endif
