/* s3_url.h - where an object of an S3 store is. Pure. */
#ifndef SLUG_FETCH_S3_URL_H
#define SLUG_FETCH_S3_URL_H

#include "slug/fetch/object.h"

#define S3_REGION_DEFAULT "us-east-1"
#define S3_REGION_MAX     63 /* what fits a host's label, and libcurl's CURLOPT_AWS_SIGV4 */

enum s3_style {
    S3_STYLE_AUTO,    /* virtual-host at Amazon, path elsewhere and where a host cannot be made */
    S3_STYLE_PATH,    /* https://ENDPOINT/BUCKET/KEY */
    S3_STYLE_VIRTUAL, /* https://BUCKET.ENDPOINT/KEY */
};

struct s3_place {
    const char *endpoint; /* NULL: Amazon's of the region */
    const char *region;
    enum s3_style style;
};

/* Appends the URL. Bucket, region or endpoint that cannot be: the operator's fault. */
int s3_url(const struct s3_place *p, const struct object *o, struct str *out, struct err *e);

#endif
