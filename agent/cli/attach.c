#include "cli/attach.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/cli.h"
#include "cli/pump.h"
#include "cli/tty.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* After the command's end all it wrote is in the pipes already. What its own background children
 * may still write is waited for only so long. */
#define DRAIN_MS        100
#define INTERRUPTS_MAX  3 /* the third one that is passed on ends us too */
#define N_PUMPS         3
#define TERMINAL_INPUT  0
#define TERMINAL_OUTPUT 1

struct attached {
    struct frame_conn *conn; /* NULL once the agent is gone */
    int signals;
    bool tty;
    bool started;
    bool raw;   /* our terminal is raw */
    bool ended; /* status is set */
    bool lost;  /* the agent went away before it said how the command ended */
    int leave;  /* not 0: a signal told us to leave; the status to leave with */
    int status;
    unsigned interrupts;
    bool sent_eof;
    char last_input;            /* the last byte that went to the terminal */
    struct pump pumps[N_PUMPS]; /* stdin, stdout, stderr */
};

bool attach_wants_tty(enum attach_tty mode)
{
    if (mode == ATTACH_TTY_AUTO)
        return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    return mode == ATTACH_TTY_FORCE;
}

int attach_describe_tty(json_t *spec, struct err *e)
{
    struct winsize ws = tty_size(isatty(STDIN_FILENO) ? STDIN_FILENO : STDOUT_FILENO);
    const char *term = getenv("TERM");
    json_t *tty = json_pack("{s:i,s:i,s:s}", "rows", ws.ws_row, "cols", ws.ws_col, "term",
                            term && *term ? term : "dumb");

    if (!tty) /* a TERM that is not UTF-8 */
        tty = json_pack("{s:i,s:i,s:s}", "rows", ws.ws_row, "cols", ws.ws_col, "term", "dumb");
    if (!tty || json_object_set_new(spec, "tty", tty) < 0)
        return err_set(e, ENOMEM, "describe the terminal");
    return 0;
}

