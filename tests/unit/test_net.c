/* The pure parts of the dynos' network, and (as root, in a namespace of its own) that the kernel
 * takes what they make. What the rules stop is tests/integration/network.bats. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/net_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct net_config usual = {.name = "",
                                        .range4 = "10.213.0.0/16",
                                        .range6 = "fd64:796e:6f64::/64",
                                        .egress_deny = "10.0.0.0/8 fd00::/8",
                                        .egress_allow = "10.1.2.3",
                                        .nameservers = "192.0.2.53",
                                        .connections = 4096,
                                        .dynos = 1000};

static void networks_are_read(void **state)
{
    static const char *const good[] = {"10.0.0.0/8", "0.0.0.0/0", "192.0.2.1",  "fd00::/8",
                                       "::/0",       "::1",       "10.0.0.0/32"};
    static const char *const bad[] = {"",           "10.0.0.0/",   "10.0.0.1/8",  "10.0.0.0/33",
                                      "fd00::1/64", "10.0.0/8",    "ten",         "::/129",
                                      "/8",         "10.0.0.0/-1", "fe80::1%eth0"};
    struct net_range r;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(net_range_parse(good[i], &r), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (net_range_parse(bad[i], &r) != -EINVAL)
            fail_msg("%s", bad[i]);
}

static void slots_are_addresses(void **state)
{
    struct net_range r;
    char text[NET_ADDRESS_MAX], range[NET_RANGE_TEXT];

    (void)state;
    assert_int_equal(net_range_parse("10.213.0.0/16", &r), 0);
    assert_int_equal(net_range_slots(&r), 65533);
    assert_string_equal(net_range_at_text(&r, NET_GATEWAY, text), "10.213.0.1");
    assert_string_equal(net_range_at_text(&r, 1 + NET_FIRST, text), "10.213.0.2");
    assert_string_equal(net_range_at_text(&r, 65533 + NET_FIRST, text), "10.213.255.254");
    assert_string_equal(net_range_text(&r, range), "10.213.0.0/16");
    assert_int_equal(net_range_parse("10.0.0.0/29", &r), 0);
    assert_int_equal(net_range_slots(&r), 5);
    assert_int_equal(net_range_parse("10.0.0.0/8", &r), 0);
    assert_int_equal(net_range_slots(&r), NET_SLOTS_MAX);
    assert_int_equal(net_range_parse("10.0.0.0/31", &r), 0);
    assert_int_equal(net_range_slots(&r), 0);
    assert_int_equal(net_range_parse("fd64:796e:6f64::/64", &r), 0);
    assert_int_equal(net_range_slots(&r), NET_SLOTS_MAX);
    assert_string_equal(net_range_at_text(&r, 65534, text), "fd64:796e:6f64::fffe");
}

static bool overlap(const char *a, const char *b)
{
    struct net_range x, y;

    assert_int_equal(net_range_parse(a, &x), 0);
    assert_int_equal(net_range_parse(b, &y), 0);
    assert_int_equal(net_range_overlaps(&x, &y), net_range_overlaps(&y, &x));
    return net_range_overlaps(&x, &y);
}

static void overlaps_are_seen(void **state)
{
    (void)state;
    assert_true(overlap("10.213.0.0/16", "10.0.0.0/8"));
    assert_true(overlap("10.213.0.0/16", "10.213.255.255"));
    assert_true(overlap("10.213.0.0/16", "0.0.0.0/0"));
    assert_false(overlap("10.213.0.0/16", "10.214.0.0/16"));
    assert_false(overlap("10.212.0.0/16", "10.213.0.0/16"));
    assert_true(overlap("fd00::/8", "fd64::/64"));
    assert_false(overlap("::/0", "0.0.0.0/0"));
}

static void refused(struct net_config c, const char *needle)
{
    struct err e = ERR_INIT;

    assert_int_equal(net_check(&c, &e), -EINVAL);
    if (!strstr(e.text, needle))
        fail_msg("\"%s\" has no \"%s\"", e.text, needle);
}

#define WITH(...)                                                                                  \
    ({                                                                                             \
        struct net_config c_ = usual;                                                              \
        (void)(__VA_ARGS__);                                                                       \
        c_;                                                                                        \
    })

static void bad_configurations_are_refused(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(net_check(&usual, &e), 0);
    refused(WITH(c_.range4 = "10.213.0.0/24"), "room for 253 dynos, fewer than dynos_max = 1000");
    refused(WITH(c_.range4 = "10.213.0.0/30"), "ipv4_range: '10.213.0.0/30'");
    refused(WITH(c_.range4 = "127.0.0.0/8"), "ipv4_range");
    refused(WITH(c_.range4 = "224.0.0.0/8"), "ipv4_range");
    refused(WITH(c_.range4 = "fd00::/64"), "ipv4_range");
    refused(WITH(c_.range4 = "10.0.0.0/7"), "ipv4_range");
    refused(WITH(c_.range6 = "fe80::/64"), "ipv6_range");
    refused(WITH(c_.range6 = "ff00::/64"), "ipv6_range");
    refused(WITH(c_.range6 = "fd00::/120"), "ipv6_range");
    refused(WITH(c_.egress_deny = "all"), "egress_deny: 'all'");
    refused(WITH(c_.egress_allow = "10.0.0.1/8"), "egress_allow: '10.0.0.1/8'");
    refused(WITH(c_.name = "xyz"), "5 hex digits");
    refused(WITH(c_.name = "123456"), "5 hex digits");
}

static void names_are_slots(void **state)
{
    struct net n = {0};
    struct net_config c = usual;
    struct err e = ERR_INIT;
    char name[NET_NAME_MAX];

    (void)state;
    c.name = "1a2b3";
    assert_int_equal(net_parse(&c, &n, &e), 0);
    assert_string_equal(n.table, "dynod-1a2b3");
    assert_string_equal(net_interface(&n, 65533, name), "dyno1a2b3-65533");
    assert_int_equal(net_slot_of(&n, name), 65533);
    assert_int_equal(net_slot_of(&n, "dyno1a2b3-65534"), 0);
    assert_int_equal(net_slot_of(&n, "dyno1a2b3-0"), 0);
    assert_int_equal(net_slot_of(&n, "dyno1a2b3-1x"), 0);
    assert_int_equal(net_slot_of(&n, "dyno-1"), 0);
    assert_int_equal(net_slot_of(&n, "eth0"), 0);
}

static void put(const char *dir, const char *name, const char *text, char out[128])
{
    struct err e = ERR_INIT;

    (void)snprintf(out, 128, "%s/%s", dir, name);
    assert_int_equal(file_write_atomic(AT_FDCWD, out, text, strlen(text), 0644, &e), 0);
}

static void resolv(const char *given, const char *host, const char *stub, const char *wanted)
{
    char dir[] = "/tmp/test_net.XXXXXX", a[128], b[128];
    struct net n = {0};
    struct err e = ERR_INIT;

    assert_non_null(mkdtemp(dir));
    put(dir, "host", host, a);
    put(dir, "stub", stub, b);
    assert_int_equal(net_resolv(&n, given, a, b, &e), 0);
    assert_string_equal(n.resolv_conf, wanted);
    assert_int_equal(n.notice[0] != '\0', n.n_servers == 0);
    free(n.resolv_conf);
    assert_int_equal(tree_remove(AT_FDCWD, dir, &e), 0);
}

static void resolv_conf_works_inside(void **state)
{
    (void)state;
    resolv("", "nameserver 192.0.2.1\nsearch a.example\n# x\nsortlist 1\n", "nameserver 9.9.9.9\n",
           "nameserver 192.0.2.1\nsearch a.example\n");
    resolv("", "nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.9\nsearch b\n",
           "nameserver 192.0.2.9\noptions edns0\nsearch b\n");
    resolv("", "nameserver ::1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n", "",
           "nameserver 2001:db8::1\n");
    resolv("192.0.2.7 2001:db8::7", "nameserver 192.0.2.1\nsearch c\n", "",
           "nameserver 192.0.2.7\nnameserver 2001:db8::7\n");
    resolv("", "nameserver 127.0.0.1\n", "", "");
    resolv("", "nameserver nonsense\nnameserver\n\n \t\nnameserver 1.1.1.1", "",
           "nameserver 1.1.1.1\n");
    resolv("", "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n",
           "", "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\n");
}

/* --- With the kernel, in a network namespace that holds nothing --- */

