/* What a fetch is told of its stores: only of those that it asks, with what their files hold now.
 */
#include "core/slugs/stores.h"

#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char dir[64];
    struct config c;
};

static void set(struct place *p, const char *key, const char *value)
{
    char text[512];
    struct err e = ERR_INIT;

    (void)snprintf(text, sizeof(text), "store.%s=%s", key, value);
    if (config_set(&p->c, text, &e) < 0)
        fail_msg("%s", e.text);
}

/* KEY becomes the path of a file that holds TEXT. */
static void set_file(struct place *p, const char *key, const char *text, size_t len)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", p->dir, key);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, len), 0);
    close(fd);
    set(p, key, path);
}

static int place_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    struct err e = ERR_INIT;

    assert_non_null(p);
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/test-stores-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(config_defaults(false, &p->c, &e), 0);
    (void)unsetenv("AWS_ACCESS_KEY_ID");
    (void)unsetenv("AWS_SECRET_ACCESS_KEY");
    (void)unsetenv("AWS_SESSION_TOKEN");
    *state = p;
    return 0;
}

static int place_down(void **state)
{
    static const char *const names[] = {"s3_credentials_file", "swift_key_file", "https_token_file",
                                        "https_cert_file", "https_key_file"};
    struct place *p = *state;
    char path[128];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(p->dir), 0);
    free(p);
    return 0;
}

static void expect(const struct place *p, const char *mirrors, const char *want)
{
    scoped(json_freep) json_t *list = json_loads(mirrors, 0, NULL);
    scoped(json_freep) json_t *wanted = json_loads(want, 0, NULL), *got = NULL;
    struct err e = ERR_INIT;

    assert_non_null(list);
    assert_non_null(wanted);
    if (stores_settings(&p->c, list, &got, &e) < 0)
        fail_msg("%s", e.text);
    if (!json_equal(got, wanted)) {
        char *text = json_dumps(got, JSON_SORT_KEYS);
        fail_msg("%s, not %s", text, want);
    }
}

static void refused(const struct place *p, const char *mirrors, const char *needle)
{
    scoped(json_freep) json_t *list = json_loads(mirrors, 0, NULL);
    json_t *got = NULL;
    struct err e = ERR_INIT;

    assert_true(stores_settings(&p->c, list, &got, &e) < 0);
    assert_null(got);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    if (!strstr(e.text, needle))
        fail_msg("\"%s\" does not say \"%s\"", e.text, needle);
    assert_null(strstr(e.text, "SECRET"));
}

#define S3    "[\"s3://b/k\"]"
#define SWIFT "[\"swift://c/o\"]"
#define HTTPS "[\"https://h/s\"]"

static void only_what_is_asked(void **state)
{
    struct place *p = *state;

    expect(p, "[\"file:///s\",\"http://h/s\"]", "{}");
    expect(p, S3, "{\"s3\":{\"region\":\"us-east-1\"}}");
    expect(p, SWIFT, "{\"swift\":{\"domain\":\"Default\"}}");
    expect(p, HTTPS, "{\"https\":{}}");
    /* A file that is broken is no matter to who does not need it. */
    set(p, "s3_credentials_file", "/nowhere/at/all");
    expect(p, HTTPS, "{\"https\":{}}");
    refused(p, "[\"https://h/s\",\"s3://b/k\"]", "s3_credentials_file of dynod.conf: /nowhere");
}

