/* topscreen.h - the live screen of `dyno top`, by curses. One at a time: it is the terminal. */
#ifndef CLI_TOPSCREEN_H
#define CLI_TOPSCREEN_H

#include "base/err.h"
#include "cli/topview.h"

#define TOP_INTERVAL_MS 1000

/* What it gets its answers from: *ret is the caller's. */
struct top_source {
    int (*look)(void *userdata, const char *app, json_t **ret, struct err *e);
    void *userdata;
};

/* Until q or a signal; APP "": all. The terminal is as it was afterwards. -ENOTTY: it cannot show a
 * screen, and nothing was shown. */
int topscreen_run(const struct top_source *source, const char *app, enum top_sort by,
                  struct err *e);

#endif
