/* Procfile, .release, and the formations and JSON that come of them. */
#include "base/frame.h"
#include "slug/cache.h"
#include "slug/formation.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What is parsed must come through JSON as it was. */
static void round_trip(const struct procfile *p)
{
    struct procfile again = {0};
    struct err e = ERR_INIT;
    json_t *meta = json_pack("{s:o}", "types", slug_meta_types_json(p));

    if (slug_meta_types(meta, &again, &e) < 0 || again.n_types != p->n_types)
        abort();
    for (size_t i = 0; i < p->n_types; i++)
        if (strcmp(p->types[i].name, again.types[i].name) != 0 ||
            strcmp(p->types[i].command, again.types[i].command) != 0)
            abort();
    procfile_done(&again);
    json_decref(meta);
}

/* The input: a Procfile, a NUL, a .release, a NUL, a formation. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data, *end = text + len;
    const char *release = memchr(text, '\0', len), *spec;
    struct procfile p = {0};
    struct err e = ERR_INIT;
    unsigned counts[PROCFILE_MAX_TYPES], port;
    size_t n = release ? (size_t)(release - text) : len;

    (void)procfile_parse(&p, "P", text, n, &e);
    if (release) {
        release++;
        spec = memchr(release, '\0', (size_t)(end - release));
        (void)procfile_add_release(&p, ".release", release, (size_t)((spec ? spec : end) - release),
                                   &e);
        char *copy = strndup(spec ? spec + 1 : "", spec ? (size_t)(end - spec - 1) : 0);
        if (formation_parse(&p, copy, counts, &e) == 0)
            for (size_t i = 0; i < p.n_types; i++)
                (void)port_for(&p, i, counts[i] + 1, 5000, &port, &e);
        free(copy);
    }
    if (p.n_types > 0)
        round_trip(&p);
    for (size_t i = 0; i < p.n_types; i++)
        if (!type_name_valid(p.types[i].name, strlen(p.types[i].name)) || !p.types[i].command[0])
            abort();
    procfile_done(&p);
    return 0;
}
