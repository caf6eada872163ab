/* The stores: what an address and the settings become, what is sent, and what answers mean. The
 * real Swift with both its interfaces stands in tests/integration/swift.bats. */
#include "slug/fetch/store.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "slug/fetch/credentials.h"
#include "slug/fetch/imds.h"
#include "slug/fetch/keystone.h"
#include "slug/fetch/object.h"
#include "slug/fetch/s3_error.h"
#include "slug/fetch/s3_url.h"
#include "slug/fetch/transport.h"

#include "sigv4.h"
#include "store_server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in: %s", part, text);
}

static void assert_hasnt(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" in: %s", part, text);
}

/* --- names and addresses -------------------------------------------------------------------------
 */

static void addresses_are_taken_apart(void **state)
{
    static const struct {
        const char *address, *top, *name, *sent;
    } cases[] = {
        {"s3://slugs/a.tgz", "slugs", "a.tgz", "a.tgz"},
        {"s3://slugs/a/b/c.tgz", "slugs", "a/b/c.tgz", "a/b/c.tgz"},
        {"s3://slugs//a", "slugs", "/a", "/a"},
        {"s3://slugs/a/", "slugs", "a/", "a/"},
        {"s3://slugs/a/../b/./c", "slugs", "a/../b/./c", "a/../b/./c"},
        {"s3://slugs/a b", "slugs", "a b", "a%20b"},
        {"s3://slugs/a%20b", "slugs", "a b", "a%20b"},
        {"s3://slugs/a+b", "slugs", "a+b", "a%2Bb"},
        {"s3://slugs/100%25", "slugs", "100%", "100%25"},
        {"s3://slugs/%2541", "slugs", "%41", "%2541"},
        {"s3://slugs/a?b=c&d#e", "slugs", "a?b=c&d#e", "a%3Fb%3Dc%26d%23e"},
        {"s3://slugs/-._~!$'()*,;:@", "slugs", "-._~!$'()*,;:@",
         "-._~%21%24%27%28%29%2A%2C%3B%3A%40"},
        {"s3://slugs/\xc3\xbc\xe2\x82\xac", "slugs", "\xc3\xbc\xe2\x82\xac", "%C3%BC%E2%82%AC"},
        {"s3://slugs/%c3%bc", "slugs", "\xc3\xbc", "%C3%BC"},
        {"s3://slugs/\x01\x7f\xff", "slugs", "\x01\x7f\xff", "%01%7F%FF"},
        {"s3://slugs/%2e%2e/a", "slugs", "../a", "../a"},
        {"swift://my%20container/x", "my container", "x", "x"},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        scoped(str_done) struct str sent = {0};
        struct err e = ERR_INIT;
        struct object o;

        assert_int_equal(object_parse(cases[i].address, "shown", "bucket", "key", &o, &e), 0);
        assert_string_equal(o.top, cases[i].top);
        assert_string_equal(o.name, cases[i].name);
        object_encode(&sent, o.name);
        assert_string_equal(str_text(&sent), cases[i].sent);
    }
}

static void addresses_that_name_nothing(void **state)
{
    static const struct {
        const char *address, *words;
    } cases[] = {
        {"s3://", "the bucket is missing"},          {"s3:///key", "the bucket is missing"},
        {"s3://slugs", "the key is missing"},        {"s3://slugs/", "the key is missing"},
        {"s3://slugs/100%", "the key has a '%'"},    {"s3://slugs/100%2", "the key has a '%'"},
        {"s3://slugs/%zz", "write it %25"},          {"s3://slugs/a%00b", "the key has a NUL byte"},
        {"s3://sl%2Fugs/a", "the bucket has a '/'"},
    };
    char longest[OBJECT_NAME_MAX + 40] = "s3://slugs/";
    struct err e = ERR_INIT;
    struct object o;

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        assert_int_equal(object_parse(cases[i].address, "shown", "bucket", "key", &o, &e), -EINVAL);
        assert_has(e.text, cases[i].words);
        assert_int_equal(e.fault, FAULT_OPERATOR);
    }
    memset(longest + 11, 'k', OBJECT_NAME_MAX);
    assert_int_equal(object_parse(longest, "shown", "bucket", "key", &o, &e), 0);
    assert_int_equal(strlen(o.name), OBJECT_NAME_MAX);
    longest[11 + OBJECT_NAME_MAX] = 'k';
    assert_int_equal(object_parse(longest, "shown", "bucket", "key", &o, &e), -EINVAL);
    assert_has(e.text, "over the limit of 1024 bytes");
}

static void an_object_of_s3_has_a_url(void **state)
{
    static const struct {
        const char *endpoint, *region;
        enum s3_style style;
        const char *bucket, *name, *url;
    } cases[] = {
        {NULL, "us-east-1", S3_STYLE_AUTO, "slugs", "a",
         "https://slugs.s3.us-east-1.amazonaws.com/a"},
        {NULL, "eu-west-1", S3_STYLE_PATH, "slugs", "a",
         "https://s3.eu-west-1.amazonaws.com/slugs/a"},
        {NULL, "cn-north-1", S3_STYLE_AUTO, "slugs", "a",
         "https://slugs.s3.cn-north-1.amazonaws.com.cn/a"},
        /* A certificate's '*' is one label. */
        {NULL, "us-east-1", S3_STYLE_AUTO, "my.slugs", "a",
         "https://s3.us-east-1.amazonaws.com/my.slugs/a"},
        {NULL, "us-east-1", S3_STYLE_AUTO, "Old_Bucket", "a",
         "https://s3.us-east-1.amazonaws.com/Old_Bucket/a"},
        {"http://127.0.0.1:9000", "us-east-1", S3_STYLE_AUTO, "slugs", "a b",
         "http://127.0.0.1:9000/slugs/a%20b"},
        {"https://minio.example/", "us-east-1", S3_STYLE_AUTO, "slugs", "/a",
         "https://minio.example/slugs//a"},
        {"https://minio.example:9000", "us-east-1", S3_STYLE_VIRTUAL, "slugs", "a",
         "https://slugs.minio.example:9000/a"},
        {"http://minio.example", "us-east-1", S3_STYLE_VIRTUAL, "my.slugs", "a",
         "http://my.slugs.minio.example/a"},
        {"https://gateway.example/s3/", "us-east-1", S3_STYLE_AUTO, "slugs", "a",
         "https://gateway.example/s3/slugs/a"},
        {"http://[::1]:9000", "auto", S3_STYLE_AUTO, "slugs", "a", "http://[::1]:9000/slugs/a"},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        const struct s3_place p = {cases[i].endpoint, cases[i].region, cases[i].style};
        scoped(str_done) struct str url = {0};
        struct err e = ERR_INIT;
        struct object o;

        (void)snprintf(o.top, sizeof(o.top), "%s", cases[i].bucket);
        (void)snprintf(o.name, sizeof(o.name), "%s", cases[i].name);
        assert_int_equal(s3_url(&p, &o, &url, &e), 0);
        assert_string_equal(str_text(&url), cases[i].url);
    }
}

