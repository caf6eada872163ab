/* attaches.c - the remote attaches that are open, by dynod's numbers. */
#include "link/link.h"

#include "base/linkproto.h"
#include "base/log.h"
#include "base/scoped.h"
#include "link/rendezvous.h"

#include <errno.h>
#include <stdlib.h>

struct attach {
    struct attach *next;
    struct link *l;
    unsigned number;
    struct rendezvous *r;
};

static struct attach **find(struct link *l, unsigned number)
{
    struct attach **at = &l->attaches;

    while (*at && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

static void close_one(struct attach **at)
{
    struct attach *a = *at;

    *at = a->next;
    a->l->n_attaches--;
    rendezvous_freep(&a->r);
    free(a);
}

void attaches_free(struct link *l)
{
    while (l->attaches)
        close_one(&l->attaches);
}

static void over(void *userdata, unsigned number)
{
    struct attach **at = find(userdata, number);

    if (*at)
        close_one(at);
}

static void tell_failed(struct link *l, unsigned number, const char *why)
{
    control_tell(l, "attach_failed", json_pack("{s:i,s:s}", "attach", (int)number, "error", why));
}

static void on_up(void *userdata, unsigned number, unsigned rows, unsigned cols)
{
    control_tell(
        userdata, "attach_up",
        json_pack("{s:i,s:i,s:i}", "attach", (int)number, "rows", (int)rows, "cols", (int)cols));
}

static void on_failed(void *userdata, unsigned number, const char *why)
{
    log_warn("attach %u: %s", number, why);
    tell_failed(userdata, number, why);
    over(userdata, number);
}

static void on_gone(void *userdata, unsigned number, const char *why)
{
    log_info("attach %u: %s", number, why);
    control_tell(userdata, "attach_gone", json_pack("{s:i}", "attach", (int)number));
    over(userdata, number);
}

static void on_signal(void *userdata, unsigned number, int signo)
{
    control_tell(userdata, "attach_signal",
                 json_pack("{s:i,s:i}", "attach", (int)number, "signal", signo));
}

static int number_of(const json_t *spec, unsigned *ret, struct err *e)
{
    int64_t n = json_int(spec, "attach", -1);

    if (n < 0 || n > INT32_MAX)
        return err_say(e, EINVAL, "it has no number");
    *ret = (unsigned)n;
    return 0;
}

static int open_one(struct link *l, struct rendezvous_spec *spec, struct err *e)
{
    static const struct rendezvous_ops ops = {on_up, on_failed, on_gone, on_signal, over};
    struct attach *a = NULL;
    int r = 0;

    if (l->n_attaches >= RENDEZVOUS_MAX)
        r = err_say(e, ENOBUFS, "%d attaches are open: the limit", RENDEZVOUS_MAX);
    else if (*find(l, spec->attach))
        r = err_say(e, EEXIST, "its number is in use");
    else if (!(a = calloc(1, sizeof(*a))))
        r = err_set(e, ENOMEM, "open an attach");
    if (r < 0) {
        for (int i = 0; i < 3; i++)
            fd_closep(&spec->fds[i]);
        return r;
    }
    r = rendezvous_open(l->loop, spec, &ops, l, &a->r, e);
    if (r < 0) {
        free(a);
        return r;
    }
    a->l = l;
    a->number = spec->attach;
    a->next = l->attaches;
    l->attaches = a;
    l->n_attaches++;
    return 0;
}

int attach_open(struct link *l, const json_t *j, struct frame *f, struct err *e)
{
    struct http_trust trust = files_trust(session_trust(l->session));
    struct rendezvous_spec spec = {
        .url = json_str(j, "url", ""),
        .secret = json_str(j, "secret", ""),
        .agent = session_agent(l->session),
        .dyno = json_str(j, "dyno", ""),
        .tty = json_bool(j, "tty", false),
        .trust = &trust,
    };
    int r = number_of(j, &spec.attach, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < 3; i++)
        spec.fds[i] = frame_take_fd(f, i);
    r = open_one(l, &spec, e);
    if (r < 0)
        tell_failed(l, spec.attach, e->text);
    return r;
}

int attach_ended(struct link *l, const json_t *j, struct err *e)
{
    unsigned number = 0;
    int r = number_of(j, &number, e);

    if (r < 0)
        return r;
    struct attach *a = *find(l, number);
    if (a) /* else it has gone already */
        rendezvous_ended(a->r, (int)json_int(j, "status", 0), json_str(j, "error", NULL));
    return 0;
}
