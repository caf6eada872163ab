#include "link/metadata.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/http.h"
#include "link/imds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_USEC   (2 * USEC_PER_SEC)
#define URL_MAX       512
#define PAUSES_DOUBLE 5 /* 1, 2, 4, 8, 16 s, then METADATA_PAUSE_SEC */

/* What a part of the identity is. */
enum item {
    ITEM_FIELD,
    ITEM_TAGS,
    ITEM_TAG, /* as often as there are tags */
    ITEM_DOCUMENT,
    ITEM_SIGNATURE,
};

typedef int (*notice_fn)(const char *body, size_t len, struct imds_notice *ret, struct err *e);

/* The paths below /latest/, in the order in which they are asked for, one at a time. */
struct want {
    const char *path;
    enum item item;
    enum imds_value value;
    const char *label; /* of a field; NULL: it is the address */
    const char *kind;  /* of a notice */
    notice_fn notice;
};

#define WANT_INSTANCE 0 /* without it there is no identity */
static const struct want identity[] = {
    {.path = "meta-data/instance-id", .label = "instance"},
    {.path = "meta-data/placement/region", .label = "region"},
    {.path = "meta-data/placement/availability-zone", .label = "zone"},
    {.path = "meta-data/instance-type", .label = "type"},
    {.path = "meta-data/instance-life-cycle", .label = "lifecycle"},
    {.path = "meta-data/ami-id", .label = "ami"},
    {.path = "meta-data/local-ipv4", .value = IMDS_ADDRESS},
    {.path = "meta-data/tags/instance", .item = ITEM_TAGS},
    {.path = "meta-data/tags/instance/", .item = ITEM_TAG},
    {.path = "dynamic/instance-identity/document", .item = ITEM_DOCUMENT},
    {.path = "dynamic/instance-identity/rsa2048", .item = ITEM_SIGNATURE},
};
static const struct want notices[] = {
    {.path = "meta-data/spot/instance-action", .kind = "spot", .notice = imds_spot},
    {.path = "meta-data/events/recommendations/rebalance",
     .kind = "rebalance",
     .notice = imds_rebalance},
    {.path = "meta-data/events/maintenance/scheduled",
     .kind = "maintenance",
     .notice = imds_maintenance},
    {.path = "meta-data/autoscaling/target-lifecycle-state",
     .kind = "autoscaling",
     .notice = imds_autoscaling},
};
#define N_IDENTITY (sizeof(identity) / sizeof(*identity))
#define N_NOTICES  (sizeof(notices) / sizeof(*notices))

struct metadata {
    sd_event *loop;
    struct http *http;
    struct metadata_spec spec;
    char url[URL_MAX];
    const struct metadata_ops *ops;
    void *userdata;
    bool calling, freed; /* freed while a callback runs: the memory goes after it */

    struct http_job *job;
    sd_event_source *timer; /* timer "metadata": the next round, or the next try */
    uint64_t round_began;
    bool identified;
    size_t step; /* of identity or notices */
    size_t tag;

    char token[IMDS_TOKEN_MAX + 1]; /* "": none */
    uint64_t token_asked, token_until;
    bool token_used; /* an answer was had with it */

    bool answered; /* at any time */
    bool absent_told;
    unsigned failures; /* since the last answer */
    bool in_trouble;   /* told, and not yet over */
    bool troubled;     /* in this round */

    json_t *found; /* the identity so far */
    json_t *tags;  /* names */
    struct imds_notice seen[N_NOTICES];
};

static void proceed(struct metadata *m);

bool metadata_on_ec2(void)
{
    static const struct {
        const char *file, *begins;
    } signs[] = {
        {"/sys/class/dmi/id/sys_vendor", "Amazon EC2"}, /* Nitro */
        {"/sys/hypervisor/uuid", "ec2"},                /* Xen */
    };

    for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++) {
        scoped_free char *text = NULL;
        struct err e = ERR_INIT;
        size_t len;

        if (file_read(AT_FDCWD, signs[i].file, 4096, &text, &len, &e) == 0 &&
            str_starts(text, signs[i].begins))
            return true;
    }
    return false;
}

/* --- trouble ------------------------------------------------------------------------------------
 */

static void trouble(struct metadata *m, const char *kind, const char *text)
{
    /* Where there may be no such service its silence is nothing that begins. */
    bool begins = !m->in_trouble && (m->answered || !m->spec.may_be_absent);

    m->troubled = true;
    m->in_trouble = m->in_trouble || begins;
    if (m->ops->trouble)
        m->ops->trouble(m->userdata, kind, text, begins);
}

