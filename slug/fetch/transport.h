/* transport.h - what every request of the fetch has in common: HTTP/1.1, TLS 1.2 or newer and
 * verified, no proxy, no .netrc, no cookies; and no connection to a link-local address, where
 * instance metadata lives. */
#ifndef SLUG_FETCH_TRANSPORT_H
#define SLUG_FETCH_TRANSPORT_H

#include "slug/fetch/store.h"

#include <sys/socket.h>

#define TRANSPORT_CHUNK     32768 /* bytes libcurl reads at once, for each connection */
#define TRANSPORT_REDIRECTS 5
#define TRANSPORT_MANY      "over the limit of 5 redirects"

/* What a connection was refused for, so that the error can say it. Lives as long as the handle. */
struct transport_guard {
    bool link_local; /* may go there */
    bool refused;
};

/* Sets URL and the common options on EASY. Redirects, when FOLLOW, never lead from https to
 * another scheme. The operator's fault when URL is none. */
int transport_set(CURL *easy, const struct store_env *env, const char *url, bool follow,
                  struct transport_guard *guard, struct err *e);

/* (address.c) 169.254.0.0/16, fe80::/10 and EC2's fd00:ec2::254, where instance metadata lives;
 * also as an IPv4 address within IPv6 (mapped, compatible or NAT64). Pure. */
bool address_is_link_local(const struct sockaddr *addr);

/* A time between 1/2 and 3/2 of FIRST_MS * 3^(TRY-1), capped; TRY counts from 1. Pure. */
#define BACKOFF_FIRST_MS 250u
#define BACKOFF_MAX_MS   15000u
uint64_t transport_backoff(unsigned try, uint64_t random);

/* Whether an answer of this status may be another one later: 408, 425, 429, 5xx but 501 and 505. */
bool transport_passes(long status);

/* What a failed transfer means. */
struct transport_verdict {
    const char *step; /* of fetch.h */
    enum fault fault;
    int errnum;
    bool again; /* it may pass */
};
struct transport_verdict transport_judge_status(long status);
struct transport_verdict transport_judge(CURL *easy, CURLcode code);

/* What a transfer that took too long to connect says; NULL: that is not what ended it. OUT has
 * TRANSPORT_WORDS_MAX bytes. */
#define TRANSPORT_WORDS_MAX 80
const char *transport_late(CURL *easy, CURLcode code, uint64_t connect_ms, char *out);

/* Our clock minus the store's, in seconds, by the Date of EASY's last answer; 0: no Date, or within
 * a minute. */
int64_t transport_skew(CURL *easy);

#endif
