/* cgroup_room.c - how much memory the levels above the dynos, and above the agent, have left. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/cgroup_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_LIMIT     (UINT64_C(1) << 60) /* v1 writes "none" as some number near 2^63 */
#define PATH_MAX_LEN 4096

/* As /proc/self/cgroup has it: "NUMBER:CONTROLLER,...:PATH", of v2 "0::PATH". */
static char *own_path(char *text, bool v2)
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':'), *path = list ? strchr(++list, ':') : NULL;

        if (!path)
            continue;
        *path++ = '\0';
        if (v2 ? *list == '\0' : cg_has_word(list, "memory", ","))
            return path;
    }
    return NULL;
}

char *cg_own_level(const struct cgroup_mounts *m, const char *self_cgroup)
{
    scoped_free char *text = NULL;
    struct err ignored = ERR_INIT; /* then only the dynos' side is looked at */
    bool v2 = cgroup_v2_usable(m->v2);
    const char *mount = v2 ? m->v2 : m->v1[CTRL_MEMORY];
    char *level = NULL;
    size_t len;

    if (!mount || file_read(AT_FDCWD, self_cgroup, CGROUP_TEXT_MAX, &text, &len, &ignored) < 0)
        return NULL;
    const char *path = own_path(text, v2);
    /* "/..": outside of what this cgroup namespace shows. */
    if (!path || *path != '/' || str_starts(path, "/..") ||
        asprintf(&level, "%s%s", mount, path) < 0)
        return NULL;
    return level;
}

static ssize_t read_level(const char *level, const char *file, char *buf, size_t cap)
{
    char path[PATH_MAX_LEN];

    if (snprintf(path, sizeof(path), "%s/%s", level, file) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = fd_read_full(fd, buf, cap - 1);
    buf[n < 0 ? 0 : n] = '\0';
    return n;
}

/* "max", and a file that is not there, are DEF. */
static uint64_t number_of(const char *level, const char *file, uint64_t def)
{
    char text[64];
    uint64_t n;

    if (read_level(level, file, text, sizeof(text)) <= 0)
        return def;
    text[strcspn(text, "\n")] = '\0';
    return parse_u64(text, 0, UINT64_MAX, &n) < 0 ? def : n;
}

/* Files that are cached are given up before anything fails. */
static uint64_t cached(const char *level, const char *active, const char *inactive)
{
    char stat[CGROUP_TEXT_MAX];

    if (read_level(level, "memory.stat", stat, sizeof(stat)) <= 0)
        return 0;
    return cg_field(stat, active) + cg_field(stat, inactive);
}

static uint64_t level_room(const char *level)
{
    bool v1 = false;
    uint64_t max = number_of(level, "memory.max", UINT64_MAX);
    const uint64_t high = number_of(level, "memory.high", UINT64_MAX);

    if (high < max)
        max = high;
    if (max == UINT64_MAX) {
        max = number_of(level, "memory.limit_in_bytes", UINT64_MAX);
        v1 = true;
    }
    if (max >= NO_LIMIT)
        return UINT64_MAX;
    uint64_t used = number_of(level, v1 ? "memory.usage_in_bytes" : "memory.current", 0);
    uint64_t files = v1 ? cached(level, "total_active_file", "total_inactive_file")
                        : cached(level, "active_file", "inactive_file");
    used = used > files ? used - files : 0;
    return max > used ? max - used : 0;
}

/* LEVEL and all above it. */
static void walk(const char *from, struct cgroup_room *room)
{
    char level[PATH_MAX_LEN];

    if (!from || snprintf(level, sizeof(level), "%s", from) >= (int)sizeof(level))
        return;
    for (char *slash; (slash = strrchr(level, '/')) && slash > level; *slash = '\0') {
        uint64_t left = level_room(level);

        if (left >= room->left)
            continue;
        room->left = left;
        (void)snprintf(room->where, sizeof(room->where), "%.*s", CGROUP_WHERE_MAX - 1, level);
    }
}

void cgroup_tree_room(const struct cgroup_tree *t, struct cgroup_room *ret)
{
    int at = t->alias[CTRL_MEMORY];

    *ret = (struct cgroup_room){.left = UINT64_MAX};
    walk(at >= 0 ? t->path[at] : NULL, ret);
    walk(t->own, ret);
}
