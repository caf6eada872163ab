/* resize.c - dyno resize APP[/TYPE|/web.1] --size SIZE */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "APP/TYPE" is no target: the type goes into the body. */
static int parse_what(const char *what, struct target *t, char type[TYPE_NAME_MAX + 1],
                      struct err *e)
{
    const char *slash = strchr(what, '/');
    char app[APP_NAME_MAX + 2];

    type[0] = '\0';
    if (!slash || !type_name_valid(slash + 1, strlen(slash + 1)) ||
        (size_t)(slash - what) >= sizeof(app))
        return target_parse(what, t, e);
    (void)snprintf(app, sizeof(app), "%.*s", (int)(slash - what), what);
    (void)snprintf(type, TYPE_NAME_MAX + 1, "%s", slash + 1);
    return target_parse(app, t, e);
}

static int print_resized(const struct cli *cli, const json_t *answer)
{
    const char *size = json_str(answer, "size", "-");
    const json_t *item, *limit;
    size_t i, k;
    int status = EXIT_OK;

    if (cli->json)
        return cli_print_json(answer);
    json_array_foreach (json_object_get(answer, "resized"), i, item)
        (void)printf("%s has size %s\n", json_string_value(item), size);
    if (i == 0)
        (void)printf("size %s from the next start on: nothing runs that it changes\n", size);
    json_array_foreach (json_object_get(answer, "at_next_start"), i, item) {
        (void)printf("%s, at its next start:", json_str(item, "dyno", "-"));
        json_array_foreach (json_object_get(item, "limits"), k, limit)
            (void)printf(" %s", json_string_value(limit));
        (void)printf("\n");
    }
    json_array_foreach (json_object_get(answer, "failed"), i, item) {
        struct err e = ERR_INIT;

        (void)err_say(&e, EIO, "%s keeps its limits until its next start: %s",
                      json_str(item, "dyno", "-"), json_str(item, "text", ""));
        status = cli_fail(&e);
    }
    return cli_flush(status);
}

int cmd_resize(struct cli *cli, int argc, char **argv)
{
    enum { OPT_SIZE = 1 };
    static const struct option longs[] = {{"size", required_argument, NULL, OPT_SIZE}, CLI_OPTIONS};
    scoped(json_freep) json_t *answer = NULL, *spec = NULL;
    char path[CALL_PATH_MAX], type[TYPE_NAME_MAX + 1];
    const char *size = NULL;
    struct err e = ERR_INIT;
    struct target t;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "", longs, &status)) >= 0)
        size = c == OPT_SIZE ? optarg : size;
    if (c == CLI_STOP)
        return status;
    const char *what = call_operand(cli, argc, argv, "APP[/web.1]", &status);
    if (!what)
        return status;
    if (!size)
        return cli_usage(cli, "--size SIZE is missing");
    if (parse_what(what, &t, type, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    spec = json_pack("{s:s,s:s*}", "size", size, "type", type[0] ? type : NULL);
    if (!spec) {
        (void)err_say(&e, EINVAL, "--size: not UTF-8");
        return cli_fail(&e);
    }
    if (client_call(cli->socket, "POST", call_path(&t, "resize", path), spec, &answer, &e) < 0)
        return cli_fail(&e);
    return print_resized(cli, answer);
}
