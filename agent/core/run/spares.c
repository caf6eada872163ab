/* spares.c - which sandboxes are kept ready, and for whom. */
#include "core/run/spares.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "core/agent_priv.h"
#include "core/host/shortage.h"
#include "core/run/spares_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#define REFILL_PAUSE       (3 * USEC_PER_MSEC) /* after a start, whose dyno has the processor first */
#define SHED_PAUSE         (1 * USEC_PER_SEC) /* what was given up is not taken again at once */
#define REPORT_PATIENCE_MS 2
#define LOOK_PAUSE         (5 * USEC_PER_SEC) /* between two looks at the memory */
#define LOOK_AGE           (1 * USEC_PER_SEC) /* what was seen a moment ago still holds */

/* --- Those that go --- */

void spare_unlist(struct spare *sp)
{
    TAILQ_REMOVE(&sp->all->ready, sp, link);
    sp->all->n_ready--;
    sp->all->n_dressed -= spare_is_dressed(sp);
}

static void drop(struct spare *sp)
{
    spare_unlist(sp);
    spare_end(sp);
}

unsigned spares_shed(struct spares *s)
{
    struct spare *sp;
    unsigned n = 0;

    if (!s->env)
        return 0;
    s->rest_until = clock_boot() + SHED_PAUSE;
    while ((sp = TAILQ_FIRST(&s->ready)))
        drop(sp);
    TAILQ_FOREACH (sp, &s->dying, link)
        n++;
    return n;
}

void spares_drop_slug(struct spares *s, const struct digest *digest)
{
    struct spare *sp, *next;

    if (!s->env)
        return;
    dress_forget(&s->dress, digest);
    for (sp = TAILQ_FIRST(&s->ready); sp; sp = next) {
        next = TAILQ_NEXT(sp, link);
        if (spare_is_dressed(sp) && digest_equal(&sp->key.digest, digest))
            drop(sp);
    }
    spares_refill(s);
}

/* Some app is to run it. */
static bool is_current(const struct spares *s, const struct digest *digest)
{
    const struct model *m = s->agent->model;

    for (size_t i = 0; i < model_n_apps(m); i++) {
        const struct release *rel = &model_app_at(m, i)->release;

        if (rel->has_digest && digest_equal(&rel->digest, digest))
            return true;
    }
    return false;
}

void spares_review(struct spares *s)
{
    struct spare *sp = s->env ? TAILQ_FIRST(&s->ready) : NULL;

    while (sp) {
        struct digest digest = sp->key.digest;

        if (!spare_is_dressed(sp) || is_current(s, &digest)) {
            sp = TAILQ_NEXT(sp, link);
            continue;
        }
        spares_drop_slug(s, &digest);
        sp = TAILQ_FIRST(&s->ready);
    }
}

/* --- How many --- */

static void settle(struct spares *s)
{
    s->wanted = s->memory_short ? 0 : s->asked;
    starts_stock(&s->agent->starts);
    while (s->n_ready > s->wanted)
        drop(TAILQ_LAST(&s->ready, spare_list));
    spares_refill(s);
}

static void tell_memory(const struct spares *s, const struct memory_view *v)
{
    char state[MEMORY_TEXT_MAX], text[MEMORY_TEXT_MAX + 160];

    (void)snprintf(text, sizeof(text), "%s: %s", memory_text(v, state),
                   s->memory_short ? "no spare sandboxes are kept until it is more "
                                     "(spares_keep_free)"
                                   : "spare sandboxes are kept again");
    if (s->memory_short)
        log_warn("%s", text);
    else
        log_notice("%s", text);
    agent_event(
        s->agent, "spares", NULL,
        json_pack("{s:s,s:s}", "state", s->memory_short ? "short" : "enough", "text", text));
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata);

