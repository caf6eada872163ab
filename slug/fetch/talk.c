#include "slug/fetch/talk.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* Waits for EVENTS until the time AT. */
static int wait_for(struct frame_conn *c, short events, uint64_t at, struct err *e)
{
    struct pollfd p = {.fd = frame_conn_fd(c), .events = events};

    for (;;) {
        uint64_t now = clock_boot();
        int n = now < at
                    ? poll(&p, 1, at == USEC_NEVER ? -1 : (int)((at - now) / USEC_PER_MSEC) + 1)
                    : 0;

        if (n > 0)
            return 0;
        if (n == 0)
            return err_set(e, ETIMEDOUT, "wait for the agent");
        if (errno != EINTR)
            return err_set(e, errno, "wait for the agent");
    }
}

int talk_receive(struct frame_conn *c, uint64_t patience_ms, struct frame *ret, struct err *e)
{
    uint64_t until =
        patience_ms == TALK_FOR_EVER ? USEC_NEVER : clock_boot() + patience_ms * USEC_PER_MSEC;
    int r;

    while ((r = frame_next(c, ret, e)) == 0)
        if ((r = wait_for(c, POLLIN, until, e)) < 0)
            return r;
    return r < 0 ? r : 0;
}

int talk_send(struct frame_conn *c, const json_t *json, struct err *e)
{
    uint64_t until = clock_boot() + TALK_RESULT_MS * USEC_PER_MSEC;
    int r = frame_send(c, json, NULL, 0, e);

    while (r == 0 && (r = frame_flush(c, e)) == 1)
        r = wait_for(c, POLLOUT, until, e);
    return r;
}

int talk_check(struct frame_conn *c, struct err *e)
{
    struct pollfd p = {.fd = frame_conn_fd(c), .events = POLLRDHUP};

    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR)))
        return err_say(e, EPIPE, "the agent is gone");
    return 0;
}

json_t *talk_error(const struct failure *f, const struct err *e)
{
    json_t *http = f->http ? json_integer(f->http) : NULL;
    json_t *expected = f->expected.hex[0] ? json_string(f->expected.hex) : NULL;
    json_t *actual = f->actual.hex[0] ? json_string(f->actual.hex) : NULL;

    return json_pack("{s:{s:s, s:i, s:s, s:s, s:o*, s:o*, s:o*}}", "error", "text", e->text,
                     "errno", e->errnum, "fault", fault_name(e->fault), "step",
                     f->step ? f->step : "sandbox", "http", http, "expected", expected, "actual",
                     actual);
}
