#include "slug/fetch/mirrors.h"

#include "base/clock.h"
#include "base/scoped.h"
#include "base/str.h"
#include "slug/fetch/download.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define WAIT_MS 200

#define SUMMARY_ROOM  40 /* of an error's text: for whose fault it was, which is told behind it */
#define BRIEF_MIN     12 /* less of a mirror's reason says nothing, */
#define BRIEF_URL_MIN 16 /* and so does less of its address */

struct mirrors {
    const struct job *j;
    const struct mirrors_watch *watch;
    struct mirrors_result *out;
    struct outlet outlet;
    struct store_env env;
    uint64_t started, until;
};

void mirrors_result_done(struct mirrors_result *r)
{
    json_decref(r->failed);
    json_decref(r->next);
    r->failed = r->next = NULL;
}

static int on_turn(void *userdata, uint64_t bytes, int64_t total, unsigned connections,
                   struct err *e)
{
    struct mirrors *m = userdata;

    return m->watch->progress(m->watch->userdata, bytes, total, m->out->mirror, connections, e);
}

/* --- one mirror ----------------------------------------------------------------------------------
 */

static void wait_for_pipe(struct mirrors *m)
{
    struct pollfd p = {.fd = m->outlet.pipe, .events = POLLOUT};

    (void)poll(&p, 1, WAIT_MS);
    outlet_look(&m->outlet);
}

/* The bytes of an open file; its own length says how many. */
static int copy_file(struct mirrors *m, struct store *s, struct err *e)
{
    struct outlet *o = &m->outlet;
    uint64_t told = clock_boot();
    struct stat st;
    int r = 0;

    m->out->step = "download";
    if (fstat(s->file, &st) < 0)
        return err_set(e, errno, "%s", s->shown);
    if ((uint64_t)st.st_size > m->j->compressed) {
        err_say(e, EFBIG,
                "%s: %lld bytes are over the limit of %llu compressed bytes (compressed_max)",
                s->shown, (long long)st.st_size, (unsigned long long)m->j->compressed);
        return err_blame(e, FAULT_APP);
    }
    o->spool = s->file;
    o->keeps = true;
    while (r == 0 && o->at < (uint64_t)st.st_size) {
        r = outlet_pump(o, (uint64_t)st.st_size, e);
        if (r == 0 && o->blocked)
            wait_for_pipe(m);
        if (r == 0 && o->gone && !m->j->has_digest) {
            m->out->step = "unpack";
            r = err_say(e, EPIPE, "%s: the unpacker is gone", s->shown);
        }
        if (r == 0 && clock_boot() > told + WAIT_MS * USEC_PER_MSEC) {
            told = clock_boot();
            r = on_turn(m, o->at, st.st_size, 0, e);
        }
    }
    o->spool = m->j->spool;
    o->keeps = false;
    m->out->bytes = o->at;
    m->out->download_ms = 0;
    return r;
}

static int copy_network(struct mirrors *m, struct store *s, struct err *e)
{
    struct download_options o = {
        .store = s,
        .outlet = &m->outlet,
        .compressed_max = m->j->compressed,
        .stall_ms = m->j->stall_ms,
        .slow_bytes = m->j->slow_bytes,
        .slow_ms = m->j->slow_ms,
        .tries = (unsigned)m->j->tries,
        .part_max = m->j->part,
        .total_ms = m->j->total_ms,
        .until = m->until,
        .connections = (unsigned)m->j->connections,
        .has_digest = m->j->has_digest,
        .on_turn = on_turn,
        .userdata = m,
    };
    struct download_outcome got;
    int r = download_run(&o, &got, e);

    m->out->step = got.step;
    m->out->http = got.http;
    m->out->bytes = got.bytes;
    m->out->download_ms =
        got.last_byte > m->started ? (got.last_byte - m->started) / USEC_PER_MSEC : 0;
    return r;
}

/* All bytes are there: are they the right ones? */
static int check_digest(struct mirrors *m, struct err *e)
{
    struct mirrors_result *out = m->out;
    int r = outlet_digest(&m->outlet, &out->digest, e);

    if (r < 0 || !m->j->has_digest || digest_equal(&out->digest, &m->j->digest))
        return r;
    out->step = "digest";
    out->expected = m->j->digest;
    out->actual = out->digest;
    err_say(e, EBADMSG,
            "Checksum does not match expected value. Expected: SHA256:%s Actual: SHA256:%s",
            out->expected.hex, out->actual.hex);
    return err_blame(e, FAULT_PLATFORM); /* not the app's: nobody built these bytes for it */
}

static int try_mirror(struct mirrors *m, size_t i, struct err *e)
{
    scoped(store_close) struct store s = {.file = -1};
    int r;

    m->out->mirror = i;
    m->out->http = 0;
    m->out->step = "http";
    r = store_open(&m->env, m->j->mirrors[i].url, m->j->mirrors[i].file, &s, e);
    if (r < 0)
        return r;
    r = s.ops->prepare ? copy_network(m, &s, e) : copy_file(m, &s, e);
    return r < 0 ? r : check_digest(m, e);
}

/* --- all of them ---------------------------------------------------------------------------------
 */

