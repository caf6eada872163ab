#include "link/backend.h"

#include "base/str.h"
#include "link/backend_http.h"

static const struct {
    const char *prefix;
    const struct backend_ops *(*ops)(void);
} schemes[] = {
    {"https://", backend_http},
    {"http://", backend_http},
};

const struct backend_ops *backend_for(const char *url)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
        if (str_starts(url, schemes[i].prefix))
            return schemes[i].ops();
    return NULL;
}
