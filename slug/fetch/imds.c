#include "slug/fetch/imds.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "slug/fetch/object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROLES "/latest/meta-data/iam/security-credentials/"

int imds_init(struct imds *m, const char *base, struct err *e)
{
    const char *used = base ? base : IMDS_BASE;
    char *clean;
    int r = endpoint_parse("the store's setting s3.imds", used, &clean, NULL, e);

    if (r < 0)
        return r;
    *m = (struct imds){
        .base = clean,
        .link_local = !strcmp(clean, IMDS_BASE) || !strcmp(clean, IMDS_BASE_V6),
    };
    return 0;
}

void imds_done(struct imds *m)
{
    free(m->base);
    explicit_bzero(m->token, sizeof(m->token));
    m->base = NULL;
}

/* --- what it says --------------------------------------------------------------------------------
 */

/* One line of printable characters without blanks, MAX at most. */
static bool take_word(const char *text, size_t len, size_t max, char *ret)
{
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    if (len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    memcpy(ret, text, len);
    ret[len] = '\0';
    return true;
}

bool imds_token_parse(const char *text, size_t len, char ret[IMDS_TOKEN_MAX + 1])
{
    return take_word(text, len, IMDS_TOKEN_MAX, ret);
}

/* A role's name: letters, digits and "+=,.@_-", 64 at most (IAM's limits). An instance has one. */
bool imds_role_parse(const char *text, size_t len, char ret[IMDS_ROLE_MAX + 1])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "+=,.@_-";
    char role[IMDS_ROLE_MAX + 1];
    const char *end = memchr(text, '\n', len);

    if (!take_word(text, end ? (size_t)(end - text) : len, IMDS_ROLE_MAX, role) ||
        strspn(role, allowed) != strlen(role) || !strcmp(role, ".") || !strcmp(role, ".."))
        return false;
    memcpy(ret, role, sizeof(role));
    return true;
}

/* "2026-11-22T07:00:00Z"; -1: not such a time. */
static int64_t take_time(const char *text)
{
    struct tm t = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &t);

    return end && !*end ? (int64_t)timegm(&t) : -1;
}

static int refuse(struct err *e, const char *why)
{
    return err_say(e, EBADMSG, "the instance's role: %s", why);
}

int imds_credentials_parse(const char *text, size_t len, struct credentials *ret, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;
    char quoted[80];

    if (json_parse(text, len, STORE_REPLY_MAX, &json, e) < 0)
        return err_wrap(e, "the instance's role");
    const char *code = json_str(json, "Code", "Success");
    if (strcmp(code, "Success") != 0) {
        err_say(e, EACCES, "the instance's role gives no credentials: %s",
                text_escape(quoted, sizeof(quoted), code, strlen(code)));
        return err_blame(e, FAULT_OPERATOR);
    }
    const char *access = json_str(json, "AccessKeyId", "");
    const char *secret = json_str(json, "SecretAccessKey", "");
    const char *token = json_str(json, "Token", "");
    int64_t expires = take_time(json_str(json, "Expiration", ""));
    if (!access[0] || !secret[0] || !token[0])
        return refuse(e, "an answer without AccessKeyId, SecretAccessKey or Token");
    if (expires <= 0)
        return refuse(e, "an answer without an Expiration that is a time");
    if (credentials_set(ret, access, secret, token, e) < 0)
        return refuse(e, "keys with characters that none has");
    ret->expires = expires;
    return 0;
}

/* --- the requests --------------------------------------------------------------------------------
 */

