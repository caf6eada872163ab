/* link_frames.c - what dynod-link says: a stranger's word, checked field by field. And what is
 * shown of it. */
#include "core/control/link_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/control/control.h"
#include "core/dyno.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TERM_SIZE_MAX 10000

static int odd(struct err *e, const char *what)
{
    return err_say(e, EBADMSG, "%s", what);
}

static bool text_valid(const json_t *j, size_t max)
{
    return json_is_string(j) && json_string_length(j) > 0 && json_string_length(j) <= max;
}

static bool number_valid(const json_t *j, json_int_t max)
{
    return json_is_integer(j) && json_integer_value(j) >= 0 && json_integer_value(j) <= max;
}

static bool name_valid(const json_t *j, size_t max)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *text = json_string_value(j);

    return text_valid(j, max) && strspn(text, letters) == strlen(text);
}

/* --- Frames --- */

static int on_hello(struct link *l, const json_t *body, struct err *e)
{
    char safe[64];

    (void)l;
    if (!text_valid(json_object_get(body, "version"), sizeof(safe)))
        return odd(e, "hello without a version");
    const char *version = json_str(body, "version", "");
    if (strcmp(version, DYNOD_VERSION) != 0)
        log_notice("dynod-link is of version %s",
                   text_escape(safe, sizeof(safe), version, strlen(version)));
    return 0;
}

static int on_files(struct link *l, const json_t *body, struct err *e)
{
    (void)body;
    (void)e;
    link_send_files(l);
    return 0;
}

static int on_command(struct link *l, const json_t *body, struct err *e)
{
    const json_t *store = json_object_get(body, "store");
    const json_t *command = json_object_get(body, "command");

    if (!name_valid(store, LINK_STORE_MAX) || !json_is_object(command))
        return odd(e, "a command without its store");
    json_t *result = control_command(l->agent, json_string_value(store), command);
    if (result)
        link_result(l->agent, result);
    return 0;
}

static int on_acked(struct link *l, const json_t *body, struct err *e)
{
    const json_t *ids = json_object_get(body, "exits");
    struct err why = ERR_INIT;

    if (!json_is_array(ids) || !l->outbox)
        return odd(e, "an acknowledgement without a list");
    if (outbox_ack(l->outbox, ids, &why) < 0)
        log_warn("%s; the controller hears some ends twice", why.text);
    link_send_exits(l);
    return 0;
}

static int on_contact(struct link *l, const json_t *body, struct err *e)
{
    const json_t *ago = json_object_get(body, "ago_ms");
    bool was_lost = !l->contacted;

    if (!number_valid(json_object_get(body, "ttl_ms"), LINK_TTL_MAX_MS) ||
        (ago && !number_valid(ago, LINK_AGO_MAX_MS)) || !l->routed)
        return odd(e, "a contact without its ttl_ms");
    link_note_contact(l, (uint64_t)json_integer_value(ago) * USEC_PER_MSEC);
    if (was_lost || l->agent->withheld > 0)
        agent_reconcile_soon(l->agent);
    return 0;
}

/* The text of STATUS at KEY, made safe to show. */
static json_t *shown(const json_t *status, const char *key)
{
    char safe[LINK_TEXT_MAX];
    const char *text = json_str(status, key, NULL);

    return text ? json_string(text_escape(safe, sizeof(safe), text, strlen(text))) : json_null();
}

static json_t *shown_counts(const json_t *counts)
{
    json_t *out = json_object(), *value;
    const char *key;
    char safe[64];

    json_object_foreach ((json_t *)(uintptr_t)counts, key, value)
        if (json_object_size(out) < LINK_COUNTS_MAX && json_is_integer(value))
            (void)json_object_set(out, text_escape(safe, sizeof(safe), key, strlen(key)), value);
    return out;
}

static bool state_valid(const char *state)
{
    static const char *const states[] = {"connecting", "registered", "backoff", "conflict", "off"};

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (!strcmp(states[i], state))
            return true;
    return false;
}

/* An event as the controller comes and goes, not for each try. */
static void tell_change(struct link *l, const json_t *status)
{
    bool was = !strcmp(json_str(l->status, "state", ""), "registered");
    bool is = !strcmp(json_str(status, "state", ""), "registered");

    if (was == is)
        return;
    agent_event(l->agent, "link", NULL,
                json_pack("{s:s,s:O,s:s}", "state", json_str(status, "state", ""), "url",
                          json_object_get(status, "url"), "text",
                          is ? "registered with a controller"
                             : json_str(status, "error", "no controller")));
}

