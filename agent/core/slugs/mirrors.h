/* mirrors.h - where a slug is to be had: up to MIRRORS_MAX URLs, tried in their order. JSON has a
 * string, or an array of several; the desired state keeps one text, a blank between. Pure. */
#ifndef CORE_MIRRORS_H
#define CORE_MIRRORS_H

#include "base/err.h"
#include "slug/fetch.h"

#include <jansson.h>
#include <stddef.h>

#define MIRRORS_MAX FETCH_MIRRORS_MAX
#define MIRROR_MAX  8192 /* bytes of one */

/* What is wrong with TEXT ("is empty", for a sentence about it); NULL: it is such a text. */
const char *mirrors_wrong(const char *text);

/* The text of JSON, a string or an array of them: a new JSON string. Of other JSON, or of what is
 * not printable text without blanks: -EINVAL, the operator's fault; the error speaks of "slug". */
int mirrors_of_json(const json_t *json, json_t **ret, struct err *e);
/* The reverse: a string for one, an array for several. NULL: no memory, or TEXT is NULL. */
json_t *mirrors_json(const char *text);

/* The next one of *TEXT, not terminated; *TEXT is moved behind it. NULL: there is none. */
const char *mirrors_next(const char **text, size_t *ret_len);

#endif
