/* report.c - what the controller hears of the dynos: DYNO and EXIT of docs/protocol.md. */
#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "core/control/link_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SNAPSHOT_BYTES_MAX (FRAME_MAX - (64u << 10)) /* of one frame; the rest follows singly */

/* --- Dynos --- */

static const char *size_of(const struct dyno *d)
{
    return d->size[0] ? d->size : d->agent->config.default_size;
}

static json_t *dyno_report(const struct link *l, const struct dyno *d)
{
    char name[DYNO_TEXT_MAX], since[CLOCK_TEXT_MAX];
    bool web = !strcmp(d->name.type, "web") && d->port != 0;

    return json_pack("{s:s,s:s,s:s,s:i,s:s,s:b,s:s,s:o,s:s,s:i,s:s,s:s}", "app", d->name.app,
                     "dyno", dyno_name_short(&d->name, name), "type", d->name.type, "release",
                     (int)d->release, "state", dyno_state_name(d->state), "up", d->state == DYNO_UP,
                     "address", l->address, "port",
                     web ? json_integer((json_int_t)d->port) : json_null(), "run",
                     d->run ? run_id(d->run) : "", "restarts", (int)d->restarts, "since",
                     clock_text(d->since_real, since), "size", size_of(d));
}

void agent_dyno_changed(struct agent *a, const struct dyno *d)
{
    struct link *l = a->link;
    char name[DYNO_TEXT_MAX];

    if (l)
        link_adopted(l);
    if (!l || !l->peer)
        return;
    json_t *dyno = dyno_report(l, d);
    dyno_name_text(&d->name, name);
    if (!dyno || json_equal(dyno, json_object_get(l->reported, name))) {
        json_decref(dyno);
        return;
    }
    (void)json_object_set(l->reported, name, dyno); /* else it is told twice */
    (void)link_send(l, json_pack("{s:o}", "dyno", dyno), NULL, 0);
}

void agent_dyno_gone(struct agent *a, const struct dyno_name *name)
{
    struct link *l = a->link;
    char text[DYNO_TEXT_MAX];

    if (l)
        link_adopted(l);
    if (!l || !l->peer || json_object_del(l->reported, dyno_name_text(name, text)) < 0)
        return; /* nothing was told of it */
    (void)link_send(l, json_pack("{s:s}", "gone", text), NULL, 0);
}

/* All of them, as many as one frame takes; the others follow as if they were new. */
void link_send_snapshot(struct link *l)
{
    json_t *list = json_array();
    char name[DYNO_TEXT_MAX];
    size_t bytes = 0;
    struct dyno *d;

    (void)json_object_clear(l->reported);
    TAILQ_FOREACH (d, &l->agent->dynos, link) {
        json_t *dyno = dyno_report(l, d);

        bytes += json_dumpb(dyno, NULL, 0, JSON_COMPACT) + 1;
        if (bytes > SNAPSHOT_BYTES_MAX) {
            json_decref(dyno);
            break;
        }
        (void)json_object_set(l->reported, dyno_name_text(&d->name, name), dyno);
        (void)json_array_append_new(list, dyno);
    }
    if (!link_send(l, json_pack("{s:o}", "snapshot", list), NULL, 0))
        return;
    for (; d; d = TAILQ_NEXT(d, link))
        agent_dyno_changed(l->agent, d);
}

/* --- Exits --- */

void link_send_exits(struct link *l)
{
    const json_t *exit;

    if (!l->outbox || !l->peer)
        return;
    while ((exit = outbox_next(l->outbox)))
        if (!link_send(l, json_pack("{s:O}", "exit", (json_t *)(uintptr_t)exit), NULL, 0))
            return;
}

static int on_save(sd_event_source *s, uint64_t usec, void *userdata);

static void save_later(struct link *l, const struct err *why)
{
    if (!outbox_unsaved(l->outbox))
        return;
    log_warn("%s; it is kept in memory until there is room", why->text);
    (void)timer_set(l->agent->loop, &l->again, "exits-save", clock_boot() + LINK_SAVE_AGAIN,
                    on_save, l);
}

static int on_save(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct link *l = userdata;
    struct err e = ERR_INIT;

    (void)s;
    (void)usec;
    if (outbox_save(l->outbox, &e) < 0)
        save_later(l, &e);
    return 0;
}

/* One that never had a process has no run; its end is an event of its own all the same. */
static const char *exit_id(const struct dyno *d, const char *run_id, char out[RUN_ID_MAX])
{
    if (run_id[0])
        return run_id;
    (void)snprintf(out, RUN_ID_MAX, "%s.%s.%u.none-%016" PRIx64, d->name.app, d->name.type,
                   d->name.num, random_u64());
    return out;
}

