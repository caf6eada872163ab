/* link_start.c - what dynod-link is told first, and what of the link outlives it: the agent's own
 * id (STATE/agent-id), the last contact (RUNTIME/contact). */
#include "core/control/link_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/fdio.h"
#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define ID_FILE          "agent-id"
#define ID_FILE_MAX      256u
#define CONTACT_MAX      256u
#define HEARTBEAT_MS     10000 /* until the controller says another */
#define CONTACT_NEVER    1     /* some time before this boot */
#define AGENT_ID_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* --- start --- */

static json_t *capacity(const struct agent *a)
{
    struct sysinfo info = {0};
    cpu_set_t cpus;
    int n = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;

    (void)sysinfo(&info); /* zeros: not known */
    return json_pack("{s:i,s:I,s:i}", "dynos", (int)a->config.dynos_max, "memory",
                     (json_int_t)info.totalram * info.mem_unit, "cpus", n);
}

json_t *link_start_frame(struct link *l)
{
    const struct agent *a = l->agent;
    const struct config *c = &a->config;
    const struct control *control = model_control(a->model);
    bool obeys = control->store[0] != '\0';

    return json_pack("{s:{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:s,s:s,s:b,s:b,s:i,s:{s:s?,s:I},s:o}}",
                     "start", "agent", c->agent_id, "fallback_agent", l->fallback, "version",
                     DYNOD_VERSION, "epoch", a->drain.epoch, "controllers", config_controllers(c),
                     "labels", config_labels(c), "capacity", capacity(a), "address", l->address,
                     "metadata", c->metadata, "lifecycle", 1, "identity_document",
                     c->identity_document, "heartbeat_ms", HEARTBEAT_MS, "control", "store",
                     obeys ? control->store : NULL, "generation", (json_int_t)control->generation,
                     "instance", drain_json(a));
}

/* --- files --- */

/* Opened as whoever we are; dynod-link reads it, and nothing else of that directory. */
static int open_file(const char *path, struct err *e)
{
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, errno, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_say(e, EINVAL, "%s is not a file", path);
    if (st.st_size > LINK_FILE_MAX)
        return err_say(e, EFBIG, "%s is larger than %u bytes", path, LINK_FILE_MAX);
    return TAKE_FD(fd);
}

/* Each trouble once: dynod-link asks again after every refusal. */
static void note_missing(struct link *l, const struct err *why)
{
    if (why->errnum && strcmp(l->missing, why->text) != 0)
        log_err("[link] %s", why->text);
    if (!why->errnum && l->missing[0])
        log_notice("[link] all its files are there now");
    (void)snprintf(l->missing, sizeof(l->missing), "%s", why->errnum ? why->text : "");
}

void link_send_files(struct link *l)
{
    const struct config *c = &l->agent->config;
    const struct {
        const char *name, *path;
    } files[LINK_FILES] = {{"ca", c->link_ca_file},
                           {"cert", c->link_cert_file},
                           {"key", c->link_key_file},
                           {"token", c->link_token_file}};
    json_t *names = json_array();
    struct err first = ERR_INIT;
    int fds[LINK_FILES];
    size_t n = 0;

    for (size_t i = 0; i < LINK_FILES; i++) {
        struct err e = ERR_INIT;
        int fd = files[i].path[0] ? open_file(files[i].path, &e) : -1;

        /* One that is configured is named all the same: without a CA of ours dynod-link would
         * trust the system's. */
        if (files[i].path[0] && json_array_append_new(names, json_string(files[i].name)) < 0)
            fd_closep(&fd);
        if (fd >= 0)
            fds[n++] = fd;
        if (e.errnum && !first.errnum)
            first = e;
    }
    note_missing(l, &first);
    (void)link_send(l, json_pack("{s:o}", "files", names), fds, n);
    for (size_t i = 0; i < n; i++)
        fd_closep(&fds[i]);
}

/* --- The id --- */

static bool id_valid(const char *id, size_t len)
{
    return len > 0 && len <= LINK_AGENT_MAX && strspn(id, AGENT_ID_LETTERS) == len;
}

int link_load_id(struct link *l, struct err *e)
{
    scoped_free char *text = NULL;
    struct err why = ERR_INIT;
    size_t len = 0;
    int r = file_read(l->agent->state_dirfd, ID_FILE, ID_FILE_MAX, &text, &len, &why);

    if (r == 0)
        len = strcspn(text, "\n");
    if (r == 0)
        text[len] = '\0';
    if (r == 0 && id_valid(text, len)) {
        memcpy(l->fallback, text, len + 1);
        return 0;
    }
    if (r < 0 && (err_is_shortage(-r) || r == -EIO)) { /* our means, not the file */
        *e = why;
        return r;
    }
    if (r != -ENOENT)
        log_warn("%s: made anew: %s", ID_FILE, r < 0 ? why.text : "that is no agent's id");
    (void)snprintf(l->fallback, sizeof(l->fallback), "d-%016" PRIx64, random_u64());
    return file_write_atomic(l->agent->state_dirfd, ID_FILE, l->fallback, strlen(l->fallback), 0644,
                             e);
}

/* --- The last contact --- */

static char *contact_path(const struct link *l, char out[300])
{
    (void)snprintf(out, 300, "%s/contact", l->agent->config.runtime_dir);
    return out;
}

void link_load_contact(struct link *l)
{
    scoped(json_freep) json_t *j = NULL;
    scoped_free char *text = NULL;
    struct err ignored = ERR_INIT;
    char path[300];
    size_t len = 0;

    l->contact = CONTACT_NEVER;
    if (file_read(AT_FDCWD, contact_path(l, path), CONTACT_MAX, &text, &len, &ignored) < 0 ||
        json_parse(text, len, CONTACT_MAX, &j, &ignored) < 0)
        return;
    int64_t at = json_int(j, "contact", 0);
    if (strcmp(json_str(j, "boot", ""), l->agent->drain.epoch) != 0 || at <= CONTACT_NEVER ||
        (uint64_t)at > clock_boot())
        return;
    l->contact = (uint64_t)at;
    l->contacted = true;
}

void link_note_contact(struct link *l, uint64_t ago_usec)
{
    char path[300], text[CONTACT_MAX];
    struct err e = ERR_INIT;

    l->contact = clock_boot() - ago_usec;
    if (l->contacted && l->contact - l->contact_written < LINK_CONTACT_EVERY)
        return;
    l->contacted = true;
    l->contact_written = l->contact;
    int n = snprintf(text, sizeof(text), "{\"boot\":\"%s\",\"contact\":%" PRIu64 "}\n",
                     l->agent->drain.epoch, l->contact);
    if (file_write_atomic(AT_FDCWD, contact_path(l, path), text, (size_t)n, 0600, &e) < 0)
        log_warn("%s", e.text);
}

bool agent_routed(const struct agent *a)
{
    return a->link && a->link->routed;
}

uint64_t agent_last_contact(const struct agent *a)
{
    return agent_routed(a) ? a->link->contact : 0;
}

uint64_t link_now(const struct agent *a, uint64_t now)
{
    return agent_routed(a) && !a->link->contacted ? INT64_MAX : now;
}
