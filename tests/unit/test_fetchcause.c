/* Which of a fetch's roles is to blame. */
#include "core/slugs/fetchcause.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define APP   FAULT_APP
#define WORLD FAULT_PLATFORM

/* One letter a role, download, unpack, image:
 *   - none, r running, o ok, d done, x died, e error, a error of the app's, u error "unpack" */
static struct role_end end_of(char c)
{
    static const char letters[] = "-rodexau";
    static const enum role_state states[] = {ROLE_ABSENT, ROLE_RUNNING, ROLE_OK,    ROLE_DONE,
                                             ROLE_ERROR,  ROLE_DIED,    ROLE_ERROR, ROLE_ERROR};
    const char *at = strchr(letters, c);

    assert_non_null(at);
    return (struct role_end){states[at - letters], c == 'a' ? APP : WORLD, c == 'u'};
}

static void judge(const char *ends, bool digest, bool patient, enum fetch_next want, int want_role)
{
    struct role_end r[FETCH_ROLES] = {end_of(ends[0]), end_of(ends[1]), end_of(ends[2])};
    enum fetch_role role = FETCH_ROLES;
    enum fetch_next next = fetch_judge(r, digest, patient, &role);

    if (next != want || (next == FETCH_FAILED && (int)role != want_role))
        fail_msg("%s (digest %d, patient %d): %d of role %d, not %d of %d", ends, digest, patient,
                 (int)next, (int)role, (int)want, want_role);
}

static void always(const char *ends, enum fetch_next want, int want_role)
{
    for (int i = 0; i < 4; i++)
        judge(ends, i & 1, i & 2, want, want_role);
}

static void all_must_have_ended_well(void **state)
{
    static const char *const not_yet[] = {"rrr", "orr", "ddo", "dod", "odd", "ddr", "ddo"};

    (void)state;
    always("ddd", FETCH_PUBLISH, 0);
    always("dd-", FETCH_PUBLISH, 0);
    for (size_t i = 0; i < sizeof(not_yet) / sizeof(not_yet[0]); i++)
        always(not_yet[i], FETCH_WAIT, 0);
}

static void a_store_is_blamed_before_the_archive(void **state)
{
    (void)state;
    always("err", FETCH_FAILED, FETCH_DOWNLOAD);
    always("ear", FETCH_FAILED, FETCH_DOWNLOAD); /* the digest, or a broken connection */
    always("eaa", FETCH_FAILED, FETCH_DOWNLOAD);
    always("exr", FETCH_FAILED, FETCH_DOWNLOAD);
    always("ea-", FETCH_FAILED, FETCH_DOWNLOAD);
    always("aa-", FETCH_FAILED, FETCH_DOWNLOAD); /* over a limit */
}

static void a_refused_archive_waits_for_the_digest(void **state)
{
    (void)state;
    judge("rar", true, true, FETCH_WAIT, 0);
    judge("rar", true, false, FETCH_WAIT, 0); /* however long it takes */
    judge("rra", true, true, FETCH_WAIT, 0);
    judge("oaa", true, true, FETCH_FAILED, FETCH_UNPACK);
    judge("dad", true, true, FETCH_FAILED, FETCH_UNPACK);
    judge("da-", true, true, FETCH_FAILED, FETCH_UNPACK);
    judge("uaa", true, true, FETCH_FAILED, FETCH_UNPACK);
    /* Without one there is nothing to wait for, but download's own word. */
    judge("raa", false, true, FETCH_SOON, 0);
    judge("raa", false, false, FETCH_FAILED, FETCH_UNPACK);
    judge("uaa", false, true, FETCH_FAILED, FETCH_UNPACK);
}

static void a_death_is_nobodys_consequence(void **state)
{
    (void)state;
    always("xrr", FETCH_FAILED, FETCH_DOWNLOAD);
    always("xar", FETCH_FAILED, FETCH_DOWNLOAD); /* the archive was cut short */
    always("rxr", FETCH_FAILED, FETCH_UNPACK);
    always("uxe", FETCH_FAILED, FETCH_UNPACK); /* the stream of entries ended, the pipe broke */
    always("rex", FETCH_FAILED, FETCH_IMAGE);
    always("ddx", FETCH_FAILED, FETCH_IMAGE);
    always("xdd", FETCH_FAILED, FETCH_DOWNLOAD);
}

static void who_saw_a_consequence_gives_the_others_a_moment(void **state)
{
    (void)state;
    judge("rre", true, true, FETCH_SOON, 0); /* has unpack died? */
    judge("rre", true, false, FETCH_FAILED, FETCH_IMAGE);
    judge("rer", true, true, FETCH_SOON, 0);
    judge("rer", true, false, FETCH_FAILED, FETCH_UNPACK);
    judge("urr", false, true, FETCH_SOON, 0);
    judge("urr", false, false, FETCH_FAILED, FETCH_DOWNLOAD);
    judge("ree", true, false, FETCH_FAILED, FETCH_UNPACK);
    judge("dde", true, true, FETCH_FAILED, FETCH_IMAGE); /* all have spoken */
    judge("doe", true, true, FETCH_FAILED, FETCH_IMAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_must_have_ended_well),
        cmocka_unit_test(a_store_is_blamed_before_the_archive),
        cmocka_unit_test(a_refused_archive_waits_for_the_digest),
        cmocka_unit_test(a_death_is_nobodys_consequence),
        cmocka_unit_test(who_saw_a_consequence_gives_the_others_a_moment),
    };

    return cmocka_run_group_tests_name("fetchcause", tests, NULL, NULL);
}
