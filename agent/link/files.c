#include "link/files.h"

#include "base/fdio.h"
#include "base/linkproto.h"
#include "base/scoped.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* What held a secret is not left in freed memory. */
static void wipe(char *data, size_t len)
{
    if (data)
        explicit_bzero(data, len);
    free(data);
}

void files_done(struct files *files)
{
    wipe(files->ca, files->ca_len);
    wipe(files->cert, files->cert_len);
    wipe(files->key, files->key_len);
    wipe(files->token, files->token_len);
    *files = (struct files){0};
}

static int read_all(int fd, const char *name, char **ret, size_t *ret_len, struct err *e)
{
    scoped_free char *data = malloc(LINK_FILE_MAX + 1);

    struct stat st;

    if (!data)
        return err_set(e, ENOMEM, "read the %s file", name);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) /* another kind might block */
        return err_say(e, EINVAL, "the %s file is not a regular file", name);
    ssize_t n = fd_read_full(fd, data, LINK_FILE_MAX + 1);
    if (n < 0)
        return err_set(e, (int)-n, "read the %s file", name);
    if (n > (ssize_t)LINK_FILE_MAX)
        return err_say(e, EFBIG, "the %s file is over the limit of %u bytes", name, LINK_FILE_MAX);
    data[n] = '\0';
    char *fits = realloc(data, (size_t)n + 1);
    *ret = fits ? fits : data;
    *ret_len = (size_t)n;
    (void)TAKE_PTR(data);
    return 0;
}

/* A line end or a blank at the end is how files are, one inside would end the header field. */
static int trim_token(struct files *files, struct err *e)
{
    char *t = files->token;
    size_t from = 0, to = files->token_len;

    if (!t)
        return 0;
    while (to > 0 && isspace((unsigned char)t[to - 1]))
        to--;
    while (from < to && isspace((unsigned char)t[from]))
        from++;
    memmove(t, t + from, to - from);
    t[to - from] = '\0';
    bool good = to > from;
    for (size_t i = 0; i < to - from; i++)
        good = good && t[i] > ' ' && t[i] <= '~';
    if (good)
        return 0;
    (void)err_say(e, EBADMSG, "the token file holds no token: one word, without blanks inside");
    return err_blame(e, FAULT_OPERATOR);
}

static int read_one(struct files *files, const char *name, int fd, struct err *e)
{
    if (!strcmp(name, "ca"))
        return read_all(fd, name, &files->ca, &files->ca_len, e);
    if (!strcmp(name, "cert"))
        return read_all(fd, name, &files->cert, &files->cert_len, e);
    if (!strcmp(name, "key"))
        return read_all(fd, name, &files->key, &files->key_len, e);
    if (!strcmp(name, "token"))
        return read_all(fd, name, &files->token, &files->token_len, e);
    return err_say(e, EINVAL, "a file of a kind that this version does not know");
}

int files_read(struct frame *f, struct files *ret, struct err *e)
{
    scoped(files_done) struct files files = {0};
    const json_t *names = json_object_get(f->json, "files"), *name;
    size_t i;

    if (!json_is_array(names) || json_array_size(names) < f->n_fds)
        return err_say(e, EINVAL, "\"files\" with more descriptors than names");
    if (json_array_size(names) > f->n_fds) {
        (void)err_say(e, ENOENT, "a certificate, key or token file of [link] cannot be opened");
        return err_blame(e, FAULT_OPERATOR);
    }
    json_array_foreach (names, i, name) {
        scoped_fd fd = frame_take_fd(f, i);

        for (size_t k = 0; k < i; k++)
            if (json_equal(name, json_array_get(names, k)))
                return err_say(e, EINVAL, "\"files\" with the same name twice");
        int r = read_one(&files, json_is_string(name) ? json_string_value(name) : "", fd, e);
        if (r < 0)
            return r;
    }
    int r = trim_token(&files, e);
    if (r < 0)
        return r;
    *ret = files;
    files = (struct files){0};
    return 0;
}

struct http_trust files_trust(const struct files *files)
{
    return (struct http_trust){
        .ca = files->ca,
        .cert = files->cert,
        .key = files->key,
        .ca_len = files->ca_len,
        .cert_len = files->cert_len,
        .key_len = files->key_len,
    };
}
