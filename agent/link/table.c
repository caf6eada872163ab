#include "link/table.h"

#include "base/frame.h"
#include "base/name.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES (APP_NAME_MAX + 1 + TYPE_NAME_MAX + 1 + 20)
#define FIELD_MAX      512 /* bytes of a state, an address or a run's id */
#define HASH_BYTES     8   /* of the digest, shown */

/* A dyno, or the memory that it was there. */
struct row {
    char *name;
    json_t *dyno; /* NULL: gone */
    uint64_t changed;
};

struct table {
    struct row *rows; /* by name */
    size_t n;
    size_t cap;
    size_t n_gone;
    uint64_t generation;
    uint64_t oldest; /* the first generation that table_since() can start from */
    uint64_t hashed; /* the generation that HASH is of; 0: none */
    char hash[TABLE_HASH_TEXT];
};

int table_new(struct table **ret, struct err *e)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        return err_set(e, ENOMEM, "make the table of dynos");
    t->generation = 1;
    t->oldest = 1;
    *ret = t;
    return 0;
}

static void row_done(struct row *r)
{
    free(r->name);
    json_decref(r->dyno);
}

void table_freep(struct table **tp)
{
    struct table *t = *tp;

    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        row_done(&t->rows[i]);
    free(t->rows);
    free(t);
    *tp = NULL;
}

/* --- rows --------------------------------------------------------------------------------------
 */

/* Where NAME is, or would have to be. */
static size_t place_of(const struct table *t, const char *name, bool *ret_found)
{
    size_t low = 0, high = t->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(t->rows[middle].name, name);

        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

static int row_insert(struct table *t, size_t at, const char *name, struct err *e)
{
    if (t->n == TABLE_DYNOS_MAX + TABLE_GONE_MAX)
        return err_say(e, ENOSPC, "more than %d dynos", TABLE_DYNOS_MAX);
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        struct row *rows = reallocarray(t->rows, cap, sizeof(*rows));

        if (!rows)
            return err_set(e, ENOMEM, "keep a dyno's state");
        t->rows = rows;
        t->cap = cap;
    }
    char *copy = strdup(name);
    if (!copy)
        return err_set(e, ENOMEM, "keep a dyno's state");
    memmove(t->rows + at + 1, t->rows + at, (t->n - at) * sizeof(*t->rows));
    t->rows[at] = (struct row){.name = copy};
    t->n++;
    return 0;
}

/* Drops the memory of what went before generation FROM. */
static void drop_gone(struct table *t, uint64_t from)
{
    size_t kept = 0;

    for (size_t i = 0; i < t->n; i++) {
        struct row *r = &t->rows[i];

        if (r->dyno || r->changed > from)
            t->rows[kept++] = *r;
        else
            row_done(r);
    }
    t->n_gone -= t->n - kept;
    t->n = kept;
}

/* --- what a dyno's state has to have -------------------------------------------------------------
 */

static bool text_fits(const json_t *j)
{
    return json_is_null(j) || (json_is_string(j) && json_string_length(j) <= FIELD_MAX);
}

static int check(const json_t *dyno, char name[NAME_MAX_BYTES], struct err *e)
{
    const char *app = json_str(dyno, "app", NULL), *short_name = json_str(dyno, "dyno", NULL);
    const json_t *port = json_object_get(dyno, "port");
    const json_t *address = json_object_get(dyno, "address"), *run = json_object_get(dyno, "run");
    struct dyno_name parsed;

    if (!app || !short_name)
        return err_say(e, EINVAL, "a dyno's state without its name");
    if (snprintf(name, NAME_MAX_BYTES, "%s/%s", app, short_name) >= NAME_MAX_BYTES ||
        dyno_name_parse(name, &parsed) < 0)
        return err_say(e, EINVAL, "a dyno's state with a name that is none");
    if (!json_is_integer(json_object_get(dyno, "release")) ||
        !json_is_string(json_object_get(dyno, "state")) ||
        !text_fits(json_object_get(dyno, "state")) ||
        !json_is_boolean(json_object_get(dyno, "up")) || (address && !text_fits(address)) ||
        (run && !text_fits(run)) || (port && !json_is_null(port) && !json_is_integer(port)))
        return err_say(e, EINVAL, "the state of %s has a wrong member", name);
    return 0;
}

/* --- changes -----------------------------------------------------------------------------------
 */

/* One more generation, unless NEXT has begun already. */
static int put(struct table *t, json_t *dyno, uint64_t next, struct err *e)
{
    char name[NAME_MAX_BYTES];
    bool found;
    int r = check(dyno, name, e);

    if (r < 0)
        return r;
    size_t at = place_of(t, name, &found);
    if (found && t->rows[at].dyno && json_equal(t->rows[at].dyno, dyno))
        return 0;
    if (!found && (r = row_insert(t, at, name, e)) < 0)
        return r;
    struct row *row = &t->rows[at];
    if (found && !row->dyno)
        t->n_gone--;
    json_decref(row->dyno);
    row->dyno = json_incref(dyno);
    row->changed = next;
    t->generation = next;
    return 0;
}

static void row_gone(struct table *t, struct row *row, uint64_t next)
{
    json_decref(row->dyno);
    row->dyno = NULL;
    row->changed = next;
    t->n_gone++;
    t->generation = next;
}

