#include "cli/client.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/http.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SYSTEM_SOCKET "/run/dynod/api.sock"
#define READ_CHUNK    65536

const char *client_socket(const char *given, char buf[CLIENT_SOCKET_MAX])
{
    const char *env = getenv("DYNOD_SOCKET");

    if (given)
        return given;
    if (env && *env)
        return env;
    /* A directory that hides it from us exists too: the error will say so. */
    if (geteuid() == 0 || access(SYSTEM_SOCKET, F_OK) == 0 || errno == EACCES)
        return SYSTEM_SOCKET;
    env = getenv("XDG_RUNTIME_DIR");
    if (env && *env)
        (void)snprintf(buf, CLIENT_SOCKET_MAX, "%s/dynod/api.sock", env);
    else
        (void)snprintf(buf, CLIENT_SOCKET_MAX, "/run/user/%u/dynod/api.sock", geteuid());
    return buf;
}

static int connect_agent(const char *socket, int *ret_fd, struct err *e)
{
    int r = unix_connect(socket, SOCK_STREAM, ret_fd, e);

    if (r == -ENOENT || r == -ECONNREFUSED || r == -ENOTDIR)
        r = err_say(e, ENOTCONN, "no agent listens on %s", socket);
    else if (r == -EACCES || r == -EPERM)
        r = err_say(e, ECONNREFUSED, "you may not use the agent's socket %s", socket);
    if (r < 0)
        (void)err_blame(e, FAULT_OPERATOR);
    return r;
}

/* The timeout is one of silence, not of the whole. */
static int wait_readable(int fd, int timeout_ms, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        int n = poll(&p, 1, timeout_ms);

        if (n > 0)
            return 0;
        if (n == 0)
            return err_say(e, ETIMEDOUT, "the agent did not answer within %d seconds",
                           timeout_ms / 1000);
        if (errno != EINTR)
            return err_set(e, errno, "wait for the agent");
    }
}

static int send_request(int fd, const char *method, const char *path, const json_t *body,
                        const char *headers, struct err *e)
{
    scoped_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    scoped(str_done) struct str s = {0};

    if (body && !text)
        return err_set(e, ENOMEM, "make a request");
    str_addf(&s, "%s %s HTTP/1.1\r\nHost: dynod\r\nUser-Agent: dyno/%s\r\n%s", method, path,
             DYNOD_VERSION, headers);
    if (text)
        str_addf(&s, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(text));
    else if (strcmp(method, "GET") != 0)
        str_add(&s, "Content-Length: 0\r\n");
    str_add(&s, "\r\n");
    if (text)
        str_add(&s, text);
    if (s.failed)
        return err_set(e, ENOMEM, "make a request");
    /* An agent that refuses the request may close before it has read it all; its answer is there
     * all the same, so a broken pipe is left for the read to explain. */
    for (size_t sent = 0; sent < s.len;) {
        ssize_t n = send(fd, s.data + sent, s.len - sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE)
            break;
        if (n < 0)
            return err_set(e, errno, "send a request to the agent");
        sent += (size_t)n;
    }
    return 0;
}

/* Reads once into H and BODY; FLAGS as of recv. 1: bytes came, 0: end of file (which H allowed). */
static int read_some(int fd, int flags, struct http *h, struct str *body, struct err *e)
{
    char buf[READ_CHUNK];
    size_t used;
    ssize_t n;

    do
        n = recv(fd, buf, sizeof(buf), flags);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    if (n < 0 && errno != ECONNRESET)
        return err_set(e, errno, "read the agent's answer");
    if (n <= 0)
        return http_eof(h, e);
    int r = http_feed(h, buf, (size_t)n, body, &used, e);
    return r < 0 ? r : 1;
}