static bool keep_none(void *userdata, uint32_t slot)
{
    (void)userdata;
    (void)slot;
    return false;
}

/* 0, or the line that failed. */
#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "%s: %s\n", #x, e.text);                                         \
            return __LINE__;                                                                       \
        }                                                                                          \
    } while (0)

static int life(const struct net_config *c)
{
    struct net_port ports[2] = {{20000, 1}, {65535, 65533}};
    struct net *n = NULL;
    struct err e = ERR_INIT;
    unsigned removed = 0;
    int one = -1, again = -1, sock = -1;

    MUST(net_open(c, &n, &e) == 0);
    MUST(net_install(n, ports, 2, &e) == 0);
    MUST(net_install(n, ports, 2, &e) == 0); /* over itself, as the next agent does */
    MUST(net_make(n, 1, 0, &one, &e) == 0);
    MUST(net_make(n, 1, 0, &again, &e) == -EEXIST);
    e = (struct err)ERR_INIT;
    MUST(net_set_rate(n, one, 1, 1 << 20, &e) == 0);
    MUST(net_set_rate(n, one, 1, UINT64_C(10) << 30, &e) == 0);
    MUST(net_set_rate(n, one, 1, 0, &e) == 0);
    MUST(net_set_rate(n, one, 1, 0, &e) == 0);
    MUST(net_socket(one, AF_INET, SOCK_DGRAM, 0, &sock, &e) == 0);
    MUST(net_publish(n, 20001, 1, &e) == 0);
    MUST(net_publish(n, 20001, 2, &e) == 0); /* whatever it led to */
    MUST(net_unpublish(n, 20001, &e) == 0);
    MUST(net_unpublish(n, 20001, &e) == 0);
    MUST(net_sweep(n, keep_none, NULL, &removed, &e) == 0);
    MUST(removed == 1);
    MUST(net_make(n, 1, 1 << 20, &again, &e) == 0);
    MUST(net_remove(n, &e) == 0);
    MUST(net_remove(n, &e) == 0);
    net_freep(&n);
    close(one);
    close(again);
    close(sock);
    return 0;
}

