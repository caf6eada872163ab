#include "slug/fetch/keystone.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "slug/fetch/object.h"
#include "slug/fetch/store.h"

#include <errno.h>
#include <string.h>

#define REGIONS_SHOWN 120

char *keystone_request(const struct keystone_user *u)
{
    const char *domain = u->domain ? u->domain : KEYSTONE_DOMAIN;
    scoped(json_freep) json_t *json = json_pack(
        "{s:{s:{s:[s], s:{s:{s:s, s:s, s:{s:s}}}}}}", "auth", "identity", "methods", "password",
        "password", "user", "name", u->user, "password", u->password, "domain", "name", domain);

    if (json && u->project) {
        json_t *scope = json_pack("{s:{s:s, s:{s:s}}}", "project", "name", u->project, "domain",
                                  "name", domain);

        if (!scope || json_object_set_new(json_object_get(json, "auth"), "scope", scope) < 0)
            return NULL;
    }
    return json ? json_dumps(json, JSON_COMPACT) : NULL;
}

static const char *region_of(const json_t *endpoint)
{
    return json_str(endpoint, "region_id", json_str(endpoint, "region", ""));
}

static bool is_public(const json_t *endpoint)
{
    return !strcmp(json_str(endpoint, "interface", ""), "public") &&
           json_str(endpoint, "url", "")[0];
}

/* What is found while the catalog is gone through. */
struct search {
    const char *region; /* wanted; NULL: any */
    const char *url;
    const char *found;  /* the region of URL */
    bool several;       /* another region has one too */
    struct str regions; /* seen */
};

static void look_at(struct search *s, const json_t *endpoint)
{
    const char *region = region_of(endpoint);

    if (!is_public(endpoint))
        return;
    if (s->regions.len < REGIONS_SHOWN)
        str_addf(&s->regions, "%s%s", s->regions.len ? ", " : "", region);
    if (s->region && strcmp(region, s->region) != 0)
        return;
    if (!s->url) {
        s->url = json_str(endpoint, "url", "");
        s->found = region;
    } else if (strcmp(region, s->found) != 0) {
        s->several = true;
    }
}

static void search(struct search *s, const json_t *catalog)
{
    const json_t *service, *endpoint;
    size_t i, k;

    json_array_foreach (catalog, i, service) {
        if (strcmp(json_str(service, "type", ""), "object-store") != 0)
            continue;
        json_array_foreach (json_object_get(service, "endpoints"), k, endpoint)
            look_at(s, endpoint);
    }
}

static int explain(const struct search *s, struct err *e)
{
    char regions[REGIONS_SHOWN + 40];

    (void)text_escape(regions, sizeof(regions), str_text(&s->regions), s->regions.len);
    if (s->several)
        err_say(e, EINVAL,
                "the identity service knows object stores in several regions: %s; set "
                "the store's swift.region",
                regions);
    else if (s->regions.len)
        err_say(e, EINVAL, "the identity service knows no object store in the region %s, but in %s",
                s->region, regions);
    else
        err_say(e, EINVAL, "the identity service knows no object store for this project");
    return err_blame(e, FAULT_OPERATOR);
}

int keystone_endpoint(const char *text, size_t len, const char *region, char **ret, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;
    struct search s = {.region = region};

    if (json_parse(text, len, STORE_REPLY_MAX, &json, e) < 0)
        return err_wrap(e, "the identity service's answer");
    const json_t *catalog = json_object_get(json_object_get(json, "token"), "catalog");
    search(&s, catalog);
    int r = !s.url || s.several ? explain(&s, e)
                                : endpoint_parse("the catalog's object store", s.url, ret, NULL, e);
    str_done(&s.regions);
    return r;
}

void keystone_message(const char *text, size_t len, char *out, size_t cap)
{
    scoped(json_freep) json_t *json = NULL;
    struct err ignored = ERR_INIT;

    out[0] = '\0';
    if (json_parse(text, len, STORE_REPLY_MAX, &json, &ignored) < 0)
        return;
    const char *message = json_str(json_object_get(json, "error"), "message", "");
    (void)text_escape(out, cap, message, strlen(message));
}
