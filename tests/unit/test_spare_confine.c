/* What a dyno cannot do, asked of one whose sandbox was made ahead. */
#define SANDBOX_SPARES
#include "test_confine.c"