static void drop(struct metadata **mp)
{
    struct metadata *m = *mp;

    if (!m)
        return;
    http_cancel(m->job);
    sd_event_source_disable_unref(m->timer);
    json_decref(m->found);
    json_decref(m->tags);
    sd_event_unref(m->loop);
    free(m);
}

/* Around all that calls the owner, who may free. */
static void enter(struct metadata *m)
{
    m->calling = true;
}

static void leave(struct metadata *m)
{
    m->calling = false;
    if (m->freed)
        drop(&m);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
    struct metadata *m = userdata;

    (void)s;
    (void)usec;
    m->round_began = clock_boot();
    enter(m);
    proceed(m);
    leave(m);
    return 0;
}

static void wake_at(struct metadata *m, uint64_t at)
{
    /* Without memory for a timer there is no service: the same as one that never answers. */
    if (!m->freed)
        (void)timer_set(m->loop, &m->timer, "metadata", at, on_timer, m);
}

/* No answer, or none without which anything can go on: begin this round again later. */
static void try_later(struct metadata *m)
{
    uint64_t pause = METADATA_PAUSE_SEC * USEC_PER_SEC;

    if (m->failures < PAUSES_DOUBLE)
        pause = m->spec.pause_usec << m->failures;
    m->failures++;
    m->step = m->identified ? 0 : m->step;
    if (!m->identified && m->failures >= METADATA_TRIES && !m->absent_told) {
        m->absent_told = true;
        m->ops->absent(m->userdata);
    }
    if (!m->answered && m->failures >= METADATA_TRIES && m->spec.may_be_absent)
        return;
    wake_at(m, clock_boot() + pause);
}

/* --- the identity -------------------------------------------------------------------------------
 */

static json_t *labels(struct metadata *m)
{
    return json_object_get(m->found, "labels");
}

static int take_field(struct metadata *m, const struct want *w, const struct http_answer *a,
                      struct err *e)
{
    char value[IMDS_VALUE_MAX + 1];
    int r = imds_value(w->value, a->body, a->len, value, e);

    if (r < 0)
        return r;
    json_t *to = w->label ? labels(m) : m->found;
    const char *key = w->label ? w->label : "address";
    if (json_object_set_new(to, key, json_string(value)) < 0 ||
        (w == &identity[WANT_INSTANCE] &&
         json_object_set_new(m->found, "agent", json_string(value)) < 0))
        return err_set(e, ENOMEM, "keep the identity");
    return 0;
}

static int take_tags(struct metadata *m, const struct http_answer *a, struct err *e)
{
    unsigned skipped = 0;
    int r = imds_names(a->body, a->len, METADATA_TAGS_MAX, m->tags, &skipped, e);

    if (r == 0 && skipped > 0)
        r = err_say(e, EBADMSG, "%u of the instance's tags have no usable name", skipped);
    return r;
}

static int take_tag(struct metadata *m, const struct http_answer *a, struct err *e)
{
    const char *name = json_string_value(json_array_get(m->tags, m->tag));
    char value[IMDS_VALUE_MAX + 1], key[IMDS_VALUE_MAX];
    int r = imds_value(IMDS_ANY, a->body, a->len, value, e);

    if (r < 0)
        return r;
    (void)snprintf(key, sizeof(key), "tag.%s", name);
    return json_object_set_new(labels(m), key, json_string(value)) < 0
               ? err_set(e, ENOMEM, "keep a tag")
               : 0;
}

static int take_document(struct metadata *m, const struct want *w, const struct http_answer *a,
                         struct err *e)
{
    bool document = w->item == ITEM_DOCUMENT;
    int r = document ? imds_document(a->body, a->len, json_str(m->found, "agent", ""), e)
                     : imds_signature(a->body, a->len, e);

    if (r < 0)
        return r;
    json_t *both = json_object_get(m->found, "document");
    if (json_object_set_new(both, document ? "document" : "rsa2048",
                            json_stringn(a->body, a->len)) < 0)
        return err_say(e, EBADMSG, "the identity document is not text");
    return 0;
}

static int take_identity(struct metadata *m, const struct http_answer *a, struct err *e)
{
    const struct want *w = &identity[m->step];

    switch (w->item) {
    case ITEM_FIELD:
        return take_field(m, w, a, e);
    case ITEM_TAGS:
        return take_tags(m, a, e);
    case ITEM_TAG:
        return take_tag(m, a, e);
    case ITEM_DOCUMENT:
    case ITEM_SIGNATURE:
        return take_document(m, w, a, e);
    }
    return 0;
}

