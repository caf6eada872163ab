/* The roles `image` and `seal` with both of their peers: unpack on one socket, dynod on the other.
 */
#include "imagefixture.h"

#include "slug/hash.h"
#include "slug/image/role.h"
#include "slug/layout.h"
#include "tmpdir.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct slug_limits limits;

/* One role at work, and what its peers hold. */
struct stage {
    pthread_t thread;
    int role_control; /* the role's end */
    struct frame_conn *control;
    int entries; /* unpack's end */
    int image;
    int served;
};

static int set_up(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    slug_limits_default(&limits);
    return base_make("role-test");
}

static void next_frame(struct frame_conn *c, struct frame *f)
{
    struct err e = ERR_INIT;
    int r;

    while ((r = frame_next(c, f, &e)) == 0)
        (void)usleep(1000);
    if (r < 0)
        fail_msg("%s", e.text);
}

static void *serve(void *arg)
{
    struct stage *s = arg;
    struct frame_conn *control = NULL;
    struct err e = ERR_INIT;
    struct frame f = {0};
    int r;

    if (frame_conn_new(s->role_control, &control, &e) < 0)
        return NULL;
    while ((r = frame_next(control, &f, &e)) == 0)
        (void)usleep(1000);
    if (r > 0)
        s->served = json_object_get(f.json, "seal") ? seal_serve(control, &f, &e)
                                                    : image_serve(control, &f, &e);
    frame_done(&f);
    frame_conn_freep(&control);
    return NULL;
}

static void send_json(struct stage *s, const char *text, const int *fds, size_t n_fds)
{
    scoped(json_freep) json_t *json = json_loads(text, 0, NULL);
    struct err e = ERR_INIT;

    assert_non_null(json);
    assert_int_equal(frame_send(s->control, json, fds, n_fds, &e), 0);
}

/* Starts a role with the first frame REQUEST, whose descriptors are the entries' socket and the
 * image, or the image alone. */
static void start(struct stage *s, const char *request, bool seal)
{
    char path[256];
    int control[2], entries[2];
    struct err e = ERR_INIT;

    (void)snprintf(path, sizeof(path), "%s/image", base);
    *s = (struct stage){.served = 1, .entries = -1};
    s->image = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(s->image >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, entries), 0);
    s->role_control = control[0];
    s->entries = entries[0];
    assert_int_equal(frame_conn_new(control[1], &s->control, &e), 0);
    send_json(s, request, seal ? &s->image : (int[]){entries[1], s->image}, seal ? 1 : 2);
    close(entries[1]);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* The role's report; the role has ended. */
static json_t *report(struct stage *s)
{
    struct frame f;

    next_frame(s->control, &f);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(s->served, 0);
    frame_conn_freep(&s->control);
    fd_closep(&s->entries);
    return f.json;
}

static void assert_error(struct stage *s, const char *step, const char *why, const char *fault)
{
    scoped(json_freep) json_t *json = report(s);
    const json_t *error = json_object_get(json, "error");

    if (!error || !strstr(json_str(error, "text", ""), why) ||
        strcmp(json_str(error, "step", ""), step) != 0 ||
        strcmp(json_str(error, "fault", ""), fault) != 0)
        fail_msg("%s", json_dumps(json, 0));
    close(s->image);
}

/* unpack's part, with the tar T (freed). */
static int unpack(struct stage *s, struct str *t, struct entries_reply *reply, struct err *e)
{
    scoped_free struct image_sink *sink = malloc(sizeof(*sink));
    struct slug_counts counts;
    struct stream_mem mem;

    tar_end(t);
    image_sink_init(sink, s->entries, s->image);
    stream_mem_init(&mem, t->data, t->len);
    int r = archive_walk(&mem.s, &limits, &sink->sink, &counts, e);
    str_done(t);
    assert_int_equal(ftruncate(s->image, (off_t)sink->end), 0);
    return r < 0 ? r : entries_end(&sink->out, sink->end, reply, e);
}

static const char request[] = "{\"image\": {\"uid\": 4711, \"gid\": 4712}}";
static const char finish[] = "{\"finish\": {\"digest\": \"" TEST_DIGEST "\"}}";

