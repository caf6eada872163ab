#include "core/config/config.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DIGEST_OF_ONES "1111111111111111111111111111111111111111111111111111111111111111"

#define SEC UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

/* --- A directory with dynod.conf in it --- */

struct place {
    char dir[64], file[96], drop_ins[96];
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof(*p));

    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/test_config.XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    (void)snprintf(p->file, sizeof(p->file), "%s/dynod.conf", p->dir);
    (void)snprintf(p->drop_ins, sizeof(p->drop_ins), "%s/dynod.conf.d", p->dir);
    *state = p;
    return 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    struct err e = ERR_INIT;
    int r = tree_remove(AT_FDCWD, p->dir, &e);

    free(p);
    return r;
}

static void write_file(const char *path, const char *text, size_t len)
{
    struct err e = ERR_INIT;

    assert_int_equal(file_write_atomic(AT_FDCWD, path, text, len, 0644, &e), 0);
}

static void write_drop_in(const struct place *p, const char *name, const char *text)
{
    char path[256];

    (void)mkdir(p->drop_ins, 0755);
    (void)snprintf(path, sizeof(path), "%s/%s", p->drop_ins, name);
    write_file(path, text, strlen(text));
}

static struct config defaults(void)
{
    struct err e = ERR_INIT;
    struct config c;

    assert_int_equal(config_defaults(false, &c, &e), 0);
    return c;
}

static struct config read_text(const struct place *p, const char *text)
{
    struct config c = defaults();
    struct err e = ERR_INIT;

    write_file(p->file, text, strlen(text));
    if (config_read(&c, p->file, true, &e) < 0)
        fail_msg("%s", e.text);
    return c;
}

/* The error names the file, ":", LINE and NEEDLE, and nothing of C changes. */
static void refused_n(const struct place *p, const char *text, size_t len, const char *line,
                      const char *needle)
{
    struct config c = defaults(), before = c;
    struct err e = ERR_INIT;
    char where[128];

    write_file(p->file, text, len);
    int r = config_read(&c, p->file, true, &e);
    if (r != -EINVAL)
        fail_msg("%d (%s) for %s", r, e.text, text);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    (void)snprintf(where, sizeof(where), "%s:%s: ", p->file, line);
    if (!str_starts(e.text, where) || !strstr(e.text, needle))
        fail_msg("\"%s\" is not \"%s…%s\"", e.text, where, needle);
    assert_memory_equal(&c, &before, sizeof(c));
}

static void refused(const struct place *p, const char *text, const char *line, const char *needle)
{
    refused_n(p, text, strlen(text), line, needle);
}

/* --- Values --- */

static void defaults_are_the_documented_ones(void **state)
{
    struct config c = defaults();

    (void)state;
    assert_string_equal(c.runtime_dir, "/run/dynod");
    assert_string_equal(c.state_dir, "/var/lib/dynod");
    assert_string_equal(c.api_socket, "");
    assert_string_equal(c.api_group, "");
    assert_string_equal(c.cgroup_parent, "auto");
    assert_int_equal(c.uid_first, 900000000);
    assert_int_equal(c.uid_last, 900065535);
    assert_int_equal(c.log_level, LOG_LVL_INFO);
    assert_string_equal(c.ca_file, "");
    assert_false(c.allow_http);
    assert_int_equal(c.fetch_jobs, 4);
    assert_int_equal(c.compressed_max, 500 * MIB);
    assert_int_equal(c.unpacked_max, 4096 * MIB);
    assert_int_equal(c.entries_max, 500000);
    assert_int_equal(c.depth_max, 256);
    assert_int_equal(c.name_max, 255);
    assert_int_equal(c.ratio_max, 200);
    assert_int_equal(c.fetch_connect, 10 * SEC);
    assert_int_equal(c.fetch_stall, 30 * SEC);
    assert_int_equal(c.fetch_total, 900 * SEC);
    assert_int_equal(c.fetch_connections, 48);
    assert_int_equal(c.fetch_part, 16 * MIB);
    assert_int_equal(c.fetch_tries, 4);
    assert_int_equal(c.fetch_slow, 10240);
    assert_int_equal(c.fetch_slow_time, 60 * SEC);
    assert_string_equal(c.stores.s3_endpoint, "");
    assert_string_equal(c.stores.s3_region, "us-east-1");
    assert_string_equal(c.stores.s3_path_style, "auto");
    assert_string_equal(c.stores.s3_credentials_file, "");
    assert_string_equal(c.stores.s3_role, "off");
    assert_string_equal(c.stores.swift_auth_url, "");
    assert_string_equal(c.stores.swift_domain, "Default");
    assert_string_equal(c.stores.https_hosts, "");
    assert_string_equal(c.stack, "host");
    assert_int_equal(c.boot_timeout, 60 * SEC);
    assert_int_equal(c.stop_grace, 30 * SEC);
    assert_int_equal(c.launch_timeout, 10 * SEC);
    assert_int_equal(c.restart_delay, 1 * SEC);
    assert_int_equal(c.restart_delay_max, 300 * SEC);
    assert_int_equal(c.restart_reset, 600 * SEC);
    assert_int_equal(c.cycle, 0);
    assert_int_equal(c.port_first, 20000);
    assert_int_equal(c.port_last, 29999);
    assert_int_equal(c.dynos_max, 1000);
    assert_string_equal(c.default_size, "standard-1x");
    assert_int_equal(c.sample_interval, 20 * SEC);
    assert_int_equal(c.tail_bytes, MIB);
    assert_int_equal(c.tail_lines, 1500);
    assert_string_equal(c.log_source, "heroku");
    assert_int_equal(c.drain_deadline, 120 * SEC);
    assert_int_equal(c.route_drain, 2 * SEC);
    assert_string_equal(c.controllers, "");
    assert_false(c.link_allow_http);
    assert_string_equal(c.link_ca_file, "");
    assert_string_equal(c.link_cert_file, "");
    assert_string_equal(c.link_key_file, "");
    assert_string_equal(c.link_token_file, "");
    assert_string_equal(c.agent_id, "");
    assert_string_equal(c.labels, "");
    assert_string_equal(c.address, "");
    assert_string_equal(c.metadata, "auto");
    assert_false(c.identity_document);
    assert_int_equal(c.exits_max, 10000);

    /* CONTRACT: the platform's sizes. */
    const struct size *s = config_size(&c, "standard-1x");
    assert_int_equal(s->memory, 512 * MIB);
    assert_int_equal(s->pids, 256);
    assert_int_equal(s->cpu_shares, 1024);
    assert_true(s->memory_factor == 2);
    s = config_size(&c, "standard-2x");
    assert_int_equal(s->memory, 1024 * MIB);
    assert_int_equal(s->pids, 512);
    assert_int_equal(s->cpu_shares, 2048);
    s = config_size(&c, "performance-m");
    assert_int_equal(s->memory, 2560 * MIB);
    assert_int_equal(s->pids, 16384);
    assert_true(s->memory_factor == 2);
    s = config_size(&c, "performance-l");
    assert_int_equal(s->memory, 14336 * MIB);
    assert_int_equal(s->pids, 32768);
    assert_true(s->memory_factor == 1.2);
    assert_null(config_size(&c, "standard"));
    assert_null(config_size(&c, ""));
}

