/* scratch_impl.h - what the files of the scratches share; private to isolate/. */
#ifndef ISOLATE_SCRATCH_IMPL_H
#define ISOLATE_SCRATCH_IMPL_H

#include "isolate/scratch.h"

#include <linux/types.h>

/* --- scratch_image.c ------------------------------------------------------------------------- */

/* A filesystem that mkfs.ext4 made, without the blocks that are zero. */
struct scratch_template {
    struct scratch_quota quota;
    uint64_t size;  /* of the whole file; more than quota.bytes, which is what can be written */
    size_t n_parts; /* in the order of their offsets */
    struct scratch_part {
        uint64_t offset;
        size_t len;
        unsigned char *data;
    } * parts;
};

/* Has one made for each of QUOTAS, by processes of HELPER's that run at once. Blocks, for some 20
 * ms. *ret: N of them, freed with scratch_templates_free(). */
int scratch_templates_make(const struct scratch_quota *quotas, size_t n, uid_t helper,
                           struct scratch_template **ret, struct err *e);
void scratch_templates_free(struct scratch_template *templates, size_t n);

/* A new filesystem, empty, its file below DIRFD, mounted nowhere. */
int scratch_image_mount(int dirfd, const struct scratch_template *t, int *ret_fd, struct err *e);

/* --- scratch_project.c ----------------------------------------------------------------------- */

#define SCRATCH_PROJECT_FIRST 0x0d790000u /* the project ids that are ours */
#define SCRATCH_PROJECT_LAST  0x0d79ffffu

/* Gives the empty directory DIR (not O_PATH) the project ID: all that is made in it inherits it. */
int scratch_project_mark(int dir, uint32_t id, struct err *e);
/* The limits of ID on the filesystem of FD; zeros: none. */
int scratch_project_limit(int fd, uint32_t id, const struct scratch_quota *quota, struct err *e);
/* True when nothing belongs to ID. */
bool scratch_project_empty(int fd, uint32_t id);
/* Clears the limits of ids that nothing belongs to any more. */
void scratch_project_sweep(int fd);
/* 0, or the named error: why the filesystem of DIRFD does not hold dynos to project quotas. */
int scratch_project_works(int dirfd, struct err *e);

#endif
