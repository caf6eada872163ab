/* scratch_impl.h - what the files of the scratches share; private to isolate/. */
#ifndef ISOLATE_SCRATCH_IMPL_H
#define ISOLATE_SCRATCH_IMPL_H

#include "isolate/maker.h"
#include "isolate/scratch.h"

#include <sys/queue.h>

#define SCRATCH_NAME_MAX    192
#define SCRATCH_RETIRED_MAX 4096 /* project ids that wait for their trees to be removed */

/* Of a dyno, or (SPARE) made ahead. */
struct scratch_entry {
    TAILQ_ENTRY(scratch_entry) link;
    char name[SCRATCH_NAME_MAX];
    struct scratch_quota quota;
    uint64_t used;    /* of quota.bytes, on the disk */
    uint32_t project; /* 0: none */
    int fd;           /* of a spare */
};
TAILQ_HEAD(scratch_entries, scratch_entry);

struct scratches {
    int dirfd;
    char path[256];
    bool rootless;
    enum scratch_way way;
    uint64_t keep_free;
    double overcommit;
    struct scratch_template *templates;
    size_t n_templates;
    struct scratch_entries dynos, spares;
    struct scratch_entries asked; /* of the maker, in this order */
    struct maker maker;
    uint32_t next_project;
    uint32_t retired[SCRATCH_RETIRED_MAX];
    size_t n_retired;
    char text[300];
};

/* scratch.c: of a disk of so many bytes, those that are never promised. */
uint64_t scratch_kept_free(const struct scratches *s, uint64_t disk);

/* The three directories of a scratch. */
int scratch_make_parts(int dir, struct err *e);

/* --- scratch_maker.c ------------------------------------------------------------------------- */

/* Asks it for an image; starts it when there is none. */
int scratch_maker_ask(struct scratches *s, const struct scratch_quota *quota, struct err *e);
/* 1: an image, which is the caller's. 0: not yet. Else why the oldest that was asked for is not to
 * come; -EPIPE: nor any other. */
int scratch_maker_hear(struct scratches *s, int *ret_fd, struct err *e);

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
