/* config.h - dynod.conf: INI, with drop-ins from dynod.conf.d beside it in name order. Every key is
 * in one table (config.c) with its type, limits and default; the man page dynod.conf(5) and the
 * shipped file list the same keys. An unknown key or section, or a bad value, is the operator's
 * fault and names file:line. */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "base/err.h"
#include "base/linkproto.h"
#include "base/log.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A dyno size, [size NAME]. */
struct size {
    char name[32];
    uint64_t memory;      /* bytes; R14 above it */
    double memory_factor; /* R15 at memory * factor */
    uint64_t pids;
    unsigned cpu_shares; /* 1024: one share */
    unsigned cpu_cap;    /* percent of one core; 0: none */
    unsigned io_weight;  /* 1 to 1000; 100 is the kernel's default */
    unsigned open_files; /* of each process; 0: 10000, or what the agent itself may have */
    uint64_t disk;       /* bytes that it may write; 0: no limit */
    uint64_t inodes;     /* files that it may make; 0: as many as fit */
    uint64_t bandwidth;  /* bytes a second each way; 0: no limit */
};

#define CONFIG_SIZES_MAX 32
#define CONFIG_FILE_MAX  (1u << 20) /* bytes of one file */
#define CONFIG_FILES_MAX 1000       /* drop-ins */

/* [store]: how each kind of store is asked; secrets are in files that are read for each fetch. */
struct config_stores {
    char s3_endpoint[256];                          /* "": Amazon's */
    char s3_region[64];                             /* us-east-1 */
    char s3_path_style[8];                          /* auto, yes, no */
    char s3_credentials_file[256];                  /* "": AWS_* of the environment, or unsigned */
    char s3_role[256];                              /* off, imds, or the URL of an IMDS */
    char swift_auth_url[256];                       /* "": none; …/v1.0 or …/v3 */
    char swift_user[128], swift_key_file[256];      /* both, or "" both */
    char swift_project[128], swift_domain[64];      /* Keystone's */
    char swift_region[64];                          /* "": the first of the catalogue */
    char https_hosts[1024];                         /* "HOST[:PORT] …": who gets the following */
    char https_token_file[256];                     /* a bearer token; "": none */
    char https_cert_file[256], https_key_file[256]; /* both, or "" both */
};

#define CONFIG_SPARES_MAX 64

/* The first uids of uid_range are for the helpers, the rest for dynos. */
#define CONFIG_UIDS_RESERVED 16

