/* scale.c - dyno scale APP TYPE=N... */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>

static int read_formation(int argc, char **argv, json_t *formation, struct err *e)
{
    for (int i = 0; i < argc; i++) {
        int r = cli_formation(argv[i], formation, e);
        if (r < 0)
            return r;
    }
    return 0;
}

/* "web=3", and "web=1,4" where it is those dynos. */
static void print_type(const char *type, const json_t *value)
{
    const json_t *num;
    size_t i;

    (void)printf(" %s=%s", type, json_is_array(value) && !json_array_size(value) ? "0" : "");
    if (json_is_integer(value))
        (void)printf("%lld", (long long)json_integer_value(value));
    json_array_foreach (value, i, num)
        (void)printf("%s%lld", i ? "," : "", (long long)json_integer_value(num));
}

static int print_formation(const struct cli *cli, const char *app, json_t *answer)
{
    const char *type;
    json_t *value;

    if (cli->json)
        return cli_print_json(answer);
    /* The whole formation, whether the agent wraps it or not. */
    json_t *formation = json_object_get(answer, "formation");
    (void)printf("%s:", app);
    json_object_foreach (formation ? formation : answer, type, value)
        print_type(type, value);
    (void)printf("\n");
    return cli_flush(EXIT_OK);
}

int cmd_scale(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *formation = json_object(), *answer = NULL;
    char path[CALL_PATH_MAX];
    struct err e = ERR_INIT;
    struct target t;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (argc - optind < 2)
        return cli_usage(cli, argc - optind < 1 ? "APP is missing" : "TYPE=N is missing");
    if (target_parse(argv[optind], &t, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    if (*t.dyno)
        return cli_usage(cli, "only a whole app can be scaled, not %s", argv[optind]);
    if (read_formation(argc - optind - 1, argv + optind + 1, formation, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    if (client_call(cli->socket, "PATCH", call_path(&t, "formation", path), formation, &answer,
                    &e) < 0)
        return cli_fail(&e);
    return print_formation(cli, t.app, answer);
}
