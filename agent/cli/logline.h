/* logline.h - one log line as people see it. Pure. */
#ifndef CLI_LOGLINE_H
#define CLI_LOGLINE_H

#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Appends "TIME app[web.1]: TEXT" as it came, or for a TERMINAL with its control characters made
 * safe, and with COLOR the dyno's prefix in the dyno's colour. No newline. */
void log_line(struct str *out, const char *line, size_t len, bool terminal, bool color);

/* Appends an event, {"id", "t", "kind", "app", "dyno", ...}, as one line of text. No newline. */
void event_line(struct str *out, const json_t *event, bool color);

#endif
