/* scratch_image.c - one ext4 for each scratch. mkfs.ext4 writes one for each quota, once, in a
 * process that owns nothing, into memory; a scratch gets a copy of those few blocks that are not
 * zero, in a sparse file without a name. Deleted bytes go back to the disk (discard). It has no
 * journal, and no barriers: it outlives nothing. */
#include "isolate/scratch_impl.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/kernel.h"
#include "isolate/loopdev.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FS_BLOCK      4096u
#define INODE_SIZE    256u
#define GROUP_BYTES   (UINT64_C(128) << 20)
#define RESERVED_MAX  (UINT64_C(16) << 20)
#define OWN_INODES    32u /* ext4's eleven, our directories, the overlay's */
#define SLACK         (UINT64_C(256) << 10)
#define MKFS_PATIENCE (30 * USEC_PER_SEC) /* for all of them */
#define DATA_MAX      (64u << 20)         /* bytes of one template that are not zero */
#define PART_MAX      (64u << 10)
#define FEATURES                                                                                   \
    "none,filetype,extent,dir_index,ext_attr,large_file,huge_file,dir_nlink,extra_isize,flex_bg,"  \
    "sparse_super2"

/* --- templates --- */

/* So much larger that the quota can be written: inode tables, bitmaps and descriptors, and what
 * ext4 keeps for late allocations (a fiftieth, at most 4096 blocks). */
static uint64_t image_size(const struct scratch_quota *q)
{
    uint64_t inodes = q->inodes ? q->inodes : q->bytes / 16384;
    uint64_t size = q->bytes + q->bytes / 45 + inodes * INODE_SIZE + SLACK;

    if (q->bytes / 45 > RESERVED_MAX)
        size = q->bytes + RESERVED_MAX + inodes * INODE_SIZE + SLACK;
    size += (size / GROUP_BYTES + 1) * 24 * FS_BLOCK; /* per group, with rounding of its inodes */
    return (size + FS_BLOCK - 1) / FS_BLOCK * FS_BLOCK;
}

/* In the child. FILE becomes fd 3, what mkfs says goes to OUT. */
_Noreturn static void run_mkfs(int file, int out, uid_t helper, const struct scratch_quota *q)
{
    static const struct rlimit no_core = {0, 0};
    static const char *const env[] = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL=C",
                                      "MKE2FS_CONFIG=/dev/null", NULL};
    char inodes[32];
    const char *argv[] = {"mkfs.ext4",
                          "-q",
                          "-F",
                          "-b",
                          "4096",
                          "-I",
                          "256",
                          "-m",
                          "0",
                          "-O",
                          FEATURES,
                          "-E",
                          "discard,num_backup_sb=0,root_owner=0:0",
                          "/proc/self/fd/3",
                          NULL,
                          NULL,
                          NULL};

    if (q->inodes) { /* getopt(3) takes options after the file, too */
        (void)snprintf(inodes, sizeof(inodes), "%" PRIu64, q->inodes + OWN_INODES);
        argv[14] = "-N";
        argv[15] = inodes;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    if (setgroups(0, NULL) < 0 || setresgid(helper, helper, helper) < 0 ||
        setresuid(helper, helper, helper) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        _exit(126);
    /* PDEATHSIG went with the change of the user. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int top = fcntl(file, F_DUPFD, 10), log = fcntl(out, F_DUPFD, 10);
    if (null < 0 || top < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 ||
        dup2(log, 2) < 0 || dup2(top, 3) < 0)
        _exit(126);
    (void)k_close_range(4, ~0u);
    static const char *const places[] = {"/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4",
                                         "/usr/bin/mkfs.ext4", "/usr/local/sbin/mkfs.ext4"};
    int errnum = ENOENT;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && errnum == ENOENT; i++) {
        (void)execve(places[i], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
        errnum = errno;
    }
    _exit(errnum == ENOENT ? 127 : 126);
}

struct mkfs {
    int file, out;
    pid_t pid;
    int pidfd;
};

static void mkfs_done(struct mkfs *m)
{
    siginfo_t info;

    if (m->pid > 0) {
        (void)kill(m->pid, SIGKILL); /* ours, and not waited for: nobody else's yet */
        (void)waitid(P_PID, (id_t)m->pid, &info, WEXITED);
    }
    fd_closep(&m->file);
    fd_closep(&m->out);
    fd_closep(&m->pidfd);
}

