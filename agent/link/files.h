/* files.h - certificates and the token, read from the descriptors that dynod opened. */
#ifndef LINK_FILES_H
#define LINK_FILES_H

#include "base/frame.h"
#include "link/http.h"

/* All may be absent. Owns its memory. */
struct files {
    char *ca, *cert, *key, *token; /* the token without the blanks around it */
    size_t ca_len, cert_len, key_len, token_len;
};

/* Reads what the frame {"files": [NAME, …]} came with. A name without a descriptor is a file that
 * is configured and cannot be opened: -ENOENT, for nobody is to be trusted instead of whom it
 * names. -EINVAL: not such a frame; -EFBIG; -EBADMSG: a token that no header can hold; what read(2)
 * says.
 */
int files_read(struct frame *f, struct files *ret, struct err *e);
void files_done(struct files *files);

/* Points into FILES. */
struct http_trust files_trust(const struct files *files);

#endif
