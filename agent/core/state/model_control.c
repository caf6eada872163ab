/* model_control.c - whose commands are obeyed, which of them are settled, and whether the instance
 * is being emptied. */
#include "core/state/model_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

const struct control *model_control(const struct model *m)
{
    return &model_standing(m)->control;
}

const struct drain *model_drain_state(const struct model *m)
{
    return &model_standing(m)->drain;
}

static const struct settled *find_settled(const struct standing *s, const char *id)
{
    for (size_t i = 0; i < s->n_settled; i++)
        if (!strcmp(s->settled[i].id, id))
            return &s->settled[i];
    return NULL;
}

const char *model_command_outcome(const struct model *m, const char *id)
{
    const struct settled *found = find_settled(model_standing(m), id);

    if (!found)
        return NULL;
    return found->refused ? "refused" : "done";
}

/* --- Fields --- */

static int check_store(const char *op, const char *store, struct err *e)
{
    size_t len = strlen(store);
    char q[QUOTE_MAX];

    if (len == 0 || len > LINK_STORE_MAX || strspn(store, LETTERS_AND_DIGITS "._-") != len)
        return refuse(e, EINVAL, "%s: '%s' is no name of a store", op, quote(q, store));
    return 0;
}

static int check_id(const char *op, const char *id, struct err *e)
{
    size_t len = strlen(id), good = 0;
    char q[QUOTE_MAX];

    while (id[good] > ' ' && id[good] < 0x7f)
        good++;
    if (len == 0 || len > LINK_ID_MAX || good != len)
        return refuse(e, EINVAL, "%s: '%s' is no id of a command", op, quote(q, id));
    return 0;
}

static int check_outcome(const char *op, const char *outcome, struct err *e)
{
    char q[QUOTE_MAX];

    if (strcmp(outcome, "done") != 0 && strcmp(outcome, "refused") != 0)
        return refuse(e, EINVAL, "%s: outcome '%s' is neither done nor refused", op,
                      quote(q, outcome));
    return 0;
}

/* --- Commands --- */

static void settle(struct standing *s, const char *id, bool refused)
{
    if (find_settled(s, id))
        return;
    if (s->n_settled == MODEL_COMMANDS_KEPT)
        memmove(&s->settled[0], &s->settled[1], --s->n_settled * sizeof(s->settled[0]));
    struct settled *last = &s->settled[s->n_settled++];
    (void)snprintf(last->id, sizeof(last->id), "%s", id); /* its length was checked */
    last->refused = refused;
}

static void obey(struct standing *s, const char *store, uint64_t generation)
{
    if (strcmp(s->control.store, store) != 0)
        s->n_settled = 0; /* another store's ids are other commands */
    (void)snprintf(s->control.store, sizeof(s->control.store), "%s", store);
    s->control.generation = generation;
}

static const struct field by_fields[] = {
    {"store", FIELD_STRING | FIELD_REQUIRED},
    {"generation", FIELD_INT},
    {"id", FIELD_STRING},
    {NULL, 0},
};

static int parse_by(const struct op *o, const json_t *by, const char **ret_store,
                    uint64_t *ret_generation, const char **ret_id, struct err *e)
{
    int r = fields_check("by", by, by_fields, e);

    if (r < 0)
        return err_wrap(e, "%s", o->name);
    *ret_store = json_string_value(json_object_get(by, "store"));
    *ret_id = json_string_value(json_object_get(by, "id"));
    r = check_store(o->name, *ret_store, e);
    if (r == 0 && *ret_id)
        r = check_id(o->name, *ret_id, e);
    if (r == 0)
        r = field_uint(o->name, by, "generation", 1, MODEL_GENERATION_MAX, ret_generation, e);
    if (r == 0 && !*ret_id != !*ret_generation)
        r = refuse(e, EINVAL, "%s: by has only one of 'generation' and 'id'", o->name);
    return r;
}

