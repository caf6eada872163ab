#include "core/control.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/agent_priv.h"
#include "core/control_priv.h"
#include "core/link.h"
#include "core/mirrors.h"
#include "core/spec.h"
#include "core/warm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTACH_URL_MAX 2048
#define ATTACH_SCHEME  "tls://"
#define DRAIN_MS_MAX   INT64_C(31536000000) /* a year */

/* --- Numbering --- */

enum control_verdict control_judge(const struct control *now, const char *outcome,
                                   const char *store, uint64_t generation, const char *replaces)
{
    if (now->store[0] && strcmp(now->store, store) != 0)
        return replaces && !strcmp(replaces, now->store) ? CONTROL_APPLY : CONTROL_WRONG_STORE;
    if (outcome)
        return CONTROL_DUPLICATE;
    if (now->store[0] && generation <= now->generation)
        return CONTROL_STALE;
    return CONTROL_APPLY;
}

/* --- One command on its way --- */

struct command {
    struct agent *agent;
    const char *store;
    const json_t *json;
    const char *id, *op; /* "" where there is none */
    uint64_t generation; /* 0: none */
    struct change_limits limits;
    struct change change; /* what it comes to, its answer, the code of a refusal */
};

static void command_done(struct command *c)
{
    change_done(&c->change);
}

static json_t *result_json(const struct command *c, const char *status, const struct err *why,
                           bool settled)
{
    char safe[ERR_TEXT_MAX];
    json_t *error = json_null();

    if (why)
        error = json_pack("{s:s,s:s,s:s}", "code", change_code(&c->change, why), "message",
                          text_escape(safe, sizeof(safe), why->text, strlen(why->text)), "fault",
                          fault_name(why->fault));
    return json_pack("{s:s,s:I,s:s,s:O?,s:o,s:b}", "id", c->id, "generation",
                     (json_int_t)c->generation, "status", status, "answer", c->change.answer,
                     "error", error, "settled", settled);
}

/* FULL: with it the command is settled. */
static json_t *by_json(const struct command *c, bool full)
{
    json_t *by = json_pack("{s:s}", "store", c->store);

    if (full &&
        (json_object_set_new(by, "generation", json_integer((json_int_t)c->generation)) < 0 ||
         json_object_set_new(by, "id", json_string(c->id)) < 0)) {
        json_decref(by);
        return NULL;
    }
    return by;
}

static int settle(const struct command *c, const char *outcome, struct err *e)
{
    json_t *entry =
        json_pack("{s:s,s:o,s:s}", "op", "control", "by", by_json(c, true), "outcome", outcome);
    int r = entry ? agent_change(c->agent, entry, NULL, e) : change_no_memory(e);

    json_decref(entry);
    return r;
}

static bool settled(const struct command *c)
{
    const struct control *now = model_control(c->agent->model);

    return !strcmp(now->store, c->store) && now->generation >= c->generation;
}

/* --- Entries --- */

/* Each on its own, before any: so that a list with one bad app changes nothing. */
static int try_entries(const struct command *c, struct err *e)
{
    json_t *entry;
    size_t i;

    json_array_foreach (c->change.entries, i, entry) {
        struct model_change *change = NULL;
        json_t *out = NULL;
        int r = model_prepare(c->agent->model, entry, &change, &out, e);

        model_drop(&change);
        json_decref(out);
        if (r < 0)
            return r;
    }
    return 0;
}

static int sign_entries(const struct command *c, struct err *e)
{
    size_t n = json_array_size(c->change.entries), i;
    json_t *entry;

    json_array_foreach (c->change.entries, i, entry) {
        bool failed = json_object_set_new(entry, "by", by_json(c, i == n - 1)) < 0;

        if (!strcmp(json_str(entry, "op", ""), "release"))
            failed |=
                json_object_set_new(entry, "created", json_integer((json_int_t)clock_real())) < 0;
        if (failed)
            return change_no_memory(e);
    }
    return 0;
}

/* As the API's own commands tell it; never the config vars. */
static void tell_entry(const struct command *c, const json_t *entry)
{
    const char *op = json_str(entry, "op", ""), *app = json_str(entry, "app", "");
    json_t *fields = json_pack("{s:s,s:s,s:O*,s:o*}", "app", app, "command", c->id, "formation",
                               json_object_get(entry, "formation"), "slug",
                               mirrors_json(json_str(entry, "url", NULL)));
    const json_t *dyno = json_object_get(entry, "dyno");
    const struct app *now = model_app(c->agent->model, app);

    if (fields && !strcmp(op, "release") && now)
        (void)json_object_set_new(fields, "release", json_integer(now->release.version));
    if (fields && dyno)
        (void)json_object_set_new(fields, "dynos", json_pack("[O]", dyno));
    agent_event(c->agent, op, NULL, fields);
    if (!strcmp(op, "forget"))
        logger_forget_app(c->agent->logger, app);
}

static int apply_entry(const struct command *c, const json_t *entry, struct err *e)
{
    const char *op = json_str(entry, "op", "");

    if (!strcmp(op, "drain") || !strcmp(op, "undrain"))
        return drain_apply(c->agent, entry, e);
    int r = agent_change(c->agent, entry, NULL, e);
    if (r == 0)
        tell_entry(c, entry);
    return r;
}

