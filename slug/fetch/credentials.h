/* credentials.h - keys for an S3 store: those of the settings, or those of the instance's role,
 * which end and are renewed. */
#ifndef SLUG_FETCH_CREDENTIALS_H
#define SLUG_FETCH_CREDENTIALS_H

#include "slug/fetch/store.h"

#include <stdint.h>

struct credentials {
    char *access_key; /* NULL: none, requests are not signed */
    char *secret_key;
    char *session_token; /* NULL: none */
    int64_t expires;     /* seconds since 1970; 0: never */
};

/* Wipes the secrets. */
void credentials_done(struct credentials *c);

/* The settings' access_key, secret_key and session_token; none of them is fine. The operator's
 * fault when only some are there, or when one cannot be sent. */
int credentials_set(struct credentials *ret, const char *access_key, const char *secret_key,
                    const char *session_token, struct err *e);

/* When credentials that were had at NOW and end at EXPIRES are to be renewed (all in seconds):
 * CREDENTIALS_AHEAD before their end, and when that is over already, as a metadata service may
 * repeat what it has for a while, after half of what is left, CREDENTIALS_PAUSE at least. Pure. */
#define CREDENTIALS_AHEAD 300
#define CREDENTIALS_PAUSE 2
int64_t credentials_renew_at(int64_t now, int64_t expires);

#endif
