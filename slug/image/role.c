#include "slug/image/role.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "slug/image/erofs.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_MS 30000 /* how long dynod may take to read the result */
#define ID_MAX    INT32_MAX

/* --- the control connection ----------------------------------------------------------------- */

static int wait_for(struct frame_conn *c, short events, uint64_t until, struct err *e)
{
    struct pollfd p = {.fd = frame_conn_fd(c), .events = events};

    for (;;) {
        uint64_t now = clock_boot();
        int n = now < until ? poll(&p, 1, (int)((until - now) / USEC_PER_MSEC) + 1) : 0;

        if (n > 0)
            return 0;
        if (n == 0)
            return err_set(e, ETIMEDOUT, "wait for the agent");
        if (errno != EINTR)
            return err_set(e, errno, "wait for the agent");
    }
}

static int receive(struct frame_conn *c, struct frame *ret, struct err *e)
{
    uint64_t until = clock_boot() + IMAGE_FINISH_MS * USEC_PER_MSEC;
    int r;

    while ((r = frame_next(c, ret, e)) == 0)
        if ((r = wait_for(c, POLLIN, until, e)) < 0)
            return r;
    return r < 0 ? r : 0;
}

/* Sends JSON, which it frees, and waits until the peer has it. */
static int report(struct frame_conn *c, json_t *json, struct err *e)
{
    uint64_t until = clock_boot() + REPORT_MS * USEC_PER_MSEC;
    int r = json ? frame_send(c, json, NULL, 0, e) : err_set(e, ENOMEM, "report the result");

    json_decref(json);
    while (r == 0 && (r = frame_flush(c, e)) == 1)
        r = wait_for(c, POLLOUT, until, e);
    return r;
}

static int report_error(struct frame_conn *c, const struct err *why, const char *step,
                        struct err *e)
{
    return report(c,
                  json_pack("{s:{s:s, s:i, s:s, s:s}}", "error", "text", why->text, "errno",
                            why->errnum, "fault", fault_name(why->fault), "step", step),
                  e);
}

/* --- image ---------------------------------------------------------------------------------- */

void image_job_done(struct image_job *j)
{
    fd_closep(&j->entries);
    fd_closep(&j->image);
}

/* OBJ's number KEY, within MAX. DEF when it is absent; what is no number, or below 0, is an error.
 */
static int number(const json_t *obj, const char *key, uint64_t def, uint64_t max, uint64_t *ret,
                  struct err *e)
{
    const json_t *value = json_object_get(obj, key);
    json_int_t n = json_integer_value(value);

    if (value && (!json_is_integer(value) || n < 0 || (uint64_t)n > max))
        return err_say(e, EBADMSG, "the request's %s is no number up to %llu", key,
                       (unsigned long long)max);
    *ret = value ? (uint64_t)n : def;
    return 0;
}

int image_job_parse(struct frame *f, struct image_job *ret, struct err *e)
{
    const json_t *request = json_object_get(f->json, "image");
    struct slug_limits limits;
    uint64_t uid = 0, gid = 0;
    int r;

    slug_limits_default(&limits);
    if (!json_is_object(request) || f->n_fds != 2)
        return err_say(e, EBADMSG, "the request is none for an image");
    if (!json_object_get(request, "uid") || !json_object_get(request, "gid"))
        return err_say(e, EBADMSG, "the request does not say who owns the image's files");
    r = number(request, "uid", 0, ID_MAX, &uid, e);
    if (r == 0)
        r = number(request, "gid", 0, ID_MAX, &gid, e);
    if (r == 0)
        r = number(request, "entries", limits.entries, INT64_MAX, &limits.entries, e);
    if (r == 0)
        r = number(request, "unpacked", limits.unpacked, INT64_MAX, &limits.unpacked, e);
    if (r == 0)
        r = number(request, "depth", limits.depth, INT64_MAX, &limits.depth, e);
    if (r == 0)
        r = number(request, "name", limits.name, FETCH_COMPONENT_MAX, &limits.name, e);
    if (r < 0)
        return r;
    *ret = (struct image_job){
        .entries = frame_take_fd(f, 0),
        .image = frame_take_fd(f, 1),
        .uid = (uid_t)uid,
        .gid = (gid_t)gid,
    };
    image_limits_for(&limits, &ret->limits);
    return 0;
}

/* All entries of the stream into a tree. */
static int read_tree(const struct image_job *job, struct tree **ret, uint64_t *ret_end,
                     struct err *e)
{
    scoped_free struct entries_in *in = malloc(sizeof(*in));
    scoped(tree_freep) struct tree *t = NULL;
    struct entry entry;
    int r = in ? tree_new(&job->limits, &t, e) : err_set(e, ENOMEM, "read the entries");

