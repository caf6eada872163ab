/* pipeline_ask.c - the beginning of a round: what each role is handed, and told. */
#include "core/slugs/pipeline_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define PIPE_BYTES (1 << 20)           /* as much as an ordinary user may have */
#define FILES_MAX  (FRAME_FDS_MAX - 2) /* of file:// mirrors: what goes with one frame */
#define FILE_URL   "file://"

/* What the roles are handed; all of ours, closed when they have theirs. */
struct parts {
    int spool, content, pipe_read, pipe_write, entries_unpack, entries_image;
    int files[FILES_MAX];
    size_t n_files;
    json_t *file_numbers; /* which mirrors they are of */
    json_t *mirrors, *failed;
};

static void parts_done(struct parts *parts)
{
    fd_closep(&parts->spool);
    fd_closep(&parts->content);
    fd_closep(&parts->pipe_read);
    fd_closep(&parts->pipe_write);
    fd_closep(&parts->entries_unpack);
    fd_closep(&parts->entries_image);
    for (size_t i = 0; i < parts->n_files; i++)
        fd_closep(&parts->files[i]);
    json_decref(parts->file_numbers);
    json_decref(parts->mirrors);
    json_decref(parts->failed);
}

/* The agent opens what its operator names, because the fetch may not; it never reads a byte of it.
 */
static int open_slug_file(const char *path, int *ret_fd, struct err *e)
{
    struct stat st;
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        (void)err_set(e, errno, "open the slug %s", path);
        return err_blame_operator(e);
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)err_say(e, EINVAL, "the slug %s is not a regular file", path);
        return err_blame(e, FAULT_OPERATOR);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* A mirror of ours that cannot be opened is one that failed, when there is another. */
static int skip_file(struct parts *parts, const char *url, const struct err *why, struct err *e)
{
    json_t *entry = json_pack("{s:I,s:s,s:s,s:s,s:s}", "mirror", (json_int_t)0, "url", url, "text",
                              why->text, "fault", fault_name(why->fault), "step", "download");

    if (!entry || json_array_append_new(parts->failed, entry) < 0)
        return err_set(e, ENOMEM, "prepare a fetch");
    return 0;
}

static int add_mirror(struct parts *parts, const char *url, struct err *e)
{
    size_t number = json_array_size(parts->mirrors);

    if (str_starts(url, FILE_URL "/")) {
        int fd = -1, r = parts->n_files == FILES_MAX
                             ? err_say(e, E2BIG, "more than %d file:// mirrors", FILES_MAX)
                             : open_slug_file(url + strlen(FILE_URL), &fd, e);

        if (r < 0)
            return r;
        parts->files[parts->n_files++] = fd;
        if (json_array_append_new(parts->file_numbers, json_integer((json_int_t)number)) < 0)
            return err_set(e, ENOMEM, "prepare a fetch");
    }
    if (json_array_append_new(parts->mirrors, json_string(url)) < 0)
        return err_say(e, EINVAL, "a slug's address is not UTF-8");
    return 0;
}

static int add_mirrors(struct parts *parts, const struct pipeline_request *rq, struct err *e)
{
    struct err why = ERR_INIT;
    size_t i;
    json_t *url;

    json_array_foreach (rq->mirrors, i, url) {
        if (add_mirror(parts, json_string_value(url), &why) < 0 &&
            skip_file(parts, json_string_value(url), &why, e) < 0)
            return -e->errnum;
    }
    if (json_array_size(parts->mirrors) == 0) {
        *e = why;
        return why.errnum ? -e->errnum : err_say(e, EINVAL, "a slug without an address");
    }
    return 0;
}

static int open_channels(struct pipeline *p, struct parts *parts, struct err *e)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_set(e, errno, "make a pipe for a slug");
    parts->pipe_read = fds[0];
    parts->pipe_write = fds[1];
    (void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* smaller works as well */
    if (!p->env.images)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_set(e, errno, "make a socket for a slug");
    parts->entries_unpack = fds[0];
    parts->entries_image = fds[1];
    return 0;
}

static int open_parts(struct pipeline *p, const struct pipeline_request *rq, struct parts *parts,
                      struct err *e)
{
    parts->mirrors = json_array();
    parts->file_numbers = json_array();
    parts->failed = rq->failed ? json_copy((json_t *)(uintptr_t)rq->failed) : json_array();
    if (!parts->mirrors || !parts->file_numbers || !parts->failed)
        return err_set(e, ENOMEM, "prepare a fetch");
    int r = add_mirrors(parts, rq, e);
    if (r == 0)
        r = cache_spool(p->env.cache, &parts->spool, e);
    if (r == 0)
        r = open_channels(p, parts, e);
    if (r < 0)
        return r;
    r = cache_incoming(p->env.cache, p->env.images ? CACHE_IMAGE : CACHE_DIRECTORY, p->incoming,
                       &parts->content, e);
    if (r < 0)
        p->incoming[0] = '\0';
    return r;
}

