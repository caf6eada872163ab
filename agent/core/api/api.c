#include "core/api/api_priv.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <errno.h>
#include <sys/epoll.h>

void api_again(struct api *api)
{
    (void)sd_event_source_set_enabled(api->again, SD_EVENT_ONESHOT); /* our own source */
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct api *api = userdata;

    (void)s;
    (void)usec;
    api->timeout_at = USEC_NEVER;
    api_run(api);
    return 0;
}

/* A deadline that moves away is let be: the timer then fires once for nothing, which is cheaper
 * than to set it for every request. */
static void arm(struct api *api)
{
    MHD_UNSIGNED_LONG_LONG msec;
    uint64_t at = USEC_NEVER;

    if (MHD_get_timeout(api->daemon, &msec) == MHD_YES) {
        if (msec == 0) {
            api_again(api);
            return;
        }
        at = clock_boot() + msec * USEC_PER_MSEC;
        if (at >= api->timeout_at)
            return;
    }
    if (at == api->timeout_at)
        return;
    /* Without a timer a dead connection only stays until it is pushed out: no reason to fail. */
    if (timer_set(api->loop, &api->timeout, "api-timeout", at, on_timeout, api) >= 0)
        api->timeout_at = at;
}

void api_run(struct api *api)
{
    (void)MHD_run(api->daemon); /* only fails for a daemon with threads */
    arm(api);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    (void)s;
    (void)fd;
    (void)revents;
    api_run(userdata);
    return 0;
}

static int on_again(sd_event_source *s, void *userdata)
{
    (void)s;
    api_run(userdata);
    return 0;
}

static int start_daemon(struct api *api, struct err *e)
{
    /* Its own limit is only a backstop: api_client.c counts, and a dropped connection is only gone
     * from libmicrohttpd's count after its next run. */
    unsigned limit = 2 * (API_CONNECTIONS_MAX + API_REFUSALS_MAX);

    api->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0,
        NULL, NULL, request_on_access, api, MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, api,
        MHD_OPTION_NOTIFY_CONNECTION, client_on_notify, api, MHD_OPTION_UNESCAPE_CALLBACK,
        request_unescape, api, MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)API_IDLE_SEC, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)API_MEMORY_MAX,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!api->daemon)
        return err_set(e, errno ? errno : ENOMEM, "start the HTTP server of the API");
    return 0;
}

static int watch_sources(struct api *api, struct err *e)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int r = info ? 0 : -EINVAL;

    if (r == 0)
        r = sd_event_add_io(api->loop, &api->io_source, info->epoll_fd, EPOLLIN, on_io, api);
    if (r >= 0)
        r = sd_event_add_io(api->loop, &api->accept_source, api->listen_fd, EPOLLIN,
                            client_on_accept, api);
    if (r >= 0)
        r = sd_event_add_defer(api->loop, &api->again, on_again, api);
    if (r >= 0)
        r = sd_event_source_set_enabled(api->again, SD_EVENT_OFF);
    return r < 0 ? err_set(e, -r, "watch the API's socket") : 0;
}

int api_open(struct agent *a, int listen_fd, gid_t group, struct api **ret, struct err *e)
{
    scoped_fd fd = listen_fd;
    scoped(api_freep) struct api *api = calloc(1, sizeof(*api));

    if (!api)
        return err_set(e, ENOMEM, "open the API");
    api->agent = a;
    api->loop = agent_loop(a);
    api->group = group;
    api->euid = geteuid();
    api->listen_fd = TAKE_FD(fd);
    api->timeout_at = USEC_NEVER;
    TAILQ_INIT(&api->clients);
    TAILQ_INIT(&api->streams);
    TAILQ_INIT(&api->sessions);
    int r = start_daemon(api, e);
    if (r == 0)
        r = watch_sources(api, e);
    if (r == 0)
        *ret = TAKE_PTR(api);
    return r;
}

void api_freep(struct api **p)
{
    struct api *api = *p;

    if (!api)
        return;
    sd_event_source_disable_unref(api->accept_source);
    sd_event_source_disable_unref(api->accept_retry);
    sd_event_source_disable_unref(api->io_source); /* before its descriptor closes */
    if (api->daemon) {
        /* It aborts when stopped with a suspended connection. */
        stream_end_all(api);
        session_end_all(api);
        MHD_stop_daemon(api->daemon);
    }
    sd_event_source_disable_unref(api->again);
    sd_event_source_disable_unref(api->timeout);
    fd_closep(&api->listen_fd);
    free(api);
    *p = NULL;
}
