/* The real dynod-fetch over its socket, as an unprivileged user, confined. */
#include "base/name.h"
#include "fetchrun.h"
#include "slug/cache.h"
#include "slug/pack.h"
#include "tarball.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

/* BASE/slug.tgz, of a few hundred files. */
static int set_up(void **state)
{
    char command[600];
    struct err e = ERR_INIT;

    (void)state;
    (void)snprintf(base, sizeof(base), "%s/fetch-test-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(base))
        return -1;
    (void)snprintf(command, sizeof(command),
                   "cd %s && mkdir -p d/sub && printf 'web: bin/web\\nbad line\\n' > d/Procfile && "
                   "for i in $(seq 300); do head -c 20000 /dev/urandom > d/sub/$i; done",
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

/* A fresh directory that the fetch's user owns. */
static int make_top(void)
{
    struct err e = ERR_INIT;

    assert_int_equal(tree_remove(AT_FDCWD, in_base("top"), &e), 0);
    assert_int_equal(mkdir(in_base("top"), 0700), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(in_base("top"), FETCH_UID, FETCH_UID), 0);
    return open(in_base("top"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void ask(struct fetch_run *f, json_t *request, int dir, int file)
{
    const int fds[] = {dir, file};
    struct err e = ERR_INIT;

    assert_int_equal(frame_send(f->conn, request, fds, file < 0 ? 1 : 2, &e), 0);
    json_decref(request);
}

/* Starts a fetch of BASE/NAME into a fresh directory. */
static void start(struct fetch_run *f, const char *name, const char *digest)
{
    scoped_fd top = make_top();
    scoped_fd file = open(in_base(name), O_RDONLY | O_CLOEXEC);

    assert_true(file >= 0);
    if (fetch_start(f, 1) < 0)
        fail_msg("no dynod-fetch: build it, or set DYNOD_FETCH");
    ask(f,
        json_pack("{s:s,s:s*,s:{s:i}}", "url", "file:///slug.tgz", "digest", digest, "limits",
                  "ratio", 1000000),
        top, file);
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

static void a_slug_is_fetched(void **state)
{
    scoped(procfile_done) struct procfile p = {0};
    struct fetch_run f = {0};
    struct err e = ERR_INIT;
    struct stat st;

    (void)state;
    start(&f, "slug.tgz", packed.digest.hex);
    scoped(json_freep) json_t *result = fetch_result(&f);
    fetch_wait(&f);
    assert_true(WIFEXITED(f.status));
    assert_int_equal(WEXITSTATUS(f.status), 0);
    const json_t *ok = json_object_get(result, "ok");
    if (!ok)
        fail_msg("%s", json_str(json_object_get(result, "error"), "text", "no result"));
    assert_string_equal(json_str(ok, "digest", ""), packed.digest.hex);
    assert_int_equal(json_int(ok, "compressed", 0), packed.compressed);
    assert_int_equal(json_int(ok, "unpacked", 0), packed.unpacked);
    assert_int_equal(json_int(ok, "entries", 0), packed.entries);
    assert_true(json_int(json_object_get(ok, "ms"), "write", -1) >= 0);
    assert_int_equal(slug_meta_types(ok, &p, &e), 0);
    assert_int_equal(p.n_types, 1);
    assert_string_equal(p.types[0].command, "bin/web");
    assert_string_equal(p.warnings[0], "Procfile:2: no ':'");
    assert_int_equal(stat(in_base("top/app/sub/300"), &st), 0);
    assert_int_equal(st.st_size, 20000);
    assert_int_equal(st.st_uid, geteuid() == 0 ? FETCH_UID : geteuid());
}

static void status_line(pid_t pid, const char *key, const char *value)
{
    char path[64], line[256];
    int found = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    scoped(file_closep) FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        if (!strncmp(line, key, strlen(key))) {
            found++;
            if (strcmp(line + strlen(key), value) != 0)
                fail_msg("%s", line);
        }
    assert_int_equal(found, 1);
}

static void it_runs_confined(void **state)
{
    struct fetch_run f = {0};
    struct err e = ERR_INIT;
    struct frame frame;

    (void)state;
    start(&f, "slug.tgz", NULL);
    assert_int_equal(fetch_frame(&f, &frame, &e), 1);
    assert_non_null(json_object_get(frame.json, "progress"));
    frame_done(&frame);
    /* Running still, or a zombie: its status is there until it is waited for. */
    status_line(f.pid, "NoNewPrivs:\t", "1\n");
    status_line(f.pid, "Seccomp:\t", "2\n");
    status_line(f.pid, "CapPrm:\t", "0000000000000000\n");
    status_line(f.pid, "CapEff:\t", "0000000000000000\n");
    status_line(f.pid, "CapInh:\t", "0000000000000000\n");
    status_line(f.pid, "CapAmb:\t", "0000000000000000\n");
    json_decref(fetch_result(&f));
    fetch_wait(&f);
}

static void root_never_opens_an_archive(void **state)
{
    struct fetch_run f = {0};

    (void)state;
    if (geteuid() != 0)
        return; /* there is no root here to refuse */
    scoped_fd top = make_top();
    assert_int_equal(fetch_start(&f, 0), 0);
    ask(&f, json_pack("{s:s}", "url", "file:///slug.tgz"), top, -1);
    scoped(json_freep) json_t *result = fetch_result(&f);
    fetch_wait(&f);
    assert_error(result, "sandbox", "platform", "root never opens an archive");
}

static void a_wrong_digest_is_r17(void **state)
{
    struct fetch_run f = {0};
    char zero[65];

    (void)state;
    memset(zero, '0', 64);
    zero[64] = '\0';
    start(&f, "slug.tgz", zero);
    scoped(json_freep) json_t *result = fetch_result(&f);
    fetch_wait(&f);
    assert_error(result, "digest", "platform",
                 "Checksum does not match expected value. Expected: SHA256:000");
    const json_t *error = json_object_get(result, "error");
    assert_string_equal(json_str(error, "expected", ""), zero);
    assert_string_equal(json_str(error, "actual", ""), packed.digest.hex);
    assert_int_equal(access(in_base("top/app"), F_OK), -1);
}

static void bad_requests_are_answered(void **state)
{
    static const struct {
        const char *request, *step, *fault, *text;
    } cases[] = {
        {"{}", "sandbox", "platform", "\"url\" is missing or wrong"},
        {"{\"url\":7}", "sandbox", "platform", "\"url\" is missing or wrong"},
        {"{\"url\":\"file:///x\",\"digest\":\"zz\"}", "sandbox", "platform", "\"digest\""},
        {"{\"url\":\"file:///x\",\"limits\":{\"entries\":0}}", "sandbox", "platform",
         "\"entries\""},
        {"{\"url\":\"file:///x\",\"limits\":[]}", "sandbox", "platform", "\"limits\""},
        {"{\"url\":\"file:///x\",\"allow_http\":1}", "sandbox", "platform", "\"allow_http\""},
        {"{\"url\":\"file:///x\"}", "download", "platform", "came without its file"},
        {"{\"url\":\"http://u:secret@h/x?sig=1\"}", "http", "operator",
         "http://h/x: plain http is not allowed"},
        {"{\"url\":\"ftp://h/x\"}", "http", "operator", "not a scheme"},
        {"{\"url\":\"no url\"}", "http", "operator", "not a URL"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scoped_fd top = make_top();
        struct fetch_run f = {0};

        assert_int_equal(fetch_start(&f, 1), 0);
        ask(&f, json_loads(cases[i].request, 0, NULL), top, -1);
        scoped(json_freep) json_t *result = fetch_result(&f);
        fetch_wait(&f);
        assert_error(result, cases[i].step, cases[i].fault, cases[i].text);
        assert_int_equal(WEXITSTATUS(f.status), 0);
    }
}

static void without_a_socket_it_tells_its_use(void **state)
{
    scoped_fd bin = fetch_binary();
    int out[2], status;
    char text[200] = "";

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        static char name[] = "dynod-fetch";
        char *argv[] = {name, NULL}, *envp[] = {NULL};
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

static void without_its_agent_it_ends(void **state)
{
    struct fetch_run f = {0};
    struct err e = ERR_INIT;
    struct frame frame;

    (void)state;
    start(&f, "slug.tgz", NULL);
    assert_int_equal(fetch_frame(&f, &frame, &e), 1);
    frame_done(&frame);
    fetch_wait(&f);                   /* closes our end first */
    assert_true(WIFEXITED(f.status)); /* and not by a signal */
}

/* Case 13 of the battery: whenever it dies, `app` is whole or not there. */
static void killed_at_any_time_it_leaves_no_half_slug(void **state)
{
    int whole = 0;

    (void)state;
    for (int i = 0; i < 25; i++) {
        struct timespec t = {.tv_nsec = 4000000L * i};
        struct fetch_run f = {0};
        char command[600];

        start(&f, "slug.tgz", NULL);
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
    const int dir_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("small", in_base("top"), "tmpfs", 0, "size=1m,mode=0777") < 0)
        return 77;
    int top = open(in_base("top"), dir_flags),
        file = open(in_base("slug.tgz"), O_RDONLY | O_CLOEXEC);
    const int fds[] = {top, file};
    struct err e = ERR_INIT;
    json_t *request = json_pack("{s:s}", "url", "file:///slug.tgz");
    if (fetch_start(&f, 1) < 0 || frame_send(f.conn, request, fds, 2, &e) < 0)
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

#define RSS_MAX_KB 65536

/* 150,000 entries and 40 MB of headers in one slug: memory does not follow. */
static void memory_is_bounded(void **state)
{
    static char comment[900000];
    struct str t = {0}, gz = {0}, records = {0};
    struct fetch_run f = {0};
    struct err e = ERR_INIT;

    (void)state;
    memset(comment, 'x', sizeof(comment));
    tar_file(&t, "app/Procfile", 0644, "web: x\n");
    for (int i = 0; i < 45; i++) {
        pax_record(&records, "comment", comment, sizeof(comment));
        tar_pax(&t, 'x', &records);
        tar_file(&t, "app/x", 0644, "");
        if (i == 22)
            gzip_add(&gz, t.data, t.len), str_done(&t);
    }
    gzip_add(&gz, t.data, t.len);
    str_done(&t);
    for (int i = 0; i < 15000; i++)
        tar_dir(&t, i % 2 ? "app/a" : "app/b", 0755);
    for (int i = 0; i < 10; i++)
        gzip_add(&gz, t.data, t.len);
    str_done(&t);
    tar_end(&t);
    gzip_add(&gz, t.data, t.len);
    str_done(&t);
    assert_int_equal(file_write_atomic(AT_FDCWD, in_base("many.tgz"), gz.data, gz.len, 0600, &e),
                     0);
    str_done(&gz);
    start(&f, "many.tgz", NULL);
    scoped(json_freep) json_t *result = fetch_result(&f);
    fetch_wait(&f);
    if (!json_object_get(result, "ok"))
        fail_msg("%s", json_str(json_object_get(result, "error"), "text", "no result"));
    assert_int_equal(json_int(json_object_get(result, "ok"), "entries", 0), 150046);
#ifndef __SANITIZE_ADDRESS__
    if (f.usage.ru_maxrss > RSS_MAX_KB)
        fail_msg("%ld kB", f.usage.ru_maxrss);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slug_is_fetched),
        cmocka_unit_test(it_runs_confined),
        cmocka_unit_test(root_never_opens_an_archive),
        cmocka_unit_test(a_wrong_digest_is_r17),
        cmocka_unit_test(bad_requests_are_answered),
        cmocka_unit_test(without_a_socket_it_tells_its_use),
        cmocka_unit_test(without_its_agent_it_ends),
        cmocka_unit_test(killed_at_any_time_it_leaves_no_half_slug),
        cmocka_unit_test(a_full_disk_is_the_platforms),
        cmocka_unit_test(memory_is_bounded),
    };

    return cmocka_run_group_tests_name("fetch", tests, set_up, tear_down);
}
