/* logproto.h - what dynod and dynod-logs say to each other, in JSON frames on dynod-logs' fd 0 (a
 * socketpair). fd 3 is dynod-logs' own directory (owned by its uid, on tmpfs): there it keeps what
 * must outlive it. All times are CLOCK_REALTIME microseconds.
 *
 *  dynod -> logs
 *    {"open": {"dyno": "APP/web.1", "inc": ID}}            descriptor [0]: the log pipe's read end.
 *        Read it to its end. An ID that is open already: the descriptor is closed, nothing changes.
 *    {"line": {"seq": N, "dyno": "APP/web.1", "t": T, "text": S}}  a line of the platform's own.
 * SEQ only grows, across restarts of either side; one that is not above the last is dropped: a
 * replay.
 *    {"query": {"app": S or absent, "dyno": "web.1" or absent, "n": N, "follow": B, "source": S or
 *               absent, "format": "text"|"json"}}
 *        descriptor [0]: where to write the answer; closed at its end. A reader that does not read
 *        never blocks the dynos: lines it misses are counted and told (L10).
 *    {"forget": {"app": S}}                                the app is gone: drop its tail
 *    {"forget_inc": {"inc": ID}}                           the dyno's end is recorded: drop its spool
 *    {"keep": {"incs": {ID: true, ...}, "apps": {APP: true, ...}}}
 *        after each hello: all that are known, every other one is forgotten, because a death may have
 *        cost it its "forget". Without "apps" they all stay.
 *  logs -> dynod
 *    {"hello": {"seq": N}}     first: the highest SEQ that is on record
 *    {"ack": {"seq": N}}       everything up to SEQ is on record
 *    {"eof": {"inc": ID}}      that pipe was read to its end, and all of it is on record
 *
 * "On record" means: in a file that survives kill -9 of dynod-logs. */
#ifndef BASE_LOGPROTO_H
#define BASE_LOGPROTO_H

#define LOG_LINE_MAX        10000u       /* bytes of one line; a longer one is cut into several */
#define LOG_INC_MAX         160u         /* length of an incarnation's ID: [A-Za-z0-9._-] */
#define LOG_TAIL_LINES_MAX  100000u      /* what dynod-logs takes for --tail-lines */
#define LOG_TAIL_BYTES_MAX  (256u << 20) /* and for --tail-bytes */
#define LOG_SOURCE_PLATFORM "heroku"     /* `log_source` in the configuration */
#define LOG_SOURCE_APP      "app"

#endif
