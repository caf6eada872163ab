/* ends.h - our ends of an attached command's terminal or pipes, on the event loop. Non-blocking;
 * what its stdin does not take yet is held in one bounded buffer. Nothing is watched but what is
 * wanted and not known to be ready, so a hang-up never spins. */
#ifndef LINK_ENDS_H
#define LINK_ENDS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define ENDS_STDIN_MAX 65536 /* bytes held for a stdin that does not read */

struct ends;
typedef void (*ends_ready_fn)(void *userdata);

/* Takes FDS, also when it fails: [0] the PTY's master, or [0] stdin, [1] stdout, [2] stderr; -1:
 * none. READY: something can be moved that could not. */
int ends_open(sd_event *loop, int fds[3], bool tty, ends_ready_fn ready, void *userdata,
              struct ends **ret, struct err *e);
void ends_freep(struct ends **all);

/* Bytes that ends_put() takes now. */
size_t ends_room(const struct ends *all);
/* For stdin; at most ends_room(). A command that closed its stdin gets nothing more, silently. */
void ends_put(struct ends *all, const void *data, size_t len);
/* The end of stdin, after what is held; for a terminal its end-of-file character. */
void ends_eof(struct ends *all);
/* Writes to stdin what it takes. true: something was moved. */
bool ends_feed(struct ends *all);

/* Reads output that is there; *ret_kind is 'O' or 'E', both in turn. 0: there is none now. */
size_t ends_take(struct ends *all, char *ret_kind, void *buf, size_t len);
/* The command is over: only what is there now is still to be taken, stdin is closed. */
void ends_last(struct ends *all);
/* After ends_last(): all was taken. */
bool ends_drained(const struct ends *all);

/* Waits for output only while READING. To be called when nothing more can be moved. */
void ends_watch(struct ends *all, bool reading);
/* The window's size, for a terminal. */
void ends_resize(struct ends *all, unsigned rows, unsigned cols);

#endif
