/* topview.h - what `dyno top` shows: rows and header, from one answer of GET /v1/top after the
 * other. Pure. */
#ifndef CLI_TOPVIEW_H
#define CLI_TOPVIEW_H

#include "base/name.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum top_sort { TOP_MEMORY, TOP_CPU, TOP_PIDS, TOP_DISK, TOP_NAME };

struct top_row {
    char app[APP_NAME_MAX + 1];
    char name[DYNO_TEXT_MAX]; /* "shop/web.1" */
    char state[16];
    char run[160];
    const char *command; /* a stranger's text; lies in the answer */
    double cpu;          /* percent of one core */
    uint64_t cpu_usec;
    uint64_t memory, memory_quota, pids, pids_max, disk, disk_quota, uptime_usec;
};

struct top {
    json_t *answer; /* the last one */
    uint64_t at;    /* boot usec */
    struct top_row *rows;
    size_t n;
};

void top_done(struct top *t);
/* Takes ANSWER, of NOW (boot usec). CPU is what was used since the answer before, where the same
 * run was in it, else as the agent has it. -EBADMSG, -ENOMEM: T is as it was. */
int top_take(struct top *t, json_t *answer, uint64_t now);
/* Largest first; names in their order. Equal ones by name. */
void top_order(struct top *t, enum top_sort by);
/* "memory", "cpu", "pids", "disk", "name"; -EINVAL. */
int top_sort_parse(const char *text, enum top_sort *ret);
const char *top_sort_name(enum top_sort by);

/* Two lines, each with its newline: the agent, its link and its drain; the sums. */
void top_header(const struct top *t, uint64_t now_real, struct str *out);
/* One line without its newline; control characters are escaped. ROW NULL: the columns' names. */
void top_line(const struct top_row *row, struct str *out);

#endif
