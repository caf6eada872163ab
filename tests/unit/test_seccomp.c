/* Every system call number against the table, by running the program as the kernel would. */
#include "isolate/seccomp.h"

#include "base/scoped.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <termios.h>

#include <cmocka.h>

/* The classic BPF that the compiler emits, Documentation/networking/filter.rst. */
static uint32_t run(const struct sock_fprog *p, const struct seccomp_data *data)
{
    uint32_t acc = 0;

    for (size_t pc = 0; pc < p->len; pc++) {
        const struct sock_filter *f = &p->filter[pc];

        switch (f->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(f->k + 4 <= sizeof(*data) && f->k % 4 == 0);
            memcpy(&acc, (const char *)data + f->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            acc &= f->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += acc == f->k ? f->jt : f->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += acc >= f->k ? f->jt : f->jf;
            break;
        case BPF_JMP | BPF_JA:
            pc += f->k;
            break;
        case BPF_RET | BPF_K:
            return f->k;
        default:
            fail_msg("unknown instruction 0x%x", f->code);
        }
    }
    fail_msg("the program has no end");
    return 0;
}

static uint32_t ask(const struct sock_fprog *p, uint32_t arch, int nr, uint64_t a0, uint64_t a1,
                    uint64_t a2)
{
    struct seccomp_data data = {.nr = nr, .arch = arch, .args = {a0, a1, a2}};

    return run(p, &data);
}

#define ERR(x) (SECCOMP_RET_ERRNO | (x))

static uint32_t expected(enum verdict v)
{
    return v == VERDICT_ALLOW  ? SECCOMP_RET_ALLOW
           : v == VERDICT_DENY ? ERR(EPERM)
           : v == VERDICT_KILL ? SECCOMP_RET_KILL_PROCESS
                               : ERR(ENOSYS);
}

static void every_number_on_every_machine(void **state)
{
    static const uint32_t archs[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64};

    (void)state;
    for (size_t a = 0; a < 2; a++) {
        enum verdict verdicts[2048] = {VERDICT_UNKNOWN}, v;
        struct sock_fprog p;
        struct err e = ERR_INIT;
        const char *name;
        int named = 0;

        assert_int_equal(filter_compile(archs[a], &p, &e), 0);
        for (size_t i = 0; (name = filter_table_entry(i, &v)); i++) {
            int nr = filter_number(archs[a], name);

            if (nr < 0)
                continue;
            verdicts[nr] = v;
            named++;
        }
        assert_true(named > 280);
        for (int nr = 0; nr < 2048; nr++)
            if (verdicts[nr] != VERDICT_CHECKED &&
                ask(&p, archs[a], nr, 0, 0, 0) != expected(verdicts[nr]))
                fail_msg("arch 0x%x, number %d", archs[a], nr);
        /* Other ABIs of the machine, numbers from another world. */
        assert_int_equal(ask(&p, AUDIT_ARCH_I386, 1, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(ask(&p, AUDIT_ARCH_ARM, 1, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(ask(&p, archs[a], -1, 0, 0, 0),
                         a == 0 ? SECCOMP_RET_KILL_PROCESS : ERR(ENOSYS));
        if (a == 0)
            assert_int_equal(ask(&p, archs[a], 0x40000000 | 1, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
        free(p.filter);
    }
}

static void arguments_are_looked_at_as_the_kernel_does(void **state)
{
    const uint32_t arch = AUDIT_ARCH_X86_64;
    const uint64_t junk = UINT64_C(0xdead) << 32; /* the kernel ignores it */
    const int clone_nr = filter_number(arch, "clone"), socket_nr = filter_number(arch, "socket"),
              ioctl_nr = filter_number(arch, "ioctl"),
              personality_nr = filter_number(arch, "personality"),
              pair_nr = filter_number(arch, "socketpair"),
              mknodat_nr = filter_number(arch, "mknodat"),
              setrlimit_nr = filter_number(arch, "setrlimit"),
              prlimit_nr = filter_number(arch, "prlimit64");
    struct sock_fprog p;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(filter_compile(arch, &p, &e), 0);
    assert_int_equal(ask(&p, arch, clone_nr, 0x003d0f00, 0, 0), SECCOMP_RET_ALLOW); /* pthread */
    assert_int_equal(ask(&p, arch, clone_nr, 0x01200011, 0, 0), SECCOMP_RET_ALLOW); /* fork */
    static const uint64_t ns[] = {0x00020000, 0x02000000, 0x04000000, 0x08000000,
                                  0x10000000, 0x20000000, 0x40000000};
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(ask(&p, arch, clone_nr, ns[i] | 17, 0, 0), ERR(EPERM));
        assert_int_equal(ask(&p, arch, clone_nr, junk | ns[i], 0, 0), ERR(EPERM));
    }
    for (uint64_t family = 0; family < 64; family++) {
        uint32_t want =
            family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK
                ? SECCOMP_RET_ALLOW
                : ERR(EAFNOSUPPORT);

        assert_int_equal(ask(&p, arch, socket_nr, family, SOCK_RAW, 0), want);
        assert_int_equal(ask(&p, arch, socket_nr, junk | family, SOCK_RAW, junk), want);
    }
    for (uint64_t protocol = 1; protocol < 32; protocol++)
        assert_int_equal(ask(&p, arch, socket_nr, AF_NETLINK, SOCK_RAW, protocol),
                         ERR(EAFNOSUPPORT));
    assert_int_equal(ask(&p, arch, socket_nr, AF_INET, SOCK_STREAM, 6), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&p, arch, socket_nr, AF_INET, SOCK_STREAM, 262), SECCOMP_RET_ALLOW);
    /* What the kernel would load a module for. */
    assert_int_equal(ask(&p, arch, socket_nr, AF_INET, SOCK_STREAM, 132), ERR(EPROTONOSUPPORT));
    assert_int_equal(ask(&p, arch, socket_nr, AF_INET6, junk | SOCK_STREAM, junk | 132),
                     ERR(EPROTONOSUPPORT));
    assert_int_equal(ask(&p, arch, socket_nr, AF_INET, SOCK_DCCP | SOCK_CLOEXEC, 0),
                     ERR(ESOCKTNOSUPPORT));
    assert_int_equal(ask(&p, arch, socket_nr, AF_UNIX, SOCK_SEQPACKET, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&p, arch, ioctl_nr, 0, TIOCSTI, 0), ERR(EPERM));
    assert_int_equal(ask(&p, arch, ioctl_nr, 0, junk | TIOCSTI, 0), ERR(EPERM));
    assert_int_equal(ask(&p, arch, ioctl_nr, 0, junk | TIOCLINUX, 0), ERR(EPERM));
    assert_int_equal(ask(&p, arch, ioctl_nr, TIOCSTI, TIOCGWINSZ, TIOCSTI), SECCOMP_RET_ALLOW);
    for (uint64_t family = 0; family < 64; family++) {
        uint32_t want = family == AF_UNIX                         ? SECCOMP_RET_ALLOW
                        : family == AF_INET || family == AF_INET6 ? ERR(EOPNOTSUPP)
                                                                  : ERR(EAFNOSUPPORT);

        assert_int_equal(ask(&p, arch, pair_nr, junk | family, SOCK_STREAM, 0), want);
    }
    assert_int_equal(ask(&p, arch, mknodat_nr, 0, 0, junk | S_IFCHR | 0666), ERR(EPERM));
    assert_int_equal(ask(&p, arch, mknodat_nr, 0, 0, S_IFBLK), ERR(EPERM));
    assert_int_equal(ask(&p, arch, mknodat_nr, 0, 0, S_IFIFO | 0666), SECCOMP_RET_ALLOW);
    /* Setting the limit of cores is a success that changes nothing; a pointer has two halves. */
    assert_int_equal(ask(&p, arch, setrlimit_nr, junk | RLIMIT_CORE, 1, 0), ERR(0));
    assert_int_equal(ask(&p, arch, setrlimit_nr, RLIMIT_NOFILE, 1, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&p, arch, prlimit_nr, 0, RLIMIT_CORE, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&p, arch, prlimit_nr, 0, junk | RLIMIT_CORE, 16), ERR(0));
    assert_int_equal(ask(&p, arch, prlimit_nr, 0, RLIMIT_CORE, junk), ERR(0));
    assert_int_equal(ask(&p, arch, prlimit_nr, 0, RLIMIT_AS, junk), SECCOMP_RET_ALLOW);
    /* Those of dyno-init are nobody's to set. */
    assert_int_equal(ask(&p, arch, prlimit_nr, 1, RLIMIT_CPU, 16), ERR(EPERM));
    assert_int_equal(ask(&p, arch, prlimit_nr, junk | 1, RLIMIT_CPU, 16), ERR(EPERM));
    assert_int_equal(ask(&p, arch, prlimit_nr, 1, RLIMIT_CORE, 16), ERR(EPERM));
    assert_int_equal(ask(&p, arch, prlimit_nr, 11, RLIMIT_CPU, 16), SECCOMP_RET_ALLOW);
    /* Nor is the time that it gets. */
    static const char *const of_pid[] = {"sched_setparam", "sched_setscheduler", "sched_setattr",
                                         "sched_setaffinity"};
    static const char *const of_who[] = {"setpriority", "ioprio_set"};
    for (size_t i = 0; i < 4; i++) {
        int nr = filter_number(arch, of_pid[i]);
        assert_int_equal(ask(&p, arch, nr, junk | 1, 0, 0), ERR(EPERM));
        assert_int_equal(ask(&p, arch, nr, 0, 1, 1), SECCOMP_RET_ALLOW);
    }
    for (size_t i = 0; i < 2; i++) {
        int nr = filter_number(arch, of_who[i]);
        assert_int_equal(ask(&p, arch, nr, 1, junk | 1, 0), ERR(EPERM));
        assert_int_equal(ask(&p, arch, nr, 1, 0, 1), SECCOMP_RET_ALLOW);
    }
    assert_int_equal(ask(&p, arch, personality_nr, 0xffffffff, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&p, arch, personality_nr, 0x0040000, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&p, arch, personality_nr, 0x0400000, 0, 0), ERR(EPERM));
    free(p.filter);
}

static void the_kernel_takes_it(void **state)
{
    struct sock_fprog p;
    struct err e = ERR_INIT;
    int status;

    (void)state;
    assert_int_equal(filter_compile(filter_native_arch(), &p, &e), 0);
    for (int guarded = 0; guarded < 2; guarded++) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if (guarded && filter_load(&p) < 0)
                _exit(9);
            /* The control: without the filter these are anything but EPERM. */
            long a = syscall(SYS_io_uring_setup, 0, NULL) < 0 ? errno : 0;
            long b = syscall(SYS_clone3, NULL, 0) < 0 ? errno : 0;
            if ((a == EPERM) != guarded || (b == ENOSYS) != guarded)
                _exit(8);
            syscall(SYS_delete_module, "no-such-module-here", 0);
            _exit(7);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (guarded)
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
        else
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    free(p.filter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_on_every_machine),
        cmocka_unit_test(arguments_are_looked_at_as_the_kernel_does),
        cmocka_unit_test(the_kernel_takes_it),
    };

    return cmocka_run_group_tests_name("seccomp", tests, NULL, NULL);
}
