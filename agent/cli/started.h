/* started.h - how far a release is, from what the agent tells of it. Pure. */
#ifndef CLI_STARTED_H
#define CLI_STARTED_H

#include "base/str.h"

#include <jansson.h>
#include <stdint.h>

enum started {
    STARTED_NOT_YET,
    STARTED_UP,      /* every dyno of the formation is up, of this release */
    STARTED_CRASHED, /* at least one has crashed */
    STARTED_OTHER,   /* another release took its place meanwhile */
    STARTED_PROBLEM, /* its slug cannot be had; what ran before runs on */
    STARTED_NO_TYPE, /* the slug has no such process type */
};

/* APP: the answer of GET /v1/apps/APP; DYNOS: of GET /v1/dynos?app=APP; WANTED: the formation that
 * was asked for, or NULL. */
enum started started_look(const json_t *app, const json_t *dynos, const json_t *wanted,
                          int64_t version);

/* The first type of WANTED that the resolved APP lacks; NULL: none. */
const char *started_missing(const json_t *app, const json_t *wanted);

/* Appends what to tell a person: the addresses of web dynos, or what crashed and why. */
void started_text(const json_t *dynos, enum started what, struct str *out);

#endif
