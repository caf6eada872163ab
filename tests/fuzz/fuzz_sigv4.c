/* Signed requests for any object with any keys, as libcurl sends them. The input is lines: the
 * first byte is the style; then address, region, access key, secret key, session token, and what a
 * store may have said as ETag. What is taken is encoded exactly once (decoded once it names the
 * object), and has the signature that sigv4.h computes from what was sent. No secret is in an
 * error. */
#include "../unit/sigv4.h"

#include "base/frame.h"
#include "base/scoped.h"
#include "slug/fetch/head.h"
#include "slug/fetch/object.h"
#include "slug/fetch/s3_url.h"
#include "slug/fetch/transport.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define ENDPOINT   "http://store.example"
#define SENT_MAX   65536
#define FIELDS_MAX 32
#define SECRET_MAX 200 /* sigv4.h's */

struct given {
    char *address, *region, *access, *secret, *token, *etag;
};

/* The next line of *AT, "" behind the last. */
static char *line(char **at)
{
    static char none[1];
    char *text = *at ? strsep(at, "\n") : NULL;

    return text ? text : none;
}

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

/* --- what was sent -------------------------------------------------------------------------------
 */

/* The store's ear: an abstract socket, on which nobody waits. */
static int listen_once(char name[16])
{
    static int ear = -1;
    static struct sockaddr_un at = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t);

    if (ear < 0) {
        ear = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (ear < 0 || bind(ear, (struct sockaddr *)&at, len) < 0 || listen(ear, 4) < 0)
            abort();
        len = sizeof(at);
        if (getsockname(ear, (struct sockaddr *)&at, &len) < 0) /* the kernel's choice of a name */
            abort();
    }
    (void)snprintf(name, 16, "%.5s", at.sun_path + 1);
    return ear;
}

/* Reads what has come so far, and answers when it is all. */
static void serve(int ear, int *peer, char *out, size_t *used)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    ssize_t n;

    if (*peer < 0)
        *peer = accept4(ear, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (*peer >= 0 && *used < SENT_MAX - 1 &&
           (n = recv(*peer, out + *used, SENT_MAX - 1 - *used, 0)) > 0) {
        *used += (size_t)n;
        out[*used] = '\0';
        if (strstr(out, "\r\n\r\n"))
            (void)send(*peer, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
    }
}

/* OUT gets the request. False: libcurl would not send it. */
static bool send_it(CURL *easy, const struct store_request *rq, char *out)
{
    CURLM *multi = curl_multi_init();
    char name[16];
    int ear = listen_once(name), peer = -1, running = 1, left;
    size_t used = 0;

    out[0] = '\0';
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, rq->headers);
    (void)curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, name);
    if (!multi || curl_multi_add_handle(multi, easy) != CURLM_OK)
        abort();
    while (running) {
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            abort();
        serve(ear, &peer, out, &used);
    }
    const struct CURLMsg *m = curl_multi_info_read(multi, &left);
    bool sent = m && m->data.result == CURLE_OK && used > 0;
    (void)curl_multi_remove_handle(multi, easy);
    (void)curl_multi_cleanup(multi);
    if (peer >= 0)
        close(peer);
    return sent;
}

static int digit(char c)
{
    const char *at = c ? strchr("0123456789ABCDEF", c) : NULL;

    return at ? (int)(at - "0123456789ABCDEF") : -1;
}

/* PATH has only unreserved characters, '/' and %XX, as Amazon's UriEncode() makes them: those that
 * need none have none. Decoded once into OUT. */
static void decode(const char *path, char *out)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";

    for (; *path; path++) {
        char c = *path;

        if (c == '%') {
            if (digit(path[1]) < 0 || digit(path[2]) < 0)
                abort();
            c = (char)(digit(path[1]) << 4 | digit(path[2]));
            if (!c || strchr(plain, c))
                abort();
            path += 2;
        } else if (!strchr(plain, c)) {
            abort();
        }
        *out++ = c;
    }
    *out = '\0';
}

/* REQUEST's path names O. It is cut into lines: the first is the path, the rest into FIELDS. */
static const char *look_at_path(char *request, const struct object *o, const char **fields)
{
    char decoded[OBJECT_TOP_MAX + OBJECT_NAME_MAX + 8], wanted[sizeof(decoded)];
    char *at = request, *path = strsep(&at, "\r");
    size_t n = 0;

    if (strncmp(path, "GET ", 4) != 0 || strlen(path) < 13 ||
        strcmp(path + strlen(path) - 9, " HTTP/1.1") != 0 ||
        strlen(path) > 3 * sizeof(decoded) - 60)
        abort();
    path += 4;
    path[strlen(path) - 9] = '\0';
    decode(path, decoded);
    (void)snprintf(wanted, sizeof(wanted), "/%s/%s", o->top, o->name);
    if (strcmp(decoded, wanted) != 0)
        abort();
    while (at && *++at != '\r' && *at && n < FIELDS_MAX - 1)
        fields[n++] = strsep(&at, "\r");
    fields[n] = NULL;
    return path;
}

