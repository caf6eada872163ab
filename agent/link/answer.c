#include "link/answer.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/linkproto.h"
#include "base/scoped.h"

#include <errno.h>
#include <string.h>

static int parse(const char *text, size_t len, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;

    if (json_parse(text, len, LINK_ANSWER_MAX, &json, e) < 0)
        return -EBADMSG;
    if (!json_is_object(json))
        return err_say(e, EBADMSG, "the answer is not a JSON object");
    *ret = TAKE_PTR(json);
    return 0;
}

/* Member KEY as milliseconds within [min, max]; absent: *USEC stays as it is. */
static int read_ms(const json_t *json, const char *key, int64_t min, int64_t max, uint64_t *usec,
                   struct err *e)
{
    const json_t *value = json_object_get(json, key);

    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max)
        return err_say(e, EINVAL, "\"%s\" is not a whole number within %lld to %lld", key,
                       (long long)min, (long long)max);
    *usec = (uint64_t)json_integer_value(value) * USEC_PER_MSEC;
    return 0;
}

static int read_timing(const json_t *json, const struct backend_timing *now,
                       struct backend_timing *ret, struct err *e)
{
    struct backend_timing t = *now;
    int r = read_ms(json, "heartbeat_ms", HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX, &t.heartbeat_usec, e);

    if (r == 0)
        r = read_ms(json, "ttl_ms", 2 * HEARTBEAT_MS_MIN, TTL_MS_MAX, &t.ttl_usec, e);
    if (r == 0)
        r = read_ms(json, "poll_ms", POLL_MS_MIN, POLL_MS_MAX, &t.poll_usec, e);
    if (r < 0)
        return r;
    if (t.ttl_usec < 2 * t.heartbeat_usec)
        return err_say(e, EINVAL, "\"ttl_ms\" is less than twice \"heartbeat_ms\"");
    *ret = t;
    return 0;
}

static int read_snapshot(const json_t *json, bool *ret, struct err *e)
{
    const json_t *value = json_object_get(json, "snapshot");

    if (value && !json_is_boolean(value))
        return err_say(e, EINVAL, "\"snapshot\" is not true or false");
    *ret = json_is_true(value);
    return 0;
}

/* TEXT of at most MAX characters that are PLAIN ones, or, without PLAIN, any that are printed. */
static int read_word(const json_t *json, const char *key, size_t max, const char *plain, char *out,
                     struct err *e)
{
    const char *text = json_str(json, key, "");
    size_t len = strlen(text);
    bool good = len > 0 && len <= max;

    for (size_t i = 0; good && i < len; i++)
        good = text[i] > ' ' && text[i] <= '~' && (!plain || strchr(plain, text[i]));
    if (!good)
        return err_say(e, EINVAL, "\"%s\" is not a name of 1 to %zu characters", key, max);
    memcpy(out, text, len + 1);
    return 0;
}

int answer_session(const char *text, size_t len, struct answer_session *ret, struct err *e)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    static const struct backend_timing usual = TIMING_DEFAULT;
    scoped(json_freep) json_t *json = NULL;
    struct answer_session answer;
    int r = parse(text, len, &json, e);

    if (r == 0)
        r = read_word(json, "session", ANSWER_SESSION_MAX, NULL, answer.session, e);
    if (r == 0)
        r = read_word(json, "store", LINK_STORE_MAX, plain, answer.store, e);
    if (r == 0)
        r = read_timing(json, &usual, &answer.timing, e);
    if (r == 0)
        *ret = answer;
    return r;
}

int answer_heartbeat(const char *text, size_t len, const struct backend_timing *timing,
                     struct backend_timing *ret_timing, bool *ret_snapshot, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;
    struct backend_timing t = {0};
    bool snapshot = false;
    int r = parse(text, len, &json, e);

    if (r == 0)
        r = read_timing(json, timing, &t, e);
    if (r == 0)
        r = read_snapshot(json, &snapshot, e);
    if (r < 0)
        return r;
    *ret_timing = t;
    *ret_snapshot = snapshot;
    return 0;
}

int answer_report(const char *text, size_t len, uint64_t seq, bool *ret_snapshot, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;
    int r = parse(text, len, &json, e);

    if (r < 0)
        return r;
    const json_t *acked = json_object_get(json, "acked");
    if (!json_is_integer(acked) || (uint64_t)json_integer_value(acked) != seq)
        return err_say(e, EINVAL, "\"acked\" is not %llu", (unsigned long long)seq);
    return read_snapshot(json, ret_snapshot, e);
}

int answer_commands(const char *text, size_t len, json_t **ret, struct err *e)
{
    scoped(json_freep) json_t *json = NULL;
    int r = parse(text, len, &json, e);
    json_t *command;
    size_t i;

    if (r < 0)
        return r;
    json_t *commands = json_object_get(json, "commands");
    if (!json_is_array(commands))
        return err_say(e, EINVAL, "\"commands\" is not a list");
    if (json_array_size(commands) > LINK_COMMANDS_MAX)
        return err_say(e, EINVAL, "%zu commands are over the limit of %d",
                       json_array_size(commands), LINK_COMMANDS_MAX);
    json_array_foreach (commands, i, command)
        if (!json_is_object(command))
            return err_say(e, EINVAL, "command %zu is not an object", i + 1);
    *ret = json_incref(commands);
    return 0;
}
