/* doctor.c - dyno doctor: what the machine offers. */
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/table.h"
#include "cli/text.h"
#include "isolate/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The same list as the agent's, from a look of our own. */
static int probe_here(json_t **ret, struct err *e)
{
    scoped_free struct probe *probes = NULL;
    scoped(json_freep) json_t *list = json_array();
    size_t n;
    int r = sandbox_probe(geteuid() != 0, &probes, &n, e);

    for (size_t i = 0; r == 0 && i < n; i++) {
        json_t *one =
            json_pack("{s:s,s:b,s:b,s:s}", "name", probes[i].name, "found", probes[i].found,
                      "required", probes[i].required, "detail", probes[i].detail);
        if (json_array_append_new(list, one) < 0)
            r = err_set(e, ENOMEM, "list what was found");
    }
    if (r < 0)
        return r;
    *ret = TAKE_PTR(list);
    return 0;
}

/* The link to the controller as one more of the list, in the agent's own words below "link". */
static int add_link(const struct cli *cli, json_t *list, struct err *e)
{
    scoped(json_freep) json_t *status = NULL;
    scoped(str_done) struct str words = {0};
    int r = client_call(cli->socket, "GET", "/v1/status", NULL, &status, e);
    json_t *link = json_object_get(status, "link");

    if (r < 0 || !json_is_object(link))
        return r;
    link_words(link, &words);
    bool registered =
        !strcmp(json_str(link, "state", ""), "registered") && json_bool(link, "alive", false);
    json_t *one = json_pack("{s:s,s:b,s:b,s:s,s:O}", "name", "link", "found", registered,
                            "required", 0, "detail", str_text(&words), "link", link);
    return json_array_append_new(list, one) < 0 ? err_set(e, ENOMEM, "list the link") : 0;
}

static bool all_required_found(const json_t *list)
{
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        if (json_bool(one, "required", false) && !json_bool(one, "found", false))
            return false;
    }
    return true;
}

static void probe_rows(struct table *t, const json_t *one)
{
    bool found = json_bool(one, "found", false), required = json_bool(one, "required", false);
    const char *color = found ? COLOR_GREEN : required ? COLOR_RED : COLOR_YELLOW;

    table_cell(t, color, "%s", found ? "found" : required ? "MISSING" : "missing");
    table_cell(t, COLOR_BOLD, "%s", json_str(one, "name", "-"));
    table_cell(t, NULL, "%s", json_str(one, "detail", ""));
    table_end_row(t);
}

static void link_row(struct table *t, const char *name, const struct str *text)
{
    if (!text->len)
        return;
    table_cell(t, NULL, "%s", "");
    table_cell(t, NULL, "%s", name);
    table_cell(t, NULL, "%s", text->data);
    table_end_row(t);
}

/* Its state instead of "found": there is more than two of it. */
static void link_rows(struct table *t, const json_t *one)
{
    scoped(str_done) struct str progress = {0}, errors = {0};
    const json_t *link = json_object_get(one, "link");
    const char *state = json_bool(link, "alive", false) ? json_str(link, "state", "-") : "gone";
    bool trouble =
        !strcmp(state, "backoff") || !strcmp(state, "conflict") || !strcmp(state, "gone");

    link_progress(link, &progress);
    link_errors(link, &errors);
    table_cell(t,
               json_bool(one, "found", false) ? COLOR_GREEN
               : trouble                      ? COLOR_RED
                                              : COLOR_YELLOW,
               "%s", state);
    table_cell(t, COLOR_BOLD, "%s", json_str(one, "name", "-"));
    table_cell(t, NULL, "%s", json_str(one, "detail", ""));
    table_end_row(t);
    if (strcmp(state, "off") != 0)
        link_row(t, "link", &progress);
    link_row(t, "link errors", &errors);
}

static void print_list(const struct cli *cli, const json_t *list)
{
    scoped(table_done) struct table t = {0};
    scoped(str_done) struct str out = {0};
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        if (json_object_get(one, "link"))
            link_rows(&t, one);
        else
            probe_rows(&t, one);
    }
    table_render(&t, &out, cli->color);
    (void)fputs(str_text(&out), stdout);
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *list = NULL;
    struct err e = ERR_INIT;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (optind < argc)
        return cli_usage(cli, "'%s' is one word too many", argv[optind]);
    int r = client_call(cli->socket, "GET", "/v1/doctor", NULL, &list, &e);
    bool asked = r == 0;
    if (asked)
        r = add_link(cli, list, &e);
    else if (r == -ENOTCONN || r == -ECONNREFUSED)
        r = probe_here(&list, &e);
    if (r < 0)
        return cli_fail(&e);
    status = all_required_found(list) ? EXIT_OK : EXIT_FAIL;
    if (cli->json) {
        int printed = cli_print_json(list);
        return printed == EXIT_OK ? status : printed;
    }
    print_list(cli, list);
    if (!asked)
        (void)printf("\n(No agent was asked: this is what %s sees.)\n",
                     geteuid() == 0 ? "root" : "an ordinary user");
    return cli_flush(status);
}
