/* envload.c - config vars out of .env files. */
#include "cli/localplan.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "slug/dotenv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static int env_take(const struct dotenv *d, const char *file, json_t *env, struct err *e)
{
    for (size_t i = 0; i < d->n_warnings; i++)
        cli_warn(d->warnings[i]);
    for (size_t i = 0; i < d->n_entries; i++) {
        json_t *value = json_string(d->entries[i].value);

        if (!value) {
            (void)err_say(e, EINVAL, "%s: the value of %s is not UTF-8", file, d->entries[i].name);
            return err_blame(e, FAULT_OPERATOR);
        }
        if (json_object_set_new(env, d->entries[i].name, value) < 0)
            return err_set(e, ENOMEM, "%s", file);
    }
    return 0;
}

static int env_file(const char *file, json_t *env, struct err *e)
{
    scoped(dotenv_done) struct dotenv d = {0};
    scoped_free char *text = NULL;
    size_t len;
    /* The operator's own file may well be a symbolic link; file_read() follows none. */
    scoped_free char *real = realpath(file, NULL);

    if (!real) {
        (void)err_set(e, errno, "%s", file);
        return err_blame(e, FAULT_OPERATOR);
    }
    int r = file_read(AT_FDCWD, real, DOTENV_MAX_BYTES, &text, &len, e);
    if (r < 0)
        return err_blame(e, FAULT_OPERATOR);
    r = dotenv_parse(file, text, len, &d, e);
    return r < 0 ? r : env_take(&d, file, env, e);
}

static int env_files(const char *files, json_t *env, struct err *e)
{
    for (const char *p = files;; p++) {
        size_t len = strcspn(p, ",");
        scoped_free char *file = strndup(p, len);

        if (!file)
            return err_set(e, ENOMEM, "read config vars");
        if (!len) {
            (void)err_say(e, EINVAL, "-e '%s': a file's name is empty", files);
            return err_blame(e, FAULT_OPERATOR);
        }
        int r = env_file(file, env, e);
        if (r < 0)
            return r;
        p += len;
        if (!*p)
            return 0;
    }
}

int env_load(const char *files, const char *default_file, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *env = json_object();
    int r = 0;

    if (!env)
        return err_set(e, ENOMEM, "read config vars");
    if (files)
        r = env_files(files, env, e);
    else if (default_file && access(default_file, F_OK) == 0)
        r = env_file(default_file, env, e);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(env);
    return 0;
}