static void an_image_from_end_to_end(void **state)
{
    struct stage s;
    struct str t = {0};
    struct entries_reply reply;
    struct err e = ERR_INIT;
    char text[16] = "";

    (void)state;
    start(&s, request, false);
    tar_file(&t, "app/x", 0644, "first");
    for (int i = 0; i < 5000; i++) { /* more than the socket holds */
        char path[64];

        (void)snprintf(path, sizeof(path), "app/some/directory/with/files/%d", i);
        tar_file(&t, path, 0644, "");
    }
    tar_file(&t, "app/Procfile", 0644, "web: true\n");
    tar_symlink(&t, "app/.release", "x");
    assert_int_equal(unpack(&s, &t, &reply, &e), 0);
    assert_int_equal(reply.procfile.state, SLUG_TEXT_HERE);
    assert_int_equal(reply.procfile.size, 10);
    assert_int_equal(pread(s.image, text, 10, (off_t)reply.procfile.offset), 10);
    assert_string_equal(text, "web: true\n");
    assert_int_equal(reply.release.state, SLUG_TEXT_NOT_FILE);
    assert_int_equal(reply.inodes, 5000 + 3 + 5);
    /* Not before dynod says so. */
    assert_int_equal(lseek(s.image, 0, SEEK_END), 3 * IMAGE_BLOCK);
    fd_closep(&s.entries);
    send_json(&s, finish, NULL, 0);
    scoped(json_freep) json_t *json = report(&s);
    const json_t *ok = json_object_get(json, "ok");
    assert_int_equal(json_int(ok, "inodes", -1), reply.inodes);
    assert_int_equal(json_int(ok, "bytes", -1), lseek(s.image, 0, SEEK_END));
    assert_true(json_int(json_object_get(ok, "ms"), "entries", -1) >= 0);
    assert_true(json_int(json_object_get(ok, "ms"), "metadata", -1) >= 0);
    assert_int_equal(image_fsck(s.image), 0);
    close(s.image);
}

static void where_texts_lie(void **state)
{
    static const struct {
        char kind; /* of the Procfile, 0: there is none */
        uint64_t size;
        uint32_t state;
    } cases[] = {{0, 0, SLUG_TEXT_ABSENT},
                 {'0', 0, SLUG_TEXT_HERE},
                 {'0', PROCFILE_MAX_BYTES, SLUG_TEXT_HERE},
                 {'0', PROCFILE_MAX_BYTES + 1, SLUG_TEXT_TOO_LARGE},
                 {'5', 0, SLUG_TEXT_NOT_FILE},
                 {'2', 0, SLUG_TEXT_NOT_FILE}};
    scoped_free char *zeros = calloc(1, PROCFILE_MAX_BYTES + 1);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct entries_reply reply;
        struct err e = ERR_INIT;
        struct str t = {0};
        struct stage s;

        start(&s, request, false);
        tar_file(&t, "x", 0644, "x");
        if (cases[i].kind) {
            tar_header(&t, "Procfile", cases[i].kind, 0755, "x", cases[i].size);
            tar_data(&t, zeros, cases[i].size);
        }
        assert_int_equal(unpack(&s, &t, &reply, &e), 0);
        assert_int_equal(reply.procfile.state, cases[i].state);
        if (cases[i].state == SLUG_TEXT_HERE)
            assert_int_equal(reply.procfile.size, cases[i].size);
        fd_closep(&s.entries);
        send_json(&s, finish, NULL, 0);
        json_decref(report(&s));
        close(s.image);
    }
}

static void a_refusal_reaches_both(void **state)
{
    struct entries_reply reply;
    struct err e = ERR_INIT;
    struct str t = {0};
    struct stage s;

    (void)state;
    start(&s, request, false);
    tar_dir(&t, "app/d", 0755);
    tar_file(&t, "app/d", 0644, "x");
    for (int i = 0; i < 20000; i++) /* unpack is still writing when it is refused */
        tar_dir(&t, "app/some/directory/with/a/rather/long/name/in/the/end", 0755);
    tar_file(&t, "app/x", 0644, "x");
    assert_int_equal(unpack(&s, &t, &reply, &e), -EBADMSG);
    assert_string_equal(e.text, "app/d: is a directory already");
    assert_int_equal(e.fault, FAULT_APP);
    assert_error(&s, "archive", "app/d: is a directory already", "app");
}

/* Who could still write to the image must be gone before its metadata are written. */
static void an_unpacker_that_stays(void **state)
{
    struct entries_reply reply;
    struct err e = ERR_INIT;
    struct str t = {0};
    struct stage s;

    (void)state;
    for (int more = 0; more < 2; more++) {
        start(&s, request, false);
        tar_file(&t, "x", 0644, "x");
        assert_int_equal(unpack(&s, &t, &reply, &e), 0);
        if (more)
            assert_int_equal(write(s.entries, "x", 1), 1);
        send_json(&s, finish, NULL, 0);
        assert_error(&s, "image", more ? "goes on behind its end" : "still has its end",
                     "platform");
    }
}

