/* store_call.c - one small request and its answer, waited for. */
#include "slug/fetch/store.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"
#include "slug/fetch/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_MS 200

/* A call while it runs. */
struct call {
    const struct store_env *env;
    const struct store_call *c;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    struct transport_guard guard;
    struct str body;
    char text[CURL_ERROR_SIZE];
};

static void call_done(struct call *k)
{
    if (k->easy && k->multi)
        (void)curl_multi_remove_handle(k->multi, k->easy);
    curl_easy_cleanup(k->easy);
    curl_multi_cleanup(k->multi);
    curl_slist_free_all(k->headers);
    str_done(&k->body);
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
    struct str *body = userdata;

    str_add_n(body, data, size * n);
    return body->failed ? CURL_WRITEFUNC_ERROR : size * n;
}

static int set_options(struct call *k, struct err *e)
{
    const struct store_call *c = k->c;
    int r = transport_set(k->easy, k->env, c->url, false, &k->guard, e);

    for (size_t i = 0; r == 0 && c->headers && c->headers[i]; i++) {
        struct curl_slist *longer = curl_slist_append(k->headers, c->headers[i]);

        if (!longer)
            return err_set(e, ENOMEM, "prepare a request");
        k->headers = longer;
    }
    if (r < 0)
        return r;
    if (c->body) {
        (void)curl_easy_setopt(k->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(c->body));
        (void)curl_easy_setopt(k->easy, CURLOPT_POSTFIELDS, c->body); /* not copied */
    }
    if (curl_easy_setopt(k->easy, CURLOPT_CUSTOMREQUEST, c->method) != CURLE_OK ||
        curl_easy_setopt(k->easy, CURLOPT_HTTPHEADER, k->headers) != CURLE_OK)
        return err_set(e, ENOMEM, "prepare a request");
    (void)curl_easy_setopt(k->easy, CURLOPT_TIMEOUT_MS, (long)c->total_ms);
    (void)curl_easy_setopt(k->easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(k->easy, CURLOPT_WRITEDATA, &k->body);
    (void)curl_easy_setopt(k->easy, CURLOPT_ERRORBUFFER, k->text);
    return 0;
}

/* Until the transfer has ended. */
static int run(struct call *k, CURLcode *ret, struct err *e)
{
    int r = 0, running = 1, left;

    if (curl_multi_add_handle(k->multi, k->easy) != CURLM_OK)
        return err_set(e, ENOMEM, "make a request");
    while (r == 0 && running) {
        if (curl_multi_perform(k->multi, &running) != CURLM_OK ||
            (running && curl_multi_poll(k->multi, NULL, 0, POLL_MS, NULL) != CURLM_OK))
            return err_say(e, EIO, "make a request");
        r = k->env->on_wait ? k->env->on_wait(k->env->userdata, e) : 0;
    }
    const struct CURLMsg *m = r == 0 ? curl_multi_info_read(k->multi, &left) : NULL;
    *ret = m ? m->data.result : CURLE_ABORTED_BY_CALLBACK;
    (void)curl_multi_remove_handle(k->multi, k->easy);
    return r;
}

static int fail(const struct call *k, const struct transport_verdict *v, CURLcode code,
                struct err *e)
{
    char shown[URL_SHOWN_MAX], quoted[200], words[TRANSPORT_WORDS_MAX];
    bool own = k->c->total_ms <= k->env->connect_ms; /* and that one came first */
    const char *late = own ? NULL : transport_late(k->easy, code, k->env->connect_ms, words);
    const char *why = k->guard.refused ? "leads to a link-local address"
                      : k->body.failed ? "an answer over the limit of 65536 bytes"
                      : late           ? late
                      : k->text[0]     ? k->text
                                       : curl_easy_strerror(code);

    err_say(e, v->errnum, "%s: %s", url_shown(shown, k->c->url),
            text_escape(quoted, sizeof(quoted), why, strlen(why)));
    return err_blame(e, k->guard.refused ? FAULT_OPERATOR : v->fault);
}

/* One try. 0: there is an answer; *RET_AGAIN: it, or the error, may be another one later. */
static int try_once(const struct store_env *env, const struct store_call *c,
                    struct store_reply *ret, bool *ret_again, struct err *e)
{
    scoped(call_done) struct call k = {
        .env = env,
        .c = c,
        .multi = curl_multi_init(),
        .easy = curl_easy_init(),
        .guard = {.link_local = c->link_local},
        .body = {.max = STORE_REPLY_MAX},
    };
    CURLcode code = CURLE_OK;

    *ret_again = false;
    if (!k.multi || !k.easy)
        return err_set(e, ENOMEM, "make a request");
    int r = set_options(&k, e);
    if (r == 0)
        r = run(&k, &code, e);
    if (r < 0)
        return r;
    if (code != CURLE_OK) {
        struct transport_verdict v = transport_judge(k.easy, code);

        *ret_again = v.again && !k.guard.refused && !k.body.failed;
        return fail(&k, &v, code, e);
    }
    *ret = (struct store_reply){.len = k.body.len, .easy = k.easy};
    k.easy = NULL;
    (void)curl_easy_setopt(ret->easy, CURLOPT_ERRORBUFFER, NULL); /* it ends with this function */
    (void)curl_easy_getinfo(ret->easy, CURLINFO_RESPONSE_CODE, &ret->status);
    ret->body = k.body.data ? TAKE_PTR(k.body.data) : strdup("");
    *ret_again = transport_passes(ret->status);
    if (ret->body)
        return 0;
    store_reply_done(ret);
    return err_set(e, ENOMEM, "make a request");
}

static int pause_before(const struct store_env *env, unsigned try, struct err *e)
{
    uint64_t until = clock_boot() + transport_backoff(try, random_u64());
    int r = 0;

    for (uint64_t now; r == 0 && (now = clock_boot()) < until;) {
        uint64_t left = until - now, most = POLL_MS * USEC_PER_MSEC;
        struct timespec t = {.tv_nsec = (long)(left < most ? left : most) * 1000};

        (void)nanosleep(&t, NULL);
        r = env->on_wait ? env->on_wait(env->userdata, e) : 0;
    }
    return r;
}

int store_call(const struct store_env *env, const struct store_call *c, struct store_reply *ret,
               struct err *e)
{
    for (unsigned try = 1;; try++) {
        struct store_reply reply = {0};
        bool again;
        int r = try_once(env, c, &reply, &again, e);

        if (!again || try >= c->tries) {
            if (r == 0)
                *ret = reply;
            return r;
        }
        store_reply_done(&reply);
        r = pause_before(env, try, e);
        if (r < 0)
            return r;
    }
}

void store_reply_done(struct store_reply *r)
{
    free(r->body);
    curl_easy_cleanup(r->easy);
    *r = (struct store_reply){0};
}

const char *store_reply_header(const struct store_reply *r, const char *name)
{
    struct curl_header *h;

    return curl_easy_header(r->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : NULL;
}
