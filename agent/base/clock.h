/* clock.h - the time, in microseconds. Policy never calls these: it takes `now` as an argument. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_NEVER    UINT64_MAX

/* CLOCK_BOOTTIME: for delays and deadlines; a clock jump does not touch it, a suspend counts. */
uint64_t clock_boot(void);
/* CLOCK_REALTIME: for stamps that people read. */
uint64_t clock_real(void);

/* RFC 3339 with microseconds in UTC, "2026-11-21T20:31:00.000001+00:00"; OUT of CLOCK_TEXT_MAX. */
#define CLOCK_TEXT_MAX 40
char *clock_text(uint64_t real_usec, char out[CLOCK_TEXT_MAX]);

/* 64 random bits from the kernel (never fails after boot). */
uint64_t random_u64(void);

#endif
