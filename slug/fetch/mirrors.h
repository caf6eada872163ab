/* mirrors.h - one slug from the first of its mirrors that has it; see slug/fetch.h, "download". */
#ifndef SLUG_FETCH_MIRRORS_H
#define SLUG_FETCH_MIRRORS_H

#include "slug/fetch/job.h"

struct mirrors_watch {
    int (*progress)(void *userdata, uint64_t bytes, int64_t total, size_t mirror,
                    unsigned connections, struct err *e);
    int (*wait)(void *userdata, struct err *e); /* while nothing can be told */
    void *userdata;
};

struct mirrors_result {
    json_t *failed; /* an array */
    size_t mirror;  /* the last that was tried */
    /* After success. */
    struct digest digest;
    uint64_t bytes;
    uint64_t download_ms, hash_ms, wait_ms;
    /* After a failure. */
    const char *step;
    long http;
    struct digest expected, actual; /* of step "digest" */
    json_t *next;                   /* NULL: no mirror is left */
};
void mirrors_result_done(struct mirrors_result *r);

/* Blocking. *ret is filled in either case; free it. */
int mirrors_run(const struct job *j, const struct mirrors_watch *watch, struct mirrors_result *ret,
                struct err *e);

#endif