/* What begins here, or ends, is told and acted upon. */
static void look(struct spares *s)
{
    struct memory_view v;
    uint64_t now = clock_boot();

    if (s->keep_free == 0 || s->asked == 0)
        return;
    s->looked_at = now;
    memory_look(s->env->cgroups, &v);
    bool is_short = memory_is_short(&v, s->keep_free, s->memory_short);
    if (is_short != s->memory_short) {
        s->memory_short = is_short;
        tell_memory(s, &v);
        settle(s);
    }
    if (timer_set(s->env->loop, &s->watch, "spare-memory", now + LOOK_PAUSE, on_look, s) < 0)
        log_err("spare sandboxes: no memory to look at the memory"); /* the next refill looks */
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source;
    (void)usec;
    look(userdata);
    return 0;
}

/* --- Those that come --- */

/* What the next is to be dressed for; NULL: nothing. Those that are in its place go. */
static const struct dress_key *choose(struct spares *s)
{
    struct spare *dressed[CONFIG_SPARES_MAX], *sp;
    const struct dress_key *have[CONFIG_SPARES_MAX] = {NULL}, *key;
    bool out[CONFIG_SPARES_MAX];
    size_t n = 0;

    TAILQ_FOREACH (sp, &s->ready, link)
        if (spare_is_dressed(sp) && n < CONFIG_SPARES_MAX) {
            have[n] = &sp->key;
            dressed[n++] = sp;
        }
    key = dress_choose(&s->dress, s->wanted / 2, have, n, out);
    for (size_t i = 0; i < n; i++)
        if (out[i])
            drop(dressed[i]);
    return key;
}

static int make_next(struct spares *s, struct err *e)
{
    const struct dress_key *key = choose(s);
    const struct digest digest = key ? key->digest : (struct digest){""};
    int r = spare_make(s, key, e);

    if (r != -ENOENT || !key)
        return r;
    dress_forget(&s->dress, &digest); /* the cache does not have it any more */
    *e = (struct err)ERR_INIT;
    return spare_make(s, NULL, e);
}

static int on_refill(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct spares *s = userdata;
    struct err e = ERR_INIT;
    uint64_t began = clock_boot();

    (void)source;
    (void)usec;
    if (clock_boot() - s->looked_at >= LOOK_AGE)
        look(s);
    if (!s->env->sandbox || s->n_ready >= s->wanted)
        return 0;
    if (make_next(s, &e) < 0) { /* the next start asks again, and does without */
        if (!s->complained)
            log_warn("spare sandboxes: %s", e.text);
        s->complained = true;
        return 0;
    }
    s->complained = false;
    s->made_usec = clock_boot() - began;
    if (!s->agent->rootless)
        ids_refill(&s->agent->ids);
    spares_refill(s);
    return 0;
}

void spares_refill(struct spares *s)
{
    uint64_t at = clock_boot() + REFILL_PAUSE;
    int enabled = 0;

    if (!s->env || s->n_ready >= s->wanted)
        return;
    if (s->refill)
        (void)sd_event_source_get_enabled(s->refill, &enabled);
    if (enabled)
        return;
    if (timer_set(s->env->loop, &s->refill, "spare-refill", at > s->rest_until ? at : s->rest_until,
                  on_refill, s) >= 0) /* one who waits for a start comes first */
        (void)sd_event_source_set_priority(s->refill, SD_EVENT_PRIORITY_IDLE);
}

/* --- All of them --- */