static int apply_all(const struct command *c, struct err *e)
{
    json_t *entry;
    size_t i;
    int r = 0;

    if (json_array_size(c->change.entries) == 0)
        return settle(c, "done", e);
    r = sign_entries(c, e);
    if (r == 0)
        r = try_entries(c, e);
    json_array_foreach (c->change.entries, i, entry)
        if (r == 0)
            r = apply_entry(c, entry, e);
    return r;
}

static int do_change(struct command *c, struct err *e)
{
    int r = change_command(c->agent->model, &c->limits, c->json, &c->change, e);

    return r < 0 ? r : apply_all(c, e);
}

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

static int do_run(struct command *c, struct err *e)
{
    const json_t *attach = json_object_get(c->json, "attach");
    const char *app = json_str(c->json, "app", "");
    unsigned num = (unsigned)json_int(c->json, "num", 0);
    struct attach *none = NULL;
    int r = check_run(c, e);

    if (r < 0)
        return r;
    scoped(json_freep) json_t *spec = run_spec(c);
    scoped(json_freep) json_t *by = by_json(c, true);
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

static int do_prefetch(struct command *c, struct err *e)
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
    r = settle(c, "done", e);
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
    int r = apply_all(c, e);
    if (r == 0)
        c->change.answer = agent_instance(c->agent);
    return r;
}

static int do_drain(struct command *c, struct err *e)
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

static int do_undrain(struct command *c, struct err *e)
{
    static const struct field fields[] = {FIELDS_ENVELOPE, FIELD_END};
    int r = fields_check("undrain", c->json, fields, e);

    if (r < 0)
        return r;
    bool on = model_drain_state(c->agent->model)->on;
    return apply_one(c, on ? json_pack("{s:s}", "op", "undrain") : NULL, e);
}

/* --- All of them --- */

static const struct {
    const char *op;
    int (*carry_out)(struct command *c, struct err *e);
} ops[] = {
    {"run", do_run},
    {"prefetch", do_prefetch},
    {"drain", do_drain},
    {"undrain", do_undrain},
};

static json_t *carry_out(struct command *c)
{
    struct err e = ERR_INIT, why = ERR_INIT;
    int (*fn)(struct command * c, struct err * e) = do_change;

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        if (!strcmp(ops[i].op, c->op))
            fn = ops[i].carry_out;
    int r = fn(c, &e);
    if (r == 0)
        return result_json(c, "done", NULL, true);
    log_warn("command %s (%s): %s", c->id, c->op, e.text);
    if (settled(c)) /* it is in the journal, and failed after that: it is not asked for again */
        return result_json(c, "refused", &e, true);
    if (e.fault != FAULT_OPERATOR)
        return result_json(c, "failed", &e, false);
    if (settle(c, "refused", &why) < 0) {
        c->change.code = NULL;
        return result_json(c, "failed", &why, false);
    }
    return result_json(c, "refused", &e, true);
}

/* The id is shown and logged as it is. */
static bool id_valid(const char *id)
{
    size_t len = strlen(id), good = 0;

    while (id[good] > ' ' && id[good] < 0x7f)
        good++;
    return len > 0 && len <= LINK_ID_MAX && good == len;
}

static int take_envelope(struct command *c, struct err *e)
{
    const json_t *generation = json_object_get(c->json, "generation");
    const char *id = json_str(c->json, "id", "");

    if (json_integer_value(generation) >= 1)
        c->generation = (uint64_t)json_integer_value(generation);
    if (id_valid(id))
        c->id = id;
    c->op = json_str(c->json, "op", "");
    if (!c->id[0])
        return change_bad(&c->change, e, "a command's 'id' is 1 to 64 printable characters");
    if (!c->generation)
        return change_bad(&c->change, e, "a command's 'generation' is a number from 1 up");
    if (!c->op[0])
        return change_bad(&c->change, e, "a command's 'op' is missing");
    return 0;
}

static json_t *refuse_store(struct command *c)
{
    struct err e = ERR_INIT;

    (void)change_refuse(&c->change, "wrong-store", &e, EPERM, "this instance obeys the store %s",
                        model_control(c->agent->model)->store);
    link_conflict(c->agent, c->store);
    return result_json(c, "refused", &e, true);
}

json_t *control_command(struct agent *a, const char *store, const json_t *command)
{
    scoped(command_done) struct command c = {
        .agent = a,
        .store = store,
        .json = command,
        .id = "",
        .op = "",
        .limits = {.config = &a->config, .draining = model_drain_state(a->model)->on}};
    struct err e = ERR_INIT;
    const char *replaces = NULL;

    if (take_envelope(&c, &e) < 0) {
        log_warn("a command of store %s: %s", store, e.text);
        return result_json(&c, "refused", &e, true);
    }
    if (!strcmp(c.op, "sync"))
        replaces = json_str(command, "replaces", NULL);
    switch (control_judge(model_control(a->model), model_command_outcome(a->model, c.id), store,
                          c.generation, replaces)) {
    case CONTROL_DUPLICATE:
        return result_json(&c, "duplicate", NULL, true);
    case CONTROL_STALE:
        return result_json(&c, "stale", NULL, true);
    case CONTROL_WRONG_STORE:
        return refuse_store(&c);
    case CONTROL_APPLY:
        link_conflict(a, ""); /* the next one is news again */
        break;
    }
    return carry_out(&c);
}
