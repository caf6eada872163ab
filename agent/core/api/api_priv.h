/* api_priv.h - what the files of the API share.
 *
 *   api.c          the daemon in the loop
 *   api_client.c   connections: who may, how many
 *   api_request.c  one request: collected, checked, carried out
 *   api_path.c     path, query, percent-encoding
 *   api_reply.c    answers and errors
 *   api_routes.c   the table of routes and what each does
 *   api_stream.c   answers that go on; logs
 *   api_events.c   events, and their followers
 *   api_attach.c   connections that become attached commands
 */
#ifndef CORE_API_PRIV_H
#define CORE_API_PRIV_H

#include "core/api/api.h"

#include "base/name.h"
#include "base/str.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

struct event_hub;
struct session;
struct stream;

/* --- Requests --- */

/* What the query said, checked; names are empty when absent. */
struct params {
    char app[APP_NAME_MAX + 1];
    char dyno[DYNO_TEXT_MAX]; /* "web.1" */
    char source[32];
    struct digest digest;
    uint64_t n, after;
    bool has_n, has_after, follow, json;
    unsigned given; /* bits of enum param */
};

enum param {
    PARAM_APP = 1 << 0,
    PARAM_DYNO = 1 << 1,
    PARAM_N = 1 << 2,
    PARAM_FOLLOW = 1 << 3,
    PARAM_FORMAT = 1 << 4,
    PARAM_SOURCE = 1 << 5,
    PARAM_AFTER = 1 << 6,
};

struct request;

enum body_kind {
    BODY_NONE,     /* none, or an empty object */
    BODY_OBJECT,   /* a JSON object */
    BODY_OPTIONAL, /* none is an empty object */
};

struct route {
    const char *method;
    const char *path; /* "/v1/apps/{app}/run" */
    /* Fills RQ's reply; or returns -errno. */
    int (*run)(struct request *rq, struct err *e);
    enum body_kind body;
    unsigned params; /* bits of enum param */
    uint64_t n_max;
};

#define API_ALLOW_MAX 64

/* One at a time per connection; a part of its struct client. */
struct request {
    struct client *client;
    struct MHD_Connection *conn;
    const struct route *route;
    struct params params; /* of the path and the query */
    struct str body;
    uint64_t body_seen; /* also what was discarded */
    json_t *spec;       /* the body, parsed; NULL where the route takes none */
    bool head;
    bool upgrade; /* asked for the attach protocol */
    /* The reply: RESPONSE with STATUS, or the refusal WHY. */
    struct MHD_Response *response;
    unsigned status;
    bool refused;
    struct err why;
    char allow[API_ALLOW_MAX]; /* what else the path knows: makes the refusal a 405 */
    /* What outlives the call of run(). */
    struct stream *stream;
    struct session *session;
};

/* The callbacks of libmicrohttpd; CLS is the struct api. */
enum MHD_Result request_on_access(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **con_cls);
void request_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                          enum MHD_RequestTerminationCode why);
size_t request_unescape(void *cls, struct MHD_Connection *conn, char *text);

/* Finds the route of METHOD and URL (raw, without its query) and the names in it. -ENOENT, -EINVAL;
 * rq->allow is filled for a path without that method. */
int path_route(struct request *rq, const char *method, const char *url, struct err *e);
int path_query(struct request *rq, struct err *e);

const struct route *routes(size_t *ret_n);

/* --- Replies --- */

/* Takes JSON; NULL is -ENOMEM. */
int reply_json(struct request *rq, unsigned status, json_t *json, struct err *e);
/* Takes TEXT, from malloc. */
int reply_text(struct request *rq, const char *type, char *text, size_t len, struct err *e);
/* The reply to a failure, E. */
int reply_error(struct request *rq, const struct err *e);
/* Hands the reply to libmicrohttpd. */
enum MHD_Result reply_send(struct request *rq);
/* {"message", "fault", "code"}, the caller's reference. */
json_t *error_json(const struct err *e);
/* JSON as one line; -ENOMEM. */
int json_line(struct str *s, const json_t *json);

/* --- Connections --- */

enum verdict {
    CLIENT_SERVED,
    CLIENT_FORBIDDEN,
    CLIENT_OVER_SHARE, /* its uid's */
    CLIENT_CROWDED,
};

struct client {
    struct api *api;
    int fd; /* libmicrohttpd's */
    struct caller caller;
    enum verdict verdict;
    bool busy;    /* a request is being carried out or answered */
    bool dropped; /* shut down; libmicrohttpd will notice */
    TAILQ_ENTRY(client) link;
    struct request rq;
};
TAILQ_HEAD(client_list, client);

int client_on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata);
void client_on_notify(void *cls, struct MHD_Connection *conn, void **socket_context,
                      enum MHD_ConnectionNotificationCode code);
struct client *client_of(struct MHD_Connection *conn);
/* Idle since now: the last to be pushed out. */
void client_touch(struct client *c);
/* -EACCES, -EUSERS, -EBUSY with the reason when C is not to be served. */
int client_verdict(const struct client *c, struct err *e);

/* --- Streams --- */

struct stream_ops {
    /* > 0: bytes put into BUF; 0: nothing now, stream_wake() will come; -1: the end. */
    ssize_t (*read)(struct stream *s, char *buf, size_t max);
    void (*free)(struct stream *s);
};

/* The first member of each kind. */
struct stream {
    const struct stream_ops *ops;
    struct request *rq;
    sd_event_source *hangup;
    bool suspended;
    bool gone;
    TAILQ_ENTRY(stream) link;
};
TAILQ_HEAD(stream_list, stream);

/* Answers RQ (not a HEAD) with what S (owned by RQ from here, also on failure) will read. */
int stream_start(struct stream *s, const struct stream_ops *ops, struct request *rq,
                 const char *type, struct err *e);
void stream_wake(struct stream *s);
void stream_free(struct stream *s);
/* Wakes every stream to its end. */
void stream_end_all(struct api *api);

int route_logs(struct request *rq, struct err *e);
int route_events(struct request *rq, struct err *e);

/* --- Attached commands --- */

TAILQ_HEAD(session_list, session);

int route_run(struct request *rq, struct err *e);
int route_exec(struct request *rq, struct err *e);
/* The connection ended before it was switched over. */
void session_abandon(struct session *s);
/* Lets go of every session and leaves its command running. */
void session_end_all(struct api *api);

/* --- The daemon --- */

struct api {
    struct agent *agent;
    sd_event *loop;
    gid_t group;
    uid_t euid;
    int listen_fd;
    struct MHD_Daemon *daemon;
    sd_event_source *accept_source;
    sd_event_source *accept_retry; /* timer: descriptors had run out */
    sd_event_source *io_source;
    sd_event_source *again; /* libmicrohttpd has more to do right now */
    sd_event_source *timeout;
    uint64_t timeout_at; /* boot usec */
    struct client *adding;
    struct client_list clients; /* the longest untouched first */
    struct stream_list streams;
    struct session_list sessions;
    /* Followers of events. */
    struct event_watch *watch;
    struct follower *followers;
};

/* Lets libmicrohttpd do what it can, and arms the timer for what it waits for. Only from the loop:
 * never below one of its own callbacks. */
void api_run(struct api *api);
/* Has the loop call api_run() next. A resumed or given back connection needs it: without threads,
 * libmicrohttpd has no way to wake anybody. */
void api_again(struct api *api);

#endif
