/* What each role of the fetch cannot do any more: a table of calls, made by a child that is
 * confined as the role is, and by one that is not: the control, where each call has to work. */
#include "slug/fetch/confine.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "fetchrun.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

static char base[200];
static int listener = -1, dir = -1, file = -1;
static struct sockaddr_in listens;

/* --- the calls: 0 or errno -----------------------------------------------------------------------
 */

static int result(long r)
{
    return r < 0 ? errno : 0;
}

static int make_socket(int family, int type)
{
    scoped_fd fd = socket(family, type | SOCK_CLOEXEC, 0);

    return result(fd);
}

static int tcp_socket(void)
{
    return make_socket(AF_INET, SOCK_STREAM);
}

static int tcp6_socket(void)
{
    return make_socket(AF_INET6, SOCK_STREAM);
}

static int dns_socket(void)
{
    return make_socket(AF_INET, SOCK_DGRAM);
}

static int unix_socket(void)
{
    return make_socket(AF_UNIX, SOCK_STREAM);
}

static int pair(void)
{
    int sv[2];

    return result(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
}

static int tcp_connect(void)
{
    scoped_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? errno : result(connect(fd, (struct sockaddr *)&listens, sizeof(listens)));
}

static int tcp_bind(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    scoped_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? errno : result(bind(fd, (struct sockaddr *)&any, sizeof(any)));
}

static int tcp_listen(void)
{
    return result(listen(listener, 1)); /* once more, which is fine */
}

static int tcp_accept(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    return fd < 0 && errno == EAGAIN ? 0 : result(fd);
}

static int make_process(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : result(waitpid(pid, NULL, 0));
}

static void *nothing(void *arg)
{
    return arg;
}

static int make_thread(void)
{
    pthread_t t;
    int r = pthread_create(&t, NULL, nothing, NULL);

    return r ? r : pthread_join(t, NULL);
}

static int read_resolver(void)
{
    scoped_fd fd = open("/etc/hosts", O_RDONLY | O_CLOEXEC);

    return result(fd);
}

static int read_other(void)
{
    scoped_fd fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

    return result(fd);
}

static int read_proc(void)
{
    scoped_fd fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

    return result(fd);
}

static int make_file(void)
{
    scoped_fd fd = openat(dir, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    return result(fd);
}

static int make_file_outside(void)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/outside", base);
    scoped_fd fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return result(fd);
}

static int make_link(void)
{
    (void)unlinkat(dir, "link", 0);
    return result(symlinkat("/etc", dir, "link"));
}

static int make_dir(void)
{
    int r = result(mkdirat(dir, "dir", 0700));

    return r == EEXIST ? 0 : r;
}

static int remove_file(void)
{
    int r = result(unlinkat(dir, "none", 0));

    return r == ENOENT ? 0 : r;
}

static int list(void)
{
    char buf[1024];

    return result(syscall(SYS_getdents64, dir, buf, sizeof(buf)));
}

static int change_mode(void)
{
    return result(fchmod(dir, 0700));
}

static int change_mode_by_path(void)
{
    return result(chmod(base, 0777));
}

static int write_at(void)
{
    return result(pwrite(file, "x", 1, 0));
}

static int truncate_it(void)
{
    return result(ftruncate(file, 1));
}

static int map_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : 0;
}