/* The next that is wanted. */
static void step_on(struct metadata *m)
{
    if (m->identified || identity[m->step].item != ITEM_TAG)
        m->step++;
    else
        m->tag++;
    if (m->identified)
        return;
    if (m->step < N_IDENTITY && identity[m->step].item == ITEM_TAG &&
        m->tag >= json_array_size(m->tags))
        m->step++;
    if (m->step < N_IDENTITY && identity[m->step].item == ITEM_DOCUMENT &&
        !m->spec.identity_document)
        m->step = N_IDENTITY;
}

/* Half of a document proves nothing. */
static void identify(struct metadata *m)
{
    if (json_object_size(json_object_get(m->found, "document")) != 2)
        (void)json_object_del(m->found, "document");
    m->identified = true;
    m->step = 0;
    m->ops->identity(m->userdata, m->found);
}

/* --- notices ------------------------------------------------------------------------------------
 */

static void tell_notice(struct metadata *m, const struct imds_notice *now)
{
    const struct want *w = &notices[m->step];
    struct imds_notice *seen = &m->seen[m->step];
    bool news = now->there && (!seen->there || strcmp(now->deadline, seen->deadline) != 0);
    bool over = !now->there && seen->there;

    *seen = *now;
    if (news)
        m->ops->interruption(m->userdata, w->kind, *now->deadline ? now->deadline : NULL,
                             now->text);
    if (over)
        m->ops->withdrawn(m->userdata, w->kind);
}

static int take_notice(struct metadata *m, const struct http_answer *a, struct err *e)
{
    struct imds_notice now = {0};
    int r = a->status == 404 ? 0 : notices[m->step].notice(a->body, a->len, &now, e);

    if (r == 0)
        tell_notice(m, &now);
    return r;
}

/* --- asking -------------------------------------------------------------------------------------
 */

/* The instance's id has to be had; of all else what is there. */
static bool needed(const struct metadata *m)
{
    return !m->identified && m->step == WANT_INSTANCE;
}

static void take(struct metadata *m, const struct http_answer *a)
{
    struct err e = ERR_INIT;
    int r = 0;

    if (a->status != 200 && a->status != 404) {
        (void)err_say(&e, EIO, "the instance metadata answers with status %d", a->status);
        trouble(m, "metadata-status", e.text);
        r = -EIO;
    } else if (m->identified || a->status == 200) {
        r = m->identified ? take_notice(m, a, &e) : take_identity(m, a, &e);
        if (r < 0)
            trouble(m, "metadata-garbage", e.text);
    } else if (needed(m)) {
        trouble(m, "metadata-status", "the instance metadata has no instance-id");
        r = -ENOENT;
    }
    if (m->freed)
        return;
    if (r < 0 && needed(m)) {
        try_later(m);
        return;
    }
    m->failures = 0;
    step_on(m);
    proceed(m);
}

static void take_token(struct metadata *m, const struct http_answer *a)
{
    struct err e = ERR_INIT;
    uint64_t life = m->spec.token_sec * USEC_PER_SEC;
    bool fine = a->status == 200 && imds_token(a->body, a->len, m->token, &e) == 0;

    if (!fine && a->status != 200)
        (void)err_say(&e, EIO, "the instance metadata gives no token: status %d", a->status);
    if (!fine) {
        trouble(m, a->status == 200 ? "metadata-garbage" : "metadata-status", e.text);
        if (!m->freed)
            try_later(m);
        return;
    }
    m->token_used = false;
    m->token_until = m->token_asked + life / 10 * 9;
    proceed(m);
}

/* A token that was good is over; a new one that is refused is trouble. */
static void token_refused(struct metadata *m)
{
    bool fresh = !m->token_used;

    m->token[0] = '\0';
    if (!fresh) {
        proceed(m);
        return;
    }
    trouble(m, "metadata-status", "the instance metadata refuses the token that it gave");
    if (!m->freed)
        try_later(m);
}

static void answered(struct metadata *m, bool to_token, const struct http_answer *a)
{
    if (a->why) {
        bool silent = strcmp(a->kind, "redirect") != 0 && strcmp(a->kind, "too-big") != 0 &&
                      strcmp(a->kind, "not-http") != 0;

        m->token[0] = '\0'; /* whoever answers next may be another */
        trouble(m, silent ? "metadata-silent" : "metadata-garbage", a->why->text);
        if (!m->freed)
            try_later(m);
        return;
    }
    if (to_token) {
        take_token(m, a);
        return;
    }
    if (a->status == 401) {
        token_refused(m);
        return;
    }
    m->token_used = m->answered = true;
    take(m, a);
}

static void on_answer(void *userdata, const struct http_answer *a)
{
    struct metadata *m = userdata;
    bool to_token = !m->token[0];

    m->job = NULL;
    enter(m);
    answered(m, to_token, a);
    leave(m);
}

