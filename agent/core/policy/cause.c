#include "core/policy/cause.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static int shell_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void say(struct end_cause *c, const char *name, enum fault fault, const char *text)
{
    c->name = name;
    c->fault = fault;
    (void)snprintf(c->text, sizeof(c->text), "%s", text);
}

/* What SIGKILL ended: who could have told the status may have been among it. */
static void say_killed(struct end_cause *c, const char *name, enum fault fault, const char *text)
{
    say(c, name, fault, text);
    if (c->exit_status < 0)
        c->exit_status = shell_status(SIGKILL);
}

/* The command ended by itself. */
static void classify_status(const struct end_facts *f, struct end_cause *c)
{
    if (WIFSIGNALED(f->status)) {
        c->name = "signalled";
        c->fault = FAULT_APP;
        (void)snprintf(c->text, sizeof(c->text), "killed by SIG%s from inside%s",
                       sigabbrev_np(WTERMSIG(f->status)),
                       WCOREDUMP(f->status) ? " (core dumped)" : "");
        return;
    }
    if (f->oneoff && WEXITSTATUS(f->status) == 0) {
        say(c, "complete", FAULT_NONE, "completed");
        return;
    }
    c->name = "exited";
    c->fault = FAULT_APP;
    (void)snprintf(c->text, sizeof(c->text), "exited with status %d%s", WEXITSTATUS(f->status),
                   WEXITSTATUS(f->status) == 127   ? " (command not found)"
                   : WEXITSTATUS(f->status) == 126 ? " (command not executable)"
                                                   : "");
}

/* The kernel kills with SIGKILL only, and so do we what it has taken a process of. Any other status
 * is the command's own, whatever happened to one of its children before. */
static bool killed(const struct end_facts *f)
{
    return !f->status_known || (WIFSIGNALED(f->status) && WTERMSIG(f->status) == SIGKILL);
}

void end_classify(const struct end_facts *f, struct end_cause *ret)
{
    struct end_cause c = {.exit_status = f->status_known ? shell_status(f->status) : -1};

    /* What the kernel or we did to it explains the signal that it died of, so it comes first. */
    if (f->failed) {
        say(&c, "start-failed", f->failed->fault, f->failed->text);
    } else if ((f->oom_kills > 0 && f->oom_own) || f->over) {
        say_killed(&c, "memory", FAULT_APP, "memory quota vastly exceeded (R15)");
    } else if (f->oom_kills > 0 && killed(f)) {
        say_killed(&c, "machine-memory", FAULT_PLATFORM,
                   "killed because the machine ran out of memory, not for a limit of its own");
    } else if (f->boot_timeout) {
        say_killed(&c, "boot-timeout", FAULT_APP, "did not bind to $PORT in time (R10)");
    } else if (f->attach_failed) {
        say(&c, "attach-failed", FAULT_OPERATOR, "nobody came to its terminal (R13)");
    } else if (f->exit_timeout) {
        say_killed(&c, "exit-timeout", FAULT_APP, "did not exit in time after SIGTERM (R12)");
    } else if (f->start_errno) {
        c.name = "start-failed";
        c.fault = FAULT_APP;
        c.exit_status = f->start_errno == ENOENT ? 127 : 126;
        (void)snprintf(c.text, sizeof(c.text), "the command could not be executed: %s",
                       strerrordesc_np(f->start_errno));
    } else if (f->detached) {
        say_killed(&c, "detached", FAULT_OPERATOR,
                   "its client went away and it did not react to SIGHUP (R16)");
    } else if (f->told_to_stop) {
        say(&c, "stopped", FAULT_OPERATOR, "stopped");
    } else if (!f->status_known) {
        say(&c, "init-lost", FAULT_PLATFORM, "dyno-init was killed; the exit status is unknown");
    } else {
        classify_status(f, &c);
    }
    *ret = c;
}
