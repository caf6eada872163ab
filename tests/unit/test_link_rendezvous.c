/* The remote attach against a peer that is a Python script with TLS: each test says in a few lines
 * what the peer does, and plays the command at the other side of the pipes or the terminal. */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/loop.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/attachwire.h"
#include "link/dial.h"
#include "link/http.h"
#include "link/rendezvous.h"
#include "certificates.h"
#include "tmpdir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include <cmocka.h>

#define PATIENCE (60 * USEC_PER_SEC)

/* What a test's line of Python may use. The listener is there before the port is told. */
static const char peer_script[] =
    "import hashlib, json, os, socket, ssl, struct, sys, time\n"
    "base = sys.argv[1]\n"
    "ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
    "which = sys.argv[3]\n"
    "ctx.load_cert_chain(f'{base}/{which}.pem', f'{base}/{which}.key')\n"
    "ctx.load_verify_locations(f'{base}/ca.pem')\n"
    "ctx.verify_mode = ssl.CERT_REQUIRED\n"
    "ear = socket.socket(); ear.bind(('127.0.0.1', 0)); ear.listen(100)\n"
    "print(ear.getsockname()[1], flush=True)\n"
    "def accept():\n"
    "    global c\n"
    "    ear.settimeout(60)\n"
    "    s, _ = ear.accept(); s.settimeout(60); c = ctx.wrap_socket(s, server_side=True)\n"
    "def send(kind, data=b''):\n"
    "    if isinstance(data, dict): data = json.dumps(data).encode()\n"
    "    c.sendall(kind.encode() + struct.pack('>I', len(data)) + data)\n"
    "def exactly(n):\n"
    "    b = b''\n"
    "    while len(b) < n:\n"
    "        more = c.recv(n - len(b))\n"
    "        assert more, 'closed'\n"
    "        b += more\n"
    "    return b\n"
    "def frame():\n"
    "    k, n = struct.unpack('>cI', exactly(5))\n"
    "    return k.decode(), exactly(n)\n"
    "def hello():\n"
    "    accept(); k, d = frame(); assert k == 'H', k; return json.loads(d)\n"
    "def until_x():\n"
    "    o = e = b''\n"
    "    while True:\n"
    "        k, d = frame()\n"
    "        if k == 'O': o += d\n"
    "        elif k == 'E': e += d\n"
    "        else: assert k == 'X', k; return o, e, json.loads(d)\n"
    "def closed():\n"
    "    try: return c.recv(1) == b''\n"
    "    except OSError: return True\n"
    "exec(sys.argv[2])\n";

static char *ca, *cert, *key;
static size_t ca_len, cert_len, key_len;

struct world {
    sd_event *loop;
    struct rendezvous *r;
    pid_t peer;
    unsigned port;
    int in, out, err; /* the command's side */
    unsigned up, rows, cols;
    unsigned failed, gone, done;
    int signals[64];
    unsigned n_signals;
    char why[ERR_TEXT_MAX];
    bool free_on_up;
};

static int set_up_all(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    if (base_make("rendezvous-test") < 0 || certificates_make(base) < 0)
        return -1;
    scoped_fd dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file_read(dir, "ca.pem", 1 << 16, &ca, &ca_len, &e) < 0 ||
        file_read(dir, "client.pem", 1 << 16, &cert, &cert_len, &e) < 0)
        return -1;
    return file_read(dir, "client.key", 1 << 16, &key, &key_len, &e);
}

static int tear_down_all(void **state)
{
    free(ca);
    free(cert);
    free(key);
    return base_remove(state);
}

/* --- the world of one test ----------------------------------------------------------------------
 */

static void on_up(void *userdata, unsigned attach, unsigned rows, unsigned cols)
{
    struct world *w = userdata;

    assert_int_equal(attach, 7);
    w->up++;
    w->rows = rows;
    w->cols = cols;
    if (w->free_on_up)
        rendezvous_freep(&w->r);
}

static void on_failed(void *userdata, unsigned attach, const char *why)
{
    struct world *w = userdata;

    assert_int_equal(attach, 7);
    w->failed++;
    (void)snprintf(w->why, sizeof(w->why), "%s", why);
    rendezvous_freep(&w->r);
}

static void on_gone(void *userdata, unsigned attach, const char *why)
{
    struct world *w = userdata;

    assert_int_equal(attach, 7);
    w->gone++;
    (void)snprintf(w->why, sizeof(w->why), "%s", why);
    rendezvous_freep(&w->r);
}

