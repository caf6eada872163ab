#include "logs/tail.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SUFFIX     ".tail"
#define MAGIC      "dynod-tail 0001\n" /* the number changes with the layout of a record */
#define MAGIC_LEN  (sizeof(MAGIC) - 1)
#define NAME_BYTES (APP_NAME_MAX + 1 + 20 + sizeof(SUFFIX) + 4)

struct tail {
    int dirfd;
    char app[APP_NAME_MAX + 1];
    uint64_t max_bytes;
    uint64_t gen;   /* of the file that grows; 0: none */
    uint64_t older; /* of the one before; 0: none */
    int fd;         /* GEN's; -1: none */
    uint64_t size;
    uint64_t floor; /* bytes of GEN that its checkpoint took */
};

static char *tail_name(const struct tail *t, uint64_t gen, char out[NAME_BYTES])
{
    (void)snprintf(out, NAME_BYTES, "%s.%" PRIu64 SUFFIX, t->app, gen);
    return out;
}

int tail_new(int dirfd, const char *app, uint64_t max_bytes, struct tail **ret, struct err *e)
{
    struct tail *t = calloc(1, sizeof(*t));

    if (!t)
        return err_set(e, ENOMEM, "make a tail");
    t->dirfd = dirfd;
    t->fd = -1;
    t->max_bytes = max_bytes;
    (void)snprintf(t->app, sizeof(t->app), "%s", app);
    *ret = t;
    return 0;
}

void tail_freep(struct tail **tp)
{
    if (!*tp)
        return;
    fd_closep(&(*tp)->fd);
    free(*tp);
    *tp = NULL;
}

bool tail_name_parse(const char *name, char app[APP_NAME_MAX + 1], uint64_t *ret_gen)
{
    const char *dot = strchr(name, '.'), *suffix = strrchr(name, '.');
    char number[21];
    uint64_t gen;

    if (!dot || dot == suffix || strcmp(suffix, SUFFIX) != 0 || dot - name > APP_NAME_MAX ||
        suffix - dot - 1 >= (ptrdiff_t)sizeof(number))
        return false;
    memcpy(app, name, (size_t)(dot - name));
    app[dot - name] = '\0';
    memcpy(number, dot + 1, (size_t)(suffix - dot - 1));
    number[suffix - dot - 1] = '\0';
    if (!app_name_valid(app) || number[0] == '0' || parse_u64(number, 1, UINT64_MAX - 1, &gen) < 0)
        return false;
    *ret_gen = gen;
    return true;
}

static int remove_gen(const struct tail *t, uint64_t gen, struct err *e)
{
    char name[NAME_BYTES];

    if (unlinkat(t->dirfd, tail_name(t, gen, name), 0) < 0 && errno != ENOENT)
        return err_set(e, errno, "remove %s", name);
    return 0;
}

void tail_found(struct tail *t, uint64_t gen)
{
    struct err e = ERR_INIT;
    uint64_t drop = gen;

    if (gen > t->gen) {
        drop = t->older;
        t->older = t->gen;
        t->gen = gen;
    } else if (gen > t->older) {
        drop = t->older;
        t->older = gen;
    }
    if (drop > 0)
        (void)remove_gen(t, drop, &e); /* only its memory is at stake; the next start tries again */
}

