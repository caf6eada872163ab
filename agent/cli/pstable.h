/* pstable.h - the agent's list of dynos as a table for people. Pure. */
#ifndef CLI_PSTABLE_H
#define CLI_PSTABLE_H

#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>

/* DYNOS: the array of GET /v1/dynos; members that lack print as "-". */
void ps_table(const json_t *dynos, bool color, struct str *out);

/* "exit 1, app's fault" out of a last exit; "" for none. OUT of PS_EXIT_MAX. Returns OUT. */
#define PS_EXIT_MAX 160
char *ps_exit(const json_t *last_exit, char out[PS_EXIT_MAX]);

#endif
