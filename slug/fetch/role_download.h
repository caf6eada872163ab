/* role_download.h - the role `download` of dynod-fetch; see slug/fetch.h. */
#ifndef SLUG_FETCH_ROLE_DOWNLOAD_H
#define SLUG_FETCH_ROLE_DOWNLOAD_H

#include "base/frame.h"

/* What can be made ready before there is a request. */
int download_prepare(struct err *e);

/* The request F: gives up what the role does not need, downloads, and reports on CONTROL. 0 when a
 * report of either kind was sent. */
int download_serve(struct frame_conn *control, struct frame *f, struct err *e);

#endif
