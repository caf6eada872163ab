/* agent.h - what the API (and later the link) may ask of the agent. All JSON in SPECs comes from
 * outside and is checked here, field by field: an unknown field, a wrong type or a missing one is
 * an error that names the field. Nothing blocks; results that take time come through callbacks or
 * events.
 *
 * Errors: -ENOENT (no such app, dyno), -EINVAL (bad field), -EEXIST, -EBUSY (draining, limit),
 * -ENOSPC … with the fault in the struct err; the API maps them to HTTP status. */
#ifndef CORE_AGENT_H
#define CORE_AGENT_H

#include "base/err.h"
#include "base/name.h"
#include "core/audit.h"
#include "core/config/config.h"
#include "core/events.h"

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

struct agent;

sd_event *agent_loop(struct agent *a);
const struct config *agent_config(const struct agent *a);

/* --- Commands. *ret: what to answer, the caller's reference. --- */

/* SPEC: {"slug": URL, "digest": "sha256:HEX"?, "env": {..}?, "size": S?, "formation": {"web": 2}?,
 * "dir": PATH? (instead of slug), "types": [{"name","command"}]? (with dir: its Procfile as the CLI
 * read it), "ports": {..}?, "restart": B?}. Answer: the release
 * {"app","version","slug","digest"…}. */
int agent_release(struct agent *a, const char *app, const json_t *spec, json_t **ret,
                  struct err *e);
/* SPEC: {"web": 3, "worker": 1}. Answer: the whole formation. */
int agent_scale(struct agent *a, const char *app, const json_t *spec, json_t **ret, struct err *e);
/* DYNO: NULL (all of the app) or "web.1". Answer: {"restarted"|"stopped": [names]}. */
int agent_restart(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e);
int agent_stop(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e);
/* DYNO, or every dyno of APP that is up, stands still; or runs on. Not kept: what starts runs. No
 * error when it is so already; -EALREADY: it is in another state. Answer:
 * {"paused"|"resumed": [names]}. */
int agent_pause(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e);
int agent_resume(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e);
/* SPEC: {"size": S, "type": T?}, the latter only without DYNO. For what runs, and for good.
 * -EALREADY: one of them holds more memory than that; nothing is changed. Answer: {"size": S,
 * "resized": [names], "at_next_start": [{"dyno","limits": ["open_files"..]}..], "failed": [{"dyno",
 * "text"}..]}. */
int agent_resize(struct agent *a, const char *app, const char *dyno, const json_t *spec,
                 json_t **ret, struct err *e);
/* Stops everything of APP and forgets it. */
int agent_forget(struct agent *a, const char *app, json_t **ret, struct err *e);

/* SPEC: {"deadline_ms": N?, "reason": S?}. Starts are refused from now on, and what runs gets
 * SIGTERM in time before the deadline; kept across restarts of the agent. A second one changes the
 * deadline. Answer: as agent_instance(). */
int agent_drain(struct agent *a, const json_t *spec, json_t **ret, struct err *e);
/* What the formations say starts again. No error when it was not draining. */
int agent_undrain(struct agent *a, json_t **ret, struct err *e);

/* SPEC: {"slug": URL or [URL..], "digest": "sha256:HEX"?}. Has it fetched into the cache. Answer:
 * {"fetch": N, "digest"?, "cached": B}; how it goes is told by events of the kind "fetch" with that
 * number. -EBUSY: too many at once. */
int agent_slug_fetch(struct agent *a, const json_t *spec, json_t **ret, struct err *e);
/* Throws it out of the cache. -EALREADY: it is in use. Answer: {"removed": "sha256:HEX"}. */
int agent_slug_remove(struct agent *a, const struct digest *digest, json_t **ret, struct err *e);
/* Has its image read and compared with what was published. Answer: {"verifying": "sha256:HEX"}; an
 * event "slug" tells the outcome, "verified" or "unverified" (then with a "text"). -EOPNOTSUPP: it
 * is a directory. -EBUSY: it was published a moment ago. */
int agent_slug_verify(struct agent *a, const struct digest *digest, json_t **ret, struct err *e);

/* --- Attached commands: exec into a dyno, one-off runs --- */

