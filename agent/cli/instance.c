#include "cli/instance.h"

#include "base/clock.h"
#include "base/frame.h"
#include "cli/text.h"

#include <string.h>

#define WORDS_MAX 512 /* bytes of what a controller said */

static void add_safe(struct str *out, const char *text)
{
    char safe[WORDS_MAX];

    str_add(out, text_escape(safe, sizeof(safe), text, strlen(text)));
}

void instance_left(const json_t *instance, uint64_t now_real, struct str *out)
{
    int64_t n = json_int(instance, "dynos", 0);
    const char *deadline = json_str(instance, "deadline", NULL);
    char left[TEXT_DURATION_MAX];
    uint64_t at;

    if (n == 0) {
        str_add(out, "no dyno runs here");
        return;
    }
    str_addf(out, "%lld %s", (long long)n, n == 1 ? "dyno still runs" : "dynos still run");
    if (!deadline || !text_time(deadline, &at))
        return;
    if (at > now_real)
        str_addf(out, ", deadline in %s", text_duration(at - now_real, left));
    else
        str_add(out, ", past the deadline");
}

void instance_line(const json_t *instance, uint64_t now_real, struct str *out)
{
    const char *reason = json_str(instance, "reason", NULL);

    if (!json_bool(instance, "draining", false))
        return;
    str_add(out, json_int(instance, "dynos", 0) ? "draining" : "drained");
    if (reason) {
        str_add(out, " (");
        add_safe(out, reason);
        str_add(out, ")");
    }
    str_add(out, ": ");
    instance_left(instance, now_real, out);
    str_add(out, "\n");
}

/* --- The link --- */

static void add_error(const json_t *link, const char *before, struct str *out)
{
    const char *error = json_str(link, "error", NULL), *fault = json_str(link, "fault", NULL);

    if (!error)
        return;
    str_add(out, before);
    add_safe(out, error);
    if (!fault || !strcmp(fault, "none"))
        return;
    str_add(out, " (");
    add_safe(out, fault);
    str_add(out, "'s fault)");
}

void link_words(const json_t *link, struct str *out)
{
    const char *url = json_str(link, "url", NULL), *agent = json_str(link, "agent", "");
    int64_t retry_ms = json_int(link, "retry_ms", -1);
    char wait[TEXT_DURATION_MAX];

    if (!json_bool(link, "alive", true)) {
        str_add(out, "dynod-link is gone and being started again");
        add_error(link, ": ", out);
        return;
    }
    if (!strcmp(json_str(link, "state", ""), "off")) {
        str_add(out, "no controller");
    } else if (url) {
        str_add(out, "with ");
        add_safe(out, url);
    } else {
        str_add(out, "with no controller yet");
    }
    if (*agent && strcmp(json_str(link, "state", ""), "off") != 0) {
        str_add(out, " as ");
        add_safe(out, agent);
    }
    if (retry_ms >= 0)
        str_addf(out, ", next try in %s", text_duration((uint64_t)retry_ms * USEC_PER_MSEC, wait));
    add_error(link, ": ", out);
    const char *conflict = json_str(link, "conflict", NULL);
    if (conflict) {
        str_add(out, "; refuses commands of the store ");
        add_safe(out, conflict);
    }
}

void link_line(const json_t *link, struct str *out)
{
    struct str words = {0};
    const char *state = json_str(link, "state", "");

    if (!json_is_object(link) || !strcmp(state, "off"))
        return;
    str_add(out, "link ");
    if (json_bool(link, "alive", true)) {
        add_safe(out, state);
        str_add(out, " ");
    }
    link_words(link, &words);
    str_add(out, str_text(&words));
    str_add(out, "\n");
    out->failed = out->failed || words.failed;
    str_done(&words);
}

static void add_count(struct str *out, const char *what, int64_t n)
{
    if (n > 0)
        str_addf(out, ", %s: %lld", what, (long long)n);
}

void link_progress(const json_t *link, struct str *out)
{
    const char *store = json_str(link, "store", NULL);
    int64_t contact_ms = json_int(link, "last_contact_ms", -1);
    char ago[TEXT_DURATION_MAX];

    if (contact_ms >= 0)
        str_addf(out, "last answer %s ago",
                 text_duration((uint64_t)contact_ms * USEC_PER_MSEC, ago));
    else
        str_add(out, "no answer yet");
    if (store && *store) {
        str_add(out, ", store ");
        add_safe(out, store);
        str_addf(out, " at generation %lld", (long long)json_int(link, "generation", 0));
    }
    add_count(out, "exits waiting", json_int(link, "exits_waiting", 0));
    add_count(out, "reports queued", json_int(link, "queued", 0));
    add_count(out, "dropped", json_int(link, "dropped", 0));
    add_count(out, "restarts of dynod-link", json_int(link, "restarts", 0));
}

void link_errors(const json_t *link, struct str *out)
{
    json_t *counts = json_object_get(link, "counts"), *n;
    const char *kind;

    json_object_foreach (counts, kind, n) {
        if (json_integer_value(n) <= 0)
            continue;
        str_add(out, out->len ? ", " : "");
        add_safe(out, kind);
        str_addf(out, " %lld", (long long)json_integer_value(n));
    }
}
