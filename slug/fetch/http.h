/* http.h - the source stage that downloads over HTTP or HTTPS. Reading it runs the transfer:
 * nothing happens between reads, and no more is buffered than HTTP_BUFFER.
 *
 * Tries again (HTTP_TRIES in all, after a growing, jittered wait, or what Retry-After asks up to
 * HTTP_RETRY_AFTER_MAX s) what may pass: no connection, a timeout, 408, 425, 429, 5xx. A body that
 * broke off goes on where it broke, when the server gave a strong ETag or takes ranges: the bytes
 * above it have been hashed already.
 *
 * Redirects: five at most, never from https to http, and no connection is ever made to a link-local
 * address, where instance metadata lives. Proxies, .netrc and cookies are not used. */
#ifndef SLUG_FETCH_HTTP_H
#define SLUG_FETCH_HTTP_H

#include "slug/fetch/url.h"
#include "slug/stream.h"

#include <stdbool.h>
#include <sys/socket.h>

#define HTTP_BUFFER          (256u << 10)
#define HTTP_TRIES           4
#define HTTP_REDIRECTS_MAX   5
#define HTTP_RETRY_AFTER_MAX 10
#define HTTP_BACKOFF_MS      250 /* the first wait; each later one is three times as long */

struct http_options {
    const char *url;
    const char *ca_file; /* NULL: the system's */
    enum url_scheme scheme;
    uint64_t connect_ms;
    uint64_t stall_ms;
    uint64_t total_ms;
    /* Called while a transfer waits, a few times a second; an error ends it. May be NULL. */
    int (*on_wait)(void *userdata, struct err *e);
    void *userdata;
};

struct http;

/* O's strings must stay valid. */
int http_new(const struct http_options *o, struct http **ret, struct err *e);
void http_freep(struct http **h);
struct stream *http_stream(struct http *h);

/* The last status, 0: none yet. */
long http_status(const struct http *h);
/* Bytes of the whole body, -1: not known (yet). */
int64_t http_total(const struct http *h);

/* 169.254.0.0/16 and fe80::/10, also as an IPv4 address within IPv6 (mapped or NAT64). */
bool address_is_link_local(const struct sockaddr *addr);

#endif
