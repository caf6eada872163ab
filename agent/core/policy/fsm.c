#include "core/policy/fsm.h"

#include <assert.h>

struct cell {
    bool set; /* an empty cell: the event changes nothing here */
    struct dyno_step step;
};

/* clang-format off */
#define GO(state, act) { true, { DYNO_##state, ACT_##act } }

static const struct cell table[DYNO_STATES][DEV_EVENTS] = {
    [DYNO_DOWN] = {
        [DEV_START]        = GO(PROVISIONING, PROVISION),
    },
    [DYNO_PROVISIONING] = {
        [DEV_STOP]         = GO(DOWN,         FORGET),
        [DEV_SLUG_READY]   = GO(STARTING,     SPAWN),
        [DEV_SLUG_FAILED]  = GO(CRASHED,      CRASH),
    },
    [DYNO_STARTING] = {
        [DEV_STOP]         = GO(STOPPING,     TERM),
        [DEV_LEAVE]        = GO(LEAVING,      LEAVE),
        [DEV_SPAWN_FAILED] = GO(CRASHED,      CRASH),
        [DEV_READY]        = GO(UP,           ANNOUNCE_UP),
        [DEV_DEADLINE]     = GO(CRASHING,     KILL_R10),
        [DEV_OOM]          = GO(CRASHING,     KILL_R15),
        [DEV_PAUSE]        = GO(PAUSED,       PAUSE),
        [DEV_EXIT]         = GO(CRASHED,      CRASH),
    },
    [DYNO_UP] = {
        [DEV_STOP]         = GO(STOPPING,     TERM),
        [DEV_LEAVE]        = GO(LEAVING,      LEAVE),
        [DEV_OOM]          = GO(CRASHING,     KILL_R15),
        [DEV_PAUSE]        = GO(PAUSED,       PAUSE),
        [DEV_SPAWN_FAILED] = GO(CRASHED,      CRASH), /* adopted, and its files are gone */
        [DEV_EXIT]         = GO(CRASHED,      CRASH),
    },
    [DYNO_PAUSED] = {
        [DEV_STOP]         = GO(STOPPING,     TERM), /* it has left the route already */
        [DEV_OOM]          = GO(CRASHING,     KILL_R15),
        [DEV_RESUME]       = GO(UP,           RESUME),
        [DEV_SPAWN_FAILED] = GO(CRASHED,      CRASH),
        [DEV_EXIT]         = GO(CRASHED,      CRASH),
    },
    [DYNO_LEAVING] = {
        [DEV_SPAWN_FAILED] = GO(DOWN,         END),
        [DEV_DEADLINE]     = GO(STOPPING,     TERM),
        [DEV_OOM]          = GO(KILLING,      KILL_R15),
        [DEV_EXIT]         = GO(DOWN,         END),
    },
    [DYNO_STOPPING] = {
        [DEV_SPAWN_FAILED] = GO(DOWN,         END),
        [DEV_DEADLINE]     = GO(KILLING,      KILL_R12),
        [DEV_OOM]          = GO(KILLING,      KILL_R15),
        [DEV_EXIT]         = GO(DOWN,         END),
    },
    [DYNO_KILLING] = {
        [DEV_SPAWN_FAILED] = GO(DOWN,         END),
        [DEV_EXIT]         = GO(DOWN,         END),
    },
    [DYNO_CRASHING] = {
        [DEV_STOP]         = GO(KILLING,      NONE),
        [DEV_SPAWN_FAILED] = GO(CRASHED,      CRASH),
        [DEV_EXIT]         = GO(CRASHED,      CRASH),
    },
    [DYNO_CRASHED] = {
        [DEV_START]        = GO(PROVISIONING, RETRY),
        [DEV_STOP]         = GO(DOWN,         FORGET),
        [DEV_DEADLINE]     = GO(PROVISIONING, RETRY),
    },
    [DYNO_COMPLETE] = {
        [DEV_STOP]         = GO(COMPLETE,     OVER),
        [DEV_DEADLINE]     = GO(COMPLETE,     OVER),
    },
};
/* clang-format on */

struct dyno_step dyno_fsm(enum dyno_state state, enum dyno_event event)
{
    assert(state < DYNO_STATES && event < DEV_EVENTS);
    if (!table[state][event].set)
        return (struct dyno_step){state, ACT_NONE};
    return table[state][event].step;
}

const char *dyno_state_name(enum dyno_state state)
{
    static const char *const names[DYNO_STATES] = {
        [DYNO_DOWN] = "down",         [DYNO_PROVISIONING] = "provisioning",
        [DYNO_STARTING] = "starting", [DYNO_UP] = "up",
        [DYNO_PAUSED] = "paused",     [DYNO_LEAVING] = "stopping",
        [DYNO_STOPPING] = "stopping", [DYNO_KILLING] = "stopping",
        [DYNO_CRASHING] = "stopping", [DYNO_CRASHED] = "crashed",
        [DYNO_COMPLETE] = "complete",
    };

    return names[state];
}

bool dyno_state_ending(enum dyno_state state)
{
    return state == DYNO_LEAVING || state == DYNO_STOPPING || state == DYNO_KILLING;
}
