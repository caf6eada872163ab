/* The instance metadata: its parsing, and the asking against a small server in Python that gives
 * tokens with a life and otherwise what the test put into files. */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "link/http.h"
#include "link/imds.h"
#include "link/metadata.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define PATIENCE (60 * USEC_PER_SEC)
#define POLL     (100 * USEC_PER_MSEC)

/* A file below DIR is the answer to its path; "!N" is a status, "!hang" no answer at all. Every
 * request is a line in DIR/log. A directory's answer is its file .list. */
static const char server_script[] =
    "import http.server, os, socketserver, sys, time\n"
    "root = sys.argv[1]; tokens = {}; count = 0\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    protocol_version = 'HTTP/1.1'\n"
    "    def log_message(self, *a): pass\n"
    "    def say(self, status, body=b''):\n"
    "        self.send_response(status); self.send_header('Content-Length', str(len(body)))\n"
    "        self.end_headers(); self.wfile.write(body)\n"
    "    def note(self, what):\n"
    "        open(root + '/log', 'a').write(f'{what} {self.path}\\n')\n"
    "    def own(self):\n"
    "        p = root + self.path\n"
    "        if os.path.isdir(p): p += '/.list'\n"
    "        if not os.path.isfile(p): return False\n"
    "        b = open(p, 'rb').read()\n"
    "        if b == b'!hang': time.sleep(60)\n"
    "        elif b[:1] == b'!': self.say(int(b[1:]))\n"
    "        else: self.say(200, b)\n"
    "        return True\n"
    "    def do_PUT(self):\n"
    "        global count\n"
    "        self.note('PUT')\n"
    "        if self.path != '/latest/api/token': return self.say(405)\n"
    "        ttl = int(self.headers['X-aws-ec2-metadata-token-ttl-seconds'])\n"
    "        if not 1 <= ttl <= 21600: return self.say(400)\n"
    "        if self.own(): return\n"
    "        count += 1; t = f'TOKEN{count}=='; tokens[t] = time.time() + ttl; self.say(200, "
    "t.encode())\n"
    "    def do_GET(self):\n"
    "        if os.path.exists(root + '/forget'): tokens.clear(); os.unlink(root + '/forget')\n"
    "        good = tokens.get(self.headers.get('X-aws-ec2-metadata-token'), 0) > time.time()\n"
    "        self.note('GET' if good else '401')\n"
    "        if not good: return self.say(401)\n"
    "        if not self.own(): self.say(404, b'<html>404 - Not Found</html>')\n"
    "class S(socketserver.ThreadingMixIn, http.server.HTTPServer):\n"
    "    daemon_threads = True; allow_reuse_address = True\n"
    "    def handle_error(self, *a): pass\n"
    "s = S(('127.0.0.1', int(sys.argv[2])), H)\n"
    "print(s.server_address[1], flush=True)\n"
    "s.serve_forever()\n";

/* --- parsing ------------------------------------------------------------------------------------
 */

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds; /* -1: not a time */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2017-09-18T08:22:00Z", 1505722920},
        {"2017-09-18t08:22:00z", 1505722920},
        {"2017-09-18T08:22:00.999999Z", 1505722920},
        {"2017-09-18T10:22:00+02:00", 1505722920},
        {"2017-09-18T03:52:00-04:30", 1505722920},
        {"2016-12-31T23:59:60Z", 1483228799},
        {"2024-02-29T00:00:00Z", 1709164800},
        {"2023-02-29T00:00:00Z", -1},
        {"2017-04-31T00:00:00Z", -1},
        {"2017-09-18T24:00:00Z", -1},
        {"2017-13-18T08:22:00Z", -1},
        {"2017-00-18T08:22:00Z", -1},
        {"2017-09-18T08:22:00", -1},
        {"2017-09-18T08:22:00.Z", -1},
        {"2017-09-18T08:22Z", -1},
        {"2017-09-18 08:22:00Z", -1},
        {"2017-09-18T08:22:00Z ", -1},
        {" 2017-09-18T08:22:00Z", -1},
        {"17-09-18T08:22:00Z", -1},
        {"2017-9-18T08:22:00Z", -1},
        {"2017-09-18T08:22:00+0200", -1},
        {"+017-09-18T08:22:00Z", -1},
        {"99999-09-18T08:22:00Z", -1},
        {"", -1},
        {"now", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int64_t seconds = -2;
        int r = imds_time(cases[i].text, &seconds);

        if (r != (cases[i].seconds < 0 ? -EINVAL : 0) || (r == 0 && seconds != cases[i].seconds))
            fail_msg("%s: %d, %lld", cases[i].text, r, (long long)seconds);
    }
}

