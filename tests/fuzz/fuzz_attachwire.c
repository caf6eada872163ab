/* What the other end of an attach sends: the same frames, however they are cut. */
#include "link/attachwire.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void look_into(const struct wire_frame *f)
{
    unsigned rows = 1, cols = 1;
    struct err e = ERR_INIT;
    int signo = 0;

    if (f->len > (f->kind == 'I' ? WIRE_PAYLOAD_MAX : WIRE_JSON_MAX))
        abort();
    if (wire_size(f, &rows, &cols, &e) == 0 && (rows > WIRE_SIZE_MAX || cols > WIRE_SIZE_MAX))
        abort();
    if (wire_signal(f, &signo, &e) == 0 && (signo < 1 || signo > WIRE_SIGNAL_MAX))
        abort();
}

static void as_url(const uint8_t *data, size_t len)
{
    char text[512], url[WIRE_URL_MAX];
    struct err e = ERR_INIT;

    if (len >= sizeof(text))
        return;
    memcpy(text, data, len);
    text[len] = '\0';
    if (wire_url(text, url, &e) == 0 && (strpbrk(url, "@ \r\n?#%") || strlen(url) < 12))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *at = (const char *)data;
    size_t left = len;

    as_url(data, len);
    while (left > 0) {
        struct wire_frame f, again;
        struct err e = ERR_INIT;
        size_t used = 0, same = 0;
        int r = wire_next(at, left, &f, &used, &e);

        if (r < 0 && !e.text[0])
            abort();
        if (r <= 0)
            break;
        /* A byte less, and it is not whole yet. */
        if (used > left || wire_next(at, used, &again, &same, &e) != 1 || same != used ||
            wire_next(at, used - 1, &again, &same, &e) != 0)
            abort();
        look_into(&f);
        at += used;
        left -= used;
    }
    return 0;
}
