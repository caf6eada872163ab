/* download_head.c - whether an answer is of the object that is wanted, and from the wanted byte. */
#include "slug/fetch/download_priv.h"

#include <errno.h>
#include <string.h>

static const char *field(struct conn *c, const char *name)
{
    struct curl_header *found;

    return curl_easy_header(c->easy, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
                                                                                     : NULL;
}

static enum answer failed(struct download *d, const char *step, enum fault fault)
{
    d->step = step;
    (void)err_blame(&d->e, fault);
    return ANSWER_FAILED;
}

/* What tells one object from another under the same name. */
static void keep_validators(struct conn *c)
{
    struct download *d = c->d;
    const char *etag = field(c, "etag"), *date = field(c, "last-modified");
    curl_off_t length = -1;

    if (etag)
        (void)head_etag(etag, d->etag);
    if (date)
        (void)head_date(date, d->date);
    d->no_ranges = head_no_ranges(field(c, "accept-ranges"));
    if (curl_easy_getinfo(c->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK)
        d->total = length;
}

/* A length that the server announces is believed when it is too large: no need to load it all. */
static enum answer check_length(struct download *d)
{
    if (d->total < 0 || (uint64_t)d->total <= d->o.compressed_max)
        return ANSWER_TAKEN;
    err_say(&d->e, EFBIG,
            "%s: %lld bytes are over the limit of %llu compressed bytes (compressed_max)",
            d->o.store->shown, (long long)d->total, (unsigned long long)d->o.compressed_max);
    return failed(d, "download", FAULT_APP);
}

/* How far away the store is. */
static void note_distance(struct conn *c)
{
    curl_off_t first = 0, asked = 0;

    if (curl_easy_getinfo(c->easy, CURLINFO_STARTTRANSFER_TIME_T, &first) != CURLE_OK ||
        curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &asked) != CURLE_OK ||
        asked > first)
        return;
    c->d->first_usec = (uint64_t)first;
    c->d->wait_usec = (uint64_t)(first - asked);
}

/* Several connections, when the object is worth it and they cannot get parts of two. */
static void decide_parts(struct conn *c)
{
    struct download *d = c->d;
    bool safe = d->etag[0] || d->date[0] || d->o.has_digest;

    c->stop = c->r.end = d->total >= 0 ? (uint64_t)d->total : UINT64_MAX;
    if (d->total < 0 || (uint64_t)d->total <= DOWNLOAD_LARGE || d->no_ranges || !safe ||
        d->n_conns < 2)
        return;
    note_distance(c);
    tune_init(&d->tune, d->n_conns, d->wait_usec);
    d->part_length = parts_length((uint64_t)d->total, d->n_conns,
                                  tune_part_least(d->wait_usec, d->o.part_max), d->o.part_max);
    c->r.end = d->part_length;
    parts_init(&d->parts, c->r.end, c->stop);
}

static enum answer first_answer(struct conn *c, const char *data, size_t len)
{
    struct download *d = c->d;

    if (head_is_page(field(c, "content-type"), data, len)) {
        err_say(&d->e, EBADMSG, "%s: an HTML page, not a slug", d->o.store->shown);
        return failed(d, "http", FAULT_OPERATOR);
    }
    d->known = true;
    keep_validators(c);
    enum answer a = check_length(d);
    if (a != ANSWER_TAKEN)
        return a;
    decide_parts(c);
    if (d->part_length != UINT64_MAX && outlet_reserve(d->o.outlet, (uint64_t)d->total, &d->e) < 0)
        return failed(d, "disk", FAULT_PLATFORM);
    return ANSWER_TAKEN;
}

static bool same_tag(struct conn *c)
{
    char etag[HEAD_TAG_MAX];
    const char *text = field(c, "etag");

    if (!c->d->etag[0] || !text)
        return true;
    return head_etag(text, etag) && !strcmp(etag, c->d->etag);
}

/* 200 to a later request: all of it, from the first byte. */
static enum answer whole_again(struct conn *c)
{
    struct download *d = c->d;
    curl_off_t length = -1;

    (void)curl_easy_getinfo(c->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (!same_tag(c) || (d->total >= 0 && length >= 0 && length != d->total))
        return ANSWER_CHANGED;
    if (c->ranged && download_running(d) > 1)
        return ANSWER_NO_RANGES;
    /* What came before cannot be told from the bytes of another object but by the digest. */
    if (c->r.at > 0 && !d->etag[0] && !d->o.has_digest) {
        err_say(&d->e, EIO, "%s: the download broke off, and the server takes no ranges",
                d->o.store->shown);
        return failed(d, "download", FAULT_PLATFORM);
    }
    d->no_ranges = c->ranged || d->no_ranges;
    c->skip = c->r.at;
    c->stop = d->total >= 0 ? (uint64_t)d->total : UINT64_MAX;
    return ANSWER_TAKEN;
}

static enum answer part(struct conn *c)
{
    struct download *d = c->d;
    const char *text = field(c, "content-range");
    uint64_t from, to;
    int64_t total;

    if (!text || !head_content_range(text, &from, &to, &total) || from != c->r.at || to >= c->stop)
        return ANSWER_CHANGED;
    if (!same_tag(c) || (total >= 0 && d->total >= 0 && total != d->total))
        return ANSWER_CHANGED;
    if (d->total < 0 && total >= 0) {
        d->total = total;
        if (c->r.end == UINT64_MAX)
            c->r.end = c->stop = (uint64_t)total;
        enum answer a = check_length(d);
        if (a != ANSWER_TAKEN)
            return a;
    }
    if (to + 1 < c->r.end) /* less than was asked for: the rest is asked for again */
        c->stop = to + 1;
    d->confirmed = true;
    return ANSWER_TAKEN;
}

enum answer download_take_head(struct conn *c, const char *data, size_t len)
{
    struct download *d = c->d;

    (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &d->status);
    if (d->status == 200)
        return d->known ? whole_again(c) : first_answer(c, data, len);
    if (d->status == 206 && c->ranged)
        return part(c);
    if (c->ranged && (d->status == 412 || d->status == 416))
        return ANSWER_CHANGED;
    return ANSWER_STATUS;
}
