#include "core/host/netstock.h"

#include "base/log.h"
#include "base/scoped.h"
#include "core/agent_priv.h"
#include "core/starts.h"
#include "isolate/net.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

static void watch(struct netstock *k);

static void put_asked(struct netstock *k)
{
    while (k->n_asked > 0)
        slots_put(&k->agent->nets, k->asked[--k->n_asked]);
}

static uint32_t first_asked(struct netstock *k)
{
    uint32_t slot = k->asked[0];

    k->n_asked--;
    memmove(k->asked, k->asked + 1, k->n_asked * sizeof(k->asked[0]));
    return slot;
}

static void drop_beyond(struct netstock *k, unsigned n)
{
    while (k->n_ready > n) {
        struct netmade *made = &k->ready[--k->n_ready];

        slots_put(&k->agent->nets, made->slot);
        fd_closep(&made->fd);
    }
}

/* A start that finds none makes its own, and says what is wrong if that fails as well. */
static void ask(struct netstock *k)
{
    struct err e = ERR_INIT;
    uint32_t slot;

    while (k->n_ready + k->n_asked < k->wanted) {
        if (slots_get(&k->agent->nets, &slot) < 0)
            return;
        k->asked[k->n_asked++] = slot;
        if (net_ask(k->agent->net, slot, k->rate, &e) < 0) { /* with the process goes all */
            put_asked(k);
            log_warn("networks ahead: %s", e.text);
            return;
        }
    }
    watch(k);
}

static void complain(struct netstock *k, const struct err *e)
{
    if (!k->complained)
        log_warn("networks ahead: %s", e->text);
    k->complained = true;
}

/* What was asked for last is on its way: nothing that waits for it starts over here. */
static int on_heard(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct netstock *k = userdata;
    struct err e = ERR_INIT;
    int made = -1, r = net_hear(k->agent->net, &made, &e);

    (void)s;
    (void)fd;
    (void)revents;
    if (r == 0)
        return 0;
    if (r == -EPIPE || k->n_asked == 0) {
        fd_closep(&made);
        put_asked(k);
        complain(k, &e);
    } else if (r < 0) {
        slots_put(&k->agent->nets, first_asked(k));
        if (r == -EEXIST) /* the kernel still takes that slot's last one apart: another slot */
            ask(k);
        else
            complain(k, &e);
    } else {
        k->complained = false;
        k->ready[k->n_ready++] = (struct netmade){.slot = first_asked(k), .fd = made};
        drop_beyond(k, k->wanted);
    }
    watch(k);
    starts_kick(&k->agent->starts);
    return 0;
}

/* Without the watch the starts make their own. */
static void watch(struct netstock *k)
{
    int fd = net_asked_fd(k->agent->net);

    if (k->heard && sd_event_source_get_io_fd(k->heard) == fd)
        return;
    k->heard = sd_event_source_disable_unref(k->heard);
    if (fd >= 0)
        (void)sd_event_add_io(k->agent->loop, &k->heard, fd, EPOLLIN, on_heard, k);
}

void netstock_open(struct netstock *k, struct agent *a, uint64_t rate)
{
    *k = (struct netstock){.agent = a->net ? a : NULL, .rate = rate};
    netstock_want(k, 1);
}

void netstock_done(struct netstock *k)
{
    if (!k->agent)
        return;
    k->heard = sd_event_source_disable_unref(k->heard);
    put_asked(k);
    drop_beyond(k, 0);
    k->agent = NULL;
}

void netstock_want(struct netstock *k, unsigned n)
{
    if (!k->agent)
        return;
    k->wanted = n < 1 ? 1 : n > NETSTOCK_MAX ? NETSTOCK_MAX : n;
    drop_beyond(k, k->wanted); /* starts that were taken back */
    ask(k);
}

bool netstock_take(struct netstock *k, uint64_t rate, uint32_t *ret_slot, int *ret_fd)
{
    if (!k->agent || k->n_ready == 0 || rate != k->rate)
        return false;
    *ret_slot = k->ready[0].slot;
    *ret_fd = k->ready[0].fd;
    k->n_ready--;
    memmove(k->ready, k->ready + 1, k->n_ready * sizeof(k->ready[0]));
    ask(k);
    return true;
}

bool netstock_coming(const struct netstock *k)
{
    return k->agent && k->n_ready == 0 && k->n_asked > 0;
}
