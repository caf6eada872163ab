/* layout.h - where the app lies in an archive, and what process types it names.
 *
 * A slug has everything under `./app/`, or the app at its root. The archive itself decides, once it
 * is whole: when the directory `app` is all there is at the top, that is the app; otherwise the top
 * is. So an app at the root may have a folder `app`, and its Procfile may come last; and an archive
 * of nothing but `app/` is never taken for an app that has only a folder: it would have no
 * Procfile. */
#ifndef SLUG_LAYOUT_H
#define SLUG_LAYOUT_H

#include "slug/archive.h"
#include "slug/procfile.h"

/* Whether the app is the directory `app`, rather than the top. */
bool slug_layout_app(const struct slug_counts *counts);

/* A file of the app that says something about process types. */
struct slug_text {
    enum {
        SLUG_TEXT_ABSENT,
        SLUG_TEXT_HERE,
        SLUG_TEXT_NOT_FILE, /* a link, a directory: never opened */
        SLUG_TEXT_TOO_LARGE,
    } state;
    char *data;
    size_t len;
};
void slug_text_done(struct slug_text *t);

/* Reads NAME in the directory DIRFD; a state for whatever may be there. */
int slug_text_read(int dirfd, const char *name, struct slug_text *ret, struct err *e);

/* The process types of an app with these files. None, or a Procfile that is no file: the app's
 * fault. A `.release` that is no file is a warning. */
int slug_types(const struct slug_text *procfile, const struct slug_text *release,
               const struct slug_counts *counts, struct procfile *ret, struct err *e);

#endif
