/* name.h - the names that the design fixes: apps, process types, dynos, digests. Pure. */
#ifndef BASE_NAME_H
#define BASE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define APP_NAME_MAX  63 /* [a-z][a-z0-9-]{0,62} */
#define TYPE_NAME_MAX 63 /* [A-Za-z0-9][A-Za-z0-9_-]{0,62} */
#define DYNO_NUM_MAX  9999999u

bool app_name_valid(const char *name);
bool type_name_valid(const char *name, size_t len);

/* One dyno of an app: type and number; written "web.1". */
struct dyno_name {
    char app[APP_NAME_MAX + 1];
    char type[TYPE_NAME_MAX + 1];
    unsigned num;
};

/* "APP/TYPE.N"; OUT of DYNO_TEXT_MAX bytes. Returns OUT. */
#define DYNO_TEXT_MAX (APP_NAME_MAX + 1 + TYPE_NAME_MAX + 1 + 7 + 1)
char *dyno_name_text(const struct dyno_name *name, char out[DYNO_TEXT_MAX]);
/* "TYPE.N" */
char *dyno_name_short(const struct dyno_name *name, char out[DYNO_TEXT_MAX]);
/* Parses "APP/TYPE.N". -EINVAL. */
int dyno_name_parse(const char *text, struct dyno_name *ret);

/* A SHA-256, as 64 lower-case hex digits. */
struct digest {
    char hex[65];
};

/* "sha256:HEX", "SHA256:HEX" or bare HEX, any case. -EINVAL. */
int digest_parse(const char *text, struct digest *ret);
void digest_from_bytes(const unsigned char bytes[32], struct digest *ret);
bool digest_equal(const struct digest *a, const struct digest *b);

#endif
