/* .env: whatever comes in, names and sizes hold. */
#include "slug/dotenv.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct dotenv d;
    struct err e = ERR_INIT;

    if (dotenv_parse(".env", (const char *)data, len, &d, &e) < 0) {
        if (!e.errnum || !e.text[0])
            abort();
        return 0;
    }
    for (size_t i = 0; i < d.n_entries; i++) {
        const struct dotenv_entry *entry = &d.entries[i];

        if (!entry->name[0] || strchr(entry->name, '=') ||
            strlen(entry->name) + 1 + strlen(entry->value) > DOTENV_ENTRY_MAX ||
            dotenv_get(&d, entry->name) != entry->value)
            abort();
    }
    dotenv_done(&d);
    return 0;
}