/* Opens GEN and maps it. *ret_data is NULL for an empty file. */
static int map_gen(const struct tail *t, uint64_t gen, int *ret_fd, const unsigned char **ret_data,
                   size_t *ret_len, struct err *e)
{
    char name[NAME_BYTES];
    struct stat st;
    void *data = NULL;
    size_t len = 0;
    scoped_fd fd =
        openat(t->dirfd, tail_name(t, gen, name), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return err_set(e, errno, "open %s", name);
    if (fstat(fd, &st) < 0)
        return err_set(e, errno, "stat %s", name);
    if (!S_ISREG(st.st_mode))
        return err_say(e, EBADMSG, "%s is not a regular file", name);
    if (st.st_size > 0) {
        len = (size_t)st.st_size;
        data = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    }
    if (data == MAP_FAILED)
        return err_set(e, errno, "map %s", name);
    *ret_fd = TAKE_FD(fd);
    *ret_data = data;
    *ret_len = len;
    return 0;
}

static void unmap(const unsigned char *data, size_t len)
{
    if (data)
        (void)munmap((void *)data, len); /* cannot fail for what mmap() gave */
}

/* -EBADMSG: not a tail, or one of another layout. *ret_floor: where the checkpoint ends. */
static int read_records(const unsigned char *data, size_t len,
                        void (*on_record)(void *, const struct record *), void *userdata,
                        size_t *ret_good, size_t *ret_floor)
{
    size_t at = MAGIC_LEN, floor = MAGIC_LEN;
    struct record r;

    if (len < MAGIC_LEN || memcmp(data, MAGIC, MAGIC_LEN) != 0)
        return -EBADMSG;
    for (;;) {
        ssize_t n = record_decode(data + at, len - at, true, &r);

        if (n < 0)
            break;
        if (!record_is_line(&r) && floor == at)
            floor = at + (size_t)n;
        on_record(userdata, &r);
        at += (size_t)n;
    }
    *ret_good = at;
    *ret_floor = floor;
    return 0;
}

static int set_aside(const struct tail *t, uint64_t gen, struct err *e)
{
    char name[NAME_BYTES], bad[NAME_BYTES + 4];

    (void)snprintf(bad, sizeof(bad), "%s.bad", tail_name(t, gen, name));
    if (renameat(t->dirfd, name, t->dirfd, bad) < 0)
        return err_set(e, errno, "set %s aside", name);
    return err_say(e, EBADMSG, "%s is not a tail of this version: set aside as %s", name, bad);
}

static int load_gen(struct tail *t, uint64_t gen, void (*on_record)(void *, const struct record *),
                    void *userdata, uint64_t *cut, struct err *e)
{
    const unsigned char *data;
    size_t len, good, floor;
    scoped_fd fd = -1;
    int r = map_gen(t, gen, &fd, &data, &len, e);

    if (r < 0)
        return r;
    r = read_records(data, len, on_record, userdata, &good, &floor);
    unmap(data, len);
    if (r < 0)
        return set_aside(t, gen, e);
    if (good < len && ftruncate(fd, (off_t)good) < 0)
        return err_set(e, errno, "cut a torn record off the tail of %s", t->app);
    *cut += len - good;
    if (gen == t->gen) {
        t->fd = TAKE_FD(fd);
        t->size = good;
        t->floor = floor;
    }
    return 0;
}

int tail_load(struct tail *t, void (*on_record)(void *userdata, const struct record *r),
              void *userdata, uint64_t *ret_cut, struct err *e)
{
    uint64_t cut = 0;
    int r = t->older ? load_gen(t, t->older, on_record, userdata, &cut, e) : 0;

    if (r == -EBADMSG)
        t->older = 0;
    else if (r < 0)
        return r;
    int r2 = t->gen ? load_gen(t, t->gen, on_record, userdata, &cut, e) : 0;
    if (r2 < 0 && r2 != -EBADMSG)
        return r2;
    *ret_cut = cut;
    return r2 < 0 ? r2 : r;
}

bool tail_full(const struct tail *t)
{
    return t->fd < 0 || t->size - t->floor >= t->max_bytes;
}

int tail_rotate(struct tail *t, const void *checkpoint, size_t len, struct err *e)
{
    char name[NAME_BYTES];
    struct str content = {0};

    /* The oldest goes first: its memory may be what the new one needs, and nothing depends on it.
     */
    int r = tail_remove_older(t, e);
    if (r < 0)
        return r;
    str_add_n(&content, MAGIC, MAGIC_LEN);
    str_add_n(&content, checkpoint, len);
    r = content.failed ? err_set(e, ENOMEM, "begin a new tail")
                       : file_write_atomic(t->dirfd, tail_name(t, t->gen + 1, name), content.data,
                                           content.len, 0600, e);
    uint64_t size = content.len;
    str_done(&content);
    if (r < 0)
        return r;
    int fd = openat(t->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        r = err_set(e, errno, "open %s", name);
        (void)unlinkat(t->dirfd, name, 0); /* else the next try replaces it */
        return r;
    }
    fd_closep(&t->fd);
    t->older = t->gen;
    t->gen++;
    t->fd = fd;
    t->size = t->floor = size;
    return 0;
}

int tail_append(struct tail *t, const void *records, size_t len, struct err *e)
{
    for (size_t done = 0; done < len;) {
        ssize_t n =
            pwrite(t->fd, (const char *)records + done, len - done, (off_t)(t->size + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int r = err_set(e, errno, "write the tail of %s", t->app);

            (void)ftruncate(t->fd, (off_t)t->size); /* else the next try writes over it */
            return r;
        }
        done += (size_t)n;
    }
    t->size += len;
    return 0;
}

int tail_remove_older(struct tail *t, struct err *e)
{
    int r = t->older ? remove_gen(t, t->older, e) : 0;

    if (r == 0)
        t->older = 0;
    return r;
}

int tail_remove(struct tail *t, struct err *e)
{
    int r = tail_remove_older(t, e); /* first: the newer one holds what a restart needs */

    if (r == 0 && t->gen)
        r = remove_gen(t, t->gen, e);
    if (r < 0)
        return r;
    fd_closep(&t->fd);
    t->gen = t->size = t->floor = 0;
    return 0;
}

int tail_view_open(const struct tail *t, struct tail_view *ret, struct err *e)
{
    uint64_t gens[2] = {t->gen, t->older};
    struct tail_view v = {0};

    for (int i = 0; i < 2; i++) {
        scoped_fd fd = -1;
        int r = gens[i] ? map_gen(t, gens[i], &fd, &v.file[i].data, &v.file[i].len, e) : 0;

        if (r == -ENOENT) /* it was set aside */
            continue;
        if (r < 0) {
            tail_view_done(&v);
            return r;
        }
        /* Bytes past the size are a write that failed. */
        v.file[i].left = i == 0 && v.file[i].len > t->size ? (size_t)t->size : v.file[i].len;
    }
    *ret = v;
    return 0;
}

bool tail_view_prev(struct tail_view *v, struct record *ret)
{
    for (int i = 0; i < 2; i++) {
        if (v->file[i].left <= MAGIC_LEN)
            continue;
        ssize_t n =
            record_decode_last(v->file[i].data + MAGIC_LEN, v->file[i].left - MAGIC_LEN, ret);

        if (n < 0) { /* cannot be: loading has checked it. What is left is not shown. */
            v->file[i].left = 0;
            continue;
        }
        v->file[i].left -= (size_t)n;
        return true;
    }
    return false;
}

void tail_view_done(struct tail_view *v)
{
    for (int i = 0; i < 2; i++)
        unmap(v->file[i].data, v->file[i].len);
    *v = (struct tail_view){0};
}