static sigset_t attach_signals(bool tty)
{
    static const int always[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        (void)sigaddset(&set, always[i]);
    if (tty) {
        (void)sigaddset(&set, SIGWINCH);
        (void)sigaddset(&set, SIGTSTP);
        (void)sigaddset(&set, SIGCONT);
    }
    return set;
}

void attach_block_signals(bool tty)
{
    sigset_t set = attach_signals(tty);

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* --- The terminal --- */

static void send_size(const struct attached *a)
{
    struct winsize ws = tty_size(STDIN_FILENO);
    int master = a->pumps[TERMINAL_OUTPUT].src;

    if (master >= 0 && isatty(STDIN_FILENO))
        (void)ioctl(master, TIOCSWINSZ, &ws); /* the size is a courtesy */
}

static int go_raw(struct attached *a, struct err *e)
{
    if (!a->tty || !isatty(STDIN_FILENO))
        return 0;
    int r = tty_raw(STDIN_FILENO, e);
    a->raw = r == 0;
    send_size(a);
    return r;
}

/* Someone else's SIGTSTP: Ctrl-Z goes to the command, like every key. */
static int stop_ourselves(struct attached *a, struct err *e)
{
    tty_restore();
    (void)raise(SIGSTOP);
    return go_raw(a, e);
}

/* A terminal has no end of file, only a character that means it, and twice where a line has begun.
 */
static void terminal_eof(struct attached *a)
{
    struct pump *in = &a->pumps[TERMINAL_INPUT];
    struct termios t;

    if (!a->tty || a->sent_eof || !a->started || !in->src_over || pump_holds(in))
        return;
    a->sent_eof = true;
    int master = a->pumps[TERMINAL_OUTPUT].src;
    if (master < 0 || tcgetattr(master, &t) < 0 || !(t.c_lflag & ICANON))
        return;
    char eof[2] = {(char)t.c_cc[VEOF], (char)t.c_cc[VEOF]};
    in->dst_broken = false;
    pump_put(in, eof, a->last_input == '\n' ? 1 : 2);
}

/* --- What the agent says --- */

static int on_started(struct attached *a, struct frame *f, const json_t *started, struct err *e)
{
    size_t want = a->tty ? 1 : 3;
    int fds[3] = {-1, -1, -1};

    if (a->started || f->n_fds != want || json_bool(started, "tty", false) != a->tty)
        return err_say(e, EPROTO, "the agent sent %zu descriptors where %zu were expected",
                       f->n_fds, want);
    for (size_t i = 0; i < want; i++) {
        fds[i] = frame_take_fd(f, i);
        (void)fd_set_nonblock(fds[i], true);
    }
    a->started = true;
    if (a->tty) {
        pump_init(&a->pumps[TERMINAL_INPUT], STDIN_FILENO, fds[0]);
        pump_init(&a->pumps[TERMINAL_OUTPUT], fds[0], STDOUT_FILENO);
        a->pumps[TERMINAL_OUTPUT].close_src = true;
        return go_raw(a, e);
    }
    pump_init(&a->pumps[0], STDIN_FILENO, fds[0]);
    a->pumps[0].close_dst = true;
    a->pumps[0].write_max = PUMP_BUFFER; /* it does not block */
    for (int i = 1; i <= 2; i++) {
        pump_init(&a->pumps[i], fds[i], i);
        a->pumps[i].close_src = true;
    }
    return 0;
}

static void on_ended(struct attached *a, const json_t *ended)
{
    const json_t *error = json_object_get(ended, "error");
    const char *message =
        json_is_string(error) ? json_string_value(error) : json_str(error, "message", NULL);

    a->status = (int)json_int(ended, "status", EXIT_FAIL);
    a->ended = true;
    if (!message)
        return;
    struct err e = ERR_INIT;
    (void)err_say(&e, EIO, "%s", message);
    tty_restore();
    (void)cli_fail(&e);
    if (a->status == 0) /* it says that something failed: so do we */
        a->status = EXIT_FAIL;
}

/* {"error"}: a signal that could not be passed on; the command goes on. */
static void on_refusal(const json_t *error)
{
    const char *message = json_str(error, "message", NULL);

    if (message)
        cli_warn(message);
}

/* Takes all frames there are. */
static int on_agent(struct attached *a, struct err *e)
{
    struct frame f;
    int r = 0;

    while (!a->ended && (r = frame_next(a->conn, &f, e)) > 0) {
        const json_t *started = json_object_get(f.json, "started");
        const json_t *ended = json_object_get(f.json, "ended");

        r = started ? on_started(a, &f, started, e) : 0;
        if (ended)
            on_ended(a, ended);
        on_refusal(json_object_get(f.json, "error"));
        frame_done(&f);
        if (r < 0)
            return r;
    }
    if (a->ended || r == 0)
        return 0;
    if (r != -EPIPE || !a->started)
        return r;
    a->lost = true; /* the command itself runs on: its output is still ours to show */
    frame_conn_freep(&a->conn);
    return 0;
}

/* --- Signals --- */

static void forward(struct attached *a, int signo)
{
    scoped(json_freep) json_t *j = json_pack("{s:i}", "signal", signo);
    struct err e = ERR_INIT;

    /* An agent that takes no frame is noticed by its closed connection. */
    if (j && a->conn)
        (void)frame_send(a->conn, j, NULL, 0, &e);
}

static int on_signal(struct attached *a, int signo, struct err *e)
{
    bool ends = signo == SIGINT || signo == SIGTERM || signo == SIGQUIT;

    switch (signo) {
    case SIGWINCH:
        send_size(a);
        return 0;
    case SIGTSTP:
        return stop_ourselves(a, e);
    case SIGCONT:
        return a->raw ? go_raw(a, e) : 0;
    default:
        break;
    }
    if (ends)
        a->interrupts++;
    /* Without a command, and with our own terminal raw, it is meant for us alone: leaving closes
     * the connection, and the agent hangs the command up. */
    if (!a->started || a->lost || signo == SIGHUP || (ends && a->raw) ||
        a->interrupts == INTERRUPTS_MAX)
        a->leave = 128 + signo;
    else
        forward(a, signo);
    return 0;
}

static int on_signals(struct attached *a, struct err *e)
{
    struct signalfd_siginfo info;
    int r = 0;

    while (r == 0 && read(a->signals, &info, sizeof(info)) == sizeof(info))
        r = on_signal(a, (int)info.ssi_signo, e);
    return r;
}

/* --- The loop --- */

static bool output_over(const struct attached *a)
{
    return pump_over(&a->pumps[1]) && pump_over(&a->pumps[2]);
}

static bool output_holds(const struct attached *a)
{
    return pump_holds(&a->pumps[1]) || pump_holds(&a->pumps[2]);
}

static bool attached_over(const struct attached *a)
{
    return a->leave || ((a->ended || a->lost) && output_over(a));
}

enum { POLL_AGENT, POLL_SIGNALS, POLL_PUMPS, N_POLLS = POLL_PUMPS + N_PUMPS };

static void fill_polls(const struct attached *a, struct pollfd *polls)
{
    polls[POLL_AGENT] = (struct pollfd){.fd = -1, .events = POLLIN};
    if (a->conn && !a->ended) {
        polls[POLL_AGENT].fd = frame_conn_fd(a->conn);
        if (frame_pending(a->conn))
            polls[POLL_AGENT].events |= POLLOUT;
    }
    polls[POLL_SIGNALS] = (struct pollfd){.fd = a->signals, .events = POLLIN};
    for (size_t i = 0; i < N_PUMPS; i++)
        polls[POLL_PUMPS + i] = pump_poll(&a->pumps[i]);
    if (a->ended || a->lost)
        polls[POLL_PUMPS].fd = -1; /* nobody is there for our input */
}

static int serve(struct attached *a, const struct pollfd *polls, struct err *e)
{
    int r = 0;

    for (size_t i = 0; i < N_PUMPS; i++) {
        struct pump *p = &a->pumps[i];

        pump_move(p, &polls[POLL_PUMPS + i]);
        if (i == TERMINAL_INPUT && pump_holds(p))
            a->last_input = p->buf[p->end - 1];
    }
    terminal_eof(a);
    if (a->tty && pump_over(&a->pumps[TERMINAL_OUTPUT]))
        pump_done(&a->pumps[TERMINAL_INPUT]); /* the two share the master, which is closed now */
    if (polls[POLL_SIGNALS].revents)
        r = on_signals(a, e);
    if (r == 0 && a->conn && (polls[POLL_AGENT].revents & POLLOUT)) {
        r = frame_flush(a->conn, e);
        r = r == -EPIPE || r > 0 ? 0 : r;
    }
    if (r == 0 && a->conn && (polls[POLL_AGENT].revents & (POLLIN | POLLHUP | POLLERR)))
        r = on_agent(a, e);
    return r;
}

static int attach_loop(struct attached *a, struct err *e)
{
    struct pollfd polls[N_POLLS];

    while (!attached_over(a)) {
        fill_polls(a, polls);
        int n = poll(polls, N_POLLS, a->ended && !output_holds(a) ? DRAIN_MS : -1);

        if (n < 0 && errno != EINTR)
            return err_set(e, errno, "wait for the command");
        if (n == 0)
            return 0; /* ended, and nothing more came */
        int r = n > 0 ? serve(a, polls, e) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static void attached_freep(struct attached **a)
{
    if (!*a)
        return;
    tty_restore();
    for (size_t i = 0; i < N_PUMPS; i++)
        pump_done(&(*a)->pumps[i]);
    frame_conn_freep(&(*a)->conn);
    fd_closep(&(*a)->signals);
    free(*a);
    *a = NULL;
}

int attach_run(int sock, bool tty, int *ret_status, struct err *e)
{
    scoped(attached_freep) struct attached *a = calloc(1, sizeof(*a));
    scoped_fd fd = sock;

    if (!a)
        return err_set(e, ENOMEM, "attach");
    a->tty = tty;
    a->last_input = '\n';
    for (size_t i = 0; i < N_PUMPS; i++)
        pump_init(&a->pumps[i], -1, -1);
    sigset_t set = attach_signals(tty);
    a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (a->signals < 0)
        return err_set(e, errno, "watch for signals");
    int r = frame_conn_new(TAKE_FD(fd), &a->conn, e);
    if (r == 0)
        r = attach_loop(a, e);
    if (r < 0)
        return r == -EPIPE ? err_wrap(e, "before the command started") : r;
    if (!a->leave && !a->ended)
        return err_say(e, EPIPE,
                       "the agent went away while the command ran; its exit status is "
                       "not known");
    *ret_status = a->leave ? a->leave : a->status;
    return 0;
}
