/* prefetch.h - getting a release ready while the dynos of the one before it still run: a slug that
 * cannot be had must not cost an app the dynos that it has. */
#ifndef CORE_PREFETCH_H
#define CORE_PREFETCH_H

#include "core/agent_priv.h"

/* Fetches APP's current release and resolves it; a no-op while that is under way, or has failed for
 * good. The platform's failures are tried again. */
void prefetch_release(struct agent *a, const struct app *app);
/* Why APP's current release cannot be had; NULL: nothing is known to be wrong. */
const struct err *prefetch_problem(const struct agent *a, const struct app *app);
/* Forgets all of them. */
void prefetch_done(struct agent *a);

#endif
