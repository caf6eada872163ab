/* test_cli_local.c - what `dyno local` reads and refuses before anything starts. */
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "cli/localplan.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

static char top[] = "/tmp/test-cli-local-XXXXXX";
static char app[64];

/* TEXT NULL: no such file. */
static void put(const char *name, const char *text)
{
    struct err e = ERR_INIT;
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", app, name);
    (void)unlink(path);
    if (text)
        assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, &e), 0);
}

/* A plan, or the error's text in E. */
static struct local_plan *plan(struct local_options o, struct err *e)
{
    struct local_plan *p = NULL;

    *e = (struct err)ERR_INIT;
    if (!o.dir)
        o.dir = app;
    int r = local_plan_new(&o, &p, e);
    assert_true((r == 0) == (p != NULL));
    return p;
}

static void expect_refused(struct local_options o, const char *word)
{
    struct err e;
    struct local_plan *p = plan(o, &e);

    if (p)
        fail_msg("not refused, though '%s' is wrong", word);
    if (!strstr(e.text, word))
        fail_msg("no '%s' in: %s", word, e.text);
}

static void a_whole_plan(void **state)
{
    struct err e;
    json_t *release;

    (void)state;
    put("Procfile", "web: a\nrelease: b\nworker: c\n");
    put(".env", "A=1\nPORT=6000\n");
    struct local_plan *p = plan((struct local_options){.formation = "web=2,worker=1"}, &e);
    assert_non_null(p);
    assert_string_equal(p->app, "my-app");
    assert_int_equal(p->counts[0], 2);
    assert_int_equal(p->ports[0], 6000);
    assert_int_equal(p->ports[2], 6100); /* `release` takes no place */
    assert_int_equal(local_plan_release(p, &release, &e), 0);
    assert_string_equal(json_str(release, "dir", ""), app);
    assert_int_equal(json_int(json_object_get(release, "formation"), "web", -1), 2);
    assert_null(json_object_get(json_object_get(release, "formation"), "release"));
    assert_int_equal(json_int(json_object_get(release, "ports"), "worker", -1), 6100);
    assert_string_equal(json_str(json_object_get(release, "env"), "A", ""), "1");
    assert_true(json_is_false(json_object_get(release, "restart")));
    assert_int_equal(json_array_size(json_object_get(release, "types")), 3);
    json_decref(release);
    local_plan_freep(&p);
}

static void ports_come_from_the_nearest(void **state)
{
    struct err e;

    (void)state;
    put("Procfile", "web: a\n");
    put(".env", "PORT=6000\n");
    setenv("PORT", "7000", 1);
    struct local_plan *p = plan((struct local_options){.port = "8000"}, &e);
    assert_int_equal(p->ports[0], 8000);
    local_plan_freep(&p);
    p = plan((struct local_options){0}, &e);
    assert_int_equal(p->ports[0], 6000);
    local_plan_freep(&p);
    put(".env", NULL);
    p = plan((struct local_options){0}, &e);
    assert_int_equal(p->ports[0], 7000);
    local_plan_freep(&p);
    setenv("PORT", "none", 1);
    expect_refused((struct local_options){0}, "PORT in the environment");
    unsetenv("PORT");
    p = plan((struct local_options){0}, &e);
    assert_int_equal(p->ports[0], 5000);
    local_plan_freep(&p);
}

static void env_files_are_lists_and_the_last_wins(void **state)
{
    struct err e;
    char list[300];

    (void)state;
    put("Procfile", "web: a\n");
    put(".env", "UNUSED=1\n");
    put("one.env", "A=1\nB=1\n");
    put("two.env", "B=2\n");
    (void)snprintf(list, sizeof(list), "%s/one.env,%s/two.env", app, app);
    struct local_plan *p = plan((struct local_options){.env = list}, &e);
    assert_string_equal(json_str(p->env, "A", ""), "1");
    assert_string_equal(json_str(p->env, "B", ""), "2");
    assert_null(json_object_get(p->env, "UNUSED"));
    local_plan_freep(&p);
    expect_refused((struct local_options){.env = ""}, "name is empty");
    expect_refused((struct local_options){.env = "/nonexistent/a,"}, "/nonexistent/a");
    strcat(list, ",");
    expect_refused((struct local_options){.env = list}, "name is empty");
}

