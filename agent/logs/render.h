/* render.h - a line as readers see it. Pure. */
#ifndef LOGS_RENDER_H
#define LOGS_RENDER_H

#include "base/str.h"
#include "logs/msg.h"

enum render_format { RENDER_TEXT, RENDER_JSON };

/* Appends M and a newline to OUT. PLATFORM is the source's name of lines that the app did not
 * write.
 *
 * Text: "TIME SOURCE[DYNO]: TEXT"; the app's bytes as they are, escape sequences too, but for NUL,
 * which is dropped. JSON: {"t", "app", "dyno", "source", "text"}; NUL is dropped, and each byte
 * that is not UTF-8 is U+FFFD. */
void render(struct str *out, const struct msg *m, enum render_format format, const char *platform);

#endif
