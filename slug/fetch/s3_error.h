/* s3_error.h - why an S3 store refused, from the XML of its answer ("REST error responses" in
 * Amazon's API reference): a bounded scanner for that one shape, not an XML parser. Pure. */
#ifndef SLUG_FETCH_S3_ERROR_H
#define SLUG_FETCH_S3_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* Elements of <Error>; "" when absent. They are a stranger's, but code and region are of letters,
 * digits and "._-". */
struct s3_error {
    char code[64];
    char region[64];
    char message[256]; /* cut to that */
    char endpoint[256];
};

/* BODY may be cut off behind what is looked for. False, and *ret untouched: not such a document, or
 * one without a code. */
bool s3_error_parse(const char *body, size_t len, struct s3_error *ret);

#endif
