/* multi.c - libcurl drives, our loop waits. */
#include "link/multi.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/scoped.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/queue.h>

/* One descriptor that libcurl wants watched; while it connects with two families these are two. */
struct watch {
    LIST_ENTRY(watch) link;
    struct multi *m;
    sd_event_source *source;
};

struct multi {
    sd_event *loop;
    const char *name;
    multi_moved_fn fn;
    void *userdata;
    CURLM *handle;
    sd_event_source *timer; /* libcurl's only one */
    LIST_HEAD(, watch) watches;
};

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct watch *w = userdata;
    struct multi *m = w->m;
    int running, what = 0; /* 0, for a hang-up: libcurl looks for itself */

    (void)s;
    what |= revents & EPOLLIN ? CURL_CSELECT_IN : 0;
    what |= revents & EPOLLOUT ? CURL_CSELECT_OUT : 0;
    (void)curl_multi_socket_action(m->handle, fd, what, &running); /* FN looks at the results */
    m->fn(m->userdata);
    return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct multi *m = userdata;
    int running;

    (void)s;
    (void)usec;
    (void)curl_multi_socket_action(m->handle, CURL_SOCKET_TIMEOUT, 0, &running);
    m->fn(m->userdata);
    return 0;
}

/* CURLMOPT_TIMERFUNCTION. It must not call back into libcurl, so even "at once" is a timer. */
static int want_timer(CURLM *handle, long timeout_ms, void *userdata)
{
    struct multi *m = userdata;
    uint64_t at = timeout_ms < 0 ? USEC_NEVER : clock_boot() + (uint64_t)timeout_ms * USEC_PER_MSEC;

    (void)handle;
    return timer_set(m->loop, &m->timer, m->name, at, on_timer, m) < 0 ? -1 : 0;
}

static void watch_free(struct watch *w)
{
    LIST_REMOVE(w, link);
    sd_event_source_disable_unref(w->source);
    free(w);
}

static uint32_t events_of(int what)
{
    return (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
           (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
}

static int watch_new(struct multi *m, curl_socket_t fd, int what)
{
    struct watch *w = calloc(1, sizeof(*w));

    if (!w)
        return -1;
    w->m = m;
    LIST_INSERT_HEAD(&m->watches, w, link);
    if (sd_event_add_io(m->loop, &w->source, fd, events_of(what), on_io, w) < 0 ||
        curl_multi_assign(m->handle, fd, w) != CURLM_OK) {
        watch_free(w);
        return -1;
    }
    return 0;
}

/* CURLMOPT_SOCKETFUNCTION. */
static int want_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socketp)
{
    struct watch *w = socketp;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w)
            watch_free(w);
        return 0;
    }
    if (!w)
        return watch_new(userdata, fd, what);
    return sd_event_source_set_io_events(w->source, events_of(what)) < 0 ? -1 : 0;
}

struct multi *multi_new(sd_event *loop, const char *name, multi_moved_fn fn, void *userdata)
{
    scoped(multi_freep) struct multi *m = NULL;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return NULL;
    m = calloc(1, sizeof(*m));
    if (!m) {
        curl_global_cleanup();
        return NULL;
    }
    m->loop = sd_event_ref(loop);
    m->name = name;
    m->fn = fn;
    m->userdata = userdata;
    m->handle = curl_multi_init();
    if (!m->handle)
        return NULL;
    (void)curl_multi_setopt(m->handle, CURLMOPT_SOCKETFUNCTION, want_socket);
    (void)curl_multi_setopt(m->handle, CURLMOPT_SOCKETDATA, m);
    (void)curl_multi_setopt(m->handle, CURLMOPT_TIMERFUNCTION, want_timer);
    (void)curl_multi_setopt(m->handle, CURLMOPT_TIMERDATA, m);
    return TAKE_PTR(m);
}

void multi_freep(struct multi **mp)
{
    struct multi *m = *mp;

    if (!m)
        return;
    (void)curl_multi_cleanup(m->handle);
    while (!LIST_EMPTY(&m->watches))
        watch_free(LIST_FIRST(&m->watches));
    sd_event_source_disable_unref(m->timer);
    sd_event_unref(m->loop);
    free(m);
    curl_global_cleanup();
    *mp = NULL;
}

CURLM *multi_handle(const struct multi *m)
{
    return m->handle;
}