static void ask(struct metadata *m, const char *method, const char *path, const char *rest,
                const char *header)
{
    const char *headers[] = {header, NULL};
    char url[URL_MAX + 2 * IMDS_VALUE_MAX];
    struct err e = ERR_INIT;

    (void)snprintf(url, sizeof(url), "%s/latest/%s%s", m->url, path, rest);
    struct http_request rq = {.method = method,
                              .url = url,
                              .headers = headers,
                              .answer_max = IMDS_ANSWER_MAX,
                              .connect_usec = m->spec.answer_usec / 2,
                              .total_usec = m->spec.answer_usec};
    if (http_send(m->http, &rq, on_answer, m, &m->job, &e) == 0)
        return;
    trouble(m, "metadata-silent", e.text);
    if (!m->freed)
        try_later(m);
}

static void ask_token(struct metadata *m)
{
    char header[80];

    m->token[0] = '\0';
    m->token_asked = clock_boot();
    (void)snprintf(header, sizeof(header), "X-aws-ec2-metadata-token-ttl-seconds: %u",
                   m->spec.token_sec);
    ask(m, "PUT", "api/token", "", header);
}

static void ask_step(struct metadata *m)
{
    const struct want *w = m->identified ? &notices[m->step] : &identity[m->step];
    const char *rest = !m->identified && w->item == ITEM_TAG
                           ? json_string_value(json_array_get(m->tags, m->tag))
                           : "";
    char header[sizeof(m->token) + 40];

    (void)snprintf(header, sizeof(header), "X-aws-ec2-metadata-token: %s", m->token);
    ask(m, "GET", w->path, rest, header);
}

/* A round is over: the next one, five seconds after this one began. */
static void rest(struct metadata *m)
{
    if (!m->troubled)
        m->in_trouble = false;
    m->troubled = false;
    m->step = 0;
    if (m->spec.lifecycle)
        wake_at(m, m->round_began + m->spec.poll_usec);
}

static void proceed(struct metadata *m)
{
    if (m->freed)
        return;
    if (!m->identified && m->step >= N_IDENTITY) {
        identify(m);
        if (m->freed)
            return;
        if (!m->spec.lifecycle) {
            rest(m);
            return;
        }
    }
    if (m->identified && m->step >= N_NOTICES)
        rest(m);
    else if (!m->token[0] || clock_boot() >= m->token_until)
        ask_token(m);
    else
        ask_step(m);
}

/* --- making it ----------------------------------------------------------------------------------
 */

static int prepare(struct metadata *m, const struct metadata_spec *spec, struct err *e)
{
    const char *url = spec->url ? spec->url : METADATA_URL;
    size_t n = strlen(url);

    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n >= sizeof(m->url))
        return err_say(e, EINVAL, "the metadata's URL is over %d bytes", URL_MAX - 1);
    memcpy(m->url, url, n);
    m->spec = *spec;
    m->spec.url = NULL; /* the caller's */
    m->spec.poll_usec = spec->poll_usec ? spec->poll_usec : METADATA_POLL_SEC * USEC_PER_SEC;
    m->spec.pause_usec = spec->pause_usec ? spec->pause_usec : USEC_PER_SEC;
    m->spec.answer_usec = spec->answer_usec ? spec->answer_usec : ANSWER_USEC;
    m->spec.token_sec = spec->token_sec ? spec->token_sec : METADATA_TOKEN_SEC;
    m->tags = json_array();
    m->found = json_pack("{s:n,s:{},s:n,s:{}}", "agent", "labels", "address", "document");
    if (!m->tags || !m->found)
        return err_set(e, ENOMEM, "look for the instance metadata");
    int r = timer_set(m->loop, &m->timer, "metadata", clock_boot(), on_timer, m);
    return r < 0 ? err_set(e, -r, "look for the instance metadata") : 0;
}

int metadata_open(sd_event *loop, struct http *http, const struct metadata_spec *spec,
                  const struct metadata_ops *ops, void *userdata, struct metadata **ret,
                  struct err *e)
{
    scoped(drop) struct metadata *m = calloc(1, sizeof(*m));

    if (!m)
        return err_set(e, ENOMEM, "look for the instance metadata");
    m->loop = sd_event_ref(loop);
    m->http = http;
    m->ops = ops;
    m->userdata = userdata;
    int r = prepare(m, spec, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

void metadata_freep(struct metadata **mp)
{
    struct metadata *m = *mp;

    if (!m)
        return;
    *mp = NULL;
    if (!m->calling) {
        drop(&m);
        return;
    }
    http_cancel(m->job);
    m->job = NULL;
    m->timer = sd_event_source_disable_unref(m->timer);
    m->freed = true;
}
