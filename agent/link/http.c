#include "link/http.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/multi.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HTTP_BUFFER    65536 /* bytes that libcurl reads at once */
#define HTTP_SHOWN_MAX 160   /* of a URL in an error */
#define HTTP_WHY_MAX   240   /* of libcurl's words in an error */

struct http {
    struct multi *multi; /* its timer: "http" */
    LIST_HEAD(, http_job) jobs;
    bool *freed; /* set while callbacks run: one may free us */
};

struct http_job {
    LIST_ENTRY(http_job) link;
    struct http *h;
    CURL *easy;
    struct curl_slist *headers;
    http_done_fn fn;
    void *userdata;
    size_t answer_max;
    size_t head_len;
    struct str body;
    bool too_big;
    bool ended; /* its callback runs */
    char curl_text[CURL_ERROR_SIZE];
    char shown[HTTP_SHOWN_MAX]; /* the URL without what may be secret */
};

/* --- what came of it ---------------------------------------------------------------------------
 */

struct verdict {
    const char *kind;
    enum fault fault;
    int errnum;
};

/* TLS that fails, rather than a connection that breaks in its midst. With TLS 1.3 a server that
 * refuses our certificate says so only when the answer is read. */
static bool is_tls_alert(const struct http_job *job)
{
    return strstr(job->curl_text, "SSL routines") != NULL;
}

static struct verdict judge(const struct http_job *job, CURLcode code)
{
    if (job->too_big)
        return (struct verdict){"too-big", FAULT_PLATFORM, EFBIG};
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return (struct verdict){"resolve", FAULT_PLATFORM, EHOSTUNREACH};
    case CURLE_COULDNT_CONNECT:
        return (struct verdict){"connect", FAULT_PLATFORM, ECONNREFUSED};
    case CURLE_OPERATION_TIMEDOUT:
        return (struct verdict){"timeout", FAULT_PLATFORM, ETIMEDOUT};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_SSL_CIPHER:
        return (struct verdict){"tls", FAULT_OPERATOR, EPROTO};
    case CURLE_FILESIZE_EXCEEDED:
        return (struct verdict){"too-big", FAULT_PLATFORM, EFBIG};
    case CURLE_URL_MALFORMAT:
        return (struct verdict){"url", FAULT_OPERATOR, EINVAL};
    case CURLE_UNSUPPORTED_PROTOCOL: /* an answer without a head: HTTP/0.9 */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return (struct verdict){"not-http", FAULT_PLATFORM, EBADMSG};
    case CURLE_OUT_OF_MEMORY:
        /* So libcurl calls a header field that never ends, too. */
        if (job->head_len > 0)
            return (struct verdict){"too-big", FAULT_PLATFORM, EFBIG};
        return (struct verdict){"memory", FAULT_PLATFORM, ENOMEM};
    default:
        if (is_tls_alert(job))
            return (struct verdict){"tls", FAULT_OPERATOR, EPROTO};
        return (struct verdict){"broken", FAULT_PLATFORM, EIO};
    }
}

static void explain(const struct http_job *job, CURLcode code, const struct verdict *v,
                    struct err *e)
{
    const char *why = job->curl_text[0] ? job->curl_text : curl_easy_strerror(code);
    char quoted[HTTP_WHY_MAX];

    if (job->too_big || code == CURLE_FILESIZE_EXCEEDED)
        (void)err_say(e, v->errnum, "%s: the answer is over the limit of %zu bytes", job->shown,
                      job->answer_max);
    else
        (void)err_say(e, v->errnum, "%s: %s", job->shown,
                      text_escape(quoted, sizeof(quoted), why, strlen(why)));
    (void)err_blame(e, v->fault);
}

static uint64_t retry_after(CURL *easy)
{
    curl_off_t seconds = 0;

    if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds) != CURLE_OK || seconds <= 0)
        return 0;
    return (seconds < HTTP_RETRY_AFTER_SEC ? (uint64_t)seconds : HTTP_RETRY_AFTER_SEC) *
           USEC_PER_SEC;
}

