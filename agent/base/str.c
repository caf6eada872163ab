#include "base/str.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STR_MAX_DEFAULT (64u << 20)

void str_done(struct str *s)
{
    free(s->data);
    *s = (struct str){0};
}

/* Room for LEN more bytes and the NUL. */
static bool str_grow(struct str *s, size_t len)
{
    size_t max = s->max ? s->max : STR_MAX_DEFAULT;

    if (s->failed || len > max || s->len + len > max) {
        s->failed = true;
        return false;
    }
    if (s->len + len + 1 <= s->cap)
        return true;
    size_t cap = s->cap ? s->cap : 128;
    while (cap < s->len + len + 1)
        cap *= 2;
    char *data = realloc(s->data, cap);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->cap = cap;
    return true;
}

void str_add_n(struct str *s, const void *data, size_t len)
{
    if (!str_grow(s, len))
        return;
    memcpy(s->data + s->len, data, len);
    s->len += len;
    s->data[s->len] = '\0';
}

void str_add(struct str *s, const char *text)
{
    str_add_n(s, text, strlen(text));
}

void str_addf(struct str *s, const char *fmt, ...)
{
    va_list ap, again;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && str_grow(s, (size_t)n)) {
        (void)vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

const char *str_text(const struct str *s)
{
    return s->data ? s->data : "";
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    if (!*text)
        return -EINVAL;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return -ERANGE;
    }
    if (value < min || value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

/* A decimal with an optional fraction, then a unit; the number is returned times SCALE. */
static int parse_scaled(const char *text, const char **ret_unit, double *ret)
{
    const char *p = text;
    double value = 0, place = 1;
    int digits = 0;

    for (; *p >= '0' && *p <= '9'; p++, digits++)
        value = value * 10 + (*p - '0');
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9'; p++, digits++)
            value += (*p - '0') * (place /= 10);
    }
    if (!digits)
        return -EINVAL;
    *ret_unit = p;
    *ret = value;
    return 0;
}

struct unit {
    const char *name;
    double scale;
};

static int parse_unit(const char *text, const struct unit *units, uint64_t *ret)
{
    const char *unit;
    double value;
    int r = parse_scaled(text, &unit, &value);

    if (r < 0)
        return r;
    for (; units->name; units++)
        if (!strcmp(unit, units->name)) {
            if (value * units->scale >= 9e18)
                return -ERANGE;
            *ret = (uint64_t)(value * units->scale + 0.5);
            return 0;
        }
    return -EINVAL;
}

int parse_bytes(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", 1},
        {"k", 1024},
        {"K", 1024},
        {"M", 1048576},
        {"m", 1048576},
        {"G", 1 << 30},
        {"g", 1 << 30},
        {"KB", 1024},
        {"MB", 1048576},
        {"GB", 1 << 30},
        {"T", 1099511627776.0},
        {"TB", 1099511627776.0},
        {NULL, 0},
    };

    return parse_unit(text, units, ret);
}

int parse_usec(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", 1e6},     {"us", 1},     {"ms", 1e3},    {"s", 1e6}, {"m", 60e6},
        {"min", 60e6}, {"h", 3600e6}, {"d", 86400e6}, {NULL, 0},
    };

    return parse_unit(text, units, ret);
}

bool str_starts(const char *text, const char *prefix)
{
    return !strncmp(text, prefix, strlen(prefix));
}

/* The length of the valid UTF-8 character at P, 0 when there is none (RFC 3629). */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;

    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

/* Whether the character of N bytes at P may go to a terminal: no control, also of C1 (U+0080 to
 * U+009F, escape sequences to some), and none that turns the direction of what follows around
 * (U+202A to U+202E, U+2066 to U+2069: CVE-2021-42574). */
static bool is_harmless(const unsigned char *p, size_t n)
{
    if (n == 1)
        return p[0] >= 0x20 && p[0] != 0x7f;
    if (n == 2)
        return p[0] != 0xc2 || p[1] >= 0xa0;
    if (n != 3 || p[0] != 0xe2)
        return n > 0;
    return !(p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) &&
           !(p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9);
}

char *text_escape(char *out, size_t cap, const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t used = 0;

    for (size_t i = 0; i < len;) {
        size_t n = utf8_len(p + i, len - i);
        bool safe = is_harmless(p + i, n);
        size_t need = safe ? n : 4;

        if (used + need + 4 > cap) {
            (void)snprintf(out + used, cap - used, "...");
            return out;
        }
        if (safe) {
            memcpy(out + used, p + i, n);
            i += n;
        } else {
            (void)snprintf(out + used, 5, "\\x%02x", p[i]);
            i++;
        }
        used += need;
    }
    if (cap > 0)
        out[used] = '\0';
    return out;
}

char *format_bytes(char *out, size_t cap, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    unsigned i = 0;

    while (value >= 1024 && i < 5) {
        value /= 1024;
        i++;
    }
    (void)snprintf(out, cap, i ? "%.1f %s" : "%.0f %s", value, units[i]);
    return out;
}
