/* What a store may answer, connection by connection, while a slug is downloaded from it: through
 * libcurl, in a real download over loopback, with everything the fetch makes of it. The input is
 * what the server writes; SPLIT ends a connection. Whatever comes, the download ends in time, gives
 * on no more than it may, in order, and only bytes that were sent. */
#include "base/clock.h"
#include "slug/fetch/download.h"
#include "slug/fetch/head.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define SPLIT       '\x04'
#define PATIENCE_MS 100 /* shorter than the first wait: no try after a pause */
#define MOST        (64u << 10)

static struct {
    pthread_mutex_t lock;
    int listener;
    char url[64];
    const uint8_t *data;
    size_t left;
} server = {.lock = PTHREAD_MUTEX_INITIALIZER, .listener = -1};

/* What the next connection gets. */
static void serve(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char request[4096];
    size_t n = 0;

    if (poll(&p, 1, PATIENCE_MS) > 0)
        (void)recv(fd, request, sizeof(request), 0);
    (void)pthread_mutex_lock(&server.lock);
    while (n < server.left && server.data[n] != SPLIT)
        n++;
    if (n > 0)
        (void)send(fd, server.data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < server.left)
        n++;
    if (n > 0)
        server.data += n;
    server.left -= n;
    (void)pthread_mutex_unlock(&server.lock);
}

static void *run_server(void *arg)
{
    int fd;

    while ((fd = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        serve(fd);
        close(fd);
    }
    return arg;
}

static void start_server(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    pthread_t thread;

    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server.listener, (struct sockaddr *)&a, len) < 0 || listen(server.listener, 64) < 0 ||
        getsockname(server.listener, (struct sockaddr *)&a, &len) < 0 ||
        pthread_create(&thread, NULL, run_server, NULL) != 0 ||
        curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
    (void)snprintf(server.url, sizeof(server.url), "http://127.0.0.1:%u/", ntohs(a.sin_port));
}

static int prepare(struct store *s, CURL *easy, struct store_request *ret, struct err *e)
{
    (void)s;
    (void)easy;
    (void)e;
    *ret = (struct store_request){.url = strdup(server.url), .follow = true};
    return 0;
}

/* The fields by themselves: a fuzzer finds its way into them faster like this. */
static void fields(const char *text)
{
    char out[HEAD_TAG_MAX];
    uint64_t from, to;
    int64_t total;

    if (head_content_range(text, &from, &to, &total) &&
        (to < from || (total >= 0 && to >= (uint64_t)total)))
        abort();
    if (head_etag(text, out) != (out[0] == '"') || strpbrk(out, "\r\n"))
        abort();
    if (!head_date(text, out) && out[0])
        abort();
    (void)head_is_page(text, text, strlen(text));
}

static void download(void)
{
    static const struct store_ops ops = {.scheme = "http", .prepare = prepare};
    static const struct store_env env = {.connect_ms = PATIENCE_MS, .allow_http = true};
    struct store s = {.ops = &ops, .env = &env, .address = server.url, .file = -1};
    struct err e = ERR_INIT;
    struct outlet o;
    int spool = memfd_create("spool", MFD_CLOEXEC);
    uint64_t until = clock_boot() + PATIENCE_MS * USEC_PER_MSEC;

    if (spool < 0 || outlet_init(&o, spool, -1, &e) < 0)
        abort();
    struct download_options options = {.store = &s,
                                       .outlet = &o,
                                       .compressed_max = 1u << 30,
                                       .stall_ms = PATIENCE_MS,
                                       .until = until,
                                       .connections = 4,
                                       .has_digest = true};
    struct download_outcome out;
    int r = download_run(&options, &out, &e);
    if (r == 0 ? o.at != out.bytes : !e.text[0] || !out.step)
        abort();
    if (o.at > MOST || clock_boot() > until + 5 * USEC_PER_SEC)
        abort();
    outlet_done(&o);
    close(spool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len > MOST || len == 0)
        return 0;
    if (server.listener < 0)
        start_server();
    char *text = strndup((const char *)data, len);
    if (!text)
        return 0;
    fields(text);
    free(text);
    (void)pthread_mutex_lock(&server.lock);
    server.data = data;
    server.left = len;
    (void)pthread_mutex_unlock(&server.lock);
    download();
    (void)pthread_mutex_lock(&server.lock);
    server.left = 0;
    (void)pthread_mutex_unlock(&server.lock);
    return 0;
}