typedef int (*notice_fn)(const char *body, size_t len, struct imds_notice *ret, struct err *e);

/* DEADLINE NULL: garbage; "-": no notice. */
static void check_notice(notice_fn fn, const char *body, const char *deadline)
{
    struct imds_notice n = {.text = "untouched"};
    struct err e = ERR_INIT;
    int r = fn(body, strlen(body), &n, &e);

    if (!deadline) {
        if (r != -EBADMSG || strcmp(n.text, "untouched") != 0)
            fail_msg("taken, %d: %s", r, body);
        assert_true(e.text[0] != '\0');
        return;
    }
    if (r != 0)
        fail_msg("%s: %s", body, e.text);
    bool none = !strcmp(deadline, "-");
    if (n.there == none)
        fail_msg("there %d: %s", n.there, body);
    assert_string_equal(n.deadline, none ? "" : deadline);
    assert_int_equal(n.text[0] == '\0', none);
}

static void spot_notices(void **state)
{
    (void)state;
    check_notice(imds_spot, "{\"action\": \"terminate\", \"time\": \"2017-09-18T08:22:00Z\"}",
                 "2017-09-18T08:22:00Z");
    check_notice(imds_spot, "{\"action\":\"stop\",\"time\":\"2017-09-18T10:22:00+02:00\",\"x\":1}",
                 "2017-09-18T08:22:00Z");
    check_notice(imds_spot, "{\"action\":\"hibernate\",\"time\":\"2017-09-18T08:22:00Z\"}",
                 "2017-09-18T08:22:00Z");
    check_notice(imds_spot, "", NULL);
    check_notice(imds_spot, "<html><body>captive portal</body></html>", NULL);
    check_notice(imds_spot, "[]", NULL);
    check_notice(imds_spot, "{}", NULL);
    check_notice(imds_spot, "{\"action\":\"terminate\"}", NULL);
    check_notice(imds_spot, "{\"action\":\"terminate\",\"time\":1505722920}", NULL);
    check_notice(imds_spot, "{\"action\":\"dance\",\"time\":\"2017-09-18T08:22:00Z\"}", NULL);
    check_notice(imds_spot, "{\"action\":\"terminate\",\"time\":\"soon\"}", NULL);
    check_notice(imds_spot,
                 "{\"action\":\"terminate\",\"time\":\"2017-09-18T08:22:00Z\",\"time\":\"x\"}",
                 NULL);
    check_notice(imds_rebalance, "{\"noticeTime\": \"2020-10-26T22:24:19Z\"}", "");
    check_notice(imds_rebalance, "{\"noticeTime\": null}", NULL);
    check_notice(imds_rebalance, "<html>", NULL);
}

#define EVENT(code, before, event_state)                                                           \
    "{\"NotBefore\": \"" before "\", \"Code\": \"" code                                            \
    "\", \"Description\": \"d\", \"EventId\": \"instance-event-0\", \"NotAfter\": \"21 Jan 2019 "  \
    "09:17:23 GMT\", \"State\": \"" event_state "\"}"

