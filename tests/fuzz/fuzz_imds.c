/* What the instance metadata service answers. The first byte says to which question. */
#include "link/imds.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void notice(int (*fn)(const char *, size_t, struct imds_notice *, struct err *),
                   const char *body, size_t len)
{
    struct imds_notice n;
    struct err e = ERR_INIT;
    int64_t at;

    if (fn(body, len, &n, &e) < 0) {
        if (!e.text[0])
            abort();
        return;
    }
    if (n.there != (n.text[0] != '\0') || (n.deadline[0] && imds_time(n.deadline, &at) < 0))
        abort();
}

static void names(const char *body, size_t len)
{
    struct err e = ERR_INIT;
    unsigned skipped;
    json_t *list = json_array();

    if (imds_names(body, len, 50, list, &skipped, &e) < 0 || json_array_size(list) > 50)
        abort();
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strpbrk(json_string_value(json_array_get(list, i)), "/ \r\n?#%"))
            abort();
    json_decref(list);
}

static void value(enum imds_value kind, const char *body, size_t len)
{
    char text[IMDS_VALUE_MAX + 1];
    struct err e = ERR_INIT;

    if (imds_value(kind, body, len, text, &e) == 0 && strpbrk(text, "\r\n\x1b"))
        abort();
}

static void token(const char *body, size_t len)
{
    char text[IMDS_TOKEN_MAX + 1];
    struct err e = ERR_INIT;

    if (imds_token(body, len, text, &e) == 0 && (!text[0] || strpbrk(text, "\r\n: ")))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *body = (const char *)data + 1;
    struct err e = ERR_INIT;

    if (len == 0)
        return 0;
    switch (data[0] % 10) {
    case 0:
        notice(imds_spot, body, len - 1);
        break;
    case 1:
        notice(imds_rebalance, body, len - 1);
        break;
    case 2:
        notice(imds_maintenance, body, len - 1);
        break;
    case 3:
        notice(imds_autoscaling, body, len - 1);
        break;
    case 4:
        names(body, len - 1);
        break;
    case 5:
        token(body, len - 1);
        break;
    case 6:
        (void)imds_document(body, len - 1, "i-1", &e);
        (void)imds_signature(body, len - 1, &e);
        break;
    default:
        value((enum imds_value)(data[0] % 10 - 7), body, len - 1);
    }
    return 0;
}
