/* dynod-link - the only process of the agent that speaks to the control plane: it carries commands
 * in and status out.
 *
 * Unprivileged. Started by dynod with fd 0, a socket (base/linkproto.h); ends when that closes. It
 * keeps nothing: what must outlive it is dynod's. */
#include "link/link.h"

#include "base/log.h"
#include "base/scoped.h"
#include "link/confine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_FD 0
#define EXIT_USAGE 2

static bool is_socket(int fd)
{
    int type;
    socklen_t len = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static int start(struct link *l, struct err *e)
{
    int r = sd_event_new(&l->loop);

    if (r < 0)
        return err_set(e, -r, "make an event loop");
    l->on_ec2 = metadata_on_ec2();
    r = http_new(l->loop, &l->http, e);
    if (r == 0)
        r = link_confine(e);
    return r < 0 ? r : control_start(l, CONTROL_FD, e);
}

static void stop(struct link *l)
{
    attaches_free(l);
    metadata_freep(&l->metadata);
    session_freep(&l->session);
    peer_freep(&l->peer);
    http_freep(&l->http);
    json_decref(l->start);
    json_decref(l->identity);
    sd_event_source_disable_unref(l->files_retry);
    sd_event_unref(l->loop);
}

int main(int argc, char **argv)
{
    struct link l = {0};
    struct err e = ERR_INIT;

    log_open("dynod-link", LOG_LVL_INFO);
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        (void)printf("dynod-link %s\n", DYNOD_VERSION);
        return EXIT_SUCCESS;
    }
    if (argc != 1 || !is_socket(CONTROL_FD)) {
        (void)fprintf(stderr, "usage: dynod-link, started by dynod with a socket as fd 0\n");
        return EXIT_USAGE;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that went away is an error of write(2) */
    int r = start(&l, &e);
    if (r < 0)
        log_err("%s", e.text);
    else
        r = sd_event_loop(l.loop);
    stop(&l);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
