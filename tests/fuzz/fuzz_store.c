/* What stores and those who give keys for them answer, and what addresses name. The first byte says
 * which it is. */
#include "slug/fetch/imds.h"
#include "slug/fetch/keystone.h"
#include "slug/fetch/object.h"
#include "slug/fetch/s3_error.h"
#include "slug/fetch/s3_url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void s3_error(const char *body, size_t len)
{
    struct s3_error x;

    if (!s3_error_parse(body, len, &x))
        return;
    if (!x.code[0] || strpbrk(x.code, "<>&: \r\n\x1b") || strpbrk(x.region, "<>&: \r\n\x1b") ||
        strlen(x.message) >= sizeof(x.message))
        abort();
}

static void keystone(const char *body, size_t len)
{
    struct err e = ERR_INIT;
    char message[100], *url = NULL;

    keystone_message(body, len, message, sizeof(message));
    if (strpbrk(message, "\r\n\x1b"))
        abort();
    if (keystone_endpoint(body, len, NULL, &url, &e) < 0) {
        if (url || !e.text[0] || strpbrk(e.text, "\r\n\x1b"))
            abort();
        return;
    }
    if (!str_starts(url, "http://") && !str_starts(url, "https://"))
        abort();
    free(url);
}

static void role(const char *body, size_t len)
{
    struct credentials c = {0};
    struct err e = ERR_INIT;

    if (imds_credentials_parse(body, len, &c, &e) < 0) {
        if (c.access_key || !e.text[0] || strpbrk(e.text, "\r\n\x1b"))
            abort();
        return;
    }
    if (c.expires <= 0 || strpbrk(c.access_key, "\r\n /,") || strpbrk(c.session_token, "\r\n "))
        abort();
    credentials_done(&c);
}

static void words(const char *body, size_t len)
{
    char token[IMDS_TOKEN_MAX + 1], name[IMDS_ROLE_MAX + 1];

    if (imds_token_parse(body, len, token) && (!token[0] || strpbrk(token, "\r\n ")))
        abort();
    if (imds_role_parse(body, len, name) && (!name[0] || strpbrk(name, "\r\n /?#%")))
        abort();
}

/* What is sent names the same object again, and nothing in it ends a path or begins a query. */
static void address(const char *text)
{
    const struct s3_place place = {"https://store.example", S3_REGION_DEFAULT, S3_STYLE_AUTO};
    struct str again = {0}, url = {0};
    struct err e = ERR_INIT;
    struct object o, o2;

    if (object_parse(text, "shown", "bucket", "key", &o, &e) < 0)
        return;
    str_add(&again, "s3://");
    object_encode(&again, o.top);
    str_add(&again, "/");
    object_encode(&again, o.name);
    if (object_parse(again.data, "shown", "bucket", "key", &o2, &e) < 0 ||
        strcmp(o.top, o2.top) != 0 || strcmp(o.name, o2.name) != 0)
        abort();
    if (s3_url(&place, &o, &url, &e) == 0 &&
        (!str_starts(url.data, "https://store.example/") || strpbrk(url.data, "?#@ \\\r\n")))
        abort();
    str_done(&again);
    str_done(&url);
}

static void endpoint(const char *text)
{
    char host[ENDPOINT_HOST_MAX], *base = NULL, *again = NULL;
    struct err e = ERR_INIT;

    if (endpoint_parse("it", text, &base, host, &e) < 0) {
        if (base)
            abort();
        return;
    }
    if (endpoint_parse("it", base, &again, NULL, &e) < 0 || strcmp(base, again) != 0)
        abort();
    free(base);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    char *text = strndup((const char *)data + 1, len - 1);
    const char *body = (const char *)data + 1;

    switch (data[0]) {
    case '0':
        s3_error(body, len - 1);
        break;
    case '1':
        keystone(body, len - 1);
        break;
    case '2':
        role(body, len - 1);
        break;
    case '3':
        words(body, len - 1);
        break;
    case '4':
        address(text);
        break;
    default:
        endpoint(text);
    }
    free(text);
    return 0;
}
