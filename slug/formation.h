/* formation.h - how many dynos of each type, and the ports of local mode. Pure. Rules:
 * docs/contract.md, "Formation and ports". */
#ifndef SLUG_FORMATION_H
#define SLUG_FORMATION_H

#include "slug/procfile.h"

#define FORMATION_COUNT_MAX 100
#define PORT_BASE_DEFAULT   5000

/* Fills COUNTS (one per type of P, in its places) from SPEC, "web=2,worker=1" or "all=1"; NULL: the
 * default, one of each that starts by default. The operator's fault; the error quotes the part. */
int formation_parse(const struct procfile *p, const char *spec, unsigned *counts, struct err *e);

/* One "TYPE=N" assignment, as `dyno scale` takes them: no `all`, N may be 0. */
int formation_parse_one(const char *spec, char type[TYPE_NAME_MAX + 1], unsigned *ret_count,
                        struct err *e);

/* The base port out of TEXT ("5000"). -EINVAL/-ERANGE with WHERE ("-p", ".env") in the error. */
int port_parse(const char *where, const char *text, unsigned *ret, struct err *e);

/* The port of instance NUM (from 1) of the type at place I of P: base + 100 * place + (num - 1),
 * where `release` takes no place. -ERANGE: above 65535. */
int port_for(const struct procfile *p, size_t i, unsigned num, unsigned base, unsigned *ret,
             struct err *e);

#endif