static void tell(struct http_job *job, CURLcode code)
{
    struct http_answer answer = {.body = "", .type = "", .local = ""};
    struct err why = ERR_INIT;
    char *type = NULL, *local = NULL;
    long status = 0;

    (void)curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(job->easy, CURLINFO_CONTENT_TYPE, &type);
    (void)curl_easy_getinfo(job->easy, CURLINFO_LOCAL_IP, &local);
    answer.status = (int)status;
    answer.local = local ? local : "";
    if (code != CURLE_OK) {
        struct verdict v = judge(job, code);

        explain(job, code, &v, &why);
        answer.kind = v.kind;
        answer.why = &why;
    } else if (status >= 300 && status < 400) {
        (void)err_say(&why, ELOOP, "%s: status %ld, a redirect: none is followed", job->shown,
                      status);
        (void)err_blame(&why, FAULT_OPERATOR);
        answer.kind = "redirect";
        answer.why = &why;
    } else {
        answer.body = str_text(&job->body);
        answer.len = job->body.len;
        answer.type = type ? type : "";
        answer.retry_after_usec = retry_after(job->easy);
    }
    job->fn(job->userdata, &answer);
}

/* --- jobs --------------------------------------------------------------------------------------
 */

static void job_free(struct http_job *job)
{
    curl_easy_cleanup(job->easy);
    curl_slist_free_all(job->headers);
    str_done(&job->body);
    free(job);
}

static void job_freep(struct http_job **job)
{
    if (*job)
        job_free(*job);
}

static size_t on_head(char *data, size_t size, size_t n, void *userdata)
{
    struct http_job *job = userdata;

    (void)data;
    job->head_len += size * n;
    job->too_big = job->too_big || job->head_len > HTTP_HEAD_MAX;
    return job->too_big ? 0 : size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
    struct http_job *job = userdata;
    size_t len = size * n;

    if (len > job->answer_max - job->body.len) {
        job->too_big = true;
        return CURL_WRITEFUNC_ERROR;
    }
    str_add_n(&job->body, data, len);
    return job->body.failed ? CURL_WRITEFUNC_ERROR : len;
}

/* What an error may show: no user, password or query. */
static void show_url(char out[HTTP_SHOWN_MAX], const char *url)
{
    const char *host = strstr(url, "://");
    const char *from = host ? host + 3 : url;
    size_t len = strcspn(from, "?#");
    const char *at = memrchr(from, '@', strcspn(from, "/?#"));

    if (at) {
        len -= (size_t)(at + 1 - from);
        from = at + 1;
    }
    size_t scheme = host ? (size_t)(host + 3 - url) : 0;
    (void)text_escape(out, HTTP_SHOWN_MAX / 4, url, scheme);
    size_t used = strlen(out);
    (void)text_escape(out + used, HTTP_SHOWN_MAX - used, from, len);
}

static CURLcode set_blob(CURL *c, CURLoption option, const char *data, size_t len)
{
    struct curl_blob blob = {.data = (void *)data, .len = len, .flags = CURL_BLOB_COPY};

    return curl_easy_setopt(c, option, &blob);
}

int http_set_trust(void *curl, const struct http_trust *t)
{
    CURL *c = curl;
    CURLcode r = curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);

    /* Both are the default. They are said because nothing must ever switch them off. */
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    if (r == CURLE_OK && t && t->ca) {
        r = set_blob(c, CURLOPT_CAINFO_BLOB, t->ca, t->ca_len);
        if (r == CURLE_OK) /* the blob replaces the system's file, but not its directory */
            r = curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    if (r == CURLE_OK && t && t->cert)
        r = set_blob(c, CURLOPT_SSLCERT_BLOB, t->cert, t->cert_len);
    if (r == CURLE_OK && t && t->key)
        r = set_blob(c, CURLOPT_SSLKEY_BLOB, t->key, t->key_len);
    return (int)r;
}

/* libcurl adds "Expect: 100-continue" to a large body and then waits a second for servers that do
 * not know it. */
static int set_headers(struct http_job *job, const struct http_request *rq, struct err *e)
{
    static const char *const none[] = {NULL};
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    job->headers = list;
    for (const char *const *h = rq->headers ? rq->headers : none; list && *h; h++) {
        if (strpbrk(*h, "\r\n"))
            return err_say(e, EINVAL, "a header field with a line end");
        list = curl_slist_append(job->headers, *h);
    }
    if (!list || curl_easy_setopt(job->easy, CURLOPT_HTTPHEADER, job->headers) != CURLE_OK)
        return err_set(e, ENOMEM, "prepare a request");
    return 0;
}

static CURLcode set_body(CURL *c, const struct http_request *rq)
{
    CURLcode r = CURLE_OK;

    if (rq->body) {
        r = curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body_len);
        if (r == CURLE_OK)
            r = curl_easy_setopt(c, CURLOPT_COPYPOSTFIELDS, rq->body);
    }
    if (r == CURLE_OK && strcmp(rq->method, rq->body ? "POST" : "GET") != 0)
        r = curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
    return r;
}

