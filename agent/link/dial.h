/* dial.h - a TLS connection that we dial, as a stream of bytes on the event loop. libcurl resolves
 * (in a thread of its own), connects and verifies; after that nothing of HTTP is spoken. Link-local
 * addresses and those of the instance metadata are refused, whatever a name resolves to. SIGPIPE
 * must be ignored by the program. */
#ifndef LINK_DIAL_H
#define LINK_DIAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct sockaddr;
struct http_trust;
struct dial;

/* The dial may be freed in each of these. */
struct dial_ops {
    void (*up)(void *userdata);
    /* It cannot be had. LATER: nobody listens there, or the name is not known; that may change. */
    void (*failed)(void *userdata, const struct err *why, bool later);
    /* As of epoll_wait(2), after up; with what dial_watch() asked for, and what is always told. */
    void (*ready)(void *userdata, uint32_t revents);
};

/* URL: https://HOST:PORT/. TRUST as in http.h, not needed after this. No call comes before the loop
 * runs. */
int dial_open(sd_event *loop, const char *url, const struct http_trust *trust, uint64_t total_usec,
              const struct dial_ops *ops, void *userdata, struct dial **ret, struct err *e);
void dial_freep(struct dial **d);

/* After up. The count; 0: the peer closed; -EAGAIN; any other: the connection is lost. After
 * -EAGAIN a send has to be tried again with the same bytes at the same place, and maybe more. */
ssize_t dial_recv(struct dial *d, void *buf, size_t len, struct err *e);
ssize_t dial_send(struct dial *d, const void *buf, size_t len, struct err *e);
/* What ready() is wanted for. The peer's closing is always told. */
void dial_watch(struct dial *d, bool in, bool out);

/* Never to be dialled: 169.254.0.0/16, fe80::/10, fd00:ec2::254, and IPv4 ones written as IPv6. */
bool dial_forbidden(const struct sockaddr *addr);

#endif
