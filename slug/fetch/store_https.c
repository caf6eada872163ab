/* store_https.c - https:// (and http://, where the operator allows it): the address is the request.
 * Pre-signed and temporary URLs are such addresses. */
#include "slug/fetch/store.h"

#include "base/scoped.h"
#include "base/str.h"
#include "slug/fetch/object.h"
#include "slug/fetch/s3_error.h"
#include "slug/fetch/transport.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What of the settings is for the host of this address; borrowed. With a certificate redirects are
 * followed here. */
struct https {
    const char *token, *cert, *key;
    char *moved; /* where the last one led; NULL: there was none */
    unsigned moves;
};

static const char *setting(const struct store *store, const char *key)
{
    return store_setting(store->env, "https", key);
}

static void curlu_freep(CURLU **u)
{
    curl_url_cleanup(*u);
}

/* HOST without port, and with the one that is used, named or not. */
static int take_host(const char *address, char host[ENDPOINT_HOST_MAX],
                     char with_port[ENDPOINT_HOST_MAX + 8])
{
    scoped(curlu_freep) CURLU *u = curl_url();
    char *name = NULL, *port = NULL;

    if (!u)
        return -ENOMEM;
    int n = -1;
    if (curl_url_set(u, CURLUPART_URL, address, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &name, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        n = snprintf(host, ENDPOINT_HOST_MAX, "%s", name);
    if (n >= 0 && n < ENDPOINT_HOST_MAX)
        (void)snprintf(with_port, ENDPOINT_HOST_MAX + 8, "%s:%s", name, port);
    else
        n = -1;
    curl_free(name);
    curl_free(port);
    return n < 0 ? -EINVAL : 0;
}

static bool is_listed(const char *hosts, const char *host)
{
    size_t len = strlen(host);

    for (const char *at = hosts; *at;) {
        size_t n = strcspn(at, " \t\n,");

        if (n == len && !strncasecmp(at, host, n))
            return true;
        at += n;
        at += strspn(at, " \t\n,");
    }
    return false;
}

/* A secret goes to the hosts it is for only: an address may name any. */
static int take_secrets(const struct store *store, struct https *h, struct err *e)
{
    const char *token = setting(store, "token"), *cert = setting(store, "cert");
    const char *key = setting(store, "key"), *hosts = setting(store, "hosts");
    char host[ENDPOINT_HOST_MAX], with_port[ENDPOINT_HOST_MAX + 8];
    const char *why = (token || cert) && !hosts ? "https.hosts is missing"
                      : !cert != !key           ? "https.cert and https.key go together"
                      : token && (!field_is_plain(token) || strchr(token, ' '))
                          ? "https.token has characters that none has"
                          : NULL;

    if (why) {
        err_say(e, EINVAL, "%s: the store's settings: %s", store->shown, why);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (!hosts)
        return 0;
    int r = take_host(store->address, host, with_port);
    if (r < 0)
        return err_set(e, -r, "%s", store->shown);
    if (is_listed(hosts, host) || is_listed(hosts, with_port))
        *h = (struct https){.token = token, .cert = cert, .key = key};
    return 0;
}

static int http_open(struct store *s, struct err *e)
{
    return url_check(s->address, s->env->allow_http, e);
}

static int https_open(struct store *s, struct err *e)
{
    scoped_free struct https *h = calloc(1, sizeof(*h));

    if (!h)
        return err_set(e, ENOMEM, "prepare the download");
    int r = url_check(s->address, s->env->allow_http, e);
    if (r == 0)
        r = take_secrets(s, h, e);
    if (r < 0)
        return r;
    s->state = TAKE_PTR(h);
    return 0;
}

static void https_close(struct store *s)
{
    struct https *h = s->state;

    if (h)
        free(h->moved);
    free(h);
}

/* --- requests ------------------------------------------------------------------------------------
 */

static CURLcode set_pem(CURL *easy, CURLoption option, const char *pem)
{
    struct curl_blob blob = {.data = (void *)(uintptr_t)pem, .len = strlen(pem)};

    blob.flags = CURL_BLOB_NOCOPY; /* the settings outlive the handle's use */
    return curl_easy_setopt(easy, option, &blob);
}

/* libcurl drops a bearer token itself when a redirect leaves the host; a certificate it would show
 * to whoever is there (https_prepare()). */
static CURLcode set_secrets(CURL *easy, const struct https *h)
{
    CURLcode r = CURLE_OK;

    if (h->token)
        r = curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, h->token);
    if (h->token && r == CURLE_OK)
        r = curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
    if (h->cert && r == CURLE_OK)
        r = set_pem(easy, CURLOPT_SSLCERT_BLOB, h->cert);
    return h->cert && r == CURLE_OK ? set_pem(easy, CURLOPT_SSLKEY_BLOB, h->key) : r;
}

static int https_prepare(struct store *s, CURL *easy, struct store_request *ret, struct err *e)
{
    const struct https *h = s->state;
    CURLcode r = h ? set_secrets(easy, h) : CURLE_OK;

    if (r != CURLE_OK)
        return err_say(e, EINVAL, "prepare the download: %s", curl_easy_strerror(r));
    char *url = strdup(h && h->moved ? h->moved : s->address);
    if (!url)
        return err_set(e, ENOMEM, "prepare the download");
    *ret = (struct store_request){.url = url, .follow = !h || !h->cert};
    return 0;
}

/* Whether URL is on the host, and the port, of the store's address, by https. */
static bool is_same_place(const struct store *s, const char *url)
{
    char host[ENDPOINT_HOST_MAX], ours[ENDPOINT_HOST_MAX + 8], theirs[ENDPOINT_HOST_MAX + 8];

    return !strncasecmp(s->address, "https:", 6) && !strncasecmp(url, "https:", 6) &&
           take_host(s->address, host, ours) == 0 && take_host(url, host, theirs) == 0 &&
           !strcasecmp(ours, theirs);
}

/* A redirect where a client certificate is sent. */
static enum store_verdict moved(const struct store *s, const struct store_refusal *r, struct err *e)
{
    struct https *h = s->state;
    char *to = NULL;

    (void)curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &to);
    bool near = to && is_same_place(s, to);
    char *url = near && h->moves < TRANSPORT_REDIRECTS ? strdup(to) : NULL;
    if (url) {
        free(h->moved);
        h->moved = url;
        h->moves++;
        return STORE_MOVED;
    }
    if (near)
        err_say(e, EINVAL, "%s: " TRANSPORT_MANY, s->shown);
    else
        err_say(e, EINVAL,
                "%s: HTTP status %ld: redirects to another host or port are not followed where a "
                "client certificate is sent (https_cert_file)",
                s->shown, r->status);
    (void)err_blame(e, FAULT_OPERATOR);
    return STORE_FINAL;
}

/* A pre-signed URL is refused in S3's words. */
static enum store_verdict http_refused(struct store *s, const struct store_refusal *r,
                                       struct err *e)
{
    char message[200], clock[80] = "";
    const struct https *h = s->state;
    struct s3_error x;

    if (h && h->cert && r->status >= 300 && r->status < 400)
        return moved(s, r, e);
    if (!s3_error_parse(r->body, r->len, &x))
        return STORE_PLAIN;
    if (r->skew_sec)
        (void)snprintf(clock, sizeof(clock), " (this machine's clock is %lld minutes %s)",
                       (long long)((r->skew_sec < 0 ? -r->skew_sec : r->skew_sec) + 30) / 60,
                       r->skew_sec > 0 ? "ahead" : "behind");
    struct transport_verdict v = transport_judge_status(r->status);
    err_say(e, v.errnum, "%s: HTTP status %ld, %s: %s%s", s->shown, r->status, x.code,
            text_escape(message, sizeof(message), x.message, strlen(x.message)), clock);
    (void)err_blame(e, v.fault);
    return v.again ? STORE_LATER : STORE_FINAL;
}

const struct store_ops *store_http(void)
{
    static const struct store_ops ops = {
        .scheme = "http", .open = http_open, .prepare = https_prepare, .refused = http_refused};

    return &ops;
}

const struct store_ops *store_https(void)
{
    static const struct store_ops ops = {.scheme = "https",
                                         .open = https_open,
                                         .close = https_close,
                                         .prepare = https_prepare,
                                         .refused = http_refused};

    return &ops;
}
