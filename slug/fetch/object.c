#include "slug/fetch/object.h"

#include "base/scoped.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int refuse(struct err *e, const char *shown, const char *what, const char *why)
{
    err_say(e, EINVAL, "%s: the %s %s", shown, what, why);
    return err_blame(e, FAULT_OPERATOR);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* LEN bytes of TEXT, decoded into OUT of MAX bytes and a NUL. NULL, or what is wrong. */
static const char *decode(const char *text, size_t len, char *out, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            int high = i + 2 < len ? hex(text[i + 1]) : -1;
            int low = i + 2 < len ? hex(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return "has a '%' that is not followed by two hexadecimal digits (write it %25)";
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0')
            return "has a NUL byte";
        if (n == max)
            return max == OBJECT_TOP_MAX ? "is over the limit of 256 bytes"
                                         : "is over the limit of 1024 bytes";
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0 ? NULL : "is missing";
}

int object_parse(const char *address, const char *shown, const char *what_top,
                 const char *what_name, struct object *ret, struct err *e)
{
    const char *mark = strstr(address, "://");
    const char *top = mark ? mark + 3 : address;
    size_t top_len = strcspn(top, "/");
    const char *name = top[top_len] ? top + top_len + 1 : "";
    struct object o;
    const char *why = decode(top, top_len, o.top, OBJECT_TOP_MAX);

    if (!why && strchr(o.top, '/'))
        why = "has a '/'";
    if (why)
        return refuse(e, shown, what_top, why);
    why = decode(name, strlen(name), o.name, OBJECT_NAME_MAX);
    if (why)
        return refuse(e, shown, what_name, why);
    *ret = o;
    return 0;
}

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

void object_encode(struct str *out, const char *text)
{
    for (; *text; text++)
        if (unreserved(*text) || *text == '/')
            str_add_n(out, text, 1);
        else
            str_addf(out, "%%%02X", (unsigned char)*text);
}

static void url_freep(CURLU **u)
{
    curl_url_cleanup(*u);
}

static void part_freep(char **text)
{
    curl_free(*text);
}

static bool has_part(CURLU *u, CURLUPart part)
{
    scoped(part_freep) char *text = NULL;

    return curl_url_get(u, part, &text, 0) == CURLUE_OK;
}

static int refuse_endpoint(struct err *e, const char *what, const char *why)
{
    err_say(e, EINVAL, "%s %s", what, why);
    return err_blame(e, FAULT_OPERATOR);
}

static bool take_host(CURLU *u, char out[ENDPOINT_HOST_MAX])
{
    scoped(part_freep) char *host = NULL;
    scoped(part_freep) char *port = NULL;

    if (curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK || !host[0])
        return false;
    (void)curl_url_get(u, CURLUPART_PORT, &port, CURLU_NO_DEFAULT_PORT);
    int n = snprintf(out, ENDPOINT_HOST_MAX, "%s%s%s", host, port ? ":" : "", port ? port : "");
    return n < ENDPOINT_HOST_MAX;
}

int endpoint_parse(const char *what, const char *url, char **ret_base,
                   char ret_host[ENDPOINT_HOST_MAX], struct err *e)
{
    scoped(url_freep) CURLU *u = curl_url();
    scoped(part_freep) char *scheme = NULL;
    scoped(part_freep) char *path = NULL;
    char host[ENDPOINT_HOST_MAX];

    if (!u)
        return err_set(e, ENOMEM, "parse a URL");
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        return refuse_endpoint(e, what, "is not a URL");
    if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        return refuse_endpoint(e, what, "is neither http:// nor https://");
    if (!take_host(u, host) || curl_url_get(u, CURLUPART_PATH, &path, 0) != CURLUE_OK)
        return refuse_endpoint(e, what, "is not a URL");
    if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD) ||
        has_part(u, CURLUPART_QUERY) || has_part(u, CURLUPART_FRAGMENT))
        return refuse_endpoint(e, what, "has a user, a query or a fragment");
    size_t len = strlen(path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    if (asprintf(ret_base, "%s://%s%.*s", scheme, host, (int)len, path) < 0)
        return err_set(e, ENOMEM, "parse a URL");
    if (ret_host)
        memcpy(ret_host, host, sizeof(host));
    return 0;
}

bool field_is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    return true;
}
