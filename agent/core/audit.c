#include "core/audit.h"

#include "base/frame.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/agent_priv.h"

#include <inttypes.h>
#include <stdio.h>

#define WHO_MAX 400

/* The command of SPEC as a line, safe to print. Returns OUT. */
static char *command_of(const json_t *spec, char out[AUDIT_COMMAND_MAX])
{
    scoped(str_done) struct str line = {.max = 4 * AUDIT_COMMAND_MAX};
    const json_t *argv = json_object_get(spec, "argv"), *word;
    size_t i;

    json_array_foreach (argv, i, word)
        str_addf(&line, "%s%s", i ? " " : "", json_string_value(word));
    if (!argv)
        str_add(&line, json_str(spec, "command", ""));
    return text_escape(out, AUDIT_COMMAND_MAX, str_text(&line), line.len);
}

/* The same for people, into TEXT, and for programs. */
static json_t *who(const struct caller *caller, const json_t *by, char text[WHO_MAX])
{
    if (caller) {
        (void)snprintf(text, WHO_MAX, "uid %u, pid %d", caller->uid, caller->pid);
        return json_pack("{s:s,s:I,s:i}", "via", "api", "uid", (json_int_t)caller->uid, "pid",
                         (int)caller->pid);
    }
    const char *store = json_str(by, "store", ""), *id = json_str(by, "id", "");
    (void)snprintf(text, WHO_MAX, "the controller %s, command %s", store, id);
    return json_pack("{s:s,s:s,s:s}", "via", "controller", "store", store, "id", id);
}

static void entered(struct agent *a, const struct dyno_name *name, const json_t *spec,
                    json_t *by /* taken */, const char *text, json_t *more /* taken */)
{
    char command[AUDIT_COMMAND_MAX], dyno[DYNO_TEXT_MAX];
    json_t *event =
        json_pack("{s:o,s:s,s:b,s:s++}", "by", by, "command", command_of(spec, command), "tty",
                  json_is_object(json_object_get(spec, "tty")), "text", text, ": ", command);

    if (event && more)
        (void)json_object_update(event, more); /* no memory: a poorer event */
    json_decref(more);
    log_notice("enter %s: %s: %s", dyno_name_text(name, dyno), text, command);
    agent_event(a, "enter", name, event);
}

void audit_exec(struct agent *a, const struct dyno_name *name, uint32_t token, const json_t *spec,
                const struct caller *caller)
{
    char text[WHO_MAX];
    json_t *by = who(caller, NULL, text);

    entered(a, name, spec, by, text,
            json_pack("{s:s,s:I}", "how", "exec", "token", (json_int_t)token));
}

void audit_run(struct agent *a, const struct dyno_name *name, const json_t *spec,
               const struct caller *caller, const json_t *by)
{
    char text[WHO_MAX];
    json_t *asked = who(caller, by, text);

    entered(a, name, spec, asked, text, json_pack("{s:s}", "how", "run"));
}

void audit_leave(struct agent *a, const struct dyno_name *name, uint32_t token, int status,
                 const struct err *why)
{
    char dyno[DYNO_TEXT_MAX], text[sizeof(why->text) + 32];

    if (why)
        (void)snprintf(text, sizeof(text), "never ran: %s", why->text);
    else
        (void)snprintf(text, sizeof(text), "status %d", status);
    log_notice("leave %s: exec %" PRIu32 ": %s", dyno_name_text(name, dyno), token, text);
    agent_event(a, "leave", name,
                json_pack("{s:s,s:I,s:i,s:s}", "how", "exec", "token", (json_int_t)token, "status",
                          status, "text", text));
}
