#include "cli/slug_cached.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/call.h"
#include "cli/client.h"
#include "cli/slugcache.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define EVENTS "/v1/events?follow=1&n=0"
#define BUSY_MS                                                                                    \
    250              /* a slug that was just published is sealed soon after: asked again so often  \
                      */
#define BUSY_MAX 120 /* times */

/* --- ls --- */

int slug_ls_command(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *slugs = NULL;
    scoped(str_done) struct str out = {0};
    struct err e = ERR_INIT;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (optind < argc)
        return cli_usage(cli, "'%s' is one word too many", argv[optind]);
    if (client_call(cli->socket, "GET", "/v1/slugs", NULL, &slugs, &e) < 0)
        return cli_fail(&e);
    if (cli->json)
        return cli_print_json(slugs);
    if (json_array_size(json_object_get(slugs, "slugs")) == 0 &&
        json_array_size(json_object_get(slugs, "fetches")) == 0)
        str_add(&out, "No slugs. Fetch one: dyno slug fetch URL\n");
    else
        slugs_table(slugs, clock_real(), cli->color, &out);
    if (out.failed) {
        (void)err_set(&e, ENOMEM, "make the table");
        return cli_fail(&e);
    }
    (void)fputs(str_text(&out), stdout);
    return cli_flush(EXIT_OK);
}

/* --- rm --- */

static int digest_path(const json_t *slugs, const char *text, const char *word,
                       char out[CALL_PATH_MAX], struct err *e)
{
    struct digest digest;
    int r = slugs_find(slugs, text, &digest, e);

    if (r == 0)
        (void)snprintf(out, CALL_PATH_MAX, "/v1/slugs/sha256:%s%s", digest.hex, word);
    return r;
}

/* One that cannot go does not keep the others. */
int slug_rm_command(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *slugs = NULL;
    struct err e = ERR_INIT;
    int status, result = EXIT_OK;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (optind == argc)
        return cli_usage(cli, "DIGEST is missing");
    if (client_call(cli->socket, "GET", "/v1/slugs", NULL, &slugs, &e) < 0)
        return cli_fail(&e);
    for (int i = optind; i < argc; i++) {
        scoped(json_freep) json_t *answer = NULL;
        struct err why = ERR_INIT;
        char path[CALL_PATH_MAX];

        if (digest_path(slugs, argv[i], "", path, &why) < 0 ||
            client_call(cli->socket, "DELETE", path, NULL, &answer, &why) < 0)
            result = cli_fail(&why);
        else if (cli->json)
            (void)cli_print_json(answer);
        else
            (void)printf("removed %s\n", json_str(answer, "removed", ""));
    }
    return cli_flush(result);
}

/* --- verify --- */

/* The event that tells what became of DIGEST. */
static int wait_verified(struct feed *feed, const char *digest, json_t **ret, struct err *e)
{
    for (;;) {
        scoped(json_freep) json_t *event = NULL;
        int r = feed_event_wait(feed, &event, e);

        if (r < 0)
            return r == -ENODATA ? err_say(e, EPIPE, "the agent went away") : r;
        const char *outcome = json_str(event, "outcome", "");
        if (!strcmp(json_str(event, "kind", ""), "slug") &&
            !strcmp(json_str(event, "digest", ""), digest) &&
            (!strcmp(outcome, "verified") || !strcmp(outcome, "unverified"))) {
            *ret = TAKE_PTR(event);
            return 0;
        }
    }
}

static int ask_verify(const struct cli *cli, const char *digest, struct err *e)
{
    char path[CALL_PATH_MAX];
    int r;

    (void)snprintf(path, sizeof(path), "/v1/slugs/%s/verify", digest);
    for (int i = 0; i < BUSY_MAX; i++) {
        *e = (struct err)ERR_INIT;
        r = client_call(cli->socket, "POST", path, NULL, NULL, e);
        if (r != -EBUSY)
            return r;
        (void)poll(NULL, 0, BUSY_MS);
    }
    return r;
}

/* Exit status of one. */
static int verify_one(const struct cli *cli, struct feed *feed, const char *digest)
{
    scoped(json_freep) json_t *event = NULL;
    struct err e = ERR_INIT;
    int r = ask_verify(cli, digest, &e);

    if (r == 0)
        r = wait_verified(feed, digest, &event, &e);
    if (r < 0)
        return cli_fail(&e);
    bool good = !strcmp(json_str(event, "outcome", ""), "verified");
    if (cli->json)
        (void)cli_print_json(event);
    else if (good)
        (void)printf("%s is as it was published\n", digest);
    if (!good && !cli->json) {
        (void)err_say(&e, EBADMSG, "%s: %s", digest, json_str(event, "text", "not verified"));
        return cli_fail(&e);
    }
    return good ? EXIT_OK : EXIT_FAIL;
}

/* Those that WORDS name; without any, every image. */
static int choose(const json_t *slugs, char **words, json_t *ret, struct err *e)
{
    const json_t *slug;
    size_t i;
    int r = 0;

    for (; *words && r == 0; words++) {
        struct digest digest;

        r = slugs_find(slugs, *words, &digest, e);
        if (r == 0)
            (void)json_array_append_new(ret, json_sprintf("sha256:%s", digest.hex));
    }
    if (r < 0 || json_array_size(ret) > 0)
        return r;
    json_array_foreach (json_object_get(slugs, "slugs"), i, slug)
        if (!strcmp(json_str(slug, "kind", ""), "image"))
            (void)json_array_append(ret, json_object_get(slug, "digest"));
    return 0;
}

int slug_verify_command(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(json_freep) json_t *slugs = NULL, *chosen = json_array();
    scoped(feed_freep) struct feed *feed = NULL;
    struct err e = ERR_INIT;
    int status, result = EXIT_OK;
    const json_t *digest;
    size_t i;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    /* Before anything is asked for, so that no outcome is missed. */
    if (client_feed(cli->socket, EVENTS, &feed, &e) < 0 ||
        client_call(cli->socket, "GET", "/v1/slugs", NULL, &slugs, &e) < 0 ||
        choose(slugs, argv + optind, chosen, &e) < 0)
        return cli_fail(&e);
    json_array_foreach (chosen, i, digest)
        if (json_is_string(digest) && verify_one(cli, feed, json_string_value(digest)) != EXIT_OK)
            result = EXIT_FAIL;
    return cli_flush(result);
}
