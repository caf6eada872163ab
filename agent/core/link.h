/* link.h - dynod's side of dynod-link (base/linkproto.h): starts it, starts it again when it dies,
 * and checks each of its frames as a stranger's. Whatever must outlive dynod-link is here. */
#ifndef CORE_LINK_H
#define CORE_LINK_H

#include <stdint.h>

struct link;

#endif
