/* gunzip.h - the stage that unpacks gzip (RFC 1952): checks each member's header, CRC and length.
 * Several members are one stream; zeros may follow the last (tape padding), nothing else may. What
 * comes out is never looked at for another gzip. All its errors are the app's fault. */
#ifndef SLUG_GUNZIP_H
#define SLUG_GUNZIP_H

#include "slug/inflate.h"
#include "slug/stream.h"

#include <stdbool.h>

struct gunzip {
    struct stream s;
    struct stream *up;
    const struct inflate_ops *ops;
    void *inflater;
    uint8_t *buf; /* INFLATE_PUT_BACK_MAX bytes, then what was read */
    const uint8_t *in;
    size_t in_len;
    bool up_ended;
    int state;
    uint32_t crc;  /* of the member's bytes so far */
    uint32_t size; /* their count modulo 2^32 */
    uint64_t n_members;
    uint64_t in_total;
    uint64_t out_total;
    uint64_t out_max;   /* bytes; over it: an error */
    uint64_t ratio_max; /* out_total : in_total, from GUNZIP_RATIO_FROM bytes on */
};

#define GUNZIP_RATIO_FROM (64ull << 20)

/* UP is borrowed. OPS NULL: the best. No limits are set: see out_max and ratio_max. */
int gunzip_init(struct gunzip *g, struct stream *up, const struct inflate_ops *ops, struct err *e);
void gunzip_done(struct gunzip *g);

#endif
