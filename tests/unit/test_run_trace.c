/* What a new agent makes of the state files of runs: sound, of other versions, torn, gone. The
 * dyno-inits are played by processes of this test. */
#include "core/run/run_priv.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RUN "shop.web.1.d367e2f8"

/* As 0.1.0 wrote them, before the versions had a rule: never to be edited. */
static const char v1_running[] =
    "{\"v\":1,\"id\":\"shop.web.1.d367e2f8\",\"record\":{\"app\":\"shop\",\"type\":\"web\",\"num\":1,"
    "\"generation\":1,\"release\":1,\"uid\":900000017,\"port\":20000,\"port_given\":false,\"size\":"
    "\"standard-1x\",\"oneoff\":false,\"attached\":false,\"crashes\":0,\"restarts\":0,\"command\":"
    "\"exec python3 -m http.server $PORT\"}}";
static const char v1_ended[] =
    "{\"v\":1,\"id\":\"shop.fails.1.02803774\",\"record\":{\"app\":\"shop\",\"type\":\"fails\",\"num\":1"
    ",\"generation\":1,\"release\":1,\"uid\":900000016,\"port\":0,\"port_given\":false,\"size\":"
    "\"standard-1x\",\"oneoff\":false,\"attached\":false,\"crashes\":2,\"restarts\":2,\"command\":"
    "\"sleep 1; exit 7\"},\"end\":{\"exit\":{\"cause\":\"exited\",\"fault\":\"app\",\"text\":"
    "\"exited with status 7\",\"status\":7,\"at\":1795304944389177,\"evidence\":{\"started\":true,"
    "\"wait_status\":1792,\"exit_status\":7}},\"crashes\":3,\"restarts\":2}}";
static const char identity[] =
    "{\"v\":1,\"id\":\"" RUN
    "\",\"record\":{\"app\":\"shop\",\"type\":\"web\",\"num\":1,\"generation\":7,"
    "\"of_the_future\":[1]},\"more\":{}}";
static const char of_another[] =
    "{\"v\":1,\"id\":\"shop.web.2.d367e2f8\",\"record\":{\"app\":\"shop\",\"type\":\"web\",\"num\":2}}";
static const char renamed[] =
    "{\"v\":1,\"id\":\"" RUN "\",\"record\":{\"app\":\"bank\",\"type\":\"web\",\"num\":1}}";

/* --- A place with runs, and what was told about them --- */

struct told {
    char name[300];
    char kept[RUN_KEPT_MAX];
    enum run_odd_outcome outcome;
};

struct place {
    char path[64];
    struct run_env env;
    struct told told[64];
    size_t n_told;
    struct run_trace *traces;
    size_t n;
};

static struct place place;

static void hear(void *userdata, const struct run_odd *odd)
{
    struct place *p = userdata;
    struct told *t = &p->told[p->n_told++];

    assert_true(p->n_told <= sizeof(p->told) / sizeof(p->told[0]));
    assert_true(odd->why[0] != '\0');
    (void)snprintf(t->name, sizeof(t->name), "%s", odd->name);
    (void)snprintf(t->kept, sizeof(t->kept), "%s", odd->kept);
    t->outcome = odd->outcome;
}

static int place_make(void **state)
{
    char path[128];
    struct err e = ERR_INIT;

    (void)state;
    place = (struct place){0};
    (void)snprintf(place.path, sizeof(place.path), "/tmp/test-trace-XXXXXX");
    assert_non_null(mkdtemp(place.path));
    (void)snprintf(place.env.runtime_dir, sizeof(place.env.runtime_dir), "%s", place.path);
    (void)snprintf(path, sizeof(path), "%s/run", place.path);
    assert_int_equal(mkdir(path, 0700), 0);
    place.env.run_dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/dynod-test-trace-%d", getpid());
    assert_int_equal(cgroup_tree_open(path, false, &place.env.cgroups, &e), 0);
    return 0;
}