static void on_signal(void *userdata, unsigned attach, int signo)
{
    struct world *w = userdata;

    assert_int_equal(attach, 7);
    w->signals[w->n_signals++ % 64] = signo;
}

static void on_done(void *userdata, unsigned attach)
{
    struct world *w = userdata;

    assert_int_equal(attach, 7);
    w->done++;
    rendezvous_freep(&w->r);
}

static const struct rendezvous_ops ops = {on_up, on_failed, on_gone, on_signal, on_done};

/* The peer does CODE, with the certificate WHICH. */
static void peer_start(struct world *w, const char *code, const char *which)
{
    char text[16] = "";
    int out[2];

    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    w->peer = fork();
    assert_true(w->peer >= 0);
    if (w->peer == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execlp("python3", "python3", "-c", peer_script, base, code, which, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof(text) - 1 && !strchr(text, '\n'); n++)
        assert_int_equal(read(out[0], text + n, 1), 1);
    close(out[0]);
    w->port = (unsigned)strtoul(text, NULL, 10);
    assert_true(w->port > 0);
}

/* The peer's code was carried out to its end, and none of its asserts failed. */
static void peer_is_content(struct world *w)
{
    uint64_t until = clock_boot() + PATIENCE;
    int status = -1;

    while (waitpid(w->peer, &status, WNOHANG) == 0) {
        assert_true(clock_boot() < until);
        (void)sd_event_run(w->loop, 10 * USEC_PER_MSEC);
    }
    w->peer = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void open_world(struct world *w)
{
    *w = (struct world){.in = -1, .out = -1, .err = -1};
    assert_true(sd_event_new(&w->loop) >= 0);
}

static void attach_to(struct world *w, const char *url, uint64_t wait,
                      const struct http_trust *trust)
{
    struct err e = ERR_INIT;
    int in[2], out[2], err[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    w->in = in[0];
    w->out = out[1];
    w->err = err[1];
    struct rendezvous_spec spec = {.attach = 7,
                                   .url = url,
                                   .secret = "open sesame",
                                   .agent = "i-1",
                                   .dyno = "shop/run.5",
                                   .fds = {in[1], out[0], err[0]},
                                   .wait_usec = wait,
                                   .trust = trust};
    assert_int_equal(rendezvous_open(w->loop, &spec, &ops, w, &w->r, &e), 0);
}

static struct http_trust trust_all(void)
{
    return (struct http_trust){.ca = ca,
                               .cert = cert,
                               .key = key,
                               .ca_len = ca_len,
                               .cert_len = cert_len,
                               .key_len = key_len};
}

/* A peer that does CODE, and a command with pipes. */
static void meet(struct world *w, const char *code)
{
    struct http_trust trust = trust_all();
    char url[64];

    open_world(w);
    peer_start(w, code, "server");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w->port);
    attach_to(w, url, 0, &trust);
}

static void close_world(struct world *w)
{
    rendezvous_freep(&w->r);
    fd_closep(&w->in);
    fd_closep(&w->out);
    fd_closep(&w->err);
    if (w->peer > 0) {
        (void)kill(w->peer, SIGKILL);
        (void)waitpid(w->peer, NULL, 0);
    }
    sd_event_unref(w->loop);
}

static void run_until(struct world *w, const unsigned *counter)
{
    uint64_t until = clock_boot() + PATIENCE;

    while (!*counter) {
        if (clock_boot() > until)
            fail_msg("nothing came: up %u failed %u gone %u done %u, why: %s", w->up, w->failed,
                     w->gone, w->done, w->why);
        assert_true(sd_event_run(w->loop, 100 * USEC_PER_MSEC) >= 0);
    }
}

static void run_for(struct world *w, uint64_t usec)
{
    uint64_t until = clock_boot() + usec;

    while (clock_boot() < until)
        assert_true(sd_event_run(w->loop, 10 * USEC_PER_MSEC) >= 0);
}

/* What the command reads from its stdin, LEN bytes or to its end. */
static size_t read_stdin(struct world *w, char *buf, size_t len)
{
    uint64_t until = clock_boot() + PATIENCE;
    size_t got = 0;

    assert_int_equal(fd_set_nonblock(w->in, true), 0);
    while (got < len) {
        ssize_t n = read(w->in, buf + got, len - got);

        if (n == 0)
            break;
        if (n > 0)
            got += (size_t)n;
        else
            assert_true(sd_event_run(w->loop, 10 * USEC_PER_MSEC) >= 0);
        assert_true(clock_boot() < until);
    }
    return got;
}

static void command_ends(struct world *w, int status, const char *error)
{
    fd_closep(&w->out);
    fd_closep(&w->err);
    rendezvous_ended(w->r, status, error);
}

/* --- pipes --------------------------------------------------------------------------------------
 */

static void a_command_with_pipes(void **state)
{
    struct world w;
    char buf[100] = "";

    (void)state;
    meet(&w, "h = hello()\n"
             "assert h == {'secret': 'open sesame', 'agent': 'i-1', 'dyno': 'shop/run.5', 'tty': "
             "False}, h\n"
             "send('R', {'rows': 24, 'cols': 80}); send('I', b'to '); send('I', b'stdin'); "
             "send('I')\n"
             "o, e, x = until_x()\n"
             "assert (o, e) == (b'to-out', b'to-err'), (o, e)\n"
             "assert x == {'status': 3, 'error': 'it \\u00e4 failed'}, x\n");
    run_until(&w, &w.up);
    assert_int_equal(w.rows, 24);
    assert_int_equal(w.cols, 80);
    assert_int_equal(read_stdin(&w, buf, sizeof(buf)), 8);
    assert_string_equal(buf, "to stdin");
    assert_int_equal(write(w.out, "to-out", 6), 6);
    assert_int_equal(write(w.err, "to-err", 6), 6);
    command_ends(&w, 3, "it \xc3\xa4 failed");
    run_until(&w, &w.done);
    peer_is_content(&w);
    assert_int_equal(w.gone + w.failed, 0);
    close_world(&w);
}

/* Its output waits, and nothing of it is sent before R. */
static void a_command_that_ends_before_anybody_comes(void **state)
{
    struct world w;

    (void)state;
    meet(&w, "hello(); c.settimeout(0.3)\n"
             "try: c.recv(1); assert False\n"
             "except TimeoutError: pass\n"
             "c.settimeout(60); send('R', {})\n"
             "o, e, x = until_x()\n"
             "assert o == b'early' and x == {'status': 0, 'error': None}, (o, x)\n");
    assert_int_equal(write(w.out, "early", 5), 5);
    command_ends(&w, 0, NULL);
    run_until(&w, &w.done);
    assert_int_equal(w.up, 1);
    assert_int_equal(w.rows + w.cols, 0);
    peer_is_content(&w);
    close_world(&w);
}

/* Each way several MB, with both sides slow at times: every byte, in order, and never more than the
 * buffers hold. */
static void a_lot_each_way(void **state)
{
    enum { LEN = 3 << 20 };
    scoped_free char *data = malloc(LEN);
    scoped_free char *got = malloc(LEN);
    size_t sent = 0, received = 0;
    uint64_t until = clock_boot() + PATIENCE;
    struct world w;

    (void)state;
    meet(&w, "import select\n"
             "n = 3 << 20\n"
             "data = bytes((i * 7 + i // 251) & 255 for i in range(n))\n"
             "hello(); send('R', {})\n"
             "rest = b''.join(b'I' + struct.pack('>I', len(p)) + p for p in\n"
             "                [data[i:i + 40000] for i in range(0, n, 40000)] + [b''])\n"
             "time.sleep(0.5); c.setblocking(False); got = b''; stop = time.time() + 60\n"
             "while rest or b'\"status\"' not in got[-60:]:\n"
             "    assert time.time() < stop, (len(rest), len(got))\n"
             "    try:\n"
             "        if rest: rest = rest[c.send(rest[:100000]):]\n"
             "    except (ssl.SSLWantWriteError, ssl.SSLWantReadError): pass\n"
             "    try: got += c.recv(100000)\n"
             "    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):\n"
             "        select.select([c], [c] if rest else [], [], 1)\n"
             "o = b''\n"
             "while got[:1] == b'O':\n"
             "    k = 5 + struct.unpack('>I', got[1:5])[0]; o += got[5:k]; got = got[k:]\n"
             "assert o == data and got[:1] == b'X', len(o)\n");
    for (size_t i = 0; i < LEN; i++)
        data[i] = (char)(unsigned char)(i * 7 + i / 251);
    assert_int_equal(fd_set_nonblock(w.in, true), 0);
    assert_int_equal(fd_set_nonblock(w.out, true), 0);
    while (received < LEN || sent < LEN) {
        assert_true(clock_boot() < until);
        assert_true(sd_event_run(w.loop, USEC_PER_MSEC) >= 0);
        ssize_t n = write(w.out, data + sent, LEN - sent);
        sent += n > 0 ? (size_t)n : 0;
        n = read(w.in, got + received, LEN - received);
        received += n > 0 ? (size_t)n : 0;
    }
    assert_memory_equal(got, data, LEN);
    assert_int_equal(read_stdin(&w, got, 1), 0); /* its end */
    command_ends(&w, 0, NULL);
    run_until(&w, &w.done);
    peer_is_content(&w);
    close_world(&w);
}

/* How much goes into the pipe while nobody takes it out. */
static size_t stuff(struct world *w, size_t max)
{
    static const char chunk[65536];
    size_t sent = 0;
    uint64_t quiet = clock_boot();

    assert_int_equal(fd_set_nonblock(w->out, true), 0);
    while (clock_boot() - quiet < 500 * USEC_PER_MSEC && sent < max) {
        ssize_t n = write(w->out, chunk, sizeof(chunk));

        if (n > 0) {
            sent += (size_t)n;
            quiet = clock_boot();
        }
        assert_true(sd_event_run(w->loop, USEC_PER_MSEC) >= 0);
    }
    return sent;
}

static uint64_t cpu_usec(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

static void a_peer_that_does_not_read_stops_the_command(void **state)
{
    enum { PLENTY = 256 << 20 };
    struct world w;

    (void)state;
    meet(&w, "hello(); send('R', {}); time.sleep(60)\n");
    run_until(&w, &w.up);
    assert_true(stuff(&w, PLENTY) < PLENTY);
    uint64_t cpu = cpu_usec();
    run_for(&w, USEC_PER_SEC); /* and it waits without turning */
    assert_true(cpu_usec() - cpu < 300 * USEC_PER_MSEC);
    /* Its writer closing does not make it turn either. */
    fd_closep(&w.out);
    cpu = cpu_usec();
    run_for(&w, USEC_PER_SEC);
    assert_true(cpu_usec() - cpu < 300 * USEC_PER_MSEC);
    close_world(&w);
}

/* The peer's sends block at some point. */
static void a_command_that_does_not_read_stops_the_peer(void **state)
{
    struct world w;

    (void)state;
    meet(&w, "hello(); send('R', {}); c.settimeout(2); n = 0\n"
             "try:\n"
             "    while n < 256 << 20: send('I', bytes(60000)); n += 60000\n"
             "except (TimeoutError, ssl.SSLError): pass\n"
             "assert 100000 < n < 256 << 20, n\n");
    run_until(&w, &w.up);
    peer_is_content(&w);
    uint64_t cpu = cpu_usec();
    run_for(&w, USEC_PER_SEC);
    assert_true(cpu_usec() - cpu < 300 * USEC_PER_MSEC);
    close_world(&w);
}

/* Its closing is noticed also while nothing is read of it. */
static void a_peer_that_goes_while_it_is_held_back(void **state)
{
    struct world w;

    (void)state;
    meet(&w, "hello(); send('R', {})\n"
             "for i in range(3): send('I', bytes(60000))\n"
             "time.sleep(0.5); c.close()\n");
    run_until(&w, &w.gone);
    peer_is_content(&w);
    assert_non_null(strstr(w.why, "closed the connection"));
    close_world(&w);
}

/* A command may close its stdin; what comes for it then is dropped, the rest goes on. */
static void a_command_without_stdin(void **state)
{
    struct world w;

    (void)state;
    meet(&w, "hello(); send('R', {})\n"
             "for i in range(40): send('I', bytes(60000))\n"
             "send('S', {'signal': 2})\n"
             "assert until_x()[0] == b'still here'\n");
    fd_closep(&w.in);
    run_until(&w, &w.n_signals);
    assert_int_equal(w.signals[0], SIGINT);
    assert_int_equal(write(w.out, "still here", 10), 10);
    command_ends(&w, 0, NULL);
    run_until(&w, &w.done);
    peer_is_content(&w);
    close_world(&w);
}

/* --- a terminal ---------------------------------------------------------------------------------
 */

static void meet_with_terminal(struct world *w, const char *code, int *ret_slave)
{
    struct http_trust trust = trust_all();
    struct err e = ERR_INIT;
    char url[64];
    int master;

    open_world(w);
    peer_start(w, code, "server");
    assert_int_equal(openpty(&master, ret_slave, NULL, NULL, NULL), 0);
    (void)snprintf(url, sizeof(url), "tls://127.0.0.1:%u", w->port);
    struct rendezvous_spec spec = {.attach = 7,
                                   .url = url,
                                   .secret = "s",
                                   .agent = "i-1",
                                   .dyno = "shop/run.5",
                                   .tty = true,
                                   .fds = {master, -1, -1},
                                   .trust = &trust};
    assert_int_equal(rendezvous_open(w->loop, &spec, &ops, w, &w->r, &e), 0);
}

static void a_terminal(void **state)
{
    struct world w;
    struct winsize size;
    char buf[100] = "";
    int slave;

    (void)state;
    meet_with_terminal(&w,
                       "assert hello()['tty'] is True\n"
                       "send('R', {'rows': 50, 'cols': 132})\n"
                       "send('I', b'ls\\n'); send('I')\n"
                       "k, d = frame(); b = d\n"
                       "while b'done' not in b: k, d = frame(); assert k == 'O'; b += d\n"
                       "assert b.startswith(b'ls\\r\\n'), b\n"
                       "send('W', {'rows': 10, 'cols': 20})\n"
                       "o, e, x = until_x()\n"
                       "assert (b + o).endswith(b'resized') and x['status'] == 0, o\n",
                       &slave);
    run_until(&w, &w.up);
    assert_int_equal(ioctl(slave, TIOCGWINSZ, &size), 0);
    assert_int_equal(size.ws_row, 50);
    assert_int_equal(size.ws_col, 132);
    w.in = slave;
    assert_int_equal(read_stdin(&w, buf, 3), 3);
    assert_string_equal(buf, "ls\n");
    assert_int_equal(read_stdin(&w, buf, 1), 0); /* ^D */
    assert_int_equal(write(slave, "done", 4), 4);
    for (int i = 0; size.ws_row != 10 && i < 2000; i++) {
        assert_true(sd_event_run(w.loop, 10 * USEC_PER_MSEC) >= 0);
        assert_int_equal(ioctl(slave, TIOCGWINSZ, &size), 0);
    }
    assert_int_equal(size.ws_col, 20);
    assert_int_equal(write(slave, "resized", 7), 7);
    fd_closep(&w.in);
    rendezvous_ended(w.r, 0, NULL);
    run_until(&w, &w.done);
    peer_is_content(&w);
    close_world(&w);
}

/* EIO of the master is no error and does not make it turn; what was written before comes. */
static void a_terminal_that_all_have_closed(void **state)
{
    struct world w;
    int slave;

    (void)state;
    meet_with_terminal(&w, "hello(); send('R', {}); assert until_x()[0] == b'last words'\n",
                       &slave);
    run_until(&w, &w.up);
    assert_int_equal(write(slave, "last words", 10), 10);
    close(slave);
    run_for(&w, 300 * USEC_PER_MSEC);
    uint64_t cpu = cpu_usec();
    run_for(&w, USEC_PER_SEC);
    assert_true(cpu_usec() - cpu < 300 * USEC_PER_MSEC);
    assert_int_equal(w.gone + w.failed + w.done, 0);
    rendezvous_ended(w.r, 0, NULL);
    run_until(&w, &w.done);
    peer_is_content(&w);
    close_world(&w);
}

/* --- nobody, or the wrong ones ------------------------------------------------------------------
 */

static void expect_failed(struct world *w, const char *part)
{
    run_until(w, &w->failed);
    if (!strstr(w->why, part))
        fail_msg("expected \"%s\" in: %s", part, w->why);
    assert_int_equal(w->up + w->gone + w->done, 0);
    close_world(w);
}

static void nobody_comes(void **state)
{
    struct http_trust trust = trust_all();
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w, "hello(); time.sleep(60)\n", "server");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    uint64_t began = clock_boot();
    attach_to(&w, url, 3 * USEC_PER_SEC, &trust);
    run_until(&w, &w.failed);
    assert_in_range(clock_boot() - began, 3 * USEC_PER_SEC, PATIENCE / 2);
    expect_failed(&w, "nobody came in time");
}

/* A peer that takes the connection and does not speak TLS. */
static void a_peer_that_says_nothing(void **state)
{
    struct http_trust trust = trust_all();
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w, "time.sleep(60)\n", "server");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    attach_to(&w, url, 700 * USEC_PER_MSEC, &trust);
    expect_failed(&w, "");
}

static bool is_heard(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    scoped_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
}

/* One that only comes to listen later is found: connecting is tried again until the time is over.
 */
static void a_peer_that_is_late(void **state)
{
    struct http_trust trust = trust_all();
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w,
               "port = ear.getsockname()[1]; ear.close()\n"
               "ear = socket.socket(); ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
               "ear.bind(('127.0.0.1', port)); time.sleep(1.5); ear.listen(1)\n"
               "hello(); send('R', {}); until_x()\n",
               "server");
    while (is_heard(w.port))
        run_for(&w, 10 * USEC_PER_MSEC);
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    attach_to(&w, url, PATIENCE, &trust);
    run_until(&w, &w.up);
    command_ends(&w, 0, NULL);
    run_until(&w, &w.done);
    peer_is_content(&w);
    close_world(&w);
}

