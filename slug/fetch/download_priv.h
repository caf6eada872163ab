/* download_priv.h - what the files of the download share. */
#ifndef SLUG_FETCH_DOWNLOAD_PRIV_H
#define SLUG_FETCH_DOWNLOAD_PRIV_H

#include "slug/fetch.h"
#include "slug/fetch/download.h"
#include "slug/fetch/head.h"
#include "slug/fetch/pace.h"
#include "slug/fetch/parts.h"
#include "slug/fetch/transport.h"
#include "slug/fetch/tune.h"

/* What became of the answer on a connection. */
enum answer {
    ANSWER_NONE,      /* not looked at yet */
    ANSWER_TAKEN,     /* its body is what we want */
    ANSWER_STATUS,    /* a status that is none of the good ones; its body may say why */
    ANSWER_CHANGED,   /* of another object */
    ANSWER_NO_RANGES, /* the whole object, where a part was asked for */
    ANSWER_FAILED,    /* the download's error is set: no use in another try */
};

enum conn_state {
    CONN_IDLE,   /* may be used when `due` has come */
    CONN_RUNS,   /* has a range, and a transfer for it */
    CONN_PAUSED, /* the first one, at the end of its part: whether ranges work is not known yet */
};

struct conn {
    struct download *d;
    CURL *easy; /* NULL: not made yet */
    enum conn_state state;
    enum answer answer;
    struct range r; /* still to come on this connection */
    uint64_t stop;  /* where the transfer itself ends, at or after r.end */
    uint64_t skip;  /* bytes of the answer to be thrown away: before r.at */
    bool ranged;    /* a part was asked for */
    bool cut;       /* ended by us when r was full */
    bool retired;   /* failed too often while others did not */
    unsigned tries; /* since the last progress */
    uint64_t due;   /* idle until then; 0: ready */
    uint64_t got;   /* by this transfer */
    uint64_t last;  /* clock_boot() of its last byte */
    uint64_t mark;  /* `got` when the last check of speeds was made */
    struct pace pace;
    uint64_t renewal; /* the download's when this request was made */
    struct store_request rq;
    struct transport_guard guard;
    const char *broken; /* why we ended it, NULL: we did not */
    char text[CURL_ERROR_SIZE];
    char body[STORE_ERROR_MAX]; /* of a refusal */
    size_t body_len;
};

struct download {
    struct download_options o;
    CURLM *multi;
    struct conn *conns;
    unsigned n_conns; /* as many as there may be */
    struct parts parts;
    uint64_t part_length; /* UINT64_MAX: the whole is one part */
    struct tune tune;     /* of several connections */
    /* The object, once the first answer is there. */
    bool known;
    int64_t total; /* -1: not known */
    char etag[HEAD_TAG_MAX], date[HEAD_TAG_MAX];
    bool confirmed; /* the server has answered a range */
    bool no_ranges; /* it says that it takes none, or has answered one with all */

    uint64_t first_usec; /* that a new connection took to the first byte of its answer, */
    uint64_t wait_usec;  /* and of these from the request on */

    uint64_t bytes;  /* that came and were wanted */
    uint64_t pumped; /* `bytes` when the spool was last looked after */
    uint64_t last_byte;
    uint64_t ended_bytes, ended_usec; /* of all transfers that got what they were to get */
    unsigned dropped;                 /* laggards */
    uint64_t renewals;                /* of credentials */
    bool renewed;                     /* and no byte since */
    unsigned most;                    /* connections at once */
    uint64_t checked, told;           /* when speeds were looked at, when on_turn was called */
    uint64_t slow_since, slow_bytes;  /* the window in which a drip is looked for */
    long status;
    const char *step; /* of the failure */
    struct err e;     /* of ANSWER_FAILED */
};

/* --- download_conn.c: one connection --- */

/* Begins a transfer of R. An error: the mirror's. */
int conn_start(struct conn *c, const struct range *r, struct err *e);
/* Ends its transfer, and gives back what is missing. */
void conn_stop(struct conn *c);
void conn_done(struct conn *c);
/* Its first part is over, and whether it goes on is known now. */
int conn_resume(struct conn *c, struct err *e);
/* Its transfer has ended with CODE. An error ends the mirror. */
int conn_ended(struct conn *c, CURLcode code, struct err *e);

/* --- download_head.c: the answer's head --- */

/* Looks at the head of C's answer, of which DATA are the first bytes (LEN 0: there is no body). */
enum answer download_take_head(struct conn *c, const char *data, size_t len);

/* --- download.c --- */

unsigned download_running(const struct download *d);
/* Gives on what the spool has without a gap, as far as it is taken. Sets the step. */
int download_pump(struct download *d, struct err *e);
/* Ranges do not work here: one connection gets all. */
void download_without_ranges(struct download *d);

#endif
