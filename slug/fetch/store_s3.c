/* store_s3.c - s3://BUCKET/KEY, at Amazon and at what speaks its protocol. Requests are signed by
 * libcurl (AWS Signature Version 4, header form), or not at all where there are no credentials. */
#include "slug/fetch/store.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "slug/fetch/credentials.h"
#include "slug/fetch/imds.h"
#include "slug/fetch/s3_error.h"
#include "slug/fetch/s3_url.h"
#include "slug/fetch/transport.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct s3 {
    struct object object;
    char region[S3_REGION_MAX + 1];
    char *url;
    struct credentials keys;
    bool role;        /* they are the instance's */
    int64_t renew_at; /* seconds since 1970 */
    int64_t renewed;  /* when they were had last; 0: never */
    struct imds imds;
};

static void s3_done(struct s3 *s)
{
    free(s->url);
    credentials_done(&s->keys);
    imds_done(&s->imds);
}

static void s3_freep(struct s3 **s)
{
    if (*s)
        s3_done(*s);
    free(*s);
}

static void s3_close(struct store *store)
{
    struct s3 *s = store->state;

    s3_freep(&s);
}

static const char *setting(const struct store *store, const char *key)
{
    return store_setting(store->env, "s3", key);
}

/* --- the settings --------------------------------------------------------------------------------
 */

static int refuse(struct err *e, const char *why)
{
    err_say(e, EINVAL, "%s", why);
    return err_blame(e, FAULT_OPERATOR);
}

static int take_place(const struct store *store, struct s3 *s, struct err *e)
{
    const json_t *settings = json_object_get(store->env->settings, "s3");
    const json_t *path_style = json_object_get(settings, "path_style");
    const char *region = setting(store, "region");
    struct s3_place place = {
        .endpoint = setting(store, "endpoint"),
        .region = region ? region : S3_REGION_DEFAULT,
        .style = json_is_true(path_style)    ? S3_STYLE_PATH
                 : json_is_false(path_style) ? S3_STYLE_VIRTUAL
                                             : S3_STYLE_AUTO,
    };
    scoped(str_done) struct str url = {.max = URL_MAX};
    int r = s3_url(&place, &s->object, &url, e);

    if (r < 0)
        return r;
    (void)snprintf(s->region, sizeof(s->region), "%s", place.region);
    s->url = TAKE_PTR(url.data);
    return 0;
}

static int take_keys(const struct store *store, struct s3 *s, struct err *e)
{
    const char *role = setting(store, "role");

    if (role && strcmp(role, "imds") != 0)
        return refuse(e, "the store's setting s3.role is not \"imds\"");
    int r = credentials_set(&s->keys, setting(store, "access_key"), setting(store, "secret_key"),
                            setting(store, "session_token"), e);
    if (r < 0 || !role)
        return r;
    if (s->keys.access_key)
        return refuse(e, "the store's settings have both keys and a role");
    s->role = true;
    return imds_init(&s->imds, setting(store, "imds"), e);
}

static int s3_open(struct store *store, struct err *e)
{
    scoped(s3_freep) struct s3 *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "prepare the download");
    int r = object_parse(store->address, store->shown, "bucket", "key", &s->object, e);
    if (r < 0)
        return r;
    r = take_place(store, s, e);
    if (r == 0)
        r = take_keys(store, s, e);
    if (r < 0)
        return err_wrap(e, "%s", store->shown);
    store->state = TAKE_PTR(s);
    return 0;
}

/* --- requests ------------------------------------------------------------------------------------
 */

/* The role's credentials, renewed before they end. What cannot be renewed is used while it lasts.
 */
static int have_role(struct store *store, struct s3 *s, struct err *e)
{
    int64_t now = (int64_t)(clock_real() / USEC_PER_SEC);
    struct credentials fresh = {0};
    struct err why = ERR_INIT;

    if (s->keys.access_key && now < s->renew_at)
        return 0;
    int r = imds_credentials(&s->imds, store->env, &fresh, &why);
    if (r < 0 && (!s->keys.access_key || now >= s->keys.expires)) {
        *e = why;
        return err_wrap(e, "%s", store->shown);
    }
    if (r < 0) {
        s->renew_at = credentials_renew_at(now, s->keys.expires);
        return 0;
    }
    credentials_done(&s->keys);
    s->keys = fresh;
    s->renewed = now;
    s->renew_at = credentials_renew_at(now, fresh.expires);
    return 0;
}

static int add_header(struct store_request *rq, const char *name, const char *value)
{
    scoped_free char *line = NULL;

    if (asprintf(&line, "%s: %s", name, value) < 0)
        return -ENOMEM;
    struct curl_slist *longer = curl_slist_append(rq->headers, line);
    if (!longer)
        return -ENOMEM;
    rq->headers = longer;
    return 0;
}

