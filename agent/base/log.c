#include "base/log.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *name;
    enum log_level level;
    int plain; /* a person reads stderr: no "<N>" */
} logger = {"dynod", LOG_LVL_INFO, 0};

void log_open(const char *name, enum log_level level)
{
    logger.name = name;
    logger.level = level;
    logger.plain = isatty(STDERR_FILENO);
}

void log_at(enum log_level level, const char *fmt, ...)
{
    char text[1024], line[1200];
    va_list ap;
    int n;

    if (level > logger.level)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut line is still a line */
    va_end(ap);
    if (logger.plain)
        n = snprintf(line, sizeof(line), "%s: %s\n", logger.name, text);
    else
        n = snprintf(line, sizeof(line), "<%d>%s: %s\n", (int)level, logger.name, text);
    if (n > 0) /* one write: lines of several processes do not mix; nothing to do if it fails */
        (void)!write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}
