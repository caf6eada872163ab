/* download_server.h - a store for tests: a process that serves one object, a process a connection,
 * and does to each request what the test's function says. Counts what it saw. */
#ifndef TESTS_DOWNLOAD_SERVER_H
#define TESTS_DOWNLOAD_SERVER_H

#include "base/scoped.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct server_counts {
    atomic_uint requests, ranged, unconditional; /* the last: ranged without a condition */
    atomic_uint open, most;                      /* requests at once */
    atomic_ullong sent;                          /* bytes of bodies */
};

struct server {
    pid_t pid;
    char url[80];
    struct server_counts *n;
};

struct server_request {
    int fd;
    unsigned number; /* of this server's, from 0 */
    char head[4096];
    bool ranged;
    unsigned long long from,
        to; /* of a range; TO is the object's last byte where it was left out */
    struct server_counts *n;
};

/* How to answer with the object. */
struct server_answer {
    const char *data;
    size_t len;
    const char *fields;    /* further header lines, each with \r\n */
    const char *etag;      /* NULL: none */
    bool no_ranges;        /* all of it, whatever was asked for */
    bool chunked;          /* no length */
    long long cut;         /* so many bytes, then the connection is closed; 0: all */
    size_t claims;         /* a Content-Length that lies; 0: the truth */
    unsigned bytes_per_ms; /* 0: as fast as it goes */
};

static inline void server_head(struct server_request *rq, const char *status, const char *fields)
{
    (void)dprintf(rq->fd, "HTTP/1.1 %s\r\n%s\r\n", status, fields);
}

static inline void server_error(struct server_request *rq, const char *status)
{
    char fields[64];

    (void)snprintf(fields, sizeof(fields), "Content-Length: 0\r\n");
    server_head(rq, status, fields);
}

/* Whether the connection is to be kept. */
static inline bool server_body(struct server_request *rq, const struct server_answer *a,
                               const char *data, size_t len)
{
    size_t most = a->cut && (size_t)a->cut < len ? (size_t)a->cut : len;
    size_t step = a->bytes_per_ms ? a->bytes_per_ms * 10u : 65536u;

    for (size_t at = 0; at < most;) {
        size_t n = most - at < step ? most - at : step;

        if (a->chunked)
            (void)dprintf(rq->fd, "%zx\r\n", n);
        /* Before: who gets the last byte may look at the count. */
        atomic_fetch_add(&rq->n->sent, n);
        ssize_t w = send(rq->fd, data + at, n, MSG_NOSIGNAL);
        if (w <= 0)
            return false;
        if (a->chunked)
            (void)dprintf(rq->fd, "\r\n");
        at += (size_t)w;
        if (a->bytes_per_ms)
            (void)usleep(10000);
    }
    if (a->chunked && most == len)
        (void)dprintf(rq->fd, "0\r\n\r\n");
    return most == len && !a->claims;
}

static inline bool server_object(struct server_request *rq, const struct server_answer *a)
{
    char fields[800], etag[300] = "", length[80] = "";
    bool part = rq->ranged && !a->no_ranges;
    size_t from = part ? (size_t)rq->from : 0;
    size_t end = part && rq->to + 1 < a->len ? (size_t)rq->to + 1 : a->len;

    if (part && from >= a->len) {
        server_error(rq, "416 Range Not Satisfiable");
        return true;
    }
    if (a->etag)
        (void)snprintf(etag, sizeof(etag), "ETag: %s\r\n", a->etag);
    if (a->chunked)
        (void)snprintf(length, sizeof(length), "Transfer-Encoding: chunked\r\n");
    else
        (void)snprintf(length, sizeof(length), "Content-Length: %zu\r\n",
                       a->claims ? a->claims : end - from);
    (void)snprintf(fields, sizeof(fields), "%s%s%s", etag, length, a->fields ? a->fields : "");
    if (part)
        (void)snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields),
                       "Content-Range: bytes %zu-%zu/%zu\r\n", from, end - 1, a->len);
    server_head(rq, part ? "206 Partial" : "200 OK", fields);
    return server_body(rq, a, a->data + from, end - from);
}

/* Answers RQ; whether the connection is to be kept. */
typedef bool server_fn(struct server_request *rq);

static inline bool server_read(struct server_request *rq, size_t object_len)
{
    size_t used = 0;
    ssize_t n = 0;

    memset(rq->head, 0, sizeof(rq->head));
    while (!strstr(rq->head, "\r\n\r\n") && used < sizeof(rq->head) - 1 &&
           (n = read(rq->fd, rq->head + used, sizeof(rq->head) - 1 - used)) > 0)
        used += (size_t)n;
    if (n <= 0)
        return false;
    const char *range = strstr(rq->head, "\r\nRange: bytes=");
    rq->ranged = range != NULL;
    rq->from = 0;
    rq->to = object_len - 1;
    if (range)
        (void)sscanf(range, "\r\nRange: bytes=%llu-%llu", &rq->from, &rq->to);
    rq->number = atomic_fetch_add(&rq->n->requests, 1);
    if (rq->ranged)
        atomic_fetch_add(&rq->n->ranged, 1);
    if (rq->ranged && !strstr(rq->head, "\r\nIf-Match: ") &&
        !strstr(rq->head, "\r\nIf-Unmodified-Since: "))
        atomic_fetch_add(&rq->n->unconditional, 1);
    return true;
}

static inline void server_connection(int fd, server_fn *fn, size_t object_len,
                                     struct server_counts *n)
{
    struct server_request rq = {.fd = fd, .n = n};
    bool keep = true;

    while (keep && server_read(&rq, object_len)) {
        unsigned open = atomic_fetch_add(&n->open, 1) + 1;
        unsigned most = atomic_load(&n->most);

        while (open > most && !atomic_compare_exchange_weak(&n->most, &most, open))
            ;
        keep = fn(&rq);
        atomic_fetch_sub(&n->open, 1);
    }
    close(fd);
}

/* Not cmocka's: a failure to listen ends the test program. */
static inline void server_start(struct server *s, server_fn *fn, size_t object_len)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    s->n = mmap(NULL, sizeof(*s->n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->n == MAP_FAILED || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        abort();
    (void)snprintf(s->url, sizeof(s->url), "http://user:pass@127.0.0.1:%u/slug?sig=x",
                   ntohs(a.sin_port));
    s->pid = fork();
    if (s->pid == 0) {
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that failed has not stopped it */
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGCHLD, SIG_IGN);
        for (int c; (c = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(c))
            if (fork() == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)alarm(280);
                server_connection(c, fn, object_len, s->n);
                _exit(0);
            }
        _exit(0);
    }
    (void)setpgid(s->pid, s->pid);
    close(fd);
}

static inline void server_stop(struct server *s)
{
    if (s->pid > 0) {
        (void)kill(-s->pid, SIGKILL); /* the group that it made */
        (void)waitpid(s->pid, NULL, 0);
    }
    (void)munmap(s->n, sizeof(*s->n));
    s->pid = 0;
}

#endif
