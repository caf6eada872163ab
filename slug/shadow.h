/* shadow.h - what a tree would look like if an archive's entries had been written, kept as one hash
 * and one kind a path: 16 bytes each, whatever the names. It refuses what slug/fetch/writer.h
 * refuses, in the same words, so that who only looks can say what a fetch would. */
#ifndef SLUG_SHADOW_H
#define SLUG_SHADOW_H

#include "slug/archive.h"

struct shadow;

struct shadow *shadow_new(void); /* NULL: no memory */
void shadow_freep(struct shadow **s);

/* Writes one entry into the shadow tree, or refuses it. */
int shadow_put(struct shadow *s, const struct slug_entry *entry, struct err *e);

#endif
