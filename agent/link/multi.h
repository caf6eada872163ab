/* multi.h - libcurl's multi interface on our event loop: the sockets it wants watched, its timer.
 */
#ifndef LINK_MULTI_H
#define LINK_MULTI_H

#include <curl/curl.h>
#include <systemd/sd-event.h>

struct multi;

/* Called from the loop after libcurl has moved: curl_multi_info_read() may have news. It may free
 * the multi. */
typedef void (*multi_moved_fn)(void *userdata);

/* NAME, of its timer, shows in sd-event's debugging. NULL: no memory. */
struct multi *multi_new(sd_event *loop, const char *name, multi_moved_fn fn, void *userdata);
/* Easy handles are removed and freed before. */
void multi_freep(struct multi **m);
CURLM *multi_handle(const struct multi *m);

#endif
