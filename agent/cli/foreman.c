#include "cli/foreman.h"

#include "cli/text.h"

#include <stdio.h>
#include <string.h>

#define NAME_WIDTH_MIN 8 /* "system" and two blanks, so that short names line up between runs */

void foreman_init(struct foreman *f, const struct procfile *types, const unsigned *counts,
                  bool color, bool terminal)
{
    *f = (struct foreman){
        .types = types, .width = NAME_WIDTH_MIN, .color = color, .terminal = terminal};
    for (size_t i = 0; i < types->n_types; i++) {
        char name[TYPE_NAME_MAX + 16];
        int n = snprintf(name, sizeof(name), "%s.%u", types->types[i].name, counts[i]);

        if (counts[i] > 0 && (size_t)n > f->width)
            f->width = (size_t)n;
    }
}

/* Colours follow the types' places in the Procfile. */
static const char *name_color(const struct foreman *f, const char *name)
{
    size_t len = strcspn(name, ".");

    for (size_t i = 0; i < f->types->n_types; i++) {
        const char *type = f->types->types[i].name;

        if (strlen(type) == len && !memcmp(type, name, len))
            return color_cycle(i);
    }
    return COLOR_WHITE;
}

void foreman_line(const struct foreman *f, struct str *out, const struct tm *when, const char *name,
                  const char *text, size_t len)
{
    if (f->color)
        str_add(out, name_color(f, name));
    str_addf(out, "%02d:%02d:%02d %-*s | ", when->tm_hour, when->tm_min, when->tm_sec,
             (int)f->width, name);
    if (f->color)
        str_add(out, COLOR_RESET);
    if (f->terminal)
        text_terminal(out, text, len);
    else
        str_add_n(out, text, len);
    str_add(out, "\n");
}
