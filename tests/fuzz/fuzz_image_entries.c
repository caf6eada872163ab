/* Any bytes as a stream of entries. What is refused says why; what is taken becomes an image in
 * which a reader of its own finds nothing wrong, whoever wrote to the file before. */
#include "../unit/imagefixture.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define DATA_MAX (1u << 20)

/* The data's end that the stream will name, if it names one: unpack makes the file as long. */
static uint64_t end_of(int stream, const struct image_limits *limits)
{
    scoped_free struct entries_in *in = malloc(sizeof(*in));
    struct entry entry;
    struct err e = ERR_INIT;
    int r;

    entries_in_init(in, stream, limits);
    while ((r = entries_next(in, &entry, &e)) == 0 && !entry.end)
        ;
    if (lseek(stream, 0, SEEK_SET) < 0 || (r < 0 && !e.text[0]))
        abort();
    return r < 0 ? 0 : entry.data_end;
}

static void look_at(int image, uint64_t bytes, uint64_t data_end)
{
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, image, 0);

    if (map == MAP_FAILED || erofs_check(map, bytes, data_end, TEST_UID, TEST_GID))
        abort();
    (void)munmap(map, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct image_limits limits = {.entries = 1000,
                                               .nodes = 2000,
                                               .depth = 64,
                                               .name = 255,
                                               .data = DATA_MAX,
                                               .texts = 1u << 18};
    static const char old[64] = "what was there before";
    struct err e = ERR_INIT;
    uint64_t end = 0, bytes;
    int stream;

    if (memfd_with("entries", data, len, &stream, &e) < 0)
        abort();
    uint64_t data_end = end_of(stream, &limits);
    scoped_fd image = memfd_create("image", MFD_CLOEXEC);
    if (pwrite(image, old, sizeof(old), EROFS_SUPER_AT) < 0 ||
        ftruncate(image, (off_t)data_end) < 0)
        abort();
    int r = image_from(stream, image, &limits, &end, &bytes, &e);
    if (r < 0 && !e.text[0])
        abort();
    if (r == 0 && (end != data_end || bytes > 4 * DATA_MAX))
        abort();
    if (r == 0)
        look_at(image, bytes, end);
    close(stream);
    return 0;
}
