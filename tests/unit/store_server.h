/* store_server.h - a server on loopback that answers each request with what a function of the test
 * says, and keeps what it was asked. One request a connection. */
#ifndef TESTS_STORE_SERVER_H
#define TESTS_STORE_SERVER_H

#include "base/scoped.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_REQUEST_MAX 16384
#define SERVER_REQUESTS    32

struct server {
    int ear;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t lock;
    /* The whole answer, a string; malloced. */
    char *(*answer)(void *userdata, const char *request, unsigned number);
    void *userdata;
    char *requests[SERVER_REQUESTS];
    unsigned n;
};

static size_t server_body_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");

    return at ? strtoul(at + 17, NULL, 10) : 0;
}

/* Head and body of the request on FD; NULL: it ended early. */
static char *server_read(int fd)
{
    char *text = calloc(1, SERVER_REQUEST_MAX);
    size_t len = 0;

    while (text && len < SERVER_REQUEST_MAX - 1) {
        ssize_t n = read(fd, text + len, SERVER_REQUEST_MAX - 1 - len);
        char *end;

        if (n <= 0)
            break;
        len += (size_t)n;
        end = strstr(text, "\r\n\r\n");
        if (end && len >= (size_t)(end + 4 - text) + server_body_length(text))
            return text;
    }
    free(text);
    return NULL;
}

static void *server_run(void *arg)
{
    struct server *s = arg;
    int fd;

    while ((fd = accept(s->ear, NULL, NULL)) >= 0) {
        char *request = server_read(fd);

        if (request) {
            pthread_mutex_lock(&s->lock);
            unsigned number = s->n;
            if (number < SERVER_REQUESTS)
                s->requests[s->n++] = request;
            pthread_mutex_unlock(&s->lock);
            char *answer = s->answer(s->userdata, request, number);
            (void)!send(fd, answer, strlen(answer), MSG_NOSIGNAL);
            free(answer);
            if (number >= SERVER_REQUESTS)
                free(request);
        }
        (void)shutdown(fd, SHUT_WR);
        close(fd);
    }
    return NULL;
}

static int server_start(struct server *s, char *(*answer)(void *, const char *, unsigned),
                        void *userdata)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    *s = (struct server){.answer = answer, .userdata = userdata};
    pthread_mutex_init(&s->lock, NULL);
    s->ear = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->ear < 0 || bind(s->ear, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        listen(s->ear, 16) < 0 || getsockname(s->ear, (struct sockaddr *)&at, &len) < 0)
        return -1;
    s->port = ntohs(at.sin_port);
    return pthread_create(&s->thread, NULL, server_run, s) == 0 ? 0 : -1;
}

static void server_stop(struct server *s)
{
    (void)shutdown(s->ear, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->ear);
    for (unsigned i = 0; i < s->n; i++)
        free(s->requests[i]);
}

/* An answer with its length. HEAD: more fields, each ending in CRLF. */
static char *server_answer(int status, const char *head, const char *body)
{
    char *text;

    if (asprintf(&text, "HTTP/1.1 %d x\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n%s",
                 status, strlen(body), head, body) < 0)
        abort();
    return text;
}

/* Copies field NAME of a request into OUT. False: not there. */
static bool server_field(const char *request, const char *name, char *out, size_t cap)
{
    char wanted[128];
    const char *at;

    (void)snprintf(wanted, sizeof(wanted), "\r\n%s:", name);
    at = strcasestr(request, wanted);
    if (!at)
        return false;
    at += strlen(wanted);
    at += strspn(at, " ");
    (void)snprintf(out, cap, "%.*s", (int)strcspn(at, "\r"), at);
    return true;
}

#endif
