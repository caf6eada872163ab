#include "core/config/config.h"

#include "base/scoped.h"
#include "base/str.h"
#include "core/config/config_keys.h"
#include "core/host/stack.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define NOBODY 65534 /* user namespaces show everybody unknown as this one */

int config_refuse(struct err *e, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a cut text is still the best we have */
    va_end(ap);
    (void)err_say(e, EINVAL, "%s", text);
    return err_blame(e, FAULT_OPERATOR);
}

/* --- Defaults --- */

#define GIB UINT64_C(1073741824)

/* The platform's sizes. CPU shares are its published proportions. */
static const struct size default_sizes[] = {
    {"standard-1x", UINT64_C(512) << 20, 2, 256, 1024, 0, 100, 0, GIB, 131072, 0},
    {"standard-2x", GIB, 2, 512, 2048, 0, 100, 0, 2 * GIB, 262144, 0},
    {"performance-m", UINT64_C(2560) << 20, 2, 16384, 12288, 0, 100, 0, 4 * GIB, 524288, 0},
    {"performance-l", 14 * GIB, 1.2, 32768, 51200, 0, 100, 0, 16 * GIB, 2097152, 0},
};

/* --- One assignment --- */

static const struct key *find_key(const struct key *k, const char *section, const char *name)
{
    for (; k->name; k++)
        if (!strcmp(k->name, name) && (!section || !strcmp(k->section, section)))
            return k;
    return NULL;
}

static bool is_section(const char *section)
{
    for (const struct key *k = config_keys(); k->name; k++)
        if (!strcmp(k->section, section))
            return true;
    return false;
}

/* The same characters as in an entry of the model. */
static bool is_size_name(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len < sizeof(((struct size *)0)->name) &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == len;
}

/* The size NAME; a new one begins as a copy of the first. */
static int need_size(struct config *c, const char *name, struct size **ret, struct err *e)
{
    struct size *s = (struct size *)config_size(c, name); /* C is ours to change */

    if (!is_size_name(name))
        return config_refuse(
            e, "[size %.40s]: a size's name is 1 to 31 letters, digits, '-' and '_'", name);
    if (!s && c->n_sizes >= CONFIG_SIZES_MAX)
        return config_refuse(e, "[size %s]: over the limit of %d sizes", name, CONFIG_SIZES_MAX);
    if (!s) {
        s = &c->sizes[c->n_sizes++];
        *s = default_sizes[0];
        (void)snprintf(s->name, sizeof(s->name), "%s", name);
    }
    *ret = s;
    return 0;
}

int config_enter_section(struct config *c, const char *section, struct err *e)
{
    struct size *ignored;
    char q[80];

    if (str_starts(section, "size "))
        return need_size(c, section + 5, &ignored, e);
    if (is_section(section))
        return 0;
    return config_refuse(e, "unknown section [%s]",
                         text_escape(q, sizeof(q), section, strlen(section)));
}

static int unknown_key(const char *section, const char *name, struct err *e)
{
    const struct key *elsewhere = find_key(config_keys(), NULL, name);
    char q[80];

    text_escape(q, sizeof(q), name, strlen(name));
    if (elsewhere)
        return config_refuse(e, "unknown key '%s' in [%s]: it belongs in [%s]", q, section,
                             elsewhere->section);
    return config_refuse(e, "unknown key '%s' in [%s]", q, section);
}

/* "NAME += VALUE": what is there with VALUE after it, to be freed. NULL: E says why not. */
static char *appended(const struct key *k, const struct config *c, const char *value, struct err *e)
{
    struct str now = {0};
    char separator[2] = {key_separator(k), '\0'};

    if (!*separator) {
        (void)config_refuse(e, "%s: += is for lists", k->name);
        return NULL;
    }
    key_format(k, c, &now);
    if (now.len && *value)
        str_add(&now, separator);
    str_add(&now, value);
    if (now.failed) {
        (void)err_set(e, ENOMEM, "%s", k->name);
        str_done(&now);
    }
    return now.data;
}

static int assign_key(struct config *c, const char *section, const char *name, const char *value,
                      struct err *e)
{
    scoped_free char *plain = strdup(name), *whole = NULL;
    size_t len = strlen(name);

