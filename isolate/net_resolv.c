/* net_resolv.c - a resolv.conf(5) for inside: a dyno's loopback is its own, so a name server there
 * is none. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/net_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESOLV_MAX (64u << 10)

static bool is_loopback(const struct net_range *r)
{
    static const unsigned char one6[16] = {[15] = 1};

    return r->family == AF_INET ? r->addr[0] == 127 : !memcmp(r->addr, one6, sizeof(one6));
}

/* Link-local ones of IPv6 are another link's inside. */
static bool is_usable(const struct net_range *r)
{
    bool local6 = r->family == AF_INET6 && r->addr[0] == 0xfe && (r->addr[1] & 0xc0) == 0x80;

    return !is_loopback(r) && !local6;
}

static void add_server(struct net *n, const char *word, size_t len)
{
    char text[NET_ADDRESS_MAX];
    struct net_range r;

    if (len >= sizeof(text) || n->n_servers == NET_SERVERS_MAX)
        return;
    memcpy(text, word, len);
    text[len] = '\0';
    if (strchr(text, '/') || net_range_parse(text, &r) < 0 || !is_usable(&r))
        return;
    n->servers[n->n_servers++] = r;
}

/* The servers of TEXT into N, its other lines into REST. */
static void read_conf(struct net *n, const char *text, struct str *rest)
{
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        const char *word = line + strspn(line, " \t");

        if (!strncmp(word, "nameserver", 10) && (word[10] == ' ' || word[10] == '\t')) {
            word += 10 + strspn(word + 10, " \t");
            add_server(n, word, strcspn(word, " \t\r\n"));
        } else if (!strncmp(word, "search", 6) || !strncmp(word, "domain", 6) ||
                   !strncmp(word, "options", 7)) {
            str_add_n(rest, line, len);
            str_add(rest, "\n");
        }
        line += len + (line[len] == '\n');
    }
}

static int take_given(struct net *n, const char *nameservers, struct err *e)
{
    struct net_range list[NET_LIST_MAX];
    size_t count = 0;
    int r = net_list_parse(nameservers, "nameservers", list, &count, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        char text[NET_RANGE_TEXT];
        bool single = list[i].len == (list[i].family == AF_INET ? 32 : 128);

        if (!single || !is_usable(&list[i]) || count > NET_SERVERS_MAX) {
            (void)err_say(e, EINVAL,
                          "nameservers: %s: at most %d addresses that dynos can reach, so not of "
                          "a loopback or IPv6 link",
                          net_range_text(&list[i], text), NET_SERVERS_MAX);
            return err_blame(e, FAULT_OPERATOR);
        }
        n->servers[n->n_servers++] = list[i];
    }
    return 0;
}

int net_resolv(struct net *n, const char *nameservers, const char *host, const char *stub,
               struct err *e)
{
    const char *paths[] = {host, stub};
    scoped(str_done) struct str out = {0}, rest = {0};
    char text[NET_ADDRESS_MAX];
    int r = take_given(n, nameservers, e);

    if (r < 0)
        return r;
    for (unsigned i = 0; i < 2 && n->n_servers == 0; i++) {
        scoped_free char *conf = calloc(1, RESOLV_MAX);
        scoped_fd fd = open(paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (!conf)
            return err_set(e, ENOMEM, "read %s", paths[i]);
        if (fd >= 0 && fd_read_full(fd, conf, RESOLV_MAX - 1) > 0)
            read_conf(n, conf, &rest);
    }
    for (size_t i = 0; i < n->n_servers; i++)
        str_addf(&out, "nameserver %s\n", net_range_at_text(&n->servers[i], 0, text));
    str_add(&out, str_text(&rest));
    if (n->n_servers == 0 && !n->notice[0])
        (void)snprintf(n->notice, sizeof(n->notice),
                       "no name server that dynos can reach is in %s or %s: name some with "
                       "nameservers in [network]",
                       host, stub);
    n->resolv_conf = out.failed || rest.failed ? NULL : strdup(str_text(&out));
    return n->resolv_conf ? 0 : err_set(e, ENOMEM, "make a resolv.conf");
}
