/* A controller's commands: a list of them, one after the other. None may crash or go past a limit;
 * what was carried out does nothing the second time; the journal gives the same state again. */
#include "core/control/control.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "core/state/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The configuration has no part in this but one size. */
const struct size *config_size(const struct config *c, const char *name)
{
    return !strcmp(name, "small") ? &c->sizes[0] : NULL;
}

static char dir[] = "/tmp/fuzz-control-XXXXXX";
static int dirfd_ = -1;

static void remove_dir(void)
{
    struct err ignored = ERR_INIT;

    (void)tree_remove(AT_FDCWD, dir, &ignored);
}

struct world {
    struct model *model;
    struct journal *journal;
};

static void check(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "%s\n", what);
    abort();
}

static void world_open(struct world *w)
{
    scoped_free char *notice = NULL;
    struct err e = ERR_INIT;

    check(model_new(&w->model, &e) == 0, "no model");
    check(journal_open(dirfd_, "journal", w->model, &w->journal, &notice, &e) == 0, e.text);
    check(!notice, "the journal does not read what it wrote");
}

static void world_close(struct world *w)
{
    journal_freep(&w->journal);
    model_freep(&w->model);
}

/* A restart, a one-off's stop and what is forgotten are of the moment. */
static bool repeats(const json_t *command)
{
    return !strcmp(json_str(command, "op", ""), "restart");
}

static size_t changes(const struct world *w, const struct change_limits *limits,
                      const json_t *command, struct change *ret, int *ret_r)
{
    struct err e = ERR_INIT;

    *ret_r = change_command(w->model, limits, command, ret, &e);
    check(*ret_r == 0 || (e.text[0] && change_code(ret, &e)), "a refusal without a reason");
    check(*ret_r == 0 || e.fault == FAULT_OPERATOR || e.errnum == ENOMEM, "whose fault?");
    return *ret_r == 0 ? json_array_size(ret->entries) : 0;
}

static void run_one(struct world *w, const struct change_limits *limits, const json_t *command)
{
    struct change change = {0}, again = {0};
    struct err e = ERR_INIT;
    json_t *entry;
    size_t i;
    int r, whole = 0;

    (void)changes(w, limits, command, &change, &r);
    json_array_foreach (change.entries, i, entry) {
        if (r < 0)
            break;
        (void)json_object_set_new(entry, "by", json_pack("{s:s}", "store", "db"));
        r = journal_apply(w->journal, entry, NULL, &e);
        check(r == 0 || (e.fault == FAULT_OPERATOR && e.text[0]), e.text);
    }
    whole = r == 0;
    change_done(&change);
    if (whole && !repeats(command) && strcmp(json_str(command, "op", ""), "stop") != 0)
        check(changes(w, limits, command, &again, &r) == 0 && r == 0, "it does it twice");
    change_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct config config = {.dynos_max = 50};
    struct err e = ERR_INIT;
    struct world w, reopened;
    json_t *list = NULL;
    size_t i;

    if (dirfd_ < 0) {
        check(mkdtemp(dir) != NULL, "no directory");
        (void)atexit(remove_dir);
        dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (len < 1 || json_parse((const char *)data + 1, len - 1, FRAME_MAX, &list, &e) < 0)
        return 0;
    (void)unlinkat(dirfd_, "journal", 0);
    world_open(&w);
    for (i = 0; i < json_array_size(list) && i < 20; i++) {
        const struct change_limits limits = {&config, (data[0] >> (i % 8)) & 1};
        const json_t *command = json_array_get(list, i);

        if (json_is_object(command))
            run_one(&w, &limits, command);
    }
    world_open(&reopened);
    json_t *a = model_entries(w.model), *b = model_entries(reopened.model);
    check(json_equal(a, b), "another state after the next start");
    json_decref(a);
    json_decref(b);
    world_close(&reopened);
    world_close(&w);
    json_decref(list);
    return 0;
}
