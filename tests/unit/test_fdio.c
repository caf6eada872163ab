#include "base/fdio.h"

#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char path[64];
    int dirfd;
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->path, sizeof(p->path), "/tmp/test_fdio.XXXXXX");
    if (!mkdtemp(p->path))
        return -1;
    p->dirfd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = p;
    return p->dirfd < 0 ? -1 : 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    struct err e = ERR_INIT;
    int r = tree_remove(AT_FDCWD, p->path, &e);

    close(p->dirfd);
    free(p);
    return r;
}

/* --- Whole reads and writes --- */

static void on_alarm(int sig)
{
    (void)sig;
}

/* A signal every millisecond, a reader that takes its time: nothing is lost. */
static void signals_and_short_transfers(void **state)
{
    enum { LEN = 1 << 20 };
    struct sigaction sa = {.sa_handler = on_alarm}, old; /* no SA_RESTART */
    struct itimerval every = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    char *data = malloc(LEN), *got = malloc(LEN + 10);
    int fds[2], status;

    (void)state;
    for (size_t i = 0; i < LEN; i++)
        data[i] = (char)(i * 31 / 7);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        sigaction(SIGALRM, &sa, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
        _exit(fd_write_full(fds[1], data, LEN) == 0 ? 0 : 1);
    }
    close(fds[1]);
    sigaction(SIGALRM, &sa, &old);
    setitimer(ITIMER_REAL, &every, NULL);
    usleep(20000); /* the pipe fills up, the writer waits */
    ssize_t n = fd_read_full(fds[0], got, LEN + 10);
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_int_equal(n, LEN); /* the end of the file came before the 10 more */
    assert_memory_equal(got, data, LEN);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fds[0]);
    free(data);
    free(got);
    assert_int_equal(fd_read_full(-1, &status, 1), -EBADF);
    assert_int_equal(fd_write_full(-1, &status, 1), -EBADF);
}

/* --- Files --- */

static void reading_a_file(void **state)
{
    const struct place *p = *state;
    struct err e = ERR_INIT;
    char *text = NULL;
    size_t len = 77;

    assert_int_equal(file_write_atomic(p->dirfd, "f", "a\0b", 3, 0600, &e), 0);
    assert_int_equal(file_read(p->dirfd, "f", 3, &text, &len, &e), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "a\0b", 4); /* and a NUL behind */
    free(text);
    text = NULL;
    len = 77;
    assert_int_equal(file_read(p->dirfd, "f", 2, &text, &len, &e), -EFBIG);
    assert_int_equal(file_read(p->dirfd, "none", 2, &text, &len, &e), -ENOENT);
    assert_int_equal(file_read(p->dirfd, ".", 2, &text, &len, &e), -EINVAL);
    assert_int_equal(symlinkat("f", p->dirfd, "link"), 0);
    assert_int_equal(file_read(p->dirfd, "link", 100, &text, &len, &e), -ELOOP);
    assert_int_equal(mkfifoat(p->dirfd, "fifo", 0600), 0);
    alarm(60); /* it must not wait for a writer */
    assert_int_equal(file_read(p->dirfd, "fifo", 100, &text, &len, &e), -EINVAL);
    alarm(0);
    assert_null(text);
    assert_int_equal(len, 77);
    assert_int_equal(file_write_atomic(p->dirfd, "empty", "", 0, 0600, &e), 0);
    assert_int_equal(file_read(p->dirfd, "empty", 0, &text, &len, &e), 0);
    assert_int_equal(len, 0);
    assert_string_equal(text, "");
    free(text);
}

