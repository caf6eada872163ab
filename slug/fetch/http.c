#include "slug/fetch/http.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_MS    250
#define ETAG_MAX   256
#define HTTP_CHUNK 65536

/* Where one transfer stands. */
enum phase {
    PHASE_IDLE, /* none runs: start one */
    PHASE_RUNS,
    PHASE_ENDED, /* all bytes came */
};

struct http {
    struct stream s;
    struct http_options o;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    enum phase phase;
    unsigned tries;
    long status;
    int64_t total;
    uint64_t arrived; /* bytes put into the buffer, over all tries */
    bool resuming;
    bool body_seen; /* of this try: the head has been looked at */
    bool ranges;
    char etag[ETAG_MAX]; /* strong, of the first answer; "" when there is none */
    const char *refused; /* why the answer was not taken */
    uint64_t started;    /* the first try */
    uint64_t last_byte;
    bool paused;
    char curl_text[CURL_ERROR_SIZE];
    char *buf;
    size_t buf_at;
    size_t buf_len;
};

static uint64_t ms(uint64_t n)
{
    return n * USEC_PER_MSEC;
}

long http_status(const struct http *h)
{
    return h->status;
}

int64_t http_total(const struct http *h)
{
    return h->total;
}

struct stream *http_stream(struct http *h)
{
    return &h->s;
}

/* --- what the server answered ------------------------------------------------------------------
 */

static const char *header(struct http *h, const char *name)
{
    struct curl_header *found;

    return curl_easy_header(h->easy, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
                                                                                     : NULL;
}

/* What later tries need to go on with the same body. */
static void keep_validators(struct http *h)
{
    const char *etag = header(h, "etag"), *ranges = header(h, "accept-ranges");
    curl_off_t length = -1;

    h->ranges = ranges && !strcasecmp(ranges, "bytes");
    if (etag && etag[0] == '"' && strlen(etag) < sizeof(h->etag))
        memcpy(h->etag, etag, strlen(etag) + 1);
    if (curl_easy_getinfo(h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK)
        h->total = length;
}

/* Whether the answer's body is the one we want, from the byte we want. */
static bool take_head(struct http *h)
{
    const char *range = header(h, "content-range");
    unsigned long long from;

    (void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->status);
    if (h->status == 200 && !h->resuming) {
        keep_validators(h);
        return true;
    }
    if (h->status == 206 && h->resuming && range && sscanf(range, "bytes %llu-", &from) == 1 &&
        from == h->arrived)
        return true;
    if (h->resuming && (h->status == 200 || h->status == 206 || h->status == 416))
        h->refused = "the download broke off, and the server does not go on with the same slug";
    return false;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
    struct http *h = userdata;
    size_t len = size * n;

    if (!h->body_seen && !take_head(h))
        return CURL_WRITEFUNC_ERROR;
    h->body_seen = true;
    if (len > HTTP_BUFFER - h->buf_len) { /* the same bytes come again once there is room */
        h->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (h->buf_at > 0) {
        memmove(h->buf, h->buf + h->buf_at, h->buf_len);
        h->buf_at = 0;
    }
    memcpy(h->buf + h->buf_len, data, len);
    h->buf_len += len;
    h->arrived += len;
    h->last_byte = clock_boot();
    return len;
}

static curl_socket_t on_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *addr)
{
    struct http *h = userdata;

    (void)purpose;
    if (address_is_link_local(&addr->addr)) {
        h->refused = "leads to a link-local address";
        return CURL_SOCKET_BAD;
    }
    return socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

/* --- setting up --------------------------------------------------------------------------------
 */

static int set_options(struct http *h, struct err *e)
{
    CURL *c = h->easy;
    bool https = h->o.scheme == URL_HTTPS;
    CURLcode r = curl_easy_setopt(c, CURLOPT_URL, h->o.url);

    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, https ? "https" : "http,https");
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, https ? "https" : "http,https");
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r == CURLE_OK && h->o.ca_file)
        r = curl_easy_setopt(c, CURLOPT_CAINFO, h->o.ca_file);
    if (r != CURLE_OK)
        return err_say(e, EINVAL, "prepare the download: %s", curl_easy_strerror(r));
    /* HTTP/1.1: libcurl buffers up to 32 MB of an HTTP/2 stream that is paused. */
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)HTTP_CHUNK);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)HTTP_REDIRECTS_MAX);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)h->o.connect_ms);
    (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, h);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->curl_text);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "dynod-fetch/" DYNOD_VERSION);
    return 0;
}

