#include "slug/fetch/talk.h"

#include "base/clock.h"
#include "slug/cache.h"

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

json_t *talk_progress(uint64_t bytes, int64_t total, uint64_t entries)
{
    json_t *total_json = total >= 0 ? json_integer(total) : NULL;

    return json_pack("{s:{s:I,s:o*,s:I}}", "progress", "bytes", (json_int_t)bytes, "total",
                     total_json, "entries", (json_int_t)entries);
}

json_t *talk_ok(const struct outcome *o)
{
    json_t *warnings = json_array();

    for (size_t i = 0; warnings && i < o->types.n_warnings; i++)
        if (json_array_append_new(warnings, json_string(o->types.warnings[i])) < 0) {
            json_decref(warnings);
            warnings = NULL;
        }
    return json_pack("{s:{s:s, s:I, s:I, s:I, s:o, s:o, s:{s:I, s:I, s:I, s:I}}}", "ok", "digest",
                     o->digest.hex, "compressed", (json_int_t)o->compressed, "unpacked",
                     (json_int_t)o->counts.unpacked, "entries", (json_int_t)o->counts.entries,
                     "types", slug_meta_types_json(&o->types), "warnings", warnings, "ms",
                     "download", (json_int_t)o->download_ms, "hash", (json_int_t)o->hash_ms,
                     "inflate", (json_int_t)o->inflate_ms, "write", (json_int_t)o->write_ms);
}

json_t *talk_error(const struct outcome *o, const struct err *e)
{
    json_t *http = o->http ? json_integer(o->http) : NULL;
    json_t *expected = o->expected.hex[0] ? json_string(o->expected.hex) : NULL;
    json_t *actual = o->actual.hex[0] ? json_string(o->actual.hex) : NULL;

    return json_pack("{s:{s:s, s:i, s:s, s:s, s:o*, s:o*, s:o*}}", "error", "text", e->text,
                     "errno", e->errnum, "fault", fault_name(e->fault), "step",
                     o->step ? o->step : "sandbox", "http", http, "expected", expected, "actual",
                     actual);
}
