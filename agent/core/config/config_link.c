/* config_link.c - the values of [link]: URLs of controllers, labels, addresses. */
#include "core/config/config_keys.h"

#include "base/scoped.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOST_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
#define LABEL_MAX  63 /* bytes of a label's name, and of its value */

char key_separator(const struct key *k)
{
    return k->kind == KEY_URLS || k->kind == KEY_HOSTS || k->kind == KEY_NETWORKS ? ' '
           : k->kind == KEY_LABELS                                                ? ','
                                                                                  : '\0';
}

static bool is_printable(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] <= ' ' || p[i] > '~')
            return false;
    return true;
}

/* ":8443" or nothing, then the path. */
static bool is_port(const char *p, size_t len)
{
    char digits[6];
    uint64_t port;

    if (len == 0)
        return true;
    if (*p != ':' || len - 1 >= sizeof(digits))
        return false;
    memcpy(digits, p + 1, len - 1);
    digits[len - 1] = '\0';
    return parse_u64(digits, 1, 65535, &port) == 0;
}

bool config_is_authority(const char *p, size_t len)
{
    char address[INET6_ADDRSTRLEN] = "";
    struct in6_addr in6;
    const char *close = *p == '[' ? memchr(p, ']', len) : NULL;

    if (len == 0)
        return false;
    if (*p != '[') {
        size_t host = strspn(p, HOST_CHARS);
        return host > 0 && is_port(p + host, len - host);
    }
    if (!close || (size_t)(close - p) > sizeof(address))
        return false;
    memcpy(address, p + 1, (size_t)(close - p - 1));
    return inet_pton(AF_INET6, address, &in6) == 1 &&
           is_port(close + 1, len - (size_t)(close + 1 - p));
}

/* No user, query or fragment: a secret has no place in what logs show, and paths are put at its
 * end. */
bool config_is_url(const char *p, size_t len)
{
    char text[2048] = "";

    if (len >= sizeof(text) || !is_printable(p, len))
        return false;
    memcpy(text, p, len);
    text[len] = '\0';
    size_t scheme = str_starts(text, "https://") ? 8 : str_starts(text, "http://") ? 7 : 0;
    return scheme && !strpbrk(text, "@?#\"\\") &&
           config_is_authority(text + scheme, strcspn(text + scheme, "/"));
}

/* Elements are between SEPARATORs; *REST begins as the text. NULL: no more. */
static const char *next_element(const char **rest, char separator, size_t *ret_len)
{
    const char *p = *rest;

    if (!p)
        return NULL;
    const char *end = strchrnul(p, separator);
    *rest = *end ? end + 1 : NULL;
    *ret_len = (size_t)(end - p);
    return p;
}

static bool is_urls(const char *value)
{
    const char *rest = value, *p;
    size_t len, n = 0;

    while ((p = next_element(&rest, ' ', &len)))
        if (len > 0 && (!config_is_url(p, len) || ++n > LINK_CONTROLLERS_MAX))
            return false;
    return true;
}

/* "zone=a": names as a metrics system takes them. */
static bool is_label(const char *p, size_t len)
{
    const char *equals = memchr(p, '=', len);
    size_t name = equals ? (size_t)(equals - p) : 0, value = len - name - 1;

    return name > 0 && name <= LABEL_MAX && strspn(p, HOST_CHARS "/") == name && value > 0 &&
           value <= LABEL_MAX && is_printable(equals + 1, value);
}

static bool is_labels(const char *value)
{
    json_auto_t *seen = json_object();
    const char *rest = value, *p;
    size_t len;

    while ((p = next_element(&rest, ',', &len))) {
        if (!is_label(p, len))
            return false;
        size_t name = (size_t)((const char *)memchr(p, '=', len) - p);
        if (json_object_getn(seen, p, name))
            return false;
        (void)json_object_setn_new(seen, p, name, json_true());
    }
    return true;
}

static bool is_address(const char *value)
{
    struct in6_addr in6;

    return value[strspn(value, HOST_CHARS)] == '\0' || inet_pton(AF_INET6, value, &in6) == 1;
}

const char *link_value_wants(const struct key *k, const char *value)
{
    switch (k->kind) {
    case KEY_URLS:
        return is_urls(value) ? NULL
                              : "a list of at most 16 URLs, like https://a.example:8443, with a "
                                "blank between";
    case KEY_LABELS:
        return is_labels(value) ? NULL : "a list of labels, like zone=a,rack=7";
    case KEY_ADDRESS:
        return is_address(value) ? NULL : "an IP address or a host name";
    case KEY_METADATA:
        return !strcmp(value, "off") || config_is_url(value, strlen(value)) ? NULL
                                                                            : "auto, off or a URL";
    default:
        return store_value_wants(k, value);
    }
}

/* --- The whole --- */

int config_check_link(const struct config *c, struct err *e)
{
    json_auto_t *urls = config_controllers(c);
    size_t i, j;
    json_t *url;

    if (!urls)
        return err_set(e, ENOMEM, "controllers");
    json_array_foreach (urls, i, url) {
        const char *text = json_string_value(url);

        if (str_starts(text, "http://") && !c->link_allow_http)
            return config_refuse(
                e, "controllers: %.200s is not https:// (see allow_http of [link])", text);
        for (j = 0; j < i; j++)
            if (json_equal(url, json_array_get(urls, j)))
                return config_refuse(e, "controllers: %.200s is there twice", text);
    }
    if (!c->link_cert_file[0] != !c->link_key_file[0])
        return config_refuse(e, "cert_file and key_file of [link] need each other");
    return 0;
}

json_t *config_controllers(const struct config *c)
{
    json_t *list = json_array();
    const char *rest = c->controllers, *p;
    size_t len;

    while ((p = next_element(&rest, ' ', &len)))
        if (len > 0 && json_array_append_new(list, json_stringn(p, len)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

json_t *config_labels(const struct config *c)
{
    json_t *labels = json_object();
    const char *rest = c->labels[0] ? c->labels : NULL, *p;
    size_t len;

    while ((p = next_element(&rest, ',', &len))) {
        size_t name = (size_t)((const char *)memchr(p, '=', len) - p);

        if (json_object_setn_new(labels, p, name, json_stringn(p + name + 1, len - name - 1)) < 0) {
            json_decref(labels);
            return NULL;
        }
    }
    return labels;
}
