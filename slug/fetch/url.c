#include "slug/fetch/url.h"

#include "base/str.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

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

int url_check(const char *url, bool allow_http, struct err *e)
{
    CURLU *u = curl_url();
    bool parses;

    if (!u)
        return err_set(e, ENOMEM, "parse a URL");
    parses = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK;
    curl_url_cleanup(u);
    if (!parses)
        return refuse(e, url, "not a URL");
    if (strncasecmp(url, "https:", 6) != 0 && !allow_http)
        return refuse(e, url, "plain http is not allowed: anyone on the way could change the slug");
    return 0;
}
