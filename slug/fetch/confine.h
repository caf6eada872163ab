/* confine.h - what the fetch gives up before it reads a byte from outside. It owns nothing to begin
 * with (dynod starts it as a user of its own, without capabilities); here it also gives up:
 *
 *   every capability and new privileges, core dumps and being looked at by its own user,
 *   files: by landlock, all but writing below the one directory and reading what TLS and DNS need,
 *   system calls: by seccomp, all but what download, unpack and write need (seccomp.c has the
 * list).
 *
 * Each step that fails fails the fetch, but for landlock where the kernel has none. */
#ifndef SLUG_FETCH_CONFINE_H
#define SLUG_FETCH_CONFINE_H

#include "base/err.h"

/* DIR: the directory that may be written to. CA_FILE may be NULL. The platform's fault. */
int confine(int dir, const char *ca_file, struct err *e);

/* The steps, for tests. */
int confine_privileges(struct err *e);
/* 1: in force; 0: this kernel has none that fits. */
int confine_landlock(int dir, const char *ca_file, struct err *e);
int confine_seccomp(struct err *e);

#endif
