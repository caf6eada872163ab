/* run.h - one fetch from its request to its outcome: the stages put together, and the judgement
 * which of them a failure came from. */
#ifndef SLUG_FETCH_RUN_H
#define SLUG_FETCH_RUN_H

#include "slug/archive.h"
#include "slug/fetch/request.h"
#include "slug/procfile.h"

struct outcome {
    /* After success. */
    struct digest digest;
    uint64_t compressed;
    struct slug_counts counts;
    struct procfile types;
    uint64_t download_ms, hash_ms, inflate_ms, write_ms;
    /* After a failure. */
    const char *step;
    long http;                      /* the status, 0: none */
    struct digest expected, actual; /* of step "digest" */
};
void outcome_done(struct outcome *o);

/* What the run tells while it goes on; each returns 0, or an error that ends it. */
struct run_watch {
    int (*progress)(void *userdata, uint64_t bytes, int64_t total, uint64_t entries, struct err *e);
    int (*wait)(void *userdata, struct err *e); /* while nothing comes */
    void *userdata;
};

/* Fetches, unpacks and reads the process types. *ret is filled in either case; free it. */
int run_fetch(const struct request *r, const struct run_watch *watch, struct outcome *ret,
              struct err *e);

#endif