/* Times are microseconds, sizes bytes. */
struct config {
    /* [agent] */
    char runtime_dir[256];     /* /run/dynod */
    char state_dir[256];       /* /var/lib/dynod */
    char api_socket[256];      /* "" until config_check(): RUNTIME_DIR/api.sock */
    char api_group[64];        /* whose members may use it beside root; "": nobody */
    char cgroup_parent[256];   /* "auto" */
    char program_dir[256];     /* of the helper programs; "" until config_check(): beside dynod */
    uid_t uid_first, uid_last; /* uid_range: [0] dynod-logs, [1] slug owner, [2] dynod-link, [3..15]
                                  fetches, [16..] dynos */
    char claims_dir[256];      /* where this machine's agents claim uids and ports; "": nowhere */
    enum log_level log_level;
    uint64_t drain_deadline; /* of a drain that names none, where there is a controller */
    /* [store] */
    char ca_file[256]; /* "": the system's */
    bool allow_http;
    unsigned fetch_jobs; /* fetches at once */
    uint64_t compressed_max, unpacked_max, entries_max, depth_max, name_max, ratio_max;
    uint64_t fetch_connect, fetch_stall, fetch_total;
    uint64_t cache_max;         /* bytes of all slugs; 0: no limit */
    uint64_t cache_keep_free;   /* bytes of the disk that slugs leave free; 0: none */
    unsigned fetch_connections; /* of one fetch to one mirror, at most */
    unsigned fetch_tries;       /* of one connection without progress */
    uint64_t fetch_part;        /* bytes that one connection asks for at once */
    uint64_t fetch_slow;        /* bytes a second; 0: no mirror is too slow */
    uint64_t fetch_slow_time;
    struct config_stores stores;
    /* [sandbox] */
    char stack[256];         /* "host", an absolute directory, or an image */
    char stack_digest[128];  /* of an image; "": none */
    char disk_quota[16];     /* auto, project, image, none */
    uint64_t disk_keep_free; /* bytes that dynos are never promised */
    double disk_overcommit;
    unsigned spares;           /* sandboxes kept ready; rootless: 0 by default */
    uint64_t spares_keep_free; /* bytes of memory; 0: spares are kept however little there is */
    char network[8];           /* "private", "host" or "auto": private as root */
    /* [network] */
    char net_range4[64], net_range6[64];  /* the latter: "" for no IPv6 */
    char net_deny[1024], net_allow[1024]; /* networks, a blank between */
    char net_servers[160];                /* "": the host's */
    unsigned net_connections;             /* of one dyno; 0: no limit */
    /* [dyno] */
    uint64_t boot_timeout;   /* R10 */
    uint64_t stop_grace;     /* R12 */
    uint64_t route_drain;    /* from "not up" to SIGTERM, where there is a controller; 0: none */
    uint64_t launch_timeout; /* R99 */
    uint64_t restart_delay, restart_delay_max; /* the second restart's delay, and the cap */
    uint64_t restart_reset; /* a run that stayed up so long starts the counting anew */
    uint64_t cycle;         /* 24 h + random 0..216 min; 0: off */
    unsigned port_first, port_last;
    unsigned dynos_max;
    char default_size[32];
    uint64_t sample_interval; /* of memory, for R14 and metrics */
    /* [logs] */
    uint64_t tail_bytes;
    unsigned tail_lines;
    char log_source[32]; /* "heroku" */
    /* [link] */
    char controllers[2048]; /* URLs in their order, a blank between; "": none */
    bool link_allow_http;
    char link_ca_file[256];                       /* "": the system's */
    char link_cert_file[256], link_key_file[256]; /* both, or "" both */
    char link_token_file[256];
    char agent_id[LINK_AGENT_MAX + 1]; /* "": the metadata's, else one made at the first start */
    char labels[1024];                 /* "zone=a,rack=7" */
    char address[64];                  /* where dynos are reached; "": found out */
    char metadata[256];                /* "auto", "off" or a URL */
    bool identity_document;
    unsigned exits_max; /* kept for a controller that does not answer */

    struct size sizes[CONFIG_SIZES_MAX];
    size_t n_sizes;
};

/* The defaults; ROOTLESS: the XDG directories instead of /run and /var/lib. Where XDG_RUNTIME_DIR
 * is not set that is /tmp/dynod-UID: whoever makes it must check that it is the user's own. */
int config_defaults(bool rootless, struct config *ret, struct err *e);

/* Reads FILE, then *.conf in FILE.d, over the defaults in *C, which an error leaves as it was.
 * REQUIRED: false: a missing FILE is fine (its drop-ins are read nevertheless). */
int config_read(struct config *c, const char *file, bool required, struct err *e);

/* One "section.key=value" or "size.NAME.key=value", as `dynod -o` takes them; messages say "-o". */
int config_set(struct config *c, const char *assignment, struct err *e);

/* Last of all: fills in api_socket and program_dir where they are still empty, and checks what only
 * the whole shows: default_size exists, room for dynos_max in the uid and port ranges, limits that
 * contradict each other, a controller over http:// that is not allowed. */
int config_check(struct config *c, struct err *e);

const struct size *config_size(const struct config *c, const char *name); /* NULL: unknown */

/* ["https://a", …] and {"zone": "a", …}; of a checked configuration. NULL: no memory. */
json_t *config_controllers(const struct config *c);
json_t *config_labels(const struct config *c);

/* Every key with its value, in the form of the shipped file ("[section]", "key = value"), for
 * `dynod --dump-config` and for the test that compares it with packaging/dynod.conf and the man
 * page. To be freed. */
char *config_text(const struct config *c);

#endif
