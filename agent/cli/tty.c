#include "cli/tty.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

/* Static, because the handler of a crash has to find it. */
static struct {
    struct termios saved;
    int fd;
    volatile sig_atomic_t raw;
} tty;

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};

void tty_restore(void)
{
    if (!tty.raw)
        return;
    tty.raw = 0;
    /* TCSADRAIN: what the command printed last is seen under the settings it was meant for. */
    while (tcsetattr(tty.fd, TCSADRAIN, &tty.saved) < 0 && errno == EINTR)
        ;
}

/* SA_RESETHAND: after this the signal does what it would have done. */
static void on_crash(int signo)
{
    tty_restore();
    (void)raise(signo);
}

int tty_raw(int fd, struct err *e)
{
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_RESETHAND | SA_NODEFER};
    struct termios raw;

    if (tcgetattr(fd, &raw) < 0)
        return err_set(e, errno, "read the terminal's settings");
    if (!tty.raw)
        tty.saved = raw;
    tty.fd = fd;
    for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++)
        (void)sigaction(crash_signals[i], &action, NULL); /* cannot fail for these */
    cfmakeraw(&raw);
    tty.raw = 1;
    while (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
        if (errno == EINTR)
            continue;
        int why = errno;
        tty_restore();
        return err_set(e, why, "make the terminal raw");
    }
    return 0;
}

struct winsize tty_size(int fd)
{
    struct winsize ws;

    if (ioctl(fd, TIOCGWINSZ, &ws) < 0 || ws.ws_row == 0 || ws.ws_col == 0)
        ws = (struct winsize){.ws_row = 24, .ws_col = 80};
    return ws;
}