static void scheduled_events(void **state)
{
    (void)state;
    check_notice(imds_maintenance, "[]", "-");
    check_notice(imds_maintenance,
                 "[" EVENT("system-reboot", "21 Jan 2019 09:00:43 GMT", "active") "]",
                 "2019-01-21T09:00:43Z");
    check_notice(imds_maintenance,
                 "[" EVENT("system-reboot", "21 Jan 2019 09:00:43 GMT", "completed") "]", "-");
    /* The first of those that are still to come. */
    check_notice(imds_maintenance,
                 "[" EVENT("instance-stop", "3 Mar 2021 10:00:00 GMT", "active") ","      //
                 EVENT("system-reboot", "1 Feb 2021 10:00:00 GMT", "active") ","          //
                 EVENT("instance-retirement", "1 Jan 2021 10:00:00 GMT", "canceled") "]", //
                 "2021-02-01T10:00:00Z");
    check_notice(imds_maintenance, "[" EVENT("system-reboot", "2019-01-21T09:00:43Z", "active") "]",
                 "2019-01-21T09:00:43Z");
    check_notice(imds_maintenance, "{}", NULL);
    check_notice(imds_maintenance, "[1]", NULL);
    check_notice(imds_maintenance, "[" EVENT("", "21 Jan 2019 09:00:43 GMT", "active") "]", NULL);
    check_notice(imds_maintenance,
                 "[" EVENT("a\\u001b[31m", "21 Jan 2019 09:00:43 GMT", "active") "]", NULL);
    check_notice(imds_maintenance, "[" EVENT("reboot", "31 Jun 2019 09:00:43 GMT", "active") "]",
                 NULL);
    check_notice(imds_maintenance, "[" EVENT("reboot", "21 Foo 2019 09:00:43 GMT", "active") "]",
                 NULL);
    check_notice(imds_maintenance, "[" EVENT("reboot", "21 Jan 2019 09:00:43 CET", "active") "]",
                 NULL);
    check_notice(imds_maintenance, "[" EVENT("reboot", "21 J", "active") "]", NULL);
    check_notice(imds_autoscaling, "InService", "-");
    check_notice(imds_autoscaling, "Warmed:Stopped", "-");
    check_notice(imds_autoscaling, "Terminated", "");
    check_notice(imds_autoscaling, "Terminated\n", "");
    check_notice(imds_autoscaling, "Warmed:Terminated", "");
    check_notice(imds_autoscaling, "", NULL);
    check_notice(imds_autoscaling, "<html>Terminated</html>", NULL);
}

