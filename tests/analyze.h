/* analyze.h - what clang-tidy and gcc's analyzer are told before each file of `make analyze`. They
 * see one file at a time: without this, `return err_set(e, ENOENT, ...)` is to them a call that may
 * well return 0, and each caller goes on with outputs that nobody set. No build includes it. */
#ifndef TESTS_ANALYZE_H
#define TESTS_ANALYZE_H

#include "base/err.h"

/* R is -errno: an error is never a success. */
static inline int analyze_failed(int r)
{
    if (r >= 0)
        __builtin_unreachable();
    return r;
}

#define err_set(...)   analyze_failed(err_set(__VA_ARGS__))
#define err_say(...)   analyze_failed(err_say(__VA_ARGS__))
#define err_wrap(...)  analyze_failed(err_wrap(__VA_ARGS__))
#define err_blame(...) analyze_failed(err_blame(__VA_ARGS__))

#endif
