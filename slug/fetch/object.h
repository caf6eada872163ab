/* object.h - s3://BUCKET/KEY and swift://CONTAINER/OBJECT taken apart, and put into a URL. Pure.
 *
 * The address is a URL without query and fragment: %XX is that byte, every other byte is itself
 * ('?', '#', '+' and what is no ASCII belong to the name), so a blank is written %20, a '%' %25. */
#ifndef SLUG_FETCH_OBJECT_H
#define SLUG_FETCH_OBJECT_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

#define OBJECT_TOP_MAX  256  /* Swift's limit; S3 has 63 (255 in its early days) */
#define OBJECT_NAME_MAX 1024 /* of both */

struct object {
    char top[OBJECT_TOP_MAX + 1];   /* bucket, container: no '/' */
    char name[OBJECT_NAME_MAX + 1]; /* key, object */
};

/* WHAT_TOP and WHAT_NAME are the words for the two parts. Errors name them and are the operator's
 * fault; SHOWN is the address for messages. */
int object_parse(const char *address, const char *shown, const char *what_top,
                 const char *what_name, struct object *ret, struct err *e);

/* Appends TEXT with each byte but the unreserved ones (RFC 3986, 2.3) and '/' as %XX. */
void object_encode(struct str *out, const char *text);

/* An address in the settings: http:// or https://, a host, maybe a port and a path; neither user,
 * query nor fragment. *RET_BASE is malloced, without '/' at its end; RET_HOST (its host, and its
 * port when it names one) may be NULL. WHAT is the word for it. The operator's fault. */
#define ENDPOINT_HOST_MAX 256
int endpoint_parse(const char *what, const char *url, char **ret_base,
                   char ret_host[ENDPOINT_HOST_MAX], struct err *e);

/* Whether TEXT may be the value of a header field: no control characters. */
bool field_is_plain(const char *text);

#endif
