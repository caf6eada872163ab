#include "core/config/config_keys.h"

#include "base/logproto.h"
#include "slug/fetch.h"

#include <errno.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define MS  UINT64_C(1000)
#define S   (1000 * MS)
#define M   (60 * S)
#define H   (60 * M)

#define AT(member)   .offset = offsetof(struct config, member)
#define TEXT(member) AT(member), .max = sizeof(((struct config *)0)->member)

/* Limits are wide: they keep out what cannot be meant, not what is unwise. */
static const struct key keys[] = {
    {"agent", "runtime_dir", KEY_PATH, "/run/dynod", TEXT(runtime_dir)},
    {"agent", "state_dir", KEY_PATH, "/var/lib/dynod", TEXT(state_dir)},
    {"agent", "api_socket", KEY_PATH, "", TEXT(api_socket), .may_be_off = true},
    {"agent", "api_group", KEY_NAME, "", TEXT(api_group), .may_be_off = true},
    {"agent", "cgroup_parent", KEY_PATH, "auto", TEXT(cgroup_parent), .word = "auto"},
    {"agent", "program_dir", KEY_PATH, "", TEXT(program_dir), .may_be_off = true},
    {"agent", "uid_range", KEY_UIDS, "900000000-900065535", AT(uid_first),
     .offset2 = offsetof(struct config, uid_last), .min = 1, .max = UINT32_MAX - 1},
    {"agent", "claims_dir", KEY_PATH, "/run/dynod-claims", TEXT(claims_dir), .may_be_off = true},
    {"agent", "log_level", KEY_LEVEL, "info", AT(log_level)},
    {"agent", "drain_deadline", KEY_USEC, "2m", AT(drain_deadline), .min = S, .max = 24 * H},

    {"store", "ca_file", KEY_PATH, "", TEXT(ca_file), .may_be_off = true},
    {"store", "allow_http", KEY_BOOL, "no", AT(allow_http)},
    {"store", "fetch_jobs", KEY_UNSIGNED, "4", AT(fetch_jobs), .min = 1, .max = 64},
    {"store", "compressed_max", KEY_BYTES, "500M", AT(compressed_max), .min = KIB, .max = TIB},
    {"store", "unpacked_max", KEY_BYTES, "4G", AT(unpacked_max), .min = KIB, .max = 16 * TIB},
    {"store", "entries_max", KEY_U64, "500000", AT(entries_max), .min = 1, .max = 1000000000},
    {"store", "depth_max", KEY_U64, "256", AT(depth_max), .min = 1, .max = FETCH_NAME_MAX},
    {"store", "name_max", KEY_U64, "255", AT(name_max), .min = 1, .max = FETCH_COMPONENT_MAX},
    {"store", "ratio_max", KEY_U64, "200", AT(ratio_max), .min = 1, .max = 1000000},
    {"store", "fetch_connect", KEY_USEC, "10s", AT(fetch_connect), .min = 10 * MS, .max = H},
    {"store", "fetch_stall", KEY_USEC, "30s", AT(fetch_stall), .min = 10 * MS, .max = H},
    {"store", "fetch_total", KEY_USEC, "15m", AT(fetch_total), .min = 10 * MS, .max = 24 * H},
    {"store", "cache_max", KEY_BYTES, "20G", AT(cache_max), .min = MIB, .max = 1024 * TIB,
     .may_be_off = true},
    {"store", "cache_keep_free", KEY_BYTES, "1G", AT(cache_keep_free), .min = MIB,
     .max = 1024 * TIB, .may_be_off = true},
    {"store", "fetch_connections", KEY_UNSIGNED, "48", AT(fetch_connections), .min = 1,
     .max = FETCH_CONNECTIONS_MAX},
    {"store", "fetch_part", KEY_BYTES, "16M", AT(fetch_part), .min = FETCH_PART_MIN, .max = TIB},
    {"store", "fetch_tries", KEY_UNSIGNED, "4", AT(fetch_tries), .min = 1, .max = FETCH_TRIES_MAX},
    {"store", "fetch_slow", KEY_BYTES, "10k", AT(fetch_slow), .min = 1, .max = GIB,
     .may_be_off = true},
    {"store", "fetch_slow_time", KEY_USEC, "60s", AT(fetch_slow_time), .min = 10 * MS, .max = H},
    {"store", "s3_endpoint", KEY_URL, "", TEXT(stores.s3_endpoint), .may_be_off = true},
    {"store", "s3_region", KEY_NAME, "us-east-1", TEXT(stores.s3_region)},
    {"store", "s3_path_style", KEY_AUTO, "auto", TEXT(stores.s3_path_style)},
    {"store", "s3_credentials_file", KEY_PATH, "", TEXT(stores.s3_credentials_file),
     .may_be_off = true},
    {"store", "s3_role", KEY_METADATA, "off", TEXT(stores.s3_role), .word = "imds"},
    {"store", "swift_auth_url", KEY_URL, "", TEXT(stores.swift_auth_url), .may_be_off = true},
    {"store", "swift_user", KEY_TEXT, "", TEXT(stores.swift_user), .may_be_off = true},
    {"store", "swift_key_file", KEY_PATH, "", TEXT(stores.swift_key_file), .may_be_off = true},
    {"store", "swift_project", KEY_TEXT, "", TEXT(stores.swift_project), .may_be_off = true},
    {"store", "swift_domain", KEY_TEXT, "Default", TEXT(stores.swift_domain)},
    {"store", "swift_region", KEY_TEXT, "", TEXT(stores.swift_region), .may_be_off = true},
    {"store", "https_hosts", KEY_HOSTS, "", TEXT(stores.https_hosts), .may_be_off = true},
    {"store", "https_token_file", KEY_PATH, "", TEXT(stores.https_token_file), .may_be_off = true},
    {"store", "https_cert_file", KEY_PATH, "", TEXT(stores.https_cert_file), .may_be_off = true},
    {"store", "https_key_file", KEY_PATH, "", TEXT(stores.https_key_file), .may_be_off = true},

    {"sandbox", "stack", KEY_PATH, "host", TEXT(stack), .word = "host"},
    {"sandbox", "stack_digest", KEY_TEXT, "", TEXT(stack_digest), .may_be_off = true},
    {"sandbox", "spares", KEY_UNSIGNED, "2", AT(spares), .min = 0, .max = CONFIG_SPARES_MAX},
    {"sandbox", "spares_keep_free", KEY_BYTES, "64M", AT(spares_keep_free), .min = MIB, .max = TIB,
     .may_be_off = true},
    {"sandbox", "disk_quota", KEY_CHOICE, "auto", TEXT(disk_quota),
     .word = "auto project image none"},
    {"sandbox", "disk_keep_free", KEY_BYTES, "1G", AT(disk_keep_free), .min = MIB,
     .max = 1024 * TIB, .may_be_off = true},
    {"sandbox", "disk_overcommit", KEY_FACTOR, "1", AT(disk_overcommit), .min = 1, .max = 1000},
    {"sandbox", "network", KEY_CHOICE, "auto", TEXT(network), .word = "auto private host"},

    {"network", "ipv4_range", KEY_RANGE, "10.213.0.0/16", TEXT(net_range4)},
    {"network", "ipv6_range", KEY_RANGE, "fd64:796e:6f64::/64", TEXT(net_range6),
     .may_be_off = true},
    {"network", "egress_deny", KEY_NETWORKS, "", TEXT(net_deny), .may_be_off = true},
    {"network", "egress_allow", KEY_NETWORKS, "", TEXT(net_allow), .may_be_off = true},
    {"network", "nameservers", KEY_NETWORKS, "", TEXT(net_servers), .may_be_off = true},
    {"network", "connections_max", KEY_UNSIGNED, "4096", AT(net_connections), .min = 16,
     .max = 1000000, .may_be_off = true},

    {"dyno", "boot_timeout", KEY_USEC, "60s", AT(boot_timeout), .min = 10 * MS, .max = H},
    {"dyno", "stop_grace", KEY_USEC, "30s", AT(stop_grace), .min = 10 * MS, .max = H},
    {"dyno", "route_drain", KEY_USEC, "2s", AT(route_drain), .min = 10 * MS, .max = H,
     .may_be_off = true},
    {"dyno", "launch_timeout", KEY_USEC, "10s", AT(launch_timeout), .min = 10 * MS, .max = H},
    {"dyno", "restart_delay", KEY_USEC, "1s", AT(restart_delay), .min = MS, .max = 24 * H},
    {"dyno", "restart_delay_max", KEY_USEC, "5m", AT(restart_delay_max), .min = MS, .max = 24 * H},
    {"dyno", "restart_reset", KEY_USEC, "10m", AT(restart_reset), .min = 10 * MS, .max = 720 * H},
    {"dyno", "cycle", KEY_USEC, "0", AT(cycle), .min = S, .max = 8760 * H, .may_be_off = true},
    {"dyno", "port_range", KEY_PORTS, "20000-29999", AT(port_first),
     .offset2 = offsetof(struct config, port_last), .min = 1, .max = 65535},
    {"dyno", "dynos_max", KEY_UNSIGNED, "1000", AT(dynos_max), .min = 1, .max = 60000},
    {"dyno", "default_size", KEY_NAME, "standard-1x", TEXT(default_size)},
    {"dyno", "sample_interval", KEY_USEC, "20s", AT(sample_interval), .min = 10 * MS, .max = H},

    {"logs", "tail_bytes", KEY_BYTES, "1M", AT(tail_bytes), .min = 4 * KIB,
     .max = LOG_TAIL_BYTES_MAX},
    {"logs", "tail_lines", KEY_UNSIGNED, "1500", AT(tail_lines), .min = 1,
     .max = LOG_TAIL_LINES_MAX},
    {"logs", "log_source", KEY_NAME, "heroku", TEXT(log_source)},

    {"link", "controllers", KEY_URLS, "", TEXT(controllers), .may_be_off = true},
    {"link", "allow_http", KEY_BOOL, "no", AT(link_allow_http)},
    {"link", "ca_file", KEY_PATH, "", TEXT(link_ca_file), .may_be_off = true},
    {"link", "cert_file", KEY_PATH, "", TEXT(link_cert_file), .may_be_off = true},
    {"link", "key_file", KEY_PATH, "", TEXT(link_key_file), .may_be_off = true},
    {"link", "token_file", KEY_PATH, "", TEXT(link_token_file), .may_be_off = true},
    {"link", "agent_id", KEY_NAME, "", TEXT(agent_id), .may_be_off = true},
    {"link", "labels", KEY_LABELS, "", TEXT(labels), .may_be_off = true},
    {"link", "address", KEY_ADDRESS, "", TEXT(address), .may_be_off = true},
    {"link", "metadata", KEY_METADATA, "auto", TEXT(metadata), .word = "auto"},
    {"link", "identity_document", KEY_BOOL, "no", AT(identity_document)},
    {"link", "exits_max", KEY_UNSIGNED, "10000", AT(exits_max), .min = 100, .max = 1000000},
    {.name = NULL},
};

