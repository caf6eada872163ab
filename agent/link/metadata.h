/* metadata.h - the EC2 instance metadata service, version 2 only: who this instance is, and, every
 * five seconds, whether it is about to go. What the service answers is a stranger's: bounded,
 * typed, and what is not as it should be is counted and otherwise left out. Its silence takes
 * nothing back. Where there is no such service nothing is ever asked twice over, and nothing wakes
 * up. */
#ifndef LINK_METADATA_H
#define LINK_METADATA_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define METADATA_URL       "http://169.254.169.254"
#define METADATA_POLL_SEC  5     /* between two looks at the notices */
#define METADATA_TOKEN_SEC 21600 /* a token's life; it is renewed when nine tenths are over */
#define METADATA_TRIES     4     /* unanswered ones, 1, 2 and 4 s apart, before "absent" */
#define METADATA_PAUSE_SEC 30    /* the longest pause between tries after trouble */
#define METADATA_TAGS_MAX  50    /* as many as EC2 allows */

struct http;
struct metadata;

struct metadata_spec {
    const char *url;        /* NULL: METADATA_URL */
    bool may_be_absent;     /* "auto": after METADATA_TRIES without any answer never ask again */
    bool lifecycle;         /* look for notices; else only the identity */
    bool identity_document; /* with the signed document */
    uint64_t poll_usec;     /* 0: METADATA_POLL_SEC */
    uint64_t pause_usec;    /* the first after trouble, doubled each time; 0: a second */
    uint64_t answer_usec;   /* for an answer, and for half of it a connection; 0: two seconds */
    unsigned token_sec;     /* 0: METADATA_TOKEN_SEC */
};

struct metadata_ops {
    /* Once. IDENTITY (borrowed): {"agent": the instance's id, "labels": {S: S}, "address": S|null},
     * and with identity_document "document": {"document": S, "rsa2048": S}, when both were there.
     * Labels: instance, region, zone, type, lifecycle, ami, and tag.KEY for the instance's tags. */
    void (*identity)(void *userdata, const json_t *identity);
    /* A notice: once, and again when its deadline changes. KIND is "spot", "rebalance",
     * "maintenance" or "autoscaling"; DEADLINE RFC 3339 in UTC, or NULL. TEXT: a line for people.
     */
    void (*interruption)(void *userdata, const char *kind, const char *deadline, const char *text);
    /* The service says that the notice is no more. */
    void (*withdrawn)(void *userdata, const char *kind);
    /* Once, before any identity: METADATA_TRIES were not answered. It may come later, unless
     * may_be_absent. */
    void (*absent)(void *userdata);
    /* Each error, to be counted. KIND: "metadata-silent", "metadata-garbage", "metadata-status".
     * BEGINS: the first after success; not so while it is absent. May be NULL. */
    void (*trouble)(void *userdata, const char *kind, const char *text, bool begins);
};

/* Whether the machine's firmware says that this is EC2. Reads /sys, so before any confinement. */
bool metadata_on_ec2(void);

/* HTTP must outlive it. No call comes before the loop runs. */
int metadata_open(sd_event *loop, struct http *http, const struct metadata_spec *spec,
                  const struct metadata_ops *ops, void *userdata, struct metadata **ret,
                  struct err *e);
/* Also from within a call. NULL is fine. */
void metadata_freep(struct metadata **m);

#endif
