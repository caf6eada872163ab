/* slugcache.h - the agent's cache of slugs as `dyno slug` shows it: the table, one digest out of
 * what somebody typed, the words for a fetch that is over. Pure. */
#ifndef CLI_SLUGCACHE_H
#define CLI_SLUGCACHE_H

#include "base/err.h"
#include "base/name.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define SLUG_PREFIX_MIN 4 /* hex digits that name a slug, when only one begins so */

/* SLUGS: the answer of GET /v1/slugs. */
void slugs_table(const json_t *slugs, uint64_t now_real, bool color, struct str *out);

/* The slug that TEXT names: "sha256:HEX", HEX, or the beginning of either. The operator's fault:
 * -ENOENT, none is cached that begins so; -EINVAL, several do, or it is no digest. */
int slugs_find(const json_t *slugs, const char *text, struct digest *ret, struct err *e);

/* "sha256:HEX  147 MB  image", "download 1.2 s, hash 0.1 s …": EVENT is "done", TOOK usec. */
void slug_done_text(const json_t *event, uint64_t took, struct str *out);

#endif
