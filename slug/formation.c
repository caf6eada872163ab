#include "slug/formation.h"

#include "base/str.h"
#include "slug/lines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define QUOTE_MAX      64
#define PORTS_PER_TYPE 100

/* One NAME=N of a formation. */
struct part {
    char name[TYPE_NAME_MAX + 1];
    unsigned count;
};

static int refuse(struct err *e, const char *text, size_t len, const char *why)
{
    char quoted[QUOTE_MAX];

    err_say(e, EINVAL, "the formation '%s': %s", text_escape(quoted, sizeof(quoted), text, len),
            why);
    return err_blame(e, FAULT_OPERATOR);
}

static int parse_count(const char *text, size_t len, unsigned *ret)
{
    char digits[24];
    uint64_t n;

    if (len >= sizeof(digits))
        return -ERANGE;
    memcpy(digits, text, len);
    digits[len] = '\0';
    int r = parse_u64(digits, 0, FORMATION_COUNT_MAX, &n);
    if (r == 0)
        *ret = (unsigned)n;
    return r;
}

/* Whether TEXT is digits only, however many. */
static bool all_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return len > 0;
}

static int parse_part(const char *text, size_t len, struct part *ret, struct err *e)
{
    const char *whole = text, *equals, *value;
    size_t whole_len, name_len, value_len;
    struct part part = {0};

    trim_blanks(&text, &len);
    whole = text;
    whole_len = len;
    if (len == 0)
        return refuse(e, whole, whole_len, "a part is empty");
    equals = memchr(text, '=', len);
    if (!equals)
        return refuse(e, whole, whole_len, "no '=': write TYPE=N");
    name_len = (size_t)(equals - text);
    trim_blanks(&text, &name_len);
    value = equals + 1;
    value_len = (size_t)(whole + whole_len - value);
    trim_blanks(&value, &value_len);
    if (!type_name_valid(text, name_len))
        return refuse(e, whole, whole_len, "not a process type's name before '='");
    if (value_len == 0)
        return refuse(e, whole, whole_len, "no number after '='");
    if (!all_digits(value, value_len))
        return refuse(e, whole, whole_len, "not a number after '='");
    if (parse_count(value, value_len, &part.count) < 0)
        return refuse(e, whole, whole_len, "over the limit of 100 dynos of a type");
    memcpy(part.name, text, name_len);
    *ret = part;
    return 0;
}

int formation_parse_one(const char *spec, char type[TYPE_NAME_MAX + 1], unsigned *ret_count,
                        struct err *e)
{
    struct part part = {0};
    int r = parse_part(spec, strlen(spec), &part, e);

    if (r < 0)
        return r;
    if (type_name_reserved(part.name, strlen(part.name)) || !strcmp(part.name, "release"))
        return refuse(e, spec, strlen(spec), "no process type can be scaled by this name");
    memcpy(type, part.name, sizeof(part.name));
    *ret_count = part.count;
    return 0;
}

/* Whether the type runs without being named. */
static bool by_default(const struct proc_type *t)
{
    return strcmp(t->name, "release") && (!t->from_release_file || !strcmp(t->name, "web"));
}

/* Takes one part into COUNTS and NAMED; `all` goes to *ALL. */
static int take_part(const struct procfile *p, const struct part *part, const char *text,
                     size_t len, unsigned *counts, bool *named, int *all, struct err *e)
{
    if (!strcmp(part->name, "all")) {
        if (*all >= 0)
            return refuse(e, text, len, "'all' is there twice");
        *all = (int)part->count;
        return 0;
    }
    if (!strcmp(part->name, "release"))
        return refuse(e, text, len, "'release' is never part of a formation");
    const struct proc_type *t = procfile_find(p, part->name);
    if (!t)
        return refuse(e, text, len, "no such process type");
    size_t i = (size_t)(t - p->types);
    if (named[i])
        return refuse(e, text, len, "a process type is there twice");
    named[i] = true;
    counts[i] = part->count;
    return 0;
}

static int parse_spec(const struct procfile *p, const char *spec, unsigned *counts, bool *named,
                      int *all, struct err *e)
{
    const char *at = spec;

    for (;;) {
        size_t len = strcspn(at, ",");
        struct part part = {0};
        int r = parse_part(at, len, &part, e);

        if (r == 0)
            r = take_part(p, &part, at, len, counts, named, all, e);
        if (r < 0)
            return r;
        if (at[len] == '\0')
            return 0;
        at += len + 1;
    }
}

int formation_parse(const struct procfile *p, const char *spec, unsigned *counts, struct err *e)
{
    unsigned next[PROCFILE_MAX_TYPES] = {0}, total = 0;
    bool named[PROCFILE_MAX_TYPES] = {0};
    int all = spec ? -1 : 1;
    int r = spec ? parse_spec(p, spec, next, named, &all, e) : 0;

    if (r < 0)
        return r;
    for (size_t i = 0; i < p->n_types; i++) {
        if (!named[i] && all >= 0 && by_default(&p->types[i]))
            next[i] = (unsigned)all;
        total += next[i];
    }
    if (total == 0)
        return refuse(e, spec ? spec : "", spec ? strlen(spec) : 0, "nothing is left to start");
    memcpy(counts, next, p->n_types * sizeof(*counts));
    return 0;
}

int port_parse(const char *where, const char *text, unsigned *ret, struct err *e)
{
    char quoted[QUOTE_MAX];
    uint64_t port;
    int r = parse_u64(text, 1, 65535, &port);

    if (r == 0) {
        *ret = (unsigned)port;
        return 0;
    }
    text_escape(quoted, sizeof(quoted), text, strlen(text));
    if (r == -ERANGE)
        err_say(e, ERANGE, "%s: the port %s is outside 1-65535", where, quoted);
    else
        err_say(e, EINVAL, "%s: the port '%s' is not a number", where, quoted);
    return err_blame(e, FAULT_OPERATOR);
}

int port_for(const struct procfile *p, size_t i, unsigned num, unsigned base, unsigned *ret,
             struct err *e)
{
    uint64_t place = 0, port;

    for (size_t k = 0; k < i; k++)
        place += strcmp(p->types[k].name, "release") != 0;
    port = base + PORTS_PER_TYPE * place + num - 1;
    if (port < 1 || port > 65535) {
        err_say(e, ERANGE, "the port of %s.%u is %llu: above 65535", p->types[i].name, num,
                (unsigned long long)port);
        return err_blame(e, FAULT_OPERATOR);
    }
    *ret = (unsigned)port;
    return 0;
}
