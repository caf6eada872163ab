#include "cli/localplan.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/slugfile.h"
#include "cli/target.h"
#include "cli/text.h"
#include "slug/formation.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void local_plan_freep(struct local_plan **p)
{
    if (!*p)
        return;
    free((*p)->dir);
    free((*p)->slug_url);
    json_decref((*p)->env);
    procfile_done(&(*p)->types);
    free(*p);
    *p = NULL;
}

/* --- Where the app is --- */

static int find_dir(const char *dir, char **ret, struct err *e)
{
    char *real = realpath(dir, NULL);

    if (!real) {
        (void)err_set(e, errno, "%s", dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    int fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int why = errno;
        free(real);
        (void)err_set(e, why, "%s", dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    close(fd);
    *ret = real;
    return 0;
}

/* --- Process types --- */

/* The content of FILE. *ret stays NULL when it does not exist and is not REQUIRED. */
static int read_optional(const char *file, bool required, char **ret, size_t *ret_len,
                         struct err *e)
{
    scoped_free char *real = realpath(file, NULL);

    if (!real && errno == ENOENT && !required)
        return 0;
    int r = real ? file_read(AT_FDCWD, real, PROCFILE_MAX_BYTES, ret, ret_len, e)
                 : err_set(e, errno, "%s", file);
    return r < 0 ? err_blame(e, FAULT_OPERATOR) : 0;
}

static int dir_types(const struct local_options *o, struct local_plan *p, struct err *e)
{
    scoped(str_done) struct str procfile = {0}, release = {0};
    scoped_free char *text = NULL, *yaml = NULL;
    size_t len = 0, yaml_len = 0;

    if (o->procfile)
        str_add(&procfile, o->procfile);
    else
        str_addf(&procfile, "%s/Procfile", p->dir);
    str_addf(&release, "%s/.release", p->dir);
    if (procfile.failed || release.failed)
        return err_set(e, ENOMEM, "read the Procfile");
    int r = read_optional(procfile.data, o->procfile != NULL, &text, &len, e);
    if (r == 0 && text)
        r = procfile_parse(&p->types, o->procfile ? o->procfile : "Procfile", text, len, e);
    if (r == 0)
        r = read_optional(release.data, false, &yaml, &yaml_len, e);
    if (r == 0 && yaml)
        r = procfile_add_release(&p->types, ".release", yaml, yaml_len, e);
    if (r < 0 || o->one_off)
        return r;
    if (!text && !yaml) {
        (void)err_say(e, ENOENT,
                      "%s: there is no Procfile; write one with a line like "
                      "\"web: COMMAND\", or name one with -f",
                      p->dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    return procfile_check(&p->types, procfile.data, e);
}

static int slug_types(const struct local_options *o, struct local_plan *p, struct err *e)
{
    if (o->one_off && !str_starts(p->slug_url, "file://"))
        return 0; /* the agent fetches it; the command is given */
    int r = slugfile_types(p->slug_url, &p->types, e);
    if (r == 0 && !o->one_off)
        r = procfile_check(&p->types, o->slug, e);
    return r;
}

static int find_types(const struct local_options *o, struct local_plan *p, struct err *e)
{
    int r = o->slug ? slug_types(o, p, e) : dir_types(o, p, e);

    for (size_t i = 0; i < p->types.n_warnings; i++)
        cli_warn(p->types.warnings[i]);
    return r;
}

/* --- Formation and ports --- */

static int base_port(const struct local_options *o, const json_t *env, unsigned *ret, struct err *e)
{
    const char *of_file = json_str(env, "PORT", NULL);
    const char *of_shell = getenv("PORT");

    if (o->port)
        return port_parse("-p", o->port, ret, e);
    if (of_file)
        return port_parse(o->env ? o->env : ".env", of_file, ret, e);
    if (of_shell)
        return port_parse("PORT in the environment", of_shell, ret, e);
    *ret = PORT_BASE_DEFAULT;
    return 0;
}

static int find_ports(const struct local_options *o, struct local_plan *p, struct err *e)
{
    unsigned base, last;
    int r = base_port(o, p->env, &base, e);

    for (size_t i = 0; r == 0 && i < p->types.n_types; i++) {
        if (p->counts[i] == 0)
            continue;
        r = port_for(&p->types, i, 1, base, &p->ports[i], e);
        if (r == 0)
            r = port_for(&p->types, i, p->counts[i], base, &last, e);
    }
    return r;
}

/* 0, or the errno that listening on PORT gives. Both families: a server may choose either. */
static int port_taken(unsigned port)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const struct {
        const struct sockaddr *address;
        socklen_t len;
        int family;
    } tries[] = {{(struct sockaddr *)&in4, sizeof(in4), AF_INET},
                 {(struct sockaddr *)&in6, sizeof(in6), AF_INET6}};

    for (size_t i = 0; i < 2; i++) {
        scoped_fd fd = socket(tries[i].family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int on = 1;

        if (fd < 0)
            continue; /* no such family here */
        /* As servers do: what only lingers in TIME_WAIT is no reason to refuse. */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        if (bind(fd, tries[i].address, tries[i].len) < 0) {
            if (errno == EADDRINUSE || errno == EACCES)
                return errno;
            continue;
        }
        if (listen(fd, 1) < 0 && errno == EADDRINUSE)
            return errno;
    }
    return 0;
}

static int refuse_port(const char *type, unsigned num, unsigned port, int why, struct err *e)
{
    if (why == EACCES)
        (void)err_say(e, why,
                      "%s.%u would listen on port %u, which only root may; choose another "
                      "base port with -p",
                      type, num, port);
    else
        (void)err_say(e, why,
                      "port %u of %s.%u is taken by another program; stop it, or choose "
                      "another base port with -p",
                      port, type, num);
    return err_blame(e, FAULT_OPERATOR);
}

int local_plan_check_ports(const struct local_plan *p, struct err *e)
{
    for (size_t i = 0; i < p->types.n_types; i++)
        for (unsigned n = 0; n < p->counts[i]; n++) {
            int why = port_taken(p->ports[i] + n);

            if (why)
                return refuse_port(p->types.types[i].name, n + 1, p->ports[i] + n, why, e);
        }
    return 0;
}

/* --- The whole --- */

static int plan_env(const struct local_options *o, struct local_plan *p, struct err *e)
{
    scoped(str_done) struct str file = {0};

    str_addf(&file, "%s/.env", p->dir ? p->dir : ".");
    if (file.failed)
        return err_set(e, ENOMEM, "read config vars");
    /* Named as the operator would: messages start with ".env:3:". */
    return env_load(o->env, !strcmp(o->dir ? o->dir : ".", ".") ? ".env" : file.data, &p->env, e);
}

int local_plan_new(const struct local_options *o, struct local_plan **ret, struct err *e)
{
    scoped(local_plan_freep) struct local_plan *p = calloc(1, sizeof(*p));
    scoped_free char *cwd = getcwd(NULL, 0);
    int r = 0;

    if (!p)
        return err_set(e, ENOMEM, "make a plan");
    if (!cwd)
        return err_set(e, errno, "find the current directory");
    if (!o->slug || o->dir)
        r = find_dir(o->dir ? o->dir : ".", &p->dir, e);
    if (r == 0 && o->slug)
        r = slug_url(o->slug, cwd, &p->slug_url, e);
    if (r == 0)
        r = find_types(o, p, e);
    if (r == 0)
        r = plan_env(o, p, e);
    if (r == 0 && !o->one_off)
        r = formation_parse(&p->types, o->formation, p->counts, e);
    if (r == 0 && !o->one_off)
        r = find_ports(o, p, e);
    if (r < 0)
        return r;
    (void)text_app_name(p->dir ? p->dir : cwd, p->app);
    *ret = TAKE_PTR(p);
    return 0;
}

/* "types": what the CLI read, so that agent and CLI cannot disagree. */
static json_t *types_json(const struct procfile *types)
{
    scoped(json_freep) json_t *list = json_array();

    for (size_t i = 0; list && i < types->n_types; i++) {
        json_t *type = json_pack("{s:s,s:s}", "name", types->types[i].name, "command",
                                 types->types[i].command);

        if (json_array_append_new(list, type) < 0)
            return NULL;
    }
    return TAKE_PTR(list);
}

/* NUMBERS of all types that have one, or of all when ZEROS. */
static json_t *numbers_json(const struct procfile *types, const unsigned *numbers, bool zeros)
{
    scoped(json_freep) json_t *object = json_object();

    for (size_t i = 0; object && i < types->n_types; i++) {
        if (!strcmp(types->types[i].name, "release") || (!numbers[i] && !zeros))
            continue;
        if (json_object_set_new(object, types->types[i].name, json_integer(numbers[i])) < 0)
            return NULL;
    }
    return TAKE_PTR(object);
}

int local_plan_release(const struct local_plan *p, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *spec =
        json_pack("{s:O,s:o,s:b}", "env", p->env, "formation",
                  numbers_json(&p->types, p->counts, true), "restart", 0);
    int r = -1;

    if (spec && p->slug_url)
        r = json_object_set_new(spec, "slug", json_string(p->slug_url));
    else if (spec && (r = json_object_set_new(spec, "dir", json_string(p->dir))) == 0)
        r = json_object_set_new(spec, "types", types_json(&p->types));
    json_t *ports = numbers_json(&p->types, p->ports, false);
    if (r == 0 && ports && json_object_size(ports) > 0)
        r = json_object_set(spec, "ports", ports);
    json_decref(ports);
    if (r < 0) {
        (void)err_say(e, EINVAL, "a path or a command in the Procfile is not UTF-8");
        return err_blame(e, FAULT_APP);
    }
    *ret = TAKE_PTR(spec);
    return 0;
}
