/* undrain.c - dyno undrain */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/cli.h"
#include "cli/client.h"

#include <stdio.h>

int cmd_undrain(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *instance = NULL;
    struct err e = ERR_INIT;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (optind < argc)
        return cli_usage(cli, "'%s' is one word too many", argv[optind]);
    if (client_call(cli->socket, "POST", "/v1/instance/undrain", NULL, &instance, &e) < 0)
        return cli_fail(&e);
    if (cli->json)
        return cli_print_json(instance);
    (void)printf("this instance takes dynos again\n");
    return cli_flush(EXIT_OK);
}
