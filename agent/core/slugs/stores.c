#include "core/slugs/stores.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Of a secret, NUL-terminated. */
struct secret {
    char *text;
    size_t len;
};

static void secret_done(struct secret *s)
{
    if (s->text)
        explicit_bzero(s->text, s->len);
    free(s->text);
    *s = (struct secret){0};
}

static int refuse(struct err *e, const char *key, const char *path, const char *why)
{
    (void)err_say(e, EINVAL, "%s of dynod.conf: %s %s", key, path, why);
    return err_blame(e, FAULT_OPERATOR);
}

static int open_secret(const char *key, const char *path, int *ret, size_t *ret_size, struct err *e)
{
    struct stat st;
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 || fstat(fd, &st) < 0) {
        (void)err_set(e, errno, "%s of dynod.conf: %s", key, path);
        return err_blame_operator(e);
    }
    if (!S_ISREG(st.st_mode))
        return refuse(e, key, path, "is not a regular file");
    if ((uint64_t)st.st_size > STORES_FILE_MAX)
        return refuse(e, key, path, "is over 64 KiB");
    *ret_size = (size_t)st.st_size;
    *ret = TAKE_FD(fd);
    return 0;
}

/* PATH, the value of KEY. LINE: its one line, without the end; else as it is. */
static int read_secret(const char *key, const char *path, bool line, struct secret *ret,
                       struct err *e)
{
    scoped(secret_done) struct secret s = {0};
    size_t size = 0;
    scoped_fd fd = -1;
    int r = open_secret(key, path, &fd, &size, e);

    if (r < 0)
        return r;
    s.text = calloc(1, size + 1);
    s.len = size + 1;
    if (!s.text)
        return err_set(e, ENOMEM, "read %s", path);
    ssize_t n = fd_read_full(fd, s.text, size);
    if (n < 0)
        return err_set(e, (int)-n, "read %s", path);
    if (line)
        s.text[strcspn(s.text, "\r\n")] = '\0';
    if (!s.text[0])
        return refuse(e, key, path, "is empty");
    *ret = s;
    s = (struct secret){0};
    return 0;
}

/* Member NAME becomes what is in PATH; "" is nothing. */
static int put_file(json_t *to, const char *name, const char *key, const char *path, bool line,
                    struct err *e)
{
    scoped(secret_done) struct secret s = {0};
    int r = *path ? read_secret(key, path, line, &s, e) : 0;

    if (r < 0 || !s.text)
        return r;
    return json_object_set_new(to, name, json_string(s.text)) < 0
               ? refuse(e, key, path, "is not text")
               : 0;
}

static void put(json_t *to, const char *name, const char *value)
{
    if (value && *value)
        (void)json_object_set_new(to, name, json_string(value));
}

/* --- s3 --- */

static const struct {
    const char *env, *setting;
} s3_keys[] = {
    {"AWS_ACCESS_KEY_ID", "access_key"},
    {"AWS_SECRET_ACCESS_KEY", "secret_key"},
    {"AWS_SESSION_TOKEN", "session_token"},
};
#define N_S3_KEYS (sizeof(s3_keys) / sizeof(s3_keys[0]))

static const char *s3_setting(const char *name)
{
    for (size_t i = 0; i < N_S3_KEYS; i++)
        if (!strcasecmp(s3_keys[i].env, name))
            return s3_keys[i].setting;
    return NULL;
}

/* The section "default", or none, as AWS's own tools write the file; other profiles are others'. */
static int on_ini(void *userdata, const char *section, const char *name, const char *value)
{
    const char *setting = s3_setting(name);

    if (setting && (!*section || !strcmp(section, "default")))
        put(userdata, setting, value);
    return 1;
}

static int put_s3_keys(json_t *to, const char *path, struct err *e)
{
    static const char key[] = "s3_credentials_file";
    scoped(secret_done) struct secret s = {0};
    int r = read_secret(key, path, false, &s, e);

    if (r < 0)
        return r;
    if (ini_parse_string(s.text, on_ini, to) != 0)
        return refuse(e, key, path, "is no file of lines NAME = VALUE");
    if (!json_object_get(to, "access_key") || !json_object_get(to, "secret_key"))
        return refuse(e, key, path,
                      "has no aws_access_key_id and aws_secret_access_key under [default]");
    return 0;
}

static int s3_settings(const struct config_stores *c, json_t *to, struct err *e)
{
    put(to, "endpoint", c->s3_endpoint);
    put(to, "region", c->s3_region);
    if (strcmp(c->s3_path_style, "auto") != 0)
        (void)json_object_set_new(to, "path_style", json_boolean(!strcmp(c->s3_path_style, "yes")));
    if (strcmp(c->s3_role, "off") != 0) {
        put(to, "role", "imds");
        if (strcmp(c->s3_role, "imds") != 0)
            put(to, "imds", c->s3_role);
        return 0;
    }
    if (c->s3_credentials_file[0])
        return put_s3_keys(to, c->s3_credentials_file, e);
    for (size_t i = 0; i < N_S3_KEYS; i++)
        put(to, s3_keys[i].setting, getenv(s3_keys[i].env));
    return 0;
}

/* --- the others --- */

static int swift_settings(const struct config_stores *c, json_t *to, struct err *e)
{
    put(to, "auth_url", c->swift_auth_url);
    put(to, "user", c->swift_user);
    put(to, "project", c->swift_project);
    put(to, "domain", c->swift_domain);
    put(to, "region", c->swift_region);
    return put_file(to, "key", "swift_key_file", c->swift_key_file, true, e);
}

static int https_settings(const struct config_stores *c, json_t *to, struct err *e)
{
    put(to, "hosts", c->https_hosts);
    int r = put_file(to, "token", "https_token_file", c->https_token_file, true, e);
    if (r == 0)
        r = put_file(to, "cert", "https_cert_file", c->https_cert_file, false, e);
    if (r == 0)
        r = put_file(to, "key", "https_key_file", c->https_key_file, false, e);
    return r;
}

static bool any_has(const json_t *mirrors, const char *prefix)
{
    const json_t *url;
    size_t i;

    json_array_foreach (mirrors, i, url)
        if (json_is_string(url) && str_starts(json_string_value(url), prefix))
            return true;
    return false;
}

int stores_settings(const struct config *c, const json_t *mirrors, json_t **ret, struct err *e)
{
    static const struct {
        const char *prefix, *name;
        int (*fill)(const struct config_stores *c, json_t *to, struct err *e);
    } kinds[] = {
        {"s3://", "s3", s3_settings},
        {"swift://", "swift", swift_settings},
        {"https://", "https", https_settings},
    };
    scoped(json_freep) json_t *all = json_object();

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!any_has(mirrors, kinds[i].prefix))
            continue;
        json_t *one = json_object();
        if (json_object_set_new(all, kinds[i].name, one) < 0)
            return err_set(e, ENOMEM, "read the stores' settings");
        int r = kinds[i].fill(&c->stores, one, e);
        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(all);
    return 0;
}
