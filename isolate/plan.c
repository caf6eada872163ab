/* plan.c - the last look at a plan before anything is made of it. */
#include "isolate/sandbox_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOSTNAME_MAX 64 /* sethostname(2) */

static int check_hostname(const char *name, struct err *e)
{
    size_t len = name ? strlen(name) : 0;

    if (len == 0 || len > HOSTNAME_MAX)
        return err_say(e, EINVAL, "plan: a host name has 1 to %d bytes", HOSTNAME_MAX);
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '.')
            return err_say(e, EINVAL, "plan: bad byte 0x%02x in the host name", (unsigned char)*c);
    return 0;
}

static int check_fd(int fd, const char *what, struct err *e)
{
    if (fd < 0 || fcntl(fd, F_GETFD) < 0)
        return err_say(e, EINVAL, "plan: %s (%d) is not open", what, fd);
    return 0;
}

static int check_dir(int fd, const char *what, struct err *e)
{
    struct stat st;
    int r = check_fd(fd, what, e);

    if (r == 0 && (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode)))
        r = err_say(e, EINVAL, "plan: %s is not a directory", what);
    return r;
}

static int check_ids(const struct sandbox *s, const struct plan *p, struct err *e)
{
    if (p->uid == 0 || p->gid == 0 || p->uid == (uid_t)-1 || p->gid == (gid_t)-1)
        return err_say(e, EINVAL, "plan: a dyno cannot run as %u:%u", p->uid, p->gid);
    if (s->rootless && (p->uid != geteuid() || p->gid != getegid() || p->userns_fd >= 0))
        return err_say(e, EINVAL, "plan: rootless dynos run as the agent's user");
    return s->rootless ? 0 : check_fd(p->userns_fd, "the user namespace", e);
}

/* -1 only when it is meant: a dyno is not to run in the host's network by mistake. */
static int check_network(int fd, struct err *e)
{
    if (fd != -1 && ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
        return err_say(e, EINVAL, "plan: %d is no network namespace", fd);
    return 0;
}

int plan_check_ahead(const struct sandbox *s, const struct plan *p, struct err *e)
{
    const struct {
        const char *what;
        int fd;
    } fds[] = {{"the log's read end", p->log_read},
               {"the log's write end", p->log_write},
               {"the control socket", p->ctl_fd},
               {"the listening socket", p->listen_fd},
               {"the record", p->record_fd}};
    int r = check_ids(s, p, e);

    if (r == 0)
        r = check_network(p->netns_fd, e);
    if (r == 0)
        r = check_dir(p->scratch_fd, "the scratch directory", e);
    for (size_t i = 0; r == 0 && i < sizeof(fds) / sizeof(fds[0]); i++)
        r = check_fd(fds[i].fd, fds[i].what, e);
    if (r == 0 && !p->cgroup)
        r = err_say(e, EINVAL, "plan: no cgroup");
    return r;
}

int plan_check_rest(const struct plan *p, struct err *e)
{
    int r = check_hostname(p->hostname, e);

    if (r == 0 && p->slug_fd != -1)
        r = check_dir(p->slug_fd, "the slug", e);
    if (r == 0)
        r = check_fd(p->launch_fd, "the launch record", e);
    for (int i = 0; r == 0 && i < 3; i++)
        r = p->stdio[i] == -1 ? 0 : check_fd(p->stdio[i], "the command's stdio", e);
    return r;
}

int plan_check(const struct sandbox *s, const struct plan *p, struct err *e)
{
    int r = plan_check_ahead(s, p, e);

    return r < 0 ? r : plan_check_rest(p, e);
}
