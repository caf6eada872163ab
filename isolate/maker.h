/* maker.h - a process of the agent's that makes descriptors which it will need: the calls that make
 * them wait for other parts of the kernel, on a busy machine longer than the agent's loop may stand
 * still. It is a copy of the agent with nothing open but a socket and one more descriptor, and goes
 * with the agent. Private to isolate/. */
#ifndef ISOLATE_MAKER_H
#define ISOLATE_MAKER_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

#define MAKER_REQUEST_MAX 64
#define MAKER_KEPT        4 /* where the process has JOB.keep */

struct maker {
    int sock; /* -1: there is none. POLLIN: it says something */
    pid_t pid;
};
#define MAKER_INIT                                                                                 \
    {                                                                                              \
        -1, 0                                                                                      \
    }

/* What it does, in that process: MAKE turns a request of SIZE bytes into a descriptor. BEGIN (may
 * be NULL) is called first; when it fails, so does every request. */
struct maker_job {
    const char *name; /* of the process; prctl(2), PR_SET_NAME */
    size_t size;
    int keep; /* -1: none */
    int (*begin)(void *context, struct err *e);
    int (*make)(void *context, const void *request, int *ret_fd, struct err *e);
    void *context;
};

/* Starts it where there is none, and asks it for one. Answers come in the order of the requests. */
int maker_ask(struct maker *m, const struct maker_job *job, const void *request, struct err *e);
/* 1: a descriptor, which is the caller's. 0: not yet. Else why the oldest that was asked for is not
 * to come; -EPIPE: nor any other, the process is gone. */
int maker_hear(struct maker *m, const struct maker_job *job, int *ret_fd, struct err *e);
/* Ends it, with all that it was asked for. */
void maker_stop(struct maker *m);

#endif
