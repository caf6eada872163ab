/* logs.h - what the parts of dynod-logs share: one context, passed down. Not for other components.
 *
 * Everything runs in one thread on one loop, in turns of bounded work (TURN_BYTES and TURN_LINES of
 * one dyno, READER_TURN_BYTES of one reader). Frames and readers come before dynos; dynos take
 * turns in the order in which they became ready, so nobody starves another. Without events there
 * are no wake-ups. */
#ifndef LOGS_LOGS_H
#define LOGS_LOGS_H

#include "base/err.h"
#include "base/logproto.h"
#include "base/loop.h"
#include "logs/msg.h"
#include "logs/record.h"
#include "logs/spool.h"
#include "logs/tail.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define DYNOS_MAX          4096u
#define READERS_MAX        64u
#define QUERY_LINES        100u  /* without "n" */
#define TAIL_LINES_DEFAULT 1500u /* the most that a query gets */
#define TAIL_LINES_MAX     LOG_TAIL_LINES_MAX
#define HISTORY_BYTES_MAX  (4u << 20) /* of one query: older lines are left out */
#define TURN_BYTES         (64u << 10)
#define TURN_LINES         512u /* under QUEUE_MAX: a reader that keeps up loses nothing */
#define TURN_BATCH         (TURN_BYTES + TURN_LINES * RECORD_OVERHEAD)
#define RETRY_USEC         USEC_PER_SEC /* after a full filesystem; the pipes keep the rest */
#define PENDING_MAX        10000u       /* the platform's lines that wait for it */
#define PIPE_PRIORITY      (SD_EVENT_PRIORITY_NORMAL + 5) /* only lines up for a turn */
#define TURN_PRIORITY      (SD_EVENT_PRIORITY_NORMAL + 10)

struct options {
    uint64_t tail_bytes;
    uint64_t tail_lines;
    const char *platform; /* the source's name of the platform's lines */
};

struct app {
    struct app *next;
    struct tail *tail;
    bool forgotten; /* its tail goes with the last of its dynos */
    char name[APP_NAME_MAX + 1];
};

/* One incarnation of a dyno. */
struct dyno {
    struct dyno *next;
    struct logs *logs;
    struct app *app;
    char name[RECORD_DYNO_MAX + 1]; /* "web.1" */
    char inc[LOG_INC_MAX + 1];
    int pipe; /* -1: at its end, or not here since a restart */
    struct spool spool;
    uint64_t found_pos;  /* what the tail says, until the spool is open */
    sd_event_source *io; /* edge-triggered: a turn goes on until the pipe is empty */
    struct dyno *behind; /* in the line for a turn */
    bool in_line;
    bool eof;
    bool told;      /* {"eof"} was sent */
    bool forgotten; /* goes when all of it is on record */
    bool stalled;   /* waits for the retry timer */
};

struct reader;

struct logs {
    sd_event *loop;
    struct peer *peer;
    int dirfd;
    int lock;
    struct options options;
    struct app *apps;
    struct dyno *dynos;
    size_t n_dynos;
    struct dyno *first; /* in the line for a turn */
    struct dyno **last;
    sd_event_source *turns; /* on while somebody is in line */
    struct reader *readers;
    size_t n_readers;
    uint64_t seq;    /* of the platform's lines: the highest on record */
    json_t *pending; /* lines of the platform that are not on record: the filesystem is full */
    sd_event_source *retry;
    char *in;             /* TURN_BYTES */
    unsigned char *batch; /* TURN_BATCH */
};

/* app.c: apps and what is on record of them */
struct app *app_find(const struct logs *l, const char *name);
int app_get(struct logs *l, const char *name, struct app **ret, struct err *e);
/* Puts RECORDS on record, then shows them to the readers that follow. */
int app_append(struct logs *l, struct app *app, const void *records, size_t len, struct err *e);
int app_forget(struct logs *l, struct app *app, struct err *e);
/* Drops a forgotten app that has no dyno left. */
void app_collect(struct logs *l, struct app *app);

/* load.c: what an earlier process left in the directory */
#define SEQ_FILE "seq" /* the highest SEQ, where no tail has it any more */
int logs_load(struct logs *l, struct err *e);
/* Removes the spools of those that nobody holds and KEEP, an object, does not name. */
int logs_drop_spools(struct logs *l, const json_t *keep, struct err *e);

/* dyno.c: from pipes to records */
struct dyno *logdyno_find(const struct logs *l, const char *inc);
int logdyno_new(struct logs *l, const char *inc, struct dyno **ret, struct err *e);
void logdyno_free(struct dyno *d);
/* Takes PIPE, unless D has one: then it is closed. */
int logdyno_open(struct dyno *d, int pipe, struct err *e);
/* One turn now; D may be freed in it, if it was forgotten. */
void logdyno_run(struct dyno *d);
/* Before the first dyno. */
int dynos_start(struct logs *l, struct err *e);
/* After RETRY_USEC, what is stalled is tried again. */
void logs_retry_later(struct logs *l);

/* reader.c: queries */
/* Takes FD. */
int reader_open(struct logs *l, const json_t *query, int fd, struct err *e);
void readers_publish(struct logs *l, const struct app *app, const void *records, size_t len);
void readers_free(struct logs *l);

/* control.c: what dynod says */
int control_start(struct logs *l, int fd, struct err *e);
void control_eof(struct logs *l, const char *inc);
/* Tries the platform's lines that wait. */
void control_retry(struct logs *l);

/* confine.c: gives up what this process does not need. */
int logs_confine(struct err *e);

#endif
