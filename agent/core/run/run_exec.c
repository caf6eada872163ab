/* run_exec.c - more processes in a running dyno's sandbox: dyno-init forks them, so theirs is the
 * same by construction. */
#include "core/run/run_priv.h"

#include "base/scoped.h"
#include "isolate/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static struct pending_exec *find(struct run *r, uint32_t token)
{
    struct pending_exec *p;

    LIST_FOREACH (p, &r->execs, link)
        if (p->token == token)
            return p;
    return NULL;
}

static void pending_free(struct pending_exec *p)
{
    LIST_REMOVE(p, link);
    attach_fds_close(&p->fds);
    free(p);
}

void run_exec_answer(struct run *r, const struct init_event *event, int fd)
{
    struct pending_exec *p = find(r, event->token);
    struct err e = ERR_INIT;
    scoped_fd owned = fd;

    if (event->kind == INIT_EXEC_EXITED) {
        r->ops->exec_ended(r->owner, r, event->token, event->status);
        return;
    }
    if (!p)
        return; /* asked for by the agent before us */
    struct run_attach_fds fds = p->fds;
    p->fds = (struct run_attach_fds){.fds = {-1, -1, -1}};
    pending_free(p);
    if (event->kind == INIT_EXEC_FAILED) {
        attach_fds_close(&fds);
        if (event->status == ETIMEDOUT) /* EXEC_PATIENCE */
            (void)err_say(&e, ETIMEDOUT,
                          "the command was not executed in time: the dyno's own processes stop it, "
                          "or leave it no processor");
        else
            (void)err_set(&e, event->status, "the command could not be executed");
        (void)err_blame(&e, FAULT_OPERATOR);
        r->ops->exec_started(r->owner, r, event->token, NULL, &e);
        return;
    }
    if (fds.tty)
        fds.fds[0] = TAKE_FD(owned);
    r->ops->exec_started(r->owner, r, event->token, &fds, NULL);
}

void run_execs_fail(struct run *r)
{
    struct pending_exec *p;
    struct err e = ERR_INIT;

    (void)err_say(&e, ESRCH, "the dyno ended before the command was executed");
    while ((p = LIST_FIRST(&r->execs))) {
        uint32_t token = p->token;

        pending_free(p);
        r->ops->exec_started(r->owner, r, token, NULL, &e);
    }
}

int run_pipes(int theirs[3], int ours[3], struct err *e)
{
    for (int i = 0; i < 3; i++) {
        int pair[2];

        if (pipe2(pair, O_CLOEXEC) < 0)
            return err_set(e, errno, "make a pipe");
        theirs[i] = pair[i == 0 ? 0 : 1];
        ours[i] = pair[i == 0 ? 1 : 0];
    }
    return 0;
}

int run_exec(struct run *r, char *const *argv, char *const *env, bool tty, uint16_t rows,
             uint16_t cols, uint32_t *ret_token, struct err *e)
{
    struct launch launch = {.argv = argv, .env = env, .tty = tty, .rows = rows, .cols = cols};
    struct init_request request = {.kind = INIT_EXEC};
    int fds[4] = {-1, -1, -1, -1}; /* launch record, stdin, stdout, stderr */
    struct pending_exec *p;
    int rc;

    if (!r->link || !r->started || r->ended)
        return err_say(e, ESRCH, "the dyno does not run");
    rc = launch_memfd(&launch, &fds[0], e);
    if (rc < 0)
        return rc;
    p = calloc(1, sizeof(*p));
    if (!p) {
        fd_closep(&fds[0]);
        return err_set(e, ENOMEM, "exec");
    }
    p->fds = (struct run_attach_fds){.fds = {-1, -1, -1}, .tty = tty};
    p->token = r->next_token++;
    LIST_INSERT_HEAD(&r->execs, p, link);
    rc = tty ? 0 : run_pipes(fds + 1, p->fds.fds, e);
    request.token = p->token;
    if (rc == 0) {
        rc = initlink_send(r->link, &request, fds, tty ? 1 : 4);
        if (rc < 0)
            rc = err_set(e, -rc, "ask dyno-init for an exec");
    }
    for (int i = 0; i < 4; i++)
        fd_closep(&fds[i]);
    if (rc < 0) {
        pending_free(p);
        return rc;
    }
    *ret_token = p->token;
    return 0;
}

void run_exec_signal(struct run *r, uint32_t token, int signo)
{
    struct init_request request = {.kind = INIT_EXEC_SIGNAL, .token = token, .signo = signo};

    if (r->link)
        (void)initlink_send(r->link, &request, NULL, 0); /* a dead dyno-init has no exec either */
}
