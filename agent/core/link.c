#include "core/link.h"

#include "core/agent_priv.h"

/* The agent's hold on the control plane. */
struct link {
    bool routed;      /* a controller is configured */
    uint64_t contact; /* boot usec of its last answer */
};

bool agent_routed(const struct agent *a)
{
    return a->link && a->link->routed;
}

uint64_t agent_last_contact(const struct agent *a)
{
    return a->link && a->link->routed ? a->link->contact : 0;
}