static void keys_of_s3(void **state)
{
    struct place *p = *state;
    static const char file[] =
        "# comment\n[other]\naws_access_key_id = OTHER\n\n"
        "[default]\naws_access_key_id = AK\naws_secret_access_key=SECRET/+=\n"
        "aws_session_token = TOK\nregion = ignored\n";
    static const char bare[] = "AWS_ACCESS_KEY_ID=AK2\nAWS_SECRET_ACCESS_KEY=S2\n";
    static const char lacks[] = "[default]\naws_secret_access_key = SECRET\n";

    /* The environment, when there is nothing else. */
    assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "E", 1), 0);
    assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "F", 1), 0);
    expect(p, S3, "{\"s3\":{\"region\":\"us-east-1\",\"access_key\":\"E\",\"secret_key\":\"F\"}}");
    set_file(p, "s3_credentials_file", file, sizeof(file) - 1);
    set(p, "s3_endpoint", "http://127.0.0.1:9000");
    set(p, "s3_region", "eu-1");
    set(p, "s3_path_style", "yes");
    expect(
        p, S3,
        "{\"s3\":{\"region\":\"eu-1\",\"endpoint\":\"http://127.0.0.1:9000\",\"path_style\":true,"
        "\"access_key\":\"AK\",\"secret_key\":\"SECRET/+=\",\"session_token\":\"TOK\"}}");
    /* Read anew each time. */
    set_file(p, "s3_credentials_file", bare, sizeof(bare) - 1);
    set(p, "s3_path_style", "no");
    expect(
        p, S3,
        "{\"s3\":{\"region\":\"eu-1\",\"endpoint\":\"http://127.0.0.1:9000\",\"path_style\":false,"
        "\"access_key\":\"AK2\",\"secret_key\":\"S2\"}}");
    set_file(p, "s3_credentials_file", lacks, sizeof(lacks) - 1);
    refused(p, S3, "has no aws_access_key_id");
    set_file(p, "s3_credentials_file", "SECRET\n", 7);
    refused(p, S3, "no file of lines");
    set_file(p, "s3_credentials_file", "", 0);
    refused(p, S3, "is empty");
}

static void the_role(void **state)
{
    struct place *p = *state;

    assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "E", 1), 0);
    set(p, "s3_role", "imds");
    expect(p, S3, "{\"s3\":{\"region\":\"us-east-1\",\"role\":\"imds\"}}");
    set(p, "s3_role", "http://127.0.0.1:1338");
    expect(
        p, S3,
        "{\"s3\":{\"region\":\"us-east-1\",\"role\":\"imds\",\"imds\":\"http://127.0.0.1:1338\"}}");
}

static void swift(void **state)
{
    struct place *p = *state;

    set(p, "swift_auth_url", "https://k/v3");
    set(p, "swift_user", "u");
    set(p, "swift_project", "P");
    set(p, "swift_region", "R");
    set_file(p, "swift_key_file", "the key \r\nsecond line\n", 22);
    expect(p, SWIFT,
           "{\"swift\":{\"auth_url\":\"https://k/v3\",\"user\":\"u\",\"key\":\"the key \","
           "\"project\":\"P\",\"domain\":\"Default\",\"region\":\"R\"}}");
    set_file(p, "swift_key_file", "\n", 1);
    refused(p, SWIFT, "is empty");
    set_file(p, "swift_key_file", "\xff\xfe\n", 3);
    refused(p, SWIFT, "is not text");
}

static void https(void **state)
{
    struct place *p = *state;

    set(p, "https_hosts", "h g:8443");
    set_file(p, "https_token_file", "tok\n", 4);
    set_file(p, "https_cert_file", "-----BEGIN\nx\n", 13);
    set_file(p, "https_key_file", "-----KEY\ny\n", 11);
    expect(p, HTTPS,
           "{\"https\":{\"hosts\":\"h g:8443\",\"token\":\"tok\",\"cert\":\"-----BEGIN\\nx\\n\","
           "\"key\":\"-----KEY\\ny\\n\"}}");
}

/* Root must not be held up by what is no file, nor fill its memory. */
static void odd_files(void **state)
{
    struct place *p = *state;
    char path[128];

    set(p, "https_hosts", "h");
    set(p, "https_token_file", p->dir);
    refused(p, HTTPS, "is not a regular file");
    (void)snprintf(path, sizeof(path), "%s/https_token_file", p->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    set(p, "https_token_file", path);
    refused(p, HTTPS, "is not a regular file");
    assert_int_equal(unlink(path), 0);
    set_file(p, "https_token_file", "t\n", 2);
    assert_int_equal(truncate(path, STORES_FILE_MAX + 1), 0);
    refused(p, HTTPS, "64 KiB");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, place_up, place_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_is_asked), TEST(keys_of_s3), TEST(the_role), TEST(swift), TEST(https),
        TEST(odd_files),
    };

    return cmocka_run_group_tests_name("stores settings", tests, NULL, NULL);
}
