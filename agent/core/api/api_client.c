#include "core/api/api_priv.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ACCEPT_BURST     32 /* connections taken before the rest of the loop has its turn */
#define ACCEPT_RETRY_SEC 1  /* when descriptors ran out */
#define PEER_GROUPS      64 /* supplementary groups that need no allocation */

struct client *client_of(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    assert(info && info->socket_context); /* client_on_notify() set it */
    return info->socket_context;
}

static bool is_privileged(const struct api *api, uid_t uid)
{
    return uid == 0 || uid == api->euid;
}

static bool in_groups(const gid_t *groups, size_t n, gid_t wanted)
{
    for (size_t i = 0; i < n; i++)
        if (groups[i] == wanted)
            return true;
    return false;
}

/* Those that the peer had when it connected. */
static bool peer_has_group(int fd, gid_t wanted)
{
    gid_t few[PEER_GROUPS];
    socklen_t len = sizeof(few);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, few, &len) == 0)
        return in_groups(few, len / sizeof(gid_t), wanted);
    if (errno != ERANGE)
        return false;
    scoped_free gid_t *many = malloc(len);
    if (!many || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, many, &len) < 0)
        return false;
    return in_groups(many, len / sizeof(gid_t), wanted);
}

static bool is_allowed(const struct api *api, int fd, const struct ucred *peer)
{
    if (is_privileged(api, peer->uid))
        return true;
    if (api->group == API_GROUP_NONE)
        return false;
    return peer->gid == api->group || peer_has_group(fd, api->group);
}

void client_touch(struct client *c)
{
    struct client_list *list = &c->api->clients;

    if (c->dropped)
        return;
    TAILQ_REMOVE(list, c, link);
    TAILQ_INSERT_TAIL(list, c, link);
}

/* libmicrohttpd sees the hangup at its next run and frees it; it counts no more from now on. */
static void client_drop(struct client *c)
{
    c->dropped = true;
    TAILQ_REMOVE(&c->api->clients, c, link);
    (void)shutdown(c->fd, SHUT_RDWR); /* fails when the peer did it first */
}

struct census {
    unsigned served, refused, of_uid;
    struct client *idle, *idle_of_uid, *idle_refused; /* the oldest of each */
};

static struct census take_census(const struct api *api, uid_t uid)
{
    struct census n = {0};
    struct client *c;

    TAILQ_FOREACH (c, &api->clients, link) {
        if (c->verdict != CLIENT_SERVED) {
            n.refused++;
            if (!n.idle_refused)
                n.idle_refused = c;
            continue;
        }
        n.served++;
        n.of_uid += c->caller.uid == uid;
        if (c->busy)
            continue;
        if (!n.idle)
            n.idle = c;
        if (!n.idle_of_uid && c->caller.uid == uid)
            n.idle_of_uid = c;
    }
    return n;
}

/* Makes room for one more connection of UID, or says why there is none. */
static enum verdict admit(struct api *api, uid_t uid)
{
    struct census n = take_census(api, uid);
    bool privileged = is_privileged(api, uid);
    unsigned max =
        privileged ? API_CONNECTIONS_MAX : API_CONNECTIONS_MAX - API_CONNECTIONS_RESERVED;

    if (!privileged && n.of_uid >= API_CONNECTIONS_PER_UID) {
        if (!n.idle_of_uid)
            return CLIENT_OVER_SHARE;
        client_drop(n.idle_of_uid);
    } else if (n.served >= max) {
        if (!n.idle)
            return CLIENT_CROWDED;
        client_drop(n.idle);
    }
    return CLIENT_SERVED;
}

static enum verdict judge(struct api *api, int fd, const struct ucred *peer)
{
    enum verdict verdict = CLIENT_FORBIDDEN;

    if (is_allowed(api, fd, peer))
        verdict = admit(api, peer->uid);
    if (verdict != CLIENT_SERVED) {
        struct census n = take_census(api, peer->uid);

        if (n.refused >= API_REFUSALS_MAX)
            client_drop(n.idle_refused);
    }
    return verdict;
}

int client_verdict(const struct client *c, struct err *e)
{
    switch (c->verdict) {
    case CLIENT_SERVED:
        return 0;
    case CLIENT_FORBIDDEN:
        err_say(e, EACCES,
                "uid %u may not use this API: become root, or a member of the group that api_group "
                "in dynod.conf names, and log in anew",
                c->caller.uid);
        break;
    case CLIENT_OVER_SHARE:
        err_say(e, EUSERS, "uid %u has its %d connections in use: end a stream or a session first",
                c->caller.uid, API_CONNECTIONS_PER_UID);
        break;
    case CLIENT_CROWDED:
        err_say(e, EBUSY, "all %d connections of the API are in use: try again later",
                API_CONNECTIONS_MAX);
        break;
    }
    return err_blame(e, FAULT_OPERATOR);
}

/* Takes FD. What fails here is told to nobody: the peer sees its connection closed. */
static void client_add(struct api *api, int fd)
{
    struct sockaddr_un nobody = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t len = sizeof(peer);
    scoped_fd conn_fd = fd;
    struct client *c;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || !(c = calloc(1, sizeof(*c))))
        return;
    c->api = api;
    c->fd = fd;
    c->caller = (struct caller){.uid = peer.uid, .pid = peer.pid};
    c->verdict = judge(api, fd, &peer);
    api->adding = c;
    /* It calls client_on_notify() before it returns, or closes the descriptor. */
    (void)MHD_add_connection(api->daemon, TAKE_FD(conn_fd), (struct sockaddr *)&nobody,
                             sizeof(sa_family_t));
    if (api->adding) {
        api->adding = NULL;
        free(c);
    }
}

void client_on_notify(void *cls, struct MHD_Connection *conn, void **socket_context,
                      enum MHD_ConnectionNotificationCode code)
{
    struct api *api = cls;
    struct client *c;

    (void)conn;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = c = TAKE_PTR(api->adding);
        TAILQ_INSERT_TAIL(&api->clients, c, link);
        return;
    }
    c = *socket_context;
    if (!c->dropped)
        TAILQ_REMOVE(&api->clients, c, link);
    free(c);
    *socket_context = NULL;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct api *api = userdata;

    (void)s;
    (void)usec;
    (void)sd_event_source_set_enabled(api->accept_source, SD_EVENT_ON); /* our own source */
    return 0;
}

/* No descriptor for a newcomer: an idle connection gives up its own, and while none is idle the
 * listening socket rests instead of waking the loop for ever. */
static void starved(struct api *api)
{
    struct census n = take_census(api, 0);
    uint64_t at = clock_boot() + ACCEPT_RETRY_SEC * USEC_PER_SEC;

    if (n.idle_refused || n.idle)
        client_drop(n.idle_refused ? n.idle_refused : n.idle);
    else if (timer_set(api->loop, &api->accept_retry, "api-accept", at, on_retry, api) >= 0)
        (void)sd_event_source_set_enabled(api->accept_source, SD_EVENT_OFF); /* our own source */
}

int client_on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct api *api = userdata;

    (void)s;
    (void)revents;
    for (int i = 0; i < ACCEPT_BURST; i++) {
        int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (conn >= 0) {
            client_add(api, conn);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            starved(api);
        break;
    }
    api_run(api); /* the request is often there already */
    return 0;
}
