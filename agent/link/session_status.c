/* session_status.c - what people see of the link: trouble as it begins and ends, errors counted by
 * kind, one status. */
#include "link/session_priv.h"

#include "base/log.h"
#include "base/scoped.h"

#include <string.h>

static void count(struct session *s, const char *kind)
{
    json_t *n = json_object_get(s->counts, kind);

    if (n)
        (void)json_integer_set(n, json_integer_value(n) + 1); /* it is one */
    else if (json_object_size(s->counts) < SESSION_KINDS_MAX)
        (void)json_object_set_new(s->counts, kind, json_integer(1)); /* uncounted without memory */
}

void session_count(struct session *s, const char *kind)
{
    count(s, kind);
    session_tell(s);
}

void session_files_failed(struct session *s, const struct err *why)
{
    if (strcmp(s->files_error.text, why->text) != 0)
        log_err("%s", why->text);
    s->files_error = *why;
    session_count(s, "files");
}

void trouble_begins(struct lane *lane, const char *kind, const struct err *why)
{
    if (!lane->kinds)
        lane->kinds = json_object();
    if (json_object_size(lane->kinds) == 0)
        lane->since = clock_boot();
    lane->last = *why;
    if (!json_object_get(lane->kinds, kind)) {
        (void)json_object_set_new(lane->kinds, kind, json_true()); /* else it is logged again */
        log_warn("%s (%s, %s)", why->text, lane->type->name, kind);
    }
    count(lane->s, kind);
}

void trouble_ends(struct lane *lane)
{
    if (lane->fails == 0)
        return;
    log_notice("%s: %s works again after %u failures in %llu s", session_url(lane->s),
               lane->type->name, lane->fails,
               (unsigned long long)((clock_boot() - lane->since) / USEC_PER_SEC));
    (void)json_object_clear(lane->kinds);
}

/* The lane to show: of those in trouble the one that fails longest. */
static const struct lane *worst(const struct session *s)
{
    const struct lane *found = NULL;

    for (int i = 0; i < LANES; i++) {
        const struct lane *lane = &s->lanes[i];

        if (lane->fails > 0 && (!found || lane->since < found->since))
            found = lane;
    }
    return found;
}

static const char *state_of(const struct session *s, const struct err *error)
{
    if (json_array_size(s->urls) == 0)
        return "off";
    if (s->registered && s->conflict) /* whatever else there is: somebody has to decide */
        return "conflict";
    if (error)
        return "backoff";
    return s->registered ? "registered" : "connecting";
}

/* ERROR: what keeps it from working; NULL: nothing. */
static json_t *status_make(const struct session *s, const struct err *error)
{
    uint64_t dropped = s->dropped_before + queue_dropped(s->queue);

    return json_pack("{s:s,s:s?,s:s?,s:s?,s:s,s:s?,s:I,s:I,s:O}", "state", state_of(s, error),
                     "url", session_url(s), "error", error ? error->text : NULL, "fault",
                     error ? fault_name(error->fault) : NULL, "agent", s->agent, "session",
                     s->registered ? s->id : NULL, "queued", (json_int_t)queue_waiting(s->queue),
                     "dropped", (json_int_t)dropped, "counts", s->counts);
}

static int on_status(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source;
    (void)usec;
    session_tell(userdata);
    return 0;
}

void session_tell(struct session *s)
{
    const struct lane *trouble = worst(s);
    const struct err *error = trouble                 ? &trouble->last
                              : s->files_error.errnum ? &s->files_error
                                                      : NULL;
    uint64_t now = clock_boot();

    if (!s->agent[0]) /* there is nothing to tell of nobody */
        return;
    /* What changes meanwhile is told then. */
    if (now < s->status_at) {
        (void)timer_set(s->loop, &s->status_timer, "status", s->status_at, on_status, s);
        return;
    }
    scoped(json_freep) json_t *status = status_make(s, error);
    scoped(json_freep) json_t *known = status ? json_deep_copy(status) : NULL;
    if (!known)
        return;
    if (!error) /* reports come and go */
        (void)json_object_del(known, "queued");
    if (json_equal(known, s->status))
        return;
    json_decref(s->status);
    s->status = TAKE_PTR(known);
    s->status_at = now + STATUS_USEC;
    if (trouble && trouble->not_before > now)
        (void)json_object_set_new(
            status, "retry_ms",
            json_integer((json_int_t)((trouble->not_before - now) / USEC_PER_MSEC)));
    else
        (void)json_object_set_new(status, "retry_ms", json_null());
    s->ops->status(s->userdata, status);
}
