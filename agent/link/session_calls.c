/* session_calls.c - what the four kinds of calls are about, and what their answers change. */
#include "link/session_priv.h"

#include "base/log.h"
#include "base/scoped.h"
#include "link/backoff.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

/* --- commands ----------------------------------------------------------------------------------
 */

static uint64_t commands_due(const struct session *s)
{
    return s->registered && !s->batch ? s->poll_at : USEC_NEVER;
}

static int commands_send(struct session *s, struct backend_request *rq, struct err *e)
{
    bool ill = s->lanes[LANE_COMMANDS].fails > 0;

    (void)e;
    /* After a failure, a short one: whether it works again is to be known soon. */
    s->poll_wait = ill ? POLL_MS_MIN * USEC_PER_MSEC : s->timing.poll_usec;
    rq->after = s->cursor;
    rq->wait_usec = s->poll_wait;
    return 0;
}

/* The next poll, which is at once unless the last one was for nothing: then nothing else would hold
 * up a controller that answers the same again and again. */
static void poll_again(struct session *s, bool worth)
{
    s->poll_at = worth ? 0 : s->lanes[LANE_COMMANDS].sent + PACE_USEC;
}

static void batch_end(struct session *s, bool worth)
{
    json_decref(s->batch);
    s->batch = NULL;
    (void)timer_set(s->loop, &s->command_timer, "command", USEC_NEVER, NULL, NULL);
    poll_again(s, worth);
}

/* It could not be carried out now: it and all after it are asked for again. */
static void command_failed(struct session *s)
{
    struct lane *lane = &s->lanes[LANE_COMMANDS];

    lane->not_before = clock_boot() + backoff_usec(s->command_fails++, random_u64());
    batch_end(s, true);
}

static int on_no_result(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct session *s = userdata;

    (void)source;
    (void)usec;
    log_err("dynod has not answered a command in %llu s: it is asked for again",
            (unsigned long long)(COMMAND_WAIT_USEC / USEC_PER_SEC));
    command_failed(s);
    lanes_run(s);
    return 0;
}

/* Hands the next command to dynod. One at a time: if it cannot be carried out now, those after it
 * must not be either. */
static void hand_over(struct session *s)
{
    if (s->at == json_array_size(s->batch)) {
        batch_end(s, s->advanced);
        return;
    }
    if (timer_set(s->loop, &s->command_timer, "command", clock_boot() + COMMAND_WAIT_USEC,
                  on_no_result, s) < 0)
        log_err("set the timer of a command: no memory"); /* dynod answers all the same */
    s->ops->command(s->userdata, s->store, json_array_get(s->batch, s->at));
}

static void commands_done(struct session *s, const struct backend_reply *reply)
{
    struct lane *lane = &s->lanes[LANE_COMMANDS];

    if (json_array_size(reply->commands) == 0) {
        poll_again(s, clock_boot() - lane->sent >= s->poll_wait / 2);
        return;
    }
    s->batch = json_incref(reply->commands);
    s->at = 0;
    s->advanced = false;
    hand_over(s);
}

/* Whether RESULT answers the command that dynod has. An id that is none comes back empty. */
static bool answers(const struct session *s, const json_t *result)
{
    const json_t *id = json_object_get(result, "id");

    return s->batch && (!json_string_length(id) ||
                        json_equal(id, json_object_get(json_array_get(s->batch, s->at), "id")));
}

/* Whom dynod obeys, as far as its answers show it. */
static void note_control(struct session *s, const json_t *result)
{
    bool done = !strcmp(json_str(result, "status", ""), "done");
    const json_t *error = json_object_get(result, "error");

    if (!strcmp(json_str(error, "code", ""), "wrong-store")) {
        s->conflict = true;
    } else if (done || !strcmp(s->control_store, s->store)) {
        s->conflict = false;
        memcpy(s->control_store, s->store, sizeof(s->control_store));
        s->control_generation = s->cursor;
    }
}

static void command_settled(struct session *s, const json_t *result)
{
    int64_t n = json_int(json_array_get(s->batch, s->at), "generation", 0);

    s->command_fails = 0;
    if (n > 0 && (uint64_t)n > s->cursor) {
        s->cursor = (uint64_t)n;
        s->advanced = true;
    }
    note_control(s, result);
    s->at++;
    hand_over(s);
}

int session_result(struct session *s, json_t *result, struct err *e)
{
    if (!json_is_object(result))
        return err_say(e, EINVAL, "a result that is none");
    scoped(json_freep) json_t *told = json_copy(result);
    bool settled = json_bool(result, "settled", true);
    if (!told)
        return err_set(e, ENOMEM, "take a result");
    (void)json_object_del(told, "settled"); /* it may have none */
    int r = queue_result(s->queue, told, e);
    session_changed(s);
    if (answers(s, result)) {
        if (settled)
            command_settled(s, result);
        else
            command_failed(s);
    }
    lanes_run(s);
    session_tell(s);
    return r;
}

