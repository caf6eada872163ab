/* table.h - the state of every dyno, as the controller should have it: numbered by generations,
 * with the hash of docs/protocol.md ("A dyno"), and what is different from an earlier generation.
 * No I/O. */
#ifndef LINK_TABLE_H
#define LINK_TABLE_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define TABLE_HASH_TEXT 17     /* 16 digits and a NUL */
#define TABLE_DYNOS_MAX 100000 /* more is nonsense */
#define TABLE_GONE_MAX  10000  /* names of dynos that are no more, kept for the next report */

struct table;

/* Generation 1, no dynos. */
int table_new(struct table **ret, struct err *e);
void table_freep(struct table **t);

/* Each of these makes one more generation if it changes anything. The JSON is borrowed.
 * -EINVAL: not a dyno's state; nothing has changed. */
int table_put(struct table *t, json_t *dyno, struct err *e);
/* NAME: "APP/DYNO". One that is not there is fine. */
int table_remove(struct table *t, const char *name, struct err *e);
/* DYNOS, an array, is all there are. */
int table_replace(struct table *t, json_t *dynos, struct err *e);

uint64_t table_generation(const struct table *t);
/* Of the present generation; worked out anew only after a change. */
const char *table_hash(struct table *t);

/* All dynos: a new array; NULL without memory. */
json_t *table_all(const struct table *t);
/* What leads from generation FROM to the present one: new arrays, of dynos that are new or have
 * changed, and of names that are gone. -ESTALE: FROM is too long ago (or was never): tell all. */
int table_since(const struct table *t, uint64_t from, json_t **ret_dynos, json_t **ret_gone,
                struct err *e);
/* Nobody will ask for generations before FROM any more. */
void table_settle(struct table *t, uint64_t from);

#endif
