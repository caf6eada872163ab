/* main.c - dyno, the command line: finds the command and runs it. */
#include "cli/cli.h"
#include "cli/client.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_usage(FILE *to)
{
    (void)fprintf(to, "usage: dyno [--socket PATH] COMMAND [ARG...]\n"
                      "       dyno help [COMMAND]\n");
}

/* Moves the global options into CLI. Returns the index of the command, or 0 with *ret_status. */
static int global_options(struct cli *cli, int argc, char **argv, const char **ret_socket,
                          int *ret_status)
{
    static const struct option longs[] = {{"socket", required_argument, NULL, CLI_OPT_SOCKET},
                                          {"help", no_argument, NULL, CLI_OPT_HELP},
                                          {"version", no_argument, NULL, 'V'},
                                          {NULL, 0, NULL, 0}};
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "+:hV", longs, NULL)) != -1) {
        switch (c) {
        case CLI_OPT_SOCKET:
            *ret_socket = optarg;
            break;
        case 'h':
        case CLI_OPT_HELP:
            *ret_status = cmd_help(cli, 1, argv);
            return 0;
        case 'V':
            *ret_status = cmd_version(cli, 1, argv);
            return 0;
        default:
            (void)fprintf(stderr, "dyno: %s %s\n",
                          c == ':' ? "a value is missing after" : "unknown option",
                          argv[optind - 1]);
            print_usage(stderr);
            *ret_status = EXIT_USAGE;
            return 0;
        }
    }
    if (optind < argc)
        return optind;
    (void)cmd_help(cli, 1, argv);
    *ret_status = EXIT_USAGE;
    return 0;
}

/* Terminals say what they can do; people say that they want none of it (no-color.org). */
static bool wants_color(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
}

int main(int argc, char **argv)
{
    struct cli cli = {.command = "", .color = wants_color()};
    char socket_buf[CLIENT_SOCKET_MAX];
    const char *socket = NULL;
    int status = EXIT_OK;

    int first = global_options(&cli, argc, argv, &socket, &status);
    if (!first)
        return status;
    const struct command *command = command_find(argv[first]);
    if (!command) {
        (void)fprintf(stderr, "dyno: there is no command '%s'\n  see: dyno help\n", argv[first]);
        return EXIT_USAGE;
    }
    cli.command = command->name;
    cli.socket = client_socket(socket, socket_buf);
    cli_options_begin();
    return command->run(&cli, argc - first, argv + first);
}
