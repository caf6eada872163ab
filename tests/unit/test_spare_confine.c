/* What a dyno cannot do, asked of one whose sandbox was made ahead. */
#define SANDBOX_SPARES
#define SANDBOX_AHEAD SPARE
#include "test_confine.c"
