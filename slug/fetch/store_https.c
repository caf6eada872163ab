/* store_https.c - https:// (and http://, where the operator allows it): the address is the request.
 */
#include "slug/fetch/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int https_open(struct store *s, struct err *e)
{
    enum url_scheme scheme;

    return url_check(s->address, s->env->allow_http, &scheme, e);
}

static int https_prepare(struct store *s, CURL *easy, struct store_request *ret, struct err *e)
{
    char *url = strdup(s->address);

    (void)easy;
    if (!url)
        return err_set(e, ENOMEM, "prepare the download");
    *ret = (struct store_request){.url = url, .follow = true};
    return 0;
}

const struct store_ops *store_http(void)
{
    static const struct store_ops ops = {
        .scheme = "http", .open = https_open, .prepare = https_prepare};

    return &ops;
}

const struct store_ops *store_https(void)
{
    static const struct store_ops ops = {
        .scheme = "https", .open = https_open, .prepare = https_prepare};

    return &ops;
}
