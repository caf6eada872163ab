/* call.h - the requests that several commands make. */
#ifndef CLI_CALL_H
#define CLI_CALL_H

#include "cli/cli.h"
#include "cli/target.h"

#include "base/str.h"

/* "/v1/apps/APP/WORD" or "/v1/dynos/APP/DYNO/WORD"; WORD may be NULL. */
#define CALL_PATH_MAX 256
char *call_path(const struct target *t, const char *word, char out[CALL_PATH_MAX]);

/* The single operand left after the options, as a target; NULL with *ret_status when it is missing
 * or there are more. */
const char *call_operand(const struct cli *cli, int argc, char **argv, const char *what,
                         int *ret_status);

/* A member that is a number or its text ("release": 3 or "v3"): "v3". OUT of 32 bytes. */
char *call_release(const json_t *obj, char out[32]);

/* The same as a number; -1: there is none. */
int64_t call_release_number(const json_t *obj);

/* How many dynos a formation's value means: a number, or the list of theirs. */
int64_t call_count(const json_t *value);

/* The status in an exit's description, as a shell has it; -1 when it tells none. */
int call_exit_status(const json_t *obj);

/* Sets "slug" to the address, or the list of the addresses, in TEXTS (as slug_url() takes them):
 * mirrors, tried in their order. A single one that is a file must be readable. 1 to
 * CALL_MIRRORS_MAX. */
#define CALL_MIRRORS_MAX 8
int call_slug(json_t *spec, const char *const *texts, size_t n, struct err *e);

/* Sets "digest" from TEXT; NULL: nothing. */
int call_digest(json_t *spec, const char *text, struct err *e);

/* {"argv": […]} for several words, {"command": "…"} for one: then it is shell text. */
int call_command(json_t *spec, char **words, struct err *e);

#endif
