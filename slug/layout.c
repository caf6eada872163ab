#include "slug/layout.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "slug/lines.h"

#include <errno.h>
#include <stdlib.h>

bool slug_layout_app(const struct slug_counts *counts)
{
    return counts->app_dir && !counts->others;
}

void slug_text_done(struct slug_text *t)
{
    free(t->data);
    *t = (struct slug_text){0};
}

int slug_text_read(int dirfd, const char *name, struct slug_text *ret, struct err *e)
{
    struct slug_text t = {.state = SLUG_TEXT_HERE};
    struct err why = ERR_INIT;
    int r = file_read(dirfd, name, PROCFILE_MAX_BYTES, &t.data, &t.len, &why);

    if (r == -ENOENT)
        t.state = SLUG_TEXT_ABSENT;
    else if (r == -EINVAL || r == -ELOOP || r == -ENXIO)
        t.state = SLUG_TEXT_NOT_FILE;
    else if (r == -EFBIG)
        t.state = SLUG_TEXT_TOO_LARGE;
    else if (r < 0) {
        *e = why;
        return r;
    }
    *ret = t;
    return 0;
}

static int refuse(struct err *e, const char *why)
{
    err_say(e, EINVAL, "%s", why);
    return err_blame(e, FAULT_APP);
}

static int add_release(const struct slug_text *release, struct procfile *p, struct err *e)
{
    int r = 0;

    if (release->state == SLUG_TEXT_HERE)
        return procfile_add_release(p, ".release", release->data, release->len, e);
    if (release->state == SLUG_TEXT_NOT_FILE)
        r = warnings_add(&p->warnings, &p->n_warnings, ".release: not a regular file: skipped");
    else if (release->state == SLUG_TEXT_TOO_LARGE)
        r = warnings_add(&p->warnings, &p->n_warnings,
                         ".release: over the limit of %u bytes: skipped", PROCFILE_MAX_BYTES);
    return r < 0 ? err_set(e, ENOMEM, "read .release") : 0;
}

int slug_types(const struct slug_text *procfile, const struct slug_text *release,
               const struct slug_counts *counts, struct procfile *ret, struct err *e)
{
    scoped(procfile_done) struct procfile p = {0};
    int r = 0;

    if (procfile->state == SLUG_TEXT_NOT_FILE)
        return refuse(e, "Procfile: not a regular file");
    if (procfile->state == SLUG_TEXT_TOO_LARGE) {
        err_say(e, EINVAL, "Procfile: over the limit of %u bytes", PROCFILE_MAX_BYTES);
        return err_blame(e, FAULT_APP);
    }
    if (procfile->state == SLUG_TEXT_HERE)
        r = procfile_parse(&p, "Procfile", procfile->data, procfile->len, e);
    if (r == 0)
        r = add_release(release, &p, e);
    if (r == 0)
        r = procfile_check(&p, "Procfile", e);
    if (r == -EINVAL && p.n_types == 0 && procfile->state == SLUG_TEXT_ABSENT) {
        if (counts && counts->app_dir && counts->others)
            return refuse(e, "no Procfile at the top of the archive, and more than app/ there");
        return refuse(e, "no Procfile, and no process type in .release");
    }
    if (r < 0)
        return r;
    *ret = p;
    p = (struct procfile){0};
    return 0;
}
