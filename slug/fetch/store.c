#include "slug/fetch/store.h"

#include "base/scoped.h"
#include "slug/fetch/url.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

typedef const struct store_ops *backend_fn(void);

static backend_fn *const backends[] = {
    store_file, store_http, store_https, store_s3, store_swift,
};
#define N_BACKENDS (sizeof(backends) / sizeof(backends[0]))

static const struct store_ops *find(const char *address)
{
    for (size_t i = 0; i < N_BACKENDS; i++) {
        const struct store_ops *ops = backends[i]();
        size_t len = strlen(ops->scheme);

        if (!strncasecmp(address, ops->scheme, len) && !strncmp(address + len, "://", 3))
            return ops;
    }
    return NULL;
}

static int refuse(struct err *e, const char *shown, const char *why)
{
    err_say(e, EINVAL, "%s: %s", shown, why);
    return err_blame(e, FAULT_OPERATOR);
}

int store_open(const struct store_env *env, const char *address, int file, struct store *ret,
               struct err *e)
{
    struct store s = {
        .ops = find(address), .env = env, .address = address, .file = file, .step = "auth"};

    url_shown(s.shown, address);
    if (strlen(address) > URL_MAX)
        return refuse(e, s.shown, "over the limit of 8192 bytes");
    if (!s.ops)
        return refuse(e, s.shown,
                      strstr(address, "://") ? "not a scheme that slugs come by" : "not a URL");
    int r = s.ops->open ? s.ops->open(&s, e) : 0;
    if (r < 0) {
        store_close(&s);
        return r;
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s->ops && s->ops->close)
        s->ops->close(s);
    s->ops = NULL;
    s->state = NULL;
}

void store_request_done(struct store_request *r)
{
    free(r->url);
    curl_slist_free_all(r->headers);
    *r = (struct store_request){0};
}

const char *store_setting(const struct store_env *env, const char *name, const char *key)
{
    const json_t *value = json_object_get(json_object_get(env->settings, name), key);
    const char *text = json_string_value(value);

    return text && text[0] ? text : NULL;
}
