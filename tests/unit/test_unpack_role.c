/* The role `unpack` (with the role `image` beside it): odd slugs that are none the less right, both
 * sinks giving one tree, and what the role does when its surroundings fail. The battery's archives
 * go through it in test_unpack.c. */
#include "slug/fetch/unpack.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/scoped.h"
#include "tmpdir.h"
#include "unpackroles.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define MEMORY_MAX_KB (32l << 10) /* of the role, whatever the archive */

static struct slug_limits limits;

/* The COUNTDOWN-th pwrite of data from here on fails with COUNTED; 0: none does. Each is cut to at
 * most WRITE_MAX bytes; 0: none is. */
static unsigned countdown;
static int counted;
static size_t write_max;

/* In place of the libc's. */
ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    if (countdown > 0 && --countdown == 0) {
        errno = counted;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, buf, write_max && len > write_max ? write_max : len, at);
}

static int set_up(void **state)
{
    (void)state;
    slug_limits_default(&limits);
    countdown = 0;
    write_max = 0;
    return base_make("unpack-role");
}

static int new_image(void)
{
    int fd = open(in_base("image"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static int new_dir(void)
{
    struct err e = ERR_INIT;

    assert_int_equal(tree_remove(AT_FDCWD, in_base("top"), &e), 0);
    assert_int_equal(mkdir(in_base("top"), 0700), 0);
    int fd = open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* The tar T, which is ended and freed, as gzip. */
static struct str pack(struct str *t)
{
    struct str gz = {0};

    tar_end(t);
    gzip_add(&gz, t->data, t->len);
    str_done(t);
    return gz;
}

static void procfile(struct str *t)
{
    tar_file(t, "app/Procfile", 0644, "web: true\n");
}

static void assert_fine(const char *what, const struct role_result *res)
{
    if (res->r < 0)
        fail_msg("%s: %s: %s", what, res->o.step, res->e.text);
    assert_int_equal(res->o.types.n_types, 1);
}

/* GZ, which is freed, into both sinks: they must be content and give the same tree. PIECE: bytes
 * that come at once. */
static void both_same(struct str *gz, size_t piece)
{
    int status, image = new_image(), dir = new_dir();
    struct role_result one = roles_image(gz->data, gz->len, piece, image, &limits, &status);

    assert_fine("image", &one);
    assert_int_equal(status, 0);
    assert_int_equal(image_fsck(image), 0);
    struct role_result two = roles_dir(gz->data, gz->len, piece, dir, &limits);
    assert_fine("directory", &two);
    assert_int_equal(one.o.counts.unpacked, two.o.counts.unpacked);
    assert_int_equal(one.o.compressed, gz->len);
    if (geteuid() == 0)
        assert_int_equal(image_differs(base, in_base("top/app"), image), 0);
    close(image);
    close(dir);
    unpack_outcome_done(&one.o);
    unpack_outcome_done(&two.o);
    str_done(gz);
}

static void assert_failed(const struct role_result *res, int r, const char *step, const char *why,
                          enum fault fault)
{
    if (res->r != r || strcmp(res->o.step, step) != 0 || !strstr(res->e.text, why))
        fail_msg("'%s' expected, but: %d %s: %s", why, res->r, res->o.step, res->e.text);
    assert_int_equal(res->e.fault, fault);
}

/* --- odd and right -----------------------------------------------------------------------------
 */

static void several_members_are_one_slug(void **state)
{
    struct str t = {0}, gz = {0};

    (void)state;
    procfile(&t);
    tar_file(&t, "app/x", 0755, "run");
    tar_end(&t);
    for (size_t at = 0; at < t.len; at += 100) /* members that end anywhere */
        gzip_add(&gz, t.data + at, t.len - at < 100 ? t.len - at : 100);
    str_add_n(&gz, "\0\0\0\0", 4); /* what a tape adds */
    str_done(&t);
    both_same(&gz, 7);
}

static void the_root_may_hold_app_and_the_procfile_last(void **state)
{
    struct str t = {0};

    (void)state;
    tar_dir(&t, "app", 0711);
    tar_file(&t, "app/models/x.rb", 0644, "x");
    tar_file(&t, "app/Procfile", 0644, "wrong: true\nwrong2: true\n");
    tar_file(&t, "lib/y", 0644, "y");
    tar_file(&t, "Procfile", 0644, "right: true\n");
    struct str gz = pack(&t);
    both_same(&gz, 65536);
}

static void hard_links_and_modes_are_kept(void **state)
{
    struct str t = {0};

    (void)state;
    procfile(&t);
    tar_dir(&t, "app/bin", 0555);
    tar_file(&t, "app/bin/git", 0755, "a program of many names");
    for (int i = 0; i < 150; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "app/bin/git-%d", i);
        tar_hardlink(&t, name, "app/bin/git");
    }
    tar_dir(&t, "app/secret", 0);
    tar_file(&t, "app/secret/x", 0, "x");
    tar_hardlink(&t, "app/Procfile2", "app/Procfile");
    tar_file(&t, "app/bin/git", 0700, "replaced: the links keep the old one");
    tar_file(&t, "app/empty", 0644, "");
    tar_symlink(&t, "app/dangling", "../../../nowhere");
    struct str gz = pack(&t);
    both_same(&gz, 65536);
}

/* The Procfile is read back from the image, where holes and hard links have ended up. */
static void the_procfile_may_be_a_link_or_have_holes(void **state)
{
    struct str t = {0}, records = {0};

    (void)state;
    tar_file(&t, "app/etc/Procfile", 0644, "web: true\n");
    tar_hardlink(&t, "app/Procfile", "app/etc/Procfile");
    struct str gz = pack(&t);
    both_same(&gz, 65536);

    pax_record(&records, "GNU.sparse.size", "20000", 5);
    pax_record(&records, "GNU.sparse.numblocks", "1", 1);
    pax_record(&records, "GNU.sparse.map", "0,10", 4);
    tar_pax(&t, 'x', &records);
    tar_file(&t, "app/Procfile", 0644, "web: true\n");
    gz = pack(&t);
    int status, image = new_image(), dir = new_dir();
    struct role_result one = roles_image(gz.data, gz.len, 4096, image, &limits, &status);
    struct role_result two = roles_dir(gz.data, gz.len, 4096, dir, &limits);
    assert_int_equal(one.r, two.r);
    assert_string_equal(one.e.text, two.e.text);
    assert_int_equal(one.o.types.n_types, two.o.types.n_types);
    assert_int_equal(one.o.types.n_warnings, two.o.types.n_warnings);
    unpack_outcome_done(&one.o);
    unpack_outcome_done(&two.o);
    close(image);
    close(dir);
    str_done(&gz);
}

/* A Procfile and a .release that are no more than they may be, one byte less, and one more. */
static void texts_are_read_up_to_their_limit(void **state)
{
    struct str t = {0};

    (void)state;
    for (size_t len = PROCFILE_MAX_BYTES - 1; len <= PROCFILE_MAX_BYTES + 1; len++) {
        char *text = malloc(len + 1);

        memset(text, '#', len);
        text[len] = '\0';
        memcpy(text, "web: true\n", 10);
        tar_file(&t, "app/Procfile", 0644, text);
        struct str gz = pack(&t);
        int status, image = new_image();
        struct role_result res = roles_image(gz.data, gz.len, 65536, image, &limits, &status);
        close(image);
        if (len <= PROCFILE_MAX_BYTES)
            assert_fine("image", &res);
        else
            assert_failed(&res, -EINVAL, "procfile", "Procfile: over the limit of 2097152 bytes",
                          FAULT_APP);
        unpack_outcome_done(&res.o);
        str_done(&gz);
        free(text);
    }
}

/* What tar(1) makes of names that a header does not hold, of holes, of large and of small files,
 * in all formats. */
static void real_tars_give_one_tree(void **state)
{
    static const char *const tars[] = {"tar --format=gnu -cz",
                                       "tar --format=pax -cz",
                                       "tar --format=ustar --exclude='*long*' --exclude='*old' -cz",
                                       "tar --format=gnu --sparse -cz",
                                       "tar --format=pax --sparse -cz",
                                       "tar --format=pax --sparse --sparse-version=0.1 -cz"};
    char command[1600];

    (void)state;
    (void)snprintf(
        command, sizeof(command),
        "mkdir -p %s/src/app/a && cd %s/src/app && echo 'web: x' > Procfile && "
        "long=$(printf 'long%%0100d' 7) && mkdir -p $long/$long && seq 1 9 > $long/$long/$long$long && "
        "ln -s $long$long/$long/../x $long/link && ln $long/$long/$long$long $long/hard && "
        "seq 1 400000 > a/large && truncate -s 5M a/hole && seq 1 99999 >> a/hole && "
        "truncate -s 9M a/hole && truncate -s 1M a/nothing && "
        "for i in $(seq 1 100); do seq 1 $((i * 27)) > a/f$i; done && "
        "head -c 4096 a/large > a/block && head -c 4097 a/large > a/block1 && "
        "head -c 1048576 a/large > a/mega && touch -d '1969-07-20 20:17:40.5' a/old && "
        "touch -d '2100-01-01 00:00:00.123456789' a/new && mkfifo ../fifo && chmod 555 a",
        base, base);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof(tars) / sizeof(tars[0]); i++) {
        scoped_free char *data = NULL;
        struct str gz = {0};
        struct err e = ERR_INIT;
        size_t len;

        (void)snprintf(command, sizeof(command), "cd %s/src && %s -f ../s.tgz ./app", base,
                       tars[i]);
        assert_int_equal(system(command), 0);
        assert_int_equal(file_read(AT_FDCWD, in_base("s.tgz"), 64 << 20, &data, &len, &e), 0);
        str_add_n(&gz, data, len);
        both_same(&gz, 30000);
    }
}

#define MANY 200000

/* A child writes a slug of N files into the file NAME. */
static void make_many(const char *name, int n)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct str t = {0}, gz = {0};
        struct err e = ERR_INIT;

        t.max = gz.max = 1u << 30;
        procfile(&t);
        for (int i = 1; i < n; i++) {
            char path[80];

            (void)snprintf(path, sizeof(path), "app/node_modules/%d/%d.js", i / 100, i);
            tar_header(&t, path, '0', 0644, NULL, i % 4 == 0 ? 5 : 0);
            if (i % 4 == 0)
                tar_data(&t, "text\n", 5);
        }
        gz = pack(&t);
        _exit(file_write_atomic(AT_FDCWD, in_base(name), gz.data, gz.len, 0600, &e) < 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void two_hundred_thousand_files_are_fine(void **state)
{
    scoped_free char *data = NULL;
    struct err e = ERR_INIT;
    char command[400];
    size_t len;
    /* All of them once in a check is enough: as root. */
    int n = SANITIZED || geteuid() != 0 ? MANY / 10 : MANY, status;

    (void)state;
    make_many("many.tgz", n);
    assert_int_equal(file_read(AT_FDCWD, in_base("many.tgz"), 64 << 20, &data, &len, &e), 0);
    int image = new_image(), dir = new_dir();
    struct role_result one = roles_image(data, len, 65536, image, &limits, &status);
    assert_fine("image", &one);
    assert_int_equal(status, 0);
    assert_int_equal(one.o.counts.entries, n);
    assert_int_equal(image_fsck(image), 0);
    struct role_result two = roles_dir(data, len, 65536, dir, &limits);
    assert_fine("directory", &two);
    (void)snprintf(command, sizeof(command), "[ $(find %s/top/app -type f | wc -l) = %d ]", base,
                   n);
    assert_int_equal(system(command), 0);
    close(image);
    close(dir);
    unpack_outcome_done(&one.o);
    unpack_outcome_done(&two.o);
}

/* --- which flaw is told ------------------------------------------------------------------------
 */

/* The role `image` refuses an entry while unpack is far ahead of it, at a flaw of the gzip file:
 * the first is told, as by the fetch in one process. */
static void the_first_flaw_is_told(void **state)
{
    struct str t = {0};
    size_t len = 4u << 20;
    scoped_free char *noise = malloc(len + 1);

    (void)state;
    for (size_t i = 0; i < len; i++)
        noise[i] = (char)('a' + (i * 0x9e3779b97f4a7c15u >> 32) % 16);
    noise[len] = '\0';
    procfile(&t);
    tar_symlink(&t, "app/out", "/etc");
    tar_file(&t, "app/out/x", 0644, "x");
    tar_file(&t, "app/noise", 0644, noise);
    struct str gz = pack(&t);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 10; k++) {
            int status, image = new_image();
            struct role_result res = roles_image(gz.data, gz.len, 65536, image, &limits, &status);

            assert_failed(&res, -EBADMSG, "archive", "app/out/x: goes through a symbolic link",
                          FAULT_APP);
            assert_int_not_equal(status, 0);
            close(image);
        }
        gz.data[gz.len - 6] ^= 1; /* the second time its checksum is wrong too */
    }
    str_done(&gz);
    procfile(&t); /* the control: without the first flaw the second is told */
    tar_file(&t, "app/noise", 0644, noise);
    gz = pack(&t);
    gz.data[gz.len - 6] ^= 1;
    int status, image = new_image();
    struct role_result res = roles_image(gz.data, gz.len, 65536, image, &limits, &status);
    assert_failed(&res, -EBADMSG, "gzip", "its checksum is wrong", FAULT_APP);
    close(image);
    str_done(&gz);
}

static void each_limit_is_named(void **state)
{
    struct str t = {0};
    int status;

    (void)state;
    procfile(&t);
    struct str gz = pack(&t);
    limits.compressed = gz.len;
    int image = new_image();
    struct role_result res = roles_image(gz.data, gz.len, 10, image, &limits, &status);
    assert_fine("as many bytes as may be", &res);
    close(image);
    unpack_outcome_done(&res.o);
    limits.compressed = gz.len - 1;
    image = new_image();
    res = roles_image(gz.data, gz.len, 10, image, &limits, &status);
    assert_failed(&res, -EFBIG, "download", "over the limit of", FAULT_APP);
    assert_non_null(strstr(res.e.text, "compressed bytes"));
    close(image);
    str_done(&gz);
}

/* --- what fails around it ----------------------------------------------------------------------
 */

/* A slug of LEN bytes of noise: as much in the image as on the way. */
static struct str noise_slug(size_t len)
{
    scoped_free char *noise = malloc(len);
    struct str t = {0};

    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t x = i * 0x9e3779b97f4a7c15u;

        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        memcpy(noise + i, &x, 8);
    }
    procfile(&t);
    for (size_t at = 0, i = 0; at < len; at += len / 8, i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "app/noise%zu", i);
        tar_header(&t, name, '0', 0644, NULL, len / 8);
        tar_data(&t, noise + at, len / 8);
    }
    return pack(&t);
}

