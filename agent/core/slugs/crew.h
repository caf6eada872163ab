/* crew.h - the processes of one fetch, or the one of a seal: dynod-fetch in its roles, started
 * ahead and thrown away after.
 *
 * As root each crew has a uid of its own, out of a few that are reserved, so that two fetches
 * cannot touch each other; a cgroup with limits of memory, cpu and processes; and each role has its
 * own mount, pid and IPC namespaces, and all but download an empty network namespace. A uid is
 * given out again when the last process of its crew is gone. Rootless: the namespaces, under the
 * one uid there is.
 *
 * Starting a program takes longer than fetching a small slug: one crew waits, ready. */
#ifndef CORE_CREW_H
#define CORE_CREW_H

#include "base/err.h"
#include "core/slugs/fetchcause.h"
#include "isolate/cgroup.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

/* What a crew may use. Its page cache counts, so a large slug is written to the disk while it is
 * unpacked; what it allocates is bounded for each process. */
#define CREW_MEMORY_MAX (UINT64_C(1) << 30)
#define CREW_DATA_MAX   (UINT64_C(192) << 20)
#define CREW_PIDS_MAX   64

struct crews;
struct crew;

enum crew_kind {
    CREW_FETCH, /* members are the roles of enum fetch_role */
    CREW_SEAL,  /* member 0 */
};

struct crews_options {
    sd_event *loop;
    const char *program; /* dynod-fetch; borrowed */
    struct cgroup_tree *cgroups;
    bool rootless;
    uid_t first, last; /* of the crews */
    bool images;       /* there is a role image; else unpack writes a directory, */
    uid_t owner;       /* as its owner */
};
int crews_open(const struct crews_options *o, struct crews **ret, struct err *e);
/* Ends all of them, waits, and leaves nothing. For the agent's own end. */
void crews_freep(struct crews **cp);
/* How many crews there can be at once. */
unsigned crews_max(const struct crews *c);

/* A fetch's crew is on its way out: its processes are killed but not gone, and what they held open
 * still takes room on the disk, whether it has a name or not. */
bool crews_dying(const struct crews *c);

/* Has a crew for the next fetch made, at the next turn of the loop. */
void crews_prepare(struct crews *c);

struct crew_ops {
    void (*frame)(void *userdata, unsigned member, const json_t *json);
    /* It has ended, and all it said has been told. WELL: with status 0; HOW: words for it. */
    void (*gone)(void *userdata, unsigned member, bool well, const char *how);
};

/* A crew: the one that waits, or a new one. OPS are called from the loop, never from inside a call.
 * -EAGAIN: all uids are taken; one will be free in a moment. */
int crews_take(struct crews *c, enum crew_kind kind, const struct crew_ops *ops, void *userdata,
               struct crew **ret, struct err *e);
/* Sends MEMBER its request, with FDS (borrowed). */
int crew_send(struct crew *crew, unsigned member, const json_t *json, const int *fds, size_t n_fds,
              struct err *e);
bool crew_has(const struct crew *crew, unsigned member);
/* Kills what is left of it, and cleans up in the loop's time. */
void crew_freep(struct crew **cp);

#endif
