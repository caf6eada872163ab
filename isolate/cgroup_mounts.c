/* cgroup_mounts.c - where the hierarchies are, and which of them count. */
#include "isolate/cgroup_impl.h"

#include "base/fdio.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOUNTINFO_MAX (4u << 20)

void cgroup_mounts_done(struct cgroup_mounts *m)
{
    for (int i = 0; i < CTRL_COUNT; i++)
        free(m->v1[i]);
    free(m->v2);
}

bool cg_has_word(const char *list, const char *word, const char *separators)
{
    size_t len = strlen(word);

    for (const char *at = list; *at;) {
        size_t n = strcspn(at, separators);

        if (n == len && !strncmp(at, word, len))
            return true;
        at += n + (at[n] != '\0');
    }
    return false;
}

const char *controller_name(enum controller ctrl)
{
    static const char *const names[CTRL_COUNT] = {"memory",  "pids",    "cpu",
                                                  "cpuacct", "freezer", "blkio"};

    return names[ctrl];
}

/* proc_pid_mountinfo(5): id parent dev root POINT options [tags...] - TYPE source SUPER_OPTIONS */
static int mounts_line(struct cgroup_mounts *m, char *line)
{
    char *dash = strstr(line, " - "), *save = NULL, *point = NULL;

    if (!dash)
        return 0;
    *dash = '\0';
    char *word = strtok_r(line, " ", &save);
    for (int i = 0; word && i < 4; i++)
        point = word = strtok_r(NULL, " ", &save);
    char *type = strtok_r(dash + 3, " ", &save);
    (void)strtok_r(NULL, " ", &save);
    char *options = strtok_r(NULL, " ", &save);
    /* A blank in a mount point is written \040: no cgroup mount has one. */
    if (!point || !type || !options || strchr(point, '\\'))
        return 0;
    if (!strcmp(type, "cgroup2") && !m->v2) {
        m->v2 = strdup(point);
        return m->v2 ? 0 : -ENOMEM;
    }
    if (strcmp(type, "cgroup") != 0)
        return 0;
    for (int i = 0; i < CTRL_COUNT; i++)
        if (!m->v1[i] && cg_has_word(options, controller_name((enum controller)i), ",")) {
            m->v1[i] = strdup(point);
            if (!m->v1[i])
                return -ENOMEM;
        }
    return 0;
}

int cgroup_mounts_find(const char *mountinfo, struct cgroup_mounts *m, struct err *e)
{
    scoped_free char *text = NULL;
    char *save = NULL;
    size_t len;
    int r = file_read(AT_FDCWD, mountinfo, MOUNTINFO_MAX, &text, &len, e);

    if (r < 0)
        return r;
    for (char *line = strtok_r(text, "\n", &save); line && r == 0;
         line = strtok_r(NULL, "\n", &save))
        r = mounts_line(m, line);
    return r < 0 ? err_set(e, -r, "find the cgroup hierarchies") : 0;
}

bool cgroup_v2_usable(const char *mount)
{
    scoped_free char *text = NULL;
    struct err ignored = ERR_INIT; /* not readable is as good as not there */
    char path[4096];
    size_t len;

    if (!mount || snprintf(path, sizeof(path), "%s/cgroup.controllers", mount) >= (int)sizeof(path))
        return false;
    if (file_read(AT_FDCWD, path, CGROUP_TEXT_MAX, &text, &len, &ignored) < 0)
        return false;
    return cg_has_word(text, "memory", " \n") && cg_has_word(text, "pids", " \n");
}
