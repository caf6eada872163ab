/* hash.h - the stage that counts and hashes the bytes of the compressed slug as they pass. */
#ifndef SLUG_HASH_H
#define SLUG_HASH_H

#include "base/name.h"
#include "slug/stream.h"

struct hash_stream {
    struct stream s;
    struct stream *up;
    void *ctx; /* EVP_MD_CTX */
    uint64_t bytes;
    uint64_t max;
    /* Called after each read; may be NULL. An error ends the stream. */
    int (*on_bytes)(void *userdata, uint64_t bytes, struct err *e);
    void *userdata;
};

/* UP is borrowed. More than MAX bytes are an error, the app's fault. */
int hash_stream_init(struct hash_stream *h, struct stream *up, uint64_t max, struct err *e);
void hash_stream_done(struct hash_stream *h);

/* The digest of all bytes that passed; once, after the end. */
int hash_stream_digest(struct hash_stream *h, struct digest *ret, struct err *e);

#endif
