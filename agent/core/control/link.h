/* link.h - dynod's side of dynod-link (base/linkproto.h): starts it, starts it again when it dies,
 * and checks each of its frames as a stranger's. Whatever must outlive dynod-link is kept here: the
 * exits that nobody has acknowledged (outbox.h), when a controller was last heard of, the agent's
 * own id. Nothing here blocks, but for small files in RUNTIME and STATE. */
#ifndef CORE_LINK_H
#define CORE_LINK_H

#include "core/agent.h"
#include "core/state/model.h"

#include <stdint.h>

#define LINK_RESTART_PAUSE (250 * USEC_PER_MSEC) /* doubled with each start that failed soon */
#define LINK_RESTART_MAX   (60 * USEC_PER_SEC)
#define LINK_LIVED         (10 * USEC_PER_SEC) /* so long, and its death was no failed start */
#define LINK_CONTACT_EVERY USEC_PER_SEC        /* between two writes of RUNTIME/contact */
#define LINK_SAVE_AGAIN    (5 * USEC_PER_SEC)  /* exits that the disk had no room for */
#define LINK_ATTACHES_MAX  100                 /* one-offs attached from afar at once */

struct link;

/* There is somebody to speak to, or to listen to: a controller, or instance metadata. */
bool link_wanted(const struct config *c);
/* Before the dynos of an earlier agent are adopted: what became of them is to be reported. UID: who
 * dynod-link becomes ((uid_t)-1: stays). */
int link_open(struct agent *a, uid_t uid, struct link **ret, struct err *e);
/* Starts dynod-link, from the loop. A program that cannot be started is no error: it is tried for
 * ever. NULL is fine. */
void link_start(struct link *l);
/* Before the dynos go: whoever is attached from afar loses us, their commands go on. NULL is fine.
 */
void link_abandon(struct link *l);
void link_freep(struct link **l);

/* How a stop_after is reckoned from agent_last_contact(): where there was no contact in this boot,
 * what is to run once only may run elsewhere since. */
uint64_t link_now(const struct agent *a, uint64_t now);

/* The instance's state has changed. */
void link_tell_instance(struct agent *a);
/* A notice of KIND (docs/protocol.md) about NAME (may be NULL), with FIELDS (taken, may be NULL).
 */
void link_notice(struct agent *a, const char *kind, const struct dyno_name *name, json_t *fields,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* A result for the controller (taken). */
void link_result(struct agent *a, json_t *result);
/* Another store's command was refused: for the status. */
void link_conflict(struct agent *a, const char *store);

/* Starts a one-off to which somebody comes over the network: as agent_run_by(), to URL with SECRET.
 */
int link_run_attached(struct agent *a, const char *app, const json_t *spec, unsigned num,
                      json_t *by, const char *url, const char *secret, json_t **ret, struct err *e);

#endif
