/* dotenv.h - `.env` files. Pure. Rules: docs/contract.md, ".env". */
#ifndef SLUG_DOTENV_H
#define SLUG_DOTENV_H

#include "base/err.h"

#include <stddef.h>

#define DOTENV_MAX_BYTES   (8u << 20)
#define DOTENV_ENTRY_MAX   131071u
#define DOTENV_MAX_ENTRIES 10000

struct dotenv_entry {
    char *name;
    char *value;
};

struct dotenv {
    struct dotenv_entry *entries; /* each name once, in the order of first mention */
    size_t n_entries;
    char **warnings; /* "FILE:LINE: why" */
    size_t n_warnings;
};

void dotenv_done(struct dotenv *d);

/* Parses TEXT, the content of FILE. *ret is set on success only; an error names file:line. */
int dotenv_parse(const char *file, const char *text, size_t len, struct dotenv *ret, struct err *e);

/* NULL when NAME is not set. */
const char *dotenv_get(const struct dotenv *d, const char *name);

#endif
