#include "slug/lines.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
/* gcc's analyzer loses sight of what is stored in an array of pointers and calls it leaked; the
 * tests run under LeakSanitizer. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

void lines_init(struct lines *l, const char *text, size_t len)
{
    size_t bom = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;

    *l = (struct lines){.p = text + bom, .end = text + len, .line = 1, .next = 1};
}

bool lines_next(struct lines *l, const char **ret_line, size_t *ret_len)
{
    const char *start = l->p, *p = start;

    if (p == l->end)
        return false;
    while (p < l->end && *p != '\n' && *p != '\r')
        p++;
    *ret_line = start;
    *ret_len = (size_t)(p - start);
    if (p + 1 < l->end && p[0] == '\r' && p[1] == '\n')
        p++;
    l->p = p < l->end ? p + 1 : p;
    l->line = l->next++;
    return true;
}

unsigned lines_find_nul(const char *text, size_t len)
{
    const char *nul = memchr(text, '\0', len);
    struct lines l;
    const char *line;
    size_t n;

    if (!nul)
        return 0;
    lines_init(&l, text, len);
    while (lines_next(&l, &line, &n))
        if (nul >= line && nul < line + n)
            return l.line;
    return 1; /* not reached: a NUL is no line end */
}

bool line_is_conflict(const char *line, size_t len)
{
    if (len < 7 || !strchr("<=>|", line[0]) || line[0] == '\0')
        return false;
    for (int i = 1; i < 7; i++)
        if (line[i] != line[0])
            return false;
    return len == 7 || is_blank(line[7]);
}

void trim_blanks(const char **p, size_t *len)
{
    while (*len > 0 && is_blank(**p)) {
        (*p)++;
        (*len)--;
    }
    while (*len > 0 && is_blank((*p)[*len - 1]))
        (*len)--;
}

int warnings_add(char ***list, size_t *n, const char *fmt, ...)
{
    char text[WARNING_TEXT_MAX];
    va_list ap;

    if (*n > WARNINGS_MAX)
        return 0;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    char **bigger = realloc(*list, (*n + 1) * sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    *list = bigger;
    bigger[*n] = strdup(*n == WARNINGS_MAX ? "more warnings were left out" : text);
    if (!bigger[*n])
        return -ENOMEM;
    (*n)++;
    return 0;
}

void warnings_free(char ***list, size_t *n)
{
    for (size_t i = 0; i < *n; i++)
        free((*list)[i]);
    free(*list);
    *list = NULL;
    *n = 0;
}