static void places_that_s3_cannot_be_at(void **state)
{
    static const struct {
        const char *endpoint, *region;
        enum s3_style style;
        const char *bucket, *words;
    } cases[] = {
        {NULL, "us-east-1", S3_STYLE_AUTO, "a b", "the bucket has a name that none can have"},
        {NULL, "us-east-1", S3_STYLE_AUTO, "..", "the bucket has a name that none can have"},
        {NULL, "us-east-1", S3_STYLE_AUTO, "slugs@evil.example", "the bucket has a name"},
        {NULL, "us-east-1", S3_STYLE_VIRTUAL, "my.slugs", "path_style"},
        {"http://127.0.0.1:9000", "us-east-1", S3_STYLE_VIRTUAL, "slugs", "path_style"},
        {NULL, "us.evil.example/", S3_STYLE_AUTO, "slugs", "s3.region"},
        {NULL, "us:east", S3_STYLE_AUTO, "slugs", "s3.region"},
        {"ftp://x", "us-east-1", S3_STYLE_AUTO, "slugs", "neither http:// nor https://"},
        {"minio.example", "us-east-1", S3_STYLE_AUTO, "slugs", "not a URL"},
        {"https://", "us-east-1", S3_STYLE_AUTO, "slugs", "not a URL"},
        {"https://u:secret@x", "us-east-1", S3_STYLE_AUTO, "slugs", "has a user"},
        {"https://x/?a", "us-east-1", S3_STYLE_AUTO, "slugs", "a query"},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        const struct s3_place p = {cases[i].endpoint, cases[i].region, cases[i].style};
        scoped(str_done) struct str url = {0};
        struct err e = ERR_INIT;
        struct object o = {.name = "a"};

        (void)snprintf(o.top, sizeof(o.top), "%s", cases[i].bucket);
        assert_int_equal(s3_url(&p, &o, &url, &e), -EINVAL);
        assert_has(e.text, cases[i].words);
        assert_hasnt(e.text, "secret");
        assert_int_equal(e.fault, FAULT_OPERATOR);
    }
}

/* --- S3's errors ---------------------------------------------------------------------------------
 */

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

static void errors_of_s3_are_read(void **state)
{
    static const struct {
        const char *body, *code, *message, *region;
    } cases[] = {
        {XML "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
             "<Key>a</Key><RequestId>1</RequestId><HostId>x=</HostId></Error>",
         "NoSuchKey", "The specified key does not exist.", ""},
        /* Swift's s3api quotes otherwise. */
        {"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>AuthorizationHeaderMalformed</Code>"
         "<Message>the region 'eu' is wrong; expecting 'us-east-1'</Message>"
         "<Region>us-east-1</Region></Error>",
         "AuthorizationHeaderMalformed", "the region 'eu' is wrong; expecting 'us-east-1'",
         "us-east-1"},
        {"<Error xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  <Code>SlowDown</Code>\n"
         "  <Message/>\n</Error>\n",
         "SlowDown", "", ""},
        {"<Error><Message>&lt;a&gt; &amp;amp; &quot;b&quot; &#39;c&apos; &#x1;</Message>"
         "<Code>X</Code></Error>",
         "X", "<a> &amp; \"b\" 'c' &#x1;", ""},
        /* Elements in elements are not ours. */
        {"<Error><Details><Code>Inner</Code><a><b/></a></Details><Code>Outer</Code></Error>",
         "Outer", "", ""},
        {"<Error><Code>First</Code><Code>Second</Code></Error>", "First", "", ""},
        /* Cut off behind what counts. */
        {"<Error><Code>NoSuchKey</Code><Message>The spec", "NoSuchKey", "", ""},
        {"<Error><Code>NoSuchKey</Code><Mess", "NoSuchKey", "", ""},
        {"\xef\xbb\xbf <Error><Code>A.b-c_1</Code></Error>", "A.b-c_1", "", ""},
        {"<Error><Code>A</Code><Region>eu west\n</Region></Error>", "A", "", ""},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct s3_error x;

        assert_true(s3_error_parse(cases[i].body, strlen(cases[i].body), &x));
        assert_string_equal(x.code, cases[i].code);
        assert_string_equal(x.message, cases[i].message);
        assert_string_equal(x.region, cases[i].region);
    }
}

static void what_is_no_error_of_s3(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "<",
        "<Error",
        "<Error>",
        "<Error/>",
        "<Error></Error>",
        "NoSuchKey",
        "<html><h1>Not Found</h1></html>",
        "<!DOCTYPE Error [<!ENTITY a \"b\">]><Error><Code>A</Code></Error>",
        "<!-- --><Error><Code>A</Code></Error>",
        "<?xml <Error><Code>A</Code></Error>",
        "<Errors><Error><Code>A</Code></Error></Errors>",
        "<Error><Code>A",
        "<Error><Code>A</",
        "<Error><Code>A</Message></Error>",
        "<Error><Code></Code></Error>",
        "<Error><Code>A B</Code></Error>",
        "<Error><Code><b>A</b></Code></Error>",
        "<Error><Code>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</Code></Error>",
        "<Error a=\"><Code>A</Code></Error>",
        "<Error><x><x><x><x><x><x><x><x><x><x></x></x></x></x></x></x></x></x></x></x>"
        "<Code>A</Code></Error>",
    };
    struct s3_error x = {.code = "untouched"};

    (void)state;
    for (size_t i = 0; i < N(cases); i++)
        if (s3_error_parse(cases[i], strlen(cases[i]), &x))
            fail_msg("taken for an error: %s", cases[i]);
    assert_string_equal(x.code, "untouched");
}

/* Every document cut at every byte and with every byte changed: bounded, and a code is a word. */
static void a_damaged_error_does_no_harm(void **state)
{
    static const char whole[] = XML "<Error a='1'><D><e/></D><Code>NoSuchKey</Code><Message>a&amp;b"
                                    "</Message><Region>eu</Region></Error>";
    static const char bytes[] = "<>&;/'\"= a\0";
    struct s3_error x;

    (void)state;
    for (size_t len = 0; len < sizeof(whole) - 1; len++) {
        char *copy = malloc(len + 1);

        memcpy(copy, whole, len);
        (void)s3_error_parse(copy, len, &x);
        copy = realloc(copy, len ? len : 1); /* the sanitizer sees what is read behind it */
        for (size_t i = 0; i < sizeof(bytes) - 1 && len > 0; i++) {
            copy[len - 1] = bytes[i];
            (void)s3_error_parse(copy, len, &x);
        }
        free(copy);
    }
}

/* --- a store and its settings --------------------------------------------------------------------
 */

struct opened {
    json_t *settings;
    struct store_env env;
    struct store s;
};

static int try_open(struct opened *o, const char *address, const char *settings, struct err *e)
{
    *o = (struct opened){0};
    o->settings = settings ? json_loads(settings, 0, NULL) : NULL;
    assert_true(o->settings || !settings);
    o->env = (struct store_env){.settings = o->settings, .connect_ms = 60000};
    return store_open(&o->env, address, -1, &o->s, e);
}

static void open_it(struct opened *o, const char *address, const char *settings)
{
    struct err e = ERR_INIT;

    if (try_open(o, address, settings, &e) < 0)
        fail_msg("%s", e.text);
}

static void close_it(struct opened *o)
{
    if (o->s.ops)
        store_close(&o->s);
    json_decref(o->settings);
}