static void a_full_disk_is_the_platforms(void **state)
{
    struct str gz = noise_slug(4u << 20);
    int status, image = open("/dev/full", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_true(image >= 0);
    struct role_result res = roles_image(gz.data, gz.len, 65536, image, &limits, &status);
    assert_failed(&res, -ENOSPC, "disk", "No space left on device", FAULT_PLATFORM);
    assert_int_not_equal(status, 0);
    close(image);
    str_done(&gz);
}

/* Whichever write fails. */
static void a_failed_write_is_the_platforms(void **state)
{
    struct str gz = noise_slug(4u << 20);
    unsigned n = 0;

    (void)state;
    for (unsigned i = 1;; i++) {
        int status, image = new_image();

        countdown = i;
        counted = EIO;
        struct role_result res = roles_image(gz.data, gz.len, 65536, image, &limits, &status);
        close(image);
        bool done = countdown > 0;
        countdown = 0;
        if (done) {
            assert_fine("no write left that could fail", &res);
            unpack_outcome_done(&res.o);
            break;
        }
        assert_failed(&res, -EIO, "disk", "Input/output error", FAULT_PLATFORM);
        assert_int_not_equal(status, 0);
        n++;
    }
    assert_true(n >= 4);
    for (unsigned i = 1; i <= 4; i++) { /* writer_finish() makes no pwrite */
        int dir = new_dir();

        countdown = i;
        counted = ENOSPC;
        struct role_result res = roles_dir(gz.data, gz.len, 65536, dir, &limits);
        close(dir);
        assert_failed(&res, -ENOSPC, "disk", "No space left on device", FAULT_PLATFORM);
        assert_int_equal(access(in_base("top/app"), F_OK), -1);
    }
    str_done(&gz);
}

static void short_and_interrupted_writes_go_on(void **state)
{
    struct str gz = noise_slug(1u << 20);

    (void)state;
    write_max = 777;
    countdown = 3;
    counted = EINTR;
    both_same(&gz, 65536);
}

/* The role image is gone before, or dies meanwhile. */
static void without_the_role_image_it_fails(void **state)
{
    struct str gz = noise_slug(1u << 20);
    struct unpack_request rq = {.limits = limits, .image = new_image(), .dir = -1};
    struct unpack_outcome o;
    struct err e = ERR_INIT;
    int sv[2], status;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    roles_pair(sv);
    close(sv[1]);
    rq.entries = sv[0];
    pid_t feeder = feeder_start(gz.data, gz.len, 65536, &rq.in);
    assert_int_equal(unpack_run(&rq, NULL, &o, &e), -EPIPE);
    assert_string_equal(o.step, "image");
    assert_non_null(strstr(e.text, "the image's writer is gone"));
    assert_int_equal(e.fault, FAULT_PLATFORM);
    close(rq.in);
    close(rq.entries);
    close(rq.image);
    assert_int_equal(waitpid(feeder, &status, 0), feeder);
    str_done(&gz);
}

static int give_up(void *userdata, const struct slug_counts *counts, struct err *e)
{
    unsigned *calls = userdata;

    (void)counts;
    return ++*calls < 3 ? 0 : err_say(e, EPIPE, "the agent is gone");
}

/* Nothing comes, and nobody waits for it any more: the thread that reads is stopped. */
static void a_silent_pipe_can_be_left(void **state)
{
    struct unpack_request rq = {.limits = limits, .image = -1, .dir = new_dir()};
    struct unpack_outcome o;
    struct err e = ERR_INIT;
    unsigned calls = 0;
    struct unpack_watch watch = {.progress = give_up, .userdata = &calls};
    uint64_t start = clock_boot();
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], "\x1f\x8b\x08", 3), 3);
    rq.in = fds[0];
    assert_int_equal(unpack_run(&rq, &watch, &o, &e), -EPIPE);
    assert_string_equal(e.text, "the agent is gone");
    assert_int_equal(calls, 3);
    assert_true(clock_boot() - start < 100 * USEC_PER_SEC);
    close(fds[0]);
    close(fds[1]);
    close(rq.dir);
}

