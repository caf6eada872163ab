#include "core/drain.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "core/control/link.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DRAIN_FILE_MAX 4096u
#define BOOT_ID        "/proc/sys/kernel/random/boot_id"

/* --- Pure --- */

uint64_t drain_term_at(const struct drain_facts *f)
{
    if (!f->deadline_boot || (!f->routed && !f->interruption))
        return f->now_boot;
    return f->deadline_boot > f->now_boot + f->lead ? f->deadline_boot - f->lead : f->now_boot;
}

uint64_t drain_boot_of(uint64_t deadline_real, uint64_t now_real, uint64_t now_boot)
{
    uint64_t left = deadline_real > now_real ? deadline_real - now_real : 0;

    return now_boot + (left < DRAIN_DEADLINE_MAX ? left : DRAIN_DEADLINE_MAX);
}

bool drain_is_interruption(const char *reason)
{
    return !strcmp(reason, "spot") || !strcmp(reason, "rebalance") ||
           !strcmp(reason, "maintenance") || !strcmp(reason, "autoscaling");
}

/* "Z", "+01:00": seconds east of Greenwich. */
static int parse_zone(const char *text, long *ret)
{
    unsigned hours, minutes;
    int n = 0;

    if (!strcmp(text, "Z") || !strcmp(text, "z")) {
        *ret = 0;
        return 0;
    }
    if ((*text != '+' && *text != '-') ||
        sscanf(text + 1, "%2u:%2u%n", &hours, &minutes, &n) != 2 || n != 5 || text[6] ||
        hours > 23 || minutes > 59)
        return -EINVAL;
    *ret = (long)(hours * 3600 + minutes * 60) * (*text == '-' ? -1 : 1);
    return 0;
}

int drain_parse_time(const char *text, uint64_t *ret_real)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &tm);
    long zone;

    if (!rest || (*rest != 'T' && *rest != 't') || !(rest = strptime(rest + 1, "%H:%M:%S", &tm)))
        return -EINVAL;
    if (*rest == '.') { /* a fraction of a second is none of our concern */
        size_t digits = strspn(rest + 1, "0123456789");

        if (digits == 0)
            return -EINVAL;
        rest += 1 + digits;
    }
    if (parse_zone(rest, &zone) < 0)
        return -EINVAL;
    time_t at = timegm(&tm) - zone;
    if (at < 0)
        return -EINVAL;
    *ret_real = (uint64_t)at * USEC_PER_SEC;
    return 0;
}

/* --- RUNTIME/drain --- */

int drain_epoch(char out[17], struct err *e)
{
    scoped_free char *text = NULL;
    size_t len = 0, n = 0;
    int r = file_read(AT_FDCWD, BOOT_ID, 100, &text, &len, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < len && n < 16; i++)
        if (text[i] != '-' && text[i] != '\n')
            out[n++] = text[i];
    out[n] = '\0';
    return n == 16 ? 0 : err_say(e, EBADMSG, BOOT_ID " is too short");
}

static char *file_path(const struct agent *a, char out[300])
{
    (void)snprintf(out, 300, "%s/drain", a->config.runtime_dir);
    return out;
}

static int write_file(struct agent *a, uint64_t deadline_real, struct err *e)
{
    const struct drain_watch *w = &a->drain;
    scoped(json_freep) json_t *j =
        json_pack("{s:s,s:I,s:I,s:b,s:s,s:s}", "boot", w->epoch, "deadline_real",
                  (json_int_t)deadline_real, "deadline_boot", (json_int_t)w->deadline_boot, "told",
                  w->told_empty, "seen", w->seen, "undone", w->undone);
    scoped_free char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    char path[300];

    if (!text)
        return err_set(e, ENOMEM, "write RUNTIME/drain");
    return file_write_atomic(AT_FDCWD, file_path(a, path), text, strlen(text), 0600, e);
}

/* What is lost with it is the exact deadline after a jump of the clock: the journal has the rest.
 */
