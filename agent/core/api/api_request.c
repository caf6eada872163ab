#include "core/api/api_priv.h"

#include "base/attachproto.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SMALL_BODY (64u << 10) /* read to its end even when refused, which keeps the connection */

/* libmicrohttpd would decode leniently, and before the path is split: api_path.c does it. */
size_t request_unescape(void *cls, struct MHD_Connection *conn, char *text)
{
    (void)cls;
    (void)conn;
    return strlen(text);
}

static const char *header(const struct request *rq, const char *name)
{
    return MHD_lookup_connection_value(rq->conn, MHD_HEADER_KIND, name);
}

/* LIST: "keep-alive, Upgrade". */
static bool list_has(const char *list, const char *token)
{
    size_t len = strlen(token);

    while (list && *list) {
        list += strspn(list, ", \t");
        size_t n = strcspn(list, ", \t");
        if (n == len && !strncasecmp(list, token, n))
            return true;
        list += n;
    }
    return false;
}

static void refuse(struct request *rq, const struct err *why)
{
    rq->refused = true;
    rq->why = *why;
    str_done(&rq->body);
}

static int check_length(const struct request *rq, struct err *e)
{
    const char *length = header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n;

    /* What is not a number, libmicrohttpd has refused already. */
    if (!length || parse_u64(length, 0, API_BODY_MAX, &n) != -ERANGE)
        return 0;
    err_say(e, EMSGSIZE, "a body of %s bytes is over the limit of %u", length, API_BODY_MAX);
    return err_blame(e, FAULT_OPERATOR);
}

/* All that can be judged before the body is there. */
static int judge(struct request *rq, const char *method, const char *url, struct err *e)
{
    int r = client_verdict(rq->client, e);

    if (r == 0)
        r = path_route(rq, method, url, e);
    if (r == 0)
        r = path_query(rq, e);
    if (r == 0)
        r = check_length(rq, e);
    return r;
}

static enum MHD_Result begin(struct request *rq, const char *url, const char *method,
                             const char *version)
{
    struct err e = ERR_INIT;
    const char *length = header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n;

    rq->head = !strcmp(method, "HEAD");
    rq->upgrade = !strcmp(version, MHD_HTTP_VERSION_1_1) &&
                  list_has(header(rq, MHD_HTTP_HEADER_CONNECTION), "upgrade") &&
                  list_has(header(rq, MHD_HTTP_HEADER_UPGRADE), ATTACH_UPGRADE);
    if (judge(rq, method, url, &e) == 0)
        return MHD_YES;
    refuse(rq, &e);
    /* An answer before the body has been read closes the connection. */
    if (rq->client->verdict == CLIENT_SERVED &&
        (!length || parse_u64(length, 0, SMALL_BODY, &n) == 0))
        return MHD_YES;
    rq->client->busy = true;
    return reply_error(rq, &rq->why) < 0 ? MHD_NO : reply_send(rq);
}

/* Collects a piece of the body. A chunked one shows its size only as it comes. */
static enum MHD_Result collect(struct request *rq, const char *data, size_t len)
{
    struct err e = ERR_INIT;

    rq->body_seen += len;
    if (!rq->refused) {
        if (rq->body_seen <= API_BODY_MAX) {
            client_touch(rq->client);
            str_add_n(&rq->body, data, len);
        }
        if (rq->body_seen > API_BODY_MAX)
            err_say(&e, EMSGSIZE, "the body is over the limit of %u bytes", API_BODY_MAX);
        else if (rq->body.failed)
            err_set(&e, ENOMEM, "read the body");
        if (e.errnum) {
            e.fault = FAULT_OPERATOR;
            refuse(rq, &e);
        }
    }
    return rq->body_seen > API_DISCARD_MAX ? MHD_NO : MHD_YES;
}

/* How many values TEXT may hold at most: each comes after one of these. */
static size_t count_values(const char *text, size_t len)
{
    bool in_string = false;
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == ',' || c == '[' || c == '{'))
            n++;
    }
    return n;
}

static int parse_body(struct request *rq, struct err *e)
{
    const struct str *body = &rq->body;
    int r;

    if (body->len == 0 && rq->route->body == BODY_OPTIONAL && !(rq->spec = json_object()))
        return err_set(e, ENOMEM, "read the body");
    if (body->len == 0 && rq->route->body != BODY_OBJECT)
        return 0;
    if (body->len == 0)
        return err_say(e, EINVAL, "%s %s wants a JSON object as its body", rq->route->method,
                       rq->route->path);
    size_t n = count_values(body->data, body->len);
    if (n > API_BODY_VALUES_MAX)
        return err_say(e, EMSGSIZE, "%zu values in the body are over the limit of %d", n,
                       API_BODY_VALUES_MAX);
    r = json_parse(body->data, body->len, API_BODY_MAX, &rq->spec, e);
    if (r < 0)
        return err_wrap(e, "the body");
    if (!json_is_object(rq->spec))
        return err_say(e, EINVAL, "the body is not a JSON object");
    if (rq->route->body == BODY_NONE && json_object_size(rq->spec) > 0)
        return err_say(e, EINVAL, "%s %s takes no body", rq->route->method, rq->route->path);
    return 0;
}

static enum MHD_Result carry_out(struct request *rq)
{
    struct err e = ERR_INIT;
    int r = 0;

    rq->client->busy = true;
    if (rq->refused) {
        e = rq->why;
        r = -e.errnum;
    }
    if (r == 0 && (r = parse_body(rq, &e)) < 0)
        e.fault = FAULT_OPERATOR;
    if (r == 0)
        r = rq->route->run(rq, &e);
    str_done(&rq->body); /* the answer may go on for days */
    json_decref(TAKE_PTR(rq->spec));
    if (r < 0 && reply_error(rq, &e) < 0)
        return MHD_NO;
    return reply_send(rq);
}

enum MHD_Result request_on_access(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **con_cls)
{
    struct client *c;
    struct request *rq = *con_cls;

    (void)cls;
    if (!rq) {
        c = client_of(conn);
        *con_cls = rq = &c->rq;
        *rq = (struct request){.client = c, .conn = conn, .body = {.max = API_BODY_MAX}};
        return begin(rq, url, method, version);
    }
    if (*upload_size > 0) {
        size_t len = *upload_size;

        *upload_size = 0;
        return collect(rq, upload, len);
    }
    return carry_out(rq);
}

void request_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                          enum MHD_RequestTerminationCode why)
{
    struct request *rq = *con_cls;

    (void)cls;
    (void)conn;
    (void)why;
    if (!rq)
        return;
    *con_cls = NULL;
    if (rq->stream)
        stream_free(TAKE_PTR(rq->stream));
    if (rq->session)
        session_abandon(TAKE_PTR(rq->session));
    if (rq->response)
        MHD_destroy_response(TAKE_PTR(rq->response));
    str_done(&rq->body);
    json_decref(TAKE_PTR(rq->spec));
    rq->client->busy = false;
    client_touch(rq->client);
}
