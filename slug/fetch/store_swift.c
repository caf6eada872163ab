/* store_swift.c - swift://CONTAINER/OBJECT of an OpenStack Swift, or what speaks its protocol
 * (Rackspace Cloud Files): a token by v1 auth or by Keystone, then a GET with it. Segmented objects
 * (DLO, SLO) come as one, with ranges and a tag of the whole. */
#include "slug/fetch/store.h"

#include "base/scoped.h"
#include "slug/fetch/keystone.h"
#include "slug/fetch/object.h"
#include "slug/fetch/transport.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AUTH_MS     15000
#define AUTH_TRIES  3
#define LOOK_MS     5000
#define TOKEN_MAX   4096 /* a PKI token is that long; Fernet ones have 255 bytes */
#define BASE_MAX    2048 /* of the URL that a token's answer names */
#define STATUS_RATE 498  /* Swift's rate limit, of accounts */

struct swift {
    struct object object;
    bool v3;
    char *auth; /* the URL asked for a token */
    const char *user, *key;
    char *fixed;                 /* the settings' storage_url, or NULL */
    char storage[BASE_MAX];      /* as the last token came with it */
    char header[TOKEN_MAX + 20]; /* "X-Auth-Token: ..."; "": no token */
};

static void drop_token(struct swift *s)
{
    explicit_bzero(s->header, sizeof(s->header));
}

static void swift_freep(struct swift **p)
{
    struct swift *s = *p;

    if (!s)
        return;
    drop_token(s);
    free(s->auth);
    free(s->fixed);
    free(s);
}

static void swift_close(struct store *store)
{
    struct swift *s = store->state;

    swift_freep(&s);
}

static const char *setting(const struct store *store, const char *key)
{
    return store_setting(store->env, "swift", key);
}

static int refuse(struct err *e, const char *why)
{
    err_say(e, EINVAL, "%s", why);
    return err_blame(e, FAULT_OPERATOR);
}

/* --- the settings --------------------------------------------------------------------------------
 */

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);

    return len >= n && !strcmp(text + len - n, end);
}

/* What is asked for a token: AUTH_URL itself for v1; for v3 the root of the identity service may
 * be given with or without its version, or the whole. */
static int take_auth(const struct store *store, struct swift *s, struct err *e)
{
    const char *url = setting(store, "auth_url"), *version = setting(store, "auth_version");
    scoped_free char *base = NULL;

    if (!url)
        return refuse(e, "the store's setting swift.auth_url is missing");
    int r = endpoint_parse("the store's setting swift.auth_url", url, &base, NULL, e);
    if (r < 0)
        return r;
    bool whole = ends_in(base, "/v3/auth/tokens");
    if (version && strcmp(version, "1") != 0 && strcmp(version, "3") != 0)
        return refuse(e, "the store's setting swift.auth_version is neither 1 nor 3");
    s->v3 = version ? version[0] == '3' : whole || ends_in(base, "/v3");
    if (!version && !s->v3 && !ends_in(base, "/v1.0") && !ends_in(base, "/v1"))
        return refuse(e, "the store's swift.auth_url does not tell its version (it ends in "
                         "neither /v1.0 nor /v3): set swift.auth_version");
    if (asprintf(&s->auth, "%s%s", base,
                 !s->v3 || whole        ? ""
                 : ends_in(base, "/v3") ? "/auth/tokens"
                                        : "/v3/auth/tokens") < 0) {
        s->auth = NULL;
        return err_set(e, ENOMEM, "prepare the download");
    }
    return 0;
}

static int take_settings(const struct store *store, struct swift *s, struct err *e)
{
    const char *storage = setting(store, "storage_url");
    int r = take_auth(store, s, e);

    if (r < 0)
        return r;
    s->user = setting(store, "user");
    s->key = setting(store, "key");
    if (!s->user || !s->key)
        return refuse(e, "the store's setting swift.user or swift.key is missing");
    if (!field_is_plain(s->user) || !field_is_plain(s->key))
        return refuse(e, "the store's setting swift.user or swift.key has control characters");
    return storage ? endpoint_parse("the store's setting swift.storage_url", storage, &s->fixed,
                                    NULL, e)
                   : 0;
}

