#include "slug/pack.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "slug/fetch.h"
#include "slug/ignore.h"
#include "slug/lines.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if defined(__GNUC__) && !defined(__clang__)
/* gcc's analyzer loses sight of what is stored in an array of pointers and calls it leaked; the
 * tests run under LeakSanitizer. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define IGNORE_FILE  ".slugignore"
#define PREFIX       "./app"
#define COPY_CHUNK   65536
#define QUOTE_MAX    200
#define GZIP_OPTIONS "gzip:compression-level=6,gzip:!timestamp"

struct packing {
    struct archive *a;
    EVP_MD_CTX *md;
    int out;
    int write_error; /* of OUT; nothing is written any more */
    struct ignore ignore;
    struct slug_packed result;
    struct err *e;
    char path[FETCH_NAME_MAX]; /* of the current entry, from the top */
    char buf[COPY_CHUNK];
};

void slug_packed_done(struct slug_packed *p)
{
    warnings_free(&p->warnings, &p->n_warnings);
}

static int fail(struct packing *p, int errnum, const char *what)
{
    char quoted[QUOTE_MAX];

    return err_set(p->e, errnum, "%s %s", what,
                   text_escape(quoted, sizeof(quoted), p->path, strlen(p->path)));
}

static int archive_failed(struct packing *p)
{
    const char *why = archive_error_string(p->a);

    if (p->write_error)
        return err_set(p->e, p->write_error, "write the slug");
    return err_say(p->e, EIO, "pack %.200s: %.200s", p->path, why ? why : "failed");
}

/* Never fails for libarchive, whose gzip filter would leak its state then: after an error it throws
 * away what still comes, and the error is found in P. */
static la_ssize_t on_write(struct archive *a, void *userdata, const void *buf, size_t len)
{
    struct packing *p = userdata;

    (void)a;
    if (p->write_error)
        return (la_ssize_t)len;
    int r = fd_write_full(p->out, buf, len);
    if (r < 0)
        p->write_error = -r;
    else if (EVP_DigestUpdate(p->md, buf, len) != 1)
        p->write_error = EIO;
    else
        p->result.compressed += len;
    return (la_ssize_t)len;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* The names in DIR, sorted by their bytes: the same in every locale. */
static int list(int dir, char ***ret, size_t *ret_n)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    char **names = NULL;
    size_t n = 0, cap = 0;
    struct dirent *entry;

    if (!d)
        return -errno;
    while ((entry = readdir(d))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            char **bigger = realloc(names, cap * sizeof(*bigger));
            if (!bigger)
                goto no_memory;
            names = bigger;
        }
        if (!(names[n] = strdup(entry->d_name)))
            goto no_memory;
        n++;
    }
    if (n > 0)
        qsort(names, n, sizeof(*names), by_name);
    *ret = names;
    *ret_n = n;
    return 0;

no_memory:
    names_free(names, n);
    return -ENOMEM;
}

static void entry_freep(struct archive_entry **entry)
{
    archive_entry_free(*entry);
}

/* Writes the header of the current path. */
static int put_header(struct packing *p, const struct stat *st, const char *symlink)
{
    scoped(entry_freep) struct archive_entry *entry = archive_entry_new();
    char full[sizeof(PREFIX) + 1 + FETCH_NAME_MAX];

    if (!entry)
        return fail(p, ENOMEM, "pack");
    (void)snprintf(full, sizeof(full), p->path[0] ? PREFIX "/%s" : PREFIX, p->path);
    archive_entry_set_pathname(entry, full);
    archive_entry_set_mode(entry, (st->st_mode & S_IFMT) | (st->st_mode & 0777));
    archive_entry_set_mtime(entry, st->st_mtim.tv_sec, 0);
    archive_entry_set_size(entry, S_ISREG(st->st_mode) ? st->st_size : 0);
    if (symlink)
        archive_entry_set_symlink(entry, symlink);
    if (archive_write_header(p->a, entry) < ARCHIVE_WARN || p->write_error)
        return archive_failed(p);
    p->result.entries++;
    return 0;
}

static int put_file(struct packing *p, int dir, const char *name)
{
    scoped_fd fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    off_t done = 0;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return fail(p, errno, "open");
    if (!S_ISREG(st.st_mode))
        return err_say(p->e, EBUSY, "%.200s changed while it was packed", p->path);
    int r = put_header(p, &st, NULL);
    if (r < 0)
        return r;
    while ((n = fd_read_full(fd, p->buf, sizeof(p->buf))) > 0) {
        done += n;
        if (done > st.st_size)
            break;
        if (archive_write_data(p->a, p->buf, (size_t)n) != n || p->write_error)
            return archive_failed(p);
    }
    if (n < 0)
        return fail(p, (int)-n, "read");
    if (done != st.st_size)
        return err_say(p->e, EBUSY, "%.200s changed while it was packed", p->path);
    p->result.unpacked += (uint64_t)done;
    return 0;
}

