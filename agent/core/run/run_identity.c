/* run_identity.c - who a run is, in the keeping of its dyno-init (initproto.h): given at the start,
 * asked for by an agent that finds no sound run.json. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define IDENTITY_SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE)

int run_identity_make(const struct run *r, const json_t *record, int *ret_fd, struct err *e)
{
    scoped(json_freep) json_t *identity =
        json_pack("{s:i,s:s,s:O}", "v", RUN_IDENTITY_VERSION, "id", r->id, "record", record);
    scoped_free char *text = identity ? json_dumps(identity, JSON_COMPACT) : NULL;

    if (!text)
        return err_set(e, ENOMEM, "make the identity of %s", r->id);
    return memfd_with("dyno-identity", text, strlen(text), ret_fd, e);
}

int run_identity_give(const struct run *r, int fd, int sock, struct err *e)
{
    struct init_request request = {.version = INIT_PROTO_VERSION, .kind = INIT_IDENTITY};
    ssize_t n = fd_send(sock, &request, sizeof(request), &fd, 1);

    return n < 0 ? err_set(e, (int)-n, "hand %s its identity", r->id) : 0;
}

/* The rules are the identity's own, see run.h: any agent reads any dyno-init's. */
static int identity_parse(const char *text, size_t len, const char *id, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *identity = NULL;
    char prefix[2 * RUN_ID_MAX];
    int rc = json_parse(text, len, RUN_RECORD_MAX, &identity, e);

    if (rc < 0)
        return rc;
    json_t *record = json_object_get(identity, "record");
    if (json_int(identity, "v", 0) != RUN_IDENTITY_VERSION || !json_is_object(record))
        return err_say(e, EBADMSG, "the identity is of no version that this agent knows");
    (void)snprintf(prefix, sizeof(prefix), "%.80s.%.80s.%lld.", json_str(record, "app", ""),
                   json_str(record, "type", ""), (long long)json_int(record, "num", 0));
    if (strcmp(json_str(identity, "id", ""), id) != 0 ||
        (!str_starts(id, prefix) && !str_starts(id, RUN_SPARE_PREFIX)))
        return err_say(e, EBADMSG, "the identity is another run's");
    *ret = json_incref(record);
    return 0;
}

int run_identity_read(int fd, const char *id, json_t **ret_record, struct err *e)
{
    int seals = fcntl(fd, F_GET_SEALS);
    off_t size = lseek(fd, 0, SEEK_END);

    if (seals < 0 || (seals & IDENTITY_SEALS) != IDENTITY_SEALS)
        return err_say(e, EBADMSG, "the identity is not sealed");
    if (size <= 0 || size > (off_t)RUN_RECORD_MAX)
        return err_say(e, EBADMSG, "the identity has %lld bytes", (long long)size);
    scoped_free char *text = malloc((size_t)size);
    if (!text)
        return err_set(e, ENOMEM, "read an identity");
    ssize_t n = pread(fd, text, (size_t)size, 0);
    if (n != size)
        return err_set(e, n < 0 ? errno : EBADMSG, "read an identity");
    return identity_parse(text, (size_t)size, id, ret_record, e);
}

/* INIT_HELLO after it, because one that does not know INIT_WHO says nothing to it. */
int run_identity_ask(const struct run_env *env, const char *id, int *ret_sock, struct err *e)
{
    struct init_request who = {.version = INIT_PROTO_VERSION, .kind = INIT_WHO};
    struct init_request hello = {.version = INIT_PROTO_VERSION, .kind = INIT_HELLO};
    char path[512];
    scoped_fd sock = -1;
    int one = 1;

    (void)snprintf(path, sizeof(path), "%s/run/%s/" RUN_SOCKET, env->runtime_dir, id);
    int rc = unix_connect(path, SOCK_SEQPACKET | SOCK_NONBLOCK, &sock, e);
    if (rc < 0)
        return rc;
    ssize_t n = setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ? -errno : 0;
    if (n == 0)
        n = fd_send(sock, &who, sizeof(who), NULL, 0);
    if (n >= 0)
        n = fd_send(sock, &hello, sizeof(hello), NULL, 0);
    if (n < 0)
        return err_set(e, (int)-n, "ask the dyno-init of %s", id);
    *ret_sock = TAKE_FD(sock);
    return 0;
}

/* 1: P is there. 0: none came until DEADLINE. */
static int wait_packet(int sock, uint64_t deadline, struct init_packet *p)
{
    for (;;) {
        int rc = initlink_receive(sock, p);
        uint64_t now = clock_boot();

        if (rc != 0)
            return rc;
        if (now >= deadline)
            return 0;
        struct pollfd pfd = {.fd = sock, .events = POLLIN};
        (void)poll(&pfd, 1, (int)((deadline - now) / USEC_PER_MSEC) + 1);
    }
}

int run_identity_hear(int sock, const char *id, uint64_t deadline, json_t **ret_record,
                      struct ucred *ret_cred, struct err *e)
{
    for (;;) {
        struct init_packet p = {.fd = -1};
        int rc = wait_packet(sock, deadline, &p);
        scoped_fd fd = p.fd;

        if (rc == 0)
            return err_say(e, ETIMEDOUT, "its dyno-init does not answer");
        if (rc < 0)
            return err_set(e, -rc, "hear the dyno-init of %s", id);
        if (p.event.kind != INIT_IAM && p.event.kind != INIT_STATE)
            continue;
        *ret_cred = p.cred;
        if (fd < 0 || p.event.kind == INIT_STATE)
            return err_say(e, ENODATA, "its dyno-init was never told who it is");
        return run_identity_read(fd, id, ret_record, e);
    }
}