static int swift_open(struct store *store, struct err *e)
{
    scoped(swift_freep) struct swift *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "prepare the download");
    int r = object_parse(store->address, store->shown, "container", "object", &s->object, e);
    if (r < 0)
        return r;
    r = take_settings(store, s, e);
    if (r < 0)
        return err_wrap(e, "%s", store->shown);
    store->state = TAKE_PTR(s);
    return 0;
}

/* --- the token -----------------------------------------------------------------------------------
 */

/* Where the store is, when the settings do not say. */
static int take_storage(struct swift *s, const char *answer, struct err *e)
{
    scoped_free char *base = NULL;

    if (!answer)
        return err_say(e, EBADMSG, "the answer has no X-Storage-Url");
    int r = endpoint_parse("the answer's X-Storage-Url", answer, &base, NULL, e);
    if (r < 0)
        return r;
    /* A token that came by TLS is not sent without. */
    if (str_starts(s->auth, "https:") && !str_starts(base, "https:"))
        return refuse(e, "it answers with a store that is plain http://; set swift.storage_url");
    if (strlen(base) >= sizeof(s->storage))
        return err_say(e, EBADMSG, "the answer's X-Storage-Url is over the limit of 2047 bytes");
    memcpy(s->storage, base, strlen(base) + 1);
    return 0;
}

/* The answer's token becomes that of S, and ANSWER the place of the store. */
static int keep_token(struct swift *s, const char *token, const char *answer, struct err *e)
{
    if (!token || !token[0] || strlen(token) > TOKEN_MAX || !field_is_plain(token))
        return err_say(e, EBADMSG, "the answer has no token");
    int r = s->fixed ? 0 : take_storage(s, answer, e);
    if (r == 0)
        (void)snprintf(s->header, sizeof(s->header), "X-Auth-Token: %s", token);
    return r;
}

/* The identity service said something else than here is a token. */
static int auth_refused(const struct swift *s, const struct store_reply *reply, struct err *e)
{
    char message[160] = "";

    if (reply->status == 401 || reply->status == 403) {
        err_say(e, EACCES, "the user or the key is wrong (HTTP status %ld)", reply->status);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (s->v3)
        keystone_message(reply->body, reply->len, message, sizeof(message));
    err_say(e, EIO, "HTTP status %ld%s%s", reply->status, message[0] ? ": " : "", message);
    return err_blame(e, reply->status >= 500 || transport_passes(reply->status) ? FAULT_PLATFORM
                                                                                : FAULT_OPERATOR);
}

static int auth_v1(struct store *store, struct swift *s, struct err *e)
{
    scoped(store_reply_done) struct store_reply reply = {0};
    scoped_free char *user = NULL, *key = NULL;

    if (asprintf(&user, "X-Auth-User: %s", s->user) < 0 ||
        asprintf(&key, "X-Auth-Key: %s", s->key) < 0)
        return err_set(e, ENOMEM, "ask for a token");
    const char *const headers[] = {user, key, NULL};
    const struct store_call c = {
        .method = "GET",
        .url = s->auth,
        .headers = headers,
        .total_ms = AUTH_MS,
        .tries = AUTH_TRIES,
    };
    int r = store_call(store->env, &c, &reply, e);
    explicit_bzero(key, strlen(key));
    if (r < 0)
        return r;
    if (reply.status != 200 && reply.status != 204)
        return auth_refused(s, &reply, e);
    /* libcurl gives one field at a time. */
    const char *storage = store_reply_header(&reply, "X-Storage-Url");
    scoped_free char *url = storage ? strdup(storage) : NULL;
    return keep_token(s, store_reply_header(&reply, "X-Auth-Token"), url, e);
}

static int auth_v3(struct store *store, struct swift *s, struct err *e)
{
    scoped(store_reply_done) struct store_reply reply = {0};
    const char *const headers[] = {"Content-Type: application/json", NULL};
    const struct keystone_user u = {s->user, s->key, setting(store, "domain"),
                                    setting(store, "project")};
    scoped_free char *body = keystone_request(&u);
    scoped_free char *url = NULL;

    if (!body)
        return err_set(e, ENOMEM, "ask for a token");
    const struct store_call c = {
        .method = "POST",
        .url = s->auth,
        .headers = headers,
        .body = body,
        .total_ms = AUTH_MS,
        .tries = AUTH_TRIES,
    };
    int r = store_call(store->env, &c, &reply, e);
    explicit_bzero(body, strlen(body));
    if (r < 0)
        return r;
    if (reply.status != 201 && reply.status != 200)
        return auth_refused(s, &reply, e);
    if (!s->fixed)
        r = keystone_endpoint(reply.body, reply.len, setting(store, "region"), &url, e);
    return r < 0 ? r : keep_token(s, store_reply_header(&reply, "X-Subject-Token"), url, e);
}

static int have_token(struct store *store, struct swift *s, struct err *e)
{
    char shown[URL_SHOWN_MAX];
    int r = 0;

    if (!s->header[0])
        r = s->v3 ? auth_v3(store, s, e) : auth_v1(store, s, e);
    return r < 0 ? err_wrap(e, "%s: a token from %s", store->shown, url_shown(shown, s->auth)) : 0;
}

/* --- requests ------------------------------------------------------------------------------------
 */

static char *url_of(const struct swift *s, bool with_object)
{
    scoped(str_done) struct str url = {.max = URL_MAX};

    str_add(&url, s->fixed ? s->fixed : s->storage);
    str_add(&url, "/");
    object_encode(&url, s->object.top);
    if (with_object) {
        str_add(&url, "/");
        object_encode(&url, s->object.name);
    } else {
        str_add(&url, "?limit=1");
    }
    return url.failed ? NULL : TAKE_PTR(url.data);
}

static int swift_prepare(struct store *store, CURL *easy, struct store_request *ret, struct err *e)
{
    scoped(store_request_done) struct store_request rq = {.follow = false};
    struct swift *s = store->state;
    int r = have_token(store, s, e);

    if (r < 0)
        return r;
    rq.url = url_of(s, true);
    rq.headers = curl_slist_append(NULL, s->header);
    if (!rq.url || !rq.headers || curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L) != CURLE_OK)
        return err_set(e, ENOMEM, "prepare the download");
    *ret = (struct store_request){.url = TAKE_PTR(rq.url), .headers = TAKE_PTR(rq.headers)};
    return 0;
}

