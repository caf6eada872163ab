#include "slug/fetch/url.h"

#include "base/str.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

char *url_shown(char out[URL_SHOWN_MAX], const char *url)
{
    char clean[URL_SHOWN_MAX];
    const char *mark = strstr(url, "://");
    size_t scheme = mark ? (size_t)(mark + 3 - url) : 0;
    const char *rest = url + scheme;
    size_t host = strcspn(rest, "/?#");
    size_t len = 0;

    for (size_t i = host; i > 0; i--) /* the last '@' ends the password, which may hold others */
        if (rest[i - 1] == '@') {
            rest += i;
            break;
        }
    len = scheme < sizeof(clean) ? scheme : sizeof(clean);
    memcpy(clean, url, len);
    size_t n = strcspn(rest, "?#");
    if (n > sizeof(clean) - len)
        n = sizeof(clean) - len;
    memcpy(clean + len, rest, n);
    return text_escape(out, URL_SHOWN_MAX, clean, len + n);
}

static int refuse(struct err *e, const char *url, const char *why)
{
    char shown[URL_SHOWN_MAX];

    err_say(e, EINVAL, "%s: %s", url_shown(shown, url), why);
    return err_blame(e, FAULT_OPERATOR);
}

static int check_parts(CURLU *u, const char *url, bool allow_http, enum url_scheme *ret,
                       struct err *e)
{
    static const char *const names[] = {"file", "http", "https"};
    char *scheme = NULL;
    int found = -1;

    if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        return refuse(e, url, "not a URL");
    for (int i = 0; i < 3; i++)
        if (!strcmp(scheme, names[i]))
            found = i;
    curl_free(scheme);
    if (found < 0)
        return refuse(e, url, "not a scheme that slugs come by: https or file");
    if (found == URL_HTTP && !allow_http)
        return refuse(e, url, "plain http is not allowed: anyone on the way could change the slug");
    *ret = (enum url_scheme)found;
    return 0;
}

int url_check(const char *url, bool allow_http, enum url_scheme *ret, struct err *e)
{
    if (strlen(url) > URL_MAX)
        return refuse(e, url, "over the limit of 8192 bytes");
    CURLU *u = curl_url();
    if (!u)
        return err_set(e, ENOMEM, "parse a URL");
    int r = check_parts(u, url, allow_http, ret, e);
    curl_url_cleanup(u);
    return r;
}
