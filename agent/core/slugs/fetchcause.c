#include "core/slugs/fetchcause.h"

const char *fetch_role_name(enum fetch_role role)
{
    static const char *const names[FETCH_ROLES] = {
        [FETCH_DOWNLOAD] = "download", [FETCH_UNPACK] = "unpack", [FETCH_IMAGE] = "image"};

    return names[role];
}

static bool find(const struct role_end r[FETCH_ROLES], enum role_state state,
                 enum fetch_role *ret_role)
{
    for (int i = 0; i < FETCH_ROLES; i++)
        if (r[i].state == state) {
            *ret_role = (enum fetch_role)i;
            return true;
        }
    return false;
}

/* Nothing can be heard any more that would be a better reason. */
static bool all_spoke(const struct role_end r[FETCH_ROLES])
{
    enum fetch_role ignored;

    return !find(r, ROLE_RUNNING, &ignored);
}

static bool all_done(const struct role_end r[FETCH_ROLES])
{
    for (int i = 0; i < FETCH_ROLES; i++)
        if (r[i].state != ROLE_DONE && r[i].state != ROLE_ABSENT)
            return false;
    return true;
}

enum fetch_next fetch_judge(const struct role_end r[FETCH_ROLES], bool has_digest, bool patient,
                            enum fetch_role *ret_role)
{
    const struct role_end *download = &r[FETCH_DOWNLOAD];
    enum fetch_role role;

    if (all_done(r))
        return FETCH_PUBLISH;
    if (download->state == ROLE_ERROR && !download->consequence) {
        *ret_role = FETCH_DOWNLOAD;
        return FETCH_FAILED;
    }
    if (find(r, ROLE_DIED, ret_role))
        return FETCH_FAILED;
    if (r[FETCH_UNPACK].state == ROLE_ERROR)
        role = FETCH_UNPACK;
    else if (r[FETCH_IMAGE].state == ROLE_ERROR)
        role = FETCH_IMAGE;
    else if (download->state == ROLE_ERROR)
        role = FETCH_DOWNLOAD;
    else
        return FETCH_WAIT;
    if (r[role].fault == FAULT_APP && has_digest && download->state == ROLE_RUNNING)
        return FETCH_WAIT;
    if (patient && !all_spoke(r))
        return FETCH_SOON;
    *ret_role = role;
    return FETCH_FAILED;
}
