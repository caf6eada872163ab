/* tty.h - the terminal of an attached command: raw while it runs, as it was on every way out,
 * including a crash of ours. One at a time: a process has one controlling terminal. */
#ifndef CLI_TTY_H
#define CLI_TTY_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/ioctl.h>

/* Makes the terminal FD raw. A background process is stopped by SIGTTOU here, until `fg`. */
int tty_raw(int fd, struct err *e);
/* Puts back what tty_raw() found. Without one before: nothing. Async-signal-safe. */
void tty_restore(void);

/* The size of the terminal FD; 24 by 80 when it is none or does not know. */
struct winsize tty_size(int fd);

#endif
