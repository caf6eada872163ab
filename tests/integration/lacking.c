/* lacking FEATURE... -- COMMAND: runs COMMAND as on a kernel without these: what they take is
 * answered as such a kernel does. x86-64 and arm64; arguments are compared in their low 32 bits. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct lack {
    const char *feature;
    int nr, arg; /* arg -1: every call */
    unsigned mask, value;
    int errnum;
} lacks[] = {
    {"nftables", SYS_socket, 2, ~0u, NETLINK_NETFILTER, EPROTONOSUPPORT},
    {"routes", SYS_socket, 2, ~0u, NETLINK_ROUTE, EPROTONOSUPPORT},
    {"user-namespaces", SYS_unshare, 0, CLONE_NEWUSER, CLONE_NEWUSER, EPERM},
    {"user-namespaces", SYS_clone, 0, CLONE_NEWUSER, CLONE_NEWUSER, EPERM},
    {"network-namespaces", SYS_unshare, 0, CLONE_NEWNET, CLONE_NEWNET, EINVAL},
    {"network-namespaces", SYS_clone, 0, CLONE_NEWNET, CLONE_NEWNET, EINVAL},
    {"mount-calls", SYS_fsopen, -1, 0, 0, ENOSYS},
    {"mount-calls", SYS_open_tree, -1, 0, 0, ENOSYS},
    {"mount-calls", SYS_mount_setattr, -1, 0, 0, ENOSYS},
    {"openat2", SYS_openat2, -1, 0, 0, ENOSYS},
    {"pidfd", SYS_pidfd_open, -1, 0, 0, ENOSYS},
    {"seccomp", SYS_seccomp, -1, 0, 0, ENOSYS},
    {"landlock", SYS_landlock_create_ruleset, -1, 0, 0, ENOSYS},
};

#define N (sizeof(lacks) / sizeof(lacks[0]))

static struct sock_filter code[8 * N + 2];
static unsigned short len;

static void add(struct sock_filter one)
{
    code[len++] = one;
}

static void add_lack(const struct lack *l)
{
    unsigned skip = l->arg < 0 ? 1 : 4;

    add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)l->nr, 0, skip));
    if (l->arg >= 0) {
        add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                         offsetof(struct seccomp_data, args) +
                                             (unsigned)l->arg * sizeof(unsigned long long)));
        add((struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, l->mask));
        add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, l->value, 0, 1));
    }
    add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)l->errnum));
}

int main(int argc, char **argv)
{
    int i = 1;

    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        unsigned short before = len;

        for (size_t j = 0; j < N; j++)
            if (!strcmp(lacks[j].feature, argv[i]))
                add_lack(&lacks[j]);
        if (len == before || len > 8 * N) {
            fprintf(stderr, "lacking: no feature '%s'\n", argv[i]);
            return 2;
        }
    }
    add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog program = {.len = len, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
        perror("lacking");
        return 2;
    }
    if (i + 1 < argc)
        execvp(argv[i + 1], argv + i + 1);
    perror("lacking: the command");
    return 2;
}
