/* scratch.h - what a dyno writes, and how much of it: the upper layer of its /app and its /tmp,
 * with a quota of bytes and one of inodes.
 *
 * Three ways, one of which is chosen when the agent starts (scratches_open()):
 *   SCRATCH_PROJECT  a directory with a project id of its own, where the filesystem counts by such
 *                    ids: ext4 mounted with prjquota, XFS with pquota. quotactl(2)
 *   SCRATCH_IMAGE    an ext4 of its own, in a file that has no name, on a loop device that goes
 * with its mount. The mount is attached nowhere but in the dyno's own namespace, so it all goes
 * with the dyno, whatever has become of the agent. SCRATCH_PLAIN    a directory without a quota:
 * rootless, or where the operator says so.
 *
 * Quotas are promises: what has been promised to dynos, and not been written yet, must be free on
 * the disk, beside what is kept free for the platform's own state. A scratch that would break that
 * is refused. (`overcommit` loosens this: then a full disk shows inside as I/O errors.)
 *
 * Making an image takes some 1.3 ms on an idle machine, and much more on a busy one, where it waits
 * for others; a directory takes 0.1 ms. So some are made ahead, images by a process of their own:
 * they are nobody's until they are taken, and are used once. scratch_take() makes one itself where
 * none is ready; scratches_open() waits for mkfs.ext4. */
#ifndef ISOLATE_SCRATCH_H
#define ISOLATE_SCRATCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum scratch_way { SCRATCH_PLAIN, SCRATCH_PROJECT, SCRATCH_IMAGE };

/* BYTES 0: no quota at all. INODES 0: as many as the way gives for so many bytes. */
struct scratch_quota {
    uint64_t bytes;
    uint64_t inodes;
};

struct scratch_config {
    int dirfd;                          /* where scratches are; borrowed, outlives the scratches */
    const char *path;                   /* of it, for words */
    const char *way;                    /* "auto", "project", "image", "none" */
    bool rootless;                      /* always SCRATCH_PLAIN */
    uid_t helper;                       /* who mkfs.ext4 runs as: nobody else's uid */
    const struct scratch_quota *quotas; /* all that will be asked for; the first must fit */
    size_t n_quotas;
    uint64_t keep_free; /* bytes of the disk that are never promised; at most a twentieth of it */
    double overcommit;  /* at least 1: how many times what is free may be promised */
};

struct scratches;

/* Finds out which way works, by doing it. "auto" is project, else image. Fails, the operator's
 * fault, naming what is missing and the fix, where a quota is wanted and the way that is asked for
 * (for "auto": any) does not work, and when a quota is larger than the disk. */
int scratches_open(const struct scratch_config *config, struct scratches **ret, struct err *e);
/* Those that were made ahead go; dynos keep theirs. */
void scratches_freep(struct scratches **s);
enum scratch_way scratches_way(const struct scratches *s);
/* Words for a log and `dyno doctor`. */
const char *scratches_text(const struct scratches *s);
/* The same without making anything for dynos: one line for `dyno doctor`. DIR: where scratches
 * would be. */
void scratch_probe(const char *dir, bool rootless, enum scratch_way *ret_way, char *text,
                   size_t text_size);

/* A directory with `upper`, `work` and `tmp` in it, for struct plan. */
struct scratch {
    int fd;       /* the caller's; close it when the dyno has it: later it would be the last user of
                   * the mount, and wait for that to be taken apart */
    bool mounted; /* a mount that is attached nowhere: can be given to one dyno, once */
};
#define SCRATCH_INIT                                                                               \
    {                                                                                              \
        -1, false                                                                                  \
    }
void scratch_done(struct scratch *scratch);

/* Scratch NAME (a run's id), empty, for the host ids UID/GID: one that was made ahead, or a new
 * one. Those that are directories are NAME below config.dirfd, and the caller's to remove when the
 * dyno is gone. -ENOSPC: the disk has no room for the promise; -EEXIST. */
int scratch_take(struct scratches *s, const char *name, uid_t uid, gid_t gid,
                 const struct scratch_quota *quota, struct scratch *ret, struct err *e);
/* Sees to it that N are ready for QUOTA, or will be: makes a directory, or asks the process that
 * makes images (which it starts first, where there is none yet) for one. 1: there is one more, call
 * again for the next; 0: there is nothing to do. */
int scratch_ready(struct scratches *s, const struct scratch_quota *quota, unsigned n,
                  struct err *e);
/* Removes one that is ready for QUOTA, if there are more than N. False: there are not. */
bool scratch_ready_fewer(struct scratches *s, const struct scratch_quota *quota, unsigned n);
/* None is ready for QUOTA, but that process was asked for one. */
bool scratch_coming(const struct scratches *s, const struct scratch_quota *quota);
/* The socket on which that process tells of an image, to wait for with POLLIN; -1: there is none.
 * Another one when it was started again: look after each scratch_ready(). */
int scratch_ready_fd(const struct scratches *s);
/* Takes what it says. 1: one more is ready; 0: not yet. An error is about one that will not come;
 * -EPIPE: the process is gone. */
int scratch_ready_hear(struct scratches *s, struct err *e);
/* NAME belongs to a dyno of an earlier agent, and counts as promised. */
int scratch_adopt(struct scratches *s, const char *name, const struct scratch_quota *quota,
                  struct err *e);
/* NAME's dyno is gone. Unknown ones are fine. */
void scratch_forget(struct scratches *s, const char *name);
/* Of NAME's quota, so much is on the disk now (as of scratch_usage()): the rest is a promise. */
void scratch_note(struct scratches *s, const char *name, uint64_t bytes);

/* What a filesystem with a quota holds, and may hold. */
struct scratch_usage {
    uint64_t bytes, bytes_max;
    uint64_t inodes, inodes_max;
};
/* FD: a directory in the scratch (the dyno's /tmp), O_PATH will do. One fstatfs(2). -ENODATA: QUOTA
 * does not hold there (it is 0, or the scratch was made without). */
int scratch_usage(int fd, const struct scratch_quota *quota, struct scratch_usage *ret);
/* That nothing more can be written, or no file be made. */
bool scratch_is_full(const struct scratch_usage *usage);

#endif
