#include "base/name.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool app_name_valid(const char *name)
{
    size_t len = strlen(name);

    if (len < 1 || len > APP_NAME_MAX || !is_lower(name[0]))
        return false;
    for (size_t i = 1; i < len; i++)
        if (!is_lower(name[i]) && !is_digit(name[i]) && name[i] != '-')
            return false;
    return true;
}

bool type_name_valid(const char *name, size_t len)
{
    if (len < 1 || len > TYPE_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool alnum = is_lower(c) || is_digit(c) || (c >= 'A' && c <= 'Z');

        if (!alnum && (i == 0 || (c != '-' && c != '_')))
            return false;
    }
    return true;
}

char *dyno_name_text(const struct dyno_name *name, char out[DYNO_TEXT_MAX])
{
    (void)snprintf(out, DYNO_TEXT_MAX, "%s/%s.%u", name->app, name->type, name->num);
    return out;
}

char *dyno_name_short(const struct dyno_name *name, char out[DYNO_TEXT_MAX])
{
    (void)snprintf(out, DYNO_TEXT_MAX, "%s.%u", name->type, name->num);
    return out;
}

int dyno_name_parse(const char *text, struct dyno_name *ret)
{
    const char *slash = strchr(text, '/');
    const char *dot = slash ? strrchr(slash, '.') : NULL;
    struct dyno_name name = {0};
    uint64_t num;

    if (!dot || slash - text > APP_NAME_MAX || dot[1] == '0' ||
        !type_name_valid(slash + 1, (size_t)(dot - slash - 1)) ||
        parse_u64(dot + 1, 1, DYNO_NUM_MAX, &num) < 0)
        return -EINVAL;
    memcpy(name.app, text, (size_t)(slash - text));
    memcpy(name.type, slash + 1, (size_t)(dot - slash - 1));
    name.num = (unsigned)num;
    if (!app_name_valid(name.app))
        return -EINVAL;
    *ret = name;
    return 0;
}

int digest_parse(const char *text, struct digest *ret)
{
    struct digest d;

    if (!strncasecmp(text, "sha256:", 7))
        text += 7;
    if (strlen(text) != 64)
        return -EINVAL;
    for (int i = 0; i < 64; i++) {
        if (!isxdigit((unsigned char)text[i]))
            return -EINVAL;
        d.hex[i] = (char)tolower((unsigned char)text[i]);
    }
    d.hex[64] = '\0';
    *ret = d;
    return 0;
}

void digest_from_bytes(const unsigned char bytes[32], struct digest *ret)
{
    for (int i = 0; i < 32; i++)
        (void)snprintf(ret->hex + 2 * i, 3, "%02x", bytes[i]);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return !strcmp(a->hex, b->hex);
}
