/* scratch_open.c - which way dynos are held to their quota here: found out by doing it. */
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/scratch_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>

/* A quota larger than the disk can never be kept. */
static int check_disk(const struct scratches *s, const struct scratch_config *c, struct err *e)
{
    char want[24], have[24];
    struct statfs fs;

    if (fstatfs(s->dirfd, &fs) < 0)
        return err_set(e, errno, "look at the disk of %s", s->path);
    uint64_t disk = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
    double room = (double)(disk - scratch_kept_free(s, disk)) * s->overcommit;
    if (c->n_quotas == 0 || (double)c->quotas[0].bytes <= room)
        return 0;
    (void)err_say(e, ENOSPC,
                  "the disk of %s is too small for one dyno: the default size has disk = %s, and "
                  "the whole disk is %s: make disk smaller in [size], or state_dir larger",
                  s->path, format_bytes(want, sizeof(want), c->quotas[0].bytes),
                  format_bytes(have, sizeof(have), disk));
    return err_blame(e, FAULT_OPERATOR);
}

/* Whether one can be made, and looks as promised. */
static int try_image(struct scratches *s, const struct scratch_config *c, struct err *e)
{
    struct scratch_usage usage = {0};
    scoped_fd fd = -1;
    int r = scratch_templates_make(c->quotas, c->n_quotas, c->helper, &s->templates, e);

    if (r < 0)
        return r;
    s->n_templates = c->n_quotas;
    for (size_t i = 0; r == 0 && i < c->n_quotas; i++) {
        if (!c->quotas[i].bytes)
            continue;
        r = scratch_image_mount(s->dirfd, &s->templates[i], &fd, e);
        if (r == 0 && scratch_usage(fd, &c->quotas[i], &usage) < 0)
            r = err_say(e, EIO, "a scratch of %" PRIu64 " bytes has another size",
                        c->quotas[i].bytes);
        if (r == 0 && usage.bytes_max - usage.bytes < c->quotas[i].bytes)
            r = err_say(e, EIO, "a scratch of %" PRIu64 " bytes has only %" PRIu64,
                        c->quotas[i].bytes, usage.bytes_max - usage.bytes);
        break; /* one shows that it works */
    }
    return r;
}

static int refuse(const char *way, const struct err *project, const struct err *image,
                  struct err *e)
{
    if (!strcmp(way, "project"))
        (void)err_say(e, project->errnum, "disk_quota = project: %.400s", project->text);
    else if (!strcmp(way, "image"))
        (void)err_say(e, image->errnum, "disk_quota = image: %.400s", image->text);
    else
        (void)err_say(e, image->errnum,
                      "no way to hold dynos to their disk quota: as projects: %.150s; as images: "
                      "%.150s (or disk_quota = none)",
                      project->text, image->text);
    return err_blame(e, FAULT_OPERATOR);
}

static int choose(struct scratches *s, const struct scratch_config *c, struct err *e)
{
    struct err project = ERR_INIT, image = ERR_INIT;
    bool is_auto = !strcmp(c->way, "auto");

    if (is_auto || !strcmp(c->way, "project")) {
        s->way = SCRATCH_PROJECT;
        if (scratch_project_works(s->dirfd, &project) == 0) {
            scratch_project_sweep(s->dirfd);
            return 0;
        }
    }
    if (is_auto || !strcmp(c->way, "image")) {
        s->way = SCRATCH_IMAGE;
        if (try_image(s, c, &image) == 0)
            return 0;
    }
    return refuse(c->way, &project, &image, e);
}

static bool any_quota(const struct scratch_config *c)
{
    for (size_t i = 0; i < c->n_quotas; i++)
        if (c->quotas[i].bytes)
            return true;
    return false;
}

static const char *plain_because(const struct scratch_config *c)
{
    return c->rootless               ? "not without root: dynos share the disk"
           : !strcmp(c->way, "none") ? "off (disk_quota = none): dynos share the disk"
           : !any_quota(c)           ? "off (no size has disk): dynos share the disk"
                                     : NULL;
}

int scratches_open(const struct scratch_config *config, struct scratches **ret, struct err *e)
{
    static const char *const words[] = {[SCRATCH_PROJECT] = "project quotas",
                                        [SCRATCH_IMAGE] =
                                            "an ext4 of its own for each dyno, on loop devices"};
    scoped(scratches_freep) struct scratches *s = calloc(1, sizeof(*s));
    const char *plain = plain_because(config);
    int r = 0;

    if (!s)
        return err_set(e, ENOMEM, "open the scratches");
    TAILQ_INIT(&s->dynos);
    TAILQ_INIT(&s->spares);
    TAILQ_INIT(&s->asked);
    s->maker = (struct maker)MAKER_INIT;
    s->dirfd = config->dirfd;
    (void)snprintf(s->path, sizeof(s->path), "%s", config->path);
    s->rootless = config->rootless;
    s->keep_free = config->keep_free;
    s->overcommit = config->overcommit;
    s->next_project = SCRATCH_PROJECT_FIRST;
    if (!plain)
        r = check_disk(s, config, e);
    if (r == 0 && !plain)
        r = choose(s, config, e);
    if (r < 0)
        return r;
    (void)snprintf(s->text, sizeof(s->text), "%s", plain ? plain : words[s->way]);
    *ret = TAKE_PTR(s);
    return 0;
}

void scratch_probe(const char *dir, bool rootless, enum scratch_way *ret_way, char *text,
                   size_t text_size)
{
    static const struct scratch_quota one = {UINT64_C(16) << 20, 1024};
    struct scratch_config c = {.path = dir,
                               .way = "auto",
                               .rootless = rootless,
                               .helper = 65534,
                               .quotas = &one,
                               .n_quotas = 1,
                               .overcommit = 1};
    scoped(scratches_freep) struct scratches *s = NULL;
    scoped_fd fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = ERR_INIT;

    c.dirfd = fd;
    if (fd < 0)
        (void)err_set(&e, errno, "open %s", dir);
    if (fd < 0 || scratches_open(&c, &s, &e) < 0) {
        *ret_way = SCRATCH_PLAIN;
        (void)snprintf(text, text_size, "%s", e.text);
        return;
    }
    *ret_way = s->way;
    (void)snprintf(text, text_size, "%s", s->text);
}