static int mkfs_start(struct mkfs *m, const struct scratch_template *t, uid_t helper, struct err *e)
{
    int out[2];

    m->file = memfd_create("scratch", MFD_CLOEXEC);
    if (m->file < 0 || ftruncate(m->file, (off_t)t->size) < 0 || fchmod(m->file, 0600) < 0 ||
        fchown(m->file, helper, helper) < 0)
        return err_set(e, errno, "make a file for mkfs.ext4");
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_set(e, errno, "make a pipe for mkfs.ext4");
    m->out = out[0];
    m->pid = fork();
    if (m->pid == 0)
        run_mkfs(m->file, out[1], helper, &t->quota);
    int errnum = errno;
    (void)close(out[1]);
    if (m->pid < 0)
        return err_set(e, errnum, "start mkfs.ext4");
    m->pidfd = (int)syscall(SYS_pidfd_open, m->pid, 0);
    return m->pidfd < 0 ? err_set(e, errno, "watch mkfs.ext4") : 0;
}

static int mkfs_wait(struct mkfs *m, uint64_t deadline, struct err *e)
{
    uint64_t now = clock_boot();
    struct pollfd p = {.fd = m->pidfd, .events = POLLIN};
    int wait = now < deadline ? (int)((deadline - now) / USEC_PER_MSEC) + 1 : 0;
    siginfo_t info = {0};
    char said[160], shown[200];

    while (poll(&p, 1, wait) < 0 && errno == EINTR)
        ;
    if (!(p.revents & POLLIN))
        return err_say(e, ETIMEDOUT, "mkfs.ext4 does not come to an end");
    if (waitid(P_PID, (id_t)m->pid, &info, WEXITED) < 0)
        return err_set(e, errno, "wait for mkfs.ext4");
    m->pid = 0;
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        return 0;
    if (info.si_code == CLD_EXITED && info.si_status == 127)
        return err_say(e, ENOENT, "there is no mkfs.ext4: install e2fsprogs");
    ssize_t n = fd_read_full(m->out, said, sizeof(said));
    text_escape(shown, sizeof(shown), said, n > 0 ? (size_t)n : 0);
    return err_say(e, EIO, "mkfs.ext4 failed (%s %d): %s",
                   info.si_code == CLD_EXITED ? "status" : "signal", info.si_status, shown);
}

