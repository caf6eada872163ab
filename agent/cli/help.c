/* help.c - the table of commands, `dyno help` and `dyno version`. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#define ENV_HELP  "  -e FILE[,FILE...]    config vars from .env files; later ones win\n"
#define SIZE_HELP "  --size SIZE          as of the agent's configuration: standard-1x, ...\n"
#define TTY_HELP                                                                                   \
    "  -t, -T               force a terminal, or none (default: one when stdin and stdout\n"       \
    "                       are terminals)\n"

static const struct command commands[] = {
    {"local", "local [-f PROCFILE] [-e FILE] [-m FORMATION] [-p PORT] [--slug SLUG] [DIR]",
     "run an app's dynos here, as on the platform",
     "Starts a private agent, without root, and in it the process types of the app in DIR\n"
     "(default: this directory). Ends when a dyno ends, or at Ctrl-C; leaves nothing behind.\n\n"
     "  -f PROCFILE          instead of DIR/Procfile\n"
     "  -e FILE[,FILE...]    instead of DIR/.env; later ones win\n"
     "  -m FORMATION         web=2,worker=1 or all=1 (default: one of each)\n"
     "  -p PORT              the base port (default: PORT in .env, then $PORT, then 5000)\n"
     "  --slug SLUG          run this slug file instead of a directory\n",
     cmd_local},
    {"run",
     "run [--slug SLUG | --app APP] [-e FILE] [--size SIZE] [-t|-T] [DIR] -- COMMAND [ARG...]",
     "run one command in a dyno of its own",
     "With --app in the agent that runs here; otherwise in a private one, in DIR (default: this\n"
     "directory) or a slug. One word is shell text; several are a program and its arguments.\n"
     "Exits with the command's status.\n\n"
     "  --app APP            with the release and config vars of APP\n"
     "  --slug SLUG          a slug's file or address\n" ENV_HELP SIZE_HELP TTY_HELP,
     cmd_run},
    {"start",
     "start APP --slug URL... [--digest sha256:HEX] [-m FORMATION] [-e FILE] [--size SIZE]",
     "release a slug as an app and start it",
     "Waits until all dynos are up, or one has crashed.\n\n"
     "  --slug URL           https://, s3://, swift://, file://, or a path; given again (8 times\n"
     "                       at most): where else it is, tried in this order\n"
     "  --digest sha256:HEX  what its content must be\n"
     "  -m FORMATION         web=2,worker=1 (default: as the agent decides: one web)\n" ENV_HELP
         SIZE_HELP "  --no-wait            return as soon as the agent has accepted it\n",
     cmd_start},
    {"scale", "scale APP TYPE=N [TYPE=N...]", "change how many dynos run of a process type",
     "Types that are not named stay as they are.\n", cmd_scale},
    {"restart", "restart APP[/web.1]", "stop dynos and start them anew",
     "All of the app, or one.\n", cmd_restart},
    {"stop", "stop [--forget] APP[/web.1]", "stop dynos until scale, restart or start",
     "All of the app, or one.\n\n"
     "  --forget             forget the app's release and formation too\n",
     cmd_stop},
    {"pause", "pause APP[/web.1]", "make dynos stand still until they are resumed",
     "What is up of the app, or one dyno. It keeps its memory and its port, and is out of the\n"
     "route; a stop or a restart ends the pause, too.\n",
     cmd_pause},
    {"resume", "resume APP[/web.1]", "let paused dynos run on", "All of the app, or one.\n",
     cmd_resume},
    {"resize", "resize --size SIZE APP[/TYPE|/web.1]", "give dynos another size while they run",
     "And for good: until a resize, or a release that names a size. Refused when a dyno holds\n"
     "more memory than the new size may ever have.\n\n" SIZE_HELP,
     cmd_resize},
    {"ps", "ps [--json] [APP]", "list dynos and how they are",
     "  --json               as the API has them\n", cmd_ps},
    {"top", "top [-n N] [-s KEY] [--json] [APP]", "watch what dynos use, against their limits",
     "On a terminal a screen of its own, new every second; keys: m memory, c cpu, p pids, d disk,\n"
     "n name to sort by, arrows to move, a for the app of the marked dyno only, q to leave.\n"
     "Elsewhere, or with -n, text.\n\n"
     "  -n N                 look so many times, as text\n"
     "  -s KEY               sort by memory, cpu, pids, disk or name (default: cpu)\n"
     "  --json               one JSON object for each look, as the API has it\n",
     cmd_top},
    {"drain", "drain [--deadline TIME] [--no-wait] [--json]", "empty this instance",
     "No dyno is started from now on, and those that run are stopped: at once, or, where there is\n"
     "a controller, in time before the deadline, so that it can start others elsewhere first.\n"
     "Waits until none runs; Ctrl-C ends the wait, not the drain.\n\n"
     "  --deadline TIME      when the last one must be gone: 90, 90s, 2m; 0 is now (default: with\n"
     "                       a controller drain_deadline of dynod.conf, else now)\n"
     "  --no-wait            return as soon as the agent has accepted it\n"
     "  --json               how the instance is, as JSON\n",
     cmd_drain},
    {"undrain", "undrain [--json]", "let dynos start here again",
     "Takes a drain back, whoever ordered it. What the formations say starts again.\n",
     cmd_undrain},
    {"logs", "logs [-f] [-n N] [--json] [APP[/web.1]]", "show what the dynos wrote",
     "  -f                   follow\n"
     "  -n N                 so many of the last lines (default: 100)\n"
     "  --json               one JSON object a line\n",
     cmd_logs},
    {"events", "events [-f] [-n N] [--json]", "show what happened, and whose doing it was",
     "  -f                   follow\n"
     "  -n N                 so many of the last ones (default: 100, with --json 1000)\n"
     "  --json               one JSON object a line\n",
     cmd_events},
    {"exec", "exec [-t|-T] APP/web.1 -- COMMAND [ARG...]", "run a command inside a running dyno",
     "One word is shell text; several are a program and its arguments. Exits with the\n"
     "command's status.\n\n" TTY_HELP,
     cmd_exec},
    {"slug",
     "slug pack DIR -o FILE\n       dyno slug inspect [--json] FILE\n"
     "       dyno slug ls [--json]\n"
     "       dyno slug fetch [--digest sha256:HEX] [--no-wait] [--json] URL...\n"
     "       dyno slug rm DIGEST...\n       dyno slug verify [--json] [DIGEST...]",
     "make a slug, look into one, manage those that are cached here",
     "pack makes a slug of a directory, inspect looks into a file; neither needs an agent.\n"
     "ls lists what the agent has cached. fetch puts a slug there before it is started; several\n"
     "URLs are mirrors of it, tried in this order. rm throws slugs out that nothing uses. verify\n"
     "reads their images (all: without a DIGEST) and drops those that are corrupt.\n"
     "A DIGEST may be cut short while it names one slug only.\n\n"
     "  -o FILE              where to write it; - is stdout\n"
     "  --digest sha256:HEX  what its content must be\n"
     "  --no-wait            return as soon as the agent fetches\n"
     "  --json               as JSON\n",
     cmd_slug},
    {"doctor", "doctor [--json]", "what this machine offers, and what each lack costs",
     "Asks the agent, or looks itself when none runs; where there is a controller, also how the\n"
     "link to it is. Exits 1 when something required lacks.\n",
     cmd_doctor},
    {"version", "version", "print the version", "", cmd_version},
    {"help", "help [COMMAND]", "explain a command", "", cmd_help},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

int cmd_version(struct cli *cli, int argc, char **argv)
{
    if (argc > 1)
        return cli_usage(cli, "'%s' is one word too many", argv[1]);
    if (cli->json)
        (void)printf("{\"version\":\"%s\"}\n", DYNOD_VERSION);
    else
        (void)printf("dyno %s\n", DYNOD_VERSION);
    return cli_flush(EXIT_OK);
}

static int list_commands(void)
{
    (void)printf("usage: dyno [--socket PATH] COMMAND [ARG...]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        (void)printf("  %-9s %s\n", commands[i].name, commands[i].brief);
    (void)printf("\n\"dyno help COMMAND\" explains one; dyno(1) all of them.\n");
    return cli_flush(EXIT_OK);
}

int cmd_help(struct cli *cli, int argc, char **argv)
{
    if (argc < 2)
        return list_commands();
    const struct command *c = command_find(argv[1]);
    if (!c || argc > 2)
        return cli_usage(cli, "there is no command '%s'", argv[c ? 2 : 1]);
    (void)printf("usage: dyno %s\n%s%s", c->usage, *c->help ? "\n" : "", c->help);
    return cli_flush(EXIT_OK);
}
