/* job.h - what dynod asks of the role `download`; see slug/fetch.h. */
#ifndef SLUG_FETCH_JOB_H
#define SLUG_FETCH_JOB_H

#include "base/frame.h"
#include "base/name.h"
#include "slug/fetch.h"

#include <stdbool.h>
#include <stdint.h>

struct job_mirror {
    char *url;
    int file; /* of file://, else -1 */
};

struct job {
    struct job_mirror mirrors[FETCH_MIRRORS_MAX];
    size_t n_mirrors;
    bool has_digest;
    struct digest digest;
    char *ca_file;  /* NULL: the system's */
    json_t *stores; /* NULL: none */
    json_t *failed; /* an array: what earlier rounds tried */
    bool allow_http;
    bool anew; /* the first mirror's object has changed once already */
    uint64_t compressed, connect_ms, stall_ms, total_ms, slow_bytes, slow_ms, connections, tries,
        part;
    int spool, pipe;
};

/* Takes the descriptors out of F. *ret is set on success only. The platform's fault. */
int job_parse(struct frame *f, struct job *ret, struct err *e);
void job_done(struct job *j);

#endif