#undef AT
#define AT(member) .offset = offsetof(struct size, member)

static const struct key of_size[] = {
    {"size", "memory", KEY_BYTES, AT(memory), .min = 4 * MIB, .max = 64 * TIB},
    {"size", "memory_factor", KEY_FACTOR, AT(memory_factor), .min = 1, .max = 10},
    {"size", "pids", KEY_U64, AT(pids), .min = 4, .max = 4194304}, /* the kernel's PID_MAX_LIMIT */
    /* The kernel's limits of cpu.shares. */
    {"size", "cpu_shares", KEY_UNSIGNED, AT(cpu_shares), .min = 2, .max = 262144},
    /* The least that the kernel's period of 100 ms allows is 1 ms. */
    {"size", "cpu_cap", KEY_PERCENT, AT(cpu_cap), .min = 1, .max = 102400, .may_be_off = true},
    /* BFQ's range; io.weight would take ten times as much. */
    {"size", "io_weight", KEY_UNSIGNED, AT(io_weight), .min = 1, .max = 1000},
    {"size", "open_files", KEY_UNSIGNED, AT(open_files), .min = 64, .max = 1073741816,
     .may_be_off = true},
    {"size", "disk", KEY_BYTES, AT(disk), .min = 4 * MIB, .max = TIB, .may_be_off = true},
    {"size", "inodes", KEY_U64, AT(inodes), .min = 64, .max = 100000000, .may_be_off = true},
    {"size", "bandwidth", KEY_BYTES, AT(bandwidth), .min = 8 * KIB, .max = TIB, .may_be_off = true},
    {.name = NULL},
};