static void values(void **state)
{
    static const struct {
        enum imds_value kind;
        const char *body, *value; /* NULL: garbage */
    } cases[] = {
        {IMDS_ID, "i-0123456789abcdef0", "i-0123456789abcdef0"},
        {IMDS_ID, "m6i.large\n", "m6i.large"},
        {IMDS_ID, "", NULL},
        {IMDS_ID, "i 1", NULL},
        {IMDS_ID, "i\n1", NULL},
        {IMDS_ID, "<html>", NULL},
        {IMDS_ID, "../../x", NULL},
        {IMDS_ID, "a12345678901234567890123456789012345678901234567890123456789012345", NULL},
        {IMDS_ADDRESS, "10.0.3.7", "10.0.3.7"},
        {IMDS_ADDRESS, "10.0.3", NULL},
        {IMDS_ADDRESS, "10.0.3.7 ", NULL},
        {IMDS_ADDRESS, "", NULL},
        {IMDS_ANY, "", ""},
        {IMDS_ANY, "two words, \xc3\xa4 <and> \"more\"", "two words, \xc3\xa4 <and> \"more\""},
        {IMDS_ANY, "\x1b[31m", NULL},
        {IMDS_ANY, "a\nb", NULL},
        {IMDS_ANY, "\xff", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char got[IMDS_VALUE_MAX + 1] = "untouched";
        struct err e = ERR_INIT;
        int r = imds_value(cases[i].kind, cases[i].body, strlen(cases[i].body), got, &e);

        if (r != (cases[i].value ? 0 : -EBADMSG))
            fail_msg("%s: %d", cases[i].body, r);
        assert_string_equal(got, cases[i].value ? cases[i].value : "untouched");
    }
}

static void tokens_names_documents(void **state)
{
    static const char list[] = "Name\nteam@x\na b\n..\n/etc\n\nx=1\n";
    char token[IMDS_TOKEN_MAX + 1], long_one[IMDS_TOKEN_MAX + 2];
    struct err e = ERR_INIT;
    unsigned skipped = 0;

    (void)state;
    memset(long_one, 'x', sizeof(long_one));
    assert_int_equal(imds_token("AQAEAH_x-7/+==\n", 15, token, &e), 0);
    assert_string_equal(token, "AQAEAH_x-7/+==");
    assert_int_equal(imds_token(long_one, IMDS_TOKEN_MAX, token, &e), 0);
    assert_int_equal(imds_token(long_one, IMDS_TOKEN_MAX + 1, token, &e), -EBADMSG);
    assert_int_equal(imds_token("", 0, token, &e), -EBADMSG);
    assert_int_equal(imds_token("a\r\nX-Evil: 1", 12, token, &e), -EBADMSG);
    assert_int_equal(imds_token("<html>", 6, token, &e), -EBADMSG);
    assert_null(strstr(e.text, "html")); /* it may be a secret */

    json_t *names = json_array();
    assert_int_equal(imds_names(list, strlen(list), 50, names, &skipped, &e), 0);
    assert_int_equal(json_array_size(names), 3);
    assert_string_equal(json_string_value(json_array_get(names, 2)), "x=1");
    assert_int_equal(skipped, 4);
    assert_int_equal(imds_names("a\nb\nc", 5, 4, names, &skipped, &e), 0);
    assert_int_equal(json_array_size(names), 4);
    assert_int_equal(skipped, 2);
    json_decref(names);

    static const char document[] = "{\"instanceId\": \"i-1\", \"region\": \"us-east-1\"}";
    assert_int_equal(imds_document(document, strlen(document), "i-1", &e), 0);
    assert_int_equal(imds_document(document, strlen(document), "i-2", &e), -EBADMSG);
    assert_int_equal(imds_document("i-1", 3, "i-1", &e), -EBADMSG);
    assert_int_equal(imds_signature("MIAGCSqG\nSIb3==\n", 16, &e), 0);
    assert_int_equal(imds_signature("", 0, &e), -EBADMSG);
    assert_int_equal(imds_signature("<p>", 3, &e), -EBADMSG);
}

/* --- asking -------------------------------------------------------------------------------------
 */

struct world {
    char dir[200];
    sd_event *loop;
    struct http *http;
    struct metadata *m;
    pid_t server;
    unsigned port;
    json_t *identity;
    unsigned identities, absent, told, withdrawn, troubles, begins;
    char kind[32], deadline[64], withdrawn_kind[32], trouble_kind[32];
    bool free_in_call;
};

static void on_identity(void *userdata, const json_t *identity)
{
    struct world *w = userdata;

    json_decref(w->identity);
    w->identity = json_deep_copy(identity);
    w->identities++;
    if (w->free_in_call)
        metadata_freep(&w->m);
}

static void on_interruption(void *userdata, const char *kind, const char *deadline,
                            const char *text)
{
    struct world *w = userdata;

    assert_true(strlen(text) > 0);
    w->told++;
    (void)snprintf(w->kind, sizeof(w->kind), "%s", kind);
    (void)snprintf(w->deadline, sizeof(w->deadline), "%s", deadline ? deadline : "none");
    if (w->free_in_call)
        metadata_freep(&w->m);
}

static void on_withdrawn(void *userdata, const char *kind)
{
    struct world *w = userdata;

    w->withdrawn++;
    (void)snprintf(w->withdrawn_kind, sizeof(w->withdrawn_kind), "%s", kind);
}

static void on_absent(void *userdata)
{
    struct world *w = userdata;

    w->absent++;
    if (w->free_in_call)
        metadata_freep(&w->m);
}

static void on_trouble(void *userdata, const char *kind, const char *text, bool begins)
{
    struct world *w = userdata;

    assert_true(strlen(text) > 0);
    w->troubles++;
    w->begins += begins;
    (void)snprintf(w->trouble_kind, sizeof(w->trouble_kind), "%s", kind);
}

static const struct metadata_ops ops = {on_identity, on_interruption, on_withdrawn, on_absent,
                                        on_trouble};

static void put(struct world *w, const char *path, const char *body)
{
    char full[512];
    struct err e = ERR_INIT;

    (void)snprintf(full, sizeof(full), "%s/latest/%s", w->dir, path);
    *strrchr(full, '/') = '\0';
    assert_int_equal(dir_make_all(full, 0700, &e), 0);
    (void)snprintf(full, sizeof(full), "%s/latest/%s", w->dir, path);
    assert_int_equal(file_write_atomic(AT_FDCWD, full, body, strlen(body), 0600, &e), 0);
}

static void take_away(struct world *w, const char *path)
{
    char full[512];

    (void)snprintf(full, sizeof(full), "%s/latest/%s", w->dir, path);
    assert_int_equal(unlink(full), 0);
}

/* How many requests were of this kind. */
static unsigned requests(struct world *w, const char *begin)
{
    scoped_free char *log = NULL;
    struct err e = ERR_INIT;
    char full[300];
    size_t len;
    unsigned n = 0;

    (void)snprintf(full, sizeof(full), "%s/log", w->dir);
    if (file_read(AT_FDCWD, full, 16 << 20, &log, &len, &e) < 0)
        return 0;
    for (char *line = log; line && *line; line = strchr(line, '\n'), line += line != NULL)
        n += str_starts(line, begin);
    return n;
}

static void server_start(struct world *w)
{
    char text[16] = "", port[16];
    int out[2];

    (void)snprintf(port, sizeof(port), "%u", w->port);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    w->server = fork();
    assert_true(w->server >= 0);
    if (w->server == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execlp("python3", "python3", "-c", server_script, w->dir, port, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof(text) - 1 && !strchr(text, '\n'); n++)
        assert_int_equal(read(out[0], text + n, 1), 1);
    close(out[0]);
    w->port = (unsigned)strtoul(text, NULL, 10);
}

static void server_stop(struct world *w)
{
    if (w->server > 0) {
        (void)kill(w->server, SIGKILL);
        (void)waitpid(w->server, NULL, 0);
    }
    w->server = 0;
}

static void open_world(struct world *w)
{
    struct err e = ERR_INIT;

    *w = (struct world){0};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(w->dir, sizeof(w->dir), "%s/metadata-test-XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(w->dir));
    assert_true(sd_event_new(&w->loop) >= 0);
    assert_int_equal(http_new(w->loop, &w->http, &e), 0);
    put(w, "meta-data/instance-id", "i-0123456789abcdef0");
}

static void look(struct world *w, struct metadata_spec spec)
{
    struct err e = ERR_INIT;
    char url[64];

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", w->port);
    spec.url = url;
    spec.poll_usec = POLL;
    spec.pause_usec = POLL;
    if (!spec.answer_usec)
        spec.answer_usec = PATIENCE; /* the server has not to be fast */
    assert_int_equal(metadata_open(w->loop, w->http, &spec, &ops, w, &w->m, &e), 0);
}

static void close_world(struct world *w)
{
    struct err e = ERR_INIT;

    metadata_freep(&w->m);
    http_freep(&w->http);
    server_stop(w);
    json_decref(w->identity);
    sd_event_unref(w->loop);
    assert_int_equal(tree_remove(AT_FDCWD, w->dir, &e), 0);
}

static void run_until(struct world *w, const unsigned *counter, unsigned n)
{
    uint64_t until = clock_boot() + PATIENCE;

    while (*counter < n) {
        if (clock_boot() > until)
            fail_msg("nothing came: identities %u told %u troubles %u (%s)", w->identities, w->told,
                     w->troubles, w->trouble_kind);
        assert_true(sd_event_run(w->loop, 100 * USEC_PER_MSEC) >= 0);
    }
}

/* Returns how often the loop turned. */
static unsigned run_for(struct world *w, uint64_t usec)
{
    uint64_t until = clock_boot() + usec;
    unsigned turns = 0;

    for (uint64_t now = clock_boot(); now < until; now = clock_boot())
        turns += sd_event_run(w->loop, until - now) > 0;
    return turns;
}

/* Until the loop turns at most MOST times in USEC: libcurl may still have to tidy up. */
static void run_until_quiet(struct world *w, uint64_t usec, unsigned most)
{
    uint64_t until = clock_boot() + PATIENCE;

    while (run_for(w, usec) > most)
        assert_true(clock_boot() < until);
}

static const char *label(struct world *w, const char *name)
{
    return json_str(json_object_get(w->identity, "labels"), name, "-");
}

static void an_identity(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    put(&w, "meta-data/placement/region", "eu-west-1");
    put(&w, "meta-data/placement/availability-zone", "eu-west-1a");
    put(&w, "meta-data/instance-type", "m6i.large");
    put(&w, "meta-data/instance-life-cycle", "spot");
    put(&w, "meta-data/local-ipv4", "10.0.3.7");
    put(&w, "meta-data/tags/instance/.list", "Name\nteam@x");
    put(&w, "meta-data/tags/instance/Name", "a name, with blanks");
    put(&w, "meta-data/tags/instance/team@x", "");
    put(&w, "dynamic/instance-identity/document", "{\"instanceId\": \"i-0123456789abcdef0\"}");
    put(&w, "dynamic/instance-identity/rsa2048", "MIAGCSqGSIb3DQEHAqCA\n");
    server_start(&w);
    look(&w, (struct metadata_spec){.identity_document = true});
    run_until(&w, &w.identities, 1);
    assert_string_equal(json_str(w.identity, "agent", ""), "i-0123456789abcdef0");
    assert_string_equal(json_str(w.identity, "address", ""), "10.0.3.7");
    assert_string_equal(label(&w, "zone"), "eu-west-1a");
    assert_string_equal(label(&w, "region"), "eu-west-1");
    assert_string_equal(label(&w, "type"), "m6i.large");
    assert_string_equal(label(&w, "lifecycle"), "spot");
    assert_string_equal(label(&w, "instance"), "i-0123456789abcdef0");
    assert_string_equal(label(&w, "ami"), "-"); /* 404: it is not there, and no trouble */
    assert_string_equal(label(&w, "tag.Name"), "a name, with blanks");
    assert_string_equal(label(&w, "tag.team@x"), "");
    json_t *document = json_object_get(w.identity, "document");
    assert_true(str_starts(json_str(document, "rsa2048", ""), "MIAG"));
    assert_true(str_starts(json_str(document, "document", ""), "{\"instanceId\""));
    assert_int_equal(w.troubles, 0);
    assert_int_equal(requests(&w, "PUT"), 1);
    /* Without the notices there is nothing more to ask. */
    unsigned before = requests(&w, "GET");
    run_until_quiet(&w, 500 * USEC_PER_MSEC, 0);
    assert_int_equal(requests(&w, "GET"), before);
    close_world(&w);
}

/* What is not as it should be is counted and left out; the rest counts. */
static void garbage_in_the_identity(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    put(&w, "meta-data/placement/region", "<html>");
    put(&w, "meta-data/placement/availability-zone", "!500");
    put(&w, "meta-data/instance-type", "m6i.large");
    put(&w, "meta-data/local-ipv4", "not an address");
    put(&w, "meta-data/tags/instance/.list", "good\nb ad\nugly\ngone");
    put(&w, "meta-data/tags/instance/good", "yes");
    put(&w, "meta-data/tags/instance/ugly", "x\x1b[2J");
    put(&w, "dynamic/instance-identity/document", "{\"instanceId\": \"i-another\"}");
    put(&w, "dynamic/instance-identity/rsa2048", "MIAG");
    server_start(&w);
    look(&w, (struct metadata_spec){.identity_document = true});
    run_until(&w, &w.identities, 1);
    assert_string_equal(label(&w, "type"), "m6i.large");
    assert_string_equal(label(&w, "region"), "-");
    assert_string_equal(label(&w, "zone"), "-");
    assert_true(json_is_null(json_object_get(w.identity, "address")));
    assert_null(json_object_get(w.identity, "document"));
    assert_string_equal(label(&w, "tag.good"), "yes");
    assert_string_equal(label(&w, "tag.ugly"), "-");
    assert_string_equal(label(&w, "tag.gone"), "-");
    assert_int_equal(w.troubles, 6);
    assert_int_equal(w.begins, 1);
    close_world(&w);
}

static void notices_are_told_once(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    server_start(&w);
    look(&w, (struct metadata_spec){.lifecycle = true});
    run_until(&w, &w.identities, 1);
    run_for(&w, 3 * POLL);
    assert_int_equal(w.told + w.withdrawn + w.troubles, 0);

    put(&w, "meta-data/spot/instance-action",
        "{\"action\": \"terminate\", \"time\": \"2030-01-01T00:02:00Z\"}");
    run_until(&w, &w.told, 1);
    assert_string_equal(w.kind, "spot");
    assert_string_equal(w.deadline, "2030-01-01T00:02:00Z");
    run_for(&w, 5 * POLL);
    assert_int_equal(w.told, 1);
    put(&w, "meta-data/spot/instance-action",
        "{\"action\": \"terminate\", \"time\": \"2030-01-01T00:01:00Z\"}");
    run_until(&w, &w.told, 2);
    assert_string_equal(w.deadline, "2030-01-01T00:01:00Z");

    put(&w, "meta-data/events/recommendations/rebalance",
        "{\"noticeTime\": \"2030-01-01T00:00:00Z\"}");
    run_until(&w, &w.told, 3);
    assert_string_equal(w.kind, "rebalance");
    assert_string_equal(w.deadline, "none");
    put(&w, "meta-data/autoscaling/target-lifecycle-state", "InService");
    run_for(&w, 3 * POLL);
    put(&w, "meta-data/autoscaling/target-lifecycle-state", "Terminated");
    run_until(&w, &w.told, 4);
    assert_string_equal(w.kind, "autoscaling");
    put(&w, "meta-data/events/maintenance/scheduled",
        "[" EVENT("system-reboot", "21 Jan 2031 09:00:43 GMT", "active") "]");
    run_until(&w, &w.told, 5);
    assert_string_equal(w.kind, "maintenance");

    take_away(&w, "meta-data/spot/instance-action");
    run_until(&w, &w.withdrawn, 1);
    assert_string_equal(w.withdrawn_kind, "spot");
    put(&w, "meta-data/events/maintenance/scheduled", "[]");
    run_until(&w, &w.withdrawn, 2);
    assert_string_equal(w.withdrawn_kind, "maintenance");
    assert_int_equal(w.told, 5);
    assert_int_equal(w.identities, 1);
    assert_int_equal(w.troubles, 0);
    close_world(&w);
}

/* One bad answer hides no other, and takes no notice back; nor does silence. */
static void notices_and_garbage(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    put(&w, "meta-data/events/recommendations/rebalance",
        "{\"noticeTime\": \"2030-01-01T00:00:00Z\"}");
    server_start(&w);
    look(&w, (struct metadata_spec){.lifecycle = true});
    run_until(&w, &w.told, 1);
    put(&w, "meta-data/spot/instance-action", "<html>busy</html>");
    put(&w, "meta-data/events/recommendations/rebalance", "!500");
    put(&w, "meta-data/autoscaling/target-lifecycle-state", "Terminated");
    run_until(&w, &w.told, 2);
    assert_string_equal(w.kind, "autoscaling");
    run_until(&w, &w.troubles, 6);
    assert_int_equal(w.begins, 1);
    server_stop(&w);
    unsigned before = w.troubles;
    run_until(&w, &w.troubles, before + 2);
    assert_string_equal(w.trouble_kind, "metadata-silent");
    assert_int_equal(w.begins, 1);

    take_away(&w, "meta-data/spot/instance-action");
    put(&w, "meta-data/events/recommendations/rebalance",
        "{\"noticeTime\": \"2030-01-01T00:00:00Z\"}");
    server_start(&w);
    before = requests(&w, "GET /latest/meta-data/autoscaling");
    while (requests(&w, "GET /latest/meta-data/autoscaling") < before + 2)
        run_for(&w, POLL);
    assert_int_equal(w.withdrawn, 0);
    assert_int_equal(w.told, 2);
    /* It is over: the next trouble begins anew. */
    put(&w, "meta-data/spot/instance-action", "<html>busy</html>");
    run_until(&w, &w.begins, 2);
    assert_int_equal(w.absent, 0);
    close_world(&w);
}

/* A token's life is one second here: each is used for nine tenths of it, and none too long. A token
 * may grow too old on its way on a busy machine, but not each time. */
static void tokens_are_renewed(void **state)
{
    struct world w;
    uint64_t began = clock_boot(), until = began + PATIENCE;
    unsigned puts = 0, refused = 0, in_a_row = 0;

    (void)state;
    open_world(&w);
    server_start(&w);
    look(&w, (struct metadata_spec){.lifecycle = true, .token_sec = 1});
    while (in_a_row < 3) {
        assert_true(clock_boot() < until);
        run_for(&w, POLL);
        unsigned now = requests(&w, "PUT"), bad = requests(&w, "401");

        in_a_row = bad > refused ? 0 : in_a_row + now - puts;
        puts = now;
        refused = bad;
    }
    /* None before its time, but those that were refused. */
    assert_true(puts - refused <= (clock_boot() - began) / (900 * USEC_PER_MSEC) + 1);
    assert_int_equal(w.troubles, 0);
    close_world(&w);
}

/* The service may forget them: a new one at once, and that is no trouble. */
static void tokens_are_forgotten(void **state)
{
    struct world w;
    struct err e = ERR_INIT;
    char path[300];

    (void)state;
    open_world(&w);
    server_start(&w);
    look(&w, (struct metadata_spec){.lifecycle = true});
    run_until(&w, &w.identities, 1);
    (void)snprintf(path, sizeof(path), "%s/forget", w.dir);
    assert_int_equal(file_write_atomic(AT_FDCWD, path, "", 0, 0600, &e), 0);
    while (requests(&w, "PUT") < 2)
        run_for(&w, POLL);
    run_for(&w, 5 * POLL);
    assert_int_equal(requests(&w, "401"), 1);
    assert_int_equal(requests(&w, "PUT"), 2);
    assert_int_equal(w.troubles, 0);
    /* One that refuses those it just gave is asked with pauses. */
    put(&w, "api/token", "BOGUS");
    assert_int_equal(file_write_atomic(AT_FDCWD, path, "", 0, 0600, &e), 0);
    run_until(&w, &w.troubles, 2);
    assert_in_range(requests(&w, "401"), 3, 5);
    assert_string_equal(w.trouble_kind, "metadata-status");
    assert_int_equal(w.begins, 1);
    close_world(&w);
}

/* Nothing there: four tries, one word, then silence, without a wake-up. */
static void absent(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    server_start(&w);
    server_stop(&w); /* its port is free again */
    look(&w, (struct metadata_spec){.lifecycle = true, .may_be_absent = true});
    run_until(&w, &w.absent, 1);
    assert_int_equal(w.troubles, METADATA_TRIES);
    assert_int_equal(w.begins, 0);
    run_until_quiet(&w, 2 * USEC_PER_SEC, 0);
    server_start(&w);
    (void)run_for(&w, USEC_PER_SEC);
    assert_int_equal(requests(&w, "PUT"), 0);
    assert_int_equal(w.absent, 1);
    close_world(&w);
}

/* One that was configured by its URL is waited for. */
static void late(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    server_start(&w);
    server_stop(&w);
    look(&w, (struct metadata_spec){.lifecycle = true});
    run_until(&w, &w.absent, 1);
    assert_int_equal(w.begins, 1);
    server_start(&w);
    run_until(&w, &w.identities, 1);
    assert_int_equal(w.absent, 1);
    close_world(&w);
}

/* Accepts and does not answer, at the token and in the middle. */
static void hanging(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    put(&w, "api/token", "!hang");
    server_start(&w);
    uint64_t began = clock_boot();
    look(&w, (struct metadata_spec){.lifecycle = true, .answer_usec = 2 * USEC_PER_SEC});
    run_until(&w, &w.troubles, 1);
    assert_in_range(clock_boot() - began, 2 * USEC_PER_SEC, PATIENCE / 2);
    assert_string_equal(w.trouble_kind, "metadata-silent");
    take_away(&w, "api/token");
    put(&w, "meta-data/instance-type", "!hang");
    run_until(&w, &w.troubles, 2);
    take_away(&w, "meta-data/instance-type");
    run_until(&w, &w.identities, 1);
    close_world(&w);
}

/* A portal that answers everything with a page. */
static void not_a_metadata_service(void **state)
{
    scoped_free char *huge = malloc(100001);
    struct world w;

    (void)state;
    open_world(&w);
    memset(huge, 'x', 100000);
    huge[100000] = '\0';
    put(&w, "api/token", huge);
    server_start(&w);
    look(&w, (struct metadata_spec){.may_be_absent = true});
    run_until(&w, &w.troubles, 1);
    assert_string_equal(w.trouble_kind, "metadata-garbage");
    put(&w, "api/token", "<html><body>Welcome to the hotel</body></html>");
    run_until(&w, &w.absent, 1);
    assert_int_equal(w.identities, 0);
    assert_int_equal(w.begins, 0);
    close_world(&w);
}

static void freed_in_its_own_calls(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    server_start(&w);
    w.free_in_call = true;
    look(&w, (struct metadata_spec){.lifecycle = true});
    run_until(&w, &w.identities, 1);
    assert_null(w.m);
    look(&w, (struct metadata_spec){.lifecycle = true});
    w.free_in_call = false;
    run_until(&w, &w.identities, 2);
    w.free_in_call = true;
    put(&w, "meta-data/autoscaling/target-lifecycle-state", "Terminated");
    run_until(&w, &w.told, 1);
    assert_null(w.m);
    run_for(&w, 3 * POLL);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),
        cmocka_unit_test(spot_notices),
        cmocka_unit_test(scheduled_events),
        cmocka_unit_test(values),
        cmocka_unit_test(tokens_names_documents),
        cmocka_unit_test(an_identity),
        cmocka_unit_test(garbage_in_the_identity),
        cmocka_unit_test(notices_are_told_once),
        cmocka_unit_test(notices_and_garbage),
        cmocka_unit_test(tokens_are_renewed),
        cmocka_unit_test(tokens_are_forgotten),
        cmocka_unit_test(absent),
        cmocka_unit_test(late),
        cmocka_unit_test(hanging),
        cmocka_unit_test(not_a_metadata_service),
        cmocka_unit_test(freed_in_its_own_calls),
    };

    return cmocka_run_group_tests_name("link_metadata", tests, NULL, NULL);
}