/* Too many names to remember: whoever is behind has to be told all. */
static void limit_gone(struct table *t)
{
    if (t->n_gone <= TABLE_GONE_MAX)
        return;
    drop_gone(t, t->generation);
    t->oldest = t->generation;
}

int table_put(struct table *t, json_t *dyno, struct err *e)
{
    return put(t, dyno, t->generation + 1, e);
}

int table_remove(struct table *t, const char *name, struct err *e)
{
    bool found;

    if (!name)
        return err_say(e, EINVAL, "\"gone\" without a name");
    size_t at = place_of(t, name, &found);
    if (found && t->rows[at].dyno) {
        row_gone(t, &t->rows[at], t->generation + 1);
        limit_gone(t);
    }
    return 0;
}

int table_replace(struct table *t, json_t *dynos, struct err *e)
{
    scoped(json_freep) json_t *names = json_object();
    uint64_t next = t->generation + 1;
    char name[NAME_MAX_BYTES];
    json_t *dyno;
    size_t i;

    if (!names)
        return err_set(e, ENOMEM, "keep the dynos' states");
    if (!json_is_array(dynos))
        return err_say(e, EINVAL, "a snapshot that is no list");
    json_array_foreach (dynos, i, dyno) {
        int r = check(dyno, name, e);

        if (r < 0)
            return r;
        if (json_object_set_new(names, name, json_true()) < 0)
            return err_set(e, ENOMEM, "keep the dynos' states");
    }
    for (size_t k = 0; k < t->n; k++)
        if (t->rows[k].dyno && !json_object_get(names, t->rows[k].name))
            row_gone(t, &t->rows[k], next);
    json_array_foreach (dynos, i, dyno) {
        int r = put(t, dyno, next, e);

        if (r < 0)
            return r;
    }
    limit_gone(t);
    return 0;
}

/* --- questions ---------------------------------------------------------------------------------
 */

uint64_t table_generation(const struct table *t)
{
    return t->generation;
}

static const char *text_or_dash(const json_t *dyno, const char *key)
{
    const char *text = json_str(dyno, key, "");

    return text[0] ? text : "-";
}

static char *line_of(const struct row *row)
{
    char *line = NULL;

    if (asprintf(&line, "%s %lld %s %d %s %lld %s\n", row->name,
                 (long long)json_int(row->dyno, "release", 0), json_str(row->dyno, "state", ""),
                 json_bool(row->dyno, "up", false), text_or_dash(row->dyno, "address"),
                 (long long)json_int(row->dyno, "port", 0), text_or_dash(row->dyno, "run")) < 0)
        return NULL;
    return line;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool digest_lines(char **lines, size_t n, unsigned char out[EVP_MAX_MD_SIZE])
{
    struct str text = {0};

    for (size_t i = 0; i < n; i++)
        str_add(&text, lines[i]);
    bool good =
        !text.failed && EVP_Digest(str_text(&text), text.len, out, NULL, EVP_sha256(), NULL) == 1;
    str_done(&text);
    return good;
}

/* A hash that could not be made for want of memory is one that fits nothing: all is told anew. */
const char *table_hash(struct table *t)
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    size_t n = 0;

    if (t->hashed == t->generation)
        return t->hash;
    char **lines = calloc(t->n + 1, sizeof(*lines));
    bool good = lines != NULL;
    for (size_t i = 0; good && i < t->n; i++) {
        if (!t->rows[i].dyno)
            continue;
        lines[n] = line_of(&t->rows[i]);
        good = lines[n++] != NULL;
    }
    if (good)
        qsort(lines, n, sizeof(*lines), by_bytes);
    good = good && digest_lines(lines, n, digest);
    for (size_t i = 0; i < HASH_BYTES; i++)
        (void)snprintf(t->hash + 2 * i, 3, "%02x", digest[i]);
    t->hashed = good ? t->generation : 0;
    for (size_t i = 0; i < n; i++)
        free(lines[i]);
    free(lines);
    return t->hash;
}

json_t *table_all(const struct table *t)
{
    scoped(json_freep) json_t *all = json_array();

    for (size_t i = 0; all && i < t->n; i++)
        if (t->rows[i].dyno && json_array_append(all, t->rows[i].dyno) < 0)
            return NULL;
    return TAKE_PTR(all);
}

int table_since(const struct table *t, uint64_t from, json_t **ret_dynos, json_t **ret_gone,
                struct err *e)
{
    scoped(json_freep) json_t *dynos = json_array();
    scoped(json_freep) json_t *gone = json_array();
    bool good = dynos && gone;

    if (from < t->oldest || from > t->generation)
        return err_say(e, ESTALE, "generation %llu is not known any more",
                       (unsigned long long)from);
    for (size_t i = 0; good && i < t->n; i++) {
        struct row *r = &t->rows[i];

        if (r->changed <= from)
            continue;
        good = r->dyno ? json_array_append(dynos, r->dyno) == 0
                       : json_array_append_new(gone, json_string(r->name)) == 0;
    }
    if (!good)
        return err_set(e, ENOMEM, "list what has changed");
    *ret_dynos = TAKE_PTR(dynos);
    *ret_gone = TAKE_PTR(gone);
    return 0;
}

void table_settle(struct table *t, uint64_t from)
{
    if (from <= t->oldest)
        return;
    if (t->n_gone > 0)
        drop_gone(t, from);
    t->oldest = from;
}
