/* What a controller answers, read as each of the four answers; and what is kept of a dyno's state.
 */
#include "base/clock.h"
#include "base/frame.h"
#include "base/linkproto.h"
#include "link/answer.h"
#include "link/table.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_timing(const struct backend_timing *t)
{
    check(t->heartbeat_usec >= HEARTBEAT_MS_MIN * USEC_PER_MSEC &&
          t->heartbeat_usec <= HEARTBEAT_MS_MAX * USEC_PER_MSEC);
    check(t->ttl_usec >= 2 * t->heartbeat_usec && t->ttl_usec <= TTL_MS_MAX * USEC_PER_MSEC);
    check(t->poll_usec >= POLL_MS_MIN * USEC_PER_MSEC &&
          t->poll_usec <= POLL_MS_MAX * USEC_PER_MSEC);
}

static void try_table(const char *text, size_t len)
{
    struct table *t = NULL;
    json_t *json = NULL;
    struct err e = ERR_INIT;

    if (json_parse(text, len, LINK_ANSWER_MAX, &json, &e) < 0)
        return;
    check(table_new(&t, &e) == 0);
    int one = table_put(t, json, &e);
    check(table_generation(t) == (one == 0 ? 2 : 1));
    (void)table_replace(t, json, &e);
    check(strlen(table_hash(t)) == TABLE_HASH_TEXT - 1);
    table_freep(&t);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct backend_timing usual = TIMING_DEFAULT;
    const char *text = (const char *)data;
    struct answer_session session;
    struct backend_timing timing = usual;
    struct err e = ERR_INIT;
    json_t *commands = NULL;
    bool snapshot;

    if (answer_session(text, len, &session, &e) == 0) {
        check(session.session[0] && strlen(session.session) <= ANSWER_SESSION_MAX);
        check(session.store[0] && strlen(session.store) <= LINK_STORE_MAX);
        check_timing(&session.timing);
    }
    if (answer_heartbeat(text, len, &usual, &timing, &snapshot, &e) == 0)
        check_timing(&timing);
    (void)answer_report(text, len, 7, &snapshot, &e);
    if (answer_commands(text, len, &commands, &e) == 0)
        check(json_is_array(commands) && json_array_size(commands) <= LINK_COMMANDS_MAX);
    else
        check(!commands);
    json_decref(commands);
    try_table(text, len);
    return 0;
}
