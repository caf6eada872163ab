/* instance.h - the instance and its link to a controller, in words for people. Pure. Each takes a
 * part of GET /v1/status; null and members that lack say nothing. */
#ifndef CLI_INSTANCE_H
#define CLI_INSTANCE_H

#include "base/str.h"

#include <jansson.h>
#include <stdint.h>

/* "3 dynos still run, deadline in 1m40s". */
void instance_left(const json_t *instance, uint64_t now_real, struct str *out);
/* "draining (operator): 3 dynos still run\n"; nothing when it does not drain. */
void instance_line(const json_t *instance, uint64_t now_real, struct str *out);

/* How the link is, after its state: "with https://a as i-0abc". */
void link_words(const json_t *link, struct str *out);
/* "link registered with https://a as i-0abc\n"; nothing where there is no controller. */
void link_line(const json_t *link, struct str *out);
/* What came last and what waits: "last answer 2s ago, store db-7c1e at generation 41". */
void link_progress(const json_t *link, struct str *out);
/* Errors by their kind: "timeout 1, tls 3"; nothing when there were none. */
void link_errors(const json_t *link, struct str *out);

#endif