static json_int_t ms(uint64_t usec)
{
    return (json_int_t)(usec / USEC_PER_MSEC);
}

static int ask_download(struct pipeline *p, const struct pipeline_request *rq,
                        const struct parts *parts, struct err *e)
{
    const struct config *c = p->env.config;
    int fds[FRAME_FDS_MAX] = {parts->spool, parts->pipe_write};
    scoped(json_freep) json_t *ask = json_pack(
        "{s:O,s:O,s:O,s:b,s:b,s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "mirrors", parts->mirrors,
        "files", parts->file_numbers, "failed", parts->failed, "anew", rq->anew, "allow_http",
        c->allow_http, "limits", "compressed", (json_int_t)c->compressed_max, "connect_ms",
        ms(c->fetch_connect), "stall_ms", ms(c->fetch_stall), "total_ms", ms(rq->total_usec),
        "connections", (json_int_t)c->fetch_connections, "tries", (json_int_t)c->fetch_tries,
        "part", (json_int_t)c->fetch_part, "slow_bytes", (json_int_t)c->fetch_slow, "slow_ms",
        ms(c->fetch_slow_time));
    int r = ask ? 0 : -1;

    memcpy(fds + 2, parts->files, parts->n_files * sizeof(fds[0]));
    if (r == 0 && p->has_digest)
        r = json_object_set_new(ask, "digest", json_string(p->digest.hex));
    if (r == 0 && c->ca_file[0])
        r = json_object_set_new(ask, "ca_file", json_string(c->ca_file));
    if (r == 0 && rq->stores)
        r = json_object_set(ask, "stores", (json_t *)(uintptr_t)rq->stores);
    return r < 0 ? err_set(e, ENOMEM, "ask for a fetch")
                 : crew_send(p->crew, FETCH_DOWNLOAD, ask, fds, 2 + parts->n_files, e);
}

static int ask_unpack(struct pipeline *p, const struct parts *parts, struct err *e)
{
    const struct config *c = p->env.config;
    const int fds[] = {parts->pipe_read, parts->content, parts->entries_unpack};
    scoped(json_freep) json_t *ask = json_pack(
        "{s:s,s:{s:I,s:I,s:I,s:I,s:I,s:I}}", "to", p->env.images ? "image" : "directory", "limits",
        "compressed", (json_int_t)c->compressed_max, "unpacked", (json_int_t)c->unpacked_max,
        "entries", (json_int_t)c->entries_max, "depth", (json_int_t)c->depth_max, "name",
        (json_int_t)c->name_max, "ratio", (json_int_t)c->ratio_max);

    return crew_send(p->crew, FETCH_UNPACK, ask, fds, p->env.images ? 3 : 2, e);
}

static int ask_image(struct pipeline *p, const struct parts *parts, struct err *e)
{
    const struct config *c = p->env.config;
    const int fds[] = {parts->entries_image, parts->content};
    scoped(json_freep) json_t *ask =
        json_pack("{s:{s:I,s:I,s:I,s:I,s:I,s:I}}", "image", "uid", (json_int_t)p->env.owner, "gid",
                  (json_int_t)p->env.owner, "unpacked", (json_int_t)c->unpacked_max, "entries",
                  (json_int_t)c->entries_max, "depth", (json_int_t)c->depth_max, "name",
                  (json_int_t)c->name_max);

    return crew_send(p->crew, FETCH_IMAGE, ask, fds, 2, e);
}

int pipeline_ask(struct pipeline *p, const struct pipeline_request *rq, const struct crew_ops *ops,
                 struct err *e)
{
    scoped(parts_done) struct parts parts = {.spool = -1,
                                             .content = -1,
                                             .pipe_read = -1,
                                             .pipe_write = -1,
                                             .entries_unpack = -1,
                                             .entries_image = -1};
    int r = open_parts(p, rq, &parts, e);

    if (r == 0)
        r = crews_take(p->env.crews, CREW_FETCH, ops, p, &p->crew, e);
    p->mirrors = json_incref(parts.mirrors);
    for (unsigned i = 0; r == 0 && i < FETCH_ROLES; i++)
        p->ends[i].state = crew_has(p->crew, i) ? ROLE_RUNNING : ROLE_ABSENT;
    if (r == 0 && p->env.images)
        r = ask_image(p, &parts, e);
    if (r == 0)
        r = ask_unpack(p, &parts, e);
    if (r == 0) /* last: its secrets go to nobody for nothing */
        r = ask_download(p, rq, &parts, e);
    return r;
}
