#include "core/host/shortage.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define PROC_TEXT_MAX 4096 /* what is asked for is in the first lines */
#define PRESSURE_HIGH 10.0 /* percent */
#define PRESSURE_ROOM 4    /* times keep_free: with more than that left nobody else is in need */

static const char *read_proc(const char *path, char buf[PROC_TEXT_MAX])
{
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : fd_read_full(fd, buf, PROC_TEXT_MAX - 1);

    buf[n < 0 ? 0 : n] = '\0'; /* a kernel without PSI refuses to read it */
    return buf;
}

uint64_t memory_available(const char *meminfo)
{
    static const char key[] = "MemAvailable:";
    const char *at = strstr(meminfo, key);
    unsigned long long kib;

    if (!at || sscanf(at + strlen(key), " %llu kB", &kib) != 1 || kib > UINT64_MAX / 1024)
        return UINT64_MAX;
    return kib * 1024;
}

double memory_pressure(const char *psi)
{
    unsigned whole, hundredth;

    /* Not %lf, which is read as the locale has it. */
    if (sscanf(psi, "some avg10=%u.%2u", &whole, &hundredth) != 2)
        return 0;
    return whole + hundredth / 100.0;
}

void memory_look(const struct cgroup_tree *t, struct memory_view *ret)
{
    char text[PROC_TEXT_MAX];

    ret->available = memory_available(read_proc("/proc/meminfo", text));
    ret->pressure = memory_pressure(read_proc("/proc/pressure/memory", text));
    cgroup_tree_room(t, &ret->level);
}

static uint64_t left(const struct memory_view *v)
{
    return v->level.left < v->available ? v->level.left : v->available;
}

bool memory_is_short(const struct memory_view *v, uint64_t keep_free, bool is_short)
{
    uint64_t enough = keep_free + (is_short ? keep_free / 4 : 0);
    double pressing = is_short ? PRESSURE_HIGH / 2 : PRESSURE_HIGH;

    if (left(v) < enough)
        return true;
    return v->pressure >= pressing && left(v) / PRESSURE_ROOM < enough;
}

char *memory_text(const struct memory_view *v, char out[MEMORY_TEXT_MAX])
{
    char bytes[16];
    bool machine = v->available <= v->level.left;

    (void)snprintf(out, MEMORY_TEXT_MAX,
                   "%s of memory are left %s%s, processes waited for it %.1f%% of 10 s",
                   format_bytes(bytes, sizeof(bytes), left(v)), machine ? "on the machine" : "in ",
                   machine ? "" : v->level.where, v->pressure);
    return out;
}