/* The pipe's writer dies: the archive is cut short. */
static void a_cut_pipe_is_a_cut_slug(void **state)
{
    struct str gz = noise_slug(1u << 20);
    int status, image = new_image();
    struct role_result res = roles_image(gz.data, gz.len / 2, 65536, image, &limits, &status);

    (void)state;
    assert_failed(&res, -EBADMSG, "gzip", "cut short", FAULT_APP);
    assert_int_not_equal(status, 0);
    close(image);
    str_done(&gz);
}

/* Killed at any moment: the others end by themselves, and there is nothing that looks like an
 * image. */
static void killed_at_any_moment_nothing_is_there(void **state)
{
    struct str gz = noise_slug(8u << 20);
    unsigned early = 0;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < 25; i++) {
        struct unpack_request rq = {.limits = limits, .image = new_image(), .dir = -1};
        char first[IMAGE_BLOCK] = {1}, zeros[IMAGE_BLOCK] = {0};
        int control, status;
        pid_t maker = image_start(rq.image, &limits, &rq.entries, &control);
        pid_t feeder = feeder_start(gz.data, gz.len, 8192, &rq.in);
        pid_t pid = fork();

        if (pid == 0) {
            struct unpack_outcome o;
            struct err e = ERR_INIT;

            close(control);
            _exit(unpack_run(&rq, NULL, &o, &e) < 0);
        }
        close(rq.in);
        close(rq.entries);
        (void)usleep(i * i * 100);
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        early += WIFSIGNALED(status) ? 1 : 0;
        assert_int_equal(waitpid(feeder, &status, 0), feeder); /* its pipe has broken */
        if (image_end(maker, control, false) == 0)
            fail_msg("an image without its unpack");
        ssize_t n = pread(rq.image, first, sizeof(first), 0);
        assert_true(n >= 0);
        assert_memory_equal(first, zeros, (size_t)n);
        close(rq.image);
    }
    assert_true(early > 0);
    str_done(&gz);
}

