/* parts.h - which bytes of an object nobody downloads yet. Pure.
 *
 * What is neither here nor assigned to a connection has arrived, so the bytes from 0 to the lowest
 * of all starts, here and of the connections, are there without a gap: nothing else keeps count. */
#ifndef SLUG_FETCH_PARTS_H
#define SLUG_FETCH_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As many as there can be gaps between the parts of FETCH_CONNECTIONS_MAX connections. */
#define PARTS_MAX 130

/* Bytes from AT up to, not including, END. */
struct range {
    uint64_t at, end;
};

struct parts {
    struct range free[PARTS_MAX]; /* in order, none empty, no two touching */
    size_t n;
};

void parts_init(struct parts *p, uint64_t at, uint64_t end);
/* The lowest bytes, at most LEN. False: none are left. */
bool parts_take(struct parts *p, uint64_t len, struct range *ret);
/* The same, but only such that begin at AT. */
bool parts_take_at(struct parts *p, uint64_t at, uint64_t len, struct range *ret);
/* R is to be downloaded by somebody else; it overlaps nothing that is here. Empty is fine. */
void parts_give(struct parts *p, const struct range *r);
/* Where the lowest begins; UINT64_MAX: none. */
uint64_t parts_first(const struct parts *p);
uint64_t parts_left(const struct parts *p);

/* How long the parts of an object of TOTAL bytes are for MAX connections: LEAST to MOST, of one
 * length, so that the last does not end long after the others. */
uint64_t parts_length(uint64_t total, unsigned max, uint64_t least, uint64_t most);

#endif
