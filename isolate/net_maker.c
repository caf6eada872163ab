/* net_maker.c - the process that makes networks ahead (maker.h). */
#include "isolate/net_impl.h"

#include <libmnl/libmnl.h>

struct request {
    uint64_t rate;
    uint32_t slot;
};

/* The agent's sockets are the agent's: here they are closed already. */
static int begin(void *context, struct err *e)
{
    struct net *n = context;

    n->route = n->filter = n->watch = NULL; /* not freed: this is a copy */
    return net_talk_open(&n->route, e);
}

static int make(void *context, const void *request, int *ret_fd, struct err *e)
{
    const struct request *rq = request;

    return net_make(context, rq->slot, rq->rate, ret_fd, e);
}

static struct maker_job job_of(struct net *n)
{
    return (struct maker_job){.name = "dynod-net",
                              .size = sizeof(struct request),
                              .keep = -1,
                              .begin = begin,
                              .make = make,
                              .context = n};
}

int net_ask(struct net *n, uint32_t slot, uint64_t rate, struct err *e)
{
    const struct maker_job job = job_of(n);
    const struct request rq = {.rate = rate, .slot = slot};

    return maker_ask(&n->maker, &job, &rq, e);
}

int net_asked_fd(const struct net *n)
{
    return n->maker.sock;
}

int net_hear(struct net *n, int *ret_fd, struct err *e)
{
    const struct maker_job job = job_of(n);

    return maker_hear(&n->maker, &job, ret_fd, e);
}
