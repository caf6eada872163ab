#include "slug/fetch/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOFILE_MAX 128 /* FETCH_CONNECTIONS_MAX, and what else is open */

/* CAP_SETPCAP is needed for the bounding set; without it the set does not matter, for nothing can
 * be gained from it once no_new_privs is on. */
static void drop_bounding(void)
{
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static int drop_caps(struct err *e)
{
    cap_t none = cap_init();
    int r = 0;

    drop_bounding();
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (!none || cap_set_proc(none) < 0)
        r = err_set(e, errno, "drop the capabilities");
    (void)cap_free(none);
    return r;
}

/* Asks the kernel rather than trusting what was called. */
static int check_caps(struct err *e)
{
    cap_t now = cap_get_proc(), none = cap_init();
    int differ = now && none ? cap_compare(now, none) : -1;

    (void)cap_free(now);
    (void)cap_free(none);
    return differ == 0 ? 0 : err_say(e, EPERM, "capabilities are left");
}

static int limit(int resource, rlim_t value, struct err *e)
{
    struct rlimit now;

    if (getrlimit(resource, &now) < 0)
        return err_set(e, errno, "read a resource limit");
    if (now.rlim_max < value) /* never more than there was */
        value = now.rlim_max;
    if (setrlimit(resource, &(struct rlimit){value, value}) < 0)
        return err_set(e, errno, "set a resource limit");
    return 0;
}

int confine_privileges(struct err *e)
{
    int r;

    /* Without capabilities root would still own the machine's files. */
    if (geteuid() == 0 || getuid() == 0)
        return err_say(e, EPERM, "root never opens an archive: start it as another user");
    r = drop_caps(e);
    if (r == 0)
        r = check_caps(e);
    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(e, errno, "set no_new_privs");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) /* no ptrace by another process of this user */
        return err_set(e, errno, "become undumpable");
    (void)umask(077);
    r = limit(RLIMIT_CORE, 0, e);
    return r < 0 ? r : limit(RLIMIT_NOFILE, NOFILE_MAX, e);
}

int confine(const struct confinement *c, struct err *e)
{
    int r = confine_privileges(e);

    if (r == 0)
        r = confine_landlock(c, e);
    if (r >= 0)
        r = confine_seccomp(c->role, e); /* last: it forbids the rest */
    return r < 0 ? err_wrap(e, "confine the fetch") : 0;
}
