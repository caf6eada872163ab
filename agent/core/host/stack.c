#include "core/host/stack.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/name.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/config/config_keys.h"
#include "core/host/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define VERDICT      "stack" /* in the runtime directory */
#define VERDICT_MAX  256
#define COPY_NEW     "new" /* never mounted */
#define COPY_PIECE   (64u << 20)
#define IMAGE_PATH   300
#define MORE_TIME    "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=checking the stack's image"
#define MORE_TIME_MS 10000

/* --- what the configuration shows --- */

const char *stack_image_type(const char *path)
{
    static const char *const types[] = {"squashfs", "erofs"};
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
        if (!strcmp(dot + 1, types[i]))
            return types[i];
    return NULL;
}

int config_check_stack(const struct config *c, struct err *e)
{
    struct digest digest;

    if (c->stack_digest[0] && digest_parse(c->stack_digest, &digest) < 0)
        return config_refuse(e, "stack_digest is not sha256: and 64 hexadecimal digits");
    if (c->stack_digest[0] && !stack_image_type(c->stack))
        return config_refuse(e,
                             "stack_digest is for an image, and %s is not named like one "
                             "(.squashfs, .erofs)",
                             c->stack);
    if (!c->stack_digest[0] && stack_image_type(c->stack))
        return config_refuse(e,
                             "the stack %s is an image, which the kernel reads as root: it needs "
                             "stack_digest = sha256:… (sha256sum says it)",
                             c->stack);
    return 0;
}

/* --- which file was found good --- */

/* A file that is changed, or replaced, has another time of change: nobody but the kernel sets it.
 */