static void a_certificate_that_nobody_signed(void **state)
{
    struct http_trust trust = trust_all();
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w, "\ntry: accept()\nexcept OSError: pass\n", "other");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    attach_to(&w, url, 0, &trust);
    expect_failed(&w, "certificate");
}

static void a_certificate_of_somebody_else(void **state)
{
    struct http_trust trust = trust_all();
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w, "\ntry: accept()\nexcept OSError: pass\n", "wrong");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    attach_to(&w, url, 0, &trust);
    expect_failed(&w, "SSL: no alternative certificate subject name matches");
}

/* The peer wants to see ours. */
static void without_a_client_certificate(void **state)
{
    struct http_trust trust = trust_all();
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w, "\ntry: accept()\nexcept OSError: pass\n", "server");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    trust.cert = trust.key = NULL;
    attach_to(&w, url, 0, &trust);
    run_until(&w, &w.failed);
    close_world(&w);
}

static void one_that_refuses_the_secret(void **state)
{
    struct world w;

    (void)state;
    meet(&w, "hello(); c.close()\n");
    expect_failed(&w, "closed the connection");
}

static void wrong_before_r(void **state)
{
    static const struct {
        const char *code, *why;
    } cases[] = {
        {"send('I', b'x')", "a frame I before R"},
        {"send('S', {'signal': 9})", "a frame S before R"},
        {"c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')", "of the unknown kind 'H'"},
        {"c.sendall(bytes(10))", "of the unknown kind"},
        {"c.sendall(b'R\\xff\\xff\\xff\\xff')", "at most 4096"},
        {"send('R', b'[' * 4000)", "frame R"},
        {"send('R', b'[]')", "frame R"},
        {"send('R', b'')", "frame R"},
        {"send('R', {'rows': -1, 'cols': 80})", "rows and cols"},
        {"send('R', {'rows': 1})", "rows and cols"},
        {"send('R', {'rows': '24', 'cols': 80})", "rows and cols"},
        {"send('R', {'rows': 1e9, 'cols': 80})", "rows and cols"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct world w;
        char code[200];

        (void)snprintf(code, sizeof(code),
                       "hello()\ntry: %s\nexcept OSError: pass\nassert closed()\n", cases[i].code);
        meet(&w, code);
        run_until(&w, &w.failed);
        peer_is_content(&w);
        expect_failed(&w, cases[i].why);
    }
}

/* --- gone ---------------------------------------------------------------------------------------
 */

static void a_peer_that_goes(void **state)
{
    struct world w;
    char buf[10];

    (void)state;
    meet(&w, "hello(); send('R', {}); send('I', b'bye'); c.close()\n");
    run_until(&w, &w.up);
    assert_int_equal(read_stdin(&w, buf, 3), 3);
    run_until(&w, &w.gone);
    assert_non_null(strstr(w.why, "closed the connection"));
    assert_int_equal(w.failed + w.done, 0);
    close_world(&w);
}

static void wrong_after_r(void **state)
{
    static const struct {
        const char *code, *why;
    } cases[] = {
        {"send('R', {})", "second frame R"},
        {"send('X', {})", "unknown kind 'X'"},
        {"send('I', bytes(65537))", "at most 65536"},
        {"send('S', {'signal': 0})", "1 to 64"},
        {"send('S', {'signal': 65})", "1 to 64"},
        {"send('S', {})", "1 to 64"},
        {"send('W', {'rows': 24})", "rows and cols"},
        /* in one piece: within a second however busy the machine is */
        {"c.sendall(200 * (b'S' + struct.pack('>I', 12) + b'{\"signal\":2}'))",
         "signals in a second"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct world w;
        char code[300];

        (void)snprintf(code, sizeof(code),
                       "hello(); send('R', {})\ntry: %s\nexcept OSError: pass\nassert closed()\n",
                       cases[i].code);
        meet(&w, code);
        run_until(&w, &w.gone);
        if (!strstr(w.why, cases[i].why))
            fail_msg("expected \"%s\" in: %s", cases[i].why, w.why);
        assert_int_equal(w.up, 1);
        assert_true(w.n_signals <= RENDEZVOUS_SIGNALS_A_SECOND);
        peer_is_content(&w);
        close_world(&w);
    }
}

/* Frames in any cut are whole again. */
static void a_byte_at_a_time(void **state)
{
    struct world w;
    char buf[10] = "";

    (void)state;
    meet(&w,
         "hello()\n"
         "for b in b'R\\0\\0\\0\\2{}I\\0\\0\\0\\5hello': c.sendall(bytes([b])); time.sleep(0.005)\n"
         "until_x()\n");
    run_until(&w, &w.up);
    assert_int_equal(read_stdin(&w, buf, 5), 5);
    assert_string_equal(buf, "hello");
    command_ends(&w, 0, NULL);
    run_until(&w, &w.done);
    peer_is_content(&w);
    close_world(&w);
}

/* --- the owner ----------------------------------------------------------------------------------
 */

static void freed_in_its_own_call(void **state)
{
    struct world w;

    (void)state;
    meet(&w, "hello(); send('R', {}); send('S', {'signal': 2}); assert closed()\n");
    w.free_on_up = true;
    run_until(&w, &w.up);
    peer_is_content(&w);
    assert_int_equal(w.n_signals + w.failed + w.gone + w.done, 0);
    close_world(&w);
}

/* As many as there may be: each its own, and within the descriptors that confine.h leaves. */
struct crowd {
    struct rendezvous *r[RENDEZVOUS_MAX];
    unsigned up, done;
};

static void crowd_up(void *userdata, unsigned attach, unsigned rows, unsigned cols)
{
    struct crowd *crowd = userdata;

    (void)rows;
    (void)cols;
    crowd->up++;
    rendezvous_ended(crowd->r[attach], (int)attach, NULL);
}

static void crowd_bad(void *userdata, unsigned attach, const char *why)
{
    (void)userdata;
    fail_msg("attach %u: %s", attach, why);
}

static void crowd_done(void *userdata, unsigned attach)
{
    struct crowd *crowd = userdata;

    crowd->done++;
    rendezvous_freep(&crowd->r[attach]);
}

static unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void as_many_as_there_may_be(void **state)
{
    static const struct rendezvous_ops crowd_ops = {
        .up = crowd_up, .failed = crowd_bad, .gone = crowd_bad, .done = crowd_done};
    struct http_trust trust = trust_all();
    struct crowd crowd = {0};
    struct err e = ERR_INIT;
    struct world w;
    char url[64];

    (void)state;
    open_world(&w);
    peer_start(&w,
               "seen = []\n"
               "for i in range(100):\n"
               "    hello(); seen.append(c)\n"
               "statuses = set()\n"
               "for c in seen:\n"
               "    send('R', {}); o, e, x = until_x(); statuses.add(x['status'])\n"
               "    assert o == b'%d' % x['status'], o\n"
               "    c.close()\n"
               "assert statuses == set(range(100)), statuses\n",
               "server");
    (void)snprintf(url, sizeof(url), "tls://localhost:%u", w.port);
    unsigned before = open_descriptors();
    for (unsigned i = 0; i < RENDEZVOUS_MAX; i++) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC), out[2];

        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_true(dprintf(out[1], "%u", i) > 0);
        close(out[1]);
        struct rendezvous_spec spec = {.attach = i,
                                       .url = url,
                                       .secret = "s",
                                       .agent = "i-1",
                                       .dyno = "shop/run.5",
                                       .fds = {null, out[0], dup(null)},
                                       .wait_usec = 4 * PATIENCE,
                                       .trust = &trust};
        assert_int_equal(rendezvous_open(w.loop, &spec, &crowd_ops, &crowd, &crowd.r[i], &e), 0);
    }
    uint64_t until = clock_boot() + 4 * PATIENCE;
    unsigned most = 0; /* until the first is up all are there */
    while (crowd.done < RENDEZVOUS_MAX) {
        if (!crowd.up)
            most = open_descriptors() - before;
        assert_true(clock_boot() < until);
        assert_true(sd_event_run(w.loop, 100 * USEC_PER_MSEC) >= 0);
    }
    assert_int_equal(crowd.up, RENDEZVOUS_MAX);
    assert_in_range(most, RENDEZVOUS_MAX, 8 * RENDEZVOUS_MAX);
    peer_is_content(&w);
    close_world(&w);
}

