/* warm.h - slugs that are fetched ahead, for no dyno yet: whoever asks for it, the API or a
 * controller. How it goes is told by events of the kind "fetch" (docs/openapi.yaml, FetchEvent). */
#ifndef CORE_WARM_H
#define CORE_WARM_H

#include "core/agent_priv.h"

#define WARM_MAX 100 /* at once */

struct warming;
/* WHY NULL: the slug DIGEST is in the cache. Else DIGEST is what was asked for, or NULL. */
typedef void (*warm_fn)(struct agent *a, const struct digest *digest, const struct err *why);

/* Has SLUG (as the API has it, checked by spec_check_slug()) fetched; DIGEST may be NULL. FN (may
 * be NULL) is called once, from the loop. A slug that is there already is success, from the loop
 * too. -EBUSY, the operator's: WARM_MAX. *ret may be NULL. */
int warm_start(struct agent *a, const json_t *slug, const struct digest *digest, warm_fn fn,
               struct warming **ret, struct err *e);
/* Its number in the events. */
uint64_t warm_number(const struct warming *w);
/* FN will not be called; the fetch itself goes on. */
void warm_drop(struct warming *w);
/* All of them. */
void warm_done(struct agent *a);

#endif
