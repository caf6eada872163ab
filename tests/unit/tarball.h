/* tarball.h - archives made by hand, so that they can be wrong. For tests of the slug component. */
#ifndef TESTS_TARBALL_H
#define TESTS_TARBALL_H

#include "base/str.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

/* One ustar header with NAME (100 bytes at most), TYPE ('0' file, '5' directory, ...). */
static inline void tar_header(struct str *t, const char *name, char type, unsigned mode,
                              const char *link, uint64_t size)
{
    char h[512] = {0};
    unsigned sum = 0;

    (void)strncpy(h, name, 100);
    (void)snprintf(h + 100, 8, "%07o", mode);
    (void)snprintf(h + 108, 8, "%07o", 12345);
    (void)snprintf(h + 116, 8, "%07o", 12345);
    (void)snprintf(h + 124, 12, "%011llo", (unsigned long long)size & 077777777777ull);
    (void)snprintf(h + 136, 12, "%011o", 1000000000);
    memset(h + 148, ' ', 8);
    h[156] = type;
    (void)strncpy(h + 157, link ? link : "", 100);
    memcpy(h + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    (void)snprintf(h + 148, 8, "%06o", sum);
    str_add_n(t, h, sizeof(h));
}

static inline void tar_data(struct str *t, const char *data, size_t len)
{
    static const char zeros[512];

    str_add_n(t, data, len);
    str_add_n(t, zeros, (512 - len % 512) % 512);
}

static inline void tar_file(struct str *t, const char *name, unsigned mode, const char *text)
{
    tar_header(t, name, '0', mode, NULL, strlen(text));
    tar_data(t, text, strlen(text));
}

static inline void tar_dir(struct str *t, const char *name, unsigned mode)
{
    tar_header(t, name, '5', mode, NULL, 0);
}

static inline void tar_symlink(struct str *t, const char *name, const char *target)
{
    tar_header(t, name, '2', 0777, target, 0);
}

static inline void tar_hardlink(struct str *t, const char *name, const char *target)
{
    tar_header(t, name, '1', 0644, target, 0);
}

/* Adds one record of a pax header to RECORDS. */
static inline void pax_record(struct str *records, const char *key, const char *value, size_t len)
{
    size_t body = strlen(key) + len + 3, digits = 1;
    char number[24];

    do
        (void)snprintf(number, sizeof(number), "%zu", body + digits);
    while (strlen(number) > digits && ++digits);
    str_addf(records, "%s %s=", number, key);
    str_add_n(records, value, len);
    str_add(records, "\n");
}

/* A pax header ('x': for the entry that follows, 'g': for all) with RECORDS, which it frees. */
static inline void tar_pax(struct str *t, char type, struct str *records)
{
    tar_header(t, "pax", type, 0644, NULL, records->len);
    tar_data(t, str_text(records), records->len);
    str_done(records);
}

/* The same with one record. */
static inline void tar_pax_one(struct str *t, const char *key, const char *value)
{
    struct str records = {0};

    pax_record(&records, key, value, strlen(value));
    tar_pax(t, 'x', &records);
}

static inline void tar_end(struct str *t)
{
    static const char zeros[1024];

    str_add_n(t, zeros, sizeof(zeros));
}

/* DATA as one gzip member behind what OUT has. */
static inline void gzip_add(struct str *out, const void *data, size_t len)
{
    char chunk[65536];
    z_stream z = {0};
    int r;

    (void)deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    z.next_in = (Bytef *)data;
    z.avail_in = (uInt)len;
    do {
        z.next_out = (Bytef *)chunk;
        z.avail_out = sizeof(chunk);
        r = deflate(&z, Z_FINISH);
        str_add_n(out, chunk, sizeof(chunk) - z.avail_out);
    } while (r == Z_OK);
    (void)deflateEnd(&z);
}

#endif
