/* sigv4.h - AWS Signature Version 4 once more, written from Amazon's description ("Signature
 * calculations for the Authorization header") and checked against its published examples, to check
 * what libcurl sends. For tests only: fixed buffers, asserts. */
#ifndef TESTS_SIGV4_H
#define TESTS_SIGV4_H

#include "base/str.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SIGV4_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct sigv4_request {
    const char *method, *path, *query; /* as sent; the query sorted and with its '=' */
    const char *const *headers;        /* "Name: value", NULL-terminated */
    const char *signed_headers;        /* "host;x-amz-date" */
    const char *secret, *region, *service;
};

static void sigv4_hex(const unsigned char *data, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++)
        (void)sprintf(out + 2 * i, "%02x", data[i]);
}

static const char *sigv4_header(const struct sigv4_request *rq, const char *name, size_t len)
{
    for (size_t i = 0; rq->headers[i]; i++) {
        const char *h = rq->headers[i];

        if (!strncasecmp(h, name, len) && h[len] == ':')
            return h + len + 1 + strspn(h + len + 1, " ");
    }
    return NULL;
}

static void sigv4_mac(unsigned char key[32], size_t key_len, const char *text)
{
    unsigned char out[32];
    unsigned n = 32;

    assert(
        HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, strlen(text), out, &n));
    memcpy(key, out, 32);
}

static void sigv4_canonical(const struct sigv4_request *rq, struct str *out)
{
    const char *hash = sigv4_header(rq, "x-amz-content-sha256", 20);

    str_addf(out, "%s\n%s\n%s\n", rq->method, rq->path, rq->query);
    for (const char *at = rq->signed_headers; *at;) {
        size_t n = strcspn(at, ";");
        const char *value = sigv4_header(rq, at, n);

        assert(value);
        str_addf(out, "%.*s:%s\n", (int)n, at, value);
        at += n + (at[n] == ';');
    }
    str_addf(out, "\n%s\n%s", rq->signed_headers, hash ? hash : SIGV4_EMPTY);
}

/* The signature in hexadecimal digits. */
static void sigv4_sign(const struct sigv4_request *rq, char out[65])
{
    const char *date = sigv4_header(rq, "x-amz-date", 10);
    struct str canonical = {0}, text = {0};
    unsigned char hash[32], key[256];
    char hex[65], day[9];
    unsigned n = 32;

    assert(date && strlen(date) == 16);
    (void)snprintf(day, sizeof(day), "%.8s", date);
    sigv4_canonical(rq, &canonical);
    assert(EVP_Digest(canonical.data, canonical.len, hash, &n, EVP_sha256(), NULL));
    sigv4_hex(hash, 32, hex);
    str_addf(&text, "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%s", date, day, rq->region,
             rq->service, hex);
    int len = snprintf((char *)key, sizeof(key), "AWS4%s", rq->secret);
    assert(len > 0 && len < (int)sizeof(key));
    sigv4_mac(key, (size_t)len, day);
    sigv4_mac(key, 32, rq->region);
    sigv4_mac(key, 32, rq->service);
    sigv4_mac(key, 32, "aws4_request");
    sigv4_mac(key, 32, text.data);
    sigv4_hex(key, 32, out);
    str_done(&canonical);
    str_done(&text);
}

#endif
