/* lines.h - lines of a text that a stranger wrote, and the warnings about them. Pure. */
#ifndef SLUG_LINES_H
#define SLUG_LINES_H

#include <stdbool.h>
#include <stddef.h>

/* A place in a text: the bytes from P to END, the first of them on line LINE (from 1). */
struct lines {
    const char *p;
    const char *end;
    unsigned line; /* of the line that lines_next() gave last, or of P before the first */
    unsigned next; /* of P */
};

/* Starts at the text's first byte after a UTF-8 byte order mark, if there is one. */
void lines_init(struct lines *l, const char *text, size_t len);

/* The next line without its end, which is LF, CRLF, a lone CR or the text's end. False: no more. */
bool lines_next(struct lines *l, const char **ret_line, size_t *ret_len);

/* The line of the first NUL byte of TEXT, 0 when it has none. */
unsigned lines_find_nul(const char *text, size_t len);

/* One of git's conflict markers: seven of `<`, `=`, `>` or `|`, then a blank or the end. */
bool line_is_conflict(const char *line, size_t len);

/* A blank is a space or a tab. */
static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes blanks off both ends of the text at *P of *LEN bytes. */
void trim_blanks(const char **p, size_t *len);

/* A list of warnings. At most WARNINGS_MAX are kept; one more says that others were left out. */
#define WARNINGS_MAX     100
#define WARNING_TEXT_MAX 480

/* Adds a formatted text, which is safe to print: the arguments are escaped already. -ENOMEM. */
int warnings_add(char ***list, size_t *n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void warnings_free(char ***list, size_t *n);

#endif
