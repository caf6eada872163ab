/* identity.c - which instance this is. What is configured comes before what the metadata says. */
#include "link/link.h"

#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <string.h>

static const char *first_of(const char *a, const char *b, const char *c)
{
    return *a ? a : *b ? b : c;
}

/* The session begins; once. Without one dynod could do nothing better than begin again. */
static void identify(struct link *l)
{
    const char *agent =
        first_of(json_str(l->start, "agent", ""), json_str(l->identity, "agent", ""),
                 json_str(l->start, "fallback_agent", ""));
    const char *address =
        first_of(json_str(l->start, "address", ""), json_str(l->identity, "address", ""), "");
    struct err e = ERR_INIT;

    if (*session_agent(l->session))
        return;
    if (session_identify(l->session, agent, json_object_get(l->identity, "labels"), address,
                         json_object_get(l->identity, "document"), &e) < 0) {
        log_err("%s", e.text);
        (void)sd_event_exit(l->loop, 1);
    }
}

static void tell(struct link *l, const char *address)
{
    json_t *labels = json_object_get(l->identity, "labels");

    labels = labels ? json_incref(labels) : json_object();
    control_tell(l, "identity",
                 json_pack("{s:s,s:o,s:s?}", "agent", session_agent(l->session), "labels", labels,
                           "address", address));
}

void identity_address(struct link *l, const char *address)
{
    tell(l, address);
}

/* --- the metadata's
 * -------------------------------------------------------------------------------
 */

static void on_identity(void *userdata, const json_t *identity)
{
    struct link *l = userdata;

    json_decref(l->identity);
    l->identity = json_deep_copy(identity);
    identify(l);
    tell(l, json_string_value(json_object_get(l->identity, "address")));
}

static void on_absent(void *userdata)
{
    struct link *l = userdata;

    log_info("no instance metadata");
    identify(l);
}

static void on_interruption(void *userdata, const char *kind, const char *deadline,
                            const char *text)
{
    struct link *l = userdata;

    log_notice("%s", text);
    control_tell(l, "interruption",
                 json_pack("{s:s,s:s?,s:s}", "kind", kind, "deadline", deadline, "text", text));
}

static void on_withdrawn(void *userdata, const char *kind)
{
    (void)userdata;
    log_notice("the notice of %s is withdrawn; `dyno undrain` takes starts again", kind);
}

static void on_trouble(void *userdata, const char *kind, const char *text, bool begins)
{
    struct link *l = userdata;

    if (begins)
        log_warn("%s (%s)", text, kind);
    session_count(l->session, kind);
}

int identity_find(struct link *l, struct err *e)
{
    static const struct metadata_ops ops = {
        .identity = on_identity,
        .interruption = on_interruption,
        .withdrawn = on_withdrawn,
        .absent = on_absent,
        .trouble = on_trouble,
    };
    const char *metadata = json_str(l->start, "metadata", "off");
    bool automatic = !strcmp(metadata, "auto");
    struct metadata_spec spec = {
        .url = automatic ? NULL : metadata,
        .may_be_absent = automatic,
        .lifecycle = json_bool(l->start, "lifecycle", false),
        .identity_document = json_bool(l->start, "identity_document", false),
    };

    if (!strcmp(metadata, "off") || (automatic && !l->on_ec2)) {
        identify(l);
        return 0;
    }
    return metadata_open(l->loop, l->http, &spec, &ops, l, &l->metadata, e);
}