    if (!plain)
        return err_set(e, ENOMEM, "%.40s", name);
    bool append = len > 0 && name[len - 1] == '+';
    if (append)
        for (plain[--len] = '\0'; len > 0 && (plain[len - 1] == ' ' || plain[len - 1] == '\t');)
            plain[--len] = '\0';
    const struct key *k = find_key(config_keys(), section, plain);
    if (!k)
        return unknown_key(section, plain, e);
    if (append && !(whole = appended(k, c, value, e)))
        return -e->errnum;
    return key_parse(k, append ? whole : value, c, e);
}

int config_assign(struct config *c, const char *section, const char *name, const char *value,
                  struct err *e)
{
    const struct key *k;
    struct size *size = NULL;

    if (!*section)
        return config_refuse(e, "'%.40s' stands before the first [section]", name);
    int r = config_enter_section(c, section, e);
    if (r < 0)
        return r;
    if (!str_starts(section, "size "))
        return assign_key(c, section, name, value, e);
    k = find_key(size_keys(), NULL, name);
    if (!k)
        return unknown_key(section, name, e);
    r = need_size(c, section + 5, &size, e);
    return r < 0 ? r : key_parse(k, value, size, e);
}

int config_set(struct config *c, const char *assignment, struct err *e)
{
    scoped_free char *text = strdup(assignment);
    char section[64];
    int r;

    if (!text)
        return err_set(e, ENOMEM, "-o");
    char *equals = strchr(text, '=');
    if (equals)
        *equals = '\0';
    char *dot = strrchr(text, '.'); /* the last one: a size's name stands before it */
    if (!equals || !dot || dot == text)
        return config_refuse(e, "-o %.80s: not of the form section.key=value", assignment);
    *dot = '\0';
    bool size = str_starts(text, "size.");
    if (snprintf(section, sizeof(section), "%s%s", size ? "size " : "", size ? text + 5 : text) >=
        (int)sizeof(section))
        return config_refuse(e, "-o %.80s: no such section", assignment);
    struct config changed = *c;
    r = config_assign(&changed, section, dot + 1, equals + 1, e);
    if (r < 0)
        return err_wrap(e, "-o");
    *c = changed;
    return 0;
}

/* --- Defaults, checks, text --- */

/* $VARIABLE/REST, when it is set to an absolute path (XDG Base Directory Specification: others are
 * to be ignored). 1: it was. */
static int from_env(char out[256], const char *variable, const char *rest, struct err *e)
{
    const char *dir = getenv(variable);

    if (!dir || *dir != '/')
        return 0;
    if (snprintf(out, 256, "%s/%s", dir, rest) >= 256)
        return config_refuse(e, "$%s is too long", variable);
    return 1;
}

static int rootless_dirs(struct config *c, struct err *e)
{
    int r = from_env(c->runtime_dir, "XDG_RUNTIME_DIR", "dynod", e);

    if (r == 0)
        (void)snprintf(c->runtime_dir, sizeof(c->runtime_dir), "/tmp/dynod-%u", getuid());
    if (r >= 0)
        r = from_env(c->state_dir, "XDG_STATE_HOME", "dynod", e);
    if (r == 0)
        r = from_env(c->state_dir, "HOME", ".local/state/dynod", e);
    if (r == 0)
        return config_refuse(e, "neither $XDG_STATE_HOME nor $HOME is an absolute path");
    return r < 0 ? r : 0;
}

int config_defaults(bool rootless, struct config *ret, struct err *e)
{
    struct config c = {.n_sizes = sizeof(default_sizes) / sizeof(default_sizes[0])};
    int r = 0;

    memcpy(c.sizes, default_sizes, sizeof(default_sizes));
    for (const struct key *k = config_keys(); k->name && r == 0; k++)
        r = key_parse(k, k->initial, &c, e);
    if (r == 0 && rootless) {
        c.spares = 0; /* a start costs a user less than the memory: there are no cgroups */
        r = rootless_dirs(&c, e);
    }
    if (r == 0)
        *ret = c;
    return r;
}

const struct size *config_size(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n_sizes; i++)
        if (!strcmp(c->sizes[i].name, name))
            return &c->sizes[i];
    return NULL;
}