static int place_drop(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    run_traces_free(place.traces, place.n);
    close(place.env.run_dirfd);
    assert_int_equal(cgroup_tree_remove(place.env.cgroups, &e), 0);
    cgroup_tree_freep(&place.env.cgroups);
    assert_int_equal(tree_remove(AT_FDCWD, place.path, &e), 0);
    return 0;
}

/* File NAME of run ID; TEXT NULL: only the directory. */
static void put(const char *id, const char *name, const char *text)
{
    char path[256];
    struct err e = ERR_INIT;

    (void)mkdirat(place.env.run_dirfd, id, 0700);
    if (!text)
        return;
    (void)snprintf(path, sizeof(path), "%s/%s", id, name);
    assert_int_equal(file_write_atomic(place.env.run_dirfd, path, text, strlen(text), 0600, &e), 0);
}

static bool there(const char *below)
{
    char path[RUN_KEPT_MAX + 128];

    (void)snprintf(path, sizeof(path), "%s/%s", place.path, below);
    return access(path, F_OK) == 0;
}

static void expect_text(const char *below, const char *text)
{
    char path[RUN_KEPT_MAX + 128];
    scoped_free char *found = NULL;
    struct err e = ERR_INIT;
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/%s", place.path, below);
    assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &found, &len, &e), 0);
    assert_string_equal(found, text);
}

static void look(size_t n_traces, size_t n_told)
{
    struct err e = ERR_INIT;

    run_traces_free(place.traces, place.n);
    place.traces = NULL;
    place.n = place.n_told = 0;
    if (run_traces(&place.env, &place.traces, &place.n, hear, &place, &e) < 0)
        print_error("%s\n", e.text);
    assert_int_equal(place.n, n_traces);
    assert_int_equal(place.n_told, n_told);
}

static const json_t *record_of(size_t i)
{
    const json_t *record = json_object_get(place.traces[i].record, "record");

    assert_non_null(record);
    return record;
}

/* --- A dyno-init --- */

enum manner {
    TELLS,         /* as it should */
    TELLS_NOTHING, /* it was never told */
    IS_OLD,        /* does not know INIT_WHO */
    IS_UNSEALED,   /* somebody could have written into it */
    IS_NEWER,      /* of a protocol that nobody knows yet */
    GOES,          /* dies when it is asked */
    IS_SILENT,
};

static void answer(int conn, uint32_t kind, int fd, uint32_t version)
{
    struct init_event ev = {
        .version = version, .kind = kind, .phase = INIT_PHASE_RUNNING, .pid = 2};

    (void)fd_send(conn, &ev, sizeof(ev), &fd, fd >= 0 ? 1 : 0); /* who asked may have gone */
}

static void serve(int listening, enum manner manner, const char *text)
{
    struct pollfd pfd = {.fd = listening, .events = POLLIN};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct init_request req;
    struct err e = ERR_INIT;
    int sealed = -1;

    (void)poll(&pfd, 1, -1);
    int conn = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (manner == IS_UNSEALED) {
        sealed = memfd_create("x", MFD_CLOEXEC);
        (void)!write(sealed, text, strlen(text));
    } else if (text) {
        (void)memfd_with("x", text, strlen(text), &sealed, &e);
    }
    while (manner != IS_SILENT && read(conn, &req, sizeof(req)) == sizeof(req)) {
        if (manner == GOES)
            _exit(0);
        if (req.kind == INIT_WHO && manner == IS_NEWER)
            answer(conn, INIT_IAM, sealed, INIT_PROTO_VERSION + 1);
        else if (req.kind == INIT_WHO && manner != IS_OLD)
            answer(conn, INIT_IAM, sealed, INIT_PROTO_VERSION);
        else if (req.kind == INIT_HELLO)
            answer(conn, INIT_STATE, null, INIT_PROTO_VERSION);
    }
    for (;;)
        pause();
}

