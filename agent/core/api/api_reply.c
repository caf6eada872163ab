#include "core/api/api_priv.h"

#include "base/attachproto.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STR(x)          STR_(x)
#define STR_(x)         #x
#define RETRY_AFTER_SEC 1

/* What an errno is called over HTTP. */
static const struct kind {
    int errnum;
    unsigned status;
    const char *code;
} kinds[] = {
    {EINVAL, MHD_HTTP_BAD_REQUEST, "invalid"},
    {ERANGE, MHD_HTTP_BAD_REQUEST, "invalid"},
    {EBADMSG, MHD_HTTP_BAD_REQUEST, "invalid"},
    {ENAMETOOLONG, MHD_HTTP_BAD_REQUEST, "invalid"},
    {EILSEQ, MHD_HTTP_BAD_REQUEST, "invalid"},
    {EPERM, MHD_HTTP_FORBIDDEN, "forbidden"},
    {EACCES, MHD_HTTP_FORBIDDEN, "forbidden"},
    {ENOENT, MHD_HTTP_NOT_FOUND, "not_found"},
    {ESRCH, MHD_HTTP_NOT_FOUND, "not_found"},
    {EEXIST, MHD_HTTP_CONFLICT, "exists"},
    {EALREADY, MHD_HTTP_CONFLICT, "conflict"},
    {ESTALE, MHD_HTTP_CONFLICT, "conflict"},
    {EMSGSIZE, MHD_HTTP_CONTENT_TOO_LARGE, "too_large"},
    {E2BIG, MHD_HTTP_CONTENT_TOO_LARGE, "too_large"},
    {EFBIG, MHD_HTTP_CONTENT_TOO_LARGE, "too_large"},
    {EPROTONOSUPPORT, MHD_HTTP_UPGRADE_REQUIRED, "upgrade_required"},
    {EUSERS, MHD_HTTP_TOO_MANY_REQUESTS, "too_many"},
    {EDQUOT, MHD_HTTP_TOO_MANY_REQUESTS, "too_many"},
    {ENOSYS, MHD_HTTP_NOT_IMPLEMENTED, "unsupported"},
    {EOPNOTSUPP, MHD_HTTP_NOT_IMPLEMENTED, "unsupported"},
    {EBUSY, MHD_HTTP_SERVICE_UNAVAILABLE, "busy"},
    {EAGAIN, MHD_HTTP_SERVICE_UNAVAILABLE, "busy"},
    {ENOMEM, MHD_HTTP_SERVICE_UNAVAILABLE, "no_memory"},
    {ENOSPC, MHD_HTTP_SERVICE_UNAVAILABLE, "no_space"},
    {EMFILE, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {ENFILE, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {ENOBUFS, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {ENOTCONN, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {ECONNREFUSED, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {EPIPE, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {ETIMEDOUT, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {0, MHD_HTTP_INTERNAL_SERVER_ERROR, "internal"},
};

static const struct kind *kind_of(int errnum)
{
    const struct kind *k = kinds;

    while (k->errnum && k->errnum != errnum)
        k++;
    return k;
}

static int add_bytes(const char *data, size_t len, void *userdata)
{
    struct str *s = userdata;

    str_add_n(s, data, len);
    return s->failed ? -1 : 0;
}

int json_line(struct str *s, const json_t *json)
{
    if (json_dump_callback(json, add_bytes, s, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
        return -ENOMEM;
    str_add_n(s, "\n", 1);
    return s->failed ? -ENOMEM : 0;
}

static json_t *error_object(const struct err *e, const char *code)
{
    char text[2 * ERR_TEXT_MAX];

    text_escape(text, sizeof(text), e->text, strlen(e->text));
    return json_pack("{s:s,s:s,s:s}", "message", text, "fault", fault_name(e->fault), "code", code);
}

json_t *error_json(const struct err *e)
{
    return error_object(e, kind_of(e->errnum)->code);
}

int reply_text(struct request *rq, const char *type, char *text, size_t len, struct err *e)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);

    if (!response) {
        free(text);
        return err_set(e, ENOMEM, "answer");
    }
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) != MHD_YES) {
        MHD_destroy_response(response);
        return err_set(e, ENOMEM, "answer");
    }
    rq->response = response;
    rq->status = MHD_HTTP_OK;
    return 0;
}

int reply_json(struct request *rq, unsigned status, json_t *json, struct err *e)
{
    scoped(json_freep) json_t *taken = json;
    scoped(str_done) struct str text = {0};

    if (!taken || json_line(&text, taken) < 0)
        return err_set(e, ENOMEM, "answer");
    size_t len = text.len;
    int r = reply_text(rq, "application/json", TAKE_PTR(text.data), len, e);
    if (r == 0)
        rq->status = status;
    return r;
}

/* The headers that go with a refusal; without them it is still one. */
static void add_hints(struct request *rq)
{
    if (rq->allow[0])
        (void)MHD_add_response_header(rq->response, MHD_HTTP_HEADER_ALLOW, rq->allow);
    if (rq->status == MHD_HTTP_UPGRADE_REQUIRED)
        (void)MHD_add_response_header(rq->response, MHD_HTTP_HEADER_UPGRADE, ATTACH_UPGRADE);
    if (rq->status == MHD_HTTP_TOO_MANY_REQUESTS || rq->status == MHD_HTTP_SERVICE_UNAVAILABLE)
        (void)MHD_add_response_header(rq->response, MHD_HTTP_HEADER_RETRY_AFTER,
                                      STR(RETRY_AFTER_SEC));
}

int reply_error(struct request *rq, const struct err *e)
{
    static const struct kind wrong_method = {0, MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed"};
    const struct kind *kind = rq->allow[0] ? &wrong_method : kind_of(e->errnum);
    json_t *json = json_pack("{s:o*}", "error", error_object(e, kind->code));
    struct err no_memory = ERR_INIT;
    int r = reply_json(rq, kind->status, json, &no_memory);

    if (r == 0)
        add_hints(rq);
    return r;
}

enum MHD_Result reply_send(struct request *rq)
{
    struct MHD_Response *response = TAKE_PTR(rq->response);
    enum MHD_Result r;

    if (!response)
        return MHD_NO; /* not even memory for an error: the connection closes */
    r = MHD_queue_response(rq->conn, rq->status, response);
    MHD_destroy_response(response); /* it holds its own reference */
    return r;
}
