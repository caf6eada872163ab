#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void fill(struct err *e, int errnum, const char *fmt, va_list ap)
{
    e->errnum = errnum;
    e->fault = FAULT_PLATFORM;
    (void)vsnprintf(e->text, sizeof(e->text), fmt, ap); /* a cut text is still the best we have */
}

int err_set(struct err *e, int errnum, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(e, errnum, fmt, ap);
    va_end(ap);
    size_t len = strlen(e->text);
    const char *why = strerrordesc_np(errnum);
    (void)snprintf(e->text + len, sizeof(e->text) - len, ": %s", why ? why : "unknown error");
    return -errnum;
}

int err_say(struct err *e, int errnum, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(e, errnum, fmt, ap);
    va_end(ap);
    return -errnum;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char old[ERR_TEXT_MAX];
    va_list ap;

    memcpy(old, e->text, sizeof(old));
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    /* A cut end is meant here; the precision tells the compiler so (-Wformat-truncation). */
    if (n >= 0 && (size_t)n < sizeof(e->text)) {
        int room = (int)sizeof(e->text) - n;
        (void)snprintf(e->text + n, (size_t)room, ": %.*s", room, old);
    }
    return -e->errnum;
}

int err_blame(struct err *e, enum fault fault)
{
    e->fault = fault;
    return -e->errnum;
}

bool err_is_shortage(int errnum)
{
    return errnum == ENOMEM || errnum == ENOBUFS || errnum == EMFILE || errnum == ENFILE ||
           errnum == EAGAIN || errnum == EINTR;
}

int err_blame_operator(struct err *e)
{
    bool ours = err_is_shortage(e->errnum) || e->errnum == EIO;

    return ours ? -e->errnum : err_blame(e, FAULT_OPERATOR);
}