/* Listens for ID in a process of its own; that one's pid. */
static pid_t dyno_init(const char *id, enum manner manner, const char *text)
{
    char path[256];
    struct err e = ERR_INIT;
    scoped_fd listening = -1;

    put(id, "", NULL);
    (void)snprintf(path, sizeof(path), "%s/run/%s/init.sock", place.path, id);
    assert_int_equal(unix_listen(path, SOCK_SEQPACKET, 0600, &listening, &e), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(listening, manner, text);
    }
    return pid;
}

/* How PID ended; it is killed if it has not. */
static bool was_killed(pid_t pid)
{
    int status = 0;

    for (int i = 0; i < 100; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        (void)usleep(2000);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return false;
}

/* --- Versions --- */

static void the_format_of_the_release_before_is_read(void **state)
{
    json_t *end = json_pack("{s:i}", "crashes", 1);
    struct err e = ERR_INIT;

    (void)state;
    put(RUN, "run.json", v1_running);
    put("shop.fails.1.02803774", "run.json", v1_ended);
    look(2, 0);
    assert_string_equal(place.traces[0].id, "shop.fails.1.02803774");
    assert_true(place.traces[0].recorded && place.traces[0].clean);
    assert_int_equal(json_int(json_object_get(place.traces[0].record, "end"), "crashes", 0), 3);
    assert_false(place.traces[1].recorded || place.traces[1].guessed);
    assert_string_equal(json_str(record_of(1), "command", ""), "exec python3 -m http.server $PORT");
    assert_int_equal(json_int(record_of(1), "port", 0), 20000);
    /* And written by this one, the release before reads it: nothing but "end" is new. */
    assert_int_equal(run_trace_record(&place.env, &place.traces[1], end, &e), 0);
    json_decref(end);
    char expected[sizeof(v1_running) + 32];
    (void)snprintf(expected, sizeof(expected), "%.*s,\"end\":{\"crashes\":1}}",
                   (int)sizeof(v1_running) - 2, v1_running);
    expect_text("run/" RUN "/run.json", expected);
}

static void what_is_not_known_is_kept(void **state)
{
    json_t *end = json_object();
    struct err e = ERR_INIT;

    (void)state;
    put(RUN, "run.json",
        "{\"v\":1,\"id\":\"" RUN "\",\"record\":{\"app\":\"a\",\"x\":[]},\"y\":null}");
    look(1, 0);
    assert_int_equal(run_trace_record(&place.env, &place.traces[0], end, &e), 0);
    json_decref(end);
    expect_text("run/" RUN "/run.json",
                "{\"v\":1,\"id\":\"" RUN
                "\",\"record\":{\"app\":\"a\",\"x\":[]},\"y\":null,\"end\":{}}");
}

static void a_later_version_is_set_aside_and_rebuilt(void **state)
{
    static const char later[] = "{\"v\":2,\"whatever\":\"it\",\"record\":{}}";

    (void)state;
    put(RUN, "run.json", later);
    pid_t pid = dyno_init(RUN, TELLS, identity);
    look(1, 1);
    assert_int_equal(place.told[0].outcome, RUN_ODD_REBUILT);
    assert_true(str_starts(place.told[0].kept, "odd/"));
    expect_text(place.told[0].kept, later);
    assert_false(place.traces[0].guessed || place.traces[0].recorded);
    assert_int_equal(json_int(record_of(0), "generation", 0), 7);
    assert_non_null(json_object_get(record_of(0), "of_the_future"));
    look(1, 0); /* sound again, without asking */
    assert_int_equal(json_int(record_of(0), "generation", 0), 7);
    assert_false(was_killed(pid));
}

static void versions_that_never_were_are_set_aside(void **state)
{
    static const char *const bad[] = {"{\"v\":0,\"record\":{}}",     "{\"v\":-1,\"record\":{}}",
                                      "{\"v\":\"1\",\"record\":{}}", "{\"record\":{}}",
                                      "{\"v\":1,\"record\":[]}",     "{\"v\":1}"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put(RUN, "run.json", bad[i]);
        look(0, 1);
        assert_int_equal(place.told[0].outcome, RUN_ODD_REMOVED);
        expect_text(place.told[0].kept, bad[i]);
        assert_false(there("run/" RUN));
    }
}

/* --- Torn files, and who can say what they said --- */

static void a_torn_file_is_rebuilt_from_dyno_init(void **state)
{
    static const char *const torn[] = {"",         "{",  "{\"v\":1,\"id\":\"shop.we",
                                       "\0\0\0\0", "[]", "{\"v\":1,\"v\":1,\"record\":{}}"};

    (void)state;
    pid_t pid = dyno_init(RUN, TELLS, identity);
    (void)was_killed(pid);
    for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
        char sock[128];

        put(RUN, "run.json", torn[i]);
        (void)snprintf(sock, sizeof(sock), "%s/run/" RUN "/init.sock", place.path);
        (void)unlink(sock);
        pid = dyno_init(RUN, TELLS, identity);
        look(1, 1);
        assert_int_equal(place.told[0].outcome, RUN_ODD_REBUILT);
        assert_int_equal(json_int(record_of(0), "generation", 0), 7);
        assert_false(was_killed(pid));
    }
}

