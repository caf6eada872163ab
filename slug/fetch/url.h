/* url.h - the address of a slug, as far as the fetch has an opinion about it. */
#ifndef SLUG_FETCH_URL_H
#define SLUG_FETCH_URL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define URL_SHOWN_MAX 240
#define URL_MAX       8192

/* That an https:// or http:// address is one, and not plain http unless ALLOW_HTTP: the operator's
 * fault. */
int url_check(const char *url, bool allow_http, struct err *e);

/* URL for messages: without user, password, query and fragment, where secrets are; escaped. */
char *url_shown(char out[URL_SHOWN_MAX], const char *url);

#endif