static void describe(const struct stat *st, const struct digest *digest, char out[VERDICT_MAX])
{
    (void)snprintf(out, VERDICT_MAX, "%s %ju %ju %jd %jd.%09ld\n", digest->hex,
                   (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (intmax_t)st->st_size,
                   (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

static bool known_good(int runtime, int image, const struct digest *digest)
{
    scoped_free char *verdict = NULL;
    struct err none = ERR_INIT; /* then it is read again */
    char now[VERDICT_MAX];
    struct stat st;
    size_t len;

    if (fstat(image, &st) < 0 ||
        file_read(runtime, VERDICT, VERDICT_MAX, &verdict, &len, &none) < 0)
        return false;
    describe(&st, digest, now);
    return !strcmp(verdict, now);
}

static int remember_good(int runtime, int image, const struct digest *digest, struct err *e)
{
    char now[VERDICT_MAX];
    struct stat st;

    if (fstat(image, &st) < 0)
        return err_set(e, errno, "stat the image");
    describe(&st, digest, now);
    return file_write_atomic(runtime, VERDICT, now, strlen(now), 0600, e);
}

/* --- its digest --- */

/* The answer of a `dynod-fetch seal`, in at most STACK_CHECK_MS. */
static int await(struct frame_conn *conn, struct frame *f, struct err *e)
{
    struct pollfd p = {.fd = frame_conn_fd(conn), .events = POLLIN};
    uint64_t until = clock_boot() + STACK_CHECK_MS * USEC_PER_MSEC;
    int r;

    while ((r = frame_next(conn, f, e)) == 0) {
        if (clock_boot() > until)
            return err_set(e, ETIMEDOUT, "read the image");
        (void)sd_notify(0, MORE_TIME); /* nobody may be listening */
        if (poll(&p, 1, MORE_TIME_MS) < 0 && errno != EINTR)
            return err_set(e, errno, "wait for its digest");
    }
    return r < 0 ? r : 0;
}

static int ask_digest(int sock, int image, struct digest *ret, struct err *e)
{
    scoped(json_freep) json_t *request = json_pack("{s:{}}", "seal");
    scoped(frame_conn_freep) struct frame_conn *conn = NULL;
    struct frame f = {0};
    int r = frame_conn_new(sock, &conn, e);

    if (r == 0)
        r = request ? frame_send(conn, request, &image, 1, e) : err_set(e, ENOMEM, "ask for it");
    if (r == 0)
        r = await(conn, &f, e);
    if (r < 0)
        return r;
    const json_t *error = json_object_get(f.json, "error");
    if (digest_parse(json_str(json_object_get(f.json, "ok"), "digest", ""), ret) < 0)
        r = err_say(e, EIO, "%s", json_str(error, "text", "no digest came"));
    frame_done(&f);
    return r;
}

/* Hashed by a program that has nothing but this descriptor; it has the image on the disk as well.
 */
static int find_digest(const struct config *c, int image, struct digest *ret, struct err *e)
{
    char *const argv[] = {"dynod-fetch", "seal", NULL};
    char path[IMAGE_PATH];
    const struct helper h = {.path = path,
                             .argv = argv,
                             .uid = c->uid_first + STACK_UID,
                             .fd3 = -1,
                             .fd4 = -1,
                             .namespaces =
                                 CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET};
    int sock = -1, pidfd = -1;

    (void)snprintf(path, sizeof(path), "%s/dynod-fetch", c->program_dir);
    int r = helper_spawn(&h, &sock, &pidfd, e);
    if (r < 0)
        return r;
    r = ask_digest(sock, image, ret, e);
    helper_join(pidfd);
    return r < 0 ? err_wrap(e, "read the stack's image") : 0;
}

static int compare(const struct config *c, int image, const struct digest *want, struct err *e)
{
    struct digest found;
    int r = find_digest(c, image, &found, e);

    if (r < 0 || digest_equal(&found, want))
        return r;
    (void)err_say(e, EBADMSG,
                  "the stack %s is another image than stack_digest says: its digest is sha256:%s",
                  c->stack, found.hex);
    return err_blame(e, FAULT_OPERATOR);
}

/* --- the copy --- */

static int refuse(const struct config *c, int errnum, const char *why, struct err *e)
{
    (void)err_say(e, errnum, "the stack %s %s", c->stack, why);
    return err_blame(e, FAULT_OPERATOR);
}

static int open_original(const struct config *c, int *ret, uint64_t *ret_size, struct err *e)
{
    scoped_fd fd = open(c->stack, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0) {
        (void)err_set(e, errno, "open the stack %s", c->stack);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "stat the stack %s", c->stack);
    if (!S_ISREG(st.st_mode))
        return refuse(c, EINVAL, "is named like an image, and is no file", e);
    if (st.st_uid != 0)
        return refuse(c, EPERM, "does not belong to root: chown root it", e);
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return refuse(c, EPERM, "can be written to by others: chmod go-w it", e);
    if ((uint64_t)st.st_size > STACK_IMAGE_MAX)
        return refuse(c, EFBIG, "is larger than 16 GB, the limit of an image", e);
    *ret = TAKE_FD(fd);
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

/* A little at a time, so that the service manager does not give up on us. */
static int copy_bytes(int from, int to, uint64_t size, struct err *e)
{
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    while (size > 0) {
        ssize_t n = sendfile(to, from, NULL, size < COPY_PIECE ? size : COPY_PIECE);

        if (n < 0)
            return err_set(e, errno, "copy the stack's image into the state directory");
        if (n == 0)
            return err_say(e, EIO, "the stack's image became shorter while it was copied");
        size -= (uint64_t)n;
        (void)sd_notify(0, MORE_TIME);
    }
    return 0;
}

static int make_copy(const struct config *c, int dir, struct err *e)
{
    scoped_fd original = -1;
    uint64_t size = 0;
    int r = open_original(c, &original, &size, e);

    if (r < 0)
        return r;
    log_notice("stack: copying and checking %s", c->stack);
    if (unlinkat(dir, COPY_NEW, 0) < 0 && errno != ENOENT)
        return err_set(e, errno, "remove an old copy of a stack");
    scoped_fd to = openat(dir, COPY_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (to < 0)
        return err_set(e, errno, "make a copy of the stack");
    return copy_bytes(original, to, size, e);
}

/* NAME, which nobody can write to; -ENOENT. */
static int open_copy(int dir, const char *name, int *ret, struct err *e)
{
    scoped_fd fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, errno, "open the copy of the stack");
    if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)))
        return err_say(e, EPERM, "the copy of the stack is not what we made");
    *ret = TAKE_FD(fd);
    return 0;
}

static int import(const struct config *c, int dir, const struct digest *digest, int *ret,
                  struct err *e)
{
    scoped_fd fd = -1;
    int r = make_copy(c, dir, e); /* closes what it wrote through */

    if (r == 0)
        r = open_copy(dir, COPY_NEW, &fd, e);
    if (r == 0)
        r = compare(c, fd, digest, e);
    if (r == 0 && (renameat(dir, COPY_NEW, dir, digest->hex) < 0 || fsync(dir) < 0))
        r = err_set(e, errno, "keep the copy of the stack");
    if (r < 0)
        (void)unlinkat(dir, COPY_NEW, 0); /* the next try does it else */
    else
        *ret = TAKE_FD(fd);
    return r;
}

/* The good copy that there is already. 0: there is none. */
static int find_copy(const struct config *c, int dir, int runtime, const struct digest *digest,
                     int *ret, struct err *e)
{
    struct err why = ERR_INIT;
    scoped_fd fd = -1;
    int r = open_copy(dir, digest->hex, &fd, &why);

    if (r == 0 && !known_good(runtime, fd, digest))
        r = compare(c, fd, digest, &why);
    if (r == 0) {
        *ret = TAKE_FD(fd);
        return 1;
    }
    if (r == -ENOENT)
        return 0;
    if (r != -EBADMSG && r != -EPERM && r != -EIO && r != -ELOOP) {
        *e = why;
        return r;
    }
    log_warn("stack: the copy in the state directory is made anew: %s", why.text);
    return unlinkat(dir, digest->hex, 0) < 0 ? err_set(e, errno, "remove a bad copy of the stack")
                                             : 0;
}

/* Dynos that run from another one keep it, without its name. */
static void sweep(int dir, const char *keep)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!d && fd >= 0)
        close(fd);
    while (d && (entry = readdir(d)))
        if (entry->d_name[0] != '.' && (!keep || strcmp(entry->d_name, keep) != 0))
            (void)unlinkat(dir, entry->d_name, 0);
}

