#include "cli/started.h"

#include "base/frame.h"
#include "cli/call.h"
#include "cli/pstable.h"

#include <stdio.h>
#include <string.h>

static int64_t formation_total(const json_t *app)
{
    json_t *formation = json_object_get(app, "formation"), *count;
    const char *type;
    int64_t total = 0;

    json_object_foreach (formation, type, count)
        total += call_count(count);
    return total;
}

const char *started_missing(const json_t *app, const json_t *wanted)
{
    const json_t *formation = json_object_get(app, "formation");
    const char *type;
    json_t *count;

    if (!json_bool(json_object_get(app, "release"), "resolved", true))
        return NULL;
    json_object_foreach ((json_t *)wanted, type, count) {
        if (call_count(count) > 0 && !json_object_get(formation, type))
            return type;
    }
    return NULL;
}

enum started started_look(const json_t *app, const json_t *dynos, const json_t *wanted,
                          int64_t version)
{
    const json_t *dyno, *release = json_object_get(app, "release");
    int64_t up = 0, others = 0;
    size_t i;

    if (call_release_number(app) > version)
        return STARTED_OTHER;
    if (json_object_get(release, "problem"))
        return STARTED_PROBLEM;
    if (started_missing(app, wanted))
        return STARTED_NO_TYPE;
    json_array_foreach (dynos, i, dyno) {
        const char *state = json_str(dyno, "state", "");

        if (!strcmp(json_str(dyno, "type", ""), "run"))
            continue; /* one-offs are not of the formation */
        if (call_release_number(dyno) != version)
            others++; /* on its way out */
        else if (!strcmp(state, "crashed"))
            return STARTED_CRASHED;
        else if (!strcmp(state, "up"))
            up++;
    }
    /* Before the slug has been fetched the formation may not be known. */
    if (others || !json_bool(release, "resolved", true))
        return STARTED_NOT_YET;
    return up >= formation_total(app) && (up > 0 || json_object_get(app, "formation"))
               ? STARTED_UP
               : STARTED_NOT_YET;
}

void started_text(const json_t *dynos, enum started what, struct str *out)
{
    const json_t *dyno;
    char why[PS_EXIT_MAX];
    size_t i, shown = 0;

    if (what == STARTED_OTHER)
        str_add(out, "another release took its place\n");
    json_array_foreach (dynos, i, dyno) {
        const char *app = json_str(dyno, "app", ""), *name = json_str(dyno, "dyno", "");
        int64_t port = json_int(dyno, "port", 0);

        if (!strcmp(json_str(dyno, "state", ""), "crashed")) {
            const json_t *last = json_object_get(dyno, "last_exit");
            const char *text = json_str(last, "text", NULL);
            char safe[512];

            str_addf(out, "%s/%s crashed: %s%s%s\n", app, name, ps_exit(last, why),
                     text ? ": " : "",
                     text ? text_escape(safe, sizeof(safe), text, strlen(text)) : "");
            shown++;
        } else if (what == STARTED_UP && port > 0 && !strcmp(json_str(dyno, "type", ""), "web")) {
            str_addf(out, "%s/%s http://127.0.0.1:%lld\n", app, name, (long long)port);
            shown++;
        }
    }
    if (what == STARTED_CRASHED && json_array_size(dynos) > 0)
        str_addf(out, "  see: dyno logs %s\n", json_str(json_array_get(dynos, 0), "app", "APP"));
    else if (!shown && what == STARTED_UP)
        str_add(out, "up\n");
}
