/* store_file.c - file://: dynod has opened what its operator names and hands over the descriptor;
 * the fetch itself may open nothing. */
#include "slug/fetch/store.h"

#include <errno.h>
#include <sys/stat.h>

static int file_open(struct store *s, struct err *e)
{
    struct stat st;

    if (s->file < 0)
        return err_say(e, EBADF, "%s: came without its file", s->shown);
    if (fstat(s->file, &st) < 0)
        return err_set(e, errno, "%s", s->shown);
    if (!S_ISREG(st.st_mode)) {
        err_say(e, EINVAL, "%s: not a regular file", s->shown);
        return err_blame(e, FAULT_OPERATOR);
    }
    return 0;
}

const struct store_ops *store_file(void)
{
    static const struct store_ops ops = {.scheme = "file", .open = file_open};

    return &ops;
}
