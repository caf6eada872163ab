/* cgroup_file.c - reading and writing the files of one cgroup. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME_MAX 64 /* of an interface file */

int cg_open(const struct cgroup *c, enum controller ctrl, const char *file, int flags)
{
    char path[CGROUP_ID_MAX + 1 + FILE_NAME_MAX];
    int at = c->tree->alias[ctrl];

    if (at < 0 || c->tree->dirs[at] < 0)
        return -ENOENT;
    (void)snprintf(path, sizeof(path), "%s/%s", c->id, file);
    int fd = openat(c->tree->dirs[at], path, flags | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

int cg_put(const struct cgroup *c, enum controller ctrl, const char *file, const char *text)
{
    int fd = cg_open(c, ctrl, file, O_WRONLY);

    if (fd < 0)
        return fd;
    ssize_t n = write(fd, text, strlen(text));
    int r = n < 0 ? -errno : 0;
    close(fd);
    return r;
}

int cg_put_u64(const struct cgroup *c, enum controller ctrl, const char *file, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return cg_put(c, ctrl, file, text);
}

int cg_set(const struct cgroup *c, enum controller ctrl, const char *file, const char *text,
           struct err *e)
{
    int r = cg_put(c, ctrl, file, text);

    return r < 0 ? err_set(e, -r, "cgroup %s: set %s to %s", c->id, file, text) : 0;
}

ssize_t cg_get(const struct cgroup *c, enum controller ctrl, const char *file, char *buf,
               size_t cap)
{
    int fd = cg_open(c, ctrl, file, O_RDONLY);

    if (fd < 0)
        return fd;
    ssize_t n = fd_read_full(fd, buf, cap - 1);
    close(fd);
    if (n >= 0)
        buf[n] = '\0';
    return n;
}

bool cg_unseen(ssize_t n)
{
    return n < 0 && n != -ENOENT && n != -ENODEV;
}

uint64_t cg_get_u64(const struct cgroup *c, enum controller ctrl, const char *file, uint64_t def)
{
    char text[64];
    uint64_t value;

    if (cg_get(c, ctrl, file, text, sizeof(text)) < 0)
        return def;
    text[strcspn(text, "\n")] = '\0';
    return parse_u64(text, 0, UINT64_MAX, &value) < 0 ? def : value;
}

uint64_t cg_field(const char *text, const char *key)
{
    size_t len = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, len) && line[len] == ' ')
            return strtoull(line + len + 1, NULL, 10);
    }
    return 0;
}

int cgroup_each_process(struct cgroup *c, int (*fn)(pid_t pid, void *userdata), void *userdata,
                        struct err *e)
{
    if (!c->tree->ops)
        return 0;
    int fd = cg_open(c, CTRL_PIDS, "cgroup.procs", O_RDONLY), r = 0;
    scoped(file_closep) FILE *f = fd >= 0 ? fdopen(fd, "re") : NULL;
    if (!f) {
        if (fd >= 0)
            close(fd);
        return err_set(e, fd < 0 ? -fd : ENOMEM, "cgroup %s: list its processes", c->id);
    }
    for (int pid; r == 0 && fscanf(f, "%d", &pid) == 1;)
        if (pid > 0)
            r = fn(pid, userdata);
    return r;
}

int cg_kill_listed(const struct cgroup *c, enum controller ctrl)
{
    int fd = cg_open(c, ctrl, "cgroup.procs", O_RDONLY);
    int n = 0;

    if (fd < 0)
        return fd;
    scoped(file_closep) FILE *f = fdopen(fd, "re");
    if (!f) {
        close(fd);
        return -ENOMEM;
    }
    for (int pid; fscanf(f, "%d", &pid) == 1;)
        if (pid > 1 && kill(pid, SIGKILL) == 0)
            n++;
    return n;
}