static void every_form_of_a_value(void **state)
{
    struct config c = read_text(*state, "\xef\xbb\xbf# comment\r\n"
                                        "[agent]\r\n"
                                        "  runtime_dir=/run/x\r\n"
                                        "\tapi_group  =  ops\t\r\n"
                                        "   ; comment\n"
                                        "\n"
                                        "log_level = debug ; said after a blank\n"
                                        "uid_range = 100000-165533\n"
                                        "cgroup_parent = /my/dynod\n"
                                        "program_dir = /opt/my dynod/bin\n"
                                        "[dyno] # comment\n"
                                        "boot_timeout = 1500ms\n"
                                        "stop_grace = 45\n"
                                        "cycle = 24h\n"
                                        "restart_delay = 0.5s\n"
                                        "port_range = 1-65535\n"
                                        "dynos_max: 60000\n"
                                        "[store]\n"
                                        "allow_http = yes\n"
                                        "compressed_max = 1.5G\n"
                                        "ca_file = /etc/ca.pem\n"
                                        "[agent]\n"
                                        "log_level = err\n"
                                        "[size performance-l]\n"
                                        "memory_factor = 1.25\n"
                                        "[size Tiny_1]\n"
                                        "memory = 128M\n"
                                        "pids = 64");

    assert_string_equal(c.runtime_dir, "/run/x");
    assert_string_equal(c.api_group, "ops");
    assert_int_equal(c.log_level, LOG_LVL_ERR);
    assert_int_equal(c.uid_last, 165533);
    assert_string_equal(c.cgroup_parent, "/my/dynod");
    assert_string_equal(c.program_dir, "/opt/my dynod/bin");
    assert_int_equal(c.boot_timeout, 1500000);
    assert_int_equal(c.stop_grace, 45 * SEC);
    assert_int_equal(c.cycle, 86400 * SEC);
    assert_int_equal(c.restart_delay, 500000);
    assert_int_equal(c.port_first, 1);
    assert_int_equal(c.port_last, 65535);
    assert_int_equal(c.dynos_max, 60000);
    assert_true(c.allow_http);
    assert_int_equal(c.compressed_max, 1536 * MIB);
    assert_int_equal(c.n_sizes, 5);
    const struct size *s = config_size(&c, "performance-l");
    assert_true(s->memory_factor == 1.25);
    assert_int_equal(s->memory, 14336 * MIB);
    s = config_size(&c, "Tiny_1");
    assert_int_equal(s->memory, 128 * MIB);
    assert_int_equal(s->pids, 64);
    assert_int_equal(s->cpu_shares, 1024);
}

