#include "core/events.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS_FILE    "events.jsonl"
#define EVENTS_OLD     "events.old"
#define EVENT_LINE_MAX 65536u

struct event_watch {
    LIST_ENTRY(event_watch) link;
    event_fn fn;
    void *userdata;
    bool gone; /* freed when nobody walks the list any more */
};

struct events {
    int dirfd;
    int file;
    uint64_t file_bytes;
    uint64_t next_id;
    json_t *kept[EVENTS_KEPT]; /* a ring: the event ID is at ID % EVENTS_KEPT */
    LIST_HEAD(, event_watch) watches;
    unsigned walking;
};

static void keep(struct events *ev, uint64_t id, json_t *event)
{
    json_t **slot = &ev->kept[id % EVENTS_KEPT];

    json_decref(*slot);
    *slot = event;
    if (id >= ev->next_id)
        ev->next_id = id + 1;
}

/* Reads one file of lines into the ring. A missing or spoilt file is an empty history; one that we
 * cannot read now is none, as its numbers would be given again. */
static int load(struct events *ev, const char *name, struct err *e)
{
    scoped_free char *text = NULL;
    size_t len = 0;
    struct err why = ERR_INIT, ignored = ERR_INIT;
    int r = file_read(ev->dirfd, name, 2 * EVENTS_FILE_MAX, &text, &len, &why);

    if (r < 0 && err_is_shortage(-r)) {
        *e = why;
        return r;
    }
    if (r < 0)
        return 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *event = NULL;

        if (json_parse(line, (size_t)(end - line), EVENT_LINE_MAX, &event, &ignored) < 0)
            continue;
        int64_t id = json_int(event, "id", 0);
        if (id > 0 && (uint64_t)id >= ev->next_id && (uint64_t)id <= EVENTS_ID_MAX)
            keep(ev, (uint64_t)id, event);
        else
            json_decref(event);
    }
    return 0;
}

static int open_file(struct events *ev, struct err *e)
{
    /* O_NONBLOCK: a FIFO must not stop the start. */
    int fd = openat(ev->dirfd, EVENTS_FILE,
                    O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat st;
    char last = '\n';

    if (fd < 0 || fstat(fd, &st) < 0 ||
        (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) < 0)) {
        int r = err_set(e, errno, "open " EVENTS_FILE);

        fd_closep(&fd);
        return r;
    }
    ev->file = fd;
    ev->file_bytes = (uint64_t)st.st_size;
    if (last != '\n' && fd_write_full(fd, "\n", 1) == 0) /* the next event is a line of its own */
        ev->file_bytes++;
    return 0;
}

int events_open(int dirfd, struct events **ret, struct err *e)
{
    scoped(events_freep) struct events *ev = calloc(1, sizeof(*ev));

    if (!ev)
        return err_set(e, ENOMEM, "make the event log");
    ev->dirfd = dirfd;
    ev->file = -1;
    ev->next_id = 1;
    int r = load(ev, EVENTS_OLD, e);
    if (r == 0)
        r = load(ev, EVENTS_FILE, e);
    if (r == 0)
        r = open_file(ev, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(ev);
    return 0;
}

static void sweep_watches(struct events *ev)
{
    struct event_watch *w = LIST_FIRST(&ev->watches);

    while (w) {
        struct event_watch *next = LIST_NEXT(w, link);

        if (w->gone) {
            LIST_REMOVE(w, link);
            free(w);
        }
        w = next;
    }
}

void events_freep(struct events **evp)
{
    struct events *ev = *evp;
    struct event_watch *w;

    if (!ev)
        return;
    LIST_FOREACH (w, &ev->watches, link)
        w->gone = true;
    sweep_watches(ev);
    for (size_t i = 0; i < EVENTS_KEPT; i++)
        json_decref(ev->kept[i]);
    fd_closep(&ev->file);
    free(ev);
    *evp = NULL;
}

/* The file is a copy for the next agent: a full disk loses history, nothing else. */
static void append(struct events *ev, const json_t *event)
{
    scoped_free char *text = json_dumps(event, JSON_COMPACT);
    struct err ignored = ERR_INIT;

    if (!text)
        return;
    size_t len = strlen(text);
    text[len] = '\n'; /* over the NUL: one write, one line */
    if (len < EVENT_LINE_MAX && ev->file >= 0) {
        if (fd_write_full(ev->file, text, len + 1) == 0)
            ev->file_bytes += len + 1;
        else /* half a line would spoil the next one too */
            (void)ftruncate(ev->file, (off_t)ev->file_bytes);
    }
    if (ev->file_bytes > EVENTS_FILE_MAX &&
        renameat(ev->dirfd, EVENTS_FILE, ev->dirfd, EVENTS_OLD) == 0) {
        fd_closep(&ev->file);
        (void)open_file(ev, &ignored);
    }
}

static void stamp(json_t *event)
{
    char text[CLOCK_TEXT_MAX];

    (void)json_object_set_new(event, "t", json_string(clock_text(clock_real(), text)));
}

static void send(struct events *ev, const json_t *event)
{
    struct event_watch *w;

    ev->walking++;
    LIST_FOREACH (w, &ev->watches, link)
        if (!w->gone)
            w->fn(w->userdata, event);
    if (--ev->walking == 0)
        sweep_watches(ev);
}

void events_emit(struct events *ev, json_t *event)
{
    uint64_t id = ev->next_id;

    if (!event) /* no memory for it */
        return;
    (void)json_object_set_new(event, "id", json_integer((json_int_t)id));
    stamp(event);
    append(ev, event);
    keep(ev, id, event);
    json_incref(event); /* a watcher may emit, and push this one out of the ring */
    send(ev, event);
    json_decref(event);
}

void events_tell(struct events *ev, json_t *event)
{
    if (!event)
        return;
    stamp(event);
    send(ev, event);
    json_decref(event);
}

json_t *events_list(const struct events *ev, uint64_t after_id, size_t max)
{
    json_t *list = json_array();
    uint64_t oldest = ev->next_id > EVENTS_KEPT ? ev->next_id - EVENTS_KEPT : 1;
    uint64_t from = after_id + 1 > oldest ? after_id + 1 : oldest;

    if (ev->next_id > from && ev->next_id - from > max)
        from = ev->next_id - max;
    for (uint64_t id = from; id < ev->next_id; id++)
        if (ev->kept[id % EVENTS_KEPT])
            (void)json_array_append(list, ev->kept[id % EVENTS_KEPT]);
    return list;
}

int events_watch(struct events *ev, event_fn fn, void *userdata, struct event_watch **ret,
                 struct err *e)
{
    struct event_watch *w = calloc(1, sizeof(*w));

    if (!w)
        return err_set(e, ENOMEM, "watch the events");
    w->fn = fn;
    w->userdata = userdata;
    LIST_INSERT_HEAD(&ev->watches, w, link);
    *ret = w;
    return 0;
}

void events_unwatch(struct event_watch *w)
{
    /* Swept at the next event: the list may be being walked right now. */
    if (w)
        w->gone = true;
}
