/* attachproto.h - how `dyno run` and `dyno exec` hold the terminal of a command in a dyno.
 *
 * The client asks over the API's Unix socket:
 *
 *   POST /v1/apps/APP/run  or  POST /v1/dynos/APP/DYNO/exec
 *   Connection: Upgrade
 *   Upgrade: dynod-attach
 *
 * with the command as the JSON body. Anything but 101 is an ordinary answer with a JSON error. The
 * 101's header Dynod-Dyno names the dyno ("run.4123"), which may have to wait for its slug. The
 * client sends nothing more before it has the whole head of the 101. From there on both sides speak
 * frames (frame.h) on that socket:
 *
 *   agent -> client
 *     {"started": {"dyno": "web.1", "tty": B}}
 *         tty: descriptor [0] is the master of its PTY.
 *         else: [0] write to its stdin, [1] read its stdout, [2] read its stderr.
 *     {"error": {"message": S, "fault": S, "code": S}}
 *         a frame of the client's could not be done; the command goes on.
 *     {"ended": {"status": N, "error": {..} or absent}}
 *         the last frame. STATUS as a shell has it, 128 + signal; 126 or 127 with an error when the
 *         command never ran ("started" did not come). The client closes; so does the agent after
 *         ATTACH_LINGER_SEC.
 *   client -> agent
 *     {"signal": N}
 *         for a client without a PTY; one with a PTY writes ^C into it.
 *
 * Bytes of the terminal never pass through the agent: the client copies between its own terminal
 * and the descriptors, and sets the window's size on the master (TIOCSWINSZ). So an agent that dies
 * leaves the session as it is; only the exit status has nobody left to tell it.
 *
 * The client closing the socket is what a terminal's hangup is: the ladder of SIGHUPs starts
 * (R16). */
#ifndef BASE_ATTACHPROTO_H
#define BASE_ATTACHPROTO_H

#define ATTACH_UPGRADE     "dynod-attach" /* the token of the Upgrade header */
#define ATTACH_DYNO_HEADER "Dynod-Dyno"
#define ATTACH_FDS_PIPES   3
#define ATTACH_SIGNAL_MAX  64
#define ATTACH_LINGER_SEC  5

#endif