static int on_status(struct link *l, const json_t *body, struct err *e)
{
    const json_t *retry = json_object_get(body, "retry_ms");

    if (!state_valid(json_str(body, "state", "")) ||
        !name_valid(json_object_get(body, "agent"), LINK_AGENT_MAX))
        return odd(e, "a status without a state or an agent");
    json_t *status = json_pack(
        "{s:s,s:o,s:o,s:s?,s:o,s:o,s:o,s:I,s:I,s:o}", "state", json_str(body, "state", ""), "url",
        shown(body, "url"), "error", shown(body, "error"), "fault",
        json_str(body, "error", NULL)
            ? fault_name(fault_from_name(json_str(body, "fault", "platform")))
            : NULL,
        "agent", shown(body, "agent"), "session", shown(body, "session"), "retry_ms",
        json_is_integer(retry) ? json_integer(json_integer_value(retry)) : json_null(), "queued",
        (json_int_t)json_int(body, "queued", 0), "dropped",
        (json_int_t)json_int(body, "dropped", 0), "counts",
        shown_counts(json_object_get(body, "counts")));
    if (!status)
        return err_set(e, ENOMEM, "keep the link's status");
    tell_change(l, status);
    json_decref(l->status);
    l->status = status;
    return 0;
}

/* Where routers find the dynos, when the operator did not say. */
static int on_identity(struct link *l, const json_t *body, struct err *e)
{
    const json_t *address = json_object_get(body, "address");
    struct dyno *d;

    if (!name_valid(json_object_get(body, "agent"), LINK_AGENT_MAX))
        return odd(e, "an identity without an agent");
    if (!text_valid(address, sizeof(l->address) - 1) || l->agent->config.address[0])
        return 0;
    text_escape(l->address, sizeof(l->address), json_string_value(address),
                json_string_length(address));
    TAILQ_FOREACH (d, &l->agent->dynos, link)
        agent_dyno_changed(l->agent, d);
    return 0;
}

static int on_interruption(struct link *l, const json_t *body, struct err *e)
{
    const json_t *deadline = json_object_get(body, "deadline");
    const char *kind = json_str(body, "kind", ""), *text = json_str(body, "text", kind);
    char safe[LINK_TEXT_MAX];
    uint64_t at = 0;

    if (!drain_is_interruption(kind))
        return odd(e, "an interruption of no known kind");
    if (deadline && !json_is_null(deadline) &&
        (!json_is_string(deadline) || drain_parse_time(json_string_value(deadline), &at) < 0))
        return odd(e, "an interruption with a deadline that is no time");
    drain_interrupted(l->agent, kind, at, text_escape(safe, sizeof(safe), text, strlen(text)));
    return 0;
}

/* The number that an attach has; 0: none. */
static unsigned attach_of(const json_t *body)
{
    const json_t *n = json_object_get(body, "attach");

    return number_valid(n, INT32_MAX) ? (unsigned)json_integer_value(n) : 0;
}

static int on_attach_up(struct link *l, const json_t *body, struct err *e)
{
    const json_t *rows = json_object_get(body, "rows"), *cols = json_object_get(body, "cols");

    if (!attach_of(body) || !number_valid(rows, TERM_SIZE_MAX) ||
        !number_valid(cols, TERM_SIZE_MAX))
        return odd(e, "attach_up without its numbers");
    remote_up(l, attach_of(body), (unsigned)json_integer_value(rows),
              (unsigned)json_integer_value(cols));
    return 0;
}

static int on_attach_failed(struct link *l, const json_t *body, struct err *e)
{
    char safe[LINK_TEXT_MAX];
    const char *why = json_str(body, "error", "nobody came");

    if (!attach_of(body))
        return odd(e, "attach_failed without its number");
    remote_failed(l, attach_of(body), text_escape(safe, sizeof(safe), why, strlen(why)));
    return 0;
}

static int on_attach_gone(struct link *l, const json_t *body, struct err *e)
{
    if (!attach_of(body))
        return odd(e, "attach_gone without its number");
    remote_gone(l, attach_of(body));
    return 0;
}