/* procfs says size 0 for what has a megabyte. */
static void reading_what_has_no_size(void **state)
{
    struct err e = ERR_INIT;
    char *text, big[100000];
    size_t len;

    (void)state;
    assert_int_equal(file_read(AT_FDCWD, "/proc/self/stat", 1 << 16, &text, &len, &e), 0);
    assert_true(len > 50);
    assert_int_equal(strlen(text), len);
    free(text);
    /* The environment of a child, larger than the first buffer. */
    memset(big, 'v', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    int go[2], fds[2];
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    assert_int_equal(pipe(fds), 0);
    char path[64], name[] = "BIG=", *env[2] = {NULL, NULL};
    env[0] = malloc(sizeof(big) + sizeof(name));
    (void)snprintf(env[0], sizeof(big) + sizeof(name), "%s%s", name, big);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[0], 0);
        close(fds[1]);
        char *argv[] = {(char[]){"cat"}, NULL};
        execve("/bin/cat", argv, env);
        _exit(127);
    }
    close(go[1]);
    (void)read(go[0], path, 1); /* the child's end closes when it executes */
    (void)snprintf(path, sizeof(path), "/proc/%d/environ", pid);
    assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &text, &len, &e), 0);
    assert_int_equal(len, sizeof(big) + 4);
    free(text);
    assert_int_equal(file_read(AT_FDCWD, path, 50000, &text, &len, &e), -EFBIG);
    close(fds[0]);
    close(fds[1]);
    close(go[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    free(env[0]);
}

static void writing_a_file(void **state)
{
    const struct place *p = *state;
    struct err e = ERR_INIT;
    char *text, name[300];
    struct stat st;
    size_t len;

    mode_t old = umask(0777);
    assert_int_equal(file_write_atomic(p->dirfd, "f", "one", 3, 0640, &e), 0);
    umask(old);
    assert_int_equal(fstatat(p->dirfd, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    ino_t first = st.st_ino;
    /* A reader of the old file keeps it; what an earlier death left is no obstacle. */
    scoped_fd reader = openat(p->dirfd, "f", O_RDONLY | O_CLOEXEC);
    int left = openat(p->dirfd, "f.new", O_CREAT | O_WRONLY | O_CLOEXEC, 0000);
    close(left);
    assert_int_equal(file_write_atomic(p->dirfd, "f", "two", 3, 0600, &e), 0);
    assert_int_equal(fstatat(p->dirfd, "f", &st, 0), 0);
    assert_int_not_equal(st.st_ino, first);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(fd_read_full(reader, name, 10), 3);
    assert_memory_equal(name, "one", 3);
    /* A link in the place is replaced, not followed. */
    assert_int_equal(symlinkat("f", p->dirfd, "link"), 0);
    assert_int_equal(file_write_atomic(p->dirfd, "link", "three", 5, 0600, &e), 0);
    assert_int_equal(file_read(p->dirfd, "f", 10, &text, &len, &e), 0);
    assert_string_equal(text, "two");
    free(text);
    assert_int_equal(symlinkat("f", p->dirfd, "g.new"), 0);
    assert_int_equal(file_write_atomic(p->dirfd, "g", "four", 4, 0600, &e), 0);
    assert_int_equal(file_read(p->dirfd, "f", 10, &text, &len, &e), 0);
    assert_string_equal(text, "two");
    free(text);
    /* Failures leave nothing behind. */
    assert_int_equal(mkdirat(p->dirfd, "d", 0700), 0);
    assert_int_equal(file_write_atomic(p->dirfd, "d", "x", 1, 0600, &e), -EISDIR);
    assert_int_equal(faccessat(p->dirfd, "d.new", F_OK, 0), -1);
    memset(name, 'n', 299);
    name[299] = '\0';
    assert_int_equal(file_write_atomic(p->dirfd, name, "x", 1, 0600, &e), -ENAMETOOLONG);
}

static void a_full_disk_keeps_the_old_file(void **state)
{
    const struct place *p = *state;
    struct err e = ERR_INIT;
    char *text, big[8192] = {0};
    size_t len;
    int status;

    assert_int_equal(file_write_atomic(p->dirfd, "f", "old", 3, 0600, &e), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {100, 100};

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(file_write_atomic(p->dirfd, "f", big, sizeof(big), 0600, &e) == -EFBIG ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(faccessat(p->dirfd, "f.new", F_OK, 0), -1);
    assert_int_equal(file_read(p->dirfd, "f", 10, &text, &len, &e), 0);
    assert_string_equal(text, "old");
    free(text);
}

static void making_directories(void **state)
{
    const struct place *p = *state;
    struct err e = ERR_INIT;
    struct stat st;
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/a/b//c/", p->path);
    assert_int_equal(dir_make_all(path, 0700, &e), 0);
    assert_int_equal(fstatat(p->dirfd, "a/b/c", &st, 0), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0700);
    /* What is there stays as it is. */
    assert_int_equal(fchmodat(p->dirfd, "a/b", 0711, 0), 0);
    assert_int_equal(dir_make_all(path, 0700, &e), 0);
    assert_int_equal(fstatat(p->dirfd, "a/b", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_int_equal(dir_make_all("/", 0700, &e), 0);
    assert_int_equal(dir_make_all("//", 0700, &e), 0);
    assert_int_equal(dir_make_all("", 0700, &e), -ENOENT);
    /* Files in the way, first and last; a link to a directory is fine, one to nowhere is not. */
    assert_int_equal(file_write_atomic(p->dirfd, "file", "", 0, 0600, &e), 0);
    (void)snprintf(path, sizeof(path), "%s/file/x", p->path);
    assert_int_equal(dir_make_all(path, 0700, &e), -ENOTDIR);
    (void)snprintf(path, sizeof(path), "%s/file", p->path);
    assert_int_equal(dir_make_all(path, 0700, &e), -ENOTDIR);
    assert_int_equal(symlinkat("a", p->dirfd, "good"), 0);
    (void)snprintf(path, sizeof(path), "%s/good/n", p->path);
    assert_int_equal(dir_make_all(path, 0700, &e), 0);
    (void)snprintf(path, sizeof(path), "%s/good", p->path);
    assert_int_equal(dir_make_all(path, 0700, &e), 0);
    assert_int_equal(symlinkat("nowhere", p->dirfd, "bad"), 0);
    (void)snprintf(path, sizeof(path), "%s/bad", p->path);
    assert_int_equal(dir_make_all(path, 0700, &e), -ENOENT);
}

/* --- Descriptors --- */

static void sealed_memory(void **state)
{
    struct err e = ERR_INIT;
    char buf[16];
    int fd = -1;

    (void)state;
    assert_int_equal(memfd_with("test", "hello", 5, &fd, &e), 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(read(fd, buf, sizeof(buf)), 5); /* positioned at 0 */
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 100), -1);
    assert_true(mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1); /* sealed for good */
    close(fd);
}

static void blocking_or_not(void **state)
{
    int fds[2];
    char c;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fd_set_nonblock(fds[0], true), 0);
    assert_int_equal(read(fds[0], &c, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(fd_set_nonblock(fds[0], false), 0);
    assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
}

static void closing_keeps_errno(void **state)
{
    int fd = dup(0);

    (void)state;
    errno = EXDEV;
    fd_closep(&fd);
    assert_int_equal(fd, -1);
    fd_closep(&fd);
    assert_int_equal(errno, EXDEV);
}

/* --- Unix sockets --- */

static void talk_over(const char *path)
{
    struct err e = ERR_INIT;
    scoped_fd server = -1, client = -1, peer = -1;
    struct stat st;
    char c;

    mode_t old = umask(0);
    assert_int_equal(unix_listen(path, SOCK_STREAM, 0620, &server, &e), 0);
    umask(old);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0620);
    assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
    assert_int_equal(unix_connect(path, SOCK_STREAM, &client, &e), 0);
    assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
    peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer >= 0);
    assert_int_equal(write(client, "x", 1), 1);
    assert_int_equal(read(peer, &c, 1), 1);
}

static void sockets_by_any_path(void **state)
{
    const struct place *p = *state;
    scoped(str_done) struct str path = {0};
    struct err e = ERR_INIT;
    char sub[101];
    int fd = -1;

    str_add(&path, p->path);
    memset(sub, 'd', 100);
    sub[100] = '\0';
    for (int i = 0; i < 9; i++) { /* from under 108 bytes to nearly 1,000 */
        str_add(&path, "/s");
        talk_over(path.data);
        talk_over(path.data); /* over a dead one's */
        assert_int_equal(unix_connect(path.data, SOCK_STREAM, &fd, &e), -ECONNREFUSED);
        assert_int_equal(unlink(path.data), 0);
        assert_int_equal(unix_connect(path.data, SOCK_STREAM, &fd, &e), -ENOENT);
        path.data[path.len -= 2] = '\0';
        str_addf(&path, "/%s", sub);
        assert_int_equal(mkdir(path.data, 0700), 0);
    }
    str_add(&path, "/none/s");
    assert_int_equal(unix_listen(path.data, SOCK_STREAM, 0600, &fd, &e), -ENOENT);
    assert_int_equal(fd, -1);
    /* The last part alone is too long. */
    str_done(&path);
    str_addf(&path, "%s/%s%s", p->path, sub, sub);
    assert_int_equal(unix_listen(path.data, SOCK_STREAM, 0600, &fd, &e), -ENAMETOOLONG);
    assert_int_equal(unix_connect(path.data, SOCK_STREAM, &fd, &e), -ENAMETOOLONG);
}

static void descriptors_travel(void **state)
{
    int sv[2], fds[FD_PASS_MAX + 1], got[FD_PASS_MAX];
    char buf[8];
    size_t n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    for (int i = 0; i <= FD_PASS_MAX; i++)
        fds[i] = 0;
    for (size_t count = 0; count <= FD_PASS_MAX; count += 4) {
        assert_int_equal(fd_send(sv[0], "abc", 3, fds, count), 3);
        assert_int_equal(fd_recv(sv[1], buf, sizeof(buf), got, &n), 3);
        assert_int_equal(n, count);
        for (size_t i = 0; i < n; i++) {
            assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
            close(got[i]);
        }
    }
    assert_int_equal(fd_send(sv[0], "abc", 3, fds, FD_PASS_MAX + 1), -E2BIG);
    close(sv[0]);
    assert_int_equal(fd_recv(sv[1], buf, sizeof(buf), got, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(fd_send(sv[1], "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE */
    close(sv[1]);
    assert_int_equal(fd_recv(sv[1], buf, sizeof(buf), got, &n), -EBADF);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_and_short_transfers),
        TEST(reading_a_file),
        cmocka_unit_test(reading_what_has_no_size),
        TEST(writing_a_file),
        TEST(a_full_disk_keeps_the_old_file),
        TEST(making_directories),
        cmocka_unit_test(sealed_memory),
        cmocka_unit_test(blocking_or_not),
        cmocka_unit_test(closing_keeps_errno),
        TEST(sockets_by_any_path),
        TEST(descriptors_travel),
    };

    return cmocka_run_group_tests_name("fdio", tests, NULL, NULL);
}