static ssize_t http_read(struct stream *s, void *buf, size_t cap, struct err *e);

int http_new(const struct http_options *o, struct http **ret, struct err *e)
{
    scoped(http_freep) struct http *h = calloc(1, sizeof(*h));

    if (!h)
        return err_set(e, ENOMEM, "prepare the download");
    h->s = (struct stream){.read = http_read, .step = "download"};
    h->o = *o;
    h->total = -1;
    h->buf = malloc(HTTP_BUFFER);
    h->multi = curl_multi_init();
    h->easy = curl_easy_init();
    if (!h->buf || !h->multi || !h->easy)
        return err_set(e, ENOMEM, "prepare the download");
    int r = set_options(h, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(h);
    return 0;
}

void http_freep(struct http **hp)
{
    struct http *h = *hp;

    if (!h)
        return;
    if (h->easy && h->multi)
        (void)curl_multi_remove_handle(h->multi, h->easy);
    curl_easy_cleanup(h->easy);
    curl_multi_cleanup(h->multi);
    curl_slist_free_all(h->headers);
    free(h->buf);
    free(h);
    *hp = NULL;
}

/* Starts a try: the whole body, or what is missing of it. */
static int start(struct http *h, struct err *e)
{
    char range[32], condition[ETAG_MAX + 16];

    h->resuming = h->arrived > 0;
    h->body_seen = false;
    h->paused = false;
    h->refused = NULL;
    h->curl_text[0] = '\0';
    h->last_byte = clock_boot();
    if (h->tries++ == 0)
        h->started = h->last_byte;
    curl_slist_free_all(h->headers);
    h->headers = NULL;
    if (h->resuming) {
        (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)h->arrived);
        (void)snprintf(condition, sizeof(condition), "If-Range: %s", h->etag);
        if (h->etag[0] && !(h->headers = curl_slist_append(NULL, condition)))
            return err_set(e, ENOMEM, "prepare the download");
    }
    if (curl_easy_setopt(h->easy, CURLOPT_RANGE, h->resuming ? range : NULL) != CURLE_OK ||
        curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers) != CURLE_OK ||
        curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
        return err_set(e, ENOMEM, "prepare the download");
    h->phase = PHASE_RUNS;
    return 0;
}

static void stop(struct http *h)
{
    (void)curl_multi_remove_handle(h->multi, h->easy);
    h->phase = PHASE_IDLE;
}

/* --- failures ----------------------------------------------------------------------------------
 */

/* What one failed try means. */
struct verdict {
    const char *step;
    enum fault fault;
    int errnum;
    bool again; /* it may pass */
};

static struct verdict judge_status(long status)
{
    bool passes = status == 408 || status == 425 || status == 429 || status >= 500;

    return (struct verdict){
        .step = "http",
        .fault = passes ? FAULT_PLATFORM : FAULT_OPERATOR,
        .errnum = status == 404 || status == 410   ? ENOENT
                  : status == 401 || status == 403 ? EACCES
                                                   : EIO,
        .again = passes,
    };
}

static struct verdict judge_timeout(struct http *h)
{
    curl_off_t connected = 0, secured = 0;

