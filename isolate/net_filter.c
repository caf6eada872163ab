/* net_filter.c - nftables: the table by libnftables, as text; single elements of its port maps by
 * libnftnl, which takes 0.05 ms where the other one reads the whole ruleset first. */
#include "base/scoped.h"
#include "isolate/net_impl.h"

#include <errno.h>
#include <libnftnl/common.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 4096

static void nft_freep(struct nft_ctx **ctx)
{
    if (*ctx)
        nft_ctx_free(*ctx);
}

/* The first line of what nft has to say, without "Error: ". */
static void first_line(const char *text, char out[200])
{
    const char *at = strstr(text, "Error: ");

    at = at ? at + strlen("Error: ") : text;
    (void)text_escape(out, 200, at, strcspn(at, "\n"));
}

int net_filter_run(const char *commands, struct err *e)
{
    scoped(nft_freep) struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    char said[200];

    if (!ctx || nft_ctx_buffer_error(ctx) || nft_ctx_buffer_output(ctx))
        return err_set(e, ENOMEM, "open nftables");
    errno = 0;
    if (nft_run_cmd_from_buffer(ctx, commands) == 0)
        return 0;
    int errnum = errno ? errno : EINVAL;
    first_line(nft_ctx_get_error_buffer(ctx), said);
    return err_say(e, errnum, "nftables: %s", said[0] ? said : strerrordesc_np(errnum));
}

int net_filter_open(struct net *n, struct err *e)
{
    struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);

    if (!s) {
        (void)err_set(e, errno,
                      "open an nftables socket (the kernel needs nf_tables: CONFIG_NF_TABLES, "
                      "CONFIG_NF_TABLES_INET; or set network = host)");
        return err_blame(e, FAULT_OPERATOR);
    }
    if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
        int r = err_set(e, errno, "bind an nftables socket");

        (void)mnl_socket_close(s);
        return r;
    }
    n->filter = s;
    return 0;
}

/* --- Elements of the port maps --- */

struct batch {
    char buf[BATCH_MAX];
    struct mnl_nlmsg_batch *b;
    struct net *n;
    unsigned first;
};

static void batch_begin(struct batch *b, struct net *n)
{
    b->n = n;
    b->b = mnl_nlmsg_batch_start(b->buf, sizeof(b->buf) / 2);
    b->first = n->seq += NET_TALKS;
    nftnl_batch_begin(mnl_nlmsg_batch_current(b->b), n->seq++);
    (void)mnl_nlmsg_batch_next(b->b); /* room for far more than two elements */
}

/* SLOT 0: PORT's element goes. */
static int batch_element(struct batch *b, const struct net_range *range, unsigned port,
                         uint32_t slot, struct err *e)
{
    struct nftnl_set *set = nftnl_set_alloc();
    struct nftnl_set_elem *elem = nftnl_set_elem_alloc();
    unsigned char addr[16];
    uint16_t key = htons((uint16_t)port);

    if (!set || !elem) {
        if (set)
            nftnl_set_free(set);
        if (elem)
            nftnl_set_elem_free(elem);
        return err_set(e, ENOMEM, "publish a port");
    }
    net_range_at(range, slot + NET_FIRST, addr);
    nftnl_set_elem_set(elem, NFTNL_SET_ELEM_KEY, &key, sizeof(key));
    if (slot)
        nftnl_set_elem_set(elem, NFTNL_SET_ELEM_DATA, addr, range->family == AF_INET ? 4 : 16);
    nftnl_set_elem_add(set, elem);
    nftnl_set_set_str(set, NFTNL_SET_TABLE, b->n->table);
    nftnl_set_set_str(set, NFTNL_SET_NAME, range->family == AF_INET ? "ports4" : "ports6");
    struct nlmsghdr *h = nftnl_nlmsg_build_hdr(
        mnl_nlmsg_batch_current(b->b), slot ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, NFPROTO_INET,
        slot ? NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK : NLM_F_ACK, b->n->seq++);
    nftnl_set_elems_nlmsg_build_payload(h, set);
    (void)mnl_nlmsg_batch_next(b->b);
    nftnl_set_free(set); /* with its element */
    return 0;
}

/* Sends the whole, hears of each of the COUNT elements. The first errno, or 0. */
static int batch_send(struct batch *b, unsigned count, struct err *e)
{
    char buf[8192];
    int first = 0;

    nftnl_batch_end(mnl_nlmsg_batch_current(b->b), b->n->seq++);
    (void)mnl_nlmsg_batch_next(b->b);
    ssize_t sent =
        mnl_socket_sendto(b->n->filter, mnl_nlmsg_batch_head(b->b), mnl_nlmsg_batch_size(b->b));
    mnl_nlmsg_batch_stop(b->b);
    if (sent < 0)
        return err_set(e, errno, "ask nftables");
    while (count > 0) {
        ssize_t got = mnl_socket_recvfrom(b->n->filter, buf, sizeof(buf));
        int left = (int)got;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(e, errno, "hear nftables");
        for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            const struct nlmsgerr *told = mnl_nlmsg_get_payload(h);

            if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq - b->first > NET_TALKS)
                continue; /* of an earlier batch */
            if (told->error && !first)
                first = -told->error;
            count -= count > 0;
        }
        if (first) /* a batch that fails may fail as a whole, with one answer */
            break;
    }
    return first ? err_set(e, first, "nftables") : 0;
}

/* One transaction: PORT leads to SLOT in both families, and not where it led. */
static int change(struct net *n, unsigned port, bool remove, uint32_t slot, struct err *e)
{
    const struct net_range *ranges[] = {&n->range4, &n->range6};
    struct batch b;
    unsigned count = 0;
    int r = 0;

    batch_begin(&b, n);
    for (unsigned i = 0; i < 2 && r == 0; i++) {
        if (!ranges[i]->family)
            continue;
        if (remove) {
            r = batch_element(&b, ranges[i], port, 0, e);
            count++;
        }
        if (r == 0 && slot) {
            r = batch_element(&b, ranges[i], port, slot, e);
            count++;
        }
    }
    if (r < 0) {
        mnl_nlmsg_batch_stop(b.b);
        return r;
    }
    return batch_send(&b, count, e);
}

int net_publish(struct net *n, unsigned port, uint32_t slot, struct err *e)
{
    struct err first = ERR_INIT;
    int r = change(n, port, false, slot, &first);

    if (r == -EEXIST || r == -EBUSY) {
        first = (struct err)ERR_INIT;
        r = change(n, port, true, slot, &first);
    }
    if (r < 0) {
        *e = first;
        return err_wrap(e, "publish port %u (table %s)", port, n->table);
    }
    return 0;
}

int net_unpublish(struct net *n, unsigned port, struct err *e)
{
    struct err first = ERR_INIT;
    int r = change(n, port, true, 0, &first);

    if (r == 0 || r == -ENOENT)
        return 0;
    *e = first;
    return err_wrap(e, "take back port %u (table %s)", port, n->table);
}