const struct key *config_keys(void)
{
    return keys;
}

const struct key *size_keys(void)
{
    return of_size;
}

/* --- Units and words --- */

/* A unit is written when the value is a whole number of at least LEAST of it: 60s, but 2m. */
struct unit {
    uint64_t scale;
    unsigned least;
    const char *name;
};

static const struct unit times[] = {
    {H, 2, "h"}, {M, 2, "m"}, {S, 1, "s"}, {MS, 1, "ms"}, {1, 1, "us"},
};
static const struct unit sizes[] = {
    {TIB, 1, "T"}, {GIB, 1, "G"}, {MIB, 1, "M"}, {KIB, 1, "k"}, {1, 1, ""},
};

static void format_units(struct str *out, uint64_t value, const struct unit *units, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (value % units[i].scale == 0 && value / units[i].scale >= units[i].least) {
            str_addf(out, "%ju%s", (uintmax_t)(value / units[i].scale), units[i].name);
            return;
        }
    str_add(out, "0");
}

static void format_usec(struct str *out, uint64_t value)
{
    format_units(out, value, times, sizeof(times) / sizeof(times[0]));
}

static void format_size(struct str *out, uint64_t value)
{
    format_units(out, value, sizes, sizeof(sizes) / sizeof(sizes[0]));
}