static void mistakes_name_their_place(void **state)
{
    (void)state;
    put("Procfile", "web: a\n");
    put(".env", "GOOD=1\nBAD=\"never ends\n");
    expect_refused((struct local_options){0}, ".env:2");
    put(".env", "PORT=x\n");
    expect_refused((struct local_options){0}, ".env: the port 'x'");
    put(".env", NULL);
    expect_refused((struct local_options){.port = "0"}, "-p");
    expect_refused((struct local_options){.formation = "web=1,,"}, "formation");
    expect_refused((struct local_options){.formation = "nosuch=1"}, "nosuch=1");
    expect_refused((struct local_options){.port = "65500", .formation = "web=100"}, "above 65535");
    put("Procfile", "web: a\n<<<<<<< ours\n");
    expect_refused((struct local_options){0}, "Procfile:2");
    put("Procfile", "# none\n");
    expect_refused((struct local_options){0}, "no process type");
    put("Procfile", NULL);
    expect_refused((struct local_options){0}, "no Procfile");
    expect_refused((struct local_options){.procfile = "/nonexistent/P"}, "/nonexistent/P");
    expect_refused((struct local_options){.dir = "/nonexistent"}, "/nonexistent");
    expect_refused((struct local_options){.slug = "https://h/x.tgz"}, "https://h/x.tgz");
    expect_refused((struct local_options){.slug = "/nonexistent.tgz"}, "/nonexistent.tgz");
}

static void release_files_and_links_are_read(void **state)
{
    struct err e;
    char path[128];

    (void)state;
    put("Procfile", NULL);
    put(".release", "default_process_types:\n  web: from release\n  other: x\n");
    put("real", "worker: w\n");
    struct local_plan *p = plan((struct local_options){0}, &e);
    assert_non_null(p);
    assert_int_equal(p->counts[0], 1); /* web; `other` only when it is named */
    assert_int_equal(p->counts[1], 0);
    local_plan_freep(&p);
    put(".release", NULL);
    (void)snprintf(path, sizeof(path), "%s/Procfile", app);
    assert_int_equal(symlink("real", path), 0);
    p = plan((struct local_options){0}, &e);
    assert_non_null(p);
    assert_string_equal(p->types.types[0].name, "worker");
    local_plan_freep(&p);
    put("Procfile", NULL);
    /* A one-off needs none. */
    p = plan((struct local_options){.one_off = true}, &e);
    assert_non_null(p);
    local_plan_freep(&p);
}

static void a_taken_port_is_named(void **state)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char port[16];
    struct err e;

    (void)state;
    put("Procfile", "web: a\n");
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
    (void)snprintf(port, sizeof(port), "%u", ntohs(any.sin_port));
    struct local_plan *p = plan((struct local_options){.port = port}, &e);
    assert_non_null(p);
    assert_int_equal(local_plan_check_ports(p, &e), -EADDRINUSE);
    assert_non_null(strstr(e.text, port));
    assert_non_null(strstr(e.text, "web.1"));
    assert_non_null(strstr(e.text, "-p"));
    close(fd);
    assert_int_equal(local_plan_check_ports(p, &e), 0);
    local_plan_freep(&p);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(top))
        return -1;
    (void)snprintf(app, sizeof(app), "%s/My App", top);
    return mkdir(app, 0700);
}

static int remove_dir(void **state)
{
    struct err e = ERR_INIT;

    (void)state;
    return tree_remove(AT_FDCWD, top, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_plan),
        cmocka_unit_test(ports_come_from_the_nearest),
        cmocka_unit_test(env_files_are_lists_and_the_last_wins),
        cmocka_unit_test(mistakes_name_their_place),
        cmocka_unit_test(release_files_and_links_are_read),
        cmocka_unit_test(a_taken_port_is_named),
    };
    return cmocka_run_group_tests_name("cli_local", tests, make_dir, remove_dir);
}
