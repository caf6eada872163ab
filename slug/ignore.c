#include "slug/ignore.h"

#include "base/scoped.h"
#include "slug/lines.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

struct ignore_pattern {
    char *glob;
    bool anchored; /* from the top, rather than any name */
    bool dirs_only;
};

void ignore_done(struct ignore *ig)
{
    for (size_t i = 0; i < ig->n; i++)
        free(ig->patterns[i].glob);
    free(ig->patterns);
    *ig = (struct ignore){0};
}

static int add(struct ignore *ig, const char *line, size_t len)
{
    struct ignore_pattern p = {0};

    if (line[len - 1] == '/') {
        p.dirs_only = true;
        len--;
    }
    p.anchored = memchr(line, '/', len) != NULL;
    if (len > 0 && line[0] == '/') {
        line++;
        len--;
    }
    if (len == 0)
        return 0; /* the top itself is what is packed */
    p.glob = strndup(line, len);
    struct ignore_pattern *bigger =
        p.glob ? realloc(ig->patterns, (ig->n + 1) * sizeof(*bigger)) : NULL;
    if (!bigger) {
        free(p.glob);
        return -ENOMEM;
    }
    ig->patterns = bigger;
    bigger[ig->n++] = p;
    return 0;
}

static int refuse(struct err *e, int errnum, unsigned line, const char *why)
{
    err_say(e, errnum, ".slugignore:%u: %s", line, why);
    return err_blame(e, FAULT_OPERATOR);
}

int ignore_parse(const char *text, size_t len, struct ignore *ret, struct err *e)
{
    scoped(ignore_done) struct ignore ig = {0};
    struct lines lines;
    const char *line;
    size_t n;

    if (len > IGNORE_MAX_BYTES)
        return refuse(e, EFBIG, 1, "over the limit of 262144 bytes");
    lines_init(&lines, text, len);
    while (lines_next(&lines, &line, &n)) {
        trim_blanks(&line, &n);
        if (n == 0 || line[0] == '#')
            continue;
        if (line[0] == '!')
            return refuse(e, EINVAL, lines.line, "'!' has no meaning here");
        if (ig.n == IGNORE_MAX_PATTERNS)
            return refuse(e, E2BIG, lines.line, "over the limit of 10000 patterns");
        if (add(&ig, line, n) < 0)
            return err_set(e, ENOMEM, "read .slugignore");
    }
    *ret = ig;
    ig = (struct ignore){0};
    return 0;
}

bool ignore_matches(const struct ignore *ig, const char *path, bool is_dir)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    if (!strcmp(name, ".git"))
        return true;
    for (size_t i = 0; i < ig->n; i++) {
        const struct ignore_pattern *p = &ig->patterns[i];

        if ((is_dir || !p->dirs_only) &&
            fnmatch(p->glob, p->anchored ? path : name, FNM_PATHNAME) == 0)
            return true;
    }
    return false;
}
