#include "cli/call.h"

#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *call_path(const struct target *t, const char *word, char out[CALL_PATH_MAX])
{
    /* Both names are checked and bounded. */
    if (*t->dyno)
        (void)snprintf(out, CALL_PATH_MAX, "/v1/dynos/%s/%s%s%s", t->app, t->dyno, word ? "/" : "",
                       word ? word : "");
    else
        (void)snprintf(out, CALL_PATH_MAX, "/v1/apps/%s%s%s", t->app, word ? "/" : "",
                       word ? word : "");
    return out;
}

const char *call_operand(const struct cli *cli, int argc, char **argv, const char *what,
                         int *ret_status)
{
    if (optind + 1 == argc)
        return argv[optind];
    if (optind >= argc)
        *ret_status = cli_usage(cli, "%s is missing", what);
    else
        *ret_status = cli_usage(cli, "'%s' is one word too many", argv[optind + 1]);
    return NULL;
}

char *call_release(const json_t *obj, char out[32])
{
    const json_t *release = json_object_get(obj, "release");

    if (json_is_object(release))
        release = json_object_get(release, "version");
    if (json_is_string(release))
        (void)snprintf(out, 32, "%s", json_string_value(release));
    else if (json_is_integer(release))
        (void)snprintf(out, 32, "v%lld", (long long)json_integer_value(release));
    else
        (void)snprintf(out, 32, "-");
    return out;
}

int64_t call_release_number(const json_t *obj)
{
    char text[32];

    (void)call_release(obj, text);
    return text[0] == 'v' ? strtoll(text + 1, NULL, 10) : -1;
}

int64_t call_count(const json_t *value)
{
    return json_is_array(value) ? (int64_t)json_array_size(value) : json_integer_value(value);
}

int call_exit_status(const json_t *obj)
{
    static const char *const keys[] = {"exit_status", "status"};
    const json_t *evidence = json_object_get(obj, "evidence");

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        int64_t status = json_int(obj, keys[i], json_int(evidence, keys[i], -1));

        if (status >= 0 && status <= 255)
            return (int)status;
    }
    return -1;
}

int call_command(json_t *spec, char **words, struct err *e)
{
    json_t *argv = json_array();
    int r = argv ? 0 : -1;

    for (char **w = words; r == 0 && *w; w++)
        r = json_array_append_new(argv, json_string(*w));
    if (r == 0)
        r = words[1] ? json_object_set(spec, "argv", argv)
                     : json_object_set(spec, "command", json_array_get(argv, 0));
    json_decref(argv);
    if (r == 0)
        return 0;
    (void)err_say(e, EINVAL, "the command is not UTF-8");
    return err_blame(e, FAULT_OPERATOR);
}

static int add_address(json_t *list, const char *text, const char *cwd, bool readable,
                       struct err *e)
{
    scoped_free char *url = NULL;
    int r = slug_url(text, cwd, &url, e);

    if (r < 0)
        return r;
    if (readable && str_starts(url, "file://") && access(url + strlen("file://"), R_OK) < 0) {
        (void)err_set(e, errno, "%s", text);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (json_array_append_new(list, json_string(url)) == 0)
        return 0;
    (void)err_say(e, EINVAL, "the slug is not UTF-8");
    return err_blame(e, FAULT_OPERATOR);
}

int call_slug(json_t *spec, const char *const *texts, size_t n, struct err *e)
{
    scoped_free char *cwd = getcwd(NULL, 0);
    scoped(json_freep) json_t *list = json_array();
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        r = add_address(list, texts[i], cwd ? cwd : "/", n == 1, e);
    if (r < 0)
        return r;
    r = json_object_set(spec, "slug", n == 1 ? json_array_get(list, 0) : list);
    return r < 0 ? err_set(e, ENOMEM, "name the slug") : 0;
}

int call_digest(json_t *spec, const char *text, struct err *e)
{
    char safe[128];
    struct digest digest;

    if (!text)
        return 0;
    if (digest_parse(text, &digest) < 0) {
        (void)err_say(e, EINVAL, "the digest '%s' is not sha256: and 64 hex digits",
                      text_escape(safe, sizeof(safe), text, strlen(text)));
        return err_blame(e, FAULT_OPERATOR);
    }
    return json_object_set_new(spec, "digest", json_sprintf("sha256:%s", digest.hex)) < 0
               ? err_set(e, ENOMEM, "name the digest")
               : 0;
}