static int on_attach_signal(struct link *l, const json_t *body, struct err *e)
{
    const json_t *signo = json_object_get(body, "signal");

    if (!attach_of(body) || !number_valid(signo, 64))
        return odd(e, "attach_signal without its numbers");
    remote_signal(l, attach_of(body), (int)json_integer_value(signo));
    return 0;
}

static const struct {
    const char *key;
    int (*take)(struct link *l, const json_t *body, struct err *e);
} frames[] = {
    {"command", on_command},
    {"acked", on_acked},
    {"contact", on_contact},
    {"status", on_status},
    {"hello", on_hello},
    {"files", on_files},
    {"identity", on_identity},
    {"interruption", on_interruption},
    {"attach_up", on_attach_up},
    {"attach_failed", on_attach_failed},
    {"attach_gone", on_attach_gone},
    {"attach_signal", on_attach_signal},
};

/* The first, and each time their number has doubled: a dynod-link that has gone wrong must not fill
 * the log. */
static void note_odd(struct link *l, const struct err *why)
{
    unsigned long n = ++l->odd_frames;

    if ((n & (n - 1)) == 0)
        log_warn("dynod-link said what it may not (%lu times): %s", n, why->text);
}

void link_on_frame(struct link *l, struct frame *f)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        const json_t *body = json_object_get(f->json, frames[i].key);

        if (!body)
            continue;
        if (!json_is_object(body) || json_object_size(f->json) != 1 || f->n_fds > 0)
            (void)odd(&e, "a frame of no known form");
        else
            (void)frames[i].take(l, body, &e);
        if (e.errnum)
            note_odd(l, &e);
        return;
    }
    (void)odd(&e, "a frame of no known kind");
    note_odd(l, &e);
}

/* --- What is shown --- */

void link_conflict(struct agent *a, const char *store)
{
    if (!a->link || !strcmp(a->link->conflict, store))
        return;
    (void)snprintf(a->link->conflict, sizeof(a->link->conflict), "%s", store);
    if (!store[0])
        return;
    log_warn("commands of the store %s are refused: this instance obeys %s", store,
             model_control(a->model)->store);
    link_notice(a, "store", NULL, json_pack("{s:s}", "store", store),
                "commands of the store %s are refused: this instance obeys %s", store,
                model_control(a->model)->store);
}

/* What we know ourselves, where dynod-link does not run or said nothing of it. */
static json_t *own_status(const struct link *l)
{
    const char *id = l->agent->config.agent_id;

    return json_pack("{s:s,s:n,s:n,s:n,s:s,s:n,s:n,s:i,s:i,s:{}}", "state", "connecting", "url",
                     "error", "fault", "agent", id[0] ? id : l->fallback, "session", "retry_ms",
                     "queued", 0, "dropped", 0, "counts");
}

static void add_trouble(json_t *j, const char *text, enum fault fault)
{
    (void)json_object_set_new(j, "error", json_string(text));
    (void)json_object_set_new(j, "fault", json_string(fault_name(fault)));
}

json_t *agent_link(struct agent *a)
{
    const struct link *l = a->link;
    const struct control *control = model_control(a->model);

    if (!l || !l->routed)
        return json_null();
    json_t *j = l->status ? json_copy(l->status) : own_status(l);
    if (!j)
        return NULL;
    if (l->trouble[0] && !l->peer)
        add_trouble(j, l->trouble, FAULT_PLATFORM);
    else if (l->missing[0] && !json_is_string(json_object_get(j, "error")))
        add_trouble(j, l->missing, FAULT_OPERATOR);
    json_int_t dropped =
        json_int(j, "dropped", 0) + (json_int_t)(outbox_dropped(l->outbox) + l->dropped);
    json_t *more = json_pack(
        "{s:b,s:i,s:o,s:I,s:I,s:s?,s:I,s:s?}", "alive", l->peer != NULL, "restarts",
        (int)l->restarts, "last_contact_ms",
        l->contacted ? json_integer((json_int_t)((clock_boot() - l->contact) / USEC_PER_MSEC))
                     : json_null(),
        "exits_waiting", (json_int_t)outbox_waiting(l->outbox), "dropped", dropped, "store",
        control->store[0] ? control->store : NULL, "generation", (json_int_t)control->generation,
        /* One that has taken over since is none any more. */
        "conflict",
        l->conflict[0] && strcmp(l->conflict, control->store) != 0 ? l->conflict : NULL);
    (void)json_object_update(j, more);
    json_decref(more);
    return j;
}
