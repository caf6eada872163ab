/* run_sweep.c - removes the cgroups and scratch directories that belong to no run any more. */
#include "core/run/run_priv.h"

#include "base/log.h"
#include "base/scoped.h"
#include "core/host/sweeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define REMOVE_TRIES 1000
#define REMOVE_PAUSE 1000 /* usec: a dying process still counts in its cgroup */

static void sweep_cgroup(struct run_env *env, const char *id)
{
    struct cgroup *c = NULL;
    struct err e = ERR_INIT;
    int rc = cgroup_open(env->cgroups, id, &c, &e);

    if (rc == 0)
        rc = cgroup_kill(c, &e);
    if (rc == 0)
        rc = cgroup_remove(c, &e);
    /* start-up: nothing else waits on the loop yet */
    for (int i = 0; rc == -EBUSY && i < REMOVE_TRIES; i++) {
        (void)usleep(REMOVE_PAUSE);
        rc = cgroup_remove(c, &e);
    }
    if (rc < 0)
        log_warn("%s: a leftover cgroup stays: %s", id, e.text);
    else
        log_notice("%s: removed a leftover cgroup", id);
    cgroup_freep(&c);
}

static void sweep_scratch(struct run_env *env, struct run_trace *traces, size_t n)
{
    int fd = openat(env->scratch_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    struct err e = ERR_INIT;

    while (d && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
            !run_trace_find(traces, n, entry->d_name) &&
            sweeper_take(env->sweeper, env->scratch_dirfd, entry->d_name, &e) < 0)
            log_warn("scratch: %s", e.text);
}

void run_sweep(struct run_env *env, struct run_trace *traces, size_t n)
{
    char **ids = NULL;
    struct err e = ERR_INIT;

    if (cgroup_tree_list(env->cgroups, &ids, &e) < 0)
        log_warn("cgroups: %s", e.text);
    for (size_t i = 0; ids && ids[i]; i++)
        if (!run_trace_find(traces, n, ids[i]))
            sweep_cgroup(env, ids[i]);
    cgroup_ids_free(ids);
    sweep_scratch(env, traces, n);
}
