/* spares_priv.h - what spares.c (which there are), spare_make.c and spare_end.c share. */
#ifndef CORE_SPARES_PRIV_H
#define CORE_SPARES_PRIV_H

#include "core/run/spares.h"

#define SPARE_DIR "spare" /* below RUNTIME */

/* Makes one, on the list of those that are ready. KEY: what it is dressed for; NULL: nothing. What
 * was made before a failure is gone, or on its way. -ENOENT: the slug is not in the cache. */
int spare_make(struct spares *s, const struct dress_key *key, struct err *e);
/* Takes one off the list of those that are ready. */
void spare_unlist(struct spare *sp);
/* Its loop source: the process has ended. */
int spare_on_end(sd_event_source *source, int fd, uint32_t revents, void *userdata);
void spare_kill(struct spare *sp);
/* Waits for the end of one that is on the list of the dying. */
void spare_end_now(struct spare *sp);

static inline bool spare_is_dressed(const struct spare *sp)
{
    return sp->cut.dressed;
}

#endif
