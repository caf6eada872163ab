#include "slug/dotenv.h"

#include "base/scoped.h"
#include "base/str.h"
#include "slug/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUOTE_MAX 64

/* One reading of a file. AT is where it is; a quoted value takes it over line ends. */
struct reading {
    const char *file;
    struct lines at;
    unsigned line; /* where the current entry began */
    struct dotenv *env;
    size_t mentions;
};

/* The current entry, inside the text. */
struct found {
    const char *name;
    size_t name_len;
    struct str value;
};

static void found_done(struct found *f)
{
    str_done(&f->value);
}

void dotenv_done(struct dotenv *d)
{
    for (size_t i = 0; i < d->n_entries; i++) {
        free(d->entries[i].name);
        free(d->entries[i].value);
    }
    free(d->entries);
    warnings_free(&d->warnings, &d->n_warnings);
    *d = (struct dotenv){0};
}

const char *dotenv_get(const struct dotenv *d, const char *name)
{
    for (size_t i = 0; i < d->n_entries; i++)
        if (!strcmp(d->entries[i].name, name))
            return d->entries[i].value;
    return NULL;
}

static int warn(struct reading *rd, const char *why, struct err *e)
{
    int r = warnings_add(&rd->env->warnings, &rd->env->n_warnings, "%s:%u: %s", rd->file, rd->line,
                         why);

    return r < 0 ? err_set(e, -r, "parse %s", rd->file) : 0;
}

static int entry_put(struct dotenv *d, const char *name, size_t name_len, const char *value)
{
    scoped_free char *copy = strdup(value);

    if (!copy)
        return -ENOMEM;
    for (size_t i = 0; i < d->n_entries; i++)
        if (!strncmp(d->entries[i].name, name, name_len) && !d->entries[i].name[name_len]) {
            free(d->entries[i].value);
            d->entries[i].value = TAKE_PTR(copy);
            return 0;
        }
    scoped_free char *name_copy = strndup(name, name_len);
    struct dotenv_entry *bigger =
        name_copy ? realloc(d->entries, (d->n_entries + 1) * sizeof(*bigger)) : NULL;
    if (!bigger)
        return -ENOMEM;
    d->entries = bigger;
    bigger[d->n_entries++] =
        (struct dotenv_entry){.name = TAKE_PTR(name_copy), .value = TAKE_PTR(copy)};
    return 0;
}

static int take(struct reading *rd, const struct found *f, struct err *e)
{
    if (f->value.failed || f->name_len + 1 + f->value.len > DOTENV_ENTRY_MAX)
        return err_say(e, E2BIG, "%s:%u: an entry over the limit of %u bytes", rd->file, rd->line,
                       DOTENV_ENTRY_MAX);
    if (++rd->mentions > DOTENV_MAX_ENTRIES)
        return err_say(e, E2BIG, "%s:%u: over the limit of %d entries", rd->file, rd->line,
                       DOTENV_MAX_ENTRIES);
    int r = entry_put(rd->env, f->name, f->name_len, str_text(&f->value));
    return r < 0 ? err_set(e, -r, "parse %s", rd->file) : 0;
}

static bool name_char(char c, bool first)
{
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_')
        return true;
    return !first && ((c >= '0' && c <= '9') || c == '.');
}

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && is_blank(*p))
        p++;
    return p;
}

static const char *skip_name(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && name_char(*p, p == start))
        p++;
    return p;
}

/* Splits "NAME =" off the line from P to END. Returns what follows the '=', or NULL with *why. */
static const char *split_name(const char *p, const char *end, struct found *f, const char **why)
{
    const char *name = skip_blanks(p, end), *name_end = skip_name(name, end);
    const char *next = skip_blanks(name_end, end);

    /* `export NAME`, but `export = 1` sets a variable of that name. */
    if (name_end - name == 6 && !memcmp(name, "export", 6) && next > name_end && next < end &&
        *next != '=') {
        name = next;
        name_end = skip_name(name, end);
        next = skip_blanks(name_end, end);
    }
    f->name = name;
    f->name_len = (size_t)(name_end - name);
    if (f->name_len > 0 && next < end && *next == '=')
        return next + 1;
    *why = memchr(p, '=', (size_t)(end - p)) ? "not a name before '='" : "no '='";
    return NULL;
}

/* The end of line P is on, before its CR or LF. */
static const char *line_end(const char *p, const char *end)
{
    while (p < end && *p != '\n' && *p != '\r')
        p++;
    return p;
}

