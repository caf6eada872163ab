/* initlink.h - the connection to one dyno-init (isolate/initproto.h), in the loop. */
#ifndef CORE_INITLINK_H
#define CORE_INITLINK_H

#include "base/err.h"
#include "isolate/initproto.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

/* What comes in one packet. */
struct init_packet {
    struct init_event event;
    struct ucred cred; /* dyno-init's on the host, as the kernel vouches; 0 without SO_PASSCRED */
    int fd;            /* that came along, the caller's; -1: none */
};

/* Reads one packet from SOCK without waiting. 1: *p is filled; 0: nothing now; -EBADMSG: not a
 * packet of this version; else -errno: the connection is of no more use. */
int initlink_receive(int sock, struct init_packet *p);

struct initlink;
struct initlink_ops {
    /* PID: the host pid of dyno-init as the kernel vouches for it (SCM_CREDENTIALS). FD: the
     * descriptor that came along, taken by the callee, or -1. */
    void (*on_event)(void *userdata, const struct init_event *event, pid_t pid, int fd);
    /* The connection is gone: dyno-init died, or a newer agent took over. The link may be freed in
     * it. */
    void (*on_close)(void *userdata);
};

/* Takes SOCK. */
int initlink_new(sd_event *loop, int sock, const struct initlink_ops *ops, void *userdata,
                 struct initlink **ret, struct err *e);
void initlink_freep(struct initlink **l);
/* Sends one request; FDS are borrowed. -EAGAIN: dyno-init does not read. */
int initlink_send(struct initlink *l, const struct init_request *request, const int *fds,
                  size_t n_fds);

#endif
