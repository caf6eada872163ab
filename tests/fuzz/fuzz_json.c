/* JSON from outside, and what the agent reads of a slug's meta.json. */
#include "base/frame.h"
#include "slug/cache.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct procfile p;
    struct err e = ERR_INIT;
    json_t *json = NULL;

    if (json_parse((const char *)data, len, FRAME_MAX, &json, &e) < 0) {
        if (json || !e.text[0])
            abort();
        return 0;
    }
    if (slug_meta_types(json, &p, &e) == 0) {
        if (p.n_types == 0)
            abort();
        procfile_done(&p);
    }
    json_decref(json);
    return 0;
}
