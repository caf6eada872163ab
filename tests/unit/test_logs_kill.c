/* dynod-logs under floods, and under kill -9 at any moment. */
#include "logs_agent.h"

/* --- floods -------------------------------------------------------------------------------------
 */

static void flood(int fd)
{
    static char lines[65536];

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(lines, 'x', sizeof(lines));
    for (size_t i = 79; i < sizeof(lines); i += 80)
        lines[i] = '\n';
    while (fd_write_full(fd, lines, sizeof(lines)) == 0)
        ;
    _exit(0);
}

static uint64_t dir_bytes(int dir)
{
    scoped_fd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *list = fdopendir(TAKE_FD(fd));
    uint64_t bytes = 0;
    struct stat st;

    for (struct dirent *entry; (entry = readdir(list));)
        if (fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_blocks * 512;
    return bytes;
}

/* Whether each of N has been read at least half as much of as any other. */
static bool served_alike(int dir, unsigned n)
{
    uint64_t least = UINT64_MAX, most = 0;

    for (unsigned i = 0; i < n; i++) {
        struct stat st;
        char name[32];

        snprintf(name, sizeof(name), "inc-%u.spool", i);
        assert_int_equal(fstatat(dir, name, &st, 0), 0);
        least = (uint64_t)st.st_size < least ? (uint64_t)st.st_size : least;
        most = (uint64_t)st.st_size > most ? (uint64_t)st.st_size : most;
    }
    return least > most / 2;
}

/* Three floods: each is served as much as the others, a whisper is heard at once, and memory and
 * directory stay what they were. */
static void floods_are_bounded_and_fair(void **state)
{
    enum { FLOODS = 3 };
    scoped_fd dir = state_dir(state);
    uint64_t bytes = 0, rss = 0;
    pid_t pids[FLOODS];
    struct agent a;
    int fds[2];

    agent_start(&a, dir);
    for (unsigned i = 0; i < FLOODS; i++) {
        make_pipe(fds);
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            flood(fds[1]);
        close(fds[1]);
        say_open(&a, i, i ? "shop/web.1" : "blog/web.1", fds[0]);
        close(fds[0]);
    }
    make_pipe(fds);
    say_open(&a, FLOODS, "shop/worker.1", fds[0]);
    scoped_fd stalled = ask(&a, json_pack("{s:b}", "follow", 1));
    scoped_fd whisper = ask(&a, json_pack("{s:b,s:s}", "follow", 1, "dyno", "worker"));
    usleep(500000);
    put(fds[1], "psst\n");
    scoped_free char *text = read_until(&a, whisper, "psst\n");
    for (int i = 0; i < 20; i++) {
        usleep(50000);
        bytes = dir_bytes(dir) > bytes ? dir_bytes(dir) : bytes;
        rss =
            status_number(a.pid, "\nVmRSS:", 10) > rss ? status_number(a.pid, "\nVmRSS:", 10) : rss;
    }
    /* Who got less of the processor than the other floods has not said as much: not for long. */
    uint64_t until = clock_boot() + PATIENCE * USEC_PER_MSEC;
    while (!served_alike(dir, FLOODS))
        assert_true(agent_poll(&a, 50) && clock_boot() < until);
    for (unsigned i = 0; i < FLOODS; i++) {
        kill(pids[i], SIGKILL);
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
    }
    /* Two apps with two files each, and the spools. */
    assert_true(bytes < 2 * 2 * (TAIL_BYTES_DEFAULT + TURN_BATCH) + 4 * (256 << 10));
#ifndef __SANITIZE_ADDRESS__
    assert_true(rss < 8 << 10);
#endif
    agent_stop(&a);
    close(fds[0]);
    close(fds[1]);
}

/* --- kill -9 ------------------------------------------------------------------------------------
 */

#define WRITERS 4

struct writer {
    pid_t pid;
    int pipe; /* the read end, which outlives the agent */
    char dyno[32];
};

/* Shared with the writers. */
struct script {
    bool stop;
    unsigned written[WRITERS];
};

/* Numbered lines of all lengths, as fast as they go. */
static void write_lines(struct script *script, unsigned who, int fd)
{
    static char filler[12000];
    unsigned seed = who, i;

    memset(filler, 'f', sizeof(filler));
    for (i = 0; !__atomic_load_n(&script->stop, __ATOMIC_RELAXED); i++) {
        char line[12100];
        int len = rand_r(&seed) % 50 == 0 ? rand_r(&seed) % 9900 : rand_r(&seed) % 60;
        int n = snprintf(line, sizeof(line), "%u %.*s%s", i, len, filler,
                         rand_r(&seed) % 3 ? "\n" : "\r\n");

        if (fd_write_full(fd, line, (size_t)n) < 0)
            _exit(1);
    }
    script->written[who] = i;
    _exit(fd_write_full(fd, "end", 3) < 0);
}

static void start_writers(struct writer *w, struct script *script)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        int fds[2];

        make_pipe(fds);
        w[i].pid = fork();
        assert_true(w[i].pid >= 0);
        if (w[i].pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(fds[0]);
            write_lines(script, i, fds[1]);
        }
        close(fds[1]);
        w[i].pipe = fds[0];
        snprintf(w[i].dyno, sizeof(w[i].dyno), "%s/web.%u", i < 3 ? "shop" : "blog", i + 1);
    }
}

static void open_all(struct agent *a, const struct writer *w)
{
    for (unsigned i = 0; i < WRITERS; i++)
        say_open(a, i, w[i].dyno, w[i].pipe);
}

