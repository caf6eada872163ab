/* slugs.h - the slugs of this instance: mounted for those who run from them, counted, made durable
 * in the background, and thrown out when there is no room.
 *
 * Nobody's pins are written down. A slug is in use when a dyno runs from it (its run.json says
 * which one it is, so an agent that adopts the dyno knows), when the release that an app is to run
 * has it (the journal), or when it is being fetched. Pins on the disk would have to be kept true
 * through every death; these cannot be wrong. A spare sandbox that is dressed for it (spares.h) is
 * no use: it goes when the slug does. */
#ifndef CORE_SLUGS_H
#define CORE_SLUGS_H

#include "base/err.h"
#include "base/name.h"
#include "core/slugs/crew.h"

#include <jansson.h>
#include <stdbool.h>

struct agent;
struct slugs;

/* Finds out how slugs can be had here, and takes what the cache holds unsynced for sealing. The
 * cache, the model, the sweeper and the cgroups are open. */
int slugs_open(struct agent *a, struct slugs **ret, struct err *e);
void slugs_freep(struct slugs **s);
/* Slugs are images here, not directories. */
bool slugs_images(const struct slugs *s);
struct crews *slugs_crews(struct slugs *s);

/* The app of DIGEST, to run from: *ret_fd, borrowed until the next turn of the loop, is its mounted
 * image or its directory. -ENOENT: not cached; also of an image that cannot be mounted, which is
 * dropped, and said so: it will be fetched again. */
int slugs_app(struct slugs *s, const struct digest *digest, int *ret_fd, struct err *e);

/* What fetcher.h asks for; S is the userdata. */
int slugs_room(void *userdata, struct err *e);
bool slugs_settling(void *userdata);
void slugs_published(void *userdata, const struct digest *digest);

/* --- for people ---------------------------------------------------------------------------- */

/* [{"digest": "sha256:HEX", "kind": "image"|"directory", "bytes", "used": real usec, "synced",
 * "in_use"}], last used first. NULL: no memory. */
json_t *slugs_json(struct slugs *s);

/* Throws DIGEST out. -ENOENT: not cached. -EBUSY: in use. The operator's fault. */
int slugs_remove(struct slugs *s, const struct digest *digest, struct err *e);

/* Reads the image of DIGEST and compares it with what was published. FN is called once, from the
 * loop, with 0, or why not: -EBADMSG: it is corrupt; it has been dropped, and is fetched again when
 * an app is to run it. -EBUSY: not sealed yet. -EOPNOTSUPP: a directory. -ENOENT. An event "slug"
 * tells of corruption whoever asked. */
typedef void (*slugs_verify_fn)(void *userdata, const struct digest *digest, const struct err *why);
int slugs_verify(struct slugs *s, const struct digest *digest, slugs_verify_fn fn, void *userdata,
                 struct err *e);
/* Whoever asked with USERDATA is gone. */
void slugs_verify_cancel(struct slugs *s, const void *userdata);

#endif
