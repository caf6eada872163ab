/* agent_slugs.c - the cache of slugs, as clients see it and what they may do with it. */
#include "core/dyno.h"
#include "core/state/model_parts.h"
#include "core/slugs/slugs.h"
#include "core/run/spec.h"
#include "core/slugs/warm.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <string.h>

/* --- Questions --- */

/* Apps whose release has DIGEST, and dynos that run from it. NULL: no memory. */
static json_t *used_by(const struct agent *a, const struct digest *digest)
{
    json_t *names = json_array();
    const struct dyno *d;
    char text[DYNO_TEXT_MAX];

    for (size_t i = 0; i < model_n_apps(a->model); i++) {
        const struct app *app = model_app_at(a->model, i);

        if (app->release.has_digest && digest_equal(&app->release.digest, digest))
            (void)json_array_append_new(names, json_string(app->name));
    }
    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->run && d->has_slug && digest_equal(&d->slug, digest))
            (void)json_array_append_new(names, json_string(dyno_name_text(&d->name, text)));
    return names;
}

/* The time as people read it, and who uses it. */
static int complete(const struct agent *a, json_t *slug)
{
    char stamp[CLOCK_TEXT_MAX];
    struct digest digest;
    uint64_t used = (uint64_t)json_int(slug, "used", 0);

    if (digest_parse(json_str(slug, "digest", ""), &digest) < 0)
        return -1;
    return json_object_set_new(slug, "used", json_string(clock_text(used, stamp))) |
           json_object_set_new(slug, "used_by", used_by(a, &digest));
}

json_t *agent_slugs(struct agent *a)
{
    scoped(json_freep) json_t *slugs = slugs_json(a->slugs);
    json_t *slug;
    size_t i;

    if (!slugs)
        return NULL;
    json_array_foreach (slugs, i, slug)
        if (complete(a, slug) < 0)
            return NULL;
    return json_pack("{s:O,s:o,s:I}", "slugs", slugs, "fetches", fetcher_json(a->fetcher), "bytes",
                     (json_int_t)cache_bytes(a->cache));
}

/* --- Commands --- */

static int check_spec(const struct agent *a, const json_t *spec, struct digest *ret_digest,
                      bool *ret_has, struct err *e)
{
    static const struct field fields[] = {
        {"slug", FIELD_STRING | FIELD_ARRAY | FIELD_REQUIRED}, {"digest", FIELD_STRING}, {NULL, 0}};
    int r = fields_check("the body", spec, fields, e);

    if (r == 0)
        r = spec_check_slug(&a->config, spec, e);
    if (r == 0)
        r = field_digest("the body", spec, ret_digest, e);
    *ret_has = r == 1;
    return r < 0 ? r : 0;
}

int agent_slug_fetch(struct agent *a, const json_t *spec, json_t **ret, struct err *e)
{
    struct warming *w = NULL;
    struct digest digest;
    bool has = false;
    int r = check_spec(a, spec, &digest, &has, e);

    if (r == 0)
        r = warm_start(a, json_object_get(spec, "slug"), has ? &digest : NULL, NULL, &w, e);
    if (r < 0)
        return r;
    *ret = json_pack("{s:I,s:b}", "fetch", (json_int_t)warm_number(w), "cached",
                     has && cache_find(a->cache, &digest));
    if (has)
        (void)json_object_set_new(*ret, "digest", json_sprintf("sha256:%s", digest.hex));
    return 0;
}

int agent_slug_remove(struct agent *a, const struct digest *digest, json_t **ret, struct err *e)
{
    int r = slugs_remove(a->slugs, digest, e);

    if (r == -EBUSY) { /* not a matter of trying again: a conflict */
        e->errnum = EALREADY;
        return -EALREADY;
    }
    if (r < 0)
        return r;
    agent_event(a, "slug", NULL,
                json_pack("{s:s+,s:s}", "digest", "sha256:", digest->hex, "outcome", "removed"));
    *ret = json_pack("{s:s+}", "removed", "sha256:", digest->hex);
    return 0;
}

static void on_verified(void *userdata, const struct digest *digest, const struct err *why)
{
    json_t *event = json_pack("{s:s+,s:s}", "digest", "sha256:", digest->hex, "outcome",
                              why ? "unverified" : "verified");

    if (event && why)
        (void)json_object_set_new(event, "text", json_string(why->text));
    agent_event(userdata, "slug", NULL, event);
}

int agent_slug_verify(struct agent *a, const struct digest *digest, json_t **ret, struct err *e)
{
    int r = slugs_verify(a->slugs, digest, on_verified, a, e);

    if (r < 0)
        return r;
    *ret = json_pack("{s:s+}", "verifying", "sha256:", digest->hex);
    return 0;
}
