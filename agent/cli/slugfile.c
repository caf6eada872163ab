#include "cli/slugfile.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "cli/table.h"
#include "cli/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

const char *slugfile_path(const char *url)
{
    return str_starts(url, "file:///") ? url + strlen("file://") : NULL;
}

int slugfile_inspect(const char *path, struct slug_report *ret, struct err *e)
{
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0) {
        (void)err_set(e, errno, "%s", path);
        return err_blame(e, FAULT_OPERATOR);
    }
    /* O_NONBLOCK was for the opening of a FIFO that nobody writes; a read may wait. */
    (void)fcntl(fd, F_SETFL, 0);
    int r = slug_inspect(fd, NULL, ret, e);
    return r < 0 ? err_wrap(e, "%s", path) : 0;
}

int slugfile_types(const char *url, struct procfile *ret, struct err *e)
{
    scoped(slug_report_done) struct slug_report report = {0};
    const char *path = slugfile_path(url);

    if (!path) {
        (void)err_say(e, EINVAL, "%s: --slug takes a file here; download it first", url);
        return err_blame(e, FAULT_OPERATOR);
    }
    int r = slugfile_inspect(path, &report, e);
    if (r < 0)
        return r;
    *ret = report.types;
    report.types = (struct procfile){0};
    return 0;
}

static json_t *types_json(const struct procfile *types)
{
    json_t *list = json_array();

    for (size_t i = 0; i < types->n_types; i++) {
        const struct proc_type *t = &types->types[i];
        /* A command may be in any encoding: shown as well as it goes. */
        json_t *one = json_pack("{s:s,s:o*,s:b}", "name", t->name, "command",
                                json_string(t->command), "release_file", t->from_release_file);

        (void)json_array_append_new(list, one);
    }
    return list;
}

json_t *slugfile_json(const char *path, const struct slug_report *r)
{
    json_t *warnings = json_array();
    char digest[80];

    for (size_t i = 0; i < r->types.n_warnings; i++)
        (void)json_array_append_new(warnings, json_string(r->types.warnings[i]));
    (void)snprintf(digest, sizeof(digest), "sha256:%s", r->digest.hex);
    return json_pack("{s:o*,s:s,s:I,s:I,s:I,s:s,s:o,s:o}", "file", json_string(path), "digest",
                     digest, "compressed", (json_int_t)r->compressed, "unpacked",
                     (json_int_t)r->counts.unpacked, "entries", (json_int_t)r->counts.entries,
                     "layout", r->app_layout ? "app" : "top", "types", types_json(&r->types),
                     "warnings", warnings);
}

void slugfile_text(const char *path, const struct slug_report *r, struct str *out)
{
    scoped(table_done) struct table t = {0};
    char compressed[16], unpacked[16];

    table_cell(&t, NULL, "slug");
    table_cell(&t, NULL, "%s", path);
    table_end_row(&t);
    table_cell(&t, NULL, "digest");
    table_cell(&t, NULL, "sha256:%s", r->digest.hex);
    table_end_row(&t);
    table_cell(&t, NULL, "size");
    table_cell(&t, NULL, "%s, unpacked %s, %llu entries",
               format_bytes(compressed, sizeof(compressed), r->compressed),
               format_bytes(unpacked, sizeof(unpacked), r->counts.unpacked),
               (unsigned long long)r->counts.entries);
    table_end_row(&t);
    table_cell(&t, NULL, "layout");
    table_cell(&t, NULL, "%s",
               r->app_layout ? "everything under ./app/" : "the app at the top of the archive");
    table_end_row(&t);
    for (size_t i = 0; i < r->types.n_types; i++) {
        table_cell(&t, NULL, "type");
        table_cell(&t, NULL, "%s: %s%s", r->types.types[i].name, r->types.types[i].command,
                   r->types.types[i].from_release_file ? "  (from .release)" : "");
        table_end_row(&t);
    }
    for (size_t i = 0; i < r->types.n_warnings; i++) {
        table_cell(&t, NULL, "warning");
        table_cell(&t, NULL, "%s", r->types.warnings[i]);
        table_end_row(&t);
    }
    table_render(&t, out, false);
    out->failed = out->failed || t.failed;
}
