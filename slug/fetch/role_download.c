#include "slug/fetch/role_download.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "slug/fetch/confine.h"
#include "slug/fetch/mirrors.h"
#include "slug/fetch/talk.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/resource.h>

static int on_wait(void *userdata, struct err *e)
{
    return talk_check(userdata, e);
}

/* An agent that is slow to read misses some: nothing waits for it. */
static int on_progress(void *userdata, uint64_t bytes, int64_t total, size_t mirror,
                       unsigned connections, struct err *e)
{
    struct frame_conn *conn = userdata;
    int r = talk_check(conn, e);

    if (r == 0 && frame_pending(conn))
        r = frame_flush(conn, e);
    if (r != 0)
        return r < 0 ? r : 0;
    json_t *total_json = total >= 0 ? json_integer(total) : NULL;
    scoped(json_freep) json_t *json =
        json_pack("{s:{s:I,s:o*,s:I,s:I}}", "progress", "bytes", (json_int_t)bytes, "total",
                  total_json, "mirror", (json_int_t)mirror, "connections", (json_int_t)connections);
    return json ? frame_send(conn, json, NULL, 0, e) : err_set(e, ENOMEM, "report progress");
}

static json_t *ok_json(const struct mirrors_result *m)
{
    return json_pack("{s:{s:s,s:I,s:I,s:O,s:{s:I,s:I,s:I}}}", "ok", "digest", m->digest.hex,
                     "compressed", (json_int_t)m->bytes, "mirror", (json_int_t)m->mirror, "failed",
                     m->failed, "ms", "download", (json_int_t)m->download_ms, "hash",
                     (json_int_t)m->hash_ms, "wait", (json_int_t)m->wait_ms);
}

static json_t *error_json(const struct mirrors_result *m, const struct err *e)
{
    struct failure o = {
        .step = m->step, .http = m->http, .expected = m->expected, .actual = m->actual};
    json_t *json = talk_error(&o, e);
    json_t *error = json_object_get(json, "error");

    if (error && m->failed)
        (void)json_object_set(error, "failed", m->failed);
    if (error && m->next)
        (void)json_object_set(error, "next", m->next);
    return json;
}

/* No file of this process grows past what a slug may have, whatever happens in it. */
static int limit_spool(uint64_t most, struct err *e)
{
    struct rlimit limit = {most, most};

    (void)signal(SIGXFSZ, SIG_IGN); /* EFBIG then */
    return setrlimit(RLIMIT_FSIZE, &limit) < 0 ? err_set(e, errno, "limit the spool") : 0;
}

static int run(struct frame_conn *conn, struct frame *f, struct mirrors_result *result,
               struct err *e)
{
    scoped(job_done) struct job job = {.spool = -1, .pipe = -1};
    struct mirrors_watch watch = {on_progress, on_wait, conn};
    int r = job_parse(f, &job, e);

    result->step = "sandbox";
    if (r == 0)
        r = limit_spool(job.compressed, e);
    if (r == 0)
        r = confine(&(struct confinement){CONFINE_DOWNLOAD, -1, job.ca_file}, e);
    return r < 0 ? r : mirrors_run(&job, &watch, result, e);
}

/* OpenSSL looks for the digest's implementation when it is first used: 0.6 ms, a tenth of a small
 * slug's fetch. */
static int find_digest(void)
{
    unsigned char sum[EVP_MAX_MD_SIZE];

    return EVP_Digest("", 0, sum, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

int download_prepare(struct err *e)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK && find_digest() == 0
               ? 0
               : err_say(e, ENOMEM, "prepare the download");
}

int download_serve(struct frame_conn *control, struct frame *f, struct err *e)
{
    scoped(mirrors_result_done) struct mirrors_result result = {0};
    struct err why = ERR_INIT;
    int r = run(control, f, &result, &why);
    scoped(json_freep) json_t *json = r < 0 ? error_json(&result, &why) : ok_json(&result);

    return json ? talk_send(control, json, e) : err_set(e, ENOMEM, "report the result");
}
