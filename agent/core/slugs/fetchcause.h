/* fetchcause.h - what has become of a fetch whose roles end one by one, each with its own word.
 * Pure.
 *
 * One failure makes others: a download that breaks off is a truncated archive to unpack; when
 * unpack dies, image's stream ends early. One is told, the first cause:
 *
 *  1. download's error. Only bytes with the right digest can be the app's fault; a store that gave
 *     others, or not all, is the reason for whatever they were as an archive.
 *  2. a role that died without a word: nobody else can have made it.
 *  3. unpack's error, then image's (which unpack tells as its own, in the same words).
 *  4. download's error "unpack" (it had nobody to give the bytes to): only when unpack says
 * nothing.
 *
 * An archive that is refused waits for download, which reads on to compare the digest. */
#ifndef CORE_FETCHCAUSE_H
#define CORE_FETCHCAUSE_H

#include "base/fault.h"

#include <stdbool.h>

enum fetch_role {
    FETCH_DOWNLOAD,
    FETCH_UNPACK,
    FETCH_IMAGE,
    FETCH_ROLES,
};
const char *fetch_role_name(enum fetch_role role); /* as dynod-fetch's argument */

enum role_state {
    ROLE_ABSENT,  /* this fetch has none */
    ROLE_RUNNING, /* nothing heard yet */
    ROLE_OK,      /* said ok; still there */
    ROLE_DONE,    /* said ok and is gone, with status 0 */
    ROLE_ERROR,   /* said why not; it may be there still */
    ROLE_DIED,    /* gone without a word, or not as it said */
};

struct role_end {
    enum role_state state;
    enum fault fault; /* of an error */
    bool consequence; /* download's error is of step "unpack" */
};

enum fetch_next {
    FETCH_WAIT,    /* not over */
    FETCH_SOON,    /* failed; the cause may come within a moment: ask again then, PATIENT false */
    FETCH_PUBLISH, /* all is well */
    FETCH_FAILED,  /* *ret_role has the cause */
};

/* HAS_DIGEST: download compares the digest. */
enum fetch_next fetch_judge(const struct role_end roles[FETCH_ROLES], bool has_digest, bool patient,
                            enum fetch_role *ret_role);

#endif