static int put_symlink(struct packing *p, int dir, const char *name, const struct stat *st)
{
    char target[FETCH_NAME_MAX];
    ssize_t n = readlinkat(dir, name, target, sizeof(target));

    if (n < 0 || (size_t)n == sizeof(target))
        return fail(p, n < 0 ? errno : ENAMETOOLONG, "read the link");
    target[n] = '\0';
    return put_header(p, st, target);
}

static int put_dir(struct packing *p, int dir, unsigned depth);

/* Packs NAME in DIR, whose path is the current one; DEPTH is NAME's. */
static int put(struct packing *p, int dir, const char *name, unsigned depth)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(p, errno, "stat");
    if (ignore_matches(&p->ignore, p->path, S_ISDIR(st.st_mode)))
        return 0;
    if (S_ISREG(st.st_mode))
        return put_file(p, dir, name);
    if (S_ISLNK(st.st_mode))
        return put_symlink(p, dir, name, &st);
    if (S_ISDIR(st.st_mode)) {
        scoped_fd sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return sub < 0 ? fail(p, errno, "open") : put_dir(p, sub, depth);
    }
    char quoted[QUOTE_MAX];
    int r = warnings_add(&p->result.warnings, &p->result.n_warnings,
                         "%s: neither file, directory nor link: left out",
                         text_escape(quoted, sizeof(quoted), p->path, strlen(p->path)));
    return r < 0 ? fail(p, ENOMEM, "pack") : 0;
}

/* Packs the directory DIR, whose path is the current one, and what is in it. Recursive, as deep as
 * a fetch would accept. */
static int put_dir(struct packing *p, int dir, unsigned depth)
{
    size_t len = strlen(p->path), n = 0;
    char **names = NULL;
    struct stat st;
    int r;

    if (depth + 1 >= FETCH_DEPTH_MAX) /* room for a file in it */
        return fail(p, ELOOP, "over the limit of 256 directories in one another:");
    if (fstat(dir, &st) < 0)
        return fail(p, errno, "stat");
    r = put_header(p, &st, NULL);
    if (r == 0 && (r = list(dir, &names, &n)) < 0)
        r = fail(p, -r, "read");
    for (size_t i = 0; r == 0 && i < n; i++) {
        int used = snprintf(p->path + len, sizeof(p->path) - len, len ? "/%s" : "%s", names[i]);

        r = used < (int)(sizeof(p->path) - len) - (int)sizeof(PREFIX)
                ? put(p, dir, names[i], depth + 1)
                : fail(p, ENAMETOOLONG, "pack");
        p->path[len] = '\0';
    }
    names_free(names, n);
    return r;
}

static int read_ignore(struct packing *p, int dirfd)
{
    scoped_free char *text = NULL;
    size_t len;
    int r = file_read(dirfd, IGNORE_FILE, IGNORE_MAX_BYTES, &text, &len, p->e);

    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return err_blame(p->e, FAULT_OPERATOR);
    return ignore_parse(text, len, &p->ignore, p->e);
}

static int pack_all(struct packing *p, int dirfd)
{
    int r = read_ignore(p, dirfd);

    if (r < 0)
        return r;
    /* GNU tar: names are bytes in it. A pax header depends on the locale. */
    if (archive_write_set_format_gnutar(p->a) != ARCHIVE_OK ||
        archive_write_add_filter_gzip(p->a) != ARCHIVE_OK ||
        archive_write_set_options(p->a, GZIP_OPTIONS) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(p->a, 1) != ARCHIVE_OK ||
        archive_write_open(p->a, p, NULL, on_write, NULL) != ARCHIVE_OK)
        return archive_failed(p);
    r = put_dir(p, dirfd, 0);
    if (r == 0 && (archive_write_close(p->a) != ARCHIVE_OK || p->write_error))
        r = archive_failed(p);
    return r;
}

static void packing_done(struct packing *p)
{
    if (!p->write_error)
        p->write_error = ECANCELED; /* freeing closes: after a failure nothing more is written */
    if (p->a)
        (void)archive_write_free(p->a);
    EVP_MD_CTX_free(p->md);
    ignore_done(&p->ignore);
    slug_packed_done(&p->result);
}

static void packing_freep(struct packing **p)
{
    if (*p)
        packing_done(*p);
    free(*p);
}

int slug_pack(int dirfd, int out_fd, struct slug_packed *ret, struct err *e)
{
    scoped(packing_freep) struct packing *p = calloc(1, sizeof(*p));
    unsigned char md[EVP_MAX_MD_SIZE];

    if (!p)
        return err_set(e, ENOMEM, "pack the slug");
    p->out = out_fd;
    p->e = e;
    p->a = archive_write_new();
    p->md = EVP_MD_CTX_new();
    if (!p->a || !p->md || EVP_DigestInit_ex(p->md, EVP_sha256(), NULL) != 1)
        return err_set(e, ENOMEM, "pack the slug");
    int r = pack_all(p, dirfd);
    if (r < 0)
        return r;
    if (EVP_DigestFinal_ex(p->md, md, NULL) != 1)
        return err_say(e, EIO, "finish SHA-256");
    digest_from_bytes(md, &p->result.digest);
    *ret = p->result;
    p->result = (struct slug_packed){0};
    return 0;
}
