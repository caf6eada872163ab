#include "logs/logs.h"

#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* dynod does not read: what is on record stays there, and the next one is told by "hello". */
static void tell(struct logs *l, json_t *frame)
{
    scoped(json_freep) json_t *j = frame;
    struct err e = ERR_INIT;
    int r = j ? peer_send(l->peer, j, NULL, 0, &e) : err_set(&e, ENOMEM, "make a frame");

    if (r == 0 || r == -EPIPE ||
        r == -ECONNRESET) /* its end comes as such, after its last frames */
        return;
    log_err("tell dynod: %s", e.text);
    (void)sd_event_exit(l->loop, 1);
}

void control_eof(struct logs *l, const char *inc)
{
    tell(l, json_pack("{s:{s:s}}", "eof", "inc", inc));
}

/* The dyno whose incarnation INC is, NAME's; made when this is its first pipe. */
static int dyno_get(struct logs *l, const char *inc, const struct dyno_name *name,
                    struct dyno **ret, struct err *e)
{
    struct dyno *d = logdyno_find(l, inc);
    char text[DYNO_TEXT_MAX];
    struct app *app = NULL;

    if (d) {
        *ret = d;
        return 0;
    }
    int r = app_get(l, name->app, &app, e);
    if (r == 0)
        r = logdyno_new(l, inc, &d, e);
    if (r != 0)
        return r;
    d->app = app;
    app->forgotten = false;
    (void)snprintf(d->name, sizeof(d->name), "%s", dyno_name_short(name, text));
    *ret = d;
    return 0;
}

static int on_open(struct logs *l, const json_t *j, struct frame *f, struct err *e)
{
    const char *inc = json_str(j, "inc", "");
    scoped_fd pipe = frame_take_fd(f, 0);
    struct dyno_name name;
    struct dyno *d = NULL;

    if (pipe < 0 || !inc_valid(inc) || dyno_name_parse(json_str(j, "dyno", ""), &name) < 0)
        return err_say(e, EBADMSG, "\"open\" without a pipe, a dyno or an ID");
    int r = dyno_get(l, inc, &name, &d, e);
    if (r != 0)
        return r;
    if (d->forgotten)
        return err_say(e, ESTALE, "\"open\" of %s, whose end is recorded", inc);
    r = logdyno_open(d, TAKE_FD(pipe), e);
    if (r == 0)
        logdyno_run(d);
    return r;
}

/* One line: what would look like the start of another is made a blank. */
static size_t one_line(char out[LOG_LINE_MAX], const char *text)
{
    size_t len = strnlen(text, LOG_LINE_MAX);

    memcpy(out, text, len);
    for (size_t i = 0; i < len; i++)
        if (out[i] == '\n' || out[i] == '\r')
            out[i] = ' ';
    return len;
}

static int put_line(struct logs *l, const json_t *j, struct err *e)
{
    int64_t seq = json_int(j, "seq", 0), t = json_int(j, "t", 0);
    unsigned char record[RECORD_MAX];
    char text[LOG_LINE_MAX], dyno[DYNO_TEXT_MAX];
    struct dyno_name name;
    struct app *app;

    if (seq <= 0 || t < 0 || dyno_name_parse(json_str(j, "dyno", ""), &name) < 0)
        return err_say(e, EBADMSG, "\"line\" without a number, a time or a dyno");
    if ((uint64_t)seq <= l->seq)
        return 0;
    int r = app_get(l, name.app, &app, e);
    if (r < 0)
        return r;
    dyno_name_short(&name, dyno);
    struct record line = {
        .kind = RECORD_PLATFORM,
        .t = (uint64_t)t,
        .seq = (uint64_t)seq,
        .dyno = dyno,
        .dyno_len = strlen(dyno),
        .text = text,
        .text_len = one_line(text, json_str(j, "text", "")),
    };
    r = app_append(l, app, record, record_encode(&line, record), e);
    if (r == 0)
        l->seq = (uint64_t)seq;
    return r;
}

/* The order of SEQ is the order on record: while one line waits, those after it wait too. */
static int on_line(struct logs *l, const json_t *j, struct frame *f, struct err *e)
{
    int r = 0;

    (void)f;
    if (json_array_size(l->pending) == 0) {
        r = put_line(l, j, e);
        if (r == 0 || r == -EBADMSG) {
            tell(l, json_pack("{s:{s:I}}", "ack", "seq", (json_int_t)l->seq));
            return r;
        }
        log_err("%s: trying again, the platform's lines wait", e->text);
        logs_retry_later(l);
    }
    if (json_array_size(l->pending) >= PENDING_MAX ||
        json_array_append(l->pending, (json_t *)j) < 0) {
        (void)sd_event_exit(l->loop, 1); /* dynod has them all still: none is lost */
        return err_say(e, ENOBUFS, "over %u lines of the platform wait", PENDING_MAX);
    }
    return 0;
}

