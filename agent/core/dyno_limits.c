/* dyno_limits.c - what a dyno may use, also when that changes while it runs; and standing still. */
#include "core/dyno.h"

#include "base/log.h"
#include "base/str.h"
#include "core/host/network.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The most processes that any size gives: RLIMIT_NPROC stays what it was at the start, and must not
 * be in the way of a resize. The cgroup is what limits them. */
static uint64_t pids_of_all(const struct config *c)
{
    uint64_t most = 0;

    for (size_t i = 0; i < c->n_sizes; i++)
        most = c->sizes[i].pids > most ? c->sizes[i].pids : most;
    return most;
}

void size_limits(const struct size *size, struct limits *ret)
{
    *ret = (struct limits){.memory_quota = size->memory,
                           .memory_max = (uint64_t)((double)size->memory * size->memory_factor),
                           .pids = size->pids,
                           .cpu_shares = size->cpu_shares,
                           .cpu_percent = size->cpu_cap,
                           .io_weight = size->io_weight,
                           .open_files = size->open_files,
                           .disk_bytes = size->disk,
                           .disk_inodes = size->disk ? size->inodes : 0,
                           .rate_bits = 8 * size->bandwidth};
}

int dyno_limits_of(const struct agent *a, const char *name, struct limits *ret, struct err *e)
{
    const struct size *size = config_size(&a->config, name);
    char safe[64];

    if (!size) {
        (void)err_say(e, EINVAL, "unknown size '%s'",
                      text_escape(safe, sizeof(safe), name, strlen(name)));
        return err_blame(e, FAULT_OPERATOR);
    }
    size_limits(size, ret);
    if (cgroup_tree_version(a->cgroups) != CGROUP_NONE)
        ret->procs_max = pids_of_all(&a->config);
    return 0;
}

int dyno_limits(const struct dyno *d, struct limits *ret, struct err *e)
{
    return dyno_limits_of(d->agent, d->size, ret, e);
}

/* --- Another size --- */

int dyno_check_size(struct dyno *d, const char *name, struct err *e)
{
    struct cgroup_usage usage = {0};
    struct limits limits;
    char dyno[DYNO_TEXT_MAX], holds[16], has[16];
    int r = dyno_limits_of(d->agent, name, &limits, e);

    if (r < 0 || !d->run || dyno_state_ending(d->state))
        return r;
    if (cgroup_tree_version(d->agent->cgroups) == CGROUP_NONE) {
        (void)err_say(e, EOPNOTSUPP,
                      "%s runs, and without cgroups (%s) nothing limits it: stop it, "
                      "then resize it",
                      dyno_name_text(&d->name, dyno), cgroup_tree_text(d->agent->cgroups));
        return err_blame(e, FAULT_OPERATOR);
    }
    r = run_usage(d->run, &usage, e);
    uint64_t held = usage.memory + usage.memory_kernel;
    if (r < 0 || usage_fits(held, limits.memory_max))
        return r;
    (void)err_say(e, EALREADY,
                  "%s holds %s, more than the %s of size %s: it would be killed; stop it "
                  "first, then resize and restart it",
                  dyno_name_text(&d->name, dyno), format_bytes(holds, sizeof(holds), held),
                  format_bytes(has, sizeof(has), limits.memory_max), name);
    return err_blame(e, FAULT_OPERATOR);
}

/* All of the new size, or all of the old one. */
static int change_size(struct dyno *d, const char *size, unsigned *ret_later, struct err *e)
{
    struct limits old = {0}, limits;
    struct err ignored = ERR_INIT;
    unsigned none;
    int r = dyno_check_size(d, size, e);

    if (r == 0)
        r = dyno_limits_of(d->agent, size, &limits, e);
    if (r < 0)
        return r;
    bool known = dyno_limits(d, &old, &ignored) == 0;
    r = run_resize(d->run, size, &old, &limits, ret_later, e);
    if (r < 0 && known)
        (void)run_resize(d->run, d->size, &limits, &old, &none, &ignored);
    if (r == 0 && known &&
        (old.disk_bytes != limits.disk_bytes || old.disk_inodes != limits.disk_inodes))
        *ret_later |= RUN_LATER_DISK;
    if (r == 0 && known && old.rate_bits != limits.rate_bits &&
        network_set_rate(d, &limits, &ignored) < 0)
        *ret_later |= RUN_LATER_BANDWIDTH;
    return r;
}

int dyno_settle_size(struct dyno *d, unsigned *ret_later, struct err *e)
{
    const struct app *app = model_app(d->agent->model, d->name.app);
    char former[sizeof(d->size)];

    *ret_later = 0;
    if (!app || !d->run || !run_started(d->run) || dyno_state_ending(d->state) ||
        (!d->oneoff && app->release.version != d->release))
        return 0;
    const char *size = app_size(app, &d->name, d->agent->config.default_size);
    if (!strcmp(size, d->size))
        return 0;
    int r = change_size(d, size, ret_later, e);
    if (r < 0)
        return r;
    memcpy(former, d->size, sizeof(former));
    (void)snprintf(d->size, sizeof(d->size), "%s", size);
    agent_event(d->agent, "resize", &d->name, json_pack("{s:s,s:s}", "from", former, "to", size));
    agent_dyno_changed(d->agent, d);
    return 0;
}

/* --- Standing still --- */

static int in_no_state(const struct dyno *d, const char *needed, struct err *e)
{
    char dyno[DYNO_TEXT_MAX];

    (void)err_say(e, EALREADY, "%s is %s: only what is %s can be %s",
                  dyno_name_text(&d->name, dyno), dyno_state_name(d->state), needed,
                  strcmp(needed, "up") ? "resumed" : "paused");
    return err_blame(e, FAULT_OPERATOR);
}

int dyno_pause(struct dyno *d, struct err *e)
{
    if (d->state == DYNO_PAUSED)
        return 0;
    if (d->state != DYNO_UP)
        return in_no_state(d, "up", e);
    int r = run_pause(d->run, e);
    if (r < 0)
        return r == -EOPNOTSUPP ? err_blame(e, FAULT_OPERATOR) : r;
    dyno_event(d, DEV_PAUSE);
    return 0;
}

int dyno_resume(struct dyno *d, struct err *e)
{
    if (d->state == DYNO_UP)
        return 0;
    if (d->state != DYNO_PAUSED)
        return in_no_state(d, "paused", e);
    int r = run_resume(d->run, e);
    if (r == 0)
        dyno_event(d, DEV_RESUME);
    return r;
}
