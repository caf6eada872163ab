/* store.h - where slugs lie: a table of backends behind one interface. A backend knows how its
 * store is asked, and what its answers mean; it does not download. It turns the address of a mirror
 * into requests that libcurl can make (download.c makes them: ranges, conditions, retries, limits
 * are its), or names an open file.
 *
 * The settings come with the fetch's request, as the member "stores": one object per backend, named
 * as the backend. Secrets are in them: no error text may hold one, nor the query of a URL.
 *
 *   {"s3": {"endpoint": URL (absent: Amazon's), "region" (us-east-1), "path_style": B (absent: as
 *           s3_url.h says), "access_key", "secret_key", "session_token", or "role": "imds" with
 *           "imds": URL (absent: the instance's own); none of them: requests are not signed},
 *    "swift": {"auth_url", "auth_version": "1"|"3" (absent: as auth_url ends, /v1.0 or /v3),
 *              "user", "key", "project", "domain" (Default), "region",
 *              "storage_url": URL (absent: as the token's answer says)},
 *    "https": {"hosts": "HOST[:PORT]..." (blanks between; the only ones that get what follows),
 *              "token": S, "cert": PEM, "key": PEM}}
 *
 * A new backend: a file store_NAME.c with a function that gives its ops, and a line in store.c. */
#ifndef SLUG_FETCH_STORE_H
#define SLUG_FETCH_STORE_H

#include "base/err.h"
#include "slug/fetch/url.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_REPLY_MAX 65536u /* bytes of a store_call()'s answer */
#define STORE_ERROR_MAX 4096u  /* bytes of a refusal's body that a backend gets to see */

/* What all mirrors of one fetch share. Plain data; outlives its stores. */
struct store_env {
    const json_t *settings; /* "stores"; NULL: none */
    const char *ca_file;    /* NULL: the system's */
    bool allow_http;        /* for addresses; an endpoint in the settings may always be http:// */
    uint64_t connect_ms;
    /* Called a few times a second while store_call() waits; an error ends it. May be NULL. */
    int (*on_wait)(void *userdata, struct err *e);
    void *userdata;
};

struct store_ops;

/* One mirror. */
struct store {
    const struct store_ops *ops;
    const struct store_env *env; /* borrowed */
    const char *address;         /* borrowed: "s3://bucket/key" */
    char shown[URL_SHOWN_MAX];   /* the same for messages */
    int file;                    /* borrowed: the open file of a file:// mirror, else -1 */
    const char *step;            /* of a failed prepare(): "auth" unless the backend says other */
    void *state;                 /* the backend's own */
};

/* One GET as the backend wants it. store_request_done() frees it. */
struct store_request {
    char *url;                  /* http:// or https:// */
    struct curl_slist *headers; /* may be NULL */
    /* Redirects are followed (download.c bounds them: never from https to http, never to a
     * link-local address). Not for requests that are signed for one host. */
    bool follow;
};

/* A status other than 200 and 206 (and 412 and 416, which are about ranges), after redirects. */
struct store_refusal {
    long status;
    const char *body; /* its first STORE_ERROR_MAX bytes, NUL-terminated: a stranger's */
    size_t len;
    CURL *easy;       /* for curl_easy_header() */
    int64_t skew_sec; /* our clock minus the store's (its Date); 0: unknown, or within a minute */
};

enum store_verdict {
    STORE_PLAIN, /* nothing to add: judged by its status */
    STORE_FINAL, /* E says why, with its fault; the mirror has failed */
    STORE_LATER, /* E says why; may pass: tried again after a pause */
    STORE_RENEW, /* a credential was thrown away: prepare() makes a new one; tried again at once.
                  * The download allows one a mirror, unless bytes came in between; past that E,
                  * which is filled here too, is final */
    STORE_MOVED, /* prepare() makes another address from now on; asked at once. The backend sees to
                  * it that this ends */
};

struct store_ops {
    const char *scheme; /* without "://" */
    /* The address and the settings; no network, nothing opened. */
    int (*open)(struct store *s, struct err *e);
    void (*close)(struct store *s); /* may be NULL; S->state may be NULL */
    /* Network backends: the next request. Asked before each, so signatures and tokens are fresh;
     * may call store_call(). Options that belong to it are set on EASY (CURLOPT_AWS_SIGV4,
     * USERPWD, SSLCERT_BLOB, XOAUTH2_BEARER); EASY was reset before and gets CURLOPT_URL,
     * HTTPHEADER, RANGE, CAINFO and the callbacks after. NULL: bytes are in S->file. */
    int (*prepare)(struct store *s, CURL *easy, struct store_request *ret, struct err *e);
    /* May be NULL: STORE_PLAIN. */
    enum store_verdict (*refused)(struct store *s, const struct store_refusal *r, struct err *e);
};

/* Opens ADDRESS; FILE is borrowed, -1: none. *ret is set on success only. An unknown scheme: the
 * operator's fault. */
int store_open(const struct store_env *env, const char *address, int file, struct store *ret,
               struct err *e);
void store_close(struct store *s);
void store_request_done(struct store_request *r);

/* Member KEY of the settings of backend NAME: a text, or NULL when absent, empty or no text. */
const char *store_setting(const struct store_env *env, const char *name, const char *key);

/* --- small requests, for tokens and roles --------------------------------------------------------
 */

struct store_call {
    const char *method; /* "GET", "PUT", "POST" */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
    const char *body;           /* NULL: none */
    uint64_t total_ms;
    unsigned tries;  /* what may pass (no connection, timeout, 408, 429, 5xx) is tried so often */
    bool link_local; /* may go to a link-local address: instance metadata only */
};

struct store_reply {
    long status;
    char *body; /* NUL-terminated */
    size_t len;
    CURL *easy; /* for store_reply_header() */
};

/* (store_call.c) Makes one request and waits for its answer; no redirects, no proxy. 0 with any
 * status; an error when there is none. Blocking, bounded by total_ms * tries. */
int store_call(const struct store_env *env, const struct store_call *c, struct store_reply *ret,
               struct err *e);
void store_reply_done(struct store_reply *r);
/* NULL: not there. Valid until store_reply_done(). */
const char *store_reply_header(const struct store_reply *r, const char *name);

/* --- the backends --------------------------------------------------------------------------------
 */

const struct store_ops *store_file(void);
const struct store_ops *store_http(void);
const struct store_ops *store_https(void);
const struct store_ops *store_s3(void);
const struct store_ops *store_swift(void);

#endif