/* --- memory ------------------------------------------------------------------------------------
 */

/* A gzip file that a child writes into a pipe as it makes it. */
struct gz_out {
    z_stream z;
    int fd;
    struct str part; /* of the tar */
};

static void gz_flush(struct gz_out *g, int how)
{
    static char out[65536];

    g->z.next_in = (Bytef *)g->part.data;
    g->z.avail_in = (uInt)g->part.len;
    do {
        g->z.next_out = (Bytef *)out;
        g->z.avail_out = sizeof(out);
        (void)deflate(&g->z, how);
        if (fd_write_full(g->fd, out, sizeof(out) - g->z.avail_out) < 0)
            _exit(0); /* it has had enough */
    } while (g->z.avail_out == 0);
    g->part.len = 0;
}

static pid_t maker_start(void (*make)(struct gz_out *g), int *ret_pipe)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct gz_out g = {.fd = fds[1]};

        close(fds[0]);
        (void)deflateInit2(&g.z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
        make(&g);
        tar_end(&g.part);
        gz_flush(&g, Z_FINISH);
        _exit(0);
    }
    close(fds[1]);
    *ret_pipe = fds[0];
    return pid;
}

static void make_five_million(struct gz_out *g)
{
    procfile(&g->part);
    for (int i = 0; i < 5000000; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "app/d%d/f%d", i / 1000, i);
        tar_file(&g->part, name, 0644, "");
        if (g->part.len > 60000)
            gz_flush(g, Z_NO_FLUSH);
    }
}

