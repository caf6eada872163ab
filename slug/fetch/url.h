/* url.h - the address of a slug, as far as the fetch has an opinion about it. */
#ifndef SLUG_FETCH_URL_H
#define SLUG_FETCH_URL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define URL_SHOWN_MAX 240
#define URL_MAX       8192

enum url_scheme {
    URL_FILE,
    URL_HTTP,
    URL_HTTPS,
};

/* The scheme of URL. An unknown one, plain http unless ALLOW_HTTP, or what is no URL: the
 * operator's fault. */
int url_check(const char *url, bool allow_http, enum url_scheme *ret, struct err *e);

/* URL for messages: without user, password, query and fragment, where secrets are; escaped. */
char *url_shown(char out[URL_SHOWN_MAX], const char *url);

#endif