static void bad_files_are_refused_by_line(void **state)
{
    static const struct {
        const char *text, *line, *needle;
    } bad[] = {
        {"x = 1\n", "1", "before the first [section]"},
        {"[agent]\nfoo = 1\n", "2", "unknown key 'foo' in [agent]"},
        {"[agent]\nfoo\033 = 1\n", "2", "'foo\\x1b'"},
        {"[agent]\nboot_timeout = 1s\n", "2", "'boot_timeout' in [agent]: it belongs in [dyno]"},
        {"[agent]\nmemory = 1G\n", "2", "unknown key 'memory'"},
        {"[size a]\nruntime_dir = /x\n", "2", "it belongs in [agent]"},
        {"\n\n[Agent]\n", "3", "unknown section [Agent]"},
        {"[]\n", "1", "unknown section []"},
        {"[size]\n", "1", "unknown section [size]"},
        {"[size ]\n", "1", "a size's name"},
        {"[size a b]\n", "1", "a size's name"},
        {"[size a2345678901234567890123456789012]\n", "1", "a size's name"},
        {"[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", "1",
         "unknown section"},
        {"[agent\nlog_level = err\n", "1", "without ']'"},
        {"[agent] log_level = err\n", "1", "after ']'"},
        {"[agent]\nlog_level\n[nope]\n", "2", "neither [section] nor key = value"},
        {"[agent]\n\nlog_level err\nlog_level = x\n", "3", "neither [section] nor key = value"},
        {"[agent]\nlog_level = x\nlog_level\n", "2", "'x' is not err, warn"},
        {"[agent]\nlog_level =\n", "2", "'' is not err, warn"},
        {"[agent]\nruntime_dir = run\n", "2", "runtime_dir: 'run' is not an absolute path"},
        {"[agent]\nruntime_dir = \"/run\"\n", "2", "an absolute path"},
        {"[agent]\nruntime_dir =\n", "2", "is not a value"},
        {"[agent]\nruntime_dir = /a\033b\n", "2", "'/a\\x1bb'"},
        {"[agent]\nruntime_dir = /a # b\n", "2", "a line of its own"},
        {"[agent]\ncgroup_parent = a\n", "2", "absolute path"},
        {"[agent]\napi_group = a b\n", "2", "made of letters"},
        {"[agent]\napi_group = a23456789012345678901234567890123456789012345678901234567890123456\n",
         "2", "longer than 63 bytes"},
        {"[agent]\nuid_range = 5\n", "2", "a range"},
        {"[agent]\nuid_range = 0-5\n", "2", "within 1 to 4294967294"},
        {"[agent]\nuid_range = 1-4294967295\n", "2", "within 1 to"},
        {"[agent]\nuid_range = 9-5\n", "2", "a range"},
        {"[agent]\nuid_range = 1-2-3\n", "2", "a range"},
        {"[agent]\nuid_range = -\n", "2", "a range"},
        {"[dyno]\nport_range = 1-65536\n", "2", "within 1 to 65535"},
        {"[dyno]\nport_range = 100000000000000000000000000-1\n", "2", "a range"},
        {"[dyno]\nboot_timeout = soon\n", "2", "boot_timeout: 'soon' is not a time"},
        {"[dyno]\nboot_timeout = -1\n", "2", "is not a time"},
        {"[dyno]\nboot_timeout = 0\n", "2", "'0' is not within 10ms to 60m"},
        {"[dyno]\nboot_timeout = 61m\n", "2", "'61m' is not within 10ms to 60m"},
        {"[dyno]\ncycle = 1ms\n", "2", "0, or within 1s to"},
        {"[dyno]\ncycle = 99999999999999999999h\n", "2", "0, or within"},
        {"[dyno]\ndynos_max = 0\n", "2", "within 1 to 60000"},
        {"[dyno]\ndynos_max = 1k\n", "2", "a whole number"},
        {"[dyno]\ndynos_max = 4294967297\n", "2", "within 1 to 60000"},
        {"[store]\ncompressed_max = 5X\n", "2", "is not a size"},
        {"[store]\ncompressed_max = 1\n", "2", "within 1k to 1T"},
        {"[store]\nallow_http = maybe\n", "2", "yes or no"},
        {"[store]\nallow_http = YES\n", "2", "yes or no"},
        {"[size a]\nmemory_factor = 0.5\n", "2", "within 1 to 10"},
        {"[size a]\nmemory_factor = 11\n", "2", "within 1 to 10"},
        {"[size a]\nmemory_factor = 1e1\n", "2", "a number, like 1.2"},
        {"[size a]\nmemory_factor = nan\n", "2", "a number"},
        {"[size a]\nmemory_factor = 1.2.3\n", "2", "a number"},
        {"[size a]\npids = 3\n", "2", "within 4 to"},
        /* No more than dynod-logs takes: it would not start. */
        {"[logs]\ntail_lines = 100001\n", "2", "within 1 to 100000"},
        {"[logs]\ntail_bytes = 257M\n", "2", "within 4k to 256M"},
        {"[dyno]\nroute_drain = 9ms\n", "2", "0, or within 10ms to"},
        {"[agent]\ndrain_deadline = 0\n", "2", "within 1s to 24h"},
        {"[link]\nexits_max = 99\n", "2", "within 100 to 1000000"},
        {"[link]\ncontrollers = a.example\n", "2", "'a.example' is not a list of"},
        {"[link]\ncontrollers = ftp://a\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https:///path\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://:443\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a:0\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a:65536\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a:123456\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a:\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a:+1\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a!b\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://u:p@a\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a/x?y\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a/x#y\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a/x\"y\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a/x\\y\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a/\303\244\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a/\033y\n", "2", "'https://a/\\x1by' is not"},
        {"[link]\ncontrollers = https://[::1\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://[1.2.3.4]\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://[::1]8443\n", "2", "is not a list of"},
        {"[link]\ncontrollers = "
         "https://[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]\n",
         "2", "is not a list of"},
        {"[link]\ncontrollers = https://a,https://b\n", "2", "is not a list of"},
        {"[link]\ncontrollers = https://a\ncontrollers += b\n", "3", "'https://a b' is not"},
        {"[link]\ncontrollers = 1 \n+= https://a\n", "2", "is not a list"},
        {"[link]\n+ = https://a\n", "2", "unknown key '' in [link]"},
        {"[link]\nnope += https://a\n", "2", "unknown key 'nope' in [link]"},
        {"[link]\nagent_id += a\n", "2", "agent_id: += is for lists"},
        {"[size a]\npids += 7\n", "2", "unknown key 'pids +'"},
        {"[link]\nagent_id = a b\n", "2", "made of letters"},
        {"[link]\nagent_id = "
         "a2345678901234567890123456789012345678901234567890123456789012345\n",
         "2", "longer than 64 bytes"},
        {"[link]\nlabels = zone\n", "2", "is not a list of labels"},
        {"[link]\nlabels = zone=\n", "2", "is not a list of labels"},
        {"[link]\nlabels = =a\n", "2", "is not a list of labels"},
        {"[link]\nlabels = zone=a,\n", "2", "is not a list of labels"},
        {"[link]\nlabels = zone=a,,b=c\n", "2", "is not a list of labels"},
        {"[link]\nlabels = zone=a, b=c\n", "2", "is not a list of labels"},
        {"[link]\nlabels = zone=a,zone=b\n", "2", "is not a list of labels"},
        {"[link]\nlabels = zone=a b\n", "2", "is not a list of labels"},
        {"[link]\nlabels = z!ne=a\n", "2", "is not a list of labels"},
        {"[link]\nlabels = a234567890123456789012345678901234567890123456789012345678901234=a\n",
         "2", "is not a list of labels"},
        {"[link]\nlabels = a=a234567890123456789012345678901234567890123456789012345678901234\n",
         "2", "is not a list of labels"},
        {"[link]\naddress = a b\n", "2", "an IP address or a host name"},
        {"[link]\naddress = 10.0.0.1:80\n", "2", "an IP address or a host name"},
        {"[link]\naddress = ::g\n", "2", "an IP address or a host name"},
        {"[link]\nmetadata = on\n", "2", "auto, off or a URL"},
        {"[link]\nmetadata =\n", "2", "'' is not a value"},
        {"[link]\nmetadata = http://u@a\n", "2", "auto, off or a URL"},
        {"[link]\ntoken_file = token\n", "2", "an absolute path"},
        {"[agent]\nlog_level = info\n log_level = nope\n", "3", "'nope'"}, /* no continuation */
        {"\xef\xbb\xbf[nope]\n", "1", "unknown section [nope]"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(*state, bad[i].text, bad[i].line, bad[i].needle);
    refused_n(*state, "[agent]\n#\nlog_level = i\0nfo\n", 28, "3", "a NUL");
}

/* Elements of a list of the form "https://cN.example". */
static char *controllers_line(int n)
{
    struct str text = {0};

    str_add(&text, "[link]\n");
    for (int i = 0; i < n; i++)
        str_addf(&text, "controllers += https://c%d.example:8443/dynod/\n", i);
    return text.data;
}

static void what_a_link_may_be(void **state)
{
    struct config c = read_text(*state, "[link]\n"
                                        "controllers = https://b  https://[fe80::1]:8443/x/y\n"
                                        "controllers+= https://c-1.example:65535\n"
                                        "controllers += http://d\n"
                                        "allow_http = yes\n"
                                        "labels = zone=eu-west-1a,k8s.io/x=a=b\n"
                                        "labels += rack=7\n"
                                        "address = fe80::1\n"
                                        "metadata = http://127.0.0.1:1338/latest\n"
                                        "cert_file = /c\n"
                                        "key_file = /k\n"
                                        "identity_document = yes\n"
                                        "[dyno]\n"
                                        "route_drain = 0\n");
    struct err e = ERR_INIT;

    assert_int_equal(config_check(&c, &e), 0);
    json_auto_t *urls = config_controllers(&c), *labels = config_labels(&c);
    json_auto_t *want = json_pack("[s,s,s,s]", "https://b", "https://[fe80::1]:8443/x/y",
                                  "https://c-1.example:65535", "http://d");
    assert_true(json_equal(urls, want));
    json_auto_t *want_labels =
        json_pack("{s:s,s:s,s:s}", "zone", "eu-west-1a", "k8s.io/x", "a=b", "rack", "7");
    assert_true(json_equal(labels, want_labels));
    assert_string_equal(c.address, "fe80::1");
    assert_string_equal(c.metadata, "http://127.0.0.1:1338/latest");
    assert_true(c.identity_document);
    assert_int_equal(c.route_drain, 0);
    /* Set to nothing they are nothing, and can be added to. */
    c = read_text(*state, "[link]\ncontrollers = https://a\ncontrollers =\nlabels +=\n"
                          "labels += a=b\naddress = a.example\nmetadata = off\n");
    assert_string_equal(c.controllers, "");
    assert_string_equal(c.labels, "a=b");
    assert_int_equal(config_check(&c, &e), 0);
    json_auto_t *none = config_controllers(&c);
    assert_int_equal(json_array_size(none), 0);
    c = defaults();
    json_auto_t *no_labels = config_labels(&c);
    assert_int_equal(json_object_size(no_labels), 0);
    /* Also with -o. */
    assert_int_equal(config_set(&c, "link.controllers=https://a", &e), 0);
    assert_int_equal(config_set(&c, "link.controllers+=https://b", &e), 0);
    assert_string_equal(c.controllers, "https://a https://b");
    assert_int_equal(config_set(&c, "link.agent_id+=b", &e), -EINVAL);
    assert_string_equal(e.text, "-o: agent_id: += is for lists");
}

static void what_stores_may_be(void **state)
{
    static const char *const bad[][2] = {
        {"s3_endpoint=store.example", "s3_endpoint: 'store.example' is not a URL"},
        {"s3_endpoint=https://u:p@h", "is not a URL"},
        {"s3_path_style=maybe", "s3_path_style: 'maybe' is not auto, yes or no"},
        {"s3_region=eu west", "made of letters"},
        {"s3_role=on", "s3_role: 'on' is not"},
        {"s3_credentials_file=keys", "an absolute path"},
        {"swift_user=a\033b", "printable"},
        {"https_hosts=a.example https://b", "a list of hosts"},
        {"https_hosts=a:0", "a list of hosts"},
        {"fetch_connections=0", "1 to 64"},
        {"fetch_connections=65", "1 to 64"},
        {"depth_max=0", "1 to 4096"},
        {"name_max=256", "1 to 255"},
        {"fetch_part=1k", "1M to 1T"},
        {"fetch_tries=0", "1 to 100"},
        {"fetch_slow=2G", "1 to 1G"},
    };
    struct config c = read_text(*state, "[store]\n"
                                        "s3_endpoint = http://127.0.0.1:9000/x\n"
                                        "s3_path_style = no\n"
                                        "s3_role = http://127.0.0.1:1338\n"
                                        "swift_auth_url = https://swift.example/auth/v1.0\n"
                                        "swift_user = test:tester\n"
                                        "swift_key_file = /etc/dynod/swift.key\n"
                                        "swift_domain = My Domain\n"
                                        "https_hosts = a.example  10.0.0.1:8443\n"
                                        "https_hosts += [::1]:443\n"
                                        "https_token_file = /t\n"
                                        "fetch_slow = 0\n"
                                        "fetch_connections = 64\n");
    struct err e = ERR_INIT;

    assert_int_equal(config_check(&c, &e), 0);
    assert_string_equal(c.stores.s3_role, "http://127.0.0.1:1338");
    assert_string_equal(c.stores.swift_user, "test:tester");
    assert_string_equal(c.stores.swift_domain, "My Domain");
    assert_string_equal(c.stores.https_hosts, "a.example  10.0.0.1:8443 [::1]:443");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[128];

        (void)snprintf(text, sizeof(text), "store.%s", bad[i][0]);
        e = (struct err)ERR_INIT;
        if (config_set(&c, text, &e) != -EINVAL || !strstr(e.text, bad[i][1]))
            fail_msg("%s: \"%s\" does not say \"%s\"", text, e.text, bad[i][1]);
    }
}

static void controllers_have_a_limit(void **state)
{
    scoped_free char *most = controllers_line(LINK_CONTROLLERS_MAX),
                     *more = controllers_line(LINK_CONTROLLERS_MAX + 1);
    struct config c = read_text(*state, most);
    struct err e = ERR_INIT;
    json_auto_t *urls = config_controllers(&c);

    assert_int_equal(json_array_size(urls), LINK_CONTROLLERS_MAX);
    refused(*state, more, "18", "at most 16 URLs");
    /* And in bytes. */
    char text[2200];
    (void)snprintf(text, sizeof(text), "link.controllers=https://a/%02037d", 0);
    assert_int_equal(config_set(&c, text, &e), 0);
    (void)snprintf(text, sizeof(text), "link.controllers=https://a/%02038d", 0);
    assert_int_equal(config_set(&c, text, &e), -EINVAL);
    assert_non_null(strstr(e.text, "controllers: longer than 2047 bytes"));
}

static void long_lines(void **state)
{
    char text[4096], path[300];
    struct config c = defaults();
    struct err e = ERR_INIT;
    const struct place *p = *state;

    /* A comment may be of any length, and what stands in it is not looked at. */
    (void)snprintf(text, sizeof(text), "#%02000d]\n[agent]\nlog_level = err\n", 7);
    c = read_text(p, text);
    assert_int_equal(c.log_level, LOG_LVL_ERR);
    /* 199 bytes are taken whole, 200 are an error, none are cut. */
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    (void)snprintf(text, sizeof(text), "[agent]\nstate_dir = %.187s\n", path);
    c = read_text(p, text);
    assert_int_equal(strlen(c.state_dir), 187);
    (void)snprintf(text, sizeof(text), "[agent]\nstate_dir = %.188s\n", path);
    refused(p, text, "2", "a line of 200 bytes is over the limit of 199");
    /* Longer paths come with -o. */
    (void)snprintf(text, sizeof(text), "agent.state_dir=%.255s", path);
    assert_int_equal(config_set(&c, text, &e), 0);
    assert_int_equal(strlen(c.state_dir), 255);
    (void)snprintf(text, sizeof(text), "agent.state_dir=%.256s", path);
    assert_int_equal(config_set(&c, text, &e), -EINVAL);
    assert_non_null(strstr(e.text, "longer than 255 bytes"));
}

static void sizes_have_a_limit(void **state)
{
    scoped(str_done) struct str text = {0};

    for (int i = 4; i < CONFIG_SIZES_MAX; i++)
        str_addf(&text, "[size s%d]\n", i);
    struct config c = read_text(*state, text.data);
    assert_int_equal(c.n_sizes, CONFIG_SIZES_MAX);
    str_add(&text, "[size standard-1x]\n[size more]\n");
    refused(*state, text.data, "30", "over the limit of 32 sizes");
}

/* --- Files --- */

static void drop_ins_come_in_name_order(void **state)
{
    const struct place *p = *state;
    struct err e = ERR_INIT;

    write_drop_in(p, "20-b.conf", "[dyno]\ndynos_max = 20\n");
    write_drop_in(p, "100-a.conf", "[dyno]\ndynos_max = 100\nstop_grace = 1s\n");
    write_drop_in(p, "B.conf", "[size x]\npids = 99\n");
    write_drop_in(p, ".hidden.conf", "nonsense\n");
    write_drop_in(p, ".conf", "nonsense\n");
    write_drop_in(p, "30.conf.bak", "nonsense\n");
    write_drop_in(p, "conf", "nonsense\n");
    struct config c = read_text(p, "[dyno]\ndynos_max = 1\nstop_grace = 2s\nboot_timeout = 3s\n");
    assert_int_equal(c.dynos_max, 20);
    assert_int_equal(c.stop_grace, SEC);
    assert_int_equal(c.boot_timeout, 3 * SEC);
    assert_int_equal(config_size(&c, "x")->pids, 99);
    /* An error in one names it, and takes everything back. */
    write_drop_in(p, "90.conf", "[dyno]\n\nstop_grace = x\n");
    struct config d = defaults();
    assert_int_equal(config_read(&d, p->file, true, &e), -EINVAL);
    assert_non_null(strstr(e.text, "dynod.conf.d/90.conf:3: stop_grace"));
    assert_int_equal(d.dynos_max, 1000);
    /* A file that is not there is fine where it need not be; its drop-ins count. */
    write_drop_in(p, "90.conf", "");
    assert_int_equal(unlink(p->file), 0);
    assert_int_equal(config_read(&d, p->file, true, &e), -ENOENT);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    assert_non_null(strstr(e.text, p->file));
    assert_int_equal(config_read(&d, p->file, false, &e), 0);
    assert_int_equal(d.dynos_max, 20);
}

/* Each drop-in adds a size, so the sizes tell the order in which they were read. */
static void the_order_of_many_drop_ins(void **state)
{
    char name[32], text[32];

    for (int i = 19; i >= 0; i--) {
        (void)snprintf(name, sizeof(name), "%02d.conf", (i * 7) % 20);
        (void)snprintf(text, sizeof(text), "[size s%02d]\n", (i * 7) % 20);
        write_drop_in(*state, name, text);
    }
    struct config c = read_text(*state, "");
    assert_int_equal(c.n_sizes, 24);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "s%02d", i);
        assert_string_equal(c.sizes[4 + i].name, name);
    }
}