void agent_dyno_exited(struct agent *a, const struct dyno *d, const char *run_id, json_t *fields)
{
    struct link *l = a->link;
    char name[DYNO_TEXT_MAX], at[CLOCK_TEXT_MAX], made[RUN_ID_MAX];
    struct err e = ERR_INIT;

    if (!l || !l->outbox)
        return;
    scoped(json_freep) json_t *exit = json_copy(fields);
    if (!exit || json_object_del(exit, "run") < 0 ||
        json_object_set_new(exit, "id", json_string(exit_id(d, run_id, made))) < 0 ||
        json_object_set_new(exit, "app", json_string(d->name.app)) < 0 ||
        json_object_set_new(exit, "dyno", json_string(dyno_name_short(&d->name, name))) < 0 ||
        json_object_set_new(exit, "t", json_string(clock_text(clock_real(), at))) < 0) {
        log_err("%s/%s: no memory to report its end", d->name.app, dyno_name_short(&d->name, name));
        return;
    }
    if (outbox_add(l->outbox, exit, &e) < 0)
        save_later(l, &e);
    link_send_exits(l);
}

/* --- Notices, results, the instance --- */

void link_notice(struct agent *a, const char *kind, const struct dyno_name *name, json_t *fields,
                 const char *fmt, ...)
{
    json_t *notice = fields ? fields : json_object();
    char text[ERR_TEXT_MAX], safe[2 * ERR_TEXT_MAX], at[CLOCK_TEXT_MAX], dyno[DYNO_TEXT_MAX];
    va_list ap;

    if (!a->link || !a->link->routed) {
        json_decref(notice);
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut text is still the best we have */
    va_end(ap);
    text_escape(safe, sizeof(safe), text, strlen(text));
    (void)json_object_set_new(notice, "t", json_string(clock_text(clock_real(), at)));
    (void)json_object_set_new(notice, "kind", json_string(kind));
    (void)json_object_set_new(notice, "text", json_string(safe));
    if (name) {
        (void)json_object_set_new(notice, "app", json_string(name->app));
        if (name->type[0])
            (void)json_object_set_new(notice, "dyno", json_string(dyno_name_short(name, dyno)));
    }
    link_send_or_keep(a->link, json_pack("{s:o}", "notice", notice));
}

/* Of what happens here, what a controller is told beside states and ends. */
void link_on_event(void *userdata, const json_t *event)
{
    struct link *l = userdata;
    const char *kind = json_str(event, "kind", ""), *fault = json_str(event, "fault", NULL);
    struct dyno_name name = {.num = 0};
    char text[DYNO_TEXT_MAX];

    (void)snprintf(name.app, sizeof(name.app), "%s", json_str(event, "app", ""));
    if (!strcmp(kind, "memory")) {
        (void)snprintf(text, sizeof(text), "%s/%s", name.app, json_str(event, "dyno", ""));
        (void)dyno_name_parse(text, &name); /* our own event */
        link_notice(l->agent, "memory", &name,
                    json_pack("{s:s,s:O*,s:O*}", "code", json_str(event, "code", ""), "memory",
                              json_object_get(event, "memory"), "memory_quota",
                              json_object_get(event, "memory_quota")),
                    "Error R14 (Memory quota exceeded)");
    } else if (!strcmp(kind, "disk")) {
        (void)snprintf(text, sizeof(text), "%s/%s", name.app, json_str(event, "dyno", ""));
        (void)dyno_name_parse(text, &name); /* our own event */
        link_notice(l->agent, "disk", &name,
                    json_pack("{s:O*,s:O*,s:O*,s:O*}", "disk", json_object_get(event, "disk"),
                              "disk_quota", json_object_get(event, "disk_quota"), "inodes",
                              json_object_get(event, "inodes"), "inodes_quota",
                              json_object_get(event, "inodes_quota")),
                    "Error (Disk quota exceeded)");
    } else if (!strcmp(kind, "release") && fault) {
        link_notice(
            l->agent, "slug", &name,
            json_pack("{s:O*,s:s}", "release", json_object_get(event, "release"), "fault", fault),
            "%s", json_str(event, "text", ""));
    }
}

void link_result(struct agent *a, json_t *result)
{
    if (!a->link) {
        json_decref(result);
        return;
    }
    link_send_or_keep(a->link, json_pack("{s:o}", "result", result));
}

void link_tell_instance(struct agent *a)
{
    if (a->link)
        (void)link_send(a->link, json_pack("{s:o}", "instance", drain_json(a)), NULL, 0);
}
