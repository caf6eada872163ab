#include "cli/private.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME_PREFIX "dyno-local."
#define LOG_NAME    "dynod.log"
#define LOG_MAX     (16u << 20)
#define LOG_TAIL    2000 /* bytes of it that are shown */
#define TRY_EVERY   5    /* ms between tries to connect while it starts */

struct private_agent {
    char dir[PATH_MAX];
    char socket[PATH_MAX + 16];
    char program[PATH_MAX];
    int lock; /* the directory, locked for as long as we live: see sweep() */
    int hold; /* our end of the agent's stdin */
    pid_t pid;
    int pidfd; /* -1: no agent */
};

const char *private_socket(const struct private_agent *p)
{
    return p->socket;
}

int private_pidfd(const struct private_agent *p)
{
    return p->pidfd;
}

static void private_free(struct private_agent *p)
{
    fd_closep(&p->hold);
    fd_closep(&p->pidfd);
    fd_closep(&p->lock);
    free(p);
}

/* --- The directory --- */

/* Where ours, and those of others that were killed, lie. */
static const char *parent_dir(void)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    struct stat st;

    /* After su(1) it may still be another user's. */
    if (xdg && *xdg == '/' && stat(xdg, &st) == 0 && st.st_uid == geteuid() &&
        access(xdg, W_OK | X_OK) == 0)
        return xdg;
    return "/tmp";
}

/* Removes NAME, of a `dyno` that was killed: nobody holds its lock, and no agent answers. */
static void sweep_one(int parent, const char *parent_path, const char *name)
{
    struct err ignored = ERR_INIT;
    char socket[PATH_MAX];
    struct stat st;
    scoped_fd sock = -1;
    scoped_fd fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return;
    (void)snprintf(socket, sizeof(socket), "%s/%s/run/api.sock", parent_path, name);
    if (unix_connect(socket, SOCK_STREAM, &sock, &ignored) == 0)
        return;                                /* its agent still stops its dynos */
    (void)tree_remove(parent, name, &ignored); /* the next one tries again */
}

static void sweep(const char *parent_path)
{
    scoped(dir_closep) DIR *dir = opendir(parent_path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (str_starts(entry->d_name, NAME_PREFIX))
            sweep_one(dirfd(dir), parent_path, entry->d_name);
}

static int make_dir(struct private_agent *p, struct err *e)
{
    const char *parent = parent_dir();

    sweep(parent);
    (void)snprintf(p->dir, sizeof(p->dir), "%s/" NAME_PREFIX "XXXXXX", parent);
    if (!mkdtemp(p->dir)) { /* mode 0700 */
        int why = errno;
        p->dir[0] = '\0';
        return err_set(e, why, "make a directory in %s", parent);
    }
    p->lock = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->lock < 0 || flock(p->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, errno, "lock %s", p->dir);
    (void)snprintf(p->socket, sizeof(p->socket), "%s/run/api.sock", p->dir);
    return 0;
}

static int remove_dir(struct private_agent *p, struct err *e)
{
    if (!p->dir[0])
        return 0;
    int r = tree_remove(AT_FDCWD, p->dir, e);
    return r < 0 ? err_wrap(e, "remove %s", p->dir) : 0;
}

/* --- The program --- */

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* dynod beside this program, then in PATH, then where it is installed: an ordinary user's PATH has
 * no sbin. */
static int find_program(char out[PATH_MAX], struct err *e)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        if (snprintf(out, PATH_MAX, "%s/dynod", self) < PATH_MAX && is_program(out))
            return 0;
    }
    const char *path = getenv("PATH");
    for (const char *p = path ? path : ""; *p; p += *p == ':') {
        size_t len = strcspn(p, ":");

        if (len > 0 && *p == '/' && snprintf(out, PATH_MAX, "%.*s/dynod", (int)len, p) < PATH_MAX &&
            is_program(out))
            return 0;
        p += len;
    }
    (void)snprintf(out, PATH_MAX, "%s/sbin/dynod", DYNOD_PREFIX);
    if (is_program(out))
        return 0;
    (void)err_say(e, ENOENT, "dynod is not installed: it is neither beside dyno nor in PATH");
    return err_blame(e, FAULT_OPERATOR);
}

/* In the child: only async-signal-safe calls. */
static void exec_agent(const struct private_agent *p, int in, int log)
{
    sigset_t none;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)setsid(); /* the terminal's Ctrl-C is for us: we stop it in order */
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (null >= 0 && dup2(in, 0) == 0 && dup2(null, 1) == 1 && dup2(log, 2) == 2)
        (void)execl(p->program, "dynod", "--local", p->dir, (char *)NULL);
    _exit(127);
}

static int spawn(struct private_agent *p, struct err *e)
{
    scoped_fd in = -1, log = -1;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_set(e, errno, "make a pipe");
    in = fds[0];
    fd_closep(&p->hold);
    p->hold = fds[1];
    log = openat(p->lock, LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0)
        return err_set(e, errno, "open %s/" LOG_NAME, p->dir);
    pid_t pid = fork();
    if (pid < 0)
        return err_set(e, errno, "start dynod");
    if (pid == 0)
        exec_agent(p, in, log);
    p->pid = pid;
    fd_closep(&p->pidfd);
    p->pidfd = pidfd_open(pid, 0);
    if (p->pidfd < 0) {
        int why = errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return err_set(e, why, "watch dynod");
    }
    return 0;
}