static void settings_that_cannot_be(void **state)
{
    static const struct {
        const char *address, *settings, *words;
    } cases[] = {
        {"s3://slugs/a", "{\"s3\": {\"access_key\": \"AK\"}}", "no secret key"},
        {"s3://slugs/a", "{\"s3\": {\"secret_key\": \"hush\"}}", "no access key"},
        {"s3://slugs/a", "{\"s3\": {\"session_token\": \"hush\"}}", "no access key"},
        {"s3://slugs/a", "{\"s3\": {\"role\": \"other\"}}", "s3.role"},
        {"s3://slugs/a",
         "{\"s3\": {\"role\": \"imds\", \"access_key\": \"A\", \"secret_key\": \"hush\"}}",
         "both keys and a role"},
        {"s3://slugs/a", "{\"s3\": {\"access_key\": \"A\\r\\nhush: x\", \"secret_key\": \"hush\"}}",
         "characters that none has"},
        {"s3://slugs/a",
         "{\"s3\": {\"access_key\": \"A\", \"secret_key\": \"hush\", \"session_token\": \"a\\nb\"}}",
         "characters that none has"},
        {"s3://slugs/a", "{\"s3\": {\"endpoint\": \"file:///etc\"}}", "s3.endpoint"},
        {"s3://slugs/a", "{\"s3\": {\"role\": \"imds\", \"imds\": \"gopher://x\"}}", "s3.imds"},
        {"swift://slugs/a", NULL, "swift.auth_url is missing"},
        {"swift://slugs/a", "{\"swift\": {\"auth_url\": \"https://x/v1.0\"}}", "swift.user"},
        {"swift://slugs/a",
         "{\"swift\": {\"auth_url\": \"https://x/\", \"user\": \"u\", \"key\": \"hush\"}}",
         "swift.auth_version"},
        {"swift://slugs/a",
         "{\"swift\": {\"auth_url\": \"https://x/\", \"auth_version\": \"2\", \"user\": \"u\", "
         "\"key\": \"hush\"}}",
         "neither 1 nor 3"},
        {"swift://slugs/a",
         "{\"swift\": {\"auth_url\": \"https://x/v1.0\", \"user\": \"u\\nhush\", \"key\": \"k\"}}",
         "control characters"},
        {"swift://slugs", "{\"swift\": {\"auth_url\": \"https://x/v1.0\"}}",
         "the object is missing"},
        {"https://x/a", "{\"https\": {\"token\": \"hush\"}}", "https.hosts is missing"},
        {"https://x/a", "{\"https\": {\"hosts\": \"x\", \"cert\": \"c\"}}", "go together"},
        {"https://x/a", "{\"https\": {\"hosts\": \"x\", \"token\": \"hush a\"}}", "https.token"},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        scoped(close_it) struct opened o;
        struct err e = ERR_INIT;

        if (try_open(&o, cases[i].address, cases[i].settings, &e) == 0)
            fail_msg("opened: %s", cases[i].words);
        assert_has(e.text, cases[i].words);
        assert_has(e.text, cases[i].address);
        assert_hasnt(e.text, "hush");
        assert_int_equal(e.fault, FAULT_OPERATOR);
    }
}

/* --- what is sent --------------------------------------------------------------------------------
 */

static size_t drop(char *data, size_t size, size_t n, void *userdata)
{
    (void)data;
    (void)userdata;
    return size * n;
}