static void odd_files(void **state)
{
    const struct place *p = *state;
    struct config c = defaults();
    struct err e = ERR_INIT;
    char other[128];

    assert_int_equal(config_read(&c, p->file, false, &e), 0); /* neither file nor drop-ins */
    /* A symbolic link is followed. */
    (void)snprintf(other, sizeof(other), "%s/other", p->dir);
    write_file(other, "[dyno]\ndynos_max = 7\n", 21);
    assert_int_equal(symlink("other", p->file), 0);
    assert_int_equal(config_read(&c, p->file, true, &e), 0);
    assert_int_equal(c.dynos_max, 7);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(config_read(&c, p->file, true, &e), -ENOENT);
    assert_int_equal(unlink(p->file), 0);
    /* A directory, a FIFO, too large. */
    assert_int_equal(mkdir(p->file, 0755), 0);
    assert_int_equal(config_read(&c, p->file, false, &e), -EINVAL);
    assert_int_equal(rmdir(p->file), 0);
    assert_int_equal(mkfifo(p->file, 0644), 0);
    assert_int_equal(config_read(&c, p->file, false, &e), -EINVAL);
    assert_int_equal(unlink(p->file), 0);
    char *big = calloc(1, CONFIG_FILE_MAX + 1);
    memset(big, '\n', CONFIG_FILE_MAX + 1);
    write_file(p->file, big, CONFIG_FILE_MAX + 1);
    assert_int_equal(config_read(&c, p->file, false, &e), -EFBIG);
    write_file(p->file, big, CONFIG_FILE_MAX);
    assert_int_equal(config_read(&c, p->file, false, &e), 0);
    free(big);
    write_file(p->file, "", 0);
    assert_int_equal(config_read(&c, p->file, true, &e), 0);
    /* The drop-ins are no directory. */
    write_file(p->drop_ins, "", 0);
    assert_int_equal(config_read(&c, p->file, true, &e), -ENOTDIR);
    assert_int_equal(c.dynos_max, 7);
}