int op_by(struct op *o, struct err *e)
{
    const json_t *by = json_object_get(o->entry, "by");
    const char *outcome = json_string_value(json_object_get(o->entry, "outcome"));
    const char *store = NULL, *id = NULL;
    uint64_t generation = 0;

    if (!by)
        return 0;
    int r = parse_by(o, by, &store, &generation, &id, e);
    if (r == 0 && outcome)
        r = check_outcome(o->name, outcome, e);
    if (r < 0 || !id)
        return r;
    struct control *c = &o->standing->control;
    if (!strcmp(c->store, store) && generation <= c->generation)
        return refuse(e, ESTALE, "%s: generation %ju of %s is not above %ju", o->name,
                      (uintmax_t)generation, store, (uintmax_t)c->generation);
    obey(o->standing, store, generation);
    settle(o->standing, id, outcome && !strcmp(outcome, "refused"));
    return 0;
}

static const struct field settled_fields[] = {
    {"id", FIELD_STRING | FIELD_REQUIRED},
    {"outcome", FIELD_STRING | FIELD_REQUIRED},
    {NULL, 0},
};

static int take_settled(struct op *o, const json_t *one, struct err *e)
{
    if (!json_is_object(one))
        return refuse(e, EINVAL, "control: 'settled' lists what is not an object");
    int r = fields_check("settled", one, settled_fields, e);
    if (r < 0)
        return err_wrap(e, "control");
    const char *id = json_string_value(json_object_get(one, "id"));
    const char *outcome = json_string_value(json_object_get(one, "outcome"));
    r = check_id(o->name, id, e);
    if (r == 0)
        r = check_outcome(o->name, outcome, e);
    if (r == 0)
        settle(o->standing, id, !strcmp(outcome, "refused"));
    return r;
}

/* What an earlier journal knew, in the place of what is known. */
static int restore(struct op *o, const char *store, struct err *e)
{
    const json_t *settled = json_object_get(o->entry, "settled");
    uint64_t generation = 0;
    int r = check_store(o->name, store, e);

    if (r == 0)
        r = field_uint(o->name, o->entry, "generation", 1, MODEL_GENERATION_MAX, &generation, e);
    if (r == 0 && generation == 0)
        r = refuse(e, EINVAL, "control: 'generation' is missing");
    if (r < 0)
        return r;
    obey(o->standing, store, generation);
    o->standing->n_settled = 0;
    for (size_t i = 0; i < json_array_size(settled) && r == 0; i++)
        r = take_settled(o, json_array_get(settled, i), e);
    return r;
}

int op_control(struct op *o, struct err *e)
{
    const char *store = json_string_value(json_object_get(o->entry, "store"));
    bool by = json_object_get(o->entry, "by") != NULL;

    if (by == (store != NULL))
        return refuse(e, EINVAL, "control: exactly one of 'by' and 'store' is needed");
    if (store)
        return restore(o, store, e);
    if (json_object_get(o->entry, "settled") || json_object_get(o->entry, "generation"))
        return refuse(e, EINVAL, "control: 'settled' and 'generation' go with 'store'");
    return 0;
}

/* --- Draining --- */

int op_drain(struct op *o, struct err *e)
{
    const char *reason = json_string_value(json_object_get(o->entry, "reason"));
    struct drain drain = {.on = true, .since_real = o->standing->drain.since_real};
    size_t len = strlen(reason);
    char q[QUOTE_MAX];

    if (len == 0 || len >= sizeof(drain.reason) || strspn(reason, LETTERS_AND_DIGITS "_-") != len)
        return refuse(e, EINVAL, "drain: reason '%s' is not a word of 1 to %zu letters",
                      quote(q, reason), sizeof(drain.reason) - 1);
    memcpy(drain.reason, reason, len + 1);
    int r = field_uint(o->name, o->entry, "deadline", 0, INT64_MAX, &drain.deadline_real, e);
    if (r == 0)
        r = field_uint(o->name, o->entry, "since", 0, INT64_MAX, &drain.since_real, e);
    if (r == 0)
        o->standing->drain = drain;
    return r;
}

int op_undrain(struct op *o, struct err *e)
{
    (void)e;
    o->standing->drain = (struct drain){0};
    return 0;
}