/* Headers of nearly the most that is let through, for each of 40 entries. */
static void make_huge_headers(struct gz_out *g)
{
    scoped_free char *value = malloc(900001);

    procfile(&g->part);
    memset(value, 'x', 900000);
    value[900000] = '\0';
    for (int i = 0; i < 40; i++) {
        tar_pax_one(&g->part, "LIBARCHIVE.xattr.user.x", value);
        tar_file(&g->part, "app/x", 0644, "x");
        gz_flush(g, Z_NO_FLUSH);
    }
}

/* A map of as many holes as fit into the most that headers may have. */
static void make_huge_maps(struct gz_out *g)
{
    struct str map = {0}, records = {0};
    int n = 120000;

    procfile(&g->part);
    str_addf(&map, "%d\n", n);
    for (int i = 0; i < n; i++)
        str_addf(&map, "%d\n0\n", i < 9 ? i : 9);
    while (map.len % 512)
        str_add(&map, "\n");
    for (int i = 0; i < 10; i++) {
        pax_record(&records, "GNU.sparse.major", "1", 1);
        pax_record(&records, "GNU.sparse.minor", "0", 1);
        pax_record(&records, "GNU.sparse.realsize", "10", 2);
        tar_pax(&g->part, 'x', &records);
        tar_header(&g->part, "app/s", '0', 0644, NULL, map.len);
        tar_data(&g->part, map.data, map.len);
        gz_flush(g, Z_NO_FLUSH);
    }
}

