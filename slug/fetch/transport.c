#include "slug/fetch/transport.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define SKEW_MIN_SEC 60

static curl_socket_t on_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *addr)
{
    struct transport_guard *guard = userdata;

    (void)purpose;
    if (!guard->link_local && address_is_link_local(&addr->addr)) {
        guard->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

/* libcurl parses the authorities once for all connections, but only when they come from a file
 * alone: with a folder of them too, every connection would hold its own 2 MB. */
static CURLcode set_authorities(CURL *c, const struct store_env *env)
{
    const char *file = env->ca_file ? env->ca_file : curl_version_info(CURLVERSION_NOW)->cainfo;
    CURLcode r = CURLE_OK;

    if (file)
        r = curl_easy_setopt(c, CURLOPT_CAINFO, file);
    if (file && r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    return r;
}

int transport_set(CURL *easy, const struct store_env *env, const char *url, bool follow,
                  struct transport_guard *guard, struct err *e)
{
    const char *protocols = strncasecmp(url, "http:", 5) ? "https" : "http,https";
    CURL *c = easy;
    CURLcode r = curl_easy_setopt(c, CURLOPT_URL, url);

    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, protocols);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r == CURLE_OK)
        r = set_authorities(c, env);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, guard);
    if (r != CURLE_OK)
        return err_say(e, EINVAL, "prepare a request: %s", curl_easy_strerror(r));
    /* HTTP/1.1: parallel ranges want connections of their own, and libcurl buffers up to 32 MB of
     * an HTTP/2 stream that is paused. */
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)TRANSPORT_CHUNK);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, follow ? 1L : 0L);
    (void)curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)TRANSPORT_REDIRECTS);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)env->connect_ms);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "dynod-fetch/" DYNOD_VERSION);
    return 0;
}

uint64_t transport_backoff(unsigned try, uint64_t random)
{
    uint64_t wait = BACKOFF_FIRST_MS;

    for (unsigned i = 1; i < try && wait < BACKOFF_MAX_MS; i++)
        wait *= 3;
    if (wait > BACKOFF_MAX_MS)
        wait = BACKOFF_MAX_MS;
    wait *= USEC_PER_MSEC;
    return wait / 2 + random % wait;
}

bool transport_passes(long status)
{
    return status == 408 || status == 425 || status == 429 ||
           (status >= 500 && status != 501 && status != 505);
}

struct transport_verdict transport_judge_status(long status)
{
    bool passes = transport_passes(status);

    return (struct transport_verdict){
        .step = "http",
        .fault = passes || status >= 500 ? FAULT_PLATFORM : FAULT_OPERATOR,
        .errnum = status == 404 || status == 410   ? ENOENT
                  : status == 401 || status == 403 ? EACCES
                                                   : EIO,
        .again = passes,
    };
}

static struct transport_verdict judge_timeout(CURL *easy)
{
    curl_off_t secured = 0;
    const char *scheme = NULL;
    long port = 0;

    /* libcurl has no time of connecting before the handshake is over, but it has our port. */
    (void)curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port);
    (void)curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &secured);
    (void)curl_easy_getinfo(easy, CURLINFO_SCHEME, &scheme);
    const char *step = port == 0                                                ? "connect"
                       : scheme && !strcasecmp(scheme, "https") && secured == 0 ? "tls"
                                                                                : "download";
    return (struct transport_verdict){step, FAULT_PLATFORM, ETIMEDOUT, true};
}

struct transport_verdict transport_judge(CURL *easy, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return (struct transport_verdict){"connect", FAULT_PLATFORM, EHOSTUNREACH, true};
    case CURLE_COULDNT_CONNECT:
        return (struct transport_verdict){"connect", FAULT_PLATFORM, ECONNREFUSED, true};
    case CURLE_OPERATION_TIMEDOUT:
        return judge_timeout(easy);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
        return (struct transport_verdict){"tls", FAULT_OPERATOR, EPROTO, false};
    case CURLE_SSL_CONNECT_ERROR:
        return (struct transport_verdict){"tls", FAULT_PLATFORM, EPROTO, true};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: /* a redirect to another scheme */
    case CURLE_TOO_MANY_REDIRECTS:
        return (struct transport_verdict){"http", FAULT_OPERATOR, EINVAL, false};
    case CURLE_OUT_OF_MEMORY:
        return (struct transport_verdict){"download", FAULT_PLATFORM, ENOMEM, false};
    default:
        return (struct transport_verdict){"download", FAULT_PLATFORM, EIO, true};
    }
}

/* libcurl counts the handshake as a part of connecting. */
const char *transport_late(CURL *easy, CURLcode code, uint64_t connect_ms, char *out)
{
    const char *step = transport_judge(easy, code).step;

    if (code != CURLE_OPERATION_TIMEDOUT || !strcmp(step, "download"))
        return NULL;
    (void)snprintf(out, TRANSPORT_WORDS_MAX, "no %s within %llu ms (fetch_connect)",
                   !strcmp(step, "tls") ? "TLS handshake" : "connection",
                   (unsigned long long)connect_ms);
    return out;
}

int64_t transport_skew(CURL *easy)
{
    struct curl_header *date;

    if (curl_easy_header(easy, "date", 0, CURLH_HEADER, -1, &date) != CURLHE_OK)
        return 0;
    time_t theirs = curl_getdate(date->value, NULL);
    if (theirs < 0)
        return 0;
    int64_t skew = (int64_t)(clock_real() / USEC_PER_SEC) - (int64_t)theirs;
    return skew >= -SKEW_MIN_SEC && skew <= SKEW_MIN_SEC ? 0 : skew;
}