static void what_is_no_attach(void **state)
{
    static const char *const urls[] = {
        "",
        "https://localhost:1",
        "tls://",
        "tls://localhost",
        "tls://localhost:",
        "tls://localhost:0",
        "tls://localhost:65536",
        "tls://localhost:1/x",
        "tls://user@localhost:1",
        "tls://local host:1",
        "tls://[::1:1",
        "tls://:1",
    };
    struct rendezvous *r = NULL;
    struct err e = ERR_INIT;
    struct world w;
    char secret[300];

    (void)state;
    open_world(&w);
    memset(secret, 'x', sizeof(secret));
    secret[257] = '\0';
    for (size_t i = 0; i <= sizeof(urls) / sizeof(*urls); i++) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        bool last = i == sizeof(urls) / sizeof(*urls);
        struct rendezvous_spec spec = {.url = last ? "tls://localhost:1" : urls[i],
                                       .secret = last ? secret : "s",
                                       .agent = "a",
                                       .dyno = "d",
                                       .fds = {fd, -1, -1}};

        assert_int_equal(rendezvous_open(w.loop, &spec, &ops, &w, &r, &e), -EINVAL);
        assert_null(r);
        assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken all the same */
    }
    close_world(&w);
}

static void addresses_never_dialled(void **state)
{
    static const struct {
        const char *text;
        bool forbidden;
    } cases[] = {
        {"169.254.169.254", true},
        {"169.254.0.1", true},
        {"169.253.1.1", false},
        {"127.0.0.1", false},
        {"fe80::1", true},
        {"febf::1", true},
        {"fd00:ec2::254", true},
        {"fd00:ec2::253", false},
        {"::ffff:169.254.169.254", true},
        {"::1", false},
        {"64:ff9b::a9fe:1", true},
        {"2001:db8::1", false},
    };
    struct world w;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
        const char *text = cases[i].text;
        bool is_v4 = inet_pton(AF_INET, text, &v4.sin_addr) == 1;

        assert_true(is_v4 || inet_pton(AF_INET6, text, &v6.sin6_addr) == 1);
        assert_int_equal(dial_forbidden(is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6),
                         cases[i].forbidden);
    }
    open_world(&w);
    attach_to(&w, "tls://169.254.169.254:80", 0, NULL);
    expect_failed(&w, "link-local");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_with_pipes),
        cmocka_unit_test(a_command_that_ends_before_anybody_comes),
        cmocka_unit_test(a_lot_each_way),
        cmocka_unit_test(a_peer_that_does_not_read_stops_the_command),
        cmocka_unit_test(a_command_that_does_not_read_stops_the_peer),
        cmocka_unit_test(a_peer_that_goes_while_it_is_held_back),
        cmocka_unit_test(a_command_without_stdin),
        cmocka_unit_test(a_terminal),
        cmocka_unit_test(a_terminal_that_all_have_closed),
        cmocka_unit_test(nobody_comes),
        cmocka_unit_test(a_peer_that_says_nothing),
        cmocka_unit_test(a_peer_that_is_late),
        cmocka_unit_test(a_certificate_that_nobody_signed),
        cmocka_unit_test(a_certificate_of_somebody_else),
        cmocka_unit_test(without_a_client_certificate),
        cmocka_unit_test(one_that_refuses_the_secret),
        cmocka_unit_test(wrong_before_r),
        cmocka_unit_test(a_peer_that_goes),
        cmocka_unit_test(wrong_after_r),
        cmocka_unit_test(a_byte_at_a_time),
        cmocka_unit_test(freed_in_its_own_call),
        cmocka_unit_test(as_many_as_there_may_be),
        cmocka_unit_test(what_is_no_attach),
        cmocka_unit_test(addresses_never_dialled),
    };

    return cmocka_run_group_tests_name("link_rendezvous", tests, set_up_all, tear_down_all);
}
