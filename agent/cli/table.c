#include "cli/table.h"

#include "cli/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_COLUMNS_MAX 32

struct table_cell {
    const char *color;
    char *text;
    size_t width; /* characters, not bytes */
    bool last;    /* of its row */
};

void table_done(struct table *t)
{
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i].text);
    free(t->cells);
    *t = (struct table){0};
}

static size_t text_width(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static bool table_grow(struct table *t)
{
    if (t->n_cells < t->cap)
        return true;
    size_t cap = t->cap ? 2 * t->cap : 64;
    struct table_cell *cells = reallocarray(t->cells, cap, sizeof(*cells));
    if (!cells)
        return false;
    t->cells = cells;
    t->cap = cap;
    return true;
}

void table_cell(struct table *t, const char *color, const char *fmt, ...)
{
    char raw[TABLE_CELL_MAX], safe[TABLE_CELL_MAX + 8];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    if (t->failed || !table_grow(t) || t->row_cells == TABLE_COLUMNS_MAX) {
        t->failed = true;
        return;
    }
    char *text = strdup(text_escape(safe, sizeof(safe), raw, strlen(raw)));
    if (!text) {
        t->failed = true;
        return;
    }
    t->cells[t->n_cells++] =
        (struct table_cell){.color = color, .text = text, .width = text_width(text)};
    t->row_cells++;
}

void table_end_row(struct table *t)
{
    if (t->row_cells > 0)
        t->cells[t->n_cells - 1].last = true;
    t->row_cells = 0;
}

/* Whether nothing but empty cells follow cell I in its row: then no blanks either. */
static bool rest_is_empty(const struct table *t, size_t i)
{
    while (!t->cells[i].last)
        if (t->cells[++i].width > 0)
            return false;
    return true;
}

void table_render(const struct table *t, struct str *out, bool color)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};

    if (t->failed)
        return;
    for (size_t i = 0, column = 0; i < t->n_cells; i++) {
        const struct table_cell *c = &t->cells[i];

        /* A row's last cell does not push others: it may be a whole sentence. */
        if (!c->last && c->width > widths[column])
            widths[column] = c->width;
        column = c->last ? 0 : column + 1;
    }
    for (size_t i = 0, column = 0; i < t->n_cells; i++) {
        const struct table_cell *c = &t->cells[i];
        bool colored = color && c->color && *c->text;

        str_addf(out, "%s%s%s", colored ? c->color : "", c->text, colored ? COLOR_RESET : "");
        if (c->last)
            str_add(out, "\n");
        else if (!rest_is_empty(t, i))
            str_addf(out, "%*s", (int)(widths[column] - c->width + 2), "");
        column = c->last ? 0 : column + 1;
    }
}
