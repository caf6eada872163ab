/* The agent's own id on the disk: made once. */
#include "core/control/link_priv.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "core/agent_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "refuse_open.h"

static void it_is_not_made_anew_for_want_of_a_descriptor(void **state)
{
    char dir[] = "/tmp/test-link-id-XXXXXX", first[LINK_AGENT_MAX + 1];
    struct agent a = {0};
    struct link l = {.agent = &a};
    struct err e = ERR_INIT;

    (void)state;
    assert_non_null(mkdtemp(dir));
    scoped_fd fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    a.state_dirfd = fd;
    assert_int_equal(link_load_id(&l, &e), 0);
    (void)snprintf(first, sizeof(first), "%s", l.fallback);
    refuse_open = 1;
    assert_int_equal(link_load_id(&l, &e), -ENFILE);
    assert_int_equal(e.errnum, ENFILE);
    assert_int_equal(link_load_id(&l, &e), 0);
    assert_string_equal(l.fallback, first);
    assert_int_equal(tree_remove(AT_FDCWD, dir, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_not_made_anew_for_want_of_a_descriptor),
    };

    return cmocka_run_group_tests_name("link_id", tests, NULL, NULL);
}