    (void)curl_easy_getinfo(h->easy, CURLINFO_CONNECT_TIME_T, &connected);
    (void)curl_easy_getinfo(h->easy, CURLINFO_APPCONNECT_TIME_T, &secured);
    const char *step = connected == 0                             ? "connect"
                       : h->o.scheme == URL_HTTPS && secured == 0 ? "tls"
                                                                  : "download";
    return (struct verdict){step, FAULT_PLATFORM, ETIMEDOUT, true};
}

static struct verdict judge_code(struct http *h, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return (struct verdict){"connect", FAULT_PLATFORM, EHOSTUNREACH, true};
    case CURLE_COULDNT_CONNECT:
        return (struct verdict){"connect", FAULT_PLATFORM, ECONNREFUSED, true};
    case CURLE_OPERATION_TIMEDOUT:
        return judge_timeout(h);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
        return (struct verdict){"tls", FAULT_OPERATOR, EPROTO, false};
    case CURLE_SSL_CONNECT_ERROR:
        return (struct verdict){"tls", FAULT_PLATFORM, EPROTO, true};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: /* a redirect to another scheme */
    case CURLE_TOO_MANY_REDIRECTS:
        return (struct verdict){"http", FAULT_OPERATOR, EINVAL, false};
    case CURLE_OUT_OF_MEMORY:
        return (struct verdict){"download", FAULT_PLATFORM, ENOMEM, false};
    default:
        return (struct verdict){"download", FAULT_PLATFORM, EIO, true};
    }
}

/* Whether the try ended with an answer that is not the slug, rather than with an error. */
static bool is_answer(const struct http *h, CURLcode code)
{
    return !h->refused && (code == CURLE_OK || code == CURLE_WRITE_ERROR) && h->status != 0;
}

/* The status counts before what libcurl made of the body that we refused. */
static struct verdict judge(struct http *h, CURLcode code)
{
    (void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->status);
    if (h->refused)
        return (struct verdict){h->body_seen || h->resuming ? "download" : "connect",
                                h->resuming ? FAULT_PLATFORM : FAULT_OPERATOR, EPERM, false};
    if (is_answer(h, code))
        return judge_status(h->status);
    return judge_code(h, code);
}

static int fail(struct http *h, const struct verdict *v, CURLcode code, struct err *e)
{
    char shown[URL_SHOWN_MAX], quoted[160];
    const char *why = h->refused         ? h->refused
                      : h->curl_text[0]  ? h->curl_text
                      : code == CURLE_OK ? "an empty answer"
                                         : curl_easy_strerror(code);

    url_shown(shown, h->o.url);
    h->s.failed = v->step;
    if (is_answer(h, code))
        err_say(e, v->errnum, "%s: HTTP status %ld", shown, h->status);
    else
        err_say(e, v->errnum, "%s: %s", shown,
                text_escape(quoted, sizeof(quoted), why, strlen(why)));
    if (h->tries > 1 && v->again)
        (void)err_wrap(e, "after %u tries", h->tries);
    return err_blame(e, v->fault);
}

static int fail_total(struct http *h, struct err *e)
{
    struct verdict v = {"download", FAULT_PLATFORM, ETIMEDOUT, false};

    (void)snprintf(h->curl_text, sizeof(h->curl_text), "over the limit of %llu ms for a download",
                   (unsigned long long)h->o.total_ms);
    return fail(h, &v, CURLE_OPERATION_TIMEDOUT, e);
}

static uint64_t backoff_usec(struct http *h)
{
    curl_off_t asked = 0;
    uint64_t wait = ms(HTTP_BACKOFF_MS);

    if (curl_easy_getinfo(h->easy, CURLINFO_RETRY_AFTER, &asked) == CURLE_OK && asked > 0)
        return (asked < HTTP_RETRY_AFTER_MAX ? (uint64_t)asked : HTTP_RETRY_AFTER_MAX) *
               USEC_PER_SEC;
    for (unsigned i = 1; i < h->tries; i++)
        wait *= 3;
    return wait / 2 + random_u64() % wait; /* 50 to 150 percent */
}

