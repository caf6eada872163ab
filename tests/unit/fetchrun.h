/* fetchrun.h - starts the real dynod-fetch as dynod does. For tests. */
#ifndef TESTS_FETCHRUN_H
#define TESTS_FETCHRUN_H

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FETCH_UID 65534 /* what root becomes for it */

struct fetch_run {
    pid_t pid;
    struct frame_conn *conn;
    int status; /* after fetch_wait() */
    struct rusage usage;
};

/* $DYNOD_FETCH, or bin/dynod-fetch beside the folder that this test lies in. */
static inline int fetch_binary(void)
{
    char path[4096] = "";
    const char *env = getenv("DYNOD_FETCH");
    ssize_t n = env ? -1 : readlink("/proc/self/exe", path, sizeof(path) - 32);

    for (int up = 0; n > 0 && up < 2; up++)
        *strrchr(path, '/') = '\0';
    strcat(path, "/bin/dynod-fetch");
    return open(env ? env : path, O_RDONLY | O_CLOEXEC);
}

/* Becomes who may fetch; a plain user is one already. */
static inline void fetch_drop(void)
{
    if (geteuid() == 0 &&
        (setgroups(0, NULL) < 0 || setresgid(FETCH_UID, FETCH_UID, FETCH_UID) < 0 ||
         setresuid(FETCH_UID, FETCH_UID, FETCH_UID) < 0))
        _exit(99);
}

/* Starts it as ROLE (NULL: none); DROP: as another user when we are root. 0 or -1. */
static inline int fetch_start_role(struct fetch_run *f, const char *role, int drop)
{
    static char name[] = "dynod-fetch", leaks[] = "ASAN_OPTIONS=detect_leaks=0";
    char as[16] = "";
    char *argv[] = {name, role ? as : NULL, NULL};
    char *envp[] = {leaks, NULL}; /* the leak checker needs ptrace(2) */
    struct err e = ERR_INIT;
    int sv[2], bin = fetch_binary();

    (void)snprintf(as, sizeof(as), "%s", role ? role : "");
    if (bin < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return -1;
    f->pid = fork();
    if (f->pid == 0) {
        if (drop)
            fetch_drop();
        (void)dup2(sv[1], 0);
        (void)fexecve(bin, argv, envp); /* its path may lead where that user may not look */
        _exit(98);
    }
    close(sv[1]);
    close(bin);
    return f->pid < 0 ? -1 : frame_conn_new(sv[0], &f->conn, &e);
}

static inline int fetch_start(struct fetch_run *f, int drop)
{
    return fetch_start_role(f, NULL, drop);
}

/* The next frame within 60 s; 1, or what frame_next() says. */
static inline int fetch_frame(struct fetch_run *f, struct frame *ret, struct err *e)
{
    struct pollfd p = {.fd = frame_conn_fd(f->conn), .events = POLLIN};
    int r;

    while ((r = frame_next(f->conn, ret, e)) == 0)
        if (poll(&p, 1, 60000) <= 0)
            return -1;
    return r;
}

/* The result, past all progress: the caller's; NULL when there is none. */
static inline json_t *fetch_result(struct fetch_run *f)
{
    struct err e = ERR_INIT;
    struct frame frame;

    while (fetch_frame(f, &frame, &e) == 1) {
        json_t *j = json_incref(frame.json);

        frame_done(&frame);
        if (!json_object_get(j, "progress"))
            return j;
        json_decref(j);
    }
    return NULL;
}

static inline void fetch_wait(struct fetch_run *f)
{
    frame_conn_freep(&f->conn);
    while (wait4(f->pid, &f->status, 0, &f->usage) < 0)
        ;
}

#endif
