#include "slug/procfile.h"

#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Parses TEXT, and shows the types as "name=command;". */
static char *types_of(const char *text, size_t len, struct procfile *p)
{
    static char shown[4096];
    struct err e = ERR_INIT;

    *p = (struct procfile){0};
    if (procfile_parse(p, "P", text, len, &e) < 0) {
        assert_int_equal(p->n_types, 0);
        assert_int_equal(e.fault, FAULT_APP);
        (void)snprintf(shown, sizeof(shown), "error %s", e.text);
        return shown;
    }
    shown[0] = '\0';
    for (size_t i = 0; i < p->n_types; i++) {
        size_t used = strlen(shown);
        (void)snprintf(shown + used, sizeof(shown) - used, "%s=%s;", p->types[i].name,
                       p->types[i].command);
    }
    return shown;
}

static void assert_types(const char *text, const char *types)
{
    struct procfile p;

    assert_string_equal(types_of(text, strlen(text), &p), types);
    procfile_done(&p);
}

/* TEXT gives TYPES and exactly one warning, which holds WARNING; "": none. */
static void assert_warned(const char *text, const char *types, const char *warning)
{
    struct procfile p;

    assert_string_equal(types_of(text, strlen(text), &p), types);
    assert_int_equal(p.n_warnings, *warning ? 1 : 0);
    if (*warning && !strstr(p.warnings[0], warning))
        fail_msg("'%s' is not in '%s'", warning, p.warnings[0]);
    procfile_done(&p);
}

static void blanks_and_colons(void **state)
{
    (void)state;
    assert_types("web: bin/web", "web=bin/web;");
    assert_types("web:cmd", "web=cmd;");
    assert_types(" \t web \t:\t cmd x \t ", "web=cmd x;");
    assert_types("web: a:b : c", "web=a:b : c;");
    assert_types("web: \"quoted $PORT\" 'x'", "web=\"quoted $PORT\" 'x';");
    assert_types("web: echo # not a comment", "web=echo # not a comment;");
    assert_types("web: c\nA-b_9: d\n9x: e\n", "web=c;A-b_9=d;9x=e;");
}

static void names_have_limits(void **state)
{
    char text[128];

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text + 63, ": c", 4);
    struct procfile p;
    (void)types_of(text, strlen(text), &p);
    assert_int_equal(p.n_types, 1);
    procfile_done(&p);
    memset(text, 'a', sizeof(text));
    memcpy(text + 64, ": c", 4);
    assert_warned(text, "", "P:1: a name has at most 63 characters");
}

static void reserved_names_are_errors(void **state)
{
    (void)state;
    assert_types("web: x\nrun: y", "error P:2: the name 'run' is reserved");
    assert_types("all: y", "error P:1: the name 'all' is reserved");
    assert_types("runs: y\nal: z", "runs=y;al=z;");
    assert_warned("run:", "", "no command"); /* names nothing */
}

static void line_ends(void **state)
{
    (void)state;
    assert_types("a: 1\nb: 2\n", "a=1;b=2;");
    assert_types("a: 1\r\nb: 2\r\n", "a=1;b=2;");
    assert_types("a: 1\rb: 2\r", "a=1;b=2;");
    assert_types("a: 1\rb: 2\nc: 3\r\nd: 4", "a=1;b=2;c=3;d=4;");
    assert_types("\xef\xbb\xbf"
                 "a: 1",
                 "a=1;");
    assert_types("", "");
    assert_types("\xef\xbb\xbf", "");
}

static void silent_lines(void **state)
{
    (void)state;
    assert_warned("\n \t \n# x: y\n  # z\nweb: c\n", "web=c;", "");
}

static void other_lines_are_skipped_with_why(void **state)
{
    (void)state;
    assert_warned("web c\nok: 1", "ok=1;", "P:1: no ':'");
    assert_warned("ok: 1\nweb:\n", "ok=1;", "P:2: no command");
    assert_warned("ok: 1\nweb: \t\n", "ok=1;", "P:2: no command");
    assert_warned("-x: 1", "", "P:1: a name cannot start with '-'");
    assert_warned("_x: 1", "", "P:1: a name cannot start with '_'");
    assert_warned("- web", "", "P:1: a name cannot start with '-'");
    assert_warned("a b: 1", "", "P:1: 'a b' is not a name");
    assert_warned(": 1", "", "P:1: no name before ':'");
    assert_warned("\xffz: 1", "", "cannot start with '\\xff'");
    assert_warned("w\x1b[31m: 1", "", "'w\\x1b[31m' is not a name");
}

