#include "cli/slugcache.h"

#include "base/clock.h"
#include "base/frame.h"
#include "cli/table.h"
#include "cli/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX   "sha256:"
#define HEX      64
#define HEX_SHOW 12 /* as much as one types */

/* --- The table --- */

static const char *age(const json_t *slug, uint64_t now, char out[TEXT_DURATION_MAX])
{
    uint64_t used = 0;

    if (!text_time(json_str(slug, "used", ""), &used))
        return "-";
    return text_duration(used < now ? now - used : 0, out);
}

static void users_cell(struct table *t, const json_t *slug)
{
    const json_t *list = json_object_get(slug, "used_by");
    struct str names = {.max = TABLE_CELL_MAX};
    const json_t *name;
    size_t i;

    json_array_foreach (list, i, name)
        str_addf(&names, "%s%s", i ? " " : "", json_is_string(name) ? json_string_value(name) : "");
    if (i == 0 && json_bool(slug, "in_use", false))
        str_add(&names, "(in use)");
    table_cell(t, NULL, "%s", str_text(&names));
    str_done(&names);
}

static void slug_row(struct table *t, const json_t *slug, uint64_t now)
{
    const char *digest = json_str(slug, "digest", "-");
    char size[TEXT_MEMORY_MAX], used[TEXT_DURATION_MAX];
    bool synced = json_bool(slug, "synced", false);

    if (!strncmp(digest, PREFIX, strlen(PREFIX)))
        digest += strlen(PREFIX);
    table_cell(t, COLOR_BOLD, "%.*s", HEX_SHOW, digest);
    table_cell(t, NULL, "%s", json_str(slug, "kind", "-"));
    table_cell(t, NULL, "%s", text_memory((uint64_t)json_int(slug, "bytes", 0), size));
    table_cell(t, NULL, "%s", age(slug, now, used));
    table_cell(t, synced ? NULL : COLOR_YELLOW, "%s", synced ? "yes" : "not yet");
    users_cell(t, slug);
    table_end_row(t);
}

static void fetch_row(struct table *t, const json_t *fetch)
{
    const char *digest = json_str(fetch, "digest", NULL);
    char have[TEXT_MEMORY_MAX], all[TEXT_MEMORY_MAX] = "?";
    int64_t total = json_int(fetch, "total", -1);

    if (total >= 0)
        (void)text_memory((uint64_t)total, all);
    table_cell(t, COLOR_BOLD, "%.*s", HEX_SHOW,
               digest && strlen(digest) > strlen(PREFIX) ? digest + strlen(PREFIX) : "(not known)");
    table_cell(t, COLOR_YELLOW, "%s", json_str(fetch, "state", "-"));
    table_cell(t, NULL, "%s of %s", text_memory((uint64_t)json_int(fetch, "bytes", 0), have), all);
    table_cell(t, NULL, "-");
    table_cell(t, NULL, "-");
    table_cell(t, NULL, "%s", "");
    table_end_row(t);
}

void slugs_table(const json_t *slugs, uint64_t now_real, bool color, struct str *out)
{
    static const char *const heads[] = {"SLUG", "KIND", "SIZE", "USED", "SYNCED", "BY"};
    struct table t = {0};
    const json_t *one;
    size_t i;

    for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        table_cell(&t, COLOR_DIM, "%s", heads[i]);
    table_end_row(&t);
    json_array_foreach (json_object_get(slugs, "slugs"), i, one)
        slug_row(&t, one, now_real);
    json_array_foreach (json_object_get(slugs, "fetches"), i, one)
        fetch_row(&t, one);
    table_render(&t, out, color);
    out->failed = out->failed || t.failed;
    table_done(&t);
}

/* --- One of them --- */

static int refuse(struct err *e, int errnum, const char *text, const char *why)
{
    char safe[96];

    (void)err_say(e, errnum, "'%s' %s", text_escape(safe, sizeof(safe), text, strlen(text)), why);
    return err_blame(e, FAULT_OPERATOR);
}

/* TEXT's hex digits, in small letters; -EINVAL: it has others. */
static int hex_of(const char *text, char out[HEX + 1])
{
    const char *p = str_starts(text, PREFIX) ? text + strlen(PREFIX) : text;
    size_t n = 0;

    for (; *p; p++) {
        if (!isxdigit((unsigned char)*p) || n == HEX)
            return -EINVAL;
        out[n++] = (char)tolower((unsigned char)*p);
    }
    out[n] = '\0';
    return n < SLUG_PREFIX_MIN ? -EINVAL : 0;
}

int slugs_find(const json_t *slugs, const char *text, struct digest *ret, struct err *e)
{
    const json_t *slug;
    struct digest found = {0};
    char hex[HEX + 1];
    size_t i, n = 0;

    if (hex_of(text, hex) < 0)
        return refuse(e, EINVAL, text, "is no digest: sha256: and up to 64 hex digits, at least 4");
    json_array_foreach (json_object_get(slugs, "slugs"), i, slug) {
        struct digest digest;

        if (digest_parse(json_str(slug, "digest", ""), &digest) < 0 || !str_starts(digest.hex, hex))
            continue;
        found = digest;
        n++;
    }
    if (n == 0)
        return refuse(e, ENOENT, text, "is not cached: see `dyno slug ls`");
    if (n > 1)
        return refuse(e, EINVAL, text, "is the beginning of several slugs: give more of it");
    *ret = found;
    return 0;
}

/* --- The end of a fetch --- */

void slug_done_text(const json_t *event, uint64_t took, struct str *out)
{
    json_t *ms = json_object_get(event, "ms"), *value;
    char bytes[16], unpacked[16];
    const char *stage;
    bool first = true;

    str_addf(out, "%s  %s, unpacked %s in %lld entries, in %.1f s\n",
             json_str(event, "digest", "-"),
             format_bytes(bytes, sizeof(bytes), (uint64_t)json_int(event, "bytes", 0)),
             format_bytes(unpacked, sizeof(unpacked), (uint64_t)json_int(event, "unpacked", 0)),
             (long long)json_int(event, "entries", 0), (double)took / (double)USEC_PER_SEC);
    json_object_foreach (ms, stage, value) {
        char safe[32];

        str_addf(out, "%s%s %.2f s", first ? "" : ", ",
                 text_escape(safe, sizeof(safe), stage, strlen(stage)),
                 (double)json_integer_value(value) / 1000);
        first = false;
    }
    if (!first)
        str_add(out, "\n");
}
