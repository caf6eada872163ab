/* rootfs_etc.c - /etc of the root template: plain copies, so that nothing that the host changes,
 * adds or forgets to protect later can be seen by a dyno. */
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define ETC_FILES_MAX   8192u
#define ETC_BYTES_MAX   (48u << 20)
#define ETC_FILE_MAX    (16u << 20)
#define ETC_DEPTH_MAX   8
#define ETC_PROFILE_MAX (1u << 20)
#define ETC_RESOLV_MAX  4096

/* What apps need of a host's /etc. Not on it: whatever may hold a name, an address or a credential
 * of the platform. */
static const char *const wanted[] = {"alternatives",
                                     "bash.bashrc",
                                     "bashrc",
                                     "ca-certificates",
                                     "ca-certificates.conf",
                                     "crypto-policies",
                                     "debian_version",
                                     "fonts",
                                     "gai.conf",
                                     "host.conf",
                                     "inputrc",
                                     "java*",
                                     "ImageMagick*",
                                     "ld.so.*",
                                     "libnl*",
                                     "locale.alias",
                                     "locale.conf",
                                     "localtime",
                                     "lsb-release",
                                     "magic",
                                     "magic.mime",
                                     "mailcap",
                                     "mime.types",
                                     "networks",
                                     "nsswitch.conf",
                                     "os-release",
                                     "perl",
                                     "php",
                                     "pki",
                                     "profile.d",
                                     "protocols",
                                     "python*",
                                     "*-release",
                                     "rpc",
                                     "services",
                                     "shells",
                                     "ssl",
                                     "terminfo",
                                     "timezone",
                                     NULL};

/* Generated, or never to be seen; at the top. */
static const char *const replaced[] = {"passwd*",  "group*",  "shadow*",     "gshadow*", "hosts",
                                       "hostname", "profile", "resolv.conf", "mtab",     "ssh",
                                       "sudoers*", "subuid*", "subgid*",     NULL};
/* Never to be seen, at any depth. */
static const char *const secret[] = {"private", "*.key", "*.keytab", ".*", NULL};

struct copy {
    unsigned files;
    uint64_t bytes;
};

static bool matches(const char *const *patterns, const char *name)
{
    for (; *patterns; patterns++)
        if (fnmatch(*patterns, name, 0) == 0)
            return true;
    return false;
}

static int copy_link(int from, int to, const char *name, struct err *e)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

    if (n < 0)
        return err_set(e, errno, "read the link /etc/%s", name);
    target[n] = '\0';
    return symlinkat(target, to, name) < 0 ? err_set(e, errno, "link /etc/%s", name) : 0;
}

static int copy_file(struct copy *c, int from, int to, const char *name, struct err *e)
{
    scoped_fd in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (in < 0)
        return errno == EACCES || errno == ENOENT ? 0 : err_set(e, errno, "open /etc/%s", name);
    if (fstat(in, &st) < 0)
        return err_set(e, errno, "stat /etc/%s", name);
    if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH) || (uint64_t)st.st_size > ETC_FILE_MAX)
        return 0;
    c->bytes += (uint64_t)st.st_size;
    if (c->bytes > ETC_BYTES_MAX)
        return err_say(e, EFBIG, "the stack's /etc has more than %u bytes to copy", ETC_BYTES_MAX);
    scoped_fd out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0)
        return err_set(e, errno, "create /etc/%s", name);
    for (uint64_t left = (uint64_t)st.st_size; left > 0;) {
        ssize_t n = sendfile(out, in, NULL, left);

        if (n < 0)
            return err_set(e, errno, "copy /etc/%s", name);
        if (n == 0)
            break; /* it became shorter meanwhile */
        left -= (uint64_t)n;
    }
    return fchmod(out, (st.st_mode & S_IXOTH) ? 0755 : 0644) < 0
               ? err_set(e, errno, "set the mode of /etc/%s", name)
               : 0;
}

static int copy_dir(struct copy *c, int from, int to, const char *const *patterns, int depth,
                    struct err *e);

static int copy_entry(struct copy *c, int from, int to, const char *name, int depth, struct err *e)
{
    struct stat st;

    if (++c->files > ETC_FILES_MAX)
        return err_say(e, E2BIG, "the stack's /etc has more than %u files to copy", ETC_FILES_MAX);
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_set(e, errno, "stat /etc/%s", name);
    if (S_ISLNK(st.st_mode))
        return copy_link(from, to, name, e);
    if (S_ISREG(st.st_mode))
        return copy_file(c, from, to, name, e);
    if (!S_ISDIR(st.st_mode) || !(st.st_mode & S_IROTH) || !(st.st_mode & S_IXOTH) ||
        depth == ETC_DEPTH_MAX)
        return 0;
    scoped_fd sub_from = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub_from < 0)
        return errno == EACCES ? 0 : err_set(e, errno, "open /etc/%s", name);
    if (mkdirat(to, name, 0755) < 0)
        return err_set(e, errno, "make /etc/%s", name);
    scoped_fd sub_to = openat(to, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub_to < 0)
        return err_set(e, errno, "open the new /etc/%s", name);
    return copy_dir(c, sub_from, sub_to, NULL, depth + 1, e);
}

