/* How a dyno runs and ends, asked of one for which the root and the devices were made ahead. */
#define SANDBOX_AHEAD ROOM
#include "test_spawn.c"