/* --- register ----------------------------------------------------------------------------------
 */

static uint64_t register_due(const struct session *s)
{
    return s->have_files && s->have_snapshot && !s->registered ? 0 : USEC_NEVER;
}

static json_t *string_or_null(const char *text)
{
    return text[0] ? json_string(text) : json_null();
}

static int register_send(struct session *s, struct backend_request *rq, struct err *e)
{
    json_t *dynos = table_all(s->table);

    memcpy(s->register_hash, table_hash(s->table), sizeof(s->register_hash));
    s->register_generation = table_generation(s->table);
    rq->session = NULL;
    rq->body = json_pack(
        "{s:s,s:s,s:s,s:o,s:I,s:O?,s:O,s:s,s:O?,s:{s:I,s:s,s:o}}", "agent", s->agent, "version",
        json_str(s->start, "version", ""), "epoch", json_str(s->start, "epoch", ""), "store",
        string_or_null(s->control_store), "generation", (json_int_t)s->control_generation,
        "capacity", json_object_get(s->start, "capacity"), "labels", s->labels, "address",
        s->address, "instance", s->instance, "state", "generation",
        (json_int_t)s->register_generation, "hash", s->register_hash, "dynos", dynos);
    if (!rq->body || (s->document && json_object_set(rq->body, "document", s->document) < 0))
        return err_set(e, ENOMEM, "make a registration");
    s->instance_changed = false; /* what changes while it is on its way is told later */
    return 0;
}

static void register_done(struct session *s, const struct backend_reply *reply)
{
    bool obeyed = !strcmp(s->control_store, reply->store);

    log_notice("%s: registered as %s, store %s", session_url(s), s->agent, reply->store);
    /* What another store numbers has nothing to do with what this one does. */
    if (strcmp(s->store, reply->store) != 0) {
        s->cursor = 0;
        batch_end(s, true);
    }
    if (obeyed && s->cursor < s->control_generation)
        s->cursor = s->control_generation;
    (void)snprintf(s->id, sizeof(s->id), "%s", reply->session);
    (void)snprintf(s->store, sizeof(s->store), "%s", reply->store);
    s->timing = *reply->timing;
    s->conflict = s->control_store[0] && !obeyed;
    if (s->conflict)
        log_warn("store %s is not %s, which this agent obeys: its commands will be refused",
                 s->store, s->control_store);
    s->registered = true;
    s->told = s->register_generation;
    memcpy(s->told_hash, s->register_hash, sizeof(s->told_hash));
    table_settle(s->table, s->told);
    pending_done(&s->pending);
    s->want_snapshot = false;
    s->report_seq = s->beat_seq = 0;
    s->heard = s->lanes[LANE_REGISTER].sent;
    s->poll_at = 0;
    s->report_at = USEC_NEVER;
    session_changed(s);
}

/* --- reports -----------------------------------------------------------------------------------
 */

void pending_done(struct pending *p)
{
    json_decref(p->body);
    batch_done(&p->batch);
    *p = (struct pending){0};
}

static bool something_new(const struct session *s)
{
    return table_generation(s->table) != s->told || s->want_snapshot || s->instance_changed ||
           queue_waiting(s->queue) > 0;
}

void session_changed(struct session *s)
{
    uint64_t now;

    if (s->report_at != USEC_NEVER || !something_new(s))
        return;
    now = clock_boot();
    s->report_at = now + REPORT_BATCH_USEC;
}

static uint64_t report_due(const struct session *s)
{
    if (!s->registered || s->lanes[LANE_HEARTBEAT].call)
        return USEC_NEVER;
    return s->pending.body ? 0 : s->report_at;
}

/* Puts LIST (taken) into the report, unless it is empty. */
static bool put_list(json_t *body, const char *key, json_t *list)
{
    bool good = list && (json_array_size(list) == 0 || json_object_set(body, key, list) == 0);

    json_decref(list);
    return good;
}

static int put_state(struct session *s, json_t *body, struct err *e)
{
    json_t *dynos = NULL, *gone = NULL;
    bool all = s->want_snapshot;

    if (!all)
        all = table_since(s->table, s->told, &dynos, &gone, e) == -ESTALE;
    if (all)
        dynos = table_all(s->table);
    bool good = json_object_set_new(body, "snapshot", json_boolean(all)) == 0;
    good = put_list(body, "dynos", dynos) && good;
    good = (all || put_list(body, "gone", gone)) && good;
    return good ? 0 : err_set(e, ENOMEM, "make a report");
}