static void save(struct agent *a)
{
    struct err e = ERR_INIT;

    if (write_file(a, model_drain_state(a->model)->deadline_real, &e) < 0)
        log_warn("%s", e.text);
}

/* NULL: there is none of this boot. */
static json_t *read_file(struct agent *a)
{
    scoped_free char *text = NULL;
    struct err ignored = ERR_INIT;
    json_t *j = NULL;
    char path[300];
    size_t len = 0;

    if (file_read(AT_FDCWD, file_path(a, path), DRAIN_FILE_MAX, &text, &len, &ignored) < 0 ||
        json_parse(text, len, DRAIN_FILE_MAX, &j, &ignored) < 0)
        return NULL;
    if (strcmp(json_str(j, "boot", ""), a->drain.epoch) != 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

/* --- Acting --- */

static uint64_t lead(const struct agent *a)
{
    const struct config *c = &a->config;

    return c->stop_grace + (agent_routed(a) ? c->route_drain : 0) + DRAIN_MARGIN;
}

static void terminate(struct agent *a)
{
    struct dyno *d;

    if (a->drain.terminating)
        return;
    a->drain.terminating = true;
    TAILQ_FOREACH (d, &a->dynos, link)
        d->held = false; /* known to be wanted or not: here it ends */
    agent_reconcile_soon(a);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct agent *a = userdata;

    (void)s;
    (void)usec;
    log_notice("draining (%s): stopping what still runs", model_drain_state(a->model)->reason);
    terminate(a);
    return 0;
}

static void arm(struct agent *a)
{
    const struct drain *d = model_drain_state(a->model);
    struct drain_watch *w = &a->drain;
    struct drain_facts f = {.routed = agent_routed(a),
                            .interruption = drain_is_interruption(d->reason),
                            .deadline_boot = w->deadline_boot,
                            .lead = lead(a),
                            .now_boot = clock_boot()};

    if (!d->on) {
        w->terminating = w->told_empty = false;
        (void)timer_set(a->loop, &w->timer, "drain", USEC_NEVER, on_timer, a);
        return;
    }
    uint64_t at = drain_term_at(&f);
    if (timer_set(a->loop, &w->timer, "drain", at, on_timer, a) < 0) {
        log_err("draining: no memory for a timer");
        terminate(a); /* too early is better than never */
    }
}

/* What the instance has of this boot for ENTRY, before the entry is in the journal: a drain without
 * it is one of an earlier boot. */
static int prepare(struct agent *a, const json_t *entry, struct err *e)
{
    uint64_t deadline = (uint64_t)json_int(entry, "deadline", 0);
    struct drain_watch *w = &a->drain;

    w->deadline_boot = deadline ? drain_boot_of(deadline, clock_real(), clock_boot()) : 0;
    return write_file(a, deadline, e);
}

int drain_apply(struct agent *a, const json_t *entry, struct err *e)
{
    bool on = !strcmp(json_str(entry, "op", ""), "drain");
    const struct drain before = *model_drain_state(a->model);
    struct drain_watch was = a->drain;
    int r = on ? prepare(a, entry, e) : 0;

    if (r == 0)
        r = agent_change(a, entry, NULL, e);
    if (r < 0) {
        a->drain.deadline_boot = was.deadline_boot;
        return r;
    }
    if (!on && before.on && drain_is_interruption(before.reason))
        memcpy(a->drain.undone, a->drain.seen, sizeof(a->drain.undone));
    if (!on)
        a->drain.deadline_boot = 0;
    arm(a);
    save(a);
    if (on || before.on)
        agent_event(a, on ? "drain" : "undrain", NULL, drain_json(a));
    link_tell_instance(a);
    return 0;
}

json_t *drain_json(const struct agent *a)
{
    const struct drain *d = model_drain_state(a->model);
    char text[CLOCK_TEXT_MAX];
    bool dated = d->on && d->deadline_real;

    return json_pack("{s:b,s:s?,s:s?}", "draining", d->on, "deadline",
                     dated ? clock_text(d->deadline_real, text) : NULL, "reason",
                     d->on ? d->reason : NULL);
}

bool drain_terminating(const struct agent *a)
{
    return a->drain.terminating;
}

static int count_running(const struct agent *a)
{
    const struct dyno *d;
    int n = 0;

    TAILQ_FOREACH (d, &a->dynos, link)
        n += dyno_running(d);
    return n;
}

void drain_check_empty(struct agent *a)
{
    if (!model_drain_state(a->model)->on || a->drain.told_empty || count_running(a) > 0)
        return;
    a->drain.told_empty = true;
    save(a);
    log_notice("drained: no dyno runs");
    agent_event(a, "drained", NULL, drain_json(a));
    link_notice(a, "instance", NULL, drain_json(a), "drained: no dyno runs");
}

/* --- Commands --- */

/* The deadline that counts when NEXT is asked for beside NOW; 0: none. An interruption's cannot be
 * put off. */
static uint64_t merge(const struct drain *now, uint64_t next, bool firm)
{
    bool movable = firm && !drain_is_interruption(now->reason);

    if (!now->on || !now->deadline_real || !next)
        return next ? next : now->deadline_real;
    return next < now->deadline_real || movable ? next : now->deadline_real;
}

int drain_entry(struct agent *a, const char *reason, uint64_t deadline, bool firm, json_t **ret,
                struct err *e)
{
    const struct drain *now = model_drain_state(a->model);
    uint64_t real = clock_real();

    *ret = NULL;
    if (deadline > real + DRAIN_DEADLINE_MAX)
        deadline = real + DRAIN_DEADLINE_MAX;
    if (!deadline && !now->on && agent_routed(a))
        deadline = real + a->config.drain_deadline;
    uint64_t then = now->on ? merge(now, deadline, firm) : deadline;
    if (now->on && then == now->deadline_real)
        return 0;
    bool keep = now->on && drain_is_interruption(now->reason) && !drain_is_interruption(reason);
    *ret = json_pack("{s:s,s:s,s:I}", "op", "drain", "reason", keep ? now->reason : reason,
                     "deadline", (json_int_t)then);
    if (*ret && !now->on)
        (void)json_object_set_new(*ret, "since", json_integer((json_int_t)real));
    return *ret ? 0 : err_set(e, ENOMEM, "drain the instance");
}

static int check_spec(const json_t *spec, const char **ret_reason, uint64_t *ret_deadline,
                      struct err *e)
{
    const json_t *ms = json_object_get(spec, "deadline_ms"), *why = json_object_get(spec, "reason");
    size_t known = (ms != NULL) + (why != NULL);
    json_int_t n = json_integer_value(ms);

    if (json_object_size(spec) != known || (spec && !json_is_object(spec)))
        (void)err_say(e, EINVAL, "a drain has \"deadline_ms\" and \"reason\", nothing else");
    else if (ms && (!json_is_integer(ms) || n < 0 || n > INT64_MAX / 1000000))
        (void)err_say(e, EINVAL, "\"deadline_ms\" must be a number of milliseconds");
    else if (why && !json_is_string(why))
        (void)err_say(e, EINVAL, "\"reason\" must be a string");
    if (e->errnum)
        return err_blame(e, FAULT_OPERATOR);
    *ret_reason = why ? json_string_value(why) : "operator";
    *ret_deadline = ms ? clock_real() + (uint64_t)n * USEC_PER_MSEC : 0;
    return 0;
}

int agent_drain(struct agent *a, const json_t *spec, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *entry = NULL;
    const char *reason = NULL;
    uint64_t deadline = 0;
    int r = check_spec(spec, &reason, &deadline, e);

    if (r == 0)
        r = drain_entry(a, reason, deadline, true, &entry, e);
    if (r == 0 && entry)
        r = drain_apply(a, entry, e);
    if (r < 0)
        return r;
    *ret = agent_instance(a);
    return *ret ? 0 : err_set(e, ENOMEM, "drain");
}

int agent_undrain(struct agent *a, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *entry = json_pack("{s:s}", "op", "undrain");
    int r = 0;

    if (!entry)
        return err_set(e, ENOMEM, "undrain");
    if (model_drain_state(a->model)->on)
        r = drain_apply(a, entry, e);
    if (r < 0)
        return r;
    *ret = agent_instance(a);
    return *ret ? 0 : err_set(e, ENOMEM, "undrain");
}

json_t *agent_instance(struct agent *a)
{
    const struct drain *d = model_drain_state(a->model);
    json_t *j = drain_json(a);
    char since[CLOCK_TEXT_MAX];

    if (!j)
        return NULL;
    (void)json_object_set_new(j, "since",
                              d->on && d->since_real ? json_string(clock_text(d->since_real, since))
                                                     : json_null());
    (void)json_object_set_new(j, "dynos", json_integer(count_running(a)));
    return j;
}

/* --- The instance's own end --- */

/* Nobody would bring up replacements, and nobody says that it really goes, or when. */
static bool worth_draining(const struct agent *a, const char *kind, uint64_t deadline)
{
    return agent_routed(a) || deadline || !strcmp(kind, "spot") || !strcmp(kind, "autoscaling");
}

void drain_interrupted(struct agent *a, const char *kind, uint64_t deadline, const char *text)
{
    scoped(json_freep) json_t *entry = NULL;
    struct drain_watch *w = &a->drain;
    char note[DRAIN_NOTE_MAX];
    struct err e = ERR_INIT;

    (void)snprintf(note, sizeof(note), "%s %" PRIu64, kind, deadline);
    if (!strcmp(note, w->undone) || !strcmp(note, w->seen))
        return; /* told again, by a dynod-link that was restarted */
    memcpy(w->seen, note, sizeof(w->seen));
    log_notice("the instance is about to go (%s): %s", kind, text);
    link_notice(a, "instance", NULL, json_pack("{s:s}", "reason", kind), "%s", text);
    agent_event(a, "interruption", NULL, json_pack("{s:s,s:s}", "reason", kind, "text", text));
    if (!worth_draining(a, kind, deadline))
        return;
    if (drain_entry(a, kind, deadline, false, &entry, &e) < 0 ||
        (entry && drain_apply(a, entry, &e) < 0)) {
        w->seen[0] = '\0';
        log_err("drain: %s", e.text);
    }
}

/* --- An agent's start and end --- */

/* An interruption that came true: the instance is back. */
static void forget_old(struct agent *a)
{
    scoped(json_freep) json_t *entry = json_pack("{s:s}", "op", "undrain");
    struct err e = ERR_INIT;

    log_notice("draining (%s) was for the end of an earlier boot: it is over",
               model_drain_state(a->model)->reason);
    if (!entry || drain_apply(a, entry, &e) < 0)
        log_err("undrain: %s", entry ? e.text : "no memory");
}

void drain_open(struct agent *a)
{
    const struct drain *d = model_drain_state(a->model);
    struct drain_watch *w = &a->drain;

    scoped(json_freep) json_t *file = read_file(a);
    (void)snprintf(w->seen, sizeof(w->seen), "%s", json_str(file, "seen", ""));
    (void)snprintf(w->undone, sizeof(w->undone), "%s", json_str(file, "undone", ""));
    if (!d->on)
        return;
    if (!file && drain_is_interruption(d->reason)) {
        forget_old(a);
        return;
    }
    w->told_empty = json_bool(file, "told", false);
    if (d->deadline_real && (uint64_t)json_int(file, "deadline_real", 0) == d->deadline_real)
        w->deadline_boot = (uint64_t)json_int(file, "deadline_boot", 0);
    else if (d->deadline_real)
        w->deadline_boot = drain_boot_of(d->deadline_real, clock_real(), clock_boot());
    log_notice("draining (%s) goes on", d->reason);
    arm(a);
}

void drain_close(struct agent *a)
{
    a->drain.timer = sd_event_source_disable_unref(a->drain.timer);
}