static const char *field(const char *const *fields, const char *name)
{
    struct sigv4_request rq = {.headers = fields};

    return sigv4_header(&rq, name, strlen(name));
}

/* The last one: a key's id, which comes before it, may have the same words in it. */
static const char *last_of(const char *text, const char *words)
{
    const char *found = NULL;

    for (const char *at = text; at && (at = strstr(at, words)); at++)
        found = at;
    return found;
}

static void look_at_signature(const char *path, const char *const *fields, const struct given *g)
{
    const char *authorization = field(fields, "authorization");
    const char *signed_at = last_of(authorization, "SignedHeaders=");
    const char *signature = signed_at ? strstr(signed_at, "Signature=") : NULL;
    char wanted[65], scope[S3_REGION_MAX + 32], names[512];

    if (!signature)
        abort();
    (void)snprintf(names, sizeof(names), "%.*s", (int)strcspn(signed_at + 14, ", "),
                   signed_at + 14);
    const char *region = g->region[0] ? g->region : S3_REGION_DEFAULT;
    struct sigv4_request rq = {"GET", path, "", fields, names, g->secret, region, "s3"};
    sigv4_sign(&rq, wanted);
    (void)snprintf(scope, sizeof(scope), "/%s/s3/aws4_request,", region);
    if (strcmp(signature + 10, wanted) != 0 || !strstr(authorization, scope) ||
        !strstr(names, "host;") || !strstr(names, "x-amz-date") ||
        (g->token[0] && !strstr(names, "x-amz-security-token")) ||
        !field(fields, "if-match") != !strstr(names, "if-match"))
        abort();
}

/* --- one input -----------------------------------------------------------------------------------
 */

static void without_secrets(const struct err *e, const struct given *g)
{
    if (!e->text[0] || strpbrk(e->text, "\r\n\x1b"))
        abort();
    /* What is also in the address, or in our words, is no secret. */
    if (strlen(g->secret) >= 24 && !strstr(g->address, g->secret) && strstr(e->text, g->secret))
        abort();
}

static void add_etag(const struct given *g, struct store_request *rq)
{
    char tag[HEAD_TAG_MAX], text[HEAD_TAG_MAX + 16];

    if (!head_etag(g->etag, tag))
        return;
    (void)snprintf(text, sizeof(text), "If-Match: %s", tag);
    struct curl_slist *longer = curl_slist_append(rq->headers, text);
    if (longer)
        rq->headers = longer;
}

static void request(struct store *s, const struct given *g)
{
    static char sent[SENT_MAX];
    const char *fields[FIELDS_MAX];
    struct store_request rq = {0};
    struct err e = ERR_INIT;
    struct object o;
    CURL *easy = curl_easy_init();

    if (!easy || object_parse(g->address, "shown", "bucket", "key", &o, &e) < 0)
        abort();
    if (s->ops->prepare(s, easy, &rq, &e) < 0) {
        without_secrets(&e, g);
    } else {
        struct transport_guard guard = {0};

        add_etag(g, &rq);
        if (rq.follow || transport_set(easy, s->env, rq.url, rq.follow, &guard, &e) < 0)
            abort();
        if (!send_it(easy, &rq, sent))
            abort();
        const char *path = look_at_path(sent, &o, fields);
        if (g->access[0])
            look_at_signature(path, fields, g);
        else if (field(fields, "authorization"))
            abort();
    }
    store_request_done(&rq);
    curl_easy_cleanup(easy);
}

static void with_settings(const struct given *g, char style)
{
    scoped(json_freep) json_t *settings =
        json_pack("{s:{s:s, s:s*, s:s*, s:s*, s:s*}}", "s3", "endpoint", ENDPOINT, "region",
                  or_null(g->region), "access_key", or_null(g->access), "secret_key",
                  or_null(g->secret), "session_token", or_null(g->token));
    const struct store_env env = {.settings = settings, .connect_ms = 1000};
    struct err e = ERR_INIT;
    struct store s;

    if (!settings) /* no UTF-8 */
        return;
    if (style == 'p')
        (void)json_object_set_new(json_object_get(settings, "s3"), "path_style", json_true());
    if (store_open(&env, g->address, -1, &s, &e) < 0) {
        without_secrets(&e, g);
        return;
    }
    request(&s, g);
    store_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    scoped_free char *text = strndup((const char *)data + 1, len - 1);
    char *at = text;
    struct given g;

    g.address = line(&at);
    g.region = line(&at);
    g.access = line(&at);
    g.secret = line(&at);
    g.token = line(&at);
    g.etag = line(&at);

    if (strncmp(g.address, "s3://", 5) != 0 || strlen(g.secret) > SECRET_MAX)
        return 0;
    with_settings(&g, (char)data[0]);
    return 0;
}