static int note(struct mirrors *m, const struct err *why, struct err *e)
{
    const struct mirrors_result *out = m->out;
    char shown[URL_SHOWN_MAX];
    json_t *http = out->http ? json_integer(out->http) : NULL;
    json_t *entry =
        json_pack("{s:I,s:s,s:s,s:s,s:s,s:o*}", "mirror", (json_int_t)out->mirror, "url",
                  url_shown(shown, m->j->mirrors[out->mirror].url), "text", why->text, "fault",
                  fault_name(why->fault), "step", out->step, "http", http);

    return entry && json_array_append_new(out->failed, entry) == 0
               ? 0
               : err_set(e, ENOMEM, "report a mirror that failed");
}

/* A failure that no other mirror can mend. */
static bool is_final(const struct mirrors *m, const struct err *why)
{
    return why->errnum == ENOMEM || !strcmp(m->out->step, "unpack") ||
           !strcmp(m->out->step, "disk") || why->errnum == EPIPE || clock_boot() > m->until;
}

/* The mirrors from FIRST on, for a fresh fetch. */
static json_t *make_next(const struct mirrors *m, size_t first, bool anew)
{
    json_t *list = json_array();

    for (size_t i = first; list && i < m->j->n_mirrors; i++)
        if (json_array_append_new(list, json_integer((json_int_t)i)) < 0) {
            json_decref(list);
            list = NULL;
        }
    return list
               ? json_pack("{s:o,s:b,s:O}", "mirrors", list, "anew", anew, "failed", m->out->failed)
               : NULL;
}

/* The reason of a mirror that failed, in less than CAP bytes: with its whole address, else with as
 * much of that as there is room for, else without; and cut if it must be. */
static void brief(char *out, size_t cap, const json_t *failed)
{
    const char *text = json_str(failed, "text", ""), *url = json_str(failed, "url", "");
    const char *at = strstr(text, url), *reason = text;
    size_t len = strlen(url);

    if (strlen(text) < cap) {
        (void)snprintf(out, cap, "%s", text);
        return;
    }
    if (at && len > 0 && !strncmp(at + len, ": ", 2))
        reason = at + len + 2;
    size_t used = strlen(reason) + strlen(": ");
    if (reason == text || used + BRIEF_URL_MIN > cap) {
        (void)text_escape(out, cap, reason, strlen(reason));
        return;
    }
    (void)text_escape(out, cap - used, url, len);
    len = strlen(out);
    (void)snprintf(out + len, cap - len, ": %s", reason);
}

/* The last mirror's reason, then the others', each with its share of what room there is; and whose
 * doing all of it was. */
static void summarise(const struct mirrors *m, struct err *e)
{
    static const char *const joint[] = {"; before it: ", "; "};
    size_t n = json_array_size(m->out->failed), room = sizeof(e->text) - SUMMARY_ROOM;
    bool operators = e->fault == FAULT_OPERATOR;

    for (size_t i = 0; i + 1 < n; i++) {
        const json_t *f = json_array_get(m->out->failed, i);
        size_t len = strlen(e->text), words = strlen(joint[i > 0]);
        size_t share = len < room ? (room - len) / (n - 1 - i) : 0;

        if (share > words + BRIEF_MIN) {
            (void)snprintf(e->text + len, sizeof(e->text) - len, "%s", joint[i > 0]);
            brief(e->text + len + words, share - words, f);
        }
        operators = operators && !strcmp(json_str(f, "fault", ""), "operator");
    }
    if (e->fault == FAULT_OPERATOR && !operators)
        e->fault = FAULT_PLATFORM;
}

static int run(struct mirrors *m, struct err *e)
{
    bool anew = m->j->anew;
    size_t i = 0;

    for (;;) {
        int r = try_mirror(m, i, e);

        if (r == 0)
            return 0;
        bool again = !strcmp(m->out->step, "changed") && !anew;
        struct err why = *e;
        if (note(m, &why, e) < 0)
            return -e->errnum;
        size_t next = again ? i : i + 1;
        if (is_final(m, &why) || next == m->j->n_mirrors) {
            summarise(m, e);
            return r;
        }
        if (m->outlet.at > 0) {
            m->out->next = make_next(m, next, again);
            return m->out->next ? r : err_set(e, ENOMEM, "report the mirrors that are left");
        }
        r = outlet_reset(&m->outlet, e);
        if (r < 0) {
            m->out->step = "disk";
            return r;
        }
        anew = again;
        i = next;
    }
}

int mirrors_run(const struct job *j, const struct mirrors_watch *watch, struct mirrors_result *ret,
                struct err *e)
{
    struct mirrors m = {
        .j = j,
        .watch = watch,
        .out = ret,
        .env = {.settings = j->stores,
                .ca_file = j->ca_file,
                .allow_http = j->allow_http,
                .connect_ms = j->connect_ms,
                .on_wait = watch->wait,
                .userdata = watch->userdata},
        .started = clock_boot(),
    };

    m.until = m.started + j->total_ms * USEC_PER_MSEC;
    *ret = (struct mirrors_result){.step = "disk", .failed = json_deep_copy(j->failed)};
    if (!ret->failed)
        return err_set(e, ENOMEM, "prepare the download");
    int r = outlet_init(&m.outlet, j->spool, j->pipe, e);
    if (r == 0)
        r = run(&m, e);
    ret->hash_ms = m.outlet.hash_usec / USEC_PER_MSEC;
    ret->wait_ms = m.outlet.wait_usec / USEC_PER_MSEC;
    outlet_done(&m.outlet);
    return r;
}
