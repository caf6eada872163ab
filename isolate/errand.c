/* errand.c - what has to be done in other namespaces: by a short-lived process of the agent's. */
#include "base/scoped.h"
#include "isolate/clonevm.h"
#include "isolate/kernel.h"
#include "isolate/sandbox_impl.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

struct errand {
    const struct sandbox *sandbox;
    int (*run)(void *arg, struct told *told);
    void *arg;
};

static void go(void *arg)
{
    const struct errand *a = arg;
    int r = a->run(a->arg, a->sandbox->told);

    (void)syscall(SYS_exit_group, r < 0 ? 1 : 0);
    __builtin_unreachable();
}

static pid_t clone_errand(struct errand *a, uint64_t flags)
{
    /* No signal at its end: it is nobody's business but ours. */
    struct clone_args args = {.flags = CLONE_FILES | flags};
#ifndef __SANITIZE_ADDRESS__
    args.flags |= CLONE_VM | CLONE_VFORK;
    args.stack = (uint64_t)(uintptr_t)a->sandbox->stack;
    args.stack_size = CHILD_STACK;
    return clone_vm(&args, go, a);
#else
    pid_t pid = k_clone3(&args);
    if (pid == 0)
        go(a);
    return pid;
#endif
}

int errand_run(const struct sandbox *s, uint64_t flags, int (*run)(void *arg, struct told *told),
               void *arg, const char *what, struct err *e)
{
    struct errand a = {.sandbox = s, .run = run, .arg = arg};
    struct told *told = s->told;
    sigset_t all, old;
    int status = 0;

    *told = (struct told){.err = ERR_INIT, .fd = {-1, -1}};
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = clone_errand(&a, flags);
    int errnum = errno;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return err_set(e, errnum, "clone %s", what);
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return err_set(e, errno, "wait for %s", what);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (told->err.errnum == 0)
        return err_say(e, ECHILD, "%s died", what);
    *e = told->err;
    return -e->errnum;
}
