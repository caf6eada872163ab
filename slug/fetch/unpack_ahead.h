/* unpack_ahead.h - a stage that runs the stages above it in a thread of its own, ahead of who reads
 * it: a ring of AHEAD_BUFFERS buffers lies between the two. So inflating and writing go on at
 * once.
 *
 * The stages above belong to the thread until ahead_stop(). They must not block for ever then: who
 * stops first stops the source. */
#ifndef SLUG_FETCH_UNPACK_AHEAD_H
#define SLUG_FETCH_UNPACK_AHEAD_H

#include "slug/stream.h"

#include <stdbool.h>

#define AHEAD_BUFFERS      8
#define AHEAD_BUFFER_BYTES (256u << 10)
#define AHEAD_IDLE_MS      200

struct ahead;

/* UP is borrowed. IDLE is called by the reading thread, every AHEAD_IDLE_MS while it waits and with
 * every buffer that it gets; an error of it is the stream's. May be NULL. */
int ahead_new(struct stream *up, int (*idle)(void *userdata, struct err *e), void *userdata,
              struct ahead **ret, struct err *e);
/* The stage, for one thread and stream_next() only. Its errors are those of UP, after all bytes
 * that came before. */
struct stream *ahead_stream(struct ahead *a);

/* Ends the thread and waits for it. Afterwards the stages above are the caller's again. */
void ahead_stop(struct ahead *a);
/* Stops too. */
void ahead_freep(struct ahead **a);

#endif
