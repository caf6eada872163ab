/* http.h - HTTP requests on the event loop: libcurl's multi interface driven by sd-event. Nothing
 * blocks (names are resolved in a thread of libcurl's).
 *
 * HTTP/1.1; TLS 1.2 or newer, always verified; no redirect is followed, no proxy is taken from the
 * environment; connections are kept and used again. Everything that a server can send is bounded:
 * the head (HTTP_HEAD_MAX), the body (answer_max), the time (connect_usec, total_usec). */
#ifndef LINK_HTTP_H
#define LINK_HTTP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define HTTP_HEAD_MAX        (64u << 10) /* bytes of status lines and header fields of one answer */
#define HTTP_RETRY_AFTER_SEC 600         /* what a server may ask for at most */

struct http;
struct http_job;

/* PEM texts. ca NULL: the system's authorities; not NULL: only these. cert NULL: no client
 * certificate. */
struct http_trust {
    const char *ca, *cert, *key;
    size_t ca_len, cert_len, key_len;
};

/* All of it is copied. */
struct http_request {
    const char *method, *url;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
    const char *body;           /* NULL: none */
    size_t body_len;
    size_t answer_max;              /* bytes; a longer answer is an error of kind "too-big" */
    uint64_t connect_usec;          /* until the connection (and TLS) is there */
    uint64_t total_usec;            /* all of it */
    const struct http_trust *trust; /* NULL: the system's authorities, no client certificate */
    bool connect_only;              /* connect (and TLS), ask nothing, close: to learn local */
};

/* Valid during the callback only. KIND, of an error, is one of "resolve", "connect", "tls",
 * "timeout", "redirect", "too-big", "broken", "not-http", "url", "memory". */
struct http_answer {
    int status; /* 0: none came */
    const char *body;
    size_t len;                /* a NUL follows */
    const char *type;          /* Content-Type; "" when there is none */
    uint64_t retry_after_usec; /* 0: not asked for. At most HTTP_RETRY_AFTER_SEC */
    const char *local;         /* our own address of the connection; "" when there was none */
    const struct err *why;     /* not NULL: there is no answer */
    const char *kind;          /* of the error; NULL without one */
};
typedef void (*http_done_fn)(void *userdata, const struct http_answer *answer);

/* Opens what TLS reads from the file system at its start: call it before files are out of reach. */
int http_new(sd_event *loop, struct http **ret, struct err *e);
/* Cancels what runs. May be called in a callback. */
void http_freep(struct http **h);

/* FN is called from the loop, once; the job is gone then. -EINVAL: not a request (a URL, a header).
 */
int http_send(struct http *h, const struct http_request *rq, http_done_fn fn, void *userdata,
              struct http_job **ret, struct err *e);
/* No callback after this. NULL is fine. */
void http_cancel(struct http_job *job);

/* CURL is a CURL *: TLS 1.2, verified, with T. For those who speak other than HTTP over it. Returns
 * a CURLcode. */
int http_set_trust(void *curl, const struct http_trust *t);

#endif
