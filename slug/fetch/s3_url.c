#include "slug/fetch/s3_url.h"

#include "base/scoped.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"
#define LETTERS      LOWER_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int refuse(struct err *e, const char *why)
{
    err_say(e, EINVAL, "%s", why);
    return err_blame(e, FAULT_OPERATOR);
}

static bool only(const char *text, const char *set, size_t max)
{
    size_t len = strlen(text);

    return len > 0 && len <= max && strspn(text, set) == len;
}

/* Amazon's rules for names ("Bucket naming rules"), and those of before 2018 in us-east-1. */
static bool is_bucket(const char *text)
{
    return only(text, LETTERS "._-", 255) && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

/* Whether a host's name can begin with it; over TLS it has to be one label, for a certificate's
 * '*' stands for one. */
static bool is_label(const char *bucket, bool tls)
{
    size_t len = strlen(bucket);

    return only(bucket, tls ? LOWER_DIGITS "-" : LOWER_DIGITS "-.", 63) && bucket[0] != '-' &&
           bucket[0] != '.' && bucket[len - 1] != '-' && bucket[len - 1] != '.' &&
           !strstr(bucket, "..");
}

/* Whether HOST (a port may follow) is a name, not a number, so that another can stand before it. */
static bool is_name(const char *host)
{
    char name[ENDPOINT_HOST_MAX];
    size_t len = strcspn(host, ":");
    struct in_addr v4;

    if (host[0] == '[' || len >= sizeof(name))
        return false;
    memcpy(name, host, len);
    name[len] = '\0';
    return inet_pton(AF_INET, name, &v4) != 1;
}

static char *amazon(const char *region)
{
    const char *domain = str_starts(region, "cn-") ? "amazonaws.com.cn" : "amazonaws.com";
    char *base;

    return asprintf(&base, "https://s3.%s.%s", region, domain) < 0 ? NULL : base;
}

int s3_url(const struct s3_place *p, const struct object *o, struct str *out, struct err *e)
{
    scoped_free char *base = NULL;
    char host[ENDPOINT_HOST_MAX];

    if (!is_bucket(o->top))
        return refuse(e, "the bucket has a name that none can have");
    if (!only(p->region, LETTERS "-_", S3_REGION_MAX))
        return refuse(e, "the store's setting s3.region is not the name of a region");
    scoped_free char *aws = p->endpoint ? NULL : amazon(p->region);
    if (!p->endpoint && !aws)
        return err_set(e, ENOMEM, "make a URL");
    int r =
        endpoint_parse("the store's setting s3.endpoint", aws ? aws : p->endpoint, &base, host, e);
    if (r < 0)
        return r;
    bool fits = is_name(host) && is_label(o->top, str_starts(base, "https:"));
    if (p->style == S3_STYLE_VIRTUAL && !fits)
        return refuse(e, "the bucket's name cannot be a part of the endpoint's: it needs "
                         "path_style");
    size_t scheme = (size_t)(strstr(base, "://") + 3 - base);
    if (p->style == S3_STYLE_VIRTUAL || (p->style == S3_STYLE_AUTO && aws && fits))
        str_addf(out, "%.*s%s.%s/", (int)scheme, base, o->top, base + scheme);
    else
        str_addf(out, "%s/%s/", base, o->top);
    object_encode(out, o->name);
    return out->failed ? err_set(e, ENOMEM, "make a URL") : 0;
}
