#include "core/host/uidrange.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FILE_MAX       (16u << 20)
#define NAME_MAX_SHOWN 64

struct range {
    uint64_t first, last;
};

static bool overlap(struct range a, struct range b)
{
    return a.first <= b.last && b.first <= a.last;
}

/* "name:x:UID:…" */
static bool read_user(char *const *fields, struct range *ret)
{
    uint64_t uid;

    if (!fields[2] || parse_u64(fields[2], 0, UINT32_MAX, &uid) < 0)
        return false;
    *ret = (struct range){uid, uid};
    return true;
}

/* "name:FIRST:COUNT" */
static bool read_subuid(char *const *fields, struct range *ret)
{
    uint64_t first, count;

    if (!fields[1] || !fields[2] || parse_u64(fields[1], 0, UINT32_MAX, &first) < 0 ||
        parse_u64(fields[2], 1, UINT32_MAX, &count) < 0)
        return false;
    if (!strcmp(fields[0], "root") || !strcmp(fields[0], "dynod"))
        return false;
    *ret = (struct range){first, first + count - 1};
    return true;
}

static int clash(struct range ours, struct range theirs, const char *name, const char *file,
                 struct err *e)
{
    char shown[NAME_MAX_SHOWN];

    (void)text_escape(shown, sizeof(shown), name, strlen(name));
    if (theirs.first == theirs.last)
        (void)err_say(e, EEXIST,
                      "uid_range %ju-%ju holds %ju, the user %s of %s: choose a range that nobody "
                      "has",
                      (uintmax_t)ours.first, (uintmax_t)ours.last, (uintmax_t)theirs.first, shown,
                      file);
    else
        (void)err_say(e, EEXIST,
                      "uid_range %ju-%ju overlaps %ju-%ju, which %s gives to %s: choose a range "
                      "that nobody has",
                      (uintmax_t)ours.first, (uintmax_t)ours.last, (uintmax_t)theirs.first,
                      (uintmax_t)theirs.last, file, shown);
    return err_blame(e, FAULT_OPERATOR);
}

static int check_file(const char *path, struct range ours,
                      bool (*read_line)(char *const *, struct range *), struct err *e)
{
    scoped_free char *text = NULL;
    char *save = NULL;
    size_t len;
    struct err why = ERR_INIT;
    int r = file_read(AT_FDCWD, path, FILE_MAX, &text, &len, &why);

    if (r == -ENOENT)
        return 0;
    if (r < 0) {
        *e = why;
        return err_wrap(e, "look for the owners of uid_range");
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *fields[4] = {line};
        struct range theirs;

        for (size_t i = 1; i < 4 && fields[i - 1]; i++) {
            fields[i] = strchr(fields[i - 1], ':');
            if (fields[i])
                *fields[i]++ = '\0';
        }
        if (read_line(fields, &theirs) && overlap(ours, theirs))
            return clash(ours, theirs, line, path, e);
    }
    return 0;
}

int uidrange_check(const char *etc, uid_t first, uid_t last, struct err *e)
{
    const struct range ours = {first, last};
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/passwd", etc);
    int r = check_file(path, ours, read_user, e);
    (void)snprintf(path, sizeof(path), "%s/subuid", etc);
    return r < 0 ? r : check_file(path, ours, read_subuid, e);
}
