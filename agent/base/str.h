/* str.h - strings that grow to a limit, numbers that are whole, text safe for a log. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A growing, always NUL-terminated buffer; {0} is an empty one. Past MAX (0: 64 MiB), or without
 * memory, it is marked failed and later appends do nothing: check once, at the end. */
struct str {
    char *data;
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

void str_done(struct str *s);
void str_add(struct str *s, const char *text);
void str_add_n(struct str *s, const void *data, size_t len);
void str_addf(struct str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The text; "" when nothing was added. */
const char *str_text(const struct str *s);

/* The whole of TEXT as a decimal number within [min, max]. No sign, blank or suffix. -EINVAL,
 * -ERANGE. */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* "512M", "2.5G", "64k", "1048576": powers of 1024. -EINVAL, -ERANGE. */
int parse_bytes(const char *text, uint64_t *ret);
/* "30", "30s", "500ms", "24h", "216m" as microseconds. -EINVAL, -ERANGE. */
int parse_usec(const char *text, uint64_t *ret);

bool str_starts(const char *text, const char *prefix);

/* Copies at most CAP-1 bytes of TEXT with control characters (also of direction), DEL and invalid
 * UTF-8 escaped as \xNN, and a cut marked by "...": what a stranger wrote, made safe for a terminal
 * or a log. Returns OUT. */
char *text_escape(char *out, size_t cap, const char *text, size_t len);

/* A human size, "21.0 MB"; OUT holds at least 16 bytes. Returns OUT. */
char *format_bytes(char *out, size_t cap, uint64_t bytes);

#endif
