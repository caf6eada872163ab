/* control.c - dynod's frames (base/linkproto.h), and the session's answers to it. */
#include "link/link.h"

#include "base/linkproto.h"
#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <string.h>

void control_tell(struct link *l, const char *key, json_t *body)
{
    struct err e = ERR_INIT;
    scoped(json_freep) json_t *frame = json_pack("{s:o}", key, body);
    int r = frame ? peer_send(l->peer, frame, NULL, 0, &e) : err_set(&e, ENOMEM, "make a frame");

    if (r == 0 || r == -EPIPE || r == -ECONNRESET) /* its end comes as such, after its frames */
        return;
    log_err("tell dynod: %s", e.text);
    (void)sd_event_exit(l->loop, 1); /* it starts another, and tells it everything */
}

/* --- the session's
 * --------------------------------------------------------------------------------
 */

static void on_command(void *userdata, const char *store, json_t *command)
{
    control_tell(userdata, "command", json_pack("{s:s,s:O}", "store", store, "command", command));
}

static void on_acked(void *userdata, json_t *ids)
{
    control_tell(userdata, "acked", json_pack("{s:O}", "exits", ids));
}

static void on_contact(void *userdata, uint64_t ttl_usec, uint64_t ago_usec)
{
    control_tell(userdata, "contact",
                 json_pack("{s:I,s:I}", "ttl_ms", (json_int_t)(ttl_usec / USEC_PER_MSEC), "ago_ms",
                           (json_int_t)(ago_usec / USEC_PER_MSEC)));
}

static void on_status(void *userdata, json_t *status)
{
    control_tell(userdata, "status", json_incref(status));
}

static void on_renew_files(void *userdata)
{
    control_tell(userdata, "files", json_object());
}

static void on_address(void *userdata, const char *address)
{
    identity_address(userdata, address);
}

/* --- dynod's
 * --------------------------------------------------------------------------------------
 */

static int on_start(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    static const struct session_ops ops = {
        .command = on_command,
        .acked = on_acked,
        .contact = on_contact,
        .status = on_status,
        .renew_files = on_renew_files,
        .address = on_address,
    };
    struct session_setup setup = {
        .loop = l->loop, .http = l->http, .start = j, .ops = &ops, .userdata = l};

    (void)f;
    if (l->session)
        return err_say(e, EINVAL, "it comes twice");
    if (!json_is_object(j))
        return err_say(e, EINVAL, "not an object");
    int r = session_new(&setup, &l->session, e);
    if (r < 0)
        return r;
    l->start = json_incref(j);
    return identity_find(l, e);
}

static int on_files_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    on_renew_files(userdata);
    return 0;
}

/* Those that cannot be read replace none: least of all by none. */
static int on_files(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    scoped(files_done) struct files files = {0};
    int r = files_read(f, &files, e);

    (void)j;
    if (r == 0) {
        session_files(l->session, &files);
        return 0;
    }
    session_files_failed(l->session, e);
    (void)timer_set(l->loop, &l->files_retry, "files", clock_boot() + FILES_RETRY_USEC,
                    on_files_retry, l);
    return 0;
}

static int on_snapshot(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_snapshot(l->session, j, e);
}

static int on_dyno(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_dyno(l->session, j, e);
}

static int on_gone(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_gone(l->session, json_string_value(j), e);
}

static int on_exit_frame(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_exit(l->session, j, e);
}

static int on_result(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_result(l->session, j, e);
}

static int on_notice(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_notice(l->session, j, e);
}

static int on_instance(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return session_instance(l->session, j, e);
}

static int on_attach(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    return attach_open(l, j, f, e);
}

static int on_attach_ended(struct link *l, json_t *j, struct frame *f, struct err *e)
{
    (void)f;
    return attach_ended(l, j, e);
}

static const struct verb {
    const char *name;
    int (*fn)(struct link *l, json_t *j, struct frame *f, struct err *e);
} verbs[] = {
    {"start", on_start}, /* the first frame */
    {"files", on_files},     {"snapshot", on_snapshot},
    {"dyno", on_dyno},       {"gone", on_gone},
    {"exit", on_exit_frame}, {"result", on_result},
    {"notice", on_notice},   {"instance", on_instance},
    {"attach", on_attach},   {"attach_ended", on_attach_ended},
};

static void on_frame(void *userdata, struct frame *f)
{
    struct link *l = userdata;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
        json_t *j = json_object_get(f->json, verbs[i].name);
        int r;

        if (!j)
            continue;
        if (!l->session && i != 0)
            r = err_say(&e, EINVAL, "it comes before \"start\"");
        else
            r = verbs[i].fn(l, j, f, &e);
        if (r < 0)
            log_err("%s: %s", verbs[i].name, e.text);
        if (r < 0 && i == 0) /* without it nothing else makes sense */
            (void)sd_event_exit(l->loop, 1);
        return;
    }
    log_warn("dynod says something that this version does not know");
}

static void on_close(void *userdata, const struct err *why)
{
    struct link *l = userdata;
    bool gone = why->errnum == EPIPE || why->errnum == ECONNRESET;

    if (!gone)
        log_err("dynod: %s", why->text);
    (void)sd_event_exit(l->loop, gone ? 0 : 1);
}

int control_start(struct link *l, int fd, struct err *e)
{
    static const struct peer_ops ops = {on_frame, on_close};
    int r = peer_new(l->loop, fd, &ops, l, &l->peer, e);

    if (r == 0)
        control_tell(l, "hello", json_pack("{s:s}", "version", DYNOD_VERSION));
    return r;
}
