#include "core/host/network.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "core/dyno.h"
#include "core/policy/ready.h"
#include "isolate/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define RESTORE_USEC USEC_PER_SEC /* between two tries to put rules back */
#define MAKE_TRIES   64           /* slots whose last interface the kernel has not taken away yet */

static bool is_private(const struct agent *a)
{
    return !strcmp(a->config.network, "private") ||
           (!strcmp(a->config.network, "auto") && !a->rootless);
}

/* The same state directory has the same name after a restart. FNV-1a */
static void make_name(const char *state_dir, char out[6])
{
    uint32_t hash = 2166136261u;

    out[0] = '\0';
    if (!strcmp(state_dir, "/var/lib/dynod"))
        return;
    for (const char *p = state_dir; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    (void)snprintf(out, 6, "%05x", (hash ^ hash >> 20) & 0xfffff);
}

int network_open(struct agent *a, struct err *e)
{
    const struct config *c = &a->config;
    char name[6];

    if (!is_private(a))
        return 0;
    if (a->rootless) {
        (void)err_say(e, EPERM,
                      "network = private takes root, which makes network namespaces and rules; as "
                      "an ordinary user dynos share the host's: network = host");
        return err_blame(e, FAULT_OPERATOR);
    }
    make_name(c->state_dir, name);
    const struct net_config config = {.name = name,
                                      .range4 = c->net_range4,
                                      .range6 = c->net_range6,
                                      .egress_deny = c->net_deny,
                                      .egress_allow = c->net_allow,
                                      .nameservers = c->net_servers,
                                      .connections = c->net_connections,
                                      .dynos = c->dynos_max};
    int r = net_open(&config, &a->net, e);
    if (r == 0 && net_notice(a->net)[0])
        log_warn("network: %s", net_notice(a->net));
    return r < 0 ? r : slots_init(&a->nets, 1, net_slots(a->net), e);
}

/* --- What an earlier agent left --- */

/* Its address is of another range: the configuration has changed. */
static bool is_elsewhere(struct agent *a, const struct dyno *d)
{
    char now[NET_ADDRESS_MAX];

    return strcmp(net_address(a->net, run_slot(d->run), now), run_address(d->run)) != 0;
}

static size_t adopted_ports(struct agent *a, struct net_port *ports)
{
    struct dyno *d;
    size_t n = 0;

    TAILQ_FOREACH (d, &a->dynos, link) {
        if (!d->run || !run_slot(d->run) || !d->port)
            continue;
        if (is_elsewhere(a, d)) {
            log_warn("%s/%s.%u: its network is of an earlier configuration: nobody reaches it "
                     "until it is restarted",
                     d->name.app, d->name.type, d->name.num);
            continue;
        }
        ports[n++] = (struct net_port){(uint16_t)d->port, run_slot(d->run)};
        d->published = true;
    }
    return n;
}

static bool is_taken(void *userdata, uint32_t slot)
{
    struct agent *a = userdata;

    if (!slots_take(&a->nets, slot))
        return true;
    slots_put(&a->nets, slot);
    return false;
}

/* --- The rules, which somebody may take away from under us (`nft flush ruleset`) --- */

static size_t published_ports(struct agent *a, struct net_port *ports)
{
    struct dyno *d;
    size_t n = 0;

    TAILQ_FOREACH (d, &a->dynos, link)
        if (d->published && d->run && run_slot(d->run) && d->port)
            ports[n++] = (struct net_port){(uint16_t)d->port, run_slot(d->run)};
    return n;
}

static int install(struct agent *a, size_t (*list)(struct agent *a, struct net_port *ports),
                   struct err *e)
{
    scoped_free struct net_port *ports = calloc(a->n_dynos + 1, sizeof(*ports));

    return ports ? net_install(a->net, ports, list(a, ports), e)
                 : err_set(e, ENOMEM, "put the network's rules in place");
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata);

/* At once: without them dynos reach what they must not. */
static void restore(struct agent *a)
{
    struct network_guard *g = &a->guard;
    bool again = g->missing.errnum != 0;
    struct err why = ERR_INIT;
    char text[200];

    if (install(a, published_ports, &why) < 0) {
        if (!again) {
            log_err("network: its rules are gone, and cannot be put back: %s", why.text);
            agent_event(a, "network", NULL,
                        json_pack("{s:s,s:s}", "rules", "gone", "text", why.text));
        }
        g->missing = why;
        (void)timer_set(a->loop, &g->again, "network-rules", clock_boot() + RESTORE_USEC, on_again,
                        a); /* no memory: the next change, or the next agent */
        return;
    }
    g->missing = (struct err)ERR_INIT;
    g->restored++;
    g->restored_at = clock_real();
    (void)snprintf(text, sizeof(text),
                   "somebody changed the rules of the nftables table inet %s (nft flush ruleset?): "
                   "they are in place again",
                   net_table(a->net));
    log_warn("network: %s", text);
    agent_event(a, "network", NULL, json_pack("{s:s,s:s}", "rules", "restored", "text", text));
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata)
{
    (void)s;
    (void)usec;
    restore(userdata);
    return 0;
}

static int on_rules(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
    struct agent *a = userdata;

    (void)s;
    (void)fd;
    (void)revents;
    if (net_rules_changed(a->net))
        restore(a);
    return 0;
}

bool network_rules_text(const struct agent *a, char out[ERR_TEXT_MAX])
{
    const struct network_guard *g = &a->guard;
    char at[CLOCK_TEXT_MAX];

    if (g->missing.errnum)
        (void)snprintf(out, ERR_TEXT_MAX, "not in place, so nothing starts: %.400s",
                       g->missing.text);
    else if (g->restored)
        (void)snprintf(out, ERR_TEXT_MAX,
                       "nftables table inet %s, in place; put back %u times, the last at %s, after "
                       "somebody had changed it: find who does (nft flush ruleset, a reload of "
                       "nftables.service, another firewall)",
                       net_table(a->net), g->restored, clock_text(g->restored_at, at));
    else
        (void)snprintf(out, ERR_TEXT_MAX, "nftables table inet %s, in place", net_table(a->net));
    return !g->missing.errnum;
}

int network_ready(struct agent *a, struct err *e)
{
    struct limits limits;
    unsigned removed = 0;

    if (!a->net)
        return 0;
    int r = install(a, adopted_ports, e);
    if (r == 0) {
        r = sd_event_add_io(a->loop, &a->guard.changed, net_rules_fd(a->net), EPOLLIN, on_rules, a);
        r = r < 0 ? err_set(e, -r, "watch the network's rules") : 0;
    }
    if (r == 0)
        r = net_sweep(a->net, is_taken, a, &removed, e);
    if (r == 0 && removed)
        log_notice("removed %u leftover network interfaces", removed);
    if (r == 0)
        r = dyno_limits_of(a, a->config.default_size, &limits, e);
    if (r == 0)
        netstock_open(&a->netstock, a, limits.rate_bits / 8);
    return r;
}

void network_close(struct agent *a, bool empty)
{
    struct err e = ERR_INIT;

    netstock_done(&a->netstock);
    if (a->net && empty && net_remove(a->net, &e) < 0)
        log_warn("network: %s", e.text);
    sd_event_source_disable_unref(a->guard.changed);
    sd_event_source_disable_unref(a->guard.again);
    net_freep(&a->net);
    slots_done(&a->nets);
}

/* --- One dyno --- */

int network_make(struct agent *a, const struct limits *limits, uint32_t *ret_slot, int *ret_fd,
                 struct err *e)
{
    uint32_t slot;

    *ret_slot = 0;
    *ret_fd = -1;
    if (!a->net)
        return 0;
    if (a->guard.missing.errnum) {
        *e = a->guard.missing;
        return err_wrap(e, "the network's rules are gone, without which nothing starts");
    }
    if (netstock_take(&a->netstock, limits->rate_bits / 8, ret_slot, ret_fd))
        return 0;
    for (int i = 0;; i++) {
        struct err told = ERR_INIT;

        if (slots_get(&a->nets, &slot) < 0)
            return err_say(e, ENOSPC, "no address of %u is free (ipv4_range)", net_slots(a->net));
        int r = net_make(a->net, slot, limits->rate_bits / 8, ret_fd, &told);
        if (r == 0)
            break;
        slots_put(&a->nets, slot);
        if (r != -EEXIST || i == MAKE_TRIES) {
            *e = told;
            return r;
        }
    }
    *ret_slot = slot;
    return 0;
}

void network_put(struct agent *a, uint32_t slot)
{
    if (slot && a->net)
        slots_put(&a->nets, slot);
}

int network_publish(struct dyno *d, struct err *e)
{
    struct net *n = d->agent->net;

    if (!n || !d->port || !d->run || !run_slot(d->run) || d->published)
        return 0;
    int r = net_publish(n, d->port, run_slot(d->run), e);
    d->published = r == 0;
    return r;
}

void network_unpublish(struct dyno *d)
{
    struct err e = ERR_INIT;

    fd_closep(&d->diag_fd); /* it would hold the namespace */
    if (d->published && d->agent->net && net_unpublish(d->agent->net, d->port, &e) < 0)
        log_warn("%s/%s.%u: %s", d->name.app, d->name.type, d->name.num, e.text);
    d->published = false;
}

int network_set_rate(struct dyno *d, const struct limits *limits, struct err *e)
{
    if (!d->agent->net || !d->run || !run_slot(d->run))
        return err_say(e, ENOTSUP, "it shares the host's network");
    return run_set_rate(d->run, d->agent->net, limits->rate_bits / 8, e);
}

bool network_listened(struct dyno *d, bool thorough)
{
    struct agent *a = d->agent;
    uid_t uid = a->rootless ? getuid() : d->uid;
    struct err ignored = ERR_INIT; /* its process is going: its end is about to be heard of */
    struct ready_at at = {0};

    if (!d->run || !run_slot(d->run))
        return port_listened(a->diag_fd, d->port, uid, NULL, thorough);
    if (d->diag_fd < 0 && run_diag_open(d->run, &d->diag_fd, &ignored) < 0)
        return false;
    (void)inet_pton(AF_INET, run_address(d->run), &at.addr4); /* "" finds nobody */
    (void)inet_pton(AF_INET6, run_address6(d->run), at.addr6);
    return port_listened(d->diag_fd, d->port, uid, &at, false);
}
