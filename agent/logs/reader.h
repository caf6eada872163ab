/* reader.h - the lines that a query finds on record. Part of reader.c, for history.c. */
#ifndef LOGS_READER_H
#define LOGS_READER_H

#include "logs/logs.h"

/* The last lines, at most MAX of them and HISTORY_BYTES_MAX, that FILTER lets pass, oldest first;
 * of several apps in the order of their times. The caller owns the array and a reference to each.
 */
int history_find(const struct logs *l, const struct filter *filter, size_t max, struct msg ***ret,
                 size_t *ret_n, struct err *e);

#endif
