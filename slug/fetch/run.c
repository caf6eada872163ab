#include "slug/fetch/run.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "slug/fetch/http.h"
#include "slug/fetch/writer.h"
#include "slug/gunzip.h"
#include "slug/hash.h"
#include "slug/layout.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The stages of one fetch. */
struct run {
    const struct request *request;
    const struct run_watch *watch;
    struct http *http;     /* either this */
    struct stream_fd file; /* or this */
    struct stream *source; /* is the source */
    int64_t total;         /* bytes of a file, -1: ask HTTP */
    struct hash_stream hash;
    struct gunzip gunzip;
    struct writer writer;
    struct outcome *outcome;
};

void outcome_done(struct outcome *o)
{
    procfile_done(&o->types);
}

static void run_done(struct run *run)
{
    writer_done(&run->writer);
    gunzip_done(&run->gunzip);
    hash_stream_done(&run->hash);
    http_freep(&run->http);
}

static int64_t total_of(const struct run *run)
{
    return run->http ? http_total(run->http) : run->total;
}

/* A length that the server announces is believed when it is too large: no need to load it all. */
static int on_bytes(void *userdata, uint64_t bytes, struct err *e)
{
    struct run *run = userdata;
    uint64_t max = run->request->limits.compressed;
    int64_t total = total_of(run);

    if (total > 0 && (uint64_t)total > max) {
        err_say(e, EFBIG, "the slug of %lld bytes is over the limit of %llu compressed bytes",
                (long long)total, (unsigned long long)max);
        return err_blame(e, FAULT_APP);
    }
    return run->watch->progress(run->watch->userdata, bytes, total, run->outcome->counts.entries,
                                e);
}

static int open_file(struct run *run, struct err *e)
{
    char shown[URL_SHOWN_MAX];
    struct stat st;

    url_shown(shown, run->request->url);
    if (run->request->file < 0)
        return err_say(e, EBADF, "%s: came without its file", shown);
    if (fstat(run->request->file, &st) < 0)
        return err_set(e, errno, "%s", shown);
    if (!S_ISREG(st.st_mode)) {
        err_say(e, EINVAL, "%s: not a regular file", shown);
        return err_blame(e, FAULT_OPERATOR);
    }
    run->total = st.st_size;
    stream_fd_init(&run->file, run->request->file);
    run->source = &run->file.s;
    return 0;
}

static int open_source(struct run *run, struct err *e)
{
    const struct request *rq = run->request;
    struct http_options o = {
        .url = rq->url,
        .ca_file = rq->ca_file,
        .connect_ms = rq->connect_ms,
        .stall_ms = rq->stall_ms,
        .total_ms = rq->total_ms,
        .on_wait = run->watch->wait,
        .userdata = run->watch->userdata,
    };
    int r = url_check(rq->url, rq->allow_http, &o.scheme, e);

    if (r < 0) {
        run->outcome->step = "http";
        return r;
    }
    run->outcome->step = "download";
    if (o.scheme == URL_FILE)
        return open_file(run, e);
    r = http_new(&o, &run->http, e);
    if (r == 0)
        run->source = http_stream(run->http);
    return r;
}

static int open_stages(struct run *run, struct err *e)
{
    const struct slug_limits *limits = &run->request->limits;
    int r = open_source(run, e);

    if (r == 0)
        r = hash_stream_init(&run->hash, run->source, limits->compressed, e);
    if (r < 0)
        return r;
    run->hash.on_bytes = on_bytes;
    run->hash.userdata = run;
    r = gunzip_init(&run->gunzip, &run->hash.s, NULL, e);
    if (r < 0)
        return r;
    run->gunzip.out_max = slug_limits_stream(limits);
    run->gunzip.ratio_max = limits->ratio;
    run->outcome->step = "disk";
    return writer_init(&run->writer, run->request->dir, e);
}

/* The step that the walk failed in: the stage nearest to the source knows best. */
static const char *failed_step(const struct run *run)
{
    const struct stream *stages[] = {run->source, &run->hash.s, &run->gunzip.s};

    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
        if (stages[i]->failed)
            return stages[i]->failed;
    return run->writer.sink.failed ? run->writer.sink.failed : "archive";
}

