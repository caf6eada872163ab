/* table.h - rows of text with aligned columns. Pure. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

#define TABLE_CELL_MAX 1024 /* bytes of a cell; longer ones are cut and marked "..." */

/* {0} is an empty table. */
struct table {
    struct table_cell *cells;
    size_t n_cells;
    size_t cap;
    size_t row_cells; /* cells of the row being filled */
    bool failed;      /* no memory: nothing is rendered */
};

void table_done(struct table *t);

/* Appends a cell. COLOR is an escape sequence or NULL. Control characters in the text are escaped.
 */
void table_cell(struct table *t, const char *color, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void table_end_row(struct table *t);

/* Appends all rows to OUT: columns as wide as their widest cell, two blanks between them, nothing
 * after a row's last cell. COLOR: use the cells' colours. */
void table_render(const struct table *t, struct str *out, bool color);

#endif