/* Who is attached. Callbacks come from the loop, never from inside the call that made them. */
struct attach_ops {
    /* The process runs. TTY: fds[0] is the PTY's master, n = 1. Else fds are the agent's ends of
     * its stdin, stdout, stderr, n = 3. Borrowed: pass them on at once (SCM_RIGHTS). */
    void (*started)(void *userdata, const char *dyno, const int *fds, size_t n, bool tty);
    /* It ended: STATUS as a shell has it (128 + signal). Or it never ran: WHY is set, STATUS is
     * 126/127. The last callback. */
    void (*ended)(void *userdata, int status, const struct err *why);
};
struct attach;

/* SPEC: {"argv": [..] or "command": S, "tty": {"rows","cols","term"}?, "env": {..}?, "size": S?,
 * "attach": B (default true)}. APP's release. OPS NULL: detached, output goes to the logs. CALLER
 * goes into the record (audit.h). Answer: {"dyno": "run.4123"}. */
int agent_run(struct agent *a, const char *app, const json_t *spec, const struct caller *caller,
              const struct attach_ops *ops, void *userdata, struct attach **ret_attach,
              json_t **ret, struct err *e);
/* SPEC: {"argv": [..] or "command": S, "tty": {..}?, "env": {..}?}. In the running dyno APP/DYNO.
 */
int agent_exec(struct agent *a, const char *app, const char *dyno, const json_t *spec,
               const struct caller *caller, const struct attach_ops *ops, void *userdata,
               struct attach **ret_attach, struct err *e);
/* A signal from the client (SIGINT of a client without a PTY). */
int attach_signal(struct attach *at, int signo, struct err *e);
/* The client is gone: the SIGHUP ladder starts (R16). No callback after this. NULL is fine. */
void attach_detach(struct attach *at);

/* --- Questions --- */

json_t *agent_status(struct agent *a); /* version, pid, uptime, counts, health of helpers */
/* {"draining": B, "deadline": RFC3339|null, "reason": S|null, "since": RFC3339|null, "dynos": N}:
 * how many processes of dynos there are still. */
json_t *agent_instance(struct agent *a);
/* null: no controller is configured. Else linkproto.h's "status" and {"alive": B, "restarts": N,
 * "last_contact_ms": N|null, "exits_waiting": N, "store": S|null, "generation": N}. */
json_t *agent_link(struct agent *a);
json_t *agent_apps(struct agent *a); /* [{"name","release":{..},"formation":{..}}] */
int agent_app(struct agent *a, const char *app, json_t **ret, struct err *e);
/* [{"app","dyno","type","num","state","release","port","pid","restarts","since","uptime_ms","memory","memory_quota",
 *   "memory_max","cpu_usec","pids","pids_max","size","command","last_exit":{..}|null,"next_start_ms"?}]
 */
json_t *agent_dynos(struct agent *a, const char *app /* NULL: all */);
int agent_dyno(struct agent *a, const char *app, const char *dyno, json_t **ret, struct err *e);
/* {"slugs": [{"digest","kind","bytes","used": RFC3339,"synced","in_use","used_by": [names]}],
 * "fetches": as fetcher_json(), "bytes": N}, last used first. */
json_t *agent_slugs(struct agent *a);
/* All that `dyno top` shows, in one answer: {"status": agent_status(), "dynos": agent_dynos()}. */
json_t *agent_top(struct agent *a, const char *app /* NULL: all */);
json_t *agent_doctor(struct agent *a); /* [{"name","found","required","detail"}] */

/* Has dynod-logs write its answer into FD (taken): QUERY as of logproto.h. */
int agent_logs(struct agent *a, const json_t *query, int fd, struct err *e);

/* Events, newest last: {"id": N, "t": RFC3339, "kind":
 * "state"|"exit"|"fetch"|"release"|"scale"|"agent"|…, "app","dyno", "release", "from","to",
 * "cause", "fault", "evidence": {..}, "text": S}. */
json_t *agent_events(struct agent *a, uint64_t after_id, size_t max);
int agent_watch_events(struct agent *a, event_fn fn, void *userdata, struct event_watch **ret,
                       struct err *e);
void agent_unwatch_events(struct event_watch *w);

#endif
