/* hoard.c - takes more of one thing than is good, as a dyno would: hoard KIND MB|COUNT
 *
 * anon, shm, memfd, sockets: so many MB, which then are held. suicide: holds them, then SIGKILLs
 * itself. tcp: so many connections to itself, with as much in each as it takes. fds, ptys, watches:
 * so many, or as many as there are. spin: a processor. Says "held N".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MB (1u << 20)

static char block[MB];

static long touch(long mb, int flags)
{
    for (long n = 0; n < mb; n++) {
        char *p = mmap(NULL, MB, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            return n;
        memset(p, 1, MB);
    }
    return mb;
}

static long fill_memfd(long mb)
{
    int fd = memfd_create("hoard", 0);

    for (long n = 0; n < mb; n++)
        if (write(fd, block, MB) != MB)
            return n;
    return mb;
}

/* What nobody reads is the kernel's memory, and in no process's size. */
static long fill_sockets(long mb)
{
    long bytes = 0, n;
    int pair[2];

    while (bytes < mb * (long)MB) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
            break;
        while ((n = write(pair[0], block, 65536)) > 0)
            bytes += n;
    }
    return bytes / MB;
}

/* Connections that nobody reads from: each has buffers, of which the kernel counts only the sum. */
static long fill_tcp(long count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    long n = 0;

    if (listener < 0 || bind(listener, (struct sockaddr *)&at, len) < 0 ||
        listen(listener, 9) < 0 || getsockname(listener, (struct sockaddr *)&at, &len) < 0)
        return -1;
    for (; n < count; n++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

        if (fd < 0 || (connect(fd, (struct sockaddr *)&at, len) < 0 && errno != EINPROGRESS) ||
            accept(listener, NULL, NULL) < 0)
            break;
        while (write(fd, block, 65536) > 0)
            ;
    }
    return n;
}

static long open_many(long count, const char *kind)
{
    int watcher = !strcmp(kind, "watches") ? inotify_init() : -1;
    char name[64];
    long n = 0;

    for (; n < count; n++) {
        int fd = 0;

        if (!strcmp(kind, "fds"))
            fd = open("/dev/null", O_RDONLY);
        else if (!strcmp(kind, "ptys"))
            fd = posix_openpt(O_RDWR | O_NOCTTY);
        else {
            (void)snprintf(name, sizeof(name), "/tmp/w%ld", n);
            fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
            if (fd < 0)
                break;
            close(fd);
            fd = inotify_add_watch(watcher, name, IN_ALL_EVENTS);
        }
        if (fd < 0)
            break;
    }
    return n;
}

int main(int argc, char **argv)
{
    const char *kind = argc > 2 ? argv[1] : "";
    long much = argc > 2 ? atol(argv[2]) : 0, held = 0;

    if (!strcmp(kind, "anon") || !strcmp(kind, "suicide"))
        held = touch(much, MAP_PRIVATE);
    else if (!strcmp(kind, "shm"))
        held = touch(much, MAP_SHARED);
    else if (!strcmp(kind, "memfd"))
        held = fill_memfd(much);
    else if (!strcmp(kind, "sockets"))
        held = fill_sockets(much);
    else if (!strcmp(kind, "tcp"))
        held = fill_tcp(much);
    else if (!strcmp(kind, "spin"))
        for (;;)
            ;
    else
        held = open_many(much, kind);
    printf("held %ld %s\n", held, errno ? strerror(errno) : "");
    fflush(stdout);
    if (!strcmp(kind, "suicide"))
        kill(getpid(), SIGKILL);
    for (;;)
        pause();
}