/* One GET, made as download_conn.c makes it. The status, 0: none. */
static long get(struct store *s, const char *if_match, const char *range)
{
    struct transport_guard guard = {0};
    struct store_request rq = {0};
    struct err e = ERR_INIT;
    CURL *easy = curl_easy_init();
    long status = 0;

    if (s->ops->prepare(s, easy, &rq, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(transport_set(easy, s->env, rq.url, rq.follow, &guard, &e), 0);
    if (if_match)
        rq.headers = curl_slist_append(rq.headers, if_match);
    if (range)
        (void)curl_easy_setopt(easy, CURLOPT_RANGE, range);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, rq.headers);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    if (curl_easy_perform(easy) == CURLE_OK)
        (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    store_request_done(&rq);
    return status;
}

static char *say_ok(void *userdata, const char *request, unsigned number)
{
    (void)userdata;
    (void)request;
    (void)number;
    return server_answer(200, "", "x");
}

static void the_signer_agrees_with_published_examples(void **state)
{
    static const char *const get_object[] = {
        "Host: examplebucket.s3.amazonaws.com", "Range: bytes=0-9",
        "x-amz-content-sha256: " SIGV4_EMPTY, "x-amz-date: 20130524T000000Z", NULL};
    static const char *const put_object[] = {
        "Host: examplebucket.s3.amazonaws.com",
        "Date: Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-date: 20130524T000000Z",
        "x-amz-storage-class: REDUCED_REDUNDANCY",
        "x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        NULL};
    static const char *const bucket[] = {"Host: examplebucket.s3.amazonaws.com",
                                         "x-amz-content-sha256: " SIGV4_EMPTY,
                                         "x-amz-date: 20130524T000000Z", NULL};
    static const char *const vanilla[] = {"Host:example.amazonaws.com",
                                          "X-Amz-Date:20150830T123600Z", NULL};
    static const char *const list_users[] = {
        "Content-Type: application/x-www-form-urlencoded; charset=utf-8", "Host: iam.amazonaws.com",
        "X-Amz-Date: 20150830T123600Z", NULL};
#define S3_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SUITE     "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_SIGNED "host;x-amz-content-sha256;x-amz-date"
    static const struct {
        struct sigv4_request rq;
        const char *signature;
    } cases[] = {
        /* "Examples: Signature calculations" of Amazon S3's API reference. */
        {{"GET", "/test.txt", "", get_object, "host;range;x-amz-content-sha256;x-amz-date",
          S3_SECRET, "us-east-1", "s3"},
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {{"PUT", "/test%24file.text", "", put_object,
          "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", S3_SECRET, "us-east-1",
          "s3"},
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {{"GET", "/", "lifecycle=", bucket, S3_SIGNED, S3_SECRET, "us-east-1", "s3"},
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {{"GET", "/", "max-keys=2&prefix=J", bucket, S3_SIGNED, S3_SECRET, "us-east-1", "s3"},
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
        /* The Signature Version 4 test suite: get-vanilla. */
        {{"GET", "/", "", vanilla, "host;x-amz-date", SUITE, "us-east-1", "service"},
         "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
        /* "Create a signed AWS API request" of the general reference. */
        {{"GET", "/", "Action=ListUsers&Version=2010-05-08", list_users,
          "content-type;host;x-amz-date", SUITE, "us-east-1", "iam"},
         "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
    };
    char signature[65];

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        sigv4_sign(&cases[i].rq, signature);
        assert_string_equal(signature, cases[i].signature);
    }
}

/* The request's fields; free each. */
static void split_fields(const char *request, char *fields[64])
{
    const char *line = strstr(request, "\r\n") + 2;
    size_t n = 0;

    for (; strncmp(line, "\r\n", 2) != 0 && n < 63; line = strstr(line, "\r\n") + 2)
        fields[n++] = strndup(line, strcspn(line, "\r"));
    fields[n] = NULL;
}

/* Recomputes the signature of a captured request; its fields must be among the signed ones. */
static void assert_signed(const char *request, const char *path, const char *region,
                          const char *secret, const char *must)
{
    char authorization[2048], signed_headers[512], wanted[65], line[2048];
    char *fields[64];
    const char *at;

    (void)snprintf(line, sizeof(line), "GET %s HTTP/1.1\r\n", path);
    assert_int_equal(strncmp(request, line, strlen(line)), 0);
    assert_true(server_field(request, "Authorization", authorization, sizeof(authorization)));
    at = strstr(authorization, "SignedHeaders=");
    assert_non_null(at);
    (void)snprintf(signed_headers, sizeof(signed_headers), "%.*s", (int)strcspn(at + 14, ", "),
                   at + 14);
    (void)snprintf(line, sizeof(line), ";%s;", signed_headers);
    for (; *must; must += strcspn(must, ";") + (strchr(must, ';') != NULL)) {
        char one[128];

        (void)snprintf(one, sizeof(one), ";%.*s;", (int)strcspn(must, ";"), must);
        assert_has(line, one);
    }
    split_fields(request, fields);
    struct sigv4_request rq = {"GET",          path,   "",     (const char *const *)fields,
                               signed_headers, secret, region, "s3"};
    sigv4_sign(&rq, wanted);
    at = strstr(authorization, "Signature=");
    assert_non_null(at);
    assert_string_equal(at + 10, wanted);
    (void)snprintf(line, sizeof(line), "/%s/s3/aws4_request", region);
    assert_has(authorization, line);
    for (size_t i = 0; fields[i]; i++)
        free(fields[i]);
}

static void requests_to_s3_are_signed(void **state)
{
    static const char secret[] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    static const struct {
        const char *name, *path;
    } cases[] = {
        {"a.tgz", "/slugs/a.tgz"},
        {"a b", "/slugs/a%20b"},
        {"a+b", "/slugs/a%2Bb"},
        {"a%2520b", "/slugs/a%2520b"},
        {"a?b=c&d", "/slugs/a%3Fb%3Dc%26d"},
        {"a#b", "/slugs/a%23b"},
        {"-._~!$'()*,;:@", "/slugs/-._~%21%24%27%28%29%2A%2C%3B%3A%40"},
        {"\xc3\xbc/\xe2\x82\xac", "/slugs/%C3%BC/%E2%82%AC"},
        {"a//b/../c/./d/", "/slugs/a//b/../c/./d/"},
        {NULL, NULL},
    };
    struct server server;

    (void)state;
    assert_int_equal(server_start(&server, say_ok, NULL), 0);
    for (size_t i = 0; cases[i].path; i++) {
        char settings[400], address[200];
        scoped(close_it) struct opened o;
        char field[200];

        (void)snprintf(settings, sizeof(settings),
                       "{\"s3\": {\"endpoint\": \"http://127.0.0.1:%u\", \"region\": "
                       "\"eu-west-1\", \"access_key\": \"test:tester\", \"secret_key\": \"%s\"}}",
                       server.port, secret);
        (void)snprintf(address, sizeof(address), "s3://slugs/%s", cases[i].name);
        open_it(&o, address, settings);
        assert_int_equal(get(&o.s, "If-Match: \"abc-2\"", "5-9"), 200);
        const char *request = server.requests[server.n - 1];
        assert_signed(request, cases[i].path, "eu-west-1", secret,
                      "host;if-match;x-amz-content-sha256;x-amz-date");
        assert_true(server_field(request, "x-amz-content-sha256", field, sizeof(field)));
        assert_string_equal(field, "UNSIGNED-PAYLOAD");
        assert_true(server_field(request, "Range", field, sizeof(field)));
        assert_string_equal(field, "bytes=5-9");
        assert_has(request, "Credential=test:tester/");
    }
    server_stop(&server);
}

/* A token of the Security Token Service may have 2 kB and more. */
static void a_session_token_is_sent_and_signed(void **state)
{
    char token[3001], settings[4000], field[4000];
    scoped(close_it) struct opened o;
    struct server server;

    (void)state;
    memset(token, 'T', sizeof(token) - 1);
    token[sizeof(token) - 1] = '\0';
    memcpy(token, "IQoJb3JpZ2luX2VjE+/==", 21);
    assert_int_equal(server_start(&server, say_ok, NULL), 0);
    (void)snprintf(settings, sizeof(settings),
                   "{\"s3\": {\"endpoint\": \"http://127.0.0.1:%u\", \"access_key\": \"ASIA\", "
                   "\"secret_key\": \"hush\", \"session_token\": \"%s\"}}",
                   server.port, token);
    open_it(&o, "s3://slugs/a", settings);
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_true(server_field(server.requests[0], "x-amz-security-token", field, sizeof(field)));
    assert_string_equal(field, token);
    assert_signed(server.requests[0], "/slugs/a", "us-east-1", "hush",
                  "host;x-amz-content-sha256;x-amz-date;x-amz-security-token");
    server_stop(&server);
}

static void without_keys_nothing_is_signed(void **state)
{
    char settings[200], field[100];
    scoped(close_it) struct opened o;
    struct server server;

    (void)state;
    assert_int_equal(server_start(&server, say_ok, NULL), 0);
    (void)snprintf(settings, sizeof(settings), "{\"s3\": {\"endpoint\": \"http://127.0.0.1:%u\"}}",
                   server.port);
    open_it(&o, "s3://slugs/a", settings);
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_false(server_field(server.requests[0], "Authorization", field, sizeof(field)));
    server_stop(&server);
}

/* A signature is for one host. */
static char *say_elsewhere(void *userdata, const char *request, unsigned number)
{
    const struct server *s = userdata;
    char head[100];

    (void)request;
    (void)snprintf(head, sizeof(head), "Location: http://127.0.0.1:%u/other\r\n", s->port);
    return server_answer(number == 0 ? 307 : 200, head, "x");
}

static void a_signed_request_follows_no_redirect(void **state)
{
    char settings[200];
    scoped(close_it) struct opened o;
    struct server server;

    (void)state;
    assert_int_equal(server_start(&server, say_elsewhere, &server), 0);
    (void)snprintf(settings, sizeof(settings),
                   "{\"s3\": {\"endpoint\": \"http://127.0.0.1:%u\", \"access_key\": \"A\", "
                   "\"secret_key\": \"hush\"}}",
                   server.port);
    open_it(&o, "s3://slugs/a", settings);
    assert_int_equal(get(&o.s, NULL, NULL), 307);
    assert_int_equal(server.n, 1);
    server_stop(&server);
}

/* --- what S3's refusals mean ---------------------------------------------------------------------
 */

#define KEYS                                                                                       \
    "{\"s3\": {\"access_key\": \"AK\", \"secret_key\": \"hush\", \"region\": \"eu-west-1\"}}"
#define SAYS(code) XML "<Error><Code>" code "</Code><Message>why not</Message></Error>"

static void refusals_of_s3_have_words_and_a_fault(void **state)
{
    static const struct {
        const char *settings;
        long status;
        const char *body;
        int64_t skew;
        enum store_verdict verdict;
        enum fault fault;
        const char *words;
    } cases[] = {
        {KEYS, 404, SAYS("NoSuchBucket"), 0, STORE_FINAL, FAULT_OPERATOR, "has no bucket slugs"},
        {KEYS, 404, SAYS("NoSuchKey"), 0, STORE_FINAL, FAULT_OPERATOR, "no such key"},
        {KEYS, 403, SAYS("AccessDenied"), 0, STORE_FINAL, FAULT_OPERATOR, "may not list"},
        {NULL, 403, SAYS("AccessDenied"), 0, STORE_FINAL, FAULT_OPERATOR, "no credentials"},
        {"{\"s3\": {\"role\": \"imds\"}}", 403, SAYS("AccessDenied"), 0, STORE_FINAL,
         FAULT_OPERATOR, "the instance's role may not"},
        {KEYS, 403, SAYS("SignatureDoesNotMatch"), 0, STORE_FINAL, FAULT_OPERATOR,
         "the secret key is not that"},
        {KEYS, 403, SAYS("SignatureDoesNotMatch"), 900, STORE_FINAL, FAULT_OPERATOR,
         "clock is wrong"},
        {KEYS, 403, SAYS("InvalidAccessKeyId"), 0, STORE_FINAL, FAULT_OPERATOR,
         "does not know the access key"},
        {KEYS, 400, SAYS("ExpiredToken"), 0, STORE_FINAL, FAULT_OPERATOR, "has expired"},
        {"{\"s3\": {\"role\": \"imds\"}}", 400, SAYS("ExpiredToken"), 0, STORE_RENEW,
         FAULT_OPERATOR, "has expired"},
        {KEYS, 403, SAYS("RequestTimeTooSkewed"), 1200, STORE_FINAL, FAULT_OPERATOR,
         "this machine's clock is 20 minutes ahead of the store's"},
        {KEYS, 403, SAYS("RequestTimeTooSkewed"), -3600, STORE_FINAL, FAULT_OPERATOR,
         "this machine's clock is 60 minutes behind the store's"},
        {KEYS, 403, SAYS("RequestTimeTooSkewed"), 0, STORE_FINAL, FAULT_OPERATOR,
         "clock is too far"},
        /* Swift's s3api says so when the clock is wrong. */
        {KEYS, 403, SAYS("AccessDenied"), -1800, STORE_FINAL, FAULT_OPERATOR,
         "clock is 30 minutes behind"},
        {KEYS, 400,
         "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>", 0,
         STORE_FINAL, FAULT_OPERATOR, "is in the region us-west-2, not in eu-west-1"},
        {KEYS, 301,
         "<Error><Code>PermanentRedirect</Code><Endpoint>slugs.s3-ap-east-1.amazonaws.com"
         "</Endpoint></Error>",
         0, STORE_FINAL, FAULT_OPERATOR, "slugs.s3-ap-east-1.amazonaws.com"},
        {KEYS, 301, "", 0, STORE_FINAL, FAULT_OPERATOR, "not in the region eu-west-1"},
        {KEYS, 403, SAYS("InvalidObjectState"), 0, STORE_FINAL, FAULT_OPERATOR, "restored"},
        {KEYS, 503, SAYS("SlowDown"), 0, STORE_LATER, FAULT_PLATFORM, "SlowDown: why not"},
        {KEYS, 500, SAYS("InternalError"), 0, STORE_LATER, FAULT_PLATFORM, "InternalError"},
        {KEYS, 400, SAYS("RequestTimeout"), 0, STORE_LATER, FAULT_PLATFORM, "RequestTimeout"},
        {KEYS, 503, SAYS("XServerNotReady"), 0, STORE_LATER, FAULT_PLATFORM, "XServerNotReady"},
        {KEYS, 400, SAYS("KeyTooLongError"), 0, STORE_FINAL, FAULT_OPERATOR,
         "HTTP status 400, KeyTooLongError: why not"},
        {KEYS, 501, SAYS("NotImplemented"), 0, STORE_FINAL, FAULT_PLATFORM, "NotImplemented"},
        {KEYS, 400, "<Error><Code>X</Code><Message>\x1b[2Jboo</Message></Error>", 0, STORE_FINAL,
         FAULT_OPERATOR, "\\x1b[2Jboo"},
        {KEYS, 403, "<html>no</html>", 0, STORE_PLAIN, FAULT_PLATFORM, ""},
        {KEYS, 502, "", 0, STORE_PLAIN, FAULT_PLATFORM, ""},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        scoped(close_it) struct opened o;
        struct store_refusal r = {.status = cases[i].status,
                                  .body = cases[i].body,
                                  .len = strlen(cases[i].body),
                                  .easy = curl_easy_init(),
                                  .skew_sec = cases[i].skew};
        struct err e = ERR_INIT;

        open_it(&o, "s3://slugs/a/b.tgz", cases[i].settings);
        assert_int_equal(o.s.ops->refused(&o.s, &r, &e), cases[i].verdict);
        assert_has(e.text, cases[i].words);
        assert_int_equal(e.fault, cases[i].fault);
        if (cases[i].verdict != STORE_PLAIN)
            assert_has(e.text, "s3://slugs/a/b.tgz");
        assert_hasnt(e.text, "hush");
        curl_easy_cleanup(r.easy);
    }
}

static char *say_region(void *userdata, const char *request, unsigned number)
{
    (void)userdata;
    (void)request;
    (void)number;
    return server_answer(301, "x-amz-bucket-region: ap-south-1\r\n", "");
}

/* The region is in a field when there is no body. */
static void the_region_may_be_in_a_field(void **state)
{
    scoped(close_it) struct opened o;
    struct store_refusal r = {.status = 301, .body = ""};
    struct err e = ERR_INIT;
    struct server server;
    char url[60];

    (void)state;
    assert_int_equal(server_start(&server, say_region, NULL), 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", server.port);
    open_it(&o, "s3://slugs/a", KEYS);
    r.easy = curl_easy_init();
    (void)curl_easy_setopt(r.easy, CURLOPT_URL, url);
    assert_int_equal(curl_easy_perform(r.easy), CURLE_OK);
    assert_int_equal(o.s.ops->refused(&o.s, &r, &e), STORE_FINAL);
    assert_has(e.text, "in the region ap-south-1, not in eu-west-1");
    curl_easy_cleanup(r.easy);
    server_stop(&server);
}

/* --- the instance's role -------------------------------------------------------------------------
 */

static void answers_of_the_metadata_are_checked(void **state)
{
    char token[IMDS_TOKEN_MAX + 1], role[IMDS_ROLE_MAX + 1];
    char longest[IMDS_TOKEN_MAX + 2];

    (void)state;
    assert_true(imds_token_parse("AQAEA==\n", 8, token));
    assert_string_equal(token, "AQAEA==");
    assert_false(imds_token_parse("", 0, token));
    assert_false(imds_token_parse("a b", 3, token));
    assert_false(imds_token_parse("a\r\nX: y", 7, token));
    assert_false(imds_token_parse("a\0b", 3, token));
    memset(longest, 'a', sizeof(longest));
    assert_true(imds_token_parse(longest, IMDS_TOKEN_MAX, token));
    assert_false(imds_token_parse(longest, IMDS_TOKEN_MAX + 1, token));

    assert_true(imds_role_parse("web+slugs=1,2.3@x_y-z\n", 22, role));
    assert_string_equal(role, "web+slugs=1,2.3@x_y-z");
    assert_true(imds_role_parse("one\ntwo\n", 8, role));
    assert_string_equal(role, "one");
    assert_false(imds_role_parse("", 0, role));
    assert_false(imds_role_parse("..", 2, role));
    assert_false(imds_role_parse("../../user-data", 15, role));
    assert_false(imds_role_parse("a?b", 3, role));
    assert_false(imds_role_parse("<html>", 6, role));
    assert_false(imds_role_parse(longest, IMDS_ROLE_MAX + 1, role));
}

#define ROLE_JSON(code, access, expires)                                                           \
    "{\"Code\": \"" code "\", \"LastUpdated\": \"2026-11-22T00:00:00Z\", \"Type\": \"AWS-HMAC\", " \
    "\"AccessKeyId\": \"" access "\", \"SecretAccessKey\": \"hush\", \"Token\": \"T==\", "         \
    "\"Expiration\": \"" expires "\"}"

static void credentials_of_a_role(void **state)
{
    static const struct {
        const char *text, *words;
        enum fault fault;
    } bad[] = {
        {"", "not JSON", FAULT_PLATFORM},
        {"<html>", "not JSON", FAULT_PLATFORM},
        {"[]", "without AccessKeyId", FAULT_PLATFORM},
        {"{}", "without AccessKeyId", FAULT_PLATFORM},
        {"{\"Code\": \"AssumeRoleUnauthorizedAccess\"}",
         "gives no credentials: AssumeRoleUnauthorizedAccess", FAULT_OPERATOR},
        {"{\"AccessKeyId\": 1, \"SecretAccessKey\": [], \"Token\": {}}", "without AccessKeyId",
         FAULT_PLATFORM},
        {ROLE_JSON("Success", "ASIA", ""), "Expiration", FAULT_PLATFORM},
        {ROLE_JSON("Success", "ASIA", "soon"), "Expiration", FAULT_PLATFORM},
        {ROLE_JSON("Success", "ASIA", "2026-11-22T00:00:00Zz"), "Expiration", FAULT_PLATFORM},
        {ROLE_JSON("Success", "A\\nB", "2026-11-22T00:00:00Z"), "characters", FAULT_PLATFORM},
    };
    static const char good[] = ROLE_JSON("Success", "ASIA", "2026-11-22T01:02:03Z");
    struct credentials c = {0};
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(imds_credentials_parse(good, strlen(good), &c, &e), 0);
    assert_string_equal(c.access_key, "ASIA");
    assert_string_equal(c.secret_key, "hush");
    assert_string_equal(c.session_token, "T==");
    assert_int_equal(c.expires, 1795309323);
    credentials_done(&c);
    for (size_t i = 0; i < N(bad); i++) {
        struct err why = ERR_INIT;

        assert_true(imds_credentials_parse(bad[i].text, strlen(bad[i].text), &c, &why) < 0);
        assert_has(why.text, bad[i].words);
        assert_hasnt(why.text, "hush");
        assert_int_equal(why.fault, bad[i].fault);
        assert_null(c.access_key);
    }
}

static void credentials_are_renewed_ahead(void **state)
{
    (void)state;
    assert_int_equal(credentials_renew_at(1000, 0), INT64_MAX);
    assert_int_equal(credentials_renew_at(1000, 1000 + 21600), 1000 + 21300);
    assert_int_equal(credentials_renew_at(1000, 1000 + 301), 1000 + CREDENTIALS_PAUSE);
    /* What is given out again shortly before its end is not asked for at every request. */
    assert_int_equal(credentials_renew_at(1000, 1000 + 200), 1000 + 100);
    assert_int_equal(credentials_renew_at(1000, 1000 + 3), 1000 + CREDENTIALS_PAUSE);
    assert_int_equal(credentials_renew_at(1000, 900), 1000 + CREDENTIALS_PAUSE);
}

/* An instance's metadata service, with a few ways to be bad. */
struct metadata {
    unsigned tokens, roles;
    const char *trouble;
    int64_t lasts; /* seconds that credentials do */
};

static char *say_role(const struct metadata *m)
{
    char text[600], when[40];
    time_t at = time(NULL) + (time_t)m->lasts;
    struct tm t;

    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &t));
    (void)snprintf(text, sizeof(text),
                   "{\"Code\": \"Success\", \"AccessKeyId\": \"ASIA%u\", \"SecretAccessKey\": "
                   "\"hush%u\", \"Token\": \"token%u\", \"Expiration\": \"%s\"}",
                   m->roles, m->roles, m->roles, when);
    return server_answer(200, "", text);
}

static char *say_metadata(void *userdata, const char *request, unsigned number)
{
    static const char list[] = "GET /latest/meta-data/iam/security-credentials/ HTTP";
    static const char role[] = "GET /latest/meta-data/iam/security-credentials/web HTTP";
    struct metadata *m = userdata;
    char token[100], wanted[20];

    (void)number;
    if (!strncmp(request, "GET /slugs/", 11))
        return server_answer(200, "", "x");
    if (!strcmp(m->trouble, "dead"))
        return strdup("");
    if (str_starts(request, "PUT /latest/api/token HTTP")) {
        if (!strcmp(m->trouble, "off"))
            return server_answer(403, "", "");
        (void)snprintf(token, sizeof(token), "session%u", ++m->tokens);
        return server_field(request, "X-aws-ec2-metadata-token-ttl-seconds", wanted, 20)
                   ? server_answer(200, "", token)
                   : server_answer(400, "", "");
    }
    (void)snprintf(wanted, sizeof(wanted), "session%u", m->tokens);
    if (!server_field(request, "X-aws-ec2-metadata-token", token, sizeof(token)) ||
        strcmp(token, wanted) != 0 || (!strcmp(m->trouble, "forgets") && m->tokens == 1))
        return server_answer(401, "", "");
    if (!strcmp(m->trouble, "no role"))
        return server_answer(404, "", "");
    if (!strcmp(m->trouble, "html"))
        return server_answer(200, "", "<html>hello</html>");
    if (str_starts(request, list))
        return server_answer(200, "", "web");
    if (!str_starts(request, role))
        return server_answer(404, "", "");
    m->roles++;
    return say_role(m);
}

static void open_role(struct opened *o, const struct server *server)
{
    char settings[300];

    (void)snprintf(settings, sizeof(settings),
                   "{\"s3\": {\"endpoint\": \"http://127.0.0.1:%u\", \"role\": \"imds\", "
                   "\"imds\": \"http://127.0.0.1:%u/\"}}",
                   server->port, server->port);
    open_it(o, "s3://slugs/a", settings);
}

static void a_role_signs_and_is_renewed(void **state)
{
    struct metadata m = {.trouble = "", .lasts = 3600};
    struct store_refusal expired = {.status = 400, .body = SAYS("ExpiredToken")};
    scoped(close_it) struct opened o;
    struct err e = ERR_INIT;
    struct server server;

    (void)state;
    assert_int_equal(server_start(&server, say_metadata, &m), 0);
    open_role(&o, &server);
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_signed(server.requests[server.n - 1], "/slugs/a", "us-east-1", "hush1",
                  "host;x-amz-security-token");
    assert_has(server.requests[server.n - 1], "x-amz-security-token: token1");
    /* They last: nobody is asked. */
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_int_equal(m.roles, 1);
    /* The store thinks otherwise. */
    expired.len = strlen(expired.body);
    assert_int_equal(o.s.ops->refused(&o.s, &expired, &e), STORE_RENEW);
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_has(server.requests[server.n - 1], "x-amz-security-token: token2");
    assert_int_equal(m.roles, 2);
    assert_int_equal(m.tokens, 1);
    server_stop(&server);
}

/* What ends soon is renewed while it still is good, and used on when that fails. */
static void a_role_that_ends_soon(void **state)
{
    struct metadata m = {.trouble = "", .lasts = 5};
    scoped(close_it) struct opened o;
    struct server server;

    (void)state;
    assert_int_equal(server_start(&server, say_metadata, &m), 0);
    open_role(&o, &server);
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    (void)usleep(2100000);
    m.trouble = "no role";
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_has(server.requests[server.n - 1], "x-amz-security-token: token1");
    (void)usleep(2100000);
    m.trouble = "forgets"; /* the session's token, too */
    assert_int_equal(get(&o.s, NULL, NULL), 200);
    assert_has(server.requests[server.n - 1], "x-amz-security-token: token2");
    assert_int_equal(m.tokens, 2);
    server_stop(&server);
}

static void metadata_that_gives_nothing(void **state)
{
    static const struct {
        const char *trouble, *words;
        enum fault fault;
    } cases[] = {
        {"no role", "this instance has no role", FAULT_OPERATOR},
        {"off", "/latest/api/token: HTTP status 403", FAULT_OPERATOR},
        {"html", "not a role's name", FAULT_PLATFORM},
        {"dead", "ask the instance metadata", FAULT_PLATFORM},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct metadata m = {.trouble = cases[i].trouble, .lasts = 3600};
        scoped(close_it) struct opened o;
        struct store_request rq = {0};
        struct err e = ERR_INIT;
        struct server server;
        CURL *easy = curl_easy_init();

        assert_int_equal(server_start(&server, say_metadata, &m), 0);
        open_role(&o, &server);
        assert_true(o.s.ops->prepare(&o.s, easy, &rq, &e) < 0);
        assert_has(e.text, cases[i].words);
        assert_has(e.text, "s3://slugs/a");
        assert_int_equal(e.fault, cases[i].fault);
        curl_easy_cleanup(easy);
        server_stop(&server);
    }
}

/* Only the metadata's own address is exempt from what keeps requests away from link-local ones. */
static void a_role_opens_no_other_link_local_address(void **state)
{
    static const struct {
        const char *base;
        bool link_local;
    } cases[] = {
        {NULL, true},
        {"http://169.254.169.254/", true},
        {"http://[fd00:ec2::254]", true},
        {"http://169.254.170.2", false},
        {"http://169.254.169.254:8080", false},
        {"http://169.254.169.254/x", false},
        {"http://127.0.0.1:1338", false},
        {"http://metadata.example", false},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct err e = ERR_INIT;
        struct imds m;

        assert_int_equal(imds_init(&m, cases[i].base, &e), 0);
        assert_int_equal(m.link_local, cases[i].link_local);
        imds_done(&m);
    }
}

/* --- Swift ---------------------------------------------------------------------------------------
 */

#define CATALOG(endpoints)                                                                         \
    "{\"token\": {\"catalog\": [{\"type\": \"identity\", \"endpoints\": [{\"interface\": "         \
    "\"public\", \"region\": \"X\", \"url\": \"http://x\"}]}, {\"type\": \"object-store\", "       \
    "\"endpoints\": [" endpoints "]}]}}"
#define ENDPOINT(interface, region, url)                                                           \
    "{\"interface\": \"" interface "\", \"region_id\": \"" region "\", \"url\": \"" url "\"}"

static void the_catalog_names_the_store(void **state)
{
    static const struct {
        const char *text, *region, *url, *words;
    } cases[] = {
        {CATALOG(ENDPOINT("admin", "A", "http://a") ", " ENDPOINT("public", "A", "https://b/v1/")),
         NULL, "https://b/v1", NULL},
        {CATALOG(ENDPOINT("public", "A", "http://a") ", " ENDPOINT("public", "B", "http://b")), "B",
         "http://b", NULL},
        {CATALOG(ENDPOINT("public", "A", "http://a") ", " ENDPOINT("public", "A", "http://b")),
         NULL, "http://a", NULL},
        {CATALOG("{\"interface\": \"public\", \"region\": \"A\", \"url\": \"http://a\"}"), "A",
         "http://a", NULL},
        {CATALOG(ENDPOINT("public", "A", "http://a") ", " ENDPOINT("public", "B", "http://b")),
         NULL, NULL, "several regions: A, B"},
        {CATALOG(ENDPOINT("public", "A", "http://a")), "C", NULL, "in the region C, but in A"},
        {CATALOG(ENDPOINT("internal", "A", "http://a")), NULL, NULL, "no object store"},
        {CATALOG(ENDPOINT("public", "A", "file:///etc/passwd")), NULL, NULL, "neither http://"},
        {CATALOG(ENDPOINT("public", "A", "http://u:p@x")), NULL, NULL, "has a user"},
        {CATALOG(ENDPOINT("public", "A", "")), NULL, NULL, "no object store"},
        {CATALOG("1, \"a\", null, [], {\"interface\": 1}, {\"interface\": \"public\", \"url\": "
                 "{}}"),
         NULL, NULL, "no object store"},
        {"{\"token\": {\"catalog\": {\"type\": \"object-store\"}}}", NULL, NULL, "no object store"},
        {"{\"token\": []}", NULL, NULL, "no object store"},
        {"{}", NULL, NULL, "no object store"},
        {"[]", NULL, NULL, "no object store"},
        {"{\"token\": {\"catalog\": [", NULL, NULL, "not JSON"},
        {"<html>", NULL, NULL, "not JSON"},
        {"", NULL, NULL, "not JSON"},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        scoped_free char *url = NULL;
        struct err e = ERR_INIT;
        int r = keystone_endpoint(cases[i].text, strlen(cases[i].text), cases[i].region, &url, &e);

        assert_int_equal(r < 0, cases[i].url == NULL);
        if (cases[i].url)
            assert_string_equal(url, cases[i].url);
        else
            assert_has(e.text, cases[i].words);
    }
}

static void a_request_for_a_token(void **state)
{
    static const struct keystone_user u = {"alice\"", "hu\\sh", NULL, "slugs"};
    static const char wanted[] =
        "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{\"name\":"
        "\"alice\\\"\",\"password\":\"hu\\\\sh\",\"domain\":{\"name\":\"Default\"}}}},\"scope\":{"
        "\"project\":{\"name\":\"slugs\",\"domain\":{\"name\":\"Default\"}}}}}";
    scoped_free char *text = keystone_request(&u);

    (void)state;
    assert_string_equal(text, wanted);
}

/* A Swift with an identity service of either version. */
struct swift_server {
    struct server server;
    unsigned tokens, refuses; /* so many requests with a token are refused */
    const char *trouble;
};

static char *say_token(struct swift_server *s, const char *request)
{
    char head[300], body[400] = "";
    bool v3 = str_starts(request, "POST /v3/auth/tokens HTTP");
    char user[40] = "", key[40] = "";

    (void)server_field(request, "X-Auth-User", user, sizeof(user));
    (void)server_field(request, "X-Auth-Key", key, sizeof(key));
    if (v3 ? !strstr(request, "\"password\":\"hush\"")
           : strcmp(user, "acc:user") != 0 || strcmp(key, "hush") != 0)
        return server_answer(401, "", "");
    if (!strcmp(s->trouble, "broken"))
        return server_answer(400, "",
                             "{\"error\": {\"code\": 400, \"message\": \"Expecting a \\u001b\"}}");
    if (!strcmp(s->trouble, "tokenless"))
        return server_answer(200, "", "{}");
    (void)snprintf(head, sizeof(head),
                   v3 ? "X-Subject-Token: token%u\r\n"
                      : "X-Auth-Token: token%u\r\nX-Storage-Url: http://127.0.0.1:%u/v1/AUTH_a\r\n",
                   ++s->tokens, s->server.port);
    if (v3)
        (void)snprintf(body, sizeof(body),
                       CATALOG(ENDPOINT("public", "A", "http://127.0.0.1:%u/v1/AUTH_a")),
                       s->server.port);
    return server_answer(v3 ? 201 : 200, head, body);
}

static char *say_swift(void *userdata, const char *request, unsigned number)
{
    struct swift_server *s = userdata;
    char token[40] = "", wanted[40];

    (void)number;
    if (str_starts(request, "GET /auth/v1.0 ") || str_starts(request, "POST "))
        return say_token(s, request);
    (void)server_field(request, "X-Auth-Token", token, sizeof(token));
    (void)snprintf(wanted, sizeof(wanted), "token%u", s->tokens);
    if (strcmp(token, wanted) != 0)
        return server_answer(401, "", "");
    if (str_starts(request, "GET /v1/AUTH_a/slugs/a%20b%3F HTTP"))
        return server_answer(200, "", "x");
    return server_answer(str_starts(request, "GET /v1/AUTH_a/slugs?") ? 204 : 404, "", "");
}

static void open_swift(struct opened *o, const struct swift_server *s, const char *auth,
                       const char *key, const char *address)
{
    char settings[300];

    (void)snprintf(settings, sizeof(settings),
                   "{\"swift\": {\"auth_url\": \"http://127.0.0.1:%u%s\", \"user\": \"acc:user\", "
                   "\"key\": \"%s\", \"project\": \"p\", \"region\": \"A\"}}",
                   s->server.port, auth, key);
    open_it(o, address, settings);
}

static void a_token_is_had_once_and_once_more(void **state)
{
    static const char *const auths[] = {"/auth/v1.0", "/v3", "/v3/", "/v3/auth/tokens"};
    static const struct store_refusal unauthorized = {.status = 401, .body = ""};

    (void)state;
    for (size_t i = 0; i < N(auths); i++) {
        struct swift_server s = {.trouble = ""};
        scoped(close_it) struct opened o;
        struct err e = ERR_INIT;

        assert_int_equal(server_start(&s.server, say_swift, &s), 0);
        open_swift(&o, &s, auths[i], "hush", "swift://slugs/a%20b?");
        assert_int_equal(get(&o.s, NULL, NULL), 200);
        assert_int_equal(get(&o.s, "If-Match: \"x\"", "5-"), 200);
        assert_int_equal(s.tokens, 1);
        s.tokens++; /* the one that is held is good no more */
        assert_int_equal(get(&o.s, NULL, NULL), 401);
        assert_int_equal(o.s.ops->refused(&o.s, &unauthorized, &e), STORE_RENEW);
        assert_int_equal(e.fault, FAULT_OPERATOR);
        assert_int_equal(get(&o.s, NULL, NULL), 200);
        assert_int_equal(s.tokens, 3);
        server_stop(&s.server);
    }
}

static void tokens_that_are_not_given(void **state)
{
    static const struct {
        const char *auth, *key, *trouble, *words;
        enum fault fault;
    } cases[] = {
        {"/auth/v1.0", "wrong", "", "the user or the key is wrong", FAULT_OPERATOR},
        {"/v3", "wrong", "", "the user or the key is wrong", FAULT_OPERATOR},
        {"/v3", "hush", "broken", "HTTP status 400: Expecting a \\x1b", FAULT_OPERATOR},
        {"/auth/v1.0", "hush", "tokenless", "no token", FAULT_PLATFORM},
        {"/v3", "hush", "tokenless", "no object store", FAULT_OPERATOR},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct swift_server s = {.trouble = cases[i].trouble};
        scoped(close_it) struct opened o;
        struct store_request rq = {0};
        struct err e = ERR_INIT;
        CURL *easy = curl_easy_init();

        assert_int_equal(server_start(&s.server, say_swift, &s), 0);
        open_swift(&o, &s, cases[i].auth, cases[i].key, "swift://slugs/x");
        assert_true(o.s.ops->prepare(&o.s, easy, &rq, &e) < 0);
        assert_has(e.text, cases[i].words);
        assert_has(e.text, "swift://slugs/x");
        assert_hasnt(e.text, "hush");
        assert_int_equal(e.fault, cases[i].fault);
        curl_easy_cleanup(easy);
        server_stop(&s.server);
    }
}

/* 404 is the object or the container. */
static void what_swift_has_not(void **state)
{
    static const struct {
        const char *address;
        long status;
        enum store_verdict verdict;
        const char *words;
    } cases[] = {
        {"swift://slugs/other", 404, STORE_FINAL, "no such object in the container"},
        {"swift://other/a", 404, STORE_FINAL, "no container other"},
        {"swift://slugs/other", 403, STORE_FINAL, "may not read"},
        {"swift://slugs/other", 498, STORE_LATER, "rate limit"},
        {"swift://slugs/other", 503, STORE_PLAIN, ""},
    };
    struct swift_server s = {.trouble = ""};

    (void)state;
    assert_int_equal(server_start(&s.server, say_swift, &s), 0);
    for (size_t i = 0; i < N(cases); i++) {
        const struct store_refusal r = {.status = cases[i].status, .body = ""};
        scoped(close_it) struct opened o;
        struct err e = ERR_INIT;

        open_swift(&o, &s, "/auth/v1.0", "hush", cases[i].address);
        assert_int_equal(get(&o.s, NULL, NULL), 404);
        assert_int_equal(o.s.ops->refused(&o.s, &r, &e), cases[i].verdict);
        assert_has(e.text, cases[i].words);
    }
    server_stop(&s.server);
}

/* --- https ---------------------------------------------------------------------------------------
 */

/* Whether a token would be sent to ADDRESS. */
static bool would_send(const char *address, const char *hosts)
{
    char settings[200];
    scoped(close_it) struct opened o;

    (void)snprintf(settings, sizeof(settings),
                   "{\"https\": {\"hosts\": \"%s\", \"token\": \"hush\"}}", hosts);
    open_it(&o, address, settings);
    return o.s.state && *(const char *const *)o.s.state;
}

static void a_token_goes_to_its_hosts_only(void **state)
{
    (void)state;
    assert_true(would_send("https://store.example/a", "store.example"));
    assert_true(would_send("https://STORE.example/a", "other.example store.example"));
    assert_true(would_send("https://store.example:8443/a", "store.example"));
    assert_true(would_send("https://store.example:8443/a", "store.example:8443"));
    assert_true(would_send("https://store.example/a", "store.example:443"));
    assert_false(would_send("https://store.example:8443/a", "store.example:443"));
    assert_false(would_send("https://evil.example/a", "store.example"));
    assert_false(would_send("https://store.example.evil.example/a", "store.example"));
    assert_false(would_send("https://store.example@evil.example/a", "store.example"));
    assert_false(would_send("https://evil.example/?store.example", "store.example"));
    assert_false(would_send("https://example/a", "store.example"));
}

static void a_pre_signed_url_is_refused_in_words(void **state)
{
    static const char body[] = XML "<Error><Code>AccessDenied</Code><Message>Request has expired"
                                   "</Message></Error>";
    const struct store_refusal r = {
        .status = 403, .body = body, .len = sizeof(body) - 1, .skew_sec = 600};
    scoped(close_it) struct opened o;
    struct err e = ERR_INIT;

    (void)state;
    open_it(&o, "https://slugs.s3.amazonaws.com/a?X-Amz-Signature=hush", NULL);
    assert_int_equal(o.s.ops->refused(&o.s, &r, &e), STORE_FINAL);
    assert_has(e.text, "AccessDenied: Request has expired");
    assert_has(e.text, "10 minutes ahead");
    assert_hasnt(e.text, "hush");
    assert_int_equal(e.fault, FAULT_OPERATOR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_taken_apart),
        cmocka_unit_test(addresses_that_name_nothing),
        cmocka_unit_test(an_object_of_s3_has_a_url),
        cmocka_unit_test(places_that_s3_cannot_be_at),
        cmocka_unit_test(errors_of_s3_are_read),
        cmocka_unit_test(what_is_no_error_of_s3),
        cmocka_unit_test(a_damaged_error_does_no_harm),
        cmocka_unit_test(settings_that_cannot_be),
        cmocka_unit_test(the_signer_agrees_with_published_examples),
        cmocka_unit_test(requests_to_s3_are_signed),
        cmocka_unit_test(a_session_token_is_sent_and_signed),
        cmocka_unit_test(without_keys_nothing_is_signed),
        cmocka_unit_test(a_signed_request_follows_no_redirect),
        cmocka_unit_test(refusals_of_s3_have_words_and_a_fault),
        cmocka_unit_test(the_region_may_be_in_a_field),
        cmocka_unit_test(answers_of_the_metadata_are_checked),
        cmocka_unit_test(credentials_of_a_role),
        cmocka_unit_test(credentials_are_renewed_ahead),
        cmocka_unit_test(a_role_signs_and_is_renewed),
        cmocka_unit_test(a_role_that_ends_soon),
        cmocka_unit_test(metadata_that_gives_nothing),
        cmocka_unit_test(a_role_opens_no_other_link_local_address),
        cmocka_unit_test(the_catalog_names_the_store),
        cmocka_unit_test(a_request_for_a_token),
        cmocka_unit_test(a_token_is_had_once_and_once_more),
        cmocka_unit_test(tokens_that_are_not_given),
        cmocka_unit_test(what_swift_has_not),
        cmocka_unit_test(a_token_goes_to_its_hosts_only),
        cmocka_unit_test(a_pre_signed_url_is_refused_in_words),
    };

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return 1;
    int failed = cmocka_run_group_tests_name("store", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