/* Takes the journal's "<N>" off the lines' beginnings (sd-daemon(3)). */
static void strip_levels(char *text)
{
    char *to = text;
    bool start = true;

    for (const char *from = text; *from; from++) {
        if (start && from[0] == '<' && from[1] >= '0' && from[1] <= '7' && from[2] == '>')
            from += 3;
        if (!*from)
            break;
        start = *from == '\n';
        *to++ = *from;
    }
    *to = '\0';
}

char *private_log(const struct private_agent *p)
{
    struct err ignored = ERR_INIT;
    char *text = NULL;
    size_t len;

    if (file_read(p->lock, LOG_NAME, LOG_MAX, &text, &len, &ignored) < 0)
        return strdup("");
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    if (len > LOG_TAIL) {
        memmove(text, text + len - LOG_TAIL, LOG_TAIL + 1);
        char *line = strchr(text, '\n');
        if (line) /* whole lines only */
            memmove(text, line + 1, strlen(line + 1) + 1);
    }
    strip_levels(text);
    return text;
}

/* The last line of the log is what it died of. */
static int say_died(const struct private_agent *p, struct err *e)
{
    scoped_free char *log = private_log(p);
    const char *last = log ? strrchr(log, '\n') : NULL;

    last = last ? last + 1 : log;
    (void)err_say(e, ECHILD, "the private agent did not start%s%s", last && *last ? ": " : "",
                  last ? last : "");
    return -ECHILD;
}

static bool answers(const struct private_agent *p)
{
    struct err ignored = ERR_INIT;
    scoped_fd fd = -1;

    return unix_connect(p->socket, SOCK_STREAM, &fd, &ignored) == 0;
}

static int await_start(const struct private_agent *p, int cancel_fd, struct err *e)
{
    uint64_t deadline = clock_boot() + PRIVATE_START_MS * USEC_PER_MSEC;
    struct pollfd polls[] = {{.fd = p->pidfd, .events = POLLIN},
                             {.fd = cancel_fd, .events = POLLIN}};

    while (!answers(p)) {
        int n = poll(polls, 2, TRY_EVERY);

        if (n > 0 && polls[0].revents)
            return say_died(p, e);
        if (n > 0 && polls[1].revents)
            return err_say(e, EINTR, "interrupted");
        if (clock_boot() >= deadline)
            return err_say(e, ETIMEDOUT, "the private agent did not answer within %d seconds",
                           PRIVATE_START_MS / 1000);
    }
    return 0;
}

int private_start(int cancel_fd, struct private_agent **ret, struct err *e)
{
    struct private_agent *p = calloc(1, sizeof(*p));
    struct err ignored = ERR_INIT;

    if (!p)
        return err_set(e, ENOMEM, "start a private agent");
    p->lock = p->hold = p->pidfd = -1;
    int r = find_program(p->program, e);
    if (r == 0)
        r = make_dir(p, e);
    if (r == 0)
        r = spawn(p, e);
    if (r == 0)
        r = await_start(p, cancel_fd, e);
    if (r < 0) {
        (void)private_stop(&p, &ignored); /* the first error is the one to tell */
        return r;
    }
    *ret = p;
    return 0;
}

/* Closes its stdin and waits for its end. 0, or the errno. *ret_status: its wait status. */
static int await_end(struct private_agent *p, int *ret_status)
{
    struct pollfd end = {.fd = p->pidfd, .events = POLLIN};
    uint64_t deadline = clock_boot() + PRIVATE_STOP_MS * USEC_PER_MSEC;
    bool late = false;

    fd_closep(&p->hold);
    while (poll(&end, 1, 1000) <= 0)
        if (clock_boot() >= deadline) {
            late = true;
            (void)kill(p->pid, SIGKILL);
            break;
        }
    while (waitpid(p->pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    fd_closep(&p->pidfd);
    return late ? -ETIMEDOUT : 0;
}

int private_stop(struct private_agent **pp, struct err *e)
{
    struct private_agent *p = TAKE_PTR(*pp);
    int status = 0, r = 0;

    if (!p)
        return 0;
    if (p->pidfd >= 0)
        r = await_end(p, &status);
    /* Killed, it may have left dynos: one more with its directory finds them, and its end of file.
     */
    if (p->pidfd < 0 && p->dir[0] && (r < 0 || WIFSIGNALED(status))) {
        struct err ignored = ERR_INIT;

        r = spawn(p, &ignored) < 0 ? -EIO : await_end(p, &status);
    }
    if (r < 0 || WIFSIGNALED(status))
        r = err_say(e, EIO, "the private agent could not be stopped in order; its files are in %s",
                    p->dir);
    else
        r = remove_dir(p, e);
    private_free(p);
    return r;
}
