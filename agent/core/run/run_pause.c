/* run_pause.c - what changes a run that goes on: standing still, another size; and the marks in its
 * directory that tell the next agent. */
#include "core/run/run_priv.h"

#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define STATUS_MAX   16384 /* bytes of /proc/PID/status */
#define PRLIMIT_PASS 3     /* what was forked in one pass is found by the next */

/* --- Marks --- */

/* Without one (no memory on tmpfs), only the next agent knows less. */
static void set_mark(const struct run *r, const char *name, bool on)
{
    if (!on) {
        (void)unlinkat(r->dirfd, name, 0);
        return;
    }
    scoped_fd fd = openat(r->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static bool has_mark(const struct run *r, const char *name)
{
    return faccessat(r->dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void run_note_over(struct run *r, bool over)
{
    if (r->over != over)
        set_mark(r, RUN_OVER, over);
    r->over = over;
}

bool run_is_over(const struct run *r)
{
    return r->over;
}

/* --- Standing still --- */

int run_pause(struct run *r, struct err *e)
{
    if (!r->cgroup || r->ended)
        return err_say(e, EOPNOTSUPP, "there is no cgroup to freeze");
    /* Before it stands still: what no mark explains is thawed. */
    set_mark(r, RUN_PAUSED, true);
    int rc = cgroup_freeze(r->cgroup, true, e);
    if (rc < 0)
        set_mark(r, RUN_PAUSED, false);
    else
        r->paused = true;
    return rc;
}

int run_resume(struct run *r, struct err *e)
{
    int rc = r->cgroup ? cgroup_freeze(r->cgroup, false, e) : 0;

    if (rc < 0)
        return rc;
    set_mark(r, RUN_PAUSED, false);
    r->paused = false;
    return 0;
}

bool run_paused(const struct run *r)
{
    return r->paused;
}

void run_thaw(struct run *r)
{
    struct err e = ERR_INIT;

    if (r->paused && run_resume(r, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
}

void run_find_marks(struct run *r)
{
    struct err e = ERR_INIT;
    bool frozen = r->cgroup && cgroup_frozen(r->cgroup);

    r->over = has_mark(r, RUN_OVER);
    r->paused = frozen && has_mark(r, RUN_PAUSED);
    if (frozen && !r->paused && cgroup_freeze(r->cgroup, false, &e) < 0)
        log_warn("%s: %s", r->id, e.text);
    if (!r->paused)
        set_mark(r, RUN_PAUSED, false);
}

/* proc(5): "NSpid:" ends with the id in the innermost PID namespace, where dyno-init is 1. */
static int is_init(pid_t pid, void *userdata)
{
    scoped_free char *text = NULL;
    char path[64];
    size_t len;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    text = calloc(1, STATUS_MAX);
    if (fd < 0 || !text || fd_read_full(fd, text, STATUS_MAX - 1) < 0)
        return 0; /* it is gone */
    const char *line = strstr(text, "\nNSpid:");
    len = line ? strcspn(line + 1, "\n") : 0;
    if (len < 2 || line[len] != '1' || line[len - 1] != '\t')
        return 0;
    *(pid_t *)userdata = pid;
    return 1;
}

bool run_adopt_paused(struct run *r)
{
    struct err e = ERR_INIT;
    pid_t pid = 0;

    if (run_read_exit(r) == 1 && r->started && !r->status_known &&
        cgroup_each_process(r->cgroup, is_init, &pid, &e) == 1) {
        r->pid = pid;
        r->pidfd = pidfd_open(pid, 0);
        if (r->pidfd >= 0 && run_watch_process(r, &e) == 0)
            return true;
    }
    log_warn("%s: it stood still, and had to be asked how it is: it runs again%s%s", r->id,
             e.errnum ? ": " : "", e.text);
    run_thaw(r);
    return false;
}

/* --- Another size --- */

struct files {
    struct rlimit want;
    bool refused;
};

static int set_files(pid_t pid, void *userdata)
{
    struct files *f = userdata;

    /* Raising it is not for everyone: CAP_SYS_RESOURCE. */
    if (prlimit(pid, RLIMIT_NOFILE, &f->want, NULL) < 0 && errno == EPERM)
        f->refused = true;
    return 0;
}

/* As a start would set it (isolate/steps_user.c). */
static struct rlimit files_of(const struct limits *limits)
{
    rlim_t n = limits->open_files ? limits->open_files : LIMITS_OPEN_FILES;
    struct rlimit own;

    if (getrlimit(RLIMIT_NOFILE, &own) == 0 && own.rlim_max < n)
        n = own.rlim_max;
    return (struct rlimit){n, n};
}

int run_resize(struct run *r, const char *size, const struct limits *old,
               const struct limits *limits, unsigned *ret_later, struct err *e)
{
    bool same_files = old->open_files == limits->open_files;
    struct files files = {.want = files_of(limits)};
    json_t *record = json_object_get(r->record, "record");
    bool io_later = false;

    if (!r->cgroup)
        return err_say(e, EOPNOTSUPP, "there is no cgroup to change");
    int rc = cgroup_set_limits(r->cgroup, limits, &io_later, e);
    for (int i = 0; rc == 0 && !same_files && i < PRLIMIT_PASS; i++)
        rc = cgroup_each_process(r->cgroup, set_files, &files, e);
    if (rc < 0)
        return rc;
    *ret_later = (io_later ? RUN_LATER_IO_WEIGHT : 0) | (files.refused ? RUN_LATER_OPEN_FILES : 0);
    if (json_object_set_new(record, "size", json_string(size)) < 0)
        return err_set(e, ENOMEM, "write down the size of %s", r->id);
    return run_write_record(r, e);
}