static int make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : result(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int map(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : 0;
}

static int send_signal(void)
{
    return result(kill(getpid(), 0));
}

static int become_dumpable(void)
{
    return result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int raise_limit(void)
{
    struct rlimit l;

    return getrlimit(RLIMIT_NOFILE, &l) < 0 ? errno : result(setrlimit(RLIMIT_NOFILE, &l));
}

static int new_namespace(void)
{
    int r = result(unshare(CLONE_NEWUSER));

    return r == EPERM || r == ENOSPC || r == EINVAL ? 0
                                                    : r; /* where users may not, it is refused */
}

static int execute(void)
{
    static char name[] = "true";
    char *argv[] = {name, NULL}, *envp[] = {NULL};
    int r = result(execve("/none", argv, envp));

    return r == ENOENT ? 0 : r;
}

static int trace(void)
{
    return result(ptrace(PTRACE_TRACEME, 0, 0, 0));
}

/* --- who may -------------------------------------------------------------------------------------
 */

#define ROLE(r) (1u << (r))
#define NOBODY  0u
#define KILLS   (1u << 31) /* with the rest: whoever may not is killed */
#define LOAD    ROLE(CONFINE_DOWNLOAD)
#define TREE    ROLE(CONFINE_UNPACK_TREE)
#define UNPACK  (TREE | ROLE(CONFINE_UNPACK))
#define ALL     (LOAD | UNPACK | ROLE(CONFINE_IMAGE) | ROLE(CONFINE_SEAL))

static const struct call {
    const char *name;
    int (*fn)(void);
    unsigned may;
} calls[] = {
    {"a TCP socket", tcp_socket, LOAD},
    {"a TCP socket of IPv6", tcp6_socket, LOAD},
    {"a UDP socket", dns_socket, LOAD},
    {"a Unix socket", unix_socket, NOBODY},
    {"a socket pair", pair, LOAD},
    {"connect", tcp_connect, LOAD},
    {"bind", tcp_bind, NOBODY},
    {"listen", tcp_listen, NOBODY},
    {"accept", tcp_accept, NOBODY},
    {"fork", make_process, NOBODY},
    {"a thread", make_thread, LOAD | UNPACK},
    {"read what the resolver reads", read_resolver, LOAD},
    {"read another file", read_other, NOBODY},
    {"read /proc", read_proc, NOBODY},
    {"make a file", make_file, TREE},
    {"make a file outside", make_file_outside, NOBODY},
    {"make a link", make_link, TREE},
    {"make a directory", make_dir, TREE},
    {"remove", remove_file, TREE},
    {"list", list, TREE},
    {"fchmod", change_mode, TREE},
    {"chmod", change_mode_by_path, NOBODY},
    {"pwrite", write_at, ALL},
    {"ftruncate", truncate_it, LOAD | UNPACK},
    {"map memory", map, ALL},
    {"map executable memory", map_executable, NOBODY},
    {"make memory executable", make_executable, NOBODY},
    {"kill", send_signal, NOBODY},
    {"become dumpable", become_dumpable, NOBODY},
    {"setrlimit", raise_limit, NOBODY},
    {"a namespace", new_namespace, NOBODY | KILLS},
    {"execve", execute, NOBODY | KILLS},
    {"ptrace", trace, NOBODY | KILLS},
};
#define N_CALLS (sizeof(calls) / sizeof(calls[0]))

static const char *const role_names[] = {"download", "unpack", "unpack tree", "image", "seal"};
#define UNCONFINED (-1)

/* The status of a child of ROLE that makes the call: its errno. 100: it could not be confined. */
static int make_call(int role, int (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct confinement c = {.role = (enum confine_role)role, .dir = -1};
        struct err e = ERR_INIT;

        fetch_drop();
        if (role == CONFINE_UNPACK_TREE)
            c.dir = dir;
        if (role != UNCONFINED && confine(&c, &e) < 0) {
            (void)dprintf(2, "# %s\n", e.text);
            _exit(100);
        }
        _exit(fn());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool is_as_it_should(const struct call *call, int role, int status)
{
    bool may = role == UNCONFINED || (call->may & ROLE((unsigned)role));

    if (!may && (call->may & KILLS))
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    if (!WIFEXITED(status))
        return false;
    return may ? WEXITSTATUS(status) == 0
               : WEXITSTATUS(status) == EPERM || WEXITSTATUS(status) == EACCES;
}

static void check_role(int role)
{
    unsigned wrong = 0;

    for (size_t i = 0; i < N_CALLS; i++) {
        int status = make_call(role, calls[i].fn);

        if (is_as_it_should(&calls[i], role, status))
            continue;
        wrong++;
        print_error("%s: %s: status %#x\n", role < 0 ? "unconfined" : role_names[role],
                    calls[i].name, (unsigned)status);
    }
    assert_int_equal(wrong, 0);
}

static void without_it_all_of_this_works(void **state)
{
    (void)state;
    check_role(UNCONFINED);
}

#define CHECKS(test, role)                                                                         \
    static void test(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        check_role(role);                                                                          \
    }
CHECKS(download, CONFINE_DOWNLOAD)
CHECKS(unpack, CONFINE_UNPACK)
CHECKS(unpack_into_a_directory, CONFINE_UNPACK_TREE)
CHECKS(image, CONFINE_IMAGE)
CHECKS(seal, CONFINE_SEAL)

static void root_is_refused(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    if (geteuid() != 0)
        return; /* there is no root here to refuse */
    assert_int_equal(confine(&(struct confinement){CONFINE_SEAL, -1, NULL}, &e), -EPERM);
    assert_non_null(strstr(e.text, "root never opens an archive"));
}

static int set_up(void **state)
{
    socklen_t len = sizeof(listens);
    char path[300];

    (void)state;
    (void)snprintf(base, sizeof(base), "%s/fetch-confine-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(base))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/d", base);
    if (mkdir(path, 0700) < 0 || chmod(base, 0777) < 0 ||
        (geteuid() == 0 &&
         (chown(path, FETCH_UID, FETCH_UID) < 0 || chown(base, FETCH_UID, FETCH_UID) < 0)))
        return -1;
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file = memfd_create("file", MFD_CLOEXEC);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listens =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return dir < 0 || file < 0 || bind(listener, (struct sockaddr *)&listens, len) < 0 ||
                   listen(listener, 64) < 0 ||
                   getsockname(listener, (struct sockaddr *)&listens, &len) < 0
               ? -1
               : 0;
}

static int tear_down(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, base, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_it_all_of_this_works),
        cmocka_unit_test(download),
        cmocka_unit_test(unpack),
        cmocka_unit_test(unpack_into_a_directory),
        cmocka_unit_test(image),
        cmocka_unit_test(seal),
        cmocka_unit_test(root_is_refused),
    };

    return cmocka_run_group_tests_name("fetch_confine", tests, set_up, tear_down);
}
