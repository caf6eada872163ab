/* keystone.h - OpenStack's Identity API v3, as far as it takes to read an object: a token for a
 * password, of a project ("Password authentication with scoped authorization"), and where its
 * object store is. Pure. */
#ifndef SLUG_FETCH_KEYSTONE_H
#define SLUG_FETCH_KEYSTONE_H

#include "base/err.h"

#include <stddef.h>

#define KEYSTONE_DOMAIN "Default"

struct keystone_user {
    const char *user, *password;
    const char *domain;  /* of user and project; NULL: KEYSTONE_DOMAIN */
    const char *project; /* NULL: the user's default one */
};

/* The body of POST /v3/auth/tokens; malloced. NULL: no memory, or a text that is not UTF-8. */
char *keystone_request(const struct keystone_user *u);

/* The public endpoint of the object store in the catalog of the answer; malloced, without '/' at
 * its end. REGION NULL: there must be only one, or E names them. The operator's fault. */
int keystone_endpoint(const char *text, size_t len, const char *region, char **ret, struct err *e);

/* The message of an answer that is an error, escaped into OUT; "" when there is none. */
void keystone_message(const char *text, size_t len, char *out, size_t cap);

#endif
