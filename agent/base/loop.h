/* loop.h - what every long-running program wires the same way into sd-event: a frame connection
 * and a table of named timers. Sources are freed by whoever made them. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/clock.h"
#include "base/frame.h"

#include <systemd/sd-event.h>

/* A frame connection that lives in the loop. on_frame owns the frame's content after return only
 * if it took it (frame_take_fd, json_incref); on_close is called once, after the last frame, with
 * the reason; the peer may be freed in it. */
struct peer;
struct peer_ops {
    void (*on_frame)(void *userdata, struct frame *f);
    void (*on_close)(void *userdata, const struct err *why);
};

/* Takes FD. */
int peer_new(sd_event *loop, int fd, const struct peer_ops *ops, void *userdata, struct peer **ret,
             struct err *e);
void peer_freep(struct peer **p);
/* As frame_send(), and waits for EPOLLOUT only while something is queued. */
int peer_send(struct peer *p, const json_t *json, const int *fds, size_t n_fds, struct err *e);

/* A one-shot timer on CLOCK_BOOTTIME that can be set again; NAME shows in sd-event's debugging.
 * *source may be NULL: it is made on the first call. USEC_NEVER switches it off. */
int timer_set(sd_event *loop, sd_event_source **source, const char *name, uint64_t at_boot_usec,
              sd_event_time_handler_t fn, void *userdata);

#endif