/* The first name of each is the one that is written. */
static const struct level {
    const char *name;
    enum log_level level;
} levels[] = {
    {"err", LOG_LVL_ERR},      {"error", LOG_LVL_ERR},     {"warn", LOG_LVL_WARN},
    {"warning", LOG_LVL_WARN}, {"notice", LOG_LVL_NOTICE}, {"info", LOG_LVL_INFO},
    {"debug", LOG_LVL_DEBUG},
};
#define N_LEVELS (sizeof(levels) / sizeof(levels[0]))

static const char *const truths[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
#define N_TRUTHS (sizeof(truths) / sizeof(truths[0]))

/* --- Reading --- */

static int bad(const struct key *k, const char *value, const char *must, struct err *e)
{
    char q[80];

    (void)err_say(e, EINVAL, "%s: '%s' is not %s", k->name,
                  text_escape(q, sizeof(q), value, strnlen(value, sizeof(q))), must);
    return err_blame(e, FAULT_OPERATOR);
}

/* The words for a number outside of its limits, in the key's own unit. */
static int out_of_range(const struct key *k, const char *value, struct err *e)
{
    struct str must = {.max = 120};
    void (*format)(struct str *, uint64_t) = k->kind == KEY_USEC ? format_usec : format_size;

    str_add(&must, k->may_be_off ? "0, or within " : "within ");
    if (k->kind == KEY_USEC || k->kind == KEY_BYTES) {
        format(&must, k->min);
        str_add(&must, " to ");
        format(&must, k->max);
    } else {
        str_addf(&must, "%ju to %ju", (uintmax_t)k->min, (uintmax_t)k->max);
    }
    int r = bad(k, value, str_text(&must), e);
    str_done(&must);
    return r;
}

static bool is_name(const char *value)
{
    return value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "0123456789-_.")] == '\0';
}

static bool has_control(const char *value)
{
    for (; *value; value++)
        if ((unsigned char)*value < ' ' || *value == 0x7f)
            return true;
    return false;
}

