/* logger.h - dynod's side of dynod-logs (base/logproto.h): starts it, starts it again when it dies,
 * hands it pipes and the platform's own lines, and sends those again that a dead one had not put on
 * record. */
#ifndef CORE_LOGGER_H
#define CORE_LOGGER_H

#include "base/err.h"
#include "core/config/config.h"

#include <jansson.h>
#include <systemd/sd-event.h>

#define LOGGER_UNACKED_MAX                                                                         \
    20000 /* lines of the platform kept until they are on record; the oldest go */

struct logger;
struct logger_ops {
    /* All that incarnation INC wrote is on record. */
    void (*eof)(void *userdata, const char *inc);
    /* A new dynod-logs is there: hand it every pipe anew. */
    void (*restarted)(void *userdata);
};

/* DIRFD: its directory, owned by UID ((uid_t)-1: ours). Borrowed for the logger's life. */
int logger_open(sd_event *loop, const struct config *config, int dirfd, uid_t uid,
                const struct logger_ops *ops, void *userdata, struct logger **ret, struct err *e);
void logger_freep(struct logger **lg);
/* dynod-logs is running. */
bool logger_alive(const struct logger *lg);
unsigned logger_restarts(const struct logger *lg);

/* Read this pipe to its end. PIPE_FD is taken. */
void logger_pipe(struct logger *lg, const char *dyno, const char *inc, int pipe_fd);
/* A line of the platform's own about DYNO ("app/web.1"). */
void logger_line(struct logger *lg, const char *dyno, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* FD is taken. */
int logger_query(struct logger *lg, const json_t *query, int fd, struct err *e);
void logger_forget_inc(struct logger *lg, const char *inc);
/* After a hello: every incarnation and app but these is forgotten; APPS NULL: no app is. Both are
 * objects with the names as keys, and taken. */
void logger_keep(struct logger *lg, json_t *incs, json_t *apps);
void logger_forget_app(struct logger *lg, const char *app);

#endif
