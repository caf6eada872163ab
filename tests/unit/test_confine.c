/* What the fetch can no longer do, each with its control: the same before it confines itself. Every
 * probe runs in a child of its own, as an unprivileged user. */
#include "slug/fetch/confine.h"
#include "slug/fetch/http.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "fetchrun.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

static char dir_path[200];
static char outside[256];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir_path, sizeof(dir_path), "%s/confine-test-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir_path) || chmod(dir_path, 0777) < 0)
        return -1;
    (void)snprintf(outside, sizeof(outside), "%s/outside", dir_path);
    return mkdir(outside, 0777) < 0 || chmod(outside, 0777) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, dir_path, &e);
}

/* A probe returns 0, or an errno. INSIDE is the one directory, OUT one beside it. */
struct place {
    int inside;
    int out;
};
typedef int probe_fn(const struct place *p);

#define DIED 1000 /* by SIGSYS */

/* What PROBE says in a child that has confined itself, or, for the control, only changed its user.
 */
static int run(probe_fn *probe, bool confined)
{
    struct place p;
    int status;

    pid_t pid = fork();
    if (pid == 0) {
        struct err e = ERR_INIT;
        char inside[300];

        fetch_drop();
        (void)snprintf(inside, sizeof(inside), "%s/in-%d", dir_path, getpid());
        if (mkdir(inside, 0700) < 0)
            _exit(200);
        p.inside = open(inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        p.out = open(outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (confined && confine(p.inside, NULL, &e) < 0) {
            (void)dprintf(2, "# %s\n", e.text);
            _exit(201);
        }
        _exit(probe(&p));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGSYS ? DIED : -1;
    return WEXITSTATUS(status);
}

static void assert_denied(probe_fn *probe, int before, int after)
{
    assert_int_equal(run(probe, false), before);
    assert_int_equal(run(probe, true), after);
}

static int write_inside(const struct place *p)
{
    int fd = openat(p->inside, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    return fd < 0 || write(fd, "x", 1) != 1 || mkdirat(p->inside, "d", 0700) < 0 ||
                   linkat(p->inside, "f", p->inside, "d/f", 0) < 0 ||
                   symlinkat("x", p->inside, "l") < 0 ||
                   renameat2(p->inside, "d", p->inside, "e", RENAME_NOREPLACE) < 0 ||
                   syncfs(p->inside) < 0
               ? errno
               : 0;
}

static int write_outside(const struct place *p)
{
    int fd = openat(p->out, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    return fd < 0 ? errno : unlinkat(p->out, "f", 0) < 0 ? errno : 0;
}

static int read_hosts(const struct place *p)
{
    (void)p;
    return open("/etc/hosts", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

static int read_passwd(const struct place *p)
{
    (void)p;
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

static int unix_socket(const struct place *p)
{
    (void)p;
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? errno : 0;
}

static int inet_socket(const struct place *p)
{
    (void)p;
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? errno : 0;
}

static int listen_tcp(const struct place *p)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)p;
    return fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0 ? errno
                                                                                         : 0;
}

static int execute(const struct place *p)
{
    static char name[] = "true";
    char *argv[] = {name, NULL};

    (void)p;
    (void)execve("/bin/true", argv, NULL);
    return errno;
}

static int make_process(const struct place *p)
{
    (void)p;
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : 0;
}

static int executable_memory(const struct place *p)
{
    (void)p;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? errno
               : 0;
}

static int executable_later(const struct place *p)
{
    void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)p;
    return mprotect(m, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

static int trace(const struct place *p)
{
    (void)p;
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0;
}

static int mount_something(const struct place *p)
{
    (void)p;
    return mount("none", "/tmp", "tmpfs", 0, NULL) < 0 ? errno : 0;
}

static int new_namespace(const struct place *p)
{
    (void)p;
    return unshare(CLONE_FS) < 0 ? errno : 0;
}

static int kill_someone(const struct place *p)
{
    (void)p;
    return kill(getpid(), 0) < 0 ? errno : 0;
}

static int core_dump(const struct place *p)
{
    struct rlimit r;

    (void)p;
    return getrlimit(RLIMIT_CORE, &r) < 0 ? errno : r.rlim_max == 0 ? EPERM : 0;
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 2;
}

/* From ABI 4 landlock forbids the bind(2) before seccomp forbids the listen(2). */
static bool has_landlock_net(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 4;
}

static void what_it_needs_works(void **state)
{
    (void)state;
    assert_denied(write_inside, 0, 0);
    assert_denied(read_hosts, 0, 0);
    assert_denied(inet_socket, 0, 0);
}

static void files_elsewhere_are_out_of_reach(void **state)
{
    (void)state;
    if (!has_landlock())
        skip(); /* the kernel has no landlock, or a first version */
    assert_denied(write_outside, 0, EACCES);
    assert_denied(read_passwd, 0, EACCES);
}

static void calls_that_it_does_not_need_fail(void **state)
{
    (void)state;
    assert_denied(unix_socket, 0, EPERM);
    assert_denied(make_process, 0, EPERM);
    assert_denied(executable_memory, 0, EPERM);
    assert_denied(executable_later, 0, EPERM);
    assert_denied(listen_tcp, 0, has_landlock_net() ? EACCES : EPERM);
    assert_denied(kill_someone, 0, EPERM);
    assert_int_equal(run(core_dump, true), EPERM);
}

static void calls_of_an_intruder_end_it(void **state)
{
    (void)state;
    assert_denied(execute, 0, DIED);
    assert_denied(trace, 0, DIED);
    assert_denied(mount_something, EPERM, DIED);
    assert_denied(new_namespace, 0, DIED);
}

static int as_root(const struct place *p)
{
    struct err e = ERR_INIT;

    return confine(p->inside, NULL, &e) < 0 ? -e.errnum : 0;
}

static void root_is_refused(void **state)
{
    struct place p = {.inside = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

    (void)state;
    if (geteuid() == 0)
        assert_int_equal(as_root(&p), -EPERM);
    close(p.inside);
}

static bool link_local(int family, const char *text)
{
    struct sockaddr_storage a = {.ss_family = (sa_family_t)family};

    assert_int_equal(inet_pton(family, text,
                               family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr
                                                 : (void *)&((struct sockaddr_in6 *)&a)->sin6_addr),
                     1);
    return address_is_link_local((struct sockaddr *)&a);
}

static void metadata_addresses_are_known(void **state)
{
    (void)state;
    assert_true(link_local(AF_INET, "169.254.169.254"));
    assert_true(link_local(AF_INET, "169.254.0.1"));
    assert_false(link_local(AF_INET, "169.253.169.254"));
    assert_false(link_local(AF_INET, "127.0.0.1"));
    assert_true(link_local(AF_INET6, "fe80::1"));
    assert_true(link_local(AF_INET6, "febf::1"));
    assert_false(link_local(AF_INET6, "fec0::1"));
    assert_true(link_local(AF_INET6, "::ffff:169.254.169.254"));
    assert_true(link_local(AF_INET6, "64:ff9b::169.254.169.254"));
    assert_true(link_local(AF_INET6, "fd00:ec2::254"));
    assert_false(link_local(AF_INET6, "::1"));
    assert_false(link_local(AF_INET6, "2001:db8::1"));
}

static void assert_shown(const char *url, const char *shown)
{
    char out[URL_SHOWN_MAX];

    assert_string_equal(url_shown(out, url), shown);
}

static void secrets_are_not_shown(void **state)
{
    (void)state;
    assert_shown("https://h/p", "https://h/p");
    assert_shown("https://u:p@h:1/p?sig=s#f", "https://h:1/p");
    assert_shown("https://u:p@x@h/p@q", "https://h/p@q");
    assert_shown("https://u:p@h", "https://h");
    assert_shown("https://h?x@y", "https://h");
    assert_shown("u:p@h/x", "h/x");
    assert_shown("https://h/\x1b[2J", "https://h/\\x1b[2J");
    char longer[1000], out[URL_SHOWN_MAX];
    memset(longer, 'x', sizeof(longer));
    longer[999] = '\0';
    assert_true(strlen(url_shown(out, longer)) < URL_SHOWN_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_needs_works),
        cmocka_unit_test(files_elsewhere_are_out_of_reach),
        cmocka_unit_test(calls_that_it_does_not_need_fail),
        cmocka_unit_test(calls_of_an_intruder_end_it),
        cmocka_unit_test(root_is_refused),
        cmocka_unit_test(metadata_addresses_are_known),
        cmocka_unit_test(secrets_are_not_shown),
    };

    return cmocka_run_group_tests_name("confine", tests, set_up, tear_down);
}
