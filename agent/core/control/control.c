/* control.c - one command of a controller: judged, carried out, settled, answered. */
#include "core/control/control.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/agent_priv.h"
#include "core/control/control_command.h"
#include "core/control/link.h"
#include "core/slugs/mirrors.h"
#include "core/run/spec.h"
#include "core/slugs/warm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

json_t *command_by(const struct command *c, bool full)
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

int command_settle(const struct command *c, const char *outcome, struct err *e)
{
    json_t *entry =
        json_pack("{s:s,s:o,s:s}", "op", "control", "by", command_by(c, true), "outcome", outcome);
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
        bool failed = json_object_set_new(entry, "by", command_by(c, i == n - 1)) < 0;

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

int command_apply(const struct command *c, struct err *e)
{
    json_t *entry;
    size_t i;
    int r = 0;

    if (json_array_size(c->change.entries) == 0)
        return command_settle(c, "done", e);
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

    return r < 0 ? r : command_apply(c, e);
}

/* --- All of them --- */

static const struct {
    const char *op;
    int (*carry_out)(struct command *c, struct err *e);
} ops[] = {
    {"run", control_run},
    {"prefetch", control_prefetch},
    {"drain", control_drain},
    {"undrain", control_undrain},
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
    if (command_settle(c, "refused", &why) < 0) {
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
