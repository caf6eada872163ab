/* lines.h - cuts what an app wrote into lines. Pure: the same bytes give the same lines however
 * they arrived, so a reader that was killed and starts again at a line's end cuts as it would have.
 */
#ifndef LOGS_LINES_H
#define LOGS_LINES_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that are enough to decide where the first line ends: LOG_LINE_MAX of text and CR LF. */
#define LINE_WINDOW (LOG_LINE_MAX + 2u)

struct line {
    const char *text; /* inside DATA: not copied, any bytes, NUL too */
    size_t len;       /* without the line's end */
    size_t raw;       /* with it: how far to go on */
};

/* The first line of DATA: up to LF or CR LF; over LOG_LINE_MAX it is cut, before a UTF-8 character
 * rather than inside. LAST: nothing follows DATA, so a rest without an end is a line too. False: no
 * whole line yet (never with LINE_WINDOW bytes or more). */
bool line_cut(const char *data, size_t len, bool last, struct line *ret);

#endif
