/* imds.h - the credentials of the instance's role, from the instance metadata service of EC2,
 * version 2 ("Use IMDSv2", "Retrieve security credentials" in Amazon's EC2 user guide): a session
 * token by PUT, the role's name, its credentials. The only requests of a fetch that may go to a
 * link-local address, and only to that one. */
#ifndef SLUG_FETCH_IMDS_H
#define SLUG_FETCH_IMDS_H

#include "slug/fetch/credentials.h"

#define IMDS_BASE      "http://169.254.169.254"
#define IMDS_BASE_V6   "http://[fd00:ec2::254]"
#define IMDS_CALL_MS   2000 /* one request: it is one hop away */
#define IMDS_TRIES     3
#define IMDS_TOKEN_SEC 21600 /* what is asked for; a refused one is renewed */
#define IMDS_TOKEN_MAX 1024
#define IMDS_ROLE_MAX  64

struct imds {
    char *base;
    bool link_local;
    char token[IMDS_TOKEN_MAX + 1]; /* "": none */
};

/* BASE: where it is; NULL: IMDS_BASE. The operator's fault when it is no URL. */
int imds_init(struct imds *m, const char *base, struct err *e);
void imds_done(struct imds *m);

/* The role's credentials as they are now. Blocking, bounded. */
int imds_credentials(struct imds *m, const struct store_env *env, struct credentials *ret,
                     struct err *e);

/* --- pure ----------------------------------------------------------------------------------------
 */

/* The answers' texts, which are believed only when they look as they should. */
bool imds_token_parse(const char *text, size_t len, char ret[IMDS_TOKEN_MAX + 1]);
bool imds_role_parse(const char *text, size_t len, char ret[IMDS_ROLE_MAX + 1]);
int imds_credentials_parse(const char *text, size_t len, struct credentials *ret, struct err *e);

#endif