static int open_places(const struct config *c, int *ret_dir, int *ret_runtime, struct err *e)
{
    char path[IMAGE_PATH];

    (void)snprintf(path, sizeof(path), "%s/stack", c->state_dir);
    int r = dir_make_all(path, 0700, e);
    if (r < 0)
        return r;
    *ret_dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*ret_dir < 0 || fchmod(*ret_dir, 0700) < 0)
        return err_set(e, errno, "open %s", path);
    *ret_runtime = open(c->runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_runtime < 0 ? err_set(e, errno, "open %s", c->runtime_dir) : 0;
}

/* Of a configuration before this one. */
static void drop_copies(const struct config *c)
{
    char path[IMAGE_PATH];

    (void)snprintf(path, sizeof(path), "%s/stack", c->state_dir);
    scoped_fd dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir >= 0)
        sweep(dir, NULL);
}

static int prepare_image(const struct config *c, int *ret_fd, struct err *e)
{
    scoped_fd dir = -1, runtime = -1, fd = -1;
    struct digest digest;
    int r = digest_parse(c->stack_digest, &digest);

    if (r < 0)
        return err_say(e, EINVAL, "stack_digest is no digest");
    r = open_places(c, &dir, &runtime, e);
    if (r == 0)
        r = find_copy(c, dir, runtime, &digest, &fd, e);
    if (r == 0)
        r = import(c, dir, &digest, &fd, e);
    if (r >= 0)
        r = remember_good(runtime, fd, &digest, e);
    if (r < 0)
        return r;
    sweep(dir, digest.hex);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int stack_prepare(const struct config *c, bool rootless, const char **ret_type, int *ret_fd,
                  struct err *e)
{
    const char *type = stack_image_type(c->stack);
    scoped_fd fd = -1;

    if (type && rootless)
        return refuse(c, EPERM,
                      "is an image, which only root can mount: unpack it, and name the "
                      "directory",
                      e);
    int r = type ? prepare_image(c, &fd, e) : 0;
    if (r < 0)
        return r;
    if (!type)
        drop_copies(c);
    *ret_type = type;
    *ret_fd = TAKE_FD(fd);
    return 0;
}
