#include "slug/fetch/outlet.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PUNCH      (4ull << 20)  /* given back to the disk in pieces of this size, */
#define PUNCH_LATE (64ull << 20) /* and so much later at most */

static int hash_begin(struct outlet *o, struct err *e)
{
    if (!o->ctx)
        o->ctx = EVP_MD_CTX_new();
    if (!o->ctx || EVP_DigestInit_ex(o->ctx, EVP_sha256(), NULL) != 1)
        return err_say(e, ENOMEM, "begin a digest");
    return 0;
}

int outlet_init(struct outlet *o, int spool, int pipe, struct err *e)
{
    *o = (struct outlet){.spool = spool, .pipe = pipe};
    int r = hash_begin(o, e);
    if (r == 0 && (!(o->buf = malloc(OUTLET_READ)) || !(o->held = malloc(OUTLET_HOLD))))
        r = err_set(e, ENOMEM, "prepare the download");
    if (r == 0 && pipe >= 0 && (r = fd_set_nonblock(pipe, true)) < 0)
        r = err_set(e, -r, "use the pipe");
    if (r < 0) {
        outlet_done(o);
        return r;
    }
    if (pipe >= 0)
        (void)fcntl(pipe, F_SETPIPE_SZ, OUTLET_PIPE); /* only for speed; there may be a quota */
    return 0;
}

void outlet_done(struct outlet *o)
{
    EVP_MD_CTX_free(o->ctx);
    free(o->buf);
    free(o->held);
    o->ctx = NULL;
    o->buf = o->held = NULL;
}

int outlet_reset(struct outlet *o, struct err *e)
{
    if (!o->keeps && ftruncate(o->spool, 0) < 0)
        return err_set(e, errno, "empty the spool");
    o->at = o->punched = 0;
    o->held_len = 0;
    o->spooled = false;
    return hash_begin(o, e);
}

static int hash(struct outlet *o, const void *data, size_t len, struct err *e)
{
    uint64_t start = clock_boot();

    if (EVP_DigestUpdate(o->ctx, data, len) != 1)
        return err_say(e, EIO, "hash the slug");
    o->hash_usec += clock_boot() - start;
    o->at += len;
    return 0;
}

static void unblock(struct outlet *o)
{
    if (o->blocked)
        o->wait_usec += clock_boot() - o->blocked_since;
    o->blocked = false;
}

static void block(struct outlet *o)
{
    if (!o->blocked)
        o->blocked_since = clock_boot();
    o->blocked = true;
}

/* Hashes what the reader took of DATA: its length into *RET, less than LEN when the pipe is full.
 */
static int give(struct outlet *o, const char *data, size_t len, size_t *ret, struct err *e)
{
    ssize_t n = o->gone || o->pipe < 0 ? (ssize_t)len : write(o->pipe, data, len);

    if (n < 0 && errno == EPIPE) {
        o->gone = true;
        n = (ssize_t)len;
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return err_set(e, errno, "write to the unpacker");
    if (n < 0)
        n = 0;
    if ((size_t)n < len)
        block(o);
    else
        unblock(o);
    *ret = (size_t)n;
    return n > 0 ? hash(o, data, (size_t)n, e) : 0;
}

static int write_held(struct outlet *o, struct err *e)
{
    const char *data = o->held;

    while (o->held_len > 0) {
        ssize_t n = pwrite(o->spool, data, o->held_len, (off_t)o->held_at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, n < 0 ? errno : EIO, "write to the spool");
        data += n;
        o->held_at += (uint64_t)n;
        o->held_len -= (size_t)n;
        o->spooled = true;
    }
    return 0;
}

/* Collects what follows one another; a piece that does not has the others written. */
static int keep(struct outlet *o, uint64_t at, const char *data, size_t len, struct err *e)
{
    int r = 0;

    if (o->held_len > 0 && len > 0 && at != o->held_at + o->held_len)
        r = write_held(o, e);
    while (r == 0 && len > 0) {
        size_t room = OUTLET_HOLD - o->held_len, n = len < room ? len : room;

        if (o->held_len == 0)
            o->held_at = at;
        memcpy(o->held + o->held_len, data, n);
        o->held_len += n;
        data += n;
        at += n;
        len -= n;
        if (o->held_len == OUTLET_HOLD)
            r = write_held(o, e);
    }
    return r;
}

/* What is held is the next to be given on: it need not go through the spool. */
static int give_held(struct outlet *o, struct err *e)
{
    size_t given = 0;
    int r = give(o, o->held, o->held_len, &given, e);

    o->held_at += given;
    o->held_len -= given;
    memmove(o->held, o->held + given, o->held_len);
    return r;
}

/* The next bytes of the spool, before END and what is held. */
static int give_spooled(struct outlet *o, uint64_t end, struct err *e)
{
    uint64_t left = (o->held_len > 0 && o->held_at < end ? o->held_at : end) - o->at;
    size_t given;
    ssize_t n;

    do
        n = pread(o->spool, o->buf, left < OUTLET_READ ? left : OUTLET_READ, (off_t)o->at);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? err_set(e, errno, "read the spool")
                     : err_say(e, EIO, "the file became shorter while it was read");
    return give(o, o->buf, (size_t)n, &given, e);
}

int outlet_put(struct outlet *o, uint64_t at, const void *data, size_t len, struct err *e)
{
    size_t given = 0;

    if (at == o->at && !o->blocked) {
        int r = give(o, data, len, &given, e);

        if (r < 0)
            return r;
    }
    return keep(o, at + given, (const char *)data + given, len - given, e);
}

/* What has been given on need never reach the disk. Takes its time: best while the pipe is full. */
static void punch(struct outlet *o)
{
    uint64_t end = o->at & ~(PUNCH - 1);

    if (!o->spooled || o->keeps || end <= o->punched)
        return;
    /* Where the file system cannot, the space is free when the fetch ends. */
    (void)fallocate(o->spool, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)o->punched,
                    (off_t)(end - o->punched));
    o->punched = end;
}

int outlet_pump(struct outlet *o, uint64_t end, struct err *e)
{
    uint64_t turn = o->at + OUTLET_TURN;
    int r = 0;

    while (r == 0 && o->at < end && o->at < turn && !o->blocked)
        r = o->held_len > 0 && o->at == o->held_at ? give_held(o, e) : give_spooled(o, end, e);
    if (r == 0 && (o->blocked || o->at - o->punched >= PUNCH_LATE))
        punch(o);
    return r;
}

void outlet_look(struct outlet *o)
{
    struct pollfd p = {.fd = o->pipe, .events = POLLOUT};

    if (o->blocked && poll(&p, 1, 0) > 0) /* a reader that is gone counts: writing tells */
        unblock(o);
}

int outlet_reserve(struct outlet *o, uint64_t total, struct err *e)
{
    if (fallocate(o->spool, FALLOC_FL_KEEP_SIZE, 0, (off_t)total) == 0 || errno != ENOSPC)
        return 0; /* where it cannot be asked, writing will tell */
    return err_set(e, ENOSPC, "reserve %llu bytes for the spool", (unsigned long long)total);
}

int outlet_digest(struct outlet *o, struct digest *ret, struct err *e)
{
    unsigned char sum[EVP_MAX_MD_SIZE];

    if (EVP_DigestFinal_ex(o->ctx, sum, NULL) != 1)
        return err_say(e, EIO, "hash the slug");
    digest_from_bytes(sum, ret);
    return 0;
}