/* What the process that makes networks ahead says next; -ETIMEDOUT. */
static int hear(struct net *n, int *ret_fd, struct err *e)
{
    struct pollfd p = {.fd = net_asked_fd(n), .events = POLLIN};

    return poll(&p, 1, 60000) == 1 ? net_hear(n, ret_fd, e) : -ETIMEDOUT;
}

static int life_ahead(const struct net_config *c)
{
    char name[NET_NAME_MAX];
    struct net *n = NULL;
    struct err e = ERR_INIT;
    unsigned removed = 0;
    int one = -1, two = -1, none = -1, sock = -1;

    MUST(net_open(c, &n, &e) == 0);
    MUST(net_install(n, NULL, 0, &e) == 0);
    MUST(net_asked_fd(n) == -1);
    MUST(net_hear(n, &none, &e) == -EPIPE);
    e = (struct err)ERR_INIT;
    MUST(net_ask(n, 1, 1 << 20, &e) == 0);
    MUST(net_ask(n, 1, 0, &e) == 0); /* taken: is told, and what follows is made */
    MUST(net_ask(n, 2, 0, &e) == 0);
    MUST(hear(n, &one, &e) == 1);
    MUST(hear(n, &none, &e) == -EEXIST);
    e = (struct err)ERR_INIT;
    MUST(hear(n, &two, &e) == 1);
    MUST(none == -1);
    MUST(net_hear(n, &none, &e) == 0);
    /* They are as those that the agent makes itself. */
    MUST(if_nametoindex(net_interface(n, 1, name)) != 0);
    MUST(net_socket(one, AF_INET, SOCK_DGRAM, 0, &sock, &e) == 0);
    MUST(net_set_rate(n, two, 2, 1 << 20, &e) == 0);
    (void)kill(n->maker.pid, SIGKILL);
    MUST(hear(n, &none, &e) == -EPIPE);
    e = (struct err)ERR_INIT;
    MUST(net_asked_fd(n) == -1);
    MUST(net_ask(n, 3, 0, &e) == 0); /* another one */
    MUST(hear(n, &none, &e) == 1);
    MUST(net_sweep(n, keep_none, NULL, &removed, &e) == 0);
    MUST(removed == 3);
    pid_t maker = n->maker.pid;
    net_freep(&n);
    MUST(kill(maker, 0) < 0); /* it goes with the agent, and is waited for */
    close(one);
    close(two);
    close(none);
    close(sock);
    return 0;
}

/* --- An interface that comes, or goes, while all are listed --- */

enum { STAYING = 40 }; /* more than the kernel tells in three answers */

struct listing {
    struct net own; /* to change interfaces, while its owner's socket is busy */
    int seen[STAYING];
    bool there, changed; /* the one that comes and goes; in this round */
    int failed;
};

static int change_link(struct net *n, const char *name, bool add)
{
    struct err e = ERR_INIT;
    struct net_talk t;

    net_talk_begin(n, &t);
    (void)net_talk_add(&t, "change a link", add ? RTM_NEWLINK : RTM_DELLINK,
                       add ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof(struct ifinfomsg));
    net_put(&t, IFLA_IFNAME, name, strlen(name) + 1);
    if (add) {
        struct nlattr *info = net_nest(&t, IFLA_LINKINFO);

        net_put(&t, IFLA_INFO_KIND, "veth", 4);
        net_nest_end(&t, info);
    }
    return net_talk_send(n->route, &t, &e);
}

