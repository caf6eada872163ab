/* initproto.h - what dynod and dyno-init say to each other. Shared with a program that has no libc:
 * only types. Binary, fixed size, versioned: a newer agent adopts an older dyno-init, and after a
 * downgrade an older agent a newer one.
 *
 * INIT_PROTO_VERSION is the version of the packets' layout and of what their kinds mean, and it
 * stays: dynos outlive agents by months. What is new is a new kind, or a reserved field in
 * which 0 means what was meant before. Both sides ignore kinds that they do not know, so who asks
 * for something new must do without an answer (run_identity.c does by asking INIT_HELLO after it).
 * A packet, or an exit record, of another version is not understood at all: that dyno would have to
 * be ended.
 *
 * dyno-init is PID 1 of a dyno. It starts the command of its launch record, keeps the read end of
 * the log pipe, reaps, signals, and remembers how the command ended until somebody has heard it. It
 * listens on a SOCK_SEQPACKET socket that dynod bound on the host, and serves one agent at a time:
 * the latest connection wins, so that a restarted agent is never locked out by its dead
 * predecessor. Who may connect is decided by the mode of the socket's directory on the host (0700,
 * the agent's own).
 *
 * It lives until INIT_RELEASE, even after its command has ended: an exit is not lost because nobody
 * was there to hear it. But after SIGTERM from outside the dyno, as at the machine's shutdown, it
 * goes when all has ended. It also writes the newest event (INIT_STARTED, INIT_MAIN_ENDED,
 * INIT_EXITED) into its record descriptor at once, so that the exit survives dyno-init itself.
 *
 * It knows who it is by a sealed memfd that its agent gives it (INIT_IDENTITY) and that it hands to
 * any later agent that asks (INIT_WHO), without ever looking into it: what the state files on disk
 * said is lost with them, this is not. Nothing in the dyno can reach the descriptor (dyno-init is
 * not dumpable, and every command starts with all but its stdio closed), and nobody can change what
 * it holds. */
#ifndef ISOLATE_INITPROTO_H
#define ISOLATE_INITPROTO_H

#include <stdint.h>

#define INIT_PROTO_VERSION 1

/* The descriptors that dyno-init is executed with; nothing else is open. */
enum init_fd {
    INIT_FD_STDIN = 0,  /* the command's: /dev/null, a pipe, or absent when a PTY is asked for */
    INIT_FD_STDOUT = 1, /* the command's: the log pipe's write end, or an attached client's pipe */
    INIT_FD_STDERR = 2,
    INIT_FD_CTL = 3,    /* a connected SOCK_SEQPACKET socket: the agent that started it */
    INIT_FD_LISTEN = 4, /* bound and listening, for the agents to come */
    INIT_FD_RECORD = 5, /* regular file, write only, empty: INIT_MAIN_ENDED is written to its start
                         * when the command ends, INIT_EXITED over it when all is over */
    INIT_FD_LAUNCH = 6, /* memfd, read only: struct init_launch and its strings */
    INIT_FD_LOG = 7,    /* the log pipe's read end: kept for whoever reads the logs next */
    INIT_FD_COUNT = 8,
};

/* INIT_FD_LAUNCH and the memfd of INIT_EXEC: this header, then argc + envc NUL-terminated strings:
 * the arguments, then "NAME=value". Written by launch_memfd(). */
#define INIT_LAUNCH_MAGIC   0x316c7964u /* "dyl1" */
#define INIT_LAUNCH_MAX     (8u << 20)
#define INIT_LAUNCH_STRINGS 65536u
struct init_launch {
    uint32_t magic;
    uint32_t argc;
    uint32_t envc;
    uint32_t size;  /* of the whole record */
    uint32_t flags; /* INIT_TTY */
    uint16_t rows, cols;
    uint32_t reserved[2];
};
#define INIT_TTY                                                                                   \
    1u /* give the command a PTY of the dyno's own /dev/pts as controlling terminal                \
        */

