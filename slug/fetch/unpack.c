#include "slug/fetch/unpack.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "slug/fetch/image_sink.h"
#include "slug/fetch/unpack_ahead.h"
#include "slug/fetch/unpack_pipe.h"
#include "slug/fetch/writer.h"
#include "slug/gunzip.h"
#include "slug/layout.h"

#include <errno.h>

/* The stages of one run. PIPE and GUNZIP belong to the thread of AHEAD while it runs. */
struct unpack {
    const struct unpack_request *rq;
    const struct unpack_watch *watch;
    struct unpack_outcome *outcome;
    struct unpack_pipe pipe;
    struct gunzip gunzip;
    struct ahead *ahead;
    struct slug_sink *to;     /* of either of these: */
    struct image_sink *image; /* NULL: the other */
    struct writer writer;
    struct slug_counts counts;
};

/* The files that say something about process types. */
struct texts {
    struct slug_text procfile, release;
};

void unpack_outcome_done(struct unpack_outcome *o)
{
    procfile_done(&o->types);
}

static void texts_done(struct texts *t)
{
    slug_text_done(&t->procfile);
    slug_text_done(&t->release);
}

/* Ends the thread, wherever it is. */
static void stop_reading(struct unpack *u)
{
    if (u->ahead)
        unpack_pipe_stop(&u->pipe);
    ahead_freep(&u->ahead);
}

static void unpack_done(struct unpack *u)
{
    stop_reading(u);
    image_sink_freep(&u->image);
    writer_done(&u->writer);
    gunzip_done(&u->gunzip);
    unpack_pipe_done(&u->pipe);
}

static int tell_progress(void *userdata, struct err *e)
{
    struct unpack *u = userdata;

    return u->watch->progress ? u->watch->progress(u->watch->userdata, &u->counts, e) : 0;
}

static int open_sink(struct unpack *u, struct err *e)
{
    int r;

    u->outcome->step = "disk";
    if (u->rq->image < 0) {
        r = writer_init(&u->writer, u->rq->dir, e);
        u->to = &u->writer.sink;
        return r;
    }
    r = image_sink_new(u->rq->image, u->rq->entries, &u->image, e);
    if (r == 0)
        u->to = &u->image->sink;
    return r;
}

static int open_stages(struct unpack *u, struct err *e)
{
    const struct slug_limits *limits = &u->rq->limits;
    int r = open_sink(u, e);

    if (r < 0)
        return r;
    u->outcome->step = "unpack";
    r = unpack_pipe_init(&u->pipe, u->rq->in, limits->compressed, e);
    if (r == 0)
        r = gunzip_init(&u->gunzip, &u->pipe.s, NULL, e);
    if (r < 0)
        return r;
    u->gunzip.out_max = slug_limits_stream(limits);
    u->gunzip.ratio_max = limits->ratio;
    return ahead_new(&u->gunzip.s, tell_progress, u, &u->ahead, e);
}

/* The step that the walk failed in. The thread has ended; it may have met a flaw further on, which
 * is not what failed. */
static const char *failed_step(const struct unpack *u, bool stream_failed)
{
    if (!stream_failed)
        return u->to->failed ? u->to->failed : "archive";
    if (u->pipe.s.failed)
        return u->pipe.s.failed;
    return u->gunzip.s.failed ? u->gunzip.s.failed : "unpack";
}

static int walk(struct unpack *u, struct err *e)
{
    struct unpack_outcome *o = u->outcome;
    int r = archive_walk(ahead_stream(u->ahead), &u->rq->limits, u->to, &u->counts, e);
    bool stream_failed = ahead_stream(u->ahead)->failed != NULL;

    stop_reading(u);
    o->counts = u->counts;
    o->compressed = u->pipe.bytes;
    o->read_ms = u->pipe.s.usec / USEC_PER_MSEC;
    o->inflate_ms = (u->gunzip.s.usec - u->pipe.s.usec) / USEC_PER_MSEC;
    gunzip_done(&u->gunzip);
    if (r == 0)
        return 0;
    o->step = failed_step(u, stream_failed);
    if (u->image && e->fault == FAULT_APP && image_sink_explain(u->image, e) < 0 && u->to->failed)
        o->step = u->to->failed;
    return r;
}

/* Into an image: what the role `image` says of the tree, and the texts from the data. T may be half
 * filled after an error. */
static int finish_image(struct unpack *u, struct texts *t, struct err *e)
{
    struct entries_reply reply;
    int r = image_sink_finish(u->image, &reply, e);

    if (r == 0)
        r = image_sink_text(u->image, &reply.procfile, &t->procfile, e);
    return r < 0 ? r : image_sink_text(u->image, &reply.release, &t->release, e);
}

static int finish_dir(struct unpack *u, struct texts *t, struct err *e)
{
    scoped_fd app = -1;
    int r = writer_finish(&u->writer, &u->counts, &app, e);

    if (r < 0)
        return r;
    u->outcome->step = "procfile";
    r = slug_text_read(app, "Procfile", &t->procfile, e);
    return r < 0 ? r : slug_text_read(app, ".release", &t->release, e);
}

static int finish(struct unpack *u, struct err *e)
{
    scoped(texts_done) struct texts t = {0};
    struct unpack_outcome *o = u->outcome;
    int r;

    o->step = "disk";
    if (u->image) {
        r = finish_image(u, &t, e);
        if (r < 0 && u->to->failed)
            o->step = u->to->failed;
    } else {
        r = finish_dir(u, &t, e);
    }
    o->write_ms = (u->image ? u->image->usec : u->writer.usec) / USEC_PER_MSEC;
    image_sink_freep(&u->image); /* its memory is better used for the texts */
    if (r < 0)
        return r;
    o->step = "procfile";
    return slug_types(&t.procfile, &t.release, &o->counts, &o->types, e);
}

int unpack_run(const struct unpack_request *rq, const struct unpack_watch *watch,
               struct unpack_outcome *ret, struct err *e)
{
    static const struct unpack_watch nobody = {0};
    struct unpack u = {
        .rq = rq,
        .watch = watch ? watch : &nobody,
        .outcome = ret,
        .pipe = {.stop = -1},
        .writer = {.stage = -1, .parent = -1, .file = -1},
    };
    uint64_t start = clock_boot();

    *ret = (struct unpack_outcome){.step = "disk"};
    int r = open_stages(&u, e);
    if (r == 0)
        r = walk(&u, e);
    if (r == 0)
        r = finish(&u, e);
    unpack_done(&u);
    ret->ms = (clock_boot() - start) / USEC_PER_MSEC;
    return r;
}
