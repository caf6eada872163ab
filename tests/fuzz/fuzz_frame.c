/* What a hostile peer may write into a frame connection. */
#include "base/fdio.h"
#include "base/frame.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define SENT_MAX 65536 /* what a socket takes without a reader */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct frame_conn *c = NULL;
    struct frame f = {0};
    struct err e = ERR_INIT;
    int sv[2], r;

    if (len > SENT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return 0;
    if (fd_write_full(sv[1], data, len) < 0 || frame_conn_new(sv[0], &c, &e) < 0)
        abort();
    close(sv[1]);
    while ((r = frame_next(c, &f, &e)) == 1) {
        if (!json_is_object(f.json) || f.n_fds != 0)
            abort();
        frame_done(&f);
    }
    if (r == 0) /* it is closed: that must be seen */
        abort();
    frame_conn_freep(&c);
    return 0;
}
