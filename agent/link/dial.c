#include "link/dial.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/http.h"
#include "link/multi.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define KEEPALIVE_IDLE_SEC                                                                         \
    30L /* a peer that is gone without a word is noticed after some 2 min                          \
         */
#define KEEPALIVE_INTERVAL_SEC 10L

struct dial {
    sd_event *loop;
    const struct dial_ops *ops;
    void *userdata;
    struct multi *multi; /* its timer: "dial" */
    CURL *easy;
    sd_event_source *io; /* after up */
    bool *freed;         /* set while a callback runs */
    bool forbidden;
    char curl_text[CURL_ERROR_SIZE];
};

/* --- addresses ----------------------------------------------------------------------------------
 */

static bool v4_link_local(const uint8_t b[4])
{
    return b[0] == 169 && b[1] == 254;
}

bool dial_forbidden(const struct sockaddr *addr)
{
    /* The instance metadata's IPv6 address is unique local, not link-local. */
    static const uint8_t ec2[16] = {0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}; /* RFC 6052 */
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (addr->sa_family == AF_INET) {
        memcpy(&v4, addr, sizeof(v4));
        return v4_link_local((const uint8_t *)&v4.sin_addr);
    }
    if (addr->sa_family != AF_INET6)
        return true;
    memcpy(&v6, addr, sizeof(v6));
    const uint8_t *b = v6.sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) || IN6_IS_ADDR_V4COMPAT(&v6.sin6_addr) ||
        !memcmp(b, nat64, sizeof(nat64)))
        return v4_link_local(b + 12);
    return IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr) || !memcmp(b, ec2, sizeof(ec2));
}

/* CURLOPT_OPENSOCKETFUNCTION: here the address is known, after any resolving. */
static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *addr)
{
    struct dial *d = userdata;

    (void)purpose;
    if (dial_forbidden(&addr->addr)) {
        d->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    return socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

/* --- connecting ---------------------------------------------------------------------------------
 */

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct dial *d = userdata;
    bool freed = false;

    (void)s;
    (void)fd;
    d->freed = &freed;
    d->ops->ready(d->userdata, revents);
    if (!freed)
        d->freed = NULL;
    return 0;
}

static int watch_stream(struct dial *d, struct err *e)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (curl_easy_getinfo(d->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD)
        return err_say(e, EIO, "the connection is lost");
    int r = sd_event_add_io(d->loop, &d->io, fd, EPOLLIN | EPOLLRDHUP, on_io, d);
    return r < 0 ? err_set(e, -r, "watch the connection") : 0;
}

static void explain(struct dial *d, CURLcode code, struct err *e)
{
    const char *why = d->curl_text[0] ? d->curl_text : curl_easy_strerror(code);
    char quoted[ERR_TEXT_MAX / 2];

    if (d->forbidden)
        (void)err_say(e, EPERM, "a link-local address is never dialled");
    else
        (void)err_say(e, EIO, "%s", text_escape(quoted, sizeof(quoted), why, strlen(why)));
}

/* Tells what became of the one transfer, once. */
static void finish(void *userdata)
{
    struct dial *d = userdata;
    struct err e = ERR_INIT;
    bool freed = false;
    CURLMsg *msg;
    int left;

    do
        msg = curl_multi_info_read(multi_handle(d->multi), &left);
    while (msg && msg->msg != CURLMSG_DONE);
    if (!msg)
        return;
    CURLcode code = msg->data.result;
    if (code != CURLE_OK)
        explain(d, code, &e);
    bool later =
        (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) && !d->forbidden;
    d->freed = &freed;
    if (code == CURLE_OK && watch_stream(d, &e) == 0)
        d->ops->up(d->userdata);
    else
        d->ops->failed(d->userdata, &e, later);
    if (!freed)
        d->freed = NULL;
}

static int prepare(struct dial *d, const char *url, const struct http_trust *trust,
                   uint64_t total_usec, struct err *e)
{
    CURL *c = d->easy;
    uint64_t ms = (total_usec + USEC_PER_MSEC - 1) / USEC_PER_MSEC;

    (void)curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, 1L);
    (void)curl_easy_setopt(c, CURLOPT_SSL_ENABLE_ALPN, 0L); /* it is not HTTP that follows */
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
    (void)curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_SEC);
    (void)curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SEC);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, ms < INT32_MAX ? (long)ms : INT32_MAX);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, d->curl_text);
    (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, d);
    CURLcode r = curl_easy_setopt(c, CURLOPT_URL, url);
    if (r == CURLE_OK)
        r = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    if (r == CURLE_OK)
        r = (CURLcode)http_set_trust(c, trust);
    return r == CURLE_OK ? 0 : err_say(e, EINVAL, "prepare to dial: %s", curl_easy_strerror(r));
}

int dial_open(sd_event *loop, const char *url, const struct http_trust *trust, uint64_t total_usec,
              const struct dial_ops *ops, void *userdata, struct dial **ret, struct err *e)
{
    scoped(dial_freep) struct dial *d = NULL;

    d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ENOMEM, "prepare to dial");
    d->loop = sd_event_ref(loop);
    d->ops = ops;
    d->userdata = userdata;
    d->multi = multi_new(loop, "dial", finish, d);
    d->easy = d->multi ? curl_easy_init() : NULL;
    if (!d->easy)
        return err_set(e, ENOMEM, "prepare to dial");
    int r = prepare(d, url, trust, total_usec, e);
    if (r < 0)
        return r;
    CURLMcode m = curl_multi_add_handle(multi_handle(d->multi), d->easy);
    if (m != CURLM_OK)
        return err_say(e, ENOMEM, "dial: %s", curl_multi_strerror(m));
    *ret = TAKE_PTR(d);
    return 0;
}

void dial_freep(struct dial **dp)
{
    struct dial *d = *dp;

    if (!d)
        return;
    if (d->freed)
        *d->freed = true;
    sd_event_source_disable_unref(d->io); /* before its descriptor is closed */
    if (d->easy)
        (void)curl_multi_remove_handle(multi_handle(d->multi),
                                       d->easy); /* it may not be in there: fine */
    curl_easy_cleanup(d->easy);
    multi_freep(&d->multi);
    sd_event_unref(d->loop);
    free(d);
    *dp = NULL;
}

/* --- the stream ---------------------------------------------------------------------------------
 */

static ssize_t moved(struct dial *d, CURLcode code, size_t n, struct err *e)
{
    if (code == CURLE_OK)
        return (ssize_t)n;
    if (code == CURLE_AGAIN)
        return -EAGAIN;
    explain(d, code, e);
    return -EIO;
}

ssize_t dial_recv(struct dial *d, void *buf, size_t len, struct err *e)
{
    size_t n = 0;

    d->curl_text[0] = '\0';
    CURLcode code = curl_easy_recv(d->easy, buf, len, &n);
    return moved(d, code, n, e);
}

ssize_t dial_send(struct dial *d, const void *buf, size_t len, struct err *e)
{
    size_t n = 0;

    d->curl_text[0] = '\0';
    CURLcode code = curl_easy_send(d->easy, buf, len, &n);
    return moved(d, code, n, e);
}

void dial_watch(struct dial *d, bool in, bool out)
{
    uint32_t events = EPOLLRDHUP | (in ? EPOLLIN : 0u) | (out ? EPOLLOUT : 0u);

    (void)sd_event_source_set_io_events(d->io, events); /* only fails on our own bugs */
}
