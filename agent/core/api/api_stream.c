#include "core/api/api_priv.h"

#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOGS_N_DEFAULT 100
#define STREAM_BLOCK   (16u << 10)

/* While a connection is suspended, libmicrohttpd does not look whether its client is still there.
 * A half-closed one (EPOLLRDHUP alone) still reads. */
static int on_hangup(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct stream *s = userdata;

    (void)fd;
    (void)revents;
    (void)sd_event_source_set_enabled(source, SD_EVENT_OFF); /* our own source */
    s->gone = true;
    stream_wake(s);
    return 0;
}

static ssize_t on_content(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct stream *s = cls;

    (void)pos;
    if (s->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    ssize_t n = s->ops->read(s, buf, max);
    if (n < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        s->suspended = true;
        MHD_suspend_connection(s->rq->conn);
    }
    return n;
}

void stream_wake(struct stream *s)
{
    if (!s->suspended)
        return;
    s->suspended = false;
    MHD_resume_connection(s->rq->conn);
    api_again(s->rq->client->api);
}

static int watch_client(struct stream *s, struct err *e)
{
    struct client *c = s->rq->client;
    int r = sd_event_add_io(c->api->loop, &s->hangup, c->fd, EPOLLHUP, on_hangup, s);

    return r < 0 ? err_set(e, -r, "watch a client of a stream") : 0;
}

int stream_start(struct stream *s, const struct stream_ops *ops, struct request *rq,
                 const char *type, struct err *e)
{
    struct MHD_Response *response;

    s->ops = ops;
    s->rq = rq;
    rq->stream = s;
    TAILQ_INSERT_TAIL(&rq->client->api->streams, s, link);
    int r = watch_client(s, e);
    if (r < 0)
        return r;
    response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_content, s, NULL);
    if (!response)
        return err_set(e, ENOMEM, "start a stream");
    rq->response = response;
    rq->status = MHD_HTTP_OK;
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) != MHD_YES ||
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") != MHD_YES ||
        MHD_set_connection_option(rq->conn, MHD_CONNECTION_OPTION_TIMEOUT, 0u) != MHD_YES) {
        MHD_destroy_response(TAKE_PTR(rq->response));
        return err_set(e, ENOMEM, "start a stream");
    }
    return 0;
}

void stream_free(struct stream *s)
{
    sd_event_source_disable_unref(s->hangup);
    TAILQ_REMOVE(&s->rq->client->api->streams, s, link);
    s->ops->free(s);
}

void stream_end_all(struct api *api)
{
    struct stream *s;

    TAILQ_FOREACH (s, &api->streams, link) {
        s->gone = true;
        stream_wake(s);
    }
}

/* --- Logs: what dynod-logs writes into a pipe --- */

struct log_stream {
    struct stream stream; /* first */
    int fd;
    sd_event_source *readable; /* off but while the connection is suspended */
};

static ssize_t log_read(struct stream *s, char *buf, size_t max)
{
    struct log_stream *log = (struct log_stream *)s;
    ssize_t n;

    do
        n = read(log->fd, buf, max);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return n;
    if (n < 0 && errno == EAGAIN &&
        sd_event_source_set_enabled(log->readable, SD_EVENT_ONESHOT) >= 0)
        return 0;
    return -1;
}

static void log_free(struct stream *s)
{
    struct log_stream *log = (struct log_stream *)s;

    sd_event_source_disable_unref(log->readable);
    fd_closep(&log->fd);
    free(log);
}

static const struct stream_ops log_ops = {log_read, log_free};

static int on_log_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct log_stream *log = userdata;

    (void)source;
    (void)fd;
    (void)revents;
    stream_wake(&log->stream);
    return 0;
}

static const char *or_absent(const char *text)
{
    return text[0] ? text : NULL;
}

static int ask_logs(struct request *rq, int fd, struct err *e)
{
    const struct params *p = &rq->params;
    scoped_fd taken = fd;
    json_t *query = json_pack("{s:s*,s:s*,s:s*,s:I,s:b,s:s}", "app", or_absent(p->app), "dyno",
                              or_absent(p->dyno), "source", or_absent(p->source), "n",
                              (json_int_t)(p->has_n ? p->n : LOGS_N_DEFAULT), "follow", p->follow,
                              "format", p->json ? "json" : "text");

    if (!query)
        return err_set(e, ENOMEM, "ask for logs");
    int r = agent_logs(rq->client->api->agent, query, TAKE_FD(taken), e);
    json_decref(query);
    return r;
}

/* Not blocking on either side: neither dynod-logs nor this loop waits for the other. */
static int log_begin(struct log_stream *log, struct request *rq, struct err *e)
{
    scoped_fd write_end = -1;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_set(e, errno, "make a pipe for logs");
    log->fd = ends[0];
    write_end = ends[1];
    int r = sd_event_add_io(rq->client->api->loop, &log->readable, log->fd, EPOLLIN,
                            on_log_readable, log);
    if (r >= 0)
        r = sd_event_source_set_enabled(log->readable, SD_EVENT_OFF);
    return r < 0 ? err_set(e, -r, "watch logs") : ask_logs(rq, TAKE_FD(write_end), e);
}

int route_logs(struct request *rq, struct err *e)
{
    struct log_stream *log;
    const char *type = rq->params.json ? "application/x-ndjson" : "text/plain; charset=utf-8";

    if (rq->head)
        return reply_text(rq, type, NULL, 0, e);
    log = calloc(1, sizeof(*log));
    if (!log)
        return err_set(e, ENOMEM, "read logs");
    log->fd = -1;
    int r = log_begin(log, rq, e);
    if (r < 0) {
        log_free(&log->stream);
        return r;
    }
    return stream_start(&log->stream, &log_ops, rq, type, e);
}