static int errnum_of_status(int status)
{
    switch (status) {
    case 400:
    case 422:
        return EINVAL;
    case 401:
    case 403:
        return ECONNREFUSED;
    case 404:
        return ENOENT;
    case 409:
        return EEXIST;
    case 413:
        return EMSGSIZE;
    case 429:
    case 503:
        return EBUSY;
    case 507:
        return ENOSPC;
    default:
        return EIO;
    }
}

/* {"error": {"message", "fault", "code"}} as an error of ours. */
static int answered_error(int status, const struct str *body, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;
    struct err ignored = ERR_INIT;

    if (body->len)
        (void)json_parse(body->data, body->len, CLIENT_ANSWER_MAX, &json, &ignored);
    const json_t *error = json_object_get(json, "error");
    const char *message = json_str(error, "message", NULL);
    if (!message)
        return err_say(e, errnum_of_status(status), "the agent answered with HTTP status %d",
                       status);
    (void)err_say(e, errnum_of_status(status), "%s", message);
    return err_blame(e, fault_from_name(json_str(error, "fault", "platform")));
}

/* Reads the rest of a response. */
static int read_rest(int fd, struct http *h, struct str *body, struct err *e)
{
    while (h->state != HTTP_DONE) {
        int r = wait_readable(fd, CLIENT_TIMEOUT_MS, e);

        if (r == 0)
            r = read_some(fd, 0, h, body, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_answer(const struct str *body, json_t **ret, struct err *e)
{
    if (!body->len) {
        *ret = json_object();
        return *ret ? 0 : err_set(e, ENOMEM, "read the agent's answer");
    }
    int r = json_parse(body->data, body->len, CLIENT_ANSWER_MAX, ret, e);
    return r < 0 ? err_wrap(e, "the agent's answer") : 0;
}

int client_call(const char *socket, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *e)
{
    scoped_fd fd = -1;
    scoped(http_done) struct http h = {0};
    scoped(str_done) struct str answer = {.max = CLIENT_ANSWER_MAX};
    json_t *json = NULL;
    int r = connect_agent(socket, &fd, e);

    if (r == 0)
        r = send_request(fd, method, path, body, "Connection: close\r\n", e);
    if (r == 0)
        r = read_rest(fd, &h, &answer, e);
    if (r < 0)
        return r;
    if (h.status < 200 || h.status > 299)
        return answered_error(h.status, &answer, e);
    r = parse_answer(&answer, &json, e);
    if (r < 0)
        return r;
    if (ret)
        *ret = json;
    else
        json_decref(json);
    return 0;
}

/* --- Streams --- */

struct feed {
    int fd;
    struct http http;
    struct str body;
    size_t used; /* bytes of the body that were handed out */
};

void feed_freep(struct feed **s)
{
    if (!*s)
        return;
    fd_closep(&(*s)->fd);
    http_done(&(*s)->http);
    str_done(&(*s)->body);
    free(*s);
    *s = NULL;
}

int feed_fd(const struct feed *s)
{
    return s->fd;
}

int client_feed(const char *socket, const char *path, struct feed **ret, struct err *e)
{
    scoped(feed_freep) struct feed *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, ENOMEM, "open a stream");
    s->fd = -1;
    s->body.max = CLIENT_LINE_MAX + READ_CHUNK;
    int r = connect_agent(socket, &s->fd, e);
    if (r == 0)
        r = send_request(s->fd, "GET", path, NULL, "Connection: close\r\n", e);
    while (r == 0 && s->http.state == HTTP_HEAD) {
        r = wait_readable(s->fd, CLIENT_TIMEOUT_MS, e);
        if (r == 0)
            r = read_some(s->fd, 0, &s->http, &s->body, e);
        r = r > 0 ? 0 : r;
    }
    if (r < 0)
        return r;
    if (s->http.status != 200) {
        r = read_rest(s->fd, &s->http, &s->body, e);
        return r < 0 ? r : answered_error(s->http.status, &s->body, e);
    }
    *ret = TAKE_PTR(s);
    return 0;
}

/* Cuts a line off the body; at the end of the stream the last one may lack its line end. */
static bool cut_line(struct feed *s, const char **ret, size_t *ret_len)
{
    size_t have = s->body.len - s->used;

    if (have == 0)
        return false;
    char *start = s->body.data + s->used;
    char *end = memchr(start, '\n', have);
    if (!end && s->http.state != HTTP_DONE)
        return false;
    size_t len = end ? (size_t)(end - start) : have;
    s->used += len + (end ? 1 : 0);
    start[len] = '\0'; /* over the line end, or str's own NUL */
    *ret = start;
    *ret_len = len;
    return true;
}

/* Drops what was handed out: only here, so that lines stay valid until the next call. */
static void compact(struct feed *s)
{
    if (!s->used)
        return;
    memmove(s->body.data, s->body.data + s->used, s->body.len - s->used);
    s->body.len -= s->used;
    s->body.data[s->body.len] = '\0';
    s->used = 0;
}

bool feed_buffered(const struct feed *s)
{
    size_t have = s->body.len - s->used;

    return have > 0 && memchr(s->body.data + s->used, '\n', have) != NULL;
}

int feed_line(struct feed *s, const char **ret, size_t *ret_len, struct err *e)
{
    for (;;) {
        if (cut_line(s, ret, ret_len))
            return 1;
        if (s->http.state == HTTP_DONE)
            return err_say(e, ENODATA, "the agent ended the stream");
        compact(s);
        int r = read_some(s->fd, MSG_DONTWAIT, &s->http, &s->body, e);
        if (r == -EAGAIN)
            return 0;
        if (r < 0)
            return r;
    }
}

int feed_line_wait(struct feed *s, const char **ret, size_t *ret_len, struct err *e)
{
    for (;;) {
        int r = feed_line(s, ret, ret_len, e);

        if (r != 0)
            return r;
        r = wait_readable(s->fd, -1, e);
        if (r < 0)
            return r;
    }
}

int feed_event(struct feed *s, json_t **ret, struct err *e)
{
    const char *line;
    size_t len;
    int r;

    do
        r = feed_line(s, &line, &len, e);
    while (r > 0 && len == 0);
    if (r <= 0)
        return r;
    r = json_parse(line, len, CLIENT_LINE_MAX, ret, e);
    return r < 0 ? err_wrap(e, "an event") : 1;
}

int feed_event_wait(struct feed *s, json_t **ret, struct err *e)
{
    int r;

    while ((r = feed_event(s, ret, e)) == 0) {
        r = wait_readable(s->fd, -1, e);
        if (r < 0)
            return r;
    }
    return r;
}

/* --- Upgrade --- */

/* Reads the head and not one byte more, one byte at a time: what follows carries descriptors, which
 * a plain read would lose. */
static int read_head(int fd, struct http *h, struct str *body, struct err *e)
{
    size_t used;
    char c;

    while (h->state == HTTP_HEAD) {
        int r = wait_readable(fd, CLIENT_TIMEOUT_MS, e);
        if (r < 0)
            return r;
        ssize_t n = recv(fd, &c, 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, errno, "read the agent's answer");
        r = n == 0 ? http_eof(h, e) : http_feed(h, &c, 1, body, &used, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int client_upgrade(const char *socket, const char *path, const json_t *body, int *ret_fd,
                   struct err *e)
{
    scoped_fd fd = -1;
    scoped(http_done) struct http h = {0};
    scoped(str_done) struct str answer = {.max = CLIENT_ANSWER_MAX};
    int r = connect_agent(socket, &fd, e);

    if (r == 0)
        r = send_request(fd, "POST", path, body, "Connection: Upgrade\r\nUpgrade: dynod-attach\r\n",
                         e);
    if (r == 0)
        r = read_head(fd, &h, &answer, e);
    if (r < 0)
        return r;
    if (h.state != HTTP_UPGRADED) {
        r = read_rest(fd, &h, &answer, e);
        return r < 0 ? r : answered_error(h.status, &answer, e);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}
