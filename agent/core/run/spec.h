/* spec.h - what a release may ask for at all, whoever asks: the API, a controller. Pure. */
#ifndef CORE_SPEC_H
#define CORE_SPEC_H

#include "core/config/config.h"

#include <jansson.h>

/* "size", where it is given, is one that is configured. -EINVAL, the operator's fault. */
int spec_check_size(const struct config *c, const json_t *spec, struct err *e);
/* "slug", where it is given, is a URL that a store can be asked for at all, or a list of such
 * mirrors (mirrors.h); the rest is the fetch's to find out. */
int spec_check_slug(const struct config *c, const json_t *spec, struct err *e);

#endif