static void a_peer_that_dies(void **state)
{
    struct entries_reply reply;
    struct err e = ERR_INIT;
    struct str t = {0};
    struct stage s;

    (void)state;
    start(&s, request, false); /* unpack, before the end */
    fd_closep(&s.entries);
    assert_error(&s, "image", "the stream of entries ended before its end", "platform");

    start(&s, request, false); /* dynod, before its word */
    tar_file(&t, "x", 0644, "x");
    assert_int_equal(unpack(&s, &t, &reply, &e), 0);
    frame_conn_freep(&s.control);
    assert_int_equal(pthread_join(s.thread, NULL), 0);
    assert_true(s.served < 0);
    assert_int_equal(lseek(s.image, 0, SEEK_END), 2 * IMAGE_BLOCK); /* no image */
    fd_closep(&s.entries);
    close(s.image);

    scoped_free struct entries_out *o = malloc(sizeof(*o)); /* image, before it answers */
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    entries_out_init(o, pair[0]);
    close(pair[1]);
    assert_int_equal(entries_end(o, IMAGE_BLOCK, &reply, &e), -EPIPE);
    assert_string_equal(e.text, "the image's writer is gone");
    close(pair[0]);
}

static void words_that_are_none(void **state)
{
    static const char *const words[] = {"{\"finish\": {}}", "{\"finish\": {\"digest\": \"x\"}}",
                                        "{\"finish\": 1}", "{}"};
    static const char *const requests[] = {
        "{\"image\": {\"uid\": 1}}",
        "{\"image\": {\"uid\": -1, \"gid\": 1}}",
        "{\"image\": {\"uid\": 4294967296, \"gid\": 1}}",
        "{\"image\": {\"uid\": 1, \"gid\": 1, \"entries\": \"many\"}}",
        "{\"image\": 1}",
        "{}",
    };
    struct stage s;

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct entries_reply reply;
        struct err e = ERR_INIT;
        struct str t = {0};

        start(&s, request, false);
        tar_file(&t, "x", 0644, "x");
        assert_int_equal(unpack(&s, &t, &reply, &e), 0);
        send_json(&s, words[i], NULL, 0);
        assert_error(&s, "image", "has no digest", "platform");
    }
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        start(&s, requests[i], false);
        assert_error(&s, "image", "the request", "platform");
    }
}

static void limits_come_with_the_request(void **state)
{
    struct entries_reply reply;
    struct err e = ERR_INIT;
    struct str t = {0};
    struct stage s;

    (void)state;
    start(&s, "{\"image\": {\"uid\": 1, \"gid\": 1, \"entries\": 2}}", false);
    for (int i = 0; i < 3; i++)
        tar_file(&t, "x", 0644, "x");
    assert_int_equal(unpack(&s, &t, &reply, &e), -EFBIG);
    assert_error(&s, "archive", "over the limit of 2 entries", "app");
    start(&s, "{\"image\": {\"uid\": 1, \"gid\": 1, \"unpacked\": 10, \"entries\": 1}}", false);
    tar_file(&t, "x", 0644, "more than ten bytes, but of one block");
    assert_int_equal(unpack(&s, &t, &reply, &e), 0); /* whole blocks count here */
    fd_closep(&s.entries);
    send_json(&s, finish, NULL, 0);
    json_decref(report(&s));
    close(s.image);
}

static void a_seal_is_the_files_digest(void **state)
{
    struct stage s;

    (void)state;
    start(&s, "{\"seal\": {}}", true);
    scoped(json_freep) json_t *empty = report(&s);
    assert_string_equal(json_str(json_object_get(empty, "ok"), "digest", ""), TEST_DIGEST);
    assert_int_equal(pwrite(s.image, "abc", 3, 0), 3);
    close(s.image);
    start(&s, "{\"seal\": {}}", true);
    scoped(json_freep) json_t *abc = report(&s); /* FIPS 180-2, appendix B.1 */
    assert_string_equal(json_str(json_object_get(abc, "ok"), "digest", ""),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(json_int(json_object_get(abc, "ok"), "bytes", -1), 3);
    close(s.image);
    start(&s, "{\"seal\": 1}", true);
    assert_error(&s, "disk", "the request is none for a seal", "platform");
}

static void only_files_are_sealed(void **state)
{
    struct seal_result res;
    struct err e = ERR_INIT;
    int pipes[2];

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(seal_run(pipes[0], &res, &e), -EBADMSG);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_from_end_to_end, set_up, base_remove),
        cmocka_unit_test_setup_teardown(where_texts_lie, set_up, base_remove),
        cmocka_unit_test_setup_teardown(a_refusal_reaches_both, set_up, base_remove),
        cmocka_unit_test_setup_teardown(an_unpacker_that_stays, set_up, base_remove),
        cmocka_unit_test_setup_teardown(a_peer_that_dies, set_up, base_remove),
        cmocka_unit_test_setup_teardown(words_that_are_none, set_up, base_remove),
        cmocka_unit_test_setup_teardown(limits_come_with_the_request, set_up, base_remove),
        cmocka_unit_test_setup_teardown(a_seal_is_the_files_digest, set_up, base_remove),
        cmocka_unit_test_setup_teardown(only_files_are_sealed, set_up, base_remove),
    };
    return cmocka_run_group_tests_name("image role", tests, NULL, NULL);
}
