/* image_sink.h - the sink that puts the content of files into the image file, and tells the role
 * `image` of every entry (slug/image/entries.h), which knows the rules of the tree and writes the
 * metadata.
 *
 * The data of each file begin at a multiple of IMAGE_BLOCK, from the second block on, and are
 * filled up with zeros. What is written is collected, so that a thousand small files are a few
 * large writes. Holes stay holes when they are large. The image file is new: what is not written
 * reads as zeros. */
#ifndef SLUG_FETCH_IMAGE_SINK_H
#define SLUG_FETCH_IMAGE_SINK_H

#include "slug/image/entries.h"
#include "slug/layout.h"

#define IMAGE_SINK_BUFFER (512u << 10)

struct image_sink {
    struct slug_sink sink;
    int image;   /* borrowed */
    uint64_t at; /* where the buffer's bytes belong in the image: a multiple of IMAGE_BLOCK */
    size_t used;
    char *buf;
    uint64_t file;    /* where the last file begins */
    uint64_t end;     /* where the next one begins */
    const char *path; /* for messages: the last file's, the walk's until it ends */
    uint64_t usec;
    struct entries_out out;
};

/* IMAGE: to write to and read; ENTRIES: the socket to the role `image`. Both borrowed. */
int image_sink_new(int image, int entries, struct image_sink **ret, struct err *e);
void image_sink_freep(struct image_sink **s);

/* After the last entry: writes what waits, and asks the role `image` whether it can make the image,
 * as it can refuse entries too. The app's fault then, or the platform's. */
int image_sink_finish(struct image_sink *s, struct entries_reply *ret, struct err *e);

/* The walk has failed as E says. When the role `image` had refused an earlier entry, that is what
 * is wrong: E becomes its error. Ends the stream without an end. */
int image_sink_explain(struct image_sink *s, struct err *e);

/* After image_sink_finish(): reads a file of the app back. */
int image_sink_text(struct image_sink *s, const struct entries_text *where, struct slug_text *ret,
                    struct err *e);

#endif