/* The slug is whole: compares what came with what was asked for. */
static int check_digest(struct run *run, struct err *e)
{
    struct outcome *o = run->outcome;
    const struct request *rq = run->request;
    int r = hash_stream_digest(&run->hash, &o->digest, e);

    if (r < 0 || !rq->has_digest || digest_equal(&o->digest, &rq->digest))
        return r;
    o->step = "digest";
    o->expected = rq->digest;
    o->actual = o->digest;
    err_say(e, EBADMSG,
            "Checksum does not match expected value. Expected: SHA256:%s Actual: SHA256:%s",
            o->expected.hex, o->actual.hex);
    /* Not the app's: nobody built these bytes for it. */
    return err_blame(e, FAULT_PLATFORM);
}

/* The archive cannot be unpacked. When that is because these are not the bytes that were asked for,
 * the digest says it better: reads the rest to know. WHY stays when it does not. */
static int explain_by_digest(struct run *run, const struct err *why, struct err *e)
{
    const char *step = run->outcome->step;
    struct err other = ERR_INIT;

    if (run->request->has_digest && stream_drain(&run->hash.s, &other) == 0 &&
        check_digest(run, &other) < 0 && !strcmp(run->outcome->step, "digest")) {
        *e = other;
        return -e->errnum;
    }
    run->outcome->step = step;
    *e = *why;
    return -e->errnum;
}

static int unpack(struct run *run, struct err *e)
{
    struct outcome *o = run->outcome;
    struct err why = ERR_INIT;
    int r =
        archive_walk(&run->gunzip.s, &run->request->limits, &run->writer.sink, &o->counts, &why);

    o->compressed = run->hash.bytes;
    if (r == 0)
        return check_digest(run, e);
    o->step = failed_step(run);
    if (!run->source->failed && !run->hash.s.failed && why.fault == FAULT_APP)
        return explain_by_digest(run, &why, e);
    *e = why;
    return r;
}

static int read_types(struct run *run, int app, struct err *e)
{
    scoped(slug_text_done) struct slug_text procfile = {0}, release = {0};
    struct outcome *o = run->outcome;
    int r = slug_text_read(app, "Procfile", &procfile, e);

    o->step = "procfile";
    if (r == 0)
        r = slug_text_read(app, ".release", &release, e);
    if (r == 0)
        r = slug_types(&procfile, &release, &o->counts, &o->types, e);
    return r;
}

static void take_times(struct run *run)
{
    struct outcome *o = run->outcome;
    uint64_t source = run->source->usec, hash = run->hash.s.usec, gunzip = run->gunzip.s.usec;

    /* Each stage's time has that of the stages above it in it. */
    o->download_ms = source / USEC_PER_MSEC;
    o->hash_ms = (hash - source) / USEC_PER_MSEC;
    o->inflate_ms = (gunzip > hash ? gunzip - hash : 0) / USEC_PER_MSEC;
    o->write_ms = run->writer.usec / USEC_PER_MSEC;
}

static int run_stages(struct run *run, struct err *e)
{
    scoped_fd app = -1;
    int r = open_stages(run, e);

    if (r == 0)
        r = unpack(run, e);
    if (r < 0)
        return r;
    run->outcome->step = "disk";
    r = writer_finish(&run->writer, &run->outcome->counts, &app, e);
    if (r == 0)
        r = read_types(run, app, e);
    if (r == 0)
        take_times(run);
    return r;
}

int run_fetch(const struct request *rq, const struct run_watch *watch, struct outcome *ret,
              struct err *e)
{
    struct run run = {
        .request = rq,
        .watch = watch,
        .total = -1,
        .outcome = ret,
        .writer = {.stage = -1, .parent = -1, .file = -1},
    };

    *ret = (struct outcome){.step = "download"};
    int r = run_stages(&run, e);
    if (run.http)
        ret->http = http_status(run.http);
    run_done(&run);
    return r;
}
