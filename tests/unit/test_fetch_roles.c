/* The real dynod-fetch in its roles, as dynod starts them: unprivileged, confined, with pipes and
 * sockets between them. */
#include "base/fdio.h"
#include "base/name.h"
#include "fetchrun.h"
#include "slug/pack.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

static char base[200];
static struct slug_packed packed;

static const char *in_base(const char *name)
{
    static char paths[4][400];
    static int i;

    i = (i + 1) % 4;
    (void)snprintf(paths[i], sizeof(paths[i]), "%s/%s", base, name);
    return paths[i];
}

static int set_up(void **state)
{
    char command[600];
    struct err e = ERR_INIT;

    (void)state;
    (void)snprintf(base, sizeof(base), "%s/fetch-roles-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(base))
        return -1;
    (void)snprintf(command, sizeof(command),
                   "cd %s && mkdir -p d/sub && printf 'web: bin/web\nbad line\n' > d/Procfile && "
                   "for i in $(seq 100); do head -c 20000 /dev/urandom > d/sub/$i; done && "
                   "ln -s Procfile d/link",
                   base);
    if (system(command) != 0)
        return -1;
    scoped_fd dir = open(in_base("d"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped_fd out = open(in_base("slug.tgz"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return slug_pack(dir, out, &packed, &e);
}

static int tear_down(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    slug_packed_done(&packed);
    return tree_remove(AT_FDCWD, base, &e);
}

/* --- one fetch of several processes --- */

struct crew {
    struct fetch_run download, unpack, image;
    json_t *downloaded, *unpacked, *imaged; /* what each reported */
};

static void crew_done(struct crew *c)
{
    json_decref(c->downloaded);
    json_decref(c->unpacked);
    json_decref(c->imaged);
}

static void start(struct fetch_run *f, const char *role)
{
    if (fetch_start_role(f, role, 1) < 0)
        fail_msg("no dynod-fetch: build it, or set DYNOD_FETCH");
}

static void ask(struct fetch_run *f, json_t *request, const int *fds, size_t n)
{
    struct err e = ERR_INIT;

    assert_non_null(request);
    assert_int_equal(frame_send(f->conn, request, fds, n, &e), 0);
    json_decref(request);
}

static json_t *end(struct fetch_run *f)
{
    json_t *result = fetch_result(f);

    fetch_wait(f);
    if (!WIFEXITED(f->status) || WEXITSTATUS(f->status) != 0)
        fail_msg("status %#x", (unsigned)f->status);
    return result;
}

static int spool_new(void)
{
    int fd = memfd_create("spool", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* Asks for BASE/NAME, into the pipe OUT. */
static void ask_download(struct fetch_run *f, const char *name, const char *digest, int out)
{
    scoped_fd spool = spool_new();
    scoped_fd file = open(in_base(name), O_RDONLY | O_CLOEXEC);
    const int fds[] = {spool, out, file};

    assert_true(file >= 0);
    ask(f,
        json_pack("{s:[s],s:[i],s:s*}", "mirrors", "file:///slug.tgz", "files", 0, "digest",
                  digest),
        fds, 3);
}

/* Into a directory. */
static struct crew fetch_tree(const char *name, const char *digest, int top)
{
    struct crew c = {0};
    int pipe[2];

    assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
    start(&c.download, "download");
    start(&c.unpack, "unpack");
    const int fds[] = {pipe[0], top};
    ask(&c.unpack, json_pack("{s:s}", "to", "directory"), fds, 2);
    ask_download(&c.download, name, digest, pipe[1]);
    close(pipe[0]);
    close(pipe[1]);
    c.unpacked = end(&c.unpack);
    c.downloaded = end(&c.download);
    return c;
}

/* Into an image, whose metadata a third writes. */
static struct crew fetch_image(const char *name, const char *digest, int image)
{
    struct crew c = {0};
    int pipe[2], entries[2];

    assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, entries), 0);
    start(&c.image, "image");
    start(&c.unpack, "unpack");
    start(&c.download, "download");
    const int of_image[] = {entries[1], image}, of_unpack[] = {pipe[0], image, entries[0]};
    ask(&c.image, json_pack("{s:{s:i,s:i}}", "image", "uid", 1000, "gid", 1000), of_image, 2);
    ask(&c.unpack, json_pack("{s:s}", "to", "image"), of_unpack, 3);
    ask_download(&c.download, name, digest, pipe[1]);
    for (int i = 0; i < 2; i++) {
        close(pipe[i]);
        close(entries[i]);
    }
    c.unpacked = end(&c.unpack);
    c.downloaded = end(&c.download);
    if (json_object_get(c.unpacked, "ok"))
        ask(&c.image, json_pack("{s:{s:s}}", "finish", "digest", packed.digest.hex), NULL, 0);
    c.imaged = end(&c.image);
    return c;
}

static const json_t *ok_of(const json_t *result)
{
    const json_t *ok = json_object_get(result, "ok");

    if (!ok)
        fail_msg("%s", json_str(json_object_get(result, "error"), "text", "no result"));
    return ok;
}

static void assert_error(const json_t *result, const char *step, const char *fault,
                         const char *text)
{
    const json_t *error = json_object_get(result, "error");

    assert_non_null(error);
    assert_string_equal(json_str(error, "step", ""), step);
    assert_string_equal(json_str(error, "fault", ""), fault);
    if (!strstr(json_str(error, "text", ""), text))
        fail_msg("'%s' is not in '%s'", text, json_str(error, "text", ""));
}

static int make_top(void)
{
    struct err e = ERR_INIT;

    assert_int_equal(tree_remove(AT_FDCWD, in_base("top"), &e), 0);
    assert_int_equal(mkdir(in_base("top"), 0700), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(in_base("top"), FETCH_UID, FETCH_UID), 0);
    return open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void assert_fetched(const struct crew *c)
{
    const json_t *down = ok_of(c->downloaded), *up = ok_of(c->unpacked);

    assert_string_equal(json_str(down, "digest", ""), packed.digest.hex);
    assert_int_equal(json_int(down, "compressed", 0), packed.compressed);
    assert_int_equal(json_int(down, "mirror", -1), 0);
    assert_true(json_int(json_object_get(down, "ms"), "wait", -1) >= 0);
    assert_int_equal(json_int(up, "compressed", 0), packed.compressed);
    assert_int_equal(json_int(up, "entries", 0), packed.entries);
    const json_t *type = json_array_get(json_object_get(up, "types"), 0);
    assert_string_equal(json_str(type, "command", ""), "bin/web");
    assert_int_equal(json_array_size(json_object_get(up, "warnings")), 1);
}

static void two_roles_make_a_tree(void **state)
{
    char command[600];
    scoped_fd top = make_top();
    scoped(crew_done) struct crew c = fetch_tree("slug.tgz", packed.digest.hex, top);

    (void)state;
    assert_fetched(&c);
    (void)snprintf(command, sizeof(command), "diff -r %s/d %s/top/app", base, base);
    assert_int_equal(system(command), 0);
}

static void three_roles_make_an_image_and_a_fourth_seals_it(void **state)
{
    scoped_fd image = open(in_base("image"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    scoped(crew_done) struct crew c = fetch_image("slug.tgz", packed.digest.hex, image);
    struct fetch_run f = {0};
    struct stat st;

    (void)state;
    assert_fetched(&c);
    assert_int_equal(fstat(image, &st), 0);
    assert_int_equal(json_int(ok_of(c.imaged), "bytes", 0), st.st_size);
    assert_int_equal(json_int(ok_of(c.imaged), "inodes", 0), packed.entries);
    start(&f, "seal");
    ask(&f, json_pack("{s:{}}", "seal"), &image, 1);
    scoped(json_freep) json_t *sealed = end(&f);
    assert_int_equal(json_int(ok_of(sealed), "bytes", 0), st.st_size);
    assert_int_equal(strlen(json_str(ok_of(sealed), "digest", "")), 64);
}

static void a_bad_archive_is_unpacks_to_tell(void **state)
{
    static const char text[] = "\x1f\x8b but no more than that";
    scoped_fd top = make_top();
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(file_write_atomic(AT_FDCWD, in_base("bad.tgz"), text, sizeof(text), 0644, &e),
                     0);
    scoped(crew_done) struct crew c = fetch_tree("bad.tgz", NULL, top);
    assert_error(c.unpacked, "gzip", "app", "");
    scoped(crew_done) struct crew d = fetch_tree("bad.tgz", packed.digest.hex, make_top());
    assert_error(d.downloaded, "digest", "platform", "Checksum does not match");
}

static void bad_requests_are_answered(void **state)
{
    static const struct {
        const char *role, *request, *text;
    } cases[] = {
        {"download", "{}", "\"mirrors\" is missing"},
        {"download", "{\"mirrors\":[]}", "\"mirrors\""},
        {"download", "{\"mirrors\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]}",
         "\"mirrors\""},
        {"download", "{\"mirrors\":[7]}", "\"mirrors\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"files\":[1]}", "\"files\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"files\":[0,0]}", "\"files\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"digest\":\"zz\"}", "\"digest\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"stores\":[]}", "\"stores\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"ca_file\":\"\"}", "\"ca_file\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"anew\":1}", "\"anew\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"limits\":{\"connections\":65}}",
         "\"connections\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"limits\":{\"stall_ms\":0}}", "\"stall_ms\""},
        {"unpack", "{}", "\"to\" is missing"},
        {"unpack", "{\"to\":\"directory\"}", "without a directory"},
        {"unpack", "{\"to\":\"image\"}", "without an image"},
        {"image", "{}", "image"},
        {"seal", "{}", "seal"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scoped_fd spool = spool_new();
        struct fetch_run f = {0};
        int pipe[2];

        assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
        bool unpack = !strcmp(cases[i].role, "unpack");
        const int fds[] = {unpack ? pipe[0] : spool, unpack ? spool : pipe[1], spool};
        start(&f, cases[i].role);
        ask(&f, json_loads(cases[i].request, 0, NULL), fds, strstr(cases[i].text, "image") ? 2 : 3);
        scoped(json_freep) json_t *result = end(&f);
        close(pipe[0]);
        close(pipe[1]);
        const json_t *error = json_object_get(result, "error");
        if (!error || !strstr(json_str(error, "text", ""), cases[i].text))
            fail_msg("%s %s: %s", cases[i].role, cases[i].request,
                     json_str(error, "text", "no error"));
        assert_string_equal(json_str(error, "fault", ""), "platform");
    }
}

static const char *const roles[] = {"download", "unpack", "image", "seal"};
#define N_ROLES (sizeof(roles) / sizeof(roles[0]))

static void a_role_that_is_not_needed_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ROLES; i++) {
        struct fetch_run f = {0};

        start(&f, roles[i]);
        fetch_wait(&f); /* closes our end */
        assert_true(WIFEXITED(f.status));
        assert_int_equal(WEXITSTATUS(f.status), 0);
    }
}

static void root_is_refused_in_every_role(void **state)
{
    (void)state;
    if (geteuid() != 0)
        return; /* there is no root here to refuse */
    for (size_t i = 0; i < N_ROLES; i++) {
        static const char *const requests[N_ROLES] = {"{\"mirrors\":[\"file:///x\"]}",
                                                      "{\"to\":\"directory\"}", "{}", "{}"};
        scoped_fd spool = spool_new();
        scoped_fd top = make_top();
        struct fetch_run f = {0};
        int pipe[2];

        assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
        const int of_download[] = {spool, pipe[1]}, of_unpack[] = {pipe[0], top};
        assert_int_equal(fetch_start_role(&f, roles[i], 0), 0);
        ask(&f, json_loads(requests[i], 0, NULL), i == 0 ? of_download : of_unpack, 2);
        scoped(json_freep) json_t *result = end(&f);
        assert_error(result, "sandbox", "platform", "root never opens an archive");
        close(pipe[0]);
        close(pipe[1]);
    }
}

/* Waits for LINE in the status of F: it is there before long, and stays. */
static bool has_status(const struct fetch_run *f, const char *line)
{
    char path[64], text[4096];

    (void)snprintf(path, sizeof(path), "/proc/%d/status", f->pid);
    for (int i = 0; i < 500; i++, (void)usleep(10000)) {
        scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : fd_read_full(fd, text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        if (strstr(text, line))
            return true;
    }
    return false;
}

static void each_runs_confined(void **state)
{
    static const char *const lines[] = {"NoNewPrivs:\t1\n", "Seccomp:\t2\n",
                                        "CapPrm:\t0000000000000000\n",
                                        "CapEff:\t0000000000000000\n"};
    scoped_fd top = make_top();
    int pipe[2];

    (void)state;
    assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
    for (size_t i = 0; i < N_ROLES; i++) {
        const int fds[] = {pipe[0], top};
        struct fetch_run f = {0};

        start(&f, roles[i]);
        if (!strcmp(roles[i], "unpack")) /* it waits for the pipe, which stays open here */
            ask(&f, json_pack("{s:s}", "to", "directory"), fds, 2);
        if (!strcmp(roles[i], "download")) {
            /* Nobody reads: it waits with a full pipe. */
            scoped_fd file = memfd_create("slug", MFD_CLOEXEC);
            scoped_fd spool = spool_new();
            const int with[] = {spool, pipe[1], file};

            assert_int_equal(ftruncate(file, 32 << 20), 0);
            ask(&f, json_pack("{s:[s],s:[i]}", "mirrors", "file:///x", "files", 0), with, 3);
        }
        for (size_t k = 0; k < sizeof(lines) / sizeof(lines[0]); k++)
            if (!has_status(&f, lines[k]))
                fail_msg("%s: no %s", roles[i], lines[k]);
        (void)kill(f.pid, SIGKILL);
        fetch_wait(&f);
    }
    close(pipe[0]);
    close(pipe[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_roles_make_a_tree),
        cmocka_unit_test(three_roles_make_an_image_and_a_fourth_seals_it),
        cmocka_unit_test(a_bad_archive_is_unpacks_to_tell),
        cmocka_unit_test(bad_requests_are_answered),
        cmocka_unit_test(a_role_that_is_not_needed_ends),
        cmocka_unit_test(root_is_refused_in_every_role),
        cmocka_unit_test(each_runs_confined),
    };

    return cmocka_run_group_tests_name("fetch_roles", tests, set_up, tear_down);
}
