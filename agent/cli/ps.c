/* ps.c - dyno ps [APP] */
#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/pstable.h"

#include <errno.h>
#include <stdio.h>

static void print_empty(const char *app)
{
    if (app)
        (void)printf("No dynos of %s. Scale it up: dyno scale %s web=1\n", app, app);
    else
        (void)printf("No dynos. Start an app: dyno start APP --slug URL\n");
}

/* The table, and what there is to know about the instance below it. */
static int print_table(const struct cli *cli, const json_t *dynos, const json_t *status,
                       const char *app)
{
    scoped(str_done) struct str out = {0};
    struct err e = ERR_INIT;

    if (json_array_size(dynos) > 0)
        ps_table(dynos, cli->color, &out);
    else
        print_empty(app);
    instance_line(json_object_get(status, "instance"), clock_real(), &out);
    link_line(json_object_get(status, "link"), &out);
    if (out.failed) {
        (void)err_set(&e, ENOMEM, "make the table");
        return cli_fail(&e);
    }
    (void)fputs(str_text(&out), stdout);
    return cli_flush(EXIT_OK);
}

int cmd_ps(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *dynos = NULL, *state = NULL;
    char path[CALL_PATH_MAX];
    struct err e = ERR_INIT;
    struct target t = {0};
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (argc - optind > 1)
        return cli_usage(cli, "'%s' is one word too many", argv[optind + 1]);
    bool one = optind < argc;
    if (one && (target_parse(argv[optind], &t, &e) < 0 || *t.dyno))
        return cli_usage(cli, "%s", *t.dyno ? "name an app, not a dyno" : e.text);
    (void)snprintf(path, sizeof(path), "/v1/dynos%s%s", one ? "?app=" : "", t.app);
    if (client_call(cli->socket, "GET", path, NULL, &dynos, &e) < 0)
        return cli_fail(&e);
    if (cli->json)
        return cli_print_json(dynos);
    if (client_call(cli->socket, "GET", "/v1/status", NULL, &state, &e) < 0)
        return cli_fail(&e);
    return print_table(cli, dynos, state, one ? t.app : NULL);
}