static long whole_ms(uint64_t usec)
{
    uint64_t ms = (usec + USEC_PER_MSEC - 1) / USEC_PER_MSEC;

    return ms < INT32_MAX ? (long)ms : INT32_MAX;
}

static void set_plain(struct http_job *job, const struct http_request *rq)
{
    CURL *c = job->easy;

    (void)curl_easy_setopt(c, CURLOPT_PRIVATE, job);
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)HTTP_BUFFER);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    (void)curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, rq->connect_only ? 1L : 0L);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, whole_ms(rq->connect_usec));
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, whole_ms(rq->total_usec));
    (void)curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)rq->answer_max);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, job);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, job);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, job->curl_text);
}

static int job_prepare(struct http_job *job, const struct http_request *rq, struct err *e)
{
    CURL *c = job->easy;

    set_plain(job, rq);
    CURLcode r = curl_easy_setopt(c, CURLOPT_URL, rq->url);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_USERAGENT, "dynod-link/" DYNOD_VERSION);
    if (r == CURLE_OK)
        r = (CURLcode)http_set_trust(c, rq->trust);
    if (r == CURLE_OK)
        r = set_body(c, rq);
    if (r != CURLE_OK)
        return err_say(e, EINVAL, "prepare a request: %s", curl_easy_strerror(r));
    return set_headers(job, rq, e);
}

int http_send(struct http *h, const struct http_request *rq, http_done_fn fn, void *userdata,
              struct http_job **ret, struct err *e)
{
    scoped(job_freep) struct http_job *job = calloc(1, sizeof(*job));

    if (!str_starts(rq->url, "https://") && !str_starts(rq->url, "http://"))
        return err_say(e, EINVAL, "not a URL of HTTP");
    if (job)
        job->easy = curl_easy_init();
    if (!job || !job->easy)
        return err_set(e, ENOMEM, "prepare a request");
    job->h = h;
    job->fn = fn;
    job->userdata = userdata;
    job->answer_max = rq->answer_max;
    job->body.max = rq->answer_max + 1;
    show_url(job->shown, rq->url);
    int r = job_prepare(job, rq, e);
    if (r < 0)
        return r;
    CURLMcode m = curl_multi_add_handle(multi_handle(h->multi), job->easy);
    if (m != CURLM_OK)
        return err_say(e, ENOMEM, "start a request: %s", curl_multi_strerror(m));
    LIST_INSERT_HEAD(&h->jobs, job, link);
    *ret = TAKE_PTR(job);
    return 0;
}

static void job_detach(struct http_job *job)
{
    LIST_REMOVE(job, link);
    (void)curl_multi_remove_handle(multi_handle(job->h->multi), job->easy); /* it is in there */
}

void http_cancel(struct http_job *job)
{
    if (!job || job->ended)
        return;
    job_detach(job);
    job_free(job);
}

/* --- the loop ----------------------------------------------------------------------------------
 */

/* Tells about all that has ended. A callback may send, cancel, or free H. */
static void finish(void *userdata)
{
    struct http *h = userdata;
    bool freed = false;
    CURLMsg *msg;
    int left;

    h->freed = &freed; /* cppcheck-suppress autoVariables ; taken back below */
    while ((msg = curl_multi_info_read(multi_handle(h->multi), &left))) {
        struct http_job *job = NULL;
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE ||
            curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&job) != CURLE_OK)
            continue;
        job_detach(job);
        job->ended = true;
        tell(job, code);
        job_free(job);
        if (freed)
            return;
    }
    h->freed = NULL;
}

int http_new(sd_event *loop, struct http **ret, struct err *e)
{
    scoped(http_freep) struct http *h = NULL;

    h = calloc(1, sizeof(*h));
    if (!h)
        return err_set(e, ENOMEM, "prepare HTTP");
    h->multi = multi_new(loop, "http", finish, h);
    if (!h->multi)
        return err_set(e, ENOMEM, "prepare HTTP");
    *ret = TAKE_PTR(h);
    return 0;
}

void http_freep(struct http **hp)
{
    struct http *h = *hp;

    if (!h)
        return;
    if (h->freed)
        *h->freed = true;
    while (!LIST_EMPTY(&h->jobs))
        http_cancel(LIST_FIRST(&h->jobs));
    multi_freep(&h->multi);
    free(h);
    *hp = NULL;
}