/* What dynod does: lines are numbered, and sent again until they are on record. */
static void say_platform_lines(struct agent *a, int64_t from, int64_t to)
{
    char text[32];

    for (int64_t seq = from; seq <= to; seq++) {
        snprintf(text, sizeof(text), "platform %d", (int)seq);
        say_line(a, seq, seq % 2 ? "shop/web.1" : "blog/web.4", text);
    }
}

struct seen {
    unsigned next[WRITERS]; /* number of the next line */
    bool any[WRITERS];
    bool ended[WRITERS];
    bool placed[WRITERS]; /* there is a record of where the spool stands */
    int64_t seq;
    bool from_start; /* every line from 0 on; else any run without a gap */
};

static void check_record(void *userdata, const struct record *r)
{
    struct seen *s = userdata;
    char text[32] = "";

    if (r->inc_len > 0)
        s->placed[r->inc[4] - '0'] = true;
    if (!record_is_line(r))
        return;
    memcpy(text, r->text, r->text_len < 31 ? r->text_len : 31);
    if (r->kind == RECORD_PLATFORM) {
        assert_true((int64_t)r->seq > s->seq);
        s->seq = (int64_t)r->seq;
        return;
    }
    unsigned who = (unsigned)(r->dyno[r->dyno_len - 1] - '1');
    assert_in_range(who, 0, WRITERS - 1);
    assert_false(s->ended[who]);
    if (!strcmp(text, "end")) {
        s->ended[who] = true;
        return;
    }
    unsigned n = (unsigned)strtoul(text, NULL, 10);
    if (!s->any[who] && !s->from_start)
        s->next[who] = n;
    s->any[who] = true;
    assert_int_equal(n, s->next[who]);
    s->next[who]++;
}

static void check_app(int dir, const char *app, struct seen *seen)
{
    scoped(tail_freep) struct tail *t = NULL;
    struct err e = ERR_INIT;
    scoped_fd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scoped(dir_closep) DIR *list = fdopendir(TAKE_FD(fd));
    char name[APP_NAME_MAX + 1];
    uint64_t gen, cut = 0;

    assert_int_equal(tail_new(dir, app, TAIL_BYTES_DEFAULT, &t, &e), 0);
    for (struct dirent *entry; (entry = readdir(list));)
        if (tail_name_parse(entry->d_name, name, &gen) && !strcmp(name, app))
            tail_found(t, gen);
    assert_int_equal(tail_load(t, check_record, seen, &cut, &e), 0);
}

static void check_places(int dir, const struct seen *seen)
{
    char name[32];

    for (unsigned i = 0; i < WRITERS; i++) {
        snprintf(name, sizeof(name), "inc-%u.spool", i);
        if (faccessat(dir, name, F_OK, 0) == 0)
            assert_true(seen->placed[i]);
    }
}

/* Kills it at random moments, starts it again on the same pipes, and looks at what is on record. */
static void kill_it_often(int dir, const char *tail_bytes, unsigned kills, bool from_start)
{
    const char *const options[] = {"--tail-bytes", tail_bytes, NULL};
    struct script *script =
        mmap(NULL, sizeof(*script), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct seen seen;
    struct writer w[WRITERS];
    struct agent a;
    int64_t sent = 0;

    assert_true(script != MAP_FAILED);
    start_writers(w, script);
    for (unsigned i = 0; i < kills; i++) {
        agent_start_with(&a, dir, options);
        open_all(&a, w);
        if (i % 3 != 0) {
            WAIT(&a, a.hello >= 0);
            say_platform_lines(&a, a.hello + 1, sent += 20);
            assert_true(agent_poll(&a, 0));
        }
        /* Half of them while it starts. */
        usleep((useconds_t)random() % (i % 2 ? 20000 : 2500));
        agent_kill(&a);
        seen = (struct seen){.from_start = from_start};
        if (!from_start) {
            check_app(dir, "shop", &seen);
            seen.seq = 0;
            check_app(dir, "blog", &seen);
            check_places(dir, &seen);
        }
    }
    script->stop = true;
    agent_start_with(&a, dir, options);
    open_all(&a, w);
    WAIT(&a, a.hello >= 0);
    say_platform_lines(&a, a.hello + 1, sent);
    WAIT(&a, a.acked == sent && a.eofs[0] && a.eofs[1] && a.eofs[2] && a.eofs[3]);
    agent_stop(&a);

    seen = (struct seen){.from_start = from_start};
    check_app(dir, "shop", &seen);
    seen.seq = 0;
    check_app(dir, "blog", &seen);
    for (unsigned i = 0; i < WRITERS; i++) {
        int status;

        assert_int_equal(a.eofs[i], 1);
        assert_int_equal(waitpid(w[i].pid, &status, 0), w[i].pid);
        assert_int_equal(status, 0);
        close(w[i].pipe);
        if (seen.any[i] || from_start)
            assert_int_equal(seen.next[i], script->written[i]);
        if (from_start)
            assert_true(seen.ended[i]);
    }
    munmap(script, sizeof(*script));
}

static void kill_9_loses_nothing_and_repeats_nothing(void **state)
{
    scoped_fd dir = state_dir(state);

    kill_it_often(dir, "256M", 60, true);
}

/* The same while files are begun and dropped all the time. */
static void kill_9_does_not_hurt_a_rotation(void **state)
{
    scoped_fd dir = state_dir(state);

    kill_it_often(dir, "4k", 200, false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(floods_are_bounded_and_fair),
        IN_DIR(kill_9_loses_nothing_and_repeats_nothing),
        IN_DIR(kill_9_does_not_hurt_a_rotation),
    };

    return RUN_LOGS_TESTS("logs_kill", tests, argc, argv);
}