/* Both texts as large as they may be. */
static void make_huge_texts(struct gz_out *g)
{
    scoped_free char *text = malloc(PROCFILE_MAX_BYTES + 1);

    for (int i = 0; i < 2; i++) {
        size_t len = 0;

        for (int k = 0; len < PROCFILE_MAX_BYTES - 120000; k++) {
            len += (size_t)sprintf(text + len, i ? "  t%d: \"" : "t%d: ", k + i * 400);
            memset(text + len, 'x', 100000);
            len += 100000;
            len += (size_t)sprintf(text + len, i ? "\"\n" : "\n");
            if (i && k == 0) {
                memcpy(text, "default_process_types:\n", 23);
                len = 23;
            }
        }
        tar_file(&g->part, i ? "app/.release" : "app/Procfile", 0644, text);
        gz_flush(g, Z_NO_FLUSH);
    }
}

/* The peak memory in kB of unpack with the slug that MAKE makes. *RET: what came of it. */
static long peak_of(void (*make)(struct gz_out *g), char *ret, size_t cap)
{
    struct unpack_request rq = {.limits = limits, .image = new_image(), .dir = -1};
    struct rusage usage;
    int control, status, says[2];
    pid_t image = image_start(rq.image, &limits, &rq.entries, &control);
    pid_t maker = maker_start(make, &rq.in);

    assert_int_equal(pipe2(says, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct unpack_outcome o;
        struct err e = ERR_INIT;

        if (unpack_run(&rq, NULL, &o, &e) == 0)
            (void)snprintf(e.text, sizeof(e.text), "ok: %zu types", o.types.n_types);
        _exit(fd_write_full(says[1], e.text, strlen(e.text)) < 0);
    }
    close(says[1]);
    close(rq.in);
    close(rq.entries);
    close(rq.image);
    ssize_t n = fd_read_full(says[0], ret, cap - 1);
    ret[n > 0 ? n : 0] = '\0';
    close(says[0]);
    assert_int_equal(wait4(pid, &status, 0, &usage), pid);
    assert_int_equal(status, 0);
    (void)image_end(image, control, false);
    assert_int_equal(waitpid(maker, &status, 0), maker);
    return usage.ru_maxrss;
}

static void memory_is_bounded(void **state)
{
    static const struct {
        void (*make)(struct gz_out *g);
        const char *says;
    } cases[] = {
        {make_five_million, "over the limit of 500000 entries"},
        {make_huge_headers, "ok: 1 types"},
        {make_huge_maps, "ok: 1 types"},
        {make_huge_texts, "ok: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char says[ERR_TEXT_MAX];
        long peak = peak_of(cases[i].make, says, sizeof(says));

        if (!strstr(says, cases[i].says))
            fail_msg("%s", says);
        print_message("%s: %ld kB\n", says, peak);
        if (!SANITIZED && peak > MEMORY_MAX_KB)
            fail_msg("%s: %ld kB of memory", says, peak);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, base_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_is_bounded), /* first: a child's memory is its parent's, to begin with */
        TEST(several_members_are_one_slug),
        TEST(the_root_may_hold_app_and_the_procfile_last),
        TEST(hard_links_and_modes_are_kept),
        TEST(the_procfile_may_be_a_link_or_have_holes),
        TEST(texts_are_read_up_to_their_limit),
        TEST(real_tars_give_one_tree),
        TEST(two_hundred_thousand_files_are_fine),
        TEST(the_first_flaw_is_told),
        TEST(each_limit_is_named),
        TEST(a_full_disk_is_the_platforms),
        TEST(a_failed_write_is_the_platforms),
        TEST(short_and_interrupted_writes_go_on),
        TEST(without_the_role_image_it_fails),
        TEST(a_silent_pipe_can_be_left),
        TEST(a_cut_pipe_is_a_cut_slug),
        TEST(killed_at_any_moment_nothing_is_there),
    };

    (void)umask(022);
    return cmocka_run_group_tests_name("unpack_role", tests, NULL, NULL);
}
