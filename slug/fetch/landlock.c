/* landlock.c - which files a role may touch. landlock(7); there is no wrapper in the libc. */
#include "slug/fetch/confine.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Before ABI 2 no hard link or rename between directories is possible under landlock. */
#define ABI_MIN 2

/* Newer than some of the headers that we build with. */
#define FS_TRUNCATE         (1ULL << 14) /* ABI 3 */
#define FS_IOCTL_DEV        (1ULL << 15) /* ABI 5 */
#define NET_BIND_TCP        (1ULL << 0)  /* ABI 4 */
#define NET_CONNECT_TCP     (1ULL << 1)  /* ABI 4 */
#define SCOPE_ABSTRACT_UNIX (1ULL << 0)  /* ABI 6 */
#define SCOPE_SIGNAL        (1ULL << 1)  /* ABI 6 */

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ABI2 ((LANDLOCK_ACCESS_FS_REFER << 1) - 1) /* all bits up to REFER */
#define FS_FILE (LANDLOCK_ACCESS_FS_READ_FILE)        /* what a rule for a file may hold */

struct ruleset {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

/* What TLS and DNS read. Missing ones are skipped; links are followed to where they lead now. */
static const char *const readable[] = {
    "/etc/ssl",
    "/etc/pki",
    "/etc/crypto-policies",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/usr/lib/ssl",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/dev/urandom",
    "/dev/null",
};

static uint64_t handled_fs(int abi)
{
    uint64_t fs = FS_ABI2;

    if (abi >= 3)
        fs |= FS_TRUNCATE;
    if (abi >= 5)
        fs |= FS_IOCTL_DEV;
    return fs;
}

static int allow(int ruleset, int fd, uint64_t access, struct err *e)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return err_set(e, errno, "add a landlock rule");
    return 0;
}

/* Lets PATH be read, if it is there. */
static int allow_read(int ruleset, const char *path, struct err *e)
{
    scoped_fd fd = open(path, O_PATH | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return 0;
    return allow(ruleset, fd, S_ISDIR(st.st_mode) ? FS_READ : FS_FILE, e);
}

static int allow_all(int ruleset, const struct confinement *c, uint64_t fs, struct err *e)
{
    bool network = c->role == CONFINE_DOWNLOAD;
    int r = 0;

    if (c->dir >= 0) /* nothing in it is executed, whatever the archive says */
        r = allow(ruleset, c->dir, fs & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE, e);
    for (size_t i = 0; r == 0 && network && i < sizeof(readable) / sizeof(readable[0]); i++)
        r = allow_read(ruleset, readable[i], e);
    if (r == 0 && network && c->ca_file)
        r = allow_read(ruleset, c->ca_file, e);
    return r;
}

int confine_landlock(const struct confinement *c, struct err *e)
{
    bool network = c->role == CONFINE_DOWNLOAD;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset attr = {.fs = handled_fs((int)abi)};
    int r = 0;

    if (abi < ABI_MIN)
        return 0;
    if (abi >= 4)
        attr.net = network ? NET_BIND_TCP : NET_BIND_TCP | NET_CONNECT_TCP;
    if (abi >= 6)
        attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
    /* Older kernels take a longer struct when what they do not know is 0. */
    scoped_fd ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (ruleset < 0)
        return err_set(e, errno, "make a landlock ruleset");
    r = allow_all(ruleset, c, attr.fs, e);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = err_set(e, errno, "enter landlock");
    return r < 0 ? r : 1;
}
