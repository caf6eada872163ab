#include "isolate/landlock.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ABI_MIN    2
#define ABI_SCOPES 6

/* Newer than some of the headers that we build with. */
#define FS_TRUNCATE         (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV        (UINT64_C(1) << 15) /* ABI 5 */
#define SCOPE_ABSTRACT_UNIX (UINT64_C(1) << 0)
#define SCOPE_SIGNAL        (UINT64_C(1) << 1)

#define FS_ABI2  ((LANDLOCK_ACCESS_FS_REFER << 1) - 1) /* all bits up to REFER */
#define FS_READ  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_RUN   LANDLOCK_ACCESS_FS_EXECUTE
#define FS_WRITE (LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)
/* Everything that changes a directory, but devices: those are nobody's to make. */
#define FS_CHANGE                                                                                  \
    (FS_WRITE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                   \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |    \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)

/* A rule adds to those above it in the tree. TCP is left alone: what a dyno may reach is the
 * network's matter, and ports are the app's. */
static const struct {
    const char *path;
    uint64_t access;
} rules[] = {
    {"/", FS_READ | FS_RUN},
    {"/app", FS_CHANGE},
    {"/tmp", FS_CHANGE},
    /* Terminals are told their size, and more, by ioctl(2). */
    {"/dev", FS_WRITE | FS_IOCTL_DEV},
    {"/dev/shm", FS_CHANGE},
    /* mq_open(3) comes by a mount of the kernel's own, which has nothing above it. */
    {"/dev/mqueue", FS_READ | FS_CHANGE},
    /* A process about itself: its name, its OOM score. */
    {"/proc", FS_WRITE},
};

struct ruleset { /* struct landlock_ruleset_attr; older kernels take a longer one with zeros */
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    return abi < ABI_MIN ? 0 : (int)abi;
}

static uint64_t known_to(int abi)
{
    return FS_ABI2 | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
}

static int allow(int ruleset, int fd, uint64_t access, const char *what, struct err *e)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return err_set(e, errno, "add the rule for %s", what);
    return 0;
}

int landlock_rules(int abi, int init_fd, int *ret_fd, struct err *e)
{
    const struct ruleset attr = {
        .fs = known_to(abi), .scoped = abi >= ABI_SCOPES ? SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL : 0};
    scoped_fd ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    int r;

    if (ruleset < 0)
        return err_set(e, errno, "make the ruleset");
    r = allow(ruleset, init_fd, FS_RUN | LANDLOCK_ACCESS_FS_READ_FILE, "dyno-init", e);
    for (size_t i = 0; r == 0 && i < sizeof(rules) / sizeof(rules[0]); i++) {
        scoped_fd fd = open(rules[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        r = fd < 0 ? err_set(e, errno, "open %s", rules[i].path)
                   : allow(ruleset, fd, rules[i].access & attr.fs, rules[i].path, e);
    }
    if (r == 0)
        *ret_fd = TAKE_FD(ruleset);
    return r;
}

int landlock_enter(int abi, int init_fd, struct err *e)
{
    scoped_fd rules_fd = -1;
    int r = landlock_rules(abi, init_fd, &rules_fd, e);

    if (r == 0 && syscall(SYS_landlock_restrict_self, rules_fd, 0) < 0)
        r = err_set(e, errno, "enter it");
    return r;
}

const char *landlock_text(int abi)
{
    if (abi >= ABI_SCOPES)
        return "files, mounts, tracing, signals, abstract sockets";
    return abi ? "files, mounts, tracing; with network = host the host's abstract Unix sockets can "
                 "be connected to: Linux 6.12 or later forbids that"
               : "no second wall around files and mounts, and with network = host the host's "
                 "abstract Unix sockets can be connected to: boot with lsm=landlock,…";
}