static void a_file_that_is_none_is_rebuilt_too(void **state)
{
    char path[128];

    (void)state;
    pid_t pid = dyno_init(RUN, TELLS, identity);
    look(1, 1); /* no run.json at all */
    assert_int_equal(place.told[0].outcome, RUN_ODD_REBUILT);
    assert_string_equal(place.told[0].kept, "");
    assert_false(was_killed(pid));

    (void)snprintf(path, sizeof(path), "%s/run/" RUN "/run.json", place.path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)snprintf(path, sizeof(path), "%s/run/" RUN "/init.sock", place.path);
    assert_int_equal(unlink(path), 0);
    pid = dyno_init(RUN, TELLS, identity);
    look(1, 1);
    assert_int_equal(place.told[0].outcome, RUN_ODD_REBUILT);
    assert_true(there(place.told[0].kept));
    assert_false(was_killed(pid));
}

static void a_dead_one_still_has_its_end_reported(void **state)
{
    (void)state;
    put("shop.run.4123.0000abcd", "run.json", "{\"v\":1,\"i");
    put("shop.run.4123.0000abcd", "exit", "whatever it says");
    look(1, 1);
    assert_int_equal(place.told[0].outcome, RUN_ODD_DEAD);
    assert_true(place.traces[0].guessed);
    assert_false(place.traces[0].recorded);
    assert_string_equal(json_str(record_of(0), "app", ""), "shop");
    assert_string_equal(json_str(record_of(0), "type", ""), "run");
    assert_int_equal(json_int(record_of(0), "num", 0), 4123);
    assert_true(json_bool(record_of(0), "oneoff", false));
    assert_true(there("run/shop.run.4123.0000abcd/exit"));
}

/* Nobody can say: it is killed, what its name tells is kept, and the kernel says whose uid it had.
 */
static void expect_ended(enum manner manner, const char *text, bool killed)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/run/" RUN "/init.sock", place.path);
    (void)unlink(path);
    put(RUN, "run.json", "{");
    pid_t pid = dyno_init(RUN, manner, text);
    look(1, 1);
    assert_int_equal(was_killed(pid), killed);
    assert_int_equal(place.told[0].outcome, manner == GOES ? RUN_ODD_DEAD : RUN_ODD_ENDED);
    assert_true(place.traces[0].guessed);
    assert_string_equal(json_str(record_of(0), "app", ""), "shop");
    assert_int_equal(json_int(record_of(0), "generation", 0), 0);
    assert_int_equal(json_int(record_of(0), "uid", -1), killed ? (int)geteuid() : 0);
}

static void one_that_cannot_say_is_ended(void **state)
{
    (void)state;
    expect_ended(IS_OLD, NULL, true);
    expect_ended(TELLS_NOTHING, NULL, true);
    expect_ended(GOES, NULL, false);
    expect_ended(IS_NEWER, identity, false); /* run_adopt() sees to it */
}