/* PATTERNS: only what matches; NULL: all. */
static int copy_dir(struct copy *c, int from, int to, const char *const *patterns, int depth,
                    struct err *e)
{
    int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;

    if (fd < 0)
        return err_set(e, errno, "open the stack's /etc");
    scoped(dir_closep) DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return err_set(e, ENOMEM, "read the stack's /etc");
    }
    for (struct dirent *entry; r == 0 && (entry = readdir(d));) {
        const char *name = entry->d_name;

        if (matches(secret, name) || (depth == 0 && matches(replaced, name)) ||
            (patterns && !matches(patterns, name)))
            continue;
        r = copy_entry(c, from, to, name, depth, e);
    }
    return r;
}

static int put_file(int etc, const char *name, const char *text, struct err *e)
{
    int r = file_write_atomic(etc, name, text, strlen(text), 0644, e);

    return r < 0 ? err_wrap(e, "/etc") : 0;
}

static int put_accounts(int etc, uid_t inner, struct err *e)
{
    char text[512];

    (void)snprintf(text, sizeof(text),
                   "root:x:0:0:root:/root:/usr/sbin/nologin\n"
                   "dyno:x:%u:%u:dyno:/app:/bin/bash\n"
                   "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
                   inner, inner);
    int r = put_file(etc, "passwd", text, e);
    if (r < 0)
        return r;
    (void)snprintf(text, sizeof(text), "root:x:0:\ntty:x:5:\ndyno:x:%u:\nnogroup:x:65534:\n",
                   inner);
    return put_file(etc, "group", text, e);
}

/* The name servers of the machine, whatever the stack says: on many a link into /run, and a dyno
 * has no /run. */
static int put_resolv_conf(int etc, struct err *e)
{
    char text[ETC_RESOLV_MAX] = "";
    scoped_fd fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : fd_read_full(fd, text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0'; /* a machine without name servers is one without them */
    return put_file(etc, "resolv.conf", text, e);
}

/* bash --login and sh -l read /etc/profile, then ~/.profile: so the hook for the app's .profile.d
 * goes to the end of the stack's own. Its PATH is put back because the platform's, or the app's
 * config var, is the contract, and many stacks set their own here. */
static const char profile_head[] = "__dyno_path=$PATH\n";
static const char profile_hook[] = "\n"
                                   "PATH=$__dyno_path\n"
                                   "export PATH\n"
                                   "unset __dyno_path\n"
                                   "for __dyno_script in \"${HOME:-/app}\"/.profile.d/*.sh; do\n"
                                   "    if [ -r \"$__dyno_script\" ]; then\n"
                                   "        . \"$__dyno_script\"\n"
                                   "    fi\n"
                                   "done\n"
                                   "unset __dyno_script\n";

static int put_profile(int etc, int stack_etc, struct err *e)
{
    scoped(str_done) struct str s = {.max = 2 * ETC_PROFILE_MAX};
    struct err ignored = ERR_INIT; /* a stack without a profile has none */
    scoped_free char *own = NULL;
    size_t len;

    str_add(&s, profile_head);
    if (stack_etc >= 0 &&
        file_read(stack_etc, "profile", ETC_PROFILE_MAX, &own, &len, &ignored) == 0)
        str_add_n(&s, own, len);
    str_add(&s, profile_hook);
    return s.failed ? err_set(e, ENOMEM, "/etc/profile")
                    : put_file(etc, "profile", str_text(&s), e);
}

int rootfs_etc(int etc, int stack_etc, bool host, uid_t inner, const char *resolv_conf,
               struct err *e)
{
    struct copy c = {0};
    int r = 0;

    if (stack_etc >= 0)
        r = copy_dir(&c, stack_etc, etc, host ? wanted : NULL, 0, e);
    if (r == 0)
        r = put_accounts(etc, inner, e);
    if (r == 0)
        r = put_file(etc, "hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n", e);
    if (r == 0)
        r = put_file(etc, "hostname", "dyno\n", e);
    if (r == 0)
        r = resolv_conf ? put_file(etc, "resolv.conf", resolv_conf, e) : put_resolv_conf(etc, e);
    return r < 0 ? r : put_profile(etc, stack_etc, e);
}
