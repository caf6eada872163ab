#include "slug/fetch/credentials.h"

#include "base/scoped.h"
#include "slug/fetch/object.h"

#include <errno.h>
#include <string.h>

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void credentials_done(struct credentials *c)
{
    free(c->access_key);
    wipe(c->secret_key);
    wipe(c->session_token);
    *c = (struct credentials){0};
}

static int refuse(struct err *e, const char *why)
{
    err_say(e, EINVAL, "%s", why);
    return err_blame(e, FAULT_OPERATOR);
}

int credentials_set(struct credentials *ret, const char *access_key, const char *secret_key,
                    const char *session_token, struct err *e)
{
    scoped(credentials_done) struct credentials c = {0};

    if (!access_key != !secret_key)
        return refuse(e, access_key ? "there is an access key, but no secret key"
                                    : "there is a secret key, but no access key");
    if (!access_key && session_token)
        return refuse(e, "there is a session token, but no access key");
    if (!access_key) {
        *ret = c;
        return 0;
    }
    if (!field_is_plain(access_key) || strpbrk(access_key, " /,") ||
        (session_token && (!field_is_plain(session_token) || strchr(session_token, ' '))))
        return refuse(e, "the access key or the session token has characters that none has");
    c.access_key = strdup(access_key);
    c.secret_key = strdup(secret_key);
    c.session_token = session_token ? strdup(session_token) : NULL;
    if (!c.access_key || !c.secret_key || (session_token && !c.session_token))
        return err_set(e, ENOMEM, "keep the store's keys");
    *ret = (struct credentials){
        .access_key = TAKE_PTR(c.access_key),
        .secret_key = TAKE_PTR(c.secret_key),
        .session_token = TAKE_PTR(c.session_token),
    };
    return 0;
}

int64_t credentials_renew_at(int64_t now, int64_t expires)
{
    int64_t left = expires - now, wait = left - CREDENTIALS_AHEAD;

    if (expires == 0)
        return INT64_MAX;
    if (wait <= 0)
        wait = left < CREDENTIALS_AHEAD ? left / 2 : CREDENTIALS_PAUSE;
    return now + (wait < CREDENTIALS_PAUSE ? CREDENTIALS_PAUSE : wait);
}
