#include "slug/image/role.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK   (256u << 10)
#define WRITE_WINDOW (8u << 20)

static void md_freep(EVP_MD_CTX **ctx)
{
    EVP_MD_CTX_free(*ctx);
}

/* Has what was read since FROM written, and waits: an image that is written all at once keeps the
 * disk, and with it the journal of the file system that everybody else needs, busy for long. Only
 * a hint: fdatasync(2) is what counts. */
static void write_window(int image, uint64_t from, uint64_t to)
{
    (void)sync_file_range(image, (off_t)from, (off_t)(to - from),
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                              SYNC_FILE_RANGE_WAIT_AFTER);
}

/* Adds all bytes of IMAGE. */
static int hash_all(int image, EVP_MD_CTX *ctx, uint64_t *ret_bytes, struct err *e)
{
    scoped_free void *chunk = malloc(READ_CHUNK);
    uint64_t at = 0, written = 0;
    ssize_t n;

    if (!chunk)
        return err_set(e, ENOMEM, "hash the image");
    while ((n = pread(image, chunk, READ_CHUNK, (off_t)at)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, errno, "read the image");
        if (EVP_DigestUpdate(ctx, chunk, (size_t)n) != 1)
            return err_say(e, EIO, "hash the image");
        at += (uint64_t)n;
        if (at - written >= WRITE_WINDOW) {
            write_window(image, written, at);
            written = at;
        }
    }
    *ret_bytes = at;
    return 0;
}

int seal_run(int image, struct seal_result *ret, struct err *e)
{
    scoped(md_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint64_t start = clock_boot(), bytes;
    unsigned char md[EVP_MAX_MD_SIZE];
    struct stat st;

    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
        return err_set(e, ENOMEM, "prepare SHA-256");
    if (fstat(image, &st) < 0)
        return err_set(e, errno, "look at the image");
    if (!S_ISREG(st.st_mode))
        return err_say(e, EBADMSG, "the image is no file");
    int r = hash_all(image, ctx, &bytes, e);
    if (r < 0)
        return r;
    if (bytes != (uint64_t)st.st_size)
        return err_say(e, EIO, "the image changed while it was read");
    if (EVP_DigestFinal_ex(ctx, md, NULL) != 1)
        return err_say(e, EIO, "finish SHA-256");
    if (fdatasync(image) < 0)
        return err_set(e, errno, "sync the image");
    digest_from_bytes(md, &ret->digest);
    ret->bytes = bytes;
    ret->ms = (clock_boot() - start) / USEC_PER_MSEC;
    return 0;
}
