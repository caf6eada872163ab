/* linkproto.h - what dynod and dynod-link say to each other: frames (frame.h) on dynod-link's fd 0.
 * dynod-link owns nothing: all that must outlive it (what was commanded, which exits nobody has
 * acknowledged) is dynod's. It is a stranger to dynod: each frame is checked field by field.
 *
 * DYNO below is one dyno's state as docs/protocol.md has it ("A dyno"), COMMAND, RESULT, EXIT and
 * NOTICE likewise. Times in frames: *_ms are durations, "t" is RFC 3339.
 *
 * dynod -> dynod-link
 *   {"start": {"agent": S, "version": S, "epoch": S, "controllers": [URL], "labels": {S: S},
 *              "capacity": {..}, "address": S, "metadata": "auto"|"off"|URL, "lifecycle": B,
 *              "identity_document": B, "heartbeat_ms": N, "control": {"store": S|null,
 *              "generation": N}, "instance": {"draining": B, "deadline": RFC3339|null,
 *              "reason": S|null}}}
 *       the first frame. AGENT "": the instance metadata's id, else "fallback_agent".
 *   {"files": ["ca", "cert", "key", "token"]}
 *       the fds of the frame are those files, in this order; one that is not configured is not in
 *       the list. With fewer fds than names one that is configured could not be opened: dynod-link
 *       then takes none of them, and asks again. Sent after "start" and again whenever dynod-link
 *       asks: a token may be renewed.
 *   {"snapshot": [DYNO]}   every dyno; after "files", and nothing about dynos before it.
 *   {"dyno": DYNO}         one that is new or has changed.
 *   {"gone": "APP/DYNO"}   one that is there no more.
 *   {"exit": EXIT}         one that the controller has not acknowledged; all of them after a start.
 *   {"result": RESULT}     the answer to a command. Its "settled": B: whether it is over with that
 *                          generation; false: our own trouble (a full disk), ask for it again.
 *   {"notice": NOTICE}
 *   {"instance": {..}}     as in "start", when it changes.
 *   {"attach": {"attach": N, "dyno": "APP/run.N", "url": URL, "secret": S, "tty": B}}
 *       dial there. fds: [0] PTY master, or [0] stdin (write), [1] stdout, [2] stderr (read).
 *   {"attach_ended": {"attach": N, "status": N, "error": S?}}
 *       the command is over: what its descriptors still hold, then the status, then close.
 *
 * dynod-link -> dynod
 *   {"hello": {"version": S}}
 *   {"files": {}}          send the files anew.
 *   {"command": {"store": S, "command": COMMAND}}
 *   {"acked": {"exits": [ID]}}
 *   {"contact": {"ttl_ms": N, "ago_ms": N}}
 *       the controller has answered, so long ago; at most once a second.
 *   {"status": {"state": "connecting"|"registered"|"backoff"|"conflict"|"off", "url": S|null,
 *               "error": S|null, "fault": S|null, "agent": S, "session": S|null,
 *               "retry_ms": N|null, "queued": N, "dropped": N, "counts": {S: N}}}
 *       on every change, at most five times a second. "counts": errors by their kind, which
 *       `dyno doctor` and the API show.
 *   {"identity": {"agent": S, "labels": {S: S}, "address": S|null}}   from the metadata.
 *   {"interruption": {"kind": "spot"|"rebalance"|"maintenance"|"autoscaling", "deadline":
 *                     RFC3339|null, "text": S}}
 *   {"attach_up": {"attach": N, "rows": N, "cols": N}}   somebody is there; sizes 0: unknown.
 *   {"attach_failed": {"attach": N, "error": S}}         R13.
 *   {"attach_gone": {"attach": N}}                       it was there, and went: R16's ladder.
 *   {"attach_signal": {"attach": N, "signal": N}}
 */
#ifndef BASE_LINKPROTO_H
#define BASE_LINKPROTO_H

#define LINK_AGENT_MAX       64  /* characters of an agent's id, [A-Za-z0-9._-] */
#define LINK_STORE_MAX       64  /* of a store's id, the same characters */
#define LINK_ID_MAX          64  /* of a command's id, printable ASCII without blanks */
#define LINK_EXIT_ID_MAX     159 /* of an exit's: a run's id has the names of app and type in it */
#define LINK_SECRET_MAX      256 /* of an attach secret */
#define LINK_CONTROLLERS_MAX 16
#define LINK_FILE_MAX        (1u << 20) /* bytes of a certificate or token file */
#define LINK_ANSWER_MAX      (3u << 20) /* bytes of one answer of a controller */
#define LINK_COMMANDS_MAX    1000       /* commands in one answer */
#define LINK_ATTACH_WAIT_SEC 30         /* R13 */

#endif
