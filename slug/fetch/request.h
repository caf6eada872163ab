/* request.h - what dynod asks of a fetch; see slug/fetch.h. */
#ifndef SLUG_FETCH_REQUEST_H
#define SLUG_FETCH_REQUEST_H

#include "base/frame.h"
#include "base/name.h"
#include "slug/archive.h"

#include <stdbool.h>

struct request {
    char *url;
    char *ca_file; /* NULL: the system's */
    bool has_digest;
    struct digest digest;
    bool allow_http;
    struct slug_limits limits;
    uint64_t connect_ms;
    uint64_t stall_ms;
    uint64_t total_ms;
    int dir;  /* to unpack into */
    int file; /* of file://, else -1 */
};

/* Takes the descriptors out of F. *ret is set on success only. The platform's or the operator's
 * fault. */
int request_parse(struct frame *f, struct request *ret, struct err *e);
void request_done(struct request *r);

#endif
