#include "base/fault.h"

#include <string.h>

static const char *const names[] = {
    [FAULT_NONE] = "none",
    [FAULT_APP] = "app",
    [FAULT_PLATFORM] = "platform",
    [FAULT_OPERATOR] = "operator",
};

const char *fault_name(enum fault fault)
{
    return names[fault];
}

enum fault fault_from_name(const char *name)
{
    for (unsigned i = 0; name && i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(names[i], name))
            return (enum fault)i;
    return FAULT_PLATFORM;
}