/* --- -o --- */

static void assignments(void **state)
{
    struct config c = defaults();
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(config_set(&c, "dyno.stop_grace=1s", &e), 0);
    assert_int_equal(c.stop_grace, SEC);
    assert_int_equal(config_set(&c, "agent.api_group=", &e), 0);
    assert_int_equal(config_set(&c, "size.standard-1x.memory=64M", &e), 0);
    assert_int_equal(config_size(&c, "standard-1x")->memory, 64 * MIB);
    assert_int_equal(config_set(&c, "size.new.pids=10", &e), 0);
    assert_int_equal(config_size(&c, "new")->pids, 10);
    assert_int_equal(config_set(&c, "sandbox.stack=/srv/a=b", &e), 0);
    assert_string_equal(c.stack, "/srv/a=b");
    assert_int_equal(config_set(&c, "sandbox.stack=/srv/v1.2", &e), 0);
    assert_string_equal(c.stack, "/srv/v1.2");

    static const char *const bad[] = {
        "",
        "=",
        "stop_grace=1s",
        "dyno.stop_grace",
        ".stop_grace=1s",
        "dyno.=1",
        "nope.x=1",
        "size.x=1",
        "size..pids=10",
        "size.a b.pids=9",
        "dyno.nope=1",
        "dyno.stop_grace=1x",
        "size.x.nope=1",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.x=1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config before = c;

        if (config_set(&c, bad[i], &e) != -EINVAL)
            fail_msg("taken: %s", bad[i]);
        assert_true(str_starts(e.text, "-o"));
        assert_int_equal(e.fault, FAULT_OPERATOR);
        assert_memory_equal(&c, &before, sizeof(c));
    }
}

