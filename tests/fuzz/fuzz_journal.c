/* The journal: any file, and any list of entries. What could be read of it is the same model after
 * every way of writing it down again. */
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "core/state/journal.h"
#include "core/state/journal_line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME      "journal"
#define LINES_MAX 300  /* each copies its app: enough to meet any state, not to wait for it */
#define DYNOS_MAX 2000 /* each stopped one is an entry of its own */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz_journal: %s\n", what);
    abort();
}

/* An empty directory, in memory where there is one. Whoever runs us removes the last one. */
static int make_dir(char path[32])
{
    (void)snprintf(path, 32, "/dev/shm/fuzz-journal-XXXXXX");
    if (!mkdtemp(path)) {
        (void)snprintf(path, 32, "/tmp/fuzz-journal-XXXXXX");
        must(mkdtemp(path) != NULL, "no directory");
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(fd >= 0, "no directory");
    return fd;
}

/* A line of the input as a line of the journal, with the checksum that no fuzzer guesses; what is
 * no JSON goes in as it is. */
static void add_line(struct str *out, const char *text, size_t len)
{
    scoped(json_freep) json_t *json = NULL;
    struct err e = ERR_INIT;

    if (json_parse(text, len, JOURNAL_LINE_MAX, &json, &e) < 0 || line_encode(json, out, &e) < 0) {
        str_add_n(out, text, len);
        str_add(out, "\n");
    }
}

/* 'L': lines of JSON. Anything else is the file itself. */
static void make_file(int dirfd, const char *text, size_t len)
{
    scoped(str_done) struct str out = {0};
    struct err e = ERR_INIT;
    const char *end = text + len;

    if (len == 0 || *text != 'L') {
        str_add_n(&out, text, len);
        text = end;
    } else {
        text++;
    }
    for (int lines = 0; text < end && lines < LINES_MAX; lines++) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));

        add_line(&out, text, (size_t)((nl ? nl : end) - text));
        text = nl ? nl + 1 : end;
    }
    must(file_write_atomic(dirfd, NAME, str_text(&out), out.len, 0600, &e) == 0, "cannot write");
}

struct opened {
    struct model *model;
    struct journal *journal;
    char *notice;
};

static struct opened open_it(int dirfd)
{
    struct opened o = {0};
    struct err e = ERR_INIT;

    must(model_new(&o.model, &e) == 0, "no memory");
    if (journal_open(dirfd, NAME, o.model, &o.journal, &o.notice, &e) < 0)
        must(false, e.text);
    return o;
}

static void close_it(struct opened *o)
{
    journal_freep(&o->journal);
    model_freep(&o->model);
    free(o->notice);
}

static char *dump(const struct model *m)
{
    json_t *entries = model_entries(m);
    char *text = json_dumps(entries, JSON_COMPACT | JSON_SORT_KEYS);

    must(text != NULL, "no memory");
    json_decref(entries);
    return text;
}

static void expect(const struct model *m, const char *was, const char *what)
{
    char *is = dump(m);

    if (strcmp(was, is) != 0)
        fprintf(stderr, "%s\n%s\n", was, is);
    must(!strcmp(was, is), what);
    free(is);
}

static void put(struct opened *o, const char *text)
{
    json_t *entry = json_loads(text, 0, NULL);
    struct err e = ERR_INIT;

    if (journal_apply(o->journal, entry, NULL, &e) < 0)
        must(false, e.text);
    json_decref(entry);
}

static bool is_small(const struct model *m)
{
    size_t n = 0;

    for (size_t i = 0; i < model_n_apps(m); i++)
        for (size_t k = 0; k < model_app_at(m, i)->n_types; k++)
            n += model_app_at(m, i)->types[k].count;
    return n <= DYNOS_MAX;
}

/* Once more from the disk: nothing is lost, and nothing is left to say about it. */
static void reopen(int dirfd, struct opened *o, const char *was, const char *what)
{
    close_it(o);
    *o = open_it(dirfd);
    must(!o->notice, o->notice ? o->notice : "");
    expect(o->model, was, what);
}

static void check(int dirfd, struct opened *o)
{
    struct want *wants = NULL;
    struct err e = ERR_INIT;
    size_t n = 0;

    must(model_wants(o->model, &wants, &n, &e) == 0, "no wants");
    for (size_t i = 0; i < n; i++)
        must(app_wants(wants[i].app, wants[i].name.type, wants[i].name.num),
             "a want is not wanted");
    free(wants);
    char *was = dump(o->model);
    reopen(dirfd, o, was, "read again, it is another one");
    free(was);
    put(o, "{\"op\":\"drain\",\"reason\":\"spot\"}"); /* appended */
    was = dump(o->model);
    reopen(dirfd, o, was, "with one more entry, it is another one");
    (void)unlinkat(dirfd, NAME, 0);
    put(o, "{\"op\":\"drain\",\"reason\":\"spot\"}"); /* written anew: compacted */
    reopen(dirfd, o, was, "compacted, it is another one");
    free(was);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err ignored = ERR_INIT;
    char path[32];
    int dirfd = make_dir(path);

    make_file(dirfd, (const char *)data, len);
    struct opened o = open_it(dirfd);
    if (is_small(o.model))
        check(dirfd, &o);
    close_it(&o);
    close(dirfd);
    (void)tree_remove(AT_FDCWD, path, &ignored);
    return 0;
}
