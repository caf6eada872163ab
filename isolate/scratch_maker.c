/* scratch_maker.c - the process that makes images ahead (maker.h): binding a loop device and
 * mounting wait. It knows the templates. */
#include "base/scoped.h"
#include "isolate/maker.h"
#include "isolate/scratch_impl.h"

#include <errno.h>
#include <unistd.h>

/* Others bind loop devices too; here is the time to wait until they are done, of which the agent's
 * loop has less (loopdev.c). */
#define BUSY_TRIES 50
#define BUSY_PAUSE 2000 /* usec */

static const struct scratch_template *find(const struct scratches *s, const struct scratch_quota *q)
{
    for (size_t i = 0; i < s->n_templates; i++)
        if (s->templates[i].quota.bytes == q->bytes && s->templates[i].quota.inodes == q->inodes)
            return &s->templates[i];
    return NULL;
}

static int make(void *context, const void *request, int *ret_fd, struct err *e)
{
    const struct scratch_template *t = find(context, request);
    scoped_fd fd = -1;

    if (!t)
        return err_say(e, EINVAL, "no template for such a scratch");
    int r = -EBUSY;
    for (int i = 0; i < BUSY_TRIES && r == -EBUSY; i++) {
        if (i > 0)
            (void)usleep(BUSY_PAUSE);
        *e = (struct err)ERR_INIT;
        r = scratch_image_mount(MAKER_KEPT, t, &fd, e);
    }
    if (r == 0)
        r = scratch_make_parts(fd, e);
    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}

static struct maker_job job_of(struct scratches *s)
{
    return (struct maker_job){.name = "dynod-scratch",
                              .size = sizeof(struct scratch_quota),
                              .keep = s->dirfd,
                              .make = make,
                              .context = s};
}

int scratch_maker_ask(struct scratches *s, const struct scratch_quota *quota, struct err *e)
{
    const struct maker_job job = job_of(s);

    return maker_ask(&s->maker, &job, quota, e);
}

int scratch_maker_hear(struct scratches *s, int *ret_fd, struct err *e)
{
    const struct maker_job job = job_of(s);

    return maker_hear(&s->maker, &job, ret_fd, e);
}
