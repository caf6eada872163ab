/* fsm.h - the life of one dyno as a table [state][event]. Pure: says where to go and what to do;
 * dyno.c does it. An event that a state does not expect is ignored when the world may send it late,
 * and an assert when only our own bug can. */
#ifndef CORE_FSM_H
#define CORE_FSM_H

#include <stdbool.h>

enum dyno_state {
    DYNO_DOWN,         /* nothing runs; wanted no more, or not yet */
    DYNO_PROVISIONING, /* waits for its slug */
    DYNO_STARTING,     /* its process exists; not up yet */
    DYNO_UP,
    DYNO_PAUSED,   /* was up; stands still until it is resumed or ended */
    DYNO_LEAVING,  /* told to stop: the routers take it out, then SIGTERM */
    DYNO_STOPPING, /* SIGTERM was sent: the grace period runs */
    DYNO_KILLING,  /* told to stop, and SIGKILL was sent */
    DYNO_CRASHING, /* SIGKILL was sent for a fault of its own: R10, R15, R99 */
    DYNO_CRASHED,  /* ended by itself; the restart's time is set, or never comes */
    DYNO_COMPLETE, /* a one-off that ended */
    DYNO_STATES,
};

enum dyno_event {
    DEV_START, /* wanted */
    DEV_STOP,  /* wanted no more, or to be replaced */
    DEV_LEAVE, /* the same for one that routers may know */
    DEV_SLUG_READY,
    DEV_SLUG_FAILED,
    DEV_SPAWN_FAILED, /* a step of the start failed; nothing runs */
    DEV_READY,        /* $PORT is listened on; for other types: the command runs */
    DEV_DEADLINE,     /* of the state: boot (R10), out of the route, grace (R12), restart due; off
                       * the books */
    DEV_OOM,          /* the kernel killed one of its processes for memory (R15) */
    DEV_PAUSE,        /* it stands still; also of one adopted so */
    DEV_RESUME,
    DEV_EXIT, /* every process of it is gone */
    DEV_EVENTS,
};

enum dyno_act {
    ACT_NONE,
    ACT_PROVISION, /* ask for the slug */
    ACT_SPAWN,
    ACT_ANNOUNCE_UP,
    ACT_PAUSE,
    ACT_RESUME,
    ACT_LEAVE,    /* tell that it is up no more, start the time that routers have */
    ACT_TERM,     /* SIGTERM to all, start the grace period */
    ACT_KILL_R10, /* or R99, when the command never ran */
    ACT_KILL_R12,
    ACT_KILL_R15,
    ACT_CRASH,  /* record the end; plan the restart */
    ACT_END,    /* record the end of what was told to end */
    ACT_RETRY,  /* the restart's time has come */
    ACT_FORGET, /* it never ran: nothing to record */
    ACT_OVER,   /* a one-off: take it off the books, or it would run again */
};

struct dyno_step {
    enum dyno_state next;
    enum dyno_act act;
};

/* What EVENT means in STATE. next == STATE and ACT_NONE: nothing. */
struct dyno_step dyno_fsm(enum dyno_state state, enum dyno_event event);

/* The public name: "down", "provisioning", "starting", "up", "paused", "stopping",
 * "crashed", "complete". */
const char *dyno_state_name(enum dyno_state state);

/* It was told to stop and has a process: its end is on its way. */
bool dyno_state_ending(enum dyno_state state);

#endif
