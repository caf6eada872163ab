/* What a dyno cannot do, asked of one whose sandbox was made ahead for its slug and limits. */
#define SANDBOX_SPARES
#define SANDBOX_AHEAD DRESSED
#include "test_confine.c"
