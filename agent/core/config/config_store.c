/* config_store.c - the values of [store] that say how stores are asked. */
#include "core/config/config_keys.h"
#include "isolate/net.h"

#include <errno.h>
#include <string.h>

static bool is_printable(const char *value)
{
    for (; *value; value++)
        if (*value < ' ' || *value > '~')
            return false;
    return true;
}

static bool is_hosts(const char *value)
{
    while (*value) {
        size_t len = strcspn(value, " ");

        if (len > 0 && !config_is_authority(value, len))
            return false;
        value += len + (value[len] == ' ');
    }
    return true;
}

const char *store_value_wants(const struct key *k, const char *value)
{
    switch (k->kind) {
    case KEY_URL:
        return config_is_url(value, strlen(value)) ? NULL : "a URL, like https://store.example";
    case KEY_AUTO:
        return !strcmp(value, "auto") || !strcmp(value, "yes") || !strcmp(value, "no")
                   ? NULL
                   : "auto, yes or no";
    case KEY_HOSTS:
        return is_hosts(value) ? NULL
                               : "a list of hosts, like slugs.example:8443, with a blank between";
    case KEY_TEXT:
        return is_printable(value) ? NULL : "printable";
    case KEY_RANGE:
        return net_list_valid(value, true) ? NULL : "a network, like 10.213.0.0/16 or fd00:1::/64";
    case KEY_NETWORKS:
        return net_list_valid(value, false)
                   ? NULL
                   : "a list of networks, like 10.0.0.0/8 fd00::/8 192.0.2.1, with a blank between";
    default:
        return NULL;
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);

    return len >= n && !strcmp(text + len - n, end);
}

static int check_swift(const struct config_stores *s, struct err *e)
{
    if (!s->swift_user[0] != !s->swift_key_file[0])
        return config_refuse(e, "swift_user and swift_key_file need each other");
    if (s->swift_user[0] && !s->swift_auth_url[0])
        return config_refuse(e, "swift_user needs swift_auth_url");
    if (s->swift_auth_url[0] && !ends_with(s->swift_auth_url, "/v1.0") &&
        !ends_with(s->swift_auth_url, "/v1") && !ends_with(s->swift_auth_url, "/v3"))
        return config_refuse(e, "swift_auth_url: %.200s ends neither in /v1.0 nor in /v3",
                             s->swift_auth_url);
    return 0;
}

int config_check_store(const struct config *c, struct err *e)
{
    const struct config_stores *s = &c->stores;

    if (s->s3_credentials_file[0] && strcmp(s->s3_role, "off") != 0)
        return config_refuse(e, "s3_credentials_file and s3_role: only one of them can be asked");
    if (!s->https_cert_file[0] != !s->https_key_file[0])
        return config_refuse(e, "https_cert_file and https_key_file need each other");
    if ((s->https_token_file[0] || s->https_cert_file[0]) && !s->https_hosts[0])
        return config_refuse(e, "%s needs https_hosts: who may see it",
                             s->https_token_file[0] ? "https_token_file" : "https_cert_file");
    return check_swift(s, e);
}