void control_retry(struct logs *l)
{
    uint64_t before = l->seq;
    struct err e = ERR_INIT;
    size_t n = 0;

    while (n < json_array_size(l->pending)) {
        int r = put_line(l, json_array_get(l->pending, n), &e);

        if (r < 0 && r != -EBADMSG) {
            logs_retry_later(l);
            break;
        }
        n++;
    }
    while (n-- > 0)
        (void)json_array_remove(l->pending, 0); /* it is there */
    if (l->seq > before)
        tell(l, json_pack("{s:{s:I}}", "ack", "seq", (json_int_t)l->seq));
}

static int on_query(struct logs *l, const json_t *j, struct frame *f, struct err *e)
{
    int fd = frame_take_fd(f, 0);

    return fd < 0 ? err_say(e, EBADMSG, "\"query\" without a descriptor")
                  : reader_open(l, j, fd, e);
}

static int on_forget(struct logs *l, const json_t *j, struct frame *f, struct err *e)
{
    const char *name = json_str(j, "app", "");
    struct app *app = app_name_valid(name) ? app_find(l, name) : NULL;

    (void)f;
    return app ? app_forget(l, app, e) : 0; /* forgotten already: this is a repeat */
}

static int on_forget_inc(struct logs *l, const json_t *j, struct frame *f, struct err *e)
{
    const char *inc = json_str(j, "inc", "");
    struct dyno *d = logdyno_find(l, inc);

    (void)f;
    if (!inc_valid(inc))
        return err_say(e, EBADMSG, "\"forget_inc\" without an ID");
    if (!d)
        return spool_remove(l->dirfd, inc, e);
    d->forgotten = true;
    logdyno_run(d);
    return 0;
}

static int on_keep(struct logs *l, const json_t *j, struct frame *f, struct err *e)
{
    const json_t *incs = json_object_get(j, "incs"), *apps = json_object_get(j, "apps");
    int r = 0;

    (void)f;
    if (!json_is_object(incs) || (apps && !json_is_object(apps)))
        return err_say(e, EBADMSG, "\"keep\" without its names");
    for (struct dyno *d = l->dynos, *next; d; d = next) {
        next = d->next;
        if (json_object_get(incs, d->inc) || d->forgotten)
            continue;
        d->forgotten = true;
        logdyno_run(d);
    }
    for (struct app *app = l->apps, *next; apps && app && r == 0; app = next) {
        next = app->next;
        if (!json_object_get(apps, app->name) && !app->forgotten)
            r = app_forget(l, app, e);
    }
    return r < 0 ? r : logs_drop_spools(l, incs, e);
}

static const struct verb {
    const char *name;
    int (*fn)(struct logs *l, const json_t *j, struct frame *f, struct err *e);
} verbs[] = {
    {"open", on_open},
    {"line", on_line},
    {"query", on_query},
    {"forget", on_forget},
    {"forget_inc", on_forget_inc},
    {"keep", on_keep},
};

static void on_frame(void *userdata, struct frame *f)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
        const json_t *j = json_object_get(f->json, verbs[i].name);

        if (!json_is_object(j))
            continue;
        if (verbs[i].fn(userdata, j, f, &e) < 0)
            log_err("%s: %s", verbs[i].name, e.text);
        return;
    }
    log_warn("dynod says something that this version does not know");
}

/* dynod is gone: dyno-init holds the pipes, and the next dynod starts another dynod-logs. */
static void on_close(void *userdata, const struct err *why)
{
    struct logs *l = userdata;
    bool gone = why->errnum == EPIPE || why->errnum == ECONNRESET;

    if (!gone)
        log_err("dynod: %s", why->text);
    (void)sd_event_exit(l->loop, gone ? 0 : 1);
}

int control_start(struct logs *l, int fd, struct err *e)
{
    static const struct peer_ops ops = {on_frame, on_close};

    l->pending = json_array();
    if (!l->pending) {
        close(fd);
        return err_set(e, ENOMEM, "start");
    }
    int r = peer_new(l->loop, fd, &ops, l, &l->peer, e);
    if (r == 0)
        tell(l, json_pack("{s:{s:I}}", "hello", "seq", (json_int_t)l->seq));
    return r;
}
