/* role_unpack.h - the role `unpack` of dynod-fetch; see slug/fetch.h. What it does is unpack.h's.
 */
#ifndef SLUG_FETCH_ROLE_UNPACK_H
#define SLUG_FETCH_ROLE_UNPACK_H

#include "base/frame.h"

/* The request F: gives up what the role does not need, unpacks, and reports on CONTROL. 0 when a
 * report of either kind was sent. */
int unpack_serve(struct frame_conn *control, struct frame *f, struct err *e);

#endif