static void what_it_says_is_checked(void **state)
{
    (void)state;
    expect_ended(TELLS, of_another, true);
    expect_ended(TELLS, renamed, true);
    expect_ended(TELLS, "{", true);
    expect_ended(TELLS, "{\"v\":2,\"id\":\"" RUN "\",\"record\":{}}", true);
    expect_ended(TELLS, "{\"v\":1,\"id\":\"" RUN "\"}", true);
    expect_ended(IS_UNSEALED, identity, true);
}

static void a_silent_one_is_not_waited_for(void **state)
{
    struct err e = ERR_INIT;
    struct ucred cred = {0};
    json_t *record = NULL;
    int sock = -1;

    (void)state;
    pid_t pid = dyno_init(RUN, IS_SILENT, NULL);
    assert_int_equal(run_identity_ask(&place.env, RUN, &sock, &e), 0);
    uint64_t began = clock_boot();
    assert_int_equal(run_identity_hear(sock, RUN, began + 50 * USEC_PER_MSEC, &record, &cred, &e),
                     -ETIMEDOUT);
    assert_in_range(clock_boot() - began, 50 * USEC_PER_MSEC, 60 * USEC_PER_SEC);
    close(sock);
    assert_false(was_killed(pid));
}

/* --- What is no run --- */

static void what_had_not_begun_is_removed(void **state)
{
    (void)state;
    put(RUN, "", NULL);
    put("shop.web.2.00000001", "run.json.new", "{\"v\":1"); /* while it wrote */
    look(0, 2);
    assert_int_equal(place.told[0].outcome, RUN_ODD_UNBORN);
    assert_int_equal(place.told[1].outcome, RUN_ODD_UNBORN);
    assert_false(there("run/" RUN) || there("run/shop.web.2.00000001") || there("odd"));
}