static int report_make(struct session *s, struct pending *p, struct err *e)
{
    uint64_t dropped = s->dropped_before + queue_dropped(s->queue);
    int r = queue_peek(s->queue, &p->batch, e);

    if (r < 0)
        return r;
    p->seq = s->report_seq + 1;
    p->generation = table_generation(s->table);
    memcpy(p->hash, table_hash(s->table), sizeof(p->hash));
    p->body = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:I}", "agent", s->agent, "epoch",
                        json_str(s->start, "epoch", ""), "session", s->id, "seq",
                        (json_int_t)p->seq, "from", (json_int_t)s->told, "generation",
                        (json_int_t)p->generation, "hash", p->hash, "dropped", (json_int_t)dropped);
    if (!p->body)
        return err_set(e, ENOMEM, "make a report");
    r = put_state(s, p->body, e);
    if (r < 0)
        return r;
    bool good = put_list(p->body, "exits", json_incref(p->batch.exits));
    good = put_list(p->body, "results", json_incref(p->batch.results)) && good;
    good = put_list(p->body, "notices", json_incref(p->batch.notices)) && good;
    if (s->instance_changed)
        good = json_object_set(p->body, "instance", s->instance) == 0 && good;
    return good ? 0 : err_set(e, ENOMEM, "make a report");
}

static int report_send(struct session *s, struct backend_request *rq, struct err *e)
{
    scoped(pending_done) struct pending p = {0};

    if (!s->pending.body) {
        int r = report_make(s, &p, e);

        if (r < 0)
            return r;
        s->pending = p;
        p = (struct pending){0};
        s->report_seq++;
        s->report_at = USEC_NEVER;
        s->want_snapshot = false;
        s->instance_changed = false;
    }
    rq->body = json_incref(s->pending.body);
    rq->seq = s->pending.seq;
    return 0;
}

static void tell_acked(struct session *s, const json_t *exits)
{
    scoped(json_freep) json_t *ids = json_array();
    const json_t *exit;
    size_t i;

    json_array_foreach (exits, i, exit)
        (void)json_array_append(ids, json_object_get(exit, "id")); /* else it is reported again */
    if (json_array_size(ids) > 0)
        s->ops->acked(s->userdata, ids);
}

static void report_done(struct session *s, const struct backend_reply *reply)
{
    struct pending *p = &s->pending;

    queue_acked(s->queue, &p->batch);
    tell_acked(s, p->batch.exits);
    s->told = p->generation;
    memcpy(s->told_hash, p->hash, sizeof(s->told_hash));
    table_settle(s->table, s->told);
    pending_done(p);
    s->heard = s->lanes[LANE_REPORT].sent;
    s->want_snapshot = s->want_snapshot || reply->snapshot;
    session_changed(s);
}

/* --- heartbeats --------------------------------------------------------------------------------
 */

static uint64_t heartbeat_due(const struct session *s)
{
    if (!s->registered || s->lanes[LANE_REPORT].call)
        return USEC_NEVER;
    return s->heard + s->timing.heartbeat_usec;
}

/* One digit after the point: 200 bytes are few. */
static double one_digit(unsigned long load)
{
    unsigned long unit = 1UL << SI_LOAD_SHIFT;
    unsigned long tenths = (load * 10 + unit / 2) / unit;

    return (double)tenths / 10;
}

static json_t *load_now(void)
{
    struct sysinfo info = {0};

    (void)sysinfo(&info); /* cannot fail for a good pointer */
    return json_pack("[f,f,f]", one_digit(info.loads[0]), one_digit(info.loads[1]),
                     one_digit(info.loads[2]));
}

static int heartbeat_send(struct session *s, struct backend_request *rq, struct err *e)
{
    rq->body = json_pack("{s:s,s:s,s:s,s:I,s:I,s:s,s:o}", "agent", s->agent, "epoch",
                         json_str(s->start, "epoch", ""), "session", s->id, "seq",
                         (json_int_t)++s->beat_seq, "generation", (json_int_t)s->told, "hash",
                         s->told_hash, "load", load_now());
    return rq->body ? 0 : err_set(e, ENOMEM, "make a heartbeat");
}

static void heartbeat_done(struct session *s, const struct backend_reply *reply)
{
    s->timing = *reply->timing;
    s->heard = s->lanes[LANE_HEARTBEAT].sent;
    s->want_snapshot = s->want_snapshot || reply->snapshot;
    session_changed(s);
}

const struct lane_type *lane_type(enum lane_id id)
{
    static const struct lane_type types[LANES] = {
        [LANE_REGISTER] = {"register", register_due, register_send, register_done},
        [LANE_COMMANDS] = {"commands", commands_due, commands_send, commands_done},
        [LANE_REPORT] = {"report", report_due, report_send, report_done},
        [LANE_HEARTBEAT] = {"heartbeat", heartbeat_due, heartbeat_send, heartbeat_done},
    };

    return &types[id];
}
