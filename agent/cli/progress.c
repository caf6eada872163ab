#include "cli/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define SMOOTH   (2 * (double)USEC_PER_SEC) /* how long a rate is remembered */
#define BAR_MIN  10u
#define BAR_MAX  40u
#define BAR_MORE 4u /* its brackets, and the blanks after it */
#define LINE_MAX 96
#define MB       1e6

void progress_update(struct progress *p, uint64_t now, uint64_t bytes, int64_t total)
{
    if (!p->begun)
        *p = (struct progress){.begun = now, .at = now, .bytes = bytes};
    p->has_total = total >= 0 && (uint64_t)total >= bytes;
    p->total = p->has_total ? (uint64_t)total : 0;
    if (now <= p->at)
        return;
    /* Another mirror begins anew: that is no speed. */
    double span = (double)(now - p->at);
    double fresh = bytes < p->bytes ? 0 : (double)(bytes - p->bytes) / span * (double)USEC_PER_SEC;
    double weight = span / (span + SMOOTH);

    p->rate = p->rate > 0 ? p->rate + weight * (fresh - p->rate) : fresh;
    p->at = now;
    p->bytes = bytes;
}

int progress_percent(const struct progress *p)
{
    if (!p->has_total)
        return -1;
    return p->total == 0 ? 100 : (int)(100.0 * (double)p->bytes / (double)p->total);
}

/* "9.6", "147": three digits. */
static char *short_number(char out[24], double value)
{
    (void)snprintf(out, 24, value < 99.95 ? "%.1f" : "%.0f", value);
    return out;
}

static void add_time_left(struct str *out, const struct progress *p)
{
    if (p->rate < 1 || !p->has_total || p->bytes >= p->total)
        return;
    double left = (double)(p->total - p->bytes) / p->rate;
    unsigned seconds = left < 359999 ? (unsigned)(left + 0.5) : 359999;

    if (seconds >= 3600)
        str_addf(out, "  %u:%02u:%02u left", seconds / 3600, seconds / 60 % 60, seconds % 60);
    else
        str_addf(out, "  %u:%02u left", seconds / 60, seconds % 60);
}

static void add_words(struct str *out, const struct progress *p)
{
    char have[24], all[24];

    (void)short_number(have, (double)p->bytes / MB);
    if (p->has_total)
        str_addf(out, "%3d%%  %s of %s MB", progress_percent(p), have,
                 short_number(all, (double)p->total / MB));
    else
        str_addf(out, "%s MB", have);
    if (p->rate >= 1)
        str_addf(out, "  %s MB/s", short_number(all, p->rate / MB));
    add_time_left(out, p);
}

static void add_bar(struct str *out, const struct progress *p, unsigned width)
{
    unsigned full = width * (unsigned)progress_percent(p) / 100;

    str_add(out, "[");
    for (unsigned i = 0; i < width; i++)
        str_add(out, i < full ? "#" : "-");
    str_add(out, "]  ");
}

void progress_line(const struct progress *p, unsigned width, struct str *out)
{
    struct str words = {.max = LINE_MAX};

    add_words(&words, p);
    size_t len = strlen(str_text(&words));
    if (p->has_total && width >= len + BAR_MORE + BAR_MIN) {
        unsigned room = width - (unsigned)len - BAR_MORE;
        add_bar(out, p, room < BAR_MAX ? room : BAR_MAX);
    }
    str_add_n(out, str_text(&words), width && width < len ? width : len);
    str_done(&words);
}
