/* imds.h - what the EC2 instance metadata service answers, checked. Pure. Each takes the body of an
 * answer with status 200 as it came, from a stranger; -EBADMSG: it is not what it should be.
 * Formats: "Instance metadata categories", "Spot Instance interruption notices" in AWS's EC2 User
 * Guide. */
#ifndef LINK_IMDS_H
#define LINK_IMDS_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMDS_ANSWER_MAX   16384 /* bytes of any answer */
#define IMDS_TOKEN_MAX    1024
#define IMDS_VALUE_MAX    256 /* bytes of a value that becomes a label */
#define IMDS_DEADLINE_MAX 24  /* "2026-11-21T20:31:00Z" */
#define IMDS_TEXT_MAX     256
#define IMDS_EVENTS_MAX   100 /* scheduled events in one answer */

/* A notice that the instance is about to go. */
struct imds_notice {
    bool there;                       /* false: the answer says that there is none */
    char deadline[IMDS_DEADLINE_MAX]; /* RFC 3339 in UTC; "": not known */
    char text[IMDS_TEXT_MAX];         /* one line for people */
};

/* A token: what may stand in a header field. RET has IMDS_TOKEN_MAX + 1 bytes. */
int imds_token(const char *body, size_t len, char *ret, struct err *e);

enum imds_value {
    IMDS_ID,      /* [A-Za-z0-9._-]{1,64}: an instance, a zone, a type */
    IMDS_ADDRESS, /* IPv4 */
    IMDS_ANY,     /* UTF-8 without control characters: a tag's value; may be empty */
};
/* RET has IMDS_VALUE_MAX + 1 bytes. */
int imds_value(enum imds_value kind, const char *body, size_t len, char *ret, struct err *e);

/* The names in a list, one a line, into NAMES, an array; at most MAX. Those that cannot be part of
 * a path ([A-Za-z0-9+=._:@-]{1,128}) are left out and counted in *ret_skipped. */
int imds_names(const char *body, size_t len, size_t max, json_t *names, unsigned *ret_skipped,
               struct err *e);

/* The identity document, which has to be of INSTANCE, and its signature: base64 in lines. */
int imds_document(const char *body, size_t len, const char *instance, struct err *e);
int imds_signature(const char *body, size_t len, struct err *e);

/* spot/instance-action: {"action": "terminate"|"stop"|"hibernate", "time": RFC 3339} */
int imds_spot(const char *body, size_t len, struct imds_notice *ret, struct err *e);
/* events/recommendations/rebalance: {"noticeTime": RFC 3339} */
int imds_rebalance(const char *body, size_t len, struct imds_notice *ret, struct err *e);
/* events/maintenance/scheduled: [{"Code", "NotBefore": "21 Jan 2019 09:00:43 GMT", "State",
 * "Description", …}]; the first active one is told. */
int imds_maintenance(const char *body, size_t len, struct imds_notice *ret, struct err *e);
/* autoscaling/target-lifecycle-state: a word; "Terminated" is a notice. */
int imds_autoscaling(const char *body, size_t len, struct imds_notice *ret, struct err *e);

/* RFC 3339, with any offset, as seconds since 1970; a fraction is cut. -EINVAL. */
int imds_time(const char *text, int64_t *ret);

#endif
