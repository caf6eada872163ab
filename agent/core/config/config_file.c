/* config_file.c - dynod.conf and its drop-ins, through inih. */
#include "core/config/config.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/config/config_keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One file on its way through inih, which gets its lines from next_line(): so the line numbers are
 * exact, no line is cut at inih's limit in silence, and a line that begins with a blank is not the
 * continuation of the one before. */
struct source {
    struct config *c;
    const char *p, *end;
    unsigned line;
    int r; /* the first error */
    struct err *e;
};

static char *stop(struct source *s, int r)
{
    s->r = r;
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* LINE is "[section]" and perhaps a comment. */
static int check_section_line(struct source *s, const char *line, size_t len)
{
    const char *close = memchr(line, ']', len);
    const char *p = close ? close + 1 : NULL;
    char section[64];

    if (!close)
        return config_refuse(s->e, "a section without ']'");
    while (p < line + len && is_blank(*p))
        p++;
    if (p < line + len && *p != '#' && *p != ';')
        return config_refuse(s->e, "something after ']'");
    if ((size_t)(close - line) > sizeof(section))
        return config_refuse(s->e, "unknown section %.40s…]", line);
    (void)snprintf(section, sizeof(section), "%.*s", (int)(close - line - 1), line + 1);
    return config_enter_section(s->c, section, s->e);
}

/* As fgets(3), for inih: the next line, without blanks around it. */
static char *next_line(char *out, int cap, void *stream)
{
    struct source *s = stream;

    if (s->r < 0 || s->p == s->end)
        return NULL;
    const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
    const char *begin = s->p, *end = nl ? nl : s->end;

    s->p = nl ? nl + 1 : s->end;
    s->line++;
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    size_t len = (size_t)(end - begin);
    if (memchr(begin, '\0', len))
        return stop(s, config_refuse(s->e, "a NUL in the line"));
    if (*begin == '#' || *begin == ';')
        len = 0; /* a comment may be of any length */
    if (len >= (size_t)cap)
        return stop(
            s, config_refuse(s->e, "a line of %zu bytes is over the limit of %d", len, cap - 1));
    int r = len > 0 && *begin == '[' ? check_section_line(s, begin, len) : 0;
    if (r < 0)
        return stop(s, r);
    memcpy(out, begin, len);
    out[len] = '\0';
    return out;
}

/* inih's callback: nonzero is success. */
static int on_key(void *user, const char *section, const char *name, const char *value)
{
    struct source *s = user;

    if (s->r < 0)
        return 0;
    if (strstr(value, " #") || strstr(value, "\t#"))
        s->r = config_refuse(s->e, "%.40s: a comment with '#' needs a line of its own", name);
    else
        s->r = config_assign(s->c, section, name, value, s->e);
    return s->r == 0;
}

static int parse_file(struct config *c, const char *path, const char *text, size_t len,
                      struct err *e)
{
    struct source s = {.c = c, .p = text, .end = text + len, .e = e};

    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        s.p += 3;
    int line = ini_parse_stream(next_line, &s, on_key, &s);
    /* inih goes on after a line that it cannot read, so the first error may be its own. */
    if (line > 0 && (s.r == 0 || (unsigned)line < s.line)) {
        s.r = config_refuse(e, "neither [section] nor key = value");
        s.line = (unsigned)line;
    }
    if (line < 0)
        return err_set(e, ENOMEM, "read %s", path);
    return s.r < 0 ? err_wrap(e, "%s:%u", path, s.line) : 0;
}

/* A configuration file may be a symbolic link, so it is resolved before file_read(). */
static int read_file(struct config *c, const char *path, bool required, struct err *e)
{
    scoped_free char *real = realpath(path, NULL);
    scoped_free char *text = NULL;
    size_t len = 0;
    int r;

    if (!real && errno == ENOENT && !required)
        return 0;
    if (!real)
        r = err_set(e, errno, "read %s", path);
    else
        r = file_read(AT_FDCWD, real, CONFIG_FILE_MAX, &text, &len, e);
    if (r < 0)
        return err_blame(e, FAULT_OPERATOR);
    return parse_file(c, path, text, len, e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
    char *list[CONFIG_FILES_MAX];
    size_t n;
};

static void names_done(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->list[i]);
}

static int list_drop_ins(const char *dir, struct names *names, struct err *e)
{
    scoped(dir_closep) DIR *d = opendir(dir);
    struct dirent *entry;

    if (!d && errno == ENOENT)
        return 0;
    if (!d) {
        (void)err_set(e, errno, "read %s", dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    while ((errno = 0, entry = readdir(d))) {
        const char *dot = strrchr(entry->d_name, '.');

        if (!dot || dot == entry->d_name || entry->d_name[0] == '.' || strcmp(dot, ".conf") != 0)
            continue;
        if (names->n == CONFIG_FILES_MAX)
            return config_refuse(e, "%s: over the limit of %d files", dir, CONFIG_FILES_MAX);
        if (!(names->list[names->n] = strdup(entry->d_name)))
            return err_set(e, ENOMEM, "read %s", dir);
        names->n++;
    }
    if (errno)
        return err_set(e, errno, "read %s", dir);
    qsort(names->list, names->n, sizeof(names->list[0]), by_name);
    return 0;
}

int config_read(struct config *c, const char *file, bool required, struct err *e)
{
    scoped(names_done) struct names names = {.n = 0};
    struct config changed = *c;
    char path[PATH_MAX];
    int r;

    if (snprintf(path, sizeof(path), "%s.d", file) >= (int)sizeof(path))
        return config_refuse(e, "the path of the configuration file is too long");
    r = read_file(&changed, file, required, e);
    if (r == 0)
        r = list_drop_ins(path, &names, e);
    for (size_t i = 0; i < names.n && r == 0; i++) {
        if (snprintf(path, sizeof(path), "%s.d/%s", file, names.list[i]) >= (int)sizeof(path))
            return config_refuse(e, "the path of the drop-in %s is too long", names.list[i]);
        r = read_file(&changed, path, true, e);
    }
    if (r < 0)
        return r;
    *c = changed;
    return 0;
}