static int call(const struct imds *m, const struct store_env *env, const char *method,
                const char *path, const char *header, struct store_reply *ret, struct err *e)
{
    const char *const headers[] = {header, NULL};
    char url[sizeof(ROLES) + IMDS_ROLE_MAX + ENDPOINT_HOST_MAX + 64];

    if (snprintf(url, sizeof(url), "%s%s", m->base, path) >= (int)sizeof(url))
        return err_say(e, ENAMETOOLONG, "the address of the instance metadata is too long");
    const struct store_call c = {
        .method = method,
        .url = url,
        .headers = headers,
        .total_ms = IMDS_CALL_MS,
        .tries = IMDS_TRIES,
        .link_local = m->link_local,
    };
    int r = store_call(env, &c, ret, e);
    return r < 0 ? err_wrap(e, "ask the instance metadata") : 0;
}

static int unexpected(const struct imds *m, const char *path, long status, struct err *e)
{
    err_say(e, EIO, "%s%s: HTTP status %ld", m->base, path, status);
    return err_blame(e, status >= 400 && status < 500 ? FAULT_OPERATOR : FAULT_PLATFORM);
}

static int renew_token(struct imds *m, const struct store_env *env, struct err *e)
{
    static const char path[] = "/latest/api/token";
    scoped(store_reply_done) struct store_reply reply = {0};
    char header[80];

    (void)snprintf(header, sizeof(header), "X-aws-ec2-metadata-token-ttl-seconds: %d",
                   IMDS_TOKEN_SEC);
    int r = call(m, env, "PUT", path, header, &reply, e);
    if (r < 0)
        return r;
    if (reply.status != 200)
        return unexpected(m, path, reply.status, e);
    if (!imds_token_parse(reply.body, reply.len, m->token))
        return err_say(e, EBADMSG, "%s%s: not a token", m->base, path);
    return 0;
}

/* GET with the token, which is renewed once when it is refused. 0: status 200 or 404. */
static int get(struct imds *m, const struct store_env *env, const char *path,
               struct store_reply *ret, struct err *e)
{
    for (bool renewed = false;; renewed = true) {
        scoped(store_reply_done) struct store_reply reply = {0};
        char header[IMDS_TOKEN_MAX + 40];
        int r = !m->token[0] || renewed ? renew_token(m, env, e) : 0;

        if (r < 0)
            return r;
        (void)snprintf(header, sizeof(header), "X-aws-ec2-metadata-token: %s", m->token);
        r = call(m, env, "GET", path, header, &reply, e);
        explicit_bzero(header, sizeof(header));
        if (r < 0)
            return r;
        if (reply.status == 401 && !renewed)
            continue;
        if (reply.status != 200 && reply.status != 404)
            return unexpected(m, path, reply.status, e);
        *ret = reply;
        reply = (struct store_reply){0};
        return 0;
    }
}

static int no_role(struct err *e)
{
    err_say(e, ENOENT, "this instance has no role to read the store with");
    return err_blame(e, FAULT_OPERATOR);
}

static int take_role(struct imds *m, const struct store_env *env, char role[IMDS_ROLE_MAX + 1],
                     struct err *e)
{
    scoped(store_reply_done) struct store_reply reply = {0};
    int r = get(m, env, ROLES, &reply, e);

    if (r < 0)
        return r;
    if (reply.status == 404 || reply.len == 0)
        return no_role(e);
    if (!imds_role_parse(reply.body, reply.len, role))
        return refuse(e, "an answer that is not a role's name");
    return 0;
}

int imds_credentials(struct imds *m, const struct store_env *env, struct credentials *ret,
                     struct err *e)
{
    scoped(store_reply_done) struct store_reply reply = {0};
    char role[IMDS_ROLE_MAX + 1], path[sizeof(ROLES) + IMDS_ROLE_MAX];
    int r = take_role(m, env, role, e);

    if (r < 0)
        return r;
    (void)snprintf(path, sizeof(path), "%s%s", ROLES, role);
    r = get(m, env, path, &reply, e);
    if (r < 0)
        return r;
    if (reply.status == 404)
        return no_role(e);
    r = imds_credentials_parse(reply.body, reply.len, ret, e);
    explicit_bzero(reply.body, reply.len);
    return r;
}