/* --- The whole --- */

static void check_one(const char *assignment, const char *needle)
{
    struct config c = defaults();
    struct err e = ERR_INIT;

    assert_int_equal(config_set(&c, assignment, &e), 0);
    if (config_check(&c, &e) != -EINVAL || !strstr(e.text, needle))
        fail_msg("%s: \"%s\" does not say \"%s\"", assignment, e.text, needle);
    assert_int_equal(e.fault, FAULT_OPERATOR);
}

static void what_only_the_whole_shows(void **state)
{
    struct config c = defaults();
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(config_check(&c, &e), 0);
    assert_string_equal(c.api_socket, "/run/dynod/api.sock");
    assert_int_equal(c.program_dir[0], '/'); /* the directory of this test */
    assert_null(strstr(c.program_dir, "test_config"));
    /* What is set stays. */
    assert_int_equal(config_set(&c, "agent.api_socket=/x.sock", &e), 0);
    assert_int_equal(config_set(&c, "agent.program_dir=/opt", &e), 0);
    assert_int_equal(config_check(&c, &e), 0);
    assert_string_equal(c.api_socket, "/x.sock");
    assert_string_equal(c.program_dir, "/opt");

    check_one("dyno.default_size=none", "there is no [size none]");
    check_one("dyno.port_range=20000-20998", "999 ports, fewer than dynos_max = 1000");
    check_one("agent.uid_range=100000-101014",
              "1015 users; dynos_max = 1000 and spares = 2 need 1018");
    check_one("agent.uid_range=60000-70000", "nobody");
    check_one("dyno.restart_delay=6m", "restart_delay");
    check_one("agent.state_dir=/run/dynod", "both /run/dynod");
    check_one("link.controllers=https://a http://b", "http://b is not https://");
    check_one("link.controllers=https://a https://b https://a", "https://a is there twice");
    check_one("link.cert_file=/c", "cert_file and key_file of [link] need each other");
    check_one("store.https_cert_file=/c", "https_cert_file and https_key_file need each other");
    check_one("store.https_token_file=/t", "https_token_file needs https_hosts");
    check_one("store.swift_user=u", "swift_user and swift_key_file need each other");
    check_one("store.swift_auth_url=https://k/identity", "neither in /v1.0 nor in /v3");
    check_one("link.key_file=/k", "cert_file and key_file of [link] need each other");
    c = defaults();
    assert_int_equal(config_set(&c, "dyno.port_range=20000-20999", &e), 0);
    assert_int_equal(config_set(&c, "agent.uid_range=100000-101017", &e), 0);
    assert_int_equal(config_set(&c, "dyno.restart_delay=5m", &e), 0);
    assert_int_equal(config_check(&c, &e), 0);

    char text[300];
    (void)snprintf(text, sizeof(text), "agent.runtime_dir=/%0250d", 0);
    check_one(text, "too long for the socket");
}

