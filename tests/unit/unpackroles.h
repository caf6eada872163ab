/* unpackroles.h - a slug through the roles `unpack` and `image`, as dynod wires them but without
 * their sandbox: `unpack` in this process, where the sanitizers see it, `image` in a child, and
 * another child that writes into the pipe. */
#ifndef TESTS_UNPACKROLES_H
#define TESTS_UNPACKROLES_H

#include "imagefixture.h"
#include "slug/fetch/unpack.h"
#include "slug/image/role.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct role_result {
    int r;
    struct err e;
    struct unpack_outcome o;
};

static inline void roles_pair(int sv[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        abort();
}

/* Starts a child that writes DATA into a pipe, in pieces of PIECE bytes. */
static inline pid_t feeder_start(const void *data, size_t len, size_t piece, int *ret_pipe)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGPIPE, SIG_DFL);
        close(fds[0]);
        for (size_t n; len > 0; data = (const char *)data + n, len -= n) {
            n = len < piece ? len : piece;
            if (fd_write_full(fds[1], data, n) < 0)
                break;
        }
        _exit(0);
    }
    close(fds[1]);
    *ret_pipe = fds[0];
    return pid;
}

/* Starts the role `image` on IMAGE: *RET_ENTRIES is unpack's end, *RET_CONTROL dynod's. Its exit
 * status is 0 when it has made the image. */
static inline pid_t image_start(int image, const struct slug_limits *limits, int *ret_entries,
                                int *ret_control)
{
    int entries[2], control[2];

    roles_pair(entries);
    roles_pair(control);
    pid_t pid = fork();
    if (pid == 0) {
        scoped(frame_conn_freep) struct frame_conn *conn = NULL;
        struct image_job job = {
            .entries = entries[0], .image = image, .uid = TEST_UID, .gid = TEST_GID};
        struct image_result result;
        struct err e = ERR_INIT;

        close(entries[1]);
        close(control[1]);
        image_limits_for(limits, &job.limits);
        if (frame_conn_new(control[0], &conn, &e) < 0 || image_run(&job, conn, &result, &e) < 0)
            _exit(1);
        _exit(0);
    }
    close(entries[0]);
    close(control[0]);
    *ret_entries = entries[1];
    *ret_control = control[1];
    return pid;
}

/* Lets the role `image` finish, if FINE, and waits for it: its status. */
static inline int image_end(pid_t pid, int control, bool fine)
{
    scoped(frame_conn_freep) struct frame_conn *conn = NULL;
    json_t *json = json_pack("{s:{s:s}}", "finish", "digest", TEST_DIGEST);
    struct err e = ERR_INIT;
    int status = -1;

    if (frame_conn_new(control, &conn, &e) < 0 || (fine && frame_send(conn, json, NULL, 0, &e) < 0))
        abort();
    json_decref(json);
    if (!fine)
        frame_conn_freep(&conn);
    (void)waitpid(pid, &status, 0);
    return status;
}

/* GZ into the new file IMAGE. *RET_STATUS: the role `image`'s. */
static inline struct role_result roles_image(const void *gz, size_t len, size_t piece, int image,
                                             const struct slug_limits *limits, int *ret_status)
{
    struct unpack_request rq = {.limits = *limits, .image = image, .dir = -1};
    struct role_result res = {.e = ERR_INIT};
    int control, status;

    (void)signal(SIGPIPE, SIG_IGN);
    pid_t maker = image_start(image, limits, &rq.entries, &control);
    pid_t feeder = feeder_start(gz, len, piece, &rq.in);
    res.r = unpack_run(&rq, NULL, &res.o, &res.e);
    close(rq.in);
    close(rq.entries);
    (void)waitpid(feeder, &status, 0);
    *ret_status = image_end(maker, control, res.r == 0);
    return res;
}

/* GZ into the empty directory DIR. */
static inline struct role_result roles_dir(const void *gz, size_t len, size_t piece, int dir,
                                           const struct slug_limits *limits)
{
    struct unpack_request rq = {.limits = *limits, .image = -1, .entries = -1, .dir = dir};
    struct role_result res = {.e = ERR_INIT};
    int status;

    (void)signal(SIGPIPE, SIG_IGN);
    pid_t feeder = feeder_start(gz, len, piece, &rq.in);
    res.r = unpack_run(&rq, NULL, &res.o, &res.e);
    close(rq.in);
    (void)waitpid(feeder, &status, 0);
    return res;
}

/* Compares the trees in the directories A and B: names, kinds, modes, links, sizes, times, and the
 * bytes of the files. 0: the same; differences are shown. SCRATCH: a directory for notes. */
static inline int trees_differ(const char *scratch, const char *a, const char *b)
{
    char command[4096];

    (void)snprintf(
        command, sizeof(command),
        "look() { cd \"$1\" && find . -printf '%%P:%%m:%%n:%%y:%%l:%%T@\\n' | LC_ALL=C sort; "
        "find . -type f -printf '%%s %%P\\n' | LC_ALL=C sort; "
        "find . -type f -links +1 -printf '%%i %%P\\n' | LC_ALL=C sort -k2 | "
        "awk '{ if (!($1 in first)) first[$1] = $2; print $2, first[$1] }'; }; "
        "diff -r --no-dereference '%s' '%s' >&2 && (look '%s') >'%s/look.1' && "
        "(look '%s') >'%s/look.2' && diff '%s/look.1' '%s/look.2' >&2",
        a, b, a, scratch, b, scratch, scratch, scratch);
    return system(command);
}

/* The same of the directory TREE and what the kernel sees in IMAGE; only root may mount. */
static inline int image_differs(const char *scratch, const char *tree, int image)
{
    char seen[64];
    int mount = image_mount(image);

    if (mount < 0)
        return mount;
    (void)snprintf(seen, sizeof(seen), "/proc/%d/fd/%d/.", (int)getpid(), mount);
    int r = trees_differ(scratch, tree, seen);
    close(mount);
    return r;
}

#endif