/* libcurl signs the host, the date and all fields of ours. It would hash a body, so the body is
 * declared unsigned, as it has to be with libcurl before 8; a GET has none. */
static int sign(const struct s3 *s, CURL *easy, struct store_request *rq)
{
    char provider[S3_REGION_MAX + 16];

    (void)snprintf(provider, sizeof(provider), "aws:amz:%s:s3", s->region);
    if (curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, provider) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_USERNAME, s->keys.access_key) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_PASSWORD, s->keys.secret_key) != CURLE_OK)
        return -ENOMEM;
    int r = add_header(rq, "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    return r == 0 && s->keys.session_token
               ? add_header(rq, "x-amz-security-token", s->keys.session_token)
               : r;
}

static int s3_prepare(struct store *store, CURL *easy, struct store_request *ret, struct err *e)
{
    scoped(store_request_done) struct store_request rq = {.follow = false};
    struct s3 *s = store->state;
    int r = s->role ? have_role(store, s, e) : 0;

    if (r < 0)
        return r;
    rq.url = strdup(s->url);
    /* A key may be "a/../b": libcurl is not to tidy that up. */
    if (!rq.url || curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L) != CURLE_OK ||
        (s->keys.access_key && sign(s, easy, &rq) < 0))
        return err_set(e, ENOMEM, "prepare the download");
    *ret = (struct store_request){.url = TAKE_PTR(rq.url), .headers = TAKE_PTR(rq.headers)};
    return 0;
}

/* --- refusals ------------------------------------------------------------------------------------
 */

enum reason {
    REASON_BUCKET,
    REASON_KEY,
    REASON_ACCESS,
    REASON_SECRET,
    REASON_UNKNOWN_KEY,
    REASON_EXPIRED,
    REASON_CLOCK,
    REASON_REGION,
    REASON_ARCHIVED,
    REASON_BUSY,
    REASON_OTHER,
};

/* "Error responses" in Amazon's API reference; others use the same words. */
static enum reason reason_of(const char *code, long status)
{
    static const struct {
        const char *code;
        enum reason reason;
    } table[] = {
        {"NoSuchBucket", REASON_BUCKET},
        {"NoSuchKey", REASON_KEY},
        {"NoSuchVersion", REASON_KEY},
        {"AccessDenied", REASON_ACCESS},
        {"AllAccessDisabled", REASON_ACCESS},
        {"SignatureDoesNotMatch", REASON_SECRET},
        {"InvalidAccessKeyId", REASON_UNKNOWN_KEY},
        {"ExpiredToken", REASON_EXPIRED},
        {"InvalidToken", REASON_EXPIRED},
        {"TokenRefreshRequired", REASON_EXPIRED},
        {"RequestTimeTooSkewed", REASON_CLOCK},
        {"RequestExpired", REASON_CLOCK},
        {"AuthorizationHeaderMalformed", REASON_REGION},
        {"PermanentRedirect", REASON_REGION},
        {"TemporaryRedirect", REASON_REGION},
        {"Redirect", REASON_REGION},
        {"IllegalLocationConstraintException", REASON_REGION},
        {"InvalidObjectState", REASON_ARCHIVED},
        {"SlowDown", REASON_BUSY},
        {"InternalError", REASON_BUSY},
        {"ServiceUnavailable", REASON_BUSY},
        {"OperationAborted", REASON_BUSY},
        {"RequestTimeout", REASON_BUSY},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (!strcmp(code, table[i].code))
            return table[i].reason;
    return transport_passes(status) ? REASON_BUSY : REASON_OTHER;
}

static enum store_verdict final(struct err *e)
{
    (void)err_blame(e, FAULT_OPERATOR);
    return STORE_FINAL;
}

static enum store_verdict say_region(const struct store *store, const struct store_refusal *r,
                                     const struct s3_error *x, struct err *e)
{
    const struct s3 *s = store->state;
    struct curl_header *h;
    char region[100] = "", endpoint[120] = "";

    if (x->region[0])
        (void)text_escape(region, sizeof(region), x->region, strlen(x->region));
    else if (curl_easy_header(r->easy, "x-amz-bucket-region", 0, CURLH_HEADER, -1, &h) == CURLHE_OK)
        (void)text_escape(region, sizeof(region), h->value, strlen(h->value));
    if (x->endpoint[0])
        (void)text_escape(endpoint, sizeof(endpoint), x->endpoint, strlen(x->endpoint));
    if (region[0] && strcmp(region, s->region) != 0)
        err_say(e, EINVAL, "%s: the bucket is in the region %s, not in %s", store->shown, region,
                s->region);
    else if (endpoint[0])
        err_say(e, EINVAL, "%s: the bucket is at the endpoint %s, and this is not it (region %s)",
                store->shown, endpoint, s->region);
    else
        err_say(e, EINVAL, "%s: the bucket is not in the region %s (HTTP status %ld)", store->shown,
                s->region, r->status);
    return final(e);
}

static enum store_verdict say_clock(const struct store *store, const struct store_refusal *r,
                                    struct err *e)
{
    int64_t skew = r->skew_sec < 0 ? -r->skew_sec : r->skew_sec;

