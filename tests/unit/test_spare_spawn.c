/* How a dyno runs and ends, asked of one whose sandbox was made ahead. */
#define SANDBOX_SPARES
#define SANDBOX_AHEAD SPARE
#include "test_spawn.c"
