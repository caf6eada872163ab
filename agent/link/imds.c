#include "link/imds.h"

#include "base/frame.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ID_MAX       64
#define NAME_MAX_LEN 128 /* of a tag's key, as EC2 has it */
#define WORD_MAX     40
#define YEAR_MIN     1970
#define SHOWN_MAX    64 /* bytes of what was wrong, in an error */

static int garbage(const char *what, const char *body, size_t len, struct err *e)
{
    char shown[SHOWN_MAX];

    return err_say(e, EBADMSG, "%s: not as it should be: \"%s\"", what,
                   text_escape(shown, sizeof(shown), body, len));
}

/* LEN without the line end that a server may add. */
static size_t trimmed(const char *body, size_t len)
{
    while (len > 0 && (body[len - 1] == '\n' || body[len - 1] == '\r'))
        len--;
    return len;
}

static bool all_of(const char *text, size_t len, const char *others)
{
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && (!text[i] || !strchr(others, text[i])))
            return false;
    }
    return true;
}

/* --- time ---------------------------------------------------------------------------------------
 */

static bool digits(const char **at, int n, int min, int max, int *ret)
{
    int value = 0;

    for (int i = 0; i < n; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        value = value * 10 + (**at - '0');
    }
    *ret = value;
    return value >= min && value <= max;
}

static bool mark(const char **at, const char *any_of)
{
    if (!**at || !strchr(any_of, **at))
        return false;
    (*at)++;
    return true;
}

/* TM as seconds, if there is such a day. */
static bool seconds_of(struct tm tm, int64_t *ret)
{
    struct tm same = tm;
    time_t t = timegm(&same);

    /* timegm makes the 31st of April the 1st of May. */
    if (same.tm_mday != tm.tm_mday || same.tm_mon != tm.tm_mon)
        return false;
    *ret = (int64_t)t;
    return true;
}

static bool clock_part(const char **at, struct tm *tm)
{
    /* A leap second counts as the one before it. */
    bool fine = digits(at, 2, 0, 23, &tm->tm_hour) && mark(at, ":") &&
                digits(at, 2, 0, 59, &tm->tm_min) && mark(at, ":") &&
                digits(at, 2, 0, 60, &tm->tm_sec);

    if (fine && tm->tm_sec == 60)
        tm->tm_sec = 59;
    return fine;
}

static bool offset_part(const char **at, int64_t *ret)
{
    bool west = **at == '-';
    int hours = 0, minutes = 0;

    *ret = 0;
    if (mark(at, "Zz"))
        return true;
    if (!mark(at, "+-") || !digits(at, 2, 0, 23, &hours) || !mark(at, ":") ||
        !digits(at, 2, 0, 59, &minutes))
        return false;
    *ret = (hours * 60 + minutes) * (west ? -60 : 60);
    return true;
}

int imds_time(const char *text, int64_t *ret)
{
    struct tm tm = {0};
    int64_t local, offset;
    int fraction = 0;
    const char *at = text;

    if (!digits(&at, 4, YEAR_MIN, 9999, &tm.tm_year) || !mark(&at, "-") ||
        !digits(&at, 2, 1, 12, &tm.tm_mon) || !mark(&at, "-") ||
        !digits(&at, 2, 1, 31, &tm.tm_mday) || !mark(&at, "Tt") || !clock_part(&at, &tm))
        return -EINVAL;
    if (mark(&at, ".")) {
        if (!digits(&at, 1, 0, 9, &fraction))
            return -EINVAL;
        while (isdigit((unsigned char)*at))
            at++;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (!offset_part(&at, &offset) || *at || !seconds_of(tm, &local))
        return -EINVAL;
    *ret = local - offset;
    return 0;
}

/* "21 Jan 2019 09:00:43 GMT", as scheduled events have it. */
static int event_time(const char *text, int64_t *ret)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *at = text;
    struct tm tm = {0};
    bool two = isdigit((unsigned char)text[0]) && isdigit((unsigned char)text[1]);

    if (!digits(&at, two ? 2 : 1, 1, 31, &tm.tm_mday) || !mark(&at, " ") || strlen(at) < 3)
        return -EINVAL;
    for (tm.tm_mon = 0; tm.tm_mon < 12 && strncmp(at, months + 3 * tm.tm_mon, 3) != 0; tm.tm_mon++)
        ;
    at += 3;
    if (tm.tm_mon == 12 || !mark(&at, " ") || !digits(&at, 4, YEAR_MIN, 9999, &tm.tm_year) ||
        !mark(&at, " ") || !clock_part(&at, &tm) || strcmp(at, " GMT") != 0)
        return -EINVAL;
    tm.tm_year -= 1900;
    return seconds_of(tm, ret) ? 0 : -EINVAL;
}