/* One of the words in LIST, which has a blank between. */
static bool is_choice(const char *list, const char *value)
{
    size_t len = strlen(value);

    for (const char *at = list; len > 0 && (at = strstr(at, value)); at += len)
        if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

static int parse_text(const struct key *k, const char *value, char *out, struct err *e)
{
    size_t len = strlen(value);

    if (len >= k->max) {
        (void)err_say(e, EINVAL, "%s: longer than %ju bytes", k->name, (uintmax_t)k->max - 1);
        return err_blame(e, FAULT_OPERATOR);
    }
    if (len == 0 && !k->may_be_off)
        return bad(k, value, "a value", e);
    if (k->kind == KEY_NAME && !is_name(value))
        return bad(k, value, "made of letters, digits, '-', '_' and '.'", e);
    bool word = len == 0 || (k->word && !strcmp(value, k->word));
    if (k->kind == KEY_CHOICE && !is_choice(k->word, value))
        return bad(k, value, k->word, e);
    if (k->kind == KEY_PATH && !word && (*value != '/' || has_control(value)))
        return bad(
            k, value,
            k->word ? "an absolute path or the one word for the default" : "an absolute path", e);
    const char *wants = word ? NULL : link_value_wants(k, value);
    if (wants)
        return bad(k, value, wants, e);
    memset(out, 0, k->max);
    memcpy(out, value, len + 1);
    return 0;
}

static int parse_number(const struct key *k, const char *value, uint64_t *ret, struct err *e)
{
    uint64_t n = 0;
    int r = k->kind == KEY_USEC    ? parse_usec(value, &n)
            : k->kind == KEY_BYTES ? parse_bytes(value, &n)
                                   : parse_u64(value, 0, UINT64_MAX, &n);

    if (r == -EINVAL)
        return bad(k, value,
                   k->kind == KEY_USEC    ? "a time, like 500ms, 30s, 15m or 24h"
                   : k->kind == KEY_BYTES ? "a size, like 64k, 512M or 4G"
                                          : "a whole number",
                   e);
    if (r == -ERANGE || (!(n == 0 && k->may_be_off) && (n < k->min || n > k->max)))
        return out_of_range(k, value, e);
    *ret = n;
    return 0;
}

static int parse_range(const struct key *k, const char *value, uint64_t ret[2], struct err *e)
{
    char first[24];
    const char *dash = strchr(value, '-');

    if (!dash || (size_t)(dash - value) >= sizeof(first))
        return bad(k, value, "a range, like 20000-29999", e);
    memcpy(first, value, (size_t)(dash - value));
    first[dash - value] = '\0';
    int r = parse_u64(first, k->min, k->max, &ret[0]);
    if (r == 0)
        r = parse_u64(dash + 1, k->min, k->max, &ret[1]);
    if (r == -ERANGE)
        return out_of_range(k, value, e);
    if (r < 0 || ret[0] > ret[1])
        return bad(k, value, "a range, like 20000-29999", e);
    return 0;
}

/* A decimal, kept to a thousandth: "1.2". */
static int parse_factor(const struct key *k, const char *value, double *ret, struct err *e)
{
    uint64_t n = 0;
    char scaled[16];
    size_t len = strlen(value);

    /* As micro-units, by the reader of "1.2s": no locale, no sign, no exponent. */
    if (len == 0 || len + 2 > sizeof(scaled) || strspn(value, "0123456789.") != len)
        return bad(k, value, "a number, like 1.2", e);
    memcpy(scaled, value, len);
    memcpy(scaled + len, "s", 2);
    if (parse_usec(scaled, &n) < 0)
        return bad(k, value, "a number, like 1.2", e);
    if (n < k->min * S || n > k->max * S)
        return out_of_range(k, value, e);
    uint64_t thousandths = (n + 500) / 1000;
    *ret = (double)thousandths / 1000;
    return 0;
}

/* "150%"; 0 needs no sign. */
static int parse_percent(const struct key *k, const char *value, unsigned *ret, struct err *e)
{
    char number[16];
    size_t len = strlen(value);
    uint64_t n = 0;

    bool sign = len > 0 && value[len - 1] == '%';
    if (len - sign >= sizeof(number))
        return bad(k, value, "a percentage, like 150%", e);
    memcpy(number, value, len - sign);
    number[len - sign] = '\0';
    int r = parse_u64(number, 0, UINT64_MAX, &n);
    if (r == -EINVAL || (r == 0 && n > 0 && !sign))
        return bad(k, value, "a percentage, like 150%", e);
    if (r < 0 || (n > 0 && (n < k->min || n > k->max)))
        return out_of_range(k, value, e);
    *ret = (unsigned)n;
    return 0;
}

static int parse_bool(const struct key *k, const char *value, bool *ret, struct err *e)
{
    for (size_t i = 0; i < N_TRUTHS; i++)
        if (!strcmp(truths[i], value)) {
            *ret = i % 2 == 1;
            return 0;
        }
    return bad(k, value, "yes or no", e);
}

static int parse_level(const struct key *k, const char *value, enum log_level *ret, struct err *e)
{
    for (size_t i = 0; i < N_LEVELS; i++)
        if (!strcmp(levels[i].name, value)) {
            *ret = levels[i].level;
            return 0;
        }
    return bad(k, value, "err, warn, notice, info or debug", e);
}

int key_parse(const struct key *k, const char *value, void *base, struct err *e)
{
    char *at = (char *)base + k->offset, *at2 = (char *)base + k->offset2;
    uint64_t n[2];
    int r;

    switch (k->kind) {
    case KEY_PATH:
    case KEY_NAME:
    case KEY_URLS:
    case KEY_LABELS:
    case KEY_ADDRESS:
    case KEY_METADATA:
    case KEY_URL:
    case KEY_AUTO:
    case KEY_HOSTS:
    case KEY_TEXT:
    case KEY_CHOICE:
    case KEY_RANGE:
    case KEY_NETWORKS:
        return parse_text(k, value, at, e);
    case KEY_BOOL:
        return parse_bool(k, value, (bool *)at, e);
    case KEY_LEVEL:
        return parse_level(k, value, (enum log_level *)(void *)at, e);
    case KEY_FACTOR:
        return parse_factor(k, value, (double *)(void *)at, e);
    case KEY_PERCENT:
        return parse_percent(k, value, (unsigned *)(void *)at, e);
    case KEY_UNSIGNED:
        r = parse_number(k, value, n, e);
        if (r == 0)
            *(unsigned *)(void *)at = (unsigned)n[0];
        return r;
    case KEY_U64:
    case KEY_BYTES:
    case KEY_USEC:
        return parse_number(k, value, (uint64_t *)(void *)at, e);
    case KEY_UIDS:
    case KEY_PORTS:
        r = parse_range(k, value, n, e);
        if (r == 0) { /* uid_t is an unsigned, too */
            *(unsigned *)(void *)at = (unsigned)n[0];
            *(unsigned *)(void *)at2 = (unsigned)n[1];
        }
        return r;
    }
    return 0;
}

void key_format(const struct key *k, const void *base, struct str *out)
{
    const void *at = (const char *)base + k->offset;
    const void *at2 = (const char *)base + k->offset2;
    size_t i = 0;

    switch (k->kind) {
    case KEY_PATH:
    case KEY_NAME:
    case KEY_URLS:
    case KEY_LABELS:
    case KEY_ADDRESS:
    case KEY_METADATA:
    case KEY_URL:
    case KEY_AUTO:
    case KEY_HOSTS:
    case KEY_TEXT:
    case KEY_CHOICE:
    case KEY_RANGE:
    case KEY_NETWORKS:
        str_add(out, at);
        break;
    case KEY_BOOL:
        str_add(out, truths[*(const bool *)at]);
        break;
    case KEY_LEVEL:
        while (i < N_LEVELS - 1 && levels[i].level != *(const enum log_level *)at)
            i++;
        str_add(out, levels[i].name);
        break;
    case KEY_FACTOR:
        str_addf(out, "%g", *(const double *)at);
        break;
    case KEY_PERCENT:
        str_addf(out, *(const unsigned *)at ? "%u%%" : "%u", *(const unsigned *)at);
        break;
    case KEY_UNSIGNED:
        str_addf(out, "%u", *(const unsigned *)at);
        break;
    case KEY_U64:
        str_addf(out, "%ju", (uintmax_t) * (const uint64_t *)at);
        break;
    case KEY_BYTES:
        format_size(out, *(const uint64_t *)at);
        break;
    case KEY_USEC:
        format_usec(out, *(const uint64_t *)at);
        break;
    case KEY_UIDS:
    case KEY_PORTS:
        str_addf(out, "%u-%u", *(const unsigned *)at, *(const unsigned *)at2);
        break;
    }
}
