#include "slug/fetch/role_unpack.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "slug/cache.h"
#include "slug/fetch/confine.h"
#include "slug/fetch/talk.h"
#include "slug/fetch/unpack.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct session {
    struct frame_conn *conn;
    uint64_t next; /* when progress is told again */
};

/* Owns the descriptors of its request. */
static void request_close(struct unpack_request *rq)
{
    fd_closep(&rq->in);
    fd_closep(&rq->image);
    fd_closep(&rq->entries);
    fd_closep(&rq->dir);
}

static int refuse(struct err *e, const char *key)
{
    return err_say(e, EINVAL, "the request's \"%s\" is missing or wrong", key);
}

static int take_limits(const json_t *obj, struct slug_limits *l, struct err *e)
{
    struct {
        const char *key;
        int64_t max;
        uint64_t *value;
    } const fields[] = {
        {"compressed", INT64_MAX, &l->compressed}, {"unpacked", INT64_MAX, &l->unpacked},
        {"entries", INT64_MAX, &l->entries},       {"depth", FETCH_NAME_MAX, &l->depth},
        {"ratio", INT64_MAX, &l->ratio},           {"name", FETCH_COMPONENT_MAX, &l->name},
    };
    const json_t *limits = json_object_get(obj, "limits");

    slug_limits_default(l);
    if (limits && !json_is_object(limits))
        return refuse(e, "limits");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const json_t *v = json_object_get(limits, fields[i].key);

        if (!v)
            continue;
        if (!json_is_integer(v) || json_integer_value(v) < 1 ||
            json_integer_value(v) > fields[i].max)
            return refuse(e, fields[i].key);
        *fields[i].value = (uint64_t)json_integer_value(v);
    }
    return 0;
}

static bool is_mode(int fd, mode_t type)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

/* Into what, and the descriptors that it takes. */
static int take_places(struct frame *f, struct unpack_request *rq, struct err *e)
{
    const char *to = json_str(f->json, "to", "");

    rq->in = frame_take_fd(f, 0);
    if (!is_mode(rq->in, S_IFIFO) && !is_mode(rq->in, S_IFREG))
        return err_say(e, EINVAL, "the request came without a pipe");
    if (!strcmp(to, "directory")) {
        rq->dir = frame_take_fd(f, 1);
        return is_mode(rq->dir, S_IFDIR)
                   ? 0
                   : err_say(e, EINVAL, "the request came without a directory");
    }
    if (strcmp(to, "image") != 0)
        return refuse(e, "to");
    rq->image = frame_take_fd(f, 1);
    rq->entries = frame_take_fd(f, 2);
    return is_mode(rq->image, S_IFREG) && is_mode(rq->entries, S_IFSOCK)
               ? 0
               : err_say(e, EINVAL, "the request came without an image and its entries");
}

static int on_progress(void *userdata, const struct slug_counts *counts, struct err *e)
{
    struct session *s = userdata;
    uint64_t now = clock_boot();

    if (now < s->next)
        return 0;
    s->next = now + PROGRESS_MS * USEC_PER_MSEC;
    int r = talk_check(s->conn, e);
    if (r == 0 && frame_pending(s->conn))
        r = frame_flush(s->conn, e);
    if (r != 0) /* an agent that is slow to read misses some: nothing waits for it */
        return r < 0 ? r : 0;
    scoped(json_freep) json_t *json =
        json_pack("{s:{s:I,s:I}}", "progress", "entries", (json_int_t)counts->entries, "unpacked",
                  (json_int_t)counts->unpacked);
    return json ? frame_send(s->conn, json, NULL, 0, e) : err_set(e, ENOMEM, "report progress");
}

static json_t *warnings_json(const struct procfile *p)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < p->n_warnings; i++)
        if (json_array_append_new(list, json_string(p->warnings[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *ok_json(const struct unpack_outcome *o)
{
    return json_pack("{s:{s:I,s:I,s:I,s:o,s:o,s:{s:I,s:I,s:I,s:I}}}", "ok", "compressed",
                     (json_int_t)o->compressed, "unpacked", (json_int_t)o->counts.unpacked,
                     "entries", (json_int_t)o->counts.entries, "types",
                     slug_meta_types_json(&o->types), "warnings", warnings_json(&o->types), "ms",
                     "read", (json_int_t)o->read_ms, "inflate", (json_int_t)o->inflate_ms, "write",
                     (json_int_t)o->write_ms, "total", (json_int_t)o->ms);
}

static json_t *error_json(const char *step, const struct err *e)
{
    struct failure o = {.step = step};

    return talk_error(&o, e);
}

/* What the role has to tell; NULL: no memory. */
static json_t *result_json(int r, const struct unpack_outcome *o, const struct err *why)
{
    scoped(json_freep) json_t *json = r < 0 ? error_json(o->step, why) : ok_json(o);
    struct err large = ERR_INIT;

    if (!json || json_dumpb(json, NULL, 0, JSON_COMPACT) <= FRAME_MAX)
        return TAKE_PTR(json);
    err_say(&large, EFBIG, "the process types together are over the limit of %u bytes", FRAME_MAX);
    (void)err_blame(&large, FAULT_APP);
    return error_json("procfile", &large);
}

static int run(struct frame_conn *conn, struct frame *f, struct unpack_outcome *o, struct err *e)
{
    scoped(request_close) struct unpack_request rq = {
        .in = -1, .image = -1, .entries = -1, .dir = -1};
    struct session session = {.conn = conn};
    struct unpack_watch watch = {on_progress, &session};
    struct confinement c = {.role = CONFINE_UNPACK, .dir = -1};
    int r = take_places(f, &rq, e);

    o->step = "sandbox";
    if (r == 0)
        r = take_limits(f->json, &rq.limits, e);
    if (rq.dir >= 0)
        c = (struct confinement){.role = CONFINE_UNPACK_TREE, .dir = rq.dir};
    if (r == 0)
        r = confine(&c, e);
    return r < 0 ? r : unpack_run(&rq, &watch, o, e);
}

int unpack_serve(struct frame_conn *control, struct frame *f, struct err *e)
{
    scoped(unpack_outcome_done) struct unpack_outcome o = {0};
    struct err why = ERR_INIT;
    int r = run(control, f, &o, &why);
    scoped(json_freep) json_t *json = result_json(r, &o, &why);

    return json ? talk_send(control, json, e) : err_set(e, ENOMEM, "report the result");
}