/* Either of the two. */
static int any_time(const char *text, int64_t *ret)
{
    return imds_time(text, ret) == 0 ? 0 : event_time(text, ret);
}

static void set_deadline(struct imds_notice *n, int64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm tm;

    if (gmtime_r(&t, &tm))
        (void)strftime(n->deadline, sizeof(n->deadline), "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* --- plain text ---------------------------------------------------------------------------------
 */

int imds_token(const char *body, size_t len, char *ret, struct err *e)
{
    size_t n = trimmed(body, len);

    /* Never shown: it is a secret. */
    if (n == 0 || n > IMDS_TOKEN_MAX || !all_of(body, n, "+/=_-.~"))
        return err_say(e, EBADMSG, "the metadata's token is not one");
    memcpy(ret, body, n);
    ret[n] = '\0';
    return 0;
}

/* UTF-8 without control characters: text_escape() has nothing to escape. */
static bool is_plain_text(const char *text, size_t len)
{
    char shown[4 * IMDS_VALUE_MAX + 8];

    (void)text_escape(shown, sizeof(shown), text, len);
    return strlen(shown) == len && !memcmp(shown, text, len);
}

int imds_value(enum imds_value kind, const char *body, size_t len, char *ret, struct err *e)
{
    char text[IMDS_VALUE_MAX + 1];
    struct in_addr address;
    size_t n = trimmed(body, len);
    bool fine = false;

    if (n > IMDS_VALUE_MAX)
        return garbage("a value", body, len, e);
    memcpy(text, body, n);
    text[n] = '\0';
    switch (kind) {
    case IMDS_ID:
        fine = n > 0 && n <= ID_MAX && all_of(text, n, "._-");
        break;
    case IMDS_ADDRESS:
        fine = strlen(text) == n && inet_pton(AF_INET, text, &address) == 1;
        break;
    case IMDS_ANY:
        fine = is_plain_text(text, n);
        break;
    }
    if (!fine)
        return garbage("a value", body, len, e);
    memcpy(ret, text, n + 1);
    return 0;
}

int imds_names(const char *body, size_t len, size_t max, json_t *names, unsigned *ret_skipped,
               struct err *e)
{
    size_t end = trimmed(body, len), at = 0;
    unsigned skipped = 0;

    while (at < end) {
        const char *line = body + at, *stop = memchr(line, '\n', end - at);
        size_t n = stop ? (size_t)(stop - line) : end - at;
        bool dots = n > 0 && line[0] == '.'; /* not "." or ".." in a path */

        at += n + 1;
        if (n == 0 || n > NAME_MAX_LEN || dots || !all_of(line, n, "+-=._:@") ||
            json_array_size(names) >= max)
            skipped++;
        else if (json_array_append_new(names, json_stringn(line, n)) < 0)
            return err_set(e, ENOMEM, "keep a list of tags");
    }
    *ret_skipped = skipped;
    return 0;
}

/* --- the signed document ------------------------------------------------------------------------
 */

int imds_document(const char *body, size_t len, const char *instance, struct err *e)
{
    json_t *j = NULL;
    int r = json_parse(body, len, IMDS_ANSWER_MAX, &j, e);

    if (r < 0)
        return garbage("the identity document", body, len, e);
    bool fine = json_is_object(j) && !strcmp(json_str(j, "instanceId", ""), instance);
    json_decref(j);
    return fine ? 0 : garbage("the identity document", body, len, e);
}

int imds_signature(const char *body, size_t len, struct err *e)
{
    if (len == 0 || len > IMDS_ANSWER_MAX || !all_of(body, len, "+/=\r\n"))
        return garbage("the identity document's signature", body, len, e);
    return 0;
}

/* --- notices ------------------------------------------------------------------------------------
 */

int imds_spot(const char *body, size_t len, struct imds_notice *ret, struct err *e)
{
    struct imds_notice n = {.there = true};
    json_t *j = NULL;
    int64_t at = 0;

    if (json_parse(body, len, IMDS_ANSWER_MAX, &j, e) < 0)
        return garbage("the spot notice", body, len, e);
    const char *action = json_str(j, "action", "");
    bool fine =
        !strcmp(action, "terminate") || !strcmp(action, "stop") || !strcmp(action, "hibernate");
    fine = fine && imds_time(json_str(j, "time", ""), &at) == 0;
    if (fine) {
        set_deadline(&n, at);
        (void)snprintf(n.text, sizeof(n.text), "spot interruption: %s at %s", action, n.deadline);
    }
    json_decref(j);
    if (!fine)
        return garbage("the spot notice", body, len, e);
    *ret = n;
    return 0;
}

int imds_rebalance(const char *body, size_t len, struct imds_notice *ret, struct err *e)
{
    struct imds_notice n = {.there = true};
    json_t *j = NULL;
    int64_t at = 0;

    if (json_parse(body, len, IMDS_ANSWER_MAX, &j, e) < 0)
        return garbage("the rebalance recommendation", body, len, e);
    bool fine = imds_time(json_str(j, "noticeTime", ""), &at) == 0;
    json_decref(j);
    if (!fine)
        return garbage("the rebalance recommendation", body, len, e);
    /* Its time is when it was given: nothing says when the interruption comes, if it does. */
    (void)snprintf(n.text, sizeof(n.text),
                   "rebalance recommendation: a spot interruption is more likely than before");
    *ret = n;
    return 0;
}

/* An active event with an earlier time than *FIRST becomes *RET. false: not an event. */
static bool take_event(const json_t *event, int64_t *first, struct imds_notice *ret)
{
    const char *code = json_str(event, "Code", ""), *state = json_str(event, "State", "");
    size_t n = strlen(code);
    int64_t at;

    if (!json_is_object(event) || n == 0 || n > WORD_MAX || !all_of(code, n, "-_") || !*state ||
        any_time(json_str(event, "NotBefore", ""), &at) < 0)
        return false;
    if (strcmp(state, "active") != 0 || (ret->there && at >= *first))
        return true;
    *first = at;
    ret->there = true;
    set_deadline(ret, at);
    (void)snprintf(ret->text, sizeof(ret->text), "scheduled maintenance: %s at %s", code,
                   ret->deadline);
    return true;
}

int imds_maintenance(const char *body, size_t len, struct imds_notice *ret, struct err *e)
{
    struct imds_notice n = {0};
    int64_t first = 0;
    json_t *j = NULL;

    if (json_parse(body, len, IMDS_ANSWER_MAX, &j, e) < 0)
        return garbage("the scheduled events", body, len, e);
    bool fine = json_is_array(j) && json_array_size(j) <= IMDS_EVENTS_MAX;
    for (size_t i = 0; fine && i < json_array_size(j); i++)
        fine = take_event(json_array_get(j, i), &first, &n);
    json_decref(j);
    if (!fine)
        return garbage("the scheduled events", body, len, e);
    *ret = n;
    return 0;
}

int imds_autoscaling(const char *body, size_t len, struct imds_notice *ret, struct err *e)
{
    static const char terminated[] = "Terminated";
    struct imds_notice n = {0};
    size_t end = trimmed(body, len), word = strlen(terminated);

    if (end == 0 || end > WORD_MAX || !all_of(body, end, ":"))
        return garbage("the autoscaling group's state", body, len, e);
    /* Also "Warmed:Terminated", of a warm pool. */
    n.there = end >= word && !memcmp(body + end - word, terminated, word);
    if (n.there)
        (void)snprintf(n.text, sizeof(n.text),
                       "the autoscaling group is about to terminate this instance");
    *ret = n;
    return 0;
}