static void take_unquoted(const char *p, const char *end, struct found *f)
{
    const char *start = skip_blanks(p, end);
    const char *stop = start;

    /* A '#' opens a comment after a blank; the blanks after '=' count. */
    while (stop < end && !(*stop == '#' && stop > p && is_blank(stop[-1])))
        stop++;
    size_t len = (size_t)(stop - start);
    trim_blanks(&start, &len);
    str_add_n(&f->value, start, len);
}

static void take_escape(char c, struct str *value)
{
    static const char from[] = "ntr\"\\$", to[] = "\n\t\r\"\\$";
    const char *known = c ? strchr(from, c) : NULL;

    if (known) {
        str_add_n(value, &to[known - from], 1);
    } else {
        str_add_n(value, "\\", 1);
        str_add_n(value, &c, 1);
    }
}

/* The value after the quote at P. Returns the place after the closing quote; NULL: there is none.
 */
static const char *take_quoted(const char *p, const char *end, struct found *f)
{
    char quote = *p++;

    while (p < end && *p != quote) {
        bool escape = quote == '"' && *p == '\\' && p + 1 < end;

        if (escape && p[1] != '\r') {
            take_escape(p[1], &f->value);
            p += 2;
            continue;
        }
        if (!(p[0] == '\r' && p + 1 < end && p[1] == '\n')) /* CRLF is LF, inside quotes too */
            str_add_n(&f->value, p, 1);
        p++;
    }
    return p < end ? p + 1 : NULL;
}

/* The number of line ends between FROM and TO. */
static unsigned count_lines(const char *from, const char *to)
{
    struct lines l;
    const char *line;
    size_t len;
    unsigned n = 0;

    lines_init(&l, from, (size_t)(to - from));
    while (lines_next(&l, &line, &len))
        n = l.line;
    return n > 0 ? n - 1 : 0;
}

/* An entry whose value opens a quote at P. Moves the reading past the line where it closes. */
static int take_quoted_entry(struct reading *rd, const char *p, struct found *f, struct err *e)
{
    const char *after = take_quoted(p, rd->at.end, f);

    if (!after)
        return err_say(e, EINVAL, "%s:%u: a quote is not closed", rd->file, rd->line);
    const char *end = line_end(after, rd->at.end);
    const char *rest = skip_blanks(after, end);
    const char *ignored;
    size_t ignored_len;

    if (after > rd->at.p) { /* it went over line ends */
        rd->at.next = rd->line + count_lines(p, after);
        rd->at.p = after;
        if (rd->at.p < rd->at.end)
            (void)lines_next(&rd->at, &ignored, &ignored_len);
    }
    if (rest < end && *rest != '#')
        return warn(rd, "text after the closing quote: skipped", e);
    return take(rd, f, e);
}

static int take_line(struct reading *rd, const char *line, size_t len, struct err *e)
{
    scoped(found_done) struct found f = {.value.max = 2 * DOTENV_ENTRY_MAX};
    const char *end = line + len, *why, *value, *first = skip_blanks(line, end);

    if (line_is_conflict(line, len))
        return err_say(e, EINVAL, "%s:%u: a conflict marker of git", rd->file, rd->line);
    if (first == end || *first == '#')
        return 0;
    value = split_name(line, end, &f, &why);
    if (!value)
        return warn(rd, why, e);
    first = skip_blanks(value, end);
    if (first < end && (*first == '"' || *first == '\''))
        return take_quoted_entry(rd, first, &f, e);
    take_unquoted(value, end, &f);
    return take(rd, &f, e);
}

static int read_all(struct reading *rd, const char *text, size_t len, struct err *e)
{
    unsigned nul = lines_find_nul(text, len);
    const char *line;
    size_t line_len;

    if (len > DOTENV_MAX_BYTES)
        return err_say(e, EFBIG, "%s: over the limit of %u bytes", rd->file, DOTENV_MAX_BYTES);
    if (nul)
        return err_say(e, EINVAL, "%s:%u: a NUL byte", rd->file, nul);
    lines_init(&rd->at, text, len);
    while (lines_next(&rd->at, &line, &line_len)) {
        rd->line = rd->at.line;
        int r = take_line(rd, line, line_len, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int dotenv_parse(const char *file, const char *text, size_t len, struct dotenv *ret, struct err *e)
{
    scoped(dotenv_done) struct dotenv env = {0};
    struct reading rd = {.file = file, .env = &env};
    int r = read_all(&rd, text, len, e);

    if (r < 0)
        return r == -ENOMEM ? r : err_blame(e, FAULT_OPERATOR);
    *ret = env;
    env = (struct dotenv){0};
    return 0;
}
