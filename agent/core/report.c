/* report.c - what the controller hears of the dynos. */
#include "core/dyno.h"

void agent_dyno_changed(struct agent *a, const struct dyno *d)
{
    (void)a;
    (void)d;
}

void agent_dyno_gone(struct agent *a, const struct dyno_name *name)
{
    (void)a;
    (void)name;
}

void agent_dyno_exited(struct agent *a, const struct dyno *d, const char *run_id, json_t *fields)
{
    (void)a;
    (void)d;
    (void)run_id;
    (void)fields;
}
