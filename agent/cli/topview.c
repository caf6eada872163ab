#include "cli/topview.h"

#include "base/clock.h"
#include "base/frame.h"
#include "cli/instance.h"
#include "cli/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_SHOWN 200
#define WORDS_MAX     400 /* bytes about link and instance */

void top_done(struct top *t)
{
    json_decref(t->answer);
    free(t->rows);
    *t = (struct top){0};
}

static uint64_t number(const json_t *dyno, const char *key)
{
    int64_t n = json_int(dyno, key, 0);

    return n > 0 ? (uint64_t)n : 0;
}

static const struct top_row *find_run(const struct top *t, const char *run)
{
    for (size_t i = 0; *run && i < t->n; i++)
        if (!strcmp(t->rows[i].run, run))
            return &t->rows[i];
    return NULL;
}

static void fill_row(const struct top *before, const json_t *dyno, uint64_t now,
                     struct top_row *row)
{
    *row = (struct top_row){.command = json_str(dyno, "command", ""),
                            .cpu = json_number_value(json_object_get(dyno, "cpu_percent")),
                            .cpu_usec = number(dyno, "cpu_usec"),
                            .memory = number(dyno, "memory"),
                            .memory_quota = number(dyno, "memory_quota"),
                            .pids = number(dyno, "pids"),
                            .pids_max = number(dyno, "pids_max"),
                            .disk = number(dyno, "disk"),
                            .disk_quota = number(dyno, "disk_quota"),
                            .uptime_usec = number(dyno, "uptime_ms") * USEC_PER_MSEC};
    (void)snprintf(row->app, sizeof(row->app), "%s", json_str(dyno, "app", ""));
    (void)snprintf(row->name, sizeof(row->name), "%s/%s", row->app, json_str(dyno, "dyno", ""));
    (void)snprintf(row->state, sizeof(row->state), "%s", json_str(dyno, "state", "-"));
    (void)snprintf(row->run, sizeof(row->run), "%s", json_str(dyno, "run", ""));
    const struct top_row *old = find_run(before, row->run);
    if (old && now > before->at && row->cpu_usec >= old->cpu_usec)
        row->cpu = 100.0 * (double)(row->cpu_usec - old->cpu_usec) / (double)(now - before->at);
}

int top_take(struct top *t, json_t *answer, uint64_t now)
{
    const json_t *dynos = json_object_get(answer, "dynos"), *dyno;
    struct top next = {.answer = answer, .at = now, .n = json_array_size(dynos)};
    size_t i;

    if (!json_is_array(dynos) || !json_is_object(json_object_get(answer, "status"))) {
        json_decref(answer);
        return -EBADMSG;
    }
    next.rows = calloc(next.n + 1, sizeof(*next.rows)); /* + 1: calloc(0) may be NULL */
    if (!next.rows) {
        json_decref(answer);
        return -ENOMEM;
    }
    json_array_foreach (dynos, i, dyno)
        fill_row(t, dyno, now, &next.rows[i]);
    top_done(t);
    *t = next;
    return 0;
}

/* --- Order --- */

static const char *const sorts[] = {"memory", "cpu", "pids", "disk", "name"};

const char *top_sort_name(enum top_sort by)
{
    return sorts[by];
}

int top_sort_parse(const char *text, enum top_sort *ret)
{
    for (size_t i = 0; i < sizeof(sorts) / sizeof(sorts[0]); i++)
        if (!strcmp(sorts[i], text)) {
            *ret = (enum top_sort)i;
            return 0;
        }
    return -EINVAL;
}

static double weight(const struct top_row *row, enum top_sort by)
{
    switch (by) {
    case TOP_MEMORY:
        return (double)row->memory;
    case TOP_CPU:
        return row->cpu;
    case TOP_PIDS:
        return (double)row->pids;
    case TOP_DISK:
        return (double)row->disk;
    case TOP_NAME:
        break;
    }
    return 0;
}

static int compare(const void *a, const void *b, void *by)
{
    double x = weight(a, *(const enum top_sort *)by), y = weight(b, *(const enum top_sort *)by);

    if (x > y || x < y)
        return x > y ? -1 : 1;
    return strverscmp(((const struct top_row *)a)->name, ((const struct top_row *)b)->name);
}

