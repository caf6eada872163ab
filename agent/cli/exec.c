/* exec.c - dyno exec APP/web.1 -- COMMAND [ARG...] */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/attach.h"
#include "cli/call.h"
#include "cli/client.h"

#include <errno.h>
#include <string.h>

/* The words after "--", or after the operand where there is none. */
static char **find_command(int argc, char **argv, int operand)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--"))
            return argv + i + 1;
    return operand < argc ? argv + operand + 1 : argv + argc;
}

static int attach_exec(const struct cli *cli, const struct target *t, char **command, bool tty,
                       int *ret_status, struct err *e)
{
    scoped(json_freep) json_t *spec = json_object();
    char path[CALL_PATH_MAX];
    int sock = -1;
    int r = call_command(spec, command, e);

    if (r == 0 && tty)
        r = attach_describe_tty(spec, e);
    if (r == 0)
        r = client_upgrade(cli->socket, call_path(t, "exec", path), spec, &sock, e);
    return r < 0 ? r : attach_run(sock, tty, ret_status, e);
}

int cmd_exec(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    enum attach_tty mode = ATTACH_TTY_AUTO;
    struct err e = ERR_INIT;
    struct target t;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "+tT", longs, &status)) >= 0)
        mode = c == 't' ? ATTACH_TTY_FORCE : ATTACH_TTY_NEVER;
    if (c == CLI_STOP)
        return status;
    if (optind >= argc || !strcmp(argv[optind - 1], "--"))
        return cli_usage(cli, "APP/web.1 is missing");
    if (target_parse_dyno(argv[optind], &t, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    char **command = find_command(argc, argv, optind);
    if (!*command)
        return cli_usage(cli, "a command is missing after --");
    if (command > argv + optind + 2)
        return cli_usage(cli, "'%s' is one word too many before --", argv[optind + 1]);
    bool tty = attach_wants_tty(mode);
    attach_block_signals(tty);
    if (attach_exec(cli, &t, command, tty, &status, &e) < 0)
        return cli_fail(&e);
    return status;
}