static int note_and_change(const struct nlmsghdr *h, void *userdata)
{
    struct listing *l = userdata;
    const char *name;
    int number;

    (void)net_is_ours(&l->own, h, &name);
    if (name && sscanf(name, "stays%d", &number) == 1 && number >= 0 && number < STAYING)
        l->seen[number]++;
    if (!l->changed) {
        l->there = !l->there;
        l->failed |= change_link(&l->own, "comes", l->there) < 0;
    }
    l->changed = true;
    return MNL_CB_OK;
}

static int list_while_they_change(const struct net_config *c)
{
    struct listing l = {0};
    struct err e = ERR_INIT;
    char name[16];

    (void)c;
    (void)alarm(100); /* one that waits for ever ends here */
    MUST(net_talk_open(&l.own.route, &e) == 0);
    for (int i = 0; i < STAYING; i++) {
        (void)snprintf(name, sizeof(name), "stays%d", i);
        MUST(change_link(&l.own, name, true) == 0);
    }
    for (int round = 0; round < 20; round++) {
        struct net n = {0};

        memset(l.seen, 0, sizeof(l.seen));
        l.changed = false;
        MUST(net_talk_open(&n.route, &e) == 0);
        MUST(net_dump(&n, RTM_GETLINK, note_and_change, &l, &e) == 0);
        net_socket_closep(&n.route);
        MUST(!l.failed);
        for (int i = 0; i < STAYING; i++)
            MUST(l.seen[i] > 0);
    }
    net_socket_closep(&l.own.route);
    return 0;
}

static void lives(int (*how)(const struct net_config *), const struct net_config *c)
{
    int status;
    pid_t pid;

    if (geteuid() != 0)
        skip();
    pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWNET) < 0 ? 1 : how(c) != 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void the_kernel_takes_it_all(void **state)
{
    (void)state;
    lives(life, &usual);
}

static void the_kernel_takes_as_little_as_there_is(void **state)
{
    struct net_config c = usual;

    (void)state;
    c.name = "fffff";
    c.range6 = c.egress_deny = c.egress_allow = "";
    c.connections = 0;
    lives(life, &c);
}

static void networks_are_made_ahead(void **state)
{
    (void)state;
    lives(life_ahead, &usual);
}

static void a_list_ends_though_it_changes(void **state)
{
    (void)state;
    lives(list_while_they_change, &usual);
}

static void the_machine_is_probed(void **state)
{
    struct err e = ERR_INIT;
    int status;
    pid_t pid;

    (void)state;
    if (geteuid() != 0)
        skip();
    pid = fork();
    if (pid == 0)
        _exit(net_probe(&e) < 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* The machine's limit for socket buffers: two dynos that never read would fill it. */
static void buffers_are_raised_and_never_lowered(void **state)
{
    static const struct {
        const char *before, *after;
    } rows[] = {
        {"287901\t383868\t575802\n", "3000000 3000000 4000000\n"},
        {"1 2 3999999\n", "3000000 3000000 4000000\n"},
        {"1 2 4000000\n", "1 2 4000000\n"},
        {"1 2 9000000\n", "1 2 9000000\n"},
    };
    char path[] = "/tmp/test_net.XXXXXX", now[100];
    scoped_fd fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_true(pwrite(fd, rows[i].before, strlen(rows[i].before), 0) > 0);
        assert_int_equal(net_raise_buffers(path, 8000000), 0);
        ssize_t n = pread(fd, now, sizeof(now) - 1, 0);
        assert_true(n > 0);
        now[n] = '\0';
        assert_string_equal(now, rows[i].after);
    }
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(net_raise_buffers(path, 8000000), -EBADMSG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(net_raise_buffers(path, 8000000), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_are_read),
        cmocka_unit_test(buffers_are_raised_and_never_lowered),
        cmocka_unit_test(slots_are_addresses),
        cmocka_unit_test(overlaps_are_seen),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(names_are_slots),
        cmocka_unit_test(resolv_conf_works_inside),
        cmocka_unit_test(the_kernel_takes_it_all),
        cmocka_unit_test(the_kernel_takes_as_little_as_there_is),
        cmocka_unit_test(networks_are_made_ahead),
        cmocka_unit_test(a_list_ends_though_it_changes),
        cmocka_unit_test(the_machine_is_probed),
    };

    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
