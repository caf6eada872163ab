/* control_ops.c - the commands that are more than a change of the apps: run, prefetch, drain. */
#include "core/control/control_command.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/agent_priv.h"
#include "core/control/link.h"
#include "core/run/spec.h"
#include "core/slugs/warm.h"

#include <errno.h>
#include <string.h>

#define ATTACH_URL_MAX 2048
#define ATTACH_SCHEME  "tls://"
#define DRAIN_MS_MAX   INT64_C(31536000000) /* a year */

/* --- run --- */

static const struct field run_fields[] = {
    FIELDS_ENVELOPE,          FIELD_APP,
    {"argv", FIELD_ARRAY},    {"command", FIELD_STRING},
    {"num", FIELD_INT},       {"env", FIELD_OBJECT},
    {"size", FIELD_STRING},   {"tty", FIELD_BOOL | FIELD_OBJECT},
    {"attach", FIELD_OBJECT}, FIELD_END,
};

/* What agent_run() takes. NULL: no memory. */
static json_t *run_spec(const struct command *c)
{
    static const char *const same[] = {"argv", "command", "env", "size"};
    const json_t *tty = json_object_get(c->json, "tty");
    json_t *spec = json_object();
    int failed = 0;

    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        json_t *value = json_object_get(c->json, same[i]);

        if (value)
            failed |= json_object_set(spec, same[i], value);
    }
    if (json_is_object(tty))
        failed |= json_object_set(spec, "tty", (json_t *)(uintptr_t)tty);
    else if (json_is_true(tty))
        failed |= json_object_set_new(spec, "tty", json_object());
    if (failed) {
        json_decref(spec);
        return NULL;
    }
    return spec;
}

static int check_attach(struct command *c, const json_t *attach, struct err *e)
{
    static const struct field fields[] = {{"url", FIELD_STRING | FIELD_REQUIRED},
                                          {"secret", FIELD_STRING | FIELD_REQUIRED},
                                          FIELD_END};
    int r = fields_check("attach", attach, fields, e);

    if (r < 0)
        return r;
    const char *url = json_str(attach, "url", ""), *secret = json_str(attach, "secret", "");
    if (!str_starts(url, ATTACH_SCHEME) || strlen(url) > ATTACH_URL_MAX)
        return change_bad(&c->change, e, "attach: 'url' is tls://HOST:PORT");
    if (!*secret || strlen(secret) > LINK_SECRET_MAX)
        return change_bad(&c->change, e, "attach: 'secret' is of 1 to 256 bytes");
    return 0;
}

static int check_run(struct command *c, struct err *e)
{
    const json_t *attach = json_object_get(c->json, "attach");
    const json_t *num = json_object_get(c->json, "num");
    const char *app = NULL;
    const struct app *found = NULL;
    struct task t = {c->agent->model, &c->limits, c->json, &c->change};
    int r = fields_check("run", c->json, run_fields, e);

    if (r == 0)
        r = change_app(&t, true, &app, &found, e);
    if (r == 0 && num && (json_integer_value(num) < 1 || json_integer_value(num) > DYNO_NUM_MAX))
        r = change_bad(&c->change, e, "run: 'num' is from 1 up");
    if (r == 0 && attach)
        r = check_attach(c, attach, e);
    if (r == 0 && c->limits.draining)
        r = change_draining(&t, e);
    if (r == 0)
        r = change_room(&c->change, c->agent->model, &c->limits, 1, e);
    if (r == 0 && c->agent->n_dynos >= c->agent->config.dynos_max)
        r = change_refuse(&c->change, "capacity", e, EBUSY,
                          "the instance runs its limit of %u dynos", c->agent->config.dynos_max);
    return r;
}

int control_run(struct command *c, struct err *e)
{
    const json_t *attach = json_object_get(c->json, "attach");
    const char *app = json_str(c->json, "app", "");
    unsigned num = (unsigned)json_int(c->json, "num", 0);
    struct attach *none = NULL;
    int r = check_run(c, e);

    if (r < 0)
        return r;
    scoped(json_freep) json_t *spec = run_spec(c);
    scoped(json_freep) json_t *by = command_by(c, true);
    if (!spec || !by)
        return change_no_memory(e);
    if (attach)
        return link_run_attached(c->agent, app, spec, num, by, json_str(attach, "url", ""),
                                 json_str(attach, "secret", ""), &c->change.answer, e);
    return agent_run_by(c->agent, app, spec, num, NULL, by, NULL, NULL, &none, &c->change.answer,
                        e);
}

/* --- prefetch --- */

static void on_warmed(struct agent *a, const struct digest *digest, const struct err *why)
{
    if (why)
        link_notice(a, "slug", NULL,
                    json_pack("{s:s+,s:s}", "digest", "sha256:", digest->hex, "fault",
                              fault_name(why->fault)),
                    "%s", why->text);
}

int control_prefetch(struct command *c, struct err *e)
{
    static const struct field fields[] = {FIELDS_ENVELOPE,
                                          {"slug", FIELD_STRING | FIELD_ARRAY | FIELD_REQUIRED},
                                          {"digest", FIELD_STRING | FIELD_REQUIRED},
                                          FIELD_END};
    struct warming *w = NULL;
    struct digest digest;
    int r = fields_check("prefetch", c->json, fields, e);

    if (r == 0 && digest_parse(json_str(c->json, "digest", ""), &digest) < 0)
        r = change_bad(&c->change, e, "prefetch: 'digest' is sha256: and 64 hexadecimal digits");
    if (r == 0)
        r = spec_check_slug(&c->agent->config, c->json, e);
    if (r == 0)
        r = warm_start(c->agent, json_object_get(c->json, "slug"), &digest, on_warmed, &w, e);
    if (r < 0)
        return r;
    r = command_settle(c, "done", e);
    if (r < 0)
        warm_drop(w);
    return r;
}

/* --- drain, undrain --- */

/* ENTRY (taken): NULL: nothing to change. */
static int apply_one(struct command *c, json_t *entry, struct err *e)
{
    c->change.entries = json_array();
    if (!c->change.entries || (entry && json_array_append_new(c->change.entries, entry) < 0))
        return change_no_memory(e);
    int r = command_apply(c, e);
    if (r == 0)
        c->change.answer = agent_instance(c->agent);
    return r;
}

int control_drain(struct command *c, struct err *e)
{
    static const struct field fields[] = {FIELDS_ENVELOPE, {"deadline_ms", FIELD_INT}, FIELD_END};
    const json_t *ms = json_object_get(c->json, "deadline_ms");
    uint64_t deadline = 0;
    json_t *entry = NULL;
    int r = fields_check("drain", c->json, fields, e);

    if (r == 0 && ms && (json_integer_value(ms) < 0 || json_integer_value(ms) > DRAIN_MS_MAX))
        r = change_bad(&c->change, e, "drain: 'deadline_ms' is not negative, and below a year");
    if (r == 0 && ms)
        deadline = clock_real() + (uint64_t)json_integer_value(ms) * USEC_PER_MSEC;
    if (r == 0)
        r = drain_entry(c->agent, "controller", deadline, true, &entry, e);
    return r < 0 ? r : apply_one(c, entry, e);
}

int control_undrain(struct command *c, struct err *e)
{
    static const struct field fields[] = {FIELDS_ENVELOPE, FIELD_END};
    int r = fields_check("undrain", c->json, fields, e);

    if (r < 0)
        return r;
    bool on = model_drain_state(c->agent->model)->on;
    return apply_one(c, on ? json_pack("{s:s}", "op", "undrain") : NULL, e);
}