    if (skew)
        err_say(e, EPERM, "%s: this machine's clock is %lld minutes %s the store's", store->shown,
                (long long)(skew + 30) / 60, r->skew_sec > 0 ? "ahead of" : "behind");
    else
        err_say(e, EPERM, "%s: this machine's clock is too far from the store's", store->shown);
    return final(e);
}

/* The instance's credentials are asked for again; those of the settings are over. */
static enum store_verdict say_expired(const struct store *store, const struct s3_error *x,
                                      struct err *e)
{
    struct s3 *s = store->state;

    err_say(e, EACCES, "%s: the session token has expired, or is not a valid one (%s)",
            store->shown, x->code);
    (void)err_blame(e, FAULT_OPERATOR);
    if (!s->role)
        return STORE_FINAL;
    s->renew_at = 0;
    return STORE_RENEW;
}

static enum store_verdict say_access(const struct store *store, const struct store_refusal *r,
                                     struct err *e)
{
    const struct s3 *s = store->state;

    if (r->skew_sec)
        return say_clock(store, r, e);
    const char *why =
        s->role ? "the instance's role may not read it, or it is not there and the role may not "
                  "list the bucket"
        : s->keys.access_key
            ? "the key may not read it, or it is not there and the key may not list the bucket"
            : "there are no credentials for the store";
    err_say(e, EACCES, "%s: access denied: %s", store->shown, why);
    return final(e);
}

/* E gets the store's own words. */
static void quote(const struct store *store, const struct store_refusal *r,
                  const struct s3_error *x, struct err *e)
{
    char message[200];

    err_say(e, EIO, "%s: HTTP status %ld, %s: %s", store->shown, r->status, x->code,
            text_escape(message, sizeof(message), x->message, strlen(x->message)));
}

static enum store_verdict judge(const struct store *store, const struct store_refusal *r,
                                const struct s3_error *x, struct err *e)
{
    const struct s3 *s = store->state;
    char bucket[160];

    switch (reason_of(x->code, r->status)) {
    case REASON_BUCKET:
        err_say(e, ENOENT, "%s: the store has no bucket %s", store->shown,
                text_escape(bucket, sizeof(bucket), s->object.top, strlen(s->object.top)));
        return final(e);
    case REASON_KEY:
        err_say(e, ENOENT, "%s: no such key in the bucket", store->shown);
        return final(e);
    case REASON_ACCESS:
        return say_access(store, r, e);
    case REASON_SECRET:
        err_say(e, EACCES,
                "%s: the store computes another signature: the secret key is not that of the "
                "access key%s",
                store->shown, r->skew_sec ? ", or this machine's clock is wrong" : "");
        return final(e);
    case REASON_UNKNOWN_KEY:
        err_say(e, EACCES, "%s: the store does not know the access key", store->shown);
        return final(e);
    case REASON_EXPIRED:
        return say_expired(store, x, e);
    case REASON_CLOCK:
        return say_clock(store, r, e);
    case REASON_REGION:
        return say_region(store, r, x, e);
    case REASON_ARCHIVED:
        err_say(e, EACCES, "%s: it lies in an archive, from which it has to be restored first",
                store->shown);
        return final(e);
    case REASON_BUSY:
        quote(store, r, x, e);
        return STORE_LATER;
    case REASON_OTHER:
    default:
        quote(store, r, x, e);
        if (r->status >= 500)
            return STORE_FINAL;
        return final(e);
    }
}

static enum store_verdict s3_refused(struct store *store, const struct store_refusal *r,
                                     struct err *e)
{
    struct s3_error x = {0};

    if (s3_error_parse(r->body, r->len, &x))
        return judge(store, r, &x, e);
    if (r->status >= 300 && r->status < 400)
        return say_region(store, r, &x, e);
    return STORE_PLAIN;
}

const struct store_ops *store_s3(void)
{
    static const struct store_ops ops = {
        .scheme = "s3",
        .open = s3_open,
        .close = s3_close,
        .prepare = s3_prepare,
        .refused = s3_refused,
    };

    return &ops;
}
