/* init.h - the parts of dyno-init. It allocates nothing: all of its state is one struct, and what
 * it remembers is bounded by it. The protocol and its promises: isolate/initproto.h. */
#ifndef INIT_INIT_H
#define INIT_INIT_H

#include "isolate/initproto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- command.c: one process from one launch record --- */

struct command {
    int launch_fd; /* borrowed */
    int stdio[3];  /* borrowed; unused with INIT_TTY */
    int pid;       /* out: 0 when it did not start */
    int master;    /* out: the PTY's master with INIT_TTY, the caller's; else -1 */
    int report;    /* out, of command_fork(): the caller's, for command_report() */
};

/* Starts it as the leader of a new session. 0: its execve succeeded. -errno: it did not, and
 * nothing is left of it. Waits for the execve: only while nobody else is in the dyno, who could
 * stop the child (SIGSTOP) before it, and us with it. */
int command_start(struct command *c);
/* The same without waiting: 0 says that there is a child, not what became of its execve. */
int command_fork(struct command *c);
/* What became of it, from a REPORT that is readable. 0: it succeeded, or the child is dead.
 * -EAGAIN: not known yet. Other -errno: it failed; the child ends by itself. */
int command_report(int report);

/* A child with FLAGS and SIGCHLD, in FN(ARG), on the stack of which there is one: no other may be
 * made before it has executed something or ended. CHILD_TID as of start_clone(). */
long command_clone(unsigned long flags, void (*fn)(void *), void *arg, uint32_t *child_tid);
/* The calling process, a child of that kind which shares memory and descriptors, becomes the
 * command. Returns only -errno. */
int command_become(struct command *c);
/* In its parent, after that: R is 0, or what it returned. Fills in all of C but the pid. */
void command_became(struct command *c, int r);

/* --- main.c: what dyno-init remembers --- */

#define EXEC_MAX 64 /* processes of INIT_EXEC at one time; more is refused with EAGAIN */
#define EXEC_PATIENCE                                                                              \
    5000000 /* microseconds that one may take to its execve, before ETIMEDOUT: the                 \
             * dyno's own processes may have stopped it */

struct exec {
    bool used;
    bool ended;
    bool told_started;
    uint32_t token;
    int pid;
    int status;
    int failed;        /* errno of its execve */
    int report;        /* until it is known what became of its execve; else -1 */
    uint64_t deadline; /* of that */
    int master;        /* until it is handed over with INIT_EXEC_STARTED */
};

struct init {
    /* The command. */
    int pid;         /* 0: not started, or ended */
    int started_pid; /* what INIT_STARTED says, also when it has ended meanwhile */
    uint32_t phase;
    int status;
    int start_errno;
    uint64_t started_usec, ended_usec;
    int master;    /* until it is handed over with INIT_STARTED */
    bool ended;    /* the command is gone */
    bool stopping; /* INIT_STOP came: its end does not kill the others */
    bool unreaped; /* there may be more dead children */

    /* What the current agent has not heard yet. */
    bool owe_state, owe_start, owe_main_ended, owe_exited;
    struct init_event refusal; /* of one request; kind 0: none. No request is read meanwhile */

    int identity;  /* what INIT_IDENTITY brought; -1: nothing */
    int conn;      /* the current agent, -1: none */
    int candidate; /* connected, has not said INIT_HELLO yet; -1: none */
    int sigfd;
    bool release;
    bool leave; /* SIGTERM came from outside: nobody will say INIT_RELEASE */
    struct exec execs[EXEC_MAX];
};

uint64_t init_now(void); /* CLOCK_BOOTTIME, microseconds */

/* --- spare.c --- */

/* Waits for INIT_TAKE. False: it will not come. */
bool spare_wait(struct init *in);
/* The same with INIT_DRESSED_ARG, and starts the command C: *ret as command_start(), with
 * in->started_usec set. */
bool spare_wait_dressed(struct init *in, struct command *c, int *ret);

/* --- agent.c: the conversation --- */

#define REQUEST_FDS 6 /* INIT_TAKE: launch record, identity, rules, stdio; INIT_EXEC has four */

/* As recvmsg(2) with FLAGS; *ret_fds of FDS (REQUEST_FDS) came along, the caller's. */
long agent_receive(int conn, unsigned flags, struct init_request *req, int *fds, long *ret_fds);

/* Takes the identity that waits on the first connection, if one does. Before anything else is read
 * or sent there: a dead agent's connection breaks at the first word. */
void agent_take_identity(struct init *in);
void agent_accept(struct init *in);
/* Reads one request from the current agent, or from the candidate. */
void agent_read(struct init *in, bool candidate);
/* Sends what is owed until the socket is full. */
void agent_tell(struct init *in);
/* Looks what became of the execs that have not executed yet, and kills those that take too long. */
void agent_look_at_execs(struct init *in);
/* True while something is owed that the socket did not take. */
bool agent_owes(const struct init *in);
/* Fills EV with the state of the command. */
void agent_event(const struct init *in, uint32_t kind, struct init_event *ev);

#endif
