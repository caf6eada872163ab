/* sandbox.c - what one agent sets up once. */
#include "isolate/sandbox.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "isolate/kernel.h"
#include "isolate/landlock.h"
#include "isolate/sandbox_impl.h"
#include "isolate/seccomp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

void sandbox_freep(struct sandbox **s)
{
    if (!*s)
        return;
    fd_closep(&(*s)->template_ns);
    fd_closep(&(*s)->init_fd);
    fd_closep(&(*s)->null_fd);
    fd_closep(&(*s)->uts_ns);
    room_done(&(*s)->room);
    child_stack_free((*s)->stack);
    if ((*s)->told)
        (void)munmap((*s)->told, sizeof(*(*s)->told)); /* only fails on our own bugs */
    free((*s)->filter.filter);
    free(*s);
    *s = NULL;
}

bool sandbox_has_bash(const struct sandbox *s)
{
    return s->has_bash;
}

/* Of /proc, as proc(5) has it: what could be written to the host's harm is read-only, and what
 * tells of the host's memory, keys or kernel is empty. Most of it is root's anyway, and a dyno is
 * not root; this holds if a kernel gets such a mode wrong. */
static void find_masks(struct sandbox *s)
{
    static const struct mask known[] = {
        {"/proc/pressure", true},
        {"/proc/sys", true},
        {"/proc/irq", true},
        {"/proc/bus", true},
        {"/proc/fs", true},
        {"/proc/sysrq-trigger", true},
        {"/proc/kcore", false},
        {"/proc/kmsg", false},
        {"/proc/keys", false},
        {"/proc/key-users", false},
        {"/proc/timer_list", false},
        {"/proc/timer_stats", false},
        {"/proc/latency_stats", false},
        {"/proc/sched_debug", false},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (access(known[i].path, F_OK) == 0)
            s->masks[s->n_masks++] = known[i];
}

static int check_config(const struct sandbox_config *c, struct err *e)
{
    if (c->slug_owner == 0 || c->slug_owner == (uid_t)-1)
        return err_say(e, EINVAL, "a dyno's inner user cannot be %u", c->slug_owner);
    if (strcmp(c->stack, "host") != 0 && c->stack[0] != '/') {
        (void)err_say(e, EINVAL, "stack %s: not \"host\" or an absolute path", c->stack);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (c->rootless != (geteuid() != 0))
        return err_say(e, EINVAL, "rootless is for ordinary users, and only for them");
    return 0;
}

/* dyno-init by a mount of its own, read-only. What a process runs it can reach, by /proc/self/exe,
 * past all walls of its root: nobody writes by that way, also where the file is its own user's, as
 * it is rootless (CVE-2019-5736). Attached nowhere, it also tells no path of the host. */
static int open_init(const char *path, int *ret_fd, struct err *e)
{
    static const struct k_mount_attr attr = {
        .attr_set = K_ATTR_RDONLY | K_ATTR_NOSUID | K_ATTR_NODEV, .propagation = MS_PRIVATE};
    scoped_fd fd = k_open_tree(AT_FDCWD, path, K_TREE_CLONE | K_TREE_CLOEXEC);

    if (fd < 0)
        return err_set(e, errno, "open dyno-init at %s", path);
    if (k_mount_setattr(fd, "", AT_EMPTY_PATH, &attr) < 0)
        return err_set(e, errno, "make the mount of %s read-only", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void describe_stack(struct sandbox *s, const struct sandbox_config *c,
                           const struct rootfs *built)
{
    const char *how = !c->image_type ? "" : built->loop ? ", by a loop device" : ", from the file";

    (void)snprintf(s->stack_text, sizeof(s->stack_text), "%s%s",
                   strcmp(c->stack, "host") ? c->stack : "the host's files", how);
}

const char *sandbox_stack_text(const struct sandbox *s)
{
    return s->stack_text;
}

/* Where cores go to a program (core(5)), only a limit of 1 keeps the kernel from starting it. A
 * dyno has 1 if its agent may have as much. */
static int check_core_limit(const struct sandbox_config *config, struct err *e)
{
    scoped_free char *pattern = NULL;
    struct err ignored = ERR_INIT; /* no pattern, no program */
    struct rlimit now;
    size_t len;

    if (getrlimit(RLIMIT_CORE, &now) < 0)
        return err_set(e, errno, "read the limit of core files");
    if (now.rlim_max >= CORE_LIMIT)
        return 0;
    now.rlim_max = CORE_LIMIT;
    if (setrlimit(RLIMIT_CORE, &now) == 0)
        return 0;
    int errnum = errno;
    /* Rootless nothing is lost: the user's own crashes are heard as well. */
    if (config->rootless ||
        file_read(AT_FDCWD, "/proc/sys/kernel/core_pattern", 4096, &pattern, &len, &ignored) < 0 ||
        pattern[0] != '|')
        return 0;
    (void)err_set(e, errnum,
                  "with a hard limit of 0 on core files a dyno's crash starts the program of "
                  "kernel.core_pattern: set LimitCORE=1 or more for the agent");
    return err_blame(e, FAULT_OPERATOR);
}

static int open_programs(struct sandbox *s, const char *init_path, struct err *e)
{
    struct stat st;
    int r = open_init(init_path, &s->init_fd, e);

    if (r < 0)
        return r;
    if (fstat(s->init_fd, &st) < 0)
        return err_set(e, errno, "stat %s", init_path);
    if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXOTH))
        return err_say(e, EACCES, "%s is not a program that everyone may execute", init_path);
    s->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (s->null_fd < 0)
        return err_set(e, errno, "open /dev/null");
    s->uts_ns = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    return s->uts_ns < 0 ? err_set(e, errno, "open /proc/self/ns/uts") : 0;
}

static int share_page(struct told **ret, struct err *e)
{
    void *at = mmap(NULL, sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return err_set(e, errno, "share a page");
    *ret = at;
    return 0;
}

int sandbox_open(const struct sandbox_config *config, struct sandbox **ret, struct err *e)
{
    scoped(sandbox_freep) struct sandbox *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "open the sandbox");
    s->template_ns = s->init_fd = s->null_fd = s->uts_ns = -1;
    s->room = (struct room)ROOM_INIT;
    struct rootfs built = {0};
    s->rootless = config->rootless;
    s->inner = config->slug_owner;
    int r = check_config(config, e);
    if (r == 0)
        r = check_core_limit(config, e);
    if (r == 0)
        r = child_stack_new(&s->stack, e);
    if (r == 0)
        r = share_page(&s->told, e);
    if (r == 0)
        r = open_programs(s, config->init_path, e);
    if (r == 0)
        r = filter_compile(filter_native_arch(), &s->filter, e);
    if (r == 0)
        r = rootfs_build(config, &s->template_ns, &built, e);
    if (r < 0)
        return r;
    s->landlock = landlock_abi();
    s->has_bash = built.bash;
    describe_stack(s, config, &built);
    find_masks(s);
    *ret = TAKE_PTR(s);
    return 0;
}
