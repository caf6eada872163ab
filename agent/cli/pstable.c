#include "cli/pstable.h"

#include "base/clock.h"
#include "base/frame.h"
#include "cli/call.h"
#include "cli/table.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>

static const char *state_color(const char *state)
{
    if (!strcmp(state, "up"))
        return COLOR_GREEN;
    if (!strcmp(state, "crashed"))
        return COLOR_RED;
    if (!strcmp(state, "starting") || !strcmp(state, "provisioning") ||
        !strcmp(state, "stopping") || !strcmp(state, "paused"))
        return COLOR_YELLOW;
    return NULL;
}

char *ps_exit(const json_t *last_exit, char out[PS_EXIT_MAX])
{
    const char *fault = json_str(last_exit, "fault", "none");
    const char *cause = json_str(last_exit, "cause", NULL);
    int status = call_exit_status(last_exit);
    char what[80];

    out[0] = '\0';
    if (!json_is_object(last_exit))
        return out;
    if (status >= 0)
        (void)snprintf(what, sizeof(what), "exit %d", status);
    else
        (void)snprintf(what, sizeof(what), "%s", cause ? cause : "ended");
    if (!strcmp(fault, "none"))
        (void)snprintf(out, PS_EXIT_MAX, "%s", what);
    else
        (void)snprintf(out, PS_EXIT_MAX, "%s, %s's fault", what, fault);
    return out;
}

#define USAGE_CELLS 4

/* So many bytes of so many; red above. */
static void bytes_cell(struct table *t, const json_t *dyno, const char *key, const char *of_key)
{
    char used[TEXT_MEMORY_MAX], quota[TEXT_MEMORY_MAX];
    int64_t memory = json_int(dyno, key, -1), of = json_int(dyno, of_key, 0);

    if (memory < 0) {
        table_cell(t, NULL, "-");
        return;
    }
    (void)text_memory((uint64_t)memory, used);
    if (of > 0)
        table_cell(t, memory > of ? COLOR_RED : NULL, "%s / %s", used,
                   text_memory((uint64_t)of, quota));
    else
        table_cell(t, NULL, "%s", used);
}

static void usage_cells(struct table *t, const json_t *dyno)
{
    const json_t *cpu = json_object_get(dyno, "cpu_percent");
    int64_t pids = json_int(dyno, "pids", -1), max = json_int(dyno, "pids_max", 0);

    bytes_cell(t, dyno, "memory", "memory_quota");
    if (cpu)
        table_cell(t, NULL, "%.1f%%", json_number_value(cpu));
    else
        table_cell(t, NULL, "-");
    if (pids >= 0 && max > 0)
        table_cell(t, pids >= max ? COLOR_RED : NULL, "%lld / %lld", (long long)pids,
                   (long long)max);
    else
        table_cell(t, NULL, "-");
    if (json_int(dyno, "disk_quota", 0) > 0)
        bytes_cell(t, dyno, "disk", "disk_quota");
    else
        table_cell(t, NULL, "-");
}

/* What a person wants to know about a dyno that does not run. */
static void note_cell(struct table *t, const json_t *dyno, const char *state)
{
    char last[PS_EXIT_MAX], wait[TEXT_DURATION_MAX];
    int64_t next_ms = json_int(dyno, "next_start_ms", -1);
    char next[TEXT_DURATION_MAX + 32] = "";

    if (!strcmp(state, "up") || !strcmp(state, "starting") || !strcmp(state, "paused")) {
        table_cell(t, NULL, "%s", "");
        return;
    }
    (void)ps_exit(json_object_get(dyno, "last_exit"), last);
    if (next_ms >= 0)
        (void)snprintf(next, sizeof(next), "next start in %s",
                       text_duration((uint64_t)next_ms * USEC_PER_MSEC, wait));
    table_cell(t, NULL, "%s%s%s", last, *last && *next ? "; " : "", next);
}

static void ps_row(struct table *t, const json_t *dyno)
{
    const char *state = json_str(dyno, "state", "-");
    char up[TEXT_DURATION_MAX], release[32];
    int64_t up_ms = json_int(dyno, "uptime_ms", -1), port = json_int(dyno, "port", 0);
    bool lives = !strcmp(state, "up") || !strcmp(state, "starting") || !strcmp(state, "stopping") ||
                 !strcmp(state, "paused");

    table_cell(t, COLOR_BOLD, "%s/%s", json_str(dyno, "app", "-"), json_str(dyno, "dyno", "-"));
    table_cell(t, state_color(state), "%s", state);
    table_cell(t, NULL, "%s",
               lives && up_ms >= 0 ? text_duration((uint64_t)up_ms * USEC_PER_MSEC, up) : "-");
    table_cell(t, NULL, "%lld", (long long)json_int(dyno, "restarts", 0));
    for (int i = 0; !lives && i < USAGE_CELLS; i++)
        table_cell(t, NULL, "-");
    if (lives)
        usage_cells(t, dyno);
    if (port > 0)
        table_cell(t, NULL, "%lld", (long long)port);
    else
        table_cell(t, NULL, "-");
    table_cell(t, NULL, "%s", call_release(dyno, release));
    note_cell(t, dyno, state);
    table_end_row(t);
}

void ps_table(const json_t *dynos, bool color, struct str *out)
{
    static const char *const heads[] = {"DYNO", "STATE", "UPTIME", "RESTARTS", "MEMORY", "CPU",
                                        "PIDS", "DISK",  "PORT",   "RELEASE",  ""};
    struct table t = {0};
    const json_t *dyno;
    size_t i;

    for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        table_cell(&t, COLOR_DIM, "%s", heads[i]);
    table_end_row(&t);
    json_array_foreach (dynos, i, dyno)
        ps_row(&t, dyno);
    table_render(&t, out, color);
    out->failed = out->failed || t.failed;
    table_done(&t);
}
