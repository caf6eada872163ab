#include "cli/text.h"

#include "base/clock.h"
#include "base/name.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

char *text_duration(uint64_t usec, char out[TEXT_DURATION_MAX])
{
    uint64_t s = usec / USEC_PER_SEC;

    if (s < 60)
        (void)snprintf(out, TEXT_DURATION_MAX, "%us", (unsigned)s);
    else if (s < 3600)
        (void)snprintf(out, TEXT_DURATION_MAX, "%um%us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        (void)snprintf(out, TEXT_DURATION_MAX, "%uh%um", (unsigned)(s / 3600),
                       (unsigned)(s / 60 % 60));
    else
        (void)snprintf(out, TEXT_DURATION_MAX, "%llud%uh", (unsigned long long)(s / 86400),
                       (unsigned)(s / 3600 % 24));
    return out;
}

char *text_memory(uint64_t bytes, char out[TEXT_MEMORY_MAX])
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes / 1024;
    int unit = 0;

    if (bytes < 1024) {
        (void)snprintf(out, TEXT_MEMORY_MAX, "%u", (unsigned)bytes);
        return out;
    }
    /* 1023.95 would print as "1024": one unit up. */
    while (value >= 1023.5 && unit < 5) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, TEXT_MEMORY_MAX, value >= 99.95 ? "%.0f%c" : "%.1f%c", value, units[unit]);
    return out;
}

const char *color_cycle(size_t n)
{
    static const char *const palette[] = {"\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m",
                                          "\x1b[31m", "\x1b[34m", "\x1b[96m", "\x1b[93m",
                                          "\x1b[92m", "\x1b[95m", "\x1b[91m", "\x1b[94m"};

    return palette[n % (sizeof(palette) / sizeof(palette[0]))];
}

const char *color_of(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return color_cycle(hash >> 8);
}

/* The length of the SGR sequence at P, "ESC [ digits and ; m"; 0 when it is none. */
static size_t sgr_length(const char *p, size_t len)
{
    size_t i = 2;

    if (len < 3 || p[0] != '\x1b' || p[1] != '[')
        return 0;
    while (i < len && i < 40 && ((p[i] >= '0' && p[i] <= '9') || p[i] == ';'))
        i++;
    return i < len && p[i] == 'm' ? i + 1 : 0;
}

/* Text without tabs and colours, a piece at a time: text_escape() wants a buffer. */
static void add_escaped(struct str *out, const char *text, size_t len)
{
    char buf[4 * 512 + 8];

    while (len > 0) {
        size_t n = len < 512 ? len : 512;

        /* Not in the middle of a UTF-8 character. */
        for (int i = 0; i < 3 && n < len && n > 1 && ((unsigned char)text[n] & 0xc0) == 0x80; i++)
            n--;
        str_add(out, text_escape(buf, sizeof(buf), text, n));
        text += n;
        len -= n;
    }
}

void text_terminal(struct str *out, const char *text, size_t len)
{
    bool colored = false;
    size_t start = 0, i = 0;

    while (i < len) {
        size_t n = text[i] == '\t' ? 1 : sgr_length(text + i, len - i);

        if (n == 0) {
            i++;
            continue;
        }
        add_escaped(out, text + start, i - start);
        str_add_n(out, text + i, n);
        colored = colored || n > 1;
        i += n;
        start = i;
    }
    /* A program that writes CR LF means a line end. */
    if (len > start && text[len - 1] == '\r')
        len--;
    add_escaped(out, text + start, len - start);
    if (colored)
        str_add(out, COLOR_RESET);
}

char *text_app_name(const char *path, char *out)
{
    size_t end = strlen(path), n = 0;

    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    for (size_t i = start; i < end && n < APP_NAME_MAX; i++) {
        char c = path[i];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        bool letter = c >= 'a' && c <= 'z';
        if (n == 0 && !letter)
            continue; /* a name starts with a letter */
        if (!letter && !(c >= '0' && c <= '9'))
            c = '-';
        if (c == '-' && out[n - 1] == '-')
            continue;
        out[n++] = c;
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = '\0';
    if (n == 0)
        memcpy(out, "local", sizeof("local"));
    return out;
}

char *text_signal(int signo, char *out, size_t cap)
{
    const char *abbrev = sigabbrev_np(signo);

    if (abbrev)
        (void)snprintf(out, cap, "SIG%s", abbrev);
    else
        (void)snprintf(out, cap, "signal %d", signo);
    return out;
}

char *text_exit(int status, char *out, size_t cap)
{
    char name[32];

    if (status > 128 && status < 128 + 65)
        (void)snprintf(out, cap, "terminated by %s", text_signal(status - 128, name, sizeof(name)));
    else
        (void)snprintf(out, cap, "exited with code %d", status);
    return out;
}

bool text_time(const char *text, uint64_t *ret_real)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (!rest)
        return false;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0)
        return false;
    time_t sec = timegm(&tm);
    if (sec < 0)
        return false;
    *ret_real = (uint64_t)sec * USEC_PER_SEC;
    return true;
}