static void strangers_are_put_away(void **state)
{
    char path[128];
    int fd;

    (void)state;
    put(".hidden \033[1m", "x", "y");
    (void)snprintf(path, sizeof(path), "%s/run/a.file.1.00000001", place.path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    put("not a run", "run.json", v1_running);
    put("noname", "init.sock", "a file"); /* nobody listens, and no dyno is called that */
    look(0, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(place.told[i].outcome, RUN_ODD_REMOVED);
        assert_null(strchr(place.told[i].kept, '\033'));
    }
    look(0, 0);
}

static size_t kept_count(void)
{
    char path[128];
    size_t n = 0;

    (void)snprintf(path, sizeof(path), "%s/odd", place.path);
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n - 2;
}

static void only_the_newest_are_kept(void **state)
{
    char first[RUN_KEPT_MAX] = "";

    (void)state;
    for (int i = 0; i < RUN_ODD_KEPT + 8; i++) {
        char id[64];

        (void)snprintf(id, sizeof(id), "shop.web.%d.00000001", i + 1);
        put(id, "run.json", "{");
        look(0, 1);
        if (i == 0)
            (void)snprintf(first, sizeof(first), "%s", place.told[0].kept);
    }
    assert_int_equal(kept_count(), RUN_ODD_KEPT);
    assert_false(there(first));
    assert_true(there(place.told[0].kept));
}

static void where_nothing_can_be_kept_the_agent_goes_on(void **state)
{
    char path[128];
    int fd;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/odd", place.path);
    fd =
        open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* a file where the directory should be */
    assert_true(fd >= 0);
    close(fd);
    put(RUN, "run.json", "{");
    pid_t pid = dyno_init(RUN, TELLS, identity);
    put("stranger!", "x", "y");
    look(1, 2);
    assert_int_equal(json_int(record_of(0), "generation", 0), 7);
    for (int i = 0; i < 2; i++)
        assert_true(str_starts(place.told[i].kept, "nothing: "));
    look(1, 0);
    assert_false(was_killed(pid));
}

/* --- Where there is no room --- */

/* As on a full disk: nothing can be written, but names can be changed. */
static void set_room(bool room)
{
    static rlim_t max;
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    if (!room)
        max = limit.rlim_cur;
    limit.rlim_cur = room ? max : 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void an_exit_record_has_its_room_before_anything_runs(void **state)
{
    scoped_fd dirfd = -1, listening = -1, record = -1;
    struct err e = ERR_INIT;
    struct stat st;

    (void)state;
    assert_int_equal(run_dir_new(place.env.run_dirfd, RUN, &dirfd, &e), 0);
    assert_int_equal(run_dir_fill(&place.env, "run", RUN, dirfd, &listening, &record, &e), 0);
    assert_int_equal(fstat(record, &st), 0);
    assert_int_equal(st.st_size, 0); /* nothing has ended */
    bool can = fallocate(record, FALLOC_FL_KEEP_SIZE, 0, 1) == 0 || errno != EOPNOTSUPP;
    assert_true(st.st_blocks > 0 || !can);
}

static void without_room_an_end_is_told_once(void **state)
{
    const struct dyno_name name = {.app = "shop", .type = "web", .num = 1};
    json_t *end = json_pack("{s:i}", "crashes", 1);
    struct err e = ERR_INIT;
    struct run *r = NULL;

    (void)state;
    put(RUN, "run.json", v1_running);
    put(RUN, "exit", "");
    look(1, 0);
    assert_false(place.traces[0].recorded);
    assert_int_equal(run_new(&place.env, RUN, &name, NULL, NULL, &r, &e), 0);
    r->dirfd = openat(place.env.run_dirfd, RUN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r->record = json_deep_copy(place.traces[0].record);
    set_room(false);
    assert_int_equal(run_record_end(r, end, &e), -EFBIG);
    set_room(true);
    run_freep(&r);
    json_decref(end);
    expect_text("run/" RUN "/run.json", v1_running);
    look(1, 0);
    assert_true(place.traces[0].recorded && place.traces[0].clean);
    assert_string_equal(json_str(record_of(0), "app", ""), "shop");
}

/* An agent died between the report and the trace, and the next one has no room either. */
static void without_room_a_trace_is_completed_once(void **state)
{
    json_t *end = json_pack("{s:i}", "crashes", 1);
    struct err e = ERR_INIT;

    (void)state;
    put(RUN, "run.json", v1_running);
    put(RUN, "exit", "");
    look(1, 0);
    set_room(false);
    assert_int_equal(run_trace_record(&place.env, &place.traces[0], end, &e), -EFBIG);
    set_room(true);
    json_decref(end);
    look(1, 0);
    assert_true(place.traces[0].recorded && place.traces[0].clean);
}

static void a_torn_file_of_a_told_end_is_removed(void **state)
{
    (void)state;
    put(RUN, "run.json", "{");
    put(RUN, "init.sock", "");
    put(RUN, "told", "");
    look(0, 1);
    assert_int_equal(place.told[0].outcome, RUN_ODD_REMOVED);
    assert_false(there("run/" RUN));
}

#define placed(test) cmocka_unit_test_setup_teardown(test, place_make, place_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        placed(the_format_of_the_release_before_is_read),
        placed(what_is_not_known_is_kept),
        placed(a_later_version_is_set_aside_and_rebuilt),
        placed(versions_that_never_were_are_set_aside),
        placed(a_torn_file_is_rebuilt_from_dyno_init),
        placed(a_file_that_is_none_is_rebuilt_too),
        placed(a_dead_one_still_has_its_end_reported),
        placed(one_that_cannot_say_is_ended),
        placed(what_it_says_is_checked),
        placed(a_silent_one_is_not_waited_for),
        placed(what_had_not_begun_is_removed),
        placed(strangers_are_put_away),
        placed(only_the_newest_are_kept),
        placed(where_nothing_can_be_kept_the_agent_goes_on),
        placed(an_exit_record_has_its_room_before_anything_runs),
        placed(without_room_an_end_is_told_once),
        placed(without_room_a_trace_is_completed_once),
        placed(a_torn_file_of_a_told_end_is_removed),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests_name("run_trace", tests, NULL, NULL);
}
