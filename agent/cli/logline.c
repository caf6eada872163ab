#include "cli/logline.h"

#include "base/frame.h"
#include "cli/call.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>

#define DIGEST_SHOWN 19 /* characters: "sha256:" and as many digits as one types */

/* The "app[web.1]:" of LINE, between its first two blanks. */
static bool find_prefix(const char *line, size_t len, size_t *ret_start, size_t *ret_end)
{
    const char *blank = memchr(line, ' ', len);
    if (!blank)
        return false;
    size_t start = (size_t)(blank - line) + 1;
    const char *colon = memchr(line + start, ':', len - start);
    if (!colon || colon == line + start || colon[-1] != ']')
        return false;
    *ret_start = start;
    *ret_end = (size_t)(colon - line) + 1;
    return memchr(line + start, ' ', *ret_end - start) == NULL;
}

void log_line(struct str *out, const char *line, size_t len, bool terminal, bool color)
{
    size_t start, end;
    char dyno[128];

    if (!terminal) {
        str_add_n(out, line, len);
        return;
    }
    if (!color || !find_prefix(line, len, &start, &end) || end - start >= sizeof(dyno)) {
        text_terminal(out, line, len);
        return;
    }
    /* The dyno's name alone: its own lines and the platform's about it look alike. */
    const char *open = memchr(line + start, '[', end - start);
    size_t name = open ? (size_t)(open - line) + 1 : start;
    memcpy(dyno, line + name, end - name);
    dyno[end - name] = '\0';
    text_terminal(out, line, start);
    str_add(out, color_of(dyno));
    text_terminal(out, line + start, end - start);
    str_add(out, COLOR_RESET);
    text_terminal(out, line + end, len - end);
}

static void add_safe(struct str *out, const char *text)
{
    char safe[1024];

    str_add(out, text_escape(safe, sizeof(safe), text, strlen(text)));
}

/* "sha256:9f86d081884c done": of a fetch, or of a slug in the cache. */
static void add_slug(struct str *out, const json_t *event)
{
    const char *digest = json_str(event, "digest", NULL);
    const char *kind = json_str(event, "kind", "");
    const char *state = json_str(event, !strcmp(kind, "slug") ? "outcome" : "state", NULL);

    if (!state || (strcmp(kind, "fetch") != 0 && strcmp(kind, "slug") != 0))
        return;
    if (digest) {
        char head[DIGEST_SHOWN + 1];

        (void)snprintf(head, sizeof(head), "%s", digest);
        str_add(out, " ");
        add_safe(out, head);
    }
    str_add(out, " ");
    add_safe(out, state);
}

/* What an event says beside its names, when it brings no sentence of its own. */
static void add_details(struct str *out, const json_t *event)
{
    const char *from = json_str(event, "from", NULL), *to = json_str(event, "to", NULL);
    const char *cause = json_str(event, "cause", NULL);
    char release[32];

    if (from && to) {
        str_add(out, " ");
        add_safe(out, from);
        str_add(out, " -> ");
        add_safe(out, to);
    }
    if (cause) {
        str_add(out, " ");
        add_safe(out, cause);
    }
    if (json_object_get(event, "release")) {
        str_add(out, " ");
        add_safe(out, call_release(event, release));
    }
    add_slug(out, event);
}

void event_line(struct str *out, const json_t *event, bool color)
{
    const char *app = json_str(event, "app", NULL), *dyno = json_str(event, "dyno", NULL);
    const char *text = json_str(event, "text", NULL), *fault = json_str(event, "fault", NULL);
    bool blamed = fault && strcmp(fault, "none") != 0;

    add_safe(out, json_str(event, "t", "-"));
    str_add(out, " ");
    add_safe(out, json_str(event, "kind", "-"));
    if (app) {
        str_add(out, " ");
        if (color)
            str_add(out, color_of(dyno ? dyno : app));
        add_safe(out, app);
        if (dyno) {
            str_add(out, "/");
            add_safe(out, dyno);
        }
        if (color)
            str_add(out, COLOR_RESET);
    }
    add_details(out, event);
    if (text) {
        str_add(out, ": ");
        add_safe(out, text);
    }
    if (blamed) {
        str_add(out, " (");
        add_safe(out, fault);
        str_add(out, "'s fault)");
    }
}
