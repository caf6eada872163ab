/* The real dynod-fetch in its roles, as dynod starts them: unprivileged, confined, with pipes and
 * sockets between them. */
#include "base/fdio.h"
#include "base/name.h"
#include "fetchrun.h"
#include "slug/pack.h"
#include "tarball.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

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

#define RATIO 1000000 /* one slug here is nearly all zeros */

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
    ask(&c.unpack, json_pack("{s:s,s:{s:i}}", "to", "directory", "limits", "ratio", RATIO), fds, 2);
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
    ask(&c.unpack, json_pack("{s:s,s:{s:i}}", "to", "image", "limits", "ratio", RATIO), of_unpack,
        3);
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

static void write_file(const char *name, const struct str *s)
{
    struct err e = ERR_INIT;

    assert_int_equal(file_write_atomic(AT_FDCWD, in_base(name), s->data, s->len, 0644, &e), 0);
}

/* The two errors of NAME into a directory, DIGEST asked for unless NULL. STEP of download's NULL:
 * it has none. */
static void assert_refused(const char *name, const char *digest, const char *of_unpack,
                           const char *of_download, const char *text)
{
    scoped_fd top = make_top();
    scoped(crew_done) struct crew c = fetch_tree(name, digest, top);

    assert_error(c.unpacked, of_unpack, "app", of_download ? "" : text);
    if (of_download)
        assert_error(c.downloaded, of_download, "platform", text);
    assert_int_equal(access(in_base("top/app"), F_OK), -1);
}

#define ZERO_DIGEST "0000000000000000000000000000000000000000000000000000000000000000"

static void a_bad_archive_is_unpacks_to_tell(void **state)
{
    scoped(str_done) struct str s = {0};

    (void)state;
    str_add(&s, "\x1f\x8b but no more than that");
    write_file("bad.tgz", &s);
    assert_refused("bad.tgz", NULL, "gzip", NULL, "gzip");
    str_done(&s);
    gzip_add(&s, "no tar", 6);
    write_file("bad.tgz", &s);
    assert_refused("bad.tgz", NULL, "archive", NULL, "tar");
}

/* Whatever the archive is, that it is not the one that was asked for says it better. */
static void the_digest_is_the_truer_message(void **state)
{
    scoped(str_done) struct str s = {0};
    scoped_free char *slug = NULL;
    struct err e = ERR_INIT;
    size_t len;

    (void)state;
    str_add(&s, "\x1f\x8b but no more than that");
    write_file("bad.tgz", &s);
    assert_refused("bad.tgz", packed.digest.hex, "gzip", "digest", "Checksum does not match");
    str_done(&s);
    gzip_add(&s, "no tar", 6);
    write_file("bad.tgz", &s);
    assert_refused("bad.tgz", ZERO_DIGEST, "archive", "digest", "Checksum does not match");
    str_done(&s);
    assert_int_equal(file_read(AT_FDCWD, in_base("slug.tgz"), 64 << 20, &slug, &len, &e), 0);
    str_add_n(&s, slug, len);
    s.data[len / 2] ^= 1; /* damaged on the way: not the archive's fault */
    write_file("bad.tgz", &s);
    assert_refused("bad.tgz", packed.digest.hex, "gzip", "digest", "Checksum does not match");
    s.data[len / 2] ^= 1;
    str_add(&s, "garbage"); /* as it was asked for, garbage and all */
    write_file("bad.tgz", &s);
    assert_refused("bad.tgz", NULL, "gzip", NULL, "gzip");
}

