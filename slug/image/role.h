/* role.h - the roles `image` and `seal` of dynod-fetch, from their first frame to their last.
 *
 * `image` writes the metadata of a slug's image. The kernel will parse that as root, so it comes
 * from a process that has seen neither the network nor the archive, but a list of validated entries
 * (entries.h). It writes only once `unpack` is gone, which could still write to the file. Frames on
 * the control connection:
 *
 *  dynod -> image, first; descriptors: [0] its end of the entries' socketpair, [1] the image
 *    {"image": {"uid": N, "gid": N, "entries": N, "unpacked": BYTES, "depth": N,
 *               "name": BYTES}}
 *        who owns what is in the image; limits, absent: fetch.h's
 *  dynod -> image, when unpack has exited
 *    {"finish": {"digest": HEX}}                 the slug's; dynod has closed its copies of
 *        the descriptors it gave to unpack: as long as anybody has the entries' other end, it is
 *        refused
 *  image -> dynod
 *    {"ok": {"inodes": N, "bytes": N, "ms": {"entries": N, "metadata": N}}}
 *    {"error": {"text": S, "errno": N, "fault": S, "step": "archive"|"disk"|"image"}}
 *        in place of either; a refusal is told to unpack as well, which ends by it
 *
 * `seal` makes an image durable and says what it is; it changes nothing.
 *
 *  dynod -> seal, descriptors: [0] the image
 *    {"seal": {}}
 *  seal -> dynod
 *    {"ok": {"digest": HEX, "bytes": N, "ms": N}}       the digest is the image's own
 *    {"error": {...}}
 *
 * How long the entries may take is dynod's to bound, by ending unpack.
 *
 * Both take nothing but these descriptors. System calls, beside those of any process that ends and
 * has memory (brk, mmap, mremap, munmap, madvise, futex, exit_group, rt_sig*):
 *    image: read, write, close, fcntl, fstat (newfstatat with AT_EMPTY_PATH), poll, pwrite64,
 *           recvmsg, sendmsg, shutdown, getrandom, clock_gettime
 *    seal:  pread64, close, fcntl, fstat (the same), fdatasync, sync_file_range, poll, recvmsg,
 *           sendmsg, clock_gettime; and OPENSSL_init_crypto() before it is confined, which reads
 *           OpenSSL's configuration */
#ifndef SLUG_IMAGE_ROLE_H
#define SLUG_IMAGE_ROLE_H

#include "base/frame.h"
#include "base/name.h"
#include "slug/image/entries.h"

#define IMAGE_FINISH_MS 60000 /* from the end of the entries to dynod's word */

struct image_job {
    int entries, image; /* owned: image_job_done() */
    uid_t uid;
    gid_t gid;
    struct image_limits limits;
};
void image_job_done(struct image_job *j);

/* The first frame, whose descriptors it takes. */
int image_job_parse(struct frame *f, struct image_job *ret, struct err *e);

struct image_result {
    uint64_t inodes, bytes;
    uint64_t entries_ms, metadata_ms;
    const char *step; /* after a failure */
};

/* Reads the entries, answers, waits on CONTROL for "finish", writes the metadata. *ret is filled in
 * either case. Blocking. */
int image_run(const struct image_job *job, struct frame_conn *control, struct image_result *ret,
              struct err *e);

struct seal_result {
    struct digest digest;
    uint64_t bytes, ms;
};
/* Syncs and hashes the file IMAGE. Blocking. */
int seal_run(int image, struct seal_result *ret, struct err *e);

/* A role after its first frame F was received and the process confined: does the work and reports
 * on CONTROL. 0 when a report of either kind was sent. */
int image_serve(struct frame_conn *control, struct frame *f, struct err *e);
int seal_serve(struct frame_conn *control, struct frame *f, struct err *e);

#endif