static void conflict_markers_are_errors(void **state)
{
    (void)state;
    assert_types("a: 1\n<<<<<<< HEAD\nb: 2", "error P:2: a conflict marker of git");
    assert_types("=======\n", "error P:1: a conflict marker of git");
    assert_types(">>>>>>> x", "error P:1: a conflict marker of git");
    assert_types("|||||||\tx", "error P:1: a conflict marker of git");
    assert_types("a: 1\r=======\r", "error P:2: a conflict marker of git");
    assert_warned("<<<<<<<x", "", "P:1"); /* no blank */
    assert_warned("<<<<<<<<", "", "P:1"); /* eight */
    assert_warned(" =======", "", "P:1"); /* not at the line's start */
    assert_warned("<<<<<<", "", "P:1");   /* six */
}

static void nul_and_length_are_errors(void **state)
{
    struct procfile p;
    scoped_free char *big = malloc(200000);

    (void)state;
    assert_string_equal(types_of("a: 1\nb: \0 2", 11, &p), "error P:2: a NUL byte");
    assert_string_equal(types_of("# \0", 3, &p), "error P:1: a NUL byte");
    memset(big, 'x', 200000);
    memcpy(big, "a: ", 3);
    assert_non_null(strstr(types_of(big, 3 + 131072, &p), "over the limit of 131071"));
    (void)types_of(big, 3 + 131071, &p);
    assert_int_equal(p.n_types, 1);
    assert_int_equal(strlen(p.types[0].command), 131071);
    procfile_done(&p);
}

static void the_last_of_equal_names_wins_in_the_first_place(void **state)
{
    (void)state;
    assert_warned("a: 1\nb: 2\na: 3\n", "a=3;b=2;", "P:3: 'a' was there before");
    assert_types("web: 1\nWeb: 2\n", "web=1;Web=2;");
}

static void types_and_warnings_are_bounded(void **state)
{
    struct str text = {0};
    struct procfile p;
    struct err e = ERR_INIT;

    (void)state;
    for (int i = 0; i < PROCFILE_MAX_TYPES; i++)
        str_addf(&text, "t%d: x\n", i);
    (void)types_of(text.data, text.len, &p);
    assert_int_equal(p.n_types, PROCFILE_MAX_TYPES);
    assert_int_equal(procfile_parse(&p, "P", "more: x", 7, &e), -E2BIG);
    assert_int_equal(p.n_types, PROCFILE_MAX_TYPES); /* as it was */
    assert_non_null(strstr(e.text, "over the limit of 1000 process types"));
    procfile_done(&p);
    str_done(&text);
    for (int i = 0; i < 1000; i++)
        str_addf(&text, "junk\n");
    (void)types_of(text.data, text.len, &p);
    assert_int_equal(p.n_warnings, 101);
    assert_string_equal(p.warnings[100], "more warnings were left out");
    procfile_done(&p);
    str_done(&text);
}

/* PROCFILE, then RELEASE: types, "*" behind those of the latter. */
static void assert_release(const char *procfile, const char *release, const char *types,
                           const char *warning)
{
    struct procfile p = {0};
    struct err e = ERR_INIT;
    char shown[1024] = "";

    assert_int_equal(procfile_parse(&p, "P", procfile, strlen(procfile), &e), 0);
    assert_int_equal(procfile_add_release(&p, ".release", release, strlen(release), &e), 0);
    for (size_t i = 0; i < p.n_types; i++) {
        size_t used = strlen(shown);
        (void)snprintf(shown + used, sizeof(shown) - used, "%s=%s%s;", p.types[i].name,
                       p.types[i].command, p.types[i].from_release_file ? "*" : "");
    }
    assert_string_equal(shown, types);
    assert_int_equal(p.n_warnings, *warning ? 1 : 0);
    if (*warning && !strstr(p.warnings[0], warning))
        fail_msg("'%s' is not in '%s'", warning, p.warnings[0]);
    procfile_done(&p);
}

