#include "slug/hash.h"

#include <errno.h>
#include <openssl/evp.h>

static ssize_t hash_read(struct stream *base, void *buf, size_t cap, struct err *e)
{
    struct hash_stream *h = (struct hash_stream *)base;
    ssize_t n = stream_read(h->up, buf, cap, e);

    if (n < 0)
        return n;
    h->bytes += (uint64_t)n;
    if (h->bytes > h->max) {
        err_say(e, EFBIG, "the slug is over the limit of %llu compressed bytes (compressed_max)",
                (unsigned long long)h->max);
        return err_blame(e, FAULT_APP);
    }
    if (n > 0 && EVP_DigestUpdate(h->ctx, buf, (size_t)n) != 1)
        return err_say(e, EIO, "hash the slug");
    int r = h->on_bytes ? h->on_bytes(h->userdata, h->bytes, e) : 0;
    return r < 0 ? r : n;
}

int hash_stream_init(struct hash_stream *h, struct stream *up, uint64_t max, struct err *e)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        return err_set(e, ENOMEM, "prepare SHA-256");
    }
    *h = (struct hash_stream){
        .s = {.read = hash_read, .step = "download"}, .up = up, .ctx = ctx, .max = max};
    return 0;
}

void hash_stream_done(struct hash_stream *h)
{
    EVP_MD_CTX_free(h->ctx);
    h->ctx = NULL;
}

int hash_stream_digest(struct hash_stream *h, struct digest *ret, struct err *e)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned len;

    if (EVP_DigestFinal_ex(h->ctx, md, &len) != 1 || len != 32)
        return err_say(e, EIO, "finish SHA-256");
    digest_from_bytes(md, ret);
    return 0;
}
