/* archive.h - the tar of a slug, entry by entry, policed the same way for whoever takes it: the
 * fetch writes it to disk (slug/fetch/writer.h), `dyno slug inspect` only looks (slug/inspect.h).
 *
 * What never reaches a sink: paths that are absolute or hold `..`, names over their limits,
 * devices, FIFOs and sockets, more entries or bytes than the limits allow. What is given up
 * silently: owners, setuid, setgid and sticky bits, extended attributes, ACLs, file flags. */
#ifndef SLUG_ARCHIVE_H
#define SLUG_ARCHIVE_H

#include "slug/fetch.h"
#include "slug/stream.h"

#include <stdbool.h>
#include <sys/stat.h>

struct slug_limits {
    uint64_t compressed; /* bytes */
    uint64_t unpacked;   /* bytes that the files seem to have, holes counted */
    uint64_t entries;
    uint64_t depth; /* components of a path */
    uint64_t name;  /* bytes of one component; FETCH_COMPONENT_MAX at most */
    uint64_t ratio; /* unpacked : compressed */
};

/* Those of fetch.h. */
void slug_limits_default(struct slug_limits *limits);

/* The most bytes the tar stream itself may have: the files and what tar puts around them. */
uint64_t slug_limits_stream(const struct slug_limits *limits);

/* All headers of one entry together. libarchive holds them, and a sparse file's map, in memory. */
#define ARCHIVE_HEADER_MAX (1u << 20)

/* What has to be remembered of all entries: bytes of their names and of symbolic links' targets. */
#define ARCHIVE_TEXTS_MAX (16u << 20)

enum slug_kind {
    SLUG_FILE,
    SLUG_DIR,
    SLUG_SYMLINK,
    SLUG_HARDLINK,
};

struct slug_entry {
    enum slug_kind kind;
    const char *path; /* "a/b": no `.`, no `..`, no empty component; "" is the root, a directory */
    const char *target; /* of a symbolic link as it came; of a hard link like PATH */
    mode_t mode;        /* 0777 at most; the owner can always read, and enter directories */
    struct timespec mtime;
    uint64_t size; /* of a file */
};

/* Who takes the entries. Each returns 0 or -errno with E set, which ends the walk. */
struct slug_sink {
    int (*entry)(struct slug_sink *s, const struct slug_entry *entry, struct err *e);
    /* A part of the file last given; parts come in order, what is between them is a hole. */
    int (*data)(struct slug_sink *s, const void *buf, size_t len, uint64_t offset, struct err *e);
    /* After the last part of a file. */
    int (*file_end)(struct slug_sink *s, struct err *e);
    const char *failed; /* the step of fetch.h when a call has failed; NULL: "archive" */
};

struct slug_counts {
    uint64_t entries;
    uint64_t files;    /* regular ones */
    uint64_t unpacked; /* bytes */
    bool app_dir;      /* there is a top-level directory `app` */
    bool others;       /* there is something beside it */
};

/* Walks the tar in STREAM to its end, and then STREAM to its own. COUNTS is kept up to date for
 * progress. Errors are the app's fault, but for those of STREAM and SINK, which pass unchanged. */
int archive_walk(struct stream *stream, const struct slug_limits *limits, struct slug_sink *sink,
                 struct slug_counts *counts, struct err *e);

/* PATH without `.` and empty components. It must not leave the tree: -EINVAL; -ENAMETOOLONG: over
 * FETCH_NAME_MAX, NAME_MOST bytes of a component, or DEPTH_MAX components. */
int archive_path(const char *path, uint64_t depth_max, uint64_t name_most, char ret[FETCH_NAME_MAX],
                 struct err *e);

/* Directories that only what is in them names. Each sink counts those that it makes, so that all
 * refuse the same archives: one entry can imply hundreds. */
#define ARCHIVE_IMPLIED_MAX       65536u
#define ARCHIVE_IMPLIED_TEXTS_MAX (8u << 20)
struct slug_implied {
    uint64_t dirs, texts;
};
/* Another one, with a name of LEN bytes; or that they are too many. */
int archive_imply(struct slug_implied *i, size_t len, struct err *e);

/* "the archive is over the limit of LIMIT WHAT": -EFBIG, the app's fault. */
int archive_over_limit(struct err *e, const char *what, uint64_t limit);

/* How sinks refuse an entry: "PATH: WHY", PATH escaped, the app's fault. */
int archive_refuse(struct err *e, const char *path, const char *why);
#define WHY_THROUGH_SYMLINK "goes through a symbolic link"
#define WHY_THROUGH_FILE    "goes through a file"
#define WHY_OVER_DIR        "is a directory already"
#define WHY_LINK_MISSING    "is a hard link to what is not there"
#define WHY_LINK_TO_OTHER   "is a hard link to what is not a file"

#endif
