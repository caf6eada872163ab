/* session_priv.h - what session.c, session_lanes.c and session_calls.c share. */
#ifndef LINK_SESSION_PRIV_H
#define LINK_SESSION_PRIV_H

#include "base/linkproto.h"
#include "base/loop.h"
#include "link/answer.h"
#include "link/queue.h"
#include "link/session.h"
#include "link/table.h"

enum lane_id { LANE_REGISTER, LANE_COMMANDS, LANE_REPORT, LANE_HEARTBEAT, LANES };

/* One kind of call. */
struct lane_type {
    const char *name; /* also of its timer */
    /* When it wants to be sent, as things are: a boot time; 0: now; USEC_NEVER: not. */
    uint64_t (*due)(const struct session *s);
    int (*send)(struct session *s, struct backend_request *rq, struct err *e);
    void (*done)(struct session *s, const struct backend_reply *reply);
};

struct lane {
    struct session *s;
    const struct lane_type *type;
    struct backend_call *call; /* NULL: none is open */
    size_t url;                /* where the last one went */
    uint64_t sent;             /* when */
    unsigned fails;            /* in a row */
    uint64_t not_before;
    bool told_to_wait; /* not_before is the controller's */
    uint64_t timer_at;
    sd_event_source *timer;
    /* Trouble, from the first failure to the next success. */
    uint64_t since;
    json_t *kinds; /* that it has had; each is logged once */
    struct err last;
};

/* A report that is not acknowledged yet: it goes again as it is, with its number. */
struct pending {
    json_t *body; /* NULL: none */
    uint64_t seq;
    uint64_t generation;
    char hash[TABLE_HASH_TEXT];
    struct batch batch;
};

struct session {
    sd_event *loop;
    const struct session_ops *ops;
    void *userdata;
    const struct backend_ops *backend;
    struct http *http;
    struct backend *b; /* NULL: before it is known who we are, or nobody to speak to */
    json_t *start;
    json_t *urls;
    size_t current; /* of urls */
    struct lane lanes[LANES];
    struct files files;
    bool have_files;
    struct err files_error; /* errnum 0: none */
    bool have_snapshot;
    uint64_t files_until; /* boot time; new files are awaited until then */

    char agent[LINK_AGENT_MAX + 1];
    json_t *labels;
    json_t *document;
    char *address;
    json_t *instance;
    bool instance_changed;

    /* The registration. */
    bool registered;
    char id[ANSWER_SESSION_MAX + 1];
    char store[LINK_STORE_MAX + 1]; /* whom we speak to */
    struct backend_timing timing;
    unsigned lost; /* registrations in a row that nothing came of */

    /* Reports. */
    struct table *table;
    struct queue *queue;
    struct pending pending;
    uint64_t told;                   /* the generation that the controller has */
    char told_hash[TABLE_HASH_TEXT]; /* its hash */
    char register_hash[TABLE_HASH_TEXT];
    uint64_t register_generation;
    bool want_snapshot;
    uint64_t report_at; /* USEC_NEVER: nothing new */
    uint64_t report_seq;
    uint64_t beat_seq;
    uint64_t heard;    /* when the last report or heartbeat that was answered had been sent */
    uint64_t answered; /* when the last answer came */
    uint64_t contact;  /* when dynod was told so */
    sd_event_source *contact_timer;
    uint64_t dropped_before; /* by earlier processes */

    /* Commands. */
    char control_store[LINK_STORE_MAX + 1]; /* whom dynod obeys; "": nobody yet */
    uint64_t control_generation;
    uint64_t cursor; /* the last generation of STORE that is settled */
    uint64_t poll_at;
    uint64_t poll_wait; /* of the last poll */
    json_t *batch;      /* commands to be handed over; NULL: none */
    size_t at;          /* the one that dynod has */
    bool advanced;      /* the batch brought something new */
    bool conflict;      /* we speak to a store that dynod does not obey */
    unsigned command_fails;
    sd_event_source *command_timer;

    /* Status. */
    json_t *counts;
    json_t *status; /* the last that was told, without what changes all the time */
    uint64_t status_at;
    sd_event_source *status_timer;
};

/* session_lanes.c */
void lanes_init(struct session *s);
void lanes_done(struct session *s);
/* Sends what is due, sets the timers for what will be. */
void lanes_run(struct session *s);
const char *session_url(const struct session *s); /* NULL: there is none */

/* session_calls.c */
const struct lane_type *lane_type(enum lane_id id);
/* Something is to be reported. */
void session_changed(struct session *s);
void pending_done(struct pending *p);

/* session_status.c */
/* Tells dynod, if anything in it is new. */
void session_tell(struct session *s);
void trouble_begins(struct lane *lane, const char *kind, const struct err *why);
void trouble_ends(struct lane *lane);

#endif
