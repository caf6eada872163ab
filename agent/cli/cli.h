/* cli.h - what every command of `dyno` shares: its context, options, errors and exit statuses.
 *
 * A command is one file with one entry in the table of main.c. It gets its own argv (argv[0] is the
 * command's name) and returns the exit status. Errors go to stderr as "dyno: MESSAGE", with a
 * second line that says what to do next where that is known. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/err.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>

/* Exit statuses; `run` and `exec` pass on the command's own. */
#define EXIT_OK    0
#define EXIT_FAIL  1
#define EXIT_USAGE 2

struct cli {
    const char *command; /* "slug pack": for messages */
    const char *socket;  /* of the agent's API */
    bool json;           /* --json was given */
    bool color;          /* stdout is a terminal, and NO_COLOR is not set */
};

struct command {
    const char *name;
    const char *usage; /* after "dyno "; one line per form */
    const char *brief; /* for the list of commands */
    const char *help;  /* whole paragraphs and the options, ends with a newline */
    int (*run)(struct cli *cli, int argc, char **argv);
};

/* NULL when there is no such command. */
const struct command *command_find(const char *name);

/* Options that every command takes; put it last in a command's table. */
#define CLI_OPT_SOCKET 1000
#define CLI_OPT_HELP   1001
#define CLI_OPT_JSON   1002
#define CLI_OPTIONS                                                                                \
    {"socket", required_argument, NULL, CLI_OPT_SOCKET},                                           \
        {"help", no_argument, NULL, CLI_OPT_HELP}, {"json", no_argument, NULL, CLI_OPT_JSON},      \
    {                                                                                              \
        NULL, 0, NULL, 0                                                                           \
    }

/* getopt_long() that handles the common options itself. Returns an option, -1 at the end (operands
 * start at optind), or CLI_STOP: help was printed or a mistake told, *ret_status is what to exit
 * with. SHORTS as of getopt; must not start with ':'. Call cli_options_begin() first. */
#define CLI_STOP (-2)
void cli_options_begin(void);
int cli_option(struct cli *cli, int argc, char **argv, const char *shorts,
               const struct option *longs, int *ret_status);

/* "dyno: TEXT" and, when errnum says that the agent cannot be reached, what to do. Returns
 * EXIT_FAIL. */
int cli_fail(const struct err *e);
/* The same with a second line of the caller's own. */
int cli_fail_hint(const struct err *e, const char *hint);
/* "dyno COMMAND: TEXT" and where to read on. Returns EXIT_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_warn(const char *text);

/* Checks that stdout took everything: a full disk or a closed pipe is a failure. Returns STATUS, or
 * EXIT_FAIL. */
int cli_flush(int status);

/* Prints JSON, indented on a terminal and on one line elsewhere, and flushes. */
int cli_print_json(const json_t *json);

/* One "TYPE=N" after another, from "web=2,worker=1", into the object FORMATION. The operator's
 * fault; the error quotes the part. */
int cli_formation(const char *spec, json_t *formation, struct err *e);

/* --- The commands --- */
int cmd_local(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_start(struct cli *cli, int argc, char **argv);
int cmd_scale(struct cli *cli, int argc, char **argv);
int cmd_restart(struct cli *cli, int argc, char **argv);
int cmd_pause(struct cli *cli, int argc, char **argv);
int cmd_resume(struct cli *cli, int argc, char **argv);
int cmd_resize(struct cli *cli, int argc, char **argv);
int cmd_top(struct cli *cli, int argc, char **argv);
int cmd_stop(struct cli *cli, int argc, char **argv);
int cmd_ps(struct cli *cli, int argc, char **argv);
int cmd_drain(struct cli *cli, int argc, char **argv);
int cmd_undrain(struct cli *cli, int argc, char **argv);
int cmd_logs(struct cli *cli, int argc, char **argv);
int cmd_events(struct cli *cli, int argc, char **argv);
int cmd_exec(struct cli *cli, int argc, char **argv);
int cmd_slug(struct cli *cli, int argc, char **argv);
int cmd_doctor(struct cli *cli, int argc, char **argv);
int cmd_version(struct cli *cli, int argc, char **argv);
int cmd_help(struct cli *cli, int argc, char **argv);

#endif