static void rootless_directories(void **state)
{
    struct config c;
    struct err e = ERR_INIT;
    char expect[64];

    (void)state;
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    setenv("XDG_STATE_HOME", "/nonexistent/x/state", 1);
    setenv("HOME", "/nonexistent/x", 1);
    assert_int_equal(config_defaults(true, &c, &e), 0);
    assert_string_equal(c.runtime_dir, "/run/user/7/dynod");
    assert_string_equal(c.state_dir, "/nonexistent/x/state/dynod");
    assert_int_equal(config_defaults(false, &c, &e), 0);
    assert_string_equal(c.runtime_dir, "/run/dynod");
    unsetenv("XDG_RUNTIME_DIR");
    setenv("XDG_STATE_HOME", "relative", 1);
    assert_int_equal(config_defaults(true, &c, &e), 0);
    (void)snprintf(expect, sizeof(expect), "/tmp/dynod-%u", getuid());
    assert_string_equal(c.runtime_dir, expect);
    assert_string_equal(c.state_dir, "/nonexistent/x/.local/state/dynod");
    unsetenv("HOME");
    assert_int_equal(config_defaults(true, &c, &e), -EINVAL);
    assert_int_equal(e.fault, FAULT_OPERATOR);
    char *big = calloc(1, 300);
    memset(big, '/', 299);
    setenv("XDG_STATE_HOME", big, 1);
    assert_int_equal(config_defaults(true, &c, &e), -EINVAL);
    free(big);
}

/* The text says everything: read over other values it gives the same configuration. */
static void the_text_reads_back(void **state)
{
    static const char *const odd[] = {
        "agent.log_level=warn",
        "agent.uid_range=7-4000",
        "agent.api_group=ops",
        "store.allow_http=on",
        "store.compressed_max=1025",
        "store.fetch_stall=61s",
        "store.fetch_total=90m",
        "dyno.cycle=25h",
        "dyno.restart_delay=1001us",
        "dyno.port_range=5-50",
        "size.standard-2x.pids=77",
        "size.zz.memory_factor=1.333",
        "size.zz.memory=100000001",
        "logs.tail_lines=3",
        "link.controllers=https://a https://b",
        "link.labels=a=b,c=d",
        "link.metadata=off",
        "link.allow_http=yes",
        "dyno.route_drain=0",
        "link.address=::1",
    };
    const struct place *p = *state;
    struct config c = defaults(), d = defaults();
    struct err e = ERR_INIT;

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        assert_int_equal(config_set(&c, odd[i], &e), 0);
    char *text = config_text(&c);
    assert_non_null(strstr(text, "\nfetch_stall = 61s\n"));
    assert_non_null(strstr(text, "\nfetch_total = 90m\n"));
    assert_non_null(strstr(text, "\ncycle = 25h\n"));
    assert_non_null(strstr(text, "\nrestart_delay = 1001us\n"));
    assert_non_null(strstr(text, "\ncompressed_max = 1025\n"));
    assert_non_null(strstr(text, "\nallow_http = yes\n"));
    assert_non_null(strstr(text, "\nca_file =\n"));
    write_file(p->file, text, strlen(text));
    assert_int_equal(config_read(&d, p->file, true, &e), 0);
    char *again = config_text(&d);
    assert_string_equal(text, again);
    free(text);
    free(again);
}