/* --- refusals ------------------------------------------------------------------------------------
 */

/* Swift says 404 for a missing container too: one more question tells. */
static bool has_container(struct store *store, struct swift *s)
{
    scoped(store_reply_done) struct store_reply reply = {0};
    scoped_free char *url = s->header[0] ? url_of(s, false) : NULL;
    const char *const headers[] = {s->header, NULL};
    const struct store_call c = {
        .method = "GET",
        .url = url,
        .headers = headers,
        .total_ms = LOOK_MS,
        .tries = 1,
    };
    struct err ignored = ERR_INIT;

    return !url || store_call(store->env, &c, &reply, &ignored) < 0 || reply.status != 404;
}

static enum store_verdict swift_refused(struct store *store, const struct store_refusal *r,
                                        struct err *e)
{
    struct swift *s = store->state;
    char top[160];

    switch (r->status) {
    case 401:
        err_say(e, EACCES, "%s: the store takes no token of this user", store->shown);
        (void)err_blame(e, FAULT_OPERATOR);
        drop_token(s);
        return STORE_RENEW;
    case 403:
        err_say(e, EACCES, "%s: this user may not read the container", store->shown);
        (void)err_blame(e, FAULT_OPERATOR);
        return STORE_FINAL;
    case 404:
        if (has_container(store, s))
            err_say(e, ENOENT, "%s: no such object in the container", store->shown);
        else
            err_say(e, ENOENT, "%s: the store has no container %s", store->shown,
                    text_escape(top, sizeof(top), s->object.top, strlen(s->object.top)));
        (void)err_blame(e, FAULT_OPERATOR);
        return STORE_FINAL;
    case STATUS_RATE:
        err_say(e, EBUSY, "%s: the store's rate limit (HTTP status 498)", store->shown);
        return STORE_LATER;
    default:
        return STORE_PLAIN;
    }
}

const struct store_ops *store_swift(void)
{
    static const struct store_ops ops = {
        .scheme = "swift",
        .open = swift_open,
        .close = swift_close,
        .prepare = swift_prepare,
        .refused = swift_refused,
    };

    return &ops;
}
