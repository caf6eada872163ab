/* pipeline_priv.h - the inside of struct pipeline, for pipeline*.c. */
#ifndef CORE_PIPELINE_PRIV_H
#define CORE_PIPELINE_PRIV_H

#include "core/slugs/fetchcause.h"
#include "core/slugs/pipeline.h"

#define PIPELINE_HOW_MAX 64

struct pipeline {
    struct pipeline_env env;
    const struct pipeline_ops *ops;
    void *userdata;
    struct crew *crew;
    struct digest digest;
    bool has_digest;
    struct role_end ends[FETCH_ROLES];
    json_t *mirrors;           /* that download was given */
    json_t *said[FETCH_ROLES]; /* "ok" or "error" of each */
    char how[FETCH_ROLES][PIPELINE_HOW_MAX];
    bool finish_sent;
    bool over;
    char incoming[CACHE_INCOMING_MAX]; /* "": none */
    struct pipeline_progress progress;
    sd_event_source *deadline; /* timer "fetch-deadline" */
    sd_event_source *moment;   /* timer "fetch-cause" */
};

/* Opens what the roles are to have, takes a crew and tells each what to do; what it says comes to
 * OPS, with P. */
int pipeline_ask(struct pipeline *p, const struct pipeline_request *rq, const struct crew_ops *ops,
                 struct err *e);

#endif