int spares_open(struct spares *s, struct agent *a, const struct limits *limits, struct err *e)
{
    struct run_env *env = &a->env;
    scoped_fd runtime = open(env->runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *s = (struct spares){
        .agent = a, .limits = *limits, .dirfd = -1, .keep_free = a->config.spares_keep_free};
    TAILQ_INIT(&s->ready);
    TAILQ_INIT(&s->dying);
    if (runtime < 0)
        return err_set(e, errno, "open %s", env->runtime_dir);
    int r = tree_remove(runtime, SPARE_DIR, e);
    if (r < 0)
        return r;
    if (mkdirat(runtime, SPARE_DIR, 0700) < 0)
        return err_set(e, errno, "make %s/" SPARE_DIR, env->runtime_dir);
    s->dirfd = openat(runtime, SPARE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dirfd < 0)
        return err_set(e, errno, "open %s/" SPARE_DIR, env->runtime_dir);
    s->env = env;
    return 0;
}

void spares_done(struct spares *s)
{
    struct spare *sp;

    if (!s->env)
        return;
    s->asked = s->wanted = 0;
    s->closing = true;
    (void)spares_shed(s); /* together, they end in the time of one */
    while ((sp = TAILQ_FIRST(&s->dying)))
        spare_end_now(sp);
    s->refill = sd_event_source_disable_unref(s->refill);
    s->watch = sd_event_source_disable_unref(s->watch);
    fd_closep(&s->dirfd);
}

void spares_want(struct spares *s, unsigned n)
{
    if (!s->env)
        return;
    s->asked = n;
    settle(s);
    if (n > 0 && clock_boot() - s->looked_at >= LOOK_PAUSE)
        look(s);
}

void spares_note(struct spares *s, const struct digest *digest, const struct limits *limits)
{
    const struct dress_key key = {.digest = *digest, .limits = *limits};

    /* A scratch of another size is made ahead for nobody (scratch_ready()). */
    if (s->env && limits->disk_bytes == s->limits.disk_bytes &&
        limits->disk_inodes == s->limits.disk_inodes)
        dress_note(&s->dress, &key);
}

/* One that has just been made is in the middle of its execve, some microseconds from the end. */
static int hear_report(const struct spare *sp, struct err *e)
{
    struct pollfd pfd = {.fd = sp->child.report_fd, .events = POLLIN};
    int r = sandbox_report(pfd.fd, e);

    if (r == 0 && poll(&pfd, 1, REPORT_PATIENCE_MS) == 1)
        r = sandbox_report(pfd.fd, e);
    return r;
}

/* The first that is ready and fits, off the list. */
static struct spare *find(struct spares *s, bool dressed, const struct limits *limits, int slug_fd)
{
    struct spare *sp, *next;
    struct err e = ERR_INIT;

    for (sp = TAILQ_FIRST(&s->ready); sp; sp = next) {
        next = TAILQ_NEXT(sp, link);
        if (spare_is_dressed(sp) != dressed || !spare_fits(&sp->cut, limits, slug_fd))
            continue;
        int r = hear_report(sp, &e);
        if (r == 0) /* on its way */
            continue;
        if (r > 0) {
            spare_unlist(sp);
            return sp;
        }
        log_warn("%s: %s", sp->id, e.text);
        s->lost++;
        drop(sp);
    }
    return NULL;
}

struct spare *spares_take(struct spares *s, const struct limits *limits, int slug_fd)
{
    const struct spare_cut plain = {.limits = s->limits};

    if (!s->env || s->wanted == 0)
        return NULL;
    struct spare *sp = find(s, true, limits, slug_fd);
    if (!sp)
        sp = find(s, false, limits, slug_fd);
    if (sp)
        return sp;
    if (spare_fits(&plain, limits, slug_fd))
        s->empty++;
    else
        s->unfit++;
    return NULL;
}

json_t *spares_json(const struct spares *s)
{
    return json_pack("{s:i,s:b,s:i,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "wanted", (int)s->wanted,
                     "memory_short", s->memory_short, "ready", (int)s->n_ready, "dressed",
                     (int)s->n_dressed, "made", (json_int_t)s->made, "taken", (json_int_t)s->taken,
                     "taken_dressed", (json_int_t)s->taken_dressed, "empty", (json_int_t)s->empty,
                     "unfit", (json_int_t)s->unfit, "lost", (json_int_t)s->lost, "made_us",
                     (json_int_t)s->made_usec);
}
