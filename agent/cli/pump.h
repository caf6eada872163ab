/* pump.h - bytes from one descriptor to another through one buffer, driven by poll(2). The caller's
 * own standard streams are blocking (their flags are shared with other programs, so they stay as
 * they are): they are written only when poll said so, and never more than fits without blocking. */
#ifndef CLI_PUMP_H
#define CLI_PUMP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define PUMP_BUFFER 65536

struct pump {
    int src, dst;
    bool close_dst;   /* dst is ours: close it after the last byte, which is its reader's EOF */
    bool close_src;   /* src is ours: close it when dst is broken, which is its writer's EPIPE */
    bool src_over;    /* end of file, or failed */
    bool dst_broken;  /* nobody reads any more */
    size_t write_max; /* bytes of one write */
    size_t start, end;
    char buf[PUMP_BUFFER];
};

/* -1 as SRC or DST makes a pump that is over. */
void pump_init(struct pump *p, int src, int dst);
/* Everything was moved, or nothing can be any more. */
bool pump_over(const struct pump *p);
/* Bytes wait for dst. */
bool pump_holds(const struct pump *p);
/* What to poll for now; fd is -1 when there is nothing to wait for. */
struct pollfd pump_poll(const struct pump *p);
/* After poll: moves what can be moved. */
void pump_move(struct pump *p, const struct pollfd *ready);
/* Puts TEXT behind what the pump holds, if there is room: for an end-of-file character. */
void pump_put(struct pump *p, const char *text, size_t len);
/* Closes what is ours. */
void pump_done(struct pump *p);

#endif
