/* dynod-fetch: one role of the fetch of a slug, its first argument. Started by dynod, which speaks
 * to it on fd 0; see slug/fetch.h. */
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"
#include "slug/fetch/confine.h"
#include "slug/fetch/role_download.h"
#include "slug/fetch/role_unpack.h"
#include "slug/fetch/talk.h"
#include "slug/image/role.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_socket(int fd)
{
    int type;
    socklen_t len = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

struct role {
    const char *name;
    int (*prepare)(struct err *e); /* before there is a request; may be NULL */
    /* With its request: confines itself where it has to look into that first, else it is already.
     */
    int (*serve)(struct frame_conn *control, struct frame *f, struct err *e);
    bool confines_itself;
    enum confine_role confine;
};

static const struct role roles[] = {
    {"download", download_prepare, download_serve, true, CONFINE_DOWNLOAD},
    {"unpack", NULL, unpack_serve, true, CONFINE_UNPACK},
    {"image", NULL, image_serve, false, CONFINE_IMAGE},
    {"seal", NULL, seal_serve, false, CONFINE_SEAL},
};

static const struct role *find_role(const char *name)
{
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (!strcmp(roles[i].name, name))
            return &roles[i];
    return NULL;
}

/* Ready, and as little as it will be: whatever can be is done before the request, which may be long
 * in coming. */
static int make_ready(const struct role *role, struct err *e)
{
    int r = role->prepare ? role->prepare(e) : 0;

    json_object_seed(0); /* from the kernel; later no file can be opened */
    if (r == 0 && !role->confines_itself)
        r = confine(&(struct confinement){role->confine, -1, NULL}, e);
    return r;
}

static int serve_role(int fd, const struct role *role, struct err *e)
{
    scoped(frame_conn_freep) struct frame_conn *conn = NULL;
    struct err why = ERR_INIT;
    struct frame f;
    int r = frame_conn_new(fd, &conn, e);

    if (r < 0)
        return r;
    int ready = make_ready(role, &why);
    r = talk_receive(conn, TALK_FOR_EVER, &f, e);
    if (r == -EPIPE)
        return 0; /* it was not needed */
    if (r < 0)
        return r;
    if (ready == 0) {
        r = role->serve(conn, &f, e);
    } else {
        struct failure failed = {.step = "sandbox"};
        scoped(json_freep) json_t *json = talk_error(&failed, &why);

        r = json ? talk_send(conn, json, e) : err_set(e, ENOMEM, "report the result");
    }
    frame_done(&f);
    return r;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: dynod-fetch download|unpack|image|seal, started by dynod with a "
                          "socket as fd 0\n");
    return 2;
}

int main(int argc, char **argv)
{
    const struct role *role = argc == 2 ? find_role(argv[1]) : NULL;
    struct err e = ERR_INIT;

    log_open("dynod-fetch", LOG_LVL_INFO);
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        (void)printf("dynod-fetch %s\n", DYNOD_VERSION);
        return 0;
    }
    if (!role || !is_socket(0))
        return usage();
    /* An agent that comes back sweeps what its fetches left: none may go on without it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGPIPE, SIG_IGN);
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || serve_role(fd, role, &e) < 0) {
        log_err("%s", fd < 0 ? strerror(errno) : e.text);
        return 1;
    }
    return 0;
}