static int complete(struct config *c, struct err *e)
{
    char self[PATH_MAX];
    ssize_t n;

    if (!c->api_socket[0] && snprintf(c->api_socket, sizeof(c->api_socket), "%s/api.sock",
                                      c->runtime_dir) >= (int)sizeof(c->api_socket)) {
        c->api_socket[0] = '\0';
        return config_refuse(e, "runtime_dir is too long for the socket in it");
    }
    if (c->program_dir[0])
        return 0;
    n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return err_set(e, errno, "find out where dynod itself is");
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash || slash - self >= (ssize_t)sizeof(c->program_dir))
        return config_refuse(e, "the path of dynod itself is too long; set program_dir");
    memcpy(c->program_dir, self, (size_t)(slash - self));
    c->program_dir[slash - self] = '\0';
    return 0;
}

static int check_uids(const struct config *c, struct err *e)
{
    uint64_t n = (uint64_t)c->uid_last - c->uid_first + 1;

    unsigned needed = CONFIG_UIDS_RESERVED + c->dynos_max + c->spares;

    if (n < needed)
        return config_refuse(e,
                             "uid_range %u-%u has %ju users; dynos_max = %u and spares = %u need "
                             "%u",
                             c->uid_first, c->uid_last, (uintmax_t)n, c->dynos_max, c->spares,
                             needed);
    if (c->uid_first <= NOBODY && c->uid_last >= NOBODY)
        return config_refuse(e, "uid_range %u-%u contains %d, nobody", c->uid_first, c->uid_last,
                             NOBODY);
    return 0;
}

/* What a process may have open it gets from the agent, which cannot give more than it has. */
static int check_files(const struct config *c, struct err *e)
{
    struct rlimit own;

    if (getrlimit(RLIMIT_NOFILE, &own) < 0)
        return err_set(e, errno, "getrlimit");
    for (size_t i = 0; i < c->n_sizes; i++)
        if (c->sizes[i].open_files > own.rlim_max)
            return config_refuse(e,
                                 "[size %s] open_files = %u: the agent itself may have %ju; raise "
                                 "LimitNOFILE= of its unit (ulimit -Hn)",
                                 c->sizes[i].name, c->sizes[i].open_files, (uintmax_t)own.rlim_max);
    return 0;
}

int config_check(struct config *c, struct err *e)
{
    unsigned ports = c->port_last - c->port_first + 1;

    if (!config_size(c, c->default_size))
        return config_refuse(e, "default_size = %s: there is no [size %s]", c->default_size,
                             c->default_size);
    if (ports < c->dynos_max)
        return config_refuse(e, "port_range %u-%u has %u ports, fewer than dynos_max = %u",
                             c->port_first, c->port_last, ports, c->dynos_max);
    if (c->restart_delay > c->restart_delay_max)
        return config_refuse(e, "restart_delay is larger than restart_delay_max");
    if (!strcmp(c->runtime_dir, c->state_dir))
        return config_refuse(e, "runtime_dir and state_dir are both %s", c->state_dir);
    int r = check_uids(c, e);
    if (r == 0)
        r = check_files(c, e);
    if (r == 0)
        r = config_check_link(c, e);
    if (r == 0)
        r = config_check_store(c, e);
    if (r == 0)
        r = config_check_stack(c, e);
    return r < 0 ? r : complete(c, e);
}

static void add_key(struct str *out, const struct key *k, const void *base)
{
    struct str value = {0};

    key_format(k, base, &value);
    str_addf(out, value.len ? "%s = %s\n" : "%s =\n", k->name, str_text(&value));
    str_done(&value);
}

char *config_text(const struct config *c)
{
    struct str out = {0};
    const char *section = "";

    for (const struct key *k = config_keys(); k->name; k++) {
        if (strcmp(k->section, section) != 0)
            str_addf(&out, "%s[%s]\n", *section ? "\n" : "", k->section);
        section = k->section;
        add_key(&out, k, c);
    }
    for (size_t i = 0; i < c->n_sizes; i++) {
        str_addf(&out, "\n[size %s]\n", c->sizes[i].name);
        for (const struct key *k = size_keys(); k->name; k++)
            add_key(&out, k, &c->sizes[i]);
    }
    if (out.failed)
        str_done(&out);
    return out.data;
}
