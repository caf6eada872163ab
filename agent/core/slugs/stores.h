/* stores.h - what a fetch is told of the stores that it asks (slug/fetch/store.h, "stores"): the
 * keys of [store], and the secrets in the files that they name. The files are root's: read here,
 * and handed over in the request, never in an argument or the environment. They are read for every
 * fetch, so that a key that was changed needs no restart. */
#ifndef CORE_STORES_H
#define CORE_STORES_H

#include "base/err.h"
#include "core/config/config.h"

#include <jansson.h>

#define STORES_FILE_MAX 65536u /* bytes of one */

/* For the schemes among MIRRORS, an array of URLs, and no others: a fetch sees no secret that it
 * has no use for. S3's keys are those of s3_credentials_file, else of AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in this process's environment, unless there is a
 * role. *ret: the caller's, may be empty. A file that cannot be read, or is not what it should be:
 * the operator's fault; the error names the key and the file, never what is in it. */
int stores_settings(const struct config *c, const json_t *mirrors, json_t **ret, struct err *e);

#endif