#define DPT "---\naddons: [a, {b: c}]\nconfig_vars:\n  X: y\ndefault_process_types:\n"

static void release_fills_in(void **state)
{
    (void)state;
    assert_release("web: a", DPT "  web: b\n", "web=a;", "");
    assert_release("job: a", DPT "  rake: r\n  web: w\n  console: c\n",
                   "job=a;web=w*;rake=r*;console=c*;", "");
    assert_release("", DPT "  web: 'bin/rails s -p $PORT'\n", "web=bin/rails s -p $PORT*;", "");
    assert_release("", "default_process_types: {web: x, a: \"y z\"}", "web=x*;a=y z*;", "");
    assert_release("", DPT "  web: |\n    two\n    lines\n", "web=two\nlines*;", "");
    assert_release("a: 1", "", "a=1;", "");
    assert_release("a: 1", "--- {}\n", "a=1;", "");
    assert_release("a: 1", "default_process_types: {}\n", "a=1;", "");
    assert_release("a: 1", "default_process_types:\n", "a=1;", "");
    assert_release("a: 1", "x:\n  default_process_types:\n    b: c\n", "a=1;", "");
}

static void release_that_is_wrong_is_a_warning(void **state)
{
    (void)state;
    assert_release("a: 1", "a: [", "a=1;", "not YAML");
    assert_release("a: 1", "\tx: {", "a=1;", "not YAML");
    assert_release("a: 1", DPT "  run: x\n  b: c\n", "a=1;b=c*;", "'run' is a reserved name");
    assert_release("a: 1", DPT "  all: x\n", "a=1;", "'all' is a reserved name");
    assert_release("a: 1", DPT "  -x: x\n", "a=1;", "is not a name");
    assert_release("a: 1", DPT "  b: [x]\n  c: d\n", "a=1;c=d*;", "its value is not text");
    assert_release("a: 1", DPT "  [q]: x\n  c: d\n", "a=1;c=d*;", "is not a name");
    assert_release("a: 1", DPT "  b: ''\n", "a=1;", "has no command");
    assert_release("a: 1", DPT "  b: ~\n", "a=1;", "has no command");
    assert_release("a: 1", DPT "  - b\n", "a=1;", "is not a mapping");
    assert_release("a: 1", "default_process_types: text", "a=1;", "is not a mapping");
    assert_release("a: 1", "just text", "a=1;", "not a mapping");
    assert_release("a: 1", DPT "  b: x\n  b: y\n", "a=1;b=y*;", "was there before");
    /* What came before the mistake is not taken either. */
    assert_release("a: 1", DPT "  b: x\nc: [", "a=1;", "not YAML");
}

static void release_aliases_do_not_grow(void **state)
{
    (void)state;
    assert_release("a: 1", "x: &x y\ndefault_process_types:\n  b: *x\n", "a=1;", "not text");
}

static void no_type_at_all_is_an_error(void **state)
{
    struct procfile p = {0};
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(procfile_check(&p, "Procfile", &e), -EINVAL);
    assert_int_equal(e.fault, FAULT_APP);
    assert_int_equal(procfile_parse(&p, "P", "a: b", 4, &e), 0);
    assert_int_equal(procfile_check(&p, "Procfile", &e), 0);
    assert_non_null(procfile_find(&p, "a"));
    assert_null(procfile_find(&p, "ab"));
    procfile_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_and_colons),
        cmocka_unit_test(names_have_limits),
        cmocka_unit_test(reserved_names_are_errors),
        cmocka_unit_test(line_ends),
        cmocka_unit_test(silent_lines),
        cmocka_unit_test(other_lines_are_skipped_with_why),
        cmocka_unit_test(conflict_markers_are_errors),
        cmocka_unit_test(nul_and_length_are_errors),
        cmocka_unit_test(the_last_of_equal_names_wins_in_the_first_place),
        cmocka_unit_test(types_and_warnings_are_bounded),
        cmocka_unit_test(release_fills_in),
        cmocka_unit_test(release_that_is_wrong_is_a_warning),
        cmocka_unit_test(release_aliases_do_not_grow),
        cmocka_unit_test(no_type_at_all_is_an_error),
    };

    return cmocka_run_group_tests_name("procfile", tests, NULL, NULL);
}
