/* head.h - what the fetch believes of an answer's header fields, which a stranger wrote. Pure. */
#ifndef SLUG_FETCH_HEAD_H
#define SLUG_FETCH_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_TAG_MAX 256

/* "bytes 0-99/200" (RFC 9110, 14.4); a star for the total makes *RET_TOTAL -1. False: not one, or
 * not one that can be. */
bool head_content_range(const char *text, uint64_t *ret_from, uint64_t *ret_to, int64_t *ret_total);

/* A strong entity tag with its quotes, of printable characters, copied into OUT; one of letters,
 * digits and '-' that came without quotes gets them. False: weak, too long, or none; OUT is ""
 * then. */
bool head_etag(const char *text, char out[HEAD_TAG_MAX]);

/* An HTTP date, as it is to be sent back, copied into OUT; the same otherwise. */
bool head_date(const char *text, char out[HEAD_TAG_MAX]);

/* Whether Accept-Ranges (NULL: not there) says that there are none (RFC 9110, 14.3). A server need
 * not say that it takes them: Swift's S3 interface never does. */
bool head_no_ranges(const char *accept_ranges);

/* Whether a body of this Content-Type (NULL: none) that begins so is a page for people. */
bool head_is_page(const char *content_type, const char *body, size_t len);

#endif
