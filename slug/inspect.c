#include "slug/inspect.h"

#include "base/scoped.h"
#include "slug/gunzip.h"
#include "slug/hash.h"
#include "slug/layout.h"
#include "slug/shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The files that say something about process types, in either layout. */
enum { TEXT_PROCFILE, TEXT_RELEASE, TEXT_APP_PROCFILE, TEXT_APP_RELEASE, N_TEXTS };

static const char *const text_paths[N_TEXTS] = {
    "Procfile",
    ".release",
    "app/Procfile",
    "app/.release",
};

struct inspection {
    struct slug_sink sink;
    struct shadow *shadow;
    struct slug_text texts[N_TEXTS];
    bool is_hardlink[N_TEXTS];
    struct slug_text *current; /* what data goes to; NULL: nowhere */
};

void slug_report_done(struct slug_report *r)
{
    procfile_done(&r->types);
}

/* An entry that is one of the texts. */
static int take_text(struct inspection *in, int i, const struct slug_entry *entry, struct err *e)
{
    struct slug_text *t = &in->texts[i];

    slug_text_done(t);
    in->is_hardlink[i] = entry->kind == SLUG_HARDLINK;
    t->state = entry->kind == SLUG_FILE ? SLUG_TEXT_HERE : SLUG_TEXT_NOT_FILE;
    if (entry->kind != SLUG_FILE)
        return 0;
    if (entry->size > PROCFILE_MAX_BYTES) {
        t->state = SLUG_TEXT_TOO_LARGE;
        return 0;
    }
    t->data = calloc(1, entry->size + 1); /* holes are zeros */
    if (!t->data)
        return err_set(e, ENOMEM, "read %s", entry->path);
    t->len = entry->size;
    in->current = t;
    return 0;
}

static int on_entry(struct slug_sink *sink, const struct slug_entry *entry, struct err *e)
{
    struct inspection *in = (struct inspection *)sink;
    int r = shadow_put(in->shadow, entry, e);

    in->current = NULL;
    for (int i = 0; r == 0 && i < N_TEXTS; i++)
        if (!strcmp(entry->path, text_paths[i]))
            r = take_text(in, i, entry, e);
    return r;
}

static int on_data(struct slug_sink *sink, const void *buf, size_t len, uint64_t offset,
                   struct err *e)
{
    struct inspection *in = (struct inspection *)sink;

    (void)e;
    if (in->current) /* within its size: archive.c has checked */
        memcpy(in->current->data + offset, buf, len);
    return 0;
}

static int on_file_end(struct slug_sink *sink, struct err *e)
{
    (void)sink;
    (void)e;
    return 0;
}

static void inspection_done(struct inspection *in)
{
    shadow_freep(&in->shadow);
    for (int i = 0; i < N_TEXTS; i++)
        slug_text_done(&in->texts[i]);
}

static int read_types(struct inspection *in, struct slug_report *report, struct err *e)
{
    int first = report->app_layout ? TEXT_APP_PROCFILE : TEXT_PROCFILE;

    for (int i = first; i < first + 2; i++)
        if (in->is_hardlink[i])
            return err_say(e, ENOTSUP, "%s is a hard link: only a fetch can read it",
                           text_paths[i]);
    return slug_types(&in->texts[first], &in->texts[first + 1], &report->counts, &report->types, e);
}

static int walk(struct inspection *in, struct hash_stream *hash, const struct slug_limits *limits,
                struct slug_report *report, struct err *e)
{
    scoped(gunzip_done) struct gunzip gunzip = {0};
    int r = gunzip_init(&gunzip, &hash->s, NULL, e);

    if (r < 0)
        return r;
    gunzip.out_max = slug_limits_stream(limits);
    gunzip.ratio_max = limits->ratio;
    r = archive_walk(&gunzip.s, limits, &in->sink, &report->counts, e);
    if (r == 0)
        r = hash_stream_digest(hash, &report->digest, e);
    if (r < 0)
        return r;
    report->compressed = hash->bytes;
    report->app_layout = slug_layout_app(&report->counts);
    return read_types(in, report, e);
}

int slug_inspect(int fd, const struct slug_limits *limits, struct slug_report *ret, struct err *e)
{
    scoped(hash_stream_done) struct hash_stream hash = {0};
    scoped(inspection_done) struct inspection in = {
        .sink = {.entry = on_entry, .data = on_data, .file_end = on_file_end},
        .shadow = shadow_new(),
    };
    struct slug_report report = {0};
    struct slug_limits defaults;
    struct stream_fd source;

    slug_limits_default(&defaults);
    limits = limits ? limits : &defaults;
    if (!in.shadow)
        return err_set(e, ENOMEM, "inspect the slug");
    stream_fd_init(&source, fd);
    int r = hash_stream_init(&hash, &source.s, limits->compressed, e);
    if (r == 0)
        r = walk(&in, &hash, limits, &report, e);
    if (r < 0)
        return r;
    *ret = report;
    return 0;
}