static bool all_zero(const unsigned char *p, size_t len)
{
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int add_part(struct scratch_template *t, uint64_t offset, const unsigned char *data,
                    size_t len, struct err *e)
{
    struct scratch_part *last = t->n_parts ? &t->parts[t->n_parts - 1] : NULL;
    bool grows = last && last->offset + last->len == offset && last->len + len <= PART_MAX;
    struct scratch_part *more =
        grows ? t->parts : realloc(t->parts, (t->n_parts + 1) * sizeof(*more));
    unsigned char *grown =
        more ? realloc(grows ? last->data : NULL, (grows ? last->len : 0) + len) : NULL;

    if (more)
        t->parts = more;
    if (!grown)
        return err_set(e, ENOMEM, "keep the template of scratches");
    if (!grows)
        t->parts[t->n_parts++] = (struct scratch_part){.offset = offset};
    last = &t->parts[t->n_parts - 1];
    memcpy(grown + last->len, data, len);
    last->data = grown;
    last->len += len;
    return 0;
}

/* What mkfs wrote, block by block, from OFFSET to END. */
static int read_data(struct scratch_template *t, int file, off_t offset, off_t end, size_t *total,
                     struct err *e)
{
    unsigned char block[FS_BLOCK];
    int r = 0;

    for (offset -= offset % (off_t)FS_BLOCK; r == 0 && offset < end; offset += FS_BLOCK) {
        if (pread(file, block, sizeof(block), offset) != (ssize_t)sizeof(block))
            return err_set(e, errno ? errno : EIO, "read what mkfs.ext4 wrote");
        if (all_zero(block, sizeof(block)))
            continue;
        *total += sizeof(block);
        if (*total > DATA_MAX)
            return err_say(e, EFBIG, "mkfs.ext4 wrote more than %u MB", DATA_MAX >> 20);
        r = add_part(t, (uint64_t)offset, block, sizeof(block), e);
    }
    return r;
}

static int read_template(struct scratch_template *t, int file, struct err *e)
{
    size_t total = 0;
    off_t at = 0;
    int r = 0;

    while (r == 0 && (at = lseek(file, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(file, at, SEEK_HOLE);

        if (end < 0)
            return err_set(e, errno, "read what mkfs.ext4 wrote");
        r = read_data(t, file, at, end, &total, e);
        at = end;
    }
    if (r == 0 && errno != ENXIO)
        return err_set(e, errno, "read what mkfs.ext4 wrote");
    if (r == 0 && total == 0)
        return err_say(e, EIO, "mkfs.ext4 wrote nothing");
    return r;
}

void scratch_templates_free(struct scratch_template *templates, size_t n)
{
    for (size_t i = 0; templates && i < n; i++) {
        for (size_t k = 0; k < templates[i].n_parts; k++)
            free(templates[i].parts[k].data);
        free(templates[i].parts);
    }
    free(templates);
}

static int make_all(struct mkfs *m, struct scratch_template *t, size_t n, uid_t helper,
                    struct err *e)
{
    uint64_t deadline = clock_boot() + MKFS_PATIENCE;
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        r = mkfs_start(&m[i], &t[i], helper, e);
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = mkfs_wait(&m[i], deadline, e);
        if (r == 0)
            r = read_template(&t[i], m[i].file, e);
    }
    return r;
}

int scratch_templates_make(const struct scratch_quota *quotas, size_t n, uid_t helper,
                           struct scratch_template **ret, struct err *e)
{
    struct scratch_template *t = calloc(n + 1, sizeof(*t));
    struct mkfs *m = calloc(n + 1, sizeof(*m));
    int r = t && m ? 0 : err_set(e, ENOMEM, "make the templates of scratches");

    for (size_t i = 0; r == 0 && i < n; i++) {
        t[i].quota = quotas[i];
        t[i].size = image_size(&quotas[i]);
        m[i] = (struct mkfs){.file = -1, .out = -1, .pidfd = -1};
    }
    if (r == 0) {
        r = make_all(m, t, n, helper, e);
        for (size_t i = 0; i < n; i++)
            mkfs_done(&m[i]);
    }
    free(m);
    if (r < 0) {
        scratch_templates_free(t, n);
        return r;
    }
    *ret = t;
    return 0;
}

/* --- a scratch --- */

static int write_file(int dirfd, const struct scratch_template *t, int *ret, struct err *e)
{
    scoped_fd file = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (file < 0)
        return err_set(e, errno, "make a file for a scratch");
    if (ftruncate(file, (off_t)t->size) < 0)
        return err_set(e, errno, "make a file of %" PRIu64 " bytes for a scratch", t->size);
    for (size_t i = 0; i < t->n_parts; i++) {
        const struct scratch_part *p = &t->parts[i];
        ssize_t n = pwrite(file, p->data, p->len, (off_t)p->offset);

        if (n != (ssize_t)p->len)
            return err_set(e, n < 0 ? errno : ENOSPC, "write the file of a scratch");
    }
    *ret = TAKE_FD(file);
    return 0;
}

static int mount_device(const char *device, int *ret_fd, struct err *e)
{
    static const char *const flags[] = {"discard", "nobarrier", "noinit_itable"};
    scoped_fd fs = k_fsopen("ext4");

    if (fs < 0)
        return err_set(e, errno, "fsopen ext4");
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (k_fsconfig(fs, K_FSCONFIG_SET_FLAG, flags[i], NULL) < 0)
            return err_set(e, errno, "mount a scratch with %s", flags[i]);
    /* A disk that fails below it, or is full: it can be read, and never brings the machine down. */
    if (k_fsconfig(fs, K_FSCONFIG_SET_STRING, "errors", "remount-ro") < 0 ||
        k_fsconfig(fs, K_FSCONFIG_SET_STRING, "source", device) < 0 ||
        k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return err_set(e, errno, "mount a scratch from %s", device);
    int fd = k_fsmount(fs, K_ATTR_NOSUID | K_ATTR_NODEV);
    if (fd < 0)
        return err_set(e, errno, "mount a scratch from %s", device);
    *ret_fd = fd;
    return 0;
}

int scratch_image_mount(int dirfd, const struct scratch_template *t, int *ret_fd, struct err *e)
{
    scoped_fd file = -1, device = -1;
    char path[LOOPDEV_PATH_MAX];
    int r = write_file(dirfd, t, &file, e);

    if (r == 0)
        r = loopdev_take(file, false, path, &device, e);
    if (r == 0)
        r = mount_device(path, ret_fd, e);
    return r;
}
