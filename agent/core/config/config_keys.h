/* config_keys.h - what config*.c share: the table of keys, one value read or written, one
 * assignment. Pure. Nobody else includes it. */
#ifndef CORE_CONFIG_KEYS_H
#define CORE_CONFIG_KEYS_H

#include "base/err.h"
#include "base/str.h"
#include "core/config/config.h"

enum key_kind {
    KEY_PATH, /* absolute; "" and WORD where they are allowed */
    KEY_NAME, /* letters, digits, '-', '_', '.' */
    KEY_BOOL,
    KEY_LEVEL,
    KEY_UNSIGNED,
    KEY_U64,
    KEY_BYTES, /* uint64_t */
    KEY_USEC,  /* uint64_t */
    KEY_FACTOR,
    KEY_PERCENT,  /* unsigned; "150%" */
    KEY_UIDS,     /* "FIRST-LAST" */
    KEY_PORTS,    /* "FIRST-LAST" */
    KEY_URLS,     /* "https://a https://b"; a list: += adds to it */
    KEY_LABELS,   /* "zone=a,rack=7"; a list */
    KEY_ADDRESS,  /* IPv4, IPv6 or a host name */
    KEY_METADATA, /* WORD, "off" or a URL */
    KEY_URL,      /* one http:// or https:// URL */
    KEY_AUTO,     /* "auto", "yes", "no" */
    KEY_HOSTS,    /* "HOST[:PORT] …"; a list */
    KEY_TEXT,     /* printable */
    KEY_CHOICE,   /* one of WORD's, which are set apart by blanks */
    KEY_RANGE,    /* one network, "10.0.0.0/8", or "" where it is allowed */
    KEY_NETWORKS, /* "10.0.0.0/8 fd00::/8 …"; a list */
};

struct key {
    const char *section, *name;
    enum key_kind kind;
    const char *initial; /* the default, as in the file; of a size: NULL */
    size_t offset;       /* in struct config, or in struct size */
    size_t offset2;      /* of a range's end */
    uint64_t min;        /* of a number, in its unit */
    uint64_t max;        /* of a number; of a text: the size of its array */
    bool may_be_off;     /* 0 is allowed below MIN, "" for a text */
    const char *word;    /* instead of a path or a URL */
};

/* NAME NULL ends each table. Sections are contiguous and in the order of the shipped file. */
const struct key *config_keys(void);
const struct key *size_keys(void);

/* Reads VALUE into the member that K tells of BASE. Errors are the operator's and say "KEY: …". */
int key_parse(const struct key *k, const char *value, void *base, struct err *e);
/* Adds the value as key_parse() takes it. */
void key_format(const struct key *k, const void *base, struct str *out);

/* What is between the elements of such a list; '\0': K is no list. */
char key_separator(const struct key *k);
/* What a valid VALUE is, when VALUE is not; NULL: it is. For the kinds from KEY_URLS on. */
const char *link_value_wants(const struct key *k, const char *value);
/* (config_store.c) The same for the kinds from KEY_URL on. */
const char *store_value_wants(const struct key *k, const char *value);
/* A URL for paths to be put at its end; "name", "10.0.0.1:8443", "[::1]". Of LEN bytes. */
bool config_is_url(const char *p, size_t len);
bool config_is_authority(const char *p, size_t len);
int config_check_store(const struct config *c, struct err *e);
/* What only the whole of [link] shows. */
int config_check_link(const struct config *c, struct err *e);

/* An error with the operator's fault; returns -EINVAL. */
int config_refuse(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* -EINVAL: there is no such section. "size NAME" makes that size. */
int config_enter_section(struct config *c, const char *section, struct err *e);
int config_assign(struct config *c, const char *section, const char *name, const char *value,
                  struct err *e);

#endif