enum init_request_kind {
    INIT_HELLO = 1,  /* answered by INIT_STATE; makes this connection the current one */
    INIT_SIGNAL = 2, /* signo to every process of the dyno but dyno-init; answered by nothing */
    INIT_STOP = 3,   /* as INIT_SIGNAL, and from now on the end of the command does not kill the
                      * others: they have their grace period too. SIGCONT follows the signal, as
                      * without it who is stopped would hear of nothing but SIGKILL */
    INIT_EXEC = 4, /* one more process; descriptors: [0] launch memfd, [1..3] stdin, stdout, stderr
                    * (absent with INIT_TTY). Answered by INIT_EXEC_STARTED or _FAILED */
    INIT_EXEC_SIGNAL = 5, /* signo to the process group of the exec `token` */
    INIT_RELEASE = 6,     /* the exit has been recorded and the log pipe read to its end: exit.
                           * Ignored before INIT_PHASE_ENDED */
    INIT_IDENTITY = 7, /* descriptor: [0] who this is. The first packet on INIT_FD_CTL, sent before
                        * dyno-init exists: an agent's death cannot come between. Only the first
                        * one counts; answered by nothing */
    INIT_WHO = 8,      /* answered at once by INIT_IAM on the connection that it comes by, which
                        * need not be the current one and does not become it */
    INIT_TAKE = 9,     /* to a spare one, once, on INIT_FD_CTL; see below. Answered by nothing */
};

/* A spare dyno-init is executed with the argument INIT_SPARE_ARG, before it is known what it will
 * run. It waits for INIT_TAKE, having done nothing but made itself undumpable, and goes when
 * INIT_FD_CTL is closed: with the agent that made it. Descriptors of INIT_TAKE: [0] what becomes
 * INIT_FD_LAUNCH, [1] the identity; then, by bits in `token`: INIT_TAKE_RULES: a landlock ruleset
 * that it enters first of all; INIT_TAKE_STDIO: the command's stdin, stdout and stderr in place of
 * those that it was executed with. reserved[0]: RLIMIT_NPROC, if that is less than it has; 0: as it
 * is. One that cannot be obeyed to the letter is dyno-init's end.
 *
 * With INIT_DRESSED_ARG it is in landlock already and has its last limits: INIT_TAKE_RULES and
 * reserved[0] cannot be obeyed. The process that will be the command waits for INIT_TAKE then: it
 * is there before it is known what it will execute. */
#define INIT_SPARE_ARG   "spare"
#define INIT_DRESSED_ARG "dressed"
#define INIT_TAKE_STDIO  1u
#define INIT_TAKE_RULES  2u

struct init_request {
    uint32_t version;
    uint32_t kind;
    uint32_t token; /* names an exec; chosen by the agent, never 0 */
    int32_t signo;
    uint32_t reserved[4];
};

enum init_event_kind {
    INIT_STATE = 1,   /* descriptor: [0] the log pipe's read end. pid: the command's, 0 before
                       * it started or after it ended; status as in INIT_EXITED when ended */
    INIT_STARTED = 2, /* the command's execve succeeded; descriptor with INIT_TTY: [0] PTY master */
    INIT_START_FAILED =
        3,           /* execve failed: status is the errno. dyno-init behaves as after an exit with
                      * 127 (ENOENT) or 126: INIT_EXITED follows, start_errno is set in it */
    INIT_EXITED = 4, /* every process of the dyno is gone; status: the command's wait status */
    INIT_EXEC_STARTED = 5, /* token; descriptor with INIT_TTY: [0] PTY master */
    INIT_EXEC_FAILED = 6,  /* token; status: the errno. ETIMEDOUT: it was stopped on its way */
    INIT_EXEC_EXITED = 7,  /* token; status: the wait status */
    INIT_MAIN_ENDED = 8,   /* after INIT_STOP: the command ended (status), others still run */
    INIT_IAM = 9,          /* descriptor: [0] what INIT_IDENTITY brought; absent: nothing came */
};

/* ENDED: every process is gone, as INIT_EXITED says. While the command is over but others still run
 * the phase is RUNNING, with pid 0 and ended_boot_usec set. After INIT_STATE nothing that it said
 * is sent again; but an INIT_STARTED whose terminal nobody has taken, and the INIT_EXEC_EXITED of
 * ends that nobody was there to hear, follow it. */
enum init_phase { INIT_PHASE_STARTING = 0, INIT_PHASE_RUNNING = 1, INIT_PHASE_ENDED = 2 };

struct init_event {
    uint32_t version;
    uint32_t kind;
    uint32_t token;
    uint32_t phase;       /* enum init_phase */
    int32_t pid;          /* in the dyno's PID namespace */
    int32_t status;       /* wait(2) status, or an errno */
    uint32_t start_errno; /* not 0: the command could not be executed */
    uint32_t reserved0;
    uint64_t started_boot_usec; /* CLOCK_BOOTTIME of the command's start, 0: not started */
    uint64_t ended_boot_usec;   /* 0: not ended */
    uint32_t reserved[4];
};

#endif
