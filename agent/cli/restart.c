/* restart.c - dyno restart, pause, resume, stop: one request each. */
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"

#include <stdio.h>

static int print_names(const struct cli *cli, const json_t *answer, const char *member,
                       const char *none)
{
    const json_t *names = json_object_get(answer, member), *name;
    size_t i;

    if (cli->json)
        return cli_print_json(answer);
    if (json_array_size(names) == 0)
        (void)printf("%s\n", none);
    json_array_foreach (names, i, name)
        if (json_is_string(name))
            (void)printf("%s %s\n", member, json_string_value(name));
    return cli_flush(EXIT_OK);
}

/* A command that is one request without a body, WORD. */
static int one_request(struct cli *cli, int argc, char **argv, const char *word, const char *member,
                       const char *none)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *answer = NULL;
    char path[CALL_PATH_MAX];
    struct err e = ERR_INIT;
    struct target t;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    const char *what = call_operand(cli, argc, argv, "APP[/web.1]", &status);
    if (!what)
        return status;
    if (target_parse(what, &t, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    if (client_call(cli->socket, "POST", call_path(&t, word, path), NULL, &answer, &e) < 0)
        return cli_fail(&e);
    return print_names(cli, answer, member, none);
}

int cmd_restart(struct cli *cli, int argc, char **argv)
{
    return one_request(cli, argc, argv, "restart", "restarted",
                       "nothing to restart: scale it up first");
}

int cmd_pause(struct cli *cli, int argc, char **argv)
{
    return one_request(cli, argc, argv, "pause", "paused", "nothing to pause: none is up");
}

int cmd_resume(struct cli *cli, int argc, char **argv)
{
    return one_request(cli, argc, argv, "resume", "resumed", "nothing to resume: none is paused");
}

static int forget(const struct cli *cli, const struct target *t)
{
    scoped(json_freep) json_t *answer = NULL;
    char path[CALL_PATH_MAX];
    struct err e = ERR_INIT;

    if (*t->dyno)
        return cli_usage(cli, "only a whole app can be forgotten");
    if (client_call(cli->socket, "DELETE", call_path(t, NULL, path), NULL, &answer, &e) < 0)
        return cli_fail(&e);
    if (cli->json)
        return cli_print_json(answer);
    (void)printf("forgotten %s\n", t->app);
    return cli_flush(EXIT_OK);
}

int cmd_stop(struct cli *cli, int argc, char **argv)
{
    enum { OPT_FORGET = 1 };
    static const struct option longs[] = {{"forget", no_argument, NULL, OPT_FORGET}, CLI_OPTIONS};
    scoped(json_freep) json_t *answer = NULL;
    char path[CALL_PATH_MAX];
    struct err e = ERR_INIT;
    struct target t;
    bool forget_it = false;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "", longs, &status)) >= 0)
        forget_it = forget_it || c == OPT_FORGET;
    if (c == CLI_STOP)
        return status;
    const char *what = call_operand(cli, argc, argv, "APP[/web.1]", &status);
    if (!what)
        return status;
    if (target_parse(what, &t, &e) < 0)
        return cli_usage(cli, "%s", e.text);
    if (forget_it)
        return forget(cli, &t);
    if (client_call(cli->socket, "POST", call_path(&t, "stop", path), NULL, &answer, &e) < 0)
        return cli_fail(&e);
    return print_names(cli, answer, "stopped", "nothing was running");
}
