#include "link/session_priv.h"

#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the first frame ---------------------------------------------------------------------------
 */

static int take_urls(struct session *s, struct err *e)
{
    json_t *urls = json_object_get(s->start, "controllers"), *url;
    size_t i;

    if (!json_is_array(urls) || json_array_size(urls) > LINK_CONTROLLERS_MAX)
        return err_say(e, EINVAL, "\"controllers\" is not a list of at most %d URLs",
                       LINK_CONTROLLERS_MAX);
    s->urls = json_incref(urls);
    json_array_foreach (urls, i, url) {
        const char *text = json_string_value(url);
        const struct backend_ops *ops = text ? backend_for(text) : NULL;

        if (!ops)
            return err_say(e, EINVAL, "no backend for the controller '%s'", text ? text : "");
        if (i > 0 && ops != backend_for(json_string_value(json_array_get(urls, 0))))
            return err_say(e, EINVAL, "controllers behind different backends");
        if (!s->backend)
            s->backend = ops;
    }
    return 0;
}

static int take_control(struct session *s, struct err *e)
{
    const json_t *control = json_object_get(s->start, "control");
    const char *store = json_str(control, "store", "");
    int64_t generation = json_int(control, "generation", 0);

    if (strlen(store) >= sizeof(s->control_store) || generation < 0)
        return err_say(e, EINVAL, "\"control\" is not a store and a generation");
    (void)snprintf(s->control_store, sizeof(s->control_store), "%s", store);
    s->control_generation = (uint64_t)generation;
    return 0;
}

static int take_start(struct session *s, struct err *e)
{
    int64_t dropped = json_int(s->start, "dropped", 0);
    int r = take_urls(s, e);

    if (r == 0)
        r = take_control(s, e);
    if (r < 0)
        return r;
    s->dropped_before = dropped > 0 ? (uint64_t)dropped : 0;
    s->instance = json_incref(json_object_get(s->start, "instance"));
    s->labels = json_object();
    s->counts = json_object();
    s->address = strdup("");
    if (!s->labels || !s->counts || !s->address)
        return err_set(e, ENOMEM, "begin");
    r = table_new(&s->table, e);
    return r < 0 ? r : queue_new(&s->queue, e);
}

int session_new(const struct session_setup *setup, struct session **ret, struct err *e)
{
    static const struct backend_timing usual = TIMING_DEFAULT;
    scoped(session_freep) struct session *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "begin");
    s->loop = sd_event_ref(setup->loop);
    s->http = setup->http;
    s->ops = setup->ops;
    s->userdata = setup->userdata;
    s->backend = setup->backend;
    s->start = json_incref(setup->start);
    s->timing = usual;
    s->report_at = USEC_NEVER;
    lanes_init(s);
    int r = take_start(s, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

void session_freep(struct session **sp)
{
    struct session *s = *sp;

    if (!s)
        return;
    lanes_done(s);
    if (s->b)
        s->backend->close(s->b);
    pending_done(&s->pending);
    files_done(&s->files);
    table_freep(&s->table);
    queue_freep(&s->queue);
    json_decref(s->start);
    json_decref(s->urls);
    json_decref(s->labels);
    json_decref(s->document);
    json_decref(s->instance);
    json_decref(s->batch);
    json_decref(s->counts);
    json_decref(s->status);
    free(s->address);
    sd_event_source_disable_unref(s->command_timer);
    sd_event_source_disable_unref(s->status_timer);
    sd_event_source_disable_unref(s->contact_timer);
    sd_event_unref(s->loop);
    free(s);
    *sp = NULL;
}

/* --- who we are --------------------------------------------------------------------------------
 */

static bool agent_valid(const char *agent)
{
    size_t len = strspn(agent, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return len > 0 && len <= LINK_AGENT_MAX && !agent[len];
}

static void on_address(void *userdata, const char *address)
{
    struct session *s = userdata;
    char *copy = strdup(address);

    if (!copy)
        return; /* dynod knows it all the same */
    free(s->address);
    s->address = copy;
    s->ops->address(s->userdata, address);
}

int session_identify(struct session *s, const char *agent, json_t *labels, const char *address,
                     json_t *document, struct err *e)
{
    struct backend_setup setup = {
        .loop = s->loop,
        .http = s->http,
        .agent = agent,
        .on_address = *address ? NULL : on_address,
        .userdata = s,
    };

    if (!agent_valid(agent))
        return err_say(e, EINVAL, "the agent's id is not 1 to %d of [A-Za-z0-9._-]",
                       LINK_AGENT_MAX);
    char *copy = strdup(address);
    if (!copy || (labels && json_object_update(s->labels, labels) < 0) ||
        json_object_update(s->labels, json_object_get(s->start, "labels")) < 0) {
        free(copy);
        return err_set(e, ENOMEM, "say who we are");
    }
    free(s->address);
    s->address = copy;
    s->document = json_incref(document);
    (void)snprintf(s->agent, sizeof(s->agent), "%s", agent);
    if (json_array_size(s->urls) > 0) {
        int r = s->backend->open(&setup, &s->b, e);

        if (r < 0)
            return r;
        s->backend->use_files(s->b, &s->files);
    }
    lanes_run(s);
    session_tell(s);
    return 0;
}

const char *session_agent(const struct session *s)
{
    return s->agent;
}

void session_files(struct session *s, struct files *files)
{
    files_done(&s->files);
    s->files = *files;
    *files = (struct files){0};
    s->have_files = true;
    s->files_until = 0;
    s->files_error = (struct err)ERR_INIT;
    lanes_run(s);
    session_tell(s);
}

const struct files *session_trust(const struct session *s)
{
    return &s->files;
}

/* --- what dynod tells --------------------------------------------------------------------------
 */

/* With nobody to tell it nothing is kept. */
static bool is_off(const struct session *s)
{
    return json_array_size(s->urls) == 0;
}

static int changed(struct session *s, int r)
{
    session_changed(s);
    lanes_run(s);
    return r;
}

int session_snapshot(struct session *s, json_t *dynos, struct err *e)
{
    int r = table_replace(s->table, dynos, e);

    if (r == 0)
        s->have_snapshot = true;
    return changed(s, r);
}

int session_dyno(struct session *s, json_t *dyno, struct err *e)
{
    return is_off(s) ? 0 : changed(s, table_put(s->table, dyno, e));
}

int session_gone(struct session *s, const char *name, struct err *e)
{
    return is_off(s) ? 0 : changed(s, table_remove(s->table, name, e));
}

int session_exit(struct session *s, json_t *exit, struct err *e)
{
    return is_off(s) ? 0 : changed(s, queue_exit(s->queue, exit, e));
}

int session_notice(struct session *s, json_t *notice, struct err *e)
{
    if (!json_is_object(notice))
        return err_say(e, EINVAL, "a notice that is none");
    return is_off(s) ? 0 : changed(s, queue_notice(s->queue, notice, e));
}

int session_instance(struct session *s, json_t *instance, struct err *e)
{
    if (!json_is_object(instance))
        return err_say(e, EINVAL, "an instance that is none");
    if (s->instance && json_equal(instance, s->instance))
        return 0;
    json_decref(s->instance);
    s->instance = json_incref(instance);
    s->instance_changed = true;
    return changed(s, 0);
}