/* --- The shipped file and the man page --- */

/* Tests run at the top of the source tree. */
static char *slurp_source(const char *name)
{
    struct err e = ERR_INIT;
    char *text;
    size_t len;

    if (file_read(AT_FDCWD, name, 1 << 20, &text, &len, &e) < 0)
        fail_msg("%s (run this at the top of the source tree)", e.text);
    return text;
}

static bool is_key_line(const char *line)
{
    size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyz_");

    return n > 0 && str_starts(line + n, " =");
}

/* The lines "[section]" and "key = value" of TEXT, after BEFORE_SECTION and BEFORE_KEY. */
static char *keys_of(char *text, const char *before_section, const char *before_key)
{
    struct str out = {0};

    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        const char *section = line + strlen(before_section), *key = line + strlen(before_key);

        if (str_starts(line, before_section) && *section == '[')
            str_addf(&out, "%s\n", section);
        else if (str_starts(line, before_key) && is_key_line(key))
            str_addf(&out, "%s\n", key);
    }
    return out.data;
}

static char *keys_of_program(void)
{
    struct config c = defaults();
    char *text = config_text(&c), *keys = keys_of(text, "", "");

    free(text);
    return keys;
}

static void the_shipped_file_has_every_key(void **state)
{
    const struct place *p = *state;
    char *text = slurp_source("packaging/dynod.conf");
    char *expect = keys_of_program();

    /* As it is: all comments, no error, nothing changed. */
    struct config c = read_text(p, text), plain = defaults();
    assert_memory_equal(&c, &plain, sizeof(c));
    char *keys = keys_of(text, "", "#");
    assert_string_equal(keys, expect);
    /* With the comment signs taken away: the same. */
    c = read_text(p, keys);
    assert_memory_equal(&c, &plain, sizeof(c));
    free(keys);
    free(expect);
    free(text);
}

static void the_man_page_has_every_key(void **state)
{
    char *text = slurp_source("docs/man/dynod.conf.5"), *to = text;
    char *expect = keys_of_program();

    (void)state;
    for (const char *from = text; *from; from++) /* "\-" is roff's ASCII hyphen */
        if (!str_starts(from, "\\-"))
            *to++ = *from;
    *to = '\0';
    char *keys = keys_of(text, ".SS ", ".B ");
    assert_string_equal(keys, expect);
    free(keys);
    free(expect);
    free(text);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, make_place, remove_place)

static void an_image_needs_its_digest(void **state)
{
    static const struct {
        const char *stack, *digest, *words;
    } bad[] = {
        {"/srv/a.erofs", "", "needs stack_digest"},
        {"/srv/a.squashfs", "", "needs stack_digest"},
        {"/srv/a.erofs", "sha256:12", "stack_digest is not"},
        {"host", "sha256:" DIGEST_OF_ONES, "is for an image"},
        {"/srv/erofs", "sha256:" DIGEST_OF_ONES, "is for an image"},
    };
    char text[300];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config c;
        struct err e = ERR_INIT;

        assert_int_equal(config_defaults(false, &c, &e), 0);
        (void)snprintf(text, sizeof(text), "sandbox.stack=%s", bad[i].stack);
        assert_int_equal(config_set(&c, text, &e), 0);
        (void)snprintf(text, sizeof(text), "sandbox.stack_digest=%s", bad[i].digest);
        assert_int_equal(config_set(&c, text, &e), 0);
        assert_int_equal(config_check(&c, &e), -EINVAL);
        assert_int_equal(e.fault, FAULT_OPERATOR);
        assert_non_null(strstr(e.text, bad[i].words));
    }
    struct config c;
    struct err e = ERR_INIT;
    assert_int_equal(config_defaults(false, &c, &e), 0);
    assert_int_equal(config_set(&c, "sandbox.stack=/srv/a.b.erofs", &e), 0);
    assert_int_equal(config_set(&c, "sandbox.stack_digest=sha256:" DIGEST_OF_ONES, &e), 0);
    assert_int_equal(config_check(&c, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_documented_ones),
        TEST(every_form_of_a_value),
        TEST(bad_files_are_refused_by_line),
        TEST(what_a_link_may_be),
        TEST(what_stores_may_be),
        TEST(controllers_have_a_limit),
        TEST(long_lines),
        TEST(sizes_have_a_limit),
        TEST(drop_ins_come_in_name_order),
        TEST(the_order_of_many_drop_ins),
        TEST(odd_files),
        cmocka_unit_test(assignments),
        cmocka_unit_test(what_only_the_whole_shows),
        cmocka_unit_test(rootless_directories),
        TEST(the_text_reads_back),
        TEST(the_shipped_file_has_every_key),
        TEST(the_man_page_has_every_key),
        cmocka_unit_test(an_image_needs_its_digest),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