static void a_wrong_digest_is_r17(void **state)
{
    scoped_fd top = make_top();
    scoped(crew_done) struct crew c = fetch_tree("slug.tgz", ZERO_DIGEST, top);
    const json_t *error = json_object_get(c.downloaded, "error");
    char text[300];

    (void)state;
    (void)snprintf(text, sizeof(text),
                   "Checksum does not match expected value. Expected: SHA256:%s Actual: SHA256:%s",
                   ZERO_DIGEST, packed.digest.hex);
    assert_string_equal(json_str(error, "text", ""), text);
    assert_error(c.downloaded, "digest", "platform", text);
    assert_string_equal(json_str(error, "expected", ""), ZERO_DIGEST);
    assert_string_equal(json_str(error, "actual", ""), packed.digest.hex);
    (void)ok_of(c.unpacked); /* it knows no digest: who publishes looks at both */
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
        {"download", "{\"mirrors\":[\"https://h/\"],\"limits\":[]}", "\"limits\""},
        {"download", "{\"mirrors\":[\"https://h/\"],\"allow_http\":1}", "\"allow_http\""},
        {"download", "{\"mirrors\":[\"file:///x\"]}", "came without its file"},
        {"unpack", "{\"to\":\"directory\",\"limits\":[]}", "\"limits\""},
        {"unpack", "{\"to\":\"directory\",\"limits\":{\"entries\":0}}", "\"entries\""},
        {"unpack", "{\"to\":\"directory\",\"limits\":{\"depth\":5000}}", "\"depth\""},
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
        scoped_fd top = strstr(cases[i].request, "limits") ? make_top() : spool_new();
        const int fds[] = {unpack ? pipe[0] : spool, unpack ? top : pipe[1], spool};
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

static void bad_addresses_are_the_operators(void **state)
{
    static const struct {
        const char *url, *text;
    } cases[] = {
        {"http://u:secret@h/x?sig=secret", "http://h/x: plain http is not allowed"},
        {"ftp://h/x", "not a scheme"},
        {"no url", "not a URL"},
        {"https://", "not a URL"},
        {"https://h:99999/", "not a URL"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scoped_fd spool = spool_new();
        struct fetch_run f = {0};
        int pipe[2];

        assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
        const int fds[] = {spool, pipe[1]};
        start(&f, "download");
        ask(&f, json_pack("{s:[s]}", "mirrors", cases[i].url), fds, 2);
        scoped(json_freep) json_t *result = end(&f);
        assert_error(result, "http", "operator", cases[i].text);
        scoped_free char *all = json_dumps(result, 0);
        assert_null(strstr(all, "secret"));
        close(pipe[0]);
        close(pipe[1]);
    }
}

/* Started by hand as ARGV says, on what is no socket. */
static void assert_usage(char *const argv[])
{
    scoped_fd bin = fetch_binary();
    int out[2], status;
    char text[200] = "", *envp[] = {NULL};

    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
        (void)dup2(out[1], 2);
        (void)fexecve(bin, argv, envp);
        _exit(98);
    }
    close(out[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 2);
    assert_true(fd_read_full(out[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "usage:"));
    close(out[0]);
}

static void without_a_role_or_a_socket_it_tells_its_use(void **state)
{
    static char name[] = "dynod-fetch", role[] = "unpack", other[] = "whole";

    (void)state;
    assert_usage((char *[]){name, NULL});
    assert_usage((char *[]){name, role, NULL});
    assert_usage((char *[]){name, other, NULL});
    assert_usage((char *[]){name, role, role, NULL});
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
    for (int i = 0; i < 6000; i++, (void)usleep(10000)) {
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
    static const char *const lines[] = {"NoNewPrivs:\t1\n",
                                        "Seccomp:\t2\n",
                                        "CapPrm:\t0000000000000000\n",
                                        "CapEff:\t0000000000000000\n",
                                        "CapInh:\t0000000000000000\n",
                                        "CapAmb:\t0000000000000000\n"};
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

/* Both at work: unpack waits for a pipe that stays open, download for one that nobody reads. */
static void without_their_agent_they_end(void **state)
{
    struct fetch_run f = {0}, g = {0};
    scoped_fd top = make_top();
    scoped_fd spool = spool_new();
    scoped_fd file = memfd_create("slug", MFD_CLOEXEC);
    struct err e = ERR_INIT;
    struct frame frame;
    int pipe[2];

    (void)state;
    assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
    assert_int_equal(ftruncate(file, 32 << 20), 0);
    const int of_unpack[] = {pipe[0], top}, of_download[] = {spool, pipe[1], file};
    start(&f, "unpack");
    ask(&f, json_pack("{s:s}", "to", "directory"), of_unpack, 2);
    assert_int_equal(fetch_frame(&f, &frame, &e), 1); /* it is at work */
    frame_done(&frame);
    fetch_wait(&f);                   /* closes our end first */
    assert_true(WIFEXITED(f.status)); /* and not by a signal */
    start(&g, "download");
    ask(&g, json_pack("{s:[s],s:[i]}", "mirrors", "file:///x", "files", 0), of_download, 3);
    assert_int_equal(fetch_frame(&g, &frame, &e), 1);
    frame_done(&frame);
    fetch_wait(&g);
    assert_true(WIFEXITED(g.status));
    close(pipe[0]);
    close(pipe[1]);
}

/* Case 13 of the battery: whenever it dies, `app` is whole or not there. */
static void killed_at_any_time_it_leaves_no_half_slug(void **state)
{
    int whole = 0;

    (void)state;
    for (int i = 0; i < 25; i++) {
        struct timespec t = {.tv_nsec = 2000000L * i};
        scoped_fd top = make_top();
        scoped_fd slug = open(in_base("slug.tgz"), O_RDONLY | O_CLOEXEC);
        const int fds[] = {slug, top};
        struct fetch_run f = {0};
        char command[600];

        start(&f, "unpack");
        ask(&f, json_pack("{s:s}", "to", "directory"), fds, 2);
        (void)nanosleep(&t, NULL);
        (void)kill(f.pid, SIGKILL);
        fetch_wait(&f);
        if (access(in_base("top/app"), F_OK) < 0)
            continue;
        whole++;
        (void)snprintf(command, sizeof(command), "diff -r %s/d %s/top/app", base, base);
        assert_int_equal(system(command), 0);
    }
    assert_true(whole < 25); /* some were killed before */
}

static int write_proc(const char *path, const char *text)
{
    scoped_fd fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 ? -1 : fd_write_full(fd, text, strlen(text));
}

/* A mount namespace, and for a plain user the user namespace that it takes. */
static int own_mounts(void)
{
    char uids[64], gids[64];

    (void)snprintf(uids, sizeof(uids), "%u %u 1", geteuid(), geteuid());
    (void)snprintf(gids, sizeof(gids), "%u %u 1", getegid(), getegid());
    if (geteuid() == 0)
        return unshare(CLONE_NEWNS);
    if (unshare(CLONE_NEWNS | CLONE_NEWUSER) < 0 ||
        write_proc("/proc/self/setgroups", "deny") < 0 ||
        write_proc("/proc/self/uid_map", uids) < 0)
        return -1;
    return write_proc("/proc/self/gid_map", gids);
}

/* Case 14: on a disk of 1 MB. */
static int on_a_small_disk(void)
{
    struct fetch_run f = {0};

    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("small", in_base("top"), "tmpfs", 0, "size=1m,mode=0777") < 0)
        return 77;
    int top = open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int fds[] = {open(in_base("slug.tgz"), O_RDONLY | O_CLOEXEC), top};
    struct err e = ERR_INIT;
    json_t *request = json_pack("{s:s}", "to", "directory");
    if (fetch_start_role(&f, "unpack", 1) < 0 || frame_send(f.conn, request, fds, 2, &e) < 0)
        return 1;
    json_t *result = fetch_result(&f);
    const json_t *error = json_object_get(result, "error");
    fetch_wait(&f);
    if (json_int(error, "errno", 0) != ENOSPC)
        (void)dprintf(2, "# %s\n", json_str(error, "text", "no error"));
    return !strcmp(json_str(error, "step", ""), "disk") &&
                   !strcmp(json_str(error, "fault", ""), "platform") &&
                   json_int(error, "errno", 0) == ENOSPC && access(in_base("top/app"), F_OK) < 0
               ? 0
               : 2;
}

static void a_full_disk_is_the_platforms(void **state)
{
    int status;

    (void)state;
    close(make_top());
    pid_t pid = fork();
    if (pid == 0)
        _exit(own_mounts() < 0 ? 77 : on_a_small_disk());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == 77)
        skip(); /* no mounts for us here */
    assert_int_equal(status, 0);
}

#define RSS_MAX_KB 65536 /* of the three together */

/* 150,000 entries and 40 MB of headers in one slug. */
static void make_many(struct str *gz)
{
    static char comment[900000];
    struct str t = {0}, records = {0};

    memset(comment, 'x', sizeof(comment));
    tar_file(&t, "app/Procfile", 0644, "web: x\n");
    for (int i = 0; i < 45; i++) {
        pax_record(&records, "comment", comment, sizeof(comment));
        tar_pax(&t, 'x', &records);
        tar_file(&t, "app/x", 0644, "");
        if (i == 22)
            gzip_add(gz, t.data, t.len), str_done(&t);
    }
    gzip_add(gz, t.data, t.len);
    str_done(&t);
    for (int i = 0; i < 15000; i++)
        tar_dir(&t, i % 2 ? "app/a" : "app/b", 0755);
    for (int i = 0; i < 10; i++)
        gzip_add(gz, t.data, t.len);
    str_done(&t);
    tar_end(&t);
    gzip_add(gz, t.data, t.len);
    str_done(&t);
}

/* Memory does not follow what is in a slug. */
static void memory_is_bounded(void **state)
{
    scoped_fd image = open(in_base("image"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    scoped(str_done) struct str gz = {0};

    (void)state;
    make_many(&gz);
    write_file("many.tgz", &gz);
    scoped(crew_done) struct crew c = fetch_image("many.tgz", NULL, image);
    assert_int_equal(json_int(ok_of(c.unpacked), "entries", 0), 150046);
    (void)ok_of(c.imaged);
    long all = c.download.usage.ru_maxrss + c.unpack.usage.ru_maxrss + c.image.usage.ru_maxrss;
    print_message("%ld + %ld + %ld kB\n", c.download.usage.ru_maxrss, c.unpack.usage.ru_maxrss,
                  c.image.usage.ru_maxrss);
#ifdef __SANITIZE_ADDRESS__
    (void)all; /* its shadow is not ours */
#else
    if (all > RSS_MAX_KB)
        fail_msg("%ld kB", all);
#endif
    scoped_fd top = make_top();
    scoped(crew_done) struct crew d = fetch_tree("many.tgz", NULL, top);
    assert_int_equal(json_int(ok_of(d.unpacked), "entries", 0), 150046);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_roles_make_a_tree),
        cmocka_unit_test(three_roles_make_an_image_and_a_fourth_seals_it),
        cmocka_unit_test(a_bad_archive_is_unpacks_to_tell),
        cmocka_unit_test(the_digest_is_the_truer_message),
        cmocka_unit_test(a_wrong_digest_is_r17),
        cmocka_unit_test(bad_requests_are_answered),
        cmocka_unit_test(bad_addresses_are_the_operators),
        cmocka_unit_test(without_a_role_or_a_socket_it_tells_its_use),
        cmocka_unit_test(a_role_that_is_not_needed_ends),
        cmocka_unit_test(root_is_refused_in_every_role),
        cmocka_unit_test(each_runs_confined),
        cmocka_unit_test(without_their_agent_they_end),
        cmocka_unit_test(killed_at_any_time_it_leaves_no_half_slug),
        cmocka_unit_test(a_full_disk_is_the_platforms),
        cmocka_unit_test(memory_is_bounded),
    };

    return cmocka_run_group_tests_name("fetch_roles", tests, set_up, tear_down);
}