void top_order(struct top *t, enum top_sort by)
{
    if (t->n > 1)
        qsort_r(t->rows, t->n, sizeof(*t->rows), compare, &by);
}

/* --- Words --- */

struct sums {
    size_t up, paused, crashed;
    double cpu;
    uint64_t memory, quota, pids, disk;
};

static struct sums add_up(const struct top *t)
{
    struct sums s = {0};

    for (size_t i = 0; i < t->n; i++) {
        const struct top_row *row = &t->rows[i];

        s.up += !strcmp(row->state, "up");
        s.paused += !strcmp(row->state, "paused");
        s.crashed += !strcmp(row->state, "crashed");
        s.cpu += row->cpu;
        s.memory += row->memory;
        s.quota += row->memory_quota;
        s.pids += row->pids;
        s.disk += row->disk;
    }
    return s;
}

/* What link and instance have to say, on one line. */
static void add_words(const json_t *status, uint64_t now_real, struct str *out)
{
    struct str words = {.max = WORDS_MAX};
    char safe[WORDS_MAX + 1];

    link_line(json_object_get(status, "link"), &words);
    instance_line(json_object_get(status, "instance"), now_real, &words);
    for (size_t i = 0; i < words.len; i++)
        if (words.data[i] == '\n')
            words.data[i] = i + 1 < words.len ? ';' : ' ';
    str_add(out, text_escape(safe, sizeof(safe), str_text(&words), words.len));
    str_done(&words);
}

void top_header(const struct top *t, uint64_t now_real, struct str *out)
{
    const json_t *status = json_object_get(t->answer, "status");
    const char *version = json_str(status, "version", "-");
    char up[TEXT_DURATION_MAX], memory[TEXT_MEMORY_MAX], quota[TEXT_MEMORY_MAX];
    char disk[TEXT_MEMORY_MAX], safe[64];
    struct sums s = add_up(t);

    str_addf(out, "dynod %s, up %s  ", text_escape(safe, sizeof(safe), version, strlen(version)),
             text_duration(number(status, "uptime_ms") * USEC_PER_MSEC, up));
    add_words(status, now_real, out);
    str_addf(out,
             "\n%zu dynos: %zu up, %zu paused, %zu crashed  cpu %.1f%%  memory %s of %s  "
             "pids %ju  disk %s\n",
             t->n, s.up, s.paused, s.crashed, s.cpu, text_memory(s.memory, memory),
             text_memory(s.quota, quota), (uintmax_t)s.pids, text_memory(s.disk, disk));
}

/* "12.0M/512M", or without the second where there is no limit. */
#define OF_MAX 40
static const char *of(char out[OF_MAX], uint64_t used, uint64_t max)
{
    char a[TEXT_MEMORY_MAX], b[TEXT_MEMORY_MAX];

    (void)snprintf(out, OF_MAX, "%s%s%s", text_memory(used, a), max ? "/" : "",
                   max ? text_memory(max, b) : "");
    return out;
}

void top_line(const struct top_row *row, struct str *out)
{
    char memory[OF_MAX], disk[OF_MAX], pids[48], up[TEXT_DURATION_MAX], command[COMMAND_SHOWN];
    char name[2 * DYNO_TEXT_MAX], state[64];

    if (!row) {
        str_addf(out, "%-24s %-12s %7s %14s %11s %12s %8s  %s", "DYNO", "STATE", "CPU", "MEMORY",
                 "PIDS", "DISK", "UPTIME", "COMMAND");
        return;
    }
    (void)snprintf(pids, sizeof(pids), "%ju/%ju", (uintmax_t)row->pids, (uintmax_t)row->pids_max);
    str_addf(out, "%-24s %-12s %6.1f%% %14s %11s %12s %8s  %s",
             text_escape(name, sizeof(name), row->name, strlen(row->name)),
             text_escape(state, sizeof(state), row->state, strlen(row->state)), row->cpu,
             of(memory, row->memory, row->memory_quota), pids,
             row->disk_quota ? of(disk, row->disk, row->disk_quota) : "-",
             text_duration(row->uptime_usec, up),
             text_escape(command, sizeof(command), row->command, strlen(row->command)));
}
