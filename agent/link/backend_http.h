/* backend_http.h - the backend for a platform's own controller: docs/protocol.md over HTTP. */
#ifndef LINK_BACKEND_HTTP_H
#define LINK_BACKEND_HTTP_H

#include "link/backend.h"

const struct backend_ops *backend_http(void);

#endif