/* Sleeps, telling on_wait now and then. */
static int wait_until(struct http *h, uint64_t at, struct err *e)
{
    for (;;) {
        uint64_t now = clock_boot();
        uint64_t left = at > now ? at - now : 0;
        struct timespec t = {.tv_nsec = (long)(left < ms(POLL_MS) ? left : ms(POLL_MS)) * 1000};
        int r = h->o.on_wait ? h->o.on_wait(h->o.userdata, e) : 0;

        if (r < 0)
            return r;
        if (left == 0)
            return 0;
        (void)nanosleep(&t, NULL);
    }
}

/* A try has failed: waits for the next, or gives up. */
static int try_again(struct http *h, CURLcode code, struct err *e)
{
    struct verdict v = judge(h, code);
    bool can_resume = h->arrived == 0 || h->etag[0] || h->ranges;
    uint64_t until = clock_boot() + backoff_usec(h);

    if (!v.again || h->tries >= HTTP_TRIES || !can_resume) {
        int r = fail(h, &v, code, e);

        if (v.again && !can_resume)
            (void)err_wrap(e, "the download broke off, and the server takes no ranges");
        return r;
    }
    stop(h);
    if (until > h->started + ms(h->o.total_ms))
        return fail(h, &v, code, e);
    return wait_until(h, until, e);
}

/* --- running -----------------------------------------------------------------------------------
 */

/* Whether the transfer has ended, and how. */
static bool ended(struct http *h, CURLcode *ret)
{
    struct CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(h->multi, &left)))
        if (m->msg == CURLMSG_DONE) {
            *ret = m->data.result;
            return true;
        }
    return false;
}

/* The transfer has ended with CODE. */
static int finish(struct http *h, CURLcode code, struct err *e)
{
    /* An answer without a body has not been looked at yet. */
    if (code == CURLE_OK && !h->body_seen && !take_head(h))
        return try_again(h, CURLE_WRITE_ERROR, e);
    if (code == CURLE_OK) {
        stop(h);
        h->phase = PHASE_ENDED;
        return 0;
    }
    return try_again(h, code, e);
}

/* Moves the transfer on once. */
static int pump(struct http *h, struct err *e)
{
    CURLcode code;
    int running;

    if (h->phase == PHASE_IDLE) {
        int r = start(h, e);
        if (r < 0)
            return r;
    }
    if (curl_multi_perform(h->multi, &running) != CURLM_OK)
        return err_say(e, EIO, "run the download");
    if (ended(h, &code))
        return finish(h, code, e);
    uint64_t now = clock_boot();
    if (now > h->started + ms(h->o.total_ms))
        return fail_total(h, e);
    if (h->buf_len > 0)
        return 0;
    if (now > h->last_byte + ms(h->o.stall_ms)) {
        (void)snprintf(h->curl_text, sizeof(h->curl_text), "no byte came for %llu ms",
                       (unsigned long long)h->o.stall_ms);
        return try_again(h, CURLE_OPERATION_TIMEDOUT, e);
    }
    if (curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
        return err_say(e, EIO, "wait for the download");
    return h->o.on_wait ? h->o.on_wait(h->o.userdata, e) : 0;
}

static ssize_t http_read(struct stream *s, void *buf, size_t cap, struct err *e)
{
    struct http *h = (struct http *)s;
    size_t n;

    h->last_byte = clock_boot(); /* the time the reader took is not the server's */
    if (h->buf_len == 0 && h->paused) {
        h->paused = false;
        (void)curl_easy_pause(h->easy, CURLPAUSE_CONT);
    }
    while (h->buf_len == 0 && h->phase != PHASE_ENDED) {
        int r = pump(h, e);

        if (r < 0)
            return r;
    }
    n = h->buf_len < cap ? h->buf_len : cap;
    memcpy(buf, h->buf + h->buf_at, n);
    h->buf_at += n;
    h->buf_len -= n;
    if (h->buf_len == 0)
        h->buf_at = 0;
    return (ssize_t)n;
}