    if (r < 0)
        return r;
    entries_in_init(in, job->entries, &job->limits);
    while ((r = entries_next(in, &entry, e)) == 0 && !entry.end)
        if ((r = tree_put(t, &entry, e)) < 0)
            return r;
    if (r == 0)
        r = tree_finish(t, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(t);
    *ret_end = entry.data_end;
    return 0;
}

/* Tells unpack that T is fine, and where its texts lie. */
static int accept_all(int fd, const struct tree *t, struct err *e)
{
    struct entries_reply reply;

    memset(&reply, 0, sizeof(reply)); /* what fills it up goes over the wire as well */
    reply.magic = ENTRIES_MAGIC;
    reply.procfile = tree_text(t, "Procfile");
    reply.release = tree_text(t, ".release");
    reply.inodes = tree_inodes(t);
    return entries_answer(fd, &reply, e);
}

/* Tells unpack why not. It may be gone, which is no news. */
static void refuse(int fd, const struct err *why)
{
    struct entries_reply reply;
    struct err ignored = ERR_INIT;

    memset(&reply, 0, sizeof(reply));
    reply.magic = ENTRIES_MAGIC;
    reply.error = *why;
    (void)entries_answer(fd, &reply, &ignored);
}

static int wait_finish(struct frame_conn *control, struct digest *ret, struct err *e)
{
    scoped(frame_done) struct frame f = {0};
    int r = receive(control, &f, e);

    if (r < 0)
        return r;
    const char *hex = json_str(json_object_get(f.json, "finish"), "digest", NULL);
    if (!hex || digest_parse(hex, ret) < 0)
        return err_say(e, EBADMSG, "the agent's word to finish has no digest");
    return 0;
}

static uint64_t ms_since(uint64_t start)
{
    return (clock_boot() - start) / USEC_PER_MSEC;
}

static int finish(const struct image_job *job, struct frame_conn *control, struct tree *t,
                  uint64_t data_end, struct image_result *res, struct err *e)
{
    struct digest digest;

    res->step = "image";
    int r = wait_finish(control, &digest, e);
    if (r == 0)
        r = entries_gone(job->entries, e);
    if (r < 0)
        return r;
    struct erofs_identity who = erofs_identity_for(&digest, job->uid, job->gid);
    uint64_t start = clock_boot();
    r = erofs_write(t, job->image, data_end, &who, &res->bytes, e);
    if (r == -ENOSPC || r == -EDQUOT || r == -EIO || r == -EFBIG)
        res->step = "disk";
    res->metadata_ms = ms_since(start);
    return r;
}

int image_run(const struct image_job *job, struct frame_conn *control, struct image_result *ret,
              struct err *e)
{
    scoped(tree_freep) struct tree *t = NULL;
    uint64_t start = clock_boot(), data_end = 0;

    *ret = (struct image_result){.step = "image"};
    int r = read_tree(job, &t, &data_end, e);
    ret->entries_ms = ms_since(start);
    if (r < 0) {
        if (e->fault == FAULT_APP)
            ret->step = "archive";
        refuse(job->entries, e);
        return r;
    }
    ret->inodes = tree_inodes(t);
    r = accept_all(job->entries, t, e);
    return r < 0 ? r : finish(job, control, t, data_end, ret, e);
}

int image_serve(struct frame_conn *control, struct frame *f, struct err *e)
{
    scoped(image_job_done) struct image_job job = {.entries = -1, .image = -1};
    struct image_result res = {.step = "image"};
    struct err why = ERR_INIT;
    int r = image_job_parse(f, &job, &why);

    if (r == 0)
        r = image_run(&job, control, &res, &why);
    if (r < 0)
        return report_error(control, &why, res.step, e);
    return report(control,
                  json_pack("{s:{s:I, s:I, s:{s:I, s:I}}}", "ok", "inodes", (json_int_t)res.inodes,
                            "bytes", (json_int_t)res.bytes, "ms", "entries",
                            (json_int_t)res.entries_ms, "metadata", (json_int_t)res.metadata_ms),
                  e);
}

/* --- seal ----------------------------------------------------------------------------------- */

int seal_serve(struct frame_conn *control, struct frame *f, struct err *e)
{
    struct seal_result res;
    struct err why = ERR_INIT;
    scoped_fd image = frame_take_fd(f, 0);
    int r;

    if (image < 0 || !json_is_object(json_object_get(f->json, "seal")))
        r = err_say(&why, EBADMSG, "the request is none for a seal");
    else
        r = seal_run(image, &res, &why);
    if (r < 0)
        return report_error(control, &why, "disk", e);
    return report(control,
                  json_pack("{s:{s:s, s:I, s:I}}", "ok", "digest", res.digest.hex, "bytes",
                            (json_int_t)res.bytes, "ms", (json_int_t)res.ms),
                  e);
}
