#include "cli/cli.h"

#include "base/scoped.h"
#include "base/str.h"
#include "slug/formation.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_MAX 2048

/* Messages may quote strangers; none of their control characters reaches the terminal. */
static void say(const char *prefix, const char *text)
{
    char safe[MESSAGE_MAX];

    (void)fflush(stdout); /* the order in which it happened */
    (void)fprintf(stderr, "%s%s\n", prefix, text_escape(safe, sizeof(safe), text, strlen(text)));
}

void cli_warn(const char *text)
{
    say("dyno: warning: ", text);
}

int cli_fail_hint(const struct err *e, const char *hint)
{
    say("dyno: ", e->text);
    if (hint)
        say("  ", hint);
    return EXIT_FAIL;
}

int cli_fail(const struct err *e)
{
    switch (e->errnum) {
    case ENOTCONN:
        return cli_fail_hint(e, "start it with: systemctl start dynod, or use dyno local");
    case ECONNREFUSED:
        return cli_fail_hint(e, "run it as root, or as a member of the group that dynod.conf "
                                "names as api_group");
    default:
        return cli_fail_hint(e, NULL);
    }
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    char text[MESSAGE_MAX], prefix[128], hint[128];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)snprintf(prefix, sizeof(prefix), "dyno %s: ", cli->command);
    (void)snprintf(hint, sizeof(hint), "see: dyno help %s", cli->command);
    say(prefix, text);
    say("  ", hint);
    return EXIT_USAGE;
}

void cli_options_begin(void)
{
    optind = 0; /* glibc: start anew, main() has parsed the global options with it */
    opterr = 0;
}

static void print_help(const struct cli *cli)
{
    const struct command *c = command_find(cli->command);

    if (c)
        (void)printf("usage: dyno %s\n\n%s", c->usage, c->help);
}

int cli_option(struct cli *cli, int argc, char **argv, const char *shorts,
               const struct option *longs, int *ret_status)
{
    char spec[64];

    /* "+" first stops at the first operand; ":" after it tells missing arguments apart. */
    bool stop = *shorts == '+';
    (void)snprintf(spec, sizeof(spec), "%s:h%s", stop ? "+" : "", shorts + stop);
    for (;;) {
        int c = getopt_long(argc, argv, spec, longs, NULL);

        switch (c) {
        case CLI_OPT_SOCKET:
            cli->socket = optarg;
            break;
        case CLI_OPT_JSON:
            cli->json = true;
            break;
        case 'h':
        case CLI_OPT_HELP:
            print_help(cli);
            *ret_status = cli_flush(EXIT_OK);
            return CLI_STOP;
        case ':':
            *ret_status = cli_usage(cli, "%s needs a value", argv[optind - 1]);
            return CLI_STOP;
        case '?':
            if (optopt && optopt < 256)
                *ret_status = cli_usage(cli, "unknown option -%c", optopt);
            else
                *ret_status = cli_usage(cli, "unknown option %s", argv[optind - 1]);
            return CLI_STOP;
        default:
            return c;
        }
    }
}

int cli_flush(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (errno != EPIPE) /* a reader that left, like head(1), needs no words */
        (void)fprintf(stderr, "dyno: write to stdout: %s\n", strerror(errno));
    return status == EXIT_OK ? EXIT_FAIL : status;
}

int cli_print_json(const json_t *json)
{
    size_t flags = JSON_ENCODE_ANY | (isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);

    if (json_dumpf(json, stdout, flags) < 0 || fputc('\n', stdout) == EOF)
        return cli_flush(EXIT_FAIL);
    return cli_flush(EXIT_OK);
}

int cli_formation(const char *spec, json_t *formation, struct err *e)
{
    char type[TYPE_NAME_MAX + 1];
    unsigned count;

    for (const char *p = spec;; p++) {
        size_t len = strcspn(p, ",");
        scoped_free char *part = strndup(p, len);
        if (!part)
            return err_set(e, ENOMEM, "read a formation");
        int r = formation_parse_one(part, type, &count, e);
        if (r < 0)
            return r;
        if (json_object_get(formation, type)) {
            (void)err_say(e, EINVAL, "'%s' is named twice", type);
            return err_blame(e, FAULT_OPERATOR);
        }
        if (json_object_set_new(formation, type, json_integer(count)) < 0)
            return err_set(e, ENOMEM, "read a formation");
        p += len;
        if (!*p)
            return 0;
    }
}
