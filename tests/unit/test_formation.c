#include "slug/formation.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* web, release, worker of the Procfile; console of .release. */
static void make(struct procfile *p)
{
    static const char text[] = "web: w\nrelease: r\nworker: k\n";
    static const char release[] = "default_process_types: {console: c}";
    struct err e = ERR_INIT;

    *p = (struct procfile){0};
    assert_int_equal(procfile_parse(p, "P", text, strlen(text), &e), 0);
    assert_int_equal(procfile_add_release(p, ".r", release, strlen(release), &e), 0);
    assert_int_equal(p->n_types, 4);
}

static void assert_counts(const char *spec, unsigned web, unsigned worker, unsigned console)
{
    struct procfile p;
    struct err e = ERR_INIT;
    unsigned counts[4] = {9, 9, 9, 9};

    make(&p);
    if (formation_parse(&p, spec, counts, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(counts[0], web);
    assert_int_equal(counts[1], 0); /* release: never */
    assert_int_equal(counts[2], worker);
    assert_int_equal(counts[3], console);
    procfile_done(&p);
}

static void assert_refused(const char *spec, const char *why)
{
    struct procfile p;
    struct err e = ERR_INIT;
    unsigned counts[4] = {9, 9, 9, 9};

    make(&p);
    assert_true(formation_parse(&p, spec, counts, &e) < 0);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_int_equal(counts[0], 9); /* untouched */
    if (!strstr(e.text, why))
        fail_msg("'%s' is not in '%s'", why, e.text);
    procfile_done(&p);
}

static void formations(void **state)
{
    (void)state;
    assert_counts(NULL, 1, 1, 0);
    assert_counts("web=2,worker=1", 2, 1, 0);
    assert_counts("web=2", 2, 0, 0);
    assert_counts("all=3", 3, 3, 0);
    assert_counts("all=1,web=0", 0, 1, 0);
    assert_counts("web=5,all=2", 5, 2, 0);
    assert_counts(" web = 2 ,\tworker=1 ", 2, 1, 0);
    assert_counts("console=2", 0, 0, 2);
    assert_counts("all=1,console=1", 1, 1, 1);
    assert_counts("web=100", 100, 0, 0);
}

static void web_of_release_file_starts_by_default(void **state)
{
    struct procfile p = {0};
    struct err e = ERR_INIT;
    static const char release[] = "default_process_types: {console: c, web: w}";
    unsigned counts[2];

    (void)state;
    assert_int_equal(procfile_add_release(&p, ".r", release, strlen(release), &e), 0);
    assert_int_equal(formation_parse(&p, NULL, counts, &e), 0);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 0);
    procfile_done(&p);
}

static void refusals(void **state)
{
    (void)state;
    assert_refused("nope=1", "no such process type");
    assert_refused("release=1", "'release' is never part");
    assert_refused("web", "no '='");
    assert_refused("web=", "no number");
    assert_refused("web==2", "not a number");
    assert_refused(",", "a part is empty");
    assert_refused("web=1,web=2", "twice");
    assert_refused("all=1,all=2", "twice");
    assert_refused("web=-1", "not a number");
    assert_refused("web=+1", "not a number");
    assert_refused("web=x", "not a number");
    assert_refused("web=1.5", "not a number");
    assert_refused("web=101", "over the limit of 100");
    assert_refused("web=99999999999999999999999999999", "over the limit of 100");
    assert_refused("", "a part is empty");
    assert_refused(" ", "a part is empty");
    assert_refused("web=1,", "a part is empty");
    assert_refused("web=1,,worker=1", "a part is empty");
    assert_refused(",web=1", "a part is empty");
    assert_refused("web=0", "nothing is left to start");
    assert_refused("all=0", "nothing is left to start");
    assert_refused("=1", "not a process type's name");
    assert_refused("a\x1b=1", "\\x1b");
}

static void a_release_alone_starts_nothing(void **state)
{
    struct procfile p = {0};
    struct err e = ERR_INIT;
    unsigned counts[1];

    (void)state;
    assert_int_equal(procfile_parse(&p, "P", "release: r", 10, &e), 0);
    assert_int_equal(formation_parse(&p, NULL, counts, &e), -EINVAL);
    procfile_done(&p);
}

static void single_assignments(void **state)
{
    char type[TYPE_NAME_MAX + 1];
    struct err e = ERR_INIT;
    unsigned n = 9;

    (void)state;
    assert_int_equal(formation_parse_one("web=0", type, &n, &e), 0);
    assert_string_equal(type, "web");
    assert_int_equal(n, 0);
    assert_int_equal(formation_parse_one("all=1", type, &n, &e), -EINVAL);
    assert_int_equal(formation_parse_one("run=1", type, &n, &e), -EINVAL);
    assert_int_equal(formation_parse_one("release=1", type, &n, &e), -EINVAL);
    assert_int_equal(formation_parse_one("web=101", type, &n, &e), -EINVAL);
    assert_int_equal(formation_parse_one("web=1,worker=2", type, &n, &e), -EINVAL);
    assert_int_equal(formation_parse_one("web", type, &n, &e), -EINVAL);
}

static void ports(void **state)
{
    struct procfile p;
    struct err e = ERR_INIT;
    unsigned port = 0;

    (void)state;
    make(&p);
    assert_int_equal(port_for(&p, 0, 1, 5000, &port, &e), 0);
    assert_int_equal(port, 5000);
    assert_int_equal(port_for(&p, 0, 3, 5000, &port, &e), 0);
    assert_int_equal(port, 5002);
    assert_int_equal(port_for(&p, 2, 1, 5000, &port, &e), 0); /* release takes no place */
    assert_int_equal(port, 5100);
    assert_int_equal(port_for(&p, 3, 2, 5000, &port, &e), 0);
    assert_int_equal(port, 5201);
    assert_int_equal(port_for(&p, 0, 1, 65535, &port, &e), 0);
    assert_int_equal(port, 65535);
    assert_int_equal(port_for(&p, 0, 2, 65535, &port, &e), -ERANGE);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_int_equal(port_for(&p, 2, 1, 65500, &port, &e), -ERANGE);
    procfile_done(&p);
}

static void base_ports(void **state)
{
    struct err e = ERR_INIT;
    unsigned port = 0;

    (void)state;
    assert_int_equal(port_parse("-p", "8080", &port, &e), 0);
    assert_int_equal(port, 8080);
    assert_int_equal(port_parse("-p", "1", &port, &e), 0);
    assert_int_equal(port_parse("-p", "65535", &port, &e), 0);
    assert_int_equal(port_parse("-p", "0", &port, &e), -ERANGE);
    assert_int_equal(port_parse(".env", "65536", &port, &e), -ERANGE);
    assert_string_equal(e.text, ".env: the port 65536 is outside 1-65535");
    assert_int_equal(port_parse("-p", "x", &port, &e), -EINVAL);
    assert_int_equal(port_parse("-p", "", &port, &e), -EINVAL);
    assert_int_equal(port_parse("-p", "-1", &port, &e), -EINVAL);
    assert_int_equal(port_parse("-p", "80 ", &port, &e), -EINVAL);
    assert_int_equal(port, 65535); /* untouched */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formations),
        cmocka_unit_test(web_of_release_file_starts_by_default),
        cmocka_unit_test(refusals),
        cmocka_unit_test(a_release_alone_starts_nothing),
        cmocka_unit_test(single_assignments),
        cmocka_unit_test(ports),
        cmocka_unit_test(base_ports),
    };

    return cmocka_run_group_tests_name("formation", tests, NULL, NULL);
}
